//! Bytes to messages and back: Noise handshake, stream cipher, frames.
//!
//! Knows nothing of what the messages mean. Usable on its own.

use crate::messages::Message;
use crate::{Config, Entropy, PeerError, Role};

/// What came out of the byte stream.
#[derive(Debug, PartialEq, Eq)]
pub enum WireEvent {
    /// The Noise handshake is over. Comes once, before any frame.
    Connected {
        /// The peer's static Noise public key. Proven, but nothing says whose it is.
        remote_public_key: [u8; 32],
        /// Noise handshake hash, equal on both sides.
        handshake_hash: [u8; 64],
        /// The keys that capabilities are made of.
        keys: SplitKeys,
    },
    /// A message on the remote's channel `channel`. Unknown types and keepalives are left out.
    Message {
        /// The *remote's* channel number.
        channel: u32,
        /// What it says.
        message: Message,
    },
}

/// The two keys that a Noise handshake ends with.
#[derive(Clone, PartialEq, Eq)]
pub struct SplitKeys {
    /// Key of what this side sends.
    pub tx: [u8; 32],
    /// Key of what this side receives.
    pub rx: [u8; 32],
}
