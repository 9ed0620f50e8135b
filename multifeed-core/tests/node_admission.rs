//! Which peers are let in, and what the others learn.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::collections::BTreeSet;
use std::time::Duration;

use multifeed_core::storage::Memory;
use multifeed_core::{ConnectOptions, Event, MultifeedId, Peers, SyncState};
use multifeed_proto::{Dialect, PeerError, PeerSecret, UserData};
use util::Sim;

fn options(secret: u8, peers: Peers) -> ConnectOptions {
    let identity = Some(PeerSecret::new([secret; 32]));
    ConnectOptions { peers, identity, ..ConnectOptions::default() }
}

fn listed(secrets: &[u8]) -> Peers {
    let keys = secrets.iter().map(|secret| PeerSecret::new([*secret; 32]).public());
    Peers::Listed(keys.collect::<BTreeSet<_>>())
}

fn two_parties(chunk: usize) -> Sim {
    let mut sim = Sim::new(chunk);
    for name in ["a", "b"] {
        let party = sim.party(Memory::new());
        let feed = sim.writer(party, name);
        sim.append(party, feed, &[name.as_bytes()]);
    }
    sim
}

#[test]
fn peers_on_each_others_lists_sync() {
    for chunk in [1, 65_536] {
        let mut sim = two_parties(chunk);
        sim.connect_for(0, 1, [options(1, listed(&[2, 9])), options(2, listed(&[1]))]);
        sim.sync();
        assert_eq!(sim.contents(0), sim.contents(1));
        let remote_public_key = PeerSecret::new([2; 32]).public();
        let connected = |event: &Event| matches!(event, Event::Connected { remote_public_key: key, .. } if *key == remote_public_key);
        assert!(sim.parties[0].events.iter().any(connected));
    }
}

#[test]
fn user_data_reaches_the_other_application_with_the_handshake() {
    let says = |text: &str| Some(UserData::from_json(text).unwrap());
    for chunk in [1, 65_536] {
        for data in [[says(r#"{"a": 1}"#), says("0")], [None, says(r#""b""#)], [None, None]] {
            let mut sim = two_parties(chunk);
            let options = data
                .clone()
                .map(|user_data| ConnectOptions { user_data, ..ConnectOptions::default() });
            let wire = sim.connect_for(0, 1, options);
            sim.sync();
            let other = [&data[1], &data[0]];
            for (end, expected) in other.into_iter().enumerate() {
                let expected = Event::Ready {
                    connection: sim.id(wire, end),
                    multifeed: MultifeedId(0),
                    dialect: Dialect::RootChannel,
                    user_data: expected.clone(),
                };
                let events = &sim.parties[end].events;
                let ready = events.iter().filter(|event| matches!(event, Event::Ready { .. }));
                assert_eq!(ready.collect::<Vec<_>>(), [&expected], "chunk {chunk}");
            }
        }
    }
}

#[test]
fn a_peer_that_is_not_on_the_list_learns_nothing_not_even_a_discovery_key() {
    for (refuser, chunk) in [(0, 1), (1, 1), (0, 65_536), (1, 65_536)] {
        let mut sim = two_parties(chunk);
        let mut ends = [options(1, Peers::Any), options(2, Peers::Any)];
        ends[refuser].peers = listed(&[9]);
        let wire = sim.connect_for(0, 1, ends);
        sim.run();
        let stranger = PeerSecret::new([if refuser == 0 { 2 } else { 1 }; 32]).public();
        let error = PeerError::NotAllowed { key: multifeed_proto::to_hex(&stranger) };
        assert_eq!(error.code(), "ERR_PEER_NOT_ALLOWED");
        let closed = sim.parties[refuser].events.iter().find_map(|event| match event {
            Event::Closed { error, unsent, .. } => Some((error.clone(), unsent.len())),
            _ => None,
        });
        assert_eq!(closed, Some((Some(error), 0)));
        // An initiator's first message has 59 bytes, a responder's only one 123 at most.
        assert!(sim.wires[wire].moved[refuser] <= 123, "{:?}", sim.wires[wire].moved);
        assert_eq!(sim.contents(0).len(), 1);
        assert_eq!(sim.contents(1).len(), 1);
    }
}

#[test]
fn the_application_lets_peers_in_one_by_one() {
    for chunk in [1, 65_536] {
        let mut sim = two_parties(chunk);
        let wire = sim.connect_for(0, 1, [options(1, Peers::Ask), options(2, Peers::Any)]);
        sim.run();
        let id = sim.id(wire, 0);
        assert!(!sim.parties[0].node.wants_read(id), "a peer that waits cannot fill the memory");
        sim.pass(Duration::from_secs(3));
        let now = sim.now;
        sim.parties[0].node.admit(now, id).unwrap();
        sim.sync();
        assert_eq!(sim.contents(0), sim.contents(1));
    }
}

#[test]
fn a_peer_that_nobody_decides_on_is_given_up() {
    let mut sim = two_parties(65_536);
    let wire = sim.connect_for(0, 1, [options(1, Peers::Ask), options(2, Peers::Any)]);
    sim.pass(Duration::from_secs(60));
    assert_eq!(sim.sync_state(wire, 0), SyncState::Closed);
    assert_eq!(sim.sync_state(wire, 1), SyncState::Closed);
}

#[test]
fn two_that_agree_to_it_sync_without_encryption_and_a_third_can_read_along() {
    let mut sim = two_parties(65_536);
    let feed = sim.writer(0, "a");
    let told = b"anybody on the path reads this";
    sim.append(0, feed, &[told]);
    let clear = || ConnectOptions { unencrypted: true, ..options(1, Peers::Any) };
    let wire = sim.connect_for(0, 1, [clear(), clear()]);
    let mut seen = Vec::new();
    loop {
        let (party, id) = sim.wires[wire].ends[0];
        let busy = sim.parties[party].drain(sim.now);
        seen.extend_from_slice(sim.parties[party].node.transmit(id));
        if !sim.step() && !busy {
            break;
        }
    }
    sim.sync();
    assert_eq!(sim.contents(0), sim.contents(1));
    assert!(seen.windows(told.len()).any(|window| window == told));
}

#[test]
fn one_that_encrypts_and_one_that_does_not_part_without_harm() {
    let mut sim = two_parties(65_536);
    let clear = ConnectOptions { unencrypted: true, ..options(1, Peers::Any) };
    let wire = sim.connect_for(0, 1, [clear, options(2, Peers::Any)]);
    sim.pass(Duration::from_secs(60));
    assert_eq!(sim.sync_state(wire, 0), SyncState::Closed);
    assert_eq!(sim.sync_state(wire, 1), SyncState::Closed);
    assert_eq!((sim.contents(0).len(), sim.contents(1).len()), (1, 1));
}
