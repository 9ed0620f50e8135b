//! Recorded conversations of two JavaScript peers, repeated with their secrets.
#![allow(clippy::unwrap_used)]

extern crate std;

use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value;

use crate::golden::{array, bytes, files, list};
use crate::messages::{Message, codec};
use crate::wire::cipher::Encryption;
use crate::wire::frame::{self, Head};
use crate::wire::noise::Handshake;
use crate::wire::{SplitKeys, Wire, WireEvent};
use crate::{Config, Role};

const ROLES: [(Role, &str, &str); 2] = [(Role::Initiator, "I", "R"), (Role::Responder, "R", "I")];

#[test]
fn each_side_reads_all_that_its_javascript_peer_wrote_in_any_chunks() {
    for (file, vectors) in transcripts() {
        for (role, us, them) in ROLES {
            let input = bytes(&vectors["rawBytes"][them]);
            let expected = messages(&vectors, them);
            for chunk in [1, 2, 3, 59, 60, 61, 1000, input.len()] {
                let mut wire = wire(&vectors, role, us);
                let mut events = Vec::new();
                for bytes in input.chunks(chunk) {
                    wire.handle_bytes(bytes).unwrap();
                    while let Some(event) = wire.poll_event().unwrap() {
                        events.push(event);
                    }
                }
                assert!(!wire.is_mid_message(), "{file} {us} {chunk}");
                let mut events = events.into_iter();
                assert_eq!(events.next(), Some(connected(&vectors, us)), "{file} {us} {chunk}");
                assert!(events.eq(expected.iter().cloned()), "{file} {us} {chunk}");
            }
        }
    }
}

#[test]
fn each_side_writes_the_very_bytes_of_its_javascript_counterpart() {
    for (file, vectors) in transcripts() {
        for (role, us, them) in ROLES {
            let mut wire = wire(&vectors, role, us);
            let mut written = flush(&mut wire, 7);
            wire.handle_bytes(&bytes(&vectors["rawBytes"][them])).unwrap();
            written.extend(flush(&mut wire, 11));
            for frame in list(&vectors, "frames").iter().filter(|frame| frame["from"] == us) {
                match event(&bytes(&frame["plaintext"])) {
                    Some(WireEvent::Message { channel, message }) => {
                        wire.send(channel, &message).unwrap();
                    }
                    Some(WireEvent::Connected { .. }) => unreachable!(),
                    None => wire.send_keepalive(),
                }
                written.extend(flush(&mut wire, 13));
            }
            assert!(written == bytes(&vectors["rawBytes"][us]), "{file} {us}");
        }
    }
}

#[test]
fn messages_sent_early_follow_the_handshake_in_order() {
    for (file, vectors) in transcripts() {
        for (role, us, them) in ROLES {
            let mut wire = wire(&vectors, role, us);
            for event in messages(&vectors, us) {
                if let WireEvent::Message { channel, message } = event {
                    wire.send(channel, &message).unwrap();
                    wire.send_keepalive();
                }
            }
            wire.handle_bytes(&bytes(&vectors["rawBytes"][them])).unwrap();
            let mut peer = self::wire(&vectors, other(role), them);
            peer.handle_bytes(&flush(&mut wire, usize::MAX)).unwrap();
            assert_eq!(peer.poll_event(), Ok(Some(connected(&vectors, them))), "{file} {us}");
            for expected in messages(&vectors, us) {
                assert_eq!(peer.poll_event(), Ok(Some(expected)), "{file} {us}");
            }
            assert_eq!(peer.poll_event(), Ok(None), "{file} {us}");
        }
    }
}

#[test]
fn hostile_handshakes_end_the_connection_as_recorded() {
    for (file, vectors) in files("behaviour") {
        for case in list(&vectors, "cases").iter().filter(|case| case["layer"] == "noise") {
            let Some(input) = case["input"]["frameHex"].as_str().map(crate::golden::hex) else {
                continue;
            };
            let expect = case["expect"].as_str().unwrap();
            let mut wire =
                Wire::new(Role::Responder, crate::Entropy::from_seed([1; 32]), &Config::default());
            let result = wire.handle_bytes(&input);
            if !expect.contains("accept") && !expect.contains("wait") {
                assert!(result.is_err(), "{}", crate::golden::label(&file, case));
            } else if result.is_err() {
                assert!(expect.contains("destroy"), "{}", crate::golden::label(&file, case));
            }
        }
    }
}

fn transcripts() -> impl Iterator<Item = (String, Value)> {
    files("noise_").into_iter().chain(files("mux_"))
}

fn other(role: Role) -> Role {
    match role {
        Role::Initiator => Role::Responder,
        Role::Responder => Role::Initiator,
    }
}

fn wire(vectors: &Value, role: Role, us: &str) -> Wire {
    let secrets = &vectors["noise"][us];
    let handshake = Handshake::with_fixed_secrets(
        role,
        &array(&secrets["staticSecretKey"]),
        &array(&secrets["ephemeralSecretKey"]),
        array(&secrets["localNonce"]),
    );
    let encryption = match vectors["config"]["encrypted"].as_bool() {
        Some(false) => Encryption::Clear,
        Some(true) | None => Encryption::XSalsa20,
    };
    Wire::start(handshake, encryption, &Config::default())
}

fn connected(vectors: &Value, us: &str) -> WireEvent {
    let recorded = &vectors["noise"][us];
    WireEvent::Connected {
        remote_public_key: array(&recorded["remotePublicKey"]),
        handshake_hash: array(&recorded["handshakeHash"]),
        keys: SplitKeys { tx: array(&recorded["tx"]), rx: array(&recorded["rx"]) },
    }
}

/// What `side` said, without keepalives.
fn messages(vectors: &Value, side: &str) -> Vec<WireEvent> {
    list(vectors, "frames")
        .iter()
        .filter(|frame| frame["from"] == side)
        .filter_map(|frame| event(&bytes(&frame["plaintext"])))
        .collect()
}

/// The message in a frame, `None` for a keepalive.
fn event(frame: &[u8]) -> Option<WireEvent> {
    match frame::read_head(frame, &(&Config::default()).into()).unwrap().unwrap() {
        Head::Keepalive { .. } => None,
        Head::Frame(header) => {
            let body = bytes::Bytes::copy_from_slice(&frame[header.len..]);
            assert_eq!(body.len(), header.body_len);
            let message: Message = codec::decode(header.kind, body).unwrap().unwrap();
            Some(WireEvent::Message { channel: header.channel, message })
        }
    }
}

/// Writes what is waiting, `step` bytes at a time.
fn flush(wire: &mut Wire, step: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let bytes = wire.transmit();
        let n = bytes.len().min(step);
        if n == 0 {
            return out;
        }
        out.extend_from_slice(&bytes[..n]);
        wire.transmitted(n);
    }
}
