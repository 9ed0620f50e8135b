//! Feeds longer than one `Want` speaks of: 1,048,576 blocks.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use bytes::Bytes;
use multifeed_core::storage::Memory;
use multifeed_core::{FeedId, NodeConfig, SyncState, WaitingFor};
use multifeed_proto::messages::{Request, Span};
use multifeed_proto::{FeedKey, Output, rle};
use util::Sim;
use util::liar::Liar;

/// Blocks in one `Want`.
const WANT: u64 = 1 << 20;
const KEY: FeedKey = FeedKey([9; 32]);

fn wants(peer: &Liar) -> Vec<Span> {
    let want = |output: &Output| match output {
        Output::Want { span, .. } => Some(*span),
        _ => None,
    };
    peer.outputs.iter().filter_map(want).collect()
}

/// A node, and a peer that offers a feed.
fn offered(config: NodeConfig) -> (Sim, Liar, multifeed_proto::ChannelId) {
    let mut sim = Sim::new(65_536);
    sim.party_with(Memory::new(), config);
    let mut peer = Liar::new(&mut sim);
    let channel = peer.offer(&mut sim, KEY);
    (sim, peer, channel)
}

#[test]
fn each_range_that_the_peer_reaches_is_wanted_once() {
    let (mut sim, mut peer, channel) = offered(NodeConfig::default());
    let first = Span { start: 0, length: WANT };
    assert_eq!(wants(&peer), [first]);
    peer.have(&mut sim, channel, 2 * WANT + 5, 1);
    let all: Vec<Span> = (0..3).map(|n| Span { start: n * WANT, length: WANT }).collect();
    assert_eq!(wants(&peer), all);
    peer.have(&mut sim, channel, 2 * WANT + 6, 1);
    assert_eq!(wants(&peer), all);
}

#[test]
fn at_most_sixteen_wants_are_unanswered_however_long_the_peer_says_that_its_log_is() {
    let (mut sim, mut peer, channel) = offered(NodeConfig::default());
    peer.have(&mut sim, channel, (1 << 52) - 1, 1);
    assert_eq!(wants(&peer).len(), 16);
    for answered in 0..40 {
        let span = wants(&peer)[answered];
        peer.connection.have_bitfield(channel, span, Bytes::new()).unwrap();
        peer.run(&mut sim);
        assert_eq!(wants(&peer).len(), 17 + answered);
    }
    assert_eq!(peer.closed_by_node(&sim), None);
}

#[test]
fn blocks_beyond_the_first_range_are_asked_for() {
    let config = NodeConfig { max_window: 4_000, ..NodeConfig::default() };
    let (mut sim, mut peer, channel) = offered(config);
    peer.have(&mut sim, channel, WANT - 1, 3);
    let bits = rle::encode(&[0x00, 0x81]);
    let second = Span { start: WANT, length: WANT };
    peer.connection.have_bitfield(channel, second, Bytes::from(bits)).unwrap();
    peer.run(&mut sim);
    assert_eq!(peer.requests(), [WANT - 1, WANT, WANT + 1, WANT + 8, WANT + 15]);
}

#[test]
fn a_peer_with_tens_of_millions_of_blocks_costs_neither_time_nor_memory() {
    let (mut sim, mut peer, channel) = offered(NodeConfig::default());
    let end = 50 * WANT;
    peer.have(&mut sim, channel, 0, end);
    let mut answered = 0;
    while let Some(span) = wants(&peer).get(answered).copied() {
        answered += 1;
        let bits = rle::encode(&vec![0xff; (WANT / 8) as usize]);
        peer.connection.have_bitfield(channel, span, Bytes::from(bits)).unwrap();
        peer.run(&mut sim);
    }
    assert_eq!(answered, 50);
    let missing = match sim.parties[0].node.sync_state(peer.id) {
        SyncState::Waiting(WaitingFor::OfferAnswer) => {
            sim.parties[0].node.counters(peer.id).missing
        }
        other => panic!("{other:?}"),
    };
    assert!(missing >= end - 1, "{missing}");
    assert_eq!(peer.requests().len(), 16);
    peer.connection.unhave(channel, Span { start: 0, length: end }).unwrap();
    peer.run(&mut sim);
    assert_eq!(sim.parties[0].node.counters(peer.id).missing, 0, "all of it taken back");
    assert_eq!(peer.closed_by_node(&sim), None);
}

#[test]
fn blocks_taken_back_are_asked_of_others_and_come_back_when_announced_again() {
    let (mut sim, mut peer, channel) = offered(NodeConfig::default());
    peer.have(&mut sim, channel, WANT, 8);
    assert_eq!(peer.requests(), (WANT..WANT + 8).collect::<Vec<_>>());
    let mut other = Liar::new(&mut sim);
    let at_other = other.offer(&mut sim, KEY);
    other.have(&mut sim, at_other, WANT, 8);
    assert!(other.requests().is_empty(), "they are asked of the first");
    peer.connection.unhave(channel, Span { start: WANT + 2, length: 3 }).unwrap();
    peer.run(&mut sim);
    other.run(&mut sim);
    assert_eq!(other.requests(), [WANT + 2, WANT + 3, WANT + 4]);
    other.connection.unhave(at_other, Span { start: 0, length: 2 * WANT }).unwrap();
    other.run(&mut sim);
    peer.have(&mut sim, channel, WANT + 3, 1);
    assert_eq!(peer.requests()[8..], [WANT + 3]);
}

#[test]
fn wants_beyond_the_log_and_of_everything_are_answered_in_their_own_terms() {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed: FeedId = sim.writer(a, "w");
    sim.append_all(a, feed, (0..20u8).map(|n| Bytes::from(vec![n])).collect());
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let mut peer = Liar::new(&mut sim);
    let channel = peer.ask(&mut sim, key);
    for span in [
        Span { start: 0, length: 0 },
        Span { start: WANT, length: WANT },
        Span { start: 1 << 50, length: 8_192 },
        Span { start: 0, length: 1 << 51 },
    ] {
        peer.connection.want(channel, span).unwrap();
        peer.run(&mut sim);
    }
    let remote = peer.connection.peer(channel).unwrap();
    assert_eq!(remote.unanswered_wants(), 0);
    assert_eq!((remote.remote().count(), remote.remote_length()), (20, 20));
    assert_eq!(peer.closed_by_node(&sim), None);
    peer.connection.request(channel, Request { index: 1 << 40, ..Request::default() }).unwrap();
    peer.run(&mut sim);
    assert!(peer.data().is_empty());
    assert_eq!(peer.closed_by_node(&sim), None);
}
