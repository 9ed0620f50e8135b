//! News of one connection.

use multifeed_core::{Counters, MultifeedId, Question, WaitingFor};
use multifeed_proto::{Dialect, FeedKey, PeerError, UserData};

use crate::error::ReplicationError;

/// News of one connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ReplicationEvent {
    /// The Noise handshake is over.
    Connected {
        /// The peer's static Noise public key.
        remote_public_key: [u8; 32],
    },
    /// The handshake of a multifeed is over: the peer knows the root key.
    Ready {
        /// The multifeed.
        multifeed: MultifeedId,
        /// What the peer speaks: [`Dialect::Stream`] or [`Dialect::RootChannel`].
        dialect: Dialect,
        /// What the peer's application said by
        /// [`ConnectOptions::user_data`](crate::ConnectOptions::user_data), or as the `userData` of the
        /// JavaScript; what is longer than [`UserData::MAX`] is left out.
        user_data: Option<UserData>,
    },
    /// Where [`Policy::Ask`](crate::Policy::Ask) is in force: which of these feeds are to be shared with the
    /// peer? To be answered with [`ReplicationHandle::answer`](super::ReplicationHandle::answer), in any
    /// time. One that was missed is among
    /// [`ReplicationHandle::questions`](super::ReplicationHandle::questions).
    Question(Question),
    /// Both sides agreed to replicate these feeds.
    RemoteFeeds {
        /// The multifeed.
        multifeed: MultifeedId,
        /// The feeds, sorted.
        keys: Vec<FeedKey>,
    },
    /// Blocks moved. At most ten times a second, and before [`InSync`](Self::InSync) and
    /// [`Closed`](Self::Closed).
    Progress(Counters),
    /// A multifeed ended by the fault of the peer: most often the peer does not have it. The others go
    /// on, and this one begins again should the peer open it later.
    MultifeedFailed {
        /// The multifeed.
        multifeed: MultifeedId,
        /// What the peer did wrong.
        error: PeerError,
    },
    /// Both sides have what the other wants of one multifeed, as far as they have told.
    MultifeedInSync {
        /// The multifeed.
        multifeed: MultifeedId,
    },
    /// There is something to exchange again in one multifeed.
    MultifeedOutOfSync {
        /// The multifeed.
        multifeed: MultifeedId,
    },
    /// Both sides have what the other wants of all multifeeds of the connection, as far as they have
    /// told. Those that ended do not count.
    InSync,
    /// There is something to exchange again.
    OutOfSync,
    /// Nothing has moved for a while, and the two are not in sync. The connection goes on.
    Stalled {
        /// What is missing.
        waiting: WaitingFor,
    },
    /// Events were dropped because they were not taken.
    Lagged {
        /// How many.
        missed: u64,
    },
    /// The connection is over. The last event.
    Closed {
        /// `Ok`: in order, after the peer had shown that it knows a root key, or by this side's wish. A peer
        /// that leaves before that is [`PeerError::Left`].
        result: Result<(), ReplicationError>,
    },
}
