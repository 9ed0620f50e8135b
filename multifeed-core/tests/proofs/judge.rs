//! What must be true of the files that a crash left.

use std::collections::BTreeMap;

use bytes::Bytes;
use multifeed_core::storage::{FilePath, Memory};
use multifeed_core::{Durability, FeedId, FeedInfo, Outcome, StoreOptions, SyncState};
use multifeed_proto::FeedKey;

use super::cut::{Cut, CutKind};
use super::record::{Mark, Recording, config, entries, try_open};
use super::scenarios::Scenario;
use super::util::{FIRST, Party, Sim};
use super::verify::verified;

/// What is wrong.
pub type Check<T = ()> = Result<T, String>;

/// What a store holds: each feed with its blocks.
pub type Found = BTreeMap<FeedKey, Vec<Option<Vec<u8>>>>;

/// Whether all that was promised must be there, or only what is left must be true: nothing is promised where
/// the power is lost and the durability is that of the process.
pub fn is_promised(recording: &Recording, cut: Cut) -> bool {
    let power = matches!(cut.kind, CutKind::Power(_));
    !(power && recording.durability == Some(Durability::Process))
}

/// Judges one state.
///
/// # Errors
///
/// What is wrong with it.
pub fn judge(recording: &Recording, cut: Cut, memory: &Memory) -> Check {
    let mark = recording.promised(cut.effects);
    if recording.scenario == Scenario::Convert && cut.effects < recording.journal.effects().len() {
        return unfinished(recording, memory);
    }
    let (found, seen) = verified(memory, false)?;
    if without_lock(&seen) != without_lock(memory) {
        return Err("a check without repair wrote something".into());
    }
    if recording.scenario == Scenario::Repair {
        return after_repair(recording, memory);
    }
    if !is_promised(recording, cut) {
        return unpromised(recording, mark, memory);
    }
    if !found.is_sound() {
        let (after, repaired) = verified(memory, true)?;
        if !after.is_sound() {
            return Err(format!("not repaired: {}; before: {}", after.says(), found.says()));
        }
        let mut store = Opened::new(recording, &repaired)?;
        store.look(recording, mark, true).map_err(|e| format!("after a repair: {e}"))?;
    }
    let mut store = Opened::new(recording, memory)?;
    let blocks = store.look(recording, mark, true)?;
    store.go_on(recording, mark, &blocks, true)?;
    store.meet(mark)?;
    let after = store.close()?;
    let (last, _) = verified(&after, true)?;
    if !last.is_sound() {
        return Err(format!("afterwards it is not sound: {}", last.says()));
    }
    Ok(())
}

/// Nothing was promised: what is left is true, it opens, after a repair at the latest, nothing is signed in the place
/// of a block whose signature is in the files, and a repair leaves nothing that could be undone.
fn unpromised(recording: &Recording, mark: &Mark, memory: &Memory) -> Check {
    if let Ok(mut store) = Opened::new(recording, memory) {
        let blocks = store.look(recording, mark, false)?;
        store.go_on(recording, mark, &blocks, false)?;
        settled(&store.close()?).map_err(|e| format!("opened, written to, {e}"))?;
    }
    let repaired = settled(memory)?;
    let mut store = Opened::new(recording, &repaired).map_err(|e| format!("repaired, {e}"))?;
    let blocks = store.look(recording, mark, false).map_err(|e| format!("repaired, {e}"))?;
    store.go_on(recording, mark, &blocks, false).map_err(|e| format!("repaired, {e}"))
}

/// Repairs a store; nothing must be left that could be undone.
fn settled(memory: &Memory) -> Check<Memory> {
    let (verdict, repaired) = verified(memory, true)?;
    if verdict.is_as_good_as_it_gets() {
        Ok(repaired)
    } else {
        Err(format!("not repaired: {}", verdict.says()))
    }
}

/// A repair that was cut off is repeated, and then all is there that the whole repair leaves.
fn after_repair(recording: &Recording, memory: &Memory) -> Check {
    let mark = &recording.marks[0];
    let (_, repaired) = verified(memory, true)?;
    let mut store = Opened::new(recording, &repaired)?;
    let blocks = store.look(recording, mark, true)?;
    store.go_on(recording, mark, &blocks, false)?;
    // Also where it is not repeated, if it opens at all: the damage may not let it.
    let Ok(mut store) = Opened::new(recording, memory) else { return Ok(()) };
    let blocks = store.look(recording, mark, false)?;
    store.go_on(recording, mark, &blocks, false)
}

/// A conversion that was cut off has made no store; what is there must not be taken for a whole one.
fn unfinished(recording: &Recording, memory: &Memory) -> Check {
    let _whatever_it_says = verified(memory, false)?;
    let Ok(mut store) = Opened::new(recording, memory) else { return Ok(()) };
    let nothing = &recording.marks[0];
    let blocks = store.look(recording, nothing, false)?;
    let last = recording.marks.last().ok_or("no mark")?;
    store.go_on(recording, last, &blocks, false)
}

/// The blocks that are held in a store, as a promise.
///
/// # Errors
///
/// If it does not open.
pub fn held(memory: Memory) -> Check<BTreeMap<FeedKey, Vec<bool>>> {
    let mut sim = Sim::new(65_536);
    sim.parties.push(Party::new(201, memory, config(Durability::Process), sim.now));
    try_open(&mut sim, 0, StoreOptions::default())?;
    let mut all = BTreeMap::new();
    for info in feeds(&sim) {
        let load = sim.parties[0].node.load(sim.now, info.id);
        if sim.finish(0, load).is_ok() {
            let blocks = read(&mut sim, info.id)?;
            all.insert(info.key, blocks.iter().map(Option::is_some).collect());
        }
    }
    Ok(all)
}

fn feeds(sim: &Sim) -> Vec<FeedInfo> {
    sim.parties[0].node.feeds(FIRST).collect()
}

/// All blocks of a feed.
pub fn read(sim: &mut Sim, feed: FeedId) -> Check<Vec<Option<Vec<u8>>>> {
    let length = sim.parties[0].node.feed(feed).map_or(0, |info| info.length);
    let mut blocks: Vec<Option<Vec<u8>>> = Vec::new();
    while (blocks.len() as u64) < length {
        let command =
            sim.parties[0].node.read(sim.now, feed, blocks.len() as u64, u64::MAX, 1 << 22);
        match sim.finish(0, command) {
            Ok(Outcome::Blocks(read)) if read.is_empty() => blocks.push(None),
            Ok(Outcome::Blocks(read)) => {
                blocks.extend(read.into_iter().map(|block| Some(block.to_vec())));
            }
            other => return Err(format!("block {} cannot be read: {other:?}", blocks.len())),
        }
    }
    Ok(blocks)
}

/// All blocks of a feed; those at which reading fails are not there.
pub fn read_around(sim: &mut Sim, feed: FeedId) -> Vec<Option<Vec<u8>>> {
    let length = sim.parties[0].node.feed(feed).map_or(0, |info| info.length);
    let one = |at| {
        let command = sim.parties[0].node.read(sim.now, feed, at, 1, 1 << 22);
        match sim.finish(0, command) {
            Ok(Outcome::Blocks(blocks)) => blocks.first().map(|block| block.to_vec()),
            _ => None,
        }
    };
    (0..length).map(one).collect()
}

/// The store after the crash, opened.
struct Opened {
    sim: Sim,
    /// Lengths of logs whose signatures are in the files.
    signed: BTreeMap<FeedKey, u64>,
}

impl Opened {
    fn new(recording: &Recording, memory: &Memory) -> Check<Self> {
        let signed = recording.writers.iter().map(|key| (*key, signed(recording, memory, key)));
        let signed = signed.collect();
        let mut sim = Sim::new(65_536);
        let durability = recording.durability.unwrap_or_default();
        sim.parties.push(Party::new(201, memory.clone(), config(durability), sim.now));
        try_open(&mut sim, 0, StoreOptions::default().layout(recording.layout))?;
        Ok(Self { sim, signed })
    }

    /// Compares what is there with what was promised and what was ever written.
    fn look(&mut self, recording: &Recording, mark: &Mark, strict: bool) -> Check<Found> {
        let mut found = Found::new();
        let promise = &mark.promise;
        for info in feeds(&self.sim) {
            let key = info.key;
            let name = &key.to_hex()[..8];
            let truth = recording.truth.get(&key);
            let truth = truth.ok_or(format!("feed {name} was never there"))?;
            if strict && promise.blocked.contains(&key) {
                return Err(format!("feed {name} was kept out and is there again"));
            }
            let load = self.sim.parties[0].node.load(self.sim.now, info.id);
            match self.sim.finish(0, load) {
                Ok(_) => {}
                Err(error) if strict => return Err(format!("feed {name} does not open: {error}")),
                Err(_) => continue,
            }
            let blocks = match read(&mut self.sim, info.id) {
                Ok(blocks) => blocks,
                Err(error) if strict => return Err(format!("feed {name}: {error}")),
                Err(_) => read_around(&mut self.sim, info.id),
            };
            let before = recording.before.as_ref().filter(|_| !strict);
            let before = before.and_then(|before| before.get(&key));
            is_true(name, &blocks, &[truth, before.unwrap_or(truth)])?;
            if strict {
                let loaded = self.sim.parties[0].node.feed(info.id);
                let count = blocks.iter().flatten().count() as u64;
                if loaded.as_ref().map(|info| info.blocks) != Some(count) {
                    return Err(format!("feed {name}: {count} blocks are read of {loaded:?}"));
                }
                kept(name, &blocks, mark, &key)?;
            }
            found.insert(key, blocks);
        }
        let missing = promise.held.keys().find(|key| !found.contains_key(*key));
        match missing.filter(|_| strict) {
            Some(key) => Err(format!("feed {} is lost", &key.to_hex()[..8])),
            None => Ok(found),
        }
    }

    /// Appends to each writer: never in the place of a block that others may know.
    fn go_on(&mut self, recording: &Recording, mark: &Mark, found: &Found, strict: bool) -> Check {
        for info in feeds(&self.sim).into_iter().filter(|info| found.contains_key(&info.key)) {
            let (key, name) = (info.key, &info.key.to_hex()[..8]);
            if !recording.writers.contains(&key) {
                continue;
            }
            let append = vec![Bytes::from_static(b"after the cut")];
            let command = self.sim.parties[0].node.append(self.sim.now, info.id, append);
            match self.sim.finish(0, command) {
                Ok(Outcome::Appended { start, .. }) => {
                    let told = mark.promise.told.get(&key).copied().unwrap_or(0);
                    let signed = self.signed.get(&key).copied().unwrap_or(0);
                    if strict && start < told || start < signed {
                        return Err(format!(
                            "a second block {start} of feed {name} is signed: others know {told}, the files tell {signed}"
                        ));
                    }
                }
                Err(error) if strict => return Err(format!("feed {name}: {error}")),
                other => drop(other),
            }
        }
        Ok(())
    }

    /// Syncs with a peer that has what it was told before the cut.
    fn meet(&mut self, mark: &Mark) -> Check {
        let Some(peer) = &mark.peer else { return Ok(()) };
        let sim = &mut self.sim;
        let b = sim.party(peer.clone());
        let wire = sim.connect(0, b);
        sim.run();
        for end in 0..2 {
            let state = sim.sync_state(wire, end);
            if state != SyncState::InSync {
                return Err(format!("no sync with a peer, end {end}: {state:?}"));
            }
        }
        let (ours, theirs) = (sim.contents(0), sim.contents(b));
        for (key, blocks) in &theirs {
            let key = FeedKey::from_hex(key).map_err(|_| "no key")?;
            if sim.parties[0].node.blocked().any(|blocked| *blocked == key) {
                continue;
            }
            let ours = ours.get(&key.to_hex()).map_or(&[][..], |blocks| blocks);
            let name = &key.to_hex()[..8];
            if ours.len() != blocks.len() {
                return Err(format!("feed {name}: {} and {} blocks", ours.len(), blocks.len()));
            }
            for (at, (here, there)) in ours.iter().zip(blocks).enumerate() {
                // It may be about to be given up.
                let promised = mark.promise.held.get(&key).and_then(|held| held.get(at));
                let given_up = here.is_none() && promised != Some(&true);
                if here != there && !(given_up || there.is_none()) {
                    return Err(format!("feed {name}: block {at} differs after the sync"));
                }
            }
        }
        Ok(())
    }

    /// Ends in order; the files.
    fn close(mut self) -> Check<Memory> {
        let now = self.sim.now;
        let close = self.sim.parties[0].node.close(now);
        self.sim.run();
        if !self.sim.parties[0].results.contains_key(&close) {
            return Err("it does not close".into());
        }
        let mut memory = self.sim.parties[0].disk.memory().clone();
        memory.unlock();
        Ok(memory)
    }
}

fn is_true(name: &str, blocks: &[Option<Vec<u8>>], truths: &[&Vec<Bytes>]) -> Check {
    for (at, block) in blocks.iter().enumerate() {
        let Some(block) = block else { continue };
        let is = |truth: &&Vec<Bytes>| truth.get(at).is_some_and(|truth| truth[..] == block[..]);
        if !truths.iter().any(is) {
            return Err(format!("feed {name}: block {at} was never written"));
        }
    }
    Ok(())
}

fn kept(name: &str, blocks: &[Option<Vec<u8>>], mark: &Mark, key: &FeedKey) -> Check {
    let there = |at: usize| blocks.get(at).is_some_and(Option::is_some);
    let held = mark.promise.held.get(key).map_or(&[][..], |held| held);
    if let Some((at, _)) = held.iter().enumerate().find(|(at, held)| **held && !there(*at)) {
        return Err(format!("feed {name}: block {at} is lost, of {} there", blocks.len()));
    }
    let told = mark.promise.told.get(key).copied().unwrap_or(0);
    if (blocks.len() as u64) < told {
        return Err(format!("feed {name}: {} blocks, {told} were acknowledged", blocks.len()));
    }
    let cleared = mark.promise.cleared.get(key).into_iter().flatten().cloned().flatten();
    match cleared.into_iter().find(|at| there(*at as usize)) {
        Some(at) => Err(format!("feed {name}: block {at} was cleared and is there again")),
        None => Ok(()),
    }
}

/// The length of the longest log of which the files have the signature.
fn signed(recording: &Recording, memory: &Memory, key: &FeedKey) -> u64 {
    let Some(all) = recording.signatures.get(key) else { return 0 };
    let Some(folder) = folder(recording, key) else { return 0 };
    let there = entries(memory, &folder);
    let same = there.iter().zip(all).rposition(|(a, b)| a == b && *a != [0; 64]);
    same.map_or(0, |at| at as u64 + 1)
}

/// The folder of a feed, as the whole recording leaves it.
fn folder(recording: &Recording, key: &FeedKey) -> Option<FilePath> {
    let last = recording.journal.memory();
    let mut keys = last.paths().filter(|path| path.as_str().ends_with("/key"));
    let path = keys.find(|path| last.contents(path).as_deref() == Some(&key.0[..]));
    path.and_then(FilePath::parent)
}

/// The files but for the lock.
pub fn without_lock(memory: &Memory) -> BTreeMap<FilePath, Vec<u8>> {
    let files = memory.paths().filter(|path| path.as_str() != "multifeed.lock");
    files.map(|path| (path.clone(), memory.contents(path).unwrap_or_default())).collect()
}
