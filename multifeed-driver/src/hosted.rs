//! A store on a certain runtime.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use multifeed_core::ConnectOptions;
use multifeed_proto::{Entropy, Role, RootKey};

use crate::disk::DiskStorage;
use crate::error::Error;
use crate::multifeed::Multifeed;
use crate::options::Options;
use crate::replication::Replication;
use crate::runtime::{Runtime, Wrap};
use crate::store::Store;
use crate::traits::{Storage, Timer};

/// A multifeed in an open store whose [`Driver`](crate::Driver) runs on the runtime `R`: a [`Multifeed`], whose
/// methods it has too, with the ways to open it and to replicate over the streams of `R`.
///
/// Each adapter calls its own one `Multifeed`.
pub struct Hosted<R> {
    multifeed: Multifeed,
    runtime: PhantomData<fn() -> R>,
}

/// An open store whose [`Driver`](crate::Driver) runs on the runtime `R`: a [`Store`], whose methods it has
/// too, with the ways to open it and to replicate over the streams of `R`.
///
/// Each adapter calls its own one `Store`.
pub struct HostedStore<R> {
    store: Store,
    runtime: PhantomData<fn() -> R>,
}

/// A runtime, and the files of `directory` that it reads and writes.
fn on_disk<R: Runtime + Default>(
    directory: &Path,
    options: &Options,
) -> Result<(Arc<R>, Arc<dyn Storage>), Error> {
    let runtime = Arc::new(R::default());
    let shared = Arc::clone(&runtime) as Arc<dyn Runtime>;
    let open = if options.is_read_only() { DiskStorage::open_read_only } else { DiskStorage::open };
    let storage = open(shared, directory, options.max_open_files())?;
    Ok((runtime, Arc::new(storage)))
}

impl<R: Runtime + Default> Hosted<R> {
    /// Opens the store in the folder `directory`, made with its first file, for its owner only.
    ///
    /// Spawns the driver on the runtime it is called in. Dropped early, the store closes again.
    ///
    /// A store has one owner at a time: the lock is a file that the operating system frees with the
    /// process. JavaScript programs take no lock and look for none, so that they must not have the
    /// folder open at the same time is for the user to know.
    ///
    /// # Errors
    ///
    /// If the options have no root key, the folder cannot be used or is in use (by the process that
    /// the error names), or the store in it is damaged. A key that is not the store's finds an empty
    /// multifeed.
    pub async fn open(directory: impl AsRef<Path>, options: Options) -> Result<Self, Error> {
        let (runtime, storage) = on_disk(directory.as_ref(), &options)?;
        Self::start(runtime, storage, options).await
    }

    /// Opens the store behind any storage.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn open_on(storage: Arc<dyn Storage>, options: Options) -> Result<Self, Error> {
        Self::start(Arc::new(R::default()), storage, options).await
    }

    async fn start(
        runtime: Arc<R>,
        storage: Arc<dyn Storage>,
        options: Options,
    ) -> Result<Self, Error> {
        let timer = Arc::clone(&runtime) as Arc<dyn Timer>;
        let (opening, driver) = Multifeed::start(options, entropy()?, timer, storage)?;
        runtime.spawn(Box::pin(driver));
        Ok(Self { multifeed: opening.await?, runtime: PhantomData })
    }
}

impl<R: Runtime + Default> HostedStore<R> {
    /// Opens the store in the folder `directory`, made with its first file. As [`Hosted::open`], but
    /// without a multifeed: the options need no root key.
    ///
    /// # Errors
    ///
    /// If the folder cannot be used or is in use (by the process that the error names), or the store
    /// in it is damaged or has another layout than the options say.
    pub async fn open(directory: impl AsRef<Path>, options: Options) -> Result<Self, Error> {
        let (runtime, storage) = on_disk(directory.as_ref(), &options)?;
        Self::start(runtime, storage, options).await
    }

    /// Opens the store behind any storage.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn open_on(storage: Arc<dyn Storage>, options: Options) -> Result<Self, Error> {
        Self::start(Arc::new(R::default()), storage, options).await
    }

    async fn start(
        runtime: Arc<R>,
        storage: Arc<dyn Storage>,
        options: Options,
    ) -> Result<Self, Error> {
        let timer = Arc::clone(&runtime) as Arc<dyn Timer>;
        let (opening, driver) = Store::start(options, entropy()?, timer, storage);
        runtime.spawn(Box::pin(driver));
        Ok(Self { store: opening.await?, runtime: PhantomData })
    }
}

impl<R> HostedStore<R> {
    /// The multifeed of this root key: see [`Store::multifeed`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn multifeed(&self, root: RootKey) -> Result<Hosted<R>, Error> {
        let multifeed = self.store.multifeed(root).await?;
        Ok(Hosted { multifeed, runtime: PhantomData })
    }

    /// Syncs with the peer at the other end of `stream`: see [`Store::replicate`].
    pub fn replicate<S>(&self, stream: S, role: Role) -> Replication<R::Stream>
    where
        R: Wrap<S>,
    {
        self.store.replicate(R::wrap(stream), role)
    }

    /// The same with options: see [`Store::replicate_with`].
    pub fn replicate_with<S>(
        &self,
        stream: S,
        role: Role,
        options: impl Into<ConnectOptions>,
    ) -> Replication<R::Stream>
    where
        R: Wrap<S>,
    {
        self.store.replicate_with(R::wrap(stream), role, options)
    }
}

impl<R> Deref for HostedStore<R> {
    type Target = Store;

    fn deref(&self) -> &Self::Target {
        &self.store
    }
}

impl<R> Clone for HostedStore<R> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), runtime: PhantomData }
    }
}

impl<R> fmt::Debug for HostedStore<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

impl<R> Hosted<R> {
    /// Syncs with the peer at the other end of `stream`: see [`Multifeed::replicate`].
    pub fn replicate<S>(&self, stream: S, role: Role) -> Replication<R::Stream>
    where
        R: Wrap<S>,
    {
        self.multifeed.replicate(R::wrap(stream), role)
    }

    /// The same with options: see [`Multifeed::replicate_with`].
    pub fn replicate_with<S>(
        &self,
        stream: S,
        role: Role,
        options: impl Into<ConnectOptions>,
    ) -> Replication<R::Stream>
    where
        R: Wrap<S>,
    {
        self.multifeed.replicate_with(R::wrap(stream), role, options)
    }
}

impl<R> Deref for Hosted<R> {
    type Target = Multifeed;

    fn deref(&self) -> &Self::Target {
        &self.multifeed
    }
}

impl<R> Clone for Hosted<R> {
    fn clone(&self) -> Self {
        Self { multifeed: self.multifeed.clone(), runtime: PhantomData }
    }
}

impl<R> fmt::Debug for Hosted<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.multifeed.fmt(f)
    }
}

/// 32 bytes of the operating system.
fn entropy() -> Result<Entropy, Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| Error::Entropy(error.to_string()))?;
    Ok(Entropy::from_seed(seed))
}
