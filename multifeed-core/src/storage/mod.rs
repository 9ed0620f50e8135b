//! Storage as requests: what a machine asks of the files, and what it is answered.
//!
//! Nothing here does I/O. A [`Batch`] goes out, a [`BatchResult`] comes back. Beside the types:
//! [`Memory`] executes batches in memory, [`Journal`] does so and remembers every effect for crash
//! tests, [`Queue`] is the order in which an executor that runs several batches at once may start
//! them. The executor on files is `disk`, which needs `std`.

mod error;
mod failed;
mod file;
mod journal;
mod memory;
mod queue;
mod shown;

pub use error::{NotAFile, StorageError, StorageErrorKind};
pub use failed::Failed;
pub use journal::{Effect, Journal, Kept};
pub use memory::{Fault, Memory};
pub use queue::Queue;

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::ops::Deref;

use bytes::Bytes;
use zeroize::Zeroizing;

/// Files on which batches are run at once, for work that needs no runtime, such as the
/// check of a store.
pub trait Files: fmt::Debug {
    /// Runs the operations of a batch in their order.
    fn execute(&self, batch: &Batch) -> BatchResult;

    /// Closes all files and gives the lock up.
    fn close(&self);

    /// Whether nothing may be written.
    fn is_read_only(&self) -> bool {
        false
    }

    /// Where nothing may be written: keeps others from writing until the files are closed; if one of them has the
    /// lock already, that process, 0 if its number is not known.
    fn keep_still(&self, _lock: &FilePath) -> Option<u32> {
        None
    }

    /// Whether others than its owner may do something with a file or folder.
    fn is_open_to_others(&self, _path: &FilePath) -> bool {
        false
    }

    /// Takes that from them, as far as that is possible.
    fn keep_to_owner(&self, _path: &FilePath) {}
}

impl Files for RefCell<Memory> {
    fn execute(&self, batch: &Batch) -> BatchResult {
        self.borrow_mut().execute(batch)
    }

    fn close(&self) {
        self.borrow_mut().unlock();
    }
}

impl Files for RefCell<Journal> {
    fn execute(&self, batch: &Batch) -> BatchResult {
        self.borrow_mut().execute(batch)
    }

    fn close(&self) {
        self.borrow_mut().unlock();
    }
}

/// Number of a batch; unique for the life of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// A path below the directory of the store, with `/` between its parts and no `.` or `..` in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(String);

/// Operations that belong together.
///
/// The operations of a batch may run in any order or at once. The batch starts when the batch
/// `after` was answered, well or badly; without `after` at once. A [`Op::Read`] sees every [`Op::Write`]
/// of the batches submitted before its own, answered or not.
///
/// If any operation of the batch `after` failed, the operations of this one are not run and are answered
/// with that error: the first one, which the others follow from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Number to answer with.
    pub id: BatchId,
    /// The batch that must be over before this one starts.
    pub after: Option<BatchId>,
    /// What to do.
    pub ops: Vec<Op>,
}

/// One operation. `Debug` tells how much is written, and not what.
#[derive(Clone, PartialEq, Eq)]
pub enum Op {
    /// Read up to `len` bytes. Fewer come back at the end of the file, none if it does not exist:
    /// [`Answer::Bytes`] or [`Answer::NotFound`]. More than [`MAX_READ`] that are there are refused.
    Read {
        /// The file.
        path: FilePath,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        len: usize,
    },
    /// Ask for the length of a file in bytes: [`Answer::Length`] or [`Answer::NotFound`].
    Length {
        /// The file.
        path: FilePath,
    },
    /// Ask where the first byte from `offset` on is that may not be zero, so that holes need not be read; the
    /// length of the file if there is none: [`Answer::Length`] or [`Answer::NotFound`]. Where holes are not
    /// known, that is `offset`.
    NextData {
        /// The file.
        path: FilePath,
        /// First byte.
        offset: u64,
    },
    /// Write all of `data`; makes the file and the folders above it if they are not there, and
    /// fills a gap before `offset` with zeros.
    Write {
        /// The file.
        path: FilePath,
        /// First byte.
        offset: u64,
        /// What to write.
        data: Bytes,
    },
    /// Cut a file, or lengthen it with zeros. Makes it like [`Op::Write`].
    Truncate {
        /// The file.
        path: FilePath,
        /// New length in bytes.
        len: u64,
    },
    /// Turn a range into zeros and give its disk space back where the file system can.
    Punch {
        /// The file.
        path: FilePath,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        len: u64,
    },
    /// Write a whole new file that others may not read (mode 0600 where modes exist), completely or
    /// not at all: under another name, then renamed.
    CreateSecret {
        /// The file.
        path: FilePath,
        /// What is in it.
        data: SecretBytes,
    },
    /// Remove a file, or a folder with all below it. One that does not exist is no error.
    Remove {
        /// The file or folder.
        path: FilePath,
    },
    /// Give a file another name, replacing what has it; or a folder with all below it, which must find the
    /// name free.
    Rename {
        /// Name so far.
        from: FilePath,
        /// Name from here on.
        to: FilePath,
    },
    /// Names in a folder, sorted: [`Answer::Names`] or [`Answer::NotFound`].
    List {
        /// The folder; the empty path is the store itself.
        path: FilePath,
    },
    /// Wait until a file, with its name in its folder, is on stable storage.
    Sync {
        /// The file.
        path: FilePath,
    },
    /// Take the lock of the store until it is closed, and leave the number of this process in the
    /// file. Fails with [`StorageErrorKind::InUse`]; with [`StorageErrorKind::NotALock`] if the file holds
    /// something else. Storage that is only read takes no lock, and fails if another process has it.
    Lock {
        /// The lock file.
        path: FilePath,
    },
}

/// How an operation went well. `Debug` tells how much was read, and not what.
#[derive(Clone, PartialEq, Eq)]
pub enum Answer {
    /// Done; for all operations that ask for nothing.
    Done,
    /// The bytes read.
    Bytes(Bytes),
    /// Length of the file in bytes, or a place in it.
    Length(u64),
    /// Names in the folder, sorted.
    Names(Vec<String>),
    /// There is no such file or folder.
    NotFound,
}

/// The answer to a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchResult {
    /// Number of the batch.
    pub id: BatchId,
    /// One answer for each operation, in their order.
    pub answers: Vec<Result<Answer, StorageError>>,
}

/// What is in a file that others may not read. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl Batch {
    /// Whether executing it may take so long that it is worth a thread of its own: it waits for stable
    /// storage, works on whole folders, or moves more than 256 KiB. What is left takes microseconds
    /// while the page cache answers.
    #[must_use]
    pub fn is_long(&self) -> bool {
        let mut bytes = 0;
        for op in &self.ops {
            let moved = match op {
                Op::Read { len, .. } => *len,
                Op::Write { data, .. } => data.len(),
                Op::Length { .. }
                | Op::NextData { .. }
                | Op::Truncate { .. }
                | Op::Rename { .. } => 0,
                Op::Punch { .. }
                | Op::CreateSecret { .. }
                | Op::Remove { .. }
                | Op::List { .. }
                | Op::Sync { .. }
                | Op::Lock { .. } => return true,
            };
            bytes = moved.saturating_add(bytes);
            if bytes > LONG_BYTES {
                return true;
            }
        }
        self.ops.len() > LONG_OPS
    }
}

impl Op {
    /// What the operation does, in one word, for errors and logs.
    #[must_use]
    pub const fn doing(&self) -> &'static str {
        match self {
            Self::Read { .. } => "read",
            Self::Length { .. } | Self::NextData { .. } => "measure",
            Self::Write { .. } => "write",
            Self::Truncate { .. } => "truncate",
            Self::Punch { .. } => "clear part of",
            Self::CreateSecret { .. } => "create",
            Self::Remove { .. } => "remove",
            Self::Rename { .. } => "rename",
            Self::List { .. } => "list",
            Self::Sync { .. } => "sync",
            Self::Lock { .. } => "lock",
        }
    }

    /// Whether it writes, makes, removes or syncs something. Locking does, where it can.
    #[must_use]
    pub const fn changes(&self) -> bool {
        match self {
            Self::Write { .. }
            | Self::Truncate { .. }
            | Self::Punch { .. }
            | Self::CreateSecret { .. }
            | Self::Remove { .. }
            | Self::Rename { .. }
            | Self::Sync { .. } => true,
            Self::Read { .. }
            | Self::Length { .. }
            | Self::NextData { .. }
            | Self::List { .. }
            | Self::Lock { .. } => false,
        }
    }

    /// The file or folder it is about; for [`Op::Rename`] the name so far.
    #[must_use]
    pub const fn path(&self) -> &FilePath {
        match self {
            Self::Read { path, .. }
            | Self::Length { path }
            | Self::NextData { path, .. }
            | Self::Write { path, .. }
            | Self::Truncate { path, .. }
            | Self::Punch { path, .. }
            | Self::CreateSecret { path, .. }
            | Self::Remove { path }
            | Self::Rename { from: path, .. }
            | Self::List { path }
            | Self::Sync { path }
            | Self::Lock { path } => path,
        }
    }

    /// The error of this operation that failed as `kind`.
    #[must_use]
    pub fn error(&self, kind: StorageErrorKind) -> StorageError {
        StorageError { doing: self.doing(), path: self.path().clone(), kind }
    }
}

impl Answer {
    /// The bytes read; `None` if there is no such file, and for other answers.
    #[must_use]
    pub const fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Done | Self::Length(_) | Self::Names(_) | Self::NotFound => None,
        }
    }
}

impl From<&[u8]> for SecretBytes {
    fn from(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }
}

impl Deref for SecretBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.0.len())
    }
}

impl FilePath {
    /// The folder of the store itself.
    #[must_use]
    pub const fn root() -> Self {
        Self(String::new())
    }

    /// Joins `parts`, which must hold no empty part, `.`, `..` or `\`.
    ///
    /// # Panics
    ///
    /// If a part does; paths are made by this crate, never taken from a peer.
    #[must_use]
    pub fn new(parts: &[&str]) -> Self {
        let mut path = String::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
        for part in parts.iter().flat_map(|part| part.split('/')) {
            assert!(
                !part.is_empty() && part != "." && part != ".." && !part.contains('\\'),
                "not a part of a path"
            );
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(part);
        }
        Self(path)
    }

    /// The file `name` in this folder.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        if self.0.is_empty() { Self::new(&[name]) } else { Self::new(&[&self.0, name]) }
    }

    /// The folder that this file or folder is in; `None` for the store itself.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.rfind('/').unwrap_or(0);
        Some(Self(String::from(&self.0[..end])))
    }

    /// Whether this path is `folder` or lies below it.
    #[must_use]
    pub fn is_within(&self, folder: &Self) -> bool {
        let Some(rest) = self.0.strip_prefix(folder.as_str()) else { return false };
        folder.0.is_empty() || rest.is_empty() || rest.starts_with('/')
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "." } else { &self.0 })
    }
}

/// Bytes that one operation reads at most.
pub const MAX_READ: usize = 256 * 1024 * 1024;

/// Bytes that a batch moves without being long.
const LONG_BYTES: usize = 256 * 1024;

/// Operations of a batch that is not long.
const LONG_OPS: usize = 256;
