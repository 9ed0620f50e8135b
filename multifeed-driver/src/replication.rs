//! One connection, as the application holds it: it moves the bytes of its own stream.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use multifeed_core::{
    ConnectOptions, ConnectionId, Counters, Fetch, MultifeedId, NodeError, Question, QuestionId,
    SyncState, WaitingFor,
};
use multifeed_proto::{Dialect, FeedKey, Now, PeerError, Role, UserData};

use crate::error::{Error, ReplicationError};
use crate::link::Ending;
use crate::multifeed::Multifeed;
use crate::pipe::Pipe;
use crate::shared::{Handle, Shared, State};
use crate::traits::{ByteStream, Sleep};

/// News of one connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ReplicationEvent {
    /// The Noise handshake is over.
    Connected {
        /// The peer's static Noise public key.
        remote_public_key: [u8; 32],
    },
    /// The handshake of a multifeed is over: the peer knows the root key.
    Ready {
        /// The multifeed.
        multifeed: MultifeedId,
        /// What the peer speaks: [`Dialect::Stream`] or [`Dialect::RootChannel`].
        dialect: Dialect,
        /// What the peer's application said by [`ConnectOptions::user_data`], or as the `userData` of the
        /// JavaScript; what is longer than [`UserData::MAX`] is left out.
        user_data: Option<UserData>,
    },
    /// Where [`Policy::Ask`](crate::Policy::Ask) is in force: which of these feeds are to be shared with the
    /// peer? To be answered with [`ReplicationHandle::answer`], in any time. One that was missed is among
    /// [`ReplicationHandle::questions`].
    Question(Question),
    /// Both sides agreed to replicate these feeds.
    RemoteFeeds {
        /// The multifeed.
        multifeed: MultifeedId,
        /// The feeds, sorted.
        keys: Vec<FeedKey>,
    },
    /// Blocks moved. At most ten times a second, and before [`InSync`](Self::InSync) and
    /// [`Closed`](Self::Closed).
    Progress(Counters),
    /// A multifeed ended by the fault of the peer: most often the peer does not have it. The others go
    /// on, and this one begins again should the peer open it later.
    MultifeedFailed {
        /// The multifeed.
        multifeed: MultifeedId,
        /// What the peer did wrong.
        error: PeerError,
    },
    /// Both sides have what the other wants of one multifeed, as far as they have told.
    MultifeedInSync {
        /// The multifeed.
        multifeed: MultifeedId,
    },
    /// There is something to exchange again in one multifeed.
    MultifeedOutOfSync {
        /// The multifeed.
        multifeed: MultifeedId,
    },
    /// Both sides have what the other wants of all multifeeds of the connection, as far as they have
    /// told. Those that ended do not count.
    InSync,
    /// There is something to exchange again.
    OutOfSync,
    /// Nothing has moved for a while, and the two are not in sync. The connection goes on.
    Stalled {
        /// What is missing.
        waiting: WaitingFor,
    },
    /// Events were dropped because they were not taken.
    Lagged {
        /// How many.
        missed: u64,
    },
    /// The connection is over. The last event.
    Closed {
        /// `Ok`: in order, after the peer had shown that it knows a root key, or by this side's wish. A peer
        /// that leaves before that is [`PeerError::Left`].
        result: Result<(), ReplicationError>,
    },
}

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

/// A connection as other tasks see it. Does not keep the store open.
#[derive(Clone)]
pub struct ReplicationHandle {
    shared: Arc<Shared>,
    id: Option<ConnectionId>,
    /// Counts when the connection is gone.
    last: Arc<Mutex<Counters>>,
}

/// What was said of the blocks that moved.
#[derive(Debug, Default)]
struct Progress {
    told: Counters,
    told_at: Now,
}

/// The end of the stream, after that of the connection.
struct Farewell {
    result: Result<(), ReplicationError>,
    /// When the peer is waited for no more.
    deadline: Sleep,
}

/// What the node wants of the stream.
struct View {
    reads: bool,
    /// All is written, and the sending side is to be closed.
    closes: bool,
    ending: Option<Ending>,
    aborted: bool,
    unsent: Vec<u8>,
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

    /// Moves bytes until no more can be moved, or other tasks should have their turn. Ready when the
    /// connection is over; then there is a result.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.farewell.is_some() {
            return self.poll_farewell(cx);
        }
        let mut budget = TURN_BYTES;
        while let (Some(id), Some(pipe)) = (self.handle.id, &mut self.pipe) {
            let (shared, events) = (&self.handle.shared, &mut self.events);
            let view = exchange(shared, id, pipe, &mut self.progress, events, cx.waker());
            let mut moved = pipe.poll_write(cx);
            if view.closes {
                pipe.poll_close(cx);
            }
            if let Some(ending) = view.ending {
                self.finish(ending, view.aborted, view.unsent);
                return self.poll_farewell(cx);
            }
            if view.reads {
                moved += pipe.poll_read(cx);
            }
            if moved == 0 {
                if pipe.failed().is_none() {
                    return Poll::Pending;
                }
                if self.gave_up {
                    self.finish(Ending::Order, false, Vec::new());
                    return self.poll_farewell(cx);
                }
                // All that had come before the failure is with the node.
                self.gave_up = true;
                self.handle.shared.with(|state, now| state.node.handle_cut(now, id));
            }
            budget = budget.saturating_sub(moved.max(TURN_BYTES / EXCHANGES));
            if budget == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// The connection is over. The stream is, too, unless there may be something left that the peer
    /// should hear.
    fn finish(&mut self, ending: Ending, aborted: bool, unsent: Vec<u8>) {
        let Some(mut pipe) = self.pipe.take() else { return };
        let listens = match &ending {
            Ending::Peer(error) => error.peer_may_listen(),
            // The peer has said all that it had to say, and reads.
            Ending::Order => !aborted && pipe.has_remote_end(),
            Ending::Store => false,
        };
        let failed = pipe.failed().cloned();
        let broken = failed.is_some();
        let failed = failed.map_or(Ok(()), |error| Err(ReplicationError::Stream(error)));
        let result = match ending {
            // Who leaves like this often cuts the stream; that says less.
            Ending::Peer(error @ PeerError::Left { .. }) => Err(error.into()),
            Ending::Peer(error) if !self.gave_up => Err(error.into()),
            Ending::Store => Err(ReplicationError::StoreClosed),
            Ending::Order if aborted => Err(ReplicationError::Aborted),
            Ending::Order | Ending::Peer(_) => failed,
        };
        if broken || !listens {
            self.result = Some(result);
            return;
        }
        pipe.take_last(unsent);
        self.pipe = Some(pipe);
        let timer = &self.handle.shared.timer;
        let deadline = timer.sleep_until(timer.now().after(FAREWELL));
        self.farewell = Some(Farewell { result, deadline });
    }

    /// Ends the stream in order, as far as the peer does its part in time. Ready when it is over.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut budget = TURN_BYTES;
        while let (Some(farewell), Some(pipe)) = (&mut self.farewell, &mut self.pipe) {
            let moved = pipe.poll_last(cx);
            if pipe.is_over() || farewell.deadline.as_mut().poll(cx).is_ready() {
                break;
            }
            if moved == 0 {
                return Poll::Pending;
            }
            budget = budget.saturating_sub(moved.max(TURN_BYTES / EXCHANGES));
            if budget == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        self.pipe = None;
        if let Some(farewell) = self.farewell.take() {
            self.result = Some(farewell.result);
        }
        Poll::Ready(())
    }
}

/// Gives the node what came from the stream, and the stream what comes from the node.
fn exchange<S: ByteStream>(
    shared: &Shared,
    id: ConnectionId,
    pipe: &mut Pipe<S>,
    progress: &mut Progress,
    events: &mut VecDeque<ReplicationEvent>,
    waker: &Waker,
) -> View {
    let mut turn = shared.turn();
    let now = turn.now;
    let state = turn.state();
    if let Some(link) = state.links.get_mut(&id) {
        // What this turn brings is looked at below; it need not wake this task.
        state.retired.extend(link.waker.take());
    }
    let news = pipe.take_news();
    if news.written > 0 {
        state.node.transmitted(now, id, news.written);
    }
    if !news.received.is_empty() {
        state.node.handle_bytes(now, id, news.received);
    }
    if news.ended {
        state.node.handle_eof(now, id);
    }
    turn.pump();

    let state = turn.state();
    progress.look(state, id, now, events);
    let left = pipe.fill(state.node.transmit(id));
    let reads = state.node.wants_read(id);
    let Some(link) = state.links.get_mut(&id) else {
        let ending = Some(Ending::Store);
        return View { reads: false, closes: false, ending, aborted: false, unsent: Vec::new() };
    };
    state.retired.extend(link.waker.replace(waker.clone()));
    let closes = link.ending.is_none() && left == 0 && pipe.is_drained();
    let closes = closes && state.node.is_shut_down(id);
    let (ending, unsent) = (link.ending.clone(), std::mem::take(&mut link.unsent));
    View { reads, closes, ending, aborted: link.aborted, unsent }
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

impl ReplicationHandle {
    /// The number of the connection; `None` if the store was closed when it was made.
    #[must_use]
    pub const fn id(&self) -> Option<ConnectionId> {
        self.id
    }

    /// Counts of the connection so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let counters = self.id.and_then(|id| self.shared.peek(|state| state.counters(id)));
        counters.unwrap_or_else(|| *self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the two ends have what they want of each other, and what is missing.
    #[must_use]
    pub fn sync_state(&self) -> SyncState {
        let state = self.id.map(|id| self.shared.peek(|state| state.node.sync_state(id)));
        state.unwrap_or(SyncState::Closed)
    }

    /// As [`Replication::sync_state_of`].
    #[must_use]
    pub fn sync_state_of(&self, multifeed: &Multifeed) -> SyncState {
        let id = self.id.filter(|_| multifeed.is_of(&self.shared));
        let look =
            |id| self.shared.peek(|state| state.node.multifeed_sync_state(id, multifeed.id()));
        id.map_or(SyncState::Closed, look)
    }

    /// As [`Replication::attach`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn attach(&self, multifeed: &Multifeed) -> Result<(), Error> {
        let id = self.id.ok_or(NodeError::UnknownConnection)?;
        if !multifeed.is_of(&self.shared) {
            return Err(NodeError::UnknownMultifeed.into());
        }
        Ok(self.shared.with(|state, now| state.node.attach(now, id, multifeed.id()))?)
    }

    /// Lets the peer in, where [`Peers::Ask`](crate::Peers::Ask) says that this is asked, after
    /// [`ReplicationEvent::Connected`]. To refuse it, [`abort`](Self::abort).
    ///
    /// # Errors
    ///
    /// If the connection is over.
    pub fn admit(&self) -> Result<(), Error> {
        let id = self.id.ok_or(NodeError::UnknownConnection)?;
        Ok(self.shared.with(|state, now| state.node.admit(now, id))?)
    }

    /// The questions of the connection that are not answered, the oldest first.
    #[must_use]
    pub fn questions(&self) -> Vec<Question> {
        let Some(id) = self.id else { return Vec::new() };
        self.shared.peek(|state| state.node.questions(id).cloned().collect())
    }

    /// Answers a question: the feeds that are allowed, and how much of each is fetched. All others that
    /// it named are refused.
    ///
    /// # Errors
    ///
    /// If it was answered before, or its connection or multifeed is over.
    pub fn answer(&self, question: QuestionId, allowed: &[(FeedKey, Fetch)]) -> Result<(), Error> {
        Ok(self.shared.with(|state, now| state.node.answer(now, question, allowed))?)
    }

    /// Allows feeds on the connection that were refused before, or changes how much of them is fetched.
    /// Lasts as long as the connection.
    ///
    /// # Errors
    ///
    /// If the connection is over, or the two do not share the multifeed yet.
    pub fn allow(&self, multifeed: &Multifeed, feeds: &[(FeedKey, Fetch)]) -> Result<(), Error> {
        let id = self.id.ok_or(NodeError::UnknownConnection)?;
        if !multifeed.is_of(&self.shared) {
            return Err(NodeError::UnknownMultifeed.into());
        }
        Ok(self.shared.with(|state, now| state.node.allow(now, id, multifeed.id(), feeds))?)
    }

    /// Begins to end the connection in order, while its [`Replication`] is polled.
    pub fn disconnect(&self) {
        if let Some(id) = self.id {
            self.shared.with(|state, now| state.node.disconnect(now, id));
        }
    }

    /// Gives the connection up at once.
    pub fn abort(&self) {
        let Some(id) = self.id else { return };
        self.shared.with(|state, now| {
            if let Some(link) = state.links.get_mut(&id) {
                link.aborted |= link.ending.is_none();
            }
            state.node.abort(now, id);
        });
    }
}

impl fmt::Debug for ReplicationHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicationHandle").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Progress {
    /// Takes the events of a connection, with the counts before them if those have changed.
    fn look(
        &mut self,
        state: &mut State,
        id: ConnectionId,
        now: Now,
        events: &mut VecDeque<ReplicationEvent>,
    ) {
        let Some(link) = state.links.get(&id) else { return };
        let news = link.has_events() || link.ending.is_some();
        if news || now >= self.told_at.after(PROGRESS) {
            let counters = state.counters(id).unwrap_or_default();
            if moved(&counters) != moved(&self.told) {
                events.push_back(ReplicationEvent::Progress(counters));
                self.told = counters;
            }
            self.told_at = now;
        }
        if let Some(link) = state.links.get_mut(&id) {
            link.take_events(events);
        }
    }
}

/// What makes progress worth telling.
const fn moved(counters: &Counters) -> (u64, u64, u64, u64) {
    (counters.blocks_received, counters.blocks_sent, counters.missing, counters.feeds)
}

/// Bytes that one turn moves at most.
const TURN_BYTES: usize = 0x10_0000;

/// Exchanges with the node in one turn at most.
const EXCHANGES: usize = 32;

/// Time for the peer to take what was queued before the end, and to end its side.
const FAREWELL: Duration = Duration::from_secs(2);

/// Time between two tellings of progress.
const PROGRESS: Duration = Duration::from_millis(100);
