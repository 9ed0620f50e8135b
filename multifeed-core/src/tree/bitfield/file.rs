//! The bitfield as a file: pages that are read, and those that have to be written.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use bytes::Bytes;

use super::words::count;
use super::{BLOCK_BYTES, BLOCKS_PER_PAGE, Bitfield, NODE_BYTES, PAGE_SIZE, Page};
use crate::format::sleep;
use crate::tree::{MAX_LENGTH, index_bits};

impl Bitfield {
    /// Reads the whole contents of a bitfield file, header included. Whatever is missing is zeros.
    #[must_use]
    pub fn from_file(file: &[u8]) -> Self {
        let mut out = Self::with_page_size(sleep::bitfield_page_size(file));
        let pages = file.get(sleep::HEADER_BYTES..).unwrap_or(&[]);
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
            self.pages.remove(page)
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

    /// Notes that the file reaches up to page `page`.
    fn grow_file(&mut self, page: u64, changed: &mut BTreeSet<u64>) {
        if page < self.file_pages {
            return;
        }
        let before = core::mem::replace(&mut self.file_pages, page + 1);
        let Self { pages, spans, file_pages, .. } = self;
        let summary = |page| pages.get(page).map_or(0, |page| page.summary);
        // Bytes that span several pages have their place in the file only now. All with anything
        // below them from the pages so far are above the last one of these.
        if let Some(last) = before.checked_sub(1) {
            spans.update(last, *file_pages, summary, changed);
        }
        spans.update(page, *file_pages, summary, changed);
    }

    fn refresh_summary(&mut self, number: u64, changed: &mut BTreeSet<u64>) {
        let Self { pages, spans, file_pages, .. } = self;
        if let Some(page) = pages.get_mut(number) {
            let summary = index_bits::of_page(&page.blocks);
            if core::mem::replace(&mut page.summary, summary) == summary {
                return;
            }
        }
        let summary = |page| pages.get(page).map_or(0, |page| page.summary);
        spans.update(number, *file_pages, summary, changed);
    }

    fn page_bytes(&self, number: u64) -> Bytes {
        let mut out = Vec::with_capacity(self.page_size);
        if let Some(page) = self.pages.get(number) {
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

fn read_words(bytes: &[u8], words: &mut [u64]) {
    for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
        let mut full = [0; 8];
        full[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_be_bytes(full);
    }
}
