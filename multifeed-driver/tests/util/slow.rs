//! Peers and disks that are slow, in virtual time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use multifeed_core::storage::{Batch, Op};
use multifeed_driver::{ByteStream, Execution, MemoryStorage, Sleep, Storage, Timer};

use super::{Clock, End};

/// An end that reads one byte a second once it is told to.
pub struct Trickle {
    end: End,
    clock: Clock,
    slow: Arc<AtomicBool>,
    sleep: Option<Sleep>,
}

impl Trickle {
    /// The end, and what makes it slow.
    pub fn new(end: End, clock: &Clock) -> (Self, Arc<AtomicBool>) {
        let slow = Arc::<AtomicBool>::default();
        let same = Arc::clone(&slow);
        (Self { end, clock: clock.clone(), slow, sleep: None }, same)
    }
}

impl ByteStream for Trickle {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.slow.load(Ordering::SeqCst) {
            return self.end.poll_read(cx, buffer);
        }
        if let Some(sleep) = &mut self.sleep {
            std::task::ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
        let read = self.end.poll_read(cx, &mut buffer[..1]);
        if read.is_ready() {
            let later = self.clock.now().after(Duration::from_secs(1));
            self.sleep = Some(self.clock.sleep_until(later));
        }
        read
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.end.poll_write(cx, data)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end.poll_close(cx)
    }
}

/// A disk that takes one second for every batch that writes.
pub struct SlowDisk {
    memory: Arc<MemoryStorage>,
    clock: Clock,
}

impl SlowDisk {
    pub fn new(clock: &Clock) -> Arc<Self> {
        Arc::new(Self { memory: Arc::default(), clock: clock.clone() })
    }

    /// The files, at once.
    pub fn memory(&self) -> Arc<MemoryStorage> {
        Arc::clone(&self.memory)
    }
}

impl Storage for SlowDisk {
    fn execute(&self, batch: Batch) -> Execution {
        if !batch.ops.iter().any(|op| matches!(op, Op::Write { .. })) {
            return self.memory.execute(batch);
        }
        let later = self.clock.now().after(Duration::from_secs(1));
        let (sleep, memory) = (self.clock.sleep_until(later), Arc::clone(&self.memory));
        Execution::Running(Box::pin(async move {
            sleep.await;
            match memory.execute(batch) {
                Execution::Done(result) => result,
                Execution::Running(running) => running.await,
            }
        }))
    }

    fn close(&self) {
        self.memory.close();
    }
}
