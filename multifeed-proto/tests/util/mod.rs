//! Two connections or two sessions, joined without a network and under a virtual clock.
#![allow(dead_code, clippy::unwrap_used, clippy::wildcard_enum_match_arm)]
#![allow(unreachable_pub, missing_docs)]

pub mod app;
pub mod pair;
pub mod remote;
pub mod sessions;

use std::time::Duration;

use multifeed_proto::messages::{Data, Span};
use multifeed_proto::{FeedKey, Now, RootKey};

pub fn root() -> RootKey {
    RootKey::new([0x11; 32])
}

pub fn feed(n: u8) -> FeedKey {
    FeedKey([n; 32])
}

pub fn span(start: u64, length: u64) -> Span {
    Span { start, length }
}

pub fn at(milliseconds: u64) -> Now {
    Now(Duration::from_millis(milliseconds))
}

pub fn data(index: u64, value: Option<&[u8]>) -> Data {
    let value = value.map(|value| value.to_vec().into());
    Data { index, value, nodes: Vec::new(), signature: None }
}
