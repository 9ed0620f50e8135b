//! What must hold for all messages, chunks and bytes.
#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use multifeed_proto::messages::{
    Data, Have, Message, Node, Open, Options, Request, Span, Status, codec,
};
use multifeed_proto::wire::varint::{self, MAX_SAFE_INTEGER};
use multifeed_proto::wire::{Wire, WireEvent};
use multifeed_proto::{Config, DiscoveryKey, Entropy, Role, rle};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_message_is_read_back_as_it_was_written(message in message()) {
        let mut body = Vec::new();
        codec::encode(&message, &mut body);
        prop_assert_eq!(codec::decode(codec::kind(&message), body.into()), Ok(Some(message)));
    }

    #[test]
    fn any_body_is_read_or_refused_and_what_is_read_is_stable(kind in 0_u8..16, body in vec(any::<u8>(), 0..200)) {
        if let Ok(Some(message)) = codec::decode(kind, body.into()) {
            let mut again = Vec::new();
            codec::encode(&message, &mut again);
            prop_assert_eq!(codec::decode(kind, again.into()), Ok(Some(message)));
        }
    }

    #[test]
    fn damaged_messages_are_read_or_refused(message in message(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut body = Vec::new();
        codec::encode(&message, &mut body);
        if !body.is_empty() {
            let at = at.index(body.len());
            body[at] = byte;
            if cut {
                body.truncate(at);
            }
        }
        let _ = codec::decode(codec::kind(&message), body.into());
    }

    #[test]
    fn any_chunks_give_the_same_events(messages in vec((0_u32..1 << 27, message()), 0..12), chunks in vec(1_usize..100, 1..20), writes in vec(1_usize..100, 1..20)) {
        let (mut alice, mut bob) = (wire(Role::Initiator), wire(Role::Responder));
        let half = messages.len() / 2;
        for (channel, message) in &messages[..half] {
            alice.send(*channel, message).unwrap();
        }
        let mut events = Vec::new();
        let mut cuts = chunks.into_iter().cycle().zip(writes.into_iter().cycle());
        let mut rest = messages[half..].iter();
        loop {
            let (chunk, write) = cuts.next().unwrap();
            let sent = forward(&mut alice, &mut bob, write, chunk, &mut events)
                + forward(&mut bob, &mut alice, chunk, write, &mut Vec::new());
            if sent > 0 {
                continue;
            }
            let Some((channel, message)) = rest.next() else { break };
            alice.send(*channel, message).unwrap();
            alice.send_keepalive();
        }
        prop_assert!(!bob.is_mid_message());
        let mut events = events.into_iter();
        let first = events.next();
        let connected = matches!(first, Some(WireEvent::Connected { .. }));
        prop_assert!(connected);
        let expected: Vec<_> = messages
            .into_iter()
            .map(|(channel, message)| WireEvent::Message { channel, message })
            .collect();
        prop_assert_eq!(events.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn any_bytes_in_a_handshake_are_refused_or_waited_for(bytes in vec(any::<u8>(), 0..300), role in prop::bool::ANY) {
        let mut wire = wire(if role { Role::Initiator } else { Role::Responder });
        let _ = wire.handle_bytes(&bytes);
        while let Ok(Some(_)) = wire.poll_event() {}
    }

    #[test]
    fn any_bytes_after_the_handshake_give_the_same_events_in_any_chunks(bytes in vec(prop_oneof![0_u8..40, any::<u8>()], 0..400), chunk in 1_usize..50) {
        let whole = read_all(&bytes, bytes.len().max(1));
        prop_assert_eq!(read_all(&bytes, chunk), whole);
    }

    #[test]
    fn a_bitfield_is_read_back_without_its_trailing_zeros(mut bits in vec(prop_oneof![Just(0_u8), Just(0xff), any::<u8>()], 0..600), run in 0_usize..600, byte in prop_oneof![Just(0_u8), Just(0xff)]) {
        bits.extend(std::iter::repeat_n(byte, run));
        let encoded = rle::encode(&bits);
        let end = bits.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        bits.truncate(end);
        // Never longer than one literal of all.
        prop_assert!(encoded.len() <= bits.len() + varint::encoded_len(2 * bits.len() as u64));
        prop_assert_eq!(rle::decode(&encoded, bits.len()), Ok(bits));
    }

    #[test]
    fn any_bytes_decode_to_a_bitfield_within_the_limit_or_are_refused(encoded in vec(any::<u8>(), 0..100), max in 0_usize..5000) {
        if let Ok(bits) = rle::decode(&encoded, max) {
            prop_assert!(bits.len() <= max);
            let runs: u64 = rle::runs(&encoded).map(|run| run.unwrap().len()).sum();
            prop_assert_eq!(runs, bits.len() as u64);
        }
    }

    #[test]
    fn any_varint_is_read_back(value in any::<u64>(), tail in vec(any::<u8>(), 0..4)) {
        let mut bytes = Vec::new();
        varint::write(value, &mut bytes);
        let len = bytes.len();
        prop_assert_eq!(len, varint::encoded_len(value));
        bytes.extend(tail);
        prop_assert_eq!(varint::read(&bytes, varint::MAX_LEN), Ok(Some((value, len))));
    }
}

/// Writes `write` bytes of `from` to `to` in pieces of `chunk` bytes, and says how many.
fn forward(
    from: &mut Wire,
    to: &mut Wire,
    write: usize,
    chunk: usize,
    events: &mut Vec<WireEvent>,
) -> usize {
    let bytes = from.transmit();
    let bytes = bytes[..bytes.len().min(write)].to_vec();
    from.transmitted(bytes.len());
    for piece in bytes.chunks(chunk) {
        to.handle_bytes(piece).unwrap();
        while let Some(event) = to.poll_event().unwrap() {
            events.push(event);
        }
    }
    bytes.len()
}

/// What comes out of `bytes` after a handshake, and the error at the end if there is one.
fn read_all(
    bytes: &[u8],
    chunk: usize,
) -> (Vec<WireEvent>, Option<multifeed_proto::PeerError>, bool) {
    let config = Config::default();
    let mut alice = Wire::unencrypted(Role::Initiator, Entropy::from_seed([1; 32]), &config);
    let mut bob = Wire::unencrypted(Role::Responder, Entropy::from_seed([2; 32]), &config);
    while forward(&mut alice, &mut bob, 1000, 1000, &mut Vec::new())
        + forward(&mut bob, &mut alice, 1000, 1000, &mut Vec::new())
        > 0
    {}
    let mut events = Vec::new();
    for piece in bytes.chunks(chunk) {
        let mut poll = || -> Result<(), multifeed_proto::PeerError> {
            alice.handle_bytes(piece)?;
            while let Some(event) = alice.poll_event()? {
                events.push(event);
            }
            Ok(())
        };
        if let Err(error) = poll() {
            return (events, Some(error), false);
        }
    }
    (events, None, alice.is_mid_message())
}

fn wire(role: Role) -> Wire {
    let seed = match role {
        Role::Initiator => [1; 32],
        Role::Responder => [2; 32],
    };
    Wire::new(role, Entropy::from_seed(seed), &Config::default())
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (key(), option::of(any::<[u8; 32]>())).prop_map(|(discovery_key, capability)| {
            Message::Open(Open { discovery_key, capability })
        }),
        (vec(".{0,20}", 0..5), option::of(any::<bool>()))
            .prop_map(|(extensions, ack)| Message::Options(Options { extensions, ack })),
        any::<(bool, bool)>().prop_map(|(uploading, downloading)| {
            Message::Status(Status { uploading, downloading })
        }),
        (integer(), integer(), option::of(blob()), any::<bool>()).prop_map(
            |(start, length, bitfield, ack)| {
                Message::Have(Have { start, length, bitfield, ack })
            }
        ),
        span().prop_map(Message::Unhave),
        span().prop_map(Message::Want),
        span().prop_map(Message::Unwant),
        (integer(), integer(), any::<bool>(), integer()).prop_map(|(index, bytes, hash, nodes)| {
            Message::Request(Request { index, bytes, hash, nodes })
        }),
        (integer(), integer(), any::<bool>()).prop_map(|(index, bytes, hash)| Message::Cancel {
            index,
            bytes,
            hash
        }),
        (integer(), option::of(blob()), vec(node(), 0..6), option::of(vec(any::<u8>(), 64)))
            .prop_map(|(index, value, nodes, signature)| {
                let signature = signature.map(|signature| signature.try_into().unwrap());
                Message::Data(Data { index, value, nodes, signature })
            }),
        option::of(key()).prop_map(|discovery_key| Message::Close { discovery_key }),
        (any::<u64>(), blob())
            .prop_map(|(id, payload)| Message::Extension { id, payload: payload.into() }),
    ]
}

fn key() -> impl Strategy<Value = DiscoveryKey> {
    any::<[u8; 32]>().prop_map(DiscoveryKey)
}

fn span() -> impl Strategy<Value = Span> {
    (integer(), integer()).prop_map(|(start, length)| Span { start, length })
}

fn node() -> impl Strategy<Value = Node> {
    (integer(), any::<[u8; 32]>(), integer()).prop_map(|(index, hash, size)| Node {
        index,
        hash,
        size,
    })
}

fn integer() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..3, 0..=MAX_SAFE_INTEGER, Just(MAX_SAFE_INTEGER)]
}

fn blob() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}
