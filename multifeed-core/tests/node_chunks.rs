//! The same session in chunks of any size.
//!
//! Between two drains the cuts make no difference at all: bytes in pieces of any size give the same events, answers,
//! storage operations and bytes to send, in the same order.
//!
//! Drained after each chunk, a node acts on what it has by then: it is told of the last block of a log (`Have`) and asks
//! for that, where the bitfield in the same chunk would have had it begin with the first. So the order of requests and
//! of what answers them differs, with it the proofs in them, how blocks are gathered into one batch, one `Downloaded`
//! or one `Have`, the numbers of channels and the changes of the state of the sync on the way. What must not differ,
//! at every point of rest: which blocks were told to the application, each once, all other events, how many blocks and
//! bytes of them moved in each direction, the state of the sync, every file, every block.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use multifeed_core::storage::Memory;
use multifeed_core::{Event, FeedId, Output, SyncState};
use util::Sim;

/// What one node told and has at a point of rest.
#[derive(Debug, PartialEq)]
struct Rest {
    blocks: BTreeMap<FeedId, BTreeSet<u64>>,
    events: BTreeSet<String>,
    /// Blocks and bytes of blocks received, and sent.
    moved: [u64; 4],
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
    let (node, id) = (&sim.parties[party].node, sim.id(wire, end));
    let count = node.counters(id);
    let bytes = count.block_bytes_received;
    Rest {
        blocks,
        events,
        moved: [count.blocks_received, bytes, count.blocks_sent, count.block_bytes_sent],
        state: sim.sync_state(wire, end),
        contents: sim.contents(party),
        files: sim.parties[party].disk.memory().clone(),
    }
}

/// Two nodes with writers of their own, appends before and after they meet, in both directions, an
/// empty append, a late writer, time that passes, and a restart. `look` is called at each rest with the wire
/// that is up.
fn play(sim: &mut Sim, mut look: impl FnMut(&mut Sim, usize)) {
    let record = |sim: &mut Sim, at: usize| {
        sim.parties[at].recorded = Some(Vec::new());
    };
    let connect = |sim: &mut Sim, from, to| {
        let wire = sim.connect(from, to);
        sim.wires[wire].recorded = Some(Default::default());
        wire
    };
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    record(sim, a);
    record(sim, b);
    let (first, second) = (sim.writer(a, "first"), sim.writer(b, "second"));
    sim.append_all(a, first, (0..40).map(block).collect());
    sim.append_all(b, second, (0..7).map(block).collect());
    let mut wire = connect(sim, a, b);
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
                record(sim, b);
                wire = connect(sim, b, a);
            }
            _ => {}
        }
        sim.run();
        look(sim, wire);
    }
}

/// What both nodes told and have at each rest.
fn session(chunk: usize) -> Vec<Rest> {
    let mut all = Vec::new();
    play(&mut Sim::new(chunk), |sim, wire| {
        all.extend([rest(sim, wire, 0), rest(sim, wire, 1)]);
    });
    all
}

/// All outputs of both nodes in their order (events, answers to commands, storage batches with every
/// operation), and all bytes that each sent on each wire.
type Told = (Vec<Vec<Output>>, Vec<[Vec<u8>; 2]>);

/// What both nodes told and sent up to each rest, drained after each `chunk`, which came in pieces.
fn outputs(chunk: usize, piece: usize) -> Vec<Told> {
    let mut sim = Sim::new(chunk);
    sim.piece = piece;
    let mut all = Vec::new();
    play(&mut sim, |sim, _| {
        let parties = sim.parties.iter_mut();
        let told = parties.map(|party| party.recorded.replace(Vec::new()).unwrap()).collect();
        let wires = sim.wires.iter_mut();
        let sent = wires.map(|wire| wire.recorded.replace(Default::default()).unwrap()).collect();
        all.push((told, sent));
    });
    all
}

#[test]
fn between_two_drains_bytes_in_pieces_of_any_size_give_the_same_outputs_byte_for_byte() {
    for chunk in [997, 65_536] {
        let whole = outputs(chunk, usize::MAX);
        let count = whole.iter().flat_map(|(told, _)| told).map(Vec::len).sum::<usize>();
        let bytes = whole.iter().flat_map(|(_, sent)| sent).flatten().map(Vec::len).sum::<usize>();
        assert!(count > 150 && bytes > 80_000, "{count} outputs, {bytes} bytes sent");
        for piece in [1, 2, 3, 64] {
            for (at, ((told, sent), whole)) in outputs(chunk, piece).iter().zip(&whole).enumerate()
            {
                let place = format!("chunks of {chunk} in pieces of {piece}, rest {at}");
                for (party, (told, whole)) in told.iter().zip(&whole.0).enumerate() {
                    for (told, whole) in told.iter().zip(whole) {
                        assert_eq!(told, whole, "{place}, node {party}");
                    }
                    assert_eq!(told.len(), whole.len(), "{place}, node {party}");
                }
                assert!(*sent == whole.1, "{place}: other bytes are sent");
            }
        }
    }
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
            assert_eq!(rest.moved, whole.moved, "chunks of {chunk}, rest {at}");
            assert!(rest == whole, "chunks of {chunk}: files or blocks differ at rest {at}");
        }
    }
}

#[test]
fn the_same_session_in_the_same_chunks_is_the_same() {
    assert!(session(3) == session(3));
}
