//! Peers that have proven nothing take no places of those that have, however many they are.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::net::SocketAddr;
use std::time::Duration;

use multifeed_core::storage::Memory;
use multifeed_core::{ConnectOptions, ConnectionId, Event, LobbyLimits, NodeConfig, SyncState};
use multifeed_proto::{PeerError, Role};
use util::Sim;

fn from(address: &str) -> ConnectOptions {
    address.parse::<SocketAddr>().unwrap().into()
}

fn config(places: usize, per_origin: usize) -> NodeConfig {
    let patience = Duration::from_secs(3);
    NodeConfig { strangers: LobbyLimits { places, per_origin, patience }, ..NodeConfig::default() }
}

/// A party with a feed that strangers connect to, and one without.
fn server(config: NodeConfig) -> Sim {
    let mut sim = Sim::new(65_536);
    let server = sim.party_with(Memory::new(), config);
    let feed = sim.writer(server, "a");
    sim.append(server, feed, &[b"block"]);
    sim.party(Memory::new());
    sim
}

/// Somebody connects and says nothing.
fn knock(sim: &mut Sim, options: ConnectOptions) -> ConnectionId {
    let now = sim.now;
    let party = &mut sim.parties[0];
    let id = party.node.connect_with(now, Role::Responder, options).unwrap();
    party.drain(now);
    id
}

fn open(sim: &Sim, ids: &[ConnectionId]) -> usize {
    ids.iter().filter(|id| !sim.parties[0].node.is_closed(**id)).count()
}

fn error_of(sim: &Sim, id: ConnectionId) -> Option<PeerError> {
    let closed = sim.parties[0].events.iter().find_map(|event| match event {
        Event::Closed { connection, error, .. } if *connection == id => Some(error.clone()),
        _ => None,
    });
    closed.expect("it is closed")
}

#[test]
fn strangers_have_so_many_places_and_the_oldest_gives_way() {
    let mut sim = server(config(50, 20));
    let ids: Vec<_> = (0..1_000).map(|_| knock(&mut sim, from("192.0.2.1:1"))).collect();
    assert_eq!(open(&sim, &ids), 20);
    assert_eq!(open(&sim, &ids[980..]), 20, "the newest are those that are in");
    assert_eq!(error_of(&sim, ids[0]), Some(PeerError::GaveWay));
    let others: Vec<_> =
        (0..1_000).map(|i| knock(&mut sim, from(&format!("198.51.100.{}:1", i % 200)))).collect();
    assert_eq!(open(&sim, &ids) + open(&sim, &others), 50);
}

#[test]
fn a_member_is_never_displaced_by_strangers() {
    let mut sim = server(config(50, 20));
    let options = [from("192.0.2.9:1"), ConnectOptions::default()];
    let wire = sim.connect_for(0, 1, options);
    sim.sync();
    for i in 0..5_000 {
        knock(&mut sim, from(&format!("192.0.2.{}:1", i % 250)));
    }
    let feed = sim.writer(1, "b");
    sim.append(1, feed, &[b"later"]);
    sim.sync();
    assert_eq!(sim.sync_state(wire, 0), SyncState::InSync);
    assert_eq!(sim.contents(0), sim.contents(1));
}

#[test]
fn an_honest_peer_gets_in_among_strangers_from_elsewhere() {
    let mut sim = server(config(50, 20));
    for i in 0..500 {
        knock(&mut sim, from(&format!("192.0.2.{}:1", i % 100)));
    }
    let options = [from("198.51.100.7:1"), ConnectOptions::default()];
    let wire = sim.connect_for(0, 1, options);
    for i in 0..500 {
        sim.step();
        knock(&mut sim, from(&format!("192.0.2.{}:1", i % 25)));
    }
    sim.sync();
    assert_eq!(sim.sync_state(wire, 0), SyncState::InSync);
}

#[test]
fn the_first_message_of_an_accepted_connection_is_due_soon() {
    let mut sim = server(NodeConfig::default());
    let accepted = knock(&mut sim, from("192.0.2.1:1"));
    let piped = knock(&mut sim, ConnectOptions::default());
    sim.pass(Duration::from_secs(3));
    assert_eq!(error_of(&sim, accepted), Some(PeerError::NothingCame));
    assert_eq!(open(&sim, &[piped]), 1, "who waits on a pipe waits longer");
    sim.pass(Duration::from_secs(8));
    assert_eq!(error_of(&sim, piped), Some(PeerError::NothingCame));
}

#[test]
fn connections_that_this_side_made_are_no_strangers() {
    let mut sim = server(config(5, 5));
    let now = sim.now;
    let node = &mut sim.parties[0].node;
    let ids: Vec<_> = (0..20).map(|_| node.connect(now, Role::Initiator).unwrap()).collect();
    sim.parties[0].drain(now);
    assert_eq!(open(&sim, &ids), 20);
}
