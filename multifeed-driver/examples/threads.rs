//! Without an async runtime: threads, and a connection over `std::net` on each of them.
//!
//! Two stores in memory sync over TCP: `cargo run -p multifeed-driver --example threads`.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // an adapter reads the clock; no lock is poisoned

use std::error::Error;
use std::future::poll_fn;
use std::io::{self, Cursor, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;

use futures_lite::future::block_on;
use multifeed_driver::{
    ByteStream, Hosted, MemoryStorage, Now, Options, Role, RootKey, Runtime, Sleep, Task, Timer,
    Work, Wrap,
};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

#[derive(Default)]
struct Threads;

impl Timer for Threads {
    fn now(&self) -> Now {
        Now(START.elapsed())
    }

    /// Each sleep is a thread, of which a store needs about one.
    fn sleep_until(&self, at: Now) -> Sleep {
        let mut told = None::<Waker>;
        Box::pin(poll_fn(move |cx| {
            let left = at.since(Self.now());
            if left.is_zero() {
                return Poll::Ready(());
            }
            if told.as_ref().is_none_or(|told| !told.will_wake(cx.waker())) {
                let waker = told.insert(cx.waker().clone()).clone();
                thread::spawn(move || {
                    thread::sleep(left);
                    waker.wake();
                });
            }
            Poll::Pending
        }))
    }
}

impl Runtime for Threads {
    fn spawn(&self, task: Task) {
        thread::spawn(|| block_on(task));
    }

    fn spawn_blocking(&self, work: Work) {
        thread::spawn(work);
    }
}

/// A TCP connection. Writing blocks, so a second thread reads, at most 32 KiB ahead: else two peers
/// that both write would wait for each other for ever.
struct Tcp {
    stream: TcpStream,
    reads: Receiver<io::Result<Vec<u8>>>,
    rest: Cursor<Vec<u8>>,
    reader: Arc<Mutex<Option<Waker>>>, // whom the reading thread wakes
}

impl Wrap<TcpStream> for Threads {
    type Stream = Tcp;

    fn wrap(stream: TcpStream) -> Tcp {
        let (sender, reads) = sync_channel(1);
        let reader = Arc::<Mutex<Option<Waker>>>::default();
        let (mut from, to_wake) = (stream.try_clone().unwrap(), Arc::clone(&reader));
        thread::spawn(move || {
            let mut more = true;
            while more {
                let mut bytes = vec![0; 16_384];
                let read = from.read(&mut bytes).map(|count| bytes[..count].to_vec());
                more = read.as_ref().is_ok_and(|bytes| !bytes.is_empty());
                more &= sender.send(read).is_ok();
                to_wake.lock().unwrap().take().into_iter().for_each(Waker::wake);
            }
        });
        Tcp { stream, reads, rest: Cursor::default(), reader }
    }
}

impl ByteStream for Tcp {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.rest.position() == self.rest.get_ref().len() as u64 {
            *self.reader.lock().unwrap() = Some(cx.waker().clone());
            match self.reads.try_recv() {
                Ok(read) => self.rest = Cursor::new(read?),
                Err(TryRecvError::Empty) => return Poll::Pending,
                Err(TryRecvError::Disconnected) => return Poll::Ready(Ok(0)),
            }
        }
        Poll::Ready(self.rest.read(buffer))
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

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::default().root_key(RootKey::new([7; 32])); // use 32 unpredictable bytes
    let open = || Hosted::<Threads>::open_on(Arc::new(MemoryStorage::default()), options.clone());
    let (here, there) = (block_on(open())?, block_on(open())?);
    let writer = block_on(here.writer("local"))?;
    block_on(writer.append("hello from a thread"))?;

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let one = here.replicate(TcpStream::connect(listener.local_addr()?)?, Role::Initiator);
    let two = there.replicate(listener.accept()?.0, Role::Responder);
    let ends = [thread::spawn(|| block_on(one)), thread::spawn(|| block_on(two))];
    let mut events = there.events();
    while there.feeds().is_empty() {
        block_on(events.next());
    }
    assert_eq!(block_on(there.feeds()[0].get(0))?, "hello from a thread");
    block_on(here.close())?;
    for end in ends {
        end.join().map_err(|_| "a connection's thread panicked")??;
    }
    println!("one block synced between two threads");
    Ok(block_on(there.close())?)
}
