//! What a peer that never became one is called: it said nothing, is another service, or did not finish.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::time::Duration;

use multifeed_proto::{Config, Connection, Entropy, Output, PeerError, Role};
use util::remote::Remote;
use util::{at, root};

const ROLES: [Role; 2] = [Role::Initiator, Role::Responder];

fn alone(role: Role, config: Config) -> Connection {
    let mut connection = Connection::new(role, config, Entropy::from_seed([1; 32]), at(0));
    connection.join(at(0), root(), None).unwrap();
    connection
}

fn closed(connection: &mut Connection) -> Option<PeerError> {
    match std::iter::from_fn(|| connection.poll_output()).last() {
        Some(Output::Closed { error }) => error,
        other => panic!("not closed: {other:?}"),
    }
}

/// Lets time pass until the connection is over.
fn wait(connection: &mut Connection) -> Option<PeerError> {
    while !connection.is_closed() {
        let due = connection.poll_timeout().expect("a timer runs");
        connection.handle_timeout(due);
    }
    closed(connection)
}

#[test]
fn one_that_says_nothing_is_not_taken_for_one_with_another_root_key() {
    for role in ROLES {
        let error = wait(&mut alone(role, Config::default())).unwrap();
        assert_eq!(error, PeerError::NothingCame);
        assert_eq!(error.code(), "ERR_NOTHING_CAME");
        assert!(error.to_string().contains("said nothing"), "{error}");
        // Whichever timer is the first.
        for config in [
            Config { multifeed_timeout: Duration::ZERO, ..Config::default() },
            Config { handshake_timeout: Duration::from_secs(1), ..Config::default() },
            Config { idle_timeout: Duration::from_secs(1), ..Config::default() },
            Config { first_message_timeout: Duration::from_secs(1), ..Config::default() },
        ] {
            assert_eq!(wait(&mut alone(role, config)), Some(PeerError::NothingCame));
        }
    }
}

#[test]
fn one_that_begins_a_handshake_and_goes_no_further_is_named_for_that() {
    for role in ROLES {
        for bytes in [&[122][..], &[58, 1, 2, 3], &[0x80]] {
            let mut connection = alone(role, Config::default());
            connection.handle_bytes(at(1), bytes);
            assert_eq!(wait(&mut connection), Some(PeerError::HandshakeTimeout), "{bytes:?}");
        }
    }
}

#[test]
fn one_that_finishes_it_and_proves_no_root_key_is_named_for_that() {
    for role in ROLES {
        let (mut connection, _) = Remote::joined(role, &Config::default());
        let error = wait(&mut connection).unwrap();
        assert_eq!(error, PeerError::MultifeedTimeout);
        assert!(error.to_string().contains("another root key"), "{error}");
    }
}

#[test]
fn another_service_is_named_as_soon_as_it_shows_itself() {
    for role in ROLES {
        for (first, speaks) in [
            (&b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n"[..], "HTTP"),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP"),
            (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
            (b"\x15\x03\x03\x00\x02\x02\x46", "TLS"),
            (b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03", "TLS"),
            (b"220 mail.example.org ESMTP\r\n", "SMTP or FTP"),
        ] {
            for chunk in [1, first.len()] {
                let mut connection = alone(role, Config::default());
                for piece in first.chunks(chunk) {
                    connection.handle_bytes(at(1), piece);
                }
                let error = closed(&mut connection).unwrap();
                assert_eq!(error, PeerError::OtherProtocol { speaks }, "{first:?}");
                assert_eq!(error.code(), "ERR_HANDSHAKE");
            }
        }
    }
}

#[test]
fn lines_of_text_are_no_handshake_however_it_ends() {
    let error = Some(PeerError::OtherProtocol { speaks: "a protocol of text lines" });
    for role in ROLES {
        let greeted = || {
            let mut connection = alone(role, Config::default());
            connection.handle_bytes(at(1), b"welcome\r\n");
            connection
        };
        assert_eq!(wait(&mut greeted()), error);
        let mut ended = greeted();
        ended.handle_eof(at(2));
        assert_eq!(closed(&mut ended), error);
        // An end in the middle of what may be a handshake is that and no more.
        let mut cut = alone(role, Config::default());
        cut.handle_bytes(at(1), &[58, 1, 2, 3]);
        cut.handle_eof(at(2));
        assert_eq!(closed(&mut cut), Some(PeerError::Truncated));
    }
}

#[test]
fn the_first_message_has_a_time_of_its_own_where_that_is_set() {
    let config = Config { first_message_timeout: Duration::from_secs(3), ..Config::default() };
    let mut slow = alone(Role::Responder, config.clone());
    for second in 1..3 {
        slow.handle_bytes(at(second * 1000), &[58]);
        slow.handle_timeout(at(second * 1000));
        assert!(!slow.is_closed());
    }
    assert_eq!(slow.poll_timeout(), Some(at(3000)));
    slow.handle_timeout(at(3000));
    assert_eq!(closed(&mut slow), Some(PeerError::HandshakeTimeout));

    let (mut connected, _) = Remote::joined(Role::Responder, &config);
    assert_eq!(wait(&mut connected), Some(PeerError::MultifeedTimeout));
}
