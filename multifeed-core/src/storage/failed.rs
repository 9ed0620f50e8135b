//! Which batches failed: those that follow one must not run.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Answer, Batch, BatchId, BatchResult, StorageError};

/// The failed batches of an executor, by which [`Batch::after`] is honoured.
///
/// Remembers the newest 65,536 of them; a batch that follows an older one would run, but a machine
/// never refers to a batch that was answered that long ago.
#[derive(Clone, Debug, Default)]
pub struct Failed(BTreeMap<BatchId, Arc<StorageError>>);

impl Failed {
    /// The answer to `batch` if it must not be run, because the batch that it follows failed: the error
    /// that was the first of all, so that whoever hears of one of them hears of the cause.
    #[must_use]
    pub fn skip(&mut self, batch: &Batch) -> Option<BatchResult> {
        let first = Arc::clone(self.0.get(&batch.after?)?);
        let answers = batch.ops.iter().map(|_| Err(StorageError::clone(&first))).collect();
        self.insert(batch.id, first);
        Some(BatchResult { id: batch.id, answers })
    }

    /// Makes the answer to a batch and remembers it if an operation failed.
    #[must_use]
    pub fn answer(
        &mut self,
        id: BatchId,
        answers: Vec<Result<Answer, StorageError>>,
    ) -> BatchResult {
        if let Some(Err(first)) = answers.iter().find(|answer| answer.is_err()) {
            self.insert(id, Arc::new(first.clone()));
        }
        BatchResult { id, answers }
    }

    fn insert(&mut self, id: BatchId, first: Arc<StorageError>) {
        self.0.insert(id, first);
        if self.0.len() > REMEMBERED {
            self.0.pop_first();
        }
    }
}

/// Number of failed batches remembered.
const REMEMBERED: usize = 0x1_0000;
