//! A conversion from one folder to another.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use multifeed_proto::RootKey;

use super::system::make_private_folder;
use super::{Disk, error_kind, sync_folder};
use crate::check::{Finding, Severity, StoreCheck, StoreReport};
use crate::convert::{Convert, ConvertError, Converted, Damaged, Progress, Step};
use crate::node::{LOCK_FILE, Layout};
use crate::storage::{Batch, BatchId, FilePath, Op, StorageError, StorageErrorKind};

/// Makes the store `to` in `layout` of the multifeed with the key `root` in the store `from`.
///
/// `from` is only read: nobody can lock it meanwhile. Every block is checked in the copy before that gets its name:
/// those that are damaged are not held there ([`Converted::damaged`]). Where a process has `from` open, the copy is of
/// no certain moment ([`Converted::held_by`]), and damage ends the conversion. `to` must not exist, or be an empty folder. It appears
/// when it is complete and on stable storage: until then the folder is called `to` with `.unfinished-` and
/// a number behind it. It is removed when something fails, and stays when the process is killed.
/// `master` is the master key of a new store in the layout of corestore, if `from` has none: 32 random
/// bytes. `progress` is told how far it is after each step, at most 1 MiB, and can end the work.
///
/// Blocks until it is over. See [the module](crate::convert) for what must not be done with the two stores.
///
/// # Errors
///
/// [`ConvertError`]; `to` is then as it was.
pub fn convert(
    from: &Path,
    to: &Path,
    root: RootKey,
    layout: Layout,
    master: [u8; 32],
    mut progress: impl FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Converted, ConvertError> {
    let io = |error: io::Error| target_failed(&error);
    let to = std::path::absolute(to).map_err(io)?;
    // Through a link that the user has put there.
    let to = if to.is_symlink() && to.is_dir() { fs::canonicalize(to).map_err(io)? } else { to };
    let (Some(parent), Some(_)) = (to.parent(), to.file_name()) else {
        return Err(ConvertError::NotEmpty);
    };
    if !from.is_dir() {
        return Err(ConvertError::NoStore);
    }
    if !is_free(&to)? {
        return Err(ConvertError::NotEmpty);
    }
    let parent_there = fs::canonicalize(parent).map_err(io)?;
    if parent_there.starts_with(fs::canonicalize(from).map_err(io)?) {
        return Err(ConvertError::Inside);
    }
    let source = Disk::open(from).map_err(io)?.read_only();
    // Whatever hinders that, reading needs no lock.
    let _held = source.keep_still(&FilePath::new(&[LOCK_FILE]));
    let (mut convert, ops) = Convert::new(root.clone(), layout, master);
    let mut unfinished: Option<Unfinished> = None;
    let mut step = Step::Read(ops);
    let mut number = 0;
    let mut converted = loop {
        let mut run = |disk: &Disk, ops: Vec<Op>| {
            let batch = Batch { id: BatchId(number), after: None, ops };
            number += 1;
            disk.execute(&batch).answers
        };
        let answers = match step {
            Step::Read(ops) => run(&source, ops),
            Step::Write(ops) => {
                let target = match &mut unfinished {
                    Some(unfinished) => &unfinished.disk,
                    none => &none.insert(Unfinished::new(&to).map_err(io)?).disk,
                };
                run(target, ops)
            }
            Step::Done(converted) => break converted,
            Step::Failed(error) => return Err(error),
        };
        step = convert.answered(answers);
        if progress(&convert.progress()).is_break() {
            return Err(ConvertError::Stopped);
        }
    };
    // Every conversion writes something, a master key or a mark at the least.
    let unfinished = unfinished.ok_or(ConvertError::NoStore)?;
    converted.damaged = damaged(&unfinished.disk, &root, false)?;
    if let Some(first) = converted.damaged.first() {
        if converted.held_by.is_some() {
            return Err(ConvertError::Changed { path: first.folder.clone() });
        }
        damaged(&unfinished.disk, &root, true)?;
    }
    unfinished.finish(&to).map_err(io)?;
    sync_folder(parent).map_err(io)?;
    source.close();
    Ok(*converted)
}

/// The new folder cannot be made, or what is above it looked at.
fn target_failed(error: &io::Error) -> ConvertError {
    #[allow(clippy::wildcard_enum_match_arm, reason = "the others have names of their own")]
    match error_kind(error) {
        StorageErrorKind::Io(text) => ConvertError::Folder(text),
        kind => {
            let path = FilePath::root();
            ConvertError::Write(StorageError { doing: "make the folder", path, kind })
        }
    }
}

/// The feeds of the new store of which not every block is sound; with `repair`, those are held no more. What
/// opening makes anew anyway is no damage, nor is a fork.
fn damaged(disk: &Disk, root: &RootKey, repair: bool) -> Result<Vec<Damaged>, ConvertError> {
    let mut damaged = Vec::new();
    let mut seen = |report: &StoreReport| {
        let found = &report.found;
        let harmless = |finding: &Finding| {
            matches!(finding, Finding::Forked { .. })
                || matches!(finding.severity(), Severity::Harmless | Severity::Restorable)
        };
        if found.lost > 0 || found.omitted > 0 || !found.findings.iter().all(harmless) {
            let (key, folder, lost) = (found.key, found.folder.clone(), found.lost);
            damaged.push(Damaged { key, folder, lost });
        }
    };
    let mut check = StoreCheck::new(disk, Some(root.clone())).map_err(ConvertError::Write)?;
    check.check(repair, &mut seen).map_err(ConvertError::Write)?;
    Ok(damaged)
}

/// Whether nothing is at `path`, or an empty folder.
fn is_free(path: &Path) -> Result<bool, ConvertError> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(path.symlink_metadata().is_err()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(ConvertError::Folder(error.to_string())),
    }
}

/// The new store before it has its name; removed when dropped.
struct Unfinished {
    path: PathBuf,
    disk: Disk,
    finished: bool,
}

impl Unfinished {
    fn new(to: &Path) -> io::Result<Self> {
        for number in 1_u32.. {
            let mut name = OsString::from(to);
            name.push(format!(".unfinished-{number}"));
            let path = PathBuf::from(name);
            // Made by nobody else: so two at the same time do not meet.
            match make_private_folder(&path) {
                Ok(()) => {
                    let disk = Disk::unfinished(&path)?;
                    return Ok(Self { path, disk, finished: false });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// Gives it its name, when all of it is on stable storage: only the name makes it a store.
    fn finish(mut self, to: &Path) -> io::Result<()> {
        self.disk.close();
        self.disk.sync_all()?;
        match fs::remove_dir(to) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        fs::rename(&self.path, to)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished {
            self.disk.close();
            let _stays_with_its_telling_name = fs::remove_dir_all(&self.path);
        }
    }
}
