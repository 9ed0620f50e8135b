//! Nodes of the tree that are in memory.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::pages::Pages;
use super::{Node, NodeIndex};
use crate::format::sleep;

/// Nodes in a page of the cache.
pub const CACHE_PAGE_NODES: u64 = 128;

/// Bytes of a whole page of the cache, in memory and in the tree file.
pub const CACHE_PAGE_BYTES: usize = CACHE_PAGE_NODES as usize * sleep::TREE_ENTRY_BYTES;

/// A cache of tree nodes, in pages that are read from the tree file with one request.
///
/// It never says anything about what the feed has: a node that is not here may be in the file.
/// Pages take up memory as far as they are filled.
#[derive(Default)]
pub struct NodeCache {
    pages: Pages<Page>,
    bytes: usize,
    /// Counts the changes, so that pages can say when they were last of use.
    clock: usize,
}

#[derive(Default)]
struct Page {
    /// Bit `i`: node `i` of the page is present.
    present: u128,
    /// Bit `i`: node `i` is known to be true, not only read from the file.
    proven: u128,
    /// Entries as in the tree file, up to the last one that is present or further.
    entries: Vec<u8>,
    /// Value of the clock when it was last of use. Atomic so that a shared look-up can set it.
    touched: AtomicUsize,
}

impl NodeCache {
    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The page that a node is in.
    #[must_use]
    pub const fn page_of(node: NodeIndex) -> u64 {
        node.0 / CACHE_PAGE_NODES
    }

    /// Offset and length in bytes of a page in the tree file, for [`Self::fill`].
    #[must_use]
    pub const fn byte_range(page: u64) -> (u64, usize) {
        (sleep::tree_offset(NodeIndex(page * CACHE_PAGE_NODES)), CACHE_PAGE_BYTES)
    }

    /// Takes in a node that is true, in place of what was known of it.
    pub fn insert(&mut self, node: Node) {
        let index = NodeIndex(node.index);
        let slot = slot_of(index);
        self.change(Self::page_of(index), |page| {
            page.reserve(slot + 1);
            let (hash, size) = page.entries[entry(slot)].split_at_mut(32);
            hash.copy_from_slice(&node.hash);
            size.copy_from_slice(&node.size.to_be_bytes());
            page.present |= 1 << slot;
            page.proven |= 1 << slot;
        });
    }

    /// Takes in what the tree file has at [`Self::byte_range`] of `page`, as far as `counts` says that it
    /// does. What is present is not overwritten: it may be newer than the file.
    ///
    /// `bytes` may end early. Entries that cannot be nodes (all zeros, or a size that no node can
    /// have) are left out: a node that is held and not present afterwards is missing in the file.
    pub fn fill(&mut self, page: u64, bytes: &[u8], counts: impl Fn(NodeIndex) -> bool) {
        let first = page.saturating_mul(CACHE_PAGE_NODES);
        let entries = bytes.chunks_exact(sleep::TREE_ENTRY_BYTES).take(CACHE_PAGE_NODES as usize);
        let wanted = |slot: usize, bytes: &[u8]| {
            let node = NodeIndex(first.saturating_add(slot as u64));
            counts(node) && sleep::read_node(node, bytes).is_some()
        };
        self.change(page, |page| {
            for (slot, bytes) in entries.enumerate() {
                if page.present & 1 << slot == 0 && wanted(slot, bytes) {
                    page.reserve(slot + 1);
                    page.entries[entry(slot)].copy_from_slice(bytes);
                    page.present |= 1 << slot;
                }
            }
        });
    }

    /// Forgets nodes, as after a log was cut.
    pub fn remove(&mut self, node: NodeIndex) {
        if let Some(page) = self.pages.get_mut(Self::page_of(node)) {
            page.present &= !(1 << slot_of(node));
            page.proven &= !(1 << slot_of(node));
        }
    }

    /// A node, if it is present and known to be true.
    #[must_use]
    pub fn proven(&self, node: NodeIndex) -> Option<Node> {
        let page = self.pages.get(Self::page_of(node))?;
        if page.proven & 1 << slot_of(node) == 0 {
            return None;
        }
        self.entry(page, node)
    }

    /// A node, its sibling and the one above, which is known to be true: if all are present, and in one page,
    /// as most are.
    #[must_use]
    pub fn below_proven(&self, node: NodeIndex) -> Option<[Node; 3]> {
        let family = [node, node.sibling(), node.parent()];
        let number = Self::page_of(node);
        if family.iter().any(|node| Self::page_of(*node) != number) {
            return None;
        }
        let page = self.pages.get(number)?;
        let [one, other, above] = family.map(|node| 1_u128 << slot_of(node));
        if page.present & (one | other) != one | other || page.proven & above == 0 {
            return None;
        }
        let [one, other, above] = family.map(|node| self.entry(page, node));
        Some([one?, other?, above?])
    }

    /// Whether a node is present and known to be true.
    #[must_use]
    pub fn is_proven(&self, node: NodeIndex) -> bool {
        let page = self.pages.get(Self::page_of(node));
        page.is_some_and(|page| page.proven & 1 << slot_of(node) != 0)
    }

    /// Notes that two siblings are true, as far as they are present.
    pub fn set_proven(&mut self, node: NodeIndex) {
        let sibling = node.sibling();
        let (one, other) = (Self::page_of(node), Self::page_of(sibling));
        let mut bits = 1 << slot_of(node);
        if one == other {
            bits |= 1 << slot_of(sibling);
        } else if let Some(page) = self.pages.get_mut(other) {
            page.proven |= page.present & 1 << slot_of(sibling);
        }
        if let Some(page) = self.pages.get_mut(one) {
            page.proven |= page.present & bits;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.pages = Pages::new();
        self.bytes = 0;
    }

    /// Drops pages, the ones longest out of use first, until at most `budget` bytes are used.
    pub fn evict_to(&mut self, budget: usize) {
        if self.bytes <= budget {
            return;
        }
        let mut order: Vec<_> = self
            .pages
            .iter()
            .map(|(number, page)| (page.touched.load(Ordering::Relaxed), number))
            .collect();
        order.sort_unstable();
        for (_, number) in order {
            if self.bytes <= budget {
                return;
            }
            self.bytes -= self.pages.remove(number).map_or(0, |page| page.bytes());
        }
    }

    /// A node, if it is present.
    #[must_use]
    pub fn get(&self, node: NodeIndex) -> Option<Node> {
        let page = self.pages.get(Self::page_of(node))?;
        if page.present & 1 << slot_of(node) == 0 {
            return None;
        }
        self.entry(page, node)
    }

    fn entry(&self, page: &Page, node: NodeIndex) -> Option<Node> {
        page.touched.store(self.clock, Ordering::Relaxed);
        sleep::read_entry(node, page.entries.get(entry(slot_of(node)))?)
    }

    /// Bytes of memory used, about.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn change(&mut self, number: u64, change: impl FnOnce(&mut Page)) {
        self.clock = self.clock.wrapping_add(1);
        let page = self.pages.get_or_insert_with(number, Page::default);
        // A page without memory is not counted yet.
        let before = if page.entries.is_empty() { 0 } else { page.bytes() };
        change(page);
        page.touched.store(self.clock, Ordering::Relaxed);
        let (present, after) = (page.present, page.bytes());
        self.bytes -= before;
        if present == 0 {
            self.pages.remove(number);
        } else {
            self.bytes += after;
        }
    }
}

impl fmt::Debug for NodeCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeCache")
            .field("pages", &self.pages.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Page {
    /// Makes room for the first `slots` entries: few while few are used, then all at once.
    fn reserve(&mut self, slots: usize) {
        let len = slots * sleep::TREE_ENTRY_BYTES;
        if self.entries.len() < len {
            let slots =
                if slots <= 32 { slots.next_power_of_two() } else { CACHE_PAGE_NODES as usize };
            let len = slots * sleep::TREE_ENTRY_BYTES;
            self.entries.reserve_exact(len - self.entries.len());
            self.entries.resize(len, 0);
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + 16 + self.entries.capacity()
    }
}

const fn slot_of(node: NodeIndex) -> usize {
    (node.0 % CACHE_PAGE_NODES) as usize
}

const fn entry(slot: usize) -> Range<usize> {
    slot * sleep::TREE_ENTRY_BYTES..(slot + 1) * sleep::TREE_ENTRY_BYTES
}
