//! What is kept for one peer, in bytes.

/// Bytes of memory that one peer made us take, by what they hold. Upper bounds, counted where the memory is
/// taken; what the allocator adds is not in them.
///
/// | what | its own bound | above it |
/// |---|---|---|
/// | `inbox` | [`Config::max_frame_body`](crate::Config), of a stranger [`Config::max_stranger_frame_body`](crate::Config), and what is handed in at once | [`PeerError::FrameLength`](crate::PeerError) |
/// | `outbox` | [`Config::max_outbox`](crate::Config) | [`PeerError::Outbox`](crate::PeerError) |
/// | `channels` | those that the owner opened | |
/// | `pending` | [`Config::max_pending_channels`](crate::Config), of a stranger [`Config::max_stranger_channels`](crate::Config), and the feeds in offers | refused with `Close`, at last [`PeerError::PendingChannels`](crate::PeerError) |
/// | `offers` | [`Config::max_offered_feeds`](crate::Config) for each root key, and what the owner offered | [`PeerError::OfferedFeeds`](crate::PeerError) |
/// | `names` | [`Config::max_extensions`](crate::Config) for each channel, 8 MiB for all | [`PeerError::Extensions`](crate::PeerError) |
/// | `announced` | [`Config::max_announced`](crate::Config) | [`PeerError::Announced`](crate::PeerError) |
///
/// Requests of the peer that wait for their answer are the owner's; empty requests for feeds that wait are
/// counted, not kept, and no more than 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// Bytes that came and were not read.
    pub inbox: usize,
    /// Bytes that wait to be sent.
    pub outbox: usize,
    /// Channels that are open here.
    pub channels: usize,
    /// Channels that only the peer has open.
    pub pending: usize,
    /// Keys of feeds in offers and requests, and their names.
    pub offers: usize,
    /// Names of extensions.
    pub names: usize,
    /// Which blocks the peer has.
    pub announced: usize,
}

impl Memory {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> usize {
        let Self { inbox, outbox, channels, pending, offers, names, announced } = self;
        [inbox, outbox, channels, pending, offers, names, announced]
            .into_iter()
            .fold(0, |sum, part| sum.saturating_add(*part))
    }
}
