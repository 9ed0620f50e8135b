//! The node behind its lock, and what handles and the driver leave there for each other.

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use multifeed_core::storage::Queue;
use multifeed_core::{
    CommandId, ConnectOptions, ConnectionId, Counters, Event as NodeEvent, FeedId, MultifeedId,
    Node, NodeError, Outcome, Output,
};
use multifeed_proto::{FeedKey, Now, Role};

use crate::events::{Event, Subscribers};
use crate::link::{Ending, LinkState};
use crate::replication::ReplicationEvent;
use crate::traits::{Execution, Running, Storage, Timer};

/// What all handles of one store share.
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) timer: Arc<dyn Timer>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) get_timeout: Option<Duration>,
    /// Number of [`Handle`]s.
    handles: AtomicUsize,
}

/// What the lock guards.
pub(crate) struct State {
    pub(crate) node: Node,
    pub(crate) links: BTreeMap<ConnectionId, LinkState>,
    pub(crate) subscribers: Subscribers,
    pub(crate) stage: Stage,
    /// Wakers to call once the lock is given back.
    pub(crate) wakes: Vec<Waker>,
    /// Wakers to drop once the lock is given back: one may be all that keeps a task, whose handles
    /// then want the lock.
    pub(crate) retired: Vec<Waker>,
    pub(crate) driver: DriverState,
    commands: BTreeMap<CommandId, Waiting>,
    queue: Queue,
    /// Commands that were answered at once since a task had to let others run.
    at_once: usize,
    /// Batches that run elsewhere.
    running: usize,
    /// Futures that wait for the end of the store.
    closers: Vec<Waker>,
}

/// What the driver is to know when it runs next.
#[derive(Default)]
pub(crate) struct DriverState {
    pub(crate) waker: Option<Waker>,
    /// Batches that were started elsewhere and are not watched yet.
    pub(crate) started: Vec<Running>,
    /// The moment the driver sleeps until.
    pub(crate) armed: Option<Now>,
    /// The last turn ended before all was done.
    pub(crate) more: bool,
}

/// How far the life of a store is.
#[derive(Debug)]
pub(crate) enum Stage {
    Open,
    Closing(CommandId),
    /// The node is closed; the storage is not, yet.
    Flushed(Result<(), NodeError>),
    Ended(Result<(), NodeError>),
}

/// A command without an answer, or an answer that was not taken yet.
enum Waiting {
    Pending(Option<Waker>),
    Done(Result<Outcome, NodeError>),
}

impl Shared {
    pub(crate) fn new(
        node: Node,
        event_capacity: usize,
        get_timeout: Option<Duration>,
        timer: Arc<dyn Timer>,
        storage: Arc<dyn Storage>,
    ) -> Arc<Self> {
        let state = State {
            node,
            links: BTreeMap::new(),
            subscribers: Subscribers::new(event_capacity),
            stage: Stage::Open,
            wakes: Vec::new(),
            retired: Vec::new(),
            driver: DriverState::default(),
            commands: BTreeMap::new(),
            queue: Queue::new(),
            at_once: 0,
            running: 0,
            closers: Vec::new(),
        };
        let handles = AtomicUsize::new(0);
        Arc::new(Self { state: Mutex::new(state), timer, storage, get_timeout, handles })
    }

    /// Does something to the node, and all that follows from it.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut State, Now) -> T) -> T {
        let mut turn = self.turn();
        let now = turn.now;
        let value = act(turn.state(), now);
        turn.pump();
        value
    }

    /// The same for destructors, which must not panic.
    pub(crate) fn with_unless_poisoned(&self, act: impl FnOnce(&mut State, Now)) {
        let now = self.timer.now();
        if let Ok(state) = self.state.lock() {
            let mut turn = Turn { shared: self, now, state: Some(state) };
            act(turn.state(), now);
            turn.pump();
        }
    }

    /// The lock, for what takes several steps.
    pub(crate) fn turn(&self) -> Turn<'_> {
        let now = self.timer.now();
        Turn { shared: self, now, state: Some(self.lock()) }
    }

    /// Looks at the node without changing it.
    pub(crate) fn peek<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(self.turn().state())
    }

    /// The same for destructors, which must not panic.
    pub(crate) fn peek_unless_poisoned(&self, look: impl FnOnce(&mut State)) {
        let now = self.timer.now();
        if let Ok(state) = self.state.lock() {
            look(Turn { shared: self, now, state: Some(state) }.state());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the node panicked in another task, and what it holds is unknown")
    }
}

/// The lock of a store. When it is given back, everybody who has to hear of what happened is woken:
/// not before, since a waker may run anything.
pub(crate) struct Turn<'a> {
    shared: &'a Shared,
    /// The time at its beginning.
    pub(crate) now: Now,
    /// Always there, but in its destructor.
    state: Option<MutexGuard<'a, State>>,
}

impl Turn<'_> {
    pub(crate) fn state(&mut self) -> &mut State {
        self.state.as_mut().expect("the lock is held until the turn is dropped")
    }

    /// Does all that follows from what was done to the node.
    pub(crate) fn pump(&mut self) {
        let (now, storage) = (self.now, &*self.shared.storage);
        self.state().pump(now, storage);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(mut state) = self.state.take() {
            let wakes = mem::take(&mut state.wakes);
            let retired = mem::take(&mut state.retired);
            drop(state);
            drop(retired);
            wakes.into_iter().for_each(Waker::wake);
        }
    }
}

impl State {
    /// A new connection, if the store is open.
    pub(crate) fn connect(
        &mut self,
        now: Now,
        role: Role,
        options: ConnectOptions,
    ) -> Option<ConnectionId> {
        if !matches!(self.stage, Stage::Open) {
            return None;
        }
        let id = self.node.connect_with(now, role, options)?;
        self.links.insert(id, LinkState::default());
        Some(id)
    }

    /// Gives the node a command whose answer will be waited for; `None` if nobody runs what the node
    /// asks for any more.
    pub(crate) fn give(&mut self, give: impl FnOnce(&mut Node) -> CommandId) -> Option<CommandId> {
        if matches!(self.stage, Stage::Flushed(_) | Stage::Ended(_)) {
            return None;
        }
        let id = give(&mut self.node);
        self.commands.insert(id, Waiting::Pending(None));
        Some(id)
    }

    /// Whether a command may be answered the first time it is polled. Every so often it may not: a
    /// loop of commands that never wait would keep its thread to itself.
    ///
    /// Counted over all tasks: while one does not let go of a thread, only those of other threads
    /// count too.
    pub(crate) const fn may_answer_at_once(&mut self) -> bool {
        self.at_once = (self.at_once + 1) % COMMANDS_AT_ONCE;
        self.at_once != 0
    }

    pub(crate) fn poll_command(
        &mut self,
        id: CommandId,
        waker: &Waker,
    ) -> Poll<Result<Outcome, NodeError>> {
        match self.commands.remove(&id) {
            Some(Waiting::Done(result)) => Poll::Ready(result),
            Some(Waiting::Pending(before)) => {
                self.retired.extend(before);
                self.commands.insert(id, Waiting::Pending(Some(waker.clone())));
                Poll::Pending
            }
            None => Poll::Ready(Err(NodeError::Closed)),
        }
    }

    pub(crate) fn forget_command(&mut self, id: CommandId) {
        if let Some(Waiting::Pending(waker)) = self.commands.remove(&id) {
            self.retired.extend(waker);
            self.node.cancel(id);
        }
    }

    /// Begins to close the store, if that has not begun.
    pub(crate) fn start_close(&mut self, now: Now) {
        if matches!(self.stage, Stage::Open) {
            self.stage = Stage::Closing(self.node.close(now));
        }
    }

    /// How the store closed, once its lock is free.
    pub(crate) fn poll_closed(&mut self, waker: &Waker) -> Poll<Result<(), NodeError>> {
        if let Stage::Ended(result) = &self.stage {
            return Poll::Ready(result.clone());
        }
        if !self.closers.iter().any(|closer| closer.will_wake(waker)) {
            self.closers.push(waker.clone());
        }
        Poll::Pending
    }

    /// Whether the store is closed and its lock free.
    pub(crate) const fn is_closed(&self) -> bool {
        matches!(self.stage, Stage::Ended(_))
    }

    /// What is asked for feeds: a store that is closed has none any more.
    pub(crate) fn while_open(&self) -> Option<&Node> {
        (!self.is_closed()).then_some(&self.node)
    }

    /// Whether the driver has nothing more to do than to close the storage.
    pub(crate) fn is_flushed(&self) -> bool {
        matches!(self.stage, Stage::Flushed(_)) && self.running == 0
    }

    /// The storage is closed, or nobody will ever run it again: whoever still waits is told.
    pub(crate) fn end(&mut self) {
        let result = match mem::replace(&mut self.stage, Stage::Open) {
            Stage::Flushed(result) | Stage::Ended(result) => result,
            Stage::Open | Stage::Closing(_) => Err(NodeError::Closed),
        };
        self.stage = Stage::Ended(result);
        self.fail_commands();
        for link in self.links.values_mut() {
            link.end(Ending::Store, &mut self.wakes);
        }
        self.subscribers.end(&mut self.wakes);
        self.wakes.append(&mut self.closers);
    }

    /// A batch that ran elsewhere is over.
    pub(crate) fn finished(&mut self, now: Now, result: multifeed_core::storage::BatchResult) {
        self.running -= 1;
        self.queue.finished(result.id);
        self.node.handle_storage(now, result);
    }

    /// Does what the node asks for until nothing is left, or enough for one turn; then the driver
    /// goes on.
    fn pump(&mut self, now: Now, storage: &dyn Storage) {
        self.driver.more = true;
        for _ in 0..BATCHES_PER_TURN {
            self.drain();
            if !self.start_batch(now, storage) {
                self.driver.more = false;
                break;
            }
        }
        self.drain();
        while let Some(id) = self.node.poll_transmit() {
            if let Some(link) = self.links.get_mut(&id) {
                self.wakes.extend(link.waker.take());
            }
        }
        let due = self.node.poll_timeout();
        let sooner = due.is_some_and(|due| self.driver.armed.is_none_or(|armed| due < armed));
        if sooner || self.driver.more || self.is_flushed() {
            self.wake_driver();
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Storage(batch) => self.queue.submit(batch),
                Output::Completed { command, result } => self.completed(command, result),
                Output::Event(event) => self.told(event),
                // The enum is open for more kinds; one that is not known here is for others.
                _ => {}
            }
        }
    }

    /// Executes the next batch, if there is one that may run.
    fn start_batch(&mut self, now: Now, storage: &dyn Storage) -> bool {
        if matches!(self.stage, Stage::Ended(_)) {
            return false;
        }
        // What is answered at once needs no thread, and does not wait for one.
        let full = self.running >= MAX_RUNNING;
        let Some(batch) = self.queue.start_if(|batch| !(full && batch.is_long())) else {
            return false;
        };
        match storage.execute(batch) {
            Execution::Done(result) => {
                self.queue.finished(result.id);
                self.node.handle_storage(now, result);
            }
            Execution::Running(running) => {
                self.running += 1;
                self.driver.started.push(running);
                self.wake_driver();
            }
        }
        true
    }

    fn wake_driver(&mut self) {
        self.wakes.extend(self.driver.waker.take());
    }

    fn completed(&mut self, id: CommandId, result: Result<Outcome, NodeError>) {
        if matches!(self.stage, Stage::Closing(close) if close == id) {
            self.stage = Stage::Flushed(result.map(|_| ()));
            self.fail_commands();
            return;
        }
        // An answer that nobody waits for is dropped.
        if let Some(waiting) = self.commands.get_mut(&id) {
            if let Waiting::Pending(waker) = mem::replace(waiting, Waiting::Done(result)) {
                self.wakes.extend(waker);
            }
        }
    }

    fn fail_commands(&mut self) {
        for waiting in self.commands.values_mut() {
            if let Waiting::Pending(waker) = waiting {
                self.wakes.extend(waker.take());
                *waiting = Waiting::Done(Err(NodeError::Closed));
            }
        }
    }

    fn told(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::FeedAdded { multifeed, feed } => {
                if let Some(info) = self.node.feed(feed) {
                    let event = Event::FeedAdded { multifeed, key: info.key };
                    self.publish(event, Some(&[multifeed]));
                }
            }
            NodeEvent::Appended { feed, start, length } => {
                self.publish_for(feed, |key| Event::Appended { key, start, length });
            }
            NodeEvent::Downloaded { feed, start, length } => {
                self.publish_for(feed, |key| Event::Downloaded { key, start, length });
            }
            NodeEvent::Uploaded { connection, feed, start, length } => {
                self.publish_for(feed, |key| Event::Uploaded { connection, key, start, length });
            }
            NodeEvent::Cleared { feed, start, length } => {
                self.publish_for(feed, |key| Event::Cleared { key, start, length });
            }
            NodeEvent::FeedBlocked { key } => self.publish(Event::FeedBlocked { key }, None),
            NodeEvent::PeerOpened { connection, feed } => {
                self.publish_for(feed, |key| Event::PeerOpened { connection, key });
            }
            NodeEvent::PeerClosed { connection, feed } => {
                self.publish_for(feed, |key| Event::PeerClosed { connection, key });
            }
            NodeEvent::FeedInSync { connection, feed } => {
                self.publish_for(feed, |key| Event::FeedInSync { connection, key });
            }
            NodeEvent::FeedOutOfSync { connection, feed } => {
                self.publish_for(feed, |key| Event::FeedOutOfSync { connection, key });
            }
            NodeEvent::FeedFailed { feed, error } => {
                self.publish_for(feed, |key| Event::FeedFailed { key, error });
            }
            NodeEvent::StorageFailed { multifeed, error } => {
                self.publish(Event::StorageFailed { multifeed, error }, Some(&[multifeed]));
            }
            NodeEvent::Connected { connection, remote_public_key } => {
                self.publish(Event::Connected { connection }, None);
                self.tell(connection, ReplicationEvent::Connected { remote_public_key });
            }
            NodeEvent::Ready { connection, multifeed, dialect, user_data } => {
                let ready = ReplicationEvent::Ready { multifeed, dialect, user_data };
                self.tell(connection, ready);
            }
            NodeEvent::Question(question) => {
                self.tell(question.connection, ReplicationEvent::Question(question));
            }
            NodeEvent::RemoteFeeds { connection, multifeed, keys } => {
                self.tell(connection, ReplicationEvent::RemoteFeeds { multifeed, keys });
            }
            NodeEvent::MultifeedFailed { connection, multifeed, error } => {
                self.tell(connection, ReplicationEvent::MultifeedFailed { multifeed, error });
            }
            NodeEvent::MultifeedInSync { connection, multifeed } => {
                self.tell(connection, ReplicationEvent::MultifeedInSync { multifeed });
            }
            NodeEvent::MultifeedOutOfSync { connection, multifeed } => {
                self.tell(connection, ReplicationEvent::MultifeedOutOfSync { multifeed });
            }
            NodeEvent::Extension { connection, feed, name, payload } => {
                let key = feed.and_then(|feed| self.node.feed(feed)).map(|info| info.key);
                let of = feed.map(|feed| self.node.multifeeds_of(feed).collect::<Vec<_>>());
                self.publish(Event::Extension { connection, key, name, payload }, of.as_deref());
            }
            NodeEvent::InSync { connection } => self.tell(connection, ReplicationEvent::InSync),
            NodeEvent::OutOfSync { connection } => {
                self.tell(connection, ReplicationEvent::OutOfSync);
            }
            NodeEvent::Stalled { connection, waiting } => {
                self.tell(connection, ReplicationEvent::Stalled { waiting });
            }
            NodeEvent::Closed { connection, error, counters, unsent } => {
                self.publish(Event::Closed { connection, error: error.clone() }, None);
                if let Some(link) = self.links.get_mut(&connection) {
                    link.counters = counters;
                    link.unsent = unsent;
                    link.end(error.map_or(Ending::Order, Ending::Peer), &mut self.wakes);
                }
            }
            // The enum is open for more kinds; handles know these.
            _ => {}
        }
    }

    fn publish_for(&mut self, feed: FeedId, event: impl FnOnce(FeedKey) -> Event) {
        if let Some(info) = self.node.feed(feed) {
            let of: Vec<MultifeedId> = self.node.multifeeds_of(feed).collect();
            self.publish(event(info.key), Some(&of));
        }
    }

    fn publish(&mut self, event: Event, of: Option<&[MultifeedId]>) {
        self.subscribers.publish(&event, of, &mut self.wakes);
    }

    fn tell(&mut self, connection: ConnectionId, event: ReplicationEvent) {
        if let Some(link) = self.links.get_mut(&connection) {
            link.push(event);
            self.wakes.extend(link.waker.take());
        }
    }

    /// Counts of a connection; the last ones known if it is over, `None` if it is forgotten.
    pub(crate) fn counters(&mut self, connection: ConnectionId) -> Option<Counters> {
        let link = self.links.get_mut(&connection)?;
        if !self.node.is_closed(connection) {
            link.counters = self.node.counters(connection);
        }
        Some(link.counters)
    }
}

/// A share in a store: when the last one is dropped, the store closes.
pub(crate) struct Handle(Arc<Shared>);

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        shared.handles.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.0))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.0.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.with_unless_poisoned(State::start_close);
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle(..)")
    }
}

/// Batches executed on behalf of one caller.
const BATCHES_PER_TURN: usize = 64;

/// Commands answered at once until a task must let others run: with the largest batches that are
/// executed where they are asked for, 8 MiB.
const COMMANDS_AT_ONCE: usize = 32;

/// Long batches that run elsewhere at the same time.
const MAX_RUNNING: usize = 8;
