//! Which way blocks move, and how a connection that is not live ends.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::time::Duration;

use bytes::Bytes;
use multifeed_core::storage::Memory;
use multifeed_core::{Event, FeedId, NodeConfig, ReplicationOptions};
use multifeed_proto::Output;
use multifeed_proto::messages::{Request, Span, Status};
use util::Sim;
use util::liar::Liar;

const NOT_LIVE: ReplicationOptions =
    ReplicationOptions { live: false, upload: true, download: true };
const LIVE: ReplicationOptions = ReplicationOptions { live: true, upload: true, download: true };

fn blocks(name: &str, count: u64) -> Vec<Bytes> {
    (0..count).map(|n| Bytes::from(format!("{name} {n} {}", "x".repeat(n as usize % 90)))).collect()
}

/// How the connections of a party ended.
fn ends(sim: &Sim, at: usize) -> Vec<Option<String>> {
    let ended = sim.parties[at].events.iter().filter_map(|event| match event {
        Event::Closed { error, .. } => Some(error.as_ref().map(ToString::to_string)),
        _ => None,
    });
    ended.collect()
}

/// Two parties with `counts` blocks in a feed each.
fn parties(chunk: usize, counts: [u64; 2]) -> (Sim, [FeedId; 2]) {
    let mut sim = Sim::new(chunk);
    let mut feeds = [FeedId(0); 2];
    for (at, count) in counts.into_iter().enumerate() {
        assert_eq!(sim.party(Memory::new()), at);
        let name = format!("w{at}");
        feeds[at] = sim.writer(at, &name);
        sim.append_all(at, feeds[at], blocks(&name, count));
    }
    (sim, feeds)
}

#[test]
fn two_that_are_not_live_end_by_themselves_with_everything() {
    for chunk in [1, 3, 65_536] {
        for counts in [[0, 0], [1, 0], [0, 5], [200, 30]] {
            let (mut sim, _) = parties(chunk, counts);
            sim.connect_with(0, 1, [NOT_LIVE; 2]);
            let start = sim.now;
            sim.run();
            assert_eq!(ends(&sim, 0), [None], "{counts:?} in chunks of {chunk}");
            assert_eq!(ends(&sim, 1), [None], "{counts:?} in chunks of {chunk}");
            assert_eq!(sim.now, start, "no time was waited for");
            assert_eq!(sim.contents(0), sim.contents(1));
            assert_eq!(sim.contents(0).len(), 2);
        }
    }
}

#[test]
fn one_that_is_not_live_ends_the_stream_to_a_live_peer_when_they_are_in_sync() {
    for (first, second) in [(LIVE, NOT_LIVE), (NOT_LIVE, LIVE)] {
        for counts in [[0, 0], [50, 0], [0, 50], [300, 200]] {
            let (mut sim, _) = parties(1_000, counts);
            sim.connect_with(0, 1, [first, second]);
            sim.run();
            assert_eq!(ends(&sim, 0), [None], "{counts:?}");
            assert_eq!(ends(&sim, 1), [None], "{counts:?}");
            assert_eq!(sim.contents(0), sim.contents(1));
        }
    }
}

#[test]
fn a_middle_party_that_is_not_live_passes_on_what_it_has() {
    let (mut sim, _) = parties(65_536, [40, 0]);
    let c = sim.party(Memory::new());
    sim.connect_with(0, 1, [NOT_LIVE; 2]);
    sim.run();
    sim.connect_with(1, c, [NOT_LIVE; 2]);
    sim.run();
    assert_eq!(sim.contents(0), sim.contents(c));
    assert_eq!(ends(&sim, 1), [None, None]);
}

#[test]
fn a_sparse_party_that_is_not_live_ends_with_what_was_asked_for() {
    let mut sim = Sim::new(65_536);
    let config = NodeConfig { sparse: true, ..NodeConfig::default() };
    let (a, b) = (sim.party(Memory::new()), sim.party_with(Memory::new(), config));
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, blocks("w", 30));
    sim.connect_with(a, b, [NOT_LIVE; 2]);
    sim.run();
    assert_eq!((ends(&sim, a), ends(&sim, b)), (vec![None], vec![None]));
    assert!(sim.contents(b).values().flatten().all(Option::is_none));
}

#[test]
fn a_reader_that_has_all_says_so_and_closes_when_the_writer_wants_nothing() {
    let mut source = Sim::new(65_536);
    let w = source.party(Memory::new());
    let feed = source.writer(w, "w");
    source.append_all(w, feed, blocks("w", 3));
    let key = source.parties[w].node.feed(feed).unwrap().key;
    let mut at_writer = Liar::new(&mut source);
    let serving = at_writer.ask(&mut source, key);

    let mut sim = Sim::new(65_536);
    sim.party(Memory::new());
    let mut peer = Liar::with(&mut sim, NOT_LIVE);
    let channel = peer.offer(&mut sim, key);
    peer.have(&mut sim, channel, 0, 3);
    peer.connection
        .have_bitfield(channel, Span { start: 0, length: 1 << 20 }, Bytes::from_static(&[2, 0xe0]))
        .unwrap();
    peer.run(&mut sim);
    let statuses = |peer: &Liar| -> Vec<Status> {
        let status = |output: &Output| match output {
            Output::Status { status, .. } => Some(*status),
            _ => None,
        };
        peer.outputs.iter().filter_map(status).collect()
    };
    assert_eq!(statuses(&peer), [], "it lacks blocks");
    for index in peer.requests() {
        let request = Request { index, ..Request::default() };
        at_writer.connection.request(serving, request).unwrap();
        at_writer.run(&mut source);
        let data = (*at_writer.data().last().unwrap()).clone();
        peer.connection.send_data(channel, data).unwrap();
    }
    peer.run(&mut sim);
    assert_eq!(statuses(&peer), [Status { uploading: true, downloading: false }]);
    let closed =
        |peer: &Liar| peer.outputs.iter().any(|output| matches!(output, Output::FeedClosed { .. }));
    assert!(!closed(&peer), "the writer may still want something");
    peer.connection.set_status(channel, Status { uploading: false, downloading: false }).unwrap();
    peer.run(&mut sim);
    assert!(closed(&peer));
}

#[test]
fn a_connection_that_only_uploads_fetches_nothing_and_one_that_only_downloads_sends_nothing() {
    let (mut sim, _) = parties(65_536, [20, 30]);
    let up = ReplicationOptions { download: false, ..LIVE };
    let down = ReplicationOptions { upload: false, ..LIVE };
    for (first, second) in [(up, LIVE), (LIVE, down)] {
        let wire = sim.connect_with(0, 1, [first, second]);
        sim.run();
        let held: Vec<usize> =
            (0..2).map(|at| sim.contents(at).values().flatten().flatten().count()).collect();
        assert_eq!(held, [20, 50], "the second has both feeds, the first its own");
        sim.wires[wire].cut = true;
        for (party, id) in sim.wires[wire].ends {
            let now = sim.now;
            sim.parties[party].node.abort(now, id);
        }
        sim.run();
    }
    sim.connect(0, 1);
    sim.sync();
    assert_eq!(sim.contents(0), sim.contents(1));
}

#[test]
fn the_switches_of_a_feed_work_in_both_directions_while_connected() {
    let (mut sim, [feed, _]) = parties(65_536, [20, 0]);
    sim.connect(0, 1);
    sim.sync();
    let key = sim.parties[0].node.feed(feed).unwrap().key;
    let copy = sim.parties[1].node.find(&key).unwrap();
    let held = |sim: &mut Sim| sim.contents(1)[&key.to_hex()].iter().flatten().count();

    sim.parties[0].node.set_transfer(sim.now, feed, false, true);
    sim.run();
    sim.append_all(0, feed, blocks("more", 10));
    sim.pass(Duration::from_secs(30));
    assert_eq!(held(&mut sim), 20, "the writer does not upload");
    sim.parties[0].node.set_transfer(sim.now, feed, true, true);
    sim.pass(Duration::from_secs(2));
    assert_eq!(held(&mut sim), 30);

    sim.parties[1].node.set_transfer(sim.now, copy, true, false);
    sim.run();
    sim.append_all(0, feed, blocks("again", 10));
    sim.pass(Duration::from_secs(30));
    assert_eq!(held(&mut sim), 30, "the reader does not download");
    sim.parties[1].node.set_transfer(sim.now, copy, true, true);
    sim.sync();
    assert_eq!(held(&mut sim), 40);
}

#[test]
fn a_peer_that_uploads_again_is_asked_again_for_what_it_has() {
    let (sim, [feed, _]) = parties(65_536, [5, 0]);
    let key = sim.parties[0].node.feed(feed).unwrap().key;
    let mut sim = Sim::new(65_536);
    sim.party(Memory::new());
    let mut peer = Liar::new(&mut sim);
    let channel = peer.offer(&mut sim, key);
    let wants = |peer: &Liar| {
        peer.outputs.iter().filter(|output| matches!(output, Output::Want { .. })).count()
    };
    assert_eq!(wants(&peer), 1);
    let off = Status { uploading: false, downloading: true };
    peer.connection.set_status(channel, off).unwrap();
    peer.have(&mut sim, channel, 0, 5);
    assert!(peer.requests().is_empty());
    let on = Status { uploading: true, downloading: true };
    peer.connection.set_status(channel, on).unwrap();
    peer.run(&mut sim);
    sim.pass(Duration::from_secs(1));
    peer.run(&mut sim);
    assert_eq!(peer.requests(), [0, 1, 2, 3, 4]);
    assert_eq!(wants(&peer), 2);
}
