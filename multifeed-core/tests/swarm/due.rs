//! What can be planned for a moment.

use multifeed_core::storage::BatchId;
use multifeed_core::{ConnectionId, FeedId, QuestionId};

/// Something that is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    Timer {
        host: usize,
        life: u32,
    },
    Stored {
        host: usize,
        life: u32,
        batch: BatchId,
    },
    Arrive {
        wire: usize,
        from: usize,
    },
    Read {
        wire: usize,
        from: usize,
    },
    /// The stream of one end fails.
    Break {
        wire: usize,
        end: usize,
    },
    Connect {
        edge: usize,
    },
    Append {
        writer: usize,
    },
    /// A writer is to be opened, if it is not.
    Writer {
        writer: usize,
    },
    Start {
        host: usize,
    },
    Heal {
        host: usize,
    },
    /// An application wants something.
    Whim,
    /// Blocks are to be asked for.
    Wish {
        host: usize,
        life: u32,
        writer: usize,
        start: u64,
        end: u64,
    },
    /// Blocks are to be given up.
    Clear {
        host: usize,
        life: u32,
        writer: usize,
        start: u64,
        end: u64,
    },
    /// A question is to be answered.
    Answer {
        host: usize,
        life: u32,
        question: QuestionId,
    },
    /// A feed is to be allowed on a connection.
    Allow {
        host: usize,
        life: u32,
        connection: ConnectionId,
        writer: usize,
    },
    /// An application comes to know a writer's key.
    Learn {
        host: usize,
        writer: usize,
    },
    /// A feed is to be opened again, to see what is in it.
    Load {
        host: usize,
        life: u32,
        feed: FeedId,
    },
    Chaos,
}
