//! What a node tells of each feed and peer while they sync.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use bytes::Bytes;
use multifeed_core::storage::Memory;
use multifeed_core::{Event, FeedId, WaitingFor};
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
