//! What was ever seen at each place of each log: one block, and no other.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use multifeed_proto::FeedKey;

/// The blocks of all logs, as far as somebody was told of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    seen: BTreeMap<(FeedKey, u64), Vec<Bytes>>,
    /// Logs whose owner signs two versions.
    forked: BTreeSet<FeedKey>,
    /// Writers may have lost what they had without a trace.
    may_fork: bool,
}

impl Truth {
    /// Somebody read this block.
    ///
    /// # Panics
    ///
    /// If others were seen there before: a block that is not true, or a log that forked.
    pub(super) fn see(&mut self, key: &FeedKey, index: u64, block: &Bytes) {
        if self.forked.contains(key) {
            return;
        }
        let known = self.seen.entry((*key, index)).or_default();
        if known.is_empty() {
            known.push(block.clone());
        }
        assert!(known.contains(block), "block {index} of {key:?} is {block:?}, and was {known:?}");
    }

    /// The owner of a log was told that this block is in it.
    ///
    /// # Panics
    ///
    /// If another one was before.
    pub(super) fn append(&mut self, key: &FeedKey, index: u64, block: &Bytes) {
        if self.may_fork {
            let known = self.seen.entry((*key, index)).or_default();
            if !known.contains(block) {
                known.push(block.clone());
            }
        }
        self.see(key, index, block);
    }

    /// The owner of this log has two versions of it: what is held of it need not agree.
    pub(super) fn fork(&mut self, key: &FeedKey) {
        self.forked.insert(*key);
    }

    /// Writers may have lost what they had without a trace, and sign other blocks in its place.
    pub(super) fn allow_forks(&mut self) {
        self.may_fork = true;
    }

    /// Whether that is so.
    pub(super) fn may_fork(&self) -> bool {
        self.may_fork
    }
}
