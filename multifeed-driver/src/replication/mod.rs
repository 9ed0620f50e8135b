//! One connection, as the application holds it: it moves the bytes of its own stream.
//!
//! | file | what is in it |
//! |---|---|
//! | `event` | news of the connection |
//! | `turn` | moving bytes between the stream and the node, to the end of both |
//! | `progress` | what is told of the blocks that moved |
//! | `handle` | the connection as other tasks see it |

mod event;
mod handle;
mod progress;
mod turn;

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use futures_core::Stream;
use multifeed_core::{ConnectOptions, ConnectionId, Counters, SyncState};
use multifeed_proto::Role;

use crate::error::{Error, ReplicationError};
use crate::multifeed::Multifeed;
use crate::pipe::Pipe;
use crate::shared::Handle;
use crate::traits::ByteStream;

pub use event::ReplicationEvent;
pub use handle::ReplicationHandle;

use progress::Progress;
use turn::Farewell;

/// A connection to a peer: a future, and a stream of events.
///
/// It moves bytes only while it is polled. Await it to sync until the connection ends; take its
/// events with [`next`](Self::next) or as a [`Stream`] to see how it goes. Events that come while it is
/// awaited are dropped.
///
/// Dropped before its end, the connection is given up at once; what was received and stored stays.
/// To leave in order, [`close`](Self::close) it.
#[must_use = "no bytes move unless a replication is polled"]
pub struct Replication<S> {
    handle: ReplicationHandle,
    /// Keeps the store open.
    _store: Handle,
    /// Gone when the connection is over.
    pipe: Option<Pipe<S>>,
    gave_up: bool,
    events: VecDeque<ReplicationEvent>,
    progress: Progress,
    farewell: Option<Farewell>,
    result: Option<Result<(), ReplicationError>>,
    told: bool,
}

impl<S: ByteStream> Replication<S> {
    pub(crate) fn new(store: Handle, stream: S, role: Role, options: ConnectOptions) -> Self {
        let shared = Arc::clone(store.shared());
        let id = shared.with(|state, now| state.connect(now, role, options));
        Self {
            handle: ReplicationHandle { shared, id, last: Arc::default() },
            _store: store,
            pipe: id.is_some().then(|| Pipe::new(stream)),
            gave_up: false,
            events: VecDeque::new(),
            progress: Progress::default(),
            farewell: None,
            result: id.is_none().then_some(Err(ReplicationError::StoreClosed)),
            told: false,
        }
    }

    /// The next event, moving bytes until there is one; `None` after [`ReplicationEvent::Closed`].
    ///
    /// Dropping this future loses nothing.
    pub async fn next(&mut self) -> Option<ReplicationEvent> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Ends the connection in order: what the peer asked for is sent, its acknowledgements are waited
    /// for, then both sides close.
    ///
    /// Dropped early, the connection is given up.
    ///
    /// # Errors
    ///
    /// If the connection ended in another way, also before.
    pub async fn close(mut self) -> Result<(), ReplicationError> {
        self.disconnect();
        poll_fn(|cx| self.poll_end(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<ReplicationEvent>> {
        if self.events.is_empty() {
            let pending = self.poll_turn(cx).is_pending();
            if pending && self.events.is_empty() {
                return Poll::Pending;
            }
        }
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        let result = self.result.clone().filter(|_| !std::mem::replace(&mut self.told, true));
        Poll::Ready(result.map(|result| ReplicationEvent::Closed { result }))
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReplicationError>> {
        let turn = self.poll_turn(cx);
        self.events.clear();
        match (turn, &self.result) {
            (Poll::Ready(()), Some(result)) => Poll::Ready(result.clone()),
            (Poll::Ready(()) | Poll::Pending, _) => Poll::Pending,
        }
    }
}

impl<S> Replication<S> {
    /// The number of the connection; `None` if the store was closed when it was made.
    #[must_use]
    pub const fn id(&self) -> Option<ConnectionId> {
        self.handle.id
    }

    /// Counts of the connection so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.handle.counters()
    }

    /// Whether the two ends have what they want of each other, and what is missing.
    #[must_use]
    pub fn sync_state(&self) -> SyncState {
        self.handle.sync_state()
    }

    /// Whether the two ends have what they want of each other in one multifeed;
    /// [`SyncState::Closed`] if the connection does not carry it, or the peer is done with it.
    #[must_use]
    pub fn sync_state_of(&self, multifeed: &Multifeed) -> SyncState {
        self.handle.sync_state_of(multifeed)
    }

    /// Lets the connection carry one more multifeed of the same store from here on.
    ///
    /// # Errors
    ///
    /// If the connection is over, or the multifeed is of another store.
    pub fn attach(&self, multifeed: &Multifeed) -> Result<(), Error> {
        self.handle.attach(multifeed)
    }

    /// Begins to end the connection in order; go on polling until it is over.
    pub fn disconnect(&self) {
        self.handle.disconnect();
    }

    /// The connection for other tasks.
    #[must_use]
    pub fn handle(&self) -> ReplicationHandle {
        self.handle.clone()
    }
}

impl<S: ByteStream> Future for Replication<S> {
    type Output = Result<(), ReplicationError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_end(cx)
    }
}

impl<S: ByteStream> Stream for Replication<S> {
    type Item = ReplicationEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ReplicationEvent>> {
        self.poll_event(cx)
    }
}

impl<S> Drop for Replication<S> {
    fn drop(&mut self) {
        let Some(id) = self.handle.id else { return };
        let last = &self.handle.last;
        self.handle.shared.with_unless_poisoned(|state, now| {
            if let Some(counters) = state.counters(id) {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = counters;
            }
            let link = state.links.remove(&id);
            state.retired.extend(link.and_then(|link| link.waker));
            if !state.node.is_closed(id) {
                state.node.abort(now, id);
            }
        });
    }
}

impl<S> fmt::Debug for Replication<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { handle, result, .. } = self;
        f.debug_struct("Replication")
            .field("id", &handle.id)
            .field("result", result)
            .finish_non_exhaustive()
    }
}
