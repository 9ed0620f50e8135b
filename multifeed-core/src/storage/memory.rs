//! Storage in memory: the executor for tests, and for stores that need not last.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;
use alloc::vec::Vec;

use bytes::Bytes;

use super::file::SparseFile;
use super::{
    Answer, Batch, BatchResult, Failed, FilePath, MAX_READ, NotAFile, Op, StorageError,
    StorageErrorKind,
};

/// An executor of batches in memory, with the meaning that `disk::Disk` gives them.
///
/// A clone is what a reboot at this moment would find: the same files, without the lock and without
/// the memory of failed batches. Clones share their bytes until one of them writes.
#[derive(Debug, Default)]
pub struct Memory {
    files: BTreeMap<FilePath, SparseFile>,
    folders: BTreeSet<FilePath>,
    locked: bool,
    failed: Failed,
    fault: Option<Fault>,
    denied: Option<FilePath>,
}

/// A disk that stops working, for tests: see [`Memory::set_fault`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Number of changes that still go well.
    pub after: u64,
    /// How every change fails from there on. Reads go on.
    pub kind: StorageErrorKind,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs the operations of a batch in their order.
    pub fn execute(&mut self, batch: &Batch) -> BatchResult {
        if let Some(skipped) = self.failed.skip(batch) {
            return skipped;
        }
        let answers = batch.ops.iter().map(|op| self.run(op)).collect();
        self.failed.answer(batch.id, answers)
    }

    /// Makes changes fail from a moment on; `None`: the disk works again.
    pub fn set_fault(&mut self, fault: Option<Fault>) {
        self.fault = fault;
    }

    /// Makes one file one that may neither be read nor changed, though replaced or removed; `None`: all may be.
    pub fn set_denied(&mut self, path: Option<FilePath>) {
        self.denied = path;
    }

    /// Gives the lock up, as the end of the process that holds it would.
    pub fn unlock(&mut self) {
        self.locked = false;
    }

    /// The contents of a file; `None` if it does not exist.
    #[must_use]
    pub fn contents(&self, path: &FilePath) -> Option<Vec<u8>> {
        self.files.get(path).map(|file| file.read(0, usize::MAX))
    }

    /// The paths of all files, in order.
    pub fn paths(&self) -> impl Iterator<Item = &FilePath> {
        self.files.keys()
    }

    /// Runs one operation; the answer says nothing about other operations.
    pub(super) fn run(&mut self, op: &Op) -> Result<Answer, StorageError> {
        self.answer(op).map_err(|kind| op.error(kind))
    }

    fn answer(&mut self, op: &Op) -> Result<Answer, StorageErrorKind> {
        match op {
            Op::Read { path, offset, len } => {
                let Some(file) = self.file(path)? else { return Ok(Answer::NotFound) };
                if file.len().saturating_sub(*offset).min(*len as u64) > MAX_READ as u64 {
                    return Err(io("too much to be read at once"));
                }
                Ok(Answer::Bytes(Bytes::from(file.read(*offset, *len))))
            }
            Op::Length { path } => Ok(match self.length(path)? {
                Some(file) => Answer::Length(file.len()),
                None => Answer::NotFound,
            }),
            Op::NextData { path, offset } => Ok(match self.file(path)? {
                Some(file) => Answer::Length(file.next_data(*offset)),
                None => Answer::NotFound,
            }),
            Op::Write { path, offset, data } => {
                check_end(*offset, data.len() as u64)?;
                self.allowed(path)?;
                self.change()?;
                self.make(path)?.write(*offset, data);
                Ok(Answer::Done)
            }
            Op::Truncate { path, len } => {
                check_end(*len, 0)?;
                self.allowed(path)?;
                self.change()?;
                self.make(path)?.truncate(*len);
                Ok(Answer::Done)
            }
            Op::Punch { path, offset, len } => {
                self.file(path)?;
                self.change()?;
                if let Some(file) = self.files.get_mut(path) {
                    file.zero(*offset, *len);
                }
                Ok(Answer::Done)
            }
            Op::CreateSecret { path, data } => {
                self.change()?;
                let file = self.make(path)?;
                *file = SparseFile::default();
                file.write(0, data);
                Ok(Answer::Done)
            }
            Op::Remove { path } => {
                if *path == FilePath::root() {
                    return Err(io("the store itself cannot be removed"));
                }
                self.change()?;
                self.files.retain(|file, _| !file.is_within(path));
                self.folders.retain(|folder| !folder.is_within(path));
                Ok(Answer::Done)
            }
            Op::Rename { from, to } => self.rename(from, to),
            Op::List { path } => self.list(path),
            Op::Sync { path } => {
                let found = self.file(path)?.is_some();
                self.change()?;
                Ok(if found { Answer::Done } else { Answer::NotFound })
            }
            Op::Lock { path } => {
                if self.locked {
                    return Err(StorageErrorKind::InUse { process: 0 });
                }
                self.allowed(path)?;
                self.change()?;
                let file = self.make(path)?;
                file.truncate(0);
                file.write(0, b"0\n");
                self.locked = true;
                Ok(Answer::Done)
            }
        }
    }

    fn rename(&mut self, from: &FilePath, to: &FilePath) -> Result<Answer, StorageErrorKind> {
        if self.folders.contains(from) {
            return self.rename_folder(from, to);
        }
        if !self.files.contains_key(from) {
            return Ok(Answer::NotFound);
        }
        self.change()?;
        self.make(to)?;
        if let Some(file) = self.files.remove(from) {
            self.files.insert(to.clone(), file);
        }
        Ok(Answer::Done)
    }

    fn rename_folder(
        &mut self,
        from: &FilePath,
        to: &FilePath,
    ) -> Result<Answer, StorageErrorKind> {
        if *from == FilePath::root() || to.is_within(from) {
            return Err(io("a folder does not move into itself"));
        }
        if self.files.contains_key(to) || self.folders.contains(to) {
            return Err(io("the name is taken"));
        }
        self.change()?;
        // Makes the folders above.
        self.make(to)?;
        self.files.remove(to);
        let moved = |path: &FilePath| match path.as_str()[from.as_str().len()..].strip_prefix('/') {
            Some(rest) => to.join(rest),
            None => to.clone(),
        };
        let within = |path: &&FilePath| path.is_within(from);
        let files: Vec<FilePath> = self.files.keys().filter(within).cloned().collect();
        for path in files {
            if let Some(file) = self.files.remove(&path) {
                self.files.insert(moved(&path), file);
            }
        }
        let folders: Vec<FilePath> = self.folders.iter().filter(within).cloned().collect();
        for path in folders {
            self.folders.remove(&path);
            self.folders.insert(moved(&path));
        }
        Ok(Answer::Done)
    }

    fn list(&self, path: &FilePath) -> Result<Answer, StorageErrorKind> {
        if !self.folders.contains(path) {
            return Ok(Answer::NotFound);
        }
        let all = self.files.keys().chain(&self.folders);
        let within = all.filter(|entry| entry.parent().as_ref() == Some(path));
        let names: BTreeSet<&str> = within.map(last_part).collect();
        Ok(Answer::Names(names.into_iter().map(str::to_owned).collect()))
    }

    fn file(&self, path: &FilePath) -> Result<Option<&SparseFile>, StorageErrorKind> {
        if self.folders.contains(path) {
            return Err(StorageErrorKind::NotAFile(NotAFile::Folder));
        }
        self.allowed(path)?;
        Ok(self.files.get(path))
    }

    /// As [`Self::file`]; the length of a file is told to everybody.
    fn length(&self, path: &FilePath) -> Result<Option<&SparseFile>, StorageErrorKind> {
        if self.folders.contains(path) {
            return Err(StorageErrorKind::NotAFile(NotAFile::Folder));
        }
        Ok(self.files.get(path))
    }

    /// The file, made with the folders above it if it is not there.
    fn make(&mut self, path: &FilePath) -> Result<&mut SparseFile, StorageErrorKind> {
        if self.folders.contains(path) || *path == FilePath::root() {
            return Err(StorageErrorKind::NotAFile(NotAFile::Folder));
        }
        let above: Vec<_> = core::iter::successors(path.parent(), FilePath::parent).collect();
        if above.iter().any(|folder| self.files.contains_key(folder)) {
            return Err(io("not a folder"));
        }
        self.folders.extend(above);
        Ok(self.files.entry(path.clone()).or_default())
    }

    fn allowed(&self, path: &FilePath) -> Result<(), StorageErrorKind> {
        let denied = self.denied.as_ref() == Some(path) && self.files.contains_key(path);
        if denied { Err(StorageErrorKind::Denied) } else { Ok(()) }
    }

    fn change(&mut self) -> Result<(), StorageErrorKind> {
        let Some(fault) = &mut self.fault else { return Ok(()) };
        if fault.after == 0 {
            return Err(fault.kind.clone());
        }
        fault.after -= 1;
        Ok(())
    }
}

impl Clone for Memory {
    fn clone(&self) -> Self {
        Self {
            files: self.files.clone(),
            folders: self.folders.clone(),
            locked: false,
            failed: Failed::default(),
            fault: self.fault.clone(),
            denied: self.denied.clone(),
        }
    }
}

/// Two stores are equal when they hold the same files and folders.
impl PartialEq for Memory {
    fn eq(&self, other: &Self) -> bool {
        self.folders == other.folders && self.files == other.files
    }
}

impl Eq for Memory {}

/// Refuses what no file system can hold, as they do.
fn check_end(offset: u64, len: u64) -> Result<(), StorageErrorKind> {
    match offset.checked_add(len) {
        Some(end) if i64::try_from(end).is_ok() => Ok(()),
        Some(_) | None => Err(io("file too large")),
    }
}

fn last_part(path: &FilePath) -> &str {
    path.as_str().rsplit('/').next().unwrap_or_default()
}

fn io(text: &str) -> StorageErrorKind {
    StorageErrorKind::Io(text.to_string())
}
