//! News for the application.

use alloc::string::String;
use alloc::vec::Vec;

use multifeed_proto::{Contents, Dialect, FeedKey, PeerError, UserData};

use super::{ConnectionId, Counters, FeedId, Health, MultifeedId, NodeError, WaitingFor};
use crate::node::Question;

/// News for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A feed joined a multifeed: a local writer, or one that a peer offered.
    FeedAdded {
        /// The multifeed.
        multifeed: MultifeedId,
        /// The feed.
        feed: FeedId,
    },
    /// A feed that a peer had offered is not in a multifeed any more: nobody ever gave a block of it, or it
    /// turned out to be this node's own of another one. Its number is not used again.
    FeedForgotten {
        /// The multifeed.
        multifeed: MultifeedId,
        /// The feed.
        feed: FeedId,
        /// Its key.
        key: FeedKey,
    },
    /// Feeds that a peer offers were not taken in: it has offered its share, or there is no room; see
    /// [`NodeConfig::max_feeds_per_peer`](crate::NodeConfig) and the limits beside it. They may be taken in on
    /// another connection.
    FeedsRefused {
        /// The connection.
        connection: ConnectionId,
        /// The multifeed.
        multifeed: MultifeedId,
        /// How many.
        feeds: usize,
    },
    /// Blocks of a local writer are stored.
    Appended {
        /// The feed.
        feed: FeedId,
        /// Index of the first.
        start: u64,
        /// How many.
        length: u64,
    },
    /// Blocks from peers are verified and stored.
    Downloaded {
        /// The feed.
        feed: FeedId,
        /// Index of the first.
        start: u64,
        /// How many.
        length: u64,
    },
    /// Blocks were sent to a peer; whether it stored them, it has not said yet. Only where
    /// [`NodeConfig::upload_events`](crate::NodeConfig::upload_events) says so.
    Uploaded {
        /// The connection.
        connection: ConnectionId,
        /// The feed.
        feed: FeedId,
        /// Index of the first.
        start: u64,
        /// How many.
        length: u64,
    },
    /// Blocks were given up by [`Node::clear`](crate::Node::clear).
    Cleared {
        /// The feed.
        feed: FeedId,
        /// Index of the first.
        start: u64,
        /// How many.
        length: u64,
    },
    /// A feed is kept out of the store from here on; see [`Node::block`](crate::Node::block).
    FeedBlocked {
        /// Its key.
        key: FeedKey,
    },
    /// A feed cannot be used; the others go on.
    FeedFailed {
        /// The feed.
        feed: FeedId,
        /// Why.
        error: NodeError,
    },
    /// What is known to be wrong with a feed changed. Nothing else ends by it.
    FeedHealth {
        /// The feed.
        feed: FeedId,
        /// What is known now.
        health: Health,
        /// Where it was found out, if by what a peer sent. The feed is not exchanged there any more, but for
        /// blocks that are fetched again.
        connection: Option<ConnectionId>,
    },
    /// The list of a multifeed's feeds could not be written. Feeds that joined are written to it
    /// again later.
    StorageFailed {
        /// The multifeed.
        multifeed: MultifeedId,
        /// Why.
        error: NodeError,
    },
    /// The Noise handshake of a connection is over.
    Connected {
        /// The connection.
        connection: ConnectionId,
        /// The peer's static Noise public key.
        remote_public_key: [u8; 32],
    },
    /// The handshake of a multifeed on a connection is over: the peer knows the root key.
    Ready {
        /// The connection.
        connection: ConnectionId,
        /// The multifeed.
        multifeed: MultifeedId,
        /// What the peer speaks: [`Dialect::Stream`] or [`Dialect::RootChannel`].
        dialect: Dialect,
        /// What the peer's application said, if anything; what is longer than [`UserData::MAX`] is left out.
        user_data: Option<UserData>,
    },
    /// Where [`Policy::Ask`](crate::Policy::Ask) is in force: which of these feeds are to be shared with the
    /// peer? To be answered with [`Node::answer`](crate::Node::answer), in any time. Until then the peer
    /// waits, and learns nothing of them.
    Question(Question),
    /// Both sides agreed to replicate these feeds.
    RemoteFeeds {
        /// The connection.
        connection: ConnectionId,
        /// The multifeed.
        multifeed: MultifeedId,
        /// The feeds, sorted.
        keys: Vec<FeedKey>,
    },
    /// A multifeed ended on a connection, by the fault of the peer: most often the peer does not have
    /// it. The others go on, and this one begins again should the peer open it later.
    MultifeedFailed {
        /// The connection.
        connection: ConnectionId,
        /// The multifeed.
        multifeed: MultifeedId,
        /// What the peer did wrong.
        error: PeerError,
    },
    /// Both sides have what the other wants of one multifeed, as far as they have told.
    MultifeedInSync {
        /// The connection.
        connection: ConnectionId,
        /// The multifeed.
        multifeed: MultifeedId,
    },
    /// There is something to exchange again in one multifeed.
    MultifeedOutOfSync {
        /// The connection.
        connection: ConnectionId,
        /// The multifeed.
        multifeed: MultifeedId,
    },
    /// A peer replicates a feed from here on: both sides have it open on a connection.
    PeerOpened {
        /// The connection.
        connection: ConnectionId,
        /// The feed.
        feed: FeedId,
    },
    /// A peer does not replicate a feed any more: one side closed it, or the connection is over.
    PeerClosed {
        /// The connection.
        connection: ConnectionId,
        /// The feed.
        feed: FeedId,
    },
    /// Both sides have what the other wants of one feed, as far as they have told.
    FeedInSync {
        /// The connection.
        connection: ConnectionId,
        /// The feed.
        feed: FeedId,
    },
    /// There is something to exchange again in one feed. What, says
    /// [`Node::peers`](crate::Node::peers).
    FeedOutOfSync {
        /// The connection.
        connection: ConnectionId,
        /// The feed.
        feed: FeedId,
    },
    /// Both sides have what the other wants of all multifeeds of the connection, as far as they have
    /// told. Those that ended do not count.
    InSync {
        /// The connection.
        connection: ConnectionId,
    },
    /// There is something to exchange again.
    OutOfSync {
        /// The connection.
        connection: ConnectionId,
    },
    /// A message of an extension that was registered by
    /// [`Node::register_extension`](crate::Node::register_extension) or, without a feed, by
    /// [`Node::register_stream_extension`](crate::Node::register_stream_extension). Nothing in it is checked.
    Extension {
        /// Where it came from.
        connection: ConnectionId,
        /// The feed; `None`: it came on the stream itself.
        feed: Option<FeedId>,
        /// Name of the extension.
        name: String,
        /// The message.
        payload: Contents,
    },
    /// Nothing has moved for [`Patience::stall_timeout`](crate::Patience), and the two are not in sync.
    Stalled {
        /// The connection.
        connection: ConnectionId,
        /// What is missing.
        waiting: WaitingFor,
    },
    /// The connection is over. The last event about it.
    Closed {
        /// The connection.
        connection: ConnectionId,
        /// `None`: it was ended in order.
        error: Option<PeerError>,
        /// Its counts at the end; the node has forgotten them.
        counters: Counters,
        /// What was queued for the peer before the end and not told as
        /// [transmitted](crate::Node::transmitted). Written before the stream is closed, it lets the
        /// peer find the reason by itself.
        unsent: Vec<u8>,
    },
}
