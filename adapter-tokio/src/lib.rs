//! Multifeed for tokio: the handles of `multifeed-driver` over tokio's streams, timers and threads.
//!
//! ```
//! use multifeed_tokio::{Multifeed, Options, Role, RootKey};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (folder, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
//! let key = RootKey::new([7; 32]); // use 32 unpredictable bytes
//! let here = Multifeed::open(folder.path(), Options::default().root_key(key.clone())).await?;
//! let there = Multifeed::open(other.path(), Options::default().root_key(key)).await?;
//!
//! let writer = here.writer("local").await?; // made if it does not exist
//! writer.append(b"hello").await?; // durable as the options say when it returns
//!
//! let (one, two) = tokio::io::duplex(65_536); // or `connect` and `Listener`, for TCP
//! tokio::spawn(here.replicate(one, Role::Initiator));
//! tokio::spawn(there.replicate(two, Role::Responder));
//!
//! let mut events = there.events();
//! let feed = loop {
//!     match there.feed(&writer.key()) {
//!         Some(feed) => break feed,
//!         None => events.next().await.ok_or("the store was closed")?,
//!     };
//! };
//! assert_eq!(feed.get(0).await?, "hello"); // waits for the block
//! # here.close().await?;
//! # there.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! There is no logic of the protocol, of storage or of the handles here, only tokio's forms of
//! [`ByteStream`] and [`Runtime`], and two helpers for TCP. Everything must be called within a tokio
//! runtime that has its time driver enabled.
#![forbid(unsafe_code)]

mod runtime;
mod stream;
mod tcp;

pub use multifeed_core as core;
pub use multifeed_driver::encoding;
pub use multifeed_driver::{
    Backoff, ByteStream, Bytes, ConnectOptions, ConnectionId, Contents, Counters, Decision,
    Dialect, DiskStorage, Download, Driver, Durability, Entropy, Error, Event, Events, Execution,
    Feed, FeedInfo, FeedKey, Fetch, FolderProblem, Get, Health, Hosted, HostedStore, Layout,
    LobbyLimits, MemoryStorage, MultifeedId, Namespace, NodeConfig, NodeError, Now, Opening,
    Options, Origin, Patience, PeerError, PeerInfo, PeerSecret, Peers, Policy, Question,
    QuestionId, ReplicationError, ReplicationEvent, ReplicationHandle, ReplicationOptions, Role,
    RootKey, Running, Runtime, SecretKey, Sleep, Storage, StoreOpening, Subscription, SyncState,
    Task, Timer, UserData, UserDataError, WaitingFor, Work, Wrap,
};

pub use self::runtime::Tokio;
pub use self::stream::TokioStream;
pub use self::tcp::{Listener, connect};

/// A multifeed in an open store: a [`multifeed_driver::Multifeed`], opened by [`Hosted::open`].
pub type Multifeed = Hosted<Tokio>;

/// An open store of any number of multifeeds: a [`multifeed_driver::Store`], opened by
/// [`HostedStore::open`].
pub type Store = HostedStore<Tokio>;

/// A connection over a tokio stream: see [`multifeed_driver::Replication`].
pub type Replication<S> = multifeed_driver::Replication<TokioStream<S>>;

/// The example on the front page, compiled and run with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct FrontPage;
