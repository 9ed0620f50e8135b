//! What is different for programs on async-std.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_std::net::TcpStream;
use futures_io::{AsyncRead, AsyncWrite};

pub use crate::runtime::AsyncStd;

/// An open store: a [`multifeed_driver::Multifeed`], opened by [`Hosted::open`](crate::Hosted::open).
pub type Multifeed = crate::Hosted<crate::FuturesRuntime<AsyncStd>>;

/// A TCP stream of async-std, for replication.
///
/// async-std's own `close` only flushes, so that the peer would never hear of the end; this one closes
/// the sending side. The streams of [`connect`](crate::connect) and [`Listener`](crate::Listener) do so too.
#[derive(Clone, Debug)]
pub struct Tcp(TcpStream);

impl Tcp {
    /// Takes a stream, and sets it up: small messages are not held back (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// If the peer is gone already.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown(Shutdown::Write))
    }
}
