//! The runtimes that scenarios run on.

use std::future::Future;
use std::thread;
use std::time::Duration;

use futures_lite::future;
use multifeed_async_std::FuturesRuntime;
use multifeed_driver::{Runtime, Timer, Wrap};

/// A runtime with its adapter, and its TCP.
#[allow(async_fn_in_trait, reason = "only the scenarios call it, on one thread")]
pub trait Host: 'static {
    /// What the adapter calls the runtime.
    type Runtime: Runtime + Default + Wrap<Self::Stream, Stream: Send + 'static>;
    /// A TCP stream.
    type Stream: Send + 'static;
    /// A TCP listener.
    type Listener;

    /// Runs a future to its end, with a runtime for what it spawns.
    fn block_on<T>(future: impl Future<Output = T>) -> T;

    /// Listens on a free port of this machine, which it gives too.
    async fn listen() -> (Self::Listener, u16);

    /// The next peer.
    async fn accept(listener: &Self::Listener) -> Self::Stream;

    /// Connects to a port of this machine.
    async fn connect(port: u16) -> Self::Stream;
}

/// tokio with four threads.
#[derive(Debug)]
pub enum TokioThreads {}

/// tokio with the thread of the caller.
#[derive(Debug)]
pub enum TokioThread {}

/// smol.
#[derive(Debug)]
pub enum Smol {}

/// async-std, with its own TCP streams.
#[derive(Debug)]
pub enum AsyncStd {}

macro_rules! tokio_host {
    ($host:ty, $builder:expr) => {
        impl Host for $host {
            type Runtime = multifeed_tokio::Tokio;
            type Stream = tokio::net::TcpStream;
            type Listener = multifeed_tokio::Listener;

            fn block_on<T>(future: impl Future<Output = T>) -> T {
                $builder.enable_all().build().unwrap().block_on(future)
            }

            async fn listen() -> (Self::Listener, u16) {
                let listener = multifeed_tokio::Listener::bind("127.0.0.1:0").await.unwrap();
                let port = listener.local_addr().unwrap().port();
                (listener, port)
            }

            async fn accept(listener: &Self::Listener) -> Self::Stream {
                listener.accept().await.unwrap().0
            }

            async fn connect(port: u16) -> Self::Stream {
                multifeed_tokio::connect(("127.0.0.1", port)).await.unwrap()
            }
        }
    };
}

tokio_host!(TokioThreads, tokio::runtime::Builder::new_multi_thread().worker_threads(4));
tokio_host!(TokioThread, tokio::runtime::Builder::new_current_thread());

impl Host for Smol {
    type Runtime = FuturesRuntime<multifeed_async_std::Smol>;
    type Stream = async_net::TcpStream;
    type Listener = multifeed_async_std::Listener;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        smol::block_on(future)
    }

    async fn listen() -> (Self::Listener, u16) {
        let listener = multifeed_async_std::Listener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    async fn accept(listener: &Self::Listener) -> Self::Stream {
        listener.accept().await.unwrap().0
    }

    async fn connect(port: u16) -> Self::Stream {
        multifeed_async_std::connect(("127.0.0.1", port)).await.unwrap()
    }
}

impl Host for AsyncStd {
    type Runtime = FuturesRuntime<multifeed_async_std::async_std::AsyncStd>;
    type Stream = multifeed_async_std::async_std::Tcp;
    type Listener = async_std::net::TcpListener;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        async_std::task::block_on(future)
    }

    async fn listen() -> (Self::Listener, u16) {
        let listener = async_std::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    async fn accept(listener: &Self::Listener) -> Self::Stream {
        // Only a peer that is gone already cannot be set up.
        loop {
            let stream = listener.accept().await.unwrap().0;
            if let Ok(stream) = multifeed_async_std::async_std::Tcp::new(stream) {
                return stream;
            }
        }
    }

    async fn connect(port: u16) -> Self::Stream {
        let stream = async_std::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        multifeed_async_std::async_std::Tcp::new(stream).unwrap()
    }
}

/// Runs a scenario, which must end by itself.
pub fn run<H: Host>(scenario: impl Future<Output = ()>) {
    H::block_on(timeout::<H, _>("end", SCENARIO, scenario));
}

/// Waits for a future, for so long at most.
///
/// # Panics
///
/// After that; `what` says what it did not do.
pub async fn timeout<H: Host, T>(
    what: &str,
    limit: Duration,
    future: impl Future<Output = T>,
) -> T {
    let runtime = H::Runtime::default();
    let over = async {
        runtime.sleep_until(runtime.now().after(limit)).await;
        panic!("it did not {what} within {limit:?}");
    };
    future::or(future, over).await
}

/// Runs a future as a task of its own; what it gives can be waited for.
pub fn spawn<H: Host, T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> + Send {
    let (sender, receiver) = async_channel::bounded(1);
    H::Runtime::default().spawn(Box::pin(async move {
        let _nobody_may_wait = sender.send(future.await).await;
    }));
    async move { receiver.recv().await.expect("the task did not panic") }
}

/// Runs what blocks on a thread of its own.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = async_channel::bounded(1);
    let thread = thread::spawn(move || {
        let value = work();
        let _nobody_may_wait = sender.send_blocking(());
        value
    });
    let _panicked = receiver.recv().await;
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What no scenario needs.
const SCENARIO: Duration = Duration::from_secs(120);
