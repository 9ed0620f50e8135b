//! What each command must do with a store of which one file is damaged.
//!
//! In short: what is not damaged is there, nothing false is given to anybody, reading writes nothing, nothing is
//! signed twice; what `verify` calls sound is; and a repair and a sync with a sound peer bring all back. A feed
//! that is damaged may be refused, and so may the whole store where a file that all feeds share is.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use multifeed_core::check::StoreFinding;
use multifeed_core::convert::{Convert, Step};
use multifeed_core::storage::{Batch, BatchId, FilePath, Memory};
use multifeed_core::{Layout, Outcome};
use multifeed_proto::{FeedKey, RootKey};

use super::damage::{Kind, World};
use super::judge::{Check, Found};
use super::rules::{Store, contents, short};
use super::util::{FIRST, ROOT};
use super::verify::verified;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Command {
    Feeds,
    Cat,
    Append,
    Sync,
    Verify,
    Repair,
    Convert,
}

pub const COMMANDS: [Command; 7] = [
    Command::Feeds,
    Command::Cat,
    Command::Append,
    Command::Sync,
    Command::Verify,
    Command::Repair,
    Command::Convert,
];

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Feeds => "feeds",
            Self::Cat => "cat",
            Self::Append => "append",
            Self::Sync => "sync",
            Self::Verify => "verify",
            Self::Repair => "repair",
            Self::Convert => "convert",
        })
    }
}

/// One file damaged in one way.
pub struct Case<'a> {
    pub world: &'a World,
    pub file: &'a FilePath,
    pub kind: Kind,
    pub memory: Memory,
    /// Feeds that the damage reaches; `None`: maybe all.
    pub touched: Option<BTreeSet<FeedKey>>,
}

impl<'a> Case<'a> {
    /// `None` if damage of this kind changes nothing of the file.
    pub fn new(world: &'a World, file: &'a FilePath, kind: Kind) -> Option<Self> {
        let memory = world.damaged(file, kind)?;
        Some(Self { world, file, kind, memory, touched: world.touched(file, kind) })
    }

    /// Judges one command.
    ///
    /// # Errors
    ///
    /// What it does wrong.
    pub fn judge(&self, command: Command) -> Check {
        match command {
            Command::Feeds => self.feeds(),
            Command::Cat => self.cat(),
            Command::Append => self.append(),
            Command::Sync => self.sync(),
            Command::Verify => self.verify(),
            Command::Repair => self.repair(),
            Command::Convert => self.convert(),
        }
    }

    fn feeds(&self) -> Check {
        let Some(mut store) = self.open_to_read()? else { return Ok(()) };
        self.expected_feeds(&mut store)?;
        self.unchanged(&store.sim.parties[0].disk.memory().clone())
    }

    fn cat(&self) -> Check {
        let Some(mut store) = self.open_to_read()? else { return Ok(()) };
        let found = store.read_all()?;
        self.is_true(&found)?;
        self.has_intact(&found)?;
        self.unchanged(&store.sim.parties[0].disk.memory().clone())
    }

    fn append(&self) -> Check {
        let Some(mut store) = self.open(&self.memory)? else { return Ok(()) };
        self.append_to_all(&mut store)?;
        let after = store.memory();
        let again = self.open(&after)?.ok_or("it does not open after an append")?.read_all()?;
        self.has_intact(&again)?;
        self.nothing_lost(&after)
    }

    /// The blocks that can be read before anything is done.
    fn readable(&self) -> Found {
        let Ok(mut store) = self.open_any(&self.memory) else { return Found::new() };
        let mut found = store.read_all().unwrap_or_default();
        for (key, blocks) in &mut found {
            let truth = self.world.truth.get(key).map_or(&[][..], |truth| truth);
            for (at, block) in blocks.iter_mut().enumerate() {
                let right = |block: &Vec<u8>| truth.get(at).is_some_and(|t| t[..] == block[..]);
                *block = block.take().filter(right);
            }
        }
        found
    }

    /// Appends to each writer by its name.
    pub fn append_to_all(&self, store: &mut Store) -> Check {
        for (key, name) in &self.world.writers {
            let writer = store.sim.parties[0].node.writer(store.sim.now, FIRST, Some(name), None);
            let feed = match store.sim.finish(0, writer) {
                Ok(Outcome::Feed(feed)) => feed,
                other if self.is_intact(key) => return Err(format!("writer {name}: {other:?}")),
                _ => continue,
            };
            let found = store.sim.parties[0].node.feed(feed).ok_or("no feed")?.key;
            if found != *key && self.takes_names() {
                continue;
            }
            if found != *key {
                return Err(format!("writer {name} is begun anew as another feed"));
            }
            let append = vec![Bytes::from_static(b"appended")];
            let command = store.sim.parties[0].node.append(store.sim.now, feed, append);
            let length = self.world.truth[key].len() as u64;
            match store.sim.finish(0, command) {
                Ok(Outcome::Appended { start, .. }) if start == length => {}
                Ok(other) => return Err(format!("writer {name} of {length} blocks: {other:?}")),
                Err(error) if self.is_intact(key) => {
                    return Err(format!("writer {name}: {error}"));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn sync(&self) -> Check {
        let Some(mut store) = self.open(&self.memory)? else { return Ok(()) };
        let (peer, empty) =
            (store.sim.party(self.world.peer.clone()), store.sim.party(Memory::new()));
        let wires = [store.sim.connect(0, empty), store.sim.connect(0, peer)];
        store.sim.pass(Duration::from_secs(90));
        for wire in wires {
            if (0..2).any(|end| {
                let (party, id) = store.sim.wires[wire].ends[end];
                store.sim.parties[party].node.is_closed(id)
            }) {
                return Err("a connection ended".into());
            }
        }
        let told = contents(&mut store.sim, empty)?;
        let there = contents(&mut store.sim, peer)?;
        let ours = store.read_all()?;
        for found in [&ours, &told, &there] {
            self.is_true(found)?;
        }
        self.has_intact(&ours).map_err(|error| format!("here: {error}"))?;
        self.has_intact(&told).map_err(|error| format!("at a peer: {error}"))?;
        for (key, blocks) in &self.world.truth {
            let held = there.get(key).map_or(0, |blocks| blocks.iter().flatten().count());
            if held != blocks.len() {
                return Err(format!("the sound peer has {held} blocks of {}", short(key)));
            }
        }
        self.nothing_lost(&store.memory())
    }

    fn verify(&self) -> Check {
        let (verdict, after) = verified(&self.memory, false)?;
        self.unchanged(&after)?;
        self.intact_are_sound(&verdict)?;
        if !verdict.is_sound() {
            return Ok(());
        }
        // What is sound opens, can be read, and is what it was once it has synced.
        let mut store = self.open_any(&self.memory).map_err(|e| format!("sound, but: {e}"))?;
        let found = store.read_all().map_err(|e| format!("sound, but: {e}"))?;
        self.is_true(&found)?;
        self.becomes_whole(&self.memory, false).map_err(|e| format!("sound, but: {e}"))
    }

    fn repair(&self) -> Check {
        let before = self.readable();
        let (verdict, mut after) = verified(&self.memory, true)?;
        self.intact_are_sound(&verdict)?;
        if verdict.findings.contains(&StoreFinding::BlockedList) {
            // Nothing tells which feed it was: whoever keeps feeds out decides.
            return Ok(());
        }
        let mut store = self.open_any(&after).map_err(|e| format!("after the repair: {e}"))?;
        let found = store.read_all().map_err(|e| format!("after the repair: {e}"))?;
        self.is_true(&found)?;
        self.has_intact(&found)?;
        for (key, blocks) in &before {
            for (at, block) in blocks.iter().enumerate() {
                let kept = found.get(key).and_then(|blocks| blocks.get(at)?.as_ref());
                if block.is_some() && kept.is_none() {
                    return Err(format!("the repair loses block {at} of {}", short(key)));
                }
            }
        }
        if self.kind == Kind::Denied {
            after.set_denied(None);
        }
        self.becomes_whole(&after, true)
    }

    fn convert(&self) -> Check {
        let to = if self.world.layout == Layout::Corestore {
            Layout::Numbered
        } else {
            Layout::Corestore
        };
        let (mut source, mut target) = (self.memory.clone(), Memory::new());
        let done = converted(&mut source, &mut target, to);
        self.unchanged(&source)?;
        if done.is_err() {
            return Ok(());
        }
        let before = self.readable();
        let mut store = self.open_any(&target).map_err(|e| format!("the new store: {e}"))?;
        let found = store.read_all().map_err(|e| format!("the new store: {e}"))?;
        self.is_true(&found)?;
        self.has_intact(&found)?;
        for (key, blocks) in &before {
            let kept = found.get(key).map_or(0, |blocks| blocks.iter().flatten().count());
            if kept < blocks.iter().flatten().count() {
                return Err(format!("blocks of {} are left behind", short(key)));
            }
        }
        self.append_to_all(&mut store).map_err(|e| format!("in the new store: {e}"))
    }
}

fn converted(source: &mut Memory, target: &mut Memory, to: Layout) -> Check {
    let (mut convert, ops) = Convert::new(RootKey::new(ROOT), to, [9; 32]);
    let (mut step, mut number) = (Step::Read(ops), 0);
    loop {
        number += 1;
        let batch = |ops| Batch { id: BatchId(number), after: None, ops };
        let answers = match step {
            Step::Read(ops) => source.execute(&batch(ops)).answers,
            Step::Write(ops) => target.execute(&batch(ops)).answers,
            Step::Done(_) => return Ok(()),
            Step::Failed(error) => return Err(error.to_string()),
        };
        step = convert.answered(answers);
    }
}
