//! Gives blocks up while their place in the tree stays proven.
//!
//! The bits of the blocks are cleared, those of the tree stay; the bytes become a hole in the data file.
//! A cleared block can be fetched and verified again at any time.
//!
//! A file of our own lists what was cleared, so that it is not taken for lost and fetched again.
//!
//! Source: `hypercore@9.12.0/index.js`, `clear`. Other than there, the bits are written before the
//! hole is made, and only bytes of blocks that were held are touched.

use alloc::vec::Vec;
use core::ops::Range;

use bytes::{BufMut, BytesMut};

use super::Feed;
use crate::format::sleep;
use crate::node::CommandId;
use crate::storage::Op;
use crate::tree::NodeIndex;

/// Runs of blocks that are cleared at once.
const RUNS: usize = 256;

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

    /// Adds ranges to the file.
    pub(super) fn write_cleared(&mut self, ranges: &[Range<u64>]) -> Op {
        let offset = self.files.cleared * sleep::CLEARED_BYTES as u64;
        self.files.cleared += ranges.len() as u64;
        let mut data = BytesMut::with_capacity(ranges.len() * sleep::CLEARED_BYTES);
        for range in ranges {
            data.put_u64(range.start);
            data.put_u64(range.end - range.start);
        }
        Op::Write { path: self.file(sleep::CLEARED), offset, data: data.freeze() }
    }

    /// Has `command` answered when all that was cleared so far is stored.
    pub(crate) fn answer_clear(&mut self, command: CommandId) {
        self.buffer.clears.push(command);
    }
}
