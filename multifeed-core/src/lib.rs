//! Multifeed's feeds, storage requests and scheduling as sans-IO state machines.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod crypto;
#[cfg(feature = "std")]
pub mod disk;
mod feed;
pub mod format;
mod node;
mod ranges;
pub mod storage;
pub mod tree;

pub use node::{
    CommandId, ConnectionId, Counters, Durability, Event, FeedId, FeedInfo, Node, NodeConfig,
    NodeError, Outcome, Output, ReplicationOptions, SyncState, WaitingFor,
};
