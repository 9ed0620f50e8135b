//! The multifeed wire protocol as a sans-IO state machine.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod connection;
mod entropy;
mod error;
#[cfg(test)]
#[path = "../tests/golden/mod.rs"]
mod golden;
mod keys;
pub mod messages;
pub mod rle;
pub mod session;
mod time;
pub mod wire;

pub use config::Config;
pub use connection::{Connection, Output, RootId};
pub use entropy::Entropy;
pub use error::{PeerError, UsageError};
pub use keys::{
    DiscoveryKey, FeedKey, INSECURE_DEFAULT_ROOT_KEY, KeyParseError, RootKey, keyed_hash, to_hex,
};
pub use session::FeedOptions;
pub use time::Now;

/// Which end of the byte stream this is. Noise needs to know who speaks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The side that made the connection; it sends the first handshake message.
    Initiator,
    /// The side that accepted the connection.
    Responder,
}

/// The number of a channel on one connection, as *this* side counts: 1, 2, 3, … never reused.
///
/// Source: `simple-hypercore-protocol@2.1.2`, `lib/channelizer.js`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u32);
