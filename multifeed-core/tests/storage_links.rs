//! What has the name of a file of a store and is none: links, pipes, sockets, devices. A store may come from strangers.
#![cfg(unix)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use multifeed_core::disk::{Disk, make_folder, read_beginning};
use multifeed_core::storage::{
    Answer, Batch, BatchId, FilePath, NotAFile, Op, StorageError, StorageErrorKind,
};

fn path(name: &str) -> FilePath {
    FilePath::new(&[name])
}

fn run(disk: &Disk, op: Op) -> Result<Answer, StorageError> {
    disk.execute(&Batch { id: BatchId(0), after: None, ops: vec![op] }).answers.remove(0)
}

/// All that opens a file, or looks at it.
fn uses(name: &str) -> Vec<Op> {
    vec![
        Op::Read { path: path(name), offset: 0, len: 100 },
        Op::Length { path: path(name) },
        Op::NextData { path: path(name), offset: 0 },
        Op::Write { path: path(name), offset: 0, data: b"overwritten"[..].into() },
        Op::Truncate { path: path(name), len: 0 },
        Op::Punch { path: path(name), offset: 0, len: 5 },
        Op::Sync { path: path(name) },
        Op::Lock { path: path(name) },
        Op::Rename { from: path(name), to: path("other") },
    ]
}

fn is(found: NotAFile) -> impl Fn(&Result<Answer, StorageError>) -> bool {
    move |answer| matches!(answer, Err(error) if error.kind == StorageErrorKind::NotAFile(found))
}

/// A folder with something precious in it, outside of the store.
struct Outside(tempfile::TempDir);

impl Outside {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "precious").unwrap();
        Self(folder)
    }

    fn is_untouched(&self) {
        assert_eq!(fs::read_to_string(self.0.path().join("file")).unwrap(), "precious");
        assert_eq!(fs::read_dir(self.0.path()).unwrap().count(), 1, "something new is there");
    }
}

/// A pipe that nobody has open.
fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_link_in_place_of_a_file_is_refused_whatever_is_done_with_it() {
    let outside = Outside::new();
    let inside = "inside";
    for target in [outside.0.path().join("file"), outside.0.path().join("new"), inside.into()] {
        for folder in ["", "ab/cd/"] {
            for read_only in [false, true] {
                let store = tempfile::tempdir().unwrap();
                fs::create_dir_all(store.path().join("ab/cd")).unwrap();
                fs::write(store.path().join(inside), "inside").unwrap();
                let name = format!("{folder}file");
                symlink(&target, store.path().join(&name)).unwrap();
                let disk = Disk::open(store.path()).unwrap();
                let disk = if read_only { disk.read_only() } else { disk };
                for op in uses(&name) {
                    let answer = run(&disk, op.clone());
                    let refused = is(NotAFile::Link)(&answer)
                        || (read_only && op.changes() && answer.is_err());
                    assert!(refused, "{op:?} {answer:?}");
                }
                assert!(store.path().join(&name).is_symlink());
                assert_eq!(fs::read_to_string(store.path().join(inside)).unwrap(), "inside");
            }
        }
    }
    outside.is_untouched();
}

#[test]
fn nothing_is_done_in_a_folder_that_is_a_link() {
    let outside = Outside::new();
    for level in ["ab", "ab/cd"] {
        let store = tempfile::tempdir().unwrap();
        fs::create_dir_all(store.path().join("ab")).unwrap();
        fs::write(store.path().join("new"), "new").unwrap();
        let link = store.path().join(level);
        let _ = fs::remove_dir(&link);
        symlink(outside.0.path(), &link).unwrap();
        let disk = Disk::open(store.path()).unwrap();
        for name in [format!("{level}/file"), format!("{level}/new/file"), format!("{level}/new")] {
            let mut ops = uses(&name);
            ops.push(Op::CreateSecret { path: path(&name), data: b"secret"[..].into() });
            ops.push(Op::Remove { path: path(&name) });
            ops.push(Op::List { path: path(level) });
            ops.push(Op::Rename { from: path("new"), to: path(&name) });
            for op in ops {
                let answer = run(&disk, op.clone());
                assert!(is(NotAFile::Link)(&answer), "{op:?} {answer:?}");
            }
        }
        outside.is_untouched();
        run(&disk, Op::Remove { path: path(level) }).unwrap();
        assert!(!link.is_symlink(), "the link itself can be removed");
        outside.is_untouched();
    }
}

#[test]
fn a_secret_takes_the_place_of_a_link_and_is_not_written_through_it() {
    let outside = Outside::new();
    let store = tempfile::tempdir().unwrap();
    for name in ["key", "key.tmp"] {
        symlink(outside.0.path().join("file"), store.path().join(name)).unwrap();
    }
    let disk = Disk::open(store.path()).unwrap();
    run(&disk, Op::CreateSecret { path: path("key"), data: b"secret"[..].into() }).unwrap();
    assert_eq!(fs::read_to_string(store.path().join("key")).unwrap(), "secret");
    assert!(store.path().join("key").symlink_metadata().unwrap().is_file());
    outside.is_untouched();
}

#[test]
fn a_folder_with_links_in_it_is_removed_without_what_they_lead_to() {
    let outside = Outside::new();
    let store = tempfile::tempdir().unwrap();
    fs::create_dir_all(store.path().join("feed/deep")).unwrap();
    symlink(outside.0.path(), store.path().join("feed/folder")).unwrap();
    symlink(outside.0.path().join("file"), store.path().join("feed/deep/file")).unwrap();
    let disk = Disk::open(store.path()).unwrap();
    run(&disk, Op::Remove { path: path("feed") }).unwrap();
    assert!(!store.path().join("feed").exists());
    outside.is_untouched();
}

#[test]
fn pipes_sockets_and_folders_are_refused_at_once() {
    for read_only in [false, true] {
        let store = tempfile::tempdir().unwrap();
        pipe(&store.path().join("pipe"));
        let _socket = UnixListener::bind(store.path().join("socket")).unwrap();
        fs::create_dir(store.path().join("folder")).unwrap();
        let disk = Disk::open(store.path()).unwrap();
        let disk = if read_only { disk.read_only() } else { disk };
        for (name, found) in
            [("pipe", NotAFile::Pipe), ("socket", NotAFile::Socket), ("folder", NotAFile::Folder)]
        {
            for op in uses(name) {
                let moves = matches!(op, Op::Rename { .. }) && found == NotAFile::Folder;
                if moves || (read_only && op.changes()) {
                    continue;
                }
                let answer = run(&disk, op.clone());
                assert!(is(found)(&answer), "{op:?} {answer:?}");
            }
        }
    }
}

#[test]
fn a_lock_file_that_holds_something_else_stays_as_it_is() {
    for contents in ["precious", "12 34", "-1\n", "123456789012345", "1\n2\n", "\n\n"] {
        let store = tempfile::tempdir().unwrap();
        fs::write(store.path().join("lock"), contents).unwrap();
        let disk = Disk::open(store.path()).unwrap();
        let kind = run(&disk, Op::Lock { path: path("lock") }).unwrap_err().kind;
        assert_eq!(kind, StorageErrorKind::NotALock, "{contents:?}");
        assert_eq!(fs::read_to_string(store.path().join("lock")).unwrap(), contents);
    }
    for contents in ["", "7", "7\n", "4294967295\n"] {
        let store = tempfile::tempdir().unwrap();
        fs::write(store.path().join("lock"), contents).unwrap();
        let disk = Disk::open(store.path()).unwrap();
        run(&disk, Op::Lock { path: path("lock") }).unwrap();
        let own = format!("{}\n", std::process::id());
        assert_eq!(fs::read_to_string(store.path().join("lock")).unwrap(), own);
    }
}

#[test]
fn the_folder_of_the_store_itself_may_be_reached_through_a_link() {
    let (real, links) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let link = links.path().join("store");
    symlink(real.path(), &link).unwrap();
    let disk = Disk::open(&link).unwrap();
    run(&disk, Op::Write { path: path("a/b"), offset: 0, data: b"b"[..].into() }).unwrap();
    assert_eq!(fs::read(real.path().join("a/b")).unwrap(), b"b");
}

#[test]
fn the_beginning_of_a_file_is_read_without_links_and_without_waiting() {
    let (outside, store) = (Outside::new(), tempfile::tempdir().unwrap());
    fs::write(store.path().join("file"), "12345").unwrap();
    assert_eq!(read_beginning(store.path(), "file", 3).unwrap(), b"123");
    symlink(outside.0.path().join("file"), store.path().join("link")).unwrap();
    pipe(&store.path().join("pipe"));
    for name in ["link", "pipe"] {
        let error = read_beginning(store.path(), name, 9).unwrap_err();
        assert!(error.to_string().contains("not a file"), "{error}");
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn files_with_secrets_and_folders_are_for_their_owner_only() {
    let parent = tempfile::tempdir().unwrap();
    let store = parent.path().join("above/store");
    make_folder(&store).unwrap();
    let disk = Disk::open(&store).unwrap();
    let secrets = ["master_key", "root_key", "ab/cd/ef/name", "0/secret_key", "multifeed.blocked"];
    for name in secrets {
        run(&disk, Op::Write { path: path(name), offset: 0, data: b"s"[..].into() }).unwrap();
        assert_eq!(mode(&store.join(name)), 0o600, "{name}");
    }
    run(&disk, Op::Write { path: path("0/data"), offset: 0, data: b"d"[..].into() }).unwrap();
    assert_eq!(mode(&store.join("0/data")) & 0o022, 0, "others write nothing");
    for folder in ["", "ab", "ab/cd", "ab/cd/ef", "0"] {
        assert_eq!(mode(&store.join(folder)), 0o700, "{folder}");
    }
}

#[test]
fn others_are_kept_from_a_secret_when_it_is_opened_but_not_by_who_only_reads() {
    let store = tempfile::tempdir().unwrap();
    for name in ["name", "key"] {
        fs::write(store.path().join(name), "text").unwrap();
        fs::set_permissions(store.path().join(name), fs::Permissions::from_mode(0o664)).unwrap();
    }
    let read = |name: &str| Op::Read { path: path(name), offset: 0, len: 4 };
    let disk = Disk::open(store.path()).unwrap().read_only();
    run(&disk, read("name")).unwrap();
    assert_eq!(mode(&store.path().join("name")), 0o664);
    let disk = Disk::open(store.path()).unwrap();
    for name in ["name", "key"] {
        run(&disk, read(name)).unwrap();
    }
    assert_eq!(mode(&store.path().join("name")), 0o600);
    assert_eq!(mode(&store.path().join("key")), 0o664, "it is no secret");
}
