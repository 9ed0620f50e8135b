//! Multifeed's loop and async handles, written once for every runtime.
//!
//! The node of `multifeed-core` is a value without I/O; this crate puts it behind a lock and moves
//! bytes, batches, time and answers. It decides nothing about protocol or storage, and knows no
//! runtime. An adapter (`multifeed-tokio`, `multifeed-async-std`) brings [`Runtime`] and [`Wrap`], and
//! re-exports [`Hosted`] and the handles. Where there is less than that, [`Multifeed::start`] takes a
//! [`Timer`] and a [`Storage`] and gives the [`Driver`] to poll, as the examples do.
//!
//! | handle | what it is for |
//! |---|---|
//! | [`Store`] | a store: its multifeeds, feeds by name, connections, its end |
//! | [`Multifeed`] | a multifeed in it: writers, feeds, connections; often the only one |
//! | [`encoding`] | blocks as JSON or text, as the JavaScript writes them |
//! | [`Feed`] | blocks: append, get, read, subscribe, download, clear; update, seek |
//! | [`Replication`] | one connection; moves the bytes of its own stream when polled |
//! | [`Events`] | news of the store, or of one multifeed |
//!
//! Who calls a handle does the work at once, under the lock: verification, signatures, and storage
//! that the page cache answers. What may take long is given away by [`Storage::execute`] and watched by the
//! driver. So a burst of bytes becomes blocks on disk without a hop between tasks.
//!
//! [`javascript`] says what each name of the JavaScript packages is here.
#![forbid(unsafe_code)]

mod accept;
mod backoff;
mod command;
mod disk;
mod door;
mod driver;
pub mod encoding;
mod error;
mod events;
mod feed;
mod get;
mod hosted;
mod link;
mod memory;
mod multifeed;
mod namespace;
mod options;
mod pipe;
mod replication;
mod runtime;
mod shared;
mod store;
mod subscription;
mod traits;

#[doc = include_str!("../docs/javascript.md")]
pub mod javascript {}

pub use accept::accept;
pub use backoff::Backoff;
pub use disk::DiskStorage;
pub use door::{Door, Listen, SILENT};
pub use driver::Driver;
pub use error::{Error, ReplicationError};
pub use events::{Event, Events};
pub use feed::{Download, Feed};
pub use get::Get;
pub use hosted::{Hosted, HostedStore};
pub use memory::MemoryStorage;
pub use multifeed::{Multifeed, Opening};
pub use namespace::Namespace;
pub use options::Options;
pub use replication::{Replication, ReplicationEvent, ReplicationHandle};
pub use runtime::{Runtime, Task, Work, Wrap};
pub use store::{Store, StoreOpening};
pub use subscription::Subscription;
pub use traits::{ByteStream, Execution, Running, Sleep, Storage, Timer};

pub use bytes::Bytes;
pub use multifeed_core::crypto::SecretKey;
pub use multifeed_core::{
    ConnectOptions, ConnectionId, Counters, Decision, Durability, FeedInfo, Fetch, FolderProblem,
    Health, Layout, Lobby, LobbyLimits, MultifeedId, NodeConfig, NodeError, Origin, Patience,
    PeerInfo, Peers, Policy, Question, QuestionId, ReplicationOptions, SyncState, WaitingFor,
};
pub use multifeed_proto::{
    Contents, Dialect, Entropy, FeedKey, Now, PeerError, PeerSecret, Role, RootKey, UserData,
    UserDataError,
};
