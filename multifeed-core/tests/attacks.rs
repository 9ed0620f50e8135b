//! What attacks cost: memory by a counting allocator, work in pages compared, and whether a well-behaved
//! peer beside the attacker syncs at half speed at least, in turns of the simulation.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use multifeed_core::storage::Memory;
use multifeed_core::{NodeConfig, Outcome, SyncState};
use multifeed_proto::messages::{Have, Message, Open, Options, Request, Span, Status};
use multifeed_proto::{DiscoveryKey, PeerError, rle};
use peak_alloc::PeakAlloc;
use util::raider::{MANIFEST, REQUEST, Raider, keys, list};
use util::{FIRST, Sim};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// One test at a time, for what is measured is that of the process.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The most memory that was in use during `work` above what was before.
fn peak(work: impl FnOnce()) -> usize {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    work();
    MEMORY.peak_usage().saturating_sub(before)
}

/// A node, and an attacker that proved the root key.
fn raided(config: NodeConfig) -> (Sim, Raider) {
    let mut sim = Sim::new(65_536);
    sim.party_with(Memory::new(), config);
    let raider = Raider::new(&mut sim, 90);
    (sim, raider)
}

fn steps(sim: &Sim, raider: &Raider) -> u64 {
    sim.parties[0].node.counters(raider.id).steps
}

/// Turns that a well-behaved peer with 300 blocks takes to sync while `attack` goes on, one packet of it a turn.
fn turns(attack: &mut dyn FnMut(&mut Sim, &mut Raider, usize)) -> usize {
    let mut sim = Sim::new(2000);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let mut raider = Raider::new(&mut sim, 91);
    let feed = sim.writer(b, "w");
    sim.append_all(b, feed, (0..300u64).map(|n| Bytes::from(vec![n as u8; 400])).collect());
    let wire = sim.connect(a, b);
    for turn in 0..20_000 {
        attack(&mut sim, &mut raider, turn);
        raider.run(&mut sim);
        sim.step();
        let in_sync = |end| sim.sync_state(wire, end) == SyncState::InSync;
        if in_sync(0) && in_sync(1) {
            assert_eq!(sim.contents(b).values().next(), sim.contents(a).values().last());
            return turn;
        }
    }
    panic!("not in sync");
}

/// Checks that a well-behaved peer syncs at half speed at least beside this attack.
fn harmless(attack: &mut dyn FnMut(&mut Sim, &mut Raider, usize)) {
    let quiet = turns(&mut |_, _, _| {});
    let beside = turns(attack);
    assert!(beside <= 2 * quiet, "{beside} turns beside the attack, {quiet} without it");
}

fn have(start: u64, length: u64) -> Message {
    Message::Have(Have { start, length, bitfield: None, ack: false })
}

/// Every second block of a million.
fn scattered(unit: u64) -> Message {
    let bitfield = Some(rle::encode(&[0xaa; 131_072]).into());
    Message::Have(Have { start: unit << 20, length: 1 << 20, bitfield, ack: false })
}

#[test]
fn empty_requests_and_a_manifest_take_no_memory() {
    let _alone = alone();
    let (mut sim, mut raider) = raided(NodeConfig::default());
    // Of the beginning: nothing was asked for, so that answers wait.
    let taken = peak(|| {
        for _ in 0..100 {
            for _ in 0..2000 {
                raider.mux(REQUEST, "[]");
            }
            raider.run(&mut sim);
            sim.parties[0].events.clear();
        }
        raider.mux(MANIFEST, "{}");
        raider.run(&mut sim);
    });
    // What the attacker itself needs for two thousand of them is in it, and what the test keeps of events.
    assert!(taken < 2 * MIB, "{taken} bytes for 200,000 requests of 5 bytes");
    harmless(&mut |_, raider, _| (0..400).for_each(|_| raider.mux(REQUEST, "[]")));
}

#[test]
fn opens_of_unknown_keys_names_and_frames_of_strangers_take_a_few_kib_each() {
    let _alone = alone();
    let mut sim = Sim::new(65_536);
    sim.party(Memory::new());
    let mut strangers: Vec<_> = (0..40).map(|n| Raider::stranger(&mut sim, n)).collect();
    let key = |n: u32| {
        let mut key = [5; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        DiscoveryKey(key)
    };
    let taken = peak(|| {
        for raider in &mut strangers {
            let options = Options { extensions: vec!["n".repeat(60); 200], ack: None };
            raider.say(0, &Message::Options(options));
            for n in 0..1000 {
                let open = Open { discovery_key: key(n), capability: Some([1; 32]) };
                raider.say(n + 1, &Message::Open(open));
                if n % 20 == 0 {
                    raider.run(&mut sim);
                }
            }
            raider.run(&mut sim);
            let payload = vec![0; 16_000].into();
            raider.say(0, &Message::Extension { id: 99, payload });
            // All but its last byte.
            let bytes = raider.wire.transmit().to_vec();
            let now = sim.now;
            sim.parties[0].node.handle_bytes(now, raider.id, &bytes[..bytes.len() - 1]);
            raider.wire.transmitted(bytes.len());
        }
    });
    assert!(strangers.iter().all(|raider| raider.closed(&sim).is_none()));
    assert!(taken < 40 * 100 * KIB, "{taken} bytes for 40 strangers");
    let counted: usize =
        strangers.iter().map(|raider| sim.parties[0].node.peer_bytes(raider.id)).sum();
    assert!(counted < 40 * 80 * KIB, "{counted} bytes counted");
}

#[test]
fn strangers_have_a_sum_of_their_own_and_displace_no_member() {
    let _alone = alone();
    let config = NodeConfig { max_strangers_bytes: 100 * KIB, ..NodeConfig::default() };
    let (mut sim, member) = raided(config);
    let mut strangers: Vec<_> = (0..30).map(|n| Raider::stranger(&mut sim, n)).collect();
    for raider in &mut strangers {
        let options = Options { extensions: vec!["n".repeat(60); 200], ack: None };
        raider.say(0, &Message::Options(options));
        raider.run(&mut sim);
    }
    let over = |raider: &&Raider| matches!(raider.closed(&sim), Some(Some(PeerError::Memory { max, .. })) if max == 100 * KIB);
    let ended = strangers.iter().filter(over).count();
    assert!((10..30).contains(&ended), "{ended} strangers had to go");
    assert_eq!(member.closed(&sim), None);
}

#[test]
fn the_peer_that_holds_most_pays_first() {
    let _alone = alone();
    let config = NodeConfig { max_peers_bytes: MIB, ..NodeConfig::default() };
    let (mut sim, small) = raided(config);
    let mut large = Raider::new(&mut sim, 91);
    large.offer(&mut sim, 2, &keys(0, 1));
    for unit in 0..8 {
        large.say(2, &scattered(unit));
        large.run(&mut sim);
    }
    let error = large.closed(&sim).flatten();
    assert!(matches!(error, Some(PeerError::Memory { max: MIB, .. })), "{error:?}");
    assert_eq!(small.closed(&sim), None);
}

#[test]
fn scattered_blocks_take_memory_to_the_limit_and_then_the_connection_ends() {
    let _alone = alone();
    let mut config = NodeConfig::default();
    config.connection.max_announced = 4 * MIB;
    let (mut sim, mut raider) = raided(config);
    raider.offer(&mut sim, 2, &keys(0, 1));
    let taken = peak(|| {
        for unit in 0..64 {
            raider.say(2, &scattered(unit));
            raider.run(&mut sim);
            if raider.closed(&sim).is_some() {
                break;
            }
        }
    });
    let error = raider.closed(&sim).flatten();
    assert_eq!(error, Some(PeerError::Announced { max: 4 * MIB }));
    assert!(taken < 7 * MIB, "{taken} bytes");
}

#[test]
fn a_packet_costs_no_walk_over_what_a_peer_announced() {
    let _alone = alone();
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed = sim.writer(a, "w");
    let blocks = 200_000;
    sim.append_all(a, feed, (0..blocks).map(|_| Bytes::from_static(b"x")).collect());
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let mut raider = Raider::new(&mut sim, 90);
    raider.ask(&mut sim, 2, &[key]);
    for unit in 0..16 {
        raider.say(2, &scattered(unit));
    }
    raider.run(&mut sim);
    let before = steps(&sim, &raider);
    let mut sent = 0;
    for message in [have(0, 1), Message::Want(Span { start: 0, length: 8192 })] {
        for _ in 0..20_000 {
            raider.say(2, &message);
            sent += raider.wire.buffered();
            raider.run(&mut sim);
        }
    }
    let cost = steps(&sim, &raider) - before;
    // Of 2,048 pages announced, each packet looks at a fraction of one beyond what is free.
    let free = 16 * 40_000;
    assert!(cost < free + 200_000 + sent as u64 / 4, "{cost} pages for {sent} bytes");
    assert_eq!(raider.closed(&sim), None);
}

#[test]
fn flapping_and_taking_back_beside_many_gaps_leaves_a_good_peer_its_speed() {
    let _alone = alone();
    harmless(&mut |sim, raider, turn| {
        if turn == 0 {
            raider.offer(sim, 2, &keys(0, 1));
            (0..4).for_each(|unit| raider.say(2, &scattered(unit)));
        }
        for uploading in [false, true] {
            raider.say(2, &Message::Status(Status { uploading, downloading: true }));
        }
        raider.say(2, &Message::Unhave(Span { start: 0, length: 1 }));
        raider.say(2, &have(0, 1));
    });
}

#[test]
fn made_up_feeds_take_their_share_are_not_recorded_and_leave_room_for_a_writer() {
    let _alone = alone();
    let config = NodeConfig { max_unseen_per_peer: 1000, ..NodeConfig::default() };
    let (mut sim, mut raider) = raided(config);
    let files = sim.parties[0].disk.memory().paths().count();
    let offered = keys(0, 20_000);
    let text = list(&offered);
    let taken = peak(|| {
        raider.offer(&mut sim, 2, &offered);
    });
    drop(text);
    assert_eq!(sim.parties[0].node.feeds(FIRST).count(), 1000);
    assert_eq!(sim.parties[0].disk.memory().paths().count(), files, "something was written");
    assert!(taken < 40 * MIB, "{taken} bytes");
    let counted = sim.parties[0].node.peer_bytes(raider.id);
    assert!(counted < 16 * MIB, "{counted} bytes counted");
    let command = sim.parties[0].node.writer(sim.now, FIRST, Some("mine"), None);
    assert!(matches!(sim.finish(0, command), Ok(Outcome::Feed(_))));
    harmless(&mut |sim, raider, turn| {
        if turn < 50 {
            raider.offer(sim, 2 + 100 * turn as u32, &keys(100 * turn as u32, 100));
        }
    });
}

#[test]
fn a_channel_begun_anew_costs_no_walk_over_the_others() {
    let _alone = alone();
    let (mut sim, mut raider) = raided(NodeConfig::default());
    let offered = keys(0, 4000);
    raider.offer(&mut sim, 2, &offered);
    // Each has a block to be asked for, and a place in the queue for that.
    (2..4002).for_each(|channel| raider.say(channel, &have(0, 1)));
    raider.run(&mut sim);
    let taken = peak(|| {
        for round in 0..200 {
            raider.open(5000 + round, offered[0].discovery_key(), &offered[0].0);
            raider.say(5000 + round, &have(0, 1));
            raider.run(&mut sim);
        }
    });
    assert_eq!(raider.closed(&sim), None);
    assert!(taken < MIB, "{taken} bytes for a channel that begins anew");
}

#[test]
fn requests_that_wait_take_memory_to_a_limit_and_stop_the_reading() {
    let _alone = alone();
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed = sim.writer(a, "w");
    sim.append(a, feed, &[b"x"]);
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let mut raider = Raider::new(&mut sim, 90);
    raider.ask(&mut sim, 2, &[key]);
    sim.parties[a].disk_held = true;
    let request = Message::Request(Request { index: 0, ..Request::default() });
    let taken = peak(|| {
        for _ in 0..200 {
            (0..1000).for_each(|_| raider.say(2, &request));
            raider.run(&mut sim);
        }
    });
    assert!(!sim.parties[a].node.wants_read(raider.id));
    // The attacker's own queue is in it: 9 bytes for each that is not read.
    assert!(taken < 8 * MIB, "{taken} bytes for 200,000 requests");
}

#[test]
fn sums_of_what_peers_announce_do_not_overflow() {
    let _alone = alone();
    let (mut sim, mut raider) = raided(NodeConfig::default());
    raider.offer(&mut sim, 2, &keys(0, 2100));
    (2..2102).for_each(|channel| raider.say(channel, &have(0, (1 << 53) - 1)));
    raider.run(&mut sim);
    assert_eq!(sim.parties[0].node.counters(raider.id).missing, u64::MAX);
    let now = sim.now;
    sim.parties[0].node.abort(now, raider.id);
    sim.run();
    assert!(raider.closed(&sim).is_some());
}
