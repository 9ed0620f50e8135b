//! Why a handle could not do what it was asked for.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use multifeed_core::NodeError;
use multifeed_proto::PeerError;

/// Why a command failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store could not do it.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// [`Options::root_key`](crate::Options::root_key) was not called.
    #[error("a store is opened with its root key, and none was given")]
    NoRootKey,
    /// The folder of the store cannot be used.
    #[error("cannot use the folder {}: {source}", path.display())]
    Directory {
        /// The folder.
        path: PathBuf,
        /// The operating system's reason.
        source: Arc<io::Error>,
    },
    /// The operating system gave no random bytes.
    #[error("no randomness from the operating system: {0}")]
    Entropy(String),
    /// A block did not come in time.
    #[error("block {index} of feed {feed} did not come within {waited:?}")]
    Timeout {
        /// First digits of the feed key.
        feed: String,
        /// Index of the block.
        index: u64,
        /// How long it was waited for.
        waited: Duration,
    },
}

impl Error {
    /// A stable name for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Node(error) => error.code(),
            Self::NoRootKey => "ERR_NO_KEY",
            Self::Directory { .. } => "ERR_DIRECTORY",
            Self::Entropy(_) => "ERR_ENTROPY",
            Self::Timeout { .. } => "ERR_TIMEOUT",
        }
    }
}

/// Why a connection to a peer ended otherwise than in order.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicationError {
    /// The peer did what it may not, or fell silent.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The byte stream failed.
    #[error("the connection failed: {0}")]
    Stream(#[source] Arc<io::Error>),
    /// Ended by [`ReplicationHandle::abort`](crate::ReplicationHandle::abort).
    #[error("the connection was given up")]
    Aborted,
    /// The store is closed.
    #[error("the store is closed")]
    StoreClosed,
}

impl ReplicationError {
    /// A stable name for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Peer(error) => error.code(),
            Self::Stream(_) => "ERR_STREAM",
            Self::Aborted => "ERR_ABORTED",
            Self::StoreClosed => "ERR_CLOSED",
        }
    }
}
