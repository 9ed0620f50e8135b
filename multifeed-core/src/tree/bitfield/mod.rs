//! Which blocks and which nodes of the tree are held.
//!
//! | file | what is in it |
//! |---|---|
//! | `file` | pages that are read, and those that have to be written |
//! | `query` | what of a range is held |
//! | `log` | the length of the log, as far as nodes prove it |
//! | `words` | bits in words |

mod file;
mod log;
mod query;
mod words;

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use core::fmt;

use super::flat::{MAX_LENGTH, NodeIndex};
use super::index_bits::{INDEX_BYTES, Spans};
use super::pages::Pages;
use words::{clear_after, count, even, place};

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
    pages: Pages<Box<Page>>,
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
    /// [`index_bits::of_page`](super::index_bits::of_page) when the index was last brought up to date.
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
            pages: Pages::new(),
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

    /// Marks block `block` as held or not; `true` if that is a change.
    pub fn set_block(&mut self, block: u64, held: bool) -> bool {
        if block >= MAX_LENGTH || self.has_block(block) == held {
            return false;
        }
        let page_number = block / BLOCKS_PER_PAGE;
        let page = self.pages.get_or_insert_with(page_number, || Box::new(Page::EMPTY));
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
        let page = self.pages.get_or_insert_with(page_number, || Box::new(Page::EMPTY));
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
        for (number, page) in self.pages.iter_mut().filter(|(number, _)| *number >= page_number) {
            let from = if number == page_number { (length % BLOCKS_PER_PAGE) as usize } else { 0 };
            let is_held = words::first(&page.blocks, from, BLOCKS_PER_PAGE as usize, |word| word)
                .is_some()
                || words::first(&page.nodes, 2 * from, NODES_PER_PAGE as usize, |word| word)
                    .is_some();
            if !is_held {
                continue;
            }
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
        for (number, page) in self.pages.iter_mut() {
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
            if let Some(page) = self.pages.get_mut(page_number) {
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

    /// Bytes of a page in the file.
    #[must_use]
    pub const fn page_size(&self) -> usize {
        self.page_size
    }

    /// Bytes of memory used, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.pages.len() * (size_of::<Page>() + 40)
    }

    /// Whether block `block` is held.
    #[must_use]
    pub fn has_block(&self, block: u64) -> bool {
        self.pages.get(block / BLOCKS_PER_PAGE).is_some_and(|page| {
            let (word, bit) = place(block % BLOCKS_PER_PAGE);
            page.blocks[word] & bit != 0
        })
    }

    /// Whether a node is held.
    #[must_use]
    pub fn has_node(&self, node: NodeIndex) -> bool {
        self.pages.get(node.0 / NODES_PER_PAGE).is_some_and(|page| {
            let (word, bit) = place(node.0 % NODES_PER_PAGE);
            page.nodes[word] & bit != 0
        })
    }

    /// Number of blocks held.
    #[must_use]
    pub const fn blocks(&self) -> u64 {
        self.blocks
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
