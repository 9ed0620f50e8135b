//! Where blocks are in the data file, and which tree nodes must be loaded to know.

use alloc::vec::Vec;
use core::ops::Range;

use multifeed_proto::messages::Node;

use super::Feed;
use crate::format::sleep;
use crate::storage::{Answer, FilePath, Op, StorageError};
use crate::tree::flat::full_roots;
use crate::tree::{NodeCache, NodeIndex};

/// Pages of the tree file that are read together.
const READ_AHEAD_PAGES: u64 = 8;
/// Nodes from here up have no neighbours of their own depth within so many pages.
const ALONE_FROM_DEPTH: u32 = 10;
/// Nodes that are remembered as lacking.
const MAX_LACKING: usize = 1024;

/// Nodes that are read from the tree file, and the pages that they are in.
#[derive(Debug)]
pub(crate) struct Loading {
    nodes: Vec<NodeIndex>,
    pages: Vec<Range<u64>>,
}

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
        let flushed = || self.flushes.iter().rev().find_map(|flush| flush.nodes.get(&index.0));
        let buffered = || self.buffer.nodes.get(&index.0).or_else(flushed).copied();
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
        match self.node(leaf) {
            Some(leaf) => self.place_of(&leaf),
            None if self.bits.has_node(leaf) => {
                let mut wanted = self.missing_roots(block);
                wanted.push(leaf);
                Err(wanted)
            }
            None => Err(Vec::new()),
        }
    }

    /// Where the block of a leaf is.
    ///
    /// # Errors
    ///
    /// As those of [`Feed::place`].
    pub(crate) fn place_of(&mut self, leaf: &Node) -> Result<Place, Vec<NodeIndex>> {
        let (block, size) = (NodeIndex(leaf.index).blocks().start, leaf.size);
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

    /// The reads that bring `nodes` into memory, for [`Feed::nodes_loaded`].
    pub(crate) fn load_nodes(&mut self, mut nodes: Vec<NodeIndex>) -> (Loading, Vec<Op>) {
        self.loading += 1;
        nodes.sort_unstable();
        nodes.dedup();
        let pages_of = |node: &NodeIndex| {
            let page = NodeCache::page_of(*node);
            if node.depth() >= ALONE_FROM_DEPTH {
                return (page, page + 1);
            }
            let first = page / READ_AHEAD_PAGES * READ_AHEAD_PAGES;
            (first, first + READ_AHEAD_PAGES)
        };
        let mut pages: Vec<_> = nodes.iter().map(pages_of).collect();
        pages.sort_unstable();
        pages.dedup();
        let pages: Vec<_> = pages.into_iter().map(|(start, end)| start..end).collect();
        let read = |pages: &Range<u64>| {
            let (offset, len) = NodeCache::byte_range(pages.start);
            let len = len * (pages.end - pages.start) as usize;
            Op::Read { path: self.file(sleep::TREE), offset, len }
        };
        let ops = pages.iter().map(read).collect();
        (Loading { nodes, pages }, ops)
    }

    /// Takes the answers to [`Feed::load_nodes`]. What was to be loaded and is not in the file is known as
    /// lacking from here on.
    ///
    /// # Errors
    ///
    /// The first storage error.
    pub(crate) fn nodes_loaded(
        &mut self,
        loading: &Loading,
        answers: Vec<Result<Answer, StorageError>>,
    ) -> Result<(), StorageError> {
        // It may have been opened anew since.
        self.loading = self.loading.saturating_sub(1);
        for (pages, answer) in loading.pages.iter().zip(answers) {
            let Answer::Bytes(bytes) = answer? else { continue };
            let (_, page_len) = NodeCache::byte_range(pages.start);
            for (page, bytes) in pages.clone().zip(bytes.chunks(page_len)) {
                // What is in the file is older, or there in part.
                let newer = |node: NodeIndex| {
                    self.buffer.nodes.contains_key(&node.0)
                        || self.flushes.iter().any(|flush| flush.nodes.contains_key(&node.0))
                };
                self.nodes.fill(page, bytes, |node| self.bits.has_node(node) && !newer(node));
            }
        }
        let lacking: Vec<_> =
            loading.nodes.iter().filter(|node| self.node(**node).is_none()).collect();
        if self.lacking.len() + lacking.len() > MAX_LACKING {
            self.lacking.clear();
        }
        self.lacking.extend(lacking);
        Ok(())
    }

    /// The highest of these nodes that was to be loaded and is not in the file.
    pub(crate) fn lacking(&self, nodes: &[NodeIndex]) -> Option<NodeIndex> {
        let lacking = nodes.iter().filter(|node| self.lacking.contains(node));
        lacking.max_by_key(|node| node.depth()).copied()
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
