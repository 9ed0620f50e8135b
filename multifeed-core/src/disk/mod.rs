//! Storage on files: the executor of batches that all adapters share. Needs the feature `std`.
//!
//! Synchronous and free of any runtime: an adapter calls [`Disk::execute`] where it stands for small
//! work on the page cache, and from a thread for what may take long. What is asked for, and in which
//! order, is decided elsewhere (`node`); how files look inside is `format`. `convert` makes a whole store out of
//! another one, or nothing.

pub(crate) mod convert;
mod error;
mod files;
mod holes;
mod lock;
mod names;
mod pool;
mod stable;
mod sync;
mod system;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use fs4::fs_std::FileExt;

pub use self::error::kind as error_kind;
use self::error::{is_denied, kind, known, not_a_file, or_missing};
use self::pool::{Mode, Pool};
use self::stable::Stable;
use self::system::{Access, Base, Kind, read_fully, write_fully};
pub use self::system::{is_too_many_files, make_folder, sync_folder};
use crate::format::is_secret;
use crate::storage::{
    Answer, Batch, BatchResult, Failed, FilePath, MAX_READ, NotAFile, Op, StorageError,
    StorageErrorKind,
};

/// The files of one store.
///
/// Batches may be executed from several threads at once; which of them may, [`Queue`] knows. At most
/// 256 files are kept open (less where the operating system allows less), so thousands of feeds
/// work.
///
/// How each operation is done: a [`Op::Write`] is one positioned write of the operating system;
/// [`Op::Punch`] makes a hole on Linux, in whole blocks of the file system where what is left of them is
/// zero already, and where there are no holes writes zeros over what is not zero;
/// [`Op::CreateSecret`] writes `NAME.tmp` with mode 0600, syncs and renames it; [`Op::Sync`]
/// is `fdatasync` of the file and, the first time and after anything was made, `fsync` of the
/// folders above it. From Linux 5.8 on, where the file system is known to do it well, the first one is `syncfs` of
/// everything, and later ones are spared if nothing changed since.
///
/// **Links.** The folder of the store may be reached through links, which the user chose; below it none is
/// followed, whatever is done, and what is no regular file is refused without waiting
/// ([`StorageErrorKind::NotAFile`]): a store may come from strangers. Hard links cannot be told from files: what
/// a store shares with other folders by hard links is written there, too.
///
/// **Modes.** Folders are made for their owner only (0700), and so are the files with secrets (0600): `master_key`,
/// `root_key`, `secret_key`, `multifeed.blocked`, and the `name` files of corestore, which hold the root key.
/// Where others may read one of these, that is taken from them when it is opened. Other files are 0644, less what
/// the process masks.
///
/// **A folder that is removed** while it is open, with all files or in part: what would be written to files without
/// a name fails as [`StorageErrorKind::Removed`], and the folder of the store is not made anew. One that is only
/// moved stays open.
///
/// [`Queue`]: crate::storage::Queue
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    shared: Mutex<Shared>,
    /// Whether everything can be synced at once, as far as is known; held while that is done.
    sweep: Mutex<bool>,
    /// Whether anything is synced before [`Disk::sync_all`].
    syncs: bool,
}

#[derive(Debug)]
struct Shared {
    /// The folder of the store, once it was there.
    base: Option<Arc<Base>>,
    pool: Pool,
    locks: BTreeMap<FilePath, File>,
    failed: Failed,
    stable: Stable,
}

impl Disk {
    /// The store in the folder `directory`, which is made when the first file is.
    ///
    /// # Errors
    ///
    /// If `directory` exists and is no folder, cannot be looked at, or is empty text.
    pub fn open(directory: &Path) -> io::Result<Self> {
        Self::with_open_files(directory, OPEN_FILES)
    }

    /// The same with another number of files that are kept open, at least 1.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn with_open_files(directory: &Path, open_files: usize) -> io::Result<Self> {
        // A later change of the working directory must not move the store.
        let root = std::path::absolute(directory)?;
        match fs::metadata(&root) {
            Ok(found) if !found.is_dir() => return Err(io::ErrorKind::NotADirectory.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let shared = Shared {
            base: None,
            pool: Pool::new(open_files.max(1)),
            locks: BTreeMap::new(),
            failed: Failed::default(),
            stable: Stable::default(),
        };
        Ok(Self { root, shared: Mutex::new(shared), sweep: Mutex::new(true), syncs: true })
    }

    /// The same, for reading only: nothing is written, made, locked or synced, and what asks for that fails with
    /// [`StorageErrorKind::ReadOnly`]. [`Op::Lock`] only looks whether another process has the lock. A file with
    /// a secret that may not be read is not found.
    #[must_use]
    pub fn read_only(self) -> Self {
        self.shared().pool.read_only = true;
        self
    }

    /// Whether it is for reading only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.shared().pool.read_only
    }

    /// The store in the folder `directory`, which nobody takes for one yet: nothing is on stable storage before
    /// [`sync_all`](Self::sync_all).
    fn unfinished(directory: &Path) -> io::Result<Self> {
        Ok(Self { syncs: false, ..Self::open(directory)? })
    }

    /// Waits until all of the store is on stable storage.
    fn sync_all(&self) -> io::Result<()> {
        stable::sync_all(&self.root)
    }

    /// The folder of the store.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.root
    }

    /// Runs the operations of a batch in their order. Blocks until they are over.
    ///
    /// Waits for no other batch: whoever runs several at once must start them in an order that
    /// [`Queue`](crate::storage::Queue) allows.
    pub fn execute(&self, batch: &Batch) -> BatchResult {
        if let Some(skipped) = self.shared().failed.skip(batch) {
            return skipped;
        }
        let answers = batch.ops.iter().map(|op| {
            let answer = self.run_if_there(op);
            if matches!(op, Op::Write { .. } | Op::Truncate { .. } | Op::Punch { .. }) {
                // Not before: all may be synced at once in between. Also when it failed half-way.
                self.shared().stable.file_changed(op.path());
            }
            answer.map_err(|error| op.error(kind(&error)))
        });
        let answers = answers.collect::<Vec<Result<Answer, StorageError>>>();
        self.shared().failed.answer(batch.id, answers)
    }

    /// Closes all files and gives the lock up. Operations may go on afterwards, without a lock.
    pub fn close(&self) {
        let mut shared = self.shared();
        shared.pool.forget(&FilePath::root());
        shared.base = None;
        // Another process may change the files from here on.
        shared.stable.forget();
        for file in std::mem::take(&mut shared.locks).into_values() {
            // Dropping the file is not enough while a child process that is being started shares it.
            // Should this fail, dropping it has to do.
            let _ = FileExt::unlock(&file);
        }
    }

    /// Nothing is found in a folder that was removed: that must not be taken for a store that is empty.
    fn run_if_there(&self, op: &Op) -> io::Result<Answer> {
        let answer = self.run(op);
        let missing = match &answer {
            Ok(answer) => *answer == Answer::NotFound,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if missing && self.base()?.is_some_and(|base| base.is_removed()) {
            return Err(known(StorageErrorKind::Removed));
        }
        answer
    }

    fn run(&self, op: &Op) -> io::Result<Answer> {
        if op.changes() && self.is_read_only() {
            return Err(known(StorageErrorKind::ReadOnly));
        }
        match op {
            Op::Read { path, offset, len } => self.read(path, *offset, *len),
            Op::Length { path } => self.length(path),
            Op::NextData { path, offset } => {
                let Some(file) = or_missing(self.file(path, Mode::Read))? else {
                    return Ok(Answer::NotFound);
                };
                Ok(Answer::Length(holes::next_data(&file, *offset)?))
            }
            Op::Write { path, offset, data } => {
                check_end(*offset, data.len() as u64)?;
                let file = self.file(path, Mode::Create)?;
                write_fully(&file, data, *offset)?;
                self.if_there(path, &file)
            }
            Op::Truncate { path, len } => {
                check_end(*len, 0)?;
                let file = self.file(path, Mode::Create)?;
                file.set_len(*len)?;
                self.if_there(path, &file)
            }
            Op::Punch { path, offset, len } => {
                if let Some(file) = or_missing(self.file(path, Mode::Change))? {
                    holes::punch(&file, *offset, *len)?;
                }
                Ok(Answer::Done)
            }
            Op::CreateSecret { path, data } => self.create_secret(path, data),
            Op::Remove { path } => self.remove(path),
            Op::Rename { from, to } => self.rename(from, to),
            Op::List { path } => self.list(path),
            Op::Sync { path } => self.sync(path),
            Op::Lock { path } => self.lock(path),
        }
    }

    fn read(&self, path: &FilePath, offset: u64, len: usize) -> io::Result<Answer> {
        let opened = match self.file(path, Mode::Read) {
            // Whoever only reads does without the secrets of others.
            Err(error) if is_denied(&error) && self.is_read_only() && is_secret(path) => None,
            opened => or_missing(opened)?,
        };
        let Some(file) = opened else { return Ok(Answer::NotFound) };
        let held = file.metadata()?.len().saturating_sub(offset);
        let len = len.min(usize::try_from(held).unwrap_or(usize::MAX));
        if len > MAX_READ {
            return Err(io::Error::other("too much to be read at once"));
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        bytes.resize(len, 0);
        let count = read_fully(&file, &mut bytes, offset)?;
        bytes.truncate(count);
        Ok(Answer::Bytes(Bytes::from(bytes)))
    }

    fn length(&self, path: &FilePath) -> io::Result<Answer> {
        let Some(base) = self.base()? else { return Ok(Answer::NotFound) };
        let found = self.shared().pool.with_room(|| base.find(path));
        let Some(found) = or_missing(found)? else { return Ok(Answer::NotFound) };
        match found.kind {
            Kind::File => Ok(Answer::Length(found.len)),
            Kind::Folder => Err(not_a_file(NotAFile::Folder)),
            Kind::Other(found) => Err(not_a_file(found)),
        }
    }

    /// Something was written to a file: in vain if nobody can find it any more.
    fn if_there(&self, path: &FilePath, file: &File) -> io::Result<Answer> {
        if system::is_removed(file) {
            // What is written next is written to a new one.
            self.shared().pool.forget(path);
            return Err(known(StorageErrorKind::Removed));
        }
        Ok(Answer::Done)
    }

    /// The file, open; made with its folders if `mode` says so.
    fn file(&self, path: &FilePath, mode: Mode) -> io::Result<Arc<File>> {
        let mut shared = self.shared();
        if let Some(file) = shared.pool.get(path, mode) {
            return Ok(file);
        }
        drop(shared);
        let base = match (self.base()?, mode) {
            (Some(base), _) => base,
            (None, Mode::Create) => self.make_folders(path)?,
            (None, Mode::Read | Mode::Change) => return Err(io::ErrorKind::NotFound.into()),
        };
        let opened = self.shared().pool.open(&base, path, mode);
        let (file, made) = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound && mode == Mode::Create => {
                self.make_folders(path)?;
                self.shared().pool.open(&base, path, mode)?
            }
            other => other?,
        };
        if made {
            self.name_changed(path);
        }
        Ok(file)
    }

    /// The folder of the store, if it is there.
    fn base(&self) -> io::Result<Option<Arc<Base>>> {
        let mut shared = self.shared();
        if shared.base.is_none() {
            let opened = shared.pool.with_room(|| Base::open(&self.root));
            shared.base = or_missing(opened)?.map(Arc::new);
        }
        Ok(shared.base.clone())
    }

    /// The folder of `path` must be synced for its names to last.
    fn name_changed(&self, path: &FilePath) {
        self.shared().stable.name_changed(path);
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // Nothing in there is left half changed by a panic.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses places that the calls of the operating system cannot express.
fn check_end(offset: u64, len: u64) -> io::Result<()> {
    match offset.checked_add(len) {
        Some(end) if i64::try_from(end).is_ok() => Ok(()),
        Some(_) | None => Err(io::ErrorKind::FileTooLarge.into()),
    }
}

/// The first `limit` bytes of a file at the root of the store in the folder `directory`: of a regular file that is
/// reached without links, as all files of a store are.
///
/// # Errors
///
/// Those of opening and reading it.
pub fn read_beginning(directory: &Path, name: &str, limit: u64) -> io::Result<Vec<u8>> {
    let file = Base::open(directory)?.open_file(&FilePath::new(&[name]), Access::Read)?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Takes from others than its owner what they may do with a file at the root of the store in the folder `directory`,
/// as is done with the files that hold the secrets of a store when they are opened to be written.
///
/// # Errors
///
/// Those of opening it.
pub fn keep_to_owner(directory: &Path, name: &str) -> io::Result<()> {
    let file = Base::open(directory)?.open_file(&FilePath::new(&[name]), Access::Read)?;
    system::keep_to_owner(&file);
    Ok(())
}

/// Number of files kept open unless said otherwise.
const OPEN_FILES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    /// As by a child process between its fork and the start of its program.
    #[cfg(unix)]
    #[test]
    fn a_lock_that_is_given_up_is_free_although_its_file_is_shared() {
        let folder = tempfile::tempdir().unwrap();
        let path = FilePath::new(&["lock"]);
        let (one, two) = (Disk::open(folder.path()).unwrap(), Disk::open(folder.path()).unwrap());
        one.lock(&path).unwrap();
        let _shared = one.shared().locks.values().next().unwrap().try_clone().unwrap();
        two.lock(&path).unwrap_err();
        one.close();
        two.lock(&path).unwrap();
    }

    #[test]
    fn after_the_lock_was_given_up_nothing_is_known_to_last() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, path) = (Disk::open(folder.path()).unwrap(), FilePath::new(&["a"]));
        disk.shared().stable.begin();
        disk.shared().stable.ended(true);
        assert!(!disk.shared().stable.needs_file(&path));
        disk.close();
        assert!(disk.shared().stable.needs_file(&path));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_may_only_be_read_is_synced() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        // One by one, as on a file system that cannot be synced at once.
        *disk.sweep.lock().unwrap() = false;
        let file = folder.path().join("secret_key");
        fs::write(&file, b"secret").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
        let path = FilePath::new(&["secret_key"]);
        assert_eq!(disk.sync(&path).unwrap(), Answer::Done);
    }
}
