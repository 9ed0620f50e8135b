//! News of the store for everybody who wants to hear them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use multifeed_core::{ConnectionId, Health, MultifeedId, NodeError};
use multifeed_proto::{Contents, FeedKey, PeerError};

use crate::shared::Shared;

/// News of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A feed joined a multifeed: a local writer, or one that a peer offered.
    FeedAdded {
        /// The multifeed.
        multifeed: MultifeedId,
        /// The feed.
        key: FeedKey,
    },
    /// Blocks of a local writer are stored.
    Appended {
        /// The feed.
        key: FeedKey,
        /// Index of the first.
        start: u64,
        /// How many.
        length: u64,
    },
    /// Blocks from peers are verified and stored.
    Downloaded {
        /// The feed.
        key: FeedKey,
        /// Index of the first.
        start: u64,
        /// How many.
        length: u64,
    },
    /// Blocks were sent to a peer; whether it stored them, it has not said yet. Only where
    /// [`Options::upload_events`](crate::Options::upload_events) says so.
    Uploaded {
        /// The connection.
        connection: ConnectionId,
        /// The feed.
        key: FeedKey,
        /// Index of the first.
        start: u64,
        /// How many.
        length: u64,
    },
    /// Blocks were given up by [`Feed::clear`](crate::Feed::clear).
    Cleared {
        /// The feed.
        key: FeedKey,
        /// Index of the first.
        start: u64,
        /// How many.
        length: u64,
    },
    /// A peer replicates a feed from here on: it is among its [`Feed::peers`](crate::Feed::peers).
    PeerOpened {
        /// The connection.
        connection: ConnectionId,
        /// The feed.
        key: FeedKey,
    },
    /// A peer does not replicate a feed any more: one side closed it, or the connection is over.
    PeerClosed {
        /// The connection.
        connection: ConnectionId,
        /// The feed.
        key: FeedKey,
    },
    /// Both sides of a connection have what the other wants of a feed, as far as they have told.
    FeedInSync {
        /// The connection.
        connection: ConnectionId,
        /// The feed.
        key: FeedKey,
    },
    /// There is something to exchange again in a feed. What, says [`Feed::peers`](crate::Feed::peers).
    FeedOutOfSync {
        /// The connection.
        connection: ConnectionId,
        /// The feed.
        key: FeedKey,
    },
    /// A feed is kept out of the store from here on; see [`Store::block`](crate::Store::block).
    FeedBlocked {
        /// The feed.
        key: FeedKey,
    },
    /// A feed cannot be used; the others go on.
    FeedFailed {
        /// The feed.
        key: FeedKey,
        /// Why.
        error: NodeError,
    },
    /// What is known to be wrong with a feed changed; the others go on.
    FeedHealth {
        /// The feed.
        key: FeedKey,
        /// What is known now.
        health: Health,
        /// Where it was found out, if by what a peer sent.
        connection: Option<ConnectionId>,
    },
    /// Which feeds a multifeed has could not be written; that is tried again later.
    StorageFailed {
        /// The multifeed.
        multifeed: MultifeedId,
        /// Why.
        error: NodeError,
    },
    /// The handshake with a peer is over.
    Connected {
        /// The connection.
        connection: ConnectionId,
    },
    /// A message of an extension that was registered by
    /// [`Feed::register_extension`](crate::Feed::register_extension) or, without a feed, by
    /// [`Multifeed::register_extension`](crate::Multifeed::register_extension). Nothing in it is checked.
    Extension {
        /// Where it came from.
        connection: ConnectionId,
        /// The feed; `None`: it came on the stream itself.
        key: Option<FeedKey>,
        /// Name of the extension.
        name: String,
        /// The message.
        payload: Contents,
    },
    /// A connection is over.
    Closed {
        /// The connection.
        connection: ConnectionId,
        /// `None`: it was ended in order, or given up on this side.
        error: Option<PeerError>,
    },
    /// The reader was too slow, and its oldest events were dropped.
    Lagged {
        /// How many.
        missed: u64,
    },
}

/// A stream of [`Event`]s from its making on; it ends when the store is closed.
///
/// Keeps at most [`Options::event_capacity`](crate::Options::event_capacity) events with 16 MiB of messages
/// for a slow reader, then drops the oldest and says so by [`Event::Lagged`]. Does not keep the store open.
pub struct Events {
    shared: Arc<Shared>,
    id: u64,
}

/// The readers of events.
#[derive(Debug)]
pub(crate) struct Subscribers {
    readers: BTreeMap<u64, Reader>,
    next: u64,
    capacity: usize,
    ended: bool,
}

#[derive(Debug)]
struct Reader {
    /// Only news of this multifeed, and of connections.
    of: Option<MultifeedId>,
    queue: VecDeque<Event>,
    /// Bytes of the messages in `queue`.
    bytes: usize,
    missed: u64,
    waker: Option<Waker>,
}

impl Event {
    /// Bytes that it holds of what a peer sent.
    fn bytes(&self) -> usize {
        if let Self::Extension { payload, .. } = self { payload.len() } else { 0 }
    }
}

impl Events {
    pub(crate) fn new(shared: &Arc<Shared>, of: Option<MultifeedId>) -> Self {
        let id = shared.peek(|state| state.subscribers.add(of));
        Self { shared: Arc::clone(shared), id }
    }

    /// The next event; `None` when the store is closed.
    ///
    /// Dropping this future loses no event.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&self, cx: &Context<'_>) -> Poll<Option<Event>> {
        self.shared.peek(|state| state.subscribers.poll(self.id, cx.waker(), &mut state.retired))
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(cx)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.shared.peek_unless_poisoned(|state| {
            state.subscribers.remove(self.id, &mut state.retired);
        });
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Subscribers {
    pub(crate) const fn new(capacity: usize) -> Self {
        Self { readers: BTreeMap::new(), next: 0, capacity, ended: false }
    }

    /// Tells of an event in these multifeeds; `None`: of the store as a whole.
    pub(crate) fn publish(
        &mut self,
        event: &Event,
        of: Option<&[MultifeedId]>,
        wakes: &mut Vec<Waker>,
    ) {
        let concerns = |reader: &Reader| match (of, reader.of) {
            (Some(of), Some(one)) => of.contains(&one),
            (None, _) | (_, None) => true,
        };
        for reader in self.readers.values_mut().filter(|reader| concerns(reader)) {
            let bytes = event.bytes();
            while reader.queue.len() >= self.capacity || reader.bytes + bytes > MAX_BYTES {
                let Some(dropped) = reader.queue.pop_front() else { break };
                reader.bytes -= dropped.bytes();
                reader.missed += 1;
            }
            reader.bytes += bytes;
            reader.queue.push_back(event.clone());
            wakes.extend(reader.waker.take());
        }
    }

    /// No event will come any more.
    pub(crate) fn end(&mut self, wakes: &mut Vec<Waker>) {
        self.ended = true;
        for reader in self.readers.values_mut() {
            wakes.extend(reader.waker.take());
        }
    }

    fn add(&mut self, of: Option<MultifeedId>) -> u64 {
        self.next += 1;
        let reader = Reader { of, queue: VecDeque::new(), bytes: 0, missed: 0, waker: None };
        self.readers.insert(self.next, reader);
        self.next
    }

    fn remove(&mut self, id: u64, retired: &mut Vec<Waker>) {
        retired.extend(self.readers.remove(&id).and_then(|reader| reader.waker));
    }

    fn poll(&mut self, id: u64, waker: &Waker, retired: &mut Vec<Waker>) -> Poll<Option<Event>> {
        let Some(reader) = self.readers.get_mut(&id) else { return Poll::Ready(None) };
        if reader.missed > 0 {
            return Poll::Ready(Some(Event::Lagged { missed: std::mem::take(&mut reader.missed) }));
        }
        if let Some(event) = reader.queue.pop_front() {
            reader.bytes -= event.bytes();
            return Poll::Ready(Some(event));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        retired.extend(reader.waker.replace(waker.clone()));
        Poll::Pending
    }
}

/// Bytes of messages kept for a slow reader.
const MAX_BYTES: usize = 16 * 1024 * 1024;
