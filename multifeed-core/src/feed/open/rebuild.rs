//! Blocks that are signed and that the bitfield does not know of: taken up if all of them are intact.

use alloc::vec::Vec;

use bytes::Bytes;

use super::{CHUNK, Next, Opening, State};
use crate::feed::roots::Log;
use crate::format::sleep;
use crate::storage::Op;
use crate::tree::{Node, NodeIndex, proof};

/// Bytes of the blocks read at once, at least one block.
const REBUILD_BYTES: usize = 16 * 1024 * 1024;
/// Leaf nodes read at once.
const REBUILD_BLOCKS: u64 = 4096;

#[derive(Debug)]
pub(super) struct Rebuild {
    target: Log,
    /// Roots of the target that are not stored like that.
    anew: Vec<Node>,
    length: u64,
    byte_length: u64,
    roots: Vec<Node>,
    /// The nodes above and of the blocks so far.
    nodes: Vec<NodeIndex>,
    /// Those that are not stored like that.
    mended: Vec<Node>,
    /// Those before the leaves that were read when they were made: the tree is still to be asked for them.
    earlier: Vec<Node>,
    /// What the tree has from the first leaf on whose block is read next.
    entries: Bytes,
    /// Sizes of the blocks whose data is being read; empty while their leaves are.
    sizes: Vec<u64>,
}

impl Opening {
    /// Takes up the blocks of a log that its signature proves, beyond the one that is known.
    pub(super) fn take_up(&mut self, target: Log, anew: &[Node]) -> Next {
        let rebuild = Rebuild {
            target,
            anew: anew.to_vec(),
            length: self.feed.length,
            byte_length: self.feed.byte_length,
            roots: self.feed.roots.clone(),
            nodes: Vec::new(),
            mended: Vec::new(),
            earlier: Vec::new(),
            entries: Bytes::new(),
            sizes: Vec::new(),
        };
        self.read_leaves(rebuild)
    }

    fn read_leaves(&mut self, rebuild: Rebuild) -> Next {
        let count = (rebuild.target.length - rebuild.length).min(REBUILD_BLOCKS);
        let offset = sleep::tree_offset(NodeIndex::leaf(rebuild.length));
        self.state = State::Rebuild(rebuild);
        Next::Read(Vec::from([Op::Read {
            path: self.feed.file(sleep::TREE),
            offset,
            len: (count as usize * 2 - 1) * sleep::TREE_ENTRY_BYTES,
        }]))
    }

    /// Alternates between leaf nodes, for the sizes, and the blocks themselves.
    pub(super) fn rebuild(&mut self, mut rebuild: Rebuild, read: Bytes) -> Next {
        if rebuild.sizes.is_empty() {
            let total = rebuild.take_leaves(read);
            if rebuild.sizes.is_empty() || total > REBUILD_BYTES {
                return self.not_rebuilt(rebuild);
            }
            let (path, offset) = (self.feed.file(sleep::DATA), rebuild.byte_length);
            self.state = State::Rebuild(rebuild);
            return Next::Read(Vec::from([Op::Read { path, offset, len: total }]));
        }
        if !rebuild.take_blocks(&read) {
            return self.not_rebuilt(rebuild);
        }
        if rebuild.length < rebuild.target.length {
            return self.read_leaves(rebuild);
        }
        if rebuild.roots != rebuild.target.roots {
            return self.not_rebuilt(rebuild);
        }
        if rebuild.earlier.is_empty() {
            return self.rebuilt(rebuild);
        }
        let path = self.feed.file(sleep::TREE);
        let read = |node: &Node| Op::Read {
            path: path.clone(),
            offset: sleep::tree_offset(NodeIndex(node.index)),
            len: sleep::TREE_ENTRY_BYTES,
        };
        let ops = rebuild.earlier.iter().map(read).collect();
        self.state = State::Rebuilt(rebuild);
        Next::Read(ops)
    }

    /// What the tree has in place of nodes that were made of blocks far behind them.
    pub(super) fn compare(&mut self, mut rebuild: Rebuild, read: &[Bytes]) -> Next {
        for (node, entry) in core::mem::take(&mut rebuild.earlier).into_iter().zip(read) {
            if sleep::read_node(NodeIndex(node.index), entry) != Some(node) {
                rebuild.mended.push(node);
            }
        }
        self.rebuilt(rebuild)
    }

    fn rebuilt(&mut self, rebuild: Rebuild) -> Next {
        let length = rebuild.target.length;
        for block in self.feed.length..length {
            self.feed.bits.set_block(block, true);
        }
        for node in rebuild.nodes {
            self.feed.bits.set_node(node);
        }
        self.feed.mend_nodes(&rebuild.mended);
        self.feed.set_log(length, rebuild.roots);
        if self.last_signed > length {
            // Longer ones are there that nothing proves.
            if self.bits_lost && self.feed.secret.is_some() {
                return self.seal(self.last_signed);
            }
            self.feed.buffer.truncate_signatures = Some(length);
        }
        Next::Done
    }

    /// A block is damaged or, in a feed by others, was never here. Where nothing is known of what is held,
    /// the length is proven all the same; else the blocks were never acknowledged.
    fn not_rebuilt(&mut self, rebuild: Rebuild) -> Next {
        let Rebuild { target, anew, .. } = rebuild;
        let is_writer = self.feed.secret.is_some();
        if is_writer && (!self.bits_lost || target.length < self.last_signed) {
            return self.seal(target.length.max(self.last_signed));
        }
        self.adopt(target, &anew);
        Next::Done
    }
}

impl Rebuild {
    /// Takes the sizes of the next blocks from their leaves; the sum.
    fn take_leaves(&mut self, read: Bytes) -> usize {
        let mut total = 0usize;
        let leaves = (self.length..)
            .zip(read.chunks(2 * sleep::TREE_ENTRY_BYTES))
            .map_while(|(block, entry)| sleep::read_node(NodeIndex::leaf(block), entry));
        for leaf in leaves {
            let size = usize::try_from(leaf.size).unwrap_or(usize::MAX);
            if !self.sizes.is_empty() && total.saturating_add(size) > CHUNK {
                break;
            }
            total = total.saturating_add(size);
            self.sizes.push(leaf.size);
        }
        if self.sizes.is_empty() && self.length + 1 == self.target.length {
            // The leaf of the last block was not written; the proven roots say what is left for it.
            let sizes = self.target.roots.iter().map(|root| root.size);
            let whole = sizes.fold(0, u64::saturating_add);
            let size = whole.saturating_sub(self.byte_length);
            total = usize::try_from(size).unwrap_or(usize::MAX);
            self.sizes.push(size);
        }
        self.entries = read;
        total
    }

    /// Takes the blocks themselves; `false` if they are not all there.
    fn take_blocks(&mut self, read: &Bytes) -> bool {
        let sizes = core::mem::take(&mut self.sizes);
        if read.len() as u64 != sizes.iter().sum::<u64>() {
            return false;
        }
        let mut at = 0;
        let blocks: Vec<Bytes> = sizes
            .iter()
            .map(|&size| {
                at += size as usize;
                read.slice(at - size as usize..at)
            })
            .collect();
        let Ok(grown) = proof::append(&self.roots, self.length, &blocks) else { return false };
        for node in &grown.nodes {
            self.nodes.push(NodeIndex(node.index));
            if node.index < 2 * self.length {
                self.earlier.push(*node);
            } else if self.stored(node.index) != Some(*node) {
                self.mended.push(*node);
            }
        }
        self.length += blocks.len() as u64;
        self.byte_length += read.len() as u64;
        self.roots = grown.roots;
        true
    }

    /// What the tree has as this node, if it was read.
    fn stored(&self, index: u64) -> Option<Node> {
        let at = index.checked_sub(2 * self.length)?;
        let at = usize::try_from(at).ok()?.checked_mul(sleep::TREE_ENTRY_BYTES)?;
        sleep::read_node(NodeIndex(index), self.entries.get(at..)?)
    }
}
