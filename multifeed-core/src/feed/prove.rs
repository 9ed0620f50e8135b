//! Whether what is held of the tree is what was signed.
//!
//! Nodes that come with proofs, or are made here, are true. Those that are read from the tree file are
//! taken for true by themselves, until they are to leave this machine or contradict something: then they
//! are proven against the nodes above them, up to one that is known to be true. The roots are: opening
//! checks their signature.

use alloc::vec::Vec;

use super::Feed;
use crate::tree::{Node, NodeIndex, hash};

/// What is known of a node that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proven {
    /// It is true.
    Yes,
    /// The tree has a gap above it, as that of a log that was shorter once: nothing tells.
    Open,
    /// These nodes must be loaded first.
    Load(Vec<NodeIndex>),
    /// What is stored below this node, which is true, does not fit it.
    Broken(NodeIndex),
}

impl Feed {
    /// A node that is true, if that is known or takes one look at those around it in memory.
    pub(crate) fn proven(&mut self, node: NodeIndex) -> Option<Node> {
        if self.mended {
            return None;
        }
        if let Some(found) = self.nodes.proven(node) {
            return Some(found);
        }
        let [found, other, above] = self.nodes.below_proven(node)?;
        if hash::parent(&found, &other) != Some(above) {
            return None;
        }
        self.nodes.set_proven(node);
        Some(found)
    }

    /// Proves a node that is held.
    pub(crate) fn prove(&mut self, node: NodeIndex) -> Proven {
        if self.nodes.is_proven(node) {
            return Proven::Yes;
        }
        let mut here = self.node(node);
        if here.is_none() && !self.bits.has_node(node) {
            return Proven::Open;
        }
        // Each with its sibling and the node above.
        let mut way: Vec<(NodeIndex, [Option<Node>; 3])> = Vec::new();
        let mut missing = Vec::new();
        let mut at = node;
        let mut result = Proven::Yes;
        loop {
            if let Some(root) = self.roots.iter().find(|root| root.index == at.0).copied() {
                // Known without being read; its entry in the file may be damaged.
                if here != Some(root) {
                    self.put_nodes(&[root]);
                }
                if let Some((_, [.., parent])) = way.last_mut() {
                    *parent = Some(root);
                }
                break;
            }
            let (above, beside) = (at.parent(), at.sibling());
            let [sibling, parent] = [beside, above].map(|node| self.node(node));
            let held = |node, there: Option<Node>| there.is_some() || self.bits.has_node(node);
            if above == at || !held(above, parent) || !held(beside, sibling) {
                missing.extend(Some(at).filter(|_| here.is_none()));
                result = Proven::Open;
                break;
            }
            missing.extend(Some(at).filter(|_| here.is_none()));
            missing.extend(Some(beside).filter(|_| sibling.is_none()));
            way.push((at, [here, sibling, parent]));
            (at, here) = (above, parent);
            if self.nodes.is_proven(at) {
                break;
            }
        }
        if !missing.is_empty() {
            return Proven::Load(missing);
        }
        for (child, nodes) in way.into_iter().rev() {
            let [Some(one), Some(other), Some(parent)] = nodes else {
                return Proven::Load([child, child.sibling(), child.parent()].into());
            };
            if hash::parent(&one, &other) != Some(parent) {
                return Proven::Broken(child.parent());
            }
            self.nodes.set_proven(child);
        }
        result
    }

    /// Proves what is held on the way from a block to its root.
    pub(crate) fn prove_way(&mut self, block: u64) -> Proven {
        let mut at = NodeIndex::leaf(block);
        loop {
            let held = [at, at.sibling()].into_iter().find(|node| self.bits.has_node(*node));
            if let Some(held) = held {
                return self.prove(held);
            }
            if at.parent() == at {
                return Proven::Open;
            }
            at = at.parent();
        }
    }

    /// The first of these nodes that is held and other here.
    ///
    /// # Errors
    ///
    /// The nodes that must be loaded first.
    pub(crate) fn contradiction(
        &self,
        nodes: &[Node],
    ) -> Result<Option<NodeIndex>, Vec<NodeIndex>> {
        let held = nodes.iter().filter(|node| self.bits.has_node(NodeIndex(node.index)));
        let mut missing = Vec::new();
        let mut other = None;
        for node in held {
            let index = NodeIndex(node.index);
            match self.node(index) {
                None => missing.push(index),
                Some(ours) if ours != *node => {
                    other.get_or_insert(index);
                }
                Some(_) => {}
            }
        }
        if missing.is_empty() { Ok(other) } else { Err(missing) }
    }
}
