//! Damage of our own files: what is read is checked, nothing damaged leaves this machine, and what can be is mended.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use bytes::Bytes;
use multifeed_core::storage::{Batch, BatchId, FilePath, Memory, Op};
use multifeed_core::{Event, FeedId, Health, NodeConfig, NodeError, Outcome, SyncState};
use multifeed_proto::FeedKey;
use util::Sim;

const BLOCKS: u64 = 21;

fn block(n: u64) -> Bytes {
    Bytes::from(format!("block {n} {}", "x".repeat(n as usize * 3)))
}

/// A party with a writer of [`BLOCKS`] blocks, stored; its store and the folder of the feed.
fn written() -> (Memory, FeedKey, FilePath) {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, (0..BLOCKS).map(block).collect());
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let memory = store(&sim, a);
    let folder = folder(&memory, &key);
    (memory, key, folder)
}

/// The same as a reader has it.
fn read(memory: &Memory) -> Memory {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(memory.clone()), sim.party(Memory::new()));
    sim.connect(a, b);
    sim.sync();
    store(&sim, b)
}

fn store(sim: &Sim, at: usize) -> Memory {
    let mut memory = sim.parties[at].disk.memory().clone();
    memory.unlock();
    memory
}

fn folder(memory: &Memory, key: &FeedKey) -> FilePath {
    let keys = memory.paths().filter(|path| path.as_str().ends_with("/key"));
    let mut found = keys.filter(|path| memory.contents(path).unwrap() == key.0);
    let path = found.next().unwrap().as_str().to_owned();
    path.trim_end_matches("/key").split('/').fold(FilePath::root(), |at, name| at.join(name))
}

fn write(memory: &mut Memory, path: &FilePath, offset: u64, data: Vec<u8>) {
    let ops = vec![Op::Write { path: path.clone(), offset, data: Bytes::from(data) }];
    memory.execute(&Batch { id: BatchId(0), after: None, ops });
}

fn flip(memory: &mut Memory, path: &FilePath, at: usize, bit: u8) {
    let byte = memory.contents(path).unwrap()[at] ^ 1 << bit;
    write(memory, path, at as u64, vec![byte]);
}

fn find(sim: &Sim, at: usize, key: &FeedKey) -> FeedId {
    sim.parties[at].node.find(key).unwrap()
}

fn health(sim: &mut Sim, at: usize, key: &FeedKey) -> Health {
    let feed = find(sim, at, key);
    sim.load(at, feed).health
}

/// Blocks that a party holds, all of which must be right.
#[track_caller]
fn held(sim: &mut Sim, at: usize, key: &FeedKey, what: &str) -> Vec<u64> {
    let held = sim.contents(at).remove(&key.to_hex()).unwrap();
    let numbered = (0..).zip(held);
    let there = numbered.filter_map(|(n, value)| {
        let value = value?;
        assert_eq!(value, block(n), "{what}: block {n} of party {at}");
        Some(n)
    });
    there.collect()
}

fn all() -> Vec<u64> {
    (0..BLOCKS).collect()
}

#[test]
fn a_damaged_block_never_leaves_and_comes_back_from_a_peer_that_has_it() {
    let (sound, key, folder) = written();
    for of_reader in [false, true] {
        let (mut memory, path) = if of_reader {
            (read(&sound), folder.join("data"))
        } else {
            (sound.clone(), folder.join("data"))
        };
        let path = if of_reader { self::folder(&memory, &key).join("data") } else { path };
        for damaged in [0, 7, 8, BLOCKS - 1] {
            let what = format!("block {damaged}, of a reader: {of_reader}");
            let offset: usize = (0..damaged).map(|n| block(n).len()).sum();
            let mut memory = memory.clone();
            flip(&mut memory, &path, offset + 3, 2);
            let mut sim = Sim::new(65_536);
            let (a, b) = (sim.party(memory), sim.party(Memory::new()));
            let wire = sim.connect(a, b);
            sim.run();
            for end in 0..2 {
                assert_eq!(sim.sync_state(wire, end), SyncState::InSync, "{what}");
            }
            let rest: Vec<u64> = all().into_iter().filter(|n| *n != damaged).collect();
            assert_eq!(held(&mut sim, b, &key, &what), rest, "{what}");
            let there = health(&mut sim, a, &key);
            assert!(matches!(there, Health::DamagedHere { blocks: 1, .. }), "{what}: {there:?}");
            assert_eq!(health(&mut sim, b, &key), Health::Sound, "{what}");
            // Somebody has it: both get it by themselves.
            let c = sim.party(read(&sound));
            sim.connect(a, c);
            sim.run();
            for at in [a, b] {
                assert_eq!(held(&mut sim, at, &key, &what), all(), "{what}");
                assert_eq!(health(&mut sim, at, &key), Health::Sound, "{what}");
            }
        }
        memory.unlock();
    }
}

#[test]
fn a_damaged_node_of_the_tree_is_mended_from_what_is_below_it() {
    let (sound, key, folder) = written();
    let path = folder.join("tree");
    let before = sound.contents(&path).unwrap();
    for node in 0..2 * BLOCKS as usize - 1 {
        for byte in [0, 31, 33, 34, 39] {
            let at = 32 + 40 * node + byte;
            if before[32 + 40 * node..][..40] == [0; 40] {
                continue;
            }
            let what = format!("byte {byte} of node {node}");
            let mut memory = sound.clone();
            flip(&mut memory, &path, at, 5);
            let mut sim = Sim::new(65_536);
            let (a, b) = (sim.party(memory), sim.party(Memory::new()));
            let wire = sim.connect(a, b);
            sim.run();
            for end in 0..2 {
                assert_eq!(sim.sync_state(wire, end), SyncState::InSync, "{what}");
            }
            assert_eq!(held(&mut sim, b, &key, &what), all(), "{what}");
            assert_eq!(held(&mut sim, a, &key, &what), all(), "{what}");
            assert_eq!(health(&mut sim, a, &key), Health::Sound, "{what}");
            assert_eq!(health(&mut sim, b, &key), Health::Sound, "{what}");
        }
    }
}

#[test]
fn a_read_gives_right_bytes_or_an_error_whatever_is_damaged() {
    let (sound, key, folder) = written();
    for (file, bytes) in [("tree", 32..32 + 40 * 41), ("data", 0..800)] {
        let path = folder.join(file);
        let len = sound.contents(&path).unwrap().len();
        for at in bytes.step_by(7).filter(|at| *at < len) {
            let what = format!("byte {at} of {file}");
            let mut memory = sound.clone();
            write(&mut memory, &path, at as u64, vec![0; 8.min(len - at)]);
            let mut sim = Sim::new(65_536);
            let a = sim.party(memory);
            let feed = find(&sim, a, &key);
            let now = sim.now;
            for from in [0, 3, 9, 20] {
                let read = sim.parties[a].node.read(now, feed, from, 4, 1 << 20);
                match sim.finish(a, read) {
                    Ok(Outcome::Blocks(blocks)) => {
                        for (n, value) in (from..).zip(blocks) {
                            assert_eq!(value, block(n), "{what}");
                        }
                    }
                    Err(NodeError::Damaged { .. }) => {}
                    other => panic!("{what}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn a_torn_piece_of_the_tree_comes_back_from_a_peer() {
    let (sound, key, folder) = written();
    let path = folder.join("tree");
    for first in [0, 2, 16, 20, 23] {
        // The roots are nodes 15, 35 and 40.
        let what = format!("12 nodes from {first}");
        let mut memory = sound.clone();
        let len = sound.contents(&path).unwrap().len();
        let at = 32 + 40 * first;
        write(&mut memory, &path, at as u64, vec![0; 480.min(len - at)]);
        let mut sim = Sim::new(65_536);
        let (a, b) = (sim.party(memory), sim.party(Memory::new()));
        sim.connect(a, b);
        sim.run();
        let _ = held(&mut sim, b, &key, &what);
        let c = sim.party(read(&sound));
        sim.connect(a, c);
        sim.connect(b, c);
        sim.run();
        for at in [a, b] {
            assert_eq!(held(&mut sim, at, &key, &what), all(), "{what}");
        }
        assert_eq!(health(&mut sim, b, &key), Health::Sound, "{what}");
    }
}

#[test]
fn whose_own_tree_is_damaged_blames_no_peer() {
    let (sound, key, _) = written();
    let part = {
        let mut sim = Sim::new(65_536);
        let (a, b) = (sim.party(sound.clone()), sim.party(Memory::new()));
        let feed = find(&sim, a, &key);
        sim.connect(a, b);
        sim.sync();
        // What came later is missing at the reader.
        let memory = store(&sim, b);
        sim.append_all(a, feed, (BLOCKS..2 * BLOCKS).map(block).collect());
        (memory, store(&sim, a))
    };
    let path = folder(&part.0, &key).join("tree");
    let before = part.0.contents(&path).unwrap();
    for node in 0..2 * BLOCKS as usize - 1 {
        if before[32 + 40 * node..][..40] == [0; 40] {
            continue;
        }
        let what = format!("node {node}");
        let mut memory = part.0.clone();
        flip(&mut memory, &path, 32 + 40 * node + 9, 1);
        let mut sim = Sim::new(65_536);
        let (a, b) = (sim.party(part.1.clone()), sim.party(memory));
        let wire = sim.connect(a, b);
        sim.run();
        assert_eq!(sim.sync_state(wire, 1), SyncState::InSync, "{what}");
        assert_eq!(held(&mut sim, b, &key, &what).len() as u64, 2 * BLOCKS, "{what}");
        for at in [a, b] {
            assert_eq!(health(&mut sim, at, &key), Health::Sound, "{what}");
        }
    }
}

/// A writer of many small blocks; its store, and the folder of the feed.
fn written_long(blocks: u64) -> (Memory, FeedKey, FilePath) {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, (0..blocks).map(|n| Bytes::from(n.to_string())).collect());
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let memory = store(&sim, a);
    let folder = folder(&memory, &key);
    (memory, key, folder)
}

/// Nothing was found damaged, and everybody has everything.
#[track_caller]
fn all_is_well(sim: &mut Sim, key: &FeedKey, blocks: u64, what: &str) {
    for at in 0..sim.parties.len() {
        let unwell = |event: &&Event| matches!(event, Event::FeedHealth { health, .. } if *health != Health::Sound);
        let failed = |event: &&Event| matches!(event, Event::FeedFailed { .. });
        let damage = |event: &&Event| unwell(event) || failed(event);
        let damage: Vec<_> = sim.parties[at].events.iter().filter(damage).collect();
        assert!(damage.is_empty(), "{what}, party {at}: {damage:?}");
        let feed = find(sim, at, key);
        assert_eq!(sim.load(at, feed).blocks, blocks, "{what}, party {at}");
    }
}

#[test]
fn a_cache_that_is_smaller_than_what_proves_a_block_costs_reads_and_nothing_else() {
    const LENGTH: u64 = 3 * 1024 + 300;
    let (memory, key, _) = written_long(LENGTH);
    let mut sim = Sim::new(4096);
    let config = || NodeConfig { cache_bytes: 4096, max_window: 16, ..NodeConfig::default() };
    let a = sim.party_with(memory, config());
    // They are at different places of the log at any time.
    for start in [0, 700, 1600, 2900] {
        let b = sim.party_with(Memory::new(), config());
        sim.connect(a, b);
        sim.run();
        let feed = find(&sim, b, &key);
        let now = sim.now;
        for from in [start, 0] {
            let command = sim.parties[b].node.download(now, feed, from..LENGTH);
            sim.run();
            assert!(sim.finish(b, command).is_ok());
        }
    }
    sim.sync();
    all_is_well(&mut sim, &key, LENGTH, "a small cache");
}

#[test]
fn a_node_that_is_missing_in_the_file_is_made_again_from_those_below_it_whatever_is_in_memory() {
    const LENGTH: u64 = 1024 + 35;
    let (memory, key, folder) = written_long(LENGTH);
    let reader = read(&memory);
    // Over 2 to 512 blocks, each the last of a page of the cache, or the first of one.
    for node in [1279, 1535, 1791, 1151, 1663, 1055, 1041, 1281, 511, 255, 1025] {
        for (store, which) in [(&memory, "writer"), (&reader, "reader")] {
            let what = format!("node {node} of the {which}");
            let mut memory = store.clone();
            write(&mut memory, &folder.join("tree"), 32 + 40 * node, vec![0; 40]);
            let mut sim = Sim::new(65_536);
            let a = sim.party(memory);
            let b = sim.party(Memory::new());
            sim.connect(a, b);
            sim.sync();
            all_is_well(&mut sim, &key, LENGTH, &what);
        }
    }
}
