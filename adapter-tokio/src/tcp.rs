//! TCP connections that are set up as replication wants them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};

/// Connects to a peer, trying all addresses of the name.
///
/// Small messages are not held back (`TCP_NODELAY`): requests and acknowledgements are small.
///
/// # Errors
///
/// If no address answers.
pub async fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
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
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
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
        loop {
            match self.0.accept().await {
                Ok((stream, address)) => {
                    // Fails for a peer that is gone already.
                    if stream.set_nodelay(true).is_ok() {
                        return Ok((stream, address));
                    }
                }
                Err(error) if is_about_one_peer(&error) => {}
                Err(error) if is_too_many_files(&error) => tokio::time::sleep(RETRY).await,
                Err(error) => return Err(error),
            }
        }
    }
}

fn is_about_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn is_too_many_files(error: &io::Error) -> bool {
    let codes: &[i32] = if cfg!(windows) {
        &[10024] // WSAEMFILE
    } else {
        &[24, 23] // EMFILE, ENFILE
    };
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Time until peers are accepted again after too many files were open.
const RETRY: Duration = Duration::from_millis(100);
