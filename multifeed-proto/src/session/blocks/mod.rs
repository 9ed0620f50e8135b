//! Which blocks of a feed the remote has; one page of them is in `page`.

mod page;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::ops::Range;

use self::page::Page;
use super::bits::{Bits, PAGE_BLOCKS, PAGE_BYTES};

/// The set of blocks that a remote announced for one feed, whether we have them too or not.
///
/// Filled by the peer, so its memory is counted: runs of full pages of 8,192 blocks are kept as
/// ranges however long they are, a page with one run of blocks costs a few bytes, any other page
/// 1 KiB. The connection ends above [`Config::max_announced`](crate::Config::max_announced).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteBlocks {
    /// Pages that are neither empty nor full, by number.
    pages: BTreeMap<u64, Page>,
    /// Runs of full pages: first page, page behind the last. Neither empty nor touching.
    full: BTreeMap<u64, u64>,
    count: u64,
    /// How many of `pages` are kept bit by bit.
    bitwise: usize,
}

/// One page of 8,192 blocks of which the remote has some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockPage<'a> {
    /// All blocks of it and of the pages behind it, before page `end`.
    Full {
        /// The first page behind them.
        end: u64,
    },
    /// The blocks from the first of these places in the page to before the second.
    Run(u64, u64),
    /// Bit by bit; the first block is the most significant bit of the first word.
    Bits(&'a [u64; 128]),
}

impl RemoteBlocks {
    /// The first page at or behind `page` of which the remote has some blocks: its number and which.
    #[must_use]
    pub fn page_from(&self, page: u64) -> Option<(u64, BlockPage<'_>)> {
        if let Some(run) = self.run_of(page) {
            return Some((page, BlockPage::Full { end: run.end }));
        }
        let partial = self.pages.range(page..).next();
        let full = self.full.range(page..).next();
        match (partial, full) {
            (Some((partial, _)), Some((first, end))) if first < partial => {
                Some((*first, BlockPage::Full { end: *end }))
            }
            (Some((number, partial)), _) => Some((*number, partial.view())),
            (None, Some((first, end))) => Some((*first, BlockPage::Full { end: *end })),
            (None, None) => None,
        }
    }

    /// Whether the remote has block `index`.
    #[must_use]
    pub fn contains(&self, index: u64) -> bool {
        let (page, bit) = split(index);
        match self.pages.get(&page) {
            Some(partial) => partial.contains_all(bit, bit + 1),
            None => self.run_of(page).is_some(),
        }
    }

    /// Whether the remote has every block of `range`; true for an empty one.
    #[must_use]
    pub fn contains_all(&self, range: Range<u64>) -> bool {
        if range.is_empty() {
            return true;
        }
        self.first_missing(range.start, range.end).is_none()
    }

    /// The first block of `range` that the remote has.
    #[must_use]
    pub fn first_in(&self, range: Range<u64>) -> Option<u64> {
        let (mut page, mut from) = split(range.start);
        // A page in between is not empty, so only the two pages at the ends can fail to answer.
        while page.saturating_mul(PAGE_BLOCKS) < range.end {
            let partial = self.pages.range(page..).next();
            let full = match self.run_of(page) {
                Some(_) => Some(page),
                None => self.full.range(page..).next().map(|(first, _)| *first),
            };
            let at = match (partial, full) {
                (Some((partial, _)), Some(full)) => full.min(*partial),
                (Some((partial, _)), None) => *partial,
                (None, Some(full)) => full,
                (None, None) => return None,
            };
            if at > page {
                from = 0;
            }
            let base = at.saturating_mul(PAGE_BLOCKS);
            let to = range.end.saturating_sub(base).min(PAGE_BLOCKS);
            let found = match partial.filter(|(number, _)| **number == at) {
                Some((_, partial)) => partial.first(from, to),
                None => (from < to).then_some(from),
            };
            if let Some(bit) = found {
                return Some(base + bit);
            }
            (page, from) = (at + 1, 0);
        }
        None
    }

    /// The first unbroken run of blocks in `range` that the remote has, cut off at the range's end.
    #[must_use]
    pub fn run_in(&self, range: Range<u64>) -> Option<Range<u64>> {
        let start = self.first_in(range.clone())?;
        let end = self.first_missing(start, range.end).unwrap_or(range.end);
        Some(start..end)
    }

    /// Number of blocks that the remote has.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether the remote has no block at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of memory that this takes.
    pub(crate) fn bytes(&self) -> usize {
        (self.pages.len() + self.full.len()) * ENTRY + self.bitwise * size_of::<Bits>()
    }

    /// Adds the blocks of `range`: three entries more at most.
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        let Some((first, between, last)) = parts(range) else { return };
        self.insert_in(first.page, first.from, first.to);
        self.insert_full(between.start, between.end);
        if let Some(last) = last {
            self.insert_in(last.page, last.from, last.to);
        }
    }

    /// Adds the blocks set in `bytes`, most significant bit first, from block `start` on, which is a
    /// multiple of 8.
    pub(crate) fn insert_bits(&mut self, start: u64, mut bytes: &[u8]) {
        let (mut page, bit) = split(start);
        let mut at = usize::try_from(bit / 8).unwrap_or(PAGE_BYTES);
        while !bytes.is_empty() {
            let (chunk, rest) = bytes.split_at(bytes.len().min(PAGE_BYTES - at));
            let bits = Bits::from_bytes(at, chunk);
            match bits.single_run() {
                Some((from, to)) => self.insert_in(page, from, to),
                None if bits.count() > 0 => self.merge(page, bits),
                None => {}
            }
            (page, at, bytes) = (page + 1, 0, rest);
        }
    }

    /// Takes the blocks of `range` out: three entries more at most.
    pub(crate) fn remove(&mut self, range: Range<u64>) {
        let Some((first, between, last)) = parts(range) else { return };
        self.remove_in(first.page, first.from, first.to);
        self.remove_pages(between.start, between.end);
        if let Some(last) = last {
            self.remove_in(last.page, last.from, last.to);
        }
    }

    /// Takes every block out.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The first block of `start..end` that the remote lacks.
    fn first_missing(&self, start: u64, end: u64) -> Option<u64> {
        let mut at = start;
        // Runs do not touch and partial pages are not full: a few steps reach a gap.
        while at < end {
            let (page, bit) = split(at);
            at = match self.pages.get(&page) {
                Some(partial) => match partial.first_missing(bit) {
                    Some(gap) => {
                        return Some(page * PAGE_BLOCKS + gap).filter(|gap| *gap < end);
                    }
                    None => (page + 1).saturating_mul(PAGE_BLOCKS),
                },
                None => match self.run_of(page) {
                    Some(run) => run.end.saturating_mul(PAGE_BLOCKS),
                    None => return Some(at),
                },
            };
        }
        None
    }

    /// The run of full pages that `page` is in.
    fn run_of(&self, page: u64) -> Option<Range<u64>> {
        let (first, end) = self.full.range(..=page).next_back()?;
        (page < *end).then_some(*first..*end)
    }

    fn insert_in(&mut self, page: u64, from: u64, to: u64) {
        if to - from == PAGE_BLOCKS {
            self.insert_full(page, page + 1);
            return;
        }
        if self.run_of(page).is_some() {
            return;
        }
        match self.pages.get_mut(&page) {
            Some(partial) => {
                let before = partial.is_bitwise();
                self.count += partial.insert(from, to);
                self.bitwise += usize::from(!before && partial.is_bitwise());
                self.settle(page);
            }
            None => {
                self.pages.insert(page, Page::run(from, to));
                self.count += to - from;
            }
        }
    }

    fn merge(&mut self, page: u64, bits: Bits) {
        if self.run_of(page).is_some() {
            return;
        }
        match self.pages.get_mut(&page) {
            Some(partial) => {
                self.bitwise += usize::from(!partial.is_bitwise());
                self.count += partial.as_bits().merge(&bits);
                self.settle(page);
            }
            None => {
                self.count += bits.count();
                self.bitwise += 1;
                self.pages.insert(page, Page::Bits(Box::new(bits)));
            }
        }
    }

    /// Moves `page` to where it belongs if it has become full or empty.
    fn settle(&mut self, page: u64) {
        match self.pages.get(&page).map_or(0, Page::count) {
            0 => self.drop_page(page),
            PAGE_BLOCKS => self.insert_full(page, page + 1),
            _ => {}
        }
    }

    /// Adds whole pages, joined with the runs that they touch.
    fn insert_full(&mut self, first: u64, end: u64) {
        if first >= end {
            return;
        }
        let before = self.full.range(..=first).next_back().map(|(first, end)| (*first, *end));
        let joins_before = before.filter(|(_, before_end)| *before_end >= first);
        if joins_before.is_some_and(|(_, before_end)| before_end >= end) {
            return;
        }
        while let Some((&page, partial)) = self.pages.range(first..end).next() {
            self.count -= partial.count();
            self.drop_page(page);
        }
        let mut run = first..end;
        if let Some((before_first, before_end)) = joins_before {
            self.take_run(before_first, before_end);
            run.start = before_first;
        }
        while let Some((&next, &next_end)) = self.full.range(first..=end).next() {
            self.take_run(next, next_end);
            run.end = run.end.max(next_end);
        }
        self.put_run(run.start, run.end);
    }

    fn remove_in(&mut self, page: u64, from: u64, to: u64) {
        if to - from == PAGE_BLOCKS {
            self.remove_pages(page, page + 1);
            return;
        }
        if let Some(partial) = self.pages.get_mut(&page) {
            let before = partial.is_bitwise();
            self.count -= partial.remove(from, to);
            self.bitwise += usize::from(!before && partial.is_bitwise());
            self.settle(page);
        } else if self.run_of(page).is_some() {
            self.remove_pages(page, page + 1);
            self.insert_in(page, 0, from);
            self.insert_in(page, to, PAGE_BLOCKS);
        }
    }

    /// Takes whole pages out.
    fn remove_pages(&mut self, first: u64, end: u64) {
        if first >= end {
            return;
        }
        while let Some((&page, partial)) = self.pages.range(first..end).next() {
            self.count -= partial.count();
            self.drop_page(page);
        }
        if let Some(run) = self.run_of(first).filter(|run| run.start < first) {
            self.take_run(run.start, run.end);
            self.put_run(run.start, first);
            if run.end > end {
                self.put_run(end, run.end);
            }
        }
        while let Some((&next, &next_end)) = self.full.range(first..end).next() {
            self.take_run(next, next_end);
            if next_end > end {
                self.put_run(end, next_end);
            }
        }
    }

    fn drop_page(&mut self, page: u64) {
        let bitwise = self.pages.remove(&page).is_some_and(|page| page.is_bitwise());
        self.bitwise -= usize::from(bitwise);
    }

    fn put_run(&mut self, first: u64, end: u64) {
        self.full.insert(first, end);
        self.count += (end - first) * PAGE_BLOCKS;
    }

    fn take_run(&mut self, first: u64, end: u64) {
        self.full.remove(&first);
        self.count -= (end - first) * PAGE_BLOCKS;
    }
}

/// Some blocks of one page: their places in it.
struct Part {
    page: u64,
    from: u64,
    to: u64,
}

/// A range as the part of its first page, the whole pages behind it, and the part of its last page if
/// that is another one. `None` if it is empty.
fn parts(range: Range<u64>) -> Option<(Part, Range<u64>, Option<Part>)> {
    let range = range.start..range.end.min(MAX_BLOCKS);
    if range.is_empty() {
        return None;
    }
    let (first, from) = split(range.start);
    let (last, until) = split(range.end - 1);
    let to = if first == last { until + 1 } else { PAGE_BLOCKS };
    let tail = (first != last).then_some(Part { page: last, from: 0, to: until + 1 });
    Some((Part { page: first, from, to }, first + 1..last, tail))
}

/// Page of a block, and its place in the page.
fn split(index: u64) -> (u64, u64) {
    (index / PAGE_BLOCKS, index % PAGE_BLOCKS)
}

/// Bytes of a run or a page in its table, with the rest of the table.
const ENTRY: usize = 64;

/// Blocks above this number cannot be named exactly by a JavaScript peer.
pub(crate) const MAX_BLOCKS: u64 = 1 << 53;
