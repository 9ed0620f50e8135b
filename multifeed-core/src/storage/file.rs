//! The bytes of a file in memory, kept sparse.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// Bytes of one page.
const PAGE: usize = 4096;

/// A file in memory. Ranges that were never written take no space, and clones share their pages
/// until one is written.
#[derive(Clone, Default)]
pub(super) struct SparseFile {
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
    len: u64,
}

impl fmt::Debug for SparseFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SparseFile({} bytes)", self.len)
    }
}

impl SparseFile {
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let (page, start) = split(at);
            let (now, later) = rest.split_at(rest.len().min(PAGE - start));
            let page = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[start..start + now.len()].copy_from_slice(now);
            at += now.len() as u64;
            rest = later;
        }
        if !data.is_empty() {
            self.len = self.len.max(at);
        }
    }

    pub(super) fn truncate(&mut self, len: u64) {
        if len < self.len {
            self.zero(len, self.len - len);
        }
        self.len = len;
    }

    /// Turns a range into zeros; the length of the file stays.
    pub(super) fn zero(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len).min(self.len);
        if offset >= end {
            return;
        }
        let (first, start) = split(offset);
        let (last, stop) = split(end);
        if let Some(page) = self.pages.get_mut(&first) {
            let stop = if first == last { stop } else { PAGE };
            Arc::make_mut(page)[start..stop].fill(0);
        }
        if first != last {
            if let Some(page) = self.pages.get_mut(&last) {
                Arc::make_mut(page)[..stop].fill(0);
            }
            let whole: Vec<u64> =
                self.pages.range(first + 1..last).map(|(page, _)| *page).collect();
            for page in whole {
                self.pages.remove(&page);
            }
        }
    }

    /// Up to `len` bytes from `offset`; fewer at the end of the file.
    pub(super) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let held = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut out = vec![0; len.min(held)];
        let mut done = 0;
        while done < out.len() {
            let (page, start) = split(offset + done as u64);
            let count = (out.len() - done).min(PAGE - start);
            if let Some(page) = self.pages.get(&page) {
                out[done..done + count].copy_from_slice(&page[start..start + count]);
            }
            done += count;
        }
        out
    }

    /// The first byte from `offset` on that may not be zero, or the length.
    pub(super) fn next_data(&self, offset: u64) -> u64 {
        let (first, _) = split(offset);
        let page = self.pages.range(first..).next().map(|(page, _)| page * PAGE as u64);
        page.map_or(self.len, |page| page.max(offset).min(self.len))
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }
}

impl PartialEq for SparseFile {
    fn eq(&self, other: &Self) -> bool {
        let zeros = Arc::new([0; PAGE]);
        let same = |page: &u64| {
            let ours = self.pages.get(page).unwrap_or(&zeros);
            ours == other.pages.get(page).unwrap_or(&zeros)
        };
        self.len == other.len && self.pages.keys().chain(other.pages.keys()).all(same)
    }
}

/// Page of a byte, and its place in the page.
const fn split(offset: u64) -> (u64, usize) {
    (offset / PAGE as u64, (offset % PAGE as u64) as usize)
}
