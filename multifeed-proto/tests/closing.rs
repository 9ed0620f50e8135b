//! What is still said when a connection ends, and what is not.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use multifeed_proto::messages::{Message, Status};
use multifeed_proto::{Config, Connection, Entropy, FeedOptions, Output, PeerError, Role, RootKey};
use util::remote::Remote;
use util::sessions::{GOOD, NAMES, options, text};
use util::{at, feed, root};

const ROLES: [Role; 2] = [Role::Initiator, Role::Responder];
const CHUNKS: [usize; 4] = [1, 2, 3, 65_536];

fn closed(connection: &mut Connection) -> Option<PeerError> {
    let last = std::iter::from_fn(|| connection.poll_output()).last();
    match last {
        Some(Output::Closed { error }) => error,
        other => panic!("not closed: {other:?}"),
    }
}

/// What a peer hears of us that greets in one go with its Open.
fn heard_after(role: Role, chunk: usize, greeting: &str) -> (PeerError, Vec<(u32, Message)>) {
    let (mut connection, mut remote) = Remote::joined(role, &Config::default());
    remote.greet(&root(), greeting);
    connection.handle_bytes(at(1), &remote.bytes());
    let error = closed(&mut connection).expect("an error");
    assert!(connection.is_closed());
    (error, remote.hear(&mut connection, chunk))
}

fn assert_greeted(heard: &[(u32, Message)]) {
    assert!(matches!(&heard[0], (1, Message::Open(_))), "{heard:?}");
    // In both dialects: on the channel of the root key, then on the stream.
    for (channel, greeting) in [(1, &heard[1..3]), (0, &heard[3..])] {
        assert_eq!(greeting.len(), 2, "{heard:?}");
        assert_eq!(greeting[0], (channel, options(&NAMES)));
        assert_eq!(greeting[1].0, channel);
        assert_eq!(text(&greeting[1]), (0, GOOD.to_owned()));
    }
}

#[test]
fn a_peer_of_another_version_hears_our_handshake_before_the_end() {
    for role in ROLES {
        for chunk in CHUNKS {
            let greeting = r#"{"client":"MULTIFEED","version":"5.0.0"}"#;
            let (error, heard) = heard_after(role, chunk, greeting);
            let theirs = "5.0.0".to_owned();
            assert_eq!(error, PeerError::VersionMismatch { ours: "4.0.0", theirs });
            assert_greeted(&heard);
        }
    }
}

#[test]
fn a_peer_of_another_client_hears_our_handshake_before_the_end() {
    for role in ROLES {
        for chunk in CHUNKS {
            let greeting = r#"{"client":"OTHER","version":"4.0.0"}"#;
            let (error, heard) = heard_after(role, chunk, greeting);
            let theirs = "OTHER".to_owned();
            assert_eq!(error, PeerError::ClientMismatch { ours: "MULTIFEED", theirs });
            assert_greeted(&heard);
        }
    }
}

#[test]
fn what_was_queued_before_a_bad_frame_is_still_sent() {
    let (mut connection, mut remote) = Remote::joined(Role::Initiator, &Config::default());
    remote.greet(&root(), GOOD);
    connection.handle_bytes(at(1), &remote.bytes());
    remote.hear(&mut connection, 65_536);
    let channel = connection.open_feed(&feed(1), FeedOptions::default()).unwrap();
    // In clear all of these bytes are below 0x80; with that bit they are a varint without end.
    remote.say(1, &Message::Status(Status { uploading: true, downloading: false }));
    remote.say(1, &Message::Status(Status { uploading: true, downloading: false }));
    let garbage: Vec<u8> = remote.bytes().iter().map(|byte| byte ^ 0x80).collect();
    connection.handle_bytes(at(2), &garbage);
    assert_eq!(closed(&mut connection), Some(PeerError::Varint));
    let heard = remote.hear(&mut connection, 65_536);
    assert!(matches!(&heard[..], [(id, Message::Open(_))] if *id == channel.0), "{heard:?}");
}

#[test]
fn what_was_queued_before_a_close_for_an_error_is_still_sent() {
    let (mut connection, mut remote) = Remote::joined(Role::Responder, &Config::default());
    let waiting = connection.buffered();
    let problem = "made up";
    let error = PeerError::Proof { feed: String::new(), index: 7, problem };
    connection.close(Some(error.clone()));
    assert_eq!(closed(&mut connection), Some(error));
    assert_eq!(connection.buffered(), waiting);
    assert!(matches!(&remote.hear(&mut connection, 3)[..], [(1, Message::Open(_))]));
    assert_eq!((connection.buffered(), connection.transmit()), (0, &[][..]));
}

#[test]
fn what_was_queued_before_the_remotes_end_is_still_sent() {
    let (mut connection, mut remote) = Remote::joined(Role::Responder, &Config::default());
    connection.handle_eof(at(1));
    assert_eq!(closed(&mut connection), Some(PeerError::Left { connected: true }));
    assert!(matches!(&remote.hear(&mut connection, 3)[..], [(1, Message::Open(_))]));
}

/// How a connection ends when its peer ends the stream, and when the stream fails.
fn ends(make: impl Fn() -> Connection) -> [Option<PeerError>; 2] {
    let (mut ended, mut cut) = (make(), make());
    ended.handle_eof(at(1));
    cut.handle_cut(at(1));
    [closed(&mut ended), closed(&mut cut)]
}

#[test]
fn a_peer_that_leaves_before_any_multifeed_handshake_is_named_for_it() {
    for role in ROLES {
        let config = Config::default();
        let left = |connected| Some(PeerError::Left { connected });
        let silent = || {
            let entropy = Entropy::from_seed([1; 32]);
            let mut connection = Connection::new(role, Config::default(), entropy, at(0));
            connection.join(at(0), root(), None).unwrap();
            connection
        };
        assert_eq!(ends(silent), [left(false), None]);
        assert_eq!(ends(|| Remote::joined(role, &config).0), [left(true), left(true)]);
        // It opens a channel of its own, as one with another root key does.
        let other = || {
            let (mut connection, mut remote) = Remote::joined(role, &config);
            remote.greet(&RootKey::new([99; 32]), GOOD);
            connection.handle_bytes(at(0), &remote.bytes());
            connection
        };
        assert_eq!(ends(other), [left(true), left(true)]);
        let text = left(true).unwrap().to_string();
        assert!(text.contains("without a multifeed handshake"), "{text}");
    }
}

#[test]
fn an_end_is_in_order_where_nothing_was_waited_for() {
    for role in ROLES {
        let config = Config::default();
        let nothing_joined = || Remote::connect(role, &config).0;
        let ready = || {
            let (mut connection, mut remote) = Remote::joined(role, &config);
            remote.greet(&root(), GOOD);
            connection.handle_bytes(at(0), &remote.bytes());
            connection
        };
        let we_left_first = || {
            let (mut connection, _) = Remote::joined(role, &config);
            connection.shutdown();
            connection
        };
        assert_eq!(ends(nothing_joined), [None, None]);
        assert_eq!(ends(ready), [None, None]);
        assert_eq!(ends(we_left_first), [None, None]);
    }
}

#[test]
fn a_peer_that_does_not_read_is_sent_nothing_more() {
    let max = 100;
    for error in
        [PeerError::Silent, PeerError::HandshakeTimeout, PeerError::Outbox { bytes: 101, max }]
    {
        let (mut connection, _) = Remote::joined(Role::Initiator, &Config::default());
        assert!(connection.buffered() > 0);
        connection.close(Some(error));
        assert_eq!((connection.buffered(), connection.transmit()), (0, &[][..]));
        connection.transmitted(at(1), 5);
    }
}

#[test]
fn a_half_closed_side_still_sends_what_waits_and_nothing_after_it() {
    let (mut connection, mut remote) = Remote::joined(Role::Initiator, &Config::default());
    connection.shutdown();
    assert!(connection.is_shut_down() && !connection.transmit().is_empty());
    // The answer to the greeting would be our handshake: it is too late for that.
    remote.greet(&root(), GOOD);
    connection.handle_bytes(at(1), &remote.bytes());
    assert!(matches!(&remote.hear(&mut connection, 1)[..], [(1, Message::Open(_))]));
    connection.handle_eof(at(2));
    assert_eq!(closed(&mut connection), None);
    assert_eq!(connection.transmit(), b"");
}

#[test]
fn what_waits_for_a_handshake_that_never_ends_does_not_wait_after_the_end() {
    for role in ROLES {
        let entropy = Entropy::from_seed([1; 32]);
        let mut connection = Connection::new(role, Config::default(), entropy, at(0));
        connection.register_extension("a");
        connection.extension(None, "a", b"hello"[..].into()).unwrap();
        let sent = connection.transmit().len();
        assert!(connection.buffered() > sent);
        connection.close(None);
        connection.transmitted(at(0), sent);
        assert_eq!(connection.buffered(), 0, "{role:?}");
    }
}
