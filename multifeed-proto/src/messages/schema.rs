//! The protobuf schema as it is on the wire, with every field optional.
//!
//! Source: `simple-hypercore-protocol@2.1.2/schema.proto`. `prost` would read a missing required
//! field as its default, so [`super::codec`] checks by hand what must be there.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct NoisePayload {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(super) nonce: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Open {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(super) discovery_key: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) capability: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Options {
    #[prost(string, repeated, tag = "1")]
    pub(super) extensions: Vec<String>,
    #[prost(bool, optional, tag = "2")]
    pub(super) ack: Option<bool>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Status {
    #[prost(bool, optional, tag = "1")]
    pub(super) uploading: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    pub(super) downloading: Option<bool>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Have {
    #[prost(uint64, optional, tag = "1")]
    pub(super) start: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub(super) length: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(super) bitfield: Option<Bytes>,
    #[prost(bool, optional, tag = "4")]
    pub(super) ack: Option<bool>,
}

/// `Unhave`, `Want` and `Unwant`, which differ in what an absent length means.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Span {
    #[prost(uint64, optional, tag = "1")]
    pub(super) start: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub(super) length: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    #[prost(uint64, optional, tag = "1")]
    pub(super) index: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub(super) bytes: Option<u64>,
    #[prost(bool, optional, tag = "3")]
    pub(super) hash: Option<bool>,
    #[prost(uint64, optional, tag = "4")]
    pub(super) nodes: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Cancel {
    #[prost(uint64, optional, tag = "1")]
    pub(super) index: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub(super) bytes: Option<u64>,
    #[prost(bool, optional, tag = "3")]
    pub(super) hash: Option<bool>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Data {
    #[prost(uint64, optional, tag = "1")]
    pub(super) index: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) value: Option<Bytes>,
    #[prost(message, repeated, tag = "3")]
    pub(super) nodes: Vec<Node>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(super) signature: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Node {
    #[prost(uint64, optional, tag = "1")]
    pub(super) index: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) hash: Option<Bytes>,
    #[prost(uint64, optional, tag = "3")]
    pub(super) size: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Close {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(super) discovery_key: Option<Bytes>,
}
