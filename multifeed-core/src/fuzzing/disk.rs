//! A disk in memory that is slow, out of order, broken, and may lose its power.

use multifeed_proto::fuzzing::Input;

use crate::Durability;
use crate::storage::{
    Batch, BatchResult, Fault, FilePath, Journal, Memory, Op, Queue, StorageErrorKind,
};

/// A store, and the batches that wait for it.
pub(super) struct TestDisk {
    journal: Journal,
    queue: Queue,
    running: Vec<Batch>,
    /// Nothing is executed.
    pub(super) held: bool,
    /// Files of this name cannot be read.
    pub(super) unreadable: Option<&'static str>,
}

impl TestDisk {
    pub(super) fn new(memory: Memory) -> Self {
        Self {
            journal: Journal::new(memory),
            queue: Queue::new(),
            running: Vec::new(),
            held: false,
            unreadable: None,
        }
    }

    pub(super) fn submit(&mut self, batch: Batch) {
        self.queue.submit(batch);
    }

    /// Executes one batch of those that may run: the oldest, or another as `pick` says, its operations in
    /// another order.
    pub(super) fn step(&mut self, pick: u8) -> Option<BatchResult> {
        if self.held {
            return None;
        }
        while let Some(batch) = self.queue.start() {
            self.running.push(batch);
        }
        if self.running.is_empty() {
            return None;
        }
        let batch = self.running.remove(usize::from(pick) % self.running.len());
        self.queue.finished(batch.id);
        Some(self.execute(batch, usize::from(pick / 16)))
    }

    fn execute(&mut self, batch: Batch, turn: usize) -> BatchResult {
        let broken =
            |path: &FilePath| self.unreadable.is_some_and(|name| path.as_str().ends_with(name));
        if batch.ops.iter().any(|op| matches!(op, Op::Read { path, .. } if broken(path))) {
            let error = |op: &Op| Err(op.error(StorageErrorKind::Io("broken".into())));
            return BatchResult { id: batch.id, answers: batch.ops.iter().map(error).collect() };
        }
        if turn == 0 || batch.ops.is_empty() {
            return self.journal.execute(&batch);
        }
        let turn = turn % batch.ops.len();
        let mut turned = batch;
        turned.ops.rotate_left(turn);
        let mut result = self.journal.execute(&turned);
        result.answers.rotate_right(turn);
        result
    }

    /// Changes fail after so many more of them.
    pub(super) fn break_after(&mut self, changes: u8, kind: u8) {
        let kind = match kind % 4 {
            0 => StorageErrorKind::Full,
            1 => StorageErrorKind::Denied,
            2 => StorageErrorKind::TooManyFiles,
            _ => StorageErrorKind::Io("broken".into()),
        };
        self.journal.set_fault(Some(Fault { after: changes.into(), kind }));
    }

    /// It works again.
    pub(super) fn heal(&mut self) {
        self.journal.set_fault(None);
        self.unreadable = None;
        self.held = false;
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// The files after a clean end.
    pub(super) fn close(&self) -> Memory {
        let mut memory = self.journal.memory().clone();
        memory.set_fault(None);
        memory.unlock();
        memory
    }

    /// What is left when the process is killed or, where stores survive that, the machine loses its power. Of
    /// the batches that run any part may have happened, and one write in part.
    pub(super) fn crash(mut self, durability: Durability, input: &mut Input<'_>) -> Memory {
        let answered = self.journal.effects().len();
        for mut batch in std::mem::take(&mut self.running) {
            let count = input.below(batch.ops.len() + 1);
            batch.ops.truncate(count);
            self.journal.execute(&batch);
        }
        let count = self.journal.effects().len();
        match durability {
            Durability::Power => {
                let (mut bits, seldom) = (input.clone(), input.flag());
                let mut kept = |_| if seldom { bits.byte() < 32 } else { bits.byte() & 1 == 1 };
                self.journal.state_after_power_loss(count, &mut kept)
            }
            // What was answered before is whole.
            Durability::Process if count > answered => {
                let bytes = usize::from(input.short()) % (self.journal.torn_len(count - 1) + 1);
                self.journal.state_torn(count - 1, bytes)
            }
            Durability::Process => self.close(),
        }
    }
}
