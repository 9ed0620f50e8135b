//! Memory that peers fill, counted for each connection and for all.
//!
//! | structure, per connection | its own bound | above it |
//! |---|---|---|
//! | what the protocol keeps: see [`Memory`](multifeed_proto::Memory) | in [`Config`](multifeed_proto::Config) | the connection ends |
//! | channels of feeds, up to 16 `Want`s of the peer in each | feeds that both agreed on | |
//! | requests of the peer that wait | [`NodeConfig::max_parked_requests`] | it is not read for a while |
//! | blocks that wait for another one | [`NodeConfig::max_held_bytes`] | the connection ends |
//! | ranges of blocks sent and not acknowledged, refused, taken back | one for each of them | |
//! | feeds that the peer closed | feeds that both agreed on | |
//! | keys to be offered, keys asked about | feeds in the store, [`Config::max_offered_feeds`](multifeed_proto::Config) | the connection ends |
//! | feeds of which nobody gave anything | [`NodeConfig::max_unseen_per_peer`], [`NodeConfig::max_unseen_feeds`] | not taken in, and told |
//! | feeds of which it gave something | [`NodeConfig::max_feeds_per_peer`], half of the room at most | not taken in, and told |
//!
//! All of it together is bounded twice: for one peer by [`NodeConfig::max_peer_bytes`], which ends the connection, and
//! for all by [`NodeConfig::max_peers_bytes`], which ends the one that holds most. Strangers, who have proven no root
//! key, have a sum of their own ([`NodeConfig::max_strangers_bytes`]), so that they cannot displace those who have.
//! What is verified and not yet stored is one sum for all, [`NodeConfig::max_unstored_bytes`], with back-pressure.

use multifeed_proto::messages::{Request, Span};
use multifeed_proto::{ChannelId, DiscoveryKey, FeedKey, PeerError};

#[cfg(doc)]
use super::NodeConfig;
use super::link::{Channel, Link};
use super::{ConnectionId, FeedId, Node};

/// Bytes of an entry in a table beside its key and value.
const ENTRY: usize = 32;
/// A channel with its `Want`s and its places in queues.
const CHANNEL: usize = size_of::<(ChannelId, Channel)>() + 16 * size_of::<Span>() + 8 * ENTRY;
/// A range of blocks.
const RANGE: usize = 2 * size_of::<u64>() + ENTRY;
/// A feed with nothing in it: its entry and, once it is open, its log.
const UNSEEN: usize = 4096;

/// What is counted of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    pub(super) bytes: usize,
    /// Whether these are in the sum of strangers.
    stranger: bool,
    /// Ranges of blocks on all its channels.
    pub(super) ranges: usize,
}

/// What all connections hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    members: usize,
    strangers: usize,
}

impl Sums {
    fn of(&mut self, stranger: bool) -> &mut usize {
        if stranger { &mut self.strangers } else { &mut self.members }
    }
}

impl Link {
    /// Bytes that are kept for the peer.
    fn bytes(&self) -> usize {
        let keys: usize = self.roots.iter().map(|root| root.to_offer.len()).sum();
        let asked: usize = self.questions.values().map(|question| question.keys.len()).sum();
        [
            self.connection.memory().total(),
            self.channels.len() * CHANNEL,
            self.parked * size_of::<Request>(),
            self.held_bytes,
            self.counted.ranges * RANGE,
            (self.closed.len() + self.faulty.len()) * (size_of::<(DiscoveryKey, FeedId)>() + ENTRY),
            keys * size_of::<FeedKey>(),
            // The question is in an event, too.
            asked * 2 * (size_of::<FeedKey>() + ENTRY),
            self.unseen.len() * UNSEEN,
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }
}

impl Channel {
    fn ranges(&self) -> usize {
        self.unacked.ranges()
            + self.refused.ranges()
            + self.orphaned.ranges()
            + self.taken_back.ranges()
            + self.wrong.ranges()
    }
}

impl Node {
    /// Bytes that are kept for the peer of a connection, by an upper bound of their sizes; 0 if it is unknown.
    #[must_use]
    pub fn peer_bytes(&self, connection: ConnectionId) -> usize {
        self.links.get(&connection).map_or(0, Link::bytes)
    }

    /// Counts the ranges of a channel anew; of one that is closed, none.
    pub(super) fn count_ranges(&mut self, id: ConnectionId, channel: ChannelId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(state) = link.channels.get_mut(&channel) else { return };
        let ranges = state.ranges();
        let before = core::mem::replace(&mut state.counted_ranges, ranges);
        link.counted.ranges = link.counted.ranges - before + ranges;
    }

    /// Counts what a connection holds, and ends connections that hold too much.
    pub(super) fn count_bytes(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let before = link.counted;
        let bytes = link.bytes();
        let stranger = !link.connection.is_proven();
        link.counted = Counted { bytes, stranger, ..before };
        *self.held.of(before.stranger) -= before.bytes;
        *self.held.of(stranger) += bytes;
        let max = self.config.max_peer_bytes;
        if bytes > max {
            return self.end_over(id, bytes, max);
        }
        let max =
            if stranger { self.config.max_strangers_bytes } else { self.config.max_peers_bytes };
        if *self.held.of(stranger) > max {
            let all = self.links.iter().filter(|(_, link)| link.counted.stranger == stranger);
            let most = all.max_by_key(|(_, link)| link.counted.bytes);
            if let Some((most, bytes)) = most.map(|(id, link)| (*id, link.counted.bytes)) {
                self.end_over(most, bytes, max);
            }
        }
    }

    /// A connection is over.
    pub(super) fn uncount_bytes(&mut self, link: &Link) {
        *self.held.of(link.counted.stranger) -= link.counted.bytes;
    }

    fn end_over(&mut self, id: ConnectionId, bytes: usize, max: usize) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.connection.close(Some(PeerError::Memory { bytes, max }));
        self.touched.insert(id);
        self.announce(id);
    }
}
