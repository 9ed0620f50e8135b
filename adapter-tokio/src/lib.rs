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
//! [`ByteStream`], [`Timer`] and [`Storage`], and two helpers for TCP. Everything must be called
//! within a tokio runtime that has its time driver enabled.
#![forbid(unsafe_code)]

mod storage;
mod stream;
mod tcp;
mod timer;

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

pub use multifeed_core as core;
pub use multifeed_driver::{
    ByteStream, Bytes, ConnectionId, Counters, Driver, Durability, Entropy, Error, Event, Events,
    Execution, Feed, FeedInfo, FeedKey, Get, MemoryStorage, NodeConfig, NodeError, Now, Opening,
    Options, PeerError, ReplicationError, ReplicationEvent, ReplicationHandle, Role, RootKey,
    Running, Sleep, Storage, Subscription, SyncState, Timer, WaitingFor,
};

pub use self::storage::DiskStorage;
pub use self::stream::TokioStream;
pub use self::tcp::{Listener, connect};
pub use self::timer::TokioTimer;

/// An open store: see [`multifeed_driver::Multifeed`], whose methods this has too.
#[derive(Clone, Debug)]
pub struct Multifeed(multifeed_driver::Multifeed);

/// A connection over a tokio stream: see [`multifeed_driver::Replication`].
pub type Replication<S> = multifeed_driver::Replication<TokioStream<S>>;

impl Multifeed {
    /// Opens the store in the folder `directory`, made with its first file.
    ///
    /// Spawns the [`Driver`] on the runtime it is called in. Dropped early, the store closes again.
    ///
    /// # Errors
    ///
    /// If the options have no root key, the folder cannot be used or is in use by another process, or
    /// the store in it is damaged. A key that is not the store's finds an empty multifeed.
    pub async fn open(directory: impl AsRef<Path>, options: Options) -> Result<Self, Error> {
        let storage = DiskStorage::open(directory.as_ref(), options.max_open_files())?;
        Self::open_on(Arc::new(storage), options).await
    }

    /// Opens the store behind any storage.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn open_on(storage: Arc<dyn Storage>, options: Options) -> Result<Self, Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| Error::Entropy(error.to_string()))?;
        let entropy = Entropy::from_seed(seed);
        let timer = Arc::new(TokioTimer::new());
        let (opening, driver) =
            multifeed_driver::Multifeed::start(options, entropy, timer, storage)?;
        tokio::spawn(driver);
        Ok(Self(opening.await?))
    }

    /// Syncs with the peer at the other end of `stream`: see [`multifeed_driver::Multifeed::replicate`].
    pub fn replicate<S>(&self, stream: S, role: Role) -> Replication<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.0.replicate(TokioStream::new(stream), role)
    }
}

impl Deref for Multifeed {
    type Target = multifeed_driver::Multifeed;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// The example on the front page, compiled and run with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct FrontPage;
