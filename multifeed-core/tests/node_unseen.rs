//! Feeds that peers offer and of which nobody has given anything: shown, but neither recorded nor offered on;
//! and keys of this node's own, which do not cross multifeeds.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use std::time::Duration;

use multifeed_core::storage::{Batch, BatchId, FilePath, Memory, Op};
use multifeed_core::{
    ConnectOptions, Event, Layout, NodeConfig, NodeError, Outcome, Policy, StoreOptions,
};
use multifeed_proto::messages::Request;
use multifeed_proto::{FeedKey, to_hex};
use util::liar::Liar;
use util::raider::{Raider, keys};
use util::{FIRST, Party, ROOT, Sim};

fn feeds(sim: &Sim, at: usize) -> Vec<FeedKey> {
    sim.parties[at].node.feeds(FIRST).map(|feed| feed.key).collect()
}

/// Stops a party, and starts another one on its files.
fn restart(sim: &mut Sim, at: usize) -> usize {
    let disk = sim.parties[at].disk.clone();
    sim.party_on(disk, NodeConfig::default())
}

#[test]
fn an_empty_feed_is_shown_to_the_end_of_its_peer_and_for_a_while_after() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    sim.writer(b, "w");
    let wire = sim.connect(a, b);
    sim.sync();
    assert_eq!(feeds(&sim, a), feeds(&sim, b));
    let (now, id) = (sim.now, sim.id(wire, 0));
    sim.parties[a].node.abort(now, id);
    sim.wires[wire].cut = true;
    sim.pass(Duration::from_secs(590));
    assert_eq!(feeds(&sim, a).len(), 1);
    sim.pass(Duration::from_secs(20));
    assert_eq!(feeds(&sim, a), []);
    let forgotten = |event: &Event| matches!(event, Event::FeedForgotten { .. });
    assert!(sim.parties[a].events.iter().any(forgotten));
    sim.connect(a, b);
    sim.sync();
    assert_eq!(feeds(&sim, a), feeds(&sim, b), "offered again, it is there again");
}

#[test]
fn an_empty_feed_is_not_recorded_and_its_first_block_is() {
    for layout in [Layout::Corestore, Layout::Numbered] {
        let mut sim = Sim::new(65_536);
        let a = sim.party_in(Memory::new(), layout, NodeConfig::default());
        let b = sim.party(Memory::new());
        let feed = sim.writer(b, "w");
        let before = sim.parties[a].disk.memory().paths().count();
        sim.connect(a, b);
        sim.sync();
        assert_eq!(feeds(&sim, a).len(), 1, "{layout:?}");
        assert_eq!(sim.parties[a].disk.memory().paths().count(), before, "{layout:?}");
        let again = restart(&mut sim, a);
        assert_eq!(feeds(&sim, again), [], "{layout:?}");
        sim.append(b, feed, &[b"one", b"two"]);
        sim.sync();
        assert_eq!(sim.contents(a), sim.contents(b), "{layout:?}");
        let again = restart(&mut sim, a);
        assert_eq!(sim.contents(again), sim.contents(b), "{layout:?}");
    }
}

#[test]
fn three_in_a_line_pass_a_feed_on_with_its_first_block() {
    let mut sim = Sim::new(65_536);
    let [a, b, c] = [(); 3].map(|()| sim.party(Memory::new()));
    let feed = sim.writer(a, "w");
    sim.connect(a, b);
    sim.connect(b, c);
    sim.sync();
    assert_eq!((feeds(&sim, b).len(), feeds(&sim, c).len()), (1, 0));
    sim.append(a, feed, &[b"one"]);
    sim.sync();
    assert_eq!(sim.contents(c), sim.contents(a));
}

#[test]
fn a_sparse_feed_is_passed_on_with_its_first_signed_length() {
    let mut sim = Sim::new(65_536);
    let [a, b, c] = [(); 3].map(|()| {
        sim.party_with(Memory::new(), NodeConfig { sparse: true, ..NodeConfig::default() })
    });
    let feed = sim.writer(a, "w");
    sim.append(a, feed, &[b"one", b"two"]);
    sim.connect(a, b);
    sim.connect(b, c);
    sim.sync();
    let here = sim.parties[b].node.feeds(FIRST).next().unwrap().id;
    let command = sim.parties[b].node.update(sim.now, here, Some(2));
    sim.sync();
    let now = sim.now;
    sim.parties[b].drain(now);
    assert_eq!(sim.parties[b].results.remove(&command), Some(Ok(Outcome::Updated { length: 2 })));
    assert_eq!(feeds(&sim, c).len(), 1);
}

#[test]
fn made_up_feeds_give_way_to_those_of_peers_with_fewer() {
    let mut sim = Sim::new(65_536);
    let config = NodeConfig { max_unseen_feeds: 20, max_feeds: 100, ..NodeConfig::default() };
    let a = sim.party_with(Memory::new(), config);
    let mut raider = Raider::new(&mut sim, 90);
    raider.offer(&mut sim, 2, &keys(0, 50));
    assert_eq!(feeds(&sim, a).len(), 20);
    let refused = |event: &Event| matches!(event, Event::FeedsRefused { .. });
    let b = sim.party(Memory::new());
    for name in ["one", "two", "three"] {
        let feed = sim.writer(b, name);
        sim.append(b, feed, &[b"block"]);
    }
    sim.connect(a, b);
    sim.run();
    let theirs = feeds(&sim, b);
    assert!(theirs.iter().all(|key| feeds(&sim, a).contains(key)));
    let mut greedy = Raider::new(&mut sim, 91);
    greedy.offer(&mut sim, 2, &keys(1000, 90));
    assert!(sim.parties[a].events.iter().any(refused));
    assert!(theirs.iter().all(|key| feeds(&sim, a).contains(key)), "real feeds stay");
}

#[test]
fn a_writer_can_be_made_whatever_peers_gave() {
    let mut sim = Sim::new(65_536);
    let a = sim.party_with(Memory::new(), NodeConfig { max_feeds: 8, ..NodeConfig::default() });
    // Each round another peer with real feeds.
    for round in 0..6 {
        let b = sim.party(Memory::new());
        for n in 0..6 {
            let feed = sim.writer(b, &format!("{round}-{n}"));
            sim.append(b, feed, &[b"block"]);
        }
        sim.connect(a, b);
        sim.run();
    }
    assert!(feeds(&sim, a).len() <= 8);
    for n in 0..20 {
        sim.writer(a, &format!("mine {n}"));
    }
}

#[test]
fn the_room_for_writers_has_an_end() {
    let mut sim = Sim::new(65_536);
    let config = NodeConfig { max_feeds: 1, reserved_feeds: 2, ..NodeConfig::default() };
    let a = sim.party_with(Memory::new(), config);
    for name in ["one", "two", "three"] {
        sim.writer(a, name);
    }
    let command = sim.parties[a].node.writer(sim.now, FIRST, Some("four"), None);
    assert_eq!(sim.finish(a, command), Err(NodeError::TooManyFeeds { max: 1 }));
}

/// A store as a program left it that records all that peers offer: with a writer and so many keys of nobody.
fn full_of_junk(layout: Layout, count: u32) -> Memory {
    let mut sim = Sim::new(65_536);
    let a = sim.party_in(Memory::new(), layout, NodeConfig::default());
    let feed = sim.writer(a, "mine");
    sim.append(a, feed, &[b"block"]);
    let mut memory = sim.parties[a].disk.memory().clone();
    memory.unlock();
    match layout {
        Layout::Numbered => {
            let write = |n: u32, name: &str, data: Vec<u8>| Op::Write {
                path: FilePath::new(&[&(n + 1).to_string(), name]),
                offset: 0,
                data: data.into(),
            };
            let ops = (0..).zip(keys(0, count)).flat_map(|(n, key)| {
                [write(n, "key", key.0.to_vec()), write(n, "data", Vec::new())]
            });
            memory.execute(&Batch { id: BatchId(1), after: None, ops: ops.collect() });
            memory
        }
        Layout::Corestore => {
            // The list is a feed by name for those who know the name.
            let mut party = Party::new(50, memory, NodeConfig::default(), sim.now);
            let list = format!("@multifeed:{}:@multifeed:persist", to_hex(&ROOT));
            let lines = keys(0, count).into_iter().zip(1..).map(|(key, n)| {
                format!("{{\"key\":\"{}\",\"name\":\"{n}\"}}\n", key.to_hex()).into()
            });
            let open = party.node.open(sim.now, StoreOptions::default());
            party.drain(sim.now);
            assert_eq!(party.results.remove(&open), Some(Ok(Outcome::Opened)));
            let named = party.node.named(sim.now, &list);
            party.drain(sim.now);
            let Some(Ok(Outcome::Feed(list))) = party.results.remove(&named) else { panic!() };
            party.node.append(sim.now, list, lines.collect());
            party.drain(sim.now);
            let mut memory = party.disk.memory().clone();
            memory.unlock();
            memory
        }
    }
}

#[test]
fn a_store_that_is_full_of_made_up_feeds_opens_with_room() {
    for layout in [Layout::Corestore, Layout::Numbered] {
        let mut sim = Sim::new(65_536);
        let config = NodeConfig { max_feeds: 40, max_unseen_feeds: 10, ..NodeConfig::default() };
        let a = sim.party_in(full_of_junk(layout, 100), layout, config);
        assert_eq!(feeds(&sim, a).len(), 11, "{layout:?}: what is kept in memory");
        let b = sim.party(Memory::new());
        let theirs = sim.writer(b, "theirs");
        sim.append(b, theirs, &[b"real"]);
        sim.connect(a, b);
        sim.sync();
        let key = sim.parties[b].node.feed(theirs).unwrap().key;
        assert!(feeds(&sim, a).contains(&key), "{layout:?}");
        assert_eq!(feeds(&sim, b).len(), 2, "{layout:?}: only what is real is offered on");
        sim.writer(a, "another");
        // With the usual limits all are there, and nothing was lost of the records.
        let again = sim.parties[a].disk.clone();
        let again = sim.party_on(again, NodeConfig::default());
        assert_eq!(feeds(&sim, again).len(), 103, "{layout:?}");
        assert!(feeds(&sim, again).contains(&key), "{layout:?}");
    }
}

#[test]
fn keys_of_small_order_leave_no_trace() {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let before = sim.parties[a].disk.memory().paths().count();
    let mut liar = Liar::new(&mut sim);
    let mut one = [0; 32];
    one[0] = 1;
    for key in [[0; 32], one, [0xff; 32]] {
        liar.connection.offer(liar.root, &[FeedKey(key)]).unwrap();
        liar.run(&mut sim);
    }
    assert_eq!(feeds(&sim, a), []);
    assert_eq!(sim.parties[a].disk.memory().paths().count(), before);
}

/// A node with a feed by name and a writer of a second multifeed, each with a block, and their keys.
fn with_own_feeds(sim: &mut Sim) -> (usize, [FeedKey; 2]) {
    let a = sim.party(Memory::new());
    let second = sim.join(a, [9; 32]);
    let command = sim.parties[a].node.named(sim.now, "private");
    let Ok(Outcome::Feed(named)) = sim.finish(a, command) else { panic!("no feed by name") };
    let writer = sim.writer_of(a, second, "w");
    let own = [named, writer].map(|feed| {
        sim.append(a, feed, &[b"secret"]);
        sim.parties[a].node.feed(feed).unwrap().key
    });
    (a, own)
}

#[test]
fn feeds_by_name_and_writers_of_other_multifeeds_are_not_taken_in_by_their_key() {
    // Open in this process, and on the same files where neither is.
    for reopened in [false, true] {
        let mut sim = Sim::new(65_536);
        let (a, own) = with_own_feeds(&mut sim);
        if reopened {
            let again = restart(&mut sim, a);
            sim.parties.swap(a, again);
        }
        let mut liar = Liar::new(&mut sim);
        for key in own {
            liar.connection.offer(liar.root, &[key]).unwrap();
            liar.run(&mut sim);
            let channel = liar.open(&mut sim, key);
            let _ = liar.connection.request(channel, Request::default());
        }
        liar.run(&mut sim);
        assert_eq!(feeds(&sim, 0), [], "reopened: {reopened}");
        assert!(liar.data().is_empty());
        let third = sim.party(Memory::new());
        sim.connect(0, third);
        sim.run();
        assert_eq!(feeds(&sim, third), [], "reopened: {reopened}");
    }
}

#[test]
fn the_application_can_share_a_feed_of_its_own_in_another_multifeed() {
    let mut sim = Sim::new(65_536);
    let (a, own) = with_own_feeds(&mut sim);
    let allowed = own.iter().map(|key| (*key, Default::default())).collect();
    let options = ConnectOptions { policy: Policy::AllowList(allowed), ..Default::default() };
    let mut liar = Liar::connected(&mut sim, options);
    liar.connection.offer(liar.root, &own).unwrap();
    liar.run(&mut sim);
    assert_eq!(feeds(&sim, a).len(), 2);
}
