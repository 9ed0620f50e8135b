//! Message bodies that the JavaScript wrote and read.
#![allow(clippy::unwrap_used)]

extern crate std;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;

use super::{Data, Have, Message, Node, Open, Options, Request, Span, Status, codec, schema};
use crate::DiscoveryKey;
use crate::golden::{array, bytes, files, label, list};
use crate::wire::varint::{self, MAX_SAFE_INTEGER};

#[test]
fn explicit_fields_are_encoded_byte_for_byte() {
    for (file, vectors) in files("messages") {
        for case in list(&vectors, "encode") {
            let name = case["name"].as_str().unwrap();
            let encoded = raw(name, &case["message"]);
            assert_eq!(encoded, bytes(&case["encoded"]), "{}", label(&file, case));
        }
    }
}

#[test]
fn encoded_messages_are_read_with_the_defaults_of_the_javascript() {
    for (file, vectors) in files("messages") {
        for case in list(&vectors, "encode") {
            let name = case["name"].as_str().unwrap();
            let encoded = Bytes::from(bytes(&case["encoded"]));
            check_ok(&label(&file, case), name, encoded, &case["decoded"]);
        }
    }
}

#[test]
fn odd_bodies_are_read_or_refused_as_the_javascript_does() {
    for (file, vectors) in files("messages") {
        for case in list(&vectors, "decode") {
            let name = case["name"].as_str().unwrap();
            let input = Bytes::from(bytes(&case["input"]));
            let label = label(&file, case);
            if case["ok"].as_bool().unwrap() {
                check_ok(&label, name, input, &case["decoded"]);
            } else if let Some(kind) = kind(name) {
                assert!(codec::decode(kind, input).is_err(), "{label}");
            } else {
                assert!(codec::decode_noise_payload(input).is_err(), "{label}");
            }
        }
    }
}

/// Decodes what the JavaScript decoded; only the differences listed in [`codec`] may be refused.
fn check_ok(label: &str, name: &str, input: Bytes, decoded: &Value) {
    let accepted = is_listed_difference(name, &input, decoded);
    let Some(kind) = kind(name) else {
        let result = codec::decode_noise_payload(input);
        assert!(result.is_ok() || accepted, "{label}: {result:?}");
        if let Ok(nonce) = result {
            assert_eq!(nonce, array(&decoded["nonce"]), "{label}");
        }
        return;
    };
    let message = match codec::decode(kind, input) {
        Ok(message) => message.unwrap(),
        Err(error) => {
            assert!(accepted, "{label}: {error}");
            return;
        }
    };
    assert_eq!(with_defaults(message.clone()), typed(name, decoded), "{label}");
    let mut again = Vec::new();
    codec::encode(&message, &mut again);
    assert_eq!(codec::decode(kind, again.into()), Ok(Some(message)), "{label}");
}

/// The JavaScript does not tell an absent `ack` from a false one.
fn with_defaults(mut message: Message) -> Message {
    if let Message::Options(options) = &mut message {
        options.ack.get_or_insert(false);
    }
    message
}

fn kind(name: &str) -> Option<u8> {
    let names = [
        "Open", "Options", "Status", "Have", "Unhave", "Want", "Unwant", "Request", "Cancel",
        "Data", "Close",
    ];
    names.iter().position(|known| *known == name).map(|kind| u8::try_from(kind).unwrap())
}

/// The body with exactly the fields that `message` names.
fn raw(name: &str, message: &Value) -> Vec<u8> {
    let number = |field: &str| message[field].as_u64();
    let flag = |field: &str| message[field].as_bool();
    let blob = |field: &str| {
        let value = &message[field];
        (!value.is_null()).then(|| Bytes::from(bytes(value)))
    };
    let text = |value: &Value| value.as_str().unwrap().to_string();
    match name {
        "NoisePayload" => schema::NoisePayload { nonce: blob("nonce") }.encode_to_vec(),
        "Open" => {
            schema::Open { discovery_key: blob("discoveryKey"), capability: blob("capability") }
                .encode_to_vec()
        }
        "Options" => schema::Options {
            extensions: list(message, "extensions").iter().map(text).collect(),
            ack: flag("ack"),
        }
        .encode_to_vec(),
        "Status" => {
            schema::Status { uploading: flag("uploading"), downloading: flag("downloading") }
                .encode_to_vec()
        }
        "Have" => schema::Have {
            start: number("start"),
            length: number("length"),
            bitfield: blob("bitfield"),
            ack: flag("ack"),
        }
        .encode_to_vec(),
        "Unhave" | "Want" | "Unwant" => {
            schema::Span { start: number("start"), length: number("length") }.encode_to_vec()
        }
        "Request" => schema::Request {
            index: number("index"),
            bytes: number("bytes"),
            hash: flag("hash"),
            nodes: number("nodes"),
        }
        .encode_to_vec(),
        "Cancel" => {
            schema::Cancel { index: number("index"), bytes: number("bytes"), hash: flag("hash") }
                .encode_to_vec()
        }
        "Data" => schema::Data {
            index: number("index"),
            value: blob("value"),
            nodes: list(message, "nodes")
                .iter()
                .map(|node| schema::Node {
                    index: node["index"].as_u64(),
                    hash: Some(Bytes::from(bytes(&node["hash"]))),
                    size: node["size"].as_u64(),
                })
                .collect(),
            signature: blob("signature"),
        }
        .encode_to_vec(),
        "Close" => schema::Close { discovery_key: blob("discoveryKey") }.encode_to_vec(),
        _ => panic!("unknown message {name}"),
    }
}

/// The message that the JavaScript decoded.
fn typed(name: &str, decoded: &Value) -> Message {
    let number = |field: &str| decoded[field].as_u64().unwrap();
    let flag = |field: &str| decoded[field].as_bool().unwrap();
    let blob = |field: &str| {
        let value = &decoded[field];
        (!value.is_null()).then(|| Bytes::from(bytes(value)))
    };
    let span = || Span { start: number("start"), length: number("length") };
    let text = |value: &Value| -> String { value.as_str().unwrap().to_string() };
    match name {
        "Open" => Message::Open(Open {
            discovery_key: DiscoveryKey(array(&decoded["discoveryKey"])),
            capability: blob("capability").map(|proof| proof.as_ref().try_into().unwrap()),
        }),
        "Options" => Message::Options(Options {
            extensions: list(decoded, "extensions").iter().map(text).collect(),
            ack: Some(flag("ack")),
        }),
        "Status" => Message::Status(Status {
            uploading: flag("uploading"),
            downloading: flag("downloading"),
        }),
        "Have" => Message::Have(Have {
            start: number("start"),
            length: number("length"),
            bitfield: blob("bitfield"),
            ack: flag("ack"),
        }),
        "Unhave" => Message::Unhave(span()),
        "Want" => Message::Want(span()),
        "Unwant" => Message::Unwant(span()),
        "Request" => Message::Request(Request {
            index: number("index"),
            bytes: number("bytes"),
            hash: flag("hash"),
            nodes: number("nodes"),
        }),
        "Cancel" => {
            Message::Cancel { index: number("index"), bytes: number("bytes"), hash: flag("hash") }
        }
        "Data" => Message::Data(Data {
            index: number("index"),
            value: blob("value"),
            nodes: list(decoded, "nodes")
                .iter()
                .map(|node| Node {
                    index: node["index"].as_u64().unwrap(),
                    hash: array(&node["hash"]),
                    size: node["size"].as_u64().unwrap(),
                })
                .collect(),
            signature: blob("signature").map(|signature| signature.as_ref().try_into().unwrap()),
        }),
        "Close" => Message::Close {
            discovery_key: blob("discoveryKey")
                .map(|key| DiscoveryKey(key.as_ref().try_into().unwrap())),
        },
        _ => panic!("unknown message {name}"),
    }
}

/// Whether `input`, read as `decoded` by the JavaScript, falls under a line of the list in [`codec`].
fn is_listed_difference(name: &str, input: &[u8], decoded: &Value) -> bool {
    let wrong_length = |value: &Value, digits| value.as_str().is_some_and(|v| v.len() != digits);
    let nodes = list(decoded, "nodes");
    let numbers = ["start", "length", "index", "bytes"].map(|field| &decoded[field]);
    let numbers = numbers.into_iter().chain(nodes.iter().flat_map(|n| [&n["index"], &n["size"]]));
    has_other_wire_type(name, input)
        || wrong_length(&decoded["discoveryKey"], 64)
        || wrong_length(&decoded["capability"], 64)
        || wrong_length(&decoded["signature"], 128)
        || wrong_length(&decoded["nonce"], 48)
        || nodes.iter().any(|node| wrong_length(&node["hash"], 64))
        || nodes.len() > codec::MAX_NODES
        || list(decoded, "extensions").len() > codec::MAX_NAMES
        || numbers
            .into_iter()
            .any(|n| n.is_number() && n.as_u64().is_none_or(|n| n > MAX_SAFE_INTEGER))
        || list(decoded, "extensions")
            .iter()
            .any(|text| text.as_str().unwrap().contains('\u{fffd}'))
}

/// Whether a known field has the wire type of another, a number that does not exist, or runs past
/// the end.
fn has_other_wire_type(name: &str, mut input: &[u8]) -> bool {
    let known: &[u64] = match name {
        "NoisePayload" | "Close" => &[2],
        "Open" => &[2, 2],
        "Options" => &[2, 0],
        "Status" | "Unhave" | "Want" | "Unwant" => &[0, 0],
        "Have" => &[0, 0, 2, 0],
        "Request" => &[0, 0, 0, 0],
        "Cancel" => &[0, 0, 0],
        "Data" => &[0, 2, 2, 2],
        _ => panic!("unknown message {name}"),
    };
    while !input.is_empty() {
        let Ok(Some((tag, len))) = varint::read(input, varint::MAX_LEN) else { return true };
        input = &input[len..];
        let (field, wire) = (tag >> 3, tag & 7);
        let expected = field.checked_sub(1).map(|i| known.get(usize::try_from(i).unwrap()));
        if expected.is_none_or(|wanted| wanted.is_some_and(|wanted| *wanted != wire)) {
            return true;
        }
        let Ok(Some((value, len))) = varint::read(input, varint::MAX_LEN) else {
            return wire == 0 || wire == 2;
        };
        let skip = match wire {
            0 => len,
            1 => 8,
            2 => len + usize::try_from(value).unwrap(),
            5 => 4,
            _ => return true,
        };
        let Some(rest) = input.get(skip..) else { return true };
        input = rest;
    }
    false
}
