//! The order in which batches may run when several run at once.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use super::{Batch, BatchId, FilePath, Op};

/// Batches that wait for their turn, for an executor that runs several at once.
///
/// [`submit`](Self::submit) what the machine asks for, run what [`start`](Self::start) gives, in any
/// order or at once, and tell each end with [`finished`](Self::finished). A batch is given out when
/// the batch it follows is over and no earlier one that is not over touches the same files in a way
/// that matters: so a read sees every write submitted before it, and a slow [`Op::Sync`] delays
/// nothing but what must follow it.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Batch>,
    running: Vec<Running>,
}

/// A batch that was given out.
#[derive(Debug)]
struct Running {
    id: BatchId,
    uses: Vec<(FilePath, Use)>,
}

/// How much of a file an operation uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Reads it, or waits for its bytes to be stable.
    Look,
    /// Writes it.
    Change,
    /// Reads or changes what is in a folder: everything at or below the path.
    Tree,
}

impl Queue {
    /// A queue without batches.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a batch.
    pub fn submit(&mut self, batch: Batch) {
        self.waiting.push_back(batch);
    }

    /// The next batch that may run; `None` until one that is running is over, or one is submitted.
    ///
    /// Looks at the first 64 waiting batches only, so that a long queue stays cheap. What is behind them
    /// may start later than it could, and never stands still for it: the first waiting batch waits only
    /// for batches that are running, as all that it follows were submitted before it.
    #[must_use]
    pub fn start(&mut self) -> Option<Batch> {
        self.start_if(|_| true)
    }

    /// The next batch that may run and that `suits`; one that does not keeps its place.
    ///
    /// When nothing is running, `suits` must take the first waiting batch, whatever it is: nothing else would
    /// bring the queue on.
    #[must_use]
    pub fn start_if(&mut self, suits: impl Fn(&Batch) -> bool) -> Option<Batch> {
        let mut passed: Vec<(FilePath, Use)> = Vec::new();
        let mut passed_ids: BTreeSet<BatchId> = BTreeSet::new();
        for place in 0..self.waiting.len().min(LOOK_AHEAD) {
            let batch = &self.waiting[place];
            let uses: Vec<_> = batch.ops.iter().flat_map(uses).collect();
            let follows = batch.after.is_some_and(|after| {
                passed_ids.contains(&after) || self.running.iter().any(|other| other.id == after)
            });
            let mut before = passed.iter().chain(self.running.iter().flat_map(|other| &other.uses));
            if follows
                || !suits(batch)
                || before.any(|earlier| uses.iter().any(|used| collide(earlier, used)))
            {
                passed_ids.insert(batch.id);
                passed.extend(uses);
                continue;
            }
            let batch = self.waiting.remove(place)?;
            self.running.push(Running { id: batch.id, uses });
            return Some(batch);
        }
        None
    }

    /// The batch `id`, given out by [`start`](Self::start), was answered.
    pub fn finished(&mut self, id: BatchId) {
        self.running.retain(|batch| batch.id != id);
    }

    /// Number of batches that were submitted and are not over.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    /// Whether every batch is over.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn uses(op: &Op) -> Vec<(FilePath, Use)> {
    let path = op.path().clone();
    match op {
        Op::Read { .. } | Op::Length { .. } | Op::NextData { .. } | Op::Sync { .. } => {
            [(path, Use::Look)].into()
        }
        Op::Write { .. } | Op::Truncate { .. } | Op::Punch { .. } | Op::CreateSecret { .. } => {
            [(path, Use::Change)].into()
        }
        Op::Rename { to, .. } => [(path, Use::Tree), (to.clone(), Use::Tree)].into(),
        Op::Remove { .. } | Op::List { .. } | Op::Lock { .. } => [(path, Use::Tree)].into(),
    }
}

fn collide(a: &(FilePath, Use), b: &(FilePath, Use)) -> bool {
    match (a.1, b.1) {
        (Use::Look, Use::Look) => false,
        (Use::Look | Use::Change, Use::Look | Use::Change) => a.0 == b.0,
        (Use::Tree, Use::Look | Use::Change) => b.0.is_within(&a.0),
        (Use::Look | Use::Change, Use::Tree) => a.0.is_within(&b.0),
        (Use::Tree, Use::Tree) => a.0.is_within(&b.0) || b.0.is_within(&a.0),
    }
}

/// Number of waiting batches looked at for one that may run.
const LOOK_AHEAD: usize = 64;
