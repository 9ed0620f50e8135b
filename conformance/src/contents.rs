//! What test feeds contain, and how contents are compared.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::process::json_u64;

/// What one store holds of one feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Blocks in the log, as far as this store knows.
    pub length: u64,
    /// Which blocks are held here: start and end (exclusive), ascending, never touching.
    pub ranges: Vec<(u64, u64)>,
    /// SHA-256 (hex) over the held blocks: each as its length (u64, little endian) and its bytes.
    pub sha256: String,
}

impl Held {
    /// A feed of which every block is held.
    pub fn all<B: AsRef<[u8]>>(blocks: impl IntoIterator<Item = B>) -> Self {
        let blocks: Vec<B> = blocks.into_iter().collect();
        let length = blocks.len() as u64;
        Self::some(length, (0..).zip(blocks))
    }

    /// A feed of `length` blocks of which these, ascending, are held.
    pub fn some<B: AsRef<[u8]>>(length: u64, blocks: impl IntoIterator<Item = (u64, B)>) -> Self {
        let mut hash = Sha256::new();
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (index, block) in blocks {
            hash.update((block.as_ref().len() as u64).to_le_bytes());
            hash.update(block.as_ref());
            match ranges.last_mut() {
                Some((_, end)) if *end == index => *end += 1,
                Some(_) | None => ranges.push((index, index + 1)),
            }
        }
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { length, ranges, sha256 }
    }

    /// What `JsPeer::write` makes of a new writer: `count` blocks whose sizes repeat `sizes`.
    pub fn written(writer: &str, count: u64, sizes: &[usize]) -> Self {
        let size = |index: u64| sizes[usize::try_from(index).unwrap() % sizes.len()];
        Self::all((0..count).map(|index| block(writer, index, size(index))))
    }

    /// How many blocks are held.
    pub fn blocks(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }

    /// Reads the answer of `peer.js` to `digest`.
    pub(crate) fn from_json(feed: &Value) -> (String, Self) {
        let text =
            |field: &str| feed[field].as_str().unwrap_or_else(|| panic!("{feed}")).to_owned();
        let held = Self {
            length: json_u64(feed, "length"),
            ranges: serde_json::from_value(feed["ranges"].clone()).unwrap(),
            sha256: text("digest"),
        };
        (text("key"), held)
    }
}

/// Everything that a store holds: feed key (64 hex digits) → contents.
pub type Contents = BTreeMap<String, Held>;

/// Block `index` of the writer called `name`: xorshift32 words, little endian, seeded with the
/// FNV-1a hash of `name:index`. No two blocks agree and nothing repeats inside a block.
///
/// `js/contents.js` makes the same bytes.
pub fn block(name: &str, index: u64, size: usize) -> Vec<u8> {
    let seed = format!("{name}:{index}");
    let mut state = seed
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
        .max(1);
    let mut bytes = Vec::with_capacity(size + 3);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// The same as one line of text without its newline, for `multifeed append --lines`.
pub fn line(name: &str, index: u64, size: usize) -> Vec<u8> {
    let mut bytes = block(name, index, size);
    for byte in &mut bytes {
        *byte = b'a' + *byte % 26;
    }
    bytes
}

/// Lines `range` of the writer called `name`, each with its newline.
pub fn lines(name: &str, range: std::ops::Range<u64>, size: usize) -> Vec<u8> {
    range.flat_map(|index| [line(name, index, size), b"\n".to_vec()].concat()).collect()
}

/// A root key (64 hex digits) made from any text.
pub fn root_key(text: &str) -> String {
    Held::all([text]).sha256
}
