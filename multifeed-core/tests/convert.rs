//! Stores converted from one layout to the other: all that was in them is in the new one, and writers go on.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use std::collections::BTreeSet;

use bytes::Bytes;
use multifeed_core::convert::{Convert, ConvertError, Converted, Step};
use multifeed_core::disk::Disk;
use multifeed_core::storage::{
    Answer, Batch, BatchId, Fault, FilePath, Memory, Op, StorageErrorKind,
};
use multifeed_core::{Layout, NodeConfig};
use multifeed_proto::RootKey;
use util::{FIRST, Sim};

const BOTH: [Layout; 2] = [Layout::Corestore, Layout::Numbered];

/// Converts the store of [`util::ROOT`]; gives the new one.
fn convert(from: &Memory, to: Layout) -> Result<(Memory, Converted), ConvertError> {
    let mut target = Memory::new();
    let converted = convert_into(from, &mut target, to, util::ROOT)?;
    Ok((target, converted))
}

fn convert_into(
    from: &Memory,
    target: &mut Memory,
    to: Layout,
    root: [u8; 32],
) -> Result<Converted, ConvertError> {
    let mut source = from.clone();
    source.unlock();
    let before = files(&source);
    let (mut convert, ops) = Convert::new(RootKey::new(root), to, [9; 32]);
    let mut step = Step::Read(ops);
    let mut id = 0;
    let result = loop {
        id += 1;
        let answers = match step {
            Step::Read(ops) => source.execute(&Batch { id: BatchId(id), after: None, ops }).answers,
            Step::Write(ops) => {
                target.execute(&Batch { id: BatchId(id), after: None, ops }).answers
            }
            Step::Done(converted) => break Ok(*converted),
            Step::Failed(error) => break Err(error),
        };
        step = convert.answered(answers);
    };
    let mut after = files(&source);
    after.retain(|(path, _)| path != "multifeed.lock");
    assert_eq!(after, before.into_iter().filter(|(path, _)| path != "multifeed.lock").collect());
    result
}

fn files(memory: &Memory) -> BTreeSet<(String, Vec<u8>)> {
    let of = |path: &FilePath| (path.as_str().to_owned(), memory.contents(path).unwrap());
    memory.paths().map(of).collect()
}

/// A store with two writers, a feed of others of which it lacks blocks, and one of which it has none any more.
fn store(layout: Layout) -> Memory {
    let mut sim = Sim::new(65_536);
    let a = sim.party_in(Memory::new(), layout, NodeConfig::default());
    let b = sim.party(Memory::new());
    let first = sim.writer(a, "first");
    sim.append_all(a, first, (0..9_000).map(|n: u32| Bytes::from(n.to_string())).collect());
    let theirs = sim.writer(b, "theirs");
    sim.append_all(b, theirs, (0..40).map(|n: u8| Bytes::from(vec![n; 500])).collect());
    let empty = sim.writer(b, "empty");
    sim.append(b, empty, &[b"gone"]);
    sim.connect(a, b);
    sim.sync();
    let last = sim.writer(a, "last");
    sim.append(a, last, &[b"", b"x"]);
    for (feed, blocks) in [(theirs, 10..30), (empty, 0..1)] {
        let key = sim.parties[b].node.feed(feed).unwrap().key;
        let copy = sim.parties[a].node.feeds(FIRST).find(|feed| feed.key == key).unwrap().id;
        let command = sim.parties[a].node.clear(sim.now, copy, blocks);
        sim.finish(a, command).unwrap();
    }
    memory(&sim, a)
}

fn memory(sim: &Sim, at: usize) -> Memory {
    let mut memory = sim.parties[at].disk.memory().clone();
    memory.unlock();
    memory
}

/// Opens a store: its names in order, and which of them are writers.
fn open(memory: Memory) -> (Sim, Vec<(String, bool)>) {
    let mut sim = Sim::new(65_536);
    let at = sim.party(memory);
    let ids: Vec<_> = sim.parties[at].node.feeds(FIRST).map(|feed| feed.id).collect();
    let names = ids.into_iter().map(|id| sim.load(at, id)).map(|info| (info.name, info.writable));
    let names = names.collect();
    (sim, names)
}

#[test]
fn all_feeds_names_blocks_and_gaps_are_the_same_in_the_new_store_and_writers_go_on() {
    for from in BOTH {
        for to in BOTH {
            let old = store(from);
            let (new, converted) = convert(&old, to).unwrap();
            assert_eq!((converted.feeds, converted.writers), (4, 2), "{from:?} to {to:?}");
            assert!(converted.left_out.is_empty() && converted.renamed.is_empty());
            let (mut before, names_before) = open(old);
            let (mut after, names) = open(new);
            assert_eq!(after.parties[0].node.layout(), to);
            assert_eq!(names, names_before);
            let expected = before.contents(0);
            assert_eq!(expected.values().flatten().filter(|block| block.is_none()).count(), 21);
            assert_eq!(after.contents(0), expected);

            for name in ["first", "last"] {
                let feed = after.writer(0, name);
                let length = after.load(0, feed).length;
                after.append(0, feed, &[b"more"]);
                assert_eq!(after.load(0, feed).length, length + 1);
            }
            assert_eq!(after.parties[0].node.feeds(FIRST).count(), 4, "no writer was made anew");
            let reader = after.party(Memory::new());
            after.connect(0, reader);
            after.sync();
            assert_eq!(after.contents(reader).len(), 4);
        }
    }
}

#[test]
fn there_and_back_again_the_files_of_the_feeds_are_the_same_bytes() {
    let old = store(Layout::Numbered);
    let (between, _) = convert(&old, Layout::Corestore).unwrap();
    let (new, _) = convert(&between, Layout::Numbered).unwrap();
    let plain = |memory: &Memory| {
        let mut files = files(memory);
        files.retain(|(path, _)| path != "multifeed.lock");
        files
    };
    assert_eq!(plain(&new), plain(&old));
}

#[test]
fn an_empty_store_becomes_an_empty_store() {
    for from in BOTH {
        for to in BOTH {
            let mut sim = Sim::new(65_536);
            let at = sim.party_in(Memory::new(), from, NodeConfig::default());
            let (new, converted) = convert(&memory(&sim, at), to).unwrap();
            assert_eq!(converted, Converted::default());
            let (sim, names) = open(new);
            assert_eq!((sim.parties[0].node.layout(), names.len()), (to, 0));
        }
    }
    assert_eq!(convert(&Memory::new(), Layout::Numbered).unwrap_err(), ConvertError::NoStore);
}

#[test]
fn what_numbered_folders_cannot_hold_is_said() {
    let mut sim = Sim::new(65_536);
    let at = sim.party(Memory::new());
    sim.writer(at, "ours");
    let other = sim.join(at, [3; 32]);
    sim.writer_of(at, other, "of another multifeed");
    let command = sim.parties[at].node.named(sim.now, "by name");
    sim.finish(at, command).unwrap();
    let old = memory(&sim, at);
    let (new, converted) = convert(&old, Layout::Numbered).unwrap();
    // The other multifeed's writer and list of feeds, and the feed by name.
    assert_eq!((converted.feeds, converted.left_out.len()), (1, 3));
    assert_eq!(open(new).1, [("ours".to_owned(), true)]);
    let (new, converted) = convert(&old, Layout::Corestore).unwrap();
    assert!(converted.left_out.is_empty());
    assert_eq!(new.paths().count(), old.paths().filter(|p| p.as_str() != "multifeed.lock").count());

    let target = &mut Memory::new();
    let wrong = convert_into(&old, target, Layout::Numbered, [4; 32]);
    assert_eq!((wrong.unwrap_err(), target.paths().count()), (ConvertError::NoMultifeed, 0));
}

#[test]
fn a_writer_called_by_a_number_that_is_not_its_own_is_not_put_into_numbered_folders() {
    let mut sim = Sim::new(65_536);
    let at = sim.party(Memory::new());
    sim.writer(at, "0");
    assert!(convert(&memory(&sim, at), Layout::Numbered).is_ok());
    sim.writer(at, "7");
    let refused = convert(&memory(&sim, at), Layout::Numbered).unwrap_err();
    assert!(matches!(refused, ConvertError::Name { number: 1, .. }), "{refused:?}");
}

#[test]
fn a_damaged_secret_key_is_not_lost_in_silence() {
    let mut old = store(Layout::Numbered);
    let path = FilePath::new(&["0", "secret_key"]);
    let ops = vec![Op::Write { path, offset: 40, data: Bytes::from_static(b"x") }];
    old.execute(&Batch { id: BatchId(1), after: None, ops });
    let refused = convert(&old, Layout::Corestore).unwrap_err();
    assert!(matches!(refused, ConvertError::Damaged { .. }), "{refused:?}");
}

#[test]
fn a_disk_that_fails_at_any_moment_fails_the_conversion() {
    for to in BOTH {
        let old = store(if to == Layout::Corestore { Layout::Numbered } else { Layout::Corestore });
        let mut failed = 0;
        for at in 0.. {
            let mut target = Memory::new();
            target.set_fault(Some(Fault { after: at, kind: StorageErrorKind::Full }));
            match convert_into(&old, &mut target, to, util::ROOT) {
                Ok(_) => break,
                Err(ConvertError::Write(error)) => {
                    assert_eq!(error.kind, StorageErrorKind::Full);
                    failed += 1;
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        assert!(failed > 20, "{failed}");
    }
}

#[test]
fn a_feed_that_is_kept_out_stays_out_of_the_new_store() {
    for from in BOTH {
        for to in BOTH {
            let mut sim = Sim::new(65_536);
            let a = sim.party_in(store(from), from, NodeConfig::default());
            let last = sim.writer(a, "last");
            let key = sim.load(a, last).key;
            let block = sim.parties[a].node.block(sim.now, key);
            sim.finish(a, block).unwrap();
            let (new, _) = convert(&memory(&sim, a), to).unwrap();
            let (mut after, names) = open(new);
            assert_eq!(names.len(), 3, "{from:?} to {to:?}: {names:?}");
            assert_eq!(after.parties[0].node.blocked().collect::<Vec<_>>(), [&key]);
            let writer = after.parties[0].node.writer(after.now, FIRST, Some("last"), None);
            assert!(after.finish(0, writer).is_err());
        }
    }
}

/// Nobody would wait for the end if the hole were read.
#[cfg(target_os = "linux")]
#[test]
fn a_feed_with_a_huge_hole_is_converted_at_once_and_takes_no_more_space() {
    use std::os::unix::fs::MetadataExt;
    const FAR: u64 = 1 << 43;
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from");
    let old = store(Layout::Numbered);
    for path in old.paths() {
        let file = from.join(path.as_str());
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, old.contents(path).unwrap()).unwrap();
    }
    let write = |name: &str, at: u64, data: &[u8]| {
        let file = std::fs::OpenOptions::new().write(true).open(from.join(name)).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, data, at).unwrap();
    };
    // Far behind what the log knows of, in the middle of a hole and at the end of one.
    write("0/data", FAR, b"far away");
    std::fs::File::options().write(true).open(from.join("1/data")).unwrap().set_len(FAR).unwrap();
    let root = RootKey::new(util::ROOT);
    let mut last = 0;
    let to = folder.path().join("to");
    let go_on = |progress: &multifeed_core::convert::Progress| {
        last = progress.bytes_done;
        std::ops::ControlFlow::Continue(())
    };
    let done = multifeed_core::convert::convert(&from, &to, root, Layout::Numbered, [9; 32], go_on);
    assert_eq!(done.unwrap().bytes, last);
    for name in ["0/data", "1/data", "0/tree", "3/data"] {
        let [before, after] =
            [&from, &to].map(|store| std::fs::metadata(store.join(name)).unwrap());
        assert_eq!(before.len(), after.len(), "{name}");
        assert!(after.blocks() <= before.blocks() + 8, "{name}");
    }
    let mut found = [0; 8];
    let file = std::fs::File::open(to.join("0/data")).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut found, FAR).unwrap();
    assert_eq!(&found, b"far away");
    let after = Disk::open(&to).unwrap();
    for path in old.paths().filter(|path| path.as_str() != "multifeed.lock") {
        let whole = old.contents(path).unwrap();
        let op = Op::Read { path: path.clone(), offset: 0, len: whole.len() };
        let answers = after.execute(&Batch { id: BatchId(0), after: None, ops: vec![op] }).answers;
        assert_eq!(answers, [Ok(Answer::Bytes(whole.into()))], "{path}");
    }
}

/// The store of [`store`] in numbered folders, with other numbers and without what says that it is one.
fn renumbered(numbers: [&str; 4]) -> Memory {
    let mut memory = store(Layout::Numbered);
    let folder = |name: &str| FilePath::new(&[name]);
    // Behind all of them, so that no name is taken.
    let away = ["0", "1", "2", "3"].map(|name| (folder(name), folder(&format!("away-{name}"))));
    let back = (0..4).map(|at| (away[at].1.clone(), folder(numbers[at])));
    let renames = away.clone().into_iter().chain(back);
    let mut ops: Vec<_> = renames.map(|(from, to)| Op::Rename { from, to }).collect();
    ops.push(Op::Remove { path: folder("multifeed.numbered") });
    for answer in memory.execute(&Batch { id: BatchId(0), after: None, ops }).answers {
        assert_eq!(answer.unwrap(), Answer::Done);
    }
    memory
}

#[test]
fn numbered_folders_are_converted_whatever_their_first_number_is() {
    for numbers in [["1", "2", "3", "4"], ["10", "11", "12", "13"], ["7", "12", "345", "9999"]] {
        let old = renumbered(numbers);
        let (mut before, names) = open(old.clone());
        assert_eq!(names.len(), 4, "{numbers:?}");
        for to in BOTH {
            let (new, converted) = convert(&old, to).unwrap();
            assert_eq!((converted.feeds, converted.writers), (4, 2), "{numbers:?} to {to:?}");
            let (mut after, names_after) = open(new);
            assert_eq!(names_after, names, "{numbers:?} to {to:?}");
            assert_eq!(after.contents(0), before.contents(0), "{numbers:?} to {to:?}");
        }
    }
}

#[test]
fn a_feed_that_two_numbered_folders_hold_is_converted_from_the_first_as_it_is_opened() {
    let mut old = store(Layout::Numbered);
    let (mut before, _) = open(old.clone());
    let of_first: Vec<_> =
        files(&old).into_iter().filter(|(path, _)| path.starts_with("0/")).collect();
    let copy = |(path, bytes): (String, Vec<u8>)| Op::Write {
        path: FilePath::new(&["7", path.trim_start_matches("0/")]),
        offset: 0,
        // Of the copy little is left, but its key.
        data: Bytes::from(bytes.into_iter().take(64).collect::<Vec<_>>()),
    };
    let ops = of_first.into_iter().map(copy).collect();
    old.execute(&Batch { id: BatchId(0), after: None, ops });
    for to in BOTH {
        let (new, converted) = convert(&old, to).unwrap();
        assert_eq!((converted.feeds, converted.left_out), (4, vec!["7".to_owned()]), "{to:?}");
        let (mut after, _) = open(new);
        assert_eq!(after.contents(0), before.contents(0), "{to:?}");
    }
}
