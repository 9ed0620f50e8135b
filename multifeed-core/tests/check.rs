//! Files damaged at every place: the check finds it, its repair undoes it, a peer brings back the rest.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use std::collections::BTreeMap;

use bytes::Bytes;
use multifeed_core::Layout;
use multifeed_core::check::{
    Check, Checked, FeedFolder, Finding, Folders, FoldersStep, Report, Step, Subject,
};
use multifeed_core::format::corestore;
use multifeed_core::storage::{Answer, Batch, BatchId, FilePath, Memory, Op, StorageError};
use multifeed_proto::{FeedKey, RootKey};
use util::Sim;

type Contents = BTreeMap<String, Vec<Option<Vec<u8>>>>;

/// A store with a writer, the store of a peer that has synced with it, and what both hold.
struct Pair {
    writer: Memory,
    reader: Memory,
    contents: Contents,
}

fn block(n: usize) -> Bytes {
    Bytes::from(format!("block {n} {}", "x".repeat(n * 7 % 40)))
}

fn pair(batches: &[usize]) -> Pair {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "w");
    let mut length = 0;
    for batch in batches {
        sim.append_all(a, feed, (length..length + batch).map(block).collect());
        length += batch;
    }
    sim.connect(a, b);
    sim.sync();
    let contents = sim.contents(a);
    assert_eq!(sim.contents(b), contents);
    let store = |at: usize| {
        let mut memory = sim.parties[at].disk.memory().clone();
        memory.unlock();
        memory
    };
    Pair { writer: store(a), reader: store(b), contents }
}

fn run(memory: &mut Memory, ops: Vec<Op>) -> Vec<Result<Answer, StorageError>> {
    memory.execute(&Batch { id: BatchId(0), after: None, ops }).answers
}

fn folders(memory: &mut Memory) -> Vec<FeedFolder> {
    let (mut folders, mut ops) = Folders::new();
    loop {
        match folders.answered(run(memory, ops)) {
            FoldersStep::Read(next) => ops = next,
            FoldersStep::Done(found) => return found,
            FoldersStep::Failed(error) => panic!("{error}"),
        }
    }
}

/// The folder of the feed that is not the list of feeds.
fn feed_folder(contents: &Contents) -> FilePath {
    let key = contents.keys().next().unwrap();
    let key = FeedKey::from_hex(key).unwrap();
    corestore::folder(&key.discovery_key())
}

fn check(memory: &mut Memory, folder: &FilePath, contents: &Contents) -> Checked {
    let key = contents.keys().next().unwrap();
    let key = FeedKey::from_hex(key).unwrap();
    let name = corestore::writer_name(&RootKey::new(util::ROOT), "w");
    let subject = Subject {
        folder: folder.clone(),
        discovery: Some(key.discovery_key().to_hex()),
        key: Some(key),
        candidates: Vec::new(),
        name: Some(name),
        keep_blocks: false,
    };
    let master = memory.contents(&FilePath::new(&["master_key"])).unwrap();
    let master: [u8; 32] = master[..].try_into().unwrap();
    let (mut check, mut ops) = Check::new(subject, Some(&master));
    loop {
        match check.answered(run(memory, ops)) {
            Step::Read(next) => ops = next,
            Step::Done(checked) => return *checked,
            Step::Failed(error) => panic!("{error}"),
        }
    }
}

/// Repairs until nothing is left to do; the last report.
fn repair(memory: &mut Memory, folder: &FilePath, contents: &Contents) -> Report {
    for _ in 0..6 {
        let checked = check(memory, folder, contents);
        let report = checked.report.clone();
        let batches = checked.into_repair();
        if batches.is_empty() {
            return report;
        }
        for ops in batches {
            for answer in run(memory, ops) {
                answer.unwrap();
            }
        }
    }
    check(memory, folder, contents).report
}

fn write(memory: &mut Memory, path: &FilePath, offset: u64, data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    for answer in run(memory, vec![Op::Write { path: path.clone(), offset, data }]) {
        answer.unwrap();
    }
}

/// Syncs a store with an intact one and gives what both hold.
fn synced(damaged: Memory, intact: &Memory, what: &str) -> (Contents, Memory) {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(damaged), sim.party(intact.clone()));
    let ids: Vec<_> = sim.parties[a].node.feeds(util::FIRST).map(|feed| feed.id).collect();
    for id in ids {
        let load = sim.parties[a].node.load(sim.now, id);
        assert!(sim.finish(a, load).is_ok(), "{what}: it does not open");
    }
    sim.connect(a, b);
    sim.run();
    let contents = sim.contents(a);
    let mut memory = sim.parties[a].disk.memory().clone();
    memory.unlock();
    (contents, memory)
}

#[test]
fn stores_without_damage_have_no_findings() {
    for batches in [&[1][..], &[1, 1, 3, 0, 1, 5, 1], &[9_000, 1, 8_000], &[0]] {
        let Pair { mut writer, mut reader, contents } = pair(batches);
        let length = batches.iter().sum::<usize>() as u64;
        for (memory, is_writer) in [(&mut writer, true), (&mut reader, false)] {
            let folder = feed_folder(&contents);
            let report = check(memory, &folder, &contents).report;
            assert_eq!(report.findings, [], "{batches:?}");
            let seen = [report.recorded, report.proven, report.held, report.sound, report.lost];
            assert_eq!(seen, [length, length, length, length, 0]);
            assert_eq!(report.writer, is_writer);
        }
    }
}

#[test]
fn all_feeds_of_a_store_are_found() {
    let Pair { mut writer, .. } = pair(&[3]);
    let found = folders(&mut writer);
    assert_eq!(found.len(), 2, "the writer and the list of feeds");
    assert!(found.iter().all(|feed| feed.layout == Layout::Corestore));
}

/// Flips one bit in every so many bytes of each file; what is lost comes back from the peer.
fn flip_everywhere(writer: bool, step: usize, seed: usize) {
    let pair = pair(&[1, 1, 3, 1, 5, 2]);
    let (store, peer) =
        if writer { (&pair.writer, &pair.reader) } else { (&pair.reader, &pair.writer) };
    let folder = feed_folder(&pair.contents);
    let files: Vec<FilePath> =
        store.paths().filter(|path| path.is_within(&folder)).cloned().collect();
    assert!(files.len() >= 5, "{files:?}");
    for path in files {
        let before = store.contents(&path).unwrap();
        let mut at = seed % step;
        while at < before.len() {
            let bit = (at * 5 + seed) % 8;
            let what = format!("bit {bit} of byte {at} of {path}, writer {writer}, seed {seed}");
            let mut damaged = store.clone();
            write(&mut damaged, &path, at as u64, &[before[at] ^ 1 << bit]);
            let report = check(&mut damaged, &folder, &pair.contents).report;
            let after = repair(&mut damaged, &folder, &pair.contents);
            if report.findings.is_empty() {
                let (contents, _) = synced(damaged, peer, &what);
                assert_eq!(contents, pair.contents, "{what}: not found, and not harmless");
            } else {
                let sealed =
                    after.findings.iter().any(|finding| matches!(finding, Finding::Sealed { .. }));
                assert!(after.is_sound() || sealed && writer, "{what}: {report:?} {after:?}");
                let (contents, mut healed) = synced(damaged, peer, &what);
                assert_eq!(contents, pair.contents, "{what}: {report:?} {after:?}");
                let last = repair(&mut healed, &folder, &pair.contents);
                assert!(last.is_sound() && last.lost == 0, "{what}: {report:?} {last:?}");
            }
            at += step;
        }
    }
}

#[test]
fn a_flipped_bit_in_any_file_of_a_writer_is_found_and_undone() {
    flip_everywhere(true, 11, 3);
}

#[test]
fn a_flipped_bit_in_any_file_of_a_reader_is_found_and_undone() {
    flip_everywhere(false, 11, 5);
}
