//! Whole nodes against each other, in memory.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use bytes::Bytes;
use multifeed_core::storage::Memory;
use multifeed_core::{Event, NodeError, Outcome, StoreOptions, SyncState};
use std::time::Duration;
use util::Sim;

const CHUNKS: [usize; 4] = [1, 2, 3, 65_536];

fn numbered(count: u64, size: usize) -> Vec<Bytes> {
    (0..count)
        .map(|n| {
            let mut block = n.to_be_bytes().to_vec();
            block.resize(size.max(8), n as u8);
            Bytes::from(block)
        })
        .collect()
}

#[test]
fn two_writers_exchange_their_feeds_in_chunks_of_any_size() {
    for chunk in CHUNKS {
        let mut sim = Sim::new(chunk);
        let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
        let (feed_a, feed_b) = (sim.writer(a, "a"), sim.writer(b, "b"));
        sim.append(a, feed_a, &[b"hello", b"", b"world"]);
        sim.append(b, feed_b, &[b"one"]);
        sim.append(b, feed_b, &[b"two"]);
        sim.connect(a, b);
        sim.sync();
        assert_eq!(sim.contents(a), sim.contents(b));
        assert_eq!(sim.contents(a).len(), 2);
        assert_eq!(sim.contents(a).values().map(Vec::len).sum::<usize>(), 5);
    }
}

#[test]
fn empty_stores_are_in_sync() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    sim.connect(a, b);
    sim.sync();
}

#[test]
fn ten_thousand_blocks_need_one_signature_and_one_node_each() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "a");
    sim.append_all(a, feed, numbered(10_000, 100));
    let wire = sim.connect(a, b);
    sim.sync();
    assert_eq!(sim.contents(a), sim.contents(b));
    let received = sim.wires[wire].moved[0];
    assert!(received < 1_560_000, "{received} bytes received");
}

#[test]
fn a_feed_of_any_length_arrives_whole() {
    for length in [1, 2, 3, 7, 8, 9, 63, 64, 65, 1023, 8191, 8192, 8193, 20_000] {
        let mut sim = Sim::new(40_000);
        let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
        let feed = sim.writer(a, "a");
        sim.append_all(a, feed, numbered(length, 20));
        sim.connect(a, b);
        sim.sync();
        assert_eq!(sim.contents(a), sim.contents(b), "length {length}");
    }
}

#[test]
fn appends_reach_a_connected_peer() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "a");
    sim.connect(a, b);
    sim.sync();
    for round in 0..50u8 {
        sim.append(a, feed, &[&[round], &[round, round]]);
        sim.sync();
        assert_eq!(sim.contents(a), sim.contents(b), "round {round}");
    }
}

#[test]
fn nobody_is_told_to_be_in_sync_while_a_new_block_is_on_its_way() {
    for chunk in [[1, 1], [8, 65_536], [65_536, 1], [65_536, 65_536]] {
        let mut sim = Sim::new(65_536);
        let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
        let feed = sim.writer(a, "a");
        let wire = sim.connect(a, b);
        sim.wires[wire].chunk = chunk.map(Some);
        sim.sync();
        let key = sim.parties[a].node.feed(feed).unwrap().key;
        let there = sim.parties[b].node.find(&key).unwrap();
        for length in 1..20u64 {
            let command = sim.parties[a].node.append(sim.now, feed, numbered(1, 30));
            while sim.step() {
                let stored = sim.parties[b].node.feed(there).unwrap().blocks == length;
                let appended = sim.parties[a].node.feed(feed).unwrap().blocks == length;
                let told = sim.sync_state(wire, 0) == SyncState::InSync;
                assert!(!appended || !told || stored, "block {length}, chunks {chunk:?}");
            }
            assert!(sim.parties[a].results.contains_key(&command));
            assert_eq!(sim.sync_state(wire, 0), SyncState::InSync);
        }
    }
}

#[test]
fn a_writer_added_while_connected_reaches_the_peer() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    sim.connect(a, b);
    sim.sync();
    let feed = sim.writer(b, "late");
    sim.append(b, feed, &[b"x"]);
    sim.sync();
    assert_eq!(sim.contents(a), sim.contents(b));
    assert!(sim.parties[a].events.iter().any(|event| matches!(event, Event::FeedAdded { .. })));
}

#[test]
fn feeds_travel_over_a_party_in_the_middle() {
    let mut sim = Sim::new(65_536);
    let parties: Vec<usize> = (0..4).map(|_| sim.party(Memory::new())).collect();
    for (n, &party) in parties.iter().enumerate() {
        let feed = sim.writer(party, &format!("writer {n}"));
        sim.append_all(party, feed, numbered(100 * n as u64 + 3, 30));
    }
    for pair in parties.windows(2) {
        sim.connect(pair[0], pair[1]);
    }
    sim.sync();
    let contents = sim.contents(0);
    assert_eq!(contents.len(), 4);
    for party in 1..4 {
        assert_eq!(sim.contents(party), contents);
    }
}

#[test]
fn a_ring_of_peers_sends_each_block_about_once() {
    let mut sim = Sim::new(10_000);
    let parties: Vec<usize> = (0..3).map(|_| sim.party(Memory::new())).collect();
    let feed = sim.writer(0, "a");
    sim.append_all(0, feed, numbered(3_000, 50));
    for (a, b) in [(0, 1), (1, 2), (2, 0)] {
        sim.connect(parties[a], parties[b]);
    }
    sim.sync();
    assert_eq!(sim.contents(0), sim.contents(1));
    assert_eq!(sim.contents(0), sim.contents(2));
}

#[test]
fn a_cut_anywhere_is_healed_by_the_next_connection() {
    let mut sim = Sim::new(500);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let (feed_a, feed_b) = (sim.writer(a, "a"), sim.writer(b, "b"));
    sim.append_all(a, feed_a, numbered(400, 40));
    sim.append_all(b, feed_b, numbered(300, 40));
    for cut in 1..60 {
        let wire = sim.connect(a, b);
        sim.wires[wire].cut_after = [Some(cut * 37), None];
        sim.run();
        if cut % 10 == 0 {
            sim.restart(b);
        }
    }
    sim.connect(a, b);
    sim.sync();
    assert_eq!(sim.contents(a), sim.contents(b));
}

#[test]
fn a_store_opens_again_with_all_feeds_and_its_writer_goes_on() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "a");
    sim.append_all(a, feed, numbered(100, 10));
    sim.connect(a, b);
    sim.sync();
    let before = sim.contents(a);
    sim.restart(a);
    assert_eq!(sim.contents(a), before);
    let again = sim.writer(a, "a");
    assert_eq!(again, feed);
    sim.append(a, again, &[b"more"]);
    sim.restart(b);
    assert_eq!(sim.contents(b), before);
    sim.connect(b, a);
    sim.sync();
    assert_eq!(sim.contents(a), sim.contents(b));
}

#[test]
fn a_thousand_feeds_sync() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    for n in 0..1000u64 {
        let feed = sim.writer(a, &format!("w{n}"));
        if n % 3 != 0 {
            sim.append_all(a, feed, numbered(n % 7, 20));
        }
    }
    sim.connect(a, b);
    sim.sync();
    assert_eq!(sim.contents(a), sim.contents(b));
}

#[test]
fn another_root_key_is_a_timeout_that_says_so() {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let b = sim.parties.len();
    sim.parties.push(util::Party::new(9, Memory::new(), Default::default(), sim.now));
    let open = sim.parties[b].node.open(sim.now, StoreOptions::default());
    assert_eq!(sim.finish(b, open), Ok(Outcome::Opened));
    sim.join(b, [8; 32]);
    let wire = sim.connect(a, b);
    sim.pass(Duration::from_secs(11));
    assert_eq!(sim.sync_state(wire, 0), SyncState::Closed);
    let closed = sim.parties[a].events.iter().any(|event| {
        matches!(
            event,
            Event::Closed { error: Some(multifeed_proto::PeerError::MultifeedTimeout), .. }
        )
    });
    assert!(closed, "{:?}", sim.parties[a].events);
}

#[test]
fn leaving_in_order_ends_both_sides_without_an_error() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "a");
    sim.append_all(a, feed, numbered(1000, 100));
    let wire = sim.connect(a, b);
    sim.sync();
    let (now, id) = (sim.now, sim.id(wire, 0));
    sim.parties[a].node.disconnect(now, id);
    sim.run();
    for party in [a, b] {
        let closed =
            sim.parties[party].events.iter().find(|event| matches!(event, Event::Closed { .. }));
        assert!(matches!(closed, Some(Event::Closed { error: None, .. })), "{closed:?}");
    }
}

#[test]
fn the_end_of_a_connection_tells_its_final_counts() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "a");
    sim.append_all(a, feed, numbered(1000, 100));
    let wire = sim.connect(a, b);
    sim.sync();
    let (now, id) = (sim.now, sim.id(wire, 1));
    sim.parties[b].node.disconnect(now, id);
    sim.run();
    let counts = |party: usize| {
        sim.parties[party].events.iter().find_map(|event| {
            if let Event::Closed { counters, .. } = event { Some(*counters) } else { None }
        })
    };
    let (sent, received) = (counts(a).unwrap(), counts(b).unwrap());
    assert_eq!((sent.blocks_sent, sent.block_bytes_sent), (1000, 100_000));
    assert_eq!((received.blocks_received, received.block_bytes_received), (1000, 100_000));
    assert_eq!(received.wire_received, sim.wires[wire].moved[0]);
    assert_eq!((received.feeds, received.missing), (1, 0));
}

#[test]
fn a_feed_of_others_is_not_writable() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "a");
    sim.append(a, feed, &[b"x"]);
    sim.connect(a, b);
    sim.sync();
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let theirs = sim.parties[b].node.find(&key).unwrap();
    let command = sim.parties[b].node.append(sim.now, theirs, vec![Bytes::from_static(b"y")]);
    assert!(matches!(sim.finish(b, command), Err(NodeError::NotWritable { .. })));
}

#[test]
fn waiting_for_a_block_ends_when_it_is_stored() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "a");
    sim.connect(a, b);
    sim.sync();
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let theirs = sim.parties[b].node.find(&key).unwrap();
    let wait = sim.parties[b].node.wait(sim.now, theirs, 1);
    sim.append(a, feed, &[b"x"]);
    sim.run();
    assert!(!sim.parties[b].results.contains_key(&wait));
    sim.append(a, feed, &[b"y"]);
    sim.run();
    let block = Ok(Outcome::Block(Bytes::from_static(b"y")));
    assert_eq!(sim.parties[b].results.remove(&wait), Some(block));
}

#[test]
fn closing_answers_everything_and_releases_nothing_early() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "a");
    sim.append(a, feed, &[b"x"]);
    sim.connect(a, b);
    sim.sync();
    let wait = sim.parties[a].node.wait(sim.now, feed, 100);
    let append = sim.parties[a].node.append(sim.now, feed, vec![Bytes::from_static(b"y")]);
    let now = sim.now;
    let close = sim.parties[a].node.close(now);
    let late = sim.parties[a].node.append(sim.now, feed, vec![Bytes::from_static(b"z")]);
    sim.run();
    let results = &sim.parties[a].results;
    assert_eq!(results.get(&close), Some(&Ok(Outcome::Closed)));
    assert_eq!(results.get(&append), Some(&Ok(Outcome::Appended { start: 1, length: 1 })));
    assert_eq!(results.get(&wait), Some(&Err(NodeError::Closed)));
    assert_eq!(results.get(&late), Some(&Err(NodeError::Closed)));
}

#[test]
fn an_idle_connection_in_sync_wakes_only_to_keep_alive() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "a");
    sim.append(a, feed, &[b"x"]);
    sim.connect(a, b);
    sim.pass(Duration::from_secs(2));
    let end = sim.now.after(Duration::from_secs(100));
    let mut ticks = 0;
    while sim.tick(end) {
        sim.run();
        ticks += 1;
    }
    assert_eq!(sim.sync_state(0, 0), SyncState::InSync);
    assert!(ticks <= 44, "{ticks} timers in 100 seconds");
}
