//! What the other side of a channel claims to have of the tree.

use alloc::collections::BTreeMap;
use core::fmt;

use super::NodeIndex;

/// Nodes of a page, one bit each.
const PAGE_NODES: u64 = 512;

/// Pages at most: some 100 KiB, enough for the claims of a reader that asks in order for 260,000 blocks.
const MAX_PAGES: usize = 1_024;

/// The nodes that a remote claimed in the digests of its requests on one channel.
///
/// When both children of a node are claimed, so is the node: the remote can compute it. Its size is
/// bounded: when full it forgets everything, which costs some nodes sent twice and is never wrong,
/// because each digest repeats what counts for its own request.
///
/// Source: `hypercore@9.12.0`, `lib/tree-index.js`, `set`; `lib/replicate.js`, `remoteTree`.
#[derive(Clone, Default)]
pub struct RemoteTree {
    pages: BTreeMap<u64, [u64; (PAGE_NODES / 64) as usize]>,
}

impl RemoteTree {
    /// Nothing claimed.
    #[must_use]
    pub const fn new() -> Self {
        Self { pages: BTreeMap::new() }
    }

    /// Notes a claim. Nodes that no log can have are left out.
    pub fn insert(&mut self, node: NodeIndex) {
        let mut node = node;
        while node.is_valid() && self.insert_one(node) && self.contains(node.sibling()) {
            node = node.parent();
        }
    }

    /// Whether the remote claimed a node.
    #[must_use]
    pub fn contains(&self, node: NodeIndex) -> bool {
        self.pages.get(&(node.0 / PAGE_NODES)).is_some_and(|page| {
            let (word, bit) = place(node);
            page[word] & bit != 0
        })
    }

    /// Whether nothing was claimed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Forgets all claims.
    pub fn clear(&mut self) {
        self.pages.clear();
    }

    fn insert_one(&mut self, node: NodeIndex) -> bool {
        let number = node.0 / PAGE_NODES;
        if self.pages.len() >= MAX_PAGES && !self.pages.contains_key(&number) {
            self.pages.clear();
        }
        let page = self.pages.entry(number).or_default();
        let (word, bit) = place(node);
        let fresh = page[word] & bit == 0;
        page[word] |= bit;
        fresh
    }
}

impl fmt::Debug for RemoteTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteTree").field("pages", &self.pages.len()).finish_non_exhaustive()
    }
}

const fn place(node: NodeIndex) -> (usize, u64) {
    ((node.0 % PAGE_NODES / 64) as usize, 1 << (node.0 % 64))
}
