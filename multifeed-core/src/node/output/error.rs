//! Why a command failed.

use alloc::string::String;

use crate::storage::StorageError;

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
    /// The store was opened for reading only.
    #[error(
        "the store is open for reading only: nothing is written to it, and nothing fetched from peers"
    )]
    ReadOnly,
    /// There is no store in the folder, and none is to be made.
    #[error("there is no store in it")]
    NoStore,
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
        match self {
            Self::Storage(error) => error.kind.code(),
            Self::Damaged { .. } => "ERR_FEED_DAMAGED",
            Self::Store { .. } => "ERR_STORE_DAMAGED",
            Self::ReadOnly => "ERR_READ_ONLY",
            Self::NoStore => "ERR_NO_STORE",
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
