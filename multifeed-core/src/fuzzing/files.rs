//! The executor on a real folder: the same answers as the one in memory, and no harm where somebody else
//! has changed the folder; the check, its repair and a conversion on such folders.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use multifeed_proto::RootKey;
use multifeed_proto::fuzzing::{Input, Reached};
use tempfile::TempDir;

use super::damage::damage;
use super::prepared::{ROOT, prepared};
use super::reached::{convert_error, finding, store_finding};
use crate::Layout;
use crate::check::StoreCheck;
use crate::convert::convert;
use crate::disk::Disk;
use crate::storage::{Answer, Batch, BatchId, FilePath, Memory, Op, SecretBytes, StorageError};

/// Operations on a folder, or a damaged store in one.
pub fn files(data: &[u8], reached: &mut Reached) {
    let mut input = Input::new(data);
    let folder = Folder::new();
    if input.flag() {
        operations(&mut input, &folder, reached);
    } else {
        stores(&mut input, &folder, reached);
    }
}

/// A folder for one input, and a file beside the store that is nobody's business.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static ALL: OnceLock<TempDir> = OnceLock::new();
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let all = ALL.get_or_init(temporary);
        let path = all.path().join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir_all(path.join("store")).expect("a folder for one input");
        fs::write(path.join("outside"), OUTSIDE).expect("a file beside it");
        Self(path)
    }

    fn store(&self) -> PathBuf {
        self.0.join("store")
    }
}

/// In memory where that is possible: what is synced is not what is tested here.
fn temporary() -> TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).expect("a folder for temporary files")
}

impl Drop for Folder {
    fn drop(&mut self) {
        let outside = fs::read(self.0.join("outside"));
        let _ = fs::remove_dir_all(&self.0);
        let same = outside.is_ok_and(|found| found == OUTSIDE);
        assert!(same || std::thread::panicking(), "a file beside the store was changed");
    }
}

fn operations(input: &mut Input<'_>, folder: &Folder, reached: &mut Reached) {
    let open_files = 1 + input.below(3);
    let disk = Disk::with_open_files(&folder.store(), open_files).expect("a folder");
    let mut memory = Memory::new();
    // Somebody changed the folder: from there on the two have little in common.
    let mut disturbed = false;
    for id in 0..STEPS {
        if input.is_empty() {
            break;
        }
        if input.byte() >= 240 {
            disturbed |= disturb(input, folder, reached);
            continue;
        }
        let ops = (0..1 + input.below(3)).map(|_| operation(input)).collect();
        let after = (id > 0 && input.flag()).then(|| BatchId(id - 1));
        let batch = Batch { id: BatchId(id), after, ops };
        let (there, here) = (memory.execute(&batch), disk.execute(&batch));
        assert_eq!(here.answers.len(), batch.ops.len());
        for ((op, here), there) in batch.ops.iter().zip(&here.answers).zip(&there.answers) {
            check_private(here);
            if !disturbed {
                check_same(op, here, there);
            }
        }
    }
    disk.close();
}

fn operation(input: &mut Input<'_>) -> Op {
    let path = name(input);
    let place = |input: &mut Input<'_>| u64::from(input.byte()) * 40;
    match input.byte() % 16 {
        0..=3 => {
            let data = Bytes::copy_from_slice(input.bytes());
            Op::Write { path, offset: place(input), data }
        }
        4..=6 => Op::Read { path, offset: place(input), len: usize::from(input.short()) },
        7 => Op::Length { path },
        8 => Op::NextData { path, offset: place(input) },
        9 => Op::Truncate { path, len: place(input) },
        10 => Op::Punch { path, offset: place(input), len: place(input) },
        11 => Op::CreateSecret { path, data: SecretBytes::from(input.bytes()) },
        12 => Op::Remove { path },
        13 => Op::Rename { from: path, to: name(input) },
        14 => Op::List { path: if input.flag() { FilePath::root() } else { path } },
        _ if input.flag() => Op::Lock { path: FilePath::new(&["lock"]) },
        _ => Op::Sync { path },
    }
}

fn name(input: &mut Input<'_>) -> FilePath {
    FilePath::new(&[["a", "b", "d", "d/a", "d/b", "e/f/g", "d/a/x"][input.below(7)]])
}

/// What is outside of the store is never read.
fn check_private(answer: &Result<Answer, StorageError>) {
    let bytes = answer.as_ref().ok().and_then(Answer::bytes);
    assert!(bytes.is_none_or(|bytes| !bytes.starts_with(OUTSIDE)), "read through a link");
}

fn check_same(op: &Op, here: &Result<Answer, StorageError>, there: &Result<Answer, StorageError>) {
    match (op, here, there) {
        // Where holes are not known, or are larger than a block, there may be data earlier.
        (Op::NextData { .. }, Ok(Answer::Length(here)), Ok(Answer::Length(there))) => {
            assert!(here <= there, "{op:?}: {here}, not {there}");
        }
        // The folder of the store is there before anything is in it.
        (Op::List { .. }, Ok(Answer::Names(here)), Ok(Answer::NotFound)) => {
            assert!(here.is_empty(), "{op:?}: {here:?}");
        }
        (_, Ok(here), Ok(there)) => assert_eq!(here, there, "{op:?}"),
        (_, Err(_), Err(_)) => {}
        (_, here, there) => panic!("{op:?}: on files {here:?}, in memory {there:?}"),
    }
}

/// Somebody else changes the folder; whether it was changed.
fn disturb(input: &mut Input<'_>, folder: &Folder, reached: &mut Reached) -> bool {
    let path = folder.store().join(name(input).as_str());
    if let Some(above) = path.parent() {
        let _ = fs::create_dir_all(above);
    }
    match input.byte() % 5 {
        0 => {
            let _ = fs::remove_file(&path);
            let _ = fs::create_dir_all(&path);
        }
        1 => {
            let _ = fs::remove_dir_all(&path);
        }
        2 => {
            let _ = fs::write(path.with_extension("tmp"), b"left over");
        }
        3 => link(&path, &folder.0.join("outside")),
        _ => {
            let _ = fs::remove_dir_all(folder.store());
        }
    }
    reached.note("disturbed");
    true
}

#[cfg(unix)]
fn link(path: &Path, target: &Path) {
    let _ = fs::remove_file(path);
    let _ = std::os::unix::fs::symlink(target, path);
}

#[cfg(not(unix))]
fn link(_path: &Path, _target: &Path) {}

/// A damaged store: checked, repaired, checked again, converted.
fn stores(input: &mut Input<'_>, folder: &Folder, reached: &mut Reached) {
    let place = input.below(4);
    let prepared = prepared();
    let mut memory = prepared.stores[place].clone();
    for _ in 0..input.byte() % 4 {
        let other = &prepared.stores[(place + 2) % 4];
        damage(&mut memory, &prepared.older[place], other, input);
    }
    for path in memory.paths() {
        let target = folder.store().join(path.as_str());
        let _ = target.parent().map(fs::create_dir_all);
        let _ = fs::write(target, memory.contents(path).unwrap_or_default());
    }
    let root = || (input.clone().byte() < 128).then(|| RootKey::new(ROOT));
    for repair in [false, true, false] {
        let disk = Disk::open(&folder.store()).expect("a folder");
        let Ok(mut check) = StoreCheck::new(&disk, root()) else { continue };
        let found = check.check(repair, |report| {
            report.found.findings.iter().for_each(|found| reached.note(finding(found)));
        });
        match found {
            Ok(found) => found.iter().for_each(|found| reached.note(store_finding(found))),
            Err(_) => reached.note("check failed"),
        }
    }
    let to = if place < 2 { Layout::Numbered } else { Layout::Corestore };
    let target = folder.0.join("converted");
    let (stop, mut ticks) = (input.flag(), 0);
    let result = convert(&folder.store(), &target, RootKey::new(ROOT), to, [9; 32], |_| {
        ticks += 1;
        if stop && ticks > 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match result {
        Ok(_) => reached.note("converted"),
        Err(error) => {
            reached.note(convert_error(&error));
            assert!(!target.exists(), "half of a new store is left");
        }
    }
}

const OUTSIDE: &[u8] = b"outside of the store";
/// Batches of one input.
const STEPS: u64 = 40;
