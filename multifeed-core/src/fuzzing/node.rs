//! Two nodes that keep to the rules, liars between and beside them, and disks that fail.

use std::collections::BTreeSet;
use std::time::Duration;

use multifeed_proto::fuzzing::script::Script;
use multifeed_proto::fuzzing::{Input, Reached, small_config};
use multifeed_proto::{Dialect, FeedKey, Now};

use super::commands::connect_options;
use super::host::Host;
use super::liar::Liar;
use super::prepared::{OTHER_ROOT, ROOT, START, prepared};
use super::truth::Truth;
use super::wire::{self, Wire};
use crate::{Durability, NodeConfig};

/// Two hosts, the wires between them, liars.
///
/// The first bytes choose stores, limits, durability and what is joined; see `World::new`.
pub fn node(data: &[u8], reached: &mut Reached) {
    let mut input = Input::new(data);
    let mut world = World::new(&mut input);
    world.rest(reached);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input, reached);
        world.drain(reached);
    }
    world.finish(reached);
}

/// Makes what is made once.
pub fn prepare() {
    prepared();
}

pub(super) struct World {
    pub(super) hosts: Vec<Host>,
    pub(super) wires: Vec<Wire>,
    pub(super) liars: Vec<Liar>,
    pub(super) now: Now,
    pub(super) truth: Truth,
    /// Which batch is executed next.
    pub(super) pick: u8,
    /// Feeds of which blocks were given up, or that were kept out, by any host.
    pub(super) gone: BTreeSet<FeedKey>,
    pub(super) roots: [Vec<[u8; 32]>; 2],
    /// Numbers the blocks that are appended.
    pub(super) serial: u32,
    /// The stores are opened once more at the end.
    pub(super) thorough: bool,
    /// The store may be full of the liars' feeds.
    pub(super) crowded: bool,
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let (mode, stores, more) = (input.byte(), input.byte(), input.byte());
        let prepared = prepared();
        let crowded = mode & 0x30 == 0x30;
        let mut hosts = Vec::new();
        let mut roots = [vec![ROOT], vec![ROOT]];
        for (at, roots) in roots.iter_mut().enumerate() {
            let store = usize::from(stores >> (4 * at) & 15) % prepared.stores.len();
            let config = config(mode, more >> at & 1 == 1, crowded);
            let mut host = Host::new(40 + at as u8, prepared.stores[store].clone(), config, START);
            host.acknowledged = prepared.lengths[store].clone();
            if more >> (2 + at) & 1 == 1 {
                roots.push(OTHER_ROOT);
            }
            host.open(START, None, roots);
            hosts.push(host);
        }
        Self {
            hosts,
            wires: Vec::new(),
            liars: Vec::new(),
            now: START,
            truth: prepared.truth.clone(),
            pick: 0,
            gone: BTreeSet::new(),
            roots,
            serial: 0,
            thorough: more & 0xc0 == 0,
            crowded,
        }
    }

    fn step(&mut self, input: &mut Input<'_>, reached: &mut Reached) {
        match input.byte() {
            0..=59 => self.rest(reached),
            60..=84 => {
                let chunk = usize::from(input.byte()) * 4 + 1;
                self.move_bytes(chunk);
            }
            85..=134 => self.lie(input, reached),
            135..=184 => self.command(input, reached),
            185..=199 => self.pass(input, reached),
            200..=211 => self.disturb(input),
            212..=219 => {
                let place = input.below(self.wires.len().max(1));
                let (what, at) = (input.byte(), input.short());
                if let Some(wire) = self.wires.get_mut(place) {
                    wire.tamper(usize::from(what >> 7), what, at, input.bytes());
                }
            }
            220..=231 => self.join_hosts(input),
            232..=236 => {
                let place = input.below(self.wires.len().max(1));
                if let Some(wire) = self.wires.get_mut(place) {
                    wire.cut(&mut self.hosts, self.now);
                }
            }
            237..=244 => {
                let mode = input.byte();
                let at = usize::from(mode & 1);
                if mode & 2 == 0 {
                    self.restart(at, Some(input));
                } else {
                    self.restart(at, None);
                }
            }
            245..=250 => self.new_liar(input),
            251 => {
                if !self.liars.is_empty() {
                    let place = input.below(self.liars.len());
                    let liar = self.liars.swap_remove(place);
                    liar.leave(&mut self.hosts, self.now, input.flag());
                }
            }
            _ => self.pick = input.byte(),
        }
    }

    /// Lets all do what they have to do; whether anybody had.
    pub(super) fn drain(&mut self, reached: &mut Reached) -> bool {
        let mut busy = false;
        for host in &mut self.hosts {
            busy |= host.drain(self.now, self.pick, &mut self.truth, reached);
            while host.node.poll_transmit().is_some() {}
            host.answers.clear();
        }
        busy
    }

    fn move_bytes(&mut self, chunk: usize) -> bool {
        let mut busy = false;
        for wire in &mut self.wires {
            busy |= wire.step(&mut self.hosts, self.now, chunk);
        }
        for liar in &mut self.liars {
            busy |= liar.read(&mut self.hosts, self.now);
        }
        busy
    }

    /// Runs until nothing moves.
    pub(super) fn rest(&mut self, reached: &mut Reached) {
        for _ in 0..ROUNDS {
            if !(self.drain(reached) | self.move_bytes(1 << 16)) {
                return;
            }
        }
        panic!("no rest");
    }

    fn pass(&mut self, input: &mut Input<'_>, reached: &mut Reached) {
        let mode = input.byte();
        let span = Duration::from_millis(u64::from(mode >> 2) * 700);
        let end = self.now.after(span);
        for _ in 0..1 + usize::from(mode & 3) * 20 {
            if !self.tick(end) {
                break;
            }
            self.rest(reached);
        }
    }

    /// Lets time pass to the next timer; `false` if there is none up to `end`.
    pub(super) fn tick(&mut self, end: Now) -> bool {
        let next = self.hosts.iter().filter_map(|host| host.node.poll_timeout()).min();
        let Some(at) = next.filter(|at| *at <= end) else {
            self.now = self.now.max(end);
            return false;
        };
        self.now = self.now.max(at);
        for host in &mut self.hosts {
            host.tick(self.now);
        }
        true
    }

    fn lie(&mut self, input: &mut Input<'_>, reached: &mut Reached) {
        if self.liars.is_empty() {
            self.new_liar(input);
        }
        let mode = input.byte();
        let place = usize::from(mode >> 4) % self.liars.len().max(1);
        let Some(liar) = self.liars.get_mut(place) else { return };
        for _ in 0..1 + mode % 4 {
            liar.speak(&mut self.hosts, self.now, input);
            liar.read(&mut self.hosts, self.now);
        }
        self.drain(reached);
    }

    fn new_liar(&mut self, input: &mut Input<'_>) {
        if self.liars.len() >= LIARS {
            return;
        }
        let mode = input.byte();
        let prepared = prepared();
        let roots = if mode & 16 == 0 { vec![ROOT, OTHER_ROOT] } else { vec![OTHER_ROOT] };
        let forked = usize::from(mode >> 5 & 1);
        let mut feeds = vec![prepared.lies[0].key.public()];
        feeds.extend(&prepared.feeds);
        let mut script = Script::new(roots, feeds);
        script.truth.clone_from(&prepared.answers[forked]);
        if forked == 1 {
            // Whoever has what was signed first is right, and so is who has the other.
            self.truth.fork(&prepared.lies[0].key.public());
            self.gone.insert(prepared.lies[0].key.public());
        }
        let options = connect_options(input, &prepared.feeds);
        let host = usize::from(mode >> 6 & 1);
        let liar = Liar::connect(&mut self.hosts, host, self.now, options, script, mode);
        self.liars.extend(liar);
    }

    fn join_hosts(&mut self, input: &mut Input<'_>) {
        if self.wires.iter().filter(|wire| !wire.cut).count() >= WIRES {
            return;
        }
        let feeds = &prepared().feeds;
        let options = [connect_options(input, feeds), connect_options(input, feeds)];
        self.wires.extend(wire::connect(&mut self.hosts, [0, 1], self.now, options));
    }

    fn disturb(&mut self, input: &mut Input<'_>) {
        let (mode, changes) = (input.byte(), input.byte());
        let disk = &mut self.hosts[usize::from(mode & 1)].disk;
        match mode >> 1 & 7 {
            0 | 1 => disk.break_after(changes, mode >> 4),
            2 => disk.unreadable = Some(["/data", "/tree", "/bitfield"][usize::from(changes) % 3]),
            3 | 4 => disk.held = true,
            _ => disk.heal(),
        }
    }

    /// Ends a node at once, or in order, and starts it again on what is left of its files.
    pub(super) fn restart(&mut self, at: usize, crash: Option<&mut Input<'_>>) {
        for wire in &mut self.wires {
            wire.cut |= wire.ends.iter().any(|(host, _)| *host == at);
        }
        self.wires.retain(|wire| !wire.cut);
        self.liars.retain(|liar| liar.host != at);
        let crashed = crash.is_some();
        let host = self.hosts.remove(at);
        // Without a crash all that was written is there, and nothing is due.
        let mut host = if crashed || host.disk.is_idle() {
            host.restart(self.now, crash)
        } else {
            host.restart(self.now, Some(&mut Input::new(&[])))
        };
        host.open(self.now, None, &self.roots[at]);
        self.hosts.insert(at, host);
    }
}

fn config(mode: u8, power: bool, crowded: bool) -> NodeConfig {
    let dialect = [Dialect::Auto, Dialect::RootChannel, Dialect::Stream, Dialect::Auto];
    let dialect = dialect[usize::from(mode & 3)];
    let durability = if power { Durability::Power } else { Durability::Process };
    let sparse = mode & 4 != 0;
    let max_feeds = if crowded { 12 } else { 400 };
    if mode & 8 == 0 {
        let connection = multifeed_proto::Config { dialect, ..Default::default() };
        return NodeConfig { connection, durability, sparse, max_feeds, ..NodeConfig::default() };
    }
    NodeConfig {
        connection: small_config(dialect),
        durability,
        sparse,
        upload_events: true,
        max_feeds,
        max_block: 700,
        cache_bytes: 8192,
        max_opening: 2,
        max_window: 8,
        max_window_bytes: 1000,
        // More than honest peers can have in flight.
        max_held_bytes: 4096,
        max_unstored_bytes: 2000,
        max_outbox_bytes: 2000,
        max_parked_requests: 8,
        ..NodeConfig::default()
    }
}

/// Steps of one input.
const STEPS: usize = 200;
/// Liars at the same time.
const LIARS: usize = 3;
/// Wires between the hosts at the same time.
const WIRES: usize = 2;
/// Rounds in which everything must have come to rest.
const ROUNDS: usize = 100_000;
