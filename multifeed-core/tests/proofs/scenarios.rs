//! What is recorded: one run of each kind of work, in each layout and durability.

use std::cell::RefCell;
use std::fmt;

use bytes::Bytes;
use multifeed_core::convert::{Convert, Step};
use multifeed_core::format::sleep;
use multifeed_core::storage::{Batch, BatchId, FilePath, Journal, Memory, Op};
use multifeed_core::{Durability, Layout};
use multifeed_proto::{FeedKey, RootKey};

use super::record::{Mark, Promise, Recorder, Recording, config};
use super::util::ROOT;
use super::verify::{verified, verify};

/// The work that is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    Append,
    Batch,
    Download,
    OutOfOrder,
    Clear,
    Remove,
    Convert,
    Repair,
    Open,
}

pub const ALL: [Scenario; 9] = [
    Scenario::Append,
    Scenario::Batch,
    Scenario::Download,
    Scenario::OutOfOrder,
    Scenario::Clear,
    Scenario::Remove,
    Scenario::Convert,
    Scenario::Repair,
    Scenario::Open,
];

pub const LAYOUTS: [Layout; 2] = [Layout::Corestore, Layout::Numbered];
pub const DURABILITIES: [Durability; 2] = [Durability::Process, Durability::Power];

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Append => "append",
            Self::Batch => "batch",
            Self::Download => "download",
            Self::OutOfOrder => "out of order",
            Self::Clear => "clear",
            Self::Remove => "remove",
            Self::Convert => "convert",
            Self::Repair => "repair",
            Self::Open => "open",
        })
    }
}

/// The recordings of all scenarios.
pub fn all() -> Vec<Recording> {
    ALL.into_iter().flat_map(recordings).collect()
}

/// The recordings of a scenario.
pub fn recordings(scenario: Scenario) -> Vec<Recording> {
    let mut all = Vec::new();
    for layout in LAYOUTS {
        match scenario {
            Scenario::Convert => all.push(convert(layout)),
            Scenario::Repair => all.extend(repair(layout)),
            _ => {
                for durability in DURABILITIES {
                    all.extend(of_node(scenario, layout, durability));
                }
            }
        }
    }
    all
}

fn of_node(scenario: Scenario, layout: Layout, durability: Durability) -> Vec<Recording> {
    match scenario {
        Scenario::Append => vec![append(layout, durability)],
        Scenario::Batch => vec![batch(layout, durability), pages(layout, durability)],
        Scenario::Download => vec![download(layout, durability)],
        Scenario::OutOfOrder => vec![out_of_order(layout, durability)],
        Scenario::Clear => vec![clear(layout, durability)],
        Scenario::Remove => vec![remove(layout, durability)],
        Scenario::Open => open(layout, durability),
        Scenario::Convert | Scenario::Repair => Vec::new(),
    }
}

fn fresh(layout: Layout, durability: Durability) -> Recorder {
    let mut recorder = Recorder::new(layout, config(durability));
    recorder.open();
    recorder.peer_on(Memory::new());
    recorder
}

/// Single blocks of two writers, first alone, then with a peer that gets each.
fn append(layout: Layout, durability: Durability) -> Recording {
    let mut recorder = fresh(layout, durability);
    let first = recorder.writer("first");
    for size in [20, 0, 90] {
        recorder.append(first, &[size]);
    }
    recorder.connect();
    recorder.append(first, &[33]);
    let second = recorder.writer("second");
    for size in [15, 600] {
        recorder.append(second, &[size]);
        recorder.append(first, &[size + 1]);
    }
    recorder.finish(Scenario::Append)
}

/// Batches of every shape: of one block, of none, of many small, of large ones.
fn batch(layout: Layout, durability: Durability) -> Recording {
    let mut recorder = fresh(layout, durability);
    let feed = recorder.writer("w");
    recorder.append(feed, &[12, 40, 0, 70]);
    recorder.append(feed, &[]);
    recorder.append(feed, &[70_000, 13, 0, 66_000, 50]);
    recorder.connect();
    recorder.append(feed, &[25; 60]);
    recorder.append(feed, &[0, 0]);
    recorder.append(feed, &[30; 7]);
    recorder.finish(Scenario::Batch)
}

/// Batches on both sides of the end of a bitfield page.
fn pages(layout: Layout, durability: Durability) -> Recording {
    let mut recorder = Recorder::new(layout, config(durability));
    recorder.open();
    let feed = recorder.writer("w");
    recorder.append(feed, &[12; 8_185]);
    recorder.begin();
    recorder.append(feed, &[15; 6]);
    recorder.append(feed, &[14]);
    recorder.append(feed, &[13; 9]);
    recorder.append(feed, &[16]);
    recorder.finish(Scenario::Batch)
}

/// Three feeds of a peer, in order, while it appends.
fn download(layout: Layout, durability: Durability) -> Recording {
    let mut recorder = fresh(layout, durability);
    recorder.writer("ours");
    recorder.append_there("first", &[50; 9]);
    recorder.append_there("second", &[0, 20, 0, 300, 15]);
    recorder.connect();
    recorder.append_there("first", &[22; 4]);
    recorder.append_there("third", &[31; 6]);
    recorder.finish(Scenario::Download)
}

/// Blocks of a longer log, asked for one by one in no order, then the rest.
fn out_of_order(layout: Layout, durability: Durability) -> Recording {
    let config = multifeed_core::NodeConfig { sparse: true, ..config(durability) };
    let mut recorder = Recorder::new(layout, config);
    recorder.open();
    recorder.peer_on(Memory::new());
    let key = recorder.append_there("theirs", &[40; 37]);
    recorder.connect();
    let feed = recorder.find(&key);
    for block in [30, 3, 17, 36, 4, 11, 0, 25] {
        recorder.sim.parties[recorder.at].node.wait(recorder.sim.now, feed, block);
        recorder.run();
    }
    recorder.append_there("theirs", &[40; 5]);
    recorder.sim.parties[recorder.at].node.wait(recorder.sim.now, feed, 40);
    recorder.run();
    recorder.sim.parties[recorder.at].node.set_sparse(recorder.sim.now, feed, false);
    recorder.run();
    recorder.finish(Scenario::OutOfOrder)
}

/// Blocks given up in a log of our own and in one of the peer's, and both written on.
fn clear(layout: Layout, durability: Durability) -> Recording {
    let mut recorder = fresh(layout, durability);
    let feed = recorder.writer("w");
    recorder.append(feed, &[60; 20]);
    let key = recorder.append_there("theirs", &[45; 16]);
    recorder.connect();
    recorder.begin();
    let theirs = recorder.find(&key);
    recorder.clear(feed, 3..7);
    recorder.clear(theirs, 0..1);
    recorder.append(feed, &[22]);
    recorder.clear(theirs, 5..12);
    recorder.clear(feed, 0..2);
    recorder.append_there("theirs", &[18]);
    recorder.clear(feed, 20..21);
    recorder.append(feed, &[17]);
    recorder.finish(Scenario::Clear)
}

/// A feed of our own and one of the peer's kept out, and a third written on.
fn remove(layout: Layout, durability: Durability) -> Recording {
    let mut recorder = fresh(layout, durability);
    let kept = recorder.writer("kept");
    recorder.append(kept, &[30; 4]);
    let given_up = recorder.writer("given up");
    recorder.append(given_up, &[40; 5]);
    let theirs = recorder.append_there("theirs", &[45; 6]);
    recorder.append_there("stays", &[16; 3]);
    recorder.connect();
    recorder.begin();
    recorder.block(theirs);
    recorder.append(kept, &[21]);
    let key = recorder.key(given_up);
    recorder.block(key);
    recorder.append(kept, &[23]);
    recorder.finish(Scenario::Remove)
}

/// Stores that are opened again after a kill: what opening them writes is cut off in turn.
fn open(layout: Layout, durability: Durability) -> Vec<Recording> {
    let bases = [append(layout, durability), download(layout, durability)];
    bases.iter().flat_map(|base| (2..10).map(|part| opened(base, part, durability))).collect()
}

fn opened(base: &Recording, part: usize, durability: Durability) -> Recording {
    let count = base.journal.effects().len() * part / 10 + part % 3;
    let mark = base.promised(count);
    let killed = base.journal.killed_after(count);
    let mut recorder = Recorder::on(killed, 77, base.layout, config(durability));
    recorder.promise = mark.promise.clone();
    recorder.writers.clone_from(&base.writers);
    recorder.truth.clone_from(&base.truth);
    recorder.mark();
    recorder.open();
    let peer = recorder.peer_on(mark.peer.clone().unwrap_or_default());
    // What was written there later is not there yet.
    let there = recorder.sim.contents(peer);
    let here = recorder.sim.contents(recorder.at);
    for (key, blocks) in &mut recorder.truth {
        let length = |held: &std::collections::BTreeMap<String, Vec<_>>| {
            held.get(&key.to_hex()).map_or(0, Vec::len)
        };
        blocks.truncate(length(&there).max(length(&here)));
    }
    let name = if base.scenario == Scenario::Append { "first" } else { "ours" };
    let feed = recorder.writer(name);
    recorder.append(feed, &[37]);
    recorder.connect();
    recorder.append(feed, &[29]);
    // Blocks that nobody was told of before the kill can be found again if the power is lost, too.
    Recording { before: Some(base.truth.clone()), ..recorder.finish(Scenario::Open) }
}

/// A store with writers and feeds of others, of which one has a gap; what it holds.
pub fn some_store(layout: Layout) -> (Memory, Recording) {
    let mut recorder = fresh(layout, Durability::Process);
    let first = recorder.writer("first");
    recorder.append(first, &[60; 9]);
    recorder.append(first, &[0, 21, 70]);
    let second = recorder.writer("second");
    recorder.append(second, &[18]);
    let theirs = recorder.append_there("theirs", &[45; 16]);
    recorder.append_there("more", &[33; 5]);
    recorder.connect();
    recorder.append(first, &[29]);
    let feed = recorder.find(&theirs);
    recorder.clear(feed, 5..12);
    let recording = recorder.finish(Scenario::Convert);
    let mut memory = recording.journal.memory().clone();
    memory.unlock();
    (memory, recording)
}

/// The new store of a conversion, from its first file on.
fn convert(from: Layout) -> Recording {
    let to = if from == Layout::Corestore { Layout::Numbered } else { Layout::Corestore };
    let (memory, base) = some_store(from);
    let (mut source, mut target) = (memory.clone(), Journal::default());
    let (mut convert, ops) = Convert::new(RootKey::new(ROOT), to, [9; 32]);
    let mut step = Step::Read(ops);
    let mut number = 0;
    loop {
        number += 1;
        let batch = |ops| Batch { id: BatchId(number), after: None, ops };
        let answers = match step {
            Step::Read(ops) => source.execute(&batch(ops)).answers,
            Step::Write(ops) => target.execute(&batch(ops)).answers,
            Step::Done(_) => break,
            Step::Failed(error) => panic!("not converted: {error}"),
        };
        step = convert.answered(answers);
    }
    let promise = base.marks.last().expect("a mark").promise.clone();
    let peer = base.marks.last().expect("a mark").peer.clone();
    let effects = target.effects().len();
    let nothing = Mark { effects: 0, promise: Promise::default(), peer: None };
    Recording {
        layout: to,
        durability: None,
        journal: target,
        from: 0,
        marks: vec![nothing, Mark { effects, promise, peer }],
        ..base
    }
}

/// Damages a file of a feed.
type Damage = fn(&mut Memory, &FilePath);

/// Damage of every kind that a repair undoes by writing.
const DAMAGES: [Damage; 7] = [
    |memory, folder| overwrite(memory, folder, sleep::TREE, 32 + 40 * 3, &[0; 80]),
    |memory, folder| overwrite(memory, folder, sleep::BITFIELD, 32 + 1024, &[0; 3]),
    |memory, folder| overwrite(memory, folder, sleep::SIGNATURES, 32 + 64 * 12, &[1; 64]),
    |memory, folder| cut(memory, folder, sleep::DATA, 100),
    |memory, folder| cut(memory, folder, sleep::BITFIELD, 0),
    |memory, folder| {
        // Of a feed of others in a numbered folder nothing else tells the key.
        let secret = memory.contents(&folder.join(sleep::SECRET_KEY)).is_some();
        if secret || folder.as_str().contains('/') {
            cut(memory, folder, sleep::KEY, 5);
        }
    },
    |memory, folder| {
        overwrite(memory, folder, sleep::SECRET_KEY, 40, b"x");
        overwrite(memory, folder, sleep::TREE, 0, b"garbage");
    },
];

fn overwrite(memory: &mut Memory, folder: &FilePath, name: &str, offset: u64, data: &[u8]) {
    let path = folder.join(name);
    let end = offset as usize + data.len();
    if memory.contents(&path).is_some_and(|bytes| bytes.len() >= end) {
        run(memory, Op::Write { path, offset, data: Bytes::copy_from_slice(data) });
    }
}

fn cut(memory: &mut Memory, folder: &FilePath, name: &str, len: u64) {
    run(memory, Op::Truncate { path: folder.join(name), len });
}

pub fn run(memory: &mut Memory, op: Op) {
    let batch = Batch { id: BatchId(u64::MAX), after: None, ops: vec![op] };
    assert!(memory.execute(&batch).answers[0].is_ok(), "{batch:?}");
}

/// The repair of damaged stores, each with one kind of damage in all feeds.
fn repair(layout: Layout) -> Vec<Recording> {
    DAMAGES.iter().map(|damage| repaired(layout, *damage)).collect()
}

fn repaired(layout: Layout, damage: Damage) -> Recording {
    let (mut memory, base) = some_store(layout);
    let bitfields = memory.paths().filter(|path| path.as_str().ends_with("/bitfield"));
    let folders: Vec<FilePath> = bitfields.filter_map(FilePath::parent).collect();
    let list = list_folder(&memory, &base);
    for folder in folders.iter().filter(|folder| Some(*folder) != list.as_ref()) {
        damage(&mut memory, folder);
    }
    let files = RefCell::new(Journal::new(memory.clone()));
    verify(&files, true).expect("it is repaired");
    let journal = files.into_inner();
    let mut promise = base.marks.last().expect("a mark").promise.clone();
    // What is left to be promised is what the whole repair leaves.
    let (_, left) = verified(&journal.state_after(journal.effects().len()), false).expect("read");
    promise.held = super::judge::held(left).expect("it opens");
    let peer = base.marks.last().expect("a mark").peer.clone();
    Recording {
        scenario: Scenario::Repair,
        layout,
        durability: None,
        journal,
        from: 0,
        marks: vec![Mark { effects: 0, promise, peer }],
        ..base
    }
}

/// The folder whose key is that of no feed that was written to: the list of feeds.
fn list_folder(memory: &Memory, base: &Recording) -> Option<FilePath> {
    let keys = memory.paths().filter(|path| path.as_str().ends_with("/key"));
    let mut others = keys.filter(|path| {
        let key = memory.contents(path).and_then(|key| <[u8; 32]>::try_from(&key[..]).ok());
        key.is_some_and(|key| !base.truth.contains_key(&FeedKey(key)))
    });
    others.next().and_then(FilePath::parent)
}
