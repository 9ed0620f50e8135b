//! Crash states rebuilt from the effects of batches.
#![allow(clippy::unwrap_used, missing_docs)]

use multifeed_core::storage::{
    Answer, Batch, BatchId, Fault, FilePath, Journal, Memory, Op, StorageErrorKind,
};

fn path(name: &str) -> FilePath {
    FilePath::new(&[name])
}

fn write(name: &str, offset: u64, data: &'static [u8]) -> Op {
    Op::Write { path: path(name), offset, data: data.into() }
}

fn journal(ops: Vec<Op>) -> Journal {
    let mut journal = Journal::default();
    for (id, op) in (0..).zip(ops) {
        let batch = Batch { id: BatchId(id), after: None, ops: vec![op] };
        assert!(journal.execute(&batch).answers[0].is_ok());
    }
    journal
}

#[test]
fn every_prefix_of_the_effects_is_a_state() {
    let journal = journal(vec![
        write("a", 0, b"one"),
        Op::Read { path: path("a"), offset: 0, len: 3 },
        write("a", 3, b"two"),
        Op::Rename { from: path("a"), to: path("b") },
    ]);
    assert_eq!(journal.effects().len(), 3, "reads have no effect");
    assert_eq!(journal.state_after(0), Memory::new());
    assert_eq!(journal.state_after(1).contents(&path("a")), Some(b"one".to_vec()));
    assert_eq!(journal.state_after(2).contents(&path("a")), Some(b"onetwo".to_vec()));
    assert_eq!(journal.state_after(3).contents(&path("b")), Some(b"onetwo".to_vec()));
    assert_eq!(journal.state_after(3), *journal.memory());
    assert_eq!(journal.state_after(99), *journal.memory());
}

#[test]
fn the_last_write_is_torn_at_any_byte() {
    let journal = journal(vec![write("a", 0, b"...."), write("a", 1, b"xyz")]);
    let states: Vec<_> = (0..=journal.torn_len(1))
        .map(|bytes| journal.state_torn(1, bytes).contents(&path("a")).unwrap())
        .collect();
    assert_eq!(states, [b"....", b".x..", b".xy.", b".xyz"]);
}

#[test]
fn what_is_not_a_write_happens_or_not() {
    let secret = Op::CreateSecret { path: path("key"), data: b"secret"[..].into() };
    let journal = journal(vec![secret]);
    assert_eq!(journal.torn_len(0), 1);
    assert_eq!(journal.state_torn(0, 0).contents(&path("key")), None);
    assert_eq!(journal.state_torn(0, 1).contents(&path("key")), Some(b"secret".to_vec()));
}

#[test]
fn power_loss_takes_what_was_not_synced() {
    let journal = journal(vec![
        write("a", 0, b"1"),
        write("b", 0, b"1"),
        Op::Sync { path: path("a") },
        write("a", 1, b"2"),
    ]);
    let bare = journal.state_after_power_loss(4, |_| false);
    assert_eq!(bare.contents(&path("a")), Some(b"1".to_vec()));
    assert_eq!(bare.contents(&path("b")), None);
    let reordered = journal.state_after_power_loss(2, |index| index == 1);
    assert_eq!(reordered.contents(&path("a")), None);
    assert_eq!(reordered.contents(&path("b")), Some(b"1".to_vec()));
}

#[test]
fn a_state_can_be_locked_again() {
    let lock = Op::Lock { path: path("lock") };
    let journal = journal(vec![lock.clone()]);
    let mut state = journal.state_after(1);
    let batch = Batch { id: BatchId(0), after: None, ops: vec![lock] };
    assert_eq!(state.execute(&batch).answers, [Ok(Answer::Done)]);
    assert!(state.execute(&batch).answers[0].is_err());
    assert!(state.clone().execute(&batch).answers[0].is_ok());
}

#[test]
fn a_fault_fails_changes_and_leaves_no_effect() {
    let mut journal = journal(vec![write("a", 0, b"1")]);
    journal.set_fault(Some(Fault { after: 1, kind: StorageErrorKind::Full }));
    let ops = vec![write("a", 1, b"2"), write("a", 2, b"3"), Op::Length { path: path("a") }];
    let result = journal.execute(&Batch { id: BatchId(9), after: None, ops });
    assert!(result.answers[0].is_ok());
    assert_eq!(result.answers[1].as_ref().unwrap_err().kind, StorageErrorKind::Full);
    assert_eq!(result.answers[2], Ok(Answer::Length(2)));
    assert_eq!(journal.effects().len(), 2);
    journal.set_fault(None);
    let again = Batch { id: BatchId(10), after: None, ops: vec![write("a", 2, b"3")] };
    assert!(journal.execute(&again).answers[0].is_ok());
}
