//! All that differs between operating systems: files without links, reading and writing at a place in a file, holes,
//! modes, syncing of folders, error codes.

#[cfg(not(unix))]
mod other;
#[cfg(unix)]
mod unix;

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

#[cfg(not(unix))]
pub(super) use other::Base;
#[cfg(unix)]
pub(super) use unix::Base;

use crate::storage::NotAFile;

/// What a file is opened for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    /// To read it.
    Read,
    /// To read and change it.
    Change,
    /// To make it; one that is there is [`io::ErrorKind::AlreadyExists`].
    New {
        /// For its owner only.
        secret: bool,
    },
}

/// What has a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) kind: Kind,
    pub(super) len: u64,
    /// The file system that it is in, if that is known.
    pub(super) device: Option<u64>,
    /// Others than its owner may read or write it.
    pub(super) open_to_others: bool,
}

/// What has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Other(NotAFile),
}

/// The mode of a folder that is made: for its owner only.
#[cfg(unix)]
const FOLDER_MODE: u32 = 0o700;
/// What others than the owner may do.
#[cfg(unix)]
const OTHERS: u32 = 0o077;

/// Reads once at `offset`; 0 at the end of the file.
#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

/// Writes once at `offset`.
#[cfg(unix)]
fn write_at(file: &File, data: &[u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, data, offset)
}

/// Reads once at `offset`; 0 at the end of the file.
#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    match std::os::windows::fs::FileExt::seek_read(file, buffer, offset) {
        // ERROR_HANDLE_EOF
        Err(error) if error.raw_os_error() == Some(38) => Ok(0),
        other => other,
    }
}

/// Writes once at `offset`.
#[cfg(windows)]
fn write_at(file: &File, data: &[u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, data, offset)
}

/// Reads until `buffer` is full or the file ends; the number of bytes read.
pub(super) fn read_fully(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match read_at(file, &mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes all of `data`: in one call, unless the operating system takes less.
pub(super) fn write_fully(file: &File, data: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < data.len() {
        match write_at(file, &data[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Gives the space of a range back, which then reads as zeros; the length of the file stays. `false`: the
/// operating or file system cannot, and nothing was done.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn punch_hole(file: &File, offset: u64, len: u64) -> io::Result<bool> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    loop {
        match fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Gives no space back.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn punch_hole(_: &File, _: u64, _: u64) -> io::Result<bool> {
    Ok(false)
}

/// The first byte from `offset` on that is in no hole; `None` if all up to the end of the file is.
/// Moves the cursor of the file, which nobody here uses.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn seek_data(file: &File, offset: u64) -> io::Result<Option<u64>> {
    use rustix::fs::{SeekFrom, seek};
    use rustix::io::Errno;
    match seek(file, SeekFrom::Data(offset)) {
        Ok(data) => Ok(Some(data)),
        Err(Errno::NXIO) => Ok(None),
        // The file system knows no holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(offset)),
        Err(error) => Err(error.into()),
    }
}

/// Knows of no holes.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn seek_data(_: &File, offset: u64) -> io::Result<Option<u64>> {
    Ok(Some(offset))
}

/// Bytes in which the file system gives out space, if they are known.
pub(super) fn block_size(found: &Metadata) -> Option<u64> {
    #[cfg(unix)]
    return Some(std::os::unix::fs::MetadataExt::blksize(found));
    #[cfg(not(unix))]
    {
        let _ = found;
        None
    }
}

/// Whether a file or folder that is open has no name any more.
#[cfg(unix)]
pub(super) fn is_removed(file: &File) -> bool {
    file.metadata().is_ok_and(|found| std::os::unix::fs::MetadataExt::nlink(&found) == 0)
}

/// Names of open files stay.
#[cfg(not(unix))]
pub(super) fn is_removed(_: &File) -> bool {
    false
}

/// Takes from others than the owner what they may do with an open file, as far as that is possible. Writes
/// nothing where they may do nothing.
pub(super) fn keep_to_owner(file: &File) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let Ok(found) = file.metadata() else { return };
        let mode = found.permissions().mode();
        if mode & OTHERS != 0 {
            let _not_ours = file.set_permissions(std::fs::Permissions::from_mode(mode & 0o700));
        }
    }
    #[cfg(not(unix))]
    {
        let _modes_are_unknown = file;
    }
}

/// Makes a folder, for its owner only, and those above it that do not exist, and waits until their names are on
/// stable storage. One that is there stays as it is.
///
/// Where a folder above may not be read, and so not be synced, its new name lasts when the system writes it.
///
/// # Errors
///
/// Those of [`std::fs::create_dir_all`].
pub fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let new: Vec<&Path> = path.ancestors().take_while(missing).collect();
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        std::fs::create_dir_all(above)?;
    }
    match make_private_folder(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        other => other?,
    }
    for made in new {
        let above = made.parent().filter(|path| !path.as_os_str().is_empty());
        let _ = sync_folder(above.unwrap_or(Path::new(".")));
    }
    Ok(())
}

/// Makes one folder that is not there, for its owner only.
pub(super) fn make_private_folder(path: &Path) -> io::Result<()> {
    #[allow(unused_mut, reason = "it has a mode on some systems only")]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, FOLDER_MODE);
    builder.create(path)
}

/// Waits until the names in a folder are on stable storage, where folders can be opened; Windows
/// keeps them in its journal.
///
/// # Errors
///
/// If the folder cannot be opened or synced.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

/// Waits until the whole file system that a folder is in is on stable storage: much faster than thousands of
/// files one by one. `false`: the operating system has no such call, or it is not known to do that much for
/// this file system, and nothing was done.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn sync_file_system(folder: &File) -> io::Result<bool> {
    // ext2 to ext4, XFS, Btrfs, F2FS, tmpfs. FUSE for one only hands over what is in memory.
    const KNOWN: [u64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_sign_loss,
        reason = "its type differs by target"
    )]
    let found = rustix::fs::fstatfs(folder)?.f_type as u64 & 0xffff_ffff;
    if !KNOWN.contains(&found) || !syncfs_tells_errors(rustix::system::uname().release()) {
        return Ok(false);
    }
    rustix::fs::syncfs(folder)?;
    Ok(true)
}

/// Whether `syncfs` of this release of Linux says when something could not be written: from 5.8 on
/// (`man 2 syncfs`).
#[cfg(any(target_os = "linux", target_os = "android"))]
fn syncfs_tells_errors(release: &core::ffi::CStr) -> bool {
    let release = release.to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (next(), next()) >= (5, 8)
}

/// There is no such call.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn sync_file_system(_: &File) -> io::Result<bool> {
    Ok(false)
}

/// Opens a file so that it can be synced.
pub(super) fn open_to_sync(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(cfg!(windows)).open(path)
}

/// Whether an error says that this process or the system has too many files, or sockets, open.
#[must_use]
pub fn is_too_many_files(error: &io::Error) -> bool {
    let codes: &[i32] = if cfg!(windows) {
        &[4, 10024] // ERROR_TOO_MANY_OPEN_FILES, WSAEMFILE
    } else {
        &[24, 23] // EMFILE, ENFILE: the same on all systems with modes
    };
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Whether an error says that the disk, or what connects it, fails.
pub(super) fn is_broken(error: &io::Error) -> bool {
    let codes: &[i32] = if cfg!(windows) {
        // ERROR_CRC, ERROR_SECTOR_NOT_FOUND, ERROR_WRITE_FAULT, ERROR_READ_FAULT, ERROR_GEN_FAILURE,
        // ERROR_DEV_NOT_EXIST, ERROR_IO_DEVICE
        &[23, 27, 29, 30, 31, 55, 1117]
    } else if cfg!(any(target_os = "linux", target_os = "android")) {
        // EIO, ENXIO, ENODEV, ENOTCONN, ESHUTDOWN, EREMOTEIO, ENOMEDIUM
        &[5, 6, 19, 107, 108, 121, 123]
    } else {
        &[5, 6, 19] // EIO, ENXIO, ENODEV
    };
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use super::*;

    #[test]
    fn all_is_synced_at_once_only_where_that_tells_of_errors() {
        for release in [c"5.8", c"5.8.0-rc1", c"5.15.0-91-generic", c"6.1.0", c"10.0"] {
            assert!(syncfs_tells_errors(release), "{release:?}");
        }
        for release in [c"5.7.19", c"5.4.0-170-generic", c"4.18.0-553.el8", c"4.19.191+", c"", c"x"]
        {
            assert!(!syncfs_tells_errors(release), "{release:?}");
        }
    }
}
