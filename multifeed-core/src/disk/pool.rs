//! Open files, a limited number of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

use super::system::{Access, Base, is_too_many_files, keep_to_owner};
use crate::format;
use crate::storage::FilePath;

/// The files that were used last, open.
///
/// Holds at most as many as its limit; one that is given up while an operation uses it stays open
/// until that is over.
#[derive(Debug)]
pub(super) struct Pool {
    /// No file is opened to be changed.
    pub(super) read_only: bool,
    limit: usize,
    tick: u64,
    files: BTreeMap<FilePath, Entry>,
    /// Tick of the last use, and the file: oldest first.
    by_use: BTreeMap<u64, FilePath>,
}

#[derive(Debug)]
struct Entry {
    file: Arc<File>,
    writable: bool,
    used: u64,
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// To read it; one that does not exist is [`io::ErrorKind::NotFound`].
    Read,
    /// To change it; one that does not exist is [`io::ErrorKind::NotFound`].
    Change,
    /// To change it; made if it does not exist.
    Create,
}

impl Pool {
    pub(super) const fn new(limit: usize) -> Self {
        Self { read_only: false, limit, tick: 0, files: BTreeMap::new(), by_use: BTreeMap::new() }
    }

    /// The file if it is open for that.
    pub(super) fn get(&mut self, path: &FilePath, mode: Mode) -> Option<Arc<File>> {
        let entry = self.files.get_mut(path)?;
        if mode != Mode::Read && !entry.writable {
            return None;
        }
        self.tick += 1;
        self.by_use.remove(&entry.used);
        entry.used = self.tick;
        self.by_use.insert(self.tick, path.clone());
        Some(Arc::clone(&entry.file))
    }

    /// Opens a file, giving up other files while too many are open. The second value tells whether the file
    /// was made.
    pub(super) fn open(
        &mut self,
        base: &Base,
        path: &FilePath,
        mode: Mode,
    ) -> io::Result<(Arc<File>, bool)> {
        let read_only = self.read_only;
        let opened = self.with_room(|| open_file(base, path, mode, read_only))?;
        let file = Arc::new(opened.file);
        self.forget(path);
        self.tick += 1;
        let entry = Entry { file: Arc::clone(&file), writable: opened.writable, used: self.tick };
        self.files.insert(path.clone(), entry);
        self.by_use.insert(self.tick, path.clone());
        self.shrink(self.limit);
        Ok((file, opened.made))
    }

    /// Runs something that opens a file or folder; while it fails because too many are open, gives
    /// half of ours up and tries again.
    pub(super) fn with_room<T>(&mut self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        loop {
            match open() {
                Err(error) if is_too_many_files(&error) && !self.files.is_empty() => {
                    self.limit = (self.files.len() / 2).max(1);
                    self.shrink(self.files.len() / 2);
                }
                other => return other,
            }
        }
    }

    /// Closes a file, or all files in a folder.
    pub(super) fn forget(&mut self, path: &FilePath) {
        let within = self
            .files
            .range(path.clone()..)
            .take_while(|(name, _)| name.as_str().starts_with(path.as_str()));
        let within = within.filter(|(name, _)| name.is_within(path));
        let gone: Vec<FilePath> = within.map(|(name, _)| name.clone()).collect();
        for name in gone {
            if let Some(entry) = self.files.remove(&name) {
                self.by_use.remove(&entry.used);
            }
        }
    }

    /// Closes the files that were not used for longest until `count` are open.
    fn shrink(&mut self, count: usize) {
        while self.files.len() > count {
            let Some((_, path)) = self.by_use.pop_first() else { break };
            self.files.remove(&path);
        }
    }
}

struct Opened {
    file: File,
    writable: bool,
    made: bool,
}

/// Opens a file for reading and writing, since both are done to almost every file; only for reading
/// where no more is allowed and asked for.
fn open_file(base: &Base, path: &FilePath, mode: Mode, read_only: bool) -> io::Result<Opened> {
    let for_reading = || -> io::Result<Opened> {
        let file = base.open_file(path, Access::Read)?;
        Ok(Opened { file, writable: false, made: false })
    };
    if read_only {
        return for_reading();
    }
    let secret = format::is_secret(path);
    let for_change = || -> io::Result<Opened> {
        let file = base.open_file(path, Access::Change)?;
        if secret {
            // Others may have been let in by the JavaScript, or by hand.
            keep_to_owner(&file);
        }
        Ok(Opened { file, writable: true, made: false })
    };
    match for_change() {
        Err(error) if error.kind() == io::ErrorKind::NotFound && mode == Mode::Create => {
            match base.open_file(path, Access::New { secret }) {
                Ok(file) => Ok(Opened { file, writable: true, made: true }),
                // Somebody was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => for_change(),
                Err(error) => Err(error),
            }
        }
        Err(error) if is_read_only(&error) && mode == Mode::Read => for_reading(),
        other => other,
    }
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}
