//! Blocks that were here and are not any more: a file was cut, or replaced by an older copy.
//!
//! Their places in the tree stay proven, so peers can send them back, and a writer can go on behind them.

use multifeed_proto::messages::Span;

use super::{FeedId, Node};

impl Node {
    /// Takes blocks out of a feed: peers are told, and asked for them.
    pub(super) fn blocks_lost(&mut self, id: FeedId, blocks: &[u64]) {
        let Some(feed) = self.feeds[id.0 as usize].feed_mut() else { return };
        for &block in blocks.iter().filter(|block| !feed.unstored.contains(**block)) {
            feed.bits.set_block(block, false);
        }
        for (connection, channel) in self.feeds[id.0 as usize].channels.clone() {
            let Some(link) = self.links.get_mut(&connection) else { continue };
            if link.connection.peer(channel).is_some_and(|peer| peer.remote_wants()) {
                for &block in blocks {
                    let span = Span { start: block, length: 1 };
                    let _ = link.connection.unhave(channel, span);
                }
            }
            self.touch_channel(connection, channel);
        }
        self.rewind_others(id);
        self.mark_dirty(id);
    }
}
