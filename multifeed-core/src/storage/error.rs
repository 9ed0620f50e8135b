//! Why an operation failed: by what the user can do about it.

use alloc::string::String;
use core::fmt;

use super::FilePath;

/// An operation that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{doing} {path}: {kind}")]
pub struct StorageError {
    /// What was being done: `read`, `write`, …
    pub doing: &'static str,
    /// The file.
    pub path: FilePath,
    /// What went wrong.
    pub kind: StorageErrorKind,
}

/// What went wrong with an operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageErrorKind {
    /// The disk is full.
    #[error(
        "no space left on the disk; nothing that was acknowledged is lost, make room and try again"
    )]
    Full,
    /// The user has as much on the disk as he may.
    #[error(
        "the disk quota is used up; nothing that was acknowledged is lost, make room and try again"
    )]
    Quota,
    /// The operating system does not allow it.
    #[error("permission denied")]
    Denied,
    /// The file system is mounted for reading only, or the storage was opened so.
    #[error("nothing can be written there: it can only be read")]
    ReadOnly,
    /// Another process has the store open.
    #[error("the store is in use by process {process}")]
    InUse {
        /// Its number, 0 if unknown.
        process: u32,
    },
    /// Too many files are open in this process or system.
    #[error("too many open files")]
    TooManyFiles,
    /// The file, or the folder of the store, was removed while it was open, or its disk is gone.
    #[error("it was removed while it was open")]
    Removed,
    /// The disk could not read or write, or what connects it: `EIO` and the like. The text is the
    /// operating system's.
    #[error("the disk fails: {0}")]
    Broken(String),
    /// Something else than a file, or a folder, has its name. Links are not followed, pipes not waited for.
    #[error("not a file but a {0}")]
    NotAFile(NotAFile),
    /// What is called like the lock file holds something else than the number of a process, and stays as it is.
    #[error("it is not the lock file that it is called like; move it away")]
    NotALock,
    /// Anything else; the text is the operating system's.
    #[error("{0}")]
    Io(String),
}

/// What has the name of a file and is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAFile {
    /// A folder.
    Folder,
    /// A symbolic link, or a file below one.
    Link,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A device.
    Device,
}

impl fmt::Display for NotAFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Folder => "folder",
            Self::Link => "link, and links are not followed in a store",
            Self::Pipe => "named pipe",
            Self::Socket => "socket",
            Self::Device => "device",
        })
    }
}

impl StorageError {
    /// Whether it is the file that cannot be used, and not the whole store or the disk.
    pub(crate) const fn is_of_file(&self) -> bool {
        use StorageErrorKind as Kind;
        matches!(self.kind, Kind::Denied | Kind::Broken(_) | Kind::NotAFile(_) | Kind::Io(_))
    }
}

impl StorageErrorKind {
    /// A stable name for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Full => "ERR_DISK_FULL",
            Self::Quota => "ERR_DISK_QUOTA",
            Self::Denied => "ERR_DENIED",
            Self::ReadOnly => "ERR_READ_ONLY",
            Self::InUse { .. } => "ERR_IN_USE",
            Self::TooManyFiles => "ERR_TOO_MANY_FILES",
            Self::Removed => "ERR_REMOVED",
            Self::Broken(_) => "ERR_DISK",
            Self::NotAFile(_) => "ERR_NOT_A_FILE",
            Self::NotALock => "ERR_NOT_A_LOCK",
            Self::Io(_) => "ERR_STORAGE",
        }
    }
}
