//! Feeds that are kept out of a store: their space, their peers, restarts, and what the JavaScript finds.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use bytes::Bytes;
use multifeed_core::storage::{Batch, BatchId, Fault, FilePath, Memory, Op, StorageErrorKind};
use multifeed_core::{
    Event, FeedId, Layout, NodeConfig, NodeError, Outcome, StoreOptions, SyncState,
};
use multifeed_proto::FeedKey;
use util::{FIRST, Sim};

const LAYOUTS: [Layout; 2] = [Layout::Corestore, Layout::Numbered];

/// A party in this layout with writers `x`, `y`, `z`, which a second one has too, and a third without any.
fn setup(layout: Layout) -> (Sim, [(FeedId, FeedKey); 3]) {
    let mut sim = Sim::new(65_536);
    for _ in 0..3 {
        sim.party_in(Memory::new(), layout, NodeConfig::default());
    }
    let feeds = ["x", "y", "z"].map(|name| {
        let feed = sim.writer(0, name);
        let block = |n| Bytes::from(format!("{name}{n}").repeat(200));
        sim.append_all(0, feed, (0..50).map(block).collect());
        (feed, sim.load(0, feed).key)
    });
    sim.connect(0, 1);
    sim.sync();
    (sim, feeds)
}

fn block(sim: &mut Sim, party: usize, key: FeedKey) {
    let command = sim.parties[party].node.block(sim.now, key);
    sim.run();
    assert_eq!(sim.parties[party].results.remove(&command), Some(Ok(Outcome::Blocked)));
}

fn keys(sim: &mut Sim, party: usize) -> Vec<String> {
    sim.contents(party).into_keys().collect()
}

fn hex<const N: usize>(keys: [FeedKey; N]) -> Vec<String> {
    let mut hex = keys.map(|key| key.to_hex()).to_vec();
    hex.sort();
    hex
}

/// Bytes of all files of a party.
fn bytes(sim: &Sim, party: usize) -> usize {
    let memory = sim.parties[party].disk.memory();
    memory.paths().map(|path| memory.contents(path).map_or(0, |file| file.len())).sum()
}

fn again(sim: &mut Sim, party: usize, layout: Layout) {
    sim.restart(party);
    assert_eq!(sim.parties[party].node.layout(), layout);
}

#[test]
fn a_blocked_feed_is_gone_with_its_space_and_stays_away_from_old_and_new_peers() {
    for layout in LAYOUTS {
        let (mut sim, [(_, x), (_, y), (_, z)]) = setup(layout);
        let before = bytes(&sim, 1);
        block(&mut sim, 1, y);
        assert!(sim.parties[1].events.contains(&Event::FeedBlocked { key: y }));
        assert_eq!(keys(&mut sim, 1), hex([x, z]));
        assert!(bytes(&sim, 1) < before * 3 / 4, "{} of {before}", bytes(&sim, 1));
        assert!(sim.parties[1].node.find(&y).is_none());
        sim.sync();
        sim.connect(1, 2);
        sim.sync();
        assert_eq!(keys(&mut sim, 2), hex([x, z]), "{layout:?}");
        assert_eq!(keys(&mut sim, 0), hex([x, y, z]), "{layout:?}");
    }
}

#[test]
fn a_blocked_feed_is_not_fetched_again_after_a_restart_and_the_others_keep_their_names() {
    for layout in LAYOUTS {
        let (mut sim, [(_, x), (_, y), (_, z)]) = setup(layout);
        block(&mut sim, 1, x);
        let names = |sim: &Sim| -> Vec<(String, FeedKey)> {
            sim.parties[1].node.feeds(FIRST).map(|info| (info.name, info.key)).collect()
        };
        let before = names(&sim);
        again(&mut sim, 1, layout);
        assert_eq!(names(&sim), before);
        assert_eq!(sim.parties[1].node.blocked().collect::<Vec<_>>(), [&x]);
        sim.connect(0, 1);
        sim.sync();
        assert_eq!(keys(&mut sim, 1), hex([y, z]));
        let late = sim.writer(0, "late");
        sim.append(0, late, &[b"later"]);
        sim.sync();
        assert_eq!(keys(&mut sim, 1).len(), 3, "{layout:?}");
    }
}

#[test]
fn a_feed_can_be_kept_out_before_it_was_ever_heard_of() {
    for layout in LAYOUTS {
        let (mut sim, [(_, x), (_, y), (_, z)]) = setup(layout);
        block(&mut sim, 2, y);
        sim.connect(0, 2);
        sim.sync();
        assert_eq!(keys(&mut sim, 2), hex([x, z]));
    }
}

#[test]
fn an_unblocked_feed_comes_back_from_the_next_peer() {
    for layout in LAYOUTS {
        let (mut sim, [(_, x), (_, y), (_, z)]) = setup(layout);
        block(&mut sim, 1, y);
        let command = sim.parties[1].node.unblock(sim.now, y);
        sim.run();
        assert_eq!(sim.parties[1].results.remove(&command), Some(Ok(Outcome::Unblocked)));
        for restart in [false, true] {
            if restart {
                again(&mut sim, 1, layout);
            }
            sim.connect(0, 1);
            sim.sync();
            assert_eq!(keys(&mut sim, 1), hex([x, y, z]), "{layout:?}");
            assert_eq!(sim.contents(1), sim.contents(0));
        }
    }
}

#[test]
fn a_blocked_writer_never_signs_other_blocks_in_the_places_of_those_that_it_had() {
    for layout in LAYOUTS {
        for restart in [false, true] {
            let (mut sim, [(x_feed, x), ..]) = setup(layout);
            block(&mut sim, 0, x);
            let append = sim.parties[0].node.append(sim.now, x_feed, vec![Bytes::from("other")]);
            assert!(matches!(sim.finish(0, append), Err(NodeError::Blocked { .. })));
            let writer = sim.parties[0].node.writer(sim.now, FIRST, Some("x"), None);
            assert!(matches!(sim.finish(0, writer), Err(NodeError::Blocked { .. })));
            if restart {
                again(&mut sim, 0, layout);
                let writer = sim.parties[0].node.writer(sim.now, FIRST, Some("x"), None);
                assert!(matches!(sim.finish(0, writer), Err(NodeError::Blocked { .. })));
            }
            let unblock = sim.parties[0].node.unblock(sim.now, x);
            assert_eq!(sim.finish(0, unblock), Ok(Outcome::Unblocked));
            let feed = sim.parties[0].node.find(&x).unwrap();
            let append = sim.parties[0].node.append(sim.now, feed, vec![Bytes::from("other")]);
            let refused = sim.finish(0, append);
            assert!(
                matches!(refused, Err(NodeError::LostTail { .. } | NodeError::NotWritable { .. })),
                "{layout:?}: {refused:?}"
            );
            sim.connect(0, 1);
            sim.sync();
            assert_eq!(sim.load(0, feed).length, 50);
            // The key pair of a name comes back with the blocks; a random one is gone.
            let append = sim.parties[0].node.append(sim.now, feed, vec![Bytes::from("next")]);
            let went_on = sim.finish(0, append);
            assert_eq!(went_on.is_ok(), layout == Layout::Corestore, "{went_on:?}");
        }
    }
}

#[test]
fn who_waits_for_something_of_a_feed_that_is_blocked_is_told() {
    let (mut sim, [(_, x), ..]) = setup(Layout::Corestore);
    let feed = sim.parties[1].node.find(&x).unwrap();
    let node = &mut sim.parties[1].node;
    let waiting = [
        node.wait(sim.now, feed, 99),
        node.download(sim.now, feed, 60..70),
        node.update(sim.now, feed, Some(80)),
        node.seek(sim.now, feed, 1 << 30),
    ];
    sim.run();
    block(&mut sim, 1, x);
    for command in waiting {
        let result = sim.parties[1].results.remove(&command);
        assert!(matches!(result, Some(Err(NodeError::Blocked { .. }))), "{result:?}");
    }
}

#[test]
fn a_feed_is_blocked_in_the_middle_of_a_download_and_the_others_arrive() {
    for chunk in [1, 700] {
        let mut sim = Sim::new(chunk);
        let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
        let mut keys_of = Vec::new();
        for name in ["x", "y"] {
            let feed = sim.writer(a, name);
            sim.append_all(a, feed, (0..40).map(|n| Bytes::from(vec![n; 500])).collect());
            keys_of.push(sim.load(a, feed).key);
        }
        let wire = sim.connect(a, b);
        while sim.wires[wire].moved[0] < 12_000 {
            assert!(sim.step());
        }
        let command = sim.parties[b].node.block(sim.now, keys_of[0]);
        sim.sync();
        assert_eq!(sim.parties[b].results.remove(&command), Some(Ok(Outcome::Blocked)));
        assert_eq!(keys(&mut sim, b), [keys_of[1].to_hex()]);
        let blocks = sim.contents(b).remove(&keys_of[1].to_hex()).unwrap();
        assert!(blocks.len() == 40 && blocks.iter().all(Option::is_some));
        assert_eq!(sim.sync_state(wire, 0), SyncState::InSync);
    }
}

#[test]
fn a_full_disk_fails_the_command_and_the_feed_stays() {
    let (mut sim, [(_, x), ..]) = setup(Layout::Corestore);
    sim.parties[1].disk.set_fault(Some(Fault { after: 0, kind: StorageErrorKind::Full }));
    let command = sim.parties[1].node.block(sim.now, x);
    sim.run();
    assert!(matches!(sim.parties[1].results.remove(&command), Some(Err(NodeError::Storage(_)))));
    assert!(sim.parties[1].node.find(&x).is_some());
    assert_eq!(sim.parties[1].node.blocked().count(), 0);
}

#[test]
fn a_list_of_blocked_feeds_that_is_none_is_an_error_that_names_it() {
    let (sim, _) = setup(Layout::Corestore);
    let mut memory = sim.parties[1].disk.memory().clone();
    memory.unlock();
    let path = FilePath::new(&["multifeed.blocked"]);
    let ops = vec![Op::Write { path, offset: 0, data: Bytes::from("what?") }];
    memory.execute(&Batch { id: BatchId(0), after: None, ops });
    let mut party = util::Party::new(9, memory, NodeConfig::default(), sim.now);
    let open = party.node.open(sim.now, StoreOptions::default());
    party.drain(sim.now);
    let error = party.results.remove(&open).unwrap().unwrap_err();
    assert_eq!(error.code(), "ERR_STORE_DAMAGED");
    assert!(error.to_string().contains("multifeed.blocked"), "{error}");
}
