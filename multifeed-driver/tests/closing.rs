//! The end of a connection as the peer sees it: a peer played by hand, in chunks of any size.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod util;

use std::future::poll_fn;
use std::time::Duration;

use multifeed_driver::{
    ByteStream, Entropy, PeerError, ReplicationError, ReplicationEvent, Role, RootKey, SyncState,
    Timer, UserData,
};
use multifeed_proto::Config;
use multifeed_proto::messages::{Message, Open, Options};
use multifeed_proto::wire::{SplitKeys, Wire, WireEvent, capability};
use util::{End, Runtime, stream};

const NAMES: [&str; 4] = [
    "MULTIFEED_HANDSHAKE",
    "MULTIFEED_MANIFEST",
    "MULTIFEED_REPLICATE_FEEDS",
    "MULTIFEED_REQUEST_FEEDS",
];
const OTHER_VERSION: &str = r#"{"client":"MULTIFEED","version":"5.0.0"}"#;

/// The peer: says what it is told to and keeps what it hears.
struct Played {
    stream: End,
    wire: Wire,
    heard: Vec<Message>,
}

impl Played {
    fn new(stream: End, role: Role) -> Self {
        let wire = Wire::new(role, Entropy::from_seed([99; 32]), &Config::default());
        Self { stream, wire, heard: Vec::new() }
    }

    async fn write(&mut self) {
        while !self.wire.transmit().is_empty() {
            let bytes = self.wire.transmit().to_vec();
            let n = poll_fn(|cx| self.stream.poll_write(cx, &bytes)).await.unwrap();
            self.wire.transmitted(n);
        }
        poll_fn(|cx| self.stream.poll_flush(cx)).await.unwrap();
    }

    /// Reads once; `false` at the end.
    async fn read(&mut self) -> bool {
        let mut buffer = [0; 1000];
        let n = poll_fn(|cx| self.stream.poll_read(cx, &mut buffer)).await.unwrap();
        self.wire.handle_bytes(&buffer[..n]).unwrap();
        n > 0
    }

    async fn connect(&mut self) -> SplitKeys {
        loop {
            self.write().await;
            assert!(self.read().await);
            if let Some(WireEvent::Connected { keys, .. }) = self.wire.poll_event().unwrap() {
                self.write().await;
                return keys;
            }
        }
    }

    fn take_heard(&mut self) {
        while let Some(event) = self.wire.poll_event().unwrap() {
            let WireEvent::Message { message, .. } = event else { panic!("{event:?}") };
            self.heard.push(message);
        }
    }

    /// Opens the root and says hello in one go, after all that we say before.
    async fn greet(&mut self, keys: &SplitKeys, handshake: &str) {
        self.take_heard();
        while self.heard.is_empty() {
            assert!(self.read().await);
            self.take_heard();
        }
        let root = RootKey::new([7; 32]);
        let capability = Some(capability(keys, root.expose()));
        let open = Open { discovery_key: root.discovery_key(), capability };
        let extensions = NAMES.iter().map(ToString::to_string).collect();
        let payload = handshake.as_bytes().to_vec().into();
        for message in [
            Message::Open(open),
            Message::Options(Options { extensions, ack: None }),
            Message::Extension { id: 0, payload },
        ] {
            self.wire.send(1, &message).unwrap();
        }
        self.write().await;
    }
}

fn ours_and_other(role: Role) -> [Role; 2] {
    match role {
        Role::Initiator => [Role::Initiator, Role::Responder],
        Role::Responder => [Role::Responder, Role::Initiator],
    }
}

fn assert_mismatch(result: Option<Result<(), ReplicationError>>) {
    let error = result.expect("the connection is over").unwrap_err();
    let theirs = "5.0.0".to_owned();
    let expected = PeerError::VersionMismatch { ours: "4.0.0", theirs };
    assert!(matches!(&error, ReplicationError::Peer(error) if *error == expected), "{error:?}");
}

#[test]
fn a_peer_of_another_version_hears_our_handshake_and_then_the_end() {
    for role in [Role::Initiator, Role::Responder] {
        for chunk in [1, 2, 3, 700, 100_000] {
            let mut runtime = Runtime::new(chunk as u64);
            let storage = runtime.storage(false);
            let multi = runtime.open(&storage);
            let (ours, theirs) = stream(chunk);
            let [our_role, other] = ours_and_other(role);
            let replication = multi.replicate(ours, our_role);
            let handle = replication.handle();
            let ended = runtime.spawn(replication);
            let heard = runtime.spawn(async move {
                let mut peer = Played::new(theirs, other);
                let keys = peer.connect().await;
                peer.greet(&keys, OTHER_VERSION).await;
                while peer.read().await {}
                peer.take_heard();
                peer.heard
            });
            let start = runtime.clock.now();
            runtime.run();
            let heard = heard.lock().unwrap().take().expect("the end of the stream");
            assert!(matches!(heard[0], Message::Open(_)), "{heard:?}");
            assert!(matches!(heard[1], Message::Options(_)), "{heard:?}");
            let hello = |message: &Message| {
                matches!(message, Message::Extension { id: 0, payload }
                    if payload.ends_with(br#""4.0.0"}"#))
            };
            assert!(heard.get(2).is_some_and(hello), "role {role:?}, chunk {chunk}: {heard:?}");
            assert_mismatch(ended.lock().unwrap().take());
            assert_eq!(handle.sync_state(), SyncState::Closed);
            assert_eq!(runtime.clock.now(), start, "no time was needed");
        }
    }
}

#[test]
fn a_peer_that_does_not_end_its_side_after_an_error_is_left_after_two_seconds() {
    for chunk in [1, 700] {
        let mut runtime = Runtime::new(1);
        let storage = runtime.storage(false);
        let multi = runtime.open(&storage);
        let (ours, theirs) = stream(chunk);
        let ended = runtime.spawn(multi.replicate(ours, Role::Initiator));
        let peer = runtime.spawn(async move {
            let mut peer = Played::new(theirs, Role::Responder);
            let keys = peer.connect().await;
            peer.greet(&keys, OTHER_VERSION).await;
            peer
        });
        runtime.run();
        assert!(peer.lock().unwrap().is_some());
        assert!(ended.lock().unwrap().is_none(), "the peer may still take what was queued");
        let start = runtime.clock.now();
        runtime.run_until(|| ended.lock().unwrap().is_some());
        assert_eq!(runtime.clock.now().since(start), Duration::from_secs(2));
        assert_mismatch(ended.lock().unwrap().take());
    }
}

/// How a connection ends whose peer leaves after the Noise handshake, by the end or the failure of the stream.
fn left_by_the_peer(role: Role, chunk: usize, cut: bool) -> ReplicationError {
    let mut runtime = Runtime::new(chunk as u64);
    let storage = runtime.storage(false);
    let multi = runtime.open(&storage);
    let (ours, theirs) = stream(chunk);
    let faults = std::sync::Arc::clone(&ours.faults);
    let mut replication = multi.replicate(ours, role);
    let heard = runtime.spawn(async move {
        let mut events = Vec::new();
        while let Some(event) = replication.next().await {
            events.push(event);
        }
        events
    });
    let [_, other] = ours_and_other(role);
    let peer = runtime.spawn(async move {
        let mut peer = Played::new(theirs, other);
        peer.connect().await;
        peer
    });
    runtime.run();
    faults.read.store(cut, std::sync::atomic::Ordering::SeqCst);
    drop(peer.lock().unwrap().take().expect("the noise handshake"));
    runtime.run();
    let mut events = heard.lock().unwrap().take().expect("the end");
    let Some(ReplicationEvent::Closed { result }) = events.pop() else { panic!("{events:?}") };
    assert!(matches!(events[..], [ReplicationEvent::Connected { .. }]), "{events:?}");
    result.expect_err("nothing was agreed on")
}

#[test]
fn a_peer_that_leaves_before_its_multifeed_handshake_is_the_reason_of_the_end() {
    for role in [Role::Initiator, Role::Responder] {
        for chunk in [1, 3, 700] {
            for cut in [false, true] {
                let error = left_by_the_peer(role, chunk, cut);
                assert_eq!(error.code(), "ERR_PEER_LEFT", "{role:?} {chunk} {cut}: {error}");
                let expected = PeerError::Left { connected: true };
                assert!(matches!(&error, ReplicationError::Peer(error) if *error == expected));
            }
        }
    }
}

#[test]
fn user_data_of_the_peer_that_is_too_long_is_left_out() {
    for len in [UserData::MAX, UserData::MAX + 1] {
        let data = format!("\"{}\"", "x".repeat(len - 2));
        let handshake = format!(r#"{{"client":"MULTIFEED","version":"4.0.0","userData":{data}}}"#);
        let mut runtime = Runtime::new(1);
        let storage = runtime.storage(false);
        let multi = runtime.open(&storage);
        let (ours, theirs) = stream(700);
        let mut replication = multi.replicate(ours, Role::Initiator);
        let ready = runtime.spawn(async move {
            while let Some(event) = replication.next().await {
                if let ReplicationEvent::Ready { user_data, .. } = event {
                    return user_data;
                }
            }
            panic!("the connection ended before it was ready");
        });
        let _peer = runtime.spawn(async move {
            let mut peer = Played::new(theirs, Role::Responder);
            let keys = peer.connect().await;
            peer.greet(&keys, &handshake).await;
            peer
        });
        runtime.run();
        let heard = ready.lock().unwrap().take().expect("the handshake");
        assert_eq!(heard, UserData::from_json(data).ok(), "{len} bytes");
        assert_eq!(heard.is_some(), len == UserData::MAX);
    }
}

#[test]
fn a_stream_that_breaks_during_the_farewell_changes_nothing_of_the_error() {
    let mut runtime = Runtime::new(1);
    let storage = runtime.storage(false);
    let multi = runtime.open(&storage);
    let (ours, theirs) = stream(700);
    let faults = std::sync::Arc::clone(&ours.faults);
    let ended = runtime.spawn(multi.replicate(ours, Role::Initiator));
    let peer = runtime.spawn(async move {
        let mut peer = Played::new(theirs, Role::Responder);
        let keys = peer.connect().await;
        peer.greet(&keys, OTHER_VERSION).await;
        peer
    });
    runtime.run();
    faults.read.store(true, std::sync::atomic::Ordering::SeqCst);
    drop(peer.lock().unwrap().take());
    runtime.run();
    assert_mismatch(ended.lock().unwrap().take());
}

#[test]
fn a_store_closed_during_the_farewell_lets_it_come_to_its_end() {
    let mut runtime = Runtime::new(1);
    let storage = runtime.storage(false);
    let multi = runtime.open(&storage);
    let (ours, theirs) = stream(700);
    let ended = runtime.spawn(multi.replicate(ours, Role::Initiator));
    let peer = runtime.spawn(async move {
        let mut peer = Played::new(theirs, Role::Responder);
        let keys = peer.connect().await;
        peer.greet(&keys, OTHER_VERSION).await;
        peer
    });
    runtime.run();
    assert!(ended.lock().unwrap().is_none());
    runtime.wait(async move { multi.close().await }).unwrap();
    drop(peer.lock().unwrap().take());
    runtime.run();
    assert_mismatch(ended.lock().unwrap().take());
    assert_eq!(storage.closed(), 1);
}
