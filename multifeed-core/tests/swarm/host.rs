//! One node with its disk, and the little that its application does.

use std::collections::BTreeMap;
use std::rc::Rc;

use multifeed_core::storage::Memory;
use multifeed_core::{CommandId, ConnectionId, Durability, FeedId, Layout, Node, NodeConfig};
use multifeed_proto::{Config, Dialect, FeedKey};

use super::disk::{Disk, Speed};
use super::policy::Policy;
use super::rng::Rng;
use super::wire::Held;

/// What a host is for the whole run.
#[derive(Clone, Debug)]
pub struct Kind {
    pub config: NodeConfig,
    pub layout: Layout,
    pub policy: Policy,
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
    Append(usize),
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
    pub held: Held,
    /// What the node before was known to hold.
    pub before: Held,
    pub keys: BTreeMap<FeedId, FeedKey>,
}

impl Kind {
    /// `plain`: peers of any dialect can be met.
    pub fn draw(rng: &mut Rng, plain: bool) -> Self {
        let dialect = match rng.within(0..6) {
            0 if !plain => Dialect::Stream,
            1 if !plain => Dialect::RootChannel,
            _ => Dialect::Auto,
        };
        let durability = rng.pick(&[Durability::Process, Durability::Process, Durability::Power]);
        let policy = Policy::draw(rng);
        let mut config = NodeConfig {
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
        policy.configure(&mut config);
        Self {
            config,
            layout: rng.pick(&[Layout::Corestore, Layout::Corestore, Layout::Numbered]),
            policy,
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
            held: vec![0; writers].into(),
            before: vec![0; writers].into(),
            keys: BTreeMap::new(),
        }
    }

    /// It has so many blocks of a writer's feed, and 1.
    pub fn hold(&mut self, writer: usize, count: u64) {
        let mut held = self.held.to_vec();
        held[writer] = held[writer].max(count);
        self.held = Rc::from(held);
        if let Some(running) = &mut self.running {
            running.changed = true;
        }
    }

    pub fn is_ready(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.ready && !running.closing)
    }
}
