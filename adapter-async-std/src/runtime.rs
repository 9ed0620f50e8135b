//! smol and async-std as runtimes. Both are the same reactor (`async-io`) and the same threads for
//! blocking work (`blocking`); they differ in who runs tasks.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use futures_io::{AsyncRead, AsyncWrite};
use multifeed_driver::{Now, Runtime, Sleep, Task, Timer, Work, Wrap};

use crate::stream::FuturesStream;

/// Who runs the background task of a store.
pub trait Executor: Send + Sync + 'static {
    /// Runs `task` to its end beside the caller.
    fn spawn(task: Task);
}

/// The executor `E` with the reactor and the threads that all of this family share.
pub struct FuturesRuntime<E> {
    clock: Clock,
    executor: PhantomData<fn() -> E>,
}

/// smol's global executor.
#[cfg(feature = "smol")]
#[derive(Clone, Copy, Debug)]
pub enum Smol {}

#[cfg(feature = "smol")]
impl Executor for Smol {
    fn spawn(task: Task) {
        smol::spawn(task).detach();
    }
}

/// async-std's executor.
#[cfg(feature = "async-std")]
#[derive(Clone, Copy, Debug)]
pub enum AsyncStd {}

#[cfg(feature = "async-std")]
impl Executor for AsyncStd {
    fn spawn(task: Task) {
        async_std::task::spawn(task);
    }
}

impl<E> Default for FuturesRuntime<E> {
    fn default() -> Self {
        Self { clock: Clock::default(), executor: PhantomData }
    }
}

impl<E: Executor> Timer for FuturesRuntime<E> {
    fn now(&self) -> Now {
        self.clock.now()
    }

    fn sleep_until(&self, at: Now) -> Sleep {
        self.clock.sleep_until(at)
    }
}

impl<E: Executor> Runtime for FuturesRuntime<E> {
    fn spawn(&self, task: Task) {
        E::spawn(task);
    }

    fn spawn_blocking(&self, work: Work) {
        blocking::unblock(work).detach();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, E: Executor> Wrap<S> for FuturesRuntime<E> {
    type Stream = FuturesStream<S>;

    fn wrap(stream: S) -> FuturesStream<S> {
        FuturesStream::new(stream)
    }
}

impl<E> fmt::Debug for FuturesRuntime<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FuturesRuntime").field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// The monotonic clock of the operating system, with timers of `async-io`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Default for Clock {
    #[allow(clippy::disallowed_methods, reason = "an adapter is where the clock is read")]
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Timer for Clock {
    fn now(&self) -> Now {
        Now(self.0.elapsed())
    }

    fn sleep_until(&self, at: Now) -> Sleep {
        let at = self.0.checked_add(at.0).unwrap_or_else(|| self.0 + FAR);
        Box::pin(async move {
            async_io::Timer::at(at).await;
        })
    }
}

/// Later than any process lives: what cannot be expressed is not reached either.
const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);
