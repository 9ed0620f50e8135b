//! The messages of a channel, checked: a value of these types is always well formed.
//!
//! - [`codec`] turns them into the bodies of frames and back, and lists where it is stricter than the
//!   JavaScript;
//! - `schema` has the protobuf fields, `scan` the checks that come before they are decoded.
//!
//! Frames are in [`crate::wire`], what the messages mean in [`crate::session`].

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use crate::{Contents, DiscoveryKey};

pub mod codec;
mod scan;
mod schema;

#[cfg(test)]
mod vector_tests;

/// Any message that can arrive on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Type 0: the sender opens a channel.
    Open(Open),
    /// Type 1: extension names and the wish for acknowledgements.
    Options(Options),
    /// Type 2: what the sender is ready to do on this channel.
    Status(Status),
    /// Type 3: blocks that the sender has.
    Have(Have),
    /// Type 4: blocks that the sender has no more.
    Unhave(Span),
    /// Type 5: the sender wants to hear of blocks in this range; an absent length is 0.
    Want(Span),
    /// Type 6: the opposite of `Want`.
    Unwant(Span),
    /// Type 7: the sender asks for a block.
    Request(Request),
    /// Type 8: the sender takes a request back.
    Cancel {
        /// Block index.
        index: u64,
        /// Byte offset of a seek, 0 if none.
        bytes: u64,
        /// Whether the request was for hashes only.
        hash: bool,
    },
    /// Type 9: a block, its proof, or both.
    Data(Data),
    /// Type 10: the sender closes a channel.
    Close {
        /// Present only when the sender refuses a channel that it never opened.
        discovery_key: Option<DiscoveryKey>,
    },
    /// Type 15: a message of an extension.
    Extension {
        /// Position of the extension's name in the sender's list.
        id: u64,
        /// What the extension sent.
        payload: Contents,
    },
}

/// Opens a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Name of the key that the channel is for.
    pub discovery_key: DiscoveryKey,
    /// Proof that the sender knows the key; absent only on streams without Noise.
    pub capability: Option<[u8; 32]>,
}

/// Extension names of a scope, in the order that gives them their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Names, sorted by the sender.
    pub extensions: Vec<String>,
    /// Whether the sender wants a `Have` with `ack` for each block that it sends. `None`: not written,
    /// which is how the JavaScript sends it outside feed channels; reads as `false`.
    pub ack: Option<bool>,
}

/// What a side is ready to do. A field that is absent on the wire means `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Answers requests.
    pub uploading: bool,
    /// Makes requests.
    pub downloading: bool,
}

/// Blocks that the sender has: `start .. start + length`, or those set in the bitfield.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Have {
    /// First block.
    pub start: u64,
    /// Number of blocks; 1 if absent on the wire.
    pub length: u64,
    /// Run-length encoded bits from `start` on, see [`crate::rle`].
    pub bitfield: Option<Bytes>,
    /// Whether this acknowledges blocks that the sender got from us.
    pub ack: bool,
}

/// A range of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First block.
    pub start: u64,
    /// Number of blocks.
    pub length: u64,
}

/// Asks for a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Block index.
    pub index: u64,
    /// Byte offset to seek; 0 for none.
    pub bytes: u64,
    /// Whether only hashes are wanted.
    pub hash: bool,
    /// Digest of the tree nodes that the sender has.
    pub nodes: u64,
}

/// A block with its proof. `Debug` does not show the block.
#[derive(Clone, PartialEq, Eq)]
pub struct Data {
    /// Block index.
    pub index: u64,
    /// The block; `None` when only hashes are sent. May be empty.
    pub value: Option<Bytes>,
    /// Hashes of the proof, in wire order. At most 128 are accepted.
    pub nodes: Vec<Node>,
    /// Signature of the tree, when the proof reaches a root.
    pub signature: Option<[u8; 64]>,
}

/// A node of the Merkle tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Flat-tree index.
    pub index: u64,
    /// BLAKE2b-256 of what is below.
    pub hash: [u8; 32],
    /// Bytes of all blocks below.
    pub size: u64,
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Data")
            .field("index", &self.index)
            .field("bytes", &self.value.as_ref().map(Bytes::len))
            .field("nodes", &self.nodes.len())
            .field("signed", &self.signature.is_some())
            .finish()
    }
}
