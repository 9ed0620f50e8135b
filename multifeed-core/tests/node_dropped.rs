//! Blocks that came and could not be kept: nobody waits for them, and nobody is blamed.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use multifeed_core::storage::{Fault, Memory, StorageErrorKind};
use multifeed_core::{ConnectOptions, Event, Fetch, NodeError, Policy, SyncState};
use util::Sim;

#[test]
fn who_sent_a_block_that_was_dropped_and_is_not_wanted_any_more_is_in_sync() {
    for after in 0..12 {
        let mut sim = Sim::new(65_536);
        let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
        let feed = sim.writer(a, "w");
        let key = sim.parties[a].node.feed(feed).unwrap().key;
        let policy = Policy::AllowList(BTreeMap::from([(key, Fetch::Newest(1))]));
        let options = ConnectOptions { policy, ..ConnectOptions::default() };
        let wire = sim.connect_for(a, b, [ConnectOptions::default(), options]);
        sim.sync();
        let fault = Fault { after, kind: StorageErrorKind::Full };
        sim.parties[b].disk.set_fault(Some(fault));
        sim.append(a, feed, &[b"old"]);
        sim.run();
        sim.append(a, feed, &[b"new"]);
        sim.run();
        sim.parties[b].disk.set_fault(None);
        sim.pass(Duration::from_secs(60));
        for end in 0..2 {
            assert_eq!(sim.sync_state(wire, end), SyncState::InSync, "after {after}, end {end}");
        }
        assert_eq!(sim.contents(b).values().next().unwrap()[1].as_deref(), Some(&b"new"[..]));
    }
}

/// A feed of which the second party has a part, and whose tree it cannot read; then it is connected.
fn unreadable_tree() -> (Sim, usize) {
    let mut sim = Sim::new(300);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "w");
    let block = |n: usize| Bytes::from(format!("block {n} {}", "-".repeat(n % 50)));
    sim.append_all(a, feed, (0..3000).map(block).collect());
    let wire = sim.connect(a, b);
    sim.wires[wire].cut_after = [Some(60_000), None];
    sim.run();
    sim.restart(b);
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let theirs = sim.parties[b].node.find(&key).unwrap();
    sim.load(b, theirs);
    sim.parties[b].unreadable = Some(("/tree", u32::MAX));
    let wire = sim.connect(a, b);
    (sim, wire)
}

#[test]
fn a_tree_that_cannot_be_read_while_downloading_is_told_and_tried_again_later() {
    let (mut sim, wire) = unreadable_tree();
    let mut steps = 0;
    while sim.step() {
        steps += 1;
        assert!(steps < 20_000, "it downloads again and again");
    }
    assert!(sim.parties[1].events.iter().any(|event| matches!(event, Event::FeedFailed { .. })));
    sim.parties[1].unreadable = None;
    sim.pass(Duration::from_secs(6));
    assert_eq!(sim.sync_state(wire, 1), SyncState::InSync);
    assert_eq!(sim.contents(0), sim.contents(1));
}

#[test]
fn a_tree_that_cannot_be_read_for_long_is_not_called_damaged() {
    let (mut sim, wire) = unreadable_tree();
    sim.pass(Duration::from_secs(200));
    let (_, left) = sim.parties[1].unreadable.unwrap();
    assert!(u32::MAX - left > 4, "{} tries", u32::MAX - left);
    let events = &sim.parties[1].events;
    assert!(events.iter().any(|event| matches!(event, Event::FeedFailed { .. })));
    let damaged = |event: &&Event| {
        matches!(event, Event::FeedFailed { error: NodeError::Damaged { .. }, .. })
    };
    assert_eq!(events.iter().find(damaged), None);
    sim.parties[1].unreadable = None;
    sim.pass(Duration::from_secs(200));
    assert_eq!(sim.sync_state(wire, 1), SyncState::InSync);
    assert_eq!(sim.contents(0), sim.contents(1));
}
