//! A multifeed, as the application holds it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use multifeed_core::crypto::SecretKey;
use multifeed_core::{
    ConnectOptions, ConnectionId, MultifeedId, NodeError, Outcome, ReplicationOptions,
};
use multifeed_proto::{Entropy, FeedKey, Role, RootKey};

use crate::command::Command;
use crate::driver::Driver;
use crate::error::Error;
use crate::events::Events;
use crate::feed::Feed;
use crate::options::Options;
use crate::replication::Replication;
use crate::shared::{Handle, Shared};
use crate::store::{Closing, Store, StoreOpening};
use crate::traits::{ByteStream, Storage, Timer};

/// A multifeed in an open store: the feeds that all who have its root key share.
///
/// A store often holds just this one, and then this handle is all that is needed;
/// [`store`](Self::store) gives the others.
///
/// Cheap to clone; all clones are the same multifeed. When the last handle of the store, [`Feed`] and
/// [`Replication`] is gone the store writes what is to be written and closes by itself; [`close`](Self::close) does it at
/// once and tells when it is over.
///
/// Futures of the handles do nothing before they are polled. What happens when one is dropped
/// later is said at each.
#[derive(Clone, Debug)]
pub struct Multifeed {
    handle: Handle,
    id: MultifeedId,
}

/// The future of [`Multifeed::start`]. Dropped, the store closes.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Opening {
    root: RootKey,
    step: Step,
}

/// How far an opening is.
#[derive(Debug)]
enum Step {
    Store(StoreOpening),
    Join(Handle, Command),
    /// It failed, and the lock is given back.
    Closing(Closing),
}

impl Multifeed {
    /// Begins to open the store behind `storage`, for adapters: spawn the [`Driver`], then await the
    /// [`Opening`].
    ///
    /// `entropy` must be made from 32 bytes that the operating system drew for this call.
    ///
    /// # Errors
    ///
    /// [`Error::NoRootKey`].
    pub fn start(
        options: Options,
        entropy: Entropy,
        timer: Arc<dyn Timer>,
        storage: Arc<dyn Storage>,
    ) -> Result<(Opening, Driver), Error> {
        let root = options.root_key.clone().ok_or(Error::NoRootKey)?;
        let (opening, driver) = Store::start(options, entropy, timer, storage);
        Ok((Opening { root, step: Step::Store(opening) }, driver))
    }

    pub(crate) const fn new(handle: Handle, id: MultifeedId) -> Self {
        Self { handle, id }
    }

    /// The number of this multifeed in its store: the order in which they were opened.
    #[must_use]
    pub const fn id(&self) -> MultifeedId {
        self.id
    }

    /// The store that it is in.
    #[must_use]
    pub fn store(&self) -> Store {
        Store::new(self.handle.clone())
    }

    /// The local writer of this name, made if there is none. The same name in one multifeed is always
    /// the same feed. With `None` a new writer each time, called by the number of feeds.
    ///
    /// Dropped early, the writer may still be made.
    ///
    /// # Errors
    ///
    /// If the name is empty or too long, or taken by a feed of others (only in the layout of multifeed
    /// 6), the storage failed, or the store is closed.
    pub async fn writer<'a>(&self, name: impl Into<Option<&'a str>>) -> Result<Feed, Error> {
        let name = name.into();
        self.make_writer(name, None).await
    }

    /// As [`writer`](Self::writer), with a key pair that the application brings.
    ///
    /// The key pair of a feed that was written elsewhere is refused once its feed has come from peers:
    /// to go on without its last block would be a fork.
    ///
    /// # Errors
    ///
    /// As there, and if the name belongs to another writer.
    pub async fn writer_with_key<'a>(
        &self,
        name: impl Into<Option<&'a str>>,
        secret: SecretKey,
    ) -> Result<Feed, Error> {
        let name = name.into();
        self.make_writer(name, Some(secret)).await
    }

    async fn make_writer(
        &self,
        name: Option<&str>,
        secret: Option<SecretKey>,
    ) -> Result<Feed, Error> {
        let command =
            Command::give(&self.handle, |node, now| node.writer(now, self.id, name, secret));
        let Outcome::Feed(id) = command.await? else {
            unreachable!("a writer is answered with `Feed`");
        };
        let info = self.handle.shared().peek(|state| state.node.feed(id));
        let info = info.ok_or(NodeError::UnknownFeed)?;
        Ok(Feed::new(self.handle.clone(), id, info.key, Some(self.id)))
    }

    /// All feeds, in the order in which they joined. A store that [is closed](Self::is_closed) has none any
    /// more; until then, also while it closes, it has all.
    #[must_use]
    pub fn feeds(&self) -> Vec<Feed> {
        let feeds = self.handle.shared().peek(|state| {
            let feeds = state.while_open().into_iter().flat_map(|node| node.feeds(self.id));
            feeds.map(|info| (info.id, info.key)).collect::<Vec<_>>()
        });
        let feed = |(id, key)| Feed::new(self.handle.clone(), id, key, Some(self.id));
        feeds.into_iter().map(feed).collect()
    }

    /// The feed with this key; `None` also when the store is closed.
    #[must_use]
    pub fn feed(&self, key: &FeedKey) -> Option<Feed> {
        let info = self.handle.shared().peek(|state| {
            let node = state.while_open()?;
            node.feed_in(self.id, node.find(key)?)
        })?;
        Some(Feed::new(self.handle.clone(), info.id, *key, Some(self.id)))
    }

    /// The feed with this name: a local writer, or a feed of others by its name in the feed list.
    /// `None` also when the store is closed.
    #[must_use]
    pub fn feed_named(&self, name: &str) -> Option<Feed> {
        let info = self.handle.shared().peek(|state| {
            let node = state.while_open()?;
            node.feed_in(self.id, node.find_name(self.id, name)?)
        })?;
        Some(Feed::new(self.handle.clone(), info.id, info.key, Some(self.id)))
    }

    /// News of this multifeed, and of all connections, from here on.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(self.handle.shared(), Some(self.id))
    }

    /// Syncs with the peer at the other end of `stream`: this multifeed, and those that are
    /// [attached](Replication::attach) later.
    ///
    /// Nothing moves unless the [`Replication`] is polled: await it, or take its events.
    pub fn replicate<S: ByteStream>(&self, stream: S, role: Role) -> Replication<S> {
        self.replicate_with(stream, role, ReplicationOptions::default())
    }

    /// The same, with other options than the defaults: in one direction only, or not live
    /// ([`ReplicationOptions`]; a connection that is not live ends by itself when the two have what they want of
    /// each other); for some feeds or parts of them ([`Policy`](crate::Policy)); with some peers only
    /// ([`Peers`](crate::Peers)); under a lasting identity ([`PeerSecret`](crate::PeerSecret)); with a word to the
    /// peer ([`UserData`](crate::UserData)).
    pub fn replicate_with<S: ByteStream>(
        &self,
        stream: S,
        role: Role,
        options: impl Into<ConnectOptions>,
    ) -> Replication<S> {
        let mut options = options.into();
        options.multifeeds.get_or_insert_with(|| vec![self.id]);
        Replication::new(self.handle.clone(), stream, role, options)
    }

    /// Registers the name of an extension, 1 to 256 bytes, on the streams to peers: a way for messages of
    /// the application, also before the two agree on any feed. Theirs come as
    /// [`Event::Extension`](crate::Event::Extension).
    ///
    /// # Errors
    ///
    /// If the name has another length, or there are 256 already.
    pub fn register_extension(&self, name: &str) -> Result<(), Error> {
        Ok(self
            .handle
            .shared()
            .with(|state, now| state.node.register_stream_extension(now, name))?)
    }

    /// Sends a message of an extension to the peer of one connection or, with `None`, to all; gives the
    /// number of connections that it went out on. As [`Feed::send_extension`].
    ///
    /// # Errors
    ///
    /// If the name is not registered, or the message is larger than 8 MiB.
    pub fn send_extension(
        &self,
        to: Option<ConnectionId>,
        name: &str,
        payload: impl Into<Bytes>,
    ) -> Result<usize, Error> {
        let payload = payload.into();
        let send = self
            .handle
            .shared()
            .with(|state, now| state.node.send_stream_extension(now, to, name, &payload));
        Ok(send?)
    }

    /// Ends all connections, writes what is to be written, and closes the whole store. When it returns
    /// the lock of the store is free. A second call waits for the same end.
    ///
    /// Connections end only while their [`Replication`] is polled, or when it is dropped; those that
    /// are not are given up when their time to leave is over.
    ///
    /// Dropped early, the store closes all the same.
    ///
    /// # Errors
    ///
    /// If something could not be written.
    pub async fn close(&self) -> Result<(), Error> {
        self.store().close().await
    }

    /// Whether the whole store is closed, in whichever way it came to that, and its lock free. `false` while
    /// it still closes.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.store().is_closed()
    }

    /// Whether it is of this store.
    pub(crate) fn is_of(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(self.handle.shared(), shared)
    }
}

impl Future for Opening {
    type Output = Result<Multifeed, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            this.step = match &mut this.step {
                Step::Store(opening) => {
                    let handle = ready!(Pin::new(opening).poll(cx))?.into_handle();
                    let root = this.root.clone();
                    let command = Command::give(&handle, |node, now| node.join(now, root));
                    Step::Join(handle, command)
                }
                Step::Join(handle, command) => match ready!(Pin::new(command).poll(cx)) {
                    Ok(Outcome::Joined(id)) => {
                        return Poll::Ready(Ok(Multifeed { handle: handle.clone(), id }));
                    }
                    Ok(_) => unreachable!("to join is answered with `Joined`"),
                    Err(error) => Step::Closing(Closing::new(handle.clone(), error)),
                },
                Step::Closing(closing) => {
                    return Poll::Ready(Err(ready!(closing.poll(cx)).into()));
                }
            };
        }
    }
}
