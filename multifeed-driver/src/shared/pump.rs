//! All that follows from what was done to the node: batches, answers, wakers.

use multifeed_core::Output;
use multifeed_core::storage::BatchResult;
use multifeed_proto::Now;

use super::{Stage, State};
use crate::traits::{Execution, Storage};

/// Batches executed on behalf of one caller.
const BATCHES_PER_TURN: usize = 64;

/// Long batches that run elsewhere at the same time.
const MAX_RUNNING: usize = 8;

impl State {
    /// A batch that ran elsewhere is over.
    pub(crate) fn finished(&mut self, now: Now, result: BatchResult) {
        self.running -= 1;
        self.queue.finished(result.id);
        self.node.handle_storage(now, result);
    }

    /// Does what the node asks for until nothing is left, or enough for one turn; then the driver
    /// goes on.
    pub(super) fn pump(&mut self, now: Now, storage: &dyn Storage) {
        self.driver.more = true;
        for _ in 0..BATCHES_PER_TURN {
            self.drain();
            if !self.start_batch(now, storage) {
                self.driver.more = false;
                break;
            }
        }
        self.drain();
        while let Some(id) = self.node.poll_transmit() {
            if let Some(link) = self.links.get_mut(&id) {
                self.wakes.extend(link.waker.take());
            }
        }
        let due = self.node.poll_timeout();
        let sooner = due.is_some_and(|due| self.driver.armed.is_none_or(|armed| due < armed));
        if sooner || self.driver.more || self.is_flushed() {
            self.wake_driver();
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Storage(batch) => self.queue.submit(batch),
                Output::Completed { command, result } => self.completed(command, result),
                Output::Event(event) => self.told(event),
                // The enum is open for more kinds; one that is not known here is for others.
                _ => {}
            }
        }
    }

    /// Executes the next batch, if there is one that may run.
    fn start_batch(&mut self, now: Now, storage: &dyn Storage) -> bool {
        if matches!(self.stage, Stage::Ended(_)) {
            return false;
        }
        // What is answered at once needs no thread, and does not wait for one.
        let full = self.running >= MAX_RUNNING;
        let Some(batch) = self.queue.start_if(|batch| !(full && batch.is_long())) else {
            return false;
        };
        match storage.execute(batch) {
            Execution::Done(result) => {
                self.queue.finished(result.id);
                self.node.handle_storage(now, result);
            }
            Execution::Running(running) => {
                self.running += 1;
                self.driver.started.push(running);
                self.wake_driver();
            }
        }
        true
    }

    fn wake_driver(&mut self) {
        self.wakes.extend(self.driver.waker.take());
    }
}
