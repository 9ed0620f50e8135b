//! Which batches failed: those that follow one must not run.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::{Answer, Batch, BatchId, BatchResult, StorageError, StorageErrorKind};

/// The failed batches of an executor, by which [`Batch::after`] is honoured.
///
/// Remembers the newest 65,536 of them; a batch that follows an older one would run, but a machine
/// never refers to a batch that was answered that long ago.
#[derive(Clone, Debug, Default)]
pub struct Failed(BTreeSet<BatchId>);

impl Failed {
    /// The answer to `batch` if it must not be run: the batch it follows failed.
    #[must_use]
    pub fn skip(&mut self, batch: &Batch) -> Option<BatchResult> {
        if !batch.after.is_some_and(|after| self.0.contains(&after)) {
            return None;
        }
        let skipped = batch.ops.iter().map(|op| Err(op.error(StorageErrorKind::Skipped)));
        let result = BatchResult { id: batch.id, answers: skipped.collect() };
        self.insert(batch.id);
        Some(result)
    }

    /// Makes the answer to a batch and remembers it if an operation failed.
    #[must_use]
    pub fn answer(
        &mut self,
        id: BatchId,
        answers: Vec<Result<Answer, StorageError>>,
    ) -> BatchResult {
        if answers.iter().any(Result::is_err) {
            self.insert(id);
        }
        BatchResult { id, answers }
    }

    fn insert(&mut self, id: BatchId) {
        self.0.insert(id);
        if self.0.len() > REMEMBERED {
            self.0.pop_first();
        }
    }
}

/// Number of failed batches remembered.
const REMEMBERED: usize = 0x1_0000;
