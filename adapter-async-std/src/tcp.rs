//! TCP connections that are set up as replication wants them.

use std::io;
use std::net::SocketAddr;

use async_net::{AsyncToSocketAddrs, TcpListener, TcpStream};
use multifeed_driver::accept;

use crate::runtime::Clock;

/// Connects to a peer, trying all addresses of the name.
///
/// Small messages are not held back (`TCP_NODELAY`): requests and acknowledgements are small.
///
/// # Errors
///
/// If no address answers.
pub async fn connect(address: impl AsyncToSocketAddrs) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Waits for peers.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Listens on `address`; port 0 picks a free one.
    ///
    /// # Errors
    ///
    /// If the address is taken, not ours, or not allowed.
    pub async fn bind(address: impl AsyncToSocketAddrs) -> io::Result<Self> {
        Ok(Self(TcpListener::bind(address).await?))
    }

    /// The address that peers connect to.
    ///
    /// # Errors
    ///
    /// If the operating system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// The next peer. Dropping this future loses none.
    ///
    /// Goes on after errors of a single connection, and waits while too many files are open, so that
    /// a burst of peers does not end a server.
    ///
    /// # Errors
    ///
    /// If the listener itself is broken.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let prepare = |(stream, _): &(TcpStream, SocketAddr)| stream.set_nodelay(true);
        accept(&Clock::default(), || self.0.accept(), prepare).await
    }
}
