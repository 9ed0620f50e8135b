//! What changed in a feed, gathered into storage batches in the order that survives a crash.
//!
//! First data and tree nodes, then signatures, then the bitfield, which makes them count
//! (`hypercore@9.12.0/index.js` writes it last, too). A process killed anywhere between leaves at
//! most bytes behind that no bit speaks of.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use multifeed_proto::Contents;

use super::Feed;
use crate::format::sleep;
use crate::node::{CommandId, ConnectionId, Durability};
use crate::storage::{Batch, BatchId, Op, StorageError};
use crate::tree::{BLOCKS_PER_PAGE, NODES_PER_PAGE, Node, NodeIndex};

/// Blocks of at least this many bytes are written as they are, smaller ones are joined first.
const JOIN_BELOW: usize = 64 * 1024;
/// Bytes of one joined write.
const JOIN_UP_TO: usize = 1024 * 1024;
/// Nodes that may be missing between two nodes of one write; the file has zeros there.
const NODE_GAP: u64 = 4;

/// What changed since the last flush, and what the opening mended in memory.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// Blocks by byte offset. Empty blocks are not written.
    data: BTreeMap<u64, Contents>,
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) signatures: BTreeMap<u64, [u8; 64]>,
    pub(super) appends: Vec<(CommandId, u64, u64)>,
    /// Blocks in the order of arrival, neighbours joined, with where they came from.
    blocks: Vec<(Range<u64>, Option<ConnectionId>)>,
    /// Byte ranges of blocks that were cleared, the blocks, and the commands that did.
    pub(super) punches: Vec<Range<u64>>,
    pub(super) cleared: Vec<Range<u64>>,
    pub(super) clears: Vec<CommandId>,
    /// Ranges that are not to be fetched again.
    pub(super) unwanted: Vec<Range<u64>>,
    /// Cut the signatures to this many first.
    pub(super) truncate_signatures: Option<u64>,
    /// Something in it was asked for. What only mends the files waits until something is: who reads a store
    /// does not write it.
    pub(super) wanted: bool,
    pub(super) bytes: usize,
}

/// Which files exist with their headers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Files {
    pub(super) key: bool,
    pub(super) data: bool,
    pub(super) tree: bool,
    pub(super) signatures: bool,
    pub(super) bitfield: bool,
    /// What the file that seals the log says.
    pub(super) sealed: u64,
    /// Ranges in the file of cleared blocks.
    pub(super) cleared: u64,
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
    /// Blocks that are cleared.
    pub(crate) cleared: Vec<Range<u64>>,
    /// Clears to answer.
    pub(crate) clears: Vec<CommandId>,
    /// Bytes of the blocks.
    pub(crate) bytes: usize,
    /// Nodes that are written.
    pub(crate) nodes: BTreeMap<u64, Node>,
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
    pub(super) fn put(
        &mut self,
        index: u64,
        offset: u64,
        block: Bytes,
        source: Option<ConnectionId>,
    ) {
        self.bytes += block.len();
        if !block.is_empty() {
            self.data.insert(offset, block.into());
        }
        match self.blocks.last_mut() {
            Some((range, from)) if range.end == index && *from == source => range.end += 1,
            _ => self.blocks.push((index..index + 1, source)),
        }
    }
}

impl Feed {
    /// Whether there is something to flush.
    pub(crate) fn is_dirty(&self) -> bool {
        self.buffer.wanted
    }

    /// The commands of appends that no flush has taken up, when the feed is given up.
    pub(crate) fn take_appends(&mut self) -> Vec<(CommandId, u64, u64)> {
        core::mem::take(&mut self.buffer.appends)
    }

    /// The commands of clears that no flush has taken up, when the feed is given up.
    pub(crate) fn take_clears(&mut self) -> Vec<CommandId> {
        core::mem::take(&mut self.buffer.clears)
    }

    /// The last batch that writes this feed, if it was not answered yet.
    pub(crate) fn last_batch(&self) -> Option<BatchId> {
        self.last_batch.filter(|last| self.flushes.iter().any(|f| f.batches.contains(last)))
    }

    /// Turns all that changed into batches, each after the one before.
    pub(crate) fn flush(&mut self, plan: &mut FlushPlan<'_>) -> Vec<Batch> {
        let buffer = core::mem::take(&mut self.buffer);
        if core::mem::replace(&mut self.mended, false) {
            for node in buffer.nodes.values() {
                self.nodes.insert(*node);
            }
        }
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
            push(Vec::from([Op::Truncate { path: self.file(sleep::SIGNATURES), len }]));
        }
        if self.secret.is_some() && self.files.sealed < self.sealed_until {
            // Before the bitfield, which forgets how long the log was.
            self.files.sealed = self.sealed_until;
            let data = Bytes::copy_from_slice(&self.sealed_until.to_be_bytes());
            push(Vec::from([Op::Write { path: self.file(sleep::SEALED), offset: 0, data }]));
            if plan.durability == Durability::Power {
                push(self.sync(&[sleep::SEALED]));
            }
        }
        if !buffer.unwanted.is_empty() {
            // Before the bitfield, so that a cleared block never looks like a lost one.
            push(Vec::from([self.write_cleared(&buffer.unwanted)]));
            if plan.durability == Durability::Power {
                push(self.sync(&[sleep::CLEARED]));
            }
        }
        if !self.files.bitfield {
            // First of all: so a missing bitfield always is a lost one, never one that was to come.
            self.files.bitfield = true;
            let data = Bytes::from_static(&sleep::BITFIELD_HEADER);
            push(Vec::from([Op::Write {
                path: self.folder.join(sleep::BITFIELD),
                offset: 0,
                data,
            }]));
            if plan.durability == Durability::Power {
                push(self.sync(&[sleep::BITFIELD]));
            }
        }
        let mut ops = Vec::new();
        let mut synced = Vec::new();
        self.write_headers(&buffer, &mut ops, &mut synced);
        self.write_data(buffer.data, &mut ops, &mut synced);
        self.write_nodes(&buffer.nodes, &mut ops, &mut synced);
        push(ops);
        if plan.durability == Durability::Power {
            push(self.sync(&synced));
        }
        // After the blocks: so a signature that is there proves that its blocks once were.
        push(self.write_signatures(&buffer.signatures));
        if plan.durability == Durability::Power && !buffer.signatures.is_empty() {
            push(self.sync(&[sleep::SIGNATURES]));
        }
        let pages = self.bits.take_dirty();
        if !pages.is_empty() {
            let path = self.file(sleep::BITFIELD);
            let page_size = self.bits.page_size();
            let write = |(page, data)| {
                let offset = sleep::bitfield_offset(page, page_size);
                Op::Write { path: path.clone(), offset, data }
            };
            let steps = match pages.len() {
                1 => Vec::from([pages]),
                _ if self.secret.is_some() => page_by_page(pages, &buffer.nodes),
                _ => spanning_first(pages, &buffer.nodes),
            };
            for step in steps {
                push(step.into_iter().map(write).collect());
                if plan.durability == Durability::Power {
                    push(self.sync(&[sleep::BITFIELD]));
                }
            }
        }
        // After the bits: a kill in between leaves bytes that no bit speaks of, never a bit without bytes.
        if !buffer.punches.is_empty() {
            let path = self.file(sleep::DATA);
            let punch = |range: Range<u64>| Op::Punch {
                path: path.clone(),
                offset: range.start,
                len: range.end - range.start,
            };
            push(buffer.punches.into_iter().map(punch).collect());
        }
        if let Some([write, rename]) = self.shorten_cleared() {
            push(write);
            if plan.durability == Durability::Power {
                push(self.sync(&[sleep::CLEARED_NEXT]));
            }
            push(rename);
            if plan.durability == Durability::Power {
                push(self.sync(&[sleep::CLEARED]));
            }
        }
        if batches.is_empty() && buffer.appends.is_empty() && buffer.clears.is_empty() {
            return batches;
        }
        if batches.is_empty() {
            // An append or a clear of no blocks: answered in its turn, by a batch that does nothing.
            let id = BatchId(*plan.next_batch);
            *plan.next_batch += 1;
            batches.push(Batch { id, after, ops: Vec::new() });
        }
        self.last_batch = batches.last().map(|batch| batch.id);
        self.flushes.push_back(Flush {
            batches: batches.iter().map(|batch| batch.id).collect(),
            blocks: buffer.blocks,
            appends: buffer.appends,
            cleared: buffer.cleared,
            clears: buffer.clears,
            bytes: buffer.bytes,
            nodes: buffer.nodes,
            error: None,
        });
        batches
    }

    fn write_headers(
        &mut self,
        buffer: &Buffer,
        ops: &mut Vec<Op>,
        synced: &mut Vec<&'static str>,
    ) {
        let mut header = |name: &'static str, there: &mut bool, bytes: &'static [u8]| {
            if !*there {
                *there = true;
                ops.push(Op::Write {
                    path: self.folder.join(name),
                    offset: 0,
                    data: Bytes::from_static(bytes),
                });
                synced.push(name);
            }
        };
        if buffer.nodes.is_empty() && buffer.blocks.is_empty() {
            return;
        }
        header(sleep::TREE, &mut self.files.tree, &sleep::TREE_HEADER);
        header(sleep::SIGNATURES, &mut self.files.signatures, &sleep::SIGNATURES_HEADER);
        if !self.files.key {
            self.files.key = true;
            let data = Bytes::copy_from_slice(&self.key.0);
            ops.push(Op::Write { path: self.folder.join(sleep::KEY), offset: 0, data });
            synced.push(sleep::KEY);
        }
        if !self.files.data {
            self.files.data = true;
            // Empty blocks write nothing, and the JavaScript reads no block of a feed without `data`.
            ops.push(Op::Write {
                path: self.folder.join(sleep::DATA),
                offset: 0,
                data: Bytes::new(),
            });
        }
    }

    fn write_data(
        &self,
        data: BTreeMap<u64, Contents>,
        ops: &mut Vec<Op>,
        synced: &mut Vec<&'static str>,
    ) {
        if !data.is_empty() {
            synced.push(sleep::DATA);
        }
        let path = self.file(sleep::DATA);
        let mut write = |offset, data| ops.push(Op::Write { path: path.clone(), offset, data });
        let mut joined = BytesMut::new();
        let mut start = 0;
        for (offset, Contents(block)) in data {
            let touches = start + joined.len() as u64 == offset;
            let large = block.len() >= JOIN_BELOW;
            if !joined.is_empty() && (!touches || large || joined.len() + block.len() > JOIN_UP_TO)
            {
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

    fn write_nodes(
        &self,
        nodes: &BTreeMap<u64, Node>,
        ops: &mut Vec<Op>,
        synced: &mut Vec<&'static str>,
    ) {
        if !nodes.is_empty() {
            synced.push(sleep::TREE);
        }
        let path = self.file(sleep::TREE);
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
            ops.push(Op::Write {
                path,
                offset: sleep::tree_offset(NodeIndex(start)),
                data: run.freeze(),
            });
        }
    }

    fn write_signatures(&self, signatures: &BTreeMap<u64, [u8; 64]>) -> Vec<Op> {
        let mut ops = Vec::new();
        let path = self.file(sleep::SIGNATURES);
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
            ops.push(Op::Write {
                path,
                offset: sleep::signature_offset(start),
                data: run.freeze(),
            });
        }
        ops
    }

    fn sync(&self, names: &[&'static str]) -> Vec<Op> {
        names.iter().map(|name| Op::Sync { path: self.file(name) }).collect()
    }
}

/// The pages of a writer's bitfield in an order in which the log is signed wherever it stops.
///
/// A node that spans pages stands in the first of them, and would make the log as long as the last
/// before that is written. So pages go out without such nodes, and with them in a second round. The
/// log then ends at a page, or one block before: see [`Feed::append`].
fn page_by_page(pages: Vec<(u64, Bytes)>, fresh: &BTreeMap<u64, Node>) -> Vec<Vec<(u64, Bytes)>> {
    let mut first = Vec::with_capacity(pages.len());
    let mut second = Vec::new();
    for (page, bytes) in pages {
        let nodes = page * NODES_PER_PAGE..(page + 1) * NODES_PER_PAGE;
        let mut without = BytesMut::from(&bytes[..]);
        for &node in fresh.range(nodes.clone()).map(|(node, _)| node) {
            let at = node - nodes.start;
            let byte = without.get_mut((BLOCKS_PER_PAGE / 8) as usize + (at / 8) as usize);
            if let (Some(byte), true) = (byte, blocks_below(node) > BLOCKS_PER_PAGE) {
                *byte &= !(0x80 >> (at % 8));
            }
        }
        if without != bytes {
            second.push((page, bytes));
        }
        first.push((page, without.freeze()));
    }
    first.extend(second);
    first.into_iter().map(|page| Vec::from([page])).collect()
}

/// The pages of a reader's bitfield in an order in which every block that is held is found wherever it
/// stops: where a block is in the data file, the nodes above whole pages before it tell, which stand in
/// lower pages.
fn spanning_first(pages: Vec<(u64, Bytes)>, fresh: &BTreeMap<u64, Node>) -> Vec<Vec<(u64, Bytes)>> {
    let (spanning, rest): (Vec<_>, Vec<_>) = pages.into_iter().partition(|(page, _)| {
        let mut nodes = fresh.range(page * NODES_PER_PAGE..(page + 1) * NODES_PER_PAGE);
        nodes.any(|(&node, _)| blocks_below(node) >= BLOCKS_PER_PAGE)
    });
    let mut steps: Vec<_> = spanning.into_iter().map(|page| Vec::from([page])).collect();
    if !rest.is_empty() {
        steps.push(rest);
    }
    steps
}

fn blocks_below(node: u64) -> u64 {
    let blocks = NodeIndex(node).blocks();
    blocks.end - blocks.start
}
