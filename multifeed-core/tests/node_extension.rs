//! Messages of the application's own, on feeds and on streams.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use bytes::Bytes;
use multifeed_core::storage::Memory;
use multifeed_core::{ConnectionId, Event, FeedId, NodeError};
use util::Sim;
use util::liar::Liar;

/// What a party was told: connection, feed, name, message.
fn told(sim: &Sim, at: usize) -> Vec<(ConnectionId, Option<FeedId>, String, Bytes)> {
    let told = sim.parties[at].events.iter().filter_map(|event| match event {
        Event::Extension { connection, feed, name, payload } => {
            Some((*connection, *feed, name.clone(), payload.0.clone()))
        }
        _ => None,
    });
    told.collect()
}

#[test]
fn a_message_on_a_feed_reaches_the_peers_that_know_its_name() {
    for chunk in [1, 65_536] {
        let mut sim = Sim::new(chunk);
        let (a, b, c) =
            (sim.party(Memory::new()), sim.party(Memory::new()), sim.party(Memory::new()));
        let feed = sim.writer(a, "w");
        let key = sim.parties[a].node.feed(feed).unwrap().key;
        sim.parties[a].node.register_extension(sim.now, feed, "early").unwrap();
        let (to_b, _) = (sim.connect(a, b), sim.connect(a, c));
        sim.sync();
        let at_b = sim.parties[b].node.find(&key).unwrap();
        sim.parties[b].node.register_extension(sim.now, at_b, "early").unwrap();
        for at in [a, b] {
            let id = sim.parties[at].node.find(&key).unwrap();
            sim.parties[at].node.register_extension(sim.now, id, "a later name").unwrap();
        }
        sim.run();
        let (early, later) = (Bytes::from_static(b"1"), Bytes::from(vec![7; 5_000]));
        let node = &mut sim.parties[a].node;
        assert_eq!(node.send_extension(sim.now, feed, None, "early", &early), Ok(2));
        assert_eq!(node.send_extension(sim.now, feed, None, "a later name", &later), Ok(2));
        sim.sync();
        let id = sim.id(to_b, 1);
        assert_eq!(
            told(&sim, b),
            [
                (id, Some(at_b), "early".into(), early.clone()),
                (id, Some(at_b), "a later name".into(), later),
            ]
        );
        assert_eq!(told(&sim, c), []);
        let back = sim.parties[b].node.send_extension(sim.now, at_b, Some(id), "early", &early);
        assert_eq!(back, Ok(1));
        sim.sync();
        assert_eq!(told(&sim, a), [(sim.id(to_b, 0), Some(feed), "early".into(), early)]);
    }
}

#[test]
fn a_message_on_the_stream_may_come_before_the_multifeed_handshake() {
    let mut sim = Sim::new(3);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    for at in [a, b] {
        sim.parties[at].node.register_stream_extension(sim.now, "peer-id").unwrap();
    }
    let wire = sim.connect(a, b);
    let id = Bytes::from_static(b"who I am");
    let to = sim.id(wire, 0);
    assert_eq!(sim.parties[a].node.send_stream_extension(sim.now, Some(to), "peer-id", &id), Ok(1));
    while told(&sim, b).is_empty() {
        assert!(sim.step(), "never came");
    }
    let ready = |event: &Event| matches!(event, Event::RemoteFeeds { .. });
    assert!(!sim.parties[b].events.iter().any(ready));
    assert_eq!(told(&sim, b), [(sim.id(wire, 1), None, "peer-id".into(), id)]);
    sim.sync();
}

#[test]
fn stream_extensions_of_others_are_left_alone() {
    let mut sim = Sim::new(65_536);
    sim.party(Memory::new());
    sim.parties[0].node.register_stream_extension(sim.now, "mine").unwrap();
    let mut peer = Liar::new(&mut sim);
    for name in ["another", "mine", "peer-id"] {
        peer.connection.register_extension(name);
    }
    for name in ["another", "mine", "peer-id"] {
        peer.connection.extension(None, name, Bytes::from_static(b"x")).unwrap();
    }
    peer.run(&mut sim);
    let names: Vec<String> = told(&sim, 0).into_iter().map(|(_, _, name, _)| name).collect();
    assert_eq!(names, ["mine"]);
    assert_eq!(peer.closed_by_node(&sim), None);
}

#[test]
fn names_and_messages_that_cannot_be_are_refused() {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed = sim.writer(a, "w");
    let node = &mut sim.parties[a].node;
    let small = Bytes::from_static(b"x");
    let unknown = Err(NodeError::UnknownExtension);
    assert_eq!(node.send_extension(sim.now, feed, None, "e", &small), unknown);
    assert_eq!(node.send_stream_extension(sim.now, None, "e", &small), unknown);
    for name in ["", &"e".repeat(257)] {
        let refused = node.register_extension(sim.now, feed, name);
        assert!(matches!(refused, Err(NodeError::ExtensionName { .. })), "{refused:?}");
    }
    assert_eq!(node.register_extension(sim.now, FeedId(99), "e"), Err(NodeError::UnknownFeed));
    for n in 0..256 {
        node.register_extension(sim.now, feed, &format!("e{n}")).unwrap();
        node.register_extension(sim.now, feed, &format!("e{n}")).unwrap();
    }
    let refused = node.register_extension(sim.now, feed, "one more");
    assert!(matches!(refused, Err(NodeError::ExtensionName { .. })), "{refused:?}");
    assert_eq!(
        node.send_extension(sim.now, feed, None, "e0", &small),
        Ok(0),
        "nobody is connected"
    );

    let mut peer = Liar::new(&mut sim);
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    peer.ask(&mut sim, key);
    let large = Bytes::from(vec![0; 9 * 1024 * 1024]);
    let refused = sim.parties[a].node.send_extension(sim.now, feed, None, "e0", &large);
    assert!(matches!(refused, Err(NodeError::BlockTooLarge { .. })), "{refused:?}");
}

#[test]
fn messages_to_a_peer_that_does_not_read_are_left_out_when_too_many_wait() {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed = sim.writer(a, "w");
    sim.parties[a].node.register_extension(sim.now, feed, "e").unwrap();
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let mut peer = Liar::new(&mut sim);
    peer.ask(&mut sim, key);
    let message = Bytes::from(vec![1; 4 * 1024 * 1024]);
    let sent: usize = (0..40)
        .map(|_| sim.parties[a].node.send_extension(sim.now, feed, None, "e", &message).unwrap())
        .sum();
    assert!((8..40).contains(&sent), "{sent} messages wait");
    peer.run(&mut sim);
    assert_eq!(sim.parties[a].node.send_extension(sim.now, feed, None, "e", &message), Ok(1));
    assert_eq!(peer.closed_by_node(&sim), None);
}
