//! The reader's side before it asks.

use alloc::vec::Vec;
use core::ops::Range;

use crate::tree::{MAX_LENGTH, NodeIndex, flat};

/// Largest digest that a JavaScript peer reads exactly.
const MAX_DIGEST: u64 = (1 << 53) - 1;

/// The digest of a request for block `block`: which nodes beside and on the way from its leaf to the
/// root `has` holds, so that the sender can leave them out.
///
/// 0: none. 1: the leaf itself, or all that is needed to compute it. Otherwise bit `k` from 1 on stands
/// for the node beside the way at depth `k - 1`, and bit 0 says that the topmost 1-bit stands for a
/// node on the way.
///
/// `bit_length` is more than the highest index for which `has` is true: [`Bitfield::tree_bit_length`]
/// or, where `has` also speaks of nodes that are on their way, more. Claiming less than is
/// held is always allowed, claiming more never.
///
/// Source: `hypercore@9.12.0`, `lib/tree-index.js`, `digest`.
///
/// [`Bitfield::tree_bit_length`]: crate::tree::Bitfield::tree_bit_length
#[must_use]
pub fn digest(has: impl Fn(NodeIndex) -> bool, block: u64, bit_length: u64) -> u64 {
    let leaf = NodeIndex::leaf(block);
    if block >= MAX_LENGTH {
        return 0;
    }
    if has(leaf) {
        return 1;
    }
    let mut node = leaf.sibling();
    let mut parent = node.parent();
    let end = bit_length.max(node.0 + 2);
    let mut bit = 2;
    let mut digest = 0;
    while (node.right_span().0 < end || parent.left_span().0 > 0) && parent != parent.parent() {
        if has(node) {
            digest |= bit;
        }
        if has(parent) {
            digest |= (2 * bit) | 1;
            // Everything beside the way and the node on top: the leaf follows from these.
            if digest == 4 * bit - 1 {
                return 1;
            }
            break;
        }
        node = parent.sibling();
        parent = node.parent();
        bit *= 2;
    }
    if digest > MAX_DIGEST { 0 } else { digest }
}

/// The nodes that are certain to be held once the answer to a request for block `block` is verified, and
/// that `has` did not hold before: what was held and on its way when its digest was made.
///
/// They may be claimed in later requests on the same channel. `remote_has_all` says whether the remote
/// announced every block of a range; it is asked for the last block below a node, which nobody can
/// have without the node. Everything to the left of a node that can be verified is
/// known to both sides: nodes beside the way, and roots. The sender takes the latter as claimed along
/// with any node on the way that a digest claims, so they belong to what is expected.
///
/// The leaf comes first, then upward, then the other roots.
#[must_use]
pub fn expected_nodes(
    block: u64,
    has: impl Fn(NodeIndex) -> bool,
    mut remote_has_all: impl FnMut(Range<u64>) -> bool,
) -> Vec<NodeIndex> {
    let mut out = Vec::new();
    let mut node = NodeIndex::leaf(block);
    if block >= MAX_LENGTH || has(node) {
        return out;
    }
    out.push(node);
    loop {
        let parent = node.parent();
        if parent == node || has(parent) {
            return out;
        }
        let sibling = node.sibling();
        if !has(sibling) {
            let end = sibling.blocks().end;
            if sibling > node && !remote_has_all(end - 1..end) {
                break;
            }
            out.push(sibling);
        }
        out.push(parent);
        node = parent;
    }
    out.extend(flat::full_roots(node.blocks().start).filter(|&root| !has(root)));
    out
}
