//! What of a range is held: counts, first and last ones, gaps, the bits of a `Have`.

use alloc::vec::Vec;
use core::ops::Range;

use super::words::{count, first};
use super::{BLOCKS_PER_PAGE, Bitfield, MAX_WANT_BYTES, NODES_PER_PAGE, Page};

impl Bitfield {
    /// Number of blocks held in a range.
    #[must_use]
    pub fn count_blocks(&self, range: Range<u64>) -> u64 {
        self.pages_of(&range)
            .map(|(number, page)| {
                let (from, to) = part_of_page(number, &range);
                if to - from == BLOCKS_PER_PAGE as usize {
                    u64::from(page.held)
                } else {
                    u64::from(count(&page.blocks, from, to))
                }
            })
            .sum()
    }

    /// The first block of a range that is not held. Skips full pages whole.
    #[must_use]
    pub fn first_missing_block(&self, range: Range<u64>) -> Option<u64> {
        let mut next = range.start;
        for (number, page) in self.pages_of(&range) {
            let start = number * BLOCKS_PER_PAGE;
            if start > next {
                break;
            }
            if u64::from(page.held) < BLOCKS_PER_PAGE {
                let (from, to) = part_of_page(number, &range);
                if let Some(bit) = first(&page.blocks, from, to, |word| !word) {
                    return Some(start + bit as u64);
                }
            }
            next = start + BLOCKS_PER_PAGE;
        }
        (next < range.end).then_some(next)
    }

    /// The first block of a range that is held. Skips empty pages whole.
    #[must_use]
    pub fn first_block(&self, range: Range<u64>) -> Option<u64> {
        self.pages_of(&range).filter(|(_, page)| page.held > 0).find_map(|(number, page)| {
            let (from, to) = part_of_page(number, &range);
            let bit = first(&page.blocks, from, to, |word| word)?;
            Some(number * BLOCKS_PER_PAGE + bit as u64)
        })
    }

    /// The last block that is held.
    #[must_use]
    pub fn last_block(&self) -> Option<u64> {
        self.last_block_before(u64::MAX)
    }

    /// The last block before `end` that is held. Skips empty pages whole.
    #[must_use]
    pub fn last_block_before(&self, end: u64) -> Option<u64> {
        let pages = self.pages.range(..end.div_ceil(BLOCKS_PER_PAGE)).rev();
        pages.filter(|(_, page)| page.held > 0).find_map(|(number, page)| {
            let start = number * BLOCKS_PER_PAGE;
            page.blocks.iter().enumerate().rev().find_map(|(word, &bits)| {
                let first = start + 64 * word as u64;
                let bits = match end.saturating_sub(first) {
                    0 => 0,
                    count @ 1..64 => bits & !(u64::MAX >> count),
                    _ => bits,
                };
                (bits != 0).then(|| first + 63 - u64::from(bits.trailing_zeros()))
            })
        })
    }

    /// Whether all blocks of a range are held; `true` for an empty one.
    #[must_use]
    pub fn contains_all(&self, range: Range<u64>) -> bool {
        self.first_missing_block(range).is_none()
    }

    /// The first node of a range that is held. Skips pages that are not there.
    pub(crate) fn first_node(&self, range: Range<u64>) -> Option<u64> {
        if range.is_empty() {
            return None;
        }
        let pages = range.start / NODES_PER_PAGE..range.end.div_ceil(NODES_PER_PAGE);
        self.pages.range(pages).find_map(|(number, page)| {
            let start = number * NODES_PER_PAGE;
            let from = range.start.saturating_sub(start) as usize;
            let to = (range.end - start).min(NODES_PER_PAGE) as usize;
            first(&page.nodes, from, to, |word| word).map(|bit| start + bit as u64)
        })
    }

    /// The bits of the blocks from `start` on, as a `Have` carries them before run-length encoding.
    ///
    /// `start` is rounded down to a multiple of 8. At most `length` blocks, rounded up to bytes, no
    /// more than [`MAX_WANT_BYTES`], and none beyond the last block held.
    #[must_use]
    pub fn want_bytes(&self, start: u64, length: u64) -> Vec<u8> {
        let start = start / 8 * 8;
        let length = length.min(8 * MAX_WANT_BYTES as u64);
        let range = start..start.saturating_add(length);
        let mut out = Vec::new();
        for (number, page) in self.pages_of(&range).filter(|(_, page)| page.held > 0) {
            let (from, to) = part_of_page(number, &range);
            let at = (number * BLOCKS_PER_PAGE + from as u64 - start) / 8;
            out.resize(at as usize, 0);
            let bytes = page.blocks.iter().flat_map(|word| word.to_be_bytes());
            out.extend(bytes.take(to.div_ceil(8)).skip(from / 8));
        }
        let used = out.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        out.truncate(used);
        out
    }

    /// The blocks of a page that are held, the first one as the most significant bit of the first word;
    /// `None`: none of them.
    pub(crate) fn block_words(&self, page: u64) -> Option<&[u64; 128]> {
        self.pages.get(page).map(|page| &page.blocks)
    }

    /// The first page at or behind `page` of which blocks are held, and which.
    pub(crate) fn block_page_from(&self, page: u64) -> Option<(u64, &[u64; 128])> {
        let mut pages = self.pages.range(page..).filter(|(_, page)| page.held > 0);
        pages.next().map(|(number, page)| (number, &page.blocks))
    }

    fn pages_of(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, &Page)> {
        let pages = if range.is_empty() {
            0..0
        } else {
            range.start / BLOCKS_PER_PAGE..range.end.div_ceil(BLOCKS_PER_PAGE)
        };
        self.pages.range(pages).map(|(number, page)| (number, &**page))
    }
}

/// The positions of a range of blocks within page `number`, which it touches.
fn part_of_page(number: u64, range: &Range<u64>) -> (usize, usize) {
    let start = number * BLOCKS_PER_PAGE;
    let from = range.start.saturating_sub(start);
    let to = (range.end - start).min(BLOCKS_PER_PAGE);
    (from as usize, to as usize)
}
