//! `multifeed-proto` alone against a live JavaScript peer: a connection without a store.

#![allow(clippy::unwrap_used, missing_docs)]
#![allow(clippy::wildcard_enum_match_arm, reason = "each wait looks for one output")]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use conformance::{Link, Store, block, root_key};
use multifeed_proto::messages::{Request, Span};
use multifeed_proto::{Config, FeedKey, FeedOptions, Output, PeerError, Role};

#[test]
fn a_connection_that_connects_shakes_hands_with_javascript() {
    let key = root_key("protocol initiator");
    let store = Store::new(&key);
    let mut peer = store.javascript();
    let mut link = Link::connect(peer.listen(), &key);
    link.until_ready();
}

#[test]
fn a_connection_that_accepts_shakes_hands_with_javascript() {
    let key = root_key("protocol responder");
    let store = Store::new(&key);
    let mut peer = store.javascript();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    peer.connect(listener.local_addr().unwrap().port());
    let mut link = Link::new(listener.accept().unwrap().0, Role::Responder, &key);
    link.until_ready();
}

#[test]
fn javascript_answers_an_offer_with_a_request_for_it() {
    let key = root_key("protocol offer");
    let store = Store::new(&key);
    let mut peer = store.javascript();
    let mut link = Link::connect(peer.listen(), &key);
    let root = link.until_ready();
    let offered = FeedKey::from_hex(&root_key("any feed key")).unwrap();
    link.connection.offer(root, &[offered]).unwrap();
    link.until("Requested", |output| {
        matches!(output, Output::Requested { keys, .. } if keys == &[offered]).then_some(())
    });
    // It makes the feed and opens its channel.
    link.until("RemoteOpened", |output| {
        matches!(output, Output::RemoteOpened { discovery_key }
            if *discovery_key == offered.discovery_key())
        .then_some(())
    });
    assert_eq!(peer.feeds()[0]["key"], offered.to_hex());
}

#[test]
fn a_block_of_javascript_comes_over_an_open_channel() {
    let key = root_key("protocol block");
    let store = Store::new(&key);
    let mut peer = store.javascript();
    let feed = FeedKey::from_hex(&peer.write("w", 3, &[50])).unwrap();
    let mut link = Link::connect(peer.listen(), &key);
    let root = link.until_ready();
    link.connection.offer(root, &[]).unwrap();
    let keys = link.until("Offered", |output| match output {
        Output::Offered { keys, .. } => Some(keys.clone()),
        _ => None,
    });
    assert_eq!(keys, [feed]);
    let now = link.now();
    link.connection.request_feeds(root, &keys).unwrap();
    link.until("Replicate", |output| match output {
        Output::Replicate { keys, ours: false, .. } => (keys == &[feed]).then_some(()),
        _ => None,
    });
    let options =
        FeedOptions { ack: true, uploading: true, downloading: true, ..FeedOptions::default() };
    let channel = link.connection.open_feed(&feed, options).unwrap();
    link.until("FeedOpened", |output| (output == &Output::FeedOpened { channel }).then_some(()));
    link.connection.want(channel, Span { start: 0, length: 1 << 20 }).unwrap();
    link.until("Have", |output| {
        matches!(output, Output::Have { span, .. } if span.length > 1).then_some(())
    });
    assert!(link.connection.peer(channel).unwrap().remote().contains(2));
    link.connection.request(channel, Request { index: 2, ..Request::default() }).unwrap();
    let data = link.until("Data", |output| match output {
        Output::Data { data, .. } => Some(data.clone()),
        _ => None,
    });
    assert_eq!((data.index, data.value.as_deref()), (2, Some(&block("w", 2, 50)[..])));
    assert!(data.signature.is_some());
    assert!(link.now() > now);
}

#[test]
fn a_wrong_root_key_ends_in_a_multifeed_timeout() {
    let store = Store::new(&root_key("protocol right"));
    let mut peer = store.javascript();
    let config = Config { multifeed_timeout: Duration::from_millis(500), ..Config::default() };
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, peer.listen())).unwrap();
    let mut link = Link::with(stream, Role::Initiator, &root_key("protocol wrong"), None, config);
    let error = link.until("Closed", |output| match output {
        Output::Closed { error } => Some(error.clone()),
        _ => None,
    });
    assert_eq!(error, Some(PeerError::MultifeedTimeout));
}
