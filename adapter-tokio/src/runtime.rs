//! tokio as a runtime.

use std::time::Duration;

use multifeed_driver::{Now, Runtime, Sleep, Task, Timer, Work, Wrap};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

use crate::stream::TokioStream;

/// The tokio runtime it was made in, with its clock, also when that is paused for tests.
#[derive(Debug)]
pub struct Tokio {
    runtime: Handle,
    origin: Instant,
}

impl Tokio {
    /// The runtime that this is called in; its clock counts from here.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new() -> Self {
        Self { runtime: Handle::current(), origin: Instant::now() }
    }
}

impl Default for Tokio {
    fn default() -> Self {
        Self::new()
    }
}

impl Timer for Tokio {
    fn now(&self) -> Now {
        Now(self.origin.elapsed())
    }

    fn sleep_until(&self, at: Now) -> Sleep {
        // Handles may be polled by another runtime.
        let _entered = self.runtime.enter();
        let at = self.origin.checked_add(at.0).unwrap_or_else(|| self.origin + FAR);
        Box::pin(sleep_until(at))
    }
}

impl Runtime for Tokio {
    fn spawn(&self, task: Task) {
        self.runtime.spawn(task);
    }

    fn spawn_blocking(&self, work: Work) {
        self.runtime.spawn_blocking(work);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wrap<S> for Tokio {
    type Stream = TokioStream<S>;

    fn wrap(stream: S) -> TokioStream<S> {
        TokioStream::new(stream)
    }
}

/// Later than any process lives: what cannot be expressed is not reached either.
const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);
