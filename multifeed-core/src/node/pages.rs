//! What one side of a channel has and the other lacks, found page by page.
//!
//! Peers choose how many runs their blocks make, so runs are not gone through one by one: pages of 8,192 blocks
//! are compared by their bits, and full ones passed over together. `steps` counts the pages looked at: the
//! measure of work, which each peer has to be worth; see `credit`.

use core::ops::Range;

use multifeed_proto::session::{BlockPage, RemoteBlocks};

use crate::tree::Bitfield;

const PAGE: u64 = 8192;

/// The first block of `range` that the peer has and that is not here.
pub(super) fn first_lacked(
    held: &Bitfield,
    remote: &RemoteBlocks,
    range: Range<u64>,
    steps: &mut u64,
) -> Option<u64> {
    let mut page = range.start / PAGE;
    loop {
        let (number, blocks) = remote.page_from(page)?;
        *steps += 1;
        let base = number.saturating_mul(PAGE);
        if base >= range.end {
            return None;
        }
        let from = range.start.max(base);
        let (found, next) = match blocks {
            BlockPage::Full { end } => {
                let until = end.saturating_mul(PAGE).min(range.end);
                let found = held.first_missing_block(from..until);
                // Full pages of ours are passed over one by one.
                let end_of_ours = || held.last_block().map_or(0, |last| last + 1).min(until);
                *steps += found.unwrap_or_else(end_of_ours).saturating_sub(from) / (16 * PAGE);
                (found, end)
            }
            BlockPage::Run(first, end) => {
                let until = (base + end).min(range.end);
                (held.first_missing_block(from.max(base + first)..until), number + 1)
            }
            BlockPage::Bits(theirs) => {
                let ours = held.block_words(number);
                let word = |at: usize| theirs[at] & !ours.map_or(0, |ours| ours[at]);
                (first_bit(base, from, range.end, word), number + 1)
            }
        };
        if found.is_some() {
            return found;
        }
        page = next;
    }
}

/// The first block of `range` that is here and that the peer lacks.
pub(super) fn first_untold(
    held: &Bitfield,
    remote: &RemoteBlocks,
    range: Range<u64>,
    steps: &mut u64,
) -> Option<u64> {
    let mut page = range.start / PAGE;
    loop {
        let (number, ours) = held.block_page_from(page)?;
        *steps += 1;
        let base = number * PAGE;
        if base >= range.end {
            return None;
        }
        let theirs = remote.page_from(number).filter(|(at, _)| *at == number);
        page = number + 1;
        let from = range.start.max(base);
        let found = match theirs.map(|(_, blocks)| blocks) {
            None => first_bit(base, from, range.end, |at| ours[at]),
            Some(BlockPage::Full { end }) => {
                page = end;
                None
            }
            Some(BlockPage::Run(first, end)) => {
                let before = range.end.min(base + first);
                let behind = from.max(base + end);
                first_bit(base, from, before, |at| ours[at])
                    .or_else(|| first_bit(base, behind, range.end, |at| ours[at]))
            }
            Some(BlockPage::Bits(theirs)) => {
                first_bit(base, from, range.end, |at| ours[at] & !theirs[at])
            }
        };
        if found.is_some() {
            return found;
        }
    }
}

/// The first set bit of a page that stands for a block of `from..end`.
fn first_bit(base: u64, from: u64, end: u64, word: impl Fn(usize) -> u64) -> Option<u64> {
    if from >= end.min(base + PAGE) {
        return None;
    }
    let (first, last) = (from - base, end.min(base + PAGE) - base);
    (first / 64..last.div_ceil(64)).find_map(|at| {
        let mut bits = word(at as usize);
        if at == first / 64 {
            bits &= u64::MAX >> (first % 64);
        }
        let place = at * 64 + u64::from(bits.leading_zeros());
        (bits != 0 && place < last).then_some(base + place)
    })
}
