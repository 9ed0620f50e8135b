//! Which blocks and which nodes of the tree are held.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use bytes::Bytes;

use super::flat::{MAX_LENGTH, NodeIndex};
use super::index_bits::{self, INDEX_BYTES, Spans};

/// Blocks that one page of the file speaks of.
pub const BLOCKS_PER_PAGE: u64 = 8_192;

/// Nodes that one page of the file speaks of.
pub const NODES_PER_PAGE: u64 = 16_384;

/// Bytes of a page in the files that are made today: 1,024 of blocks, 2,048 of nodes, 512 of index.
pub const PAGE_SIZE: usize = BLOCK_BYTES + NODE_BYTES + INDEX_BYTES;

/// Most bytes that [`Bitfield::want_bytes`] gives at once: the bits of one `Want` of the JavaScript.
pub const MAX_WANT_BYTES: usize = 131_072;

const BLOCK_BYTES: usize = 1_024;
const NODE_BYTES: usize = 2_048;

/// The blocks and nodes of one feed that are held, as bits.
///
/// Kept in pages like the file, so that a feed costs memory for the neighbourhood of what it holds,
/// whatever its length. Blocks are less than [`MAX_LENGTH`], nodes are
/// [valid](NodeIndex::is_valid); others are never held, and setting them does nothing.
///
/// Source: `hypercore@9.12.0`, `lib/bitfield.js`, `lib/tree-index.js`.
#[derive(Clone)]
pub struct Bitfield {
    pages: BTreeMap<u64, Box<Page>>,
    /// Number of blocks held.
    blocks: u64,
    /// Pages that the file has or must get, from 0 on.
    file_pages: u64,
    page_size: usize,
    /// Pages that differ from the file.
    dirty: BTreeSet<u64>,
    spans: Spans,
}

/// Bits are counted from the most significant one of each word.
#[derive(Clone)]
struct Page {
    blocks: [u64; BLOCK_BYTES / 8],
    nodes: [u64; NODE_BYTES / 8],
    /// Number of 1-bits in `blocks`.
    held: u32,
    /// [`index_bits::of_page`] when the index was last brought up to date.
    summary: u8,
}

impl Default for Bitfield {
    fn default() -> Self {
        Self::new()
    }
}

impl Bitfield {
    /// Nothing held, no file.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            pages: BTreeMap::new(),
            blocks: 0,
            file_pages: 0,
            page_size: PAGE_SIZE,
            dirty: BTreeSet::new(),
            spans: Spans::new(),
        }
    }

    /// Nothing held yet, for a file with pages of `page_size` bytes; each page is then given to
    /// [`Self::load_page`].
    ///
    /// Very old files have smaller pages, which are kept. A size that cannot hold the blocks and
    /// nodes of a page, or is no multiple of 4, is read as [`PAGE_SIZE`].
    #[must_use]
    pub fn with_page_size(page_size: usize) -> Self {
        let fits = (BLOCK_BYTES + NODE_BYTES..=PAGE_SIZE).contains(&page_size);
        let page_size = if fits && page_size % 4 == 0 { page_size } else { PAGE_SIZE };
        Self { page_size, ..Self::new() }
    }

    /// Reads the whole contents of a bitfield file, header included. Whatever is missing is zeros.
    #[must_use]
    pub fn from_file(file: &[u8]) -> Self {
        let mut out = Self::with_page_size(crate::format::sleep::bitfield_page_size(file));
        let pages = file.get(crate::format::sleep::HEADER_BYTES..).unwrap_or(&[]);
        for (page, bytes) in (0..).zip(pages.chunks(out.page_size)) {
            out.load_page(page, bytes);
        }
        out
    }

    /// Takes page `page` as it is in the file, in place of what was known of it.
    ///
    /// `bytes` may end early, what is missing is zeros. The index part is not read but made anew.
    /// A page beyond the last possible one is left out.
    pub fn load_page(&mut self, page: u64, bytes: &[u8]) {
        if page >= MAX_LENGTH / BLOCKS_PER_PAGE {
            return;
        }
        let mut loaded = Box::new(Page::EMPTY);
        let (blocks, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES));
        read_words(blocks, &mut loaded.blocks);
        read_words(&rest[..rest.len().min(NODE_BYTES)], &mut loaded.nodes);
        loaded.held = count(&loaded.blocks, 0, BLOCKS_PER_PAGE as usize);
        let held = loaded.held;
        // A gap in the file is a gap here.
        let before = if bytes.iter().all(|&byte| byte == 0) {
            self.pages.remove(&page)
        } else {
            self.pages.insert(page, loaded)
        };
        self.blocks += u64::from(held);
        self.blocks -= before.map_or(0, |page| u64::from(page.held));
        self.dirty.remove(&page);
        let mut changed = BTreeSet::new();
        self.grow_file(page, &mut changed);
        self.refresh_summary(page, &mut changed);
    }

    /// Marks block `block` as held or not; `true` if that is a change.
    pub fn set_block(&mut self, block: u64, held: bool) -> bool {
        if block >= MAX_LENGTH || self.has_block(block) == held {
            return false;
        }
        let page_number = block / BLOCKS_PER_PAGE;
        let page = self.pages.entry(page_number).or_insert_with(|| Box::new(Page::EMPTY));
        let (word, bit) = place(block % BLOCKS_PER_PAGE);
        page.blocks[word] ^= bit;
        if held {
            page.held += 1;
            self.blocks += 1;
        } else {
            page.held -= 1;
            self.blocks -= 1;
        }
        self.dirty.insert(page_number);
        true
    }

    /// Marks a node as held; `true` if it was not. The parent is not marked, not even if both of its
    /// children are there.
    pub fn set_node(&mut self, node: NodeIndex) -> bool {
        if !node.is_valid() || self.has_node(node) {
            return false;
        }
        let page_number = node.0 / NODES_PER_PAGE;
        let page = self.pages.entry(page_number).or_insert_with(|| Box::new(Page::EMPTY));
        let (word, bit) = place(node.0 % NODES_PER_PAGE);
        page.nodes[word] |= bit;
        self.dirty.insert(page_number);
        true
    }

    /// Forgets every block from `length` on, and every node above such a block.
    pub fn clear_from(&mut self, length: u64) {
        if length >= MAX_LENGTH {
            return;
        }
        // Nodes to the left of the first dropped leaf that reach over it are its ancestors.
        let first = NodeIndex::leaf(length);
        let mut above = first.parent();
        while above.parent() != above {
            if above < first {
                self.clear_node(above);
            }
            above = above.parent();
        }
        self.clear_node(above);

        let page_number = length / BLOCKS_PER_PAGE;
        // Pages stay, if only as zeros: what the file has of them must be overwritten.
        for (&number, page) in self.pages.range_mut(page_number..) {
            let from = if number == page_number { (length % BLOCKS_PER_PAGE) as usize } else { 0 };
            clear_after(&mut page.blocks, from);
            clear_after(&mut page.nodes, 2 * from);
            let held = count(&page.blocks, 0, from);
            self.blocks -= u64::from(page.held - held);
            page.held = held;
            self.dirty.insert(number);
        }
    }

    /// Forgets the blocks whose leaf is not held: a page whose writing was cut off has new blocks beside
    /// old nodes, and without its leaf a block is not found.
    pub fn clear_without_leaf(&mut self) {
        for (&number, page) in &mut self.pages {
            let leaves = page.nodes.chunks_exact(2).map(|pair| even(pair[0]) << 32 | even(pair[1]));
            let mut found = false;
            for (blocks, leaves) in page.blocks.iter_mut().zip(leaves) {
                found |= *blocks & !leaves != 0;
                *blocks &= leaves;
            }
            if found {
                let held = count(&page.blocks, 0, BLOCKS_PER_PAGE as usize);
                self.blocks -= u64::from(page.held - held);
                page.held = held;
                self.dirty.insert(number);
            }
        }
    }

    fn clear_node(&mut self, node: NodeIndex) {
        if self.has_node(node) {
            let page_number = node.0 / NODES_PER_PAGE;
            if let Some(page) = self.pages.get_mut(&page_number) {
                let (word, bit) = place(node.0 % NODES_PER_PAGE);
                page.nodes[word] &= !bit;
                self.dirty.insert(page_number);
            }
        }
    }

    /// Forgets a node; `true` if it was held.
    pub(crate) fn unset_node(&mut self, node: NodeIndex) -> bool {
        let held = self.has_node(node);
        self.clear_node(node);
        held
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

    /// Whether page `page` is written as `bytes`, which may end early.
    pub(crate) fn is_page(&self, page: u64, bytes: &[u8]) -> bool {
        let wanted = self.page_bytes(page);
        wanted.len() >= bytes.len()
            && wanted[..bytes.len()] == *bytes
            && wanted[bytes.len()..].iter().all(|&byte| byte == 0)
    }

    /// Has page `page` written again although nothing in it changed.
    pub(crate) fn rewrite_page(&mut self, page: u64) {
        self.dirty.insert(page);
    }

    /// The pages that differ from the file, in ascending order, each with its number and its
    /// [`Self::page_size`] bytes as they have to be written. They count as written from then on.
    #[must_use]
    pub fn take_dirty(&mut self) -> Vec<(u64, Bytes)> {
        let mut dirty = core::mem::take(&mut self.dirty);
        let mut changed = BTreeSet::new();
        for &page in &dirty {
            self.grow_file(page, &mut changed);
            self.refresh_summary(page, &mut changed);
        }
        dirty.extend(changed);
        dirty.into_iter().map(|page| (page, self.page_bytes(page))).collect()
    }

    /// Whether [`Self::take_dirty`] has anything to give.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Bytes of a page in the file.
    #[must_use]
    pub const fn page_size(&self) -> usize {
        self.page_size
    }

    /// Bytes of memory used, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.pages.len() * (size_of::<Page>() + 24)
    }

    /// Whether block `block` is held.
    #[must_use]
    pub fn has_block(&self, block: u64) -> bool {
        self.pages.get(&(block / BLOCKS_PER_PAGE)).is_some_and(|page| {
            let (word, bit) = place(block % BLOCKS_PER_PAGE);
            page.blocks[word] & bit != 0
        })
    }

    /// Whether a node is held.
    #[must_use]
    pub fn has_node(&self, node: NodeIndex) -> bool {
        self.pages.get(&(node.0 / NODES_PER_PAGE)).is_some_and(|page| {
            let (word, bit) = place(node.0 % NODES_PER_PAGE);
            page.nodes[word] & bit != 0
        })
    }

    /// Number of blocks held.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.blocks
    }

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

    /// Number of bits of the tree: 8 times the number of bytes up to the last one that is not 0.
    #[must_use]
    pub fn tree_bit_length(&self) -> u64 {
        self.pages
            .iter()
            .rev()
            .find_map(|(number, page)| {
                let word = page.nodes.iter().rposition(|&word| word != 0)?;
                let bytes = 8 - page.nodes[word].trailing_zeros() as usize / 8;
                Some(number * NODES_PER_PAGE + 8 * (8 * word + bytes) as u64)
            })
            .unwrap_or(0)
    }

    /// Length of the log in blocks, as far as the nodes that are held prove it.
    ///
    /// Source: `lib/tree-index.js`, `blocks`.
    #[must_use]
    pub fn length(&self) -> u64 {
        let bits = self.tree_bit_length();
        let mut top = NodeIndex(0);
        let mut next = NodeIndex(0);
        while next.right_span().0 < bits && next.parent() != next {
            next = next.parent();
            if self.has_node(next) {
                top = next;
            }
        }
        self.verified_by(top) / 2
    }

    /// Twice the length in blocks of a log that has the topmost tree known above `node` among its
    /// roots, and whose signature therefore proves `node`. 0 if `node` is not held.
    ///
    /// Source: `lib/tree-index.js`, `verifiedBy`.
    #[must_use]
    pub fn verified_by(&self, node: NodeIndex) -> u64 {
        self.verified_below(node, u64::MAX)
    }

    /// As [`verified_by`](Self::verified_by), in a log of `length` blocks: nodes of later ones do not count.
    pub(crate) fn verified_below(&self, node: NodeIndex, length: u64) -> u64 {
        let has = |node: NodeIndex| self.has_node_below(node, length);
        if !has(node) {
            return 0;
        }
        let mut top = node;
        while has(top.sibling()) && has(top.parent()) && top.parent() != top {
            top = top.parent();
        }
        let mut depth = top.depth();
        while depth > 0 {
            let right = NodeIndex::at(depth, top.offset() + 1);
            top = right.left_child().unwrap_or(right);
            depth -= 1;
            while depth > 0 && !has(top) {
                top = top.left_child().unwrap_or(top);
                depth -= 1;
            }
        }
        if has(top) { top.0 + 2 } else { top.0 }
    }

    /// Whether the node is held and all blocks below it are among the first `length`.
    pub(crate) fn has_node_below(&self, node: NodeIndex, length: u64) -> bool {
        self.has_node(node) && node.blocks().end <= length
    }

    fn pages_of(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, &Page)> {
        let pages = if range.is_empty() {
            0..0
        } else {
            range.start / BLOCKS_PER_PAGE..range.end.div_ceil(BLOCKS_PER_PAGE)
        };
        self.pages.range(pages).map(|(&number, page)| (number, &**page))
    }

    /// Notes that the file reaches up to page `page`.
    fn grow_file(&mut self, page: u64, changed: &mut BTreeSet<u64>) {
        if page < self.file_pages {
            return;
        }
        let before = core::mem::replace(&mut self.file_pages, page + 1);
        let Self { pages, spans, file_pages, .. } = self;
        let summary = |page| pages.get(&page).map_or(0, |page| page.summary);
        // Bytes that span several pages have their place in the file only now. All with anything
        // below them from the pages so far are above the last one of these.
        if let Some(last) = before.checked_sub(1) {
            spans.update(last, *file_pages, summary, changed);
        }
        spans.update(page, *file_pages, summary, changed);
    }

    fn refresh_summary(&mut self, number: u64, changed: &mut BTreeSet<u64>) {
        let Self { pages, spans, file_pages, .. } = self;
        if let Some(page) = pages.get_mut(&number) {
            let summary = index_bits::of_page(&page.blocks);
            if core::mem::replace(&mut page.summary, summary) == summary {
                return;
            }
        }
        let summary = |page| pages.get(&page).map_or(0, |page| page.summary);
        spans.update(number, *file_pages, summary, changed);
    }

    fn page_bytes(&self, number: u64) -> Bytes {
        let mut out = Vec::with_capacity(self.page_size);
        if let Some(page) = self.pages.get(&number) {
            out.extend(page.blocks.iter().chain(&page.nodes).flat_map(|word| word.to_be_bytes()));
            // The index of smaller pages is numbered in another way. Zeros are slow but never wrong.
            if self.page_size == PAGE_SIZE {
                out.extend_from_slice(&index_bits::within_page(&page.blocks));
            }
        }
        out.resize(self.page_size, 0);
        // A page without blocks has nothing but its part in the summary of its neighbours.
        if self.page_size == PAGE_SIZE {
            out[PAGE_SIZE - 1] = self.spans.last_byte(number);
        }
        out.into()
    }
}

impl fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bitfield")
            .field("length", &self.length())
            .field("blocks", &self.blocks)
            .field("pages", &self.pages.len())
            .finish_non_exhaustive()
    }
}

impl Page {
    const EMPTY: Self =
        Self { blocks: [0; BLOCK_BYTES / 8], nodes: [0; NODE_BYTES / 8], held: 0, summary: 0 };
}

/// Word and bit of a position in a page.
const fn place(position: u64) -> (usize, u64) {
    ((position / 64) as usize, 1 << (63 - position % 64))
}

/// The positions of a range of blocks within page `number`, which it touches.
fn part_of_page(number: u64, range: &Range<u64>) -> (usize, usize) {
    let start = number * BLOCKS_PER_PAGE;
    let from = range.start.saturating_sub(start);
    let to = (range.end - start).min(BLOCKS_PER_PAGE);
    (from as usize, to as usize)
}

/// The bits of word `word` that lie in `from .. to`.
const fn mask(word: usize, from: usize, to: usize) -> u64 {
    let start = 64 * word;
    let left = if from <= start { u64::MAX } else { u64::MAX >> (from - start) };
    let right = if to >= start + 64 { u64::MAX } else { !(u64::MAX >> (to - start)) };
    left & right
}

/// The first 1-bit in `from .. to` of what `view` makes of the words.
fn first(words: &[u64], from: usize, to: usize, view: impl Fn(u64) -> u64) -> Option<usize> {
    (from / 64..to.div_ceil(64)).find_map(|i| {
        let word = view(words[i]) & mask(i, from, to);
        (word != 0).then(|| 64 * i + word.leading_zeros() as usize)
    })
}

/// Number of 1-bits in `from .. to`.
fn count(words: &[u64], from: usize, to: usize) -> u32 {
    (from / 64..to.div_ceil(64)).map(|i| (words[i] & mask(i, from, to)).count_ones()).sum()
}

fn clear_after(words: &mut [u64], from: usize) {
    let end = 64 * words.len();
    for (i, word) in words.iter_mut().enumerate().skip(from / 64) {
        *word &= !mask(i, from, end);
    }
}

/// The bits at even places of a word, counted from the most significant one, close together.
const fn even(word: u64) -> u64 {
    let mut bits = (word >> 1) & 0x5555_5555_5555_5555;
    bits = (bits | bits >> 1) & 0x3333_3333_3333_3333;
    bits = (bits | bits >> 2) & 0x0f0f_0f0f_0f0f_0f0f;
    bits = (bits | bits >> 4) & 0x00ff_00ff_00ff_00ff;
    bits = (bits | bits >> 8) & 0x0000_ffff_0000_ffff;
    (bits | bits >> 16) & 0x0000_0000_ffff_ffff
}

fn read_words(bytes: &[u8], words: &mut [u64]) {
    for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
        let mut full = [0; 8];
        full[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_be_bytes(full);
    }
}
