//! What a node tells its host: storage batches, answers to commands, events.
//!
//! | file | what is in it |
//! |---|---|
//! | `event` | news for the application |
//! | `error` | why a command failed |
//! | `info` | what can be asked at any time: of feeds, counts, whether two peers are in sync |

mod error;
mod event;
mod info;

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

pub use error::NodeError;
pub use event::Event;
pub use info::{Counters, FeedInfo, Health, SyncState, WaitingFor};

use crate::storage::Batch;

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

/// What came of a command. `Debug` does not show blocks.
#[derive(Clone, PartialEq, Eq)]
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
    /// The folders were looked at: [`Node::survey`](crate::Node::survey).
    Surveyed,
    /// All is written and closed.
    Closed,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Joined(multifeed) => return f.debug_tuple("Joined").field(multifeed).finish(),
            Self::Feed(feed) => return f.debug_tuple("Feed").field(feed).finish(),
            Self::Appended { start, length } => return write!(f, "Appended({start}, {length})"),
            Self::Blocks(blocks) => return write!(f, "Blocks({} of them)", blocks.len()),
            Self::Block(block) => return write!(f, "Block({} bytes)", block.len()),
            Self::Has(has) => return write!(f, "Has({has})"),
            Self::Updated { length } => return write!(f, "Updated({length})"),
            Self::Sought { block, offset } => return write!(f, "Sought({block}, {offset})"),
            Self::Opened => "Opened",
            Self::Downloaded => "Downloaded",
            Self::Cleared => "Cleared",
            Self::Blocked => "Blocked",
            Self::Unblocked => "Unblocked",
            Self::Surveyed => "Surveyed",
            Self::Closed => "Closed",
        };
        f.write_str(name)
    }
}
