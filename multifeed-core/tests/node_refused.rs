//! Blocks that a peer announced and does not send: asked for again, and taken whenever they come.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use multifeed_core::storage::Memory;
use multifeed_core::{NodeConfig, SyncState, WaitingFor};
use multifeed_proto::messages::{Data, Request, Span};
use multifeed_proto::{ChannelId, FeedKey};
use util::Sim;
use util::liar::Liar;

/// A peer that sends the blocks of a feed when it is told to, and a node that wants them. A second node has
/// them, too, and is not connected.
struct Slow {
    sim: Sim,
    liar: Liar,
    channel: ChannelId,
    key: FeedKey,
    /// True answers, by block, to the requests that came.
    answers: Vec<Data>,
    taken: usize,
}

const COUNT: u64 = 10;

impl Slow {
    fn new() -> Self {
        Self::with(COUNT)
    }

    fn with(count: u64) -> Self {
        let (source, _, key, mut asker) = util::liar::setup(count);
        let mut source = source;
        let from = asker.ask(&mut source, key);
        for index in 0..count {
            asker.connection.request(from, Request { index, ..Request::default() }).unwrap();
        }
        asker.run(&mut source);
        let answers: Vec<Data> = asker.data().into_iter().cloned().collect();
        assert_eq!(answers.len() as u64, count);
        let mut sim = Sim::new(65_536);
        sim.party(Memory::new());
        sim.party(source.parties[0].disk.memory().clone());
        let mut liar = Liar::new(&mut sim);
        liar.connection.request_feeds(liar.root, &[]).unwrap();
        let channel = liar.offer(&mut sim, key);
        let whole = Span { start: 0, length: 1 << 20 };
        liar.connection.have_bitfield(channel, whole, Bytes::new()).unwrap();
        liar.have(&mut sim, channel, 0, count);
        Self { sim, liar, channel, key, answers, taken: 0 }
    }

    /// All blocks were asked for, and given up.
    fn given_up(count: u64) -> Self {
        let mut slow = Self::with(count);
        while !matches!(slow.state(), SyncState::Waiting(WaitingFor::Refused { .. })) {
            slow.pass(1);
        }
        slow
    }

    /// All blocks but the last have come.
    fn all_but_one() -> Self {
        let mut slow = Self::new();
        for block in 0..COUNT - 1 {
            slow.send(block);
        }
        slow
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.sim.pass(Duration::from_secs(1));
            self.liar.connection.handle_timeout(self.sim.now);
            self.liar.run(&mut self.sim);
        }
    }

    /// The blocks that were asked for since the last call.
    fn asked(&mut self) -> Vec<u64> {
        let all = self.liar.requests();
        let new = all[self.taken..].to_vec();
        self.taken = all.len();
        new
    }

    fn send(&mut self, block: u64) {
        let data = self.answers[block as usize].clone();
        self.liar.connection.send_data(self.channel, data).unwrap();
        self.liar.run(&mut self.sim);
    }

    fn state(&self) -> SyncState {
        self.sim.parties[0].node.sync_state(self.liar.id)
    }

    #[track_caller]
    fn assert_in_sync(&self, wire: usize) {
        for end in 0..2 {
            assert_eq!(self.sim.sync_state(wire, end), SyncState::InSync, "end {end}");
        }
    }

    fn held(&self) -> u64 {
        let node = &self.sim.parties[0].node;
        node.find(&self.key).and_then(|feed| node.feed(feed)).map_or(0, |feed| feed.blocks)
    }
}

#[test]
fn an_answer_that_comes_after_its_request_was_given_up_is_taken() {
    let mut slow = Slow::given_up(COUNT);
    slow.asked();
    for block in 0..COUNT {
        slow.send(block);
    }
    assert!(slow.asked().is_empty());
    assert_eq!((slow.held(), slow.state()), (COUNT, SyncState::InSync));
}

#[test]
fn a_block_that_was_given_up_is_not_taken_when_it_comes_late() {
    let mut slow = Slow::given_up(COUNT);
    slow.send(0);
    let now = slow.sim.now;
    let node = &mut slow.sim.parties[0].node;
    let feed = node.find(&slow.key).unwrap();
    node.clear(now, feed, 3..4);
    slow.pass(1);
    for block in 1..COUNT {
        slow.send(block);
    }
    assert_eq!((slow.held(), slow.state()), (COUNT - 1, SyncState::InSync));
    assert_eq!(slow.sim.contents(0).values().next().unwrap()[3], None);
}

#[test]
fn blocks_that_were_not_sent_are_asked_for_again() {
    let mut slow = Slow::given_up(COUNT);
    slow.asked();
    let mut again = Vec::new();
    while again.is_empty() {
        slow.pass(1);
        again = slow.asked();
    }
    // As soon as one comes, all are worth a question.
    slow.send(again[0]);
    again.extend(slow.asked());
    again.sort_unstable();
    assert_eq!(again, (0..COUNT).collect::<Vec<_>>());
    for block in again {
        slow.send(block);
    }
    assert_eq!((slow.held(), slow.state()), (COUNT, SyncState::InSync));
}

#[test]
fn a_peer_that_never_sends_is_asked_for_a_few_blocks_and_ever_more_rarely() {
    let mut slow = Slow::new();
    slow.pass(100);
    let first = slow.asked().len();
    assert!(first <= 5 * COUNT as usize, "{first}");
    slow.pass(2000);
    slow.asked();
    slow.pass(700);
    let later = slow.asked().len();
    assert!((1..=3 * 16).contains(&later), "{later}");
}

#[test]
fn blocks_that_the_peer_announces_once_more_are_asked_for_at_once() {
    let mut slow = Slow::given_up(COUNT);
    slow.asked();
    slow.liar.have(&mut slow.sim, slow.channel, 5, 2);
    assert_eq!(slow.asked(), [5, 6]);
}

#[test]
fn nobody_is_in_sync_with_a_node_that_waits_for_a_block_from_another() {
    let mut slow = Slow::all_but_one();
    // The last block was asked of the first peer, which takes its time.
    assert_eq!(slow.held(), COUNT - 1);
    let wire = slow.sim.connect(1, 0);
    slow.pass(2);
    let waits = SyncState::Waiting(WaitingFor::Confirmation(slow.key));
    assert_eq!(slow.sim.sync_state(wire, 0), waits);
    slow.send(COUNT - 1);
    slow.pass(2);
    assert_eq!(slow.held(), COUNT);
    slow.assert_in_sync(wire);
}

#[test]
fn a_block_that_another_did_not_send_is_fetched_and_then_both_are_in_sync() {
    let mut slow = Slow::all_but_one();
    let wire = slow.sim.connect(1, 0);
    slow.pass(30);
    assert_eq!(slow.held(), COUNT);
    slow.assert_in_sync(wire);
}

#[test]
fn a_peer_that_wants_no_block_is_asked_again_when_there_are_new_ones() {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let b = sim.party_with(Memory::new(), NodeConfig { sparse: true, ..NodeConfig::default() });
    let feed = sim.writer(a, "w");
    sim.append(a, feed, &[b"one"]);
    let wire = sim.connect(a, b);
    sim.sync();
    assert_eq!(sim.sync_state(wire, 0), SyncState::InSync);
    sim.append(a, feed, &[b"two"]);
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let waits = SyncState::Waiting(WaitingFor::Confirmation(key));
    assert_eq!(sim.sync_state(wire, 0), waits);
    sim.sync();
    assert_eq!(sim.sync_state(wire, 0), SyncState::InSync);
}

#[test]
fn when_a_block_comes_after_all_those_before_it_are_asked_for_too() {
    let count = 40;
    let mut slow = Slow::given_up(count);
    slow.asked();
    // The first blocks that are asked for again do not come either.
    let mut again = Vec::new();
    while again.iter().min() < Some(&16) {
        slow.pass(1);
        again = slow.asked();
    }
    // From now on every question is answered.
    let mut sent = BTreeSet::new();
    for _ in 0..600 {
        for block in std::mem::take(&mut again) {
            if sent.insert(block) {
                slow.send(block);
            }
        }
        slow.pass(1);
        again = slow.asked();
    }
    assert_eq!((slow.held(), slow.state()), (count, SyncState::InSync));
}
