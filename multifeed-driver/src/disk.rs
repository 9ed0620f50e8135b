//! Files, where it stands or on the runtime's threads for blocking work.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use multifeed_core::disk::Disk;
use multifeed_core::storage::{Batch, BatchResult, StorageErrorKind};

use crate::error::Error;
use crate::runtime::Runtime;
use crate::traits::{Execution, Storage};

/// A store in a folder.
///
/// Files and lock are given up when the storage is closed and the last batch that runs elsewhere is
/// over: a runtime may end in mid-write, and nobody else may open the store before that write is over.
pub struct DiskStorage {
    /// Gone when it is closed; batches that run elsewhere have a share.
    disk: Mutex<Option<Arc<Disk>>>,
    runtime: Arc<dyn Runtime>,
}

impl DiskStorage {
    /// The store in the folder `directory`, with at most `open_files` files kept open.
    ///
    /// # Errors
    ///
    /// [`Error::Directory`] if the folder cannot be used.
    pub fn open(
        runtime: Arc<dyn Runtime>,
        directory: &Path,
        open_files: usize,
    ) -> Result<Self, Error> {
        let disk = disk(directory, open_files)?;
        Ok(Self { disk: Mutex::new(Some(Arc::new(disk))), runtime })
    }

    /// The same, for reading only: [`Disk::read_only`].
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), also if the folder is not there.
    pub fn open_read_only(
        runtime: Arc<dyn Runtime>,
        directory: &Path,
        open_files: usize,
    ) -> Result<Self, Error> {
        // Nothing is made of one that is not there.
        std::fs::metadata(directory).map_err(|source| unusable(directory, source))?;
        let disk = disk(directory, open_files)?.read_only();
        Ok(Self { disk: Mutex::new(Some(Arc::new(disk))), runtime })
    }

    fn disk(&self) -> MutexGuard<'_, Option<Arc<Disk>>> {
        // One assignment cannot be torn by a panic.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for DiskStorage {
    fn execute(&self, batch: Batch) -> Execution {
        let Some(disk) = self.disk().clone() else {
            return Execution::Done(failed(&batch, "the store is closed"));
        };
        if !batch.is_long() {
            return Execution::Done(disk.execute(&batch));
        }
        let answer = Arc::new(Answer::default());
        let promise = Promise { batch, answer: Arc::clone(&answer), result: None };
        self.runtime.spawn_blocking(Box::new(move || {
            let mut promise = promise;
            promise.result = Some(disk.execute(&promise.batch));
            // Whoever hears of the end may want the lock of the store to be free.
            drop(disk);
            drop(promise);
        }));
        Execution::Running(Box::pin(poll_fn(move |cx| answer.poll(cx.waker()))))
    }

    fn close(&self) {
        *self.disk() = None;
    }
}

impl fmt::Debug for DiskStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskStorage").field("disk", &self.disk).finish_non_exhaustive()
    }
}

fn disk(directory: &Path, open_files: usize) -> Result<Disk, Error> {
    Disk::with_open_files(directory, open_files).map_err(|source| unusable(directory, source))
}

fn unusable(directory: &Path, source: io::Error) -> Error {
    Error::Directory { path: directory.to_path_buf(), source: Arc::new(source) }
}

/// What tells the end of a batch when it is dropped, run or not.
struct Promise {
    batch: Batch,
    answer: Arc<Answer>,
    result: Option<BatchResult>,
}

impl Drop for Promise {
    fn drop(&mut self) {
        let result = self.result.take();
        self.answer.give(result.unwrap_or_else(|| failed(&self.batch, "the runtime ended")));
    }
}

/// The result of a batch, and who waits for it.
#[derive(Default)]
struct Answer(Mutex<(Option<BatchResult>, Option<Waker>)>);

impl Answer {
    fn give(&self, result: BatchResult) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = Some(result);
        let waker = state.1.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    fn poll(&self, waker: &Waker) -> Poll<BatchResult> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(result) = state.0.take() {
            return Poll::Ready(result);
        }
        state.1 = Some(waker.clone());
        Poll::Pending
    }
}

fn failed(batch: &Batch, why: &str) -> BatchResult {
    let answers = batch.ops.iter().map(|op| Err(op.error(StorageErrorKind::Io(why.to_owned()))));
    BatchResult { id: batch.id, answers: answers.collect() }
}
