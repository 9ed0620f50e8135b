//! A disk that takes its time, fills up, and keeps after a crash what it must and perhaps more.

use std::collections::BTreeMap;
use std::time::Duration;

use multifeed_core::Durability;
use multifeed_core::storage::{
    Answer, Batch, BatchId, BatchResult, Fault, Journal, Memory, Op, Queue, StorageError,
    StorageErrorKind,
};

use super::rng::Rng;

/// How long a batch takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// No time: it is executed where it stands.
    Inline,
    Fast,
    Slow,
}

pub struct Disk {
    journal: Journal,
    queue: Queue,
    running: BTreeMap<BatchId, Batch>,
    pub speed: Speed,
    /// Reads fail while it is set.
    pub unreadable: bool,
    /// Bytes of writes that were submitted and not answered.
    pub unwritten: usize,
}

impl Disk {
    pub fn new(memory: Memory, speed: Speed) -> Self {
        Self {
            journal: Journal::new(memory),
            queue: Queue::new(),
            running: BTreeMap::new(),
            speed,
            unreadable: false,
            unwritten: 0,
        }
    }

    pub fn submit(&mut self, batch: Batch) {
        self.unwritten += written(&batch);
        self.queue.submit(batch);
    }

    /// The next batch that may run, and how long it takes.
    pub fn start(&mut self, rng: &mut Rng) -> Option<(BatchId, Duration)> {
        let batch = self.queue.start()?;
        let id = batch.id;
        let micros = match self.speed {
            Speed::Inline => 0,
            Speed::Fast => rng.within(5..400),
            Speed::Slow if rng.chance(3) => rng.within(100_000..1_500_000),
            Speed::Slow => rng.within(2_000..30_000),
        };
        self.running.insert(id, batch);
        Some((id, Duration::from_micros(micros)))
    }

    /// Executes a batch that was started, its operations in any order.
    pub fn finish(&mut self, id: BatchId, rng: &mut Rng) -> Option<BatchResult> {
        let batch = self.running.remove(&id)?;
        self.unwritten -= written(&batch);
        self.queue.finished(id);
        if self.unreadable && batch.ops.iter().any(|op| matches!(op, Op::Read { .. })) {
            let broken = |op: &Op| Err(op.error(StorageErrorKind::Io("unreadable".into())));
            return Some(BatchResult { id, answers: batch.ops.iter().map(broken).collect() });
        }
        Some(self.execute(batch, rng))
    }

    fn execute(&mut self, batch: Batch, rng: &mut Rng) -> BatchResult {
        let mut order: Vec<usize> = (0..batch.ops.len()).collect();
        rng.shuffle(&mut order);
        let ops = order.iter().map(|at| batch.ops[*at].clone()).collect();
        let result = self.journal.execute(&Batch { ops, ..batch });
        let mut answers: Vec<Option<Result<Answer, StorageError>>> =
            order.iter().map(|_| None).collect();
        for (at, answer) in order.into_iter().zip(result.answers) {
            answers[at] = Some(answer);
        }
        BatchResult { id: result.id, answers: answers.into_iter().flatten().collect() }
    }

    /// Changes fail after `after` more of them.
    pub fn fill(&mut self, after: u64) {
        self.journal.set_fault(Some(Fault { after, kind: StorageErrorKind::Full }));
    }

    pub fn heal(&mut self) {
        self.journal.set_fault(None);
        self.unreadable = false;
    }

    /// What is left when the process ends, or with [`Durability::Power`] the machine. Of the batches that
    /// run, any part may have happened, and one write in part.
    pub fn crash(mut self, durability: Durability, rng: &mut Rng) -> Memory {
        let answered = self.journal.effects().len();
        for (_, mut batch) in std::mem::take(&mut self.running) {
            rng.shuffle(&mut batch.ops);
            batch.ops.truncate(rng.index(batch.ops.len() + 1));
            self.journal.execute(&batch);
        }
        let count = self.journal.effects().len();
        match durability {
            Durability::Power => {
                let seldom = rng.within(0..100);
                self.journal.state_after_power_loss(count, |_| rng.chance(seldom))
            }
            // What was answered before is whole.
            Durability::Process if count > answered && rng.chance(60) => {
                let bytes = rng.index(self.journal.torn_len(count - 1) + 1);
                self.journal.state_torn(count - 1, bytes)
            }
            Durability::Process => self.close(),
        }
    }

    /// The files after a clean end.
    pub fn close(self) -> Memory {
        let mut memory = self.journal.memory().clone();
        memory.set_fault(None);
        memory.unlock();
        memory
    }

    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }
}

fn written(batch: &Batch) -> usize {
    let bytes = batch.ops.iter().map(|op| match op {
        Op::Write { data, .. } => data.len(),
        _ => 0,
    });
    bytes.sum()
}
