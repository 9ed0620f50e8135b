//! Stores that are only read, and storage that fails in every way at every moment.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::time::Duration;

use bytes::Bytes;
use multifeed_core::format::{corestore, numbered};
use multifeed_core::storage::{
    Batch, BatchId, Fault, FilePath, Memory, NotAFile, Op, StorageErrorKind,
};
use multifeed_core::{
    Event, Layout, NodeConfig, NodeError, Outcome, Output, StoreOptions, SyncState,
};
use util::{FIRST, Party, Sim};

const LAYOUTS: [Layout; 2] = [Layout::Corestore, Layout::Numbered];

fn blocks(count: u64) -> Vec<Bytes> {
    (0..count).map(|n| Bytes::from(format!("block {n}"))).collect()
}

/// What a store with a writer of five blocks leaves on its disk.
fn files(layout: Layout) -> (Sim, Memory) {
    let mut sim = Sim::new(65_536);
    let a = sim.party_in(Memory::new(), layout, NodeConfig::default());
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, blocks(5));
    let memory = sim.parties[a].disk.memory().clone();
    (sim, memory)
}

/// A party that only reads, on storage that allows no more.
fn reader(sim: &mut Sim, mut memory: Memory) -> usize {
    memory.set_fault(Some(Fault { after: 0, kind: StorageErrorKind::ReadOnly }));
    let at = sim.parties.len();
    sim.parties.push(Party::new(50 + at as u8, memory, NodeConfig::default(), sim.now));
    sim.parties[at].recorded = Some(Vec::new());
    sim.open(at, StoreOptions::default().read_only(true));
    at
}

/// Nothing was asked of the storage that changes it.
fn changed_nothing(sim: &Sim, at: usize) {
    let changes = |output: &Output| match output {
        Output::Storage(batch) => batch.ops.iter().any(Op::changes),
        _ => false,
    };
    let recorded = sim.parties[at].recorded.as_ref().unwrap();
    assert!(!recorded.iter().any(changes));
    assert!(sim.parties[at].disk.effects().is_empty());
}

#[test]
fn a_store_that_is_only_read_gives_what_it_has_and_refuses_the_rest_by_name() {
    for layout in LAYOUTS {
        let (mut sim, memory) = files(layout);
        let r = reader(&mut sim, memory);
        assert_eq!(sim.contents(r), sim.contents(0), "{layout:?}");
        let node = &mut sim.parties[r].node;
        assert!(node.is_read_only() && node.held_by().is_none());
        let info = node.feeds(FIRST).next().unwrap();
        let (now, feed) = (sim.now, info.id);
        let node = &mut sim.parties[r].node;
        let refused = [
            node.append(now, feed, blocks(1)),
            node.clear(now, feed, 0..1),
            node.block(now, info.key),
            node.unblock(now, info.key),
            node.writer(now, FIRST, Some("new"), None),
            node.wait(now, feed, 5),
            node.download(now, feed, 3..9),
            node.update(now, feed, None),
            node.seek(now, feed, 1_000_000),
        ];
        for command in refused {
            assert_eq!(sim.finish(r, command), Err(NodeError::ReadOnly), "{command:?}");
        }
        let node = &mut sim.parties[r].node;
        let known = [
            node.writer(now, FIRST, Some("w"), None),
            node.wait(now, feed, 4),
            node.download(now, feed, 0..5),
            node.update(now, feed, Some(5)),
            node.seek(now, feed, 8),
        ];
        for command in known {
            sim.finish(r, command).unwrap();
        }
        changed_nothing(&sim, r);
    }
}

#[test]
fn a_peer_gets_all_of_a_store_that_is_only_read_which_takes_nothing() {
    for layout in LAYOUTS {
        let (mut sim, memory) = files(layout);
        let r = reader(&mut sim, memory);
        let c = sim.party(Memory::new());
        let own = sim.writer(c, "own");
        sim.append_all(c, own, blocks(3));
        let wire = sim.connect(r, c);
        sim.pass(Duration::from_secs(30));
        assert_eq!(sim.sync_state(wire, 0), SyncState::InSync, "{layout:?}");
        let (read, held) = (sim.contents(r), sim.contents(c));
        assert_eq!((read.len(), held.len()), (1, 2));
        assert!(read.iter().all(|(key, blocks)| held.get(key) == Some(blocks)));
        changed_nothing(&sim, r);
    }
}

#[test]
fn who_has_a_store_open_that_is_only_read_is_told() {
    let (mut sim, mut memory) = files(Layout::Corestore);
    let lock = Op::Lock { path: FilePath::new(&["multifeed.lock"]) };
    memory
        .execute(&Batch { id: BatchId(0), after: None, ops: vec![lock] })
        .answers
        .remove(0)
        .unwrap();
    sim.parties.push(Party::new(9, memory, NodeConfig::default(), sim.now));
    sim.open(1, StoreOptions::default().read_only(true));
    assert_eq!(sim.parties[1].node.held_by(), Some(0));
    assert_eq!(sim.contents(1), sim.contents(0));
}

#[test]
fn without_its_master_key_a_store_is_read_by_its_list_and_without_that_by_its_folders() {
    let (mut sim, memory) = files(Layout::Corestore);
    let mut remaining = memory;
    let remove = |memory: &mut Memory, path: &FilePath| {
        let ops = vec![Op::Remove { path: path.clone() }];
        memory.execute(&Batch { id: BatchId(u64::MAX), after: None, ops });
    };
    remove(&mut remaining, &FilePath::new(&[corestore::MASTER_KEY]));
    let r = reader(&mut sim, remaining.clone());
    let info = sim.parties[r].node.feeds(FIRST).next().unwrap();
    assert_eq!((info.name.as_str(), info.writable), ("w", false));
    assert_eq!(sim.contents(r), sim.contents(0));
    // Neither names nor, then, the list.
    for keep_list in [true, false] {
        let names: Vec<FilePath> =
            remaining.paths().filter(|path| path.as_str().ends_with("/name")).cloned().collect();
        for path in names {
            let list = remaining.contents(&path).unwrap().ends_with(b"persist");
            remove(&mut remaining, &path);
            if list && !keep_list {
                remove(&mut remaining, &path.parent().unwrap());
            }
        }
        let r = reader(&mut sim, remaining.clone());
        let feeds: Vec<_> = sim.parties[r].node.feeds(FIRST).collect();
        assert_eq!(feeds.len(), 1, "the list is no feed of the multifeed");
        assert_eq!(sim.contents(r), sim.contents(0));
        changed_nothing(&sim, r);
    }
}

#[test]
fn where_there_is_no_store_none_is_made_by_reading() {
    let mut sim = Sim::new(65_536);
    sim.parties.push(Party::new(1, Memory::new(), NodeConfig::default(), sim.now));
    let open = sim.parties[0].node.open(sim.now, StoreOptions::default().read_only(true));
    assert_eq!(sim.finish(0, open), Err(NodeError::NoStore));
}

/// Every way in which storage fails.
fn kinds() -> Vec<StorageErrorKind> {
    vec![
        StorageErrorKind::Full,
        StorageErrorKind::Quota,
        StorageErrorKind::Denied,
        StorageErrorKind::ReadOnly,
        StorageErrorKind::TooManyFiles,
        StorageErrorKind::Removed,
        StorageErrorKind::Broken("input/output error".into()),
        StorageErrorKind::NotAFile(NotAFile::Link),
        StorageErrorKind::Io("something else".into()),
    ]
}

/// The kind of an error of the storage.
fn kind(error: &NodeError) -> &StorageErrorKind {
    match error {
        NodeError::Storage(error) => &error.kind,
        other => panic!("no error of the storage: {other:?}"),
    }
}

#[test]
fn an_append_that_fails_at_any_change_names_the_cause_and_goes_on_when_it_is_gone() {
    for layout in LAYOUTS {
        for (at, cause) in kinds().into_iter().enumerate() {
            for after in (at as u64 % 3..24).step_by(3) {
                let mut sim = Sim::new(65_536);
                let a = sim.party_in(Memory::new(), layout, NodeConfig::default());
                let fault = Fault { after, kind: cause.clone() };
                sim.parties[a].disk.set_fault(Some(fault));
                let mut stored = 0;
                for _ in 0..3 {
                    let writer = sim.parties[a].node.writer(sim.now, FIRST, Some("w"), None);
                    let now = sim.now;
                    sim.parties[a].drain(now);
                    if !sim.parties[a].results.contains_key(&writer) {
                        // Another attempt to make its folder is due first.
                        sim.pass(Duration::from_secs(6));
                    }
                    let feed = match sim.finish(a, writer) {
                        Ok(Outcome::Feed(feed)) => feed,
                        Ok(other) => panic!("{other:?}"),
                        Err(error) => {
                            assert_eq!(kind(&error), &cause, "{layout:?} {after}");
                            continue;
                        }
                    };
                    let append = sim.parties[a].node.append(sim.now, feed, blocks(2));
                    match sim.finish(a, append) {
                        Ok(Outcome::Appended { start, .. }) => stored = start + 2,
                        Ok(other) => panic!("{other:?}"),
                        Err(error) => assert_eq!(kind(&error), &cause, "{layout:?} {after}"),
                    }
                }
                sim.parties[a].disk.set_fault(None);
                sim.pass(Duration::from_secs(400));
                let feed = sim.writer(a, "w");
                let length = sim.load(a, feed).length;
                assert!(length >= stored, "{cause:?} {after}: {length} of {stored}");
                sim.append_all(a, feed, blocks(1));
                let contents = sim.contents(a);
                sim.restart(a);
                assert_eq!(sim.contents(a), contents, "{cause:?} {after}");
            }
        }
    }
}

#[test]
fn a_download_that_fails_at_any_change_names_the_cause_and_goes_on_when_it_is_gone() {
    for (at, cause) in kinds().into_iter().enumerate() {
        for after in (at as u64 % 4..16).step_by(4) {
            let mut sim = Sim::new(65_536);
            let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
            let feed = sim.writer(a, "w");
            sim.append_all(a, feed, blocks(20));
            sim.parties[b].disk.set_fault(Some(Fault { after, kind: cause.clone() }));
            let wire = sim.connect(a, b);
            sim.pass(Duration::from_secs(20));
            for event in &sim.parties[b].events {
                match event {
                    Event::FeedFailed { error, .. } | Event::StorageFailed { error, .. } => {
                        assert_eq!(kind(error), &cause, "{after}");
                    }
                    _ => {}
                }
            }
            sim.parties[b].disk.set_fault(None);
            sim.pass(Duration::from_secs(400));
            assert_eq!(sim.sync_state(wire, 1), SyncState::InSync, "{cause:?} {after}");
            assert_eq!(sim.contents(a), sim.contents(b), "{cause:?} {after}");
        }
    }
}

#[test]
fn a_writer_whose_files_vanish_signs_nothing_in_their_places_until_they_come_back() {
    for layout in LAYOUTS {
        let mut sim = Sim::new(65_536);
        let a = sim.party_in(Memory::new(), layout, NodeConfig::default());
        let b = sim.party(Memory::new());
        let feed = sim.writer(a, "w");
        sim.append_all(a, feed, blocks(5));
        sim.connect(a, b);
        sim.pass(Duration::from_secs(5));
        assert_eq!(sim.contents(a), sim.contents(b));
        sim.wires.iter_mut().for_each(|wire| wire.cut = true);
        let key = sim.parties[a].node.feed(feed).unwrap().key;
        let folder = match layout {
            Layout::Corestore => corestore::folder(&key.discovery_key()),
            Layout::Numbered => numbered::folder(0),
        };
        // All but what makes it a writer.
        for name in ["data", "tree", "signatures", "bitfield"] {
            let ops = vec![Op::Remove { path: folder.join(name) }];
            let remove = Batch { id: BatchId(u64::MAX), after: None, ops };
            sim.parties[a].disk.execute(&remove);
        }
        let fault = Fault { after: 0, kind: StorageErrorKind::Removed };
        sim.parties[a].disk.set_fault(Some(fault));
        let append = sim.parties[a].node.append(sim.now, feed, blocks(1));
        assert_eq!(kind(&sim.finish(a, append).unwrap_err()), &StorageErrorKind::Removed);
        sim.parties[a].disk.set_fault(None);
        let append = sim.parties[a].node.append(sim.now, feed, blocks(1));
        let error = sim.finish(a, append).unwrap_err();
        assert!(matches!(error, NodeError::LostTail { blocks: 5, .. }), "{layout:?} {error:?}");
        sim.connect(a, b);
        sim.pass(Duration::from_secs(400));
        sim.append_all(a, feed, blocks(1));
        sim.pass(Duration::from_secs(5));
        assert_eq!(sim.load(a, feed).length, 6);
        assert_eq!(sim.contents(a), sim.contents(b), "{layout:?}");
    }
}
