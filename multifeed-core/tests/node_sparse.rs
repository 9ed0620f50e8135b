//! Feeds of which only what is asked for is fetched: blocks, ranges, lengths, bytes.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::time::Duration;

use bytes::Bytes;
use multifeed_core::storage::{Fault, Memory, StorageErrorKind};
use multifeed_core::{Durability, FeedId, NodeConfig, NodeError, Outcome, SyncState, WaitingFor};
use multifeed_proto::messages::{Request, Span};
use multifeed_proto::{FeedKey, Output};
use util::Sim;
use util::liar::Liar;

fn block(n: u64) -> Bytes {
    Bytes::from(format!("block {n} {}", "x".repeat((n * 7 % 50) as usize)))
}

fn blocks(count: u64) -> Vec<Bytes> {
    (0..count).map(block).collect()
}

fn sparse() -> NodeConfig {
    NodeConfig { sparse: true, ..NodeConfig::default() }
}

/// Indices of the blocks that a party holds of its only feed.
fn held(sim: &mut Sim, at: usize) -> Vec<u64> {
    let contents = sim.contents(at).into_values().next().unwrap();
    for (n, found) in (0..).zip(&contents) {
        assert!(found.as_ref().is_none_or(|found| *found == block(n)), "block {n}");
    }
    (0..contents.len() as u64).filter(|n| contents[*n as usize].is_some()).collect()
}

/// A writer with `count` blocks at party 0 and, connected to it, a sparse reader at party 1.
fn pair(count: u64, chunk: usize) -> (Sim, FeedId, FeedId, FeedKey) {
    let mut sim = Sim::new(chunk);
    let (a, b) = (sim.party(Memory::new()), sim.party_with(Memory::new(), sparse()));
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, blocks(count));
    sim.connect(a, b);
    sim.sync();
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let copy = sim.parties[b].node.find(&key).unwrap();
    (sim, feed, copy, key)
}

/// Byte offset of a block.
fn offset_of(block_index: u64) -> u64 {
    (0..block_index).map(|n| block(n).len() as u64).sum()
}

#[test]
fn a_sparse_feed_fetches_what_is_asked_for_and_nothing_else() {
    for chunk in [1, 3, 65_536] {
        let (mut sim, _, copy, _) = pair(100, chunk);
        assert!(held(&mut sim, 1).is_empty());
        let wait = sim.parties[1].node.wait(sim.now, copy, 42);
        sim.sync();
        assert_eq!(sim.parties[1].results[&wait], Ok(Outcome::Block(block(42))));
        assert_eq!(held(&mut sim, 1), [42]);
    }
}

#[test]
fn a_wait_for_a_block_that_does_not_exist_yet_is_answered_when_it_is_appended() {
    let (mut sim, feed, copy, _) = pair(3, 65_536);
    let wait = sim.parties[1].node.wait(sim.now, copy, 4);
    sim.sync();
    sim.append_all(0, feed, vec![block(3)]);
    sim.sync();
    assert!(!sim.parties[1].results.contains_key(&wait));
    sim.append_all(0, feed, vec![block(4)]);
    sim.sync();
    assert_eq!(sim.parties[1].results[&wait], Ok(Outcome::Block(block(4))));
    assert_eq!(held(&mut sim, 1), [4]);
}

#[test]
fn a_wait_before_any_connection_is_answered_by_the_first() {
    let (mut sim, _, copy, _) = pair(10, 65_536);
    sim.wires[0].cut = true;
    for (party, id) in sim.wires[0].ends {
        let now = sim.now;
        sim.parties[party].node.abort(now, id);
    }
    sim.run();
    let wait = sim.parties[1].node.wait(sim.now, copy, 9);
    sim.run();
    sim.connect(1, 0);
    sim.sync();
    assert_eq!(sim.parties[1].results[&wait], Ok(Outcome::Block(block(9))));
}

#[test]
fn what_is_waited_for_goes_before_the_rest() {
    let mut sim = Sim::new(4_000);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, (0..4_000).map(|_| Bytes::from(vec![1; 1_000])).collect());
    let wire = sim.connect(a, b);
    while sim.wires[wire].moved[0] < 300_000 {
        sim.step();
    }
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let copy = sim.parties[b].node.find(&key).unwrap();
    let wait = sim.parties[b].node.wait(sim.now, copy, 3_999);
    let before = sim.wires[wire].moved[0];
    while !sim.parties[b].results.contains_key(&wait) {
        assert!(sim.step(), "never answered");
    }
    let meanwhile = sim.wires[wire].moved[0] - before;
    assert!(meanwhile < 1_500_000, "{meanwhile} bytes came before it");
    sim.sync();
    assert_eq!(sim.contents(a), sim.contents(b));
}

#[test]
fn a_download_fetches_its_range_and_tells_when_it_is_done() {
    let (mut sim, feed, copy, _) = pair(300, 1_000);
    let first = sim.parties[1].node.download(sim.now, copy, 10..20);
    let second = sim.parties[1].node.download(sim.now, copy, 15..40);
    let beyond = sim.parties[1].node.download(sim.now, copy, 298..302);
    sim.sync();
    assert_eq!(sim.parties[1].results[&first], Ok(Outcome::Downloaded));
    assert_eq!(sim.parties[1].results[&second], Ok(Outcome::Downloaded));
    assert!(!sim.parties[1].results.contains_key(&beyond));
    sim.append_all(0, feed, (300..303).map(block).collect());
    sim.sync();
    assert_eq!(sim.parties[1].results[&beyond], Ok(Outcome::Downloaded));
    assert_eq!(held(&mut sim, 1), (10..40).chain(298..302).collect::<Vec<_>>());
    let again = sim.parties[1].node.download(sim.now, copy, 12..38);
    assert_eq!(sim.finish(1, again), Ok(Outcome::Downloaded));
}

#[test]
fn has_tells_of_blocks_that_are_stored_and_fetches_none() {
    let (mut sim, _, copy, _) = pair(100, 65_536);
    let download = sim.parties[1].node.download(sim.now, copy, 10..20);
    sim.sync();
    assert_eq!(sim.parties[1].results[&download], Ok(Outcome::Downloaded));
    sim.restart(1);
    let copy = sim.parties[1].node.feeds(util::FIRST).next().unwrap().id;
    let cases = [
        (10..20, true),
        (19..20, true),
        (9..11, false),
        (19..21, false),
        (0..1, false),
        (99..101, false),
        (10..u64::MAX, false),
        (50..50, true),
    ];
    for (blocks, expected) in cases {
        let has = sim.parties[1].node.has(sim.now, copy, blocks.clone());
        assert_eq!(sim.finish(1, has), Ok(Outcome::Has(expected)), "{blocks:?}");
    }
    assert_eq!(held(&mut sim, 1), (10..20).collect::<Vec<_>>());
}

#[test]
fn has_does_not_tell_of_blocks_before_they_are_stored() {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, blocks(3));
    sim.parties[a].disk_held = true;
    sim.parties[a].node.append(sim.now, feed, vec![block(3)]);
    let now = sim.now;
    sim.parties[a].drain(now);
    let node = &mut sim.parties[a].node;
    let (stored, waiting) = (node.has(sim.now, feed, 0..3), node.has(sim.now, feed, 0..4));
    sim.parties[a].drain(now);
    assert_eq!(sim.parties[a].results[&stored], Ok(Outcome::Has(true)));
    assert_eq!(sim.parties[a].results[&waiting], Ok(Outcome::Has(false)));
}

#[test]
fn a_download_that_is_taken_back_fetches_no_more() {
    let (mut sim, feed, copy, _) = pair(10, 65_536);
    let kept = sim.parties[1].node.download(sim.now, copy, 5..12);
    let open = sim.parties[1].node.download(sim.now, copy, 5..u64::MAX);
    sim.sync();
    sim.append_all(0, feed, (10..14).map(block).collect());
    sim.sync();
    assert_eq!(sim.parties[1].results[&kept], Ok(Outcome::Downloaded));
    assert_eq!(held(&mut sim, 1), (5..14).collect::<Vec<_>>());
    sim.parties[1].node.cancel(sim.now, open);
    sim.append_all(0, feed, (14..20).map(block).collect());
    sim.sync();
    assert_eq!(sim.parties[1].results[&open], Err(NodeError::Cancelled));
    assert_eq!(held(&mut sim, 1), (5..14).collect::<Vec<_>>());
}

#[test]
fn a_feed_made_sparse_stops_and_goes_on_when_it_is_not() {
    let (mut sim, feed, copy, _) = pair(10, 65_536);
    sim.parties[1].node.set_sparse(sim.now, copy, false);
    sim.sync();
    assert_eq!(held(&mut sim, 1), (0..10).collect::<Vec<_>>());
    sim.parties[1].node.set_sparse(sim.now, copy, true);
    sim.append_all(0, feed, (10..14).map(block).collect());
    sim.sync();
    assert_eq!(held(&mut sim, 1), (0..10).collect::<Vec<_>>());
}

#[test]
fn an_update_learns_the_length_without_the_blocks() {
    let (mut sim, feed, copy, _) = pair(777, 65_536);
    let update = sim.parties[1].node.update(sim.now, copy, None);
    sim.sync();
    assert_eq!(sim.parties[1].results[&update], Ok(Outcome::Updated { length: 777 }));
    assert!(held(&mut sim, 1).is_empty());
    let known = sim.parties[1].node.update(sim.now, copy, Some(700));
    assert_eq!(sim.finish(1, known), Ok(Outcome::Updated { length: 777 }));
    let next = sim.parties[1].node.update(sim.now, copy, None);
    let far = sim.parties[1].node.update(sim.now, copy, Some(780));
    sim.sync();
    assert!(!sim.parties[1].results.contains_key(&next));
    sim.append_all(0, feed, (777..779).map(block).collect());
    sim.sync();
    assert_eq!(sim.parties[1].results[&next], Ok(Outcome::Updated { length: 779 }));
    assert!(!sim.parties[1].results.contains_key(&far));
    sim.append_all(0, feed, (779..781).map(block).collect());
    sim.sync();
    assert_eq!(sim.parties[1].results[&far], Ok(Outcome::Updated { length: 781 }));
    sim.restart(1);
    assert_eq!(sim.load(1, copy).length, 781, "stored with its signature");
    assert!(held(&mut sim, 1).is_empty());
}

#[test]
fn a_seek_finds_bytes_here_and_at_the_peer_without_fetching_blocks() {
    for length in [1, 2, 3, 5, 100, 1_000] {
        let (mut sim, feed, copy, _) = pair(length, 10_000);
        let end = offset_of(length);
        let mut wanted = vec![(0, (0, 0)), (end, (length, 0))];
        for index in [0, 1, length / 3, length / 2, length - 1] {
            if index < length {
                let offset = offset_of(index);
                wanted.push((offset + 3, (index, 3)));
                wanted.push((offset, (index, 0)));
            }
        }
        let update = sim.parties[1].node.update(sim.now, copy, Some(length));
        sim.sync();
        assert!(sim.parties[1].results[&update].is_ok());
        for (byte, (index, offset)) in wanted {
            let found = Ok(Outcome::Sought { block: index, offset });
            let here = sim.parties[0].node.seek(sim.now, feed, byte);
            assert_eq!(sim.finish(0, here), found, "byte {byte} of {length} blocks, here");
            let there = sim.parties[1].node.seek(sim.now, copy, byte);
            sim.sync();
            assert_eq!(sim.parties[1].results[&there], found, "byte {byte} of {length} blocks");
        }
        assert!(held(&mut sim, 1).is_empty());
    }
}

#[test]
fn a_seek_beyond_what_is_known_waits_for_the_log_to_get_there() {
    let (mut sim, feed, copy, _) = pair(50, 65_536);
    let inside = sim.parties[1].node.seek(sim.now, copy, offset_of(33) + 1);
    let beyond = sim.parties[1].node.seek(sim.now, copy, offset_of(60) + 2);
    sim.sync();
    let found = Ok(Outcome::Sought { block: 33, offset: 1 });
    assert_eq!(sim.parties[1].results[&inside], found, "the length was not known before");
    assert!(!sim.parties[1].results.contains_key(&beyond));
    sim.append_all(0, feed, (50..70).map(block).collect());
    sim.sync();
    assert_eq!(sim.parties[1].results[&beyond], Ok(Outcome::Sought { block: 60, offset: 2 }));
    let never = sim.parties[1].node.seek(sim.now, copy, 1 << 50);
    sim.sync();
    sim.parties[1].node.cancel(sim.now, never);
    sim.sync();
    assert_eq!(sim.parties[1].results[&never], Err(NodeError::Cancelled));
}

#[test]
fn a_seek_reads_the_tree_from_disk_after_a_restart() {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, blocks(20_000));
    sim.restart(a);
    let feed = sim.writer(a, "w");
    for index in [0, 1, 9_999, 16_383, 16_384, 19_999] {
        let seek = sim.parties[a].node.seek(sim.now, feed, offset_of(index) + 1);
        assert_eq!(sim.finish(a, seek), Ok(Outcome::Sought { block: index, offset: 1 }));
    }
}

#[test]
fn a_peer_that_seeks_is_answered_once_for_the_same_byte_and_with_the_block_that_has_it() {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, blocks(3_000));
    sim.restart(a);
    let feed = sim.writer(a, "w");
    let key = sim.load(a, feed).key;
    let mut peer = Liar::new(&mut sim);
    let channel = peer.ask(&mut sim, key);
    for index in 0..32 {
        let request = Request { index, bytes: offset_of(2_000) + 4, hash: true, nodes: 0 };
        peer.connection.request(channel, request).unwrap();
    }
    peer.run(&mut sim);
    let found: Vec<(u64, bool, u64)> = peer
        .data()
        .iter()
        .map(|data| (data.index, data.value.is_none(), data.nodes[0].index))
        .collect();
    assert_eq!(found, [(2_000, true, 4_000)], "answered once");
    let end = offset_of(3_000);
    for (n, bytes) in [(1, end), (2, end + 1), (3, u64::MAX >> 11)] {
        let request = Request { index: n, bytes, hash: true, nodes: 0 };
        peer.connection.request(channel, request).unwrap();
        peer.run(&mut sim);
        assert_eq!(peer.data().last().unwrap().index, n, "byte {bytes} does not exist");
    }
    let request = Request { index: 7, bytes: offset_of(9), hash: false, nodes: 0 };
    peer.connection.request(channel, request).unwrap();
    peer.run(&mut sim);
    let data = peer.data();
    assert_eq!(data.last().unwrap().index, 9);
    assert_eq!(data.last().unwrap().value, Some(block(9)));
    assert_eq!(peer.closed_by_node(&sim), None);
}

#[test]
fn a_seek_that_a_peer_does_not_answer_is_tried_in_another_way_and_then_elsewhere() {
    let (sim, _, _, key) = pair(100, 65_536);
    let writer = sim.parties[0].disk.memory().clone();
    let mut sim = Sim::new(65_536);
    let a = sim.party_with(Memory::new(), sparse());
    let mut silent = Liar::new(&mut sim);
    let channel = silent.offer(&mut sim, key);
    silent.have(&mut sim, channel, 0, 100);
    let copy = sim.parties[a].node.find(&key).unwrap();
    let seek = sim.parties[a].node.seek(sim.now, copy, offset_of(70));
    silent.run(&mut sim);
    let asked = |silent: &Liar| {
        let request = |output: &&Output| matches!(output, Output::Request { .. });
        silent.outputs.iter().filter(request).count()
    };
    assert_eq!(asked(&silent), 1);
    for _ in 0..30 {
        sim.pass(Duration::from_secs(2));
        silent.connection.handle_timeout(sim.now);
        silent.run(&mut sim);
    }
    assert_eq!(silent.closed_by_node(&sim), None);
    let b = sim.party(writer);
    sim.connect(a, b);
    sim.run();
    assert_eq!(sim.parties[a].results[&seek], Ok(Outcome::Sought { block: 70, offset: 0 }));
}

#[test]
fn a_close_answers_everybody_who_waits() {
    let (mut sim, _, copy, _) = pair(10, 65_536);
    let node = &mut sim.parties[1].node;
    let waiting = [
        node.wait(sim.now, copy, 99),
        node.download(sim.now, copy, 90..95),
        node.update(sim.now, copy, Some(50)),
        node.seek(sim.now, copy, 1 << 40),
    ];
    sim.sync();
    let now = sim.now;
    let close = sim.parties[1].node.close(now);
    sim.pass(Duration::from_secs(60));
    assert_eq!(sim.parties[1].results[&close], Ok(Outcome::Closed));
    for command in waiting {
        assert_eq!(sim.parties[1].results[&command], Err(NodeError::Closed));
    }
}

fn not_available(key: FeedKey) -> Result<Outcome, NodeError> {
    Err(NodeError::NotAvailable { feed: key.to_hex()[..8].to_owned() })
}

#[test]
fn what_is_wanted_only_if_a_peer_has_it_comes_or_fails_as_soon_as_that_is_known() {
    for chunk in [1, 3, 65_536] {
        let (mut sim, _, copy, key) = pair(100, chunk);
        let node = &mut sim.parties[1].node;
        let there = [
            node.update_if_available(sim.now, copy, Some(100)),
            node.wait_if_available(sim.now, copy, 99),
        ];
        let not = [
            node.update_if_available(sim.now, copy, Some(101)),
            node.wait_if_available(sim.now, copy, 100),
            node.wait_if_available(sim.now, copy, u64::MAX),
        ];
        sim.sync();
        let results = &sim.parties[1].results;
        assert_eq!(results[&there[0]], Ok(Outcome::Updated { length: 100 }));
        assert_eq!(results[&there[1]], Ok(Outcome::Block(block(99))));
        for command in not {
            assert_eq!(results[&command], not_available(key));
        }
        // One more than is known: the log has that here, and no peer has more.
        let more = sim.parties[1].node.update_if_available(sim.now, copy, None);
        assert_eq!(sim.finish(1, more), not_available(key));
    }
}

/// In a time that grows with their number, not with its square.
#[test]
fn thousands_of_blocks_may_be_wanted_only_if_a_peer_has_them() {
    let (mut sim, _, copy, key) = pair(10_000, 65_536);
    let node = &mut sim.parties[1].node;
    let there: Vec<_> = (0..10_000).map(|at| node.wait_if_available(sim.now, copy, at)).collect();
    let not: Vec<_> =
        (0..100).map(|at| node.wait_if_available(sim.now, copy, 10_000 + at)).collect();
    sim.sync();
    let results = &sim.parties[1].results;
    for (at, command) in there.iter().enumerate() {
        assert_eq!(results[command], Ok(Outcome::Block(block(at as u64))));
    }
    assert!(not.iter().all(|command| results[command] == not_available(key)));
}

#[test]
fn what_is_wanted_only_if_a_peer_has_it_fails_at_once_without_peers() {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, blocks(1));
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let get = sim.parties[a].node.wait_if_available(sim.now, feed, 1);
    assert_eq!(sim.finish(a, get), not_available(key));
    let update = sim.parties[a].node.update_if_available(sim.now, feed, None);
    assert_eq!(sim.finish(a, update), not_available(key));
    let here = sim.parties[a].node.wait_if_available(sim.now, feed, 0);
    assert_eq!(sim.finish(a, here), Ok(Outcome::Block(block(0))));
}

#[test]
fn what_is_wanted_only_if_a_peer_has_it_waits_for_peers_that_have_not_said_what_they_have() {
    let mut sim = Sim::new(65_536);
    let b = sim.party_with(Memory::new(), sparse());
    let key = FeedKey([9; 32]);
    let mut liar = Liar::new(&mut sim);
    let channel = liar.offer(&mut sim, key);
    let feed = sim.parties[b].node.find(&key).unwrap();
    let get = sim.parties[b].node.wait_if_available(sim.now, feed, 5);
    let other = sim.parties[b].node.wait_if_available(sim.now, feed, 6);
    let update = sim.parties[b].node.update_if_available(sim.now, feed, Some(6));
    liar.run(&mut sim);
    for command in [get, other, update] {
        assert!(!sim.parties[b].results.contains_key(&command), "it has not answered yet");
    }
    liar.have(&mut sim, channel, 5, 1);
    let wants = liar.outputs.iter().filter_map(|output| match output {
        Output::Want { span, .. } => Some(*span),
        _ => None,
    });
    for span in wants.collect::<Vec<_>>() {
        let none = Bytes::from(multifeed_proto::rle::encode(&[0]));
        liar.connection.have_bitfield(channel, span, none).unwrap();
    }
    liar.run(&mut sim);
    assert_eq!(sim.parties[b].results.get(&other), Some(&not_available(key)));
    assert!(!sim.parties[b].results.contains_key(&get), "it is asked for");
    assert!(!sim.parties[b].results.contains_key(&update), "it is asked for");
    // The only one that has it leaves.
    let now = sim.now;
    sim.parties[b].node.abort(now, liar.id);
    sim.parties[b].drain(now);
    assert_eq!(sim.parties[b].results.get(&get), Some(&not_available(key)));
    assert_eq!(sim.parties[b].results.get(&update), Some(&not_available(key)));
}

#[test]
fn who_waits_for_a_block_is_answered_when_it_is_found_in_a_feed_whose_storage_failed() {
    let mut found = 0;
    for after in 0..48 {
        let mut sim = Sim::new(65_536);
        let config = NodeConfig { durability: Durability::Power, ..sparse() };
        let (a, b) = (sim.party(Memory::new()), sim.party_with(Memory::new(), config));
        let feed = sim.writer(a, "w");
        sim.append_all(a, feed, blocks(8));
        sim.connect(a, b);
        sim.sync();
        let key = sim.parties[a].node.feed(feed).unwrap().key;
        let copy = sim.parties[b].node.find(&key).unwrap();
        let fault = Fault { after, kind: StorageErrorKind::Full };
        sim.parties[b].disk.set_fault(Some(fault));
        let wait = sim.parties[b].node.wait(sim.now, copy, 3);
        let download = sim.parties[b].node.download(sim.now, copy, 3..4);
        sim.run();
        sim.parties[b].disk.set_fault(None);
        // Nobody is there any more who could send it again.
        let failed = !sim.parties[b].results.contains_key(&wait);
        let connection = sim.id(0, 1);
        let now = sim.now;
        sim.parties[b].node.abort(now, connection);
        sim.run();
        if sim.load(b, copy).blocks == 1 {
            found += u64::from(failed);
            assert!(sim.parties[b].results.contains_key(&wait), "{after} changes");
            assert!(sim.parties[b].results.contains_key(&download), "{after} changes");
        }
    }
    assert!(found > 0, "the block was never found");
}

#[test]
fn what_no_peer_has_is_not_waited_for_while_one_fetches_blocks_from_here() {
    let (mut sim, feed, key, mut peer) = util::liar::setup(1);
    let channel = peer.ask(&mut sim, key);
    let unit = Span { start: 0, length: 1 << 20 };
    peer.connection.want(channel, unit).unwrap();
    peer.connection.have_bitfield(channel, unit, Bytes::new()).unwrap();
    peer.run(&mut sim);
    // Whether it wants the block it does not say before it has fetched others, maybe from elsewhere.
    let waits = SyncState::Waiting(WaitingFor::Confirmation(key));
    assert_eq!(sim.parties[0].node.sync_state(peer.id), waits);
    let get = sim.parties[0].node.wait_if_available(sim.now, feed, 1);
    peer.run(&mut sim);
    assert_eq!(sim.parties[0].results.get(&get), Some(&not_available(key)));
}
