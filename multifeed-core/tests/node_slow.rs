//! Links that are slow, and peers that are not what slow links are.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::time::Duration;

use bytes::Bytes;
use multifeed_core::storage::Memory;
use multifeed_core::{Event, NodeConfig, Patience, SyncState, WaitingFor};
use util::Sim;

const MIB: usize = 1024 * 1024;
/// Largest block that the protocol carries.
const LARGE: usize = 8 * MIB - 16 * 1024;

fn noise(seed: u64, len: usize) -> Bytes {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = |_| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 56) as u8
    };
    (0..len).map(byte).collect::<Vec<u8>>().into()
}

/// What a slow link is like.
#[derive(Clone, Copy, Debug)]
struct Link {
    rate: u64,
    room: usize,
    /// The side that has the blocks connects.
    owner_connects: bool,
}

/// Two parties, the first with a writer with these blocks, on a slow link.
fn pair(link: Link, patience: Patience, feeds: &[Vec<Bytes>]) -> (Sim, usize) {
    let mut sim = Sim::new(MIB);
    let config = NodeConfig { patience, ..NodeConfig::default() };
    let a = sim.party_with(Memory::new(), config.clone());
    let b = sim.party_with(Memory::new(), config);
    for (at, blocks) in feeds.iter().enumerate() {
        let feed = sim.writer(a, &format!("w{at}"));
        sim.append_all(a, feed, blocks.clone());
    }
    let wire = if link.owner_connects { sim.connect(a, b) } else { sim.connect(b, a) };
    sim.wires[wire].rate = [Some(link.rate); 2];
    sim.wires[wire].room = link.room;
    (sim, wire)
}

fn stalled(sim: &Sim) -> Vec<WaitingFor> {
    let events = sim.parties.iter().flat_map(|party| &party.events);
    let stalled = events.filter_map(|event| match event {
        Event::Stalled { waiting, .. } => Some(waiting.clone()),
        _ => None,
    });
    stalled.collect()
}

fn is_in_sync(sim: &Sim, wire: usize) -> bool {
    (0..2).all(|end| sim.sync_state(wire, end) == SyncState::InSync)
}

/// Lets time pass until both are in sync; seconds.
#[track_caller]
fn sync_within(sim: &mut Sim, wire: usize, seconds: u64) -> u64 {
    for at in 0..seconds / 5 {
        if is_in_sync(sim, wire) {
            return at * 5;
        }
        sim.pass(Duration::from_secs(5));
    }
    let states = [sim.sync_state(wire, 0), sim.sync_state(wire, 1)];
    panic!("not in sync after {seconds} s: {states:?}, {:?}", stalled(sim));
}

#[test]
fn the_largest_block_arrives_over_3_kb_a_second() {
    for (owner_connects, room) in [(true, usize::MAX), (false, 65_536)] {
        let link = Link { rate: 3000, room, owner_connects };
        let (mut sim, wire) = pair(link, Patience::default(), &[vec![noise(1, LARGE)]]);
        let took = sync_within(&mut sim, wire, 3600);
        assert!(took > 2700, "{link:?}: {took} s");
        assert_eq!(stalled(&sim), [], "{link:?}");
        let moved = sim.wires[wire].moved.iter().max().unwrap();
        assert!(*moved < LARGE as u64 + 10_000, "{link:?}: sent more than once, {moved} bytes");
    }
}

#[test]
fn many_blocks_of_several_feeds_queue_on_a_slow_link_and_none_is_sent_twice() {
    for (owner_connects, room) in [(false, usize::MAX), (true, 20_000)] {
        let link = Link { rate: 3000, room, owner_connects };
        let large: Vec<Bytes> = (0..5).map(|at| noise(at, 150_000)).collect();
        let small: Vec<Bytes> = (0..40).map(|at| noise(at, 90)).collect();
        let mixed = vec![noise(50, 90), noise(51, 200_000), noise(52, 0), noise(53, 5000)];
        let feeds = [large, small, mixed];
        let bytes = feeds.iter().flatten().map(Bytes::len).sum::<usize>() as u64;
        let (mut sim, wire) = pair(link, Patience::default(), &feeds);
        sync_within(&mut sim, wire, 600);
        assert_eq!(stalled(&sim), [], "{link:?}");
        let moved = *sim.wires[wire].moved.iter().max().unwrap();
        assert!(moved < bytes + 30_000, "{link:?}: {moved} bytes for {bytes}");
    }
}

#[test]
fn both_directions_of_a_slow_link_are_used_at_once() {
    let link = Link { rate: 3000, room: usize::MAX, owner_connects: true };
    let (mut sim, wire) = pair(link, Patience::default(), &[vec![noise(1, 300_000)]]);
    let feed = sim.writer(1, "back");
    sim.append_all(1, feed, vec![noise(2, 300_000); 2]);
    sync_within(&mut sim, wire, 400);
    assert_eq!(stalled(&sim), []);
}

#[test]
fn a_link_above_the_least_rate_is_enough_and_one_below_it_is_named() {
    let link = Link { rate: 1500, room: 10_000, owner_connects: false };
    for (least_rate, enough) in [(1400, true), (3000, false)] {
        let patience = Patience { least_rate, ..Patience::default() };
        let (mut sim, wire) = pair(link, patience, &[vec![noise(1, 300_000)]]);
        if enough {
            sync_within(&mut sim, wire, 300);
            assert_eq!(stalled(&sim), []);
            continue;
        }
        sim.pass(Duration::from_secs(60));
        let slow = |waiting: &WaitingFor| {
            matches!(waiting, WaitingFor::Slow { missing: 1, least_rate: 3000, .. })
        };
        assert!(stalled(&sim).iter().any(slow), "{:?}", stalled(&sim));
    }
}

#[test]
fn a_peer_on_a_fast_link_is_asked_for_what_a_slow_one_takes_long_to_send() {
    let link = Link { rate: 3000, room: usize::MAX, owner_connects: true };
    let blocks: Vec<Bytes> = (0..12).map(|at| noise(at, 100_000)).collect();
    let (mut sim, slow) = pair(link, Patience::default(), &[blocks]);
    sim.pass(Duration::from_secs(2));
    let copy = sim.party(sim.parties[0].disk.memory().clone());
    sim.connect(1, copy);
    sim.pass(Duration::from_secs(20));
    let held = sim.contents(1).into_values().next().unwrap();
    assert_eq!(held.iter().flatten().count(), 12);
    // What the slow one sends late is dropped, and all are in sync.
    sync_within(&mut sim, slow, 600);
    sim.sync();
}

#[test]
fn two_slow_peers_send_little_twice() {
    let link = Link { rate: 3000, room: 20_000, owner_connects: true };
    let blocks: Vec<Bytes> = (0..60).map(|at| noise(at, 15_000)).collect();
    let bytes = blocks.iter().map(Bytes::len).sum::<usize>() as u64;
    let (mut sim, first) = pair(link, Patience::default(), &[blocks]);
    sim.pass(Duration::from_secs(2));
    let copy = sim.party(sim.parties[0].disk.memory().clone());
    let second = sim.connect(1, copy);
    sim.wires[second].rate = [Some(3000); 2];
    sim.wires[second].room = 20_000;
    sync_within(&mut sim, first, 600);
    sync_within(&mut sim, second, 600);
    let moved: u64 =
        [first, second].iter().map(|at| sim.wires[*at].moved.iter().max().unwrap()).sum();
    assert!(moved < bytes * 5 / 4, "{moved} bytes for {bytes}");
}

#[test]
fn time_for_which_a_process_was_suspended_is_not_held_against_the_peer() {
    let link = Link { rate: 3000, room: usize::MAX, owner_connects: false };
    let config = multifeed_proto::Config { idle_timeout: Duration::ZERO, ..Default::default() };
    let mut sim = Sim::new(MIB);
    let a = sim.party(Memory::new());
    let b = sim.party_with(Memory::new(), NodeConfig { connection: config, ..Default::default() });
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, vec![noise(1, 100_000), noise(2, 100_000)]);
    let wire = sim.connect(b, a);
    sim.wires[wire].rate = [Some(link.rate); 2];
    sim.pass(Duration::from_secs(10));
    let before = sim.parties[b].node.counters(sim.id(wire, 0)).in_flight;
    assert!(before > 0);
    sim.now = sim.now.after(Duration::from_secs(3600));
    let now = sim.now;
    sim.parties[b].node.handle_timeout(now);
    sim.parties[b].drain(now);
    assert_eq!(sim.parties[b].node.counters(sim.id(wire, 0)).in_flight, before);
    assert_eq!(stalled(&sim), []);
}
