//! Errors, by whose fault they are.

use alloc::string::String;

/// The peer sent something that cannot be accepted. The connection is over.
///
/// The names of the layers and their required reactions are those of the JavaScript stack;
/// `code` gives the JavaScript's error code where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// A Noise message of no bytes, or more than [`Config::max_handshake_message`](crate::Config).
    #[error("handshake message of {len} bytes, 1 to {max} allowed")]
    HandshakeLength {
        /// Announced length in bytes.
        len: u64,
        /// Greatest length allowed.
        max: usize,
    },
    /// A Noise message that did not decrypt, was too short, or held a low-order point.
    #[error(
        "what the peer sent is no noise handshake: it is another service, or the stream is damaged"
    )]
    Handshake,
    /// What came in place of a Noise handshake is another service.
    #[error("the peer is no multifeed: it speaks {speaks}")]
    OtherProtocol {
        /// What it speaks, in words.
        speaks: &'static str,
    },
    /// The last Noise payload held no nonce of 24 bytes.
    #[error("noise payload without a nonce of 24 bytes")]
    HandshakePayload,
    /// The peer's Noise public key is not one of those that are let in.
    #[error("the peer is not let in: its public key {key} is not on the list")]
    NotAllowed {
        /// The key, 64 hexadecimal digits.
        key: String,
    },
    /// The peer sent wrong answers for many feeds a while ago.
    #[error("the peer sent wrong answers for many feeds: it is not let in for another {seconds} s")]
    Distrusted {
        /// How long it is not let in.
        seconds: u64,
    },
    /// Not a byte came in the time for a handshake, though the stream is there.
    #[error("the connection is there, and the peer said nothing")]
    NothingCame,
    /// The peer began to speak, and its Noise handshake was not over in the time for one.
    #[error("the peer began a noise handshake and did not finish it in time")]
    HandshakeTimeout,
    /// The peer had not proven that it knows a root key when newer connections needed its place.
    #[error("gave way to newer connections before it had proven that it knows the root key")]
    GaveWay,
    /// A varint of more than 8 bytes before a frame, or of more than 10 in a message.
    #[error("a varint does not end")]
    Varint,
    /// A frame shorter than its header or with a body longer than [`Config::max_frame_body`](crate::Config);
    /// of a peer that has proven no key yet, longer than [`Config::max_stranger_frame_body`](crate::Config).
    #[error("frame body of {len} bytes, 0 to {max} allowed")]
    FrameLength {
        /// Announced body length; negative if the frame is shorter than its header.
        len: i128,
        /// Greatest body length allowed.
        max: usize,
    },
    /// A channel number above [`Config::max_channel`](crate::Config).
    #[error("channel {channel} is above the limit of {max}")]
    ChannelLimit {
        /// The peer's channel number.
        channel: u64,
        /// Greatest number allowed.
        max: u32,
    },
    /// A message body that is not what its type says.
    #[error("malformed {message} message: {problem}")]
    Message {
        /// Name of the message type as in the JavaScript schema.
        message: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Too many channels opened for keys that we do not know.
    #[error("the peer opened more than {max} channels for unknown feeds")]
    PendingChannels {
        /// Greatest number allowed.
        max: usize,
    },
    /// The peer does not prove that it knows the key of a channel that both sides opened.
    #[error("invalid remote channel capability: the peer does not know this key")]
    Capability,
    /// More extension names, or longer ones, than allowed.
    #[error("the peer registered too many or too long extension names")]
    Extensions,
    /// A multifeed message that is not the JSON it should be.
    #[error("malformed {message}: not the expected JSON")]
    Json {
        /// Name of the extension message.
        message: &'static str,
    },
    /// The major versions of the multifeed protocol differ (`ERR_VERSION_MISMATCH`).
    #[error("protocol version mismatch! us={ours} them={theirs}")]
    VersionMismatch {
        /// Our version.
        ours: &'static str,
        /// The peer's version, shortened if very long.
        theirs: String,
    },
    /// The peer is not a multifeed (`ERR_CLIENT_MISMATCH`).
    #[error("client mismatch! expected {ours} but got {theirs}")]
    ClientMismatch {
        /// Our client name.
        ours: &'static str,
        /// The peer's client name, shortened if very long.
        theirs: String,
    },
    /// The Noise handshake was over, and no multifeed handshake came in time: usually the peer has another
    /// root key, or speaks the dialect of multifeed 6.
    #[error(
        "the peer did not prove that it knows the root key: it has another root key or speaks another dialect"
    )]
    MultifeedTimeout,
    /// The peer ended the stream, or cut it, before the handshake of any multifeed that was
    /// [joined](crate::Connection::join): a peer with another root key often does no more than that.
    #[error("{}", left(*.connected))]
    Left {
        /// Whether the Noise handshake was over.
        connected: bool,
    },
    /// The first channel that the peer opened is not that of the root key ([`Dialect::Stream`] only).
    ///
    /// [`Dialect::Stream`]: crate::Dialect::Stream
    #[error("exchange key did not match remote: the peer has another root key")]
    ExchangeKey,
    /// More feeds offered than [`Config::max_offered_feeds`](crate::Config).
    #[error("the peer offers more than {max} feeds")]
    OfferedFeeds {
        /// Greatest number allowed.
        max: usize,
    },
    /// More scattered blocks announced than [`Config::max_announced`](crate::Config) has room for.
    #[error("the peer announces blocks with so many gaps that they take more than {max} bytes")]
    Announced {
        /// Greatest number of bytes allowed.
        max: usize,
    },
    /// All that is kept for the peer takes more memory than its owner allows.
    #[error("{bytes} bytes are kept for the peer, {max} allowed")]
    Memory {
        /// Bytes kept.
        bytes: usize,
        /// Greatest number allowed.
        max: usize,
    },
    /// A bitfield that is no valid run-length encoding, or decodes to more than was asked for.
    #[error("invalid RLE bitfield")]
    Bitfield,
    /// The peer lets more wait for it than [`Config::max_outbox`](crate::Config).
    #[error("{bytes} bytes wait for the peer, which does not read; {max} allowed")]
    Outbox {
        /// Bytes waiting.
        bytes: usize,
        /// Greatest number allowed.
        max: usize,
    },
    /// Nothing arrived for [`Config::idle_timeout`](crate::Config).
    #[error("the peer was silent for too long")]
    Silent,
    /// The peer ended the stream inside a handshake or a frame.
    #[error("the stream ended in the middle of a message")]
    Truncated,
    /// The peer answered with a block or proof that does not verify.
    #[error("block {index} of feed {feed} does not verify: {problem}")]
    Proof {
        /// First digits of the feed key.
        feed: String,
        /// Index of the block.
        index: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More answers held back for verification than allowed.
    #[error("the peer sent {bytes} bytes that cannot be verified yet, {max} allowed")]
    Held {
        /// Bytes held.
        bytes: usize,
        /// Greatest number allowed.
        max: usize,
    },
}

impl PeerError {
    /// A stable name for programs: the JavaScript's code where it has one, else ours.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::VersionMismatch { .. } => "ERR_VERSION_MISMATCH",
            Self::ClientMismatch { .. } => "ERR_CLIENT_MISMATCH",
            Self::HandshakeLength { .. }
            | Self::Handshake
            | Self::HandshakePayload
            | Self::OtherProtocol { .. } => "ERR_HANDSHAKE",
            Self::NotAllowed { .. } => "ERR_PEER_NOT_ALLOWED",
            Self::Distrusted { .. } => "ERR_PEER_DISTRUSTED",
            Self::NothingCame => "ERR_NOTHING_CAME",
            Self::HandshakeTimeout => "ERR_HANDSHAKE_TIMEOUT",
            Self::GaveWay => "ERR_GAVE_WAY",
            Self::Varint | Self::FrameLength { .. } | Self::ChannelLimit { .. } => "ERR_FRAME",
            Self::Message { .. } | Self::Bitfield => "ERR_MESSAGE",
            Self::PendingChannels { .. } => "ERR_PENDING_CHANNELS",
            Self::Capability => "ERR_CAPABILITY",
            Self::Extensions => "ERR_EXTENSIONS",
            Self::Json { .. } => "ERR_JSON",
            Self::MultifeedTimeout => "ERR_MULTIFEED_TIMEOUT",
            Self::Left { .. } => "ERR_PEER_LEFT",
            Self::ExchangeKey => "ERR_EXCHANGE_KEY",
            Self::OfferedFeeds { .. } => "ERR_OFFERED_FEEDS",
            Self::Announced { .. } => "ERR_ANNOUNCED",
            Self::Memory { .. } => "ERR_MEMORY",
            Self::Outbox { .. } => "ERR_OUTBOX",
            Self::Silent => "ETIMEDOUT",
            Self::Truncated => "ERR_TRUNCATED",
            Self::Proof { .. } => "ERR_PROOF",
            Self::Held { .. } => "ERR_HELD",
        }
    }
}

impl PeerError {
    /// Whether the peer may still read what was queued for it before this happened, and is to.
    #[must_use]
    pub fn peer_may_listen(&self) -> bool {
        !matches!(
            self,
            Self::Silent
                | Self::NothingCame
                | Self::HandshakeTimeout
                | Self::GaveWay
                | Self::Outbox { .. }
                | Self::NotAllowed { .. }
        )
    }
}

const fn left(connected: bool) -> &'static str {
    if connected {
        "the peer left without a multifeed handshake: it has another root key, does not let us in, or \
         refuses our protocol version or dialect"
    } else {
        "the peer left without a word, before the noise handshake"
    }
}

/// The caller asked for something that does not fit the state of the connection; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// The connection is over.
    #[error("the connection is closed")]
    Closed,
    /// No open channel has this number.
    #[error("no such channel")]
    UnknownChannel,
    /// The root key was not joined on this connection, or its multifeed handshake is not done.
    #[error("no multifeed with this root key is ready on the connection")]
    UnknownRoot,
    /// The channel is not open on both sides yet.
    #[error("the remote has not opened this channel")]
    NotOpen,
    /// The key belongs to a root where a feed is meant, or the other way round.
    #[error("the key is in use on this connection, as that of a root or of a feed")]
    KeyInUse,
    /// Everybody can sign for this feed key: see [`FeedKey::is_weak`](crate::FeedKey::is_weak).
    #[error("the feed key is of small order or not canonical: anybody could sign for it")]
    WeakKey,
    /// [`Dialect::Stream`](crate::Dialect::Stream) has one root key a connection, and it was joined.
    #[error("in the dialect of multifeed 6 a connection has one root key")]
    OneRoot,
    /// All channel numbers of the connection were used.
    #[error("no channel number is left on the connection")]
    Channels,
    /// No extension of this name was registered on the stream or channel.
    #[error("no extension of this name is registered here")]
    UnknownExtension,
    /// The message would be larger than a frame may be.
    #[error("a message of {len} bytes does not fit a frame of {max}")]
    TooLarge {
        /// Bytes of the message.
        len: usize,
        /// Greatest number allowed.
        max: usize,
    },
}
