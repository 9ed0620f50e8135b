//! The files of a store by their paths below its folder, none of them through a link: where there is `openat`.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RawMode, Stat};
use rustix::io::Errno;

use super::{Access, Found, Kind};
use crate::disk::error::not_a_file;
use crate::storage::{FilePath, NotAFile};

/// The folder of a store, open. Whatever becomes of its name, this stays the same folder.
#[derive(Debug)]
pub(in crate::disk) struct Base {
    folder: File,
    /// The operating system does not go along a whole path without links.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    walks: AtomicBool,
}

impl Base {
    /// Opens the folder at `path`, which the user gave: it may be reached through links.
    pub(in crate::disk) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self {
            folder: folder.into(),
            #[cfg(any(target_os = "linux", target_os = "android"))]
            walks: AtomicBool::new(false),
        })
    }

    /// Syncs the whole file system: see there.
    pub(in crate::disk) fn sync_file_system(&self) -> io::Result<bool> {
        super::sync_file_system(&self.folder)
    }

    /// Whether the folder was removed.
    pub(in crate::disk) fn is_removed(&self) -> bool {
        super::is_removed(&self.folder)
    }

    /// Opens a regular file.
    pub(in crate::disk) fn open_file(&self, path: &FilePath, access: Access) -> io::Result<File> {
        // A pipe without its other end, or a device, is not waited for.
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let (flags, mode) = match access {
            Access::Read => (flags | OFlags::RDONLY, Mode::empty()),
            Access::Change => (flags | OFlags::RDWR, Mode::empty()),
            Access::New { secret } => {
                let mode = if secret { SECRET } else { ORDINARY };
                (flags | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, Mode::from_raw_mode(mode))
            }
        };
        let file = match self.open_at(path, flags, mode) {
            Ok(file) => File::from(file),
            Err(error) => return Err(self.explain(path, error)),
        };
        match kind_of(FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode)) {
            Kind::File => Ok(file),
            Kind::Folder => Err(not_a_file(NotAFile::Folder)),
            Kind::Other(found) => Err(not_a_file(found)),
        }
    }

    /// What has a name.
    pub(in crate::disk) fn find(&self, path: &FilePath) -> io::Result<Found> {
        let stat = match path.parent() {
            Some(_) => {
                let (folder, name) = self.parent(path)?;
                rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?
            }
            None => rustix::fs::fstat(&self.folder)?,
        };
        Ok(found(&stat))
    }

    /// The names in a folder that are text: others are none of ours.
    pub(in crate::disk) fn names(&self, path: &FilePath) -> io::Result<Vec<String>> {
        let names = entries(self.open_folder(path)?)?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    /// Makes a folder in one that is there, for its owner only. `false`: the name is taken.
    pub(in crate::disk) fn make_folder(&self, path: &FilePath) -> io::Result<bool> {
        let (folder, name) = self.parent(path)?;
        match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(super::FOLDER_MODE as RawMode))
        {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a file or folder another name, in place of a file that has it.
    pub(in crate::disk) fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        let (from_folder, from_name) = self.parent(from)?;
        let (to_folder, to_name) = self.parent(to)?;
        Ok(rustix::fs::renameat(&from_folder, from_name, &to_folder, to_name)?)
    }

    /// Removes a file, a link, or a folder with all below it.
    pub(in crate::disk) fn remove(&self, path: &FilePath) -> io::Result<()> {
        let (folder, name) = self.parent(path)?;
        remove(folder.as_fd(), &CString::new(name)?, DEPTH)
    }

    /// Waits until the names in a folder are on stable storage.
    pub(in crate::disk) fn sync_folder(&self, path: &FilePath) -> io::Result<()> {
        File::from(self.open_folder(path)?).sync_all()
    }

    /// Whether this is a folder that is reached without links.
    pub(in crate::disk) fn is_folder(&self, path: &FilePath) -> io::Result<()> {
        self.open_folder(path).map(drop)
    }

    fn open_folder(&self, path: &FilePath) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// The folder that a file is in, open, and the name of the file.
    fn parent<'a>(&self, path: &'a FilePath) -> io::Result<(OwnedFd, &'a str)> {
        let name = path.as_str().rsplit('/').next().unwrap_or_default();
        let folder = path.parent().unwrap_or_else(FilePath::root);
        Ok((self.open_at(&folder, PASSED | OFlags::DIRECTORY, Mode::empty())?, name))
    }

    /// Opens a file or folder to which no link leads.
    fn open_at(&self, path: &FilePath, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        let path = if path.as_str().is_empty() { "." } else { path.as_str() };
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if !self.walks.load(Ordering::Relaxed) {
            let resolve = rustix::fs::ResolveFlags::NO_SYMLINKS;
            match rustix::fs::openat2(&self.folder, path, flags, mode, resolve) {
                Ok(file) => return Ok(file),
                // Before Linux 5.6, and where programs are kept from calls that are newer than the filter.
                Err(Errno::NOSYS) => self.walks.store(true, Ordering::Relaxed),
                Err(Errno::PERM) => {}
                Err(error) => return Err(told(error)),
            }
        }
        walk(self.folder.as_fd(), path, flags | OFlags::NOFOLLOW, mode)
    }

    /// A better word for an error of opening a file.
    fn explain(&self, path: &FilePath, error: io::Error) -> io::Error {
        // A socket, a folder, and a device that nothing drives.
        let odd = [Errno::NXIO, Errno::NODEV, Errno::OPNOTSUPP, Errno::ISDIR];
        let is_odd =
            error.raw_os_error().is_some_and(|code| odd.map(Errno::raw_os_error).contains(&code));
        match is_odd.then(|| self.find(path)) {
            Some(Ok(Found { kind: Kind::Folder, .. })) => not_a_file(NotAFile::Folder),
            Some(Ok(Found { kind: Kind::Other(found), .. })) => not_a_file(found),
            _ => error,
        }
    }
}

/// Goes along a path from folder to folder.
fn walk(base: BorrowedFd<'_>, path: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let mut above: Option<OwnedFd> = None;
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        let folder = above.as_ref().map_or(base, AsFd::as_fd);
        let opened = if parts.peek().is_some() {
            let flags = PASSED | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(folder, part, flags, Mode::empty())
        } else {
            rustix::fs::openat(folder, part, flags, mode)
        };
        let opened = opened.map_err(|error| {
            // What a link gives where a folder is wanted differs by system.
            let stat = rustix::fs::statat(folder, part, AtFlags::SYMLINK_NOFOLLOW);
            match stat.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                Ok(FileType::Symlink) if error != Errno::EXIST => not_a_file(NotAFile::Link),
                Ok(_) | Err(_) => told(error),
            }
        })?;
        if parts.peek().is_none() {
            return Ok(opened);
        }
        above = Some(opened);
    }
    Err(io::ErrorKind::NotFound.into())
}

fn told(error: Errno) -> io::Error {
    if error == Errno::LOOP { not_a_file(NotAFile::Link) } else { error.into() }
}

/// The names in a folder, without `.` and `..`.
fn entries(folder: OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::new(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Removes what is called `name` in a folder, with folders at most `depth` deep.
fn remove(above: BorrowedFd<'_>, name: &CStr, depth: usize) -> io::Result<()> {
    let stat = rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(rustix::fs::unlinkat(above, name, AtFlags::empty())?);
    }
    if depth == 0 {
        return Err(io::Error::other("the folders in it are deeper than those of a store"));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(above, name, flags, Mode::empty());
    let folder = open()?;
    for entry in entries(open()?)? {
        match remove(folder.as_fd(), &entry, depth - 1) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(rustix::fs::unlinkat(above, name, AtFlags::REMOVEDIR)?)
}

fn found(stat: &Stat) -> Found {
    Found {
        kind: kind_of(FileType::from_raw_mode(stat.st_mode)),
        len: u64::try_from(stat.st_size).unwrap_or(0),
        #[allow(
            clippy::unnecessary_cast,
            clippy::cast_sign_loss,
            reason = "its type differs by target"
        )]
        device: Some(stat.st_dev as u64),
        #[allow(clippy::unnecessary_cast, reason = "its type differs by target")]
        open_to_others: stat.st_mode as u32 & super::OTHERS != 0,
    }
}

fn kind_of(found: FileType) -> Kind {
    match found {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        FileType::Symlink => Kind::Other(NotAFile::Link),
        FileType::Fifo => Kind::Other(NotAFile::Pipe),
        FileType::Socket => Kind::Other(NotAFile::Socket),
        FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
            Kind::Other(NotAFile::Device)
        }
    }
}

/// How a folder is opened that is only passed: it need not be readable.
#[cfg(any(target_os = "linux", target_os = "android"))]
const PASSED: OFlags = OFlags::PATH;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const PASSED: OFlags = OFlags::RDONLY;

/// The mode of a file with a secret, and of others: the folder keeps others out of these, as long as its owner
/// does not let them in.
const SECRET: RawMode = 0o600;
const ORDINARY: RawMode = 0o644;

/// How deep folders are removed. Those of a store are three.
const DEPTH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_gone_along_without_links_where_the_system_cannot_do_it_at_once() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("a/b/file"), "inside").unwrap();
        std::fs::write(other.path().join("file"), "outside").unwrap();
        let link = |from: &Path, to: &str| {
            std::os::unix::fs::symlink(from, folder.path().join(to)).unwrap();
        };
        link(other.path(), "a/out");
        link(Path::new("b"), "a/in");
        link(Path::new("file"), "a/b/link");
        let base = Base::open(folder.path()).unwrap();
        for walks in [false, true] {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            base.walks.store(walks, Ordering::Relaxed);
            let open = |path: &str, access| base.open_file(&FilePath::new(&[path]), access);
            open("a/b/file", Access::Read).unwrap();
            for path in ["a/out/file", "a/in/file", "a/b/link", "a/out"] {
                for access in [Access::Read, Access::Change] {
                    let kind = crate::disk::error::kind(&open(path, access).unwrap_err());
                    let wanted = crate::storage::StorageErrorKind::NotAFile(NotAFile::Link);
                    assert_eq!(kind, wanted, "{path} {walks}");
                }
            }
            let missing = open("a/c/file", Access::Read).unwrap_err();
            assert_eq!(missing.kind(), io::ErrorKind::NotFound);
            let new = Access::New { secret: true };
            assert!(open("a/b/link", new).is_err());
            assert!(base.names(&FilePath::new(&["a/out"])).is_err());
            assert!(base.make_folder(&FilePath::new(&["a/out/new"])).is_err());
        }
        assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 1);
    }
}
