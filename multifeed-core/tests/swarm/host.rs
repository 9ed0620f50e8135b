//! One node with its disk, and the little that its application does.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use multifeed_core::storage::Memory;
use multifeed_core::{CommandId, ConnectionId, Durability, FeedId, Layout, Node, NodeConfig};
use multifeed_proto::{Config, Dialect, FeedKey};

use super::blocks::{Blocks, Held};
use super::disk::{Disk, Speed};
use super::policy::Rules;
use super::rng::Rng;

/// What a host is for the whole run.
#[derive(Clone, Debug)]
pub struct Kind {
    pub config: NodeConfig,
    pub layout: Layout,
    pub rules: Rules,
    pub speed: Speed,
}

/// What a command was given for.
#[derive(Clone, Copy, Debug)]
pub enum Asked {
    Open,
    Join,
    Writer(usize),
    /// What is in the log behind the acknowledged blocks.
    Tail(usize, FeedId),
    Load(FeedId),
    /// Which blocks from this one on are there.
    Look(usize, FeedId, u64),
    Append(usize),
    /// Blocks that were asked for: the first, and the end.
    Wish(usize, u64, u64),
    /// Blocks that are given up.
    Clear(usize, u64, u64),
    Close,
}

/// A node that runs.
pub struct Running {
    pub node: Node,
    pub disk: Disk,
    pub asked: BTreeMap<CommandId, Asked>,
    pub wires: BTreeMap<ConnectionId, (usize, usize)>,
    pub timer: Option<u64>,
    /// Store and multifeed are open.
    pub ready: bool,
    pub closing: bool,
    pub closed: bool,
    /// Reads failed at some time.
    pub was_unreadable: bool,
    /// Something was stored that peers were not told of yet.
    pub changed: bool,
    /// Blocks of each writer that this node was asked for.
    pub issued: Vec<Blocks>,
    /// Second, and what was done in it.
    pub work: (u64, u64),
}

pub struct Host {
    pub kind: Kind,
    pub running: Option<Box<Running>>,
    /// The files while no node runs.
    pub memory: Memory,
    /// How many nodes have run on this store.
    pub life: u32,
    /// What it is known to have.
    pub held: Held,
    /// What the node before was known to have.
    pub before: Held,
    /// Lengths of the logs when they were opened.
    pub lengths: Vec<u64>,
    /// Writers whose keys the application knows, for a list.
    pub known: BTreeMap<usize, FeedKey>,
    /// Writers whose feeds the application allowed after it had refused them.
    pub decided: BTreeSet<usize>,
    /// Blocks that the application asked for and did not give up since.
    pub wishes: Vec<Blocks>,
    /// Blocks that it gave up, whatever it asked for since.
    pub cleared: Vec<Blocks>,
    /// What it gives up, and has no answer to.
    pub clears: Vec<(usize, Range<u64>)>,
    pub keys: BTreeMap<FeedId, FeedKey>,
}

impl Kind {
    /// `plain`: peers of any dialect can be met.
    pub fn draw(rng: &mut Rng, plain: bool, writers: usize) -> Self {
        let dialect = match rng.within(0..6) {
            0 if !plain => Dialect::Stream,
            1 if !plain => Dialect::RootChannel,
            _ => Dialect::Auto,
        };
        let durability = rng.pick(&[Durability::Process, Durability::Process, Durability::Power]);
        let rules = Rules::draw(rng, writers);
        let config = NodeConfig {
            connection: Config { dialect, ..Config::default() },
            durability,
            max_opening: rng.within(1..8) as usize,
            max_window: rng.within(4..256) as usize,
            max_window_bytes: rng.within(1..32) as usize * 32 * 1024,
            cache_bytes: rng.within(1..16) as usize * 4096,
            max_unstored_bytes: rng.within(1..32) as usize * 32 * 1024,
            max_outbox_bytes: rng.within(1..16) as usize * 16 * 1024,
            max_parked_requests: rng.within(16..512) as usize,
            ..NodeConfig::default()
        };
        Self {
            config,
            layout: rng.pick(&[Layout::Corestore, Layout::Corestore, Layout::Numbered]),
            rules,
            speed: rng.pick(&[Speed::Inline, Speed::Fast, Speed::Fast, Speed::Slow]),
        }
    }

    /// Whether two hosts understand each other.
    pub fn fits(&self, other: &Self) -> bool {
        let [a, b] = [self, other].map(|kind| kind.config.connection.dialect);
        a == b || a == Dialect::Auto || b == Dialect::Auto
    }
}

impl Host {
    pub fn new(kind: Kind, writers: usize) -> Self {
        Self {
            kind,
            running: None,
            memory: Memory::new(),
            life: 0,
            held: vec![None; writers].into(),
            before: vec![None; writers].into(),
            lengths: vec![0; writers],
            known: BTreeMap::new(),
            decided: BTreeSet::new(),
            wishes: vec![Blocks::default(); writers],
            cleared: vec![Blocks::default(); writers],
            clears: Vec::new(),
            keys: BTreeMap::new(),
        }
    }

    /// It knows a writer's feed, and has these blocks of it.
    pub fn hold(&mut self, writer: usize, range: Range<u64>) {
        self.change(writer, |blocks| blocks.insert(range));
    }

    pub fn change(&mut self, writer: usize, change: impl FnOnce(&mut Blocks)) {
        let mut held = self.held.to_vec();
        change(Rc::make_mut(held[writer].get_or_insert_default()));
        self.held = Rc::from(held);
        if let Some(running) = &mut self.running {
            running.changed = true;
        }
    }

    pub fn knows(&self, writer: usize) -> bool {
        self.held[writer].is_some()
    }

    pub fn blocks(&self, writer: usize) -> Blocks {
        self.held[writer].as_deref().cloned().unwrap_or_default()
    }

    /// The blocks of a log of this length that it is to have, as far as they can be had.
    pub fn wants(&self, writer: usize, length: u64) -> Blocks {
        let mut wanted = self.kind.rules.fetches(writer, length).without(&self.cleared[writer]);
        wanted.add(&self.wishes[writer].and(&Blocks::of(0..length)));
        wanted
    }

    /// As [`Self::wants`], without what the node that runs was not asked for yet.
    pub fn wants_now(&self, writer: usize, length: u64) -> Blocks {
        let issued = self.running.as_ref().map(|running| running.issued[writer].clone());
        let later = self.wishes[writer].without(&issued.unwrap_or_default());
        let mut wanted = self.wants(writer, length).without(&later);
        wanted.add(&self.kind.rules.fetches(writer, length).without(&self.cleared[writer]));
        wanted
    }

    /// Whether it may come to have a block of a log that was known to have at least this length.
    pub fn may_have(&self, writer: usize, block: u64, length: u64) -> bool {
        let taken = self.kind.rules.may_fetch(writer, block, length);
        let given_up = self.cleared[writer].contains(block);
        taken && (!given_up || self.is_clearing(writer, &(block..block + 1)))
            || self.wishes[writer].contains(block)
    }

    /// Whether blocks are being given up.
    pub fn is_clearing(&self, writer: usize, blocks: &Range<u64>) -> bool {
        self.clears
            .iter()
            .any(|(at, run)| *at == writer && run.start < blocks.end && blocks.start < run.end)
    }

    pub fn is_ready(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.ready && !running.closing)
    }
}
