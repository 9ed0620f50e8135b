//! The order in which batches may run at once.
#![allow(clippy::unwrap_used, missing_docs)]

use multifeed_core::storage::{Batch, BatchId, FilePath, Op, Queue};

fn path(name: &str) -> FilePath {
    FilePath::new(&[name])
}

fn read(name: &str) -> Op {
    Op::Read { path: path(name), offset: 0, len: 1 }
}

fn write(name: &str) -> Op {
    Op::Write { path: path(name), offset: 0, data: b"x"[..].into() }
}

fn sync(name: &str) -> Op {
    Op::Sync { path: path(name) }
}

fn queue(batches: Vec<(Option<u64>, Vec<Op>)>) -> Queue {
    let mut queue = Queue::new();
    for (id, (after, ops)) in (0..).zip(batches) {
        queue.submit(Batch { id: BatchId(id), after: after.map(BatchId), ops });
    }
    queue
}

/// The batches that may run at this moment.
fn started(queue: &mut Queue) -> Vec<u64> {
    std::iter::from_fn(|| queue.start()).map(|batch| batch.id.0).collect()
}

#[test]
fn batches_on_different_files_run_at_once() {
    let mut queue = queue(vec![(None, vec![write("a")]), (None, vec![write("b"), read("c")])]);
    assert_eq!(started(&mut queue), [0, 1]);
    assert_eq!(queue.len(), 2);
    queue.finished(BatchId(0));
    queue.finished(BatchId(1));
    assert!(queue.is_empty());
}

#[test]
fn a_read_waits_for_the_write_before_it() {
    let mut queue = queue(vec![(None, vec![write("a")]), (None, vec![read("a")])]);
    assert_eq!(started(&mut queue), [0]);
    queue.finished(BatchId(0));
    assert_eq!(started(&mut queue), [1]);
}

#[test]
fn a_write_waits_for_the_read_before_it() {
    let mut queue = queue(vec![(None, vec![read("a")]), (None, vec![write("a")])]);
    assert_eq!(started(&mut queue), [0]);
}

#[test]
fn reads_do_not_wait_for_a_sync() {
    let mut queue = queue(vec![(None, vec![sync("a")]), (None, vec![read("a")])]);
    assert_eq!(started(&mut queue), [0, 1]);
}

#[test]
fn a_batch_waits_for_the_one_it_follows() {
    let batches = vec![(None, vec![sync("a")]), (Some(0), vec![write("b")])];
    let mut queue = queue(batches);
    assert_eq!(started(&mut queue), [0]);
    queue.finished(BatchId(0));
    assert_eq!(started(&mut queue), [1]);
}

#[test]
fn a_read_sees_a_write_that_itself_has_to_wait() {
    let batches = vec![
        (None, vec![sync("a")]),
        (Some(0), vec![write("b")]),
        (None, vec![read("b")]),
        (None, vec![read("c")]),
        (Some(2), vec![read("d")]),
    ];
    let mut queue = queue(batches);
    assert_eq!(started(&mut queue), [0, 3]);
    queue.finished(BatchId(0));
    assert_eq!(started(&mut queue), [1]);
    queue.finished(BatchId(1));
    assert_eq!(started(&mut queue), [2]);
    queue.finished(BatchId(2));
    assert_eq!(started(&mut queue), [4]);
}

#[test]
fn a_batch_that_follows_an_answered_one_runs_at_once() {
    let mut queue = queue(vec![(Some(77), vec![write("a")])]);
    assert_eq!(started(&mut queue), [0]);
}

#[test]
fn what_touches_a_folder_waits_for_the_files_below() {
    let batches = vec![
        (None, vec![write("a/b")]),
        (None, vec![Op::Remove { path: path("a") }]),
        (None, vec![Op::List { path: FilePath::root() }]),
        (None, vec![write("ab")]),
    ];
    let mut queue = queue(batches);
    assert_eq!(started(&mut queue), [0]);
    queue.finished(BatchId(0));
    assert_eq!(started(&mut queue), [1]);
}

#[test]
fn both_names_of_a_rename_count() {
    let rename = Op::Rename { from: path("a"), to: path("b") };
    let batches = vec![(None, vec![rename]), (None, vec![read("a")]), (None, vec![read("b")])];
    let mut queue = queue(batches);
    assert_eq!(started(&mut queue), [0]);
}

#[test]
fn a_batch_that_does_not_suit_keeps_its_place() {
    let mut queue = queue(vec![
        (None, vec![sync("a")]),
        (Some(0), vec![write("b")]),
        (None, vec![write("a")]),
        (None, vec![read("c")]),
    ]);
    let short = |batch: &Batch| !batch.is_long();
    assert_eq!(queue.start_if(short).unwrap().id, BatchId(3));
    assert_eq!(queue.start_if(short), None, "what follows it, or is on the same file, waits too");
    assert_eq!(started(&mut queue), [0]);
    queue.finished(BatchId(0));
    assert_eq!(started(&mut queue), [1, 2]);
}

#[test]
fn a_queue_longer_than_is_looked_at_never_stands_still() {
    // Long batches on two files, each after the one before, with short ones between and behind them.
    let mut queue = Queue::new();
    let mut batches = Vec::new();
    for id in 0..1_000_u64 {
        let (after, op) = match id % 8 {
            0 => (None, write("short")),
            odd if odd % 2 == 1 => (id.checked_sub(2), sync("a")),
            _ => (None, Op::Punch { path: path("b"), offset: 0, len: 1 }),
        };
        batches.push(BatchId(id));
        queue.submit(Batch { id: BatchId(id), after: after.map(BatchId), ops: vec![op] });
    }
    // At most two long ones at a time, as an executor with two threads does it.
    let (mut running, mut done) = (Vec::new(), Vec::new());
    while !queue.is_empty() {
        while let Some(batch) = queue.start_if(|batch| running.len() < 2 || !batch.is_long()) {
            if batch.is_long() {
                running.push(batch.id);
            } else {
                queue.finished(batch.id);
                done.push(batch.id);
            }
        }
        let over = running.pop().expect("something runs as long as something waits");
        queue.finished(over);
        done.push(over);
    }
    done.sort_unstable();
    assert_eq!(done, batches);
}
