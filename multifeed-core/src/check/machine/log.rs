//! How long the log may be, and which of these lengths its signature proves.

use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::FeedKey;

use super::{Check, Mode, Stage, Step};
use crate::check::finding::Finding;
use crate::check::roots::{self, Log};
use crate::crypto::Verifier;
use crate::feed::BITFIELD_MAX;
use crate::format::sleep;
use crate::tree::{BLOCKS_PER_PAGE, Bitfield, MAX_LENGTH, NodeIndex, PAGE_SIZE};

impl Check {
    /// Which lengths may be the log's: what the bitfield tells, and in a feed by others what was
    /// signed last, if the bitfield is lost or knows of something beyond its own length.
    pub(super) fn last_signed(&mut self, start: u64, read: &[Bytes]) -> Step {
        let recorded = self.ledger.report.recorded;
        let entries = read.first().map(|read| read.chunks(sleep::SIGNATURE_BYTES));
        let last = entries.into_iter().flatten().zip(start + 1..);
        let last = last.filter(|(entry, _)| sleep::read_signature(entry).is_some()).last();
        let mut lengths = Vec::new();
        if recorded > 0 {
            lengths.push(recorded);
        }
        let by_others = self.secret.is_none() && self.other_key.is_none();
        if let Some((_, length)) = last.filter(|(_, length)| by_others && *length > recorded) {
            if recorded == 0 || self.holds_beyond(recorded) {
                lengths.push(length);
            }
        }
        self.next_roots(lengths)
    }

    pub(super) fn holds_beyond(&self, length: u64) -> bool {
        let told = &self.ledger.told;
        told.first_block(length..MAX_LENGTH).is_some()
            || told.first_node(2 * length..2 * MAX_LENGTH).is_some()
    }

    fn next_roots(&mut self, mut lengths: Vec<u64>) -> Step {
        let Some(length) = lengths.pop() else { return self.open(None) };
        let (search, ops) = roots::Search::new(&self.ledger, length);
        self.stage = Stage::Roots(lengths, search);
        Step::Read(ops)
    }

    pub(super) fn roots(
        &mut self,
        lengths: Vec<u64>,
        search: roots::Search,
        read: &[Bytes],
    ) -> Step {
        let keys = self.ledger.report.key.into_iter().chain(self.other_key);
        let verifiers: Vec<(FeedKey, Option<Verifier>)> =
            keys.map(|key| (key, Verifier::new(&key))).collect();
        match search.answered(&self.ledger, &verifiers, read) {
            roots::Found::Read(search, op) => {
                self.stage = Stage::Roots(lengths, search);
                Step::Read(Vec::from([op]))
            }
            roots::Found::Nothing(stored) => {
                // The last one tried is what the bitfield tells.
                self.stored = stored;
                self.next_roots(lengths)
            }
            roots::Found::Log { log, key, stored } => {
                self.settle_key(key);
                let rebuilt = log.roots != stored;
                let recorded = self.ledger.report.recorded;
                if recorded == 0 {
                    return self.rebuild(log);
                }
                for root in &log.roots {
                    let stored = stored.iter().find(|node| node.index == root.index);
                    self.ledger.proven(root, stored);
                }
                // What a writer signed beyond that is found as in opening it, if that finds the same.
                if self.secret.is_some() && !rebuilt && self.fixes.key.is_none() {
                    return self.open(Some(log));
                }
                self.start_walk(log, Mode::Check)
            }
        }
    }

    /// The signature told which of the two files with a key is the damaged one.
    fn settle_key(&mut self, key: FeedKey) {
        if self.other_key == Some(key) {
            self.ledger.find(Finding::KeyOther { known: true });
            self.fixes.key = Some(key);
            self.ledger.set_key(key);
            self.other_key = None;
        }
    }

    /// Marks everything, so that the walk looks everywhere, and keeps what is intact.
    fn rebuild(&mut self, log: Log) -> Step {
        if log.length / BLOCKS_PER_PAGE * PAGE_SIZE as u64 > BITFIELD_MAX as u64 {
            return self.next_roots(Vec::new());
        }
        let mut all = Bitfield::with_page_size(self.page_size);
        for block in 0..log.length {
            all.set_block(block, true);
        }
        for node in (0..2 * log.length).map(NodeIndex) {
            if node.blocks().end <= log.length {
                all.set_node(node);
            }
        }
        self.ledger.bits = all.clone();
        self.ledger.told = all;
        self.ledger.quiet = true;
        self.start_walk(log, Mode::Rebuild)
    }
}
