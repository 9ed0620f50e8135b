//! A third runtime, without any async crate: a thread for each connection over `std::net`.
//!
//! Two stores in memory sync over TCP: `cargo run -p multifeed-driver --example threads`.
#![allow(clippy::disallowed_methods)] // an adapter is where the clock is read

use std::error::Error;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use multifeed_driver::{
    ByteStream, Entropy, MemoryStorage, Multifeed, Now, Options, Role, RootKey, Sleep, Timer,
};

/// Wakes a parked thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a future on this thread, which sleeps while there is nothing to do.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        thread::park();
    }
}

/// The clock of the operating system; each sleep is a thread, of which a store needs about one.
struct SystemTimer(Instant);

impl Timer for SystemTimer {
    fn now(&self) -> Now {
        Now(self.0.elapsed())
    }

    fn sleep_until(&self, at: Now) -> Sleep {
        let left = at.since(self.now());
        // Whether it is over, and whom to wake then.
        let state = Arc::new(Mutex::new((false, None::<Waker>)));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            thread::sleep(left);
            let mut state = lock(&shared);
            state.0 = true;
            state.1.take().into_iter().for_each(Waker::wake);
        });
        Box::pin(std::future::poll_fn(move |cx| {
            let mut state = lock(&state);
            state.1 = Some(cx.waker().clone());
            if state.0 { Poll::Ready(()) } else { Poll::Pending }
        }))
    }
}

/// A TCP connection. Writing blocks, so a second thread reads: else two peers that both write would
/// wait for each other for ever. What can be in flight is limited by what was requested.
struct Tcp {
    stream: TcpStream,
    reads: Receiver<io::Result<Vec<u8>>>,
    rest: Vec<u8>,
    /// Whom the reading thread wakes.
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Tcp {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (sender, reads) = channel();
        let waker = Arc::<Mutex<Option<Waker>>>::default();
        let (mut from, to_wake) = (stream.try_clone()?, Arc::clone(&waker));
        thread::spawn(move || {
            let mut more = true;
            while more {
                let mut bytes = vec![0; 16_384];
                let read = from.read(&mut bytes).map(|count| bytes[..count].to_vec());
                more = read.as_ref().is_ok_and(|bytes| !bytes.is_empty());
                more &= sender.send(read).is_ok();
                lock(&to_wake).take().into_iter().for_each(Waker::wake);
            }
        });
        Ok(Self { stream, reads, rest: Vec::new(), waker })
    }
}

impl ByteStream for Tcp {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.rest.is_empty() {
            *lock(&self.waker) = Some(cx.waker().clone());
            match self.reads.try_recv() {
                Ok(read) => self.rest = read?,
                Err(TryRecvError::Empty) => return Poll::Pending,
                Err(TryRecvError::Disconnected) => return Poll::Ready(Ok(0)),
            }
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest[..count]);
        self.rest.drain(..count);
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.stream.write(data))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown(Shutdown::Write))
    }
}

/// Opens a store in memory. The seed must come from the operating system where it matters.
fn open(seed: u8) -> Result<Multifeed, Box<dyn Error>> {
    let options = Options::default().root_key(RootKey::new([7; 32]));
    let timer = Arc::new(SystemTimer(Instant::now()));
    let storage = Arc::new(MemoryStorage::default());
    let entropy = Entropy::from_seed([seed; 32]);
    let (opening, driver) = Multifeed::start(options, entropy, timer, storage)?;
    thread::spawn(|| block_on(driver));
    Ok(block_on(opening)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let (here, there) = (open(1)?, open(2)?);
    let writer = block_on(here.writer("local"))?;
    block_on(writer.append("hello from a thread"))?;

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let one =
        here.replicate(Tcp::new(TcpStream::connect(listener.local_addr()?)?)?, Role::Initiator);
    let two = there.replicate(Tcp::new(listener.accept()?.0)?, Role::Responder);
    let mut events = there.events();
    let threads = [thread::spawn(|| block_on(one)), thread::spawn(|| block_on(two))];
    while there.feeds().is_empty() {
        block_on(events.next());
    }
    let block = block_on(there.feeds()[0].get(0))?;
    println!("got: {}", String::from_utf8_lossy(&block));
    block_on(here.close())?;
    for thread in threads {
        thread.join().map_err(|_| "a connection's thread panicked")??;
    }
    Ok(block_on(there.close())?)
}
