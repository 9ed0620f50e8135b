//! TCP connections that are set up as replication wants them.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use async_io::Async;
use async_net::{AsyncToSocketAddrs, TcpListener, TcpStream};
use multifeed_driver::{Door, Listen, LobbyLimits, Origin, SILENT, accept};

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
pub struct Listener {
    listener: TcpListener,
    tcp: Tcp,
    door: Mutex<Door<Accepted>>,
    timer: Clock,
}

/// The same listener, as it can be polled.
#[derive(Debug)]
struct Tcp(Arc<Async<std::net::TcpListener>>);

type Accepted = (Async<std::net::TcpStream>, SocketAddr);

impl Listener {
    /// Listens on `address`; port 0 picks a free one.
    ///
    /// # Errors
    ///
    /// If the address is taken, not ours, or not allowed.
    pub async fn bind(address: impl AsyncToSocketAddrs) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let (tcp, door) = (Tcp(listener.clone().into()), Mutex::new(Door::new(SILENT)));
        Ok(Self { listener, tcp, door, timer: Clock::default() })
    }

    /// The same with other limits for peers that have said nothing: see [`next_peer`](Self::next_peer).
    #[must_use]
    pub fn silent_peers(self, limits: LobbyLimits) -> Self {
        Self { door: Mutex::new(Door::new(limits)), ..self }
    }

    /// The address that peers connect to.
    ///
    /// # Errors
    ///
    /// If the operating system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next peer that has said something. Dropping this future loses none.
    ///
    /// Peers that connect and say nothing wait here, with places and a time of their own, and cost no more than
    /// a socket. What comes out is to be replicated in the role of
    /// [`Role::Responder`](multifeed_driver::Role::Responder), with the address as options, so that the store
    /// bounds peers that have proven nothing in its turn: `store.replicate_with(stream, Role::Responder, address)`.
    ///
    /// Goes on after errors of a single connection, and where too many files are open. To be awaited by one task
    /// at a time.
    ///
    /// # Errors
    ///
    /// If the listener itself is broken.
    pub async fn next_peer(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, address) =
            poll_fn(|cx| self.door().poll_peer(cx, &self.tcp, &self.timer)).await?;
        Ok((stream.into(), address))
    }

    /// Peers that [`next_peer`](Self::next_peer) turned away because they said nothing, so far.
    #[must_use]
    pub fn turned_away(&self) -> u64 {
        self.door().turned_away()
    }

    /// The next connection, whether the other side has said something or not. Dropping this future loses
    /// none. A server that strangers can reach uses [`next_peer`](Self::next_peer).
    ///
    /// Goes on after errors of a single connection, and waits while too many files are open, so that
    /// a burst of peers does not end a server.
    ///
    /// # Errors
    ///
    /// If the listener itself is broken.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let prepare = |(stream, _): &(TcpStream, SocketAddr)| stream.set_nodelay(true);
        accept(&self.timer, || self.listener.accept(), prepare).await
    }

    fn door(&self) -> MutexGuard<'_, Door<Accepted>> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listen for Tcp {
    type Peer = Accepted;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        let (stream, address) = ready!(poll_io(&self.0, cx, std::net::TcpListener::accept))?;
        let stream = Async::new(stream)?;
        // It fails only for one that is gone already, which the next look shows.
        let _ = stream.get_ref().set_nodelay(true);
        Poll::Ready(Ok((stream, address)))
    }

    fn poll_spoken(&self, (stream, _): &Accepted, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let read = ready!(poll_io(stream, cx, |stream| stream.peek(&mut [0])))?;
        Poll::Ready(Ok(read > 0))
    }

    fn origin(&self, (_, address): &Accepted) -> Option<Origin> {
        Some((*address).into())
    }
}

/// Tries until it works, fails, or there is nothing to be had at the moment.
fn poll_io<S, T>(
    socket: &Async<S>,
    cx: &mut Context<'_>,
    mut act: impl FnMut(&S) -> io::Result<T>,
) -> Poll<io::Result<T>> {
    loop {
        match act(socket.get_ref()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
        ready!(socket.poll_readable(cx))?;
    }
}
