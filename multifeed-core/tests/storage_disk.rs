//! What only files can show: modes, locks between processes, limits of the operating system.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;
use std::process::Command;

use multifeed_core::disk::Disk;
use multifeed_core::storage::{
    Answer, Batch, BatchId, FilePath, Op, StorageError, StorageErrorKind,
};

fn path(name: &str) -> FilePath {
    FilePath::new(&[name])
}

fn write(name: &str, data: &'static [u8]) -> Op {
    Op::Write { path: path(name), offset: 0, data: data.into() }
}

fn run(disk: &Disk, op: Op) -> Result<Answer, StorageError> {
    disk.execute(&Batch { id: BatchId(0), after: None, ops: vec![op] }).answers.remove(0)
}

#[test]
fn opening_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(&folder.path().join("store")).unwrap();
    let read = Op::Read { path: path("a"), offset: 0, len: 1 };
    assert_eq!(run(&disk, read), Ok(Answer::NotFound));
    assert!(!disk.directory().exists());
}

#[test]
fn a_file_in_place_of_the_folder_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(Disk::open(file.path()).is_err());
}

#[test]
fn another_disk_sees_the_lock_and_the_process_until_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (Disk::open(folder.path()).unwrap(), Disk::open(folder.path()).unwrap());
    let lock = Op::Lock { path: path("LOCK") };
    assert_eq!(run(&one, lock.clone()), Ok(Answer::Done));
    let kind = run(&two, lock.clone()).unwrap_err().kind;
    assert_eq!(kind, StorageErrorKind::InUse { process: std::process::id() });
    one.close();
    assert_eq!(run(&two, lock.clone()), Ok(Answer::Done));
    drop(two);
    assert_eq!(run(&one, lock), Ok(Answer::Done));
}

#[test]
fn threads_share_a_disk() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::with_open_files(folder.path(), 2).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let disk = &disk;
            scope.spawn(move || {
                for round in 0..50 {
                    let path = path(&format!("{thread}/{}", round % 5));
                    let data = vec![thread; 100].into();
                    let write = Op::Write { path: path.clone(), offset: 0, data };
                    run(disk, write).unwrap();
                    run(disk, Op::Sync { path: path.clone() }).unwrap();
                    let read = run(disk, Op::Read { path, offset: 0, len: 100 });
                    assert_eq!(read, Ok(Answer::Bytes(vec![thread; 100].into())));
                }
            });
        }
    });
}

#[test]
fn the_rest_of_an_interrupted_secret_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("key.tmp"), "half").unwrap();
    let disk = Disk::open(folder.path()).unwrap();
    run(&disk, Op::CreateSecret { path: path("key"), data: b"whole"[..].into() }).unwrap();
    assert_eq!(fs::read(folder.path().join("key")).unwrap(), b"whole");
    assert!(!folder.path().join("key.tmp").exists());
}

#[cfg(unix)]
#[test]
fn a_secret_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path()).unwrap();
    run(&disk, Op::CreateSecret { path: path("key"), data: b"secret"[..].into() }).unwrap();
    let mode = fs::metadata(folder.path().join("key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[cfg(unix)]
#[test]
fn a_link_is_removed_and_not_followed() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(other.path().join("kept"), "kept").unwrap();
    std::os::unix::fs::symlink(other.path(), folder.path().join("link")).unwrap();
    let disk = Disk::open(folder.path()).unwrap();
    run(&disk, Op::Remove { path: path("link") }).unwrap();
    assert!(!folder.path().join("link").exists());
    assert!(other.path().join("kept").exists());
}

/// Runs itself again in a shell that allows few open files.
#[cfg(target_os = "linux")]
#[test]
fn a_hundred_files_work_under_a_low_limit_of_open_files() {
    const FOLDER: &str = "MULTIFEED_TEST_LOW_LIMIT";
    if let Ok(folder) = std::env::var(FOLDER) {
        return few_open_files(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "ulimit -n 24 && exec \"$0\" --exact --test-threads 1 \
        a_hundred_files_work_under_a_low_limit_of_open_files";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(std::env::current_exe().unwrap());
    let output = command.env(FOLDER, folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(fs::read_dir(folder.path().join("files")).unwrap().count(), 100);
}

#[cfg(target_os = "linux")]
fn few_open_files(folder: &Path) {
    let disk = Disk::open(folder).unwrap();
    for _ in 0..2 {
        for number in 0..100 {
            run(&disk, write(&format!("files/{number}"), b"contents")).unwrap();
        }
    }
    run(&disk, Op::List { path: path("files") }).unwrap();
    run(&disk, Op::Sync { path: path("files/7") }).unwrap();

    let mut taken = Vec::new();
    while let Ok(file) = fs::File::open("/dev/null") {
        taken.push(file);
    }
    run(&disk, write("files/0", b"contents")).unwrap();
    disk.close();
    while let Ok(file) = fs::File::open("/dev/null") {
        taken.push(file);
    }
    let kind = run(&disk, write("files/1", b"contents")).unwrap_err().kind;
    assert_eq!(kind, StorageErrorKind::TooManyFiles);
    drop(taken);
    run(&disk, write("files/1", b"contents")).unwrap();
}

/// Space that a file takes, in bytes.
#[cfg(target_os = "linux")]
fn space(disk: &Disk, name: &str) -> u64 {
    let found = fs::metadata(disk.directory().join(name)).unwrap();
    std::os::unix::fs::MetadataExt::blocks(&found) * 512
}

#[cfg(target_os = "linux")]
#[test]
fn the_space_of_a_punched_range_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path()).unwrap();
    let punch = |offset, len| run(&disk, Op::Punch { path: path("file"), offset, len }).unwrap();
    let data = vec![7; 1_000_000];
    let write = Op::Write { path: path("file"), offset: 0, data: data.into() };
    run(&disk, write).unwrap();
    run(&disk, Op::Sync { path: path("file") }).unwrap();
    let before = space(&disk, "file");
    assert!(before >= 1_000_000, "{before}");
    punch(100_000, 800_000);
    let after = space(&disk, "file");
    assert!(before - after >= 800_000 - 2 * 0x1_0000, "{before} before, {after} after");
    punch(900_000, u64::MAX);
    punch(0, 100_000);
    assert_eq!(space(&disk, "file"), 0, "also of the last block, which the file ends in");
    assert_eq!(run(&disk, Op::Length { path: path("file") }), Ok(Answer::Length(1_000_000)));
    let read = run(&disk, Op::Read { path: path("file"), offset: 0, len: 2_000_000 });
    assert_eq!(read, Ok(Answer::Bytes(vec![0; 1_000_000].into())));
}

#[cfg(target_os = "linux")]
#[test]
fn the_space_of_small_pieces_comes_back_when_nothing_is_left_between_them() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path()).unwrap();
    let write = Op::Write { path: path("file"), offset: 0, data: vec![7; 1_000_000].into() };
    run(&disk, write).unwrap();
    run(&disk, Op::Sync { path: path("file") }).unwrap();
    let pieces: Vec<u64> = (0..10_000).filter(|piece| *piece != 5_000).collect();
    // Any order does: the last of its neighbours gives the space back.
    for piece in pieces.iter().rev().step_by(2).chain(pieces.iter().rev().skip(1).step_by(2)) {
        run(&disk, Op::Punch { path: path("file"), offset: piece * 100, len: 100 }).unwrap();
    }
    assert!(space(&disk, "file") <= 0x1_0000, "{}", space(&disk, "file"));
    let mut wanted = vec![0; 1_000_000];
    wanted[500_000..500_100].fill(7);
    let read = run(&disk, Op::Read { path: path("file"), offset: 0, len: 1_000_000 });
    assert_eq!(read, Ok(Answer::Bytes(wanted.into())));
}

#[test]
fn a_disk_that_is_only_read_writes_nothing_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "text").unwrap();
    let disk = Disk::open(folder.path()).unwrap().read_only();
    let changes = [
        write("file", b"x"),
        write("new/file", b"x"),
        Op::Truncate { path: path("file"), len: 0 },
        Op::Punch { path: path("file"), offset: 0, len: 4 },
        Op::CreateSecret { path: path("new"), data: b"secret"[..].into() },
        Op::Remove { path: path("file") },
        Op::Rename { from: path("file"), to: path("new") },
        Op::Sync { path: path("file") },
    ];
    for op in changes {
        let kind = run(&disk, op.clone()).unwrap_err().kind;
        assert_eq!(kind, StorageErrorKind::ReadOnly, "{op:?}");
    }
    assert_eq!(run(&disk, Op::Lock { path: path("LOCK") }), Ok(Answer::Done));
    let names = Answer::Names(vec!["file".to_owned()]);
    assert_eq!(run(&disk, Op::List { path: FilePath::root() }), Ok(names));
    let read = run(&disk, Op::Read { path: path("file"), offset: 0, len: 9 });
    assert_eq!(read, Ok(Answer::Bytes(b"text"[..].into())));
}

#[test]
fn a_disk_that_is_only_read_sees_a_lock_and_keeps_nobody_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let writer = Disk::open(folder.path()).unwrap();
    let lock = Op::Lock { path: path("LOCK") };
    run(&writer, lock.clone()).unwrap();
    let reader = Disk::open(folder.path()).unwrap().read_only();
    let kind = run(&reader, lock.clone()).unwrap_err().kind;
    assert_eq!(kind, StorageErrorKind::InUse { process: std::process::id() });
    writer.close();
    assert_eq!(run(&reader, lock.clone()), Ok(Answer::Done));
    assert_eq!(run(&writer, lock), Ok(Answer::Done), "the reader did not take it");
}

#[cfg(unix)]
#[test]
fn what_is_written_to_a_file_that_was_removed_is_an_error_and_then_goes_to_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::open(folder.path()).unwrap();
    run(&disk, write("feed/data", b"first")).unwrap();
    fs::remove_dir_all(folder.path().join("feed")).unwrap();
    let kind = run(&disk, write("feed/data", b"second")).unwrap_err().kind;
    assert_eq!(kind, StorageErrorKind::Removed);
    run(&disk, write("feed/data", b"third")).unwrap();
    assert_eq!(fs::read(folder.path().join("feed/data")).unwrap(), b"third");
}

#[cfg(unix)]
#[test]
fn a_store_that_was_removed_is_not_made_anew_nor_taken_for_an_empty_one() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("store");
    let disk = Disk::open(&folder).unwrap();
    run(&disk, write("feed/data", b"first")).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    let ops = [
        write("feed/data", b"second"),
        write("other", b"second"),
        Op::CreateSecret { path: path("new/secret"), data: b"secret"[..].into() },
        Op::Read { path: path("feed/key"), offset: 0, len: 1 },
        Op::Length { path: path("feed/key") },
        Op::List { path: path("feed") },
        Op::Sync { path: path("feed/data") },
    ];
    for op in ops {
        let kind = run(&disk, op.clone()).unwrap_err().kind;
        assert_eq!(kind, StorageErrorKind::Removed, "{op:?}");
    }
    assert!(!folder.exists());
    // Whoever opens it anew finds what is there by then.
    disk.close();
    run(&disk, write("feed/data", b"third")).unwrap();
    assert_eq!(fs::read(folder.join("feed/data")).unwrap(), b"third");
}

#[cfg(unix)]
#[test]
fn a_store_that_is_moved_stays_the_same() {
    let parent = tempfile::tempdir().unwrap();
    let (from, to) = (parent.path().join("from"), parent.path().join("to"));
    let disk = Disk::open(&from).unwrap();
    run(&disk, write("a", b"a")).unwrap();
    fs::rename(&from, &to).unwrap();
    run(&disk, write("deep/b", b"b")).unwrap();
    assert_eq!(fs::read(to.join("deep/b")).unwrap(), b"b");
    assert!(!from.exists());
}
