//! The log that an answer proves by itself.

use alloc::vec::Vec;

use multifeed_proto::FeedKey;

use super::roots_of;
use super::verify::{Proof, TreeView, verify};
use crate::crypto::Verifier;
use crate::tree::{Node, NodeIndex, hash};

/// What an answer proves without anything that is held here.
#[derive(Clone, Debug)]
pub(crate) struct SignedLog {
    /// Its nodes: those on the way from the block, those beside it, the roots.
    pub(crate) nodes: Vec<Node>,
    /// Blocks in the log.
    pub(crate) length: u64,
    /// The hash of its roots.
    pub(crate) root: [u8; 32],
    pub(crate) signature: [u8; 64],
}

/// The log that an answer proves by itself; `None` if it leaves out what is held here, or proves nothing.
pub(crate) fn signed_log(
    verifier: Option<&Verifier>,
    key: &FeedKey,
    proof: Proof<'_>,
) -> Option<SignedLog> {
    let verified = verify(&Nothing, verifier, key, 0, proof).ok()?;
    let (length, signature) = verified.signature?;
    let nodes = verified.nodes;
    let roots =
        roots_of(length).map(|root| nodes.iter().find(|node| node.index == root.0).copied());
    let root = hash::root(&roots.collect::<Option<Vec<_>>>()?);
    Some(SignedLog { nodes, length, root, signature })
}

/// A tree of which nothing is held.
struct Nothing;

impl TreeView for Nothing {
    fn has(&self, _: NodeIndex) -> bool {
        false
    }

    fn node(&self, _: NodeIndex) -> Option<Node> {
        None
    }
}
