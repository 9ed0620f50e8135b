//! Whether the data file was cut, and which blocks went with that.
//!
//! The end of the last block that is held tells: one look at the length of the file, and for a feed
//! with gaps some nodes of the tree. An empty block tells nothing: no byte was written for it. Only if
//! the file is shorter, the first block that it lacks is searched from the roots down.

use alloc::vec::Vec;

use bytes::Bytes;

use super::Feed;
use crate::format::sleep;
use crate::storage::Op;
use crate::tree::flat::full_roots;
use crate::tree::{Node, NodeIndex};

/// Empty blocks at the end that are passed over.
const MAX_EMPTY: usize = 256;

/// The search for the end of what is left.
#[derive(Debug)]
pub(super) struct Cut {
    /// Bytes of the data file.
    data_len: u64,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// Where does a block end? At the sum of the sizes of these nodes. Is it empty? So many are known to be.
    Last(u64, Vec<NodeIndex>, usize),
    /// Does the file end in the left half of this node, which begins at an offset?
    Half(NodeIndex, u64),
}

/// What to do next.
pub(super) enum Next {
    Read(Cut, Vec<Op>),
    /// The file is long enough, or blocks that it lacks were taken out of the bits.
    Done,
}

impl Cut {
    /// Starts to look at a feed whose data file has `data_len` bytes.
    pub(super) fn look(feed: &mut Feed, data_len: u64) -> Next {
        if data_len >= feed.byte_length {
            return Next::Done;
        }
        Self::look_before(feed, data_len, u64::MAX, 0)
    }

    /// Looks at the last block before `end`; all that are held behind it are empty.
    fn look_before(feed: &mut Feed, data_len: u64, end: u64, empty: usize) -> Next {
        let Some(last) = feed.bits.last_block_before(end) else { return Next::Done };
        if empty > MAX_EMPTY {
            // They are fetched again if the file is not cut at all.
            return Self::search(feed, data_len);
        }
        let nodes: Vec<NodeIndex> = full_roots(last + 1).collect();
        if !nodes.iter().all(|node| feed.bits.has_node(*node)) {
            return Next::Done;
        }
        let leaf = NodeIndex::leaf(last);
        let ops = nodes.iter().chain([&leaf]).map(|node| read(feed, *node)).collect();
        Next::Read(Self { data_len, step: Step::Last(last, nodes, empty) }, ops)
    }

    /// Takes one answer for each operation asked for last.
    pub(super) fn answered(self, feed: &mut Feed, answers: &[Bytes]) -> Next {
        match self.step {
            Step::Last(last, nodes, empty) => {
                let sizes = nodes.iter().zip(answers).map(|(node, bytes)| size(*node, bytes));
                let end = sizes.sum::<Option<u64>>();
                if end.is_none_or(|end| end <= self.data_len) {
                    return Next::Done;
                }
                let leaf = answers.last().and_then(|bytes| size(NodeIndex::leaf(last), bytes));
                if leaf == Some(0) {
                    return Self::look_before(feed, self.data_len, last, empty + 1);
                }
                Self::search(feed, self.data_len)
            }
            Step::Half(node, offset) => {
                let (Some(left), Some(right)) = (node.left_child(), node.right_child()) else {
                    return lose_from(feed, node);
                };
                match answers.first().and_then(|bytes| size(left, bytes)) {
                    Some(size) if offset.saturating_add(size) <= self.data_len => {
                        Self::descend(feed, self.data_len, right, offset + size)
                    }
                    Some(_) => Self::descend(feed, self.data_len, left, offset),
                    None => lose_from(feed, node),
                }
            }
        }
    }

    fn search(feed: &mut Feed, data_len: u64) -> Next {
        let mut offset = 0u64;
        for root in &feed.roots {
            let end = offset.saturating_add(root.size);
            if end > data_len {
                let root = NodeIndex(root.index);
                return Self::descend(feed, data_len, root, offset);
            }
            offset = end;
        }
        Next::Done
    }

    fn descend(feed: &mut Feed, data_len: u64, node: NodeIndex, offset: u64) -> Next {
        match node.left_child() {
            // A node whose children are not held has no block below it that is.
            Some(left) if feed.bits.has_node(left) => {
                let ops = Vec::from([read(feed, left)]);
                Next::Read(Self { data_len, step: Step::Half(node, offset) }, ops)
            }
            Some(_) | None => lose_from(feed, node),
        }
    }
}

/// Takes the blocks from the first one below `node` on out of the bits.
fn lose_from(feed: &mut Feed, node: NodeIndex) -> Next {
    let mut at = node.blocks().start;
    while let Some(block) = feed.bits.first_block(at..feed.length) {
        feed.bits.set_block(block, false);
        at = block + 1;
    }
    Next::Done
}

fn read(feed: &Feed, node: NodeIndex) -> Op {
    Op::Read { path: feed.file(sleep::TREE), offset: sleep::tree_offset(node), len: 40 }
}

fn size(node: NodeIndex, bytes: &Bytes) -> Option<u64> {
    let Node { size, .. } = sleep::read_node(node, bytes)?;
    Some(size)
}
