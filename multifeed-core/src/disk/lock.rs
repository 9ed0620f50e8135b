//! The lock of a store, and whether somebody has it.

use std::fs::File;
use std::io;
use std::thread;
use std::time::Duration;

use fs4::fs_std::FileExt;

use super::Disk;
use super::error::{is_denied, known, or_missing};
use super::system::{Access, write_fully};
use crate::storage::{Answer, FilePath, StorageErrorKind};

impl Disk {
    /// Takes the lock. Where nothing may be written: only fails if somebody has it.
    pub(super) fn lock(&self, path: &FilePath) -> io::Result<Answer> {
        if self.is_read_only() {
            return match self.holder(path)? {
                Some(process) => Err(known(StorageErrorKind::InUse { process })),
                None => Ok(Answer::Done),
            };
        }
        let base = self.make_folders(path)?;
        let open = || match base.open_file(path, Access::Change) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match base.open_file(path, Access::New { secret: false }) {
                    // Somebody was faster.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        base.open_file(path, Access::Change)
                    }
                    other => other,
                }
            }
            other => other,
        };
        let file = self.shared().pool.with_room(open)?;
        // What is no lock of ours is not emptied: it is refused.
        let mut process = read_process(&file)?;
        let mut tries = LOOKS;
        while !FileExt::try_lock_exclusive(&file)? {
            if tries == 0 {
                return Err(known(StorageErrorKind::InUse { process }));
            }
            // Whoever reads the store looks for a moment whether somebody has the lock.
            tries -= 1;
            thread::sleep(LOOK);
            process = read_process(&file)?;
        }
        read_process(&file)?;
        file.set_len(0)?;
        write_fully(&file, format!("{}\n", std::process::id()).as_bytes(), 0)?;
        self.name_changed(path);
        self.shared().locks.insert(path.clone(), file);
        Ok(Answer::Done)
    }

    /// The process that has the lock, 0 if its number is not known; `None` if nobody has, or it may not be looked
    /// at. Writes nothing.
    fn holder(&self, path: &FilePath) -> io::Result<Option<u32>> {
        let Some(file) = self.lock_file(path)? else { return Ok(None) };
        let process = read_process(&file)?;
        if !FileExt::try_lock_shared(&file)? {
            return Ok(Some(process));
        }
        // Dropping the file is not enough while a child process that is being started shares it.
        let _ = FileExt::unlock(&file);
        Ok(None)
    }

    /// Keeps others from writing until the disk is closed, if nobody has the lock: then the process that has.
    pub(crate) fn keep_still(&self, path: &FilePath) -> io::Result<Option<u32>> {
        let Some(file) = self.lock_file(path)? else { return Ok(None) };
        let process = read_process(&file)?;
        if !FileExt::try_lock_shared(&file)? {
            return Ok(Some(process));
        }
        self.shared().locks.insert(path.clone(), file);
        Ok(None)
    }

    /// The lock file, if it is there and may be read.
    fn lock_file(&self, path: &FilePath) -> io::Result<Option<File>> {
        let Some(base) = self.base()? else { return Ok(None) };
        match or_missing(self.shared().pool.with_room(|| base.open_file(path, Access::Read))) {
            Err(error) if is_denied(&error) => Ok(None),
            other => other,
        }
    }
}

/// The number that [`Op::Lock`](crate::storage::Op::Lock) left in a lock file; 0 if it is empty.
fn read_process(file: &File) -> io::Result<u32> {
    let mut text = [0; LOCK_BYTES + 1];
    let read = super::system::read_fully(file, &mut text, 0)?;
    let digits = text[..read].strip_suffix(b"\n").unwrap_or(&text[..read]);
    if digits.is_empty() {
        return Ok(0);
    }
    let number = digits.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(digits).ok());
    let number = number.flatten().and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| known(StorageErrorKind::NotALock))
}

/// Bytes of a lock file: the digits of a number, and a line end.
const LOCK_BYTES: usize = 11;
/// How often a lock that somebody has is tried again, and after what time.
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(4);
