//! What the commands have in common: what is expected of feeds that are intact, of all that is read, of what is
//! written, and of a store that has been repaired.

use std::collections::BTreeMap;
use std::time::Duration;

use multifeed_core::storage::Memory;
use multifeed_core::{Durability, StoreOptions};
use multifeed_proto::FeedKey;

use super::commands::Case;
use super::judge::{Check, Found, read, read_around, without_lock};
use super::record::{config, try_open};
use super::util::{FIRST, Party, Sim};
use super::verify::{Verdict, verified};

impl Case<'_> {
    pub fn is_intact(&self, key: &FeedKey) -> bool {
        self.touched.as_ref().is_some_and(|touched| !touched.contains(key))
    }

    /// After a sync with a sound peer all blocks are there, all writers go on, and the store is sound.
    pub fn becomes_whole(&self, memory: &Memory, checked: bool) -> Check {
        let mut store = self.open_any(memory)?;
        let peer = store.sim.party(self.world.peer.clone());
        store.sim.connect(0, peer);
        store.sim.pass(Duration::from_secs(90));
        let found = store.read_all()?;
        self.is_true(&found)?;
        for (key, blocks) in self.world.truth.iter().filter(|(key, _)| !self.may_be_gone(key)) {
            let there = found.get(key).map_or(&[][..], |blocks| blocks);
            let whole = |at: usize| there.get(at).is_some_and(Option::is_some);
            let held = &self.world.held[key];
            let missing = (0..blocks.len()).find(|at| held.get(*at) == Some(&true) && !whole(*at));
            if let Some(at) = missing {
                return Err(format!("block {at} of {} does not come back", short(key)));
            }
        }
        if !self.takes_secrets() {
            for (key, name) in &self.world.writers {
                let id = store.sim.parties[0].node.find(key).ok_or("a writer is gone")?;
                if !store.sim.parties[0].node.feed(id).is_some_and(|info| info.writable) {
                    return Err(format!("writer {name} stays read-only"));
                }
            }
        }
        self.append_to_all(&mut store)
            .or_else(|e| if self.takes_secrets() { Ok(()) } else { Err(e) })?;
        let memory = store.memory();
        let (last, _) = verified(&memory, false)?;
        if checked && !last.is_sound() && !self.takes_secrets() {
            return Err(format!("it is not sound in the end: {}", last.says()));
        }
        Ok(())
    }

    /// Whether the damage takes the only place where a writer's name is.
    pub fn takes_names(&self) -> bool {
        self.file.as_str().ends_with("/localname")
    }

    /// The feed that is kept out is not fetched.
    pub fn may_be_gone(&self, key: &FeedKey) -> bool {
        *key == self.world.blocked
    }

    /// Whether the damage takes what no other file tells.
    pub fn takes_secrets(&self) -> bool {
        let name = self.file.as_str().rsplit('/').next();
        matches!(name, Some("secret_key" | "master_key"))
    }

    /// Opens a store; `None` where it may be refused.
    pub fn open(&self, memory: &Memory) -> Check<Option<Store>> {
        match self.open_any(memory) {
            Ok(store) => Ok(Some(store)),
            Err(_) if self.touched.is_none() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the damaged store as commands that read do.
    pub fn open_to_read(&self) -> Check<Option<Store>> {
        match self.open_with(&self.memory, StoreOptions::default().read_only(true)) {
            Ok(store) => Ok(Some(store)),
            Err(_) if self.touched.is_none() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn open_any(&self, memory: &Memory) -> Check<Store> {
        self.open_with(memory, StoreOptions::default())
    }

    fn open_with(&self, memory: &Memory, options: StoreOptions) -> Check<Store> {
        let mut sim = Sim::new(65_536);
        sim.parties.push(Party::new(201, memory.clone(), config(Durability::Process), sim.now));
        try_open(&mut sim, 0, options)?;
        Ok(Store { sim })
    }

    pub fn expected_feeds(&self, store: &mut Store) -> Check {
        let mut seen = BTreeMap::new();
        for info in store.sim.parties[0].node.feeds(FIRST).collect::<Vec<_>>() {
            let load = store.sim.parties[0].node.load(store.sim.now, info.id);
            let opened = store.sim.finish(0, load).is_ok();
            // Where nothing else tells the key, it is shown as a damaged feed.
            if opened && !self.world.truth.contains_key(&info.key) {
                return Err(format!("feed {} was never there", short(&info.key)));
            }
            if opened {
                let length = store.sim.parties[0].node.feed(info.id).map(|info| info.length);
                seen.insert(info.key, length);
            }
        }
        for (key, held) in &self.world.held {
            if self.is_intact(key) && seen.get(key) != Some(&Some(held.len() as u64)) {
                return Err(format!("feed {}: {:?} listed", short(key), seen.get(key)));
            }
        }
        Ok(())
    }

    pub fn is_true(&self, found: &Found) -> Check {
        for (key, blocks) in found {
            let truth = self.world.truth.get(key);
            let truth = truth.ok_or(format!("feed {} was never there", short(key)))?;
            for (at, block) in blocks.iter().enumerate() {
                let Some(block) = block else { continue };
                let right = truth.get(at).is_some_and(|truth| truth[..] == block[..]);
                if !right && &block[..] != b"appended" {
                    return Err(format!("block {at} of {} is not what it was", short(key)));
                }
            }
        }
        Ok(())
    }

    pub fn has_intact(&self, found: &Found) -> Check {
        for (key, held) in self.world.held.iter().filter(|(key, _)| self.is_intact(key)) {
            has(found, key, held)?;
        }
        Ok(())
    }

    pub fn intact_are_sound(&self, verdict: &Verdict) -> Check {
        for key in self.world.held.keys().filter(|key| self.is_intact(key)) {
            let folder = self.world.folder_of(key).ok_or("no folder")?;
            let report = verdict.reports.iter().find(|r| r.last().folder == folder.as_str());
            if !report.is_some_and(|report| report.last().is_sound()) {
                return Err(format!(
                    "verify does not call {} sound: {}",
                    short(key),
                    verdict.says()
                ));
            }
        }
        Ok(())
    }

    /// Reading has changed nothing.
    pub fn unchanged(&self, after: &Memory) -> Check {
        let (before, after) = (without_lock(&self.memory), without_lock(after));
        let other =
            before.keys().chain(after.keys()).find(|path| before.get(*path) != after.get(*path));
        other.map_or(Ok(()), |path| Err(format!("{path} was written to")))
    }

    /// With the damaged file put back all is there that was.
    pub fn nothing_lost(&self, after: &Memory) -> Check {
        let memory = self.world.restored(after, self.file, self.kind);
        let mut store = self.open_any(&memory).map_err(|e| format!("with the file back: {e}"))?;
        let found = store.read_all().map_err(|e| format!("with the file back: {e}"))?;
        for (key, held) in &self.world.held {
            has(&found, key, held).map_err(|e| format!("with the file back: {e}"))?;
        }
        Ok(())
    }
}

fn has(found: &Found, key: &FeedKey, held: &[bool]) -> Check {
    let blocks = found.get(key).ok_or(format!("feed {} is not there", short(key)))?;
    let there = |at: usize| blocks.get(at).is_some_and(Option::is_some);
    match held.iter().enumerate().find(|(at, held)| **held && !there(*at)) {
        Some((at, _)) => Err(format!("block {at} of {} is not there", short(key))),
        None => Ok(()),
    }
}

/// A store that is open.
pub struct Store {
    pub sim: Sim,
}

impl Store {
    /// All blocks that are given; a feed or block that is refused with an error counts as not there.
    pub fn read_all(&mut self) -> Check<Found> {
        let mut found = Found::new();
        for info in self.sim.parties[0].node.feeds(FIRST).collect::<Vec<_>>() {
            let load = self.sim.parties[0].node.load(self.sim.now, info.id);
            if self.sim.finish(0, load).is_ok() {
                let blocks = read(&mut self.sim, info.id);
                let blocks = blocks.unwrap_or_else(|_| read_around(&mut self.sim, info.id));
                found.insert(info.key, blocks);
            }
        }
        Ok(found)
    }

    pub fn memory(&self) -> Memory {
        let mut memory = self.sim.parties[0].disk.memory().clone();
        memory.unlock();
        memory
    }
}

pub fn contents(sim: &mut Sim, at: usize) -> Check<Found> {
    let contents = sim.contents(at).into_iter();
    let by_key = |(key, blocks): (String, _)| Some((FeedKey::from_hex(&key).ok()?, blocks));
    contents.map(by_key).collect::<Option<Found>>().ok_or_else(|| "no key".into())
}

pub fn short(key: &FeedKey) -> String {
    key.to_hex()[..8].to_owned()
}
