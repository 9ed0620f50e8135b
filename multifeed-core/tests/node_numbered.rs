//! Stores in the layout of multifeed 6.
#![allow(clippy::unwrap_used, missing_docs)]

mod golden;
mod util;

use bytes::Bytes;
use multifeed_core::crypto::SecretKey;
use multifeed_core::format::{numbered, sleep};
use multifeed_core::storage::{Batch, BatchId, Fault, FilePath, Memory, Op, StorageErrorKind};
use multifeed_core::{Layout, NodeConfig, NodeError, Outcome, StoreOptions};
use multifeed_proto::RootKey;
use util::{FIRST, Sim};

fn numbered_party(sim: &mut Sim, memory: Memory) -> usize {
    sim.party_in(memory, Layout::Numbered, NodeConfig::default())
}

fn names(sim: &Sim, at: usize) -> Vec<String> {
    sim.parties[at].node.feeds(FIRST).map(|feed| feed.name).collect()
}

fn file(sim: &Sim, at: usize, path: &str) -> Option<Vec<u8>> {
    sim.parties[at].disk.memory().contents(&FilePath::new(&[path]))
}

fn write(memory: &mut Memory, path: &str, data: &[u8]) {
    let (path, data) = (FilePath::new(&[path]), Bytes::copy_from_slice(data));
    let ops = vec![Op::Write { path, offset: 0, data }];
    memory.execute(&Batch { id: BatchId(u64::MAX), after: None, ops });
}

/// Opens the store as it is told to; the error if it fails.
fn try_open(memory: Memory, options: StoreOptions) -> Result<Layout, NodeError> {
    let mut sim = Sim::new(65_536);
    sim.parties.push(util::Party::new(1, memory, NodeConfig::default(), sim.now));
    let command = sim.parties[0].node.open(sim.now, options);
    sim.finish(0, command)?;
    let command = sim.parties[0].node.join(sim.now, RootKey::new(util::ROOT));
    sim.finish(0, command)?;
    Ok(sim.parties[0].node.layout())
}

#[test]
fn feeds_are_kept_in_folders_in_the_order_in_which_they_joined() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (numbered_party(&mut sim, Memory::new()), sim.party(Memory::new()));
    let first = sim.writer(a, "local");
    sim.append(a, first, &[b"one"]);
    let theirs = sim.writer(b, "theirs");
    sim.append(b, theirs, &[b"two"]);
    sim.connect(a, b);
    sim.sync();
    let last = sim.writer(a, "last");
    sim.append(a, last, &[b"three"]);
    sim.sync();
    assert_eq!(names(&sim, a), ["local", "1", "last"]);
    assert_eq!(file(&sim, a, "0/localname").unwrap(), b"local");
    assert_eq!(file(&sim, a, "0/secret_key").unwrap().len(), 64);
    assert_eq!(file(&sim, a, "1/data").unwrap(), b"two");
    assert_eq!(file(&sim, a, "1/localname"), None);
    assert_eq!(file(&sim, a, "1/secret_key"), None);
    assert_eq!(file(&sim, a, "2/data").unwrap(), b"three");
    assert_eq!(file(&sim, a, "master_key"), None);

    let contents = sim.contents(a);
    sim.restart(a);
    assert_eq!(sim.parties[a].node.layout(), Layout::Numbered);
    assert_eq!(names(&sim, a), ["local", "1", "last"]);
    assert_eq!(sim.contents(a), contents);
    let again = sim.writer(a, "last");
    sim.append(a, again, &[b"four"]);
    assert_eq!(sim.load(a, again).length, 2);
}

#[test]
fn the_layout_is_that_of_the_directory_and_another_is_refused() {
    let told = |layout| StoreOptions::default().layout(layout);
    for layout in [Layout::Corestore, Layout::Numbered] {
        for writers in [0, 1] {
            let mut sim = Sim::new(65_536);
            let a = sim.party_in(Memory::new(), layout, NodeConfig::default());
            for _ in 0..writers {
                sim.writer(a, "w");
            }
            let memory = sim.parties[a].disk.memory().clone();
            assert_eq!(try_open(memory.clone(), StoreOptions::default()), Ok(layout));
            assert_eq!(try_open(memory.clone(), told(layout)), Ok(layout));
            let other = match layout {
                Layout::Corestore => Layout::Numbered,
                Layout::Numbered => Layout::Corestore,
            };
            let refused = try_open(memory, told(other));
            assert!(matches!(refused, Err(NodeError::Layout { .. })), "{layout:?}: {refused:?}");
        }
    }
    assert_eq!(try_open(Memory::new(), StoreOptions::default()), Ok(Layout::Corestore));
}

#[test]
fn a_store_in_this_layout_holds_one_multifeed_and_no_feeds_by_name() {
    let mut sim = Sim::new(65_536);
    let a = numbered_party(&mut sim, Memory::new());
    let command = sim.parties[a].node.join(sim.now, RootKey::new([9; 32]));
    assert!(matches!(sim.finish(a, command), Err(NodeError::Layout { .. })));
    let command = sim.parties[a].node.named(sim.now, "x");
    assert!(matches!(sim.finish(a, command), Err(NodeError::Layout { .. })));
}

#[test]
fn a_number_is_no_name_for_a_writer_but_stands_for_one_without() {
    let mut sim = Sim::new(65_536);
    let a = numbered_party(&mut sim, Memory::new());
    let command = sim.parties[a].node.writer(sim.now, FIRST, Some("7"), None);
    assert!(matches!(sim.finish(a, command), Err(NodeError::WriterExists { .. })));
    let mut feeds = Vec::new();
    for _ in 0..2 {
        let command = sim.parties[a].node.writer(sim.now, FIRST, None, None);
        let Ok(Outcome::Feed(feed)) = sim.finish(a, command) else { panic!("no writer") };
        feeds.push(feed);
    }
    assert_ne!(feeds[0], feeds[1]);
    assert_eq!(names(&sim, a), ["0", "1"]);
    assert_eq!(file(&sim, a, "1/localname").unwrap(), b"1");
    assert_eq!(sim.writer(a, "1"), feeds[1]);
}

#[test]
fn a_writer_has_the_key_pair_that_it_is_given() {
    let mut sim = Sim::new(65_536);
    let a = numbered_party(&mut sim, Memory::new());
    let secret = SecretKey::from_seed(&[3; 32]);
    let command = sim.parties[a].node.writer(sim.now, FIRST, Some("w"), Some(secret.clone()));
    let Ok(Outcome::Feed(feed)) = sim.finish(a, command) else { panic!("no writer") };
    assert_eq!(sim.load(a, feed).key, secret.public());
    assert_eq!(file(&sim, a, "0/secret_key").unwrap()[..], secret.to_libsodium()[..]);
    let other = SecretKey::from_seed(&[4; 32]);
    let command = sim.parties[a].node.writer(sim.now, FIRST, Some("w"), Some(other));
    assert!(matches!(sim.finish(a, command), Err(NodeError::WriterExists { .. })));
}

/// Three writers, and what is left of their store when files of the second are removed.
fn without(files: &[&str]) -> Memory {
    let mut sim = Sim::new(65_536);
    let a = numbered_party(&mut sim, Memory::new());
    for name in ["zero", "one", "two"] {
        let feed = sim.writer(a, name);
        sim.append(a, feed, &[name.as_bytes()]);
    }
    let mut memory = sim.parties[a].disk.memory().clone();
    let ops = files.iter().map(|name| Op::Remove { path: numbered::folder(1).join(name) });
    memory.execute(&Batch { id: BatchId(u64::MAX), after: None, ops: ops.collect() });
    memory
}

fn problems(sim: &Sim, at: usize) -> Vec<&str> {
    let problems = sim.parties[at].node.folder_problems().iter();
    problems.map(|found| found.folder.as_str()).collect()
}

#[test]
fn a_lost_key_of_a_writer_follows_from_its_secret_key() {
    let mut sim = Sim::new(65_536);
    let a = numbered_party(&mut sim, without(&[sleep::KEY]));
    assert_eq!(names(&sim, a), ["zero", "one", "two"]);
    let feed = sim.writer(a, "one");
    sim.append(a, feed, &[b"more"]);
    assert_eq!(sim.load(a, feed).length, 2);
}

#[test]
fn a_writer_whose_key_is_lost_is_told_and_never_begun_anew_and_what_is_behind_it_is_there() {
    let memory = without(&[sleep::KEY, sleep::SECRET_KEY]);
    let mut sim = Sim::new(65_536);
    let a = numbered_party(&mut sim, memory.clone());
    assert_eq!((names(&sim, a), problems(&sim, a)), (vec!["zero".into(), "two".into()], vec!["1"]));
    let command = sim.parties[a].node.writer(sim.now, FIRST, Some("one"), None);
    let refused = sim.finish(a, command);
    assert!(matches!(refused, Err(NodeError::Damaged { .. })), "{refused:?}");
    sim.writer(a, "new");
    assert_eq!(file(&sim, a, "3/localname").unwrap(), b"new");
    for name in [sleep::DATA, sleep::TREE, sleep::SIGNATURES, sleep::BITFIELD] {
        let path = numbered::folder(1).join(name);
        assert_eq!(sim.parties[a].disk.memory().contents(&path), memory.contents(&path));
    }
}

#[test]
fn folders_behind_one_that_is_missing_are_there_and_the_next_writer_takes_its_number() {
    let files = [sleep::KEY, sleep::SECRET_KEY, numbered::LOCAL_NAME];
    let log = [sleep::DATA, sleep::TREE, sleep::SIGNATURES, sleep::BITFIELD];
    let mut sim = Sim::new(65_536);
    let a = numbered_party(&mut sim, without(&[&files[..], &log].concat()));
    assert_eq!((names(&sim, a), problems(&sim, a)), (vec!["zero".into(), "two".into()], vec!["1"]));
    sim.writer(a, "new");
    assert_eq!(file(&sim, a, "1/localname").unwrap(), b"new");
    assert_eq!(sim.contents(a).len(), 3);
}

#[test]
fn a_key_that_is_cut_off_or_of_zeros_is_told_and_offered_to_nobody() {
    for key in [&[7; 20][..], &[0; 32]] {
        let mut memory = without(&[sleep::KEY, sleep::SECRET_KEY, numbered::LOCAL_NAME]);
        write(&mut memory, "1/key", key);
        let mut sim = Sim::new(65_536);
        let (a, b) = (numbered_party(&mut sim, memory), sim.party(Memory::new()));
        assert_eq!(problems(&sim, a), ["1"]);
        sim.connect(a, b);
        sim.sync();
        assert_eq!(sim.parties[b].node.feeds(FIRST).count(), 2);
    }
}

#[test]
fn a_feed_whose_signatures_do_not_fit_its_key_is_offered_to_nobody() {
    let mut memory = without(&[sleep::SECRET_KEY, numbered::LOCAL_NAME]);
    let path = numbered::folder(1).join(sleep::KEY);
    let mut key = memory.contents(&path).unwrap();
    key[5] ^= 1;
    write(&mut memory, "1/key", &key);
    let before = memory.clone();
    let mut sim = Sim::new(65_536);
    let (a, b) = (numbered_party(&mut sim, memory), sim.party(Memory::new()));
    sim.connect(a, b);
    sim.sync();
    assert_eq!(sim.parties[b].node.feeds(FIRST).count(), 2);
    let feed = sim.parties[a].node.feeds(FIRST).nth(1).unwrap().id;
    let load = sim.parties[a].node.load(sim.now, feed);
    let refused = sim.finish(a, load);
    assert!(matches!(refused, Err(NodeError::Damaged { .. })), "{refused:?}");
    for path in before.paths().filter(|path| path.as_str() != "multifeed.lock") {
        assert_eq!(sim.parties[a].disk.memory().contents(path), before.contents(path), "{path}");
    }
}

#[test]
fn a_full_disk_fails_the_new_writer_and_all_goes_on_when_there_is_room() {
    for after in 0..6 {
        let mut sim = Sim::new(65_536);
        let (a, b) = (numbered_party(&mut sim, Memory::new()), sim.party(Memory::new()));
        let theirs = sim.writer(b, "theirs");
        sim.append(b, theirs, &[b"x"]);
        sim.connect(a, b);
        sim.parties[a].disk.set_fault(Some(Fault { after, kind: StorageErrorKind::Full }));
        let command = sim.parties[a].node.writer(sim.now, FIRST, Some("w"), None);
        let now = sim.now;
        sim.parties[a].drain(now);
        let failed = sim.parties[a].results.remove(&command);
        sim.run();
        sim.parties[a].disk.set_fault(None);
        sim.pass(std::time::Duration::from_secs(6));
        let feed = sim.writer(a, "w");
        sim.append(a, feed, &[b"y"]);
        sim.sync();
        assert_eq!(sim.contents(a), sim.contents(b), "fault after {after}: {failed:?}");
        assert_eq!(sim.contents(a).len(), 2, "fault after {after}");
        let contents = sim.contents(a);
        sim.restart(a);
        assert_eq!(sim.contents(a), contents, "fault after {after}");
    }
}

mod vectors {
    use multifeed_core::storage::Memory;
    use serde_json::Value;

    use super::*;
    use crate::golden::{bytes, files, list};

    #[test]
    fn the_directory_of_a_multifeed_6_is_read_and_continued() {
        for (_, vectors) in files("dir_multifeed6") {
            let mut memory = Memory::new();
            for (path, contents) in vectors["files"].as_object().unwrap() {
                write(&mut memory, path, &bytes(contents));
            }
            let mut sim = Sim::new(65_536);
            let a = sim.party(memory);
            assert_eq!(sim.parties[a].node.layout(), Layout::Numbered);
            let mut found: Vec<_> = sim.parties[a].node.feeds(FIRST).collect();
            found.sort_by(|one, two| one.name.cmp(&two.name));
            let wanted = list(&vectors, "names");
            assert_eq!(found.len(), wanted.len());
            for (feed, pair) in found.iter().zip(wanted) {
                assert_eq!(
                    (Value::from(feed.name.as_str()), Value::from(feed.key.to_hex())),
                    (pair[0].clone(), pair[1].clone())
                );
            }
            for feed in list(&vectors, "feeds") {
                let key = feed["key"].as_str().unwrap();
                let id = found.iter().find(|found| found.key.to_hex() == key).unwrap().id;
                let info = sim.load(a, id);
                assert_eq!(Value::from(info.length), feed["length"]);
                assert_eq!(Value::from(info.writable), feed["writable"]);
            }
            let local = sim.writer(a, "local");
            sim.append(a, local, &[b"more"]);
            let blocks = sim.contents(a).remove(&sim.load(a, local).key.to_hex()).unwrap();
            assert_eq!(blocks.last().unwrap().as_deref(), Some(&b"more"[..]));
            let b = numbered_party(&mut sim, Memory::new());
            sim.connect(a, b);
            sim.sync();
            assert_eq!(sim.contents(a), sim.contents(b));
        }
    }
}
