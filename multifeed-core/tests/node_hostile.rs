//! A node against a peer that lies, floods or keeps silent. The peer is a bare protocol connection.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::time::Duration;

use bytes::Bytes;
use multifeed_core::storage::{Memory, StorageErrorKind};
use multifeed_core::tree::NodeIndex;
use multifeed_core::{Event, Health, NodeConfig, NodeError, SyncState, WaitingFor};
use multifeed_proto::messages::{Data, Node as TreeNode, Request, Span, Status};
use multifeed_proto::{FeedKey, Output, PeerError};
use util::liar::{Liar, setup};
use util::{ROOT, Sim};

/// The connection goes on, and nothing is believed of the feed.
fn costs_only_the_feed(sim: &mut Sim, liar: &Liar) {
    assert_eq!(liar.closed_by_node(sim), None);
    let id = sim.parties[0].node.find(&THEIRS).unwrap();
    let info = sim.load(0, id);
    assert_eq!(info.length, 0);
    assert!(matches!(info.health, Health::DamagedThere { .. }), "{:?}", info.health);
    let told = |event: &Event| matches!(event, Event::FeedHealth { feed, .. } if *feed == id);
    assert!(sim.parties[0].events.iter().any(told));
}

const THEIRS: FeedKey = FeedKey([0x58; 32]);

#[test]
fn a_block_without_a_proof_costs_only_its_feed_and_nothing_is_stored() {
    let (mut sim, _, _, mut liar) = setup(1);
    let channel = liar.offer(&mut sim, THEIRS);
    liar.have(&mut sim, channel, 0, 4);
    assert!(liar.requests().contains(&0));
    let value = Some(Bytes::from_static(b"lie"));
    liar.connection
        .send_data(channel, Data { index: 0, value, nodes: vec![], signature: None })
        .unwrap();
    liar.run(&mut sim);
    costs_only_the_feed(&mut sim, &liar);
}

#[test]
fn a_block_with_a_forged_signature_costs_only_its_feed() {
    let (mut sim, _, _, mut liar) = setup(1);
    let channel = liar.offer(&mut sim, THEIRS);
    liar.have(&mut sim, channel, 0, 1);
    let value = Some(Bytes::from_static(b"lie"));
    let data = Data { index: 0, value, nodes: vec![], signature: Some([1; 64]) };
    liar.connection.send_data(channel, data).unwrap();
    liar.run(&mut sim);
    costs_only_the_feed(&mut sim, &liar);
}

#[test]
fn proof_nodes_with_impossible_sizes_cost_only_their_feed() {
    let (mut sim, _, _, mut liar) = setup(1);
    let channel = liar.offer(&mut sim, THEIRS);
    liar.have(&mut sim, channel, 0, 1);
    let nodes = vec![TreeNode { index: 2, hash: [9; 32], size: (1 << 53) - 1 }];
    let value = Some(Bytes::from_static(b"lie"));
    let data = Data { index: 0, value, nodes, signature: Some([1; 64]) };
    liar.connection.send_data(channel, data).unwrap();
    liar.run(&mut sim);
    costs_only_the_feed(&mut sim, &liar);
}

#[test]
fn a_block_that_nobody_asked_for_is_dropped() {
    let (mut sim, _, _, mut liar) = setup(1);
    let channel = liar.offer(&mut sim, THEIRS);
    let value = Some(Bytes::from_static(b"lie"));
    let data = Data { index: 7, value, nodes: vec![], signature: Some([1; 64]) };
    liar.connection.send_data(channel, data).unwrap();
    liar.run(&mut sim);
    assert_eq!(liar.closed_by_node(&sim), None);
}

#[test]
fn a_have_of_two_to_the_53_blocks_costs_no_memory_and_no_time() {
    let (mut sim, _, _, mut liar) = setup(1);
    let channel = liar.offer(&mut sim, THEIRS);
    liar.have(&mut sim, channel, 0, (1 << 53) - 1);
    assert_eq!(liar.closed_by_node(&sim), None);
    assert!(liar.requests().len() <= 256);
    // Counting what is missing, for progress and for a stall, does not count one by one either.
    sim.pass(Duration::from_secs(16));
    assert_eq!(sim.parties[0].node.counters(liar.id).missing, (1 << 53) - 1);
    let stalled = |event: &Event| matches!(event, Event::Stalled { .. });
    assert!(sim.parties[0].events.iter().any(stalled));
}

#[test]
fn blocks_that_a_peer_announces_and_does_not_send_are_fetched_from_another() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(b, "w");
    sim.append_all(b, feed, (0..40u8).map(|n| Bytes::from(vec![n; 9])).collect());
    let key = sim.parties[b].node.feed(feed).unwrap().key;
    let mut liar = Liar::new(&mut sim);
    let channel = liar.offer(&mut sim, key);
    liar.have(&mut sim, channel, 0, 40);
    assert!(!liar.requests().is_empty());
    sim.connect(a, b);
    for _ in 0..25 {
        sim.pass(Duration::from_secs(1));
        liar.run(&mut sim);
    }
    assert_eq!(sim.contents(a), sim.contents(b));
}

#[test]
fn a_silent_peer_is_named_as_what_is_missing() {
    let mut sim = Sim::new(65_536);
    sim.party(Memory::new());
    let mut liar = Liar::new(&mut sim);
    liar.connection.request_feeds(liar.root, &[]).unwrap();
    let channel = liar.offer(&mut sim, THEIRS);
    liar.connection
        .have_bitfield(channel, Span { start: 0, length: 1 << 20 }, Bytes::new())
        .unwrap();
    liar.have(&mut sim, channel, 0, 3);
    for _ in 0..18 {
        sim.pass(Duration::from_secs(1));
        liar.connection.handle_timeout(sim.now);
        liar.run(&mut sim);
    }
    let stalled = sim.parties[0].events.iter().find_map(|event| match event {
        Event::Stalled { waiting, .. } => Some(waiting.clone()),
        _ => None,
    });
    assert_eq!(stalled, Some(WaitingFor::Blocks { feed: THEIRS, missing: 3 }));
}

#[test]
fn a_request_beyond_the_log_is_left_unanswered() {
    let (mut sim, _, key, mut liar) = setup(3);
    let channel = liar.ask(&mut sim, key);
    for index in [3, 4, 1 << 40, (1 << 53) - 1, 1] {
        let request = Request { index, ..Request::default() };
        liar.connection.request(channel, request).unwrap();
    }
    liar.run(&mut sim);
    assert_eq!(liar.data().iter().map(|data| data.index).collect::<Vec<_>>(), [1]);
    assert_eq!(liar.closed_by_node(&sim), None);
}

#[test]
fn a_digest_that_claims_what_the_peer_lacks_only_harms_the_peer() {
    let (mut sim, _, key, mut liar) = setup(9);
    let channel = liar.ask(&mut sim, key);
    for (index, nodes) in [(0, u64::MAX >> 11), (1, 1), (2, 0b1010_1011), (3, 3), (4, 0)] {
        liar.connection.request(channel, Request { index, nodes, ..Request::default() }).unwrap();
    }
    liar.run(&mut sim);
    assert_eq!(liar.data().len(), 5);
    assert_eq!(liar.closed_by_node(&sim), None);
}

#[test]
fn a_flood_of_requests_stops_the_reading_and_none_is_dropped() {
    let mut sim = Sim::new(65_536);
    let config =
        NodeConfig { max_parked_requests: 100, max_outbox_bytes: 4096, ..NodeConfig::default() };
    let a = sim.party_with(Memory::new(), config);
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, (0..50u64).map(|n| Bytes::from(vec![n as u8; 1000])).collect());
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let mut liar = Liar::new(&mut sim);
    let channel = liar.ask(&mut sim, key);
    sim.parties[a].disk_held = true;
    let mut stopped = false;
    for n in 0..400u64 {
        // Each index anew: the liar's own connection forgets what was asked twice.
        let request = Request { index: n % 50, ..Request::default() };
        liar.connection.request(channel, request).unwrap();
        let bytes = liar.connection.transmit().to_vec();
        liar.connection.transmitted(sim.now, bytes.len());
        sim.parties[a].node.handle_bytes(sim.now, liar.id, &bytes);
        stopped |= !sim.parties[a].node.wants_read(liar.id);
    }
    assert!(stopped, "400 requests were taken in");
    sim.parties[a].disk_held = false;
    liar.run(&mut sim);
    assert_eq!(liar.closed_by_node(&sim), None);
    assert!(sim.parties[a].node.wants_read(liar.id));
    assert_eq!(sim.parties[a].node.counters(liar.id).blocks_sent, 400);
}

#[test]
fn a_flood_of_wants_is_answered_sixteen_at_a_time_and_the_same_one_once() {
    let (mut sim, _, key, mut liar) = setup(100);
    let channel = liar.ask(&mut sim, key);
    let answers = |liar: &mut Liar, sim: &mut Sim, spans: &[Span]| {
        for span in spans {
            liar.connection.want(channel, *span).unwrap();
        }
        liar.outputs.clear();
        liar.run(sim);
        let have = |output: &&Output| matches!(output, Output::Have { .. });
        liar.outputs.iter().filter(have).count()
    };
    // The first time, the last block is told beside the answer.
    let unit = Span { start: 0, length: 1 << 20 };
    assert_eq!(answers(&mut liar, &mut sim, &[unit; 5000]), 2);
    assert_eq!(answers(&mut liar, &mut sim, &[unit]), 1, "a later one is answered");
    let distinct: Vec<_> = (0..5000).map(|n| Span { start: n * 8192, length: 8192 }).collect();
    assert_eq!(answers(&mut liar, &mut sim, &distinct), 16);
    assert_eq!(liar.closed_by_node(&sim), None);
}

#[test]
fn the_feed_list_and_the_root_key_are_never_taken_from_a_peer() {
    let (mut sim, _, _, mut liar) = setup(1);
    let list = {
        let paths =
            sim.parties[0].disk.memory().paths().filter(|path| path.as_str().ends_with("/key"));
        let ours: Vec<FeedKey> =
            sim.parties[0].node.feeds(util::FIRST).map(|feed| feed.key).collect();
        let keys = paths.map(|path| sim.parties[0].disk.memory().contents(path).unwrap());
        let mut keys =
            keys.map(|key| FeedKey(key.try_into().unwrap())).filter(|key| !ours.contains(key));
        keys.next().unwrap()
    };
    liar.connection.offer(liar.root, &[list, FeedKey(ROOT), THEIRS]).unwrap();
    liar.connection.request_feeds(liar.root, &[list, FeedKey(ROOT)]).unwrap();
    liar.run(&mut sim);
    let offered: Vec<FeedKey> = liar
        .outputs
        .iter()
        .filter_map(|output| match output {
            Output::Offered { keys, .. } | Output::Replicate { keys, .. } => Some(keys.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    assert!(!offered.contains(&list) && !offered.contains(&FeedKey(ROOT)));
    assert_eq!(sim.parties[0].node.feeds(util::FIRST).count(), 2);
}

#[test]
fn more_feeds_than_the_limit_are_not_taken() {
    let mut sim = Sim::new(65_536);
    let a = sim.party_with(Memory::new(), NodeConfig { max_feeds: 10, ..NodeConfig::default() });
    sim.writer(a, "w");
    let mut liar = Liar::new(&mut sim);
    let keys: Vec<FeedKey> = (0..200u8).map(|n| FeedKey([n; 32])).collect();
    liar.connection.offer(liar.root, &keys).unwrap();
    liar.run(&mut sim);
    // The writer, and half of the room that is left.
    assert_eq!(sim.parties[a].node.feeds(util::FIRST).count(), 6);
    assert_eq!(liar.closed_by_node(&sim), None);
}

#[test]
fn a_full_disk_fails_the_append_loses_nothing_and_the_writer_goes_on_when_there_is_room() {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed = sim.writer(a, "w");
    sim.append(a, feed, &[b"one", b"two"]);
    for allowed in 0..6 {
        let fault = multifeed_core::storage::Fault { after: allowed, kind: StorageErrorKind::Full };
        sim.parties[a].disk.set_fault(Some(fault));
        let command = sim.parties[a].node.append(sim.now, feed, vec![Bytes::from_static(b"lost")]);
        let result = sim.finish(a, command);
        sim.parties[a].disk.set_fault(None);
        if result.is_ok() {
            continue;
        }
        assert!(
            matches!(&result, Err(NodeError::Storage(error)) if error.kind == StorageErrorKind::Full),
            "{result:?}"
        );
        let before = sim.load(a, feed).length;
        sim.append(a, feed, &[b"next"]);
        assert_eq!(sim.load(a, feed).length, before + 1);
    }
    let b = sim.party(Memory::new());
    sim.connect(a, b);
    sim.sync();
    assert_eq!(sim.contents(a), sim.contents(b));
}

#[test]
fn a_full_disk_while_downloading_is_told_and_healed_by_a_new_connection() {
    let mut sim = Sim::new(2000);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, (0..500u64).map(|n| Bytes::from(vec![n as u8; 100])).collect());
    sim.parties[b].disk.set_fault(Some(multifeed_core::storage::Fault {
        after: 12,
        kind: StorageErrorKind::Full,
    }));
    let wire = sim.connect(a, b);
    sim.run();
    assert!(sim.parties[b].events.iter().any(|event| matches!(event, Event::FeedFailed { .. })));
    assert_ne!(sim.sync_state(wire, 1), SyncState::InSync);
    sim.parties[b].disk.set_fault(None);
    let (now, id) = (sim.now, sim.id(wire, 1));
    sim.parties[b].node.abort(now, id);
    sim.run();
    sim.pass(Duration::from_secs(6));
    let wire = sim.connect(a, b);
    sim.run();
    assert_eq!(sim.sync_state(wire, 1), SyncState::InSync);
    assert_eq!(sim.contents(a), sim.contents(b));
}

#[test]
fn a_slow_disk_stops_the_reading_and_memory_stays_bounded() {
    let mut sim = Sim::new(65_536);
    let config = NodeConfig { max_unstored_bytes: 200_000, ..NodeConfig::default() };
    let (a, b) = (sim.party(Memory::new()), sim.party_with(Memory::new(), config));
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, (0..3000u64).map(|n| Bytes::from(vec![n as u8; 1000])).collect());
    let wire = sim.connect(a, b);
    while sim.parties[b].node.counters(sim.id(wire, 1)).block_bytes_received == 0 {
        assert!(sim.step());
    }
    sim.parties[b].disk_held = true;
    sim.run();
    let received = sim.parties[b].node.counters(sim.id(wire, 1)).block_bytes_received;
    assert!(received < 700_000, "{received} bytes taken in with a disk that stands still");
    sim.parties[b].disk_held = false;
    sim.sync();
    assert_eq!(sim.contents(a), sim.contents(b));
}

#[test]
fn a_status_that_flaps_makes_no_flood_of_requests() {
    let (mut sim, _, _, mut liar) = setup(1);
    let channel = liar.offer(&mut sim, THEIRS);
    liar.have(&mut sim, channel, 0, 1000);
    let before = liar.requests().len();
    assert!(before > 0);
    for _ in 0..100 {
        for uploading in [false, true] {
            liar.connection.set_status(channel, Status { uploading, downloading: true }).unwrap();
            liar.run(&mut sim);
        }
    }
    assert_eq!(liar.requests().len(), before);
    sim.pass(Duration::from_secs(1));
    liar.run(&mut sim);
    assert!(liar.requests().len() > before, "requests were not made again");
}

#[test]
fn blocks_taken_back_are_not_waited_for() {
    let (mut sim, _, key, mut liar) = setup(1);
    let own = liar.ask(&mut sim, key);
    let channel = liar.offer(&mut sim, THEIRS);
    for channel in [own, channel] {
        let span = Span { start: 0, length: 1 << 20 };
        liar.connection.have_bitfield(channel, span, Bytes::new()).unwrap();
    }
    let nothing = Status { uploading: false, downloading: false };
    liar.connection.set_status(own, nothing).unwrap();
    liar.have(&mut sim, channel, 0, 1000);
    assert_ne!(sim.parties[0].node.sync_state(liar.id), SyncState::InSync);
    liar.connection.unhave(channel, Span { start: 0, length: (1 << 53) - 1 }).unwrap();
    liar.run(&mut sim);
    assert_eq!(sim.parties[0].node.sync_state(liar.id), SyncState::InSync);
}

#[test]
fn a_feed_closed_and_asked_for_again_and_again_takes_no_more_memory() {
    let (mut sim, _, key, mut liar) = setup(1);
    let mut channel = liar.ask(&mut sim, key);
    let size = |sim: &Sim| format!("{:?}", sim.parties[0].node).len();
    let mut before = 0;
    for round in 0..500 {
        liar.connection.close_feed(channel).unwrap();
        channel = liar.ask(&mut sim, key);
        liar.outputs.clear();
        sim.parties[0].events.clear();
        if round == 10 {
            before = size(&sim);
        }
    }
    assert!(size(&sim) < before + 2000, "{} after {before}", size(&sim));
    assert_eq!(sim.parties[0].node.counters(liar.id).feeds, 1);
    liar.connection.request(channel, Request::default()).unwrap();
    liar.run(&mut sim);
    assert_eq!(liar.data().len(), 1);
}

#[test]
fn a_want_beyond_the_log_is_answered_with_an_empty_bitfield() {
    let (mut sim, _, key, mut liar) = setup(100);
    let channel = liar.ask(&mut sim, key);
    let span = Span { start: 1 << 30, length: 1 << 20 };
    liar.connection.want(channel, span).unwrap();
    liar.run(&mut sim);
    let peer = liar.connection.peer(channel).unwrap();
    assert_eq!(peer.unanswered_wants(), 0);
    assert_eq!((peer.remote().first_in(0..u64::MAX), peer.remote_length()), (Some(99), 100));
}

#[test]
fn closes_of_feeds_that_are_not_open_are_ignored() {
    let (mut sim, _, key, mut liar) = setup(3);
    for _ in 0..50 {
        let channel = liar.ask(&mut sim, key);
        liar.connection.close_feed(channel).unwrap();
        liar.run(&mut sim);
    }
    let channel = liar.ask(&mut sim, key);
    liar.connection.request(channel, Request { index: 2, ..Request::default() }).unwrap();
    liar.run(&mut sim);
    assert_eq!(liar.data().len(), 1);
    assert_eq!(liar.closed_by_node(&sim), None);
}

#[test]
fn a_javascript_peer_that_waits_for_a_block_beyond_the_end_is_answered_while_blocks_are_fetched_from_it()
 {
    let mut sim = Sim::new(65_536);
    sim.party(Memory::new());
    let mut liar = Liar::new(&mut sim);
    liar.connection.request_feeds(liar.root, &[]).unwrap();
    let channel = liar.offer(&mut sim, THEIRS);
    let unit = |start| Span { start, length: 1 << 20 };
    liar.connection.have_bitfield(channel, unit(0), Bytes::new()).unwrap();
    liar.have(&mut sim, channel, 0, 4);
    assert_eq!(liar.requests(), [0, 1, 2, 3]);
    liar.outputs.clear();
    liar.connection.want(channel, unit(5 << 20)).unwrap();
    liar.run(&mut sim);
    let answered =
        |output: &Output| matches!(output, Output::Have { span, .. } if *span == unit(5 << 20));
    assert!(liar.outputs.iter().any(answered), "{:?}", liar.outputs);
    // The question that only this library asks waits for the blocks.
    liar.outputs.clear();
    liar.connection.want(channel, Span { start: 1 << 24, length: 8192 }).unwrap();
    liar.run(&mut sim);
    assert_eq!(liar.outputs, []);
}

/// Answers every request of the node on these channels with a lie.
fn lie(sim: &mut Sim, liar: &mut Liar, rounds: usize) {
    for _ in 0..rounds {
        let asked: Vec<_> = std::mem::take(&mut liar.outputs)
            .into_iter()
            .filter_map(|output| match output {
                Output::Request { channel, request } => Some((channel, request.index)),
                _ => None,
            })
            .collect();
        for (channel, index) in asked {
            // All that a proof in a log of 128 blocks needs.
            let nodes = (0..7u32).map(|depth| {
                let sibling = NodeIndex::at(depth, (index >> depth) ^ 1).0;
                TreeNode { index: sibling, hash: [9; 32], size: 1 << depth }
            });
            let (value, signature) = (Some(Bytes::from_static(b"lie")), Some([1; 64]));
            let data = Data { index, value, nodes: nodes.collect(), signature };
            let _ = liar.connection.send_data(channel, data);
        }
        liar.run(sim);
    }
}

#[test]
fn a_liar_is_asked_nothing_more_of_a_feed_after_a_few_lies_and_dropped_after_many_feeds() {
    let mut sim = Sim::new(65_536);
    sim.party(Memory::new());
    let mut liar = Liar::new(&mut sim);
    let keys: Vec<FeedKey> = (1..60u8)
        .map(|n| multifeed_core::crypto::SecretKey::from_seed(&[n; 32]).public())
        .collect();
    let first = liar.offer(&mut sim, keys[0]);
    liar.have(&mut sim, first, 0, 100);
    lie(&mut sim, &mut liar, 10);
    assert_eq!(liar.closed_by_node(&sim), None);
    liar.have(&mut sim, first, 0, 100);
    assert_eq!(liar.requests(), [] as [u64; 0], "asked again");
    for key in &keys[1..] {
        if liar.closed_by_node(&sim).is_some() {
            break;
        }
        let channel = liar.offer(&mut sim, *key);
        liar.have(&mut sim, channel, 0, 100);
        lie(&mut sim, &mut liar, 10);
    }
    let closed = liar.closed_by_node(&sim);
    assert!(matches!(closed, Some(Some(PeerError::Proof { .. }))), "{closed:?}");
}
