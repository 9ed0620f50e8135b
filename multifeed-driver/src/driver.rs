//! The task behind a store: slow storage, timers, and what other tasks left undone.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use multifeed_core::storage::BatchResult;
use multifeed_proto::Now;

use crate::shared::Shared;
use crate::traits::{Running, Sleep};

/// A future to be spawned, that keeps a store going until it is closed.
///
/// Handles do what they can where they are called; the driver watches what runs elsewhere and the
/// clock. It ends when [`Multifeed::close`](crate::Multifeed::close) was called, or the last handle
/// dropped, and all is written. Dropped before that, it closes the storage; commands then fail with
/// [`NodeError::Closed`](multifeed_core::NodeError::Closed).
#[must_use = "a store does nothing unless its driver is spawned"]
pub struct Driver {
    shared: Arc<Shared>,
    running: Vec<Running>,
    sleep: Option<(Now, Sleep)>,
    ended: bool,
}

/// What is left to do after a turn.
struct Left {
    due: Option<Now>,
    /// Batches were started elsewhere.
    started: bool,
    /// The node has more to do at once.
    more: bool,
    /// The store can be closed.
    flushed: bool,
}

impl Driver {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared, running: Vec::new(), sleep: None, ended: false }
    }

    /// The batches that ended since the last call.
    fn poll_running(&mut self, cx: &mut Context<'_>) -> Vec<BatchResult> {
        let mut finished = Vec::new();
        self.running.retain_mut(|batch| match batch.as_mut().poll(cx) {
            Poll::Ready(result) => {
                finished.push(result);
                false
            }
            Poll::Pending => true,
        });
        finished
    }

    /// Tells the node what happened and looks at what is left to do.
    fn turn(&mut self, cx: &Context<'_>, finished: Vec<BatchResult>) -> Left {
        let asleep = self.sleep.as_ref().map(|(at, _)| *at);
        let mut turn = self.shared.turn();
        let now = turn.now;
        let state = turn.state();
        for result in finished {
            state.finished(now, result);
        }
        if state.node.poll_timeout().is_some_and(|due| due <= now) {
            state.node.handle_timeout(now);
        }
        turn.pump();
        let state = turn.state();
        let started = !state.driver.started.is_empty();
        self.running.append(&mut state.driver.started);
        let due = state.node.poll_timeout();
        state.driver.armed = match (asleep, due) {
            (Some(asleep), Some(due)) => Some(asleep.min(due)),
            (asleep, due) => asleep.or(due),
        };
        let before = state.driver.waker.replace(cx.waker().clone());
        state.retired.extend(before);
        Left { due, started, more: state.driver.more, flushed: state.is_flushed() }
    }

    /// Sleeps until `due`. Ready when that moment has come.
    fn poll_sleep(&mut self, cx: &mut Context<'_>, due: Option<Now>) -> Poll<()> {
        let Some(due) = due else { return Poll::Pending };
        let sleep = match self.sleep.take() {
            // To wake too early is harmless and cheaper than to set the timer each time.
            Some((at, sleep)) if at <= due => (at, sleep),
            Some(_) | None => {
                let at = due.max(self.shared.timer.now().after(SHORTEST_SLEEP));
                (at, self.shared.timer.sleep_until(at))
            }
        };
        let (_, sleep) = self.sleep.insert(sleep);
        sleep.as_mut().poll(cx)
    }

    fn finish(&mut self) {
        self.ended = true;
        self.shared.storage.close();
        self.shared.with_unless_poisoned(|state, _| state.end());
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        for _ in 0..ROUNDS {
            if this.ended {
                return Poll::Ready(());
            }
            let finished = this.poll_running(cx);
            let Left { due, started, more, flushed } = this.turn(cx, finished);
            if flushed {
                this.finish();
                return Poll::Ready(());
            }
            let slept = this.poll_sleep(cx, due).is_ready();
            if slept {
                this.sleep = None;
            }
            // What was started has to be polled once to know whom to wake.
            if !(started || more || slept) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if !self.ended {
            self.finish();
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("running", &self.running.len()).finish_non_exhaustive()
    }
}

/// Turns of the loop before other tasks get theirs.
const ROUNDS: usize = 8;

/// A timer that is due again and again must not keep the task busy.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);
