//! What a connection tells its owner.

use alloc::string::String;
use alloc::vec::Vec;

use crate::messages::{Data, Request, Span, Status};
use crate::{ChannelId, Dialect, DiscoveryKey, FeedKey, PeerError};

/// Which of a connection's multifeeds: the order of [`join`](crate::Connection::join), from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootId(pub u32);

/// Something that the owner of a [`Connection`](crate::Connection) must look at, in this order.
///
/// Plain values: a test can compare a whole trace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// The Noise handshake is over.
    Connected {
        /// The peer's static Noise public key.
        remote_public_key: [u8; 32],
        /// Noise handshake hash, equal on both sides.
        handshake_hash: [u8; 64],
    },
    /// The multifeed handshake of a root key is over: feeds may be offered.
    Ready {
        /// Which multifeed.
        root: RootId,
        /// What the peer speaks: [`Dialect::Stream`] or [`Dialect::RootChannel`].
        dialect: Dialect,
        /// The peer's version text.
        version: String,
        /// The peer's `userData` as JSON text, if it sent any.
        user_data: Option<String>,
    },
    /// The remote offers feeds. Answer with [`request_feeds`](crate::Connection::request_feeds),
    /// with an empty list if none is wanted. Keys are unique in one output, and were not offered
    /// before; a manifest of nothing new is reported with no keys.
    Offered {
        /// Which multifeed.
        root: RootId,
        /// The feeds, in the order of the manifest.
        keys: Vec<FeedKey>,
    },
    /// The remote asked for feeds that we offered. The answer went out already; the feeds come
    /// in [`Output::Replicate`].
    Requested {
        /// Which multifeed.
        root: RootId,
        /// The feeds, sorted and unique.
        keys: Vec<FeedKey>,
    },
    /// Both sides agreed on these feeds: open a channel for each with
    /// [`open_feed`](crate::Connection::open_feed).
    Replicate {
        /// Which multifeed.
        root: RootId,
        /// The feeds, sorted and unique. May be empty.
        keys: Vec<FeedKey>,
        /// Whether the agreement ends an offer of ours (`true`) or of the remote's.
        ours: bool,
    },
    /// The remote closed the channel of a multifeed, which ends it; its feeds go on. Not told in
    /// [`Dialect::Stream`], where nothing depends on that channel after the handshake.
    RootClosed {
        /// Which multifeed.
        root: RootId,
    },
    /// A multifeed ended by the fault of the remote, and the connection goes on for others. Its
    /// channel is closed; its feeds go on. With no other multifeed, [`Output::Closed`] comes instead.
    RootFailed {
        /// Which multifeed.
        root: RootId,
        /// What the remote did wrong.
        error: PeerError,
    },
    /// The remote opened a channel for a key that is not open here.
    RemoteOpened {
        /// Name of the key.
        discovery_key: DiscoveryKey,
    },
    /// Both sides have the channel open and proved the key: it carries data from here on.
    ///
    /// Comes again if the remote opens the channel again without closing it: then all that was said
    /// and asked on it is void.
    FeedOpened {
        /// The channel.
        channel: ChannelId,
    },
    /// The channel is gone, because the remote closed or refused it.
    FeedClosed {
        /// The channel.
        channel: ChannelId,
    },
    /// The remote's status changed.
    Status {
        /// The channel.
        channel: ChannelId,
        /// The status.
        status: Status,
    },
    /// The remote has more blocks than it said before; look at
    /// [`Peer::remote`](crate::session::Peer::remote).
    Have {
        /// The channel.
        channel: ChannelId,
        /// The range that the message spoke of. With a bitfield, some of its blocks may be missing.
        span: Span,
    },
    /// The remote stored blocks that we sent. Nothing checks that we did, nor how many they are.
    Acked {
        /// The channel.
        channel: ChannelId,
        /// The blocks.
        span: Span,
    },
    /// The remote has these blocks no more. Requests for them will not be answered; see
    /// [`forget_request`](crate::Connection::forget_request).
    Unhave {
        /// The channel.
        channel: ChannelId,
        /// The blocks.
        span: Span,
    },
    /// The remote wants to hear which of these blocks we have. Answer with
    /// [`have_bitfield`](crate::Connection::have_bitfield) of the same range.
    Want {
        /// The channel.
        channel: ChannelId,
        /// The range; both numbers are multiples of 8,192, and a length of 0 asks for everything.
        span: Span,
    },
    /// The remote asks for a block. Nothing in it is checked.
    Request {
        /// The channel.
        channel: ChannelId,
        /// What it asks for.
        request: Request,
    },
    /// The remote sent a block that was asked for, or hashes.
    Data {
        /// The channel.
        channel: ChannelId,
        /// What it sent. Nothing in it is verified but the sizes of hashes and signature.
        data: Data,
    },
    /// A message of an extension of the application on a feed channel or, with `None`, on the stream.
    Extension {
        /// The channel.
        channel: Option<ChannelId>,
        /// Name of the extension.
        name: String,
        /// What it says.
        payload: crate::Contents,
    },
    /// The connection is over. The last output.
    Closed {
        /// `None`: both sides ended it in order.
        error: Option<PeerError>,
    },
}
