//! Several multifeeds in one store and on one connection.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use std::time::Duration;

use multifeed_core::crypto::SecretKey;
use multifeed_core::storage::Memory;
use multifeed_core::{
    ConnectOptions, Event, MultifeedId, NodeError, Outcome, StoreOptions, SyncState, WaitingFor,
};
use multifeed_proto::{PeerError, Role};
use util::{FIRST, ROOT, Sim};

const OTHER: [u8; 32] = [8; 32];
const SECOND: MultifeedId = MultifeedId(1);

fn only(multifeed: MultifeedId) -> ConnectOptions {
    ConnectOptions { multifeeds: Some(vec![multifeed]), ..ConnectOptions::default() }
}

/// Two parties with both multifeeds and a writer in each.
fn two_parties(chunk: usize) -> (Sim, usize, usize) {
    let mut sim = Sim::new(chunk);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    for (party, name) in [(a, "a"), (b, "b")] {
        assert_eq!(sim.join(party, OTHER), SECOND);
        for multifeed in [FIRST, SECOND] {
            let feed = sim.writer_of(party, multifeed, name);
            sim.append(party, feed, &[name.as_bytes(), &[multifeed.0 as u8; 5]]);
        }
    }
    (sim, a, b)
}

#[test]
fn two_multifeeds_share_a_connection_and_keep_their_feeds_apart() {
    for chunk in [1, 2, 3, 65_536] {
        let (mut sim, a, b) = two_parties(chunk);
        let wire = sim.connect(a, b);
        sim.sync();
        for multifeed in [FIRST, SECOND] {
            let contents = sim.contents_of(a, multifeed);
            assert_eq!(contents.len(), 2, "chunk {chunk}");
            assert_eq!(contents, sim.contents_of(b, multifeed), "chunk {chunk}");
            for (party, id) in sim.wires[wire].ends {
                let node = &sim.parties[party].node;
                assert_eq!(node.multifeed_sync_state(id, multifeed), SyncState::InSync);
                let event = Event::MultifeedInSync { connection: id, multifeed };
                assert!(sim.parties[party].events.contains(&event), "chunk {chunk}");
            }
        }
        assert_ne!(sim.contents_of(a, FIRST), sim.contents_of(a, SECOND));
    }
}

#[test]
fn what_was_synced_is_there_after_a_restart_in_the_same_order() {
    let (mut sim, a, b) = two_parties(65_536);
    sim.connect(a, b);
    sim.sync();
    let names = |sim: &Sim, multifeed| -> Vec<(String, String)> {
        let feeds = sim.parties[a].node.feeds(multifeed);
        feeds.map(|feed| (feed.name, feed.key.to_hex())).collect()
    };
    let before = [names(&sim, FIRST), names(&sim, SECOND)];
    let contents = [sim.contents_of(a, FIRST), sim.contents_of(a, SECOND)];
    assert_eq!(before[0].iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "1"]);
    sim.restart(a);
    sim.join(a, OTHER);
    assert_eq!([names(&sim, FIRST), names(&sim, SECOND)], before);
    assert_eq!([sim.contents_of(a, FIRST), sim.contents_of(a, SECOND)], contents);
}

#[test]
fn joining_again_gives_the_same_multifeed() {
    let (mut sim, a, _) = two_parties(65_536);
    assert_eq!(sim.join(a, ROOT), FIRST);
    assert_eq!(sim.join(a, OTHER), SECOND);
    assert_eq!(sim.parties[a].node.multifeeds().collect::<Vec<_>>(), [FIRST, SECOND]);
}

#[test]
fn a_multifeed_that_the_peer_lacks_fails_alone() {
    let (mut sim, a, _) = two_parties(65_536);
    let c = sim.party(Memory::new());
    let wire = sim.connect(a, c);
    sim.run();
    let id = sim.id(wire, 0);
    let waiting = SyncState::Waiting(WaitingFor::Handshake);
    assert_eq!(sim.sync_state(wire, 0), waiting);
    let node = &sim.parties[a].node;
    assert_eq!(node.multifeed_sync_state(id, FIRST), SyncState::InSync);
    assert_eq!(node.multifeed_sync_state(id, SECOND), waiting);
    sim.pass(Duration::from_secs(11));
    let error = PeerError::MultifeedTimeout;
    let failed = Event::MultifeedFailed { connection: id, multifeed: SECOND, error };
    assert!(sim.parties[a].events.contains(&failed), "{:?}", sim.parties[a].events);
    assert_eq!(sim.parties[a].node.multifeed_sync_state(id, SECOND), SyncState::Closed);
    sim.sync();
    assert_eq!(sim.contents_of(a, FIRST), sim.contents_of(c, FIRST));
}

#[test]
fn a_multifeed_joined_late_on_either_side_is_taken_up_by_the_connection() {
    for (late, wait) in [(0, 1), (1, 1), (0, 60), (1, 60)] {
        let mut sim = Sim::new(65_536);
        let parties = [sim.party(Memory::new()), sim.party(Memory::new())];
        let early = parties[1 - late];
        sim.join(early, OTHER);
        let feed = sim.writer_of(early, SECOND, "w");
        sim.append(early, feed, &[b"early"]);
        sim.connect(parties[0], parties[1]);
        sim.pass(Duration::from_secs(wait));
        sim.join(parties[late], OTHER);
        sim.sync();
        let contents = sim.contents_of(parties[late], SECOND);
        assert_eq!(contents, sim.contents_of(early, SECOND), "late {late}, after {wait} s");
        assert_eq!(contents.len(), 1, "late {late}, after {wait} s");
    }
}

#[test]
fn a_connection_carries_only_what_it_is_told_to() {
    let (mut sim, a, b) = two_parties(65_536);
    let wire = sim.connect_for(a, b, [only(SECOND), ConnectOptions::default()]);
    sim.pass(Duration::from_secs(11));
    sim.sync();
    assert_eq!(sim.contents_of(a, FIRST).len(), 1);
    assert_eq!(sim.contents_of(a, SECOND), sim.contents_of(b, SECOND));
    let (now, id) = (sim.now, sim.id(wire, 0));
    sim.parties[a].node.attach(now, id, FIRST).unwrap();
    sim.sync();
    assert_eq!(sim.contents_of(a, FIRST), sim.contents_of(b, FIRST));
}

#[test]
fn a_feed_in_two_multifeeds_is_kept_and_sent_once() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    for party in [a, b] {
        sim.join(party, OTHER);
    }
    let secret = SecretKey::from_seed(&[3; 32]);
    let mut feeds = Vec::new();
    for multifeed in [FIRST, SECOND] {
        let command =
            sim.parties[a].node.writer(sim.now, multifeed, Some("w"), Some(secret.clone()));
        feeds.push(sim.finish(a, command));
    }
    assert_eq!(feeds[0], feeds[1]);
    let Ok(Outcome::Feed(feed)) = feeds[0] else { panic!("{feeds:?}") };
    sim.append(a, feed, &[b"once"]);
    let wire = sim.connect(a, b);
    sim.sync();
    assert_eq!(sim.contents_of(b, FIRST), sim.contents_of(a, FIRST));
    assert_eq!(sim.contents_of(b, SECOND), sim.contents_of(a, FIRST));
    let counters = sim.parties[b].node.counters(sim.id(wire, 1));
    assert_eq!((counters.feeds, counters.blocks_received), (1, 1));
    let length = sim.load(b, feed).length;
    assert_eq!(length, 1);
}

#[test]
fn feeds_that_join_later_are_offered_in_their_multifeed_alone() {
    let (mut sim, a, b) = two_parties(65_536);
    sim.connect(a, b);
    sim.sync();
    let late = sim.writer_of(a, SECOND, "late");
    sim.append(a, late, &[b"x"]);
    sim.sync();
    assert_eq!(sim.contents_of(b, FIRST).len(), 2);
    assert_eq!(sim.contents_of(b, SECOND).len(), 3);
}

#[test]
fn multifeeds_are_used_only_after_they_were_joined() {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let now = sim.now;
    let node = &mut sim.parties[a].node;
    assert_eq!(node.connect_with(now, Role::Initiator, only(SECOND)), None);
    let id = node.connect_with(now, Role::Initiator, only(FIRST)).unwrap();
    assert_eq!(node.attach(now, id, SECOND), Err(NodeError::UnknownMultifeed));
    let command = node.writer(sim.now, SECOND, Some("w"), None);
    assert_eq!(sim.finish(a, command), Err(NodeError::UnknownMultifeed));
    let command = sim.parties[a].node.open(sim.now, StoreOptions::default());
    assert_eq!(sim.finish(a, command), Err(NodeError::Closed));
}

#[test]
fn a_writer_with_a_key_pair_of_its_own_is_writable_after_a_restart() {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let secret = SecretKey::from_seed(&[3; 32]);
    let command = sim.parties[a].node.writer(sim.now, FIRST, Some("w"), Some(secret.clone()));
    let Ok(Outcome::Feed(feed)) = sim.finish(a, command) else { panic!("no writer") };
    sim.append(a, feed, &[b"before"]);
    sim.restart(a);
    let feed = sim.writer(a, "w");
    let info = sim.load(a, feed);
    assert!(info.writable && info.key == secret.public() && info.length == 1, "{info:?}");
    sim.append(a, feed, &[b"after"]);

    let other = SecretKey::from_seed(&[4; 32]);
    let command = sim.parties[a].node.writer(sim.now, FIRST, Some("w"), Some(other));
    let taken = sim.finish(a, command);
    assert!(matches!(taken, Err(NodeError::WriterExists { .. })), "{taken:?}");
}

#[test]
fn each_writer_without_a_name_is_a_new_one() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let mut feeds = Vec::new();
    for _ in 0..3 {
        let command = sim.parties[a].node.writer(sim.now, FIRST, None, None);
        let Ok(Outcome::Feed(feed)) = sim.finish(a, command) else { panic!("no writer") };
        assert!(sim.load(a, feed).writable);
        feeds.push(feed);
    }
    feeds.dedup();
    assert_eq!(feeds.len(), 3);
    let names: Vec<String> = sim.parties[a].node.feeds(FIRST).map(|feed| feed.name).collect();
    assert_eq!(names, ["0", "1", "2"]);
    assert_eq!(sim.writer(a, "1"), feeds[1]);
    // A name that stands for a feed of others is still free.
    sim.connect(a, b);
    sim.sync();
    let ours = sim.writer(b, "1");
    assert!(sim.load(b, ours).writable);
    assert_eq!(sim.parties[b].node.find_name(FIRST, "1"), Some(ours));
}

#[test]
fn a_key_pair_whose_feed_came_from_others_is_refused() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let secret = SecretKey::from_seed(&[3; 32]);
    let command = sim.parties[a].node.writer(sim.now, FIRST, Some("w"), Some(secret.clone()));
    assert!(sim.finish(a, command).is_ok());
    sim.connect(a, b);
    sim.sync();
    let command = sim.parties[b].node.writer(sim.now, FIRST, Some("mine"), Some(secret));
    let refused = sim.finish(b, command);
    assert!(matches!(refused, Err(NodeError::WriterExists { .. })), "{refused:?}");
}
