//! Names: files and folders that are made, removed, renamed and listed.

use std::io::{self, Write};

use super::error::{known, not_a_file, or_missing};
use super::system::{Access, Base, Kind};
use super::{Disk, system};
use crate::storage::{Answer, FilePath, NotAFile, StorageErrorKind};

impl Disk {
    pub(super) fn create_secret(&self, path: &FilePath, data: &[u8]) -> io::Result<Answer> {
        let temporary = match path.as_str() {
            "" => return Err(not_a_file(NotAFile::Folder)),
            path => FilePath::new(&[&format!("{path}.tmp")]),
        };
        let base = self.make_folders(path)?;
        if or_missing(base.find(path))?.is_some_and(|found| found.kind == Kind::Folder) {
            return Err(not_a_file(NotAFile::Folder));
        }
        // What an interrupted attempt left there was never given its name.
        or_missing(base.remove(&temporary))?;
        let new = Access::New { secret: true };
        let file = self.shared().pool.with_room(|| base.open_file(&temporary, new))?;
        (&file).write_all(data)?;
        if self.syncs {
            file.sync_all()?;
        }
        drop(file);
        self.shared().pool.forget(path);
        base.rename(&temporary, path)?;
        self.name_changed(path);
        if self.syncs {
            self.sync_folders(&base, path, true)?;
        }
        Ok(Answer::Done)
    }

    pub(super) fn remove(&self, path: &FilePath) -> io::Result<Answer> {
        if *path == FilePath::root() {
            return Err(io::Error::other("the store itself cannot be removed"));
        }
        self.shared().pool.forget(path);
        if let Some(base) = self.base()? {
            // Links are removed, never followed.
            or_missing(base.remove(path))?;
        }
        self.shared().stable.removed(path);
        self.name_changed(path);
        Ok(Answer::Done)
    }

    pub(super) fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<Answer> {
        let Some(base) = self.base()? else { return Ok(Answer::NotFound) };
        let Some(found) = or_missing(base.find(from))? else { return Ok(Answer::NotFound) };
        if let Kind::Other(found) = found.kind {
            return Err(not_a_file(found));
        }
        let taken = or_missing(base.find(to))?;
        if found.kind == Kind::Folder && taken.is_some() {
            return Err(io::Error::other("the name is taken"));
        }
        self.make_folders(to)?;
        let mut shared = self.shared();
        shared.pool.forget(from);
        shared.pool.forget(to);
        drop(shared);
        base.rename(from, to)?;
        self.shared().stable.renamed(from, to);
        self.name_changed(from);
        self.name_changed(to);
        Ok(Answer::Done)
    }

    pub(super) fn list(&self, path: &FilePath) -> io::Result<Answer> {
        let Some(base) = self.base()? else { return Ok(Answer::NotFound) };
        let listed = self.shared().pool.with_room(|| base.names(path));
        let Some(mut names) = or_missing(listed)? else { return Ok(Answer::NotFound) };
        names.sort_unstable();
        Ok(Answer::Names(names))
    }

    /// Whether others than its owner may do something with a file or folder.
    pub(crate) fn is_open_to_others(&self, path: &FilePath) -> bool {
        let found = self.base().ok().flatten().and_then(|base| base.find(path).ok());
        found.is_some_and(|found| {
            found.open_to_others && matches!(found.kind, Kind::File | Kind::Folder)
        })
    }

    /// Takes that from them.
    pub(crate) fn keep_to_owner(&self, path: &FilePath) -> io::Result<()> {
        if self.is_read_only() {
            return Err(known(StorageErrorKind::ReadOnly));
        }
        if let Some(base) = self.base()? {
            system::keep_to_owner(&base.open_file(path, Access::Read)?);
        }
        Ok(())
    }

    /// Makes the folders above `path`; gives the folder of the store.
    pub(super) fn make_folders(&self, path: &FilePath) -> io::Result<std::sync::Arc<Base>> {
        let base = match self.base()? {
            Some(base) => base,
            None => {
                // Its name and those of the folders above it are synced here: no operation speaks of them.
                system::make_folder(self.directory())?;
                let made = self.base()?;
                made.ok_or_else(|| known(StorageErrorKind::Removed))?
            }
        };
        let Some(folder) = path.parent() else { return Ok(base) };
        let there = self.shared().pool.with_room(|| base.is_folder(&folder));
        match there {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other.map(|()| base),
        }
        let above = std::iter::successors(Some(folder), FilePath::parent);
        let mut above: Vec<FilePath> = above.collect();
        // The store itself, which is there.
        above.pop();
        for folder in above.iter().rev() {
            if base.make_folder(folder)? {
                self.name_changed(folder);
            }
        }
        Ok(base)
    }
}
