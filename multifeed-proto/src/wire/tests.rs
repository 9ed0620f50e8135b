//! Handshakes with peers that do not play by the rules, and what memory and order are promised.
#![allow(clippy::unwrap_used)]

extern crate std;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;
use snow::HandshakeState;

use crate::messages::{Data, Message, Status, codec};
use crate::wire::resolver::Resolver;
use crate::wire::{Wire, WireEvent, frame, varint};
use crate::{Config, Entropy, PeerError, Role};

#[test]
fn a_handshake_message_of_length_zero_is_refused() {
    for role in [Role::Initiator, Role::Responder] {
        let error = PeerError::HandshakeLength { len: 0, max: 1024 };
        assert_eq!(wire(role, 1).handle_bytes(&[0]), Err(error));
    }
}

#[test]
fn a_handshake_message_above_the_limit_is_refused_by_its_length_alone() {
    let mut announced = Vec::new();
    varint::write(1025, &mut announced);
    let error = PeerError::HandshakeLength { len: 1025, max: 1024 };
    assert_eq!(wire(Role::Responder, 1).handle_bytes(&announced), Err(error));
    announced.clear();
    varint::write(1024, &mut announced);
    assert_eq!(wire(Role::Responder, 1).handle_bytes(&announced), Ok(()));
}

#[test]
fn an_endless_handshake_length_is_refused() {
    let mut wire = wire(Role::Responder, 1);
    assert_eq!(wire.handle_bytes(&[0x80; 7]), Ok(()));
    assert_eq!(wire.handle_bytes(&[0x80]), Err(PeerError::Varint));
}

#[test]
fn a_handshake_message_that_is_too_short_is_refused() {
    for len in 1..32 {
        let result = wire(Role::Responder, 1).handle_bytes(&framed(&vec![7; len]));
        assert_eq!(result, Err(PeerError::Handshake), "{len}");
    }
    for len in 1..122 {
        let result = wire(Role::Initiator, 1).handle_bytes(&framed(&vec![7; len]));
        assert_eq!(result, Err(PeerError::Handshake), "{len}");
    }
}

#[test]
fn points_of_low_order_are_refused_in_either_role() {
    for point in LOW_ORDER_POINTS {
        let point = hex(point);
        let first = [&point[..], &noise_payload()].concat();
        assert_eq!(
            wire(Role::Responder, 1).handle_bytes(&framed(&first)),
            Err(PeerError::Handshake)
        );
        let second = [&point[..], &[9; 90]].concat();
        assert_eq!(
            wire(Role::Initiator, 1).handle_bytes(&framed(&second)),
            Err(PeerError::Handshake)
        );
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_handshake_message_is_noticed() {
    let (mut alice, mut bob) = (wire(Role::Initiator, 1), wire(Role::Responder, 2));
    deliver(&mut alice, &mut bob);
    let second = take(&mut bob);
    // The length comes first; a changed one is another error, or waits.
    for i in 1..second.len() {
        let mut damaged = second.clone();
        damaged[i] ^= 1 << (i % 8);
        let mut alice = wire(Role::Initiator, 1);
        assert_eq!(alice.handle_bytes(&damaged), Err(PeerError::Handshake), "byte {i}");
    }
    alice.handle_bytes(&second).unwrap();
    let third = take(&mut alice);
    for i in 1..third.len() {
        let mut damaged = third.clone();
        damaged[i] ^= 1 << (i % 8);
        let (mut alice, mut bob) = (wire(Role::Initiator, 1), wire(Role::Responder, 2));
        deliver(&mut alice, &mut bob);
        assert_eq!(bob.handle_bytes(&damaged), Err(PeerError::Handshake), "byte {i}");
    }
}

#[test]
fn a_handshake_without_any_payload_is_refused_at_its_end() {
    assert_eq!(handshake_with([&[], &[]]).map(|_| ()), Err(PeerError::HandshakePayload));
}

#[test]
fn a_first_message_without_payload_is_accepted() {
    assert!(handshake_with([&[], &noise_payload()]).unwrap().is_connected());
}

#[test]
fn the_last_payload_that_is_not_empty_counts() {
    assert!(handshake_with([&[0xff], &noise_payload()]).unwrap().is_connected());
    assert!(handshake_with([&noise_payload(), &[]]).unwrap().is_connected());
    let result = handshake_with([&noise_payload(), &[0xff]]).map(|_| ());
    assert_eq!(result, Err(PeerError::HandshakePayload));
}

#[test]
fn a_payload_that_is_no_nonce_of_24_bytes_is_refused() {
    let short = [&[0x0a, 23][..], &[1; 23]].concat();
    let long = [&[0x0a, 25][..], &[1; 25]].concat();
    let truncated = [&[0x0a, 24][..], &[1; 23]].concat();
    let other_field = [&[0x12, 24][..], &[1; 24]].concat();
    let group = [&noise_payload()[..], &[0x1b, 0x1c]].concat();
    for payload in [&short[..], &long, &truncated, &other_field, &group, b"nonsense"] {
        let result = handshake_with([&noise_payload(), payload]).map(|_| ());
        assert_eq!(result, Err(PeerError::HandshakePayload), "{payload:?}");
    }
    let unknown_field = [&noise_payload()[..], &[0x12, 1, 9]].concat();
    assert!(handshake_with([&[], &unknown_field]).is_ok());
}

#[test]
fn after_an_error_every_call_repeats_it() {
    let (mut alice, mut bob) = pair();
    alice.handle_bytes(&[1, 0x0b, 0x01, 0x90, 0x01]).unwrap();
    let error = alice.poll_event().unwrap_err();
    assert!(matches!(error, PeerError::FrameLength { len: -1, .. }));
    assert_eq!(alice.handle_bytes(&[0]), Err(error.clone()));
    assert_eq!(alice.poll_event(), Err(error.clone()));
    assert_eq!(alice.poll_event(), Err(error));
    assert!(!alice.is_connected());
    assert!(!alice.is_mid_message());
    alice.send(1, &status()).unwrap();
    assert_eq!(alice.buffered(), 0, "nothing is queued for a connection that failed");

    bob.handle_bytes(&[0x80; 8]).unwrap();
    assert_eq!(bob.poll_event(), Err(PeerError::Varint));
    assert_eq!(bob.handle_bytes(&[]), Err(PeerError::Varint));
}

#[test]
fn messages_before_an_error_in_the_same_bytes_are_returned() {
    let (mut alice, _) = pair();
    let mut bytes = frame_of(1, &status());
    bytes.extend_from_slice(&[1, 0x00]);
    alice.handle_bytes(&bytes).unwrap();
    assert_eq!(alice.poll_event(), Ok(Some(WireEvent::Message { channel: 1, message: status() })));
    let problem = "no discovery key";
    assert_eq!(alice.poll_event(), Err(PeerError::Message { message: "Open", problem }));
}

#[test]
fn a_huge_announced_length_takes_no_memory_before_its_bytes() {
    let (mut alice, _) = pair();
    let mut bytes = Vec::new();
    frame::write_header(1, 9, 8 * 1024 * 1024, &mut bytes);
    alice.handle_bytes(&bytes).unwrap();
    assert_eq!(alice.poll_event(), Ok(None));
    for sent in 1..=1000 {
        alice.handle_bytes(&[0; 100]).unwrap();
        assert_eq!(alice.poll_event(), Ok(None));
        assert!(alice.inbox_capacity() <= 1024 + 2 * 100 * sent, "{}", alice.inbox_capacity());
    }
    assert!(alice.is_mid_message());
}

#[test]
fn a_large_frame_is_read_byte_by_byte_in_linear_time() {
    let (mut alice, _) = pair();
    let value = Bytes::from(vec![5; 1024 * 1024]);
    let message =
        Message::Data(Data { index: 0, value: Some(value), nodes: vec![], signature: None });
    let bytes = frame_of(1, &message);
    let (last, before) = bytes.split_last().unwrap();
    // Quadratic time would copy half a terabyte here.
    for byte in before {
        alice.handle_bytes(&[*byte]).unwrap();
        assert_eq!(alice.poll_event(), Ok(None));
    }
    alice.handle_bytes(&[*last]).unwrap();
    assert_eq!(alice.poll_event(), Ok(Some(WireEvent::Message { channel: 1, message })));
    assert!(!alice.is_mid_message());
}

#[test]
fn a_large_value_leaves_with_its_buffer_and_a_small_one_without() {
    let mut body = vec![0x08, 1, 0x12];
    varint::write(100_000, &mut body);
    body.extend_from_slice(&[7; 100_000]);
    let body = Bytes::from(body);
    let Ok(Some(Message::Data(data))) = codec::decode(9, body.clone()) else { panic!() };
    assert!(body.as_ptr_range().contains(&data.value.unwrap().as_ptr()));

    let mut body = vec![0x08, 1, 0x12, 1, 7, 0x7a];
    varint::write(100_000, &mut body);
    body.extend_from_slice(&[7; 100_000]);
    let body = Bytes::from(body);
    let Ok(Some(Message::Data(data))) = codec::decode(9, body.clone()) else { panic!() };
    let value = data.value.unwrap();
    assert_eq!(value, [7_u8][..]);
    assert!(!body.as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn bytes_behind_the_last_handshake_message_are_frames() {
    let (mut alice, mut bob) = (wire(Role::Initiator, 1), wire(Role::Responder, 2));
    deliver(&mut alice, &mut bob);
    deliver(&mut bob, &mut alice);
    alice.send(3, &status()).unwrap();
    let packet = take(&mut alice);
    bob.handle_bytes(&packet).unwrap();
    assert!(matches!(bob.poll_event(), Ok(Some(WireEvent::Connected { .. }))));
    assert_eq!(bob.poll_event(), Ok(Some(WireEvent::Message { channel: 3, message: status() })));
}

#[test]
fn keepalives_wait_for_nothing_and_are_not_sent_while_handshaking() {
    let mut alice = wire(Role::Initiator, 1);
    let before = alice.buffered();
    alice.send_keepalive();
    assert_eq!(alice.buffered(), before);

    let (mut alice, mut bob) = pair();
    alice.send_keepalive();
    alice.send_keepalive();
    assert_eq!(alice.buffered(), 1);
    deliver(&mut alice, &mut bob);
    assert_eq!(bob.poll_event(), Ok(None));
    assert!(!bob.is_mid_message());
}

#[test]
fn the_end_of_the_stream_is_clean_only_between_frames() {
    assert!(wire(Role::Responder, 1).is_mid_message(), "the handshake is not over");
    let (mut alice, _) = pair();
    assert!(!alice.is_mid_message());
    for byte in frame_of(300, &status()) {
        assert_eq!(alice.poll_event(), Ok(None));
        alice.handle_bytes(&[byte]).unwrap();
        assert!(alice.is_mid_message());
    }
    assert!(alice.poll_event().unwrap().is_some());
    assert!(!alice.is_mid_message());
}

#[test]
fn the_same_entropy_gives_the_same_bytes() {
    let first = take(&mut wire(Role::Initiator, 1));
    assert_eq!(first, take(&mut wire(Role::Initiator, 1)));
    assert_ne!(first, take(&mut wire(Role::Initiator, 2)));
    assert_eq!(first.len(), 59);
}

#[test]
fn a_static_key_is_what_the_peer_sees_again() {
    let seen = |seed, secret| {
        let config = Config::default();
        let entropy = Entropy::from_seed([seed; 32]);
        let mut alice = Wire::with_static_key(Role::Initiator, entropy, &config, secret);
        let mut bob = wire(Role::Responder, 99);
        deliver(&mut alice, &mut bob);
        deliver(&mut bob, &mut alice);
        deliver(&mut alice, &mut bob);
        match bob.poll_event() {
            Ok(Some(WireEvent::Connected { remote_public_key, .. })) => remote_public_key,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(seen(1, [5; 32]), seen(2, [5; 32]));
    assert_ne!(seen(1, [5; 32]), seen(1, [6; 32]));
}

#[test]
fn a_message_above_the_limit_is_not_queued() {
    let config = Config { max_frame_body: 100, ..Config::default() };
    let mut alice = Wire::unencrypted(Role::Initiator, Entropy::from_seed([1; 32]), &config);
    let before = alice.buffered();
    let message = |len| Message::Extension { id: 0, payload: vec![0; len].into() };
    let error = crate::UsageError::TooLarge { len: 101, max: 100 };
    assert_eq!(alice.send(1, &message(100)), Err(error));
    assert_eq!(alice.buffered(), before);
    assert_eq!(alice.send(1, &message(99)), Ok(()));
    assert_eq!(alice.buffered(), before + 102);
}

#[test]
fn no_secret_is_printed() {
    let (mut alice, mut bob) = (wire(Role::Initiator, 1), wire(Role::Responder, 2));
    deliver(&mut alice, &mut bob);
    deliver(&mut bob, &mut alice);
    let event = alice.poll_event().unwrap().unwrap();
    let text = std::format!("{alice:?} {event:?}");
    let WireEvent::Connected { keys, .. } = event else { panic!() };
    for secret in [keys.tx, keys.rx] {
        assert!(!text.contains(&std::format!("{:?}", &secret[..4])[1..10]), "{text}");
    }
}

fn wire(role: Role, seed: u8) -> Wire {
    Wire::new(role, Entropy::from_seed([seed; 32]), &Config::default())
}

/// Two ends after their handshake that leave frames in clear, so that a test can write any.
fn pair() -> (Wire, Wire) {
    let wire =
        |role, seed| Wire::unencrypted(role, Entropy::from_seed([seed; 32]), &Config::default());
    let (mut alice, mut bob) = (wire(Role::Initiator, 1), wire(Role::Responder, 2));
    deliver(&mut alice, &mut bob);
    deliver(&mut bob, &mut alice);
    deliver(&mut alice, &mut bob);
    for wire in [&mut alice, &mut bob] {
        assert!(matches!(wire.poll_event(), Ok(Some(WireEvent::Connected { .. }))));
    }
    (alice, bob)
}

fn take(wire: &mut Wire) -> Vec<u8> {
    let bytes = wire.transmit().to_vec();
    wire.transmitted(bytes.len());
    bytes
}

fn deliver(from: &mut Wire, to: &mut Wire) {
    to.handle_bytes(&take(from)).unwrap();
}

/// A responder after a handshake with an initiator that sends these payloads in messages 1 and 3.
fn handshake_with(payloads: [&[u8]; 2]) -> Result<Wire, PeerError> {
    let mut peer = snow_initiator();
    let mut wire = wire(Role::Responder, 1);
    let mut buffer = [0; 512];
    let len = peer.write_message(payloads[0], &mut buffer).unwrap();
    wire.handle_bytes(&framed(&buffer[..len]))?;
    let answer = take(&mut wire);
    peer.read_message(&answer[1..], &mut [0; 512]).unwrap();
    let len = peer.write_message(payloads[1], &mut buffer).unwrap();
    wire.handle_bytes(&framed(&buffer[..len]))?;
    Ok(wire)
}

fn snow_initiator() -> HandshakeState {
    let params = "Noise_XX_25519_ChaChaPoly_BLAKE2b".parse().unwrap();
    snow::Builder::with_resolver(params, Box::new(Resolver::new(Entropy::from_seed([7; 32]))))
        .local_private_key(&[8; 32])
        .unwrap()
        .build_initiator()
        .unwrap()
}

fn noise_payload() -> Vec<u8> {
    codec::encode_noise_payload(&[3; 24])
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint::write(message.len() as u64, &mut out);
    out.extend_from_slice(message);
    out
}

fn frame_of(channel: u32, message: &Message) -> Vec<u8> {
    let mut body = Vec::new();
    codec::encode(message, &mut body);
    let mut out = Vec::new();
    frame::write_header(channel, codec::kind(message), body.len(), &mut out);
    out.extend_from_slice(&body);
    out
}

fn status() -> Message {
    Message::Status(Status { uploading: true, downloading: false })
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// Encodings of points whose product with any clamped scalar is zero (curve and twist).
const LOW_ORDER_POINTS: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];
