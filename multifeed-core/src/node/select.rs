//! Which blocks of a feed this node wants.

use crate::feed::Feed;
use crate::ranges::Ranges;

/// Which blocks of a feed are to be downloaded.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// Blocks that were cleared: only fetched again if somebody asks for them.
    pub(super) cleared: Ranges,
}

impl Wishes {
    /// The first block from `at` on that is wanted, held or not.
    ///
    /// A writer wants no block of its own log back by itself: what it lacks there was cleared. It wants
    /// what is beyond, which only a lost tail can be. As in hypercore 9, where writers do not download.
    pub(super) fn next(&self, feed: &Feed, at: u64) -> Option<u64> {
        let own = if feed.writable() { feed.length() } else { 0 };
        let automatic = self.cleared.next_gap(at.max(own));
        Some(automatic)
    }
}
