//! Edited folders of both layouts: what a node, the check, its repair and a conversion make of them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use multifeed_proto::fuzzing::{Input, Reached};
use multifeed_proto::{FeedKey, RootKey};

use super::damage::{damage, run};
use super::host::{Asked, Host};
use super::prepared::{ROOT, START, prepared};
use super::reached::{convert_error, finding, store_finding};
use super::truth::Truth;
use super::wire;
use crate::check::{Report, StoreCheck, StoreFinding};
use crate::convert::{Convert, ConvertError, Step as ConvertStep};
use crate::storage::{FilePath, Memory};
use crate::{FeedInfo, Layout, NodeConfig, Outcome};

/// One store, damaged, and what is done with it.
///
/// The first byte chooses the store, the second how often it is damaged at first.
pub fn store(data: &[u8], reached: &mut Reached) {
    let mut input = Input::new(data);
    let mut world = World::new(&mut input);
    for _ in 0..1 + input.byte() % 3 {
        world.damage(&mut input);
    }
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 8 {
            0 => world.check(reached),
            1 => world.repair(reached),
            2 | 3 => world.open(Some(&mut input), reached),
            4 => world.sync(reached),
            5 => world.convert(reached),
            _ => world.damage(&mut input),
        }
    }
    world.finish(reached);
}

struct World {
    memory: Memory,
    place: usize,
    truth: Truth,
    /// Files that were damaged.
    damaged: BTreeSet<FilePath>,
    lives: u8,
    serial: u32,
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let place = input.below(4);
        let prepared = prepared();
        let memory = prepared.stores[place].clone();
        let (truth, damaged) = (prepared.truth.clone(), BTreeSet::new());
        Self { memory, place, truth, damaged, lives: 60, serial: 0 }
    }

    fn damage(&mut self, input: &mut Input<'_>) {
        let prepared = prepared();
        let older = &prepared.older[self.place];
        let other = &prepared.stores[(self.place + 2) % 4];
        let Some(path) = damage(&mut self.memory, older, other, input) else { return };
        // What two files of a log say together may be a shorter log that is whole: who could know better?
        let folder = path.parent().unwrap_or(FilePath::root());
        let again = self.damaged.iter().any(|other| other.parent().as_ref() == Some(&folder));
        if again || !is_log_file(&path) {
            self.truth.allow_forks();
        }
        self.damaged.insert(path);
    }

    /// Checks all feeds, which writes nothing but the lock.
    fn check(&mut self, reached: &mut Reached) {
        let before = self.memory.clone();
        let checked = check(&mut self.memory, false, reached);
        assert!(self.has_only_lock(&before), "a check that writes");
        let Some((reports, damaged)) = checked else { return };
        let sound = reports.iter().all(|(report, _)| report.is_sound());
        if !damaged && sound && !reports.is_empty() {
            reached.note("sound");
            self.check_sound(&reports, reached);
        }
    }

    /// What is said to be sound opens, and holds what is said.
    fn check_sound(&self, reports: &[(Report, Report)], reached: &mut Reached) {
        let (memory, lives) = (self.memory.clone(), self.lives);
        let mut host = start(memory, lives);
        let mut truth = self.truth.clone();
        let Some(feeds) = read_all(&mut host, &mut truth, reached) else { return };
        for (report, _) in reports {
            let Some(info) = report.key.and_then(|key| feeds.get(&key)) else { continue };
            let info = info.as_ref().unwrap_or_else(|error| {
                panic!("{} is said to be sound and does not open: {error}", report.folder)
            });
            assert!(info.length >= report.proven, "shorter than it is said to be: {report:?}");
            assert!(info.blocks >= report.sound, "less blocks than it is said: {report:?}");
        }
    }

    /// Repairs until nothing is left to do.
    fn repair(&mut self, reached: &mut Reached) {
        for _ in 0..ROUNDS {
            let before = self.memory.clone();
            let Some((found, _)) = check(&mut self.memory, true, reached) else { return };
            for (was, is) in &found {
                let (was, is) = (was.sound, is.sound);
                assert!(is >= was, "a repair that loses blocks: {is} of {was} are left");
            }
            if self.has_only_lock(&before) {
                return;
            }
        }
        panic!("a repair that comes to no end");
    }

    /// Opens the store, reads all, and perhaps appends.
    fn open(&mut self, input: Option<&mut Input<'_>>, reached: &mut Reached) {
        self.lives = self.lives.wrapping_add(1);
        let mut host = start(self.memory.clone(), self.lives);
        let feeds = read_all(&mut host, &mut self.truth, reached);
        if let (Some(input), true) = (input, feeds.is_some()) {
            for feed in host.feeds() {
                let info = host.node.feed(feed).filter(|info| info.writable);
                let Some(info) = info.filter(|_| input.flag()) else { continue };
                self.serial += 1;
                let block = bytes::Bytes::from(format!("appended {}", self.serial));
                let command = host.node.append(START, feed, vec![block.clone()]);
                host.asked.insert(command, Asked::Append(info.key, vec![block]));
                host.drain(START, 0, &mut self.truth, reached);
            }
        }
        let command = host.node.close(START);
        host.asked.insert(command, Asked::Other);
        host.drain(START, 0, &mut self.truth, reached);
        assert!(host.asked.is_empty(), "never answered: {:?}", host.asked);
        self.memory = host.disk.close();
    }

    /// Syncs with a peer whose store is sound, and stays so.
    fn sync(&mut self, reached: &mut Reached) {
        self.lives = self.lives.wrapping_add(1);
        let peer = prepared().stores[self.place ^ 1].clone();
        let mut hosts = [start(self.memory.clone(), self.lives), start(peer, 200)];
        for host in &mut hosts {
            host.drain(START, 0, &mut self.truth, reached);
        }
        let before = read_all(&mut hosts[1], &mut self.truth, reached);
        let both = [Default::default(), Default::default()];
        let wire = wire::connect(&mut hosts, [0, 1], START, both);
        if let Some(mut wire) = wire {
            let mut now = START;
            for _ in 0..TICKS {
                let mut busy = true;
                while busy {
                    busy = wire.step(&mut hosts, now, usize::MAX);
                    for host in &mut hosts {
                        busy |= host.drain(now, 0, &mut self.truth, reached);
                    }
                }
                let next = hosts.iter().filter_map(|host| host.node.poll_timeout()).min();
                now = now.max(next.unwrap_or(now));
                for host in &mut hosts {
                    host.tick(now);
                }
            }
        }
        let after = read_all(&mut hosts[1], &mut self.truth, reached);
        let (Some(before), Some(after)) = (before, after) else { panic!("the peer has failed") };
        for (key, info) in before {
            let blocks =
                |info: &Result<FeedInfo, String>| info.as_ref().ok().map(|info| info.blocks);
            let (was, is) = (blocks(&info), after.get(&key).and_then(blocks));
            assert!(is >= was, "the peer had {was:?} blocks, and has {is:?}");
        }
        self.memory = hosts[0].disk.close();
    }

    /// Makes a store in the other layout of it.
    fn convert(&mut self, reached: &mut Reached) {
        let to = if self.place < 2 { Layout::Numbered } else { Layout::Corestore };
        let before = self.memory.clone();
        let mut target = Memory::new();
        let result = convert(&mut self.memory, &mut target, to);
        assert!(self.has_only_lock(&before), "a conversion that writes");
        match result {
            Ok(_) => {
                reached.note("converted");
                let mut host = start(target, 99);
                let mut truth = self.truth.clone();
                assert!(read_all(&mut host, &mut truth, reached).is_some(), "it does not open");
            }
            Err(error) => reached.note(convert_error(&error)),
        }
    }

    /// Whether the files are as before, but for the lock.
    fn has_only_lock(&self, before: &Memory) -> bool {
        let files = |memory: &Memory| -> Vec<(FilePath, Option<Vec<u8>>)> {
            let others = memory.paths().filter(|path| path.as_str() != crate::node::LOCK_FILE);
            others.map(|path| (path.clone(), memory.contents(path))).collect()
        };
        files(before) == files(&self.memory)
    }

    /// Repaired, and synced with a sound peer, the store is whole, if nothing but logs was damaged.
    fn finish(mut self, reached: &mut Reached) {
        self.check(reached);
        self.repair(reached);
        self.sync(reached);
        self.repair(reached);
        self.check(reached);
        self.open(None, reached);
        let logs = self.damaged.iter().all(|path| is_log_file(path) && !self.is_list(path));
        if !logs || self.truth.may_fork() {
            return;
        }
        let mut host = start(self.memory.clone(), self.lives.wrapping_add(1));
        let feeds = read_all(&mut host, &mut self.truth, reached);
        let feeds = feeds.expect("a store of which only logs were damaged opens");
        for (key, length) in prepared().held[self.place].iter().filter(|(_, length)| **length > 0) {
            let Some(Ok(info)) = feeds.get(key) else { panic!("{key:?}: {:?}", feeds.get(key)) };
            // What only this store had is lost with its files.
            if prepared().held[self.place ^ 1].contains_key(key) {
                assert!(info.blocks >= *length, "{} of {length} blocks of {key:?}", info.blocks);
            }
        }
        reached.note("whole");
    }

    /// Whether a file belongs to no feed that is replicated.
    fn is_list(&self, path: &FilePath) -> bool {
        let folder = path.parent().unwrap_or(FilePath::root());
        let hexadecimal = folder.as_str().rsplit('/').next().unwrap_or_default().to_string();
        let known = prepared().feeds.iter().any(|key| key.discovery_key().to_hex() == hexadecimal);
        self.place < 2 && !known
    }
}

/// A node on these files, that is being opened.
fn start(memory: Memory, seed: u8) -> Host {
    let mut host = Host::new(seed, memory, NodeConfig::default(), START);
    host.open(START, None, &[ROOT]);
    host
}

type Feeds = BTreeMap<FeedKey, Result<FeedInfo, String>>;

/// Reads all blocks of all feeds; nothing, if the store does not open.
fn read_all(host: &mut Host, truth: &mut Truth, reached: &mut Reached) -> Option<Feeds> {
    host.drain(START, 0, truth, reached);
    host.node.multifeeds().next()?;
    let mut all = Feeds::new();
    for feed in host.feeds() {
        let command = host.node.load(START, feed);
        host.asked.insert(command, Asked::Other);
        host.drain(START, 0, truth, reached);
        let loaded = host.take_answer(command).expect("an answer");
        let info = host.node.feed(feed).expect("it is here");
        if let Err(error) = loaded {
            all.insert(info.key, Err(error.to_string()));
            continue;
        }
        let mut index = 0;
        while index < info.length {
            let command = host.node.read(START, feed, index, u64::MAX, 1 << 16);
            host.asked.insert(command, Asked::Read(info.key, index));
            host.drain(START, 0, truth, reached);
            index += match host.take_answer(command).expect("an answer") {
                Ok(Outcome::Blocks(blocks)) => blocks.len().max(1) as u64,
                _ => 1,
            };
        }
        all.insert(info.key, Ok(info));
    }
    Some(all)
}

/// Checks all feeds: what each was found to be and is like then, and whether the store as a whole is damaged. Nothing, if that is
/// not possible.
fn check(
    memory: &mut Memory,
    repair: bool,
    reached: &mut Reached,
) -> Option<(Vec<(Report, Report)>, bool)> {
    let files = RefCell::new(std::mem::take(memory));
    let mut reports = Vec::new();
    let found = StoreCheck::new(&files, Some(RootKey::new(ROOT))).and_then(|mut check| {
        check.check(repair, |report| {
            report.found.findings.iter().for_each(|found| reached.note(finding(found)));
            reports.push((report.found.clone(), report.last().clone()));
        })
    });
    *memory = files.into_inner();
    match found {
        Ok(found) => {
            found.iter().for_each(|found| reached.note(store_finding(found)));
            Some((reports, found.iter().any(StoreFinding::is_damage)))
        }
        Err(_) => {
            reached.note("check failed");
            None
        }
    }
}

fn convert(from: &mut Memory, target: &mut Memory, to: Layout) -> Result<(), ConvertError> {
    let (mut convert, ops) = Convert::new(RootKey::new(ROOT), to, [9; 32]);
    let mut step = ConvertStep::Read(ops);
    let result = loop {
        let answers = match step {
            ConvertStep::Read(ops) => run(from, ops),
            ConvertStep::Write(ops) => run(target, ops),
            ConvertStep::Done(_) => break Ok(()),
            ConvertStep::Failed(error) => break Err(error),
        };
        step = convert.answered(answers);
    };
    from.unlock();
    target.unlock();
    result
}

fn is_log_file(path: &FilePath) -> bool {
    crate::format::sleep::LOG.iter().any(|name| path.as_str().ends_with(&format!("/{name}")))
}

/// Things that are done with a store.
const STEPS: usize = 6;
/// Rounds of check and repair.
const ROUNDS: usize = 6;
/// Timers that a sync waits for.
const TICKS: usize = 12;
