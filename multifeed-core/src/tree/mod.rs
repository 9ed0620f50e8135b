//! The Merkle tree over the blocks of a feed, and the bits that say what of it is held.
//!
//! Here: index arithmetic ([`flat`]), hashes ([`hash`]), the bitfield of blocks and nodes
//! ([`Bitfield`]), a cache of nodes with a byte budget ([`NodeCache`]), and proofs ([`proof`]):
//! which nodes a request has to claim, which ones an answer has to carry, and whether an answer is
//! true. All of it is arithmetic on values in memory.
//!
//! Not here: reading and writing files, when to ask whom for what, signing keys (`crypto`), and
//! the bytes around the nodes in the files (`format`).

mod bitfield;
mod cache;
pub mod flat;
pub mod hash;
mod index_bits;
mod pages;
mod promised;
pub mod proof;
mod remote;

pub use multifeed_proto::messages::Node;

pub use bitfield::{BLOCKS_PER_PAGE, Bitfield, MAX_WANT_BYTES, NODES_PER_PAGE, PAGE_SIZE};
pub use cache::{CACHE_PAGE_BYTES, CACHE_PAGE_NODES, NodeCache};
pub use flat::{MAX_LENGTH, NodeIndex};
pub(crate) use promised::Promised;
pub use remote::RemoteTree;

/// Sizes in bytes, of blocks and of everything below a node, are less than this: 2^53, up to where
/// the numbers of a JavaScript peer are exact.
pub const MAX_BYTES: u64 = 1 << 53;
