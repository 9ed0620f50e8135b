//! Entries of the list of feeds that hypermultifeed keeps in a feed of its own.
//!
//! Source: `hypermultifeed@1.1.0`, `lib/persistence` (one JSON object and a line end a block).

use alloc::string::String;
use alloc::vec::Vec;

use multifeed_proto::FeedKey;
use serde::{Deserialize, Serialize};

/// A feed on the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The feed.
    pub key: FeedKey,
    /// Its name on this machine; several entries may have the same.
    pub name: String,
}

#[derive(Serialize)]
struct Written<'a> {
    key: &'a str,
    name: &'a str,
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    key: alloc::borrow::Cow<'a, str>,
    #[serde(default)]
    name: Option<serde_json::Value>,
}

/// The block for an entry: `{"key":"<hex>","name":"<name>"}` and a line end.
#[must_use]
pub fn encode(entry: &Entry) -> Vec<u8> {
    let key = entry.key.to_hex();
    let written = Written { key: &key, name: &entry.name };
    let mut out = serde_json::to_vec(&written).expect("two strings are always valid JSON");
    out.push(b'\n');
    out
}

/// Reads a block. Other members are ignored, and a name that is no string is read as empty; `None` if
/// the block is not JSON or names no key.
#[must_use]
pub fn decode(block: &[u8]) -> Option<Entry> {
    let read: Read<'_> = serde_json::from_slice(block).ok()?;
    let key = FeedKey::from_hex(&read.key).ok()?;
    let name = match read.name {
        Some(serde_json::Value::String(name)) => name,
        Some(serde_json::Value::Number(number)) => alloc::format!("{number}"),
        _ => String::new(),
    };
    Some(Entry { key, name })
}
