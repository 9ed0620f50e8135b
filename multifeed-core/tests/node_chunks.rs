//! The same session in chunks of any size.
//!
//! What may differ: how blocks are gathered into one batch, one `Downloaded` or one `Have`, and so the bytes on the wire,
//! because a node settles after each chunk that it is handed. What must not, at every point of rest:
//! which blocks were told to the application, each once, all other events but
//! the changes of the state of the sync on the way, the state of the sync, every file, every block.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use multifeed_core::storage::Memory;
use multifeed_core::{Event, FeedId, SyncState};
use util::Sim;

/// What one node told and has at a point of rest.
#[derive(Debug, PartialEq)]
struct Rest {
    blocks: BTreeMap<FeedId, BTreeSet<u64>>,
    events: BTreeSet<String>,
    state: SyncState,
    contents: BTreeMap<String, Vec<Option<Vec<u8>>>>,
    files: Memory,
}

fn block(n: usize) -> Bytes {
    match n % 9 {
        0 => Bytes::new(),
        4 => vec![n as u8; 9000].into(),
        _ => format!("block {n}").into(),
    }
}

fn rest(sim: &mut Sim, wire: usize, end: usize) -> Rest {
    let party = sim.wires[wire].ends[end].0;
    let (mut blocks, mut events) = (BTreeMap::<FeedId, BTreeSet<u64>>::new(), BTreeSet::new());
    for event in std::mem::take(&mut sim.parties[party].events) {
        match event {
            Event::Downloaded { feed, start, length } | Event::Appended { feed, start, length } => {
                for index in start..start + length {
                    assert!(blocks.entry(feed).or_default().insert(index), "block told twice");
                }
            }
            Event::InSync { .. }
            | Event::OutOfSync { .. }
            | Event::MultifeedInSync { .. }
            | Event::MultifeedOutOfSync { .. } => {}
            other => {
                events.insert(format!("{other:?}"));
            }
        }
    }
    Rest {
        blocks,
        events,
        state: sim.sync_state(wire, end),
        contents: sim.contents(party),
        files: sim.parties[party].disk.memory().clone(),
    }
}

/// Two nodes with writers of their own, appends before and after they meet, in both directions, an
/// empty append, a late writer, time that passes, and a restart.
fn session(chunk: usize) -> Vec<Rest> {
    let mut sim = Sim::new(chunk);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let (first, second) = (sim.writer(a, "first"), sim.writer(b, "second"));
    sim.append_all(a, first, (0..40).map(block).collect());
    sim.append_all(b, second, (0..7).map(block).collect());
    let mut all = Vec::new();
    let mut wire = sim.connect(a, b);
    for round in 0..5 {
        match round {
            1 => sim.append_all(a, first, (40..60).map(block).collect()),
            2 => {
                sim.append_all(b, second, vec![block(7)]);
                sim.append_all(a, first, Vec::new());
                let late = sim.writer(b, "late");
                sim.append_all(b, late, (0..3).map(block).collect());
            }
            3 => sim.pass(Duration::from_secs(45)),
            4 => {
                sim.restart(b);
                wire = sim.connect(b, a);
            }
            _ => {}
        }
        sim.run();
        all.extend([rest(&mut sim, wire, 0), rest(&mut sim, wire, 1)]);
    }
    all
}

#[test]
fn the_same_session_in_chunks_of_any_size_comes_to_the_same() {
    let whole = session(65_536);
    assert!(whole.iter().all(|rest| rest.state == SyncState::InSync));
    assert!(whole.iter().map(|rest| rest.blocks.len()).sum::<usize>() > 6);
    for chunk in [1, 2, 3] {
        for (at, (rest, whole)) in session(chunk).iter().zip(&whole).enumerate() {
            assert_eq!(rest.events, whole.events, "chunks of {chunk}, rest {at}");
            assert_eq!(rest.blocks, whole.blocks, "chunks of {chunk}, rest {at}");
            assert!(rest == whole, "chunks of {chunk}: files or blocks differ at rest {at}");
        }
    }
}

#[test]
fn the_same_session_in_the_same_chunks_is_the_same() {
    assert!(session(3) == session(3));
}
