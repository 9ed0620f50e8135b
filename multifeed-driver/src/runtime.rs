//! What an adapter brings of its runtime, beside streams and a clock.

use std::future::Future;
use std::pin::Pin;

use crate::traits::{ByteStream, Timer};

/// A runtime: a [`Timer`] that also runs tasks and blocking work.
///
/// Enough for [`Hosted`](crate::Hosted) and [`DiskStorage`](crate::DiskStorage), which all adapters share.
pub trait Runtime: Timer {
    /// Runs `task` to its end beside the caller. A runtime that ends may drop it before.
    fn spawn(&self, task: Task);

    /// Runs `work`, which blocks, on a thread where that does no harm. A runtime that ends may drop it
    /// without running it, but lets it end once it has begun.
    fn spawn_blocking(&self, work: Work);
}

/// A future for [`Runtime::spawn`].
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Work for [`Runtime::spawn_blocking`].
pub type Work = Box<dyn FnOnce() + Send>;

/// Streams that a runtime's adapter can replicate over.
#[diagnostic::on_unimplemented(
    message = "`{S}` is no byte stream of this runtime",
    label = "it must implement the `AsyncRead` and `AsyncWrite` that the adapter is for, and `Unpin`",
    note = "a stream that is not `Unpin` is boxed first: `Box::pin(stream)`"
)]
pub trait Wrap<S>: Runtime {
    /// The stream as the driver sees it.
    type Stream: ByteStream;

    /// Takes a stream.
    fn wrap(stream: S) -> Self::Stream;
}
