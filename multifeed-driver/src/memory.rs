//! Storage in memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use multifeed_core::storage::{Batch, Memory};

use crate::traits::{Execution, Storage};

/// A store in memory, for tests and for feeds that need not last.
#[derive(Debug, Default)]
pub struct MemoryStorage(Mutex<Memory>);

impl MemoryStorage {
    /// Begins with the files of `memory`.
    #[must_use]
    pub const fn new(memory: Memory) -> Self {
        Self(Mutex::new(memory))
    }

    /// A copy of the files at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Memory {
        self.memory().clone()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Executing has no state between operations that a panic could tear.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for MemoryStorage {
    fn execute(&self, batch: Batch) -> Execution {
        Execution::Done(self.memory().execute(&batch))
    }

    fn close(&self) {
        self.memory().unlock();
    }
}
