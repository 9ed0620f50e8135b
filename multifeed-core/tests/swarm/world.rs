//! All hosts and wires under one clock: what happens next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use multifeed_core::storage::BatchId;
use multifeed_core::{CommandId, MultifeedId, Node, StoreOptions};
use multifeed_proto::{Entropy, FeedKey, Now};

use super::Setup;
use super::blocks::Blocks;
use super::disk::{Disk, Speed};
pub use super::due::Due;
use super::host::{Asked, Host, Running};
use super::rng::Rng;
use super::wire::Wire;
use super::writer::Writer;

/// What went wrong.
pub type Check<T = ()> = Result<T, String>;

pub const ROOT: [u8; 32] = [7; 32];
pub const MULTIFEED: MultifeedId = MultifeedId(0);
pub const MILLI: u64 = 1000;
pub const SECOND: u64 = 1_000_000;
/// Outputs and inputs of one node in one second at most.
const MAX_WORK: u64 = 400_000;
/// Lines of the trace that a failure shows.
const SHOWN: usize = 40;

/// Two hosts that stay connected.
pub struct Edge {
    pub hosts: [usize; 2],
    /// A connection is planned.
    pub planned: bool,
}

/// What happened in a run, for its summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub connections: u64,
    pub cuts: u64,
    pub crashes: u64,
    pub restarts: u64,
    pub faults: u64,
    pub blocks: u64,
    pub refused: u64,
    pub in_sync: u64,
    /// Questions that applications were asked.
    pub questions: u64,
    pub answers: u64,
    /// Questions that were left open.
    pub forgotten: u64,
    /// Feeds that were refused in answers.
    pub denied: u64,
    /// Feeds that were allowed later.
    pub allowed: u64,
    /// Times that an application asked for blocks.
    pub wishes: u64,
    /// Such that were answered.
    pub granted: u64,
    /// Times that an application gave blocks up.
    pub clears: u64,
    /// Feeds that hosts refused to the end.
    pub hidden: u64,
    /// Feeds of which hosts have a part in the end.
    pub partial: u64,
    pub steps: u64,
}

pub struct World {
    pub setup: Setup,
    pub now: u64,
    pub rng: Rng,
    pub hosts: Vec<Host>,
    pub wires: Vec<Wire>,
    pub edges: Vec<Edge>,
    pub writers: Vec<Writer>,
    pub by_key: BTreeMap<FeedKey, usize>,
    /// No more faults, no more appends.
    pub calm: bool,
    /// The hostile hosts are gone.
    pub dismissed: bool,
    pub counts: Counts,
    pub recent: VecDeque<String>,
    due: BinaryHeap<Reverse<(u64, u64, Due)>>,
    planned: u64,
    pub trace: DefaultHasher,
}

impl World {
    pub fn empty(setup: Setup) -> Self {
        Self {
            now: SECOND,
            rng: Rng::new(setup.seed),
            setup,
            hosts: Vec::new(),
            wires: Vec::new(),
            edges: Vec::new(),
            writers: Vec::new(),
            by_key: BTreeMap::new(),
            calm: false,
            dismissed: false,
            counts: Counts::default(),
            recent: VecDeque::new(),
            due: BinaryHeap::new(),
            planned: 0,
            trace: DefaultHasher::new(),
        }
    }

    /// A number that two runs share only if all their outputs are the same.
    pub fn trace_hash(&self) -> u64 {
        self.trace.finish()
    }

    pub fn at(&self) -> Now {
        Now(Duration::from_micros(self.now))
    }

    pub fn plan(&mut self, at: u64, due: Due) {
        self.planned += 1;
        self.due.push(Reverse((at.max(self.now), self.planned, due)));
    }

    /// Does what is due next, if that is before `end`; else it is `end`, and nothing is left to do.
    pub fn step(&mut self, end: u64) -> Check<bool> {
        let next = self.due.peek().map(|Reverse((at, ..))| *at);
        if next.is_none_or(|at| at > end) {
            self.now = self.now.max(end);
            return Ok(false);
        }
        let Some(Reverse((at, _, due))) = self.due.pop() else { return Ok(false) };
        self.now = at;
        self.counts.steps += 1;
        match due {
            Due::Timer { host, life } => self.timer(host, life)?,
            Due::Stored { host, life, batch } => self.stored(host, life, batch)?,
            Due::Arrive { wire, from } => {
                self.wires[wire].arrive(from, at);
                self.plan_read(wire, from);
            }
            Due::Read { wire, from } => self.read(wire, from)?,
            Due::Break { wire, end } => self.break_end(wire, end)?,
            Due::Connect { edge } => self.connect(edge)?,
            Due::Append { writer } => self.append(writer)?,
            Due::Writer { writer } => {
                let host = self.writers[writer].host;
                if self.hosts[host].is_ready() {
                    self.open_writer(writer)?;
                    self.drain(host)?;
                }
            }
            Due::Start { host } => self.start(host)?,
            Due::Heal { host } => self.heal(host),
            Due::Whim => self.whim()?,
            Due::Wish { host, life, writer, start, end } => {
                self.wish(host, life, writer, start..end)?
            }
            Due::Clear { host, life, writer, start, end } => {
                self.clear(host, life, writer, start..end)?
            }
            Due::Answer { host, life, question } => self.answer(host, life, question)?,
            Due::Allow { host, life, connection, writer } => {
                self.allow(host, life, connection, writer)?
            }
            Due::Learn { host, writer } => self.learn(host, writer)?,
            Due::Load { host, life, feed } => self.load(host, life, feed)?,
            Due::Chaos => self.chaos()?,
        }
        Ok(true)
    }

    /// Runs to this moment.
    pub fn run_to(&mut self, end: u64) -> Check {
        while self.step(end)? {}
        Ok(())
    }

    pub fn note(&mut self, text: String) {
        let line = format!("{:>10.6} {text}", self.now as f64 / SECOND as f64);
        line.hash(&mut self.trace);
        if self.setup.verbose {
            println!("{line}");
        }
        if self.recent.len() == SHOWN {
            self.recent.pop_front();
        }
        self.recent.push_back(line);
    }

    /// Starts a node on the files of a host.
    pub fn start(&mut self, at: usize) -> Check {
        if self.hosts[at].running.is_some() {
            return Ok(());
        }
        self.note(format!("host {at} starts"));
        let now = self.at();
        let entropy = Entropy::from_seed(self.rng.bytes());
        let host = &mut self.hosts[at];
        host.life += 1;
        host.keys.clear();
        host.lengths.fill(0);
        let speed =
            if self.calm && host.kind.speed == Speed::Slow { Speed::Fast } else { host.kind.speed };
        let mut node = Node::new(host.kind.config.clone(), entropy, now);
        let open = node.open(now, StoreOptions::default().layout(host.kind.layout));
        host.running = Some(Box::new(Running {
            node,
            disk: Disk::new(std::mem::take(&mut host.memory), speed),
            asked: BTreeMap::from([(open, Asked::Open)]),
            wires: BTreeMap::new(),
            timer: None,
            ready: false,
            closing: false,
            closed: false,
            was_unreadable: false,
            changed: false,
            issued: vec![Blocks::default(); self.writers.len()],
            work: (0, 0),
        }));
        self.drain(at)
    }

    pub fn running(&mut self, host: usize) -> Check<&mut Running> {
        self.hosts[host].running.as_deref_mut().ok_or_else(|| format!("host {host} is not running"))
    }

    pub fn running_in(&mut self, host: usize, life: u32) -> Option<&mut Running> {
        let host = &mut self.hosts[host];
        host.running.as_deref_mut().filter(|_| host.life == life)
    }

    /// Gives a node a command.
    pub fn ask(
        &mut self,
        host: usize,
        asked: Asked,
        command: impl FnOnce(&mut Node, Now) -> CommandId,
    ) -> Check<CommandId> {
        let now = self.at();
        let running = self.running(host)?;
        let id = command(&mut running.node, now);
        running.asked.insert(id, asked);
        Ok(id)
    }

    fn timer(&mut self, host: usize, life: u32) -> Check {
        let (now, at) = (self.at(), self.now);
        let Some(running) = self.running_in(host, life) else { return Ok(()) };
        if running.timer != Some(at) {
            return Ok(());
        }
        running.timer = None;
        running.node.handle_timeout(now);
        self.drain(host)?;
        match self.running_in(host, life).and_then(|running| running.node.poll_timeout()) {
            Some(due) if due <= now => Err(format!("host {host}: a timer that fired is still due")),
            _ => Ok(()),
        }
    }

    fn stored(&mut self, host: usize, life: u32, batch: BatchId) -> Check {
        let now = self.at();
        let target = &mut self.hosts[host];
        let Some(running) = target.running.as_deref_mut().filter(|_| target.life == life) else {
            return Ok(());
        };
        if let Some(result) = running.disk.finish(batch, &mut self.rng) {
            running.node.handle_storage(now, result);
        }
        self.drain(host)
    }

    /// Follows the drain rule.
    pub fn drain(&mut self, host: usize) -> Check {
        loop {
            while let Some(output) =
                self.hosts[host].running.as_mut().and_then(|running| running.node.poll_output())
            {
                self.worked(host)?;
                self.output(host, output)?;
            }
            let (now, life) = (self.at(), self.hosts[host].life);
            let Some(running) = self.hosts[host].running.as_deref_mut() else { return Ok(()) };
            if let Some((batch, time)) = running.disk.start(&mut self.rng) {
                if running.disk.speed == Speed::Inline {
                    if let Some(result) = running.disk.finish(batch, &mut self.rng) {
                        running.node.handle_storage(now, result);
                    }
                } else {
                    let at = self.now + time.as_micros() as u64;
                    self.plan(at, Due::Stored { host, life, batch });
                }
            } else if let Some(connection) = running.node.poll_transmit() {
                self.flush(host, connection)?;
            } else {
                break;
            }
        }
        self.tell(host);
        let now = self.now;
        let late = self.rng.magnitude(14);
        let life = self.hosts[host].life;
        let running = self.running(host)?;
        if let Some(due) = running.node.poll_timeout() {
            let due = due.0.as_micros() as u64 + 1;
            if running.timer.is_none_or(|at| at > due + late) {
                let at = due.max(now) + late;
                running.timer = Some(at);
                self.plan(at, Due::Timer { host, life });
            }
        }
        if self.running(host)?.closed {
            self.stop(host);
        }
        Ok(())
    }

    /// Counts what a node does, so that one that never rests is noticed.
    pub fn worked(&mut self, host: usize) -> Check {
        let second = self.now / SECOND;
        let running = self.running(host)?;
        if running.work.0 != second {
            running.work = (second, 0);
        }
        running.work.1 += 1;
        if running.work.1 > MAX_WORK {
            return Err(format!("host {host} does more than {MAX_WORK} things in a second"));
        }
        Ok(())
    }
}
