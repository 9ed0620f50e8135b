//! What a node tells its host: storage batches, answers to commands, events.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use multifeed_proto::{Dialect, FeedKey, PeerError, UserData};

use super::Question;

use crate::feed::short;
use crate::storage::{Batch, StorageError};

/// Number of a feed in one node, in whichever multifeeds it is. Not kept across restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedId(pub u32);

/// Number of a multifeed in one node, in the order of [`Node::join`](crate::Node::join). Not kept across
/// restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MultifeedId(pub u32);

/// Number of a connection of one node; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u32);

/// Number of a command of one node; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// Something the host must do or tell, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Execute these operations and answer with [`Node::handle_storage`](crate::Node::handle_storage).
    Storage(Batch),
    /// The one answer to a command.
    Completed {
        /// The command.
        command: CommandId,
        /// What came of it.
        result: Result<Outcome, NodeError>,
    },
    /// News for the application.
    Event(Event),
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The store is open.
    Opened,
    /// The feeds of the multifeed are known.
    Joined(MultifeedId),
    /// The feed exists and its length is known.
    Feed(FeedId),
    /// The blocks `start .. start + length` are stored as durably as the node's configuration says.
    Appended {
        /// Index of the first.
        start: u64,
        /// How many.
        length: u64,
    },
    /// Blocks one after another; empty if the first one is not held.
    Blocks(Vec<Bytes>),
    /// Whether all blocks of the range are held.
    Has(bool),
    /// The block that was waited for.
    Block(Bytes),
    /// All blocks of the range are stored.
    Downloaded,
    /// The log is known to have this many blocks.
    Updated {
        /// Blocks in the log.
        length: u64,
    },
    /// The byte is in this block. For the first byte after the log it is the block after the last.
    Sought {
        /// Index of the block.
        block: u64,
        /// Bytes of the block before it.
        offset: u64,
    },
    /// The blocks are given up, as durably as the node's configuration says.
    Cleared,
    /// The feed is kept out, and its files are removed.
    Blocked,
    /// The feed is not kept out any more.
    Unblocked,
    /// All is written and closed.
    Closed,
}

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
        payload: Bytes,
    },
    /// Nothing has moved for [`NodeConfig::stall_timeout`](crate::NodeConfig), and the two are not in sync.
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

/// Whether the two ends of a connection have what they want of each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncState {
    /// They have.
    InSync,
    /// Not yet, or no longer.
    Waiting(WaitingFor),
    /// The connection is over, or does not carry the multifeed (any more).
    Closed,
}

/// What is missing until two peers are in sync. The first of possibly many things.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitingFor {
    /// The Noise handshake, or the multifeed handshake.
    Handshake,
    /// The application to answer an [`Event::Question`].
    Decision,
    /// The peer's first list of feeds.
    Manifest,
    /// The peer's answer to a list of feeds, or to a request for feeds.
    OfferAnswer,
    /// The peer to open a feed that both agreed on.
    Open(FeedKey),
    /// Our own disk, to open a feed or to store what came.
    Storage(FeedKey),
    /// The peer to say which blocks it has.
    Have(FeedKey),
    /// Blocks that the peer announced.
    Blocks {
        /// The feed.
        feed: FeedKey,
        /// How many of those that the peer has are not here yet.
        missing: u64,
    },
    /// Blocks that the peer announced, was asked for, and did not send.
    Refused {
        /// The feed.
        feed: FeedKey,
        /// How many.
        missing: u64,
    },
    /// Requests of the peer that are not answered yet.
    Requests(FeedKey),
    /// The peer to say that it stored what we sent.
    Acknowledgement {
        /// The feed.
        feed: FeedKey,
        /// How many blocks.
        blocks: u64,
    },
    /// The peer to ask for what it lacks, or to show that it does not want it.
    Confirmation(FeedKey),
}

impl fmt::Display for WaitingFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake => f.write_str("the peer's handshake"),
            Self::Decision => f.write_str("a decision here on which feeds to share with the peer"),
            Self::Manifest => f.write_str("the peer's list of feeds"),
            Self::OfferAnswer => f.write_str("the peer's answer to a list of feeds"),
            Self::Open(key) => write!(f, "the peer to open feed {}", short(key)),
            Self::Storage(key) => write!(f, "our own disk, for feed {}", short(key)),
            Self::Have(key) => {
                write!(f, "the peer to say which blocks of feed {} it has", short(key))
            }
            Self::Blocks { feed, missing } => {
                write!(f, "{missing} blocks of feed {} from the peer", short(feed))
            }
            Self::Refused { feed, missing } => write!(
                f,
                "{missing} blocks of feed {} that the peer announced but did not send",
                short(feed)
            ),
            Self::Requests(key) => {
                write!(f, "the peer to take the blocks of feed {} that it asked for", short(key))
            }
            Self::Acknowledgement { feed, blocks } => {
                write!(f, "the peer to store {blocks} blocks of feed {}", short(feed))
            }
            Self::Confirmation(key) => {
                write!(f, "the peer to ask for what it lacks of feed {}", short(key))
            }
        }
    }
}

/// What is known of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedInfo {
    /// Its number.
    pub id: FeedId,
    /// Its public key.
    pub key: FeedKey,
    /// Its name in the multifeed, or in the first of several: a writer's name, or a number for a feed of
    /// others.
    pub name: String,
    /// Whether the rest of this record is known: feeds are opened when first needed.
    pub loaded: bool,
    /// It is kept out of the store: [`Node::block`](crate::Node::block).
    pub blocked: bool,
    /// Whether blocks can be appended here.
    pub writable: bool,
    /// Blocks in the log, as far as it is proven.
    pub length: u64,
    /// Blocks of a local writer that are damaged or gone here, at its end or in between; peers may have
    /// them. Always 0 for feeds of others.
    pub lost: u64,
    /// Blocks held here.
    pub blocks: u64,
    /// Bytes of the log, as far as it is proven, held or not.
    pub bytes: u64,
}

/// Counts of one connection, from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Blocks received, verified and stored.
    pub blocks_received: u64,
    /// Bytes of these blocks.
    pub block_bytes_received: u64,
    /// Blocks sent.
    pub blocks_sent: u64,
    /// Bytes of these blocks.
    pub block_bytes_sent: u64,
    /// Bytes that came over the stream.
    pub wire_received: u64,
    /// Bytes that went over the stream.
    pub wire_sent: u64,
    /// Feeds that both sides agreed on.
    pub feeds: u64,
    /// Blocks that the peer announced and that are not here yet.
    pub missing: u64,
    /// Blocks that we have, and that the peer showed not to want.
    pub not_wanted: u64,
    /// Requests of ours that are not answered and verified yet, now.
    pub in_flight: u64,
    /// Requests of ours that may be so, now.
    pub window: u64,
    /// Requests of the peer that wait for their turn, now.
    pub parked: u64,
    /// Bytes of blocks from the peer that wait for another block before they can be verified, now.
    pub held_bytes: u64,
    /// Bytes that wait to be written to the stream, now.
    pub outbox_bytes: u64,
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The files of a feed contradict each other, and no earlier state can be proven.
    #[error("feed {feed} is damaged: {problem}")]
    Damaged {
        /// First digits of the feed key.
        feed: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A file of the store does not hold what it must.
    #[error("{file} is damaged: {problem}")]
    Store {
        /// The file.
        file: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// The feed is written by somebody else.
    #[error("feed {feed} cannot be written here: its secret key is not in this store")]
    NotWritable {
        /// First digits of the feed key.
        feed: String,
    },
    /// The feed is kept out of the store.
    #[error("feed {feed} is blocked: it was removed from this store to be kept out of it")]
    Blocked {
        /// First digits of the feed key.
        feed: String,
    },
    /// The feed is a local writer that lost the end of its log. Other blocks must not take the places of
    /// those that were signed once, so it is read-only until peers have sent them back.
    #[error(
        "feed {feed} cannot be written: the last {blocks} of the blocks that were written here are damaged, and others must not take their places"
    )]
    LostTail {
        /// First digits of the feed key.
        feed: String,
        /// How many blocks.
        blocks: u64,
    },
    /// The log would become longer than the JavaScript can count.
    #[error("feed {feed} is full: a log has less than 2^52 blocks and 2^53 bytes")]
    Full {
        /// First digits of the feed key.
        feed: String,
    },
    /// No feed has this number.
    #[error("no such feed")]
    UnknownFeed,
    /// No multifeed of the store has this number.
    #[error("no such multifeed: it has to be joined first")]
    UnknownMultifeed,
    /// No connection has this number, or it is over.
    #[error("no such connection")]
    UnknownConnection,
    /// No question has this number, or it is answered, or what it was about is over.
    #[error("no such question, or it is answered")]
    UnknownQuestion,
    /// The root key of a multifeed is the key of a feed on the same connection.
    #[error("the root key is the key of a feed on the connection")]
    RootKeyInUse,
    /// The connection speaks the dialect of multifeed 6 and carries a multifeed.
    #[error("in the dialect of multifeed 6 a connection carries one multifeed")]
    OneMultifeed,
    /// The block does not fit a message.
    #[error("a block of {len} bytes is too large, at most {max} fit the protocol")]
    BlockTooLarge {
        /// Its bytes.
        len: usize,
        /// Greatest number allowed.
        max: usize,
    },
    /// A writer's name that cannot be used.
    #[error("a writer's name has 1 to {max} bytes, got {got}")]
    Name {
        /// Bytes of the name.
        got: usize,
        /// Greatest number allowed.
        max: usize,
    },
    /// An extension's name that cannot be used.
    #[error("an extension's name has 1 to 256 bytes, and there are 256 at most; not {name:?}")]
    ExtensionName {
        /// The name, or the beginning of it.
        name: String,
    },
    /// No extension of this name was registered.
    #[error("no extension of this name is registered here")]
    UnknownExtension,
    /// The directory has another layout, or its layout does not allow it.
    #[error("{problem}")]
    Layout {
        /// What does not fit.
        problem: &'static str,
    },
    /// A writer cannot be made, because its name or its key pair is taken.
    #[error("the writer cannot be made: {problem}")]
    WriterExists {
        /// By what.
        problem: &'static str,
    },
    /// [`NodeConfig::max_feeds`](crate::NodeConfig) is reached.
    #[error("the store holds {max} feeds, which is the most it may")]
    TooManyFeeds {
        /// Greatest number allowed.
        max: usize,
    },
    /// The store is not open, or is closing.
    #[error("the store is closed")]
    Closed,
    /// No peer has what was asked for only if one has it.
    #[error("no peer has what was asked of feed {feed}")]
    NotAvailable {
        /// First digits of the feed key.
        feed: String,
    },
    /// The command was taken back.
    #[error("cancelled")]
    Cancelled,
}

impl NodeError {
    /// A stable name for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        use crate::storage::StorageErrorKind as Kind;
        match self {
            Self::Storage(error) => match &error.kind {
                Kind::Full => "ERR_DISK_FULL",
                Kind::Denied => "ERR_DENIED",
                Kind::InUse { .. } => "ERR_IN_USE",
                Kind::TooManyFiles => "ERR_TOO_MANY_FILES",
                Kind::Skipped | Kind::Io(_) => "ERR_STORAGE",
            },
            Self::Damaged { .. } => "ERR_FEED_DAMAGED",
            Self::Store { .. } => "ERR_STORE_DAMAGED",
            Self::NotWritable { .. } => "ERR_NOT_WRITABLE",
            Self::Blocked { .. } => "ERR_FEED_BLOCKED",
            Self::LostTail { .. } => "ERR_BLOCKS_LOST",
            Self::Full { .. } => "ERR_FEED_FULL",
            Self::UnknownFeed => "ERR_UNKNOWN_FEED",
            Self::UnknownMultifeed => "ERR_UNKNOWN_MULTIFEED",
            Self::UnknownConnection => "ERR_UNKNOWN_CONNECTION",
            Self::UnknownQuestion => "ERR_UNKNOWN_QUESTION",
            Self::RootKeyInUse => "ERR_KEY_IN_USE",
            Self::OneMultifeed => "ERR_ONE_MULTIFEED",
            Self::BlockTooLarge { .. } => "ERR_BLOCK_TOO_LARGE",
            Self::Name { .. } => "ERR_NAME",
            Self::ExtensionName { .. } | Self::UnknownExtension => "ERR_EXTENSION",
            Self::Layout { .. } => "ERR_LAYOUT",
            Self::WriterExists { .. } => "ERR_WRITER_EXISTS",
            Self::TooManyFeeds { .. } => "ERR_TOO_MANY_FEEDS",
            Self::Closed => "ERR_CLOSED",
            Self::NotAvailable { .. } => "ERR_NOT_AVAILABLE",
            Self::Cancelled => "ERR_CANCELLED",
        }
    }
}
