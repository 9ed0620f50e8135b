//! Mending what is stored of the tree where it does not fit a node above that is true.
//!
//! A node follows from its two children, a leaf from its block. What follows so and fits the node above is
//! what was signed. What does not follow from anything is forgotten, and comes back from peers with proofs.

use alloc::vec::Vec;

use super::Feed;
use crate::tree::{Node, NodeIndex, hash};

/// Blocks below a node that may be fetched again because of it; beyond that the whole feed is to be repaired.
const MAX_FORGOTTEN: u64 = 4096;

/// What can be done about two nodes that do not fit the one above.
#[derive(Debug)]
pub(crate) enum Heal {
    /// These nodes must be loaded first.
    Load(Vec<NodeIndex>),
    /// The two are leaves: these bytes of the data file are their blocks. For [`Feed::heal_leaves`].
    Read { above: NodeIndex, offset: u64, len: usize },
    /// They fit again, or are forgotten. These blocks are lost by that.
    Done(Vec<u64>),
    /// Too much would be forgotten.
    Hopeless,
}

impl Feed {
    /// Mends the children of a node that is true.
    pub(crate) fn heal(&mut self, above: NodeIndex, max_block: usize) -> Heal {
        let (Some(left), Some(right), Some(whole)) =
            (above.left_child(), above.right_child(), self.node(above))
        else {
            return Heal::Hopeless;
        };
        self.cursor = (0, 0);
        if left.depth() == 0 {
            return match self.offset_with(left.blocks().start, &[]) {
                Err(nodes) if !nodes.is_empty() && self.lacking(&nodes).is_none() => {
                    Heal::Load(nodes)
                }
                Ok(offset) if whole.size <= 2 * max_block as u64 => {
                    Heal::Read { above, offset, len: whole.size as usize }
                }
                Ok(_) | Err(_) => self.forget(&[left, right]),
            };
        }
        let below = [left, right].map(|node| {
            let children = [node.left_child(), node.right_child()];
            children.map(|child| child.filter(|child| self.bits.has_node(*child)))
        });
        let wanted = below.iter().flatten().flatten().copied().chain([left, right]);
        let missing = wanted.filter(|node| self.node(*node).is_none());
        let missing: Vec<_> = missing.filter(|node| self.lacking(&[*node]).is_none()).collect();
        if !missing.is_empty() {
            return Heal::Load(missing);
        }
        let made = below.map(|[one, other]| hash::parent(&self.node(one?)?, &self.node(other?)?));
        let stored = [left, right].map(|node| self.node(node));
        for pair in [[made[0], stored[1]], [stored[0], made[1]], made] {
            let [Some(one), Some(other)] = pair else { continue };
            if hash::parent(&one, &other) == Some(whole) {
                self.mend_nodes(&[one, other]);
                return Heal::Done(Vec::new());
            }
        }
        // One that follows from what is below may be true.
        let left_is_true = made[0].is_some() && made[0] == stored[0];
        let right_is_true = made[1].is_some() && made[1] == stored[1];
        // Without the size of the left one, blocks below the right one are not found.
        if left_is_true && !right_is_true {
            self.forget(&[right])
        } else {
            self.forget(&[left, right])
        }
    }

    /// Goes on with two leaves, given the bytes of their blocks.
    pub(crate) fn heal_leaves(&mut self, above: NodeIndex, bytes: &[u8]) -> Heal {
        let (Some(left), Some(right), Some(whole)) =
            (above.left_child(), above.right_child(), self.node(above))
        else {
            return Heal::Hopeless;
        };
        let stored = [left, right].map(|node| self.node(node));
        let blocks = [left, right].map(|node| node.blocks().start);
        let sizes = [
            stored[0].map(|node| node.size),
            stored[1].and_then(|node| whole.size.checked_sub(node.size)),
        ];
        for size in sizes.into_iter().flatten() {
            let Some((one, other)) =
                usize::try_from(size).ok().and_then(|size| bytes.split_at_checked(size))
            else {
                continue;
            };
            let made = [hash::leaf_node(blocks[0], one), hash::leaf_node(blocks[1], other)];
            let fits = |one: Option<Node>, other: Option<Node>| {
                one.zip(other).is_some_and(|(one, other)| hash::parent(&one, &other) == Some(whole))
            };
            let (pair, lost) = if fits(Some(made[0]), Some(made[1])) {
                (made, None)
            } else if fits(Some(made[0]), stored[1]) {
                ([made[0], stored[1].unwrap_or(made[1])], Some(blocks[1]))
            } else if fits(stored[0], Some(made[1])) {
                ([stored[0].unwrap_or(made[0]), made[1]], Some(blocks[0]))
            } else {
                continue;
            };
            self.mend_nodes(&pair);
            return Heal::Done(lost.into_iter().collect());
        }
        self.forget(&[left, right])
    }

    /// Forgets all that is held of the tree from these nodes down, and the blocks.
    pub(crate) fn forget(&mut self, nodes: &[NodeIndex]) -> Heal {
        let blocks = |node: &NodeIndex| node.blocks().end - node.blocks().start;
        if nodes.iter().map(blocks).sum::<u64>() > MAX_FORGOTTEN {
            return Heal::Hopeless;
        }
        self.cursor = (0, 0);
        let mut lost = Vec::new();
        for top in nodes {
            for index in top.left_span().0..=top.right_span().0 {
                let node = NodeIndex(index);
                self.bits.unset_node(node);
                self.nodes.remove(node);
                self.lacking.remove(&node);
                self.buffer.nodes.remove(&index);
            }
            lost.extend(top.blocks().filter(|block| self.bits.has_block(*block)));
        }
        Heal::Done(lost)
    }

    /// Sums of sizes count no more: one of them may have been wrong.
    pub(crate) fn forget_cursor(&mut self) {
        self.cursor = (0, 0);
    }
}
