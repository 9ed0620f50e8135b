//! What a node tells when asked: of a feed, of a connection, and whether two peers are in sync.

use alloc::string::String;
use core::fmt;

use multifeed_proto::FeedKey;

use super::FeedId;
use crate::feed::short;

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
    /// Whether all that is known of it fits together.
    pub health: Health,
}

/// Whether what is held of a feed, and what peers sent of it, fits together. Whatever it is, the other
/// feeds of a connection go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// Nothing is known to be wrong.
    #[default]
    Sound,
    /// Two logs were signed with the key of the feed, as by a writer that was restored from a backup and
    /// went on. Remembered across restarts. A peer with the other log exchanges all feeds but this one.
    Forked {
        /// Blocks of the log that is held here.
        here: u64,
        /// Blocks of the other one, where known.
        there: Option<u64>,
    },
    /// Our own files do not fit: what is damaged is neither read nor sent, and fetched again from peers
    /// that have it.
    DamagedHere {
        /// Blocks that are to be fetched again; 0: the feed cannot be used.
        blocks: u64,
        /// What does not fit.
        problem: &'static str,
    },
    /// What a peer sent does not fit, and nothing proves a fork: its copy is damaged, or it lies.
    DamagedThere {
        /// What does not fit.
        problem: &'static str,
    },
}

impl Health {
    /// A name for programs, which stays the same.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Forked { .. } => "forked",
            Self::DamagedHere { .. } => "damaged",
            Self::DamagedThere { .. } => "damaged_there",
        }
    }

    /// Whether nothing is known to be wrong.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        matches!(self, Self::Sound)
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sound => f.write_str("nothing is known to be wrong"),
            Self::Forked { here, there: Some(there) } => write!(
                f,
                "it was continued in two places: {here} blocks are signed here, and {there} others elsewhere"
            ),
            Self::Forked { here, there: None } => write!(
                f,
                "it was continued in two places: {here} blocks are signed here, and others elsewhere"
            ),
            Self::DamagedHere { blocks: 0, problem } => write!(f, "it is damaged here: {problem}"),
            Self::DamagedHere { blocks: 1, problem } => {
                write!(f, "1 block is damaged here: {problem}")
            }
            Self::DamagedHere { blocks, problem } => {
                write!(f, "{blocks} blocks are damaged here: {problem}")
            }
            Self::DamagedThere { problem } => {
                write!(f, "what the peer sent of it is wrong: {problem}")
            }
        }
    }
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
    /// Pages of 8,192 blocks that were compared with what the peer has: a measure of the work it caused.
    pub steps: u64,
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
    /// The application to answer an [`Event::Question`](crate::Event::Question).
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
    /// The peer to prove that its log of a feed is the one that is held here.
    Comparison(FeedKey),
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
    /// Blocks that the peer announced, and of which it sends too few bytes, or sends other things: see
    /// [`Patience::least_rate`](crate::Patience::least_rate).
    Slow {
        /// The feed.
        feed: FeedKey,
        /// How many of those that the peer has are not here yet.
        missing: u64,
        /// Bytes a second that are the least.
        least_rate: u32,
    },
    /// The peer to take what waits to be sent to it: it reads nothing.
    Room {
        /// How much waits.
        bytes: usize,
    },
    /// The peer to keep what it asked for: it was sent blocks and gave them back, as one does whose disk is
    /// full.
    GivenBack {
        /// The feed.
        feed: FeedKey,
        /// How many blocks.
        blocks: u64,
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
            Self::Comparison(key) => {
                write!(f, "the peer to prove its log of feed {}", short(key))
            }
            Self::Blocks { feed, missing } => {
                write!(f, "{missing} blocks of feed {} from the peer", short(feed))
            }
            Self::Refused { feed, missing } => write!(
                f,
                "{missing} blocks of feed {} that the peer announced but did not send",
                short(feed)
            ),
            Self::Slow { feed, missing, least_rate } => write!(
                f,
                "{missing} blocks of feed {}, of which the peer sends less than {least_rate} bytes a second",
                short(feed)
            ),
            Self::Room { bytes } => {
                write!(f, "the peer to take the {bytes} bytes that wait for it: it reads nothing")
            }
            Self::GivenBack { feed, blocks } => write!(
                f,
                "the peer to keep {blocks} blocks of feed {}: it gives back what it was sent, so its disk may be full",
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
