//! Records what a node asks of its storage, with what was promised and told to others meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use multifeed_core::format::sleep;
use multifeed_core::storage::{FilePath, Journal, Memory};
use multifeed_core::{Durability, Event, FeedId, Layout, NodeConfig, Outcome, StoreOptions};
use multifeed_proto::{FeedKey, RootKey};

use super::scenarios::Scenario;
use super::util::{FIRST, Party, ROOT, Sim};

/// The blocks that were ever signed, by feed.
pub type Truth = BTreeMap<FeedKey, Vec<Bytes>>;

/// What was promised and told at one moment.
#[derive(Clone, Default)]
pub struct Promise {
    /// Blocks that are to be there; a feed without any is to be listed.
    pub held: BTreeMap<FeedKey, Vec<bool>>,
    /// Lengths of local logs of which others may know.
    pub told: BTreeMap<FeedKey, u64>,
    /// Blocks that are given up.
    pub cleared: BTreeMap<FeedKey, Vec<Range<u64>>>,
    /// Feeds that are kept out.
    pub blocked: BTreeSet<FeedKey>,
}

/// The promise once so many effects had happened.
pub struct Mark {
    pub effects: usize,
    pub promise: Promise,
    /// The store of the peer.
    pub peer: Option<Memory>,
}

/// All that happened to the files of one store.
pub struct Recording {
    pub scenario: Scenario,
    pub layout: Layout,
    /// `None` where all is synced in any case.
    pub durability: Option<Durability>,
    pub journal: Journal,
    /// Effects that are not cut: they only prepare the store.
    pub from: usize,
    pub truth: Truth,
    /// Local writers.
    pub writers: BTreeSet<FeedKey>,
    pub marks: Vec<Mark>,
    /// What was signed and told to nobody before the store was opened.
    pub before: Option<Truth>,
    /// Signatures of the local writers, by length.
    pub signatures: BTreeMap<FeedKey, Vec<[u8; 64]>>,
}

impl Recording {
    /// What was promised when this many effects had happened.
    pub fn promised(&self, effects: usize) -> &Mark {
        let before = self.marks.iter().rev().find(|mark| mark.effects <= effects);
        before.unwrap_or(&self.marks[0])
    }
}

/// A node whose storage requests are recorded, and a peer.
pub struct Recorder {
    pub sim: Sim,
    pub at: usize,
    pub peer: Option<usize>,
    pub truth: Truth,
    pub writers: BTreeSet<FeedKey>,
    pub promise: Promise,
    marks: Vec<Mark>,
    seen: usize,
    layout: Layout,
    durability: Durability,
    from: usize,
}

pub fn config(durability: Durability) -> NodeConfig {
    NodeConfig { durability, ..NodeConfig::default() }
}

impl Recorder {
    /// A node with an empty store.
    pub fn new(layout: Layout, config: NodeConfig) -> Self {
        Self::on(Journal::default(), 1, layout, config)
    }

    /// A node that goes on with these files; its keys are drawn from `seed`.
    pub fn on(journal: Journal, seed: u8, layout: Layout, config: NodeConfig) -> Self {
        let (mut sim, durability) = (Sim::new(400), config.durability);
        let from = journal.effects().len();
        let party = Party::new(seed, Memory::new(), config, sim.now);
        sim.parties.push(Party { disk: journal, ..party });
        let mut recorder = Self {
            sim,
            at: 0,
            peer: None,
            truth: Truth::new(),
            writers: BTreeSet::new(),
            promise: Promise::default(),
            marks: Vec::new(),
            seen: 0,
            layout,
            durability,
            from,
        };
        recorder.mark();
        recorder
    }

    pub fn open(&mut self) {
        self.sim.open(self.at, StoreOptions::default().layout(self.layout));
        self.mark();
    }

    /// Adds the peer, with these files.
    pub fn peer_on(&mut self, memory: Memory) -> usize {
        let at = self.sim.parties.len();
        self.sim.parties.push(Party::new(90, memory, NodeConfig::default(), self.sim.now));
        self.sim.open(at, StoreOptions::default());
        self.peer = Some(at);
        at
    }

    pub fn connect(&mut self) -> usize {
        let peer = self.peer.expect("there is a peer");
        let wire = self.sim.connect(self.at, peer);
        self.run();
        wire
    }

    /// From here on cuts are made.
    pub fn begin(&mut self) {
        self.mark();
        self.from = self.effects();
    }

    pub fn effects(&self) -> usize {
        self.sim.parties[self.at].disk.effects().len()
    }

    pub fn key(&self, feed: FeedId) -> FeedKey {
        self.sim.parties[self.at].node.feed(feed).expect("a feed").key
    }

    /// A local writer, which from here on is to be listed.
    pub fn writer(&mut self, name: &str) -> FeedId {
        let feed = self.sim.writer(self.at, name);
        let key = self.key(feed);
        self.writers.insert(key);
        self.truth.entry(key).or_default();
        self.promise.held.entry(key).or_default();
        self.run();
        feed
    }

    /// Appends blocks of these sizes to a local writer.
    pub fn append(&mut self, feed: FeedId, sizes: &[usize]) {
        let key = self.key(feed);
        let blocks = grow(&mut self.truth, key, sizes);
        self.sim.append_all(self.at, feed, blocks);
        let length = self.truth[&key].len();
        self.promise.held.entry(key).or_default().resize(length, true);
        self.promise.told.insert(key, length as u64);
        self.run();
    }

    /// Has the peer append to a writer of its own.
    pub fn append_there(&mut self, name: &str, sizes: &[usize]) -> FeedKey {
        let peer = self.peer.expect("there is a peer");
        let feed = self.sim.writer(peer, name);
        let key = self.sim.parties[peer].node.feed(feed).expect("a feed").key;
        let blocks = grow(&mut self.truth, key, sizes);
        self.sim.append_all(peer, feed, blocks);
        self.run();
        key
    }

    pub fn find(&self, key: &FeedKey) -> FeedId {
        self.sim.parties[self.at].node.find(key).expect("the feed is here")
    }

    /// Gives blocks up.
    pub fn clear(&mut self, feed: FeedId, blocks: Range<u64>) {
        let key = self.key(feed);
        let held = self.promise.held.entry(key).or_default();
        for block in blocks.clone() {
            if let Some(held) = held.get_mut(block as usize) {
                *held = false;
            }
        }
        self.mark();
        let command = self.sim.parties[self.at].node.clear(self.sim.now, feed, blocks.clone());
        assert_eq!(self.sim.finish(self.at, command), Ok(Outcome::Cleared));
        self.promise.cleared.entry(key).or_default().push(blocks);
        self.run();
    }

    /// Keeps a feed out.
    pub fn block(&mut self, key: FeedKey) {
        self.promise.held.remove(&key);
        self.mark();
        let command = self.sim.parties[self.at].node.block(self.sim.now, key);
        assert_eq!(self.sim.finish(self.at, command), Ok(Outcome::Blocked));
        self.promise.blocked.insert(key);
        self.run();
    }

    /// Runs all until nothing moves, with a mark after every step.
    pub fn run(&mut self) {
        self.mark();
        while self.sim.step() {
            self.mark();
        }
    }

    /// Remembers what is promised now.
    pub fn mark(&mut self) {
        let party = &self.sim.parties[self.at];
        for event in &party.events[self.seen..] {
            if let Event::Downloaded { feed, start, length } = event {
                let Some(info) = party.node.feed(*feed) else { continue };
                let held = self.promise.held.entry(info.key).or_default();
                let end = (start + length) as usize;
                held.resize(held.len().max(end), false);
                held[*start as usize..end].fill(true);
            }
        }
        self.seen = party.events.len();
        let effects = party.disk.effects().len();
        let peer = self.peer.map(|peer| self.sim.parties[peer].disk.memory().clone());
        if self.marks.last().is_some_and(|mark| mark.effects == effects) {
            self.marks.pop();
        }
        self.marks.push(Mark { effects, promise: self.promise.clone(), peer });
    }

    pub fn finish(mut self, scenario: Scenario) -> Recording {
        self.mark();
        let disk = &self.sim.parties[self.at].disk;
        let of = |key: &FeedKey| (*key, signatures(disk.memory(), key));
        let signatures = self.writers.iter().map(of).collect();
        Recording {
            scenario,
            layout: self.layout,
            durability: Some(self.durability),
            journal: disk.killed_after(disk.effects().len()),
            from: self.from,
            truth: self.truth,
            writers: self.writers,
            marks: self.marks,
            before: None,
            signatures,
        }
    }
}

/// All entries of a feed's file of signatures; none if it is not there.
pub fn signatures(memory: &Memory, key: &FeedKey) -> Vec<[u8; 64]> {
    let mut keys = memory.paths().filter(|path| path.as_str().ends_with("/key"));
    let path = keys.find(|path| memory.contents(path).as_deref() == Some(&key.0[..]));
    let Some(folder) = path.and_then(FilePath::parent) else { return Vec::new() };
    entries(memory, &folder)
}

/// The entries of the file of signatures in a folder.
pub fn entries(memory: &Memory, folder: &FilePath) -> Vec<[u8; 64]> {
    let file = memory.contents(&folder.join(sleep::SIGNATURES)).unwrap_or_default();
    let entries = file.get(sleep::HEADER_BYTES..).unwrap_or_default().chunks_exact(64);
    entries.filter_map(|entry| <[u8; 64]>::try_from(entry).ok()).collect()
}

/// The next blocks of a feed.
fn grow(truth: &mut Truth, key: FeedKey, sizes: &[usize]) -> Vec<Bytes> {
    let all = truth.entry(key).or_default();
    let from = all.len();
    for (at, size) in sizes.iter().enumerate() {
        all.push(block(&key, from + at, *size));
    }
    all[from..].to_vec()
}

/// Block `index` of a feed, unlike any other unless it is empty.
pub fn block(key: &FeedKey, index: usize, size: usize) -> Bytes {
    let text = format!("{index} of {} ", &key.to_hex()[..8]);
    Bytes::from(text.bytes().cycle().take(size).collect::<Vec<u8>>())
}

/// Opens the store of a party; joins the multifeed of [`ROOT`].
///
/// # Errors
///
/// What the node says.
pub fn try_open(sim: &mut Sim, at: usize, options: StoreOptions) -> Result<(), String> {
    let open = sim.parties[at].node.open(sim.now, options);
    sim.finish(at, open).map_err(|error| format!("it does not open: {error}"))?;
    let join = sim.parties[at].node.join(sim.now, RootKey::new(ROOT));
    match sim.finish(at, join) {
        Ok(Outcome::Joined(FIRST)) => Ok(()),
        other => Err(format!("its feeds cannot be read: {other:?}")),
    }
}
