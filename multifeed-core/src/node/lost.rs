//! Blocks that were here and are not any more, and feeds that cannot be used at all.
//!
//! Where a data file was cut, the places of the blocks stay proven: peers can send them back, and a writer
//! can go on behind them. A feed whose files contradict each other is closed on all connections, so
//! that nobody waits for it.

use alloc::vec::Vec;

use multifeed_proto::DiscoveryKey;
use multifeed_proto::messages::Span;
use multifeed_proto::session::FeedOptions;

use super::{ConnectionId, Entry, EntryState, FeedId, Node, NodeError};

impl Node {
    /// Takes blocks out of a feed: peers are told, and asked for them.
    pub(super) fn blocks_lost(&mut self, id: FeedId, blocks: &[u64]) {
        let Some(feed) = self.feeds[id.0 as usize].feed_mut() else { return };
        if blocks.is_empty() {
            return;
        }
        let gone: Vec<u64> =
            blocks.iter().copied().filter(|block| !feed.unstored.contains(*block)).collect();
        for &block in &gone {
            feed.bits.set_block(block, false);
        }
        let entry = &mut self.feeds[id.0 as usize];
        for &block in &gone {
            entry.ailments.lost.insert(block..block + 1);
            entry.wishes.lost.insert(block..block + 1);
        }
        for (connection, channel) in self.feeds[id.0 as usize].channels.clone() {
            let Some(link) = self.links.get_mut(&connection) else { continue };
            if link.connection.peer(channel).is_some_and(|peer| peer.remote_wants()) {
                for run in blocks.chunk_by(|block, next| block + 1 == *next) {
                    let span = Span { start: run[0], length: run.len() as u64 };
                    let _ = link.connection.unhave(channel, span);
                }
            }
            self.touch_channel(connection, channel);
        }
        self.rewind_others(id);
        self.mark_dirty(id);
        self.health_changed(id);
    }

    /// Closes a damaged feed on all connections. The next connection tries it again.
    pub(super) fn close_channels(&mut self, id: FeedId) {
        for (connection, channel) in self.feeds[id.0 as usize].channels.clone() {
            if let Some(link) = self.links.get_mut(&connection) {
                let _ = link.connection.close_feed(channel);
            }
            self.channel_closed(connection, channel);
        }
    }

    /// The peer opened a feed that is not open here: if it is one that was closed because it is
    /// damaged, the peer must not wait for it.
    pub(super) fn remote_opened(&mut self, id: ConnectionId, key: &DiscoveryKey) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let faulty = &link.faulty;
        let feed = link.closed.get(key).map(|feed| (feed, &self.feeds[feed.0 as usize]));
        let given_up = |(feed, entry): &(&FeedId, &Entry)| {
            faulty.contains(*feed)
                || matches!(
                    entry.state,
                    EntryState::Failed(NodeError::Damaged { .. } | NodeError::Blocked { .. })
                )
        };
        let Some(key) = feed.filter(given_up).map(|(_, entry)| entry.key) else { return };
        // A Close that the peer can relate to needs an Open before it.
        if let Ok(channel) = link.connection.open_feed(&key, FeedOptions::default()) {
            let _ = link.connection.close_feed(channel);
        }
    }
}
