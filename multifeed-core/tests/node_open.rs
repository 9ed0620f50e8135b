//! Logs that are opened again: long ones, ones of impossible size, ones whose last signatures are damaged, and
//! writers that were sealed when they were kept out.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use bytes::Bytes;
use multifeed_core::format::{corestore, sleep};
use multifeed_core::storage::{Batch, BatchId, FilePath, Memory, Op};
use multifeed_core::{FeedInfo, NodeError, Outcome};
use util::{FIRST, Sim};

/// Bytes of the largest bitfield that is taken.
const BITFIELD_MAX: u64 = 64 * 1024 * 1024;

/// A store with one writer, called `w`, that appended batches of so many blocks; and its folder.
fn written(batches: &[usize]) -> (Memory, FilePath) {
    let mut sim = Sim::new(65_536);
    let at = sim.party(Memory::new());
    let feed = sim.writer(at, "w");
    for batch in batches {
        sim.append_all(at, feed, (0..*batch).map(|n| Bytes::from(n.to_string())).collect());
    }
    let key = sim.parties[at].node.feed(feed).unwrap().key;
    let mut memory = sim.parties[at].disk.memory().clone();
    memory.unlock();
    (memory, corestore::folder(&key.discovery_key()))
}

fn change(memory: &mut Memory, op: Op) {
    let batch = Batch { id: BatchId(u64::MAX), after: None, ops: vec![op] };
    memory.execute(&batch).answers.remove(0).unwrap();
}

/// Opens the writer.
fn opened(memory: Memory) -> Result<FeedInfo, NodeError> {
    let mut sim = Sim::new(65_536);
    let at = sim.party(memory);
    let id = sim.parties[at].node.feeds(FIRST).next().unwrap().id;
    let load = sim.parties[at].node.load(sim.now, id);
    sim.finish(at, load)?;
    Ok(sim.parties[at].node.feed(id).unwrap())
}

fn break_signature(memory: &mut Memory, folder: &FilePath, length: u64) {
    let (path, offset) = (folder.join(sleep::SIGNATURES), sleep::signature_offset(length - 1));
    change(memory, Op::Write { path, offset, data: Bytes::from_static(&[1; 64]) });
}

#[test]
fn a_log_whose_bitfield_takes_more_than_one_read_opens_with_all_its_blocks() {
    let (memory, folder) = written(&[40_000, 3]);
    assert!(memory.contents(&folder.join(sleep::BITFIELD)).unwrap().len() > 16 * 1024);
    let info = opened(memory).unwrap();
    assert_eq!((info.length, info.blocks, info.writable), (40_003, 40_003, true));
}

#[test]
fn a_bitfield_of_the_greatest_size_is_taken_and_a_greater_one_refused() {
    let (mut memory, folder) = written(&[3]);
    let path = folder.join(sleep::BITFIELD);
    change(&mut memory, Op::Truncate { path: path.clone(), len: BITFIELD_MAX });
    assert_eq!(opened(memory.clone()).unwrap().length, 3);
    change(&mut memory, Op::Truncate { path, len: BITFIELD_MAX + 1 });
    let refused = opened(memory).unwrap_err();
    let NodeError::Damaged { problem, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(problem, "its bitfield is larger than this program takes");
}

#[test]
fn a_long_log_steps_back_to_the_last_signature_that_is_good() {
    // Longer than what is read of the signatures at once: 16,384 of them.
    let (mut memory, folder) = written(&[20_000, 1, 1, 1, 1]);
    for length in [20_004, 20_003] {
        break_signature(&mut memory, &folder, length);
    }
    let info = opened(memory).unwrap();
    assert_eq!((info.length, info.writable, info.lost), (20_002, false, 2));
}

#[test]
fn a_sealed_writer_that_was_kept_out_and_let_in_again_waits_for_all_that_it_once_had() {
    let (mut memory, folder) = written(&[1, 1, 1, 1, 1]);
    let path = folder.join(sleep::SIGNATURES);
    change(&mut memory, Op::Truncate { path, len: sleep::signature_offset(3) });
    let mut sim = Sim::new(65_536);
    let at = sim.party(memory);
    let feed = sim.parties[at].node.feeds(FIRST).next().unwrap().id;
    let info = sim.load(at, feed);
    assert_eq!((info.length, info.lost), (3, 2));
    let block = sim.parties[at].node.block(sim.now, info.key);
    assert_eq!(sim.finish(at, block), Ok(Outcome::Blocked));
    let unblock = sim.parties[at].node.unblock(sim.now, info.key);
    assert_eq!(sim.finish(at, unblock), Ok(Outcome::Unblocked));
    let feed = sim.writer(at, "w");
    let info = sim.load(at, feed);
    assert_eq!((info.length, info.writable, info.lost), (0, false, 5));
}
