//! The files of one feed: where things are in them, and their headers.
//!
//! | file | contents |
//! |---|---|
//! | `key` | the public key, 32 bytes |
//! | `secret_key` | the secret key, 64 bytes; empty or absent unless it cannot be derived |
//! | `tree` | header, then 40 bytes for each node: hash, size |
//! | `data` | the blocks, end to end |
//! | `signatures` | header, then 64 bytes for each length, zeros for none |
//! | `bitfield` | header, then pages of what is held |
//! | `sealed` | only in a local writer that lost its tail: the length that its log had, 8 bytes big-endian |
//! | `cleared` | only where blocks were cleared: 16 bytes for each range, first block and number, big-endian |
//! | `cleared.next` | left by a kill only: a shorter `cleared` that had not taken its place |
//! | `forked` | only where two logs were signed with the key: see [`forked`](super::forked) |
//!
//! The last four are ours, the JavaScript does not look at them.
//!
//! Source: `hypercore@9.12.0`, `lib/storage.js`.

use core::ops::Range;

use super::forked::FORKED;
use crate::tree::{MAX_BYTES, MAX_LENGTH, Node, NodeIndex, PAGE_SIZE};

/// Name of the file with the public key.
pub const KEY: &str = "key";
/// Name of the file with the secret key.
pub const SECRET_KEY: &str = "secret_key";
/// Name of the file with the nodes of the tree.
pub const TREE: &str = "tree";
/// Name of the file with the blocks.
pub const DATA: &str = "data";
/// Name of the file with the signatures.
pub const SIGNATURES: &str = "signatures";
/// Name of the file that says what is held.
pub const BITFIELD: &str = "bitfield";
/// Name of the file that says below which length nothing may be appended.
pub const SEALED: &str = "sealed";
/// Name of the file with the ranges of blocks that were cleared on purpose.
pub const CLEARED: &str = "cleared";
/// Name of a shorter list of the same blocks before it takes the place of [`CLEARED`].
pub const CLEARED_NEXT: &str = "cleared.next";

/// The files of a feed's log: those that are the same in every layout.
pub const LOG: [&str; 7] = [TREE, DATA, SIGNATURES, BITFIELD, SEALED, CLEARED, FORKED];

/// Bytes of the header of `tree`, `signatures` and `bitfield`.
pub const HEADER_BYTES: usize = 32;
/// Bytes of a range in `cleared`.
pub const CLEARED_BYTES: usize = 16;
/// Greatest number of ranges in `cleared`, 16 MiB of them; what is behind them does not count.
pub const MAX_CLEARED: usize = 1024 * 1024;
/// Bytes of a node in `tree`.
pub const TREE_ENTRY_BYTES: usize = 40;
/// Bytes of a signature in `signatures`.
pub const SIGNATURE_BYTES: usize = 64;

/// Header of `bitfield`, for pages of [`PAGE_SIZE`] bytes.
pub const BITFIELD_HEADER: [u8; HEADER_BYTES] = header(0, PAGE_SIZE as u16, "");
/// Header of `signatures`.
pub const SIGNATURES_HEADER: [u8; HEADER_BYTES] = header(1, SIGNATURE_BYTES as u16, "Ed25519");
/// Header of `tree`.
pub const TREE_HEADER: [u8; HEADER_BYTES] = header(2, TREE_ENTRY_BYTES as u16, "BLAKE2b");

/// What the header of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// 0 `bitfield`, 1 `signatures`, 2 `tree`.
    pub kind: u8,
    /// Bytes of an entry.
    pub entry_size: u16,
}

/// Reads the header of a file; `None` if it is short or none. Version and name are not looked at,
/// as in the JavaScript, which overwrites them.
#[must_use]
pub fn parse_header(file: &[u8]) -> Option<Header> {
    match *file.get(..HEADER_BYTES)? {
        [0x05, 0x02, 0x57, kind, _, high, low, ..] => {
            Some(Header { kind, entry_size: u16::from_be_bytes([high, low]) })
        }
        _ => None,
    }
}

/// Page size that the start of a bitfield file gives; [`PAGE_SIZE`] if there is no header or one
/// that cannot be right.
#[must_use]
pub fn bitfield_page_size(file: &[u8]) -> usize {
    parse_header(file)
        .filter(|header| header.kind == 0)
        .map_or(PAGE_SIZE, |header| usize::from(header.entry_size))
}

/// Where a node is in `tree`, in bytes.
#[must_use]
pub const fn tree_offset(node: NodeIndex) -> u64 {
    HEADER_BYTES as u64 + TREE_ENTRY_BYTES as u64 * node.0
}

/// Where in `signatures` number `index` is, which proves a log of `index + 1` blocks; in bytes.
#[must_use]
pub const fn signature_offset(index: u64) -> u64 {
    HEADER_BYTES as u64 + SIGNATURE_BYTES as u64 * index
}

/// Where page `page` is in a `bitfield` with pages of `page_size` bytes.
#[must_use]
pub const fn bitfield_offset(page: u64, page_size: usize) -> u64 {
    HEADER_BYTES as u64 + page_size as u64 * page
}

/// A node as it is written to `tree`.
#[must_use]
pub fn write_node(node: &Node) -> [u8; TREE_ENTRY_BYTES] {
    let mut out = [0; TREE_ENTRY_BYTES];
    out[..32].copy_from_slice(&node.hash);
    out[32..].copy_from_slice(&node.size.to_be_bytes());
    out
}

/// Reads the entry of a node. `None` if there is none: fewer bytes than an entry, or all of them zero,
/// or a size that no node can have.
#[must_use]
pub fn read_node(index: NodeIndex, entry: &[u8]) -> Option<Node> {
    read_entry(index, entry)
        .filter(|node| node.size < MAX_BYTES && (node.size != 0 || node.hash != [0; 32]))
}

pub(crate) fn read_entry(index: NodeIndex, entry: &[u8]) -> Option<Node> {
    let (hash, rest) = entry.split_first_chunk::<32>()?;
    let size = u64::from_be_bytes(*rest.first_chunk::<8>()?);
    Some(Node { index: index.0, hash: *hash, size })
}

/// Reads an entry of `signatures`. `None` if there is none: short, or all zeros.
#[must_use]
pub fn read_signature(entry: &[u8]) -> Option<[u8; SIGNATURE_BYTES]> {
    entry.first_chunk().copied().filter(|signature| signature != &[0; SIGNATURE_BYTES])
}

/// Reads an entry of `cleared`: blocks, none of which is [`MAX_LENGTH`] or more. `None` if it is short.
#[must_use]
pub fn read_cleared(entry: &[u8]) -> Option<Range<u64>> {
    let (start, rest) = entry.split_first_chunk::<8>()?;
    let start = u64::from_be_bytes(*start).min(MAX_LENGTH);
    let length = u64::from_be_bytes(*rest.first_chunk::<8>()?);
    Some(start..start.saturating_add(length).min(MAX_LENGTH))
}

const fn header(kind: u8, entry_size: u16, name: &str) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    let [high, low] = entry_size.to_be_bytes();
    [out[0], out[1], out[2], out[3], out[5], out[6]] = [0x05, 0x02, 0x57, kind, high, low];
    let name = name.as_bytes();
    // Names of at most 24 bytes, written by this file only.
    out[7] = name.len() as u8;
    let mut i = 0;
    while i < name.len() {
        out[8 + i] = name[i];
        i += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_back() {
        for (header, kind, entry_size) in
            [(BITFIELD_HEADER, 0, 3_584), (SIGNATURES_HEADER, 1, 64), (TREE_HEADER, 2, 40)]
        {
            assert_eq!(parse_header(&header), Some(Header { kind, entry_size }));
        }
        assert_eq!(parse_header(&TREE_HEADER[..31]), None);
        assert_eq!(parse_header(&[0; 32]), None);
        assert_eq!(bitfield_page_size(&[]), PAGE_SIZE);
        assert_eq!(bitfield_page_size(&TREE_HEADER), PAGE_SIZE);
    }

    #[test]
    fn zeros_are_no_node_and_no_signature() {
        assert_eq!(read_node(NodeIndex(4), &[0; 40]), None);
        assert_eq!(read_node(NodeIndex(4), &[1; 39]), None);
        assert_eq!(read_node(NodeIndex(4), &[0xff; 40]), None, "size out of range");
        assert_eq!(read_signature(&[0; 64]), None);
        let node = Node { index: 4, hash: [9; 32], size: 0 };
        assert_eq!(read_node(NodeIndex(4), &write_node(&node)), Some(node));
    }
}
