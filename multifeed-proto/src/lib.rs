//! The multifeed wire protocol as a sans-IO state machine.
//!
//! A multifeed is a set of append-only logs (feeds) by many writers. Peers that know its root key
//! tell each other which feeds they have and exchange the blocks, proven by Merkle trees and
//! signatures. This crate speaks to `hypermultifeed` 1.1, `corestore-multifeed` 0.0.1 and to
//! itself: Noise, cipher, frames, channels, extensions, the multifeed handshake and offers, and the
//! messages about blocks.
//!
//! It has no sockets, files, clock, threads or tasks, and no randomness of its own: bytes, time and
//! entropy come in as arguments, bytes and plain values go out. The same input gives the same
//! output. It holds no feeds: what to ask for, what to answer and whether a block is true is for
//! its owner (`multifeed-core`).
//!
//! # The drain rule
//!
//! After each call that tells a [`Connection`] what happened or what is wanted:
//! [`poll_output`](Connection::poll_output) until `None`; write what
//! [`transmit`](Connection::transmit) returns and report it with
//! [`transmitted`](Connection::transmitted); sleep until
//! [`poll_timeout`](Connection::poll_timeout) or news. Doing any of these too often is harmless.
//!
//! ```
//! use multifeed_proto::{
//!     Config, Connection, Entropy, FeedKey, FeedOptions, Now, Output, Role, RootKey,
//! };
//!
//! // Seeds come from the operating system, the time from its monotonic clock.
//! let now = Now::default();
//! let mut alice =
//!     Connection::new(Role::Initiator, Config::default(), Entropy::from_seed([1; 32]), now);
//! let mut bob =
//!     Connection::new(Role::Responder, Config::default(), Entropy::from_seed([2; 32]), now);
//! let root = RootKey::new([7; 32]);
//! let alices_feed = FeedKey([42; 32]);
//!
//! let mut opened = 0;
//! for peer in [&mut alice, &mut bob] {
//!     peer.join(now, root.clone(), None)?;
//! }
//! while opened < 2 {
//!     for i in [0, 1] {
//!         let (me, other) = if i == 0 { (&mut alice, &mut bob) } else { (&mut bob, &mut alice) };
//!         while let Some(output) = me.poll_output() {
//!             match output {
//!                 Output::Ready { root, .. } => {
//!                     let feeds = if i == 0 { vec![alices_feed] } else { vec![] };
//!                     me.offer(root, &feeds)?;
//!                 }
//!                 Output::Offered { root, keys } => me.request_feeds(root, &keys)?,
//!                 Output::Replicate { keys, .. } => {
//!                     for key in &keys {
//!                         me.open_feed(key, FeedOptions::default())?;
//!                     }
//!                 }
//!                 Output::FeedOpened { .. } => opened += 1, // From here on: want, request, ...
//!                 Output::Closed { error } => panic!("{error:?}"),
//!                 _ => {}
//!             }
//!         }
//!         other.handle_bytes(now, me.transmit());
//!         let written = me.transmit().len();
//!         me.transmitted(now, written);
//!     }
//! }
//! # Ok::<(), multifeed_proto::UsageError>(())
//! ```
//!
//! # Layers
//!
//! Each can be used without those above it: [`wire`] (bytes to messages), [`messages`] (their
//! contents), [`session`] (messages to meaning), [`Connection`] (all of it, with timers).
//!
//! # Features
//!
//! | feature | default | effect |
//! |---|---|---|
//! | `std` | yes | the error types are also those of dependencies with `std`; without it the crate is `no_std` with `alloc` |
//!
//! Minimum supported Rust version: 1.85.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod connection;
mod contents;
mod dialect;
mod entropy;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(test)]
#[path = "../tests/golden/mod.rs"]
mod golden;
mod key_text;
mod keys;
pub mod messages;
pub mod rle;
pub mod session;
mod time;
mod user_data;
pub mod wire;

pub use config::Config;
pub use connection::{Arriving, Connection, Memory, Output, RootId};
pub use contents::Contents;
pub use dialect::Dialect;
pub use entropy::Entropy;
pub use error::{PeerError, UsageError};
pub use keys::{
    DiscoveryKey, FeedKey, INSECURE_DEFAULT_ROOT_KEY, KeyParseError, PeerSecret, RootKey,
    keyed_hash, to_hex,
};
pub use session::FeedOptions;
pub use time::Now;
pub use user_data::{UserData, UserDataError};

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
