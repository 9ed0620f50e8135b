//! What a node tells of each feed and peer while they sync.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use bytes::Bytes;
use multifeed_core::storage::Memory;
use multifeed_core::{ConnectionId, Event, FeedId, NodeConfig, WaitingFor};
use util::Sim;

/// Two parties, of which the first has a writer of 200 blocks.
fn setup() -> (Sim, FeedId) {
    let mut sim = Sim::new(500);
    let (a, _) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "w");
    sim.append_all(
        a,
        feed,
        (0..200).map(|n| Bytes::from(format!("block {n}").repeat(10))).collect(),
    );
    (sim, feed)
}

#[test]
fn in_the_middle_of_a_download_it_is_known_who_has_what_and_how_much_is_missing() {
    let (mut sim, feed) = setup();
    let key = sim.load(0, feed).key;
    let wire = sim.connect(0, 1);
    let theirs = loop {
        assert!(sim.step());
        match sim.parties[1].node.find(&key) {
            Some(theirs) if sim.parties[1].node.feed(theirs).unwrap().blocks > 50 => break theirs,
            _ => {}
        }
    };
    let node = &sim.parties[1].node;
    let [from] = &node.peers(theirs).collect::<Vec<_>>()[..] else { panic!("one peer") };
    let stored = node.feed(theirs).unwrap().blocks;
    assert_eq!(from.remote_length, 200);
    assert_eq!(from.missing, 200 - stored);
    assert_eq!(from.waiting, Some(WaitingFor::Blocks { feed: key, missing: from.missing }));
    assert!(from.in_flight > 0 && from.blocks_received == stored);
    let counters = node.counters(sim.id(wire, 1));
    assert_eq!(counters.in_flight, from.in_flight);
    assert!(counters.window >= counters.in_flight);
}

#[test]
fn a_feed_is_told_to_be_in_sync_and_out_of_it_as_often_as_that_changes() {
    let (mut sim, feed) = setup();
    let wire = sim.connect(0, 1);
    sim.sync();
    let id = sim.id(wire, 0);
    let told = |sim: &mut Sim| -> Vec<bool> {
        std::mem::take(&mut sim.parties[0].events)
            .into_iter()
            .filter_map(|event| match event {
                Event::FeedInSync { connection, feed: of } if (connection, of) == (id, feed) => {
                    Some(true)
                }
                Event::FeedOutOfSync { connection, feed: of } if (connection, of) == (id, feed) => {
                    Some(false)
                }
                _ => None,
            })
            .collect()
    };
    assert_eq!(told(&mut sim).last(), Some(&true));
    sim.append(0, feed, &[b"more"]);
    sim.sync();
    assert_eq!(told(&mut sim), [false, true]);
}

#[test]
fn it_is_told_when_a_peer_begins_to_replicate_a_feed_and_when_it_ends() {
    let (mut sim, feed) = setup();
    let told = |sim: &Sim, at: usize| -> Vec<(bool, ConnectionId, FeedId)> {
        let events = sim.parties[at].events.iter();
        let told = events.filter_map(|event| match *event {
            Event::PeerOpened { connection, feed } => Some((true, connection, feed)),
            Event::PeerClosed { connection, feed } => Some((false, connection, feed)),
            _ => None,
        });
        told.collect()
    };
    let wire = sim.connect(0, 1);
    sim.sync();
    let id = sim.id(wire, 0);
    assert_eq!(told(&sim, 0), [(true, id, feed)]);
    let now = sim.now;
    sim.parties[1].node.disconnect(now, sim.wires[wire].ends[1].1);
    sim.run();
    assert_eq!(told(&sim, 0), [(true, id, feed), (false, id, feed)]);
    assert_eq!(told(&sim, 1).len(), 2);
    // Where the connection is cut, too.
    let wire = sim.connect(0, 1);
    sim.run();
    let id = sim.id(wire, 0);
    let now = sim.now;
    sim.parties[0].node.abort(now, id);
    sim.run();
    assert_eq!(told(&sim, 0)[2..], [(true, id, feed), (false, id, feed)]);
    let closed =
        |event: &Event| matches!(event, Event::Closed { connection, .. } if *connection == id);
    assert!(closed(sim.parties[0].events.last().unwrap()), "the last event of the connection");
}

#[test]
fn blocks_that_are_sent_are_told_of_in_ranges_where_that_is_wished() {
    for upload_events in [false, true] {
        let mut sim = Sim::new(65_536);
        let a =
            sim.party_with(Memory::new(), NodeConfig { upload_events, ..NodeConfig::default() });
        let b = sim.party(Memory::new());
        let feed = sim.writer(a, "w");
        sim.append_all(a, feed, (0..200).map(|n| Bytes::from(format!("block {n}"))).collect());
        let wire = sim.connect(a, b);
        sim.sync();
        let id = sim.id(wire, 0);
        let mut next = 0;
        let mut events = 0;
        for event in &sim.parties[a].events {
            let Event::Uploaded { connection, feed: of, start, length } = *event else { continue };
            assert_eq!((connection, of, start), (id, feed, next));
            next += length;
            events += 1;
        }
        assert_eq!(next, if upload_events { 200 } else { 0 });
        assert!(events < 50, "{events} events");
    }
}
