//! Proofs: what to claim in a request, what to put in an answer, and whether an answer is true.
//!
//! A reader claims in the digest of a request which nodes it has ([`digest`]); a sender adds what is
//! missing to reach one of these or a signed root ([`plan`]); the reader computes upward until it
//! meets a node that it has, or checks the signature ([`verify()`]). A reader with requests in flight
//! may claim what they will bring, too ([`expected_nodes`]); then an answer can come too early,
//! which [`Unverified::Missing`] tells.
//!
//! Here also: how a writer's tree grows ([`append`]), and what a damaged log may be cut back to
//! ([`lengths_to_try`]).
//!
//! Not here: signing, reading nodes from files, holding early answers.

mod request;
mod sender;
mod signed;
mod verify;

use alloc::vec::Vec;

use super::{Bitfield, MAX_LENGTH, Node, NodeIndex, flat, hash};

pub use request::{digest, expected_nodes};
pub(crate) use sender::plan_below;
pub use sender::{NoProof, ProofPlan, plan};
pub(crate) use signed::signed_log;
pub use verify::{MAX_NODES, NewLog, Proof, TreeView, Unverified, Verified, verify};

/// The roots of a log of `length` blocks, in ascending order; at most 52.
#[must_use]
pub fn roots_of(length: u64) -> flat::FullRoots {
    flat::full_roots(length)
}

/// The nodes whose sizes add up to the byte offset of block `block`.
#[must_use]
pub fn offset_nodes(block: u64) -> flat::FullRoots {
    flat::full_roots(block)
}

/// Lengths that a log could be cut back to, longest first: those of at most `longest` blocks whose
/// roots are all held. Which of them have a signature is in the signatures file.
///
/// For a log without gaps these are all lengths, so the caller has to set an end to it.
pub fn lengths_to_try(bits: &Bitfield, longest: u64) -> impl Iterator<Item = u64> {
    let longest = longest.min(bits.length()).min(MAX_LENGTH);
    (1..=longest).rev().filter(|&length| roots_of(length).all(|root| bits.has_node(root)))
}

/// What becomes of a tree when blocks are appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// All nodes that are new, in the order in which they come about; leaves and those above.
    pub nodes: Vec<Node>,
    /// The roots of the longer log, in ascending order.
    pub roots: Vec<Node>,
}

/// The log would get longer than [`MAX_LENGTH`] blocks or [`super::MAX_BYTES`] bytes, or `roots`
/// are not those of a log of that length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log cannot grow: too long, or not matching its roots")]
pub struct CannotGrow;

/// Adds blocks to the log of `length` blocks that has `roots`.
///
/// # Errors
///
/// [`CannotGrow`]; nothing is changed in any case.
pub fn append<B: AsRef<[u8]>>(
    roots: &[Node],
    length: u64,
    blocks: &[B],
) -> Result<Appended, CannotGrow> {
    length.checked_add(blocks.len() as u64).filter(|&end| end <= MAX_LENGTH).ok_or(CannotGrow)?;
    if !roots.iter().map(|root| root.index).eq(roots_of(length).map(|root| root.0)) {
        return Err(CannotGrow);
    }
    let mut roots = roots.to_vec();
    let mut nodes = Vec::with_capacity(2 * blocks.len() + roots.len());
    for (block, data) in (length..).zip(blocks) {
        let mut top = hash::leaf_node(block, data.as_ref());
        nodes.push(top);
        while let Some(left) =
            roots.last().filter(|root| root.index == NodeIndex(top.index).sibling().0)
        {
            top = hash::parent(left, &top).ok_or(CannotGrow)?;
            nodes.push(top);
            roots.pop();
        }
        roots.push(top);
    }
    hash::total_size(&roots).ok_or(CannotGrow)?;
    Ok(Appended { nodes, roots })
}
