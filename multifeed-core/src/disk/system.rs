//! All that differs between operating systems: reading and writing at a place in a file, holes, modes,
//! syncing of folders, error codes.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

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

/// Makes a new file that only its owner may read.
pub(super) fn create_secret(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes a folder, and those above it that do not exist, and waits until their names are on stable storage.
///
/// Where a folder above may not be read, and so not be synced, its new name lasts when the system writes it.
///
/// # Errors
///
/// Those of [`std::fs::create_dir_all`].
pub fn make_folder(path: &Path) -> io::Result<()> {
    let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let new: Vec<&Path> = path.ancestors().take_while(missing).collect();
    std::fs::create_dir_all(path)?;
    for made in new {
        let above = made.parent().filter(|path| !path.as_os_str().is_empty());
        let _ = sync_folder(above.unwrap_or(Path::new(".")));
    }
    Ok(())
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

/// The file system that a file is in, if that is known.
pub(super) fn device(found: &Metadata) -> Option<u64> {
    #[cfg(unix)]
    return Some(std::os::unix::fs::MetadataExt::dev(found));
    #[cfg(not(unix))]
    {
        let _ = found;
        None
    }
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
