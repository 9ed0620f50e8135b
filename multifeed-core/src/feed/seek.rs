//! Which block a byte of the log is in.

use alloc::vec::Vec;
use core::ops::Range;

use super::Feed;
use crate::tree::NodeIndex;
use crate::tree::flat::full_roots;

/// How far the way to a byte is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Located {
    /// In this block, so many bytes after its start.
    At(u64, u64),
    /// It is the first byte after the log.
    End,
    /// Somewhere in these blocks: the tree is not known below them.
    Within(Range<u64>),
    /// After the log, as far as that is known.
    Beyond,
    /// These nodes must be loaded first; none if the tree lacks a node that it should have.
    Load(Vec<NodeIndex>),
}

impl Feed {
    /// Looks for the block with the byte `offset` of the log.
    ///
    /// Source: `hypercore@9.12.0/index.js`, `_seek`.
    pub(crate) fn locate(&self, offset: u64) -> Located {
        if offset == self.byte_length {
            return Located::End;
        }
        if offset > self.byte_length {
            return Located::Beyond;
        }
        let mut left = offset;
        for root in full_roots(self.length) {
            let Some(size) = self.node(root).map(|node| node.size) else {
                let unloaded = |root: &NodeIndex| self.node(*root).is_none();
                let held = |root: &NodeIndex| self.bits.has_node(*root);
                let missing = full_roots(self.length).filter(unloaded).filter(held);
                return Located::Load(missing.collect());
            };
            if left < size {
                return self.descend(root, size, left);
            }
            left -= size;
        }
        Located::Load(Vec::new())
    }

    fn descend(&self, root: NodeIndex, size: u64, mut left: u64) -> Located {
        let (mut at, mut size) = (root, size);
        while let (Some(below), Some(right)) = (at.left_child(), at.right_child()) {
            let left_size = if self.bits.has_node(below) {
                let Some(node) = self.node(below) else { return Located::Load([below].into()) };
                node.size
            } else if self.bits.has_node(right) {
                let Some(node) = self.node(right) else { return Located::Load([right].into()) };
                size.saturating_sub(node.size)
            } else {
                return Located::Within(at.blocks());
            };
            (at, size) = if left < left_size {
                (below, left_size)
            } else {
                left -= left_size;
                (right, size.saturating_sub(left_size))
            };
        }
        Located::At(at.0 / 2, left)
    }
}
