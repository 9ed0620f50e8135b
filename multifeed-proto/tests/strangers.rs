//! What a remote gets that has proven nothing: little memory, and none for what it announces.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use multifeed_proto::messages::{Message, Open, Options};
use multifeed_proto::{Config, Connection, DiscoveryKey, Output, PeerError, Role};
use util::remote::Remote;
use util::sessions::GOOD;
use util::{at, root};

const LIMIT: usize = 16 * 1024;

fn error(connection: &mut Connection) -> Option<PeerError> {
    let mut outputs = std::iter::from_fn(|| connection.poll_output());
    outputs.find_map(|output| match output {
        Output::Closed { error } => error,
        _ => None,
    })
}

fn body(len: usize) -> Message {
    Message::Extension { id: 900, payload: vec![7; len - 2].into() }
}

#[test]
fn a_frame_of_a_stranger_is_refused_by_its_length_above_16_kib() {
    let (mut connection, mut remote) = Remote::joined(Role::Responder, &Config::default());
    remote.say(0, &body(LIMIT));
    connection.handle_bytes(at(0), &remote.bytes());
    assert_eq!(error(&mut connection), None);
    remote.say(0, &body(LIMIT + 1));
    let bytes = remote.bytes();
    connection.handle_bytes(at(0), &bytes[..9]);
    let expected = PeerError::FrameLength { len: LIMIT as i128 + 1, max: LIMIT };
    assert_eq!(error(&mut connection), Some(expected));
}

#[test]
fn a_remote_that_proved_a_root_key_sends_large_frames_in_the_same_packet() {
    let (mut connection, mut remote) = Remote::joined(Role::Responder, &Config::default());
    let data = format!("\"{}\"", "x".repeat(60_000));
    remote.greet(&root(), &GOOD.replace('}', &format!(",\"userData\":{data}}}")));
    remote.say(0, &body(4_000_000));
    connection.handle_bytes(at(0), &remote.bytes());
    let outputs: Vec<_> = std::iter::from_fn(|| connection.poll_output()).collect();
    let ready = |output: &Output| matches!(output, Output::Ready { user_data, .. } if user_data.as_ref() == Some(&data));
    assert!(outputs.iter().any(ready), "{outputs:?}");
    assert!(!connection.is_closed());
}

#[test]
fn a_stranger_fills_a_few_kib_whatever_it_sends() {
    let (mut connection, mut remote) = Remote::joined(Role::Responder, &Config::default());
    let options = Options { extensions: vec!["n".repeat(60); 256], ack: None };
    remote.say(0, &Message::Options(options));
    for n in 0..4000u32 {
        let mut key = [5; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        let open = Open { discovery_key: DiscoveryKey(key), capability: Some([1; 32]) };
        remote.say(n + 1, &Message::Open(open));
    }
    remote.say(0, &body(LIMIT));
    let bytes = remote.bytes();
    // The last frame does not come whole.
    for packet in bytes[..bytes.len() - 100].chunks(1400) {
        connection.handle_bytes(at(0), packet);
        while connection.poll_output().is_some() {}
        remote.hear(&mut connection, 65_536);
    }
    assert!(!connection.is_closed() && !connection.is_proven());
    let memory = connection.memory();
    assert!(memory.total() < 100 * 1024, "{memory:?}");
    assert!(memory.pending < 20 * 1024 && memory.inbox < 40 * 1024, "{memory:?}");
}
