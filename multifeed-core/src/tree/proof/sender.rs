//! The sender's side of a proof.

use alloc::vec::Vec;

use crate::tree::{Bitfield, MAX_LENGTH, NodeIndex, RemoteTree, flat};

/// What an answer has to carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofPlan {
    /// The nodes, in the order in which they go on the wire: those beside the way from the leaf upward,
    /// then the other roots from left to right. A request for hashes has the leaf in front.
    pub nodes: Vec<NodeIndex>,
    /// Number of the signature in the signatures file; it proves a log of one block more. `None`: the
    /// reader gets to a node that it claimed.
    ///
    /// If that signature is blank, the feed is a static one, whose answers carry none.
    pub signature: Option<u64>,
}

/// The leaf of the block is not in the tree, or the tree has a gap above it that it must not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tree has no proof for this block")]
pub struct NoProof;

/// Chooses the nodes for the answer to a request for block `block` with `digest`; `hash` asks for the leaf
/// instead of the block. Claims that the digest makes are added to `remote`.
///
/// A remote that claims what it does not have cannot verify the answer; nothing else follows.
///
/// # Errors
///
/// [`NoProof`]; the request is to be ignored.
///
/// Source: `hypercore@9.12.0`, `lib/tree-index.js`, `proof`.
pub fn plan(
    bits: &Bitfield,
    remote: &mut RemoteTree,
    block: u64,
    hash: bool,
    digest: u64,
) -> Result<ProofPlan, NoProof> {
    plan_after(bits, remote, block, hash, digest, u64::MAX)
}

/// As [`plan`] where nothing was claimed before, in a log of `length` blocks: nodes of later ones, and what is
/// signed with them, stay out.
pub(crate) fn plan_below(
    bits: &Bitfield,
    block: u64,
    hash: bool,
    digest: u64,
    length: u64,
) -> Result<ProofPlan, NoProof> {
    match plan_to_claim(bits, block, hash, digest, length) {
        Some(plan) => Ok(plan),
        None => plan_after(bits, &mut RemoteTree::new(), block, hash, digest, length),
    }
}

/// The answer where the digest claims a node on the way that is held: nothing above it matters.
fn plan_to_claim(
    bits: &Bitfield,
    block: u64,
    hash: bool,
    digest: u64,
    length: u64,
) -> Option<ProofPlan> {
    let mut node = NodeIndex::leaf(block);
    let claims = digest >> 1;
    let top = claims.checked_ilog2().filter(|_| digest & 1 == 1)?;
    if block >= MAX_LENGTH || !bits.has_node_below(node, length) {
        return None;
    }
    let mut nodes = Vec::with_capacity(4);
    if hash {
        nodes.push(node);
    }
    for depth in 0..top {
        let sibling = node.sibling();
        if node == node.parent() || !bits.has_node_below(sibling, length) {
            return None;
        }
        if claims >> depth & 1 == 0 {
            nodes.push(sibling);
        }
        node = node.parent();
    }
    bits.has_node(node).then_some(ProofPlan { nodes, signature: None })
}

fn plan_after(
    bits: &Bitfield,
    remote: &mut RemoteTree,
    block: u64,
    hash: bool,
    digest: u64,
    length: u64,
) -> Result<ProofPlan, NoProof> {
    let leaf = NodeIndex::leaf(block);
    if block >= MAX_LENGTH || !bits.has_node_below(leaf, length) {
        return Err(NoProof);
    }
    let mut nodes = Vec::with_capacity(if digest == 0 { 24 } else { 4 });
    if hash {
        nodes.push(leaf);
    }
    if digest == 1 {
        return Ok(ProofPlan { nodes, signature: None });
    }
    note_claims(bits, remote, leaf, digest);

    let mut node = leaf;
    while !remote.contains(node) {
        let sibling = node.sibling();
        if !bits.has_node_below(sibling, length) {
            let length = bits.verified_below(node, length) / 2;
            let index = length.checked_sub(1).ok_or(NoProof)?;
            nodes.extend(
                flat::full_roots(length).filter(|&root| root != node && !remote.contains(root)),
            );
            return Ok(ProofPlan { nodes, signature: Some(index) });
        }
        if !remote.contains(sibling) {
            nodes.push(sibling);
        }
        node = node.parent();
    }
    Ok(ProofPlan { nodes, signature: None })
}

/// Adds the nodes that `digest`, which is not 1, claims, as far as they exist here.
fn note_claims(bits: &Bitfield, remote: &mut RemoteTree, leaf: NodeIndex, digest: u64) {
    let mut claim = |node: NodeIndex| {
        if bits.has_node(node) {
            remote.insert(node);
        }
    };
    let has_root = digest & 1 == 1;
    let mut digest = digest >> 1;
    let mut node = leaf;
    while digest != 0 {
        if digest == 1 && has_root {
            claim(node);
            // Who has a root has the roots to the left of it, too.
            let left = node.min(node.sibling());
            flat::full_roots(left.blocks().end).for_each(claim);
            return;
        }
        if digest & 1 == 1 {
            claim(node.sibling());
        }
        // Above the top no node can be claimed.
        if node == node.parent() {
            return;
        }
        node = node.parent();
        digest >>= 1;
    }
}
