//! What changed in a feed, gathered into storage batches in the order that survives a crash.
//!
//! First data, tree nodes and signatures; when they are answered, the bitfield, which makes them
//! count (`hypercore@9.12.0/index.js` does the same). A process killed anywhere between leaves at
//! most bytes behind that no bit speaks of.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::Feed;
use crate::format::sleep;
use crate::node::{CommandId, ConnectionId, Durability};
use crate::storage::{Batch, BatchId, Op, StorageError};
use crate::tree::{Node, NodeIndex};

/// Blocks of at least this many bytes are written as they are, smaller ones are joined first.
const JOIN_BELOW: usize = 64 * 1024;
/// Bytes of one joined write.
const JOIN_UP_TO: usize = 1024 * 1024;
/// Nodes that may be missing between two nodes of one write; the file has zeros there.
const NODE_GAP: u64 = 4;

/// What changed since the last flush.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// Blocks by byte offset. Empty blocks are not written.
    data: BTreeMap<u64, Bytes>,
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) signatures: BTreeMap<u64, [u8; 64]>,
    pub(super) appends: Vec<(CommandId, u64, u64)>,
    /// Blocks in the order of arrival, neighbours joined, with where they came from.
    blocks: Vec<(Range<u64>, Option<ConnectionId>)>,
    /// Cut the signatures to this many first.
    pub(super) truncate_signatures: Option<u64>,
    pub(super) bytes: usize,
}

/// Which files exist with their headers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Files {
    pub(super) key: bool,
    pub(super) tree: bool,
    pub(super) signatures: bool,
    pub(super) bitfield: bool,
}

/// A flush that was submitted and not answered.
#[derive(Debug)]
pub(crate) struct Flush {
    /// The batches not answered yet, in order.
    pub(crate) batches: Vec<BatchId>,
    /// Blocks with where they came from.
    pub(crate) blocks: Vec<(Range<u64>, Option<ConnectionId>)>,
    /// Commands to answer: number, first block, blocks.
    pub(crate) appends: Vec<(CommandId, u64, u64)>,
    /// Bytes of the blocks.
    pub(crate) bytes: usize,
    /// The first error among the batches answered so far.
    pub(crate) error: Option<StorageError>,
}

/// Gives numbers to batches and knows how durable they must be.
pub(crate) struct FlushPlan<'a> {
    /// The next batch number.
    pub(crate) next_batch: &'a mut u64,
    /// Whether to sync.
    pub(crate) durability: Durability,
    /// The batch that must be over before: this feed's last one, or one of another feed.
    pub(crate) after: Option<BatchId>,
}

impl Buffer {
    pub(super) fn put(&mut self, index: u64, offset: u64, block: Bytes, source: Option<ConnectionId>) {
        self.bytes += block.len();
        if !block.is_empty() {
            self.data.insert(offset, block);
        }
        match self.blocks.last_mut() {
            Some((range, from)) if range.end == index && *from == source => range.end += 1,
            _ => self.blocks.push((index..index + 1, source)),
        }
    }

    fn is_empty(&self) -> bool {
        self.nodes.is_empty()
            && self.blocks.is_empty()
            && self.signatures.is_empty()
            && self.appends.is_empty()
            && self.truncate_signatures.is_none()
    }
}

impl Feed {
    /// Whether there is something to flush.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.buffer.is_empty() || self.bits.is_dirty()
    }

    /// The commands of appends that no flush has taken up, when the feed is given up.
    pub(crate) fn take_appends(&mut self) -> Vec<(CommandId, u64, u64)> {
        core::mem::take(&mut self.buffer.appends)
    }

    /// The last batch that writes this feed, if it was not answered yet.
    pub(crate) fn last_batch(&self) -> Option<BatchId> {
        self.last_batch.filter(|last| self.flushes.iter().any(|f| f.batches.contains(last)))
    }

    /// Turns all that changed into batches, each after the one before.
    pub(crate) fn flush(&mut self, plan: &mut FlushPlan<'_>) -> Vec<Batch> {
        let buffer = core::mem::take(&mut self.buffer);
        let mut after = plan.after;
        let mut batches = Vec::new();
        let mut push = |ops: Vec<Op>| {
            if ops.is_empty() {
                return;
            }
            let id = BatchId(*plan.next_batch);
            *plan.next_batch += 1;
            batches.push(Batch { id, after, ops });
            after = Some(id);
        };

        if let Some(count) = buffer.truncate_signatures {
            let len = sleep::signature_offset(count);
            push(Vec::from([Op::Truncate { path: self.file("signatures"), len }]));
        }
        let mut ops = Vec::new();
        let mut synced = Vec::new();
        self.write_headers(&buffer, &mut ops, &mut synced);
        self.write_data(buffer.data, &mut ops, &mut synced);
        self.write_nodes(&buffer.nodes, &mut ops, &mut synced);
        self.write_signatures(&buffer.signatures, &mut ops, &mut synced);
        push(ops);
        let sync = |names: &[&'static str]| -> Vec<Op> {
            names.iter().map(|name| Op::Sync { path: self.file(name) }).collect()
        };
        if plan.durability == Durability::Power {
            push(sync(&synced));
        }
        let pages = self.bits.take_dirty();
        if !pages.is_empty() {
            let mut ops = Vec::with_capacity(pages.len() + 1);
            if !self.files.bitfield && pages.iter().all(|(page, _)| *page != 0) {
                self.files.bitfield = true;
                let data = Bytes::from_static(&sleep::BITFIELD_HEADER);
                ops.push(Op::Write { path: self.file("bitfield"), offset: 0, data });
            }
            for (page, bytes) in pages {
                ops.push(self.write_page(page, bytes));
            }
            push(ops);
            if plan.durability == Durability::Power {
                push(Vec::from([Op::Sync { path: self.folder.join("bitfield") }]));
            }
        }
        if batches.is_empty() && buffer.appends.is_empty() {
            return batches;
        }
        if batches.is_empty() {
            // An append of no blocks: answered in its turn, by a batch that does nothing.
            let id = BatchId(*plan.next_batch);
            *plan.next_batch += 1;
            batches.push(Batch { id, after, ops: Vec::new() });
        }
        self.last_batch = batches.last().map(|batch| batch.id);
        self.flushes.push_back(Flush {
            batches: batches.iter().map(|batch| batch.id).collect(),
            blocks: buffer.blocks,
            appends: buffer.appends,
            bytes: buffer.bytes,
            error: None,
        });
        batches
    }

    fn write_headers(&mut self, buffer: &Buffer, ops: &mut Vec<Op>, synced: &mut Vec<&'static str>) {
        let mut header = |name: &'static str, there: &mut bool, bytes: &'static [u8]| {
            if !*there {
                *there = true;
                ops.push(Op::Write { path: self.folder.join(name), offset: 0, data: Bytes::from_static(bytes) });
                synced.push(name);
            }
        };
        if buffer.nodes.is_empty() && buffer.blocks.is_empty() {
            return;
        }
        header("tree", &mut self.files.tree, &sleep::TREE_HEADER);
        header("signatures", &mut self.files.signatures, &sleep::SIGNATURES_HEADER);
        if !self.files.key {
            self.files.key = true;
            let data = Bytes::copy_from_slice(&self.key.0);
            ops.push(Op::Write { path: self.folder.join("key"), offset: 0, data });
            synced.push("key");
        }
    }

    fn write_data(&self, data: BTreeMap<u64, Bytes>, ops: &mut Vec<Op>, synced: &mut Vec<&'static str>) {
        if !data.is_empty() {
            synced.push("data");
        }
        let path = self.file("data");
        let mut write = |offset, data| ops.push(Op::Write { path: path.clone(), offset, data });
        let mut joined = BytesMut::new();
        let mut start = 0;
        for (offset, block) in data {
            let touches = start + joined.len() as u64 == offset;
            let large = block.len() >= JOIN_BELOW;
            if !joined.is_empty() && (!touches || large || joined.len() + block.len() > JOIN_UP_TO) {
                write(start, joined.split().freeze());
            }
            if large {
                write(offset, block);
                continue;
            }
            if joined.is_empty() {
                start = offset;
            }
            joined.extend_from_slice(&block);
        }
        if !joined.is_empty() {
            write(start, joined.freeze());
        }
    }

    fn write_nodes(&self, nodes: &BTreeMap<u64, Node>, ops: &mut Vec<Op>, synced: &mut Vec<&'static str>) {
        if !nodes.is_empty() {
            synced.push("tree");
        }
        let path = self.file("tree");
        let mut run = BytesMut::new();
        let (mut start, mut next) = (0, 0);
        for node in nodes.values() {
            let gap = node.index - next;
            let bridged = !run.is_empty()
                && gap <= NODE_GAP
                && run.len() < JOIN_UP_TO
                && (next..node.index).all(|index| !self.bits.has_node(NodeIndex(index)));
            if bridged {
                run.put_bytes(0, gap as usize * 40);
            } else {
                if !run.is_empty() {
                    let offset = sleep::tree_offset(NodeIndex(start));
                    ops.push(Op::Write { path: path.clone(), offset, data: run.split().freeze() });
                }
                start = node.index;
            }
            run.put_slice(&node.hash);
            run.put_u64(node.size);
            next = node.index + 1;
        }
        if !run.is_empty() {
            ops.push(Op::Write { path, offset: sleep::tree_offset(NodeIndex(start)), data: run.freeze() });
        }
    }

    fn write_signatures(
        &self,
        signatures: &BTreeMap<u64, [u8; 64]>,
        ops: &mut Vec<Op>,
        synced: &mut Vec<&'static str>,
    ) {
        if !signatures.is_empty() {
            synced.push("signatures");
        }
        let path = self.file("signatures");
        let mut run = BytesMut::new();
        let (mut start, mut next) = (0, 0);
        for (&index, signature) in signatures {
            if !run.is_empty() && index != next {
                let offset = sleep::signature_offset(start);
                ops.push(Op::Write { path: path.clone(), offset, data: run.split().freeze() });
            }
            if run.is_empty() {
                start = index;
            }
            run.put_slice(signature);
            next = index + 1;
        }
        if !run.is_empty() {
            ops.push(Op::Write { path, offset: sleep::signature_offset(start), data: run.freeze() });
        }
    }

    fn write_page(&mut self, page: u64, bytes: Bytes) -> Op {
        let path = self.folder.join("bitfield");
        if self.files.bitfield || page != 0 {
            return Op::Write { path, offset: sleep::bitfield_offset(page, self.bits.page_size()), data: bytes };
        }
        // Header and first page in one write: the JavaScript takes a header alone for an empty log.
        self.files.bitfield = true;
        let mut data = BytesMut::with_capacity(sleep::HEADER_BYTES + bytes.len());
        data.put_slice(&sleep::BITFIELD_HEADER);
        data.put_slice(&bytes);
        Op::Write { path, offset: 0, data: data.freeze() }
    }
}
