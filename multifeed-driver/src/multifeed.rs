//! A store, as the application holds it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use multifeed_core::{ConnectionId, Node, NodeError, Outcome, ReplicationOptions};
use multifeed_proto::{Entropy, FeedKey, Role};

use crate::command::Command;
use crate::driver::Driver;
use crate::error::Error;
use crate::events::Events;
use crate::feed::Feed;
use crate::options::Options;
use crate::replication::Replication;
use crate::shared::{Handle, Shared, State};
use crate::traits::{ByteStream, Storage, Timer};

/// An open store: the feeds of one multifeed in one place.
///
/// Cheap to clone; all clones are the same store. When the last clone, [`Feed`] and [`Replication`] is
/// gone the store writes what is to be written and closes by itself; [`close`](Self::close) does it at
/// once and tells when it is over.
///
/// Futures of the handles do nothing before they are polled. What happens when one is dropped
/// later is said at each.
#[derive(Clone, Debug)]
pub struct Multifeed {
    handle: Handle,
}

/// The future of [`Multifeed::start`]. Dropped, the store closes.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Opening {
    handle: Handle,
    command: Command,
    /// Why it failed, while the lock is given back.
    failed: Option<NodeError>,
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
        let root = options.root_key.ok_or(Error::NoRootKey)?;
        let node = Node::new(options.node, entropy, timer.now());
        let shared = Shared::new(node, options.event_capacity, options.get_timeout, timer, storage);
        let driver = Driver::new(Arc::clone(&shared));
        let handle = Handle::new(shared);
        let command = Command::give(&handle, |node| node.open(root));
        Ok((Opening { handle, command, failed: None }, driver))
    }

    /// The local writer of this name, made if there is none. The same name in one store is always
    /// the same feed.
    ///
    /// Dropped early, the writer may still be made.
    ///
    /// # Errors
    ///
    /// If the name is empty or too long, the storage failed, or the store is closed.
    pub async fn writer(&self, name: &str) -> Result<Feed, Error> {
        let outcome = Command::give(&self.handle, |node| node.writer(name)).await?;
        let Outcome::Feed(id) = outcome else {
            unreachable!("a writer is answered with `Feed`");
        };
        let info = self.handle.shared().peek(|state| state.node.feed(id));
        let info = info.ok_or(NodeError::UnknownFeed)?;
        Ok(Feed::new(self.handle.clone(), id, info.key))
    }

    /// All feeds, in the order of the feed list.
    #[must_use]
    pub fn feeds(&self) -> Vec<Feed> {
        let feeds = self
            .handle
            .shared()
            .peek(|state| state.node.feeds().map(|info| (info.id, info.key)).collect::<Vec<_>>());
        let feed = |(id, key)| Feed::new(self.handle.clone(), id, key);
        feeds.into_iter().map(feed).collect()
    }

    /// The feed with this key.
    #[must_use]
    pub fn feed(&self, key: &FeedKey) -> Option<Feed> {
        let id = self.handle.shared().peek(|state| state.node.find(key))?;
        Some(Feed::new(self.handle.clone(), id, *key))
    }

    /// The feed with this name: a local writer, or a feed of others by its name in the feed list.
    #[must_use]
    pub fn feed_named(&self, name: &str) -> Option<Feed> {
        let info = self.handle.shared().peek(|state| {
            let id = state.node.find_name(name)?;
            state.node.feed(id)
        })?;
        Some(Feed::new(self.handle.clone(), info.id, info.key))
    }

    /// News of this store from here on.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(self.handle.shared())
    }

    /// Syncs with the peer at the other end of `stream`.
    ///
    /// Nothing moves unless the [`Replication`] is polled: await it, or take its events.
    pub fn replicate<S: ByteStream>(&self, stream: S, role: Role) -> Replication<S> {
        self.replicate_with(stream, role, ReplicationOptions::default())
    }

    /// The same, with other options than the defaults: in one direction only, or not live. A connection
    /// that is not live ends by itself when the two have what they want of each other.
    pub fn replicate_with<S: ByteStream>(
        &self,
        stream: S,
        role: Role,
        options: ReplicationOptions,
    ) -> Replication<S> {
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
        Ok(self.handle.shared().with(|state, _| state.node.register_stream_extension(name))?)
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
            .with(|state, _| state.node.send_stream_extension(to, name, &payload));
        Ok(send?)
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
}

impl Future for Opening {
    type Output = Result<Multifeed, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.failed.is_none() {
            match ready!(Pin::new(&mut this.command).poll(cx)) {
                Ok(_) => return Poll::Ready(Ok(Multifeed { handle: this.handle.clone() })),
                Err(error) => this.failed = Some(error),
            }
            this.handle.shared().with(State::start_close);
        }
        // The caller may try again at once, so the lock must be free.
        let closed = this.handle.shared().peek(|state| state.poll_closed(cx.waker()));
        let _ignored_for_the_first_error = ready!(closed);
        Poll::Ready(Err(this.failed.clone().unwrap_or(NodeError::Closed).into()))
    }
}
