//! A store, as the application holds it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use multifeed_core::{
    ConnectOptions, FolderProblem, Layout, Node, NodeError, Outcome, ReplicationOptions,
};
use multifeed_proto::{Entropy, FeedKey, Role, RootKey};

use crate::command::Command;
use crate::driver::Driver;
use crate::error::Error;
use crate::events::Events;
use crate::feed::Feed;
use crate::multifeed::Multifeed;
use crate::namespace::Namespace;
use crate::options::Options;
use crate::replication::Replication;
use crate::shared::{Handle, Shared, State};
use crate::traits::{ByteStream, Storage, Timer};

/// An open store: any number of multifeeds, and feeds by name, in one directory.
///
/// Cheap to clone; all clones are the same store. When the last clone, [`Multifeed`], [`Feed`] and
/// [`Replication`] is gone the store writes what is to be written and closes by itself;
/// [`close`](Self::close) does it at once and tells when it is over.
#[derive(Clone, Debug)]
pub struct Store {
    handle: Handle,
}

/// The future of [`Store::start`]. Dropped, the store closes.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct StoreOpening {
    handle: Handle,
    command: Command,
    closing: Option<Closing>,
}

/// Gives the lock of a store back after an error: the caller may try again at once.
#[derive(Debug)]
pub(crate) struct Closing {
    handle: Handle,
    error: NodeError,
}

impl Store {
    /// Begins to open the store behind `storage`, for adapters: spawn the [`Driver`], then await the
    /// [`StoreOpening`].
    ///
    /// `entropy` must be made from 32 bytes that the operating system drew for this call.
    pub fn start(
        options: Options,
        entropy: Entropy,
        timer: Arc<dyn Timer>,
        storage: Arc<dyn Storage>,
    ) -> (StoreOpening, Driver) {
        let node = Node::new(options.node, entropy, timer.now());
        let shared = Shared::new(node, options.event_capacity, options.get_timeout, timer, storage);
        let driver = Driver::new(Arc::clone(&shared));
        let handle = Handle::new(shared);
        let command = Command::give(&handle, |node, now| node.open(now, options.store));
        (StoreOpening { handle, command, closing: None }, driver)
    }

    pub(crate) const fn new(handle: Handle) -> Self {
        Self { handle }
    }

    pub(crate) fn into_handle(self) -> Handle {
        self.handle
    }

    /// How the directory is laid out.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.handle.shared().peek(|state| state.node.layout())
    }

    /// Whether the store is [only read](Options::read_only).
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.handle.shared().peek(|state| state.node.is_read_only())
    }

    /// The process that had a store open which is [only read](Options::read_only), when it was opened here; its
    /// number, 0 if that is not known. What is shown may be a moment old then.
    #[must_use]
    pub fn held_by(&self) -> Option<u32> {
        self.handle.shared().peek(|state| state.node.held_by())
    }

    /// The multifeed of this root key, empty if it is new here. A store in the layout of multifeed 6
    /// holds one, and does not know of which root key.
    ///
    /// Dropped early, it is opened all the same.
    ///
    /// # Errors
    ///
    /// If the storage failed, the list of feeds is damaged, the layout holds another one, or the store is
    /// closed.
    pub async fn multifeed(&self, root: RootKey) -> Result<Multifeed, Error> {
        let Outcome::Joined(id) =
            Command::give(&self.handle, |node, now| node.join(now, root)).await?
        else {
            unreachable!("to join is answered with `Joined`");
        };
        Ok(Multifeed::new(self.handle.clone(), id))
    }

    /// All multifeeds opened so far, in their order; none when the store [is closed](Self::is_closed).
    #[must_use]
    pub fn multifeeds(&self) -> Vec<Multifeed> {
        let ids = self.handle.shared().peek(|state| {
            state.while_open().into_iter().flat_map(Node::multifeeds).collect::<Vec<_>>()
        });
        ids.into_iter().map(|id| Multifeed::new(self.handle.clone(), id)).collect()
    }

    /// The feed that corestore knows by this name, made if there is none: a log of this store alone,
    /// in no multifeed and on no connection.
    ///
    /// The name is taken as it is, in a namespace or not, as `get({ name })` of `corestore@5.8.2` does.
    ///
    /// Dropped early, the feed may still be made.
    ///
    /// # Errors
    ///
    /// If the name is empty or too long, the layout is that of multifeed 6, the storage failed, or the
    /// store is closed.
    pub async fn named(&self, name: &str) -> Result<Feed, Error> {
        let Outcome::Feed(id) =
            Command::give(&self.handle, |node, now| node.named(now, name)).await?
        else {
            unreachable!("a feed by name is answered with `Feed`");
        };
        let info = self.handle.shared().peek(|state| state.node.feed(id));
        let info = info.ok_or(NodeError::UnknownFeed)?;
        Ok(Feed::new(self.handle.clone(), id, info.key, None))
    }

    /// The feed that corestore calls the default one.
    ///
    /// Dropped early, the feed may still be made.
    ///
    /// # Errors
    ///
    /// As [`named`](Self::named).
    pub async fn default_feed(&self) -> Result<Feed, Error> {
        self.named("default").await
    }

    /// A part of the store's names.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Namespace {
        Namespace::new(self.clone(), name.to_owned())
    }

    /// The feed with this key, in whichever multifeed it is; `None` also when the store is closed.
    #[must_use]
    pub fn feed(&self, key: &FeedKey) -> Option<Feed> {
        let id = self.handle.shared().peek(|state| state.while_open()?.find(key))?;
        Some(Feed::new(self.handle.clone(), id, *key, None))
    }

    /// Keeps a feed out of this store from here on: its blocks are removed if it is here, and it is neither
    /// offered to peers nor accepted from them, in any multifeed, also after a restart. When it returns,
    /// the disk space is free.
    ///
    /// Where it is a local writer, the blocks that no peer has are gone for good. JavaScript programs do
    /// not know of this: one that opens the same directory finds the feed without blocks, and may fetch
    /// it again.
    ///
    /// Dropped early, the feed is blocked all the same.
    ///
    /// # Errors
    ///
    /// If the storage failed (called again, it tries again), or the store is closed.
    pub async fn block(&self, key: &FeedKey) -> Result<(), Error> {
        Command::give(&self.handle, |node, now| node.block(now, *key)).await?;
        Ok(())
    }

    /// Takes a [`block`](Self::block) back: the feed is in its multifeeds again, without blocks, and is fetched
    /// from peers that connect from now on. A local writer can be appended to again when peers have sent
    /// all its blocks back.
    ///
    /// Dropped early, the feed is unblocked all the same.
    ///
    /// # Errors
    ///
    /// If the storage failed, or the store is closed.
    pub async fn unblock(&self, key: &FeedKey) -> Result<(), Error> {
        Command::give(&self.handle, |node, now| node.unblock(now, *key)).await?;
        Ok(())
    }

    /// The feeds that are kept out of this store; none when the store is closed.
    #[must_use]
    pub fn blocked(&self) -> Vec<FeedKey> {
        self.handle
            .shared()
            .peek(|state| state.while_open().into_iter().flat_map(Node::blocked).copied().collect())
    }

    /// The folders that are damaged, missing, or on no list of feeds, as far as they were met by opening the store;
    /// none when it is closed.
    #[must_use]
    pub fn folder_problems(&self) -> Vec<FolderProblem> {
        self.handle.shared().peek(|state| {
            state.while_open().map(|node| node.folder_problems().to_vec()).unwrap_or_default()
        })
    }

    /// Looks at all folders of feeds, and gives those that are damaged, missing, or on no list of feeds. Takes a
    /// read of each folder.
    ///
    /// # Errors
    ///
    /// If the storage failed, or the store is closed.
    pub async fn survey(&self) -> Result<Vec<FolderProblem>, Error> {
        Command::give(&self.handle, |node, now| node.survey(now)).await?;
        Ok(self.folder_problems())
    }

    /// News of all multifeeds and connections from here on.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(self.handle.shared(), None)
    }

    /// Syncs with the peer at the other end of `stream`: all multifeeds, also those that are opened
    /// later. The peer learns the discovery key of each.
    ///
    /// Nothing moves unless the [`Replication`] is polled: await it, or take its events.
    pub fn replicate<S: ByteStream>(&self, stream: S, role: Role) -> Replication<S> {
        self.replicate_with(stream, role, ReplicationOptions::default())
    }

    /// The same, with other options than the defaults: see
    /// [`Multifeed::replicate_with`](crate::Multifeed::replicate_with).
    pub fn replicate_with<S: ByteStream>(
        &self,
        stream: S,
        role: Role,
        options: impl Into<ConnectOptions>,
    ) -> Replication<S> {
        Replication::new(self.handle.clone(), stream, role, options.into())
    }

    /// Ends all connections, writes what is to be written, and closes the store. When it returns the
    /// lock of the store is free. A second call waits for the same end.
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
        self.handle.shared().with(State::start_close);
        let closed = poll_fn(|cx| self.handle.shared().peek(|state| state.poll_closed(cx.waker())));
        Ok(closed.await?)
    }

    /// Whether the store is closed, in whichever way it came to that, and its lock free. `false` while it
    /// still closes.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.handle.shared().peek(|state| state.is_closed())
    }
}

impl Future for StoreOpening {
    type Output = Result<Store, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let closing = match &mut this.closing {
            Some(closing) => closing,
            None => match ready!(Pin::new(&mut this.command).poll(cx)) {
                Ok(_) => return Poll::Ready(Ok(Store { handle: this.handle.clone() })),
                Err(error) => this.closing.insert(Closing::new(this.handle.clone(), error)),
            },
        };
        Poll::Ready(Err(ready!(closing.poll(cx)).into()))
    }
}

impl Closing {
    pub(crate) fn new(handle: Handle, error: NodeError) -> Self {
        handle.shared().with(State::start_close);
        Self { handle, error }
    }

    /// The error, once the lock is free.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<NodeError> {
        let closed = self.handle.shared().peek(|state| state.poll_closed(cx.waker()));
        let _ignored_for_the_first_error = ready!(closed);
        Poll::Ready(self.error.clone())
    }
}
