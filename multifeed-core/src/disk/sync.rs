//! Syncing: what must reach stable storage, and what is there already.

use std::io;
use std::sync::PoisonError;

use super::Disk;
use super::error::{known, not_a_file, or_missing};
use super::pool::Mode;
use super::system::{self, Base, Kind};
use crate::storage::{Answer, FilePath, NotAFile, StorageErrorKind};

impl Disk {
    pub(super) fn sync(&self, path: &FilePath) -> io::Result<Answer> {
        let Some(base) = self.base()? else { return Ok(Answer::NotFound) };
        if self.syncs {
            self.sweep(&base);
        }
        let found = or_missing(base.find(path))?;
        let Some(found) = found else {
            if self.syncs {
                self.sync_folders(&base, path, true)?;
            }
            return Ok(Answer::NotFound);
        };
        match found.kind {
            Kind::File => {}
            Kind::Folder => return Err(not_a_file(NotAFile::Folder)),
            Kind::Other(found) => return Err(not_a_file(found)),
        }
        if !self.syncs {
            return Ok(Answer::Done);
        }
        // What is mounted below the store is another file system.
        let swept = base.find(&FilePath::root())?.device == found.device;
        if !swept || self.shared().stable.needs_file(path) {
            // One that may only be read is synced, too: whoever wrote it may not have.
            let file = self.file(path, Mode::Read)?;
            file.sync_data()?;
            if system::is_removed(&file) {
                self.shared().pool.forget(path);
                return Err(known(StorageErrorKind::Removed));
            }
            self.shared().stable.file_synced(path);
        }
        self.sync_folders(&base, path, swept)?;
        Ok(Answer::Done)
    }

    /// Syncs all that is there at once, the first time and where that is possible.
    fn sweep(&self, base: &Base) {
        let mut possible = self.sweep.lock().unwrap_or_else(PoisonError::into_inner);
        if !*possible || self.shared().stable.swept {
            return;
        }
        self.shared().stable.begin();
        // Should it fail, maybe because of what is none of ours, files are synced one by one.
        *possible = base.sync_file_system().unwrap_or(false);
        self.shared().stable.ended(*possible);
    }

    /// Syncs the folders above `path` in which a name may have changed since they last were. `swept`: they
    /// are in the file system of the store.
    pub(super) fn sync_folders(&self, base: &Base, path: &FilePath, swept: bool) -> io::Result<()> {
        let mut above = path.parent();
        while let Some(folder) = above {
            above = folder.parent();
            let needed = self.shared().stable.needs_folder(&folder, swept);
            let Some(changes) = needed else { continue };
            let synced = self.shared().pool.with_room(|| base.sync_folder(&folder));
            or_missing(synced)?;
            self.shared().stable.folder_synced(folder, changes);
        }
        Ok(())
    }
}
