//! Serving and downloading while our own storage fails, now and then or for good.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::time::Duration;

use bytes::Bytes;
use multifeed_core::storage::{Fault, Memory, StorageErrorKind};
use multifeed_core::{Durability, Event, Layout, NodeConfig, Outcome, SyncState, WaitingFor};
use multifeed_proto::messages::Request;
use util::liar::setup;
use util::{FIRST, Sim};

fn numbered(count: u64) -> Vec<Bytes> {
    (0..count).map(|n| Bytes::from(format!("block {n} {}", "-".repeat(n as usize % 50)))).collect()
}

#[test]
fn blocks_that_could_not_be_read_for_a_while_are_sent_when_they_can() {
    for failures in 1..6 {
        let mut sim = Sim::new(65_536);
        let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
        let feed = sim.writer(a, "w");
        sim.append_all(a, feed, numbered(500));
        sim.parties[a].unreadable = Some(("/data", failures));
        let wire = sim.connect(a, b);
        sim.pass(Duration::from_secs(12));
        assert_eq!(sim.sync_state(wire, 1), SyncState::InSync, "{failures} failures");
        assert_eq!(sim.contents(a), sim.contents(b));
        let told = |event: &&Event| matches!(event, Event::FeedFailed { .. });
        assert_eq!(sim.parties[a].events.iter().filter(told).count(), 1);
    }
}

#[test]
fn an_answer_that_never_went_out_takes_no_node_from_a_later_one() {
    let (mut sim, _, key, mut liar) = setup(8);
    let channel = liar.ask(&mut sim, key);
    sim.parties[0].unreadable = Some(("/data", u32::MAX));
    // The second request claims the nodes that the answer to the first would have brought.
    for (index, nodes) in [(0, 0), (1, 0b1111)] {
        liar.connection.request(channel, Request { index, nodes, ..Request::default() }).unwrap();
    }
    for _ in 0..40 {
        liar.run(&mut sim);
        sim.pass(Duration::from_millis(500));
        liar.connection.handle_timeout(sim.now);
    }
    assert!(liar.data().is_empty());
    sim.parties[0].unreadable = None;
    for index in [0, 1] {
        liar.connection.request(channel, Request { index, ..Request::default() }).unwrap();
        liar.run(&mut sim);
    }
    for data in liar.data() {
        assert!(data.signature.is_some(), "block {} came without a signature", data.index);
        assert_eq!(data.nodes.len(), 3, "block {}", data.index);
    }
    assert_eq!(liar.data().len(), 2);
}

#[test]
fn blocks_that_cannot_be_read_for_long_are_taken_back_and_the_others_sent() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let (bad, good) = (sim.writer(a, "bad"), sim.writer(a, "good"));
    sim.append_all(a, bad, numbered(100));
    sim.append_all(a, good, numbered(100));
    let key = sim.parties[a].node.feed(bad).unwrap().key;
    let folder = multifeed_core::format::corestore::folder(&key.discovery_key());
    let path: &'static str = Box::leak(folder.join("data").as_str().to_owned().into_boxed_str());
    sim.parties[a].unreadable = Some((path, u32::MAX));
    let wire = sim.connect(a, b);
    // One after the other is tried alone.
    sim.pass(Duration::from_secs(600));
    assert_eq!(sim.sync_state(wire, 0), SyncState::Waiting(WaitingFor::Storage(key)));
    assert_eq!(sim.sync_state(wire, 1), SyncState::InSync);
    let held: Vec<usize> =
        sim.contents(b).values().map(|blocks| blocks.iter().flatten().count()).collect();
    assert!(held.contains(&100) && held.contains(&0), "{held:?}");
    assert!(sim.parties[a].events.iter().any(|event| matches!(event, Event::FeedFailed { .. })));
}

#[test]
fn blocks_that_were_taken_back_are_offered_again_soon_however_many_they_are() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, numbered(60));
    sim.parties[a].unreadable = Some(("/data", u32::MAX));
    let wire = sim.connect(a, b);
    while sim.parties[b].node.feeds(FIRST).count() == 0
        || sim.sync_state(wire, 1) != SyncState::InSync
    {
        sim.pass(Duration::from_secs(1));
    }
    assert_eq!(sim.contents(b).values().next().unwrap().iter().flatten().count(), 0);
    sim.parties[a].unreadable = None;
    sim.pass(Duration::from_secs(45));
    assert_eq!(sim.contents(a), sim.contents(b));
    for end in 0..2 {
        assert_eq!(sim.sync_state(wire, end), SyncState::InSync);
    }
}

#[test]
fn a_block_cut_from_the_data_file_is_fetched_again_from_another_peer() {
    let mut sim = Sim::new(65_536);
    let (a, b, c) = (sim.party(Memory::new()), sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, numbered(50));
    sim.connect(a, b);
    sim.sync();
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let path = multifeed_core::format::corestore::folder(&key.discovery_key()).join("data");
    sim.parties[b].cut(&path, 300);
    // The third party asks only the one whose file was cut, which gets the blocks back from the first.
    let wire = sim.connect(b, c);
    sim.pass(Duration::from_secs(3));
    assert_eq!(sim.sync_state(wire, 1), SyncState::InSync);
    assert_eq!(sim.contents(a), sim.contents(b));
    assert_eq!(sim.contents(a), sim.contents(c));
}

#[test]
fn blocks_that_counted_on_one_that_was_taken_back_are_asked_for_again() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, numbered(100));
    // Just long enough that the first block, on which all others build, is given up.
    sim.parties[a].unreadable = Some(("/data", 7));
    let wire = sim.connect(a, b);
    sim.pass(Duration::from_secs(6));
    assert_eq!(sim.sync_state(wire, 1), SyncState::InSync);
    let held = sim.contents(b).values().next().unwrap().iter().flatten().count();
    assert_eq!(held, 99);
    // It is offered again later.
    sim.pass(Duration::from_secs(6));
    assert_eq!(sim.sync_state(wire, 1), SyncState::InSync);
    assert_eq!(sim.contents(a), sim.contents(b));
}

/// A writer restored from an old copy asks a peer for the blocks that it lost, and appends one of them
/// again itself before the answers are in, at every moment there is.
#[test]
fn an_answer_whose_block_came_from_elsewhere_meanwhile_still_brings_its_nodes() {
    let mut original = Sim::new(65_536);
    let (a, b) = (original.party(Memory::new()), original.party(Memory::new()));
    let feed = original.writer(a, "w");
    let blocks = numbered(9);
    original.append_all(a, feed, blocks[..3].to_vec());
    let copy = original.parties[a].disk.memory().clone();
    original.append_all(a, feed, blocks[3..].to_vec());
    original.connect(a, b);
    original.sync();
    let (whole, peer) = (original.contents(a), original.parties[b].disk.memory().clone());

    let mut overtaken = 0;
    for steps in 0..200 {
        let mut sim = Sim::new(60);
        let parties = [&copy, &peer].map(|memory| {
            let mut memory = memory.clone();
            memory.unlock();
            sim.party(memory)
        });
        let feed = sim.writer(parties[0], "w");
        let wire = sim.connect(parties[0], parties[1]);
        for _ in 0..steps {
            sim.step();
        }
        let received = sim.parties[parties[0]].node.counters(sim.id(wire, 0)).block_bytes_received;
        let length = sim.load(parties[0], feed).length;
        if length == 3 {
            sim.append_all(parties[0], feed, blocks[3..4].to_vec());
            overtaken += u64::from(received == 0);
        }
        sim.run();
        assert_eq!(sim.sync_state(wire, 0), SyncState::InSync, "after {steps} steps");
        assert_eq!(sim.contents(parties[0]), whole, "after {steps} steps");
        if length > 3 {
            assert!(overtaken > 20, "{overtaken}: the append never came between");
            return;
        }
    }
    panic!("nothing arrived");
}

#[test]
fn a_request_whose_feed_fails_meanwhile_is_answered_when_the_feed_is_back() {
    let (mut sim, feed, key, _) = setup(2000);
    sim.restart(0);
    let mut liar = util::liar::Liar::new(&mut sim);
    let channel = liar.ask(&mut sim, key);
    sim.load(0, feed);
    sim.parties[0].disk_held = true;
    sim.parties[0].node.append(sim.now, feed, vec![Bytes::from_static(b"lost")]);
    liar.run(&mut sim);
    // Its proof needs pages of the tree that are not in memory.
    liar.connection.request(channel, Request { index: 700, ..Request::default() }).unwrap();
    liar.run(&mut sim);
    sim.parties[0].disk.set_fault(Some(Fault { after: 0, kind: StorageErrorKind::Full }));
    sim.parties[0].disk_held = false;
    liar.run(&mut sim);
    assert!(sim.parties[0].events.iter().any(|event| matches!(event, Event::FeedFailed { .. })));
    assert!(liar.data().is_empty());
    sim.parties[0].disk.set_fault(None);
    sim.pass(Duration::from_secs(6));
    liar.run(&mut sim);
    assert_eq!(liar.data().iter().map(|data| data.index).collect::<Vec<_>>(), [700]);
}

#[test]
fn a_disk_that_stays_full_is_tried_ever_more_rarely_and_the_stall_is_named() {
    let mut sim = Sim::new(2000);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, numbered(500));
    let fault = Fault { after: 12, kind: StorageErrorKind::Full };
    sim.parties[b].disk.set_fault(Some(fault));
    let wire = sim.connect(a, b);
    sim.pass(Duration::from_secs(60));
    let count = |wanted: fn(&Event) -> bool| {
        sim.parties[b].events.iter().filter(|event| wanted(event)).count()
    };
    let failures = count(|event| matches!(event, Event::FeedFailed { .. }));
    assert!((2..=5).contains(&failures), "{failures} attempts in a minute");
    assert!(count(|event| matches!(event, Event::Stalled { .. })) > 0);
    sim.parties[b].disk.set_fault(None);
    sim.pass(Duration::from_secs(80));
    assert_eq!(sim.sync_state(wire, 1), SyncState::InSync);
    assert_eq!(sim.contents(a), sim.contents(b));
}

#[test]
fn nothing_of_an_append_that_is_not_stored_gets_out_with_an_older_block() {
    let (mut sim, feed, key, mut liar) = setup(8);
    let channel = liar.ask(&mut sim, key);
    sim.parties[0].disk_held = true;
    sim.parties[0].node.append(sim.now, feed, vec![Bytes::from_static(b"lost")]);
    liar.run(&mut sim);
    liar.connection.request(channel, Request { index: 0, ..Request::default() }).unwrap();
    liar.run(&mut sim);
    sim.parties[0].disk.set_fault(Some(Fault { after: 0, kind: StorageErrorKind::Full }));
    sim.parties[0].disk_held = false;
    liar.run(&mut sim);
    let [data] = &liar.data()[..] else { panic!("block 0 was not sent once") };
    assert!(data.signature.is_some());
    assert_eq!(data.nodes.len(), 3, "the nodes of a log of 8 blocks");
}

#[test]
fn blocks_found_when_a_feed_is_opened_again_are_told_to_peers() {
    for after in 0..12 {
        let mut sim = Sim::new(65_536);
        let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
        let feed = sim.writer(a, "w");
        sim.append_all(a, feed, numbered(3));
        sim.connect(a, b);
        sim.sync();
        sim.parties[a].disk.set_fault(Some(Fault { after, kind: StorageErrorKind::Full }));
        sim.parties[a].node.append(sim.now, feed, numbered(4).split_off(3));
        sim.run();
        sim.parties[a].disk.set_fault(None);
        sim.pass(Duration::from_secs(30));
        assert_eq!(sim.contents(a), sim.contents(b), "after {after} changes");
    }
}

#[test]
fn a_feed_whose_line_could_not_be_written_is_in_the_list_after_the_disk_was_full() {
    for after in 0..30 {
        let mut sim = Sim::new(65_536);
        let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
        for name in ["v", "w"] {
            let feed = sim.writer(a, name);
            sim.append_all(a, feed, numbered(3));
        }
        sim.parties[b].disk.set_fault(Some(Fault { after, kind: StorageErrorKind::Full }));
        let wire = sim.connect(a, b);
        sim.pass(Duration::from_secs(2));
        let third = sim.writer(a, "x");
        sim.append_all(a, third, numbered(3));
        sim.pass(Duration::from_secs(2));
        sim.parties[b].disk.set_fault(None);
        sim.pass(Duration::from_secs(30));
        assert_eq!(sim.sync_state(wire, 1), SyncState::InSync, "after {after} changes");
        sim.restart(b);
        assert_eq!(sim.contents(a), sim.contents(b), "after {after} changes");
    }
}

#[test]
fn blocks_whose_sync_failed_are_synced_before_they_count() {
    for after in 0..20 {
        let config = NodeConfig { durability: Durability::Power, ..NodeConfig::default() };
        let mut sim = Sim::new(65_536);
        let (a, b) = (sim.party_with(Memory::new(), config), sim.party(Memory::new()));
        let feed = sim.writer(a, "w");
        sim.append_all(a, feed, numbered(3));
        sim.connect(a, b);
        sim.sync();
        sim.parties[a].disk.set_fault(Some(Fault { after, kind: StorageErrorKind::Full }));
        sim.parties[a].node.append(sim.now, feed, numbered(4).split_off(3));
        sim.run();
        sim.parties[a].disk.set_fault(None);
        sim.pass(Duration::from_secs(30));
        let held = sim.contents(b).into_values().next().unwrap().len();
        let count = sim.parties[a].disk.effects().len();
        let memory = sim.parties[a].disk.state_after_power_loss(count, |_| false);
        let mut again = Sim::new(65_536);
        let a = again.party(memory);
        let feed = again.writer(a, "w");
        assert!(again.load(a, feed).length >= held as u64, "after {after} changes");
    }
}

/// A party with a full disk is asked for a writer, while a peer is connected.
fn writer_on_a_full_disk(layout: Layout, after: u64) -> (Sim, [usize; 2]) {
    let mut sim = Sim::new(65_536);
    let a = sim.party_in(Memory::new(), layout, NodeConfig::default());
    let b = sim.party(Memory::new());
    sim.connect(a, b);
    sim.sync();
    sim.parties[a].disk.set_fault(Some(Fault { after, kind: StorageErrorKind::Full }));
    sim.parties[a].node.writer(sim.now, FIRST, Some("w"), None);
    sim.run();
    (sim, [a, b])
}

#[test]
fn peers_hear_of_no_writer_that_is_not_recorded() {
    for layout in [Layout::Corestore, Layout::Numbered] {
        for after in 0..20 {
            let (mut sim, [a, b]) = writer_on_a_full_disk(layout, after);
            let mut again = Sim::new(65_536);
            let mut memory = sim.parties[a].disk.memory().clone();
            memory.set_fault(None);
            let crashed = again.party(memory);
            let known = again.contents(crashed);
            for key in sim.contents(b).keys() {
                assert!(known.contains_key(key), "{layout:?}, after {after} changes");
            }
            sim.parties[a].disk.set_fault(None);
            sim.pass(Duration::from_secs(30));
            assert_eq!(sim.contents(b).len(), 1, "{layout:?}, after {after} changes");
        }
    }
}

#[test]
fn a_writer_that_was_not_recorded_is_before_it_is_written() {
    for layout in [Layout::Corestore, Layout::Numbered] {
        for after in 0..20 {
            let (mut sim, [a, _]) = writer_on_a_full_disk(layout, after);
            sim.parties[a].disk.set_fault(None);
            let command = sim.parties[a].node.writer(sim.now, FIRST, Some("w"), None);
            sim.pass(Duration::from_secs(10));
            let result = sim.parties[a].results.remove(&command);
            let Some(Ok(Outcome::Feed(feed))) = result else {
                panic!("{layout:?}, after {after} changes: {result:?}")
            };
            sim.append(a, feed, &[b"block"]);
            let contents = sim.contents(a);
            let mut again = Sim::new(65_536);
            let a = again.party(sim.parties[a].disk.memory().clone());
            assert_eq!(again.contents(a), contents, "{layout:?}, after {after} changes");
        }
    }
}

/// Two parties that are in sync, and the disk of the second is full since.
fn full_disk_of_the_second() -> (Sim, [usize; 2], usize) {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let wire = sim.connect(a, b);
    sim.sync();
    sim.parties[b].disk.set_fault(Some(Fault { after: 0, kind: StorageErrorKind::Full }));
    (sim, [a, b], wire)
}

#[test]
fn a_list_that_cannot_be_opened_again_at_once_gets_its_lines_later() {
    let (mut sim, [a, b], wire) = full_disk_of_the_second();
    let feed = sim.writer(a, "w");
    sim.append(a, feed, &[b"block"]);
    sim.run();
    sim.parties[b].unreadable = Some(("/bitfield", u32::MAX));
    sim.pass(Duration::from_secs(30));
    sim.parties[b].unreadable = None;
    sim.parties[b].disk.set_fault(None);
    sim.pass(Duration::from_secs(100));
    assert_eq!(sim.sync_state(wire, 1), SyncState::InSync);
    sim.restart(b);
    assert_eq!(sim.contents(a), sim.contents(b));
}

#[test]
fn a_list_gets_the_lines_that_it_lacks_also_when_another_came_first() {
    let (mut sim, [a, b], wire) = full_disk_of_the_second();
    for name in ["v", "w"] {
        let feed = sim.writer(a, name);
        sim.append(a, feed, &[b"block"]);
        sim.run();
        sim.parties[b].disk.set_fault(None);
    }
    sim.pass(Duration::from_secs(30));
    assert_eq!(sim.sync_state(wire, 1), SyncState::InSync);
    sim.restart(b);
    assert_eq!(sim.contents(a), sim.contents(b));
}

#[test]
fn a_block_that_takes_longer_than_a_request_may_be_silent_arrives() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "w");
    let wire = sim.connect(a, b);
    sim.sync();
    sim.wires[wire].chunk = [Some(1000), None];
    sim.append_all(a, feed, vec![Bytes::from(vec![7; 60_000])]);
    // A thousand bytes a second.
    for _ in 0..100 {
        sim.step();
        let end = sim.now.after(Duration::from_secs(1));
        while sim.tick(end) {}
    }
    sim.run();
    assert_eq!(sim.sync_state(wire, 1), SyncState::InSync);
    assert_eq!(sim.contents(a), sim.contents(b));
}
