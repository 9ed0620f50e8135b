//! Gives blocks up while their place in the tree stays proven.
//!
//! The bits of the blocks are cleared, those of the tree stay; the bytes become a hole in the data file.
//! A cleared block can be fetched and verified again at any time.
//!
//! A file of our own lists what was cleared, so that it is not taken for lost and fetched again. Each clear
//! adds to it; when it is much longer than it has to be, a shorter one takes its place. Beyond
//! [`sleep::MAX_CLEARED`] ranges, blocks that were cleared are fetched again after a restart.
//!
//! Source: `hypercore@9.12.0/index.js`, `clear`. Other than there, the bits are written before the
//! hole is made, and only bytes of blocks that were held are touched.

use alloc::vec::Vec;
use core::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::Feed;
use crate::format::sleep;
use crate::node::CommandId;
use crate::storage::Op;
use crate::tree::NodeIndex;

/// Runs of blocks that are cleared at once.
const RUNS: usize = 256;
/// Ranges in the file of cleared blocks that are never too many.
const FEW: u64 = 64;

impl Feed {
    /// Clears the first runs of held blocks in `blocks`; where to go on, if there is more.
    ///
    /// # Errors
    ///
    /// The nodes that must be loaded first; none if the tree lacks a node that it should have.
    pub(crate) fn clear(&mut self, blocks: Range<u64>) -> Result<Option<u64>, Vec<NodeIndex>> {
        let mut at = blocks.start;
        let mut cleared: Vec<(Range<u64>, Range<u64>)> = Vec::new();
        while cleared.len() < RUNS {
            let Some(start) = self.bits.first_block(at..blocks.end) else { break };
            let end = self.bits.first_missing_block(start..blocks.end).unwrap_or(blocks.end);
            let bytes = match (self.place(start), self.place(end - 1)) {
                (Ok(first), Ok(last)) => first.offset..last.offset + last.size,
                (Err(nodes), _) | (_, Err(nodes)) if cleared.is_empty() => return Err(nodes),
                (Err(_), _) | (_, Err(_)) => break,
            };
            cleared.push((start..end, bytes));
            at = end;
        }
        self.buffer.wanted |= !cleared.is_empty();
        for (run, bytes) in cleared {
            for block in run.clone() {
                self.bits.set_block(block, false);
            }
            self.clearing.insert(run.clone());
            self.buffer.cleared.push(run);
            if !bytes.is_empty() {
                self.buffer.punches.push(bytes);
            }
        }
        Ok(self.bits.first_block(at..blocks.end))
    }

    /// Notes blocks that are not to be fetched again unless somebody asks for them.
    pub(crate) fn note_cleared(&mut self, blocks: Range<u64>) {
        if self.cleared.next_gap(blocks.start) < blocks.end {
            self.buffer.wanted = true;
            self.cleared.insert(blocks.clone());
            self.buffer.unwanted.push(blocks);
        }
    }

    /// Blocks of the log that are neither held nor cleared.
    pub(super) fn missing(&self) -> u64 {
        let length = self.length;
        let cleared: u64 = self
            .cleared
            .iter()
            .map(|range| range.start.min(length)..range.end.min(length))
            .map(|range| range.end - range.start - self.bits.count_blocks(range))
            .sum();
        length - self.bits.count_blocks(0..length) - cleared
    }

    /// Takes what the file lists; ranges that cannot be are left out, and so is a part of one at the end.
    pub(super) fn read_cleared(&mut self, file: &[u8]) {
        for entry in file.chunks_exact(sleep::CLEARED_BYTES) {
            self.files.cleared += 1;
            if let Some(blocks) = sleep::read_cleared(entry) {
                self.cleared.insert(blocks);
            }
        }
    }

    /// Adds ranges to the file, as many as have room.
    pub(super) fn write_cleared(&mut self, ranges: &[Range<u64>]) -> Op {
        let offset = self.files.cleared * sleep::CLEARED_BYTES as u64;
        let room = (sleep::MAX_CLEARED as u64).saturating_sub(self.files.cleared);
        let count = usize::try_from(room).map_or(ranges.len(), |room| ranges.len().min(room));
        self.files.cleared += count as u64;
        let data = encode_cleared(ranges[..count].iter().cloned());
        Op::Write { path: self.file(sleep::CLEARED), offset, data }
    }

    /// What replaces the file by a shorter list of the same blocks, if it is much longer than it has to be:
    /// a batch that writes the list under another name, and one that gives it its own. They must come when
    /// all that is in memory is stored: blocks that were fetched again are not in the shorter list.
    pub(super) fn shorten_cleared(&mut self) -> Option<[Vec<Op>; 2]> {
        let needed = self.cleared.ranges();
        let is_full = self.files.cleared >= sleep::MAX_CLEARED as u64;
        // One that is full is not written again for every range that becomes free.
        let pays = is_full && needed < sleep::MAX_CLEARED / 16 * 15;
        if self.files.cleared < 2 * needed as u64 + FEW && !pays {
            return None;
        }
        let ranges = self.cleared.iter().take(sleep::MAX_CLEARED);
        let data = encode_cleared(ranges);
        self.files.cleared = needed.min(sleep::MAX_CLEARED) as u64;
        let path = self.file(sleep::CLEARED_NEXT);
        // A kill may have left a longer one there.
        let cut = Op::Truncate { path: path.clone(), len: data.len() as u64 };
        let write = Op::Write { path: path.clone(), offset: 0, data };
        let rename = Op::Rename { from: path, to: self.file(sleep::CLEARED) };
        Some([Vec::from([write, cut]), Vec::from([rename])])
    }

    /// Has `command` answered when all that was cleared so far is stored.
    pub(crate) fn answer_clear(&mut self, command: CommandId) {
        self.buffer.wanted = true;
        self.buffer.clears.push(command);
    }
}

fn encode_cleared(ranges: impl Iterator<Item = Range<u64>>) -> Bytes {
    let mut data = BytesMut::with_capacity(ranges.size_hint().0 * sleep::CLEARED_BYTES);
    for range in ranges {
        data.put_u64(range.start);
        data.put_u64(range.end - range.start);
    }
    data.freeze()
}
