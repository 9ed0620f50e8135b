//! Messages to and from the bodies of frames.
//!
//! Encoding follows the JavaScript field by field, default values included where it writes them.
//!
//! # Differences from the JavaScript decoder
//!
//! All are stricter, and none is met in what a JavaScript peer sends. Each ends the connection.
//!
//! | body | JavaScript | here |
//! |---|---|---|
//! | known field with the wire type of another | decodes whatever stands there | refused |
//! | length-delimited field that runs past the end | shortened | refused |
//! | discovery key, capability, hash ≠ 32 bytes, signature ≠ 64, nonce ≠ 24 | accepted | refused |
//! | integer above 2^53 - 1 | rounded | refused |
//! | text that is not UTF-8 | replacement characters | refused |
//! | more than [`MAX_NODES`] nodes, more than [`MAX_NAMES`] extension names | accepted | refused |
//! | field number 0 or above 2^29 - 1, varint above 64 bits | accepted | refused |
//! | boolean varint of several bytes | reads its first byte only | reads all of it |
//! | extension without a readable id | throws or reads `undefined` | message dropped |
//!
//! Missing required fields and groups are refused by both; unknown fields are skipped by both; of a
//! repeated scalar field the last counts in both.
//!
//! Source: `simple-hypercore-protocol@2.1.2`, `messages.js` and `schema.proto`;
//! `protocol-buffers-encodings@1.2.0`.

use alloc::vec::Vec;

use bytes::{Buf, Bytes};
use prost::Message as _;

use super::scan::scan;
use super::{Data, Have, Message, Node, Open, Options, Request, Span, Status, schema};
use crate::wire::varint::{self, MAX_SAFE_INTEGER};
use crate::{DiscoveryKey, PeerError};

/// Type number of a message, 0 to 15.
#[must_use]
pub const fn kind(message: &Message) -> u8 {
    match message {
        Message::Open(_) => OPEN,
        Message::Options(_) => OPTIONS,
        Message::Status(_) => STATUS,
        Message::Have(_) => HAVE,
        Message::Unhave(_) => UNHAVE,
        Message::Want(_) => WANT,
        Message::Unwant(_) => UNWANT,
        Message::Request(_) => REQUEST,
        Message::Cancel { .. } => CANCEL,
        Message::Data(_) => DATA,
        Message::Close { .. } => CLOSE,
        Message::Extension { .. } => EXTENSION,
    }
}

/// Appends the body of `message`, without a frame around it.
pub fn encode(message: &Message, out: &mut Vec<u8>) {
    Encoder::new(message).write(out);
}

/// Reads the body of a message of type `kind`. `None` for what the JavaScript ignores: types 11 to
/// 14, and an extension message without an id.
///
/// Payloads share the memory of `body`, unless they are only a small part of it.
///
/// # Errors
///
/// [`PeerError::Message`] says which message and what is wrong; [`PeerError::Extensions`] if there
/// are more than [`MAX_NAMES`] extension names.
pub fn decode(kind: u8, body: Bytes) -> Result<Option<Message>, PeerError> {
    let Some(&name) = NAMES.get(usize::from(kind)) else {
        return Ok(if kind == EXTENSION { decode_extension(body) } else { None });
    };
    decode_known(kind, body).map(Some).map_err(|fault| match fault {
        Fault::Problem(problem) => PeerError::Message { message: name, problem },
        Fault::TooManyNames => PeerError::Extensions,
    })
}

/// The payload of every handshake message: 26 bytes.
pub(crate) fn encode_noise_payload(nonce: &[u8; 24]) -> Vec<u8> {
    schema::NoisePayload { nonce: Some(Bytes::copy_from_slice(nonce)) }.encode_to_vec()
}

/// The nonce in the payload of a handshake message.
///
/// # Errors
///
/// [`PeerError::HandshakePayload`] unless there is a nonce of 24 bytes.
pub(crate) fn decode_noise_payload(body: Bytes) -> Result<[u8; 24], PeerError> {
    scan::<Fault>(&body, |_, _| Ok(())).map_err(|_| PeerError::HandshakePayload)?;
    schema::NoisePayload::decode(body)
        .ok()
        .and_then(|payload| payload.nonce?.as_ref().try_into().ok())
        .ok_or(PeerError::HandshakePayload)
}

/// A message in the form of the schema: knows its length before it is written, and holds a large
/// value by reference.
pub(crate) struct Encoder(Body);

enum Body {
    Open(schema::Open),
    Options(schema::Options),
    Status(schema::Status),
    Have(schema::Have),
    Span(schema::Span),
    Request(schema::Request),
    Cancel(schema::Cancel),
    Data(schema::Data),
    Close(schema::Close),
    Extension(u64, Bytes),
}

impl Encoder {
    pub(crate) fn new(message: &Message) -> Self {
        Self(match message {
            Message::Open(open) => Body::Open(schema::Open {
                discovery_key: Some(Bytes::copy_from_slice(&open.discovery_key.0)),
                capability: open.capability.map(|proof| Bytes::copy_from_slice(&proof)),
            }),
            Message::Options(options) => Body::Options(schema::Options {
                extensions: options.extensions.clone(),
                ack: options.ack,
            }),
            Message::Status(status) => Body::Status(schema::Status {
                uploading: Some(status.uploading),
                downloading: Some(status.downloading),
            }),
            Message::Have(have) => Body::Have(encode_have(have)),
            Message::Unhave(span) => {
                let length = (span.length != 1).then_some(span.length);
                Body::Span(schema::Span { start: Some(span.start), length })
            }
            Message::Want(span) | Message::Unwant(span) => {
                Body::Span(schema::Span { start: Some(span.start), length: Some(span.length) })
            }
            Message::Request(request) => Body::Request(schema::Request {
                index: Some(request.index),
                bytes: Some(request.bytes),
                hash: Some(request.hash),
                nodes: Some(request.nodes),
            }),
            Message::Cancel { index, bytes, hash } => Body::Cancel(schema::Cancel {
                index: Some(*index),
                bytes: Some(*bytes),
                hash: Some(*hash),
            }),
            Message::Data(data) => Body::Data(encode_data(data)),
            Message::Close { discovery_key } => Body::Close(schema::Close {
                discovery_key: discovery_key.map(|key| Bytes::copy_from_slice(&key.0)),
            }),
            Message::Extension { id, payload } => Body::Extension(*id, payload.0.clone()),
        })
    }

    /// Bytes that [`write`](Self::write) appends.
    pub(crate) fn encoded_len(&self) -> usize {
        match &self.0 {
            Body::Open(body) => body.encoded_len(),
            Body::Options(body) => body.encoded_len(),
            Body::Status(body) => body.encoded_len(),
            Body::Have(body) => body.encoded_len(),
            Body::Span(body) => body.encoded_len(),
            Body::Request(body) => body.encoded_len(),
            Body::Cancel(body) => body.encoded_len(),
            Body::Data(body) => body.encoded_len(),
            Body::Close(body) => body.encoded_len(),
            Body::Extension(id, payload) => varint::encoded_len(*id) + payload.len(),
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Body::Open(body) => body.encode_raw(out),
            Body::Options(body) => body.encode_raw(out),
            Body::Status(body) => body.encode_raw(out),
            Body::Have(body) => body.encode_raw(out),
            Body::Span(body) => body.encode_raw(out),
            Body::Request(body) => body.encode_raw(out),
            Body::Cancel(body) => body.encode_raw(out),
            Body::Data(body) => body.encode_raw(out),
            Body::Close(body) => body.encode_raw(out),
            Body::Extension(id, payload) => {
                varint::write(*id, out);
                out.extend_from_slice(payload);
            }
        }
    }
}

fn encode_have(have: &Have) -> schema::Have {
    let single = have.length == 1 && have.bitfield.is_none() && !have.ack;
    schema::Have {
        start: Some(have.start),
        length: (!single).then_some(have.length),
        bitfield: have.bitfield.clone(),
        ack: have.ack.then_some(true),
    }
}

fn encode_data(data: &Data) -> schema::Data {
    // One allocation for the hashes of all nodes.
    let hashes: Bytes = data.nodes.iter().flat_map(|node| node.hash).collect();
    let node = |(i, node): (usize, &Node)| schema::Node {
        index: Some(node.index),
        hash: Some(hashes.slice(32 * i..32 * (i + 1))),
        size: Some(node.size),
    };
    schema::Data {
        index: Some(data.index),
        value: data.value.clone(),
        nodes: data.nodes.iter().enumerate().map(node).collect(),
        signature: data.signature.map(|signature| Bytes::copy_from_slice(&signature)),
    }
}

/// Why a body is not a message.
enum Fault {
    Problem(&'static str),
    TooManyNames,
}

impl From<&'static str> for Fault {
    fn from(problem: &'static str) -> Self {
        Self::Problem(problem)
    }
}

fn decode_known(kind: u8, body: Bytes) -> Result<Message, Fault> {
    check(kind, &body)?;
    let len = body.len();
    Ok(match kind {
        OPEN => {
            let raw: schema::Open = parse(body)?;
            let discovery_key = required(raw.discovery_key, "no discovery key")?;
            Message::Open(Open {
                discovery_key: discovery_key_of(&discovery_key)?,
                capability: raw
                    .capability
                    .map(|proof| exactly(&proof, "a capability that is not 32 bytes"))
                    .transpose()?,
            })
        }
        OPTIONS => {
            let raw: schema::Options = parse(body)?;
            Message::Options(Options { extensions: raw.extensions, ack: raw.ack })
        }
        STATUS => {
            let raw: schema::Status = parse(body)?;
            Message::Status(Status {
                uploading: raw.uploading.unwrap_or(false),
                downloading: raw.downloading.unwrap_or(false),
            })
        }
        HAVE => {
            let raw: schema::Have = parse(body)?;
            Message::Have(Have {
                start: index(raw.start, "no start")?,
                length: integer(raw.length.unwrap_or(1))?,
                bitfield: raw.bitfield.map(|bitfield| unpinned(bitfield, len)),
                ack: raw.ack.unwrap_or(false),
            })
        }
        UNHAVE => Message::Unhave(span(&parse(body)?, 1)?),
        WANT => Message::Want(span(&parse(body)?, 0)?),
        UNWANT => Message::Unwant(span(&parse(body)?, 0)?),
        REQUEST => {
            let raw: schema::Request = parse(body)?;
            Message::Request(Request {
                index: index(raw.index, "no index")?,
                bytes: integer(raw.bytes.unwrap_or(0))?,
                hash: raw.hash.unwrap_or(false),
                nodes: integer(raw.nodes.unwrap_or(0))?,
            })
        }
        CANCEL => {
            let raw: schema::Cancel = parse(body)?;
            Message::Cancel {
                index: index(raw.index, "no index")?,
                bytes: integer(raw.bytes.unwrap_or(0))?,
                hash: raw.hash.unwrap_or(false),
            }
        }
        DATA => {
            let raw: schema::Data = parse(body)?;
            Message::Data(Data {
                index: index(raw.index, "no index")?,
                value: raw.value.map(|value| unpinned(value, len)),
                nodes: raw.nodes.iter().map(decode_node).collect::<Result<_, _>>()?,
                signature: raw
                    .signature
                    .map(|signature| exactly(&signature, "a signature that is not 64 bytes"))
                    .transpose()?,
            })
        }
        CLOSE => {
            let raw: schema::Close = parse(body)?;
            let discovery_key = raw.discovery_key.map(|key| discovery_key_of(&key)).transpose()?;
            Message::Close { discovery_key }
        }
        _ => return Err(Fault::Problem("unknown type")),
    })
}

/// The block of a `Data` that brings one, by the first bytes of its body: its index comes first, then the
/// block, as the JavaScript and this side write them.
pub(crate) fn block_in(kind: u8, body: &[u8]) -> Option<u64> {
    let (&tag, rest) = body.split_first()?;
    if kind != DATA || tag != INDEX_TAG {
        return None;
    }
    let (index, len) = varint::read(rest, varint::MAX_LEN).ok()??;
    (rest.get(len) == Some(&VALUE_TAG)).then_some(index)
}

/// What `prost` lets pass, and what must be counted before it allocates.
fn check(kind: u8, body: &[u8]) -> Result<(), Fault> {
    let mut repeated = 0;
    scan(body, |field, contents| {
        match (kind, field) {
            (OPTIONS, 1) => {
                repeated += 1;
                if repeated > MAX_NAMES {
                    return Err(Fault::TooManyNames);
                }
            }
            (DATA, 3) => {
                repeated += 1;
                if repeated > MAX_NODES {
                    return Err(Fault::Problem("more than 128 nodes"));
                }
                scan::<Fault>(contents, |_, _| Ok(()))?;
            }
            (_, _) => {}
        }
        Ok(())
    })
}

fn parse<M: prost::Message + Default>(body: Bytes) -> Result<M, Fault> {
    M::decode(body).map_err(|_: prost::DecodeError| {
        Fault::Problem("a field with a wrong number or wire type, or text that is not UTF-8")
    })
}

fn decode_node(raw: &schema::Node) -> Result<Node, Fault> {
    let hash = raw.hash.as_ref().ok_or(Fault::Problem("a node without a hash"))?;
    Ok(Node {
        index: index(raw.index, "a node without an index")?,
        hash: exactly(hash, "a hash that is not 32 bytes")?,
        size: index(raw.size, "a node without a size")?,
    })
}

fn decode_extension(mut body: Bytes) -> Option<Message> {
    let (id, len) = varint::read(&body, varint::MAX_LEN).ok()??;
    body.advance(len);
    Some(Message::Extension { id, payload: body.into() })
}

fn span(raw: &schema::Span, default_length: u64) -> Result<Span, Fault> {
    Ok(Span {
        start: index(raw.start, "no start")?,
        length: integer(raw.length.unwrap_or(default_length))?,
    })
}

fn discovery_key_of(bytes: &Bytes) -> Result<DiscoveryKey, Fault> {
    exactly(bytes, "a discovery key that is not 32 bytes").map(DiscoveryKey)
}

fn required<T>(field: Option<T>, problem: &'static str) -> Result<T, Fault> {
    field.ok_or(Fault::Problem(problem))
}

fn index(field: Option<u64>, problem: &'static str) -> Result<u64, Fault> {
    integer(required(field, problem)?)
}

fn integer(value: u64) -> Result<u64, Fault> {
    if value <= MAX_SAFE_INTEGER {
        Ok(value)
    } else {
        Err(Fault::Problem("an integer above 2^53 - 1"))
    }
}

fn exactly<const N: usize>(bytes: &Bytes, problem: &'static str) -> Result<[u8; N], Fault> {
    bytes.as_ref().try_into().map_err(|_| Fault::Problem(problem))
}

/// `part` as it is, or a copy of it when it would keep a buffer of `whole` bytes for a fraction.
fn unpinned(part: Bytes, whole: usize) -> Bytes {
    if part.len() < whole / 2 { Bytes::copy_from_slice(&part) } else { part }
}

/// Nodes of one `Data` message at most; a proof has two for each level of a tree of 64 levels.
pub const MAX_NODES: usize = 128;

/// Extension names of one `Options` message at most, whatever the configuration allows.
pub const MAX_NAMES: usize = 4096;

const OPEN: u8 = 0;
const OPTIONS: u8 = 1;
const STATUS: u8 = 2;
const HAVE: u8 = 3;
const UNHAVE: u8 = 4;
const WANT: u8 = 5;
const UNWANT: u8 = 6;
const REQUEST: u8 = 7;
const CANCEL: u8 = 8;
const DATA: u8 = 9;
/// Field 1 of a `Data`, a varint.
const INDEX_TAG: u8 = 1 << 3;
/// Field 2 of a `Data`, bytes.
const VALUE_TAG: u8 = 2 << 3 | 2;
const CLOSE: u8 = 10;
const EXTENSION: u8 = 15;

/// Names of the types that are protobuf, by number.
const NAMES: [&str; 11] = [
    "Open", "Options", "Status", "Have", "Unhave", "Want", "Unwant", "Request", "Cancel", "Data",
    "Close",
];

const _: () = assert!(NAMES.len() == CLOSE as usize + 1);
