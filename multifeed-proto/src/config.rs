//! The limits and times of one connection.

use core::time::Duration;

use crate::Dialect;

/// Limits and times of one connection. Every number that a peer sends is checked against these
/// before it drives an allocation, a loop or an index. A time of zero turns its timer off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How multifeed messages travel; detected unless said otherwise.
    pub dialect: Dialect,
    /// No byte for this long ends the connection; while [nothing is read](crate::Connection::set_reading), none
    /// taken. JavaScript peers do the same after 20 s.
    pub idle_timeout: Duration,
    /// A keepalive goes out when nothing was sent for this long. Half the peer's idle timeout at most.
    pub keepalive: Duration,
    /// The Noise handshake must be over this long after the start, however busily it dribbles.
    pub handshake_timeout: Duration,
    /// The first Noise message of an initiator must be there this long after the start. Off by default: who waits
    /// on a pipe for a program that is being started waits longer than one who accepted a connection.
    pub first_message_timeout: Duration,
    /// The multifeed handshake of a root key must be over this long after [`join`](crate::Connection::join).
    pub multifeed_timeout: Duration,
    /// Longest Noise handshake message accepted, in bytes.
    pub max_handshake_message: usize,
    /// Longest frame body accepted and sent, in bytes; the JavaScript ends the stream above 8 MiB.
    pub max_frame_body: usize,
    /// Longest frame body accepted of a stranger, in bytes: of a remote that has not proven yet that it knows
    /// the key of any channel that is open here. JavaScript peers of both dialects send nothing before that
    /// proof but channel openings, of less than 100 bytes each, and lists of extension names.
    pub max_stranger_frame_body: usize,
    /// Highest channel number that the remote may use.
    pub max_channel: u32,
    /// Channels that the remote may open for keys that we know nothing about.
    pub max_pending_channels: usize,
    /// The same for a stranger.
    pub max_stranger_channels: usize,
    /// Extension names that the remote may register in one scope.
    pub max_extensions: usize,
    /// Bytes of one extension name.
    pub max_extension_name: usize,
    /// Feed keys that one remote may offer for one root key in all.
    pub max_offered_feeds: usize,
    /// Feed keys put into one manifest that we send.
    pub manifest_keys: usize,
    /// Bytes of memory for which blocks the remote has, over all feeds of the connection: 1 KiB for each page of
    /// 8,192 blocks with gaps in it, 64 bytes for a run of blocks.
    pub max_announced: usize,
    /// Bytes that may wait for a peer that keeps sending but does not read. The owner stops sending
    /// blocks long before; this bounds the answers that the protocol itself calls for.
    pub max_outbox: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dialect: Dialect::Auto,
            idle_timeout: Duration::from_secs(20),
            keepalive: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(20),
            first_message_timeout: Duration::ZERO,
            multifeed_timeout: Duration::from_secs(10),
            max_handshake_message: 1024,
            max_frame_body: 8 * 1024 * 1024,
            max_stranger_frame_body: 16 * 1024,
            max_channel: (1 << 27) - 1,
            max_pending_channels: 1024,
            max_stranger_channels: 64,
            max_extensions: 256,
            max_extension_name: 256,
            max_offered_feeds: 131_072,
            manifest_keys: 8192,
            max_announced: 64 * 1024 * 1024,
            max_outbox: 128 * 1024 * 1024,
        }
    }
}
