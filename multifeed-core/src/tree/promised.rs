//! Nodes that are on their way: answers to requests in flight are certain to bring them.

use super::NodeIndex;
use super::pages::Pages;

/// Nodes of a page.
const PAGE_NODES: u64 = 32;

/// Which answer brings a node, by the block that it is about.
#[derive(Debug, Default)]
pub(crate) struct Promised {
    pages: Pages<Page>,
}

#[derive(Debug, Default)]
struct Page {
    /// Bit `i`: node `i` of the page is on its way.
    nodes: u32,
    blocks: [u64; PAGE_NODES as usize],
}

impl Promised {
    /// Whether a node is on its way.
    pub(crate) fn contains(&self, node: NodeIndex) -> bool {
        let (page, slot) = place(node);
        self.pages.get(page).is_some_and(|page| page.nodes & 1 << slot != 0)
    }

    /// The block whose answer brings a node.
    pub(crate) fn get(&self, node: NodeIndex) -> Option<u64> {
        let (page, slot) = place(node);
        let page = self.pages.get(page).filter(|page| page.nodes & 1 << slot != 0)?;
        page.blocks.get(slot).copied()
    }

    /// Notes that the answer about `block` brings a node; `false` if another one is to bring it already.
    pub(crate) fn insert(&mut self, node: NodeIndex, block: u64) -> bool {
        let (page, slot) = place(node);
        let page = self.pages.get_or_insert_with(page, Page::default);
        let fresh = page.nodes & 1 << slot == 0;
        if fresh {
            page.nodes |= 1 << slot;
            page.blocks[slot] = block;
        }
        fresh
    }

    /// It came, or never will.
    pub(crate) fn remove(&mut self, node: NodeIndex) {
        let (number, slot) = place(node);
        let Some(page) = self.pages.get_mut(number) else { return };
        page.nodes &= !(1 << slot);
        if page.nodes == 0 {
            self.pages.remove(number);
        }
    }
}

const fn place(node: NodeIndex) -> (u64, usize) {
    (node.0 / PAGE_NODES, (node.0 % PAGE_NODES) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_promise_of_a_node_counts_until_it_is_over() {
        let mut promised = Promised::default();
        for node in [0, 31, 32, u64::MAX] {
            let node = NodeIndex(node);
            assert!(!promised.contains(node));
            assert!(promised.insert(node, 7));
            assert!(!promised.insert(node, 8));
            assert_eq!(promised.get(node), Some(7));
        }
        promised.remove(NodeIndex(31));
        promised.remove(NodeIndex(31));
        assert_eq!(promised.get(NodeIndex(31)), None);
        assert!(promised.contains(NodeIndex(0)));
        promised.remove(NodeIndex(0));
        assert_eq!(promised.pages.len(), 2);
    }
}
