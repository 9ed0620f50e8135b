//! What both executors of storage batches must do alike: every test runs on memory and on files.
#![allow(clippy::unwrap_used, missing_docs)]

use multifeed_core::disk::Disk;
use multifeed_core::storage::{
    Answer, Batch, BatchId, BatchResult, FilePath, MAX_READ, Memory, Op, StorageErrorKind,
};
use proptest::prelude::*;

/// An executor with a counter for the numbers of its batches.
struct Store {
    execute: Box<dyn FnMut(&Batch) -> BatchResult>,
    next: u64,
}

impl Store {
    fn on_memory() -> Self {
        let mut memory = Memory::new();
        Self { execute: Box::new(move |batch| memory.execute(batch)), next: 0 }
    }

    /// Keeps only two files open, so that every test meets the end of the pool.
    fn on_disk() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::with_open_files(&folder.path().join("made/late"), 2).unwrap();
        let execute = move |batch: &Batch| {
            assert!(folder.path().exists());
            disk.execute(batch)
        };
        Self { execute: Box::new(execute), next: 0 }
    }

    fn batch(&mut self, after: Option<BatchId>, ops: Vec<Op>) -> BatchResult {
        let id = BatchId(self.next);
        self.next += 1;
        let result = (self.execute)(&Batch { id, after, ops });
        assert_eq!(result.id, id);
        result
    }

    fn try_op(&mut self, op: Op) -> Result<Answer, StorageErrorKind> {
        let mut result = self.batch(None, vec![op]);
        assert_eq!(result.answers.len(), 1);
        result.answers.remove(0).map_err(|error| error.kind)
    }

    fn op(&mut self, op: Op) -> Answer {
        self.try_op(op).unwrap()
    }

    fn write(&mut self, name: &str, offset: u64, data: &[u8]) {
        let data = data.to_vec().into();
        assert_eq!(self.op(Op::Write { path: path(name), offset, data }), Answer::Done);
    }

    fn all(&mut self, name: &str) -> Answer {
        self.op(Op::Read { path: path(name), offset: 0, len: usize::MAX })
    }
}

fn path(name: &str) -> FilePath {
    if name.is_empty() { FilePath::root() } else { FilePath::new(&[name]) }
}

fn bytes(data: &[u8]) -> Answer {
    Answer::Bytes(data.to_vec().into())
}

fn names(names: &[&str]) -> Answer {
    Answer::Names(names.iter().map(|name| (*name).to_owned()).collect())
}

fn on_both(check: impl Fn(&mut Store)) {
    check(&mut Store::on_memory());
    check(&mut Store::on_disk());
}

#[test]
fn what_was_written_is_read() {
    on_both(|store| {
        store.write("a/b/c", 0, b"hello world");
        let read = Op::Read { path: path("a/b/c"), offset: 6, len: 3 };
        assert_eq!(store.op(read), bytes(b"wor"));
    });
}

#[test]
fn a_gap_before_a_write_is_zeros() {
    on_both(|store| {
        store.write("file", 5, b"x");
        assert_eq!(store.all("file"), bytes(b"\0\0\0\0\0x"));
    });
}

#[test]
fn a_read_past_the_end_is_short_and_never_fails() {
    on_both(|store| {
        store.write("file", 0, b"abc");
        let read = |offset, len| Op::Read { path: path("file"), offset, len };
        assert_eq!(store.op(read(2, 10)), bytes(b"c"));
        assert_eq!(store.op(read(3, 10)), bytes(b""));
        assert_eq!(store.op(read(u64::MAX, usize::MAX)), bytes(b""));
        assert_eq!(store.op(read(0, 0)), bytes(b""));
    });
}

#[test]
fn what_does_not_exist_is_not_found() {
    on_both(|store| {
        assert_eq!(store.all("file"), Answer::NotFound);
        assert_eq!(store.op(Op::Length { path: path("file") }), Answer::NotFound);
        assert_eq!(store.op(Op::List { path: path("folder") }), Answer::NotFound);
        assert_eq!(store.op(Op::List { path: path("") }), Answer::NotFound);
        assert_eq!(store.op(Op::Sync { path: path("file") }), Answer::NotFound);
        let rename = Op::Rename { from: path("file"), to: path("other") };
        assert_eq!(store.op(rename), Answer::NotFound);
        assert_eq!(store.op(Op::Remove { path: path("file") }), Answer::Done);
        let punch = Op::Punch { path: path("file"), offset: 0, len: 9 };
        assert_eq!(store.op(punch), Answer::Done);
        assert_eq!(store.all("file"), Answer::NotFound, "punching makes no file");
    });
}

#[test]
fn an_empty_write_makes_the_file() {
    on_both(|store| {
        store.write("file", 9, b"");
        assert_eq!(store.op(Op::Length { path: path("file") }), Answer::Length(0));
    });
}

#[test]
fn a_file_is_cut_and_lengthened() {
    on_both(|store| {
        store.write("file", 0, b"abcdef");
        store.op(Op::Truncate { path: path("file"), len: 3 });
        store.op(Op::Truncate { path: path("file"), len: 5 });
        assert_eq!(store.all("file"), bytes(b"abc\0\0"));
        store.op(Op::Truncate { path: path("other"), len: 2 });
        assert_eq!(store.all("other"), bytes(b"\0\0"));
    });
}

#[test]
fn a_sparse_file_may_be_huge() {
    on_both(|store| {
        let far = 1 << 40;
        store.write("file", far, b"end");
        assert_eq!(store.op(Op::Length { path: path("file") }), Answer::Length(far + 3));
        let read = Op::Read { path: path("file"), offset: far - 2, len: 100 };
        assert_eq!(store.op(read), bytes(b"\0\0end"));
    });
}

#[test]
fn the_end_of_a_hole_is_found() {
    on_both(|store| {
        let next = |offset| Op::NextData { path: path("file"), offset };
        assert_eq!(store.op(next(0)), Answer::NotFound);
        let far = 1 << 40;
        store.write("file", 0, b"start");
        store.write("file", far, b"end");
        assert_eq!(store.op(next(2)), Answer::Length(2));
        assert_eq!(store.op(next(far + 1)), Answer::Length(far + 1));
        assert_eq!(store.op(next(far + 3)), Answer::Length(far + 3));
        assert_eq!(store.op(next(u64::MAX)), Answer::Length(far + 3));
        let Answer::Length(found) = store.op(next(1 << 20)) else { panic!("no place") };
        // Holes end where the file system likes, and elsewhere none are known.
        let least = if cfg!(target_os = "linux") { far - 0x1_0000 } else { 1 << 20 };
        assert!(found >= least && found <= far, "{found}");
        store.op(Op::Truncate { path: path("file"), len: 2 * far });
        let end = store.op(next(far + 0x10_0000));
        if cfg!(target_os = "linux") {
            assert_eq!(end, Answer::Length(2 * far), "a hole to the end");
        }
    });
}

#[test]
fn no_more_is_read_at_once_than_memory_should_hold() {
    on_both(|store| {
        store.write("file", 1 << 40, b"end");
        assert!(
            store.try_op(Op::Read { path: path("file"), offset: 0, len: MAX_READ + 1 }).is_err()
        );
        let read = Op::Read { path: path("file"), offset: 1 << 40, len: usize::MAX };
        assert_eq!(store.op(read), bytes(b"end"));
    });
}

#[test]
fn a_place_that_no_file_reaches_is_refused() {
    on_both(|store| {
        for offset in [u64::MAX, u64::MAX - 1, i64::MAX as u64] {
            let write = Op::Write { path: path("file"), offset, data: b"ab"[..].into() };
            assert!(matches!(store.try_op(write), Err(StorageErrorKind::Io(_))));
        }
        let truncate = Op::Truncate { path: path("file"), len: u64::MAX };
        assert!(matches!(store.try_op(truncate), Err(StorageErrorKind::Io(_))));
        assert_eq!(store.all("file"), Answer::NotFound);
    });
}

#[test]
fn a_punched_range_is_zeros_and_the_length_stays() {
    on_both(|store| {
        store.write("file", 0, &[7; 200_000]);
        store.op(Op::Punch { path: path("file"), offset: 10, len: 150_000 });
        store.op(Op::Punch { path: path("file"), offset: 199_990, len: u64::MAX });
        store.op(Op::Punch { path: path("file"), offset: 900_000, len: 5 });
        let mut wanted = vec![7; 200_000];
        wanted[10..150_010].fill(0);
        wanted[199_990..].fill(0);
        assert_eq!(store.all("file"), bytes(&wanted));
    });
}

#[test]
fn a_secret_is_written_whole_and_replaces_what_was_there() {
    on_both(|store| {
        store.write("key", 0, b"a longer thing that was there");
        let create = Op::CreateSecret { path: path("key"), data: b"secret"[..].into() };
        assert_eq!(store.op(create), Answer::Done);
        assert_eq!(store.all("key"), bytes(b"secret"));
        assert_eq!(store.op(Op::List { path: path("") }), names(&["key"]));
    });
}

#[test]
fn a_folder_is_removed_with_all_below_it() {
    on_both(|store| {
        store.write("a/b/c", 0, b"1");
        store.write("a/b2", 0, b"2");
        store.op(Op::Remove { path: path("a/b") });
        assert_eq!(store.all("a/b/c"), Answer::NotFound);
        assert_eq!(store.all("a/b2"), bytes(b"2"));
        store.write("a/b/c", 0, b"3");
        assert_eq!(store.all("a/b/c"), bytes(b"3"));
    });
}

#[test]
fn the_store_itself_is_not_removed() {
    on_both(|store| {
        store.write("file", 0, b"1");
        assert!(store.try_op(Op::Remove { path: path("") }).is_err());
        assert_eq!(store.all("file"), bytes(b"1"));
    });
}

#[test]
fn a_renamed_file_replaces_what_had_the_name() {
    on_both(|store| {
        store.write("a", 0, b"from");
        store.write("deep/b", 0, b"replaced");
        assert_eq!(store.all("deep/b"), bytes(b"replaced"));
        store.op(Op::Rename { from: path("a"), to: path("deep/b") });
        assert_eq!(store.all("a"), Answer::NotFound);
        assert_eq!(store.all("deep/b"), bytes(b"from"));
        store.write("a", 0, b"new");
        assert_eq!(store.all("deep/b"), bytes(b"from"));
    });
}

#[test]
fn a_folder_moves_with_all_below_it_to_a_name_that_is_free() {
    on_both(|store| {
        store.write("new/a", 0, b"one");
        store.write("new/deep/b", 0, b"two");
        store.write("newer", 0, b"other");
        store.op(Op::Rename { from: path("new"), to: path("0") });
        assert_eq!(store.op(Op::List { path: path("") }), names(&["0", "newer"]));
        assert_eq!(store.op(Op::List { path: path("0") }), names(&["a", "deep"]));
        assert_eq!(store.all("0/a"), bytes(b"one"));
        assert_eq!(store.all("0/deep/b"), bytes(b"two"));
        assert_eq!(store.all("new/a"), Answer::NotFound);
        store.write("0/a", 0, b"O");
        store.write("new/a", 0, b"again");
        for taken in ["0", "newer"] {
            let rename = Op::Rename { from: path("new"), to: path(taken) };
            assert!(store.try_op(rename).is_err(), "{taken}");
        }
        assert_eq!(store.all("0/a"), bytes(b"One"));
        assert_eq!(store.all("new/a"), bytes(b"again"));
    });
}

#[test]
fn names_are_listed_in_order() {
    on_both(|store| {
        for name in ["z", "folder/inner", "a", "m"] {
            store.write(name, 0, b"");
        }
        assert_eq!(store.op(Op::List { path: path("") }), names(&["a", "folder", "m", "z"]));
        assert_eq!(store.op(Op::List { path: path("folder") }), names(&["inner"]));
        store.op(Op::Remove { path: path("folder/inner") });
        assert_eq!(store.op(Op::List { path: path("folder") }), names(&[]));
    });
}

#[test]
fn a_folder_is_no_file_and_a_file_no_folder() {
    on_both(|store| {
        store.write("folder/file", 0, b"1");
        let read = Op::Read { path: path("folder"), offset: 0, len: 1 };
        let write = Op::Write { path: path("folder"), offset: 0, data: b"1"[..].into() };
        let below = Op::Write { path: path("folder/file/x"), offset: 0, data: b"1"[..].into() };
        let ops = [read, write, below, Op::Length { path: path("folder") }];
        for op in ops {
            assert!(store.try_op(op).is_err());
        }
        assert_eq!(store.op(Op::List { path: path("folder/file") }), Answer::NotFound);
        assert_eq!(store.all("folder/file/x"), Answer::NotFound);
        assert_eq!(store.all("folder/file"), bytes(b"1"));
    });
}

#[test]
fn the_lock_is_taken_once() {
    on_both(|store| {
        assert_eq!(store.op(Op::Lock { path: path("lock") }), Answer::Done);
        let again = store.try_op(Op::Lock { path: path("lock") });
        assert!(matches!(again, Err(StorageErrorKind::InUse { .. })));
    });
}

#[test]
fn what_follows_a_failed_batch_is_not_run_and_told_why() {
    on_both(|store| {
        store.write("file", 0, b"1");
        let write = |name: &str| Op::Write { path: path(name), offset: 0, data: b"2"[..].into() };
        let failed = store.batch(None, vec![write("ok"), write("file/below")]);
        assert!(failed.answers[0].is_ok() && failed.answers[1].is_err());
        let skipped = store.batch(Some(failed.id), vec![write("file"), write("other")]);
        let follows = store.batch(Some(skipped.id), vec![write("file")]);
        for answer in skipped.answers.iter().chain(&follows.answers) {
            assert_eq!(answer, &failed.answers[1]);
        }
        assert_eq!(store.all("file"), bytes(b"1"));
        assert_eq!(store.all("other"), Answer::NotFound);
        assert!(store.batch(None, vec![write("file")]).answers[0].is_ok());
    });
}

#[test]
fn an_error_says_what_was_done_to_which_file() {
    on_both(|store| {
        store.write("folder/file", 0, b"1");
        let result = store.batch(None, vec![Op::Length { path: path("folder") }]);
        let text = result.answers[0].as_ref().unwrap_err().to_string();
        assert_eq!(text, "measure folder: not a file but a folder");
    });
}

fn any_op() -> impl Strategy<Value = Op> {
    let name = prop::sample::select(vec!["a", "b", "folder/a", "folder/deep/b", "folder"]);
    let offset = prop_oneof![0..50_u64, 4090..4100_u64, 65_530..65_540_u64];
    (0..9_u8, name, offset, prop::collection::vec(any::<u8>(), 0..40)).prop_map(
        |(which, name, offset, data)| {
            let path = path(name);
            match which {
                0 => Op::Read { path, offset, len: data.len() },
                1 => Op::Length { path },
                2 => Op::Truncate { path, len: offset },
                3 => Op::Punch { path, offset: data.len() as u64, len: offset },
                4 => Op::CreateSecret { path, data: data.as_slice().into() },
                5 if data.len() < 10 => Op::Remove { path },
                5 => Op::Sync { path },
                6 => Op::Rename { from: path, to: FilePath::new(&["folder/a"]) },
                7 => Op::List { path },
                _ => Op::Write { path, offset, data: data.into() },
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Errors may differ in their text, not in whether they happen.
    #[test]
    fn any_operations_give_the_same_answers(ops in prop::collection::vec(any_op(), 0..60)) {
        let mut memory = Store::on_memory();
        let mut disk = Store::on_disk();
        for op in ops {
            let (one, other) = (memory.try_op(op.clone()), disk.try_op(op.clone()));
            prop_assert_eq!(one.ok(), other.ok(), "{:?}", op);
        }
    }
}

#[test]
fn a_write_below_a_file_fails_and_leaves_no_folder() {
    let below = || FilePath::new(&["d/a/x"]);
    on_both(|store| {
        store.write("d", 0, b"a file");
        let data = b"x".to_vec().into();
        assert!(store.try_op(Op::Write { path: below(), offset: 0, data }).is_err());
        assert!(store.try_op(Op::Rename { from: path("d"), to: below() }).is_err());
        assert_eq!(store.all("d"), bytes(b"a file"));
        store.op(Op::Remove { path: path("d") });
        for name in ["d", "d/a"] {
            let list = Op::List { path: FilePath::new(&[name]) };
            assert_eq!(store.op(list), Answer::NotFound, "{name}");
        }
    });
}
