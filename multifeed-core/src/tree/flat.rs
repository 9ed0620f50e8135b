//! Positions in a binary tree laid out in one row: leaf `b` is at `2·b`, parents lie between their
//! children.
//!
//! ```text
//! depth 2        3
//! depth 1    1       5
//! depth 0  0   2   4   6
//! ```
//!
//! Source: npm `flat-tree@1.13.0`.

use core::fmt;
use core::ops::Range;

/// Logs are shorter than this number of blocks; longer ones are refused where they come in.
///
/// Node indices are then less than 2^53, up to where the numbers of a JavaScript peer are exact.
pub const MAX_LENGTH: u64 = 1 << 52;

/// Depth of the highest node that the tree of a log of [`MAX_LENGTH`] blocks can have.
const MAX_DEPTH: u32 = 52;

/// The position of a node.
///
/// The arithmetic never panics. It is exact for nodes above the blocks `0 .. MAX_LENGTH`, to which
/// nodes from outside must be held by [`Self::is_valid`]; [`Self::parent`] stops at the top of that tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u64);

impl NodeIndex {
    /// The leaf of block `block`, which is less than [`MAX_LENGTH`].
    #[must_use]
    pub const fn leaf(block: u64) -> Self {
        Self(block.wrapping_mul(2))
    }

    /// The node number `offset`, from 0, among those of the same depth; leaves have depth 0.
    #[must_use]
    pub const fn at(depth: u32, offset: u64) -> Self {
        if depth > MAX_DEPTH {
            return Self(u64::MAX >> 1);
        }
        Self((offset << (depth + 1)) | ((1 << depth) - 1))
    }

    /// Whether every block below is less than [`MAX_LENGTH`].
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 < 2 * MAX_LENGTH && self.right_span().0 < 2 * MAX_LENGTH
    }

    /// Steps down to a leaf.
    #[must_use]
    pub const fn depth(self) -> u32 {
        self.0.trailing_ones()
    }

    /// Number of nodes of the same depth to the left.
    #[must_use]
    pub const fn offset(self) -> u64 {
        // Two shifts: a depth of 63 is a legal value here, a shift by 64 is not.
        match self.0.checked_shr(self.depth()) {
            Some(rest) => rest >> 1,
            None => 0,
        }
    }

    /// The node above; the topmost node is its own parent.
    #[must_use]
    pub const fn parent(self) -> Self {
        let depth = self.depth();
        if depth >= MAX_DEPTH { self } else { Self::at(depth + 1, self.offset() >> 1) }
    }

    /// The other child of the parent.
    #[must_use]
    pub const fn sibling(self) -> Self {
        Self::at(self.depth(), self.offset() ^ 1)
    }

    /// Whether this is the left one of its parent's children.
    #[must_use]
    pub const fn is_left(self) -> bool {
        self.offset() & 1 == 0
    }

    /// The first leaf below; the node itself if it is one.
    #[must_use]
    pub const fn left_span(self) -> Self {
        match 1_u64.checked_shl(self.depth()) {
            Some(width) => Self(self.0 - (width - 1)),
            None => Self(0),
        }
    }

    /// The last leaf below; the node itself if it is one.
    #[must_use]
    pub const fn right_span(self) -> Self {
        match 1_u64.checked_shl(self.depth()) {
            Some(width) => Self(self.0.saturating_add(width - 1)),
            None => self,
        }
    }

    /// The left one of the nodes below; a leaf has none.
    #[must_use]
    pub const fn left_child(self) -> Option<Self> {
        match self.depth() {
            0 => None,
            depth => Some(Self(self.0 - (1 << (depth - 1)))),
        }
    }

    /// The right one of the nodes below; a leaf has none.
    #[must_use]
    pub const fn right_child(self) -> Option<Self> {
        match self.depth() {
            0 => None,
            depth => Some(Self(self.0.saturating_add(1 << (depth - 1)))),
        }
    }

    /// The blocks below.
    #[must_use]
    pub const fn blocks(self) -> Range<u64> {
        self.left_span().0 / 2..self.right_span().0 / 2 + 1
    }

    /// Whether `leaf`, or any other node, is this one or below it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.left_span().0 <= other.0 && other.0 <= self.right_span().0
    }
}

impl fmt::Debug for NodeIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeIndex({})", self.0)
    }
}

impl fmt::Display for NodeIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The roots of the tree of a log of `length` blocks, in ascending order: at most 52, one for each
/// 1-bit of `length`. Nothing for an empty log.
///
/// `length` is at most [`MAX_LENGTH`].
///
/// Source: `flat-tree`, `fullRoots(2 * length)`.
#[must_use]
pub fn full_roots(length: u64) -> FullRoots {
    FullRoots { start: 0, rest: length }
}

/// The iterator that [`full_roots`] gives.
#[derive(Clone, Debug)]
pub struct FullRoots {
    start: u64,
    rest: u64,
}

impl Iterator for FullRoots {
    type Item = NodeIndex;

    fn next(&mut self) -> Option<NodeIndex> {
        let depth = self.rest.checked_ilog2()?;
        let root = NodeIndex::at(depth, self.start >> depth);
        self.start += 1 << depth;
        self.rest -= 1 << depth;
        Some(root)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = self.rest.count_ones() as usize;
        (count, Some(count))
    }
}

impl ExactSizeIterator for FullRoots {}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn no_index_makes_the_arithmetic_panic() {
        let mut indices: Vec<u64> = (0..64).map(|bit| 1_u64 << bit).collect();
        indices.extend((0..64).map(|bit| u64::MAX >> bit));
        indices.extend([0, u64::MAX - 1, (1 << 53) + 1, 0x5555_5555_5555_5555]);
        for index in indices.into_iter().map(NodeIndex) {
            let _ = (index.depth(), index.offset(), index.parent(), index.sibling());
            let _ = (index.left_span(), index.right_span(), index.blocks(), index.is_valid());
            let _ = (index.left_child(), index.right_child(), index.contains(index));
            assert!(full_roots(index.0).count() <= 64);
        }
    }

    #[test]
    fn children_know_their_parent() {
        for index in (0..4_000).chain((1 << 52) - 50..(1 << 52) - 1).map(NodeIndex) {
            assert_eq!(index.sibling().sibling(), index);
            assert_eq!(index.sibling().parent(), index.parent());
            if let (Some(left), Some(right)) = (index.left_child(), index.right_child()) {
                assert_eq!((left.parent(), right.parent()), (index, index));
                assert!(left.is_left() && !right.is_left());
                assert!(index.contains(left) && index.contains(right));
            }
        }
    }

    #[test]
    fn full_roots_cover_every_block_once() {
        for length in (0..600).chain([MAX_LENGTH - 1, MAX_LENGTH]) {
            let mut next = 0;
            for root in full_roots(length) {
                assert_eq!(root.blocks().start, next);
                next = root.blocks().end;
            }
            assert_eq!(next, length);
        }
    }
}
