//! What a runtime has to bring: a byte stream, a timer, storage.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use multifeed_core::storage::{Batch, BatchResult};
use multifeed_proto::Now;

/// A stream of bytes to a peer and back, such as a TCP connection.
///
/// The methods follow the rule of all polling: [`Poll::Pending`] means that the waker of the last
/// call is woken when it is worth trying again.
pub trait ByteStream: Unpin {
    /// Reads some bytes; 0 if the peer closed its sending side.
    ///
    /// # Errors
    ///
    /// Any; the connection is given up.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes some of `data`, which is not empty.
    ///
    /// # Errors
    ///
    /// Any; what the peer has sent already is still read.
    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>>;

    /// Sends what was written and is held back in a buffer.
    ///
    /// # Errors
    ///
    /// As [`poll_write`](Self::poll_write).
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Closes the sending side. Reading goes on.
    ///
    /// # Errors
    ///
    /// As [`poll_write`](Self::poll_write).
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A monotonic clock.
pub trait Timer: Send + Sync + 'static {
    /// The time since an origin that stays the same for the life of this value.
    fn now(&self) -> Now;

    /// A future that is ready at the moment `at`, or somewhat later.
    fn sleep_until(&self, at: Now) -> Sleep;
}

/// A future of [`Timer::sleep_until`].
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An executor of storage batches.
///
/// The driver gives a batch out only when it may run beside all those that it gave out before, so
/// batches may be executed at once and end in any order.
pub trait Storage: Send + Sync + 'static {
    /// Executes a batch: where it stands what takes microseconds, because handing it over costs
    /// more; elsewhere what may wait for the disk.
    ///
    /// Must not call back into the handles of the store.
    fn execute(&self, batch: Batch) -> Execution;

    /// Closes files and gives the lock of the store up. Called once, after the last batch.
    fn close(&self);
}

/// How far the execution of a batch is.
pub enum Execution {
    /// Over.
    Done(BatchResult),
    /// Running elsewhere, whether this future is polled or not; it tells the end.
    Running(Running),
}

/// The future of a batch that runs elsewhere.
pub type Running = Pin<Box<dyn Future<Output = BatchResult> + Send>>;

impl fmt::Debug for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(result) => f.debug_tuple("Done").field(result).finish(),
            Self::Running(_) => f.write_str("Running(..)"),
        }
    }
}
