//! Files, where it stands or on tokio's threads for blocking work.

use std::path::Path;
use std::sync::Arc;

use multifeed_core::disk::Disk;
use multifeed_core::storage::{Batch, BatchResult, StorageErrorKind};
use multifeed_driver::{Error, Execution, Storage};
use tokio::runtime::Handle;

/// A store in a folder.
#[derive(Debug)]
pub struct DiskStorage {
    disk: Arc<Disk>,
    runtime: Handle,
}

impl DiskStorage {
    /// The store in the folder `directory`, with at most `open_files` files kept open.
    ///
    /// # Errors
    ///
    /// [`Error::Directory`] if the folder cannot be used.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn open(directory: &Path, open_files: usize) -> Result<Self, Error> {
        let disk = Disk::with_open_files(directory, open_files).map_err(|source| {
            Error::Directory { path: directory.to_path_buf(), source: Arc::new(source) }
        })?;
        Ok(Self { disk: Arc::new(disk), runtime: Handle::current() })
    }
}

impl Storage for DiskStorage {
    fn execute(&self, batch: Batch) -> Execution {
        if !batch.is_long() {
            return Execution::Done(self.disk.execute(&batch));
        }
        let disk = Arc::clone(&self.disk);
        let batch = Arc::new(batch);
        let on_thread = Arc::clone(&batch);
        let thread = self.runtime.spawn_blocking(move || disk.execute(&on_thread));
        Execution::Running(Box::pin(async move {
            // A runtime that shuts down does not start it any more.
            thread.await.unwrap_or_else(|error| failed(&batch, &error.to_string()))
        }))
    }

    fn close(&self) {
        self.disk.close();
    }
}

fn failed(batch: &Batch, why: &str) -> BatchResult {
    let answers = batch.ops.iter().map(|op| Err(op.error(StorageErrorKind::Io(why.to_owned()))));
    BatchResult { id: batch.id, answers: answers.collect() }
}
