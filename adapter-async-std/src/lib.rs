//! Multifeed for smol and async-std: the handles of `multifeed-driver` over everything that implements
//! the `AsyncRead` and `AsyncWrite` of `futures-io`.
//!
#![cfg_attr(feature = "smol", doc = "```")]
#![cfg_attr(not(feature = "smol"), doc = "```ignore")]
//! use multifeed_async_std::{Listener, Multifeed, Options, Role, RootKey, connect};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> { smol::block_on(async {
//! # let (folder, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
//! let key = RootKey::new([7; 32]); // use 32 unpredictable bytes
//! let here = Multifeed::open(folder.path(), Options::default().root_key(key.clone())).await?;
//! let there = Multifeed::open(other.path(), Options::default().root_key(key)).await?;
//!
//! let writer = here.writer("local").await?; // made if it does not exist
//! writer.append(b"hello").await?; // durable as the options say when it returns
//!
//! let listener = Listener::bind("127.0.0.1:0").await?; // or any other two ends of a stream
//! let address = listener.local_addr()?;
//! smol::spawn(here.replicate(connect(address).await?, Role::Initiator)).detach();
//! smol::spawn(there.replicate(listener.accept().await?.0, Role::Responder)).detach();
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
//! # Ok(()) }) }
//! ```
//!
//! There is no logic of the protocol, of storage or of the handles here, only other forms of
//! [`ByteStream`] and [`Runtime`], and two helpers for TCP. Futures of the handles may be polled by
//! any executor; the background task of a store, and that alone, runs on the one of the feature:
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `smol` | yes | [`Multifeed`], on smol's global executor |
//! | `async-std` | no | [`async_std::Multifeed`], on async-std's. async-std is no longer maintained (RUSTSEC-2025-0052): this is for programs that still use it |
//!
//! Ending a connection needs a stream whose `poll_close` closes the sending side, as those of `async-net`
//! do; the TCP streams of async-std itself do not, see `async_std::Tcp`.
//!
//! An executor of one's own is an [`Executor`]: `Hosted<FuturesRuntime<Mine>>` is its `Multifeed`.
#![forbid(unsafe_code)]

#[cfg(feature = "async-std")]
pub mod async_std;
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

#[cfg(feature = "smol")]
pub use self::runtime::Smol;
pub use self::runtime::{Executor, FuturesRuntime};
pub use self::stream::FuturesStream;
pub use self::tcp::{Listener, connect};

/// A multifeed in an open store: a [`multifeed_driver::Multifeed`], opened by [`Hosted::open`].
#[cfg(feature = "smol")]
pub type Multifeed = Hosted<FuturesRuntime<Smol>>;

/// An open store of any number of multifeeds: a [`multifeed_driver::Store`], opened by
/// [`HostedStore::open`].
#[cfg(feature = "smol")]
pub type Store = HostedStore<FuturesRuntime<Smol>>;

/// A connection over a stream of `futures-io`: see [`multifeed_driver::Replication`].
pub type Replication<S> = multifeed_driver::Replication<FuturesStream<S>>;
