//! The files of a store by their paths below its folder, none of them through a link: where there is no `openat`,
//! by a look at each part of the path.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::{Access, Found, Kind};
use crate::disk::error::not_a_file;
use crate::storage::{FilePath, NotAFile};

/// The folder of a store.
#[derive(Debug)]
pub(in crate::disk) struct Base {
    path: PathBuf,
}

impl Base {
    /// The folder at `path`, which the user gave: it may be reached through links.
    pub(in crate::disk) fn open(path: &Path) -> io::Result<Self> {
        if !fs::metadata(path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { path: path.to_path_buf() })
    }

    /// There is no such call.
    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "as on other systems")]
    pub(in crate::disk) fn sync_file_system(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Whether the folder was removed.
    pub(in crate::disk) fn is_removed(&self) -> bool {
        !self.path.exists()
    }

    /// Opens a regular file.
    pub(in crate::disk) fn open_file(&self, path: &FilePath, access: Access) -> io::Result<File> {
        let disk_path = self.without_links(path)?;
        let mut options = OpenOptions::new();
        options.read(true);
        match access {
            Access::Read => {}
            Access::Change => {
                options.write(true);
            }
            Access::New { .. } => {
                options.write(true).create_new(true);
            }
        }
        #[cfg(windows)]
        std::os::windows::fs::OpenOptionsExt::custom_flags(&mut options, OPEN_REPARSE_POINT);
        if fs::symlink_metadata(&disk_path).is_ok_and(|found| found.is_dir()) {
            return Err(not_a_file(NotAFile::Folder));
        }
        let file = options.open(disk_path)?;
        match kind_of(&file.metadata()?) {
            Kind::File => Ok(file),
            Kind::Folder => Err(not_a_file(NotAFile::Folder)),
            Kind::Other(found) => Err(not_a_file(found)),
        }
    }

    /// What has a name.
    pub(in crate::disk) fn find(&self, path: &FilePath) -> io::Result<Found> {
        let folder = self.without_links(&path.parent().unwrap_or_else(FilePath::root))?;
        let name = path.as_str().rsplit('/').next().unwrap_or_default();
        let found = fs::symlink_metadata(folder.join(name))?;
        Ok(Found { kind: kind_of(&found), len: found.len(), device: None, open_to_others: false })
    }

    /// The names in a folder that are text: others are none of ours.
    pub(in crate::disk) fn names(&self, path: &FilePath) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.without_links(path)?)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    /// Makes a folder in one that is there. `false`: the name is taken.
    pub(in crate::disk) fn make_folder(&self, path: &FilePath) -> io::Result<bool> {
        match fs::create_dir(self.without_links(path)?) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives a file or folder another name, in place of a file that has it.
    pub(in crate::disk) fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        fs::rename(self.without_links(from)?, self.without_links(to)?)
    }

    /// Removes a file, a link, or a folder with all below it.
    pub(in crate::disk) fn remove(&self, path: &FilePath) -> io::Result<()> {
        let found = self.find(path)?;
        let folder = self.without_links(&path.parent().unwrap_or_else(FilePath::root))?;
        let disk_path = folder.join(path.as_str().rsplit('/').next().unwrap_or_default());
        match found.kind {
            Kind::Folder => fs::remove_dir_all(disk_path),
            Kind::File | Kind::Other(_) => fs::remove_file(disk_path),
        }
    }

    /// Names are kept in the journal of the file system.
    pub(in crate::disk) fn sync_folder(&self, path: &FilePath) -> io::Result<()> {
        super::sync_folder(&self.without_links(path)?)
    }

    /// Whether this is a folder that is reached without links.
    pub(in crate::disk) fn is_folder(&self, path: &FilePath) -> io::Result<()> {
        if fs::symlink_metadata(self.without_links(path)?)?.is_dir() {
            return Ok(());
        }
        Err(io::ErrorKind::NotADirectory.into())
    }

    /// The path on the disk, if there is no link in it.
    fn without_links(&self, path: &FilePath) -> io::Result<PathBuf> {
        let mut disk_path = self.path.clone();
        for part in path.as_str().split('/').filter(|part| !part.is_empty()) {
            disk_path.push(part);
            if fs::symlink_metadata(&disk_path).is_ok_and(|found| found.is_symlink()) {
                return Err(not_a_file(NotAFile::Link));
            }
        }
        Ok(disk_path)
    }
}

fn kind_of(found: &Metadata) -> Kind {
    if found.is_symlink() {
        Kind::Other(NotAFile::Link)
    } else if found.is_dir() {
        Kind::Folder
    } else if found.is_file() {
        Kind::File
    } else {
        Kind::Other(NotAFile::Device)
    }
}

/// `FILE_FLAG_OPEN_REPARSE_POINT`: opens a link itself.
#[cfg(windows)]
const OPEN_REPARSE_POINT: u32 = 0x0020_0000;
