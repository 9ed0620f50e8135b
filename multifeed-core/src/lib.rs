//! Multifeed's feeds, storage requests and scheduling as sans-IO state machines.
//!
//! [`Node`] is all of it; [`embedding`] shows what a program does to run one.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod check;
pub mod convert;
pub mod crypto;
#[cfg(feature = "std")]
pub mod disk;
#[doc = include_str!("../docs/embedding.md")]
pub mod embedding {}
mod feed;
pub mod format;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod lobby;
mod node;
mod ranges;
pub mod storage;
pub mod tree;

pub use lobby::{Lobby, LobbyLimits, Origin};
pub use node::{
    CommandId, ConnectOptions, ConnectionId, Counters, Decision, Durability, Event, FeedId,
    FeedInfo, Fetch, FolderProblem, Health, Layout, MultifeedId, Node, NodeConfig, NodeError,
    Outcome, Output, Patience, PeerInfo, Peers, Policy, Question, QuestionId, ReplicationOptions,
    StoreOptions, SyncState, WaitingFor,
};
