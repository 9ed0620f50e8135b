//! Hostile bytes after the handshake: one test for each kind of frame and message body.
#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use multifeed_proto::messages::{Message, Span, Status, codec};
use multifeed_proto::wire::{Wire, WireEvent, frame, varint};
use multifeed_proto::{Config, Entropy, PeerError, Role, rle};

const MAX_BODY: usize = 8 * 1024 * 1024;
const MAX_CHANNEL: u32 = (1 << 27) - 1;

// Cipher.

#[test]
fn a_flipped_bit_in_the_ciphertext_is_garbage_or_another_message_but_no_panic() {
    let message = Message::Have(multifeed_proto::messages::Have {
        start: 5,
        length: 1 << 20,
        bitfield: Some(Bytes::from(rle::encode(&[0xf0; 64]))),
        ack: false,
    });
    for bit in 0..8 * 80 {
        let (mut alice, mut bob) = handshake(Wire::new);
        bob.send(1, &message).unwrap();
        bob.send(2, &message).unwrap();
        let mut bytes = bob.transmit().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        alice.handle_bytes(&bytes).unwrap();
        while let Ok(Some(_)) = alice.poll_event() {}
    }
}

// Frames.

#[test]
fn a_frame_shorter_than_its_header_ends_the_connection() {
    let error = PeerError::FrameLength { len: -1, max: MAX_BODY };
    assert_eq!(read(&[0x01, 0x90, 0x01]), Err(error));
}

#[test]
fn a_body_above_8_mib_ends_the_connection_before_it_arrives() {
    let mut bytes = Vec::new();
    frame::write_header(1, 15, MAX_BODY, &mut bytes);
    assert_eq!(read(&bytes), Ok(vec![]));
    bytes.clear();
    frame::write_header(1, 15, MAX_BODY + 1, &mut bytes);
    let error = PeerError::FrameLength { len: MAX_BODY as i128 + 1, max: MAX_BODY };
    assert_eq!(read(&bytes), Err(error));
}

#[test]
fn a_frame_varint_of_more_than_8_bytes_ends_the_connection() {
    assert_eq!(read(&[0x80; 7]), Ok(vec![]));
    assert_eq!(read(&[0x80; 8]), Err(PeerError::Varint));
    assert_eq!(read(&[&[0x7f][..], &[0xff; 8]].concat()), Err(PeerError::Varint));
}

#[test]
fn a_channel_above_the_limit_ends_the_connection() {
    assert!(read(&framed(MAX_CHANNEL, 10, &[])).is_ok());
    let error = PeerError::ChannelLimit { channel: 1 << 27, max: MAX_CHANNEL };
    assert_eq!(read(&framed(MAX_CHANNEL + 1, 10, &[])), Err(error));
}

#[test]
fn unknown_types_are_ignored() {
    let mut bytes = Vec::new();
    for kind in 11..15 {
        bytes.extend(framed(1, kind, b"anything"));
    }
    let message = Message::Close { discovery_key: None };
    bytes.extend(framed(4, 10, &[]));
    assert_eq!(read(&bytes), Ok(vec![(4, message)]));
}

#[test]
fn keepalives_are_ignored_between_frames() {
    let close = Message::Close { discovery_key: None };
    let bytes = [&[0, 0][..], &[0x01, 0x1a], &[0x80, 0], &[0x01, 0x2a], &[0]].concat();
    assert_eq!(read(&bytes), Ok(vec![(1, close.clone()), (2, close)]));
}

#[test]
fn an_extension_message_without_an_id_is_ignored() {
    for body in [&[][..], &[0x80], &[0xff; 20]] {
        assert_eq!(read(&framed(1, 15, body)), Ok(vec![]), "{body:?}");
    }
}

// Message bodies.

#[test]
fn a_field_that_runs_past_the_end_ends_the_connection() {
    assert_problem(9, &[0x08, 0, 0x12, 5, 1, 2], "a field runs past the end");
    assert_problem(9, &[0x08, 0, 0x12, 0xff, 0xff, 0xff, 0xff, 0x0f], "a field runs past the end");
    assert_problem(3, &[0x08, 0, 0x31, 1, 2, 3], "a field runs past the end");
    assert_problem(3, &[0x08, 0, 0x35, 1, 2, 3], "a field runs past the end");
    assert_problem(3, &[0x08, 0x80], "a varint does not end");
    assert_problem(3, &[0x08], "a varint does not end");
    assert_problem(9, &[0x08, 0, 0x1a, 2, 0x12, 32], "a field runs past the end");
}

#[test]
fn a_varint_of_more_than_64_bits_ends_the_connection() {
    let body = [&[0x08][..], &[0xff; 10], &[0]].concat();
    assert_problem(3, &body, "a varint does not end");
}

#[test]
fn a_missing_required_field_ends_the_connection() {
    assert_problem(0, &[], "no discovery key");
    for kind in [3, 4, 5, 6] {
        assert_problem(kind, &[], "no start");
    }
    for kind in [7, 8, 9] {
        assert_problem(kind, &[], "no index");
    }
    let hash = [&[0x12, 32][..], &[1; 32]].concat();
    assert_problem(
        9,
        &data_with_node(&[&[0x08, 2][..], &[0x18, 5]].concat()),
        "a node without a hash",
    );
    assert_problem(
        9,
        &data_with_node(&[&hash[..], &[0x18, 5]].concat()),
        "a node without an index",
    );
    assert_problem(9, &data_with_node(&[&[0x08, 2][..], &hash].concat()), "a node without a size");
}

#[test]
fn groups_end_the_connection() {
    assert_problem(3, &[0x08, 1, 0x4b, 0x4c], "groups are not supported");
    assert_problem(3, &[0x08, 1, 0x4c], "groups are not supported");
    assert_problem(3, &[0x08, 1, 0x4e], "unknown wire type");
    let hash = [&[0x08, 2, 0x12, 32][..], &[1; 32], &[0x18, 5, 0x4b, 0x4c]].concat();
    assert_problem(9, &data_with_node(&hash), "groups are not supported");
    let nested = vec![0x4b; 100_000];
    assert_problem(3, &nested, "groups are not supported");
}

#[test]
fn a_wrong_wire_type_of_a_known_field_ends_the_connection() {
    let problem = "a field with a wrong number or wire type, or text that is not UTF-8";
    assert_problem(3, &[0x0a, 1, 0], problem);
    assert_problem(1, &[0x12, 0, 0x10, 1], problem);
    assert_problem(3, &[0x08, 1, 0x00, 1], problem);
}

#[test]
fn text_that_is_not_utf_8_ends_the_connection() {
    let problem = "a field with a wrong number or wire type, or text that is not UTF-8";
    assert_problem(1, &[0x0a, 2, 0xc3, 0x28], problem);
    assert_problem(1, &[0x0a, 1, 0xff], problem);
}

#[test]
fn a_discovery_key_that_is_not_32_bytes_ends_the_connection() {
    for len in [0, 1, 31, 33] {
        let body = field(0x0a, &vec![1; len]);
        assert_problem(0, &body, "a discovery key that is not 32 bytes");
        assert_problem(10, &body, "a discovery key that is not 32 bytes");
    }
}

#[test]
fn a_capability_that_is_not_32_bytes_ends_the_connection() {
    for len in [0, 31, 33] {
        let body = [field(0x0a, &[1; 32]), field(0x12, &vec![1; len])].concat();
        assert_problem(0, &body, "a capability that is not 32 bytes");
    }
}

#[test]
fn a_hash_that_is_not_32_bytes_ends_the_connection() {
    for len in [0, 31, 33] {
        let node = [&[0x08, 2][..], &field(0x12, &vec![1; len]), &[0x18, 5]].concat();
        assert_problem(9, &data_with_node(&node), "a hash that is not 32 bytes");
    }
}

#[test]
fn a_signature_that_is_not_64_bytes_ends_the_connection() {
    for len in [0, 63, 65] {
        let body = [&[0x08, 0][..], &field(0x22, &vec![1; len])].concat();
        assert_problem(9, &body, "a signature that is not 64 bytes");
    }
}

#[test]
fn an_integer_above_2_to_the_53_minus_1_ends_the_connection() {
    let hash = field(0x12, &[1; 32]);
    let cases: [(u8, &[u8]); 10] = [
        (3, &[0x08]),
        (3, &[0x08, 0, 0x10]),
        (4, &[0x08]),
        (5, &[0x08, 0, 0x10]),
        (6, &[0x08]),
        (7, &[0x08]),
        (7, &[0x08, 0, 0x10]),
        (7, &[0x08, 0, 0x20]),
        (8, &[0x08, 0, 0x10]),
        (9, &[0x08]),
    ];
    for (kind, before) in cases {
        assert!(decode(kind, &with_number(before, varint::MAX_SAFE_INTEGER)).is_ok(), "{kind}");
        for number in [varint::MAX_SAFE_INTEGER + 1, u64::MAX] {
            assert_problem(kind, &with_number(before, number), "an integer above 2^53 - 1");
        }
    }
    let index = [&with_number(&[0x08], 1 << 53)[..], &hash, &[0x18, 5]].concat();
    assert_problem(9, &data_with_node(&index), "an integer above 2^53 - 1");
    let size = [&[0x08, 2][..], &hash, &with_number(&[0x18], 1 << 53)].concat();
    assert_problem(9, &data_with_node(&size), "an integer above 2^53 - 1");
}

#[test]
fn more_than_128_nodes_end_the_connection() {
    let node = [&[0x08, 2][..], &field(0x12, &[1; 32]), &[0x18, 5]].concat();
    let body = |count| [vec![0x08, 0], field(0x1a, &node).repeat(count)].concat();
    assert!(decode(9, &body(codec::MAX_NODES)).is_ok());
    assert_problem(9, &body(codec::MAX_NODES + 1), "more than 128 nodes");
    // A body full of the smallest nodes would grow to a gigabyte of memory if it were decoded.
    assert_problem(9, &[0x1a, 0].repeat(MAX_BODY / 2), "more than 128 nodes");
}

#[test]
fn very_many_extension_names_end_the_connection() {
    assert!(decode(1, &[0x0a, 0].repeat(codec::MAX_NAMES)).is_ok());
    let result = decode(1, &[0x0a, 0].repeat(codec::MAX_NAMES + 1));
    assert_eq!(result, Err(PeerError::Extensions));
}

#[test]
fn unknown_fields_are_skipped() {
    let unknown =
        [&[0x48, 5][..], &[0x51, 1, 2, 3, 4, 5, 6, 7, 8], &[0x5a, 1, 9], &[0x6d, 1, 2, 3, 4]];
    let body = [&[0x08, 1][..], &unknown.concat(), &[0x10, 2]].concat();
    assert_eq!(decode(4, &body), Ok(Some(Message::Unhave(Span { start: 1, length: 2 }))));
}

#[test]
fn the_last_of_a_repeated_field_counts() {
    let span = Message::Unhave(Span { start: 2, length: 1 });
    assert_eq!(decode(4, &[0x08, 1, 0x08, 2]), Ok(Some(span)));
}

#[test]
fn absent_fields_mean_what_they_mean_to_the_javascript() {
    let off = Message::Status(Status { uploading: false, downloading: false });
    assert_eq!(decode(2, &[]), Ok(Some(off)));
    assert_eq!(decode(4, &[0x08, 3]), Ok(Some(Message::Unhave(Span { start: 3, length: 1 }))));
    assert_eq!(decode(5, &[0x08, 3]), Ok(Some(Message::Want(Span { start: 3, length: 0 }))));
    assert_eq!(decode(6, &[0x08, 3]), Ok(Some(Message::Unwant(Span { start: 3, length: 0 }))));
    let Ok(Some(Message::Have(have))) = decode(3, &[0x08, 3]) else { panic!() };
    assert_eq!((have.length, have.bitfield, have.ack), (1, None, false));
    let Ok(Some(Message::Data(data))) = decode(9, &[0x08, 3, 0x12, 0]) else { panic!() };
    assert_eq!(data.value, Some(Bytes::new()));
    let Ok(Some(Message::Data(data))) = decode(9, &[0x08, 3]) else { panic!() };
    assert_eq!(data.value, None);
}

fn assert_problem(kind: u8, body: &[u8], problem: &'static str) {
    match decode(kind, body) {
        Err(PeerError::Message { problem: got, .. }) => {
            assert_eq!(got, problem, "type {kind}, {:?}", &body[..body.len().min(50)]);
        }
        other => panic!("type {kind}, {:?}: {other:?}", &body[..body.len().min(50)]),
    }
    // The same through a whole connection, where it is the last thing that happens.
    if body.len() < 1000 {
        assert!(matches!(read(&framed(1, kind, body)), Err(PeerError::Message { .. })));
    }
}

fn decode(kind: u8, body: &[u8]) -> Result<Option<Message>, PeerError> {
    codec::decode(kind, Bytes::copy_from_slice(body))
}

fn field(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    varint::write(contents.len() as u64, &mut out);
    out.extend_from_slice(contents);
    out
}

fn with_number(before: &[u8], number: u64) -> Vec<u8> {
    let mut out = before.to_vec();
    varint::write(number, &mut out);
    out
}

fn data_with_node(node: &[u8]) -> Vec<u8> {
    [&[0x08, 0][..], &field(0x1a, node)].concat()
}

fn framed(channel: u32, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write_header(channel, kind, body.len(), &mut out);
    out.extend_from_slice(body);
    out
}

/// What an end makes of these bytes after its handshake.
fn read(bytes: &[u8]) -> Result<Vec<(u32, Message)>, PeerError> {
    let (mut alice, _) = handshake(Wire::unencrypted);
    alice.handle_bytes(bytes)?;
    let mut messages = Vec::new();
    while let Some(event) = alice.poll_event()? {
        match event {
            WireEvent::Message { channel, message } => messages.push((channel, message)),
            WireEvent::Connected { .. } => panic!("connected twice"),
        }
    }
    Ok(messages)
}

/// Two ends after their handshake.
fn handshake(new: fn(Role, Entropy, &Config) -> Wire) -> (Wire, Wire) {
    let config = Config::default();
    let mut alice = new(Role::Initiator, Entropy::from_seed([1; 32]), &config);
    let mut bob = new(Role::Responder, Entropy::from_seed([2; 32]), &config);
    while alice.buffered() + bob.buffered() > 0 {
        deliver(&mut alice, &mut bob);
        deliver(&mut bob, &mut alice);
    }
    for wire in [&mut alice, &mut bob] {
        assert!(matches!(wire.poll_event(), Ok(Some(WireEvent::Connected { .. }))));
    }
    (alice, bob)
}

fn deliver(from: &mut Wire, to: &mut Wire) {
    let bytes = from.transmit().to_vec();
    from.transmitted(bytes.len());
    to.handle_bytes(&bytes).unwrap();
}
