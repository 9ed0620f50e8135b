//! What the nodes that are held say of the log: its length, and which signature proves a node.

use super::{Bitfield, NODES_PER_PAGE};
use crate::tree::NodeIndex;

impl Bitfield {
    /// Number of bits of the tree: 8 times the number of bytes up to the last one that is not 0.
    #[must_use]
    pub fn tree_bit_length(&self) -> u64 {
        self.pages
            .iter()
            .rev()
            .find_map(|(number, page)| {
                let word = page.nodes.iter().rposition(|&word| word != 0)?;
                let bytes = 8 - page.nodes[word].trailing_zeros() as usize / 8;
                Some(number * NODES_PER_PAGE + 8 * (8 * word + bytes) as u64)
            })
            .unwrap_or(0)
    }

    /// Length of the log in blocks, as far as the nodes that are held prove it.
    ///
    /// Source: `lib/tree-index.js`, `blocks`.
    #[must_use]
    pub fn length(&self) -> u64 {
        let bits = self.tree_bit_length();
        let mut top = NodeIndex(0);
        let mut next = NodeIndex(0);
        while next.right_span().0 < bits && next.parent() != next {
            next = next.parent();
            if self.has_node(next) {
                top = next;
            }
        }
        self.verified_by(top) / 2
    }

    /// Twice the length in blocks of a log that has the topmost tree known above `node` among its
    /// roots, and whose signature therefore proves `node`. 0 if `node` is not held.
    ///
    /// Source: `lib/tree-index.js`, `verifiedBy`.
    #[must_use]
    pub fn verified_by(&self, node: NodeIndex) -> u64 {
        self.verified_below(node, u64::MAX)
    }

    /// As [`verified_by`](Self::verified_by), in a log of `length` blocks: nodes of later ones do not count.
    pub(crate) fn verified_below(&self, node: NodeIndex, length: u64) -> u64 {
        let has = |node: NodeIndex| self.has_node_below(node, length);
        if !has(node) {
            return 0;
        }
        let mut top = node;
        while has(top.sibling()) && has(top.parent()) && top.parent() != top {
            top = top.parent();
        }
        let mut depth = top.depth();
        while depth > 0 {
            let right = NodeIndex::at(depth, top.offset() + 1);
            top = right.left_child().unwrap_or(right);
            depth -= 1;
            while depth > 0 && !has(top) {
                top = top.left_child().unwrap_or(top);
                depth -= 1;
            }
        }
        if has(top) { top.0 + 2 } else { top.0 }
    }

    /// Whether the node is held and all blocks below it are among the first `length`.
    pub(crate) fn has_node_below(&self, node: NodeIndex, length: u64) -> bool {
        self.has_node(node) && node.blocks().end <= length
    }
}
