//! Selective sync: which feeds are shared with which peer, and how much of them.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::collections::BTreeMap;

use bytes::Bytes;
use multifeed_core::storage::Memory;
use multifeed_core::{
    ConnectOptions, Decision, Event, FeedId, Fetch, NodeError, Policy, QuestionId,
    ReplicationOptions, SyncState, WaitingFor,
};
use multifeed_proto::FeedKey;
use util::{FIRST, Sim};

fn with(policy: Policy) -> ConnectOptions {
    ConnectOptions { policy, ..ConnectOptions::default() }
}

fn list(feeds: &[(FeedKey, Fetch)]) -> ConnectOptions {
    with(Policy::AllowList(feeds.iter().cloned().collect()))
}

/// A party with three writers of ten blocks each, and one without any.
fn setup(chunk: usize) -> (Sim, [(FeedId, FeedKey); 3]) {
    let mut sim = Sim::new(chunk);
    let (a, _) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feeds = ["x", "y", "z"].map(|name| {
        let feed = sim.writer(a, name);
        let blocks = (0..10).map(|n| Bytes::from(format!("{name}{n}"))).collect();
        sim.append_all(a, feed, blocks);
        (feed, sim.load(a, feed).key)
    });
    (sim, feeds)
}

/// Which blocks a party holds of each feed.
fn held(sim: &mut Sim, party: usize) -> BTreeMap<String, Vec<usize>> {
    let all = sim.contents(party).into_iter();
    all.map(|(key, blocks)| {
        let held = blocks.iter().enumerate().filter(|(_, block)| block.is_some());
        (key, held.map(|(at, _)| at).collect())
    })
    .collect()
}

/// The questions that a party was asked since, and takes them out.
fn questions(sim: &mut Sim, party: usize) -> Vec<(QuestionId, Decision, Vec<FeedKey>)> {
    let events = std::mem::take(&mut sim.parties[party].events).into_iter();
    events
        .filter_map(|event| match event {
            Event::Question(asked) => {
                Some((asked.id, asked.decision, asked.keys.into_iter().collect()))
            }
            _ => None,
        })
        .collect()
}

fn sorted<const N: usize>(mut keys: [FeedKey; N]) -> Vec<FeedKey> {
    keys.sort();
    keys.to_vec()
}

fn answer(sim: &mut Sim, party: usize, question: QuestionId, allowed: &[(FeedKey, Fetch)]) {
    let now = sim.now;
    sim.parties[party].node.answer(now, question, allowed).unwrap();
    sim.run();
}

#[test]
fn only_what_the_list_allows_is_accepted_and_that_counts_as_in_sync() {
    for chunk in [1, 65_536] {
        let (mut sim, [(_, x), ..]) = setup(chunk);
        sim.connect_for(0, 1, [with(Policy::AcceptAll), list(&[(x, Fetch::All)])]);
        sim.sync();
        assert_eq!(held(&mut sim, 1), BTreeMap::from([(x.to_hex(), (0..10).collect())]));
    }
}

#[test]
fn only_what_the_list_allows_is_offered() {
    let (mut sim, [(_, x), (_, y), _]) = setup(65_536);
    sim.connect_for(0, 1, [list(&[(y, Fetch::All)]), with(Policy::AcceptAll)]);
    sim.sync();
    assert_eq!(held(&mut sim, 1).into_keys().collect::<Vec<_>>(), [y.to_hex()]);
    let offered = sim.parties[1]
        .events
        .iter()
        .any(|event| matches!(event, Event::RemoteFeeds { keys, .. } if keys.contains(&x)));
    assert!(!offered);
}

#[test]
fn a_writer_made_later_is_offered_only_where_the_list_has_it() {
    let (mut sim, [(_, x), ..]) = setup(65_536);
    sim.connect_for(0, 1, [list(&[(x, Fetch::All)]), with(Policy::AcceptAll)]);
    sim.sync();
    let late = sim.writer(0, "late");
    sim.append(0, late, &[b"secret"]);
    sim.sync();
    assert_eq!(held(&mut sim, 1).into_keys().collect::<Vec<_>>(), [x.to_hex()]);
}

#[test]
fn the_newest_blocks_are_fetched_and_those_that_come_later() {
    let (mut sim, [(x_feed, x), (_, y), _]) = setup(65_536);
    let options = list(&[(x, Fetch::Newest(3)), (y, Fetch::Newest(0))]);
    sim.connect_for(0, 1, [with(Policy::AcceptAll), options]);
    sim.sync();
    assert_eq!(held(&mut sim, 1)[&x.to_hex()], [7, 8, 9]);
    assert!(held(&mut sim, 1)[&y.to_hex()].is_empty());
    sim.append(0, x_feed, &[b"10", b"11"]);
    sim.sync();
    assert_eq!(held(&mut sim, 1)[&x.to_hex()], [7, 8, 9, 10, 11]);
}

#[test]
fn ranges_are_fetched_whatever_their_order_and_overlap() {
    let (mut sim, [(_, x), ..]) = setup(65_536);
    let ranges = Fetch::Ranges(vec![6..8, 1..3, 2..4, 9..9, 40..50]);
    sim.connect_for(0, 1, [with(Policy::AcceptAll), list(&[(x, ranges)])]);
    sim.sync();
    assert_eq!(held(&mut sim, 1)[&x.to_hex()], [1, 2, 3, 6, 7]);
}

#[test]
fn a_block_that_somebody_waits_for_is_fetched_whatever_the_policy() {
    let (mut sim, [(_, x), ..]) = setup(65_536);
    sim.connect_for(0, 1, [with(Policy::AcceptAll), list(&[(x, Fetch::OnlyAsked)])]);
    sim.sync();
    let feed = sim.parties[1].node.find(&x).unwrap();
    let wait = sim.parties[1].node.wait(sim.now, feed, 4);
    sim.sync();
    assert!(sim.parties[1].results[&wait].is_ok());
    assert_eq!(held(&mut sim, 1)[&x.to_hex()], [4]);
}

#[test]
fn a_connection_that_is_not_live_ends_when_the_allowed_part_is_here() {
    let (mut sim, [(_, x), ..]) = setup(65_536);
    let once = |policy| ConnectOptions {
        replication: ReplicationOptions { live: false, ..ReplicationOptions::default() },
        ..with(policy)
    };
    let list = Policy::AllowList(BTreeMap::from([(x, Fetch::Newest(2))]));
    let wire = sim.connect_for(0, 1, [once(Policy::AcceptAll), once(list)]);
    sim.run();
    assert_eq!(sim.sync_state(wire, 0), SyncState::Closed);
    assert_eq!(sim.sync_state(wire, 1), SyncState::Closed);
    assert_eq!(held(&mut sim, 1)[&x.to_hex()], [8, 9]);
}

#[test]
fn the_application_is_asked_and_the_two_wait_for_its_answer() {
    for chunk in [1, 65_536] {
        let (mut sim, [(_, x), (_, y), (_, z)]) = setup(chunk);
        let wire = sim.connect_for(0, 1, [with(Policy::Ask), with(Policy::Ask)]);
        sim.run();
        assert_eq!(sim.sync_state(wire, 0), SyncState::Waiting(WaitingFor::Decision));
        let asked = questions(&mut sim, 0);
        let [(offer, Decision::Offer, keys)] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!(keys, &sorted([x, y, z]));
        answer(&mut sim, 0, *offer, &[(x, Fetch::All), (z, Fetch::All)]);

        assert_eq!(sim.sync_state(wire, 1), SyncState::Waiting(WaitingFor::Decision));
        let asked = questions(&mut sim, 1);
        let [(accept, Decision::Accept, keys)] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!(keys, &sorted([x, z]));
        assert_eq!(sim.parties[1].node.questions(sim.id(wire, 1)).count(), 1);
        answer(&mut sim, 1, *accept, &[(z, Fetch::Newest(1)), (y, Fetch::All)]);
        sim.sync();
        assert_eq!(held(&mut sim, 1), BTreeMap::from([(z.to_hex(), vec![9])]));
        assert!(questions(&mut sim, 1).is_empty(), "a feed that the peer gave is not asked about");
    }
}

#[test]
fn what_was_refused_can_be_allowed_later() {
    let (mut sim, [(_, x), (_, y), (_, z)]) = setup(65_536);
    let wire = sim.connect_for(0, 1, [with(Policy::Ask), list(&[(x, Fetch::All)])]);
    sim.run();
    let (offer, ..) = questions(&mut sim, 0).remove(0);
    answer(&mut sim, 0, offer, &[(x, Fetch::All), (y, Fetch::All)]);
    sim.sync();
    assert_eq!(held(&mut sim, 1).into_keys().collect::<Vec<_>>(), [x.to_hex()]);
    let (now, [to_b, to_a]) = (sim.now, [sim.id(wire, 0), sim.id(wire, 1)]);
    // The peer offered this one before, and refuses the other as long as it is not on its list.
    let part = Fetch::Ranges(vec![0..2, 2..4]);
    sim.parties[1].node.allow(now, to_a, FIRST, &[(y, part)]).unwrap();
    sim.parties[0].node.allow(now, to_b, FIRST, &[(z, Fetch::All)]).unwrap();
    sim.sync();
    assert_eq!(held(&mut sim, 1).len(), 2);
    assert_eq!(held(&mut sim, 1)[&y.to_hex()], [0, 1, 2, 3]);
    sim.parties[1].node.allow(now, to_a, FIRST, &[(y, Fetch::All), (z, Fetch::All)]).unwrap();
    sim.sync();
    assert_eq!(held(&mut sim, 1).len(), 3);
    assert_eq!(held(&mut sim, 1)[&y.to_hex()].len(), 10);
}

#[test]
fn a_question_is_answered_once_and_not_after_the_end_of_its_connection() {
    let (mut sim, [(_, x), ..]) = setup(65_536);
    let wire = sim.connect_for(0, 1, [with(Policy::Ask), with(Policy::Ask)]);
    sim.run();
    let (offer, ..) = questions(&mut sim, 0).remove(0);
    answer(&mut sim, 0, offer, &[(x, Fetch::All)]);
    let now = sim.now;
    let again = sim.parties[0].node.answer(now, offer, &[]);
    assert_eq!(again, Err(NodeError::UnknownQuestion));
    let (accept, ..) = questions(&mut sim, 1).remove(0);
    let id = sim.id(wire, 1);
    sim.parties[1].node.abort(now, id);
    sim.run();
    let late = sim.parties[1].node.answer(now, accept, &[(x, Fetch::All)]);
    assert_eq!(late, Err(NodeError::UnknownQuestion));
}
