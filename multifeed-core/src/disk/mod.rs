//! Storage on files: the executor of batches that all adapters share. Needs the feature `std`.
//!
//! Synchronous and free of any runtime: an adapter calls [`Disk::execute`] where it stands for small
//! work on the page cache, and from a thread for what may take long. What is asked for, and in which
//! order, is decided elsewhere (`node`); how files look inside is `format`. `convert` makes a whole store out of
//! another one, or nothing.

pub(crate) mod convert;
mod holes;
mod pool;
mod stable;
mod system;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use fs4::fs_std::FileExt;

use self::pool::{Mode, Pool};
use self::stable::Stable;
pub use self::system::is_too_many_files;
use self::system::{create_secret, device, read_fully, sync_file_system, write_fully};
pub use self::system::{make_folder, sync_folder};
use crate::storage::{
    Answer, Batch, BatchResult, Failed, FilePath, Files, Op, StorageError, StorageErrorKind,
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

impl Files for Disk {
    fn execute(&self, batch: &Batch) -> BatchResult {
        Self::execute(self, batch)
    }

    fn close(&self) {
        Self::close(self);
    }
}

#[derive(Debug)]
struct Shared {
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
            pool: Pool::new(open_files.max(1)),
            locks: BTreeMap::new(),
            failed: Failed::default(),
            stable: Stable::default(),
        };
        Ok(Self { root, shared: Mutex::new(shared), sweep: Mutex::new(true), syncs: true })
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
            let answer = self.run(op);
            if matches!(op, Op::Write { .. } | Op::Truncate { .. } | Op::Punch { .. }) {
                // Not before: all may be synced at once in between. Also when it failed half-way.
                self.shared().stable.file_changed(op.path());
            }
            answer.map_err(|e| op.error(kind(&e)))
        });
        let answers = answers.collect::<Vec<Result<Answer, StorageError>>>();
        self.shared().failed.answer(batch.id, answers)
    }

    /// Closes all files and gives the lock up. Operations may go on afterwards, without a lock.
    pub fn close(&self) {
        let mut shared = self.shared();
        shared.pool.forget(&FilePath::root());
        // Another process may change the files from here on.
        shared.stable.forget();
        for file in std::mem::take(&mut shared.locks).into_values() {
            // Dropping the file is not enough while a child process that is being started shares it.
            // Should this fail, dropping it has to do.
            let _ = FileExt::unlock(&file);
        }
    }

    fn run(&self, op: &Op) -> io::Result<Answer> {
        match op {
            Op::Read { path, offset, len } => self.read(path, *offset, *len),
            Op::Length { path } => {
                let found = or_missing(fs::metadata(self.disk_path(path)))?;
                let Some(found) = found else { return Ok(Answer::NotFound) };
                if !found.is_file() {
                    return Err(io::Error::other("not a file"));
                }
                Ok(Answer::Length(found.len()))
            }
            Op::NextData { path, offset } => {
                let Some(file) = or_missing(self.file(path, Mode::Read))? else {
                    return Ok(Answer::NotFound);
                };
                Ok(Answer::Length(holes::next_data(&file, *offset)?))
            }
            Op::Write { path, offset, data } => {
                check_end(*offset, data.len() as u64)?;
                write_fully(&*self.file(path, Mode::Create)?, data, *offset)?;
                Ok(Answer::Done)
            }
            Op::Truncate { path, len } => {
                check_end(*len, 0)?;
                self.file(path, Mode::Create)?.set_len(*len)?;
                Ok(Answer::Done)
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
        let Some(file) = or_missing(self.file(path, Mode::Read))? else {
            return Ok(Answer::NotFound);
        };
        let held = file.metadata()?.len().saturating_sub(offset);
        let len = len.min(usize::try_from(held).unwrap_or(usize::MAX));
        let mut bytes = vec![0; len];
        let count = read_fully(&file, &mut bytes, offset)?;
        bytes.truncate(count);
        Ok(Answer::Bytes(Bytes::from(bytes)))
    }

    fn create_secret(&self, path: &FilePath, data: &[u8]) -> io::Result<Answer> {
        let disk_path = self.disk_path(path);
        let mut temporary = disk_path.clone().into_os_string();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        self.make_folders(path)?;
        // What an interrupted attempt left there was never given its name.
        or_missing(fs::remove_file(&temporary))?;
        let file = self.shared().pool.with_room(|| create_secret(&temporary))?;
        (&file).write_all(data)?;
        if self.syncs {
            file.sync_all()?;
        }
        drop(file);
        self.shared().pool.forget(path);
        fs::rename(&temporary, &disk_path)?;
        self.name_changed(path);
        if self.syncs {
            self.sync_folders(path, true)?;
        }
        Ok(Answer::Done)
    }

    fn remove(&self, path: &FilePath) -> io::Result<Answer> {
        if *path == FilePath::root() {
            return Err(io::Error::other("the store itself cannot be removed"));
        }
        self.shared().pool.forget(path);
        let disk_path = self.disk_path(path);
        // Links are removed, never followed.
        match or_missing(fs::symlink_metadata(&disk_path))? {
            Some(found) if found.is_dir() => or_missing(fs::remove_dir_all(&disk_path))?,
            Some(_) => or_missing(fs::remove_file(&disk_path))?,
            None => None,
        };
        self.shared().stable.removed(path);
        self.name_changed(path);
        Ok(Answer::Done)
    }

    fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<Answer> {
        let disk_from = self.disk_path(from);
        let Some(found) = or_missing(fs::metadata(&disk_from))? else {
            return Ok(Answer::NotFound);
        };
        if !found.is_file() && self.disk_path(to).symlink_metadata().is_ok() {
            return Err(io::Error::other("the name is taken"));
        }
        self.make_folders(to)?;
        let mut shared = self.shared();
        shared.pool.forget(from);
        shared.pool.forget(to);
        drop(shared);
        fs::rename(disk_from, self.disk_path(to))?;
        self.shared().stable.renamed(from, to);
        self.name_changed(from);
        self.name_changed(to);
        Ok(Answer::Done)
    }

    fn list(&self, path: &FilePath) -> io::Result<Answer> {
        let disk_path = self.disk_path(path);
        let opened = self.shared().pool.with_room(|| fs::read_dir(&disk_path));
        let Some(entries) = or_missing(opened)? else { return Ok(Answer::NotFound) };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is no text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(Answer::Names(names))
    }

    fn sync(&self, path: &FilePath) -> io::Result<Answer> {
        let disk_path = self.disk_path(path);
        if !self.syncs {
            let there = or_missing(fs::metadata(disk_path))?.is_some();
            return Ok(if there { Answer::Done } else { Answer::NotFound });
        }
        self.sweep();
        let Some(found) = or_missing(fs::metadata(&disk_path))? else {
            self.sync_folders(path, true)?;
            return Ok(Answer::NotFound);
        };
        if !found.is_file() {
            return Err(io::Error::other("not a file"));
        }
        // A link may lead to another file system.
        let root = or_missing(fs::metadata(&self.root))?;
        let swept = root.is_some_and(|root| device(&root) == device(&found));
        if !swept || self.shared().stable.needs_file(path) {
            // One that may only be read is synced, too: whoever wrote it may not have.
            self.file(path, Mode::Read)?.sync_data()?;
            self.shared().stable.file_synced(path);
        }
        self.sync_folders(path, swept)?;
        Ok(Answer::Done)
    }

    /// Syncs all that is there at once, the first time and where that is possible.
    fn sweep(&self) {
        let mut possible = self.sweep.lock().unwrap_or_else(PoisonError::into_inner);
        if !*possible || self.shared().stable.swept {
            return;
        }
        // A store that is not there yet has nothing to be synced, and may be there soon.
        let Ok(root) = File::open(&self.root) else { return };
        self.shared().stable.begin();
        // Should it fail, maybe because of what is none of ours, files are synced one by one.
        *possible = sync_file_system(&root).unwrap_or(false);
        self.shared().stable.ended(*possible);
    }

    /// Syncs the folders above `path` in which a name may have changed since they last were. `swept`: they
    /// are in the file system of the store.
    fn sync_folders(&self, path: &FilePath, swept: bool) -> io::Result<()> {
        let mut above = path.parent();
        while let Some(folder) = above {
            above = folder.parent();
            let needed = self.shared().stable.needs_folder(&folder, swept);
            let Some(changes) = needed else { continue };
            let disk_path = self.disk_path(&folder);
            let synced = self.shared().pool.with_room(|| sync_folder(&disk_path));
            or_missing(synced)?;
            self.shared().stable.folder_synced(folder, changes);
        }
        Ok(())
    }

    fn lock(&self, path: &FilePath) -> io::Result<Answer> {
        self.make_folders(path)?;
        let disk_path = self.disk_path(path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = self.shared().pool.with_room(|| options.open(&disk_path))?;
        if !FileExt::try_lock_exclusive(&file)? {
            return Err(io::Error::other(InUse { process: read_process(&file) }));
        }
        file.set_len(0)?;
        write_fully(&file, format!("{}\n", std::process::id()).as_bytes(), 0)?;
        self.name_changed(path);
        self.shared().locks.insert(path.clone(), file);
        Ok(Answer::Done)
    }

    /// The file, open; made with its folders if `mode` says so.
    fn file(&self, path: &FilePath, mode: Mode) -> io::Result<Arc<File>> {
        let mut shared = self.shared();
        if let Some(file) = shared.pool.get(path, mode) {
            return Ok(file);
        }
        let disk_path = self.disk_path(path);
        let opened = match shared.pool.open(path, &disk_path, mode) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && mode == Mode::Create => {
                drop(shared);
                self.make_folders(path)?;
                shared = self.shared();
                shared.pool.open(path, &disk_path, mode)
            }
            other => other,
        };
        let (file, made) = opened?;
        drop(shared);
        if made {
            self.name_changed(path);
        }
        Ok(file)
    }

    /// Makes the folders above `path`.
    fn make_folders(&self, path: &FilePath) -> io::Result<()> {
        let Some(folder) = path.parent() else { return Ok(()) };
        let disk_path = self.disk_path(&folder);
        if disk_path.is_dir() {
            return Ok(());
        }
        // The names of the store's own folder and of those above it are synced here: no operation speaks of them.
        make_folder(&self.root)?;
        fs::create_dir_all(disk_path)?;
        let mut made = Some(folder);
        while let Some(folder) = made {
            self.name_changed(&folder);
            made = folder.parent();
        }
        Ok(())
    }

    /// The folder of `path` must be synced for its names to last.
    fn name_changed(&self, path: &FilePath) {
        self.shared().stable.name_changed(path);
    }

    fn disk_path(&self, path: &FilePath) -> PathBuf {
        let mut disk_path = self.root.clone();
        disk_path.extend(path.as_str().split('/').filter(|part| !part.is_empty()));
        disk_path
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // Nothing in there is left half changed by a panic.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lock is held by someone else.
#[derive(Debug, thiserror::Error)]
#[error("in use")]
struct InUse {
    process: u32,
}

/// `None` for what does not exist, in a folder or because its folder is a file.
fn or_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    use io::ErrorKind::{NotADirectory, NotFound};
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Refuses places that the calls of the operating system cannot express.
fn check_end(offset: u64, len: u64) -> io::Result<()> {
    match offset.checked_add(len) {
        Some(end) if i64::try_from(end).is_ok() => Ok(()),
        Some(_) | None => Err(io::ErrorKind::FileTooLarge.into()),
    }
}

/// The number that [`Op::Lock`] left in a lock file; 0 if there is none.
fn read_process(file: &File) -> u32 {
    let mut text = String::new();
    let read = file.take(16).read_to_string(&mut text);
    read.ok().and_then(|_| text.trim().parse().ok()).unwrap_or(0)
}

fn kind(error: &io::Error) -> StorageErrorKind {
    use io::ErrorKind;
    if let Some(in_use) = error.get_ref().and_then(|inner| inner.downcast_ref::<InUse>()) {
        return StorageErrorKind::InUse { process: in_use.process };
    }
    if is_too_many_files(error) {
        return StorageErrorKind::TooManyFiles;
    }
    let kind = error.kind();
    if matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        return StorageErrorKind::Full;
    }
    if matches!(kind, ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) {
        return StorageErrorKind::Denied;
    }
    StorageErrorKind::Io(error.to_string())
}

/// Number of files kept open unless said otherwise.
const OPEN_FILES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted_by_what_the_user_can_do() {
        let sorted = |error: io::ErrorKind| kind(&error.into());
        assert_eq!(sorted(io::ErrorKind::StorageFull), StorageErrorKind::Full);
        assert_eq!(sorted(io::ErrorKind::QuotaExceeded), StorageErrorKind::Full);
        assert_eq!(sorted(io::ErrorKind::PermissionDenied), StorageErrorKind::Denied);
        assert_eq!(sorted(io::ErrorKind::ReadOnlyFilesystem), StorageErrorKind::Denied);
        assert!(matches!(sorted(io::ErrorKind::TimedOut), StorageErrorKind::Io(_)));
    }

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

    #[cfg(target_os = "linux")]
    #[test]
    fn the_codes_of_the_operating_system_are_known() {
        let sorted = |code| kind(&io::Error::from_raw_os_error(code));
        assert_eq!(sorted(28), StorageErrorKind::Full, "ENOSPC");
        assert_eq!(sorted(122), StorageErrorKind::Full, "EDQUOT");
        assert_eq!(sorted(13), StorageErrorKind::Denied, "EACCES");
        assert_eq!(sorted(24), StorageErrorKind::TooManyFiles, "EMFILE");
    }
}
