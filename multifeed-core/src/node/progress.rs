//! How far each feed is with each peer.

use multifeed_proto::ChannelId;

use super::missing::{lacking, missing};
use super::{ConnectionId, Event, FeedId, Node, WaitingFor};

/// How far a feed is with one peer. Counts of blocks are of this moment, those of what moved since the
/// two agreed on the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// The connection.
    pub connection: ConnectionId,
    /// The peer's static Noise public key.
    pub remote_public_key: [u8; 32],
    /// Blocks in the log, as far as the peer says that it reaches; nothing proves it.
    pub remote_length: u64,
    /// Blocks that the peer says it has.
    pub remote_blocks: u64,
    /// Blocks that the peer has, that are wanted and not stored here. An estimate from below where they
    /// lie in very many pieces, as are the next ones.
    pub missing: u64,
    /// Blocks that are stored here, and that the peer neither announced nor acknowledged.
    pub lacking: u64,
    /// Blocks asked of the peer and not answered yet.
    pub in_flight: u64,
    /// Blocks received, verified and stored.
    pub blocks_received: u64,
    /// Bytes of blocks received, verified or not yet.
    pub block_bytes_received: u64,
    /// Blocks sent.
    pub blocks_sent: u64,
    /// Bytes of these blocks.
    pub block_bytes_sent: u64,
    /// What the two wait for; `None`: they are in sync.
    pub waiting: Option<WaitingFor>,
}

impl Node {
    /// Who replicates a feed, and how far each is.
    pub fn peers(&self, feed: FeedId) -> impl Iterator<Item = PeerInfo> + '_ {
        let channels = self.entry(feed).map(|entry| &entry.channels[..]).unwrap_or_default();
        channels.iter().filter_map(|(connection, channel)| self.peer_info(*connection, *channel))
    }

    fn peer_info(&self, connection: ConnectionId, channel: ChannelId) -> Option<PeerInfo> {
        let link = self.links.get(&connection)?;
        let state = link.channels.get(&channel)?;
        let wishes = &self.feeds[state.feed.0 as usize].wishes;
        let peer = link.connection.peer(channel)?;
        let open = self.parts(link, channel);
        let moved = state.moved;
        Some(PeerInfo {
            connection,
            remote_public_key: link.remote_public_key?,
            remote_length: peer.remote_length(),
            remote_blocks: peer.remote().count(),
            missing: open
                .map_or(0, |(feed, state, peer)| missing(feed, wishes, state, peer, &mut 0).0),
            lacking: open.map_or(0, |(feed, _, peer)| lacking(feed, peer)),
            in_flight: state.flights.len() as u64,
            blocks_received: moved.blocks_received,
            block_bytes_received: moved.block_bytes_received,
            blocks_sent: moved.blocks_sent,
            block_bytes_sent: moved.block_bytes_sent,
            waiting: self.waits_on(link, channel, true, &mut 0),
        })
    }

    /// Tells whether a feed is in sync with a peer, if that changed.
    pub(super) fn tell_feed(&mut self, id: ConnectionId, channel: ChannelId, in_sync: bool) {
        let Some(state) = self.channel_mut(id, channel) else { return };
        if core::mem::replace(&mut state.in_sync, in_sync) == in_sync {
            return;
        }
        let feed = state.feed;
        self.event(if in_sync {
            Event::FeedInSync { connection: id, feed }
        } else {
            Event::FeedOutOfSync { connection: id, feed }
        });
    }
}
