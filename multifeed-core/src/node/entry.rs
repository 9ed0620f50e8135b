//! What a node keeps of one feed, open or not.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use bytes::Bytes;
use multifeed_proto::messages::Status;
use multifeed_proto::{ChannelId, FeedKey, Now};

use super::clear::ClearJob;
use super::hashes::SeekJob;
use super::health::Ailments;
use super::select::Wishes;
use super::{CommandId, ConnectionId, FeedId, FeedInfo, MultifeedId, NodeError};
use crate::feed::{Feed, Opening, short};
use crate::ranges::Ranges;
use crate::storage::{BatchId, FilePath};

/// One feed of the store.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: FeedKey,
    /// Where its files are; `None` until that is decided.
    pub(super) folder: Option<FilePath>,
    /// The multifeed whose feed list this is: never offered, accepted or shown.
    pub(super) list_of: Option<MultifeedId>,
    /// Somebody gave a block of it or a signed length, or it is made or recorded here.
    pub(super) seen: bool,
    /// Until it is open: the name in its folder, if its key pair was looked for by names.
    pub(super) file_name: Option<Option<String>>,
    /// The connection on which it was offered first.
    pub(super) added_by: Option<ConnectionId>,
    /// It is kept out of the store: never offered, accepted or shown.
    pub(super) blocked: bool,
    /// The multifeeds that it is in, and its place in the order of each.
    pub(super) places: Vec<(MultifeedId, u32)>,
    /// What must be written before the first of its files.
    pub(super) after: Option<BatchId>,
    pub(super) state: EntryState,
    /// Where it is replicated.
    pub(super) channels: Vec<(ConnectionId, ChannelId)>,
    /// Blocks requested on any connection.
    pub(super) reserved: Ranges,
    /// Names of the application's extensions on it.
    pub(super) extensions: Vec<String>,
    /// Whether its blocks are sent to peers and fetched from them.
    pub(super) transfer: Status,
    /// Which blocks are to be downloaded, and who waits for them.
    pub(super) wishes: Wishes,
    /// How often blocks were cleared: what was read of the data file before may be a hole by now.
    pub(super) cleared: u64,
    /// Clears that wait for blocks to be stored first.
    pub(super) clears: Vec<ClearJob>,
    /// Blocks that its log had when it was open last: peers may have heard of them.
    pub(super) known_length: u64,
    /// What to do as soon as the feed is open.
    pub(super) pending: Vec<Pending>,
    /// Whether it is in the queue of feeds to flush.
    pub(super) dirty: bool,
    /// Bytes of its cached tree nodes, as counted last.
    pub(super) cache_bytes: usize,
    /// What is known to be wrong with it.
    pub(super) ailments: Ailments,
    /// When to try to open it again after its storage failed.
    pub(super) retry_at: Option<Now>,
    /// Times that its storage failed since something was stored.
    pub(super) failures: u32,
}

/// How much of a feed is in memory.
#[derive(Debug)]
pub(super) enum EntryState {
    /// Nothing but the entry.
    Listed,
    /// To be opened when its turn comes.
    Queued,
    /// Its files are being read; the value is out of the entry while answers are handled.
    Opening(Option<Box<Opening>>),
    /// All of it.
    Open(Box<Feed>),
    /// It could not be opened, or its storage failed.
    Failed(NodeError),
}

/// Work that waits for a feed to be open.
#[derive(Debug)]
pub(super) enum Pending {
    Load(CommandId),
    Append(CommandId, Vec<Bytes>),
    Read(super::read::ReadJob),
    Has(CommandId, Range<u64>),
    Clear(ClearJob),
    Block(FeedId, CommandId),
    Download(CommandId, Range<u64>),
    Update(CommandId, Option<u64>),
    Seek(SeekJob),
    /// See whether it is the writer that is looked for.
    Claim(Box<super::multifeed::Claim>),
}

impl Pending {
    /// Whether this is a command that waits for peers, and can be taken back.
    pub(super) fn waits_as(&self, command: CommandId) -> bool {
        match self {
            Self::Download(id, _) | Self::Update(id, _) => *id == command,
            Self::Seek(job) => job.command == command,
            Self::Read(job) => job.waits_as(command),
            Self::Load(_)
            | Self::Append(..)
            | Self::Has(..)
            | Self::Clear(_)
            | Self::Block(..)
            | Self::Claim(_) => false,
        }
    }
}

impl Entry {
    pub(super) fn new(key: FeedKey, folder: Option<FilePath>) -> Self {
        Self {
            key,
            folder,
            list_of: None,
            seen: true,
            file_name: None,
            added_by: None,
            blocked: false,
            places: Vec::new(),
            after: None,
            state: EntryState::Listed,
            channels: Vec::new(),
            reserved: Ranges::default(),
            extensions: Vec::new(),
            transfer: Status { uploading: true, downloading: true },
            wishes: Wishes::default(),
            cleared: 0,
            clears: Vec::new(),
            known_length: 0,
            pending: Vec::new(),
            dirty: false,
            cache_bytes: 0,
            ailments: Ailments::default(),
            retry_at: None,
            failures: 0,
        }
    }

    /// First digits of its key, for errors.
    pub(super) fn short_key(&self) -> String {
        short(&self.key)
    }

    pub(super) fn feed(&self) -> Option<&Feed> {
        match &self.state {
            EntryState::Open(feed) => Some(feed),
            EntryState::Listed
            | EntryState::Queued
            | EntryState::Opening(_)
            | EntryState::Failed(_) => None,
        }
    }

    pub(super) fn feed_mut(&mut self) -> Option<&mut Feed> {
        match &mut self.state {
            EntryState::Open(feed) => Some(feed),
            EntryState::Listed
            | EntryState::Queued
            | EntryState::Opening(_)
            | EntryState::Failed(_) => None,
        }
    }

    /// Its place in the order of a multifeed.
    pub(super) fn place_in(&self, multifeed: MultifeedId) -> Option<usize> {
        self.places.iter().find(|(of, _)| *of == multifeed).map(|(_, place)| *place as usize)
    }

    pub(super) fn info(&self, id: FeedId, name: String) -> FeedInfo {
        let feed = self.feed();
        FeedInfo {
            id,
            key: self.key,
            name,
            loaded: feed.is_some(),
            blocked: self.blocked,
            writable: feed.is_some_and(Feed::writable),
            length: feed.map_or(0, Feed::length),
            lost: feed.map_or(0, Feed::lost),
            blocks: feed.map_or(0, Feed::stored_blocks),
            bytes: feed.map_or(0, Feed::byte_length),
            health: self.health(),
        }
    }
}
