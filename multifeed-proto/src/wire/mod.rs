//! Bytes to messages and back: Noise handshake, stream cipher, frames.
//!
//! Knows nothing of what the messages mean. Usable on its own.
//!
//! - [`Wire`] is the whole of it: bytes in, [`WireEvent`]s out, messages in, bytes out;
//! - [`noise`] the handshake, on the primitives in `resolver`;
//! - [`cipher`] what travels after it goes through;
//! - [`frame`] and [`varint`] how messages are told apart;
//! - `inbox` and `outbox` the buffers;
//! - `foreign` knows other services by what they say first.
//!
//! The bodies of messages are in [`crate::messages`]; channels, timers and the meaning of messages in
//! [`crate::session`] and [`crate::Connection`].

use core::fmt;

use zeroize::Zeroize;

use crate::keyed_hash;
use crate::messages::Message;

pub mod cipher;
mod foreign;
pub mod frame;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod inbox;
mod machine;
pub mod noise;
mod outbox;
mod resolver;
pub mod varint;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vector_tests;

pub use machine::Wire;

/// What came out of the byte stream.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// The two keys that a Noise handshake ends with. Never printed; wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SplitKeys {
    /// Key of what this side sends.
    pub tx: [u8; 32],
    /// Key of what this side receives.
    pub rx: [u8; 32],
}

impl Drop for SplitKeys {
    fn drop(&mut self) {
        self.tx.zeroize();
        self.rx.zeroize();
    }
}

impl fmt::Debug for SplitKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SplitKeys(..)")
    }
}

/// What this side sends in `Open` to prove that it knows `key`.
///
/// Source: `simple-hypercore-protocol@2.1.2/index.js`, `capability`.
#[must_use]
pub fn capability(keys: &SplitKeys, key: &[u8; 32]) -> [u8; 32] {
    keyed_hash(&keys.rx, &[CAPABILITY, &keys.tx, key])
}

/// What the peer must have sent in `Open` if it knows `key`.
///
/// Source: `simple-hypercore-protocol@2.1.2/index.js`, `remoteCapability`.
#[must_use]
pub fn remote_capability(keys: &SplitKeys, key: &[u8; 32]) -> [u8; 32] {
    keyed_hash(&keys.tx, &[CAPABILITY, &keys.rx, key])
}

const CAPABILITY: &[u8] = b"hypercore capability";
