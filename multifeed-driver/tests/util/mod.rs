//! A runtime for tests: one thread, a virtual clock, storage that answers when it is told to.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod slow;
pub mod stores;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use multifeed_core::storage::{Batch, BatchResult, Fault, Memory};
use multifeed_driver::{
    ByteStream, Entropy, Error, Execution, Multifeed, Now, Options, RootKey, Sleep, Storage, Timer,
};

/// Tasks on a virtual clock.
pub struct Runtime {
    tasks: Vec<Task>,
    pub clock: Clock,
    pub storages: Vec<Arc<TestStorage>>,
    random: u64,
    pub polls: usize,
}

struct Task {
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The result of a spawned future, once it is there.
pub type Spawned<T> = Arc<Mutex<Option<T>>>;

impl Runtime {
    pub fn new(seed: u64) -> Self {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let (tasks, storages) = (Vec::new(), Vec::new());
        Self { tasks, clock: Clock::default(), storages, random, polls: 0 }
    }

    pub fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % below as u64) as usize
    }

    pub fn spawn<T: 'static>(&mut self, future: impl Future<Output = T> + 'static) -> Spawned<T> {
        let result = Spawned::default();
        let slot = Arc::clone(&result);
        let future = Box::pin(async move {
            let value = future.await;
            *slot.lock().unwrap() = Some(value);
        });
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        self.tasks.push(Task { future: Some(future), woken });
        result
    }

    /// Polls woken tasks, in random order, and lets slow batches end, in random order, until
    /// nothing is left to do. The clock stands still.
    pub fn run(&mut self) {
        for _ in 0..1_000_000 {
            let woken: Vec<usize> = (0..self.tasks.len())
                .filter(|task| self.tasks[*task].woken.0.load(Ordering::SeqCst))
                .filter(|task| self.tasks[*task].future.is_some())
                .collect();
            let waiting: usize = self.storages.iter().map(|storage| storage.waiting()).sum();
            if woken.is_empty() && waiting == 0 {
                return;
            }
            let choice = self.random(woken.len() + waiting);
            if let Some(task) = woken.get(choice) {
                self.poll(*task);
                continue;
            }
            let mut batch = choice - woken.len();
            for storage in &self.storages {
                let waiting = storage.waiting();
                if batch < waiting {
                    storage.finish(batch);
                    break;
                }
                batch -= waiting;
            }
        }
        panic!("no rest after a million steps");
    }

    /// Runs, and lets time pass from timer to timer, until `done`.
    pub fn run_until(&mut self, mut done: impl FnMut() -> bool) {
        for _ in 0..100_000 {
            self.run();
            if done() {
                return;
            }
            assert!(self.clock.advance(), "nothing is due, ever");
        }
        panic!("not done after a hundred thousand timers");
    }

    /// Runs until a future is ready.
    pub fn wait<T: 'static>(&mut self, future: impl Future<Output = T> + 'static) -> T {
        let result = self.spawn(future);
        self.run_until(|| result.lock().unwrap().is_some());
        let value = result.lock().unwrap().take();
        value.unwrap()
    }

    /// Drops all tasks, as the end of a real runtime does.
    pub fn drop_tasks(&mut self) {
        self.tasks.clear();
    }

    /// A store on `storage`.
    pub fn try_open(
        &mut self,
        storage: &Arc<TestStorage>,
        options: Options,
    ) -> Result<Multifeed, Error> {
        self.open_on(Arc::clone(storage) as Arc<dyn Storage>, options)
    }

    /// A store on any storage.
    pub fn open_on(
        &mut self,
        storage: Arc<dyn Storage>,
        options: Options,
    ) -> Result<Multifeed, Error> {
        let seed = std::array::from_fn(|_| self.random(256) as u8);
        let clock = Arc::new(self.clock.clone());
        let options = options.root_key(RootKey::new([7; 32]));
        let started = Multifeed::start(options, Entropy::from_seed(seed), clock, storage);
        let (opening, driver) = started.unwrap();
        self.spawn(driver);
        self.wait(opening)
    }

    pub fn open(&mut self, storage: &Arc<TestStorage>) -> Multifeed {
        self.try_open(storage, Options::default()).unwrap()
    }

    pub fn storage(&mut self, slow: bool) -> Arc<TestStorage> {
        let storage = Arc::new(TestStorage::default());
        storage.inner.lock().unwrap().slow = slow;
        self.storages.push(Arc::clone(&storage));
        storage
    }

    fn poll(&mut self, index: usize) {
        self.polls += 1;
        let task = &mut self.tasks[index];
        task.woken.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&task.woken));
        let Some(future) = &mut task.future else { return };
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            task.future = None;
        }
    }
}

/// A clock that goes when it is told to; clones are the same clock.
#[derive(Clone, Default)]
pub struct Clock(Arc<Mutex<ClockState>>);

#[derive(Default)]
struct ClockState {
    now: Duration,
    sleepers: BTreeMap<(Duration, usize), Waker>,
    next: usize,
}

impl Clock {
    /// Goes to the next timer, if there is one.
    pub fn advance(&self) -> bool {
        let mut state = self.0.lock().unwrap();
        let Some(((at, _), waker)) = state.sleepers.pop_first() else { return false };
        state.now = state.now.max(at);
        drop(state);
        waker.wake();
        true
    }
}

impl Timer for Clock {
    fn now(&self) -> Now {
        Now(self.0.lock().unwrap().now)
    }

    fn sleep_until(&self, at: Now) -> Sleep {
        let mut state = self.0.lock().unwrap();
        state.next += 1;
        Box::pin(Sleeper { clock: self.clone(), at: at.0, id: state.next })
    }
}

struct Sleeper {
    clock: Clock,
    at: Duration,
    id: usize,
}

impl Future for Sleeper {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.clock.0.lock().unwrap();
        if state.now >= self.at {
            return Poll::Ready(());
        }
        state.sleepers.insert((self.at, self.id), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.clock.0.lock().unwrap().sleepers.remove(&(self.at, self.id));
    }
}

/// Storage in memory that answers at once, or when the runtime chooses.
#[derive(Default)]
pub struct TestStorage {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    memory: Memory,
    slow: bool,
    closed: usize,
    waiting: Vec<(Batch, Arc<Mutex<Answered>>)>,
}

#[derive(Default)]
struct Answered {
    result: Option<BatchResult>,
    waker: Option<Waker>,
}

impl TestStorage {
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.inner.lock().unwrap().memory.set_fault(fault);
    }

    /// How often it was closed.
    pub fn closed(&self) -> usize {
        self.inner.lock().unwrap().closed
    }

    fn waiting(&self) -> usize {
        self.inner.lock().unwrap().waiting.len()
    }

    /// Executes a batch that waits.
    fn finish(&self, index: usize) {
        let mut inner = self.inner.lock().unwrap();
        let (batch, answered) = inner.waiting.remove(index);
        let result = inner.memory.execute(&batch);
        drop(inner);
        let mut answered = answered.lock().unwrap();
        answered.result = Some(result);
        if let Some(waker) = answered.waker.take() {
            waker.wake();
        }
    }
}

impl Storage for TestStorage {
    fn execute(&self, batch: Batch) -> Execution {
        let mut inner = self.inner.lock().unwrap();
        if !inner.slow {
            return Execution::Done(inner.memory.execute(&batch));
        }
        let answered = Arc::<Mutex<Answered>>::default();
        inner.waiting.push((batch, Arc::clone(&answered)));
        Execution::Running(Box::pin(std::future::poll_fn(move |cx| {
            let mut answered = answered.lock().unwrap();
            answered.waker = Some(cx.waker().clone());
            answered.result.take().map_or(Poll::Pending, Poll::Ready)
        })))
    }

    fn close(&self) {
        let mut inner = self.inner.lock().unwrap();
        inner.closed += 1;
        inner.memory.unlock();
    }
}

/// One end of a stream that moves few bytes at a time and holds back what is not flushed.
pub struct End {
    incoming: Arc<Mutex<Line>>,
    outgoing: Arc<Mutex<Line>>,
    chunk: usize,
    pub faults: Arc<Faults>,
}

/// How an end fails, when it is told to.
#[derive(Default)]
pub struct Faults {
    pub read: AtomicBool,
    pub write: AtomicBool,
}

#[derive(Default)]
struct Line {
    held: Vec<u8>,
    bytes: VecDeque<u8>,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Bytes that a line takes before its reader reads.
const CAPACITY: usize = 5000;

/// Two ends of a stream, each moving at most `chunk` bytes at once.
pub fn stream(chunk: usize) -> (End, End) {
    let (a, b) = (Arc::<Mutex<Line>>::default(), Arc::<Mutex<Line>>::default());
    let one =
        End { incoming: Arc::clone(&a), outgoing: Arc::clone(&b), chunk, faults: Arc::default() };
    (one, End { incoming: b, outgoing: a, chunk, faults: Arc::default() })
}

impl ByteStream for End {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.faults.read.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let mut line = self.incoming.lock().unwrap();
        if line.bytes.is_empty() && !line.closed {
            line.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = buffer.len().min(self.chunk).min(line.bytes.len());
        for (to, from) in buffer.iter_mut().zip(line.bytes.drain(..count)) {
            *to = from;
        }
        line.writer.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.faults.write.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut line = self.outgoing.lock().unwrap();
        assert!(!line.closed, "written after the end");
        let room = CAPACITY.saturating_sub(line.bytes.len() + line.held.len());
        let count = data.len().min(self.chunk).min(room);
        if count == 0 {
            line.writer = Some(cx.waker().clone());
            // A full stream hands on what it holds by itself.
            line.flush();
            return Poll::Pending;
        }
        line.held.extend_from_slice(&data[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.lock().unwrap().flush();
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut line = self.outgoing.lock().unwrap();
        line.flush();
        line.close();
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.outgoing.lock().unwrap().close();
    }
}

impl Line {
    fn flush(&mut self) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            self.bytes.extend(held);
            self.reader.take().into_iter().for_each(Waker::wake);
        }
    }

    fn close(&mut self) {
        self.closed = true;
        self.reader.take().into_iter().for_each(Waker::wake);
    }
}
