//! Where blocks are in the data file, and which tree nodes must be loaded to know.

use alloc::vec::Vec;

use multifeed_proto::messages::Node;

use super::Feed;
use crate::format::sleep;
use crate::storage::{Answer, FilePath, Op, StorageError};
use crate::tree::flat::full_roots;
use crate::tree::{NodeCache, NodeIndex};

/// Pages of the tree file that are read together.
const READ_AHEAD_PAGES: u64 = 8;

/// A block in the data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// First byte.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) size: u64,
}

impl Feed {
    /// A node of the tree, if it is in memory.
    pub(crate) fn node(&self, index: NodeIndex) -> Option<Node> {
        if !self.bits.has_node(index) {
            return None;
        }
        let buffered = || self.buffer.nodes.get(&index.0).copied();
        if self.mended {
            // What the cache has may be what the file has.
            return buffered().or_else(|| self.nodes.get(index));
        }
        self.nodes.get(index).or_else(buffered)
    }

    /// Where a held block is.
    ///
    /// # Errors
    ///
    /// The nodes that must be loaded first; none if the tree lacks a node that it should have.
    pub(crate) fn place(&mut self, block: u64) -> Result<Place, Vec<NodeIndex>> {
        let leaf = NodeIndex::leaf(block);
        let size = match self.node(leaf) {
            Some(node) => node.size,
            None if self.bits.has_node(leaf) => {
                let mut wanted = self.missing_roots(block);
                wanted.push(leaf);
                return Err(wanted);
            }
            None => return Err(Vec::new()),
        };
        let offset = self.offset_with(block, &[])?;
        self.cursor = (block + 1, offset + size);
        Ok(Place { offset, size })
    }

    /// Byte offset of a block, from the cursor or the sizes of the roots before it. `fresh` are
    /// nodes that are proven but not in the tree yet.
    pub(super) fn offset_with(&self, block: u64, fresh: &[Node]) -> Result<u64, Vec<NodeIndex>> {
        if self.cursor.0 == block {
            return Ok(self.cursor.1);
        }
        let mut offset = 0u64;
        for root in full_roots(block) {
            let known =
                self.node(root).or_else(|| fresh.iter().find(|node| node.index == root.0).copied());
            match known {
                Some(node) => offset += node.size,
                None => return Err(self.missing_roots(block)),
            }
        }
        Ok(offset)
    }

    fn missing_roots(&self, block: u64) -> Vec<NodeIndex> {
        full_roots(block)
            .filter(|root| self.bits.has_node(*root) && self.node(*root).is_none())
            .collect()
    }

    /// The reads that bring `nodes` into memory, with the page that each starts with.
    pub(crate) fn load_nodes(&self, nodes: &[NodeIndex]) -> (Vec<u64>, Vec<Op>) {
        let mut groups: Vec<u64> = nodes
            .iter()
            .map(|node| NodeCache::page_of(*node) / READ_AHEAD_PAGES * READ_AHEAD_PAGES)
            .collect();
        groups.sort_unstable();
        groups.dedup();
        let ops = groups
            .iter()
            .map(|&page| {
                let (offset, len) = NodeCache::byte_range(page);
                let len = len * READ_AHEAD_PAGES as usize;
                Op::Read { path: self.file(sleep::TREE), offset, len }
            })
            .collect();
        (groups, ops)
    }

    /// Takes the answers to [`Feed::load_nodes`].
    ///
    /// # Errors
    ///
    /// The first storage error.
    pub(crate) fn nodes_loaded(
        &mut self,
        groups: &[u64],
        answers: Vec<Result<Answer, StorageError>>,
    ) -> Result<(), StorageError> {
        for (&group, answer) in groups.iter().zip(answers) {
            let Answer::Bytes(bytes) = answer? else { continue };
            let (_, page_len) = NodeCache::byte_range(group);
            for (page, bytes) in (group..).zip(bytes.chunks(page_len)) {
                self.nodes.fill(page, bytes, &self.bits);
            }
        }
        Ok(())
    }

    /// A file of this feed.
    pub(crate) fn file(&self, name: &str) -> FilePath {
        self.folder.join(name)
    }

    /// The read of a stored signature.
    pub(crate) fn read_signature(&self, index: u64) -> Op {
        Op::Read {
            path: self.file(sleep::SIGNATURES),
            offset: sleep::signature_offset(index),
            len: 64,
        }
    }

    /// A signature that is not stored yet.
    pub(crate) fn buffered_signature(&self, index: u64) -> Option<[u8; 64]> {
        self.buffer.signatures.get(&index).copied()
    }
}
