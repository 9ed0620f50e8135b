//! The bitfield file: what it tells, and whether it agrees with its own summaries.

use alloc::vec::Vec;

use bytes::Bytes;

use super::{Check, Stage, Step};
use crate::check::finding::Finding;
use crate::format::sleep;
use crate::storage::Op;
use crate::tree::{MAX_LENGTH, PAGE_SIZE};

/// Pages of the bitfield read at once, at most 917 KiB.
const PAGES: u64 = 256;

impl Check {
    pub(super) fn read_pages(&mut self, page: u64) -> Step {
        self.stage = Stage::Bitfield(page);
        Step::Read(Vec::from([self.pages(page)]))
    }

    fn pages(&self, page: u64) -> Op {
        let offset = sleep::bitfield_offset(page, self.page_size);
        self.ledger.read(sleep::BITFIELD, offset, PAGES as usize * self.page_size)
    }

    pub(super) fn bitfield(&mut self, page: u64, read: &[Bytes]) -> Step {
        let Some(read) = read.first() else { return self.done(Vec::new()) };
        for (page, bytes) in (page..).zip(read.chunks(self.page_size)) {
            self.ledger.file.load_page(page, bytes);
        }
        if read.len() == PAGES as usize * self.page_size {
            return self.read_pages(page + PAGES);
        }
        if self.page_size == PAGE_SIZE {
            self.stage = Stage::Summaries(0);
            return Step::Read(Vec::from([self.pages(0)]));
        }
        self.bits_known()
    }

    pub(super) fn summaries(&mut self, page: u64, read: &[Bytes]) -> Step {
        let Some(read) = read.first() else { return self.done(Vec::new()) };
        for (page, bytes) in (page..).zip(read.chunks(self.page_size)) {
            if !self.ledger.file.is_page(page, bytes) {
                self.bad_pages.push(page);
            }
        }
        if read.len() == PAGES as usize * self.page_size {
            self.stage = Stage::Summaries(page + PAGES);
            return Step::Read(Vec::from([self.pages(page + PAGES)]));
        }
        if !self.bad_pages.is_empty() {
            let pages = self.bad_pages.len() as u64;
            self.ledger.find(Finding::Summaries { pages });
        }
        self.bits_known()
    }

    fn bits_known(&mut self) -> Step {
        let length = self.ledger.file.length();
        if length > MAX_LENGTH {
            self.ledger.find(Finding::LengthImpossible);
        } else {
            self.ledger.report.recorded = length;
        }
        self.ledger.report.held = self.ledger.file.blocks();
        self.open()
    }
}
