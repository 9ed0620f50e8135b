//! A disk as the files of a store, for work that needs no runtime.

use super::Disk;
use crate::storage::{Batch, BatchResult, FilePath, Files};

impl Files for Disk {
    fn execute(&self, batch: &Batch) -> BatchResult {
        Self::execute(self, batch)
    }

    fn close(&self) {
        Self::close(self);
    }

    fn is_read_only(&self) -> bool {
        Self::is_read_only(self)
    }

    fn keep_still(&self, lock: &FilePath) -> Option<u32> {
        // Whatever hinders the lock, reading needs none.
        Self::keep_still(self, lock).unwrap_or_default()
    }

    fn is_open_to_others(&self, path: &FilePath) -> bool {
        Self::is_open_to_others(self, path)
    }

    fn keep_to_owner(&self, path: &FilePath) {
        // One that cannot be changed is told of again.
        let _ = Self::keep_to_owner(self, path);
    }
}
