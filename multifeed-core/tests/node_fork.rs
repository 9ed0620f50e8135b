//! Two logs under one key, as by a writer that was restored from a backup and went on.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use std::time::Duration;

use bytes::Bytes;
use multifeed_core::storage::Memory;
use multifeed_core::{Event, FeedId, Health, NodeConfig, SyncState};
use multifeed_proto::FeedKey;
use util::Sim;

/// Blocks that both logs begin with, and how many each goes on by.
const FORKS: [(u64, u64, u64); 9] = [
    (0, 3, 4),
    (0, 1, 1),
    (5, 1, 5),
    (5, 5, 5),
    (8, 1, 1),
    (7, 9, 1),
    (1, 40, 40),
    (40, 2, 300),
    (300, 1, 2),
];

fn blocks(what: &str, count: u64) -> Vec<Bytes> {
    (0..count).map(|n| Bytes::from(format!("{what} {n}"))).collect()
}

/// The store of a party, as after a clean end.
fn store(sim: &Sim, at: usize) -> Memory {
    let mut memory = sim.parties[at].disk.memory().clone();
    memory.unlock();
    memory
}

/// Four parties: a writer, the same restored and gone on, and a reader of each with a writer of its own.
struct World {
    sim: Sim,
    key: FeedKey,
    writers: [usize; 2],
    readers: [usize; 2],
}

fn world(common: u64, here: u64, there: u64) -> World {
    let mut sim = Sim::new(65_536);
    let first = sim.party(Memory::new());
    let feed = sim.writer(first, "w");
    sim.append_all(first, feed, blocks("both", common));
    let key = sim.parties[first].node.feed(feed).unwrap().key;
    let backup = store(&sim, first);
    let restored = sim.party(backup);
    let again = sim.writer(restored, "w");
    assert_eq!(sim.parties[restored].node.feed(again).unwrap().key, key);
    sim.append_all(first, feed, blocks("here", here));
    sim.append_all(restored, again, blocks("there", there));
    let writers = [first, restored];
    let readers = writers.map(|writer| {
        let reader = sim.party(Memory::new());
        let wire = sim.connect(writer, reader);
        sim.sync();
        cut(&mut sim, wire);
        reader
    });
    for reader in readers {
        let own = sim.writer(reader, "own");
        sim.append_all(reader, own, blocks("own", 200));
    }
    World { sim, key, writers, readers }
}

fn cut(sim: &mut Sim, wire: usize) {
    let now = sim.now;
    for end in 0..2 {
        let (party, id) = sim.wires[wire].ends[end];
        sim.parties[party].node.abort(now, id);
    }
    sim.wires[wire].cut = true;
    sim.run();
}

fn health(sim: &mut Sim, at: usize, key: &FeedKey) -> Health {
    let id = sim.parties[at].node.find(key).unwrap();
    sim.load(at, id).health
}

fn is_told(sim: &Sim, at: usize, feed: FeedId) -> bool {
    sim.parties[at].events.iter().any(|event| {
        matches!(event, Event::FeedHealth { feed: of, health: Health::Forked { .. }, connection }
            if *of == feed && connection.is_some())
    })
}

/// Joins two parties that hold different logs: all but the forked feed is exchanged, and both know.
#[track_caller]
fn only_the_fork_is_left_out(sim: &mut Sim, parties: [usize; 2], key: &FeedKey, lengths: [u64; 2]) {
    let case = format!("{lengths:?}");
    let wire = sim.connect(parties[0], parties[1]);
    sim.run();
    sim.pass(Duration::from_secs(2));
    for end in 0..2 {
        assert_eq!(sim.sync_state(wire, end), SyncState::InSync, "{case} end {end}");
    }
    let mut contents = parties.map(|at| sim.contents(at));
    for (contents, length) in contents.iter_mut().zip(lengths) {
        let held = contents.remove(&key.to_hex()).unwrap();
        assert_eq!(held.len() as u64, length, "{case}");
    }
    assert_eq!(contents[0], contents[1], "{case}");
    for (me, other) in [(0, 1), (1, 0)] {
        let expected = Health::Forked { here: lengths[me], there: Some(lengths[other]) };
        assert_eq!(health(sim, parties[me], key), expected, "{case}");
        let feed = sim.parties[parties[me]].node.find(key).unwrap();
        assert!(is_told(sim, parties[me], feed), "{case}");
    }
    cut(sim, wire);
}

#[test]
fn two_readers_of_two_logs_exchange_everything_else_and_both_know_of_the_fork() {
    for (common, here, there) in FORKS {
        let World { mut sim, key, readers, .. } = world(common, here, there);
        let lengths = [common + here, common + there];
        only_the_fork_is_left_out(&mut sim, readers, &key, lengths);
        let more = sim.writer(readers[0], "more");
        sim.append_all(readers[0], more, blocks("more", 20));
        only_the_fork_is_left_out(&mut sim, readers, &key, lengths);
    }
}

#[test]
fn a_writer_finds_out_that_another_went_on_from_its_backup() {
    for (common, here, there) in FORKS {
        let World { mut sim, key, writers, readers } = world(common, here, there);
        let lengths = [common + here, common + there];
        only_the_fork_is_left_out(&mut sim, [writers[0], readers[1]], &key, lengths);
        only_the_fork_is_left_out(&mut sim, [readers[0], writers[1]], &key, lengths);
    }
}

#[test]
fn a_log_that_goes_on_where_the_other_ends_is_no_fork() {
    for (common, more) in [(5, 3), (8, 1), (1, 40), (300, 7)] {
        let World { mut sim, key, readers, .. } = world(common, 0, more);
        sim.connect(readers[0], readers[1]);
        sim.sync();
        assert_eq!(sim.contents(readers[0]), sim.contents(readers[1]));
        assert_eq!(health(&mut sim, readers[0], &key), Health::Sound);
    }
}

#[test]
fn a_fork_is_remembered_across_a_restart() {
    let World { mut sim, key, readers, .. } = world(5, 1, 5);
    only_the_fork_is_left_out(&mut sim, readers, &key, [6, 10]);
    let again = sim.party(store(&sim, readers[0]));
    assert_eq!(health(&mut sim, again, &key), Health::Forked { here: 6, there: Some(10) });
}

#[test]
fn an_empty_peer_gets_the_log_of_whoever_it_meets_first() {
    let World { mut sim, key, readers, .. } = world(5, 1, 5);
    only_the_fork_is_left_out(&mut sim, readers, &key, [6, 10]);
    let empty = sim.party_with(Memory::new(), NodeConfig::default());
    let wire = sim.connect(readers[0], empty);
    sim.run();
    sim.pass(Duration::from_secs(2));
    assert_eq!(sim.sync_state(wire, 1), SyncState::InSync);
    assert_eq!(health(&mut sim, empty, &key), Health::Sound);
    only_the_fork_is_left_out(&mut sim, [empty, readers[1]], &key, [6, 10]);
}
