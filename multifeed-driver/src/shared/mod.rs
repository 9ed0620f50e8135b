//! The node behind its lock, and what handles and the driver leave there for each other.
//!
//! | file | what is in it |
//! |---|---|
//! | `pump` | all that follows from what was done to the node |
//! | `commands` | commands whose answers somebody waits for |
//! | `news` | events, for those who want to hear of them |

mod commands;
mod news;
mod pump;

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use multifeed_core::storage::Queue;
use multifeed_core::{CommandId, ConnectOptions, ConnectionId, Counters, Node, NodeError};
use multifeed_proto::{Now, Role};

use crate::events::Subscribers;
use crate::link::{Ending, LinkState};
use crate::traits::{Running, Storage, Timer};
use commands::Waiting;

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
