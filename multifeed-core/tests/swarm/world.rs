//! All hosts and wires under one clock: what happens next, and what each node asks for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use multifeed_core::storage::{BatchId, Op};
use multifeed_core::{
    CommandId, ConnectionId, Event, MultifeedId, Node, NodeError, Outcome, Output, StoreOptions,
};
use multifeed_proto::{Entropy, FeedKey, Now, PeerError, Role, RootKey};

use super::Setup;
use super::disk::{Disk, Speed};
use super::host::{Asked, Host, Running};
use super::rng::Rng;
use super::wire::{End, Profile, Wire};
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

/// Something that is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    Timer {
        host: usize,
        life: u32,
    },
    Stored {
        host: usize,
        life: u32,
        batch: BatchId,
    },
    Arrive {
        wire: usize,
        from: usize,
    },
    Read {
        wire: usize,
        from: usize,
    },
    /// The stream of one end fails.
    Break {
        wire: usize,
        end: usize,
    },
    Connect {
        edge: usize,
    },
    Append {
        writer: usize,
    },
    /// A writer is to be opened, if it is not.
    Writer {
        writer: usize,
    },
    Start {
        host: usize,
    },
    Heal {
        host: usize,
    },
    Chaos,
}

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
    pub counts: Counts,
    pub recent: VecDeque<String>,
    due: BinaryHeap<Reverse<(u64, u64, Due)>>,
    planned: u64,
    trace: DefaultHasher,
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
        let speed =
            if self.calm && host.kind.speed == Speed::Slow { Speed::Fast } else { host.kind.speed };
        let mut node = Node::new(host.kind.config.clone(), entropy, now);
        let open = node.open(StoreOptions::default().layout(host.kind.layout));
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
            work: (0, 0),
        }));
        self.drain(at)
    }

    pub fn running(&mut self, host: usize) -> Check<&mut Running> {
        self.hosts[host].running.as_deref_mut().ok_or_else(|| format!("host {host} is not running"))
    }

    fn running_in(&mut self, host: usize, life: u32) -> Option<&mut Running> {
        let host = &mut self.hosts[host];
        host.running.as_deref_mut().filter(|_| host.life == life)
    }

    /// Gives a node a command.
    pub fn ask(
        &mut self,
        host: usize,
        asked: Asked,
        command: impl FnOnce(&mut Node) -> CommandId,
    ) -> Check<CommandId> {
        let running = self.running(host)?;
        let id = command(&mut running.node);
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
    fn worked(&mut self, host: usize) -> Check {
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

    fn output(&mut self, host: usize, output: Output) -> Check {
        match output {
            Output::Storage(batch) => {
                (host, batch.id, batch.after).hash(&mut self.trace);
                for op in &batch.ops {
                    (op.doing(), op.path().as_str()).hash(&mut self.trace);
                    if let Op::Write { offset, data, .. } = op {
                        (offset, &data[..]).hash(&mut self.trace);
                    }
                }
                let running = self.running(host)?;
                running.disk.submit(batch);
                self.check_unwritten(host)
            }
            Output::Completed { command, result } => {
                let asked = self.running(host)?.asked.remove(&command);
                let Some(asked) = asked else {
                    return Err(format!("host {host}: {command:?} was answered twice"));
                };
                self.completed(host, command, asked, result)
            }
            Output::Event(event) => self.event(host, event),
            _ => Ok(()),
        }
    }

    fn completed(
        &mut self,
        host: usize,
        command: CommandId,
        asked: Asked,
        result: Result<Outcome, NodeError>,
    ) -> Check {
        match (asked, result) {
            (Asked::Open, Ok(Outcome::Opened)) => {
                self.ask(host, Asked::Join, |node| node.join(RootKey::new(ROOT)))?;
            }
            (Asked::Join, Ok(Outcome::Joined(MULTIFEED))) => {
                let running = self.running(host)?;
                running.ready = true;
                let feeds: Vec<_> = running.node.feeds(MULTIFEED).collect();
                self.joined(host, &feeds)?;
            }
            (Asked::Load(feed), Ok(_)) => self.loaded(host, feed)?,
            (Asked::Writer(writer), Ok(Outcome::Feed(feed))) => {
                self.writer_open(host, writer, feed)?
            }
            (Asked::Tail(writer, feed), Ok(Outcome::Blocks(tail))) => {
                let length = self.writers[writer].blocks.len() as u64 + tail.len() as u64;
                self.writers[writer].found(length, tail)?;
                self.writers[writer].feed = Some(feed);
            }
            (Asked::Append(writer), Ok(Outcome::Appended { start, length })) => {
                self.writers[writer].appended(command, start, length)?;
            }
            (Asked::Append(writer), Err(error)) => {
                self.note(format!("host {host}: append of writer {writer} failed: {error}"));
                self.counts.refused += 1;
                self.writers[writer].refused(command);
                // What became of it is known when the feed is open again.
                self.writers[writer].feed = None;
                self.plan(self.now + SECOND, Due::Writer { writer });
            }
            (Asked::Close, Ok(Outcome::Closed)) => self.running(host)?.closed = true,
            // The disk is full: the host gives up and tries again later.
            (Asked::Open | Asked::Join, Err(error)) => {
                if self.calm {
                    return Err(format!("host {host}: {asked:?}: {error}"));
                }
                self.note(format!("host {host} does not open: {error}"));
                self.running(host)?.closed = true;
                let at = self.now + SECOND;
                self.plan(at, Due::Start { host });
            }
            (Asked::Writer(writer) | Asked::Tail(writer, _), Err(error)) => {
                self.note(format!("host {host}: {asked:?}: {error}"));
                self.plan(self.now + SECOND, Due::Writer { writer });
            }
            (Asked::Load(_), Err(error)) => self.note(format!("host {host}: {asked:?}: {error}")),
            (_, result) => return Err(format!("host {host}: {asked:?} gave {result:?}")),
        }
        Ok(())
    }

    fn event(&mut self, host: usize, event: Event) -> Check {
        if self.setup.verbose || !matches!(event, Event::Downloaded { .. } | Event::Appended { .. })
        {
            let text = format!("{event:?}");
            let end = text.char_indices().nth(160).map_or(text.len(), |(at, _)| at);
            self.note(format!("host {host}: {}", &text[..end]));
        }
        match event {
            Event::FeedAdded { feed, .. } => {
                let info = self.running(host)?.node.feed(feed);
                let Some(info) = info else { return Err(format!("host {host}: no {feed:?}")) };
                self.hosts[host].keys.insert(feed, info.key);
                if let Some(&writer) = self.by_key.get(&info.key) {
                    self.hosts[host].hold(writer, 1);
                }
            }
            Event::Appended { feed, start, length } | Event::Downloaded { feed, start, length } => {
                (host, feed, start, length).hash(&mut self.trace);
                let key = self.hosts[host].keys.get(&feed).copied();
                let writer = key.and_then(|key| self.by_key.get(&key)).copied();
                let Some(writer) = writer else {
                    return Err(format!("host {host} has blocks of a feed that nobody writes"));
                };
                let stored = self.running(host)?.node.feed(feed).map_or(0, |feed| feed.blocks);
                self.hosts[host].hold(writer, stored + 1);
                if matches!(event, Event::Downloaded { .. }) {
                    self.writers[writer].got_out(start + length)?;
                }
                self.counts.blocks += length;
            }
            Event::InSync { connection } => self.in_sync(host, connection)?,
            Event::Closed { connection, error, unsent, .. } => {
                self.ended(host, connection, error, &unsent)?;
            }
            Event::StorageFailed { error: ref failed, .. }
            | Event::FeedFailed { error: ref failed, .. }
                if matches!(failed, NodeError::Damaged { .. } | NodeError::Store { .. }) =>
            {
                return Err(format!("host {host}: {event:?}"));
            }
            _ => {}
        }
        Ok(())
    }

    /// A connection of a host is over.
    fn ended(
        &mut self,
        host: usize,
        connection: ConnectionId,
        error: Option<PeerError>,
        unsent: &[u8],
    ) -> Check {
        let Some((wire, end)) = self.running(host)?.wires.remove(&connection) else {
            return Err(format!("host {host}: a connection that is not known was closed"));
        };
        // Only a stream that broke excuses a peer.
        let broken = self.wires[wire].cut || self.wires[wire].ends[1 - end].over;
        match error {
            None => {}
            Some(
                PeerError::Silent
                | PeerError::Truncated
                | PeerError::HandshakeTimeout
                | PeerError::MultifeedTimeout,
            ) if broken => {}
            Some(error) => {
                return Err(format!(
                    "host {host}: wire {wire}: the peer is said to be wrong: {error}"
                ));
            }
        }
        let now = self.now;
        let this = &mut self.wires[wire];
        this.ends[end].over = true;
        if !this.cut
            && this.room(end) >= unsent.len()
            && !unsent.is_empty()
            && !this.flow[end].ended
        {
            let at = this.send(end, now, unsent);
            self.plan(at, Due::Arrive { wire, from: end });
        }
        self.end_stream(wire, end);
        let edge = self.wires[wire].edge;
        self.plan_connection(edge);
        Ok(())
    }

    pub fn end_stream(&mut self, wire: usize, end: usize) {
        if let Some(at) = self.wires[wire].end(end, self.now) {
            self.plan(at, Due::Arrive { wire, from: end });
        }
    }

    /// Plans a connection between two hosts that have none.
    pub fn plan_connection(&mut self, edge: usize) {
        if !std::mem::replace(&mut self.edges[edge].planned, true) {
            let at = self.now + 5 * MILLI + self.rng.magnitude(22);
            self.plan(at, Due::Connect { edge });
        }
    }

    fn connect(&mut self, edge: usize) -> Check {
        self.edges[edge].planned = false;
        let mut hosts = self.edges[edge].hosts;
        let live = self
            .wires
            .iter()
            .any(|wire| wire.edge == edge && !wire.cut && wire.ends.iter().all(|end| !end.over));
        if live && (self.calm || !self.rng.chance(5)) {
            return Ok(());
        }
        if !hosts.iter().all(|host| self.hosts[*host].is_ready()) {
            self.plan_connection(edge);
            return Ok(());
        }
        self.rng.shuffle(&mut hosts);
        let (now, wire) = (self.at(), self.wires.len());
        let mut ends = Vec::new();
        for (end, role) in [Role::Initiator, Role::Responder].into_iter().enumerate() {
            let host = hosts[end];
            let running = self.running(host)?;
            let Some(connection) = running.node.connect(now, role) else {
                return Err(format!("host {host} is ready and makes no connection"));
            };
            running.wires.insert(connection, (wire, end));
            running.changed = true;
            ends.push(End { host, connection, over: false });
        }
        self.note(format!("wire {wire} joins {} and {}", hosts[0], hosts[1]));
        let profile = Profile::draw(&mut self.rng);
        let mut made = Wire::new(edge, [ends[0], ends[1]], profile);
        if !self.calm && self.rng.chance(15) {
            made.flow[self.rng.index(2)].cut_after = Some(self.rng.magnitude(16));
        }
        self.wires.push(made);
        self.counts.connections += 1;
        self.drain(hosts[0])?;
        self.drain(hosts[1])
    }

    /// Moves what a node has for a peer into the socket.
    pub fn flush(&mut self, host: usize, connection: ConnectionId) -> Check {
        self.worked(host)?;
        let Some(&(wire, end)) = self.running(host)?.wires.get(&connection) else { return Ok(()) };
        let (at, now) = (self.at(), self.now);
        // Blocks stop at the limit; the last one, and control messages, may go beyond it.
        let limit = self.hosts[host].kind.config.max_outbox_bytes + 1024 * 1024;
        let Some(running) = self.hosts[host].running.as_deref_mut() else { return Ok(()) };
        let this = &mut self.wires[wire];
        let bytes = running.node.transmit(connection);
        if bytes.len() > limit {
            return Err(format!(
                "host {host} has {} bytes for one peer, {limit} allowed",
                bytes.len()
            ));
        }
        let room = if this.cut { bytes.len() } else { this.room(end) };
        let count = bytes.len().min(room);
        if count > 0 {
            (host, connection, &bytes[..count]).hash(&mut self.trace);
            // Into nothing, if it is cut: TCP takes it, too, for a while.
            let due = (!this.cut).then(|| this.send(end, now, &bytes[..count]));
            running.node.transmitted(at, connection, count);
            if let Some(due) = due {
                self.plan(due, Due::Arrive { wire, from: end });
            }
        }
        let Some(running) = self.hosts[host].running.as_deref_mut() else { return Ok(()) };
        let done = running.node.transmit(connection).is_empty();
        if done && running.node.is_shut_down(connection) {
            self.end_stream(wire, end);
        }
        self.plan_read(wire, 1 - end);
        Ok(())
    }

    /// Plans to read what `from` has sent, if the other end wants to.
    fn plan_read(&mut self, wire: usize, from: usize) {
        let this = &mut self.wires[wire];
        let to = this.ends[1 - from];
        let flow = &mut this.flow[from];
        let some = !flow.unread.is_empty() || flow.end_arrived && !flow.end_told;
        if flow.reading || this.cut || to.over || !some {
            return;
        }
        let running = self.hosts[to.host].running.as_deref();
        if running.is_some_and(|running| running.node.wants_read(to.connection)) {
            flow.reading = true;
            let at = self.now + self.rng.within(0..20);
            self.plan(at, Due::Read { wire, from });
        }
    }

    fn read(&mut self, wire: usize, from: usize) -> Check {
        let now = self.at();
        let this = &mut self.wires[wire];
        this.flow[from].reading = false;
        let to = this.ends[1 - from];
        if this.cut || to.over {
            return Ok(());
        }
        let running = self.hosts[to.host].running.as_deref_mut();
        let Some(running) = running.filter(|running| running.node.wants_read(to.connection)) else {
            return Ok(());
        };
        let bytes = this.read(from, &mut self.rng);
        if !bytes.is_empty() {
            running.node.handle_bytes(now, to.connection, &bytes);
        } else if this.flow[from].end_arrived && !this.flow[from].end_told {
            this.flow[from].end_told = true;
            running.node.handle_eof(now, to.connection);
        }
        self.worked(to.host)?;
        self.drain(to.host)?;
        if self.wires[wire].is_due(from) {
            return self.cut(wire);
        }
        // There is room in the sender's socket.
        let End { host, connection, over } = self.wires[wire].ends[from];
        if !over && self.hosts[host].running.is_some() {
            self.flush(host, connection)?;
            self.drain(host)?;
        }
        self.plan_read(wire, from);
        Ok(())
    }

    fn break_end(&mut self, wire: usize, end: usize) -> Check {
        let now = self.at();
        let End { host, connection, over } = self.wires[wire].ends[end];
        if over || self.hosts[host].running.is_none() {
            return Ok(());
        }
        self.running(host)?.node.abort(now, connection);
        self.drain(host)
    }

    /// Notes for each wire what a host has told its peers by now.
    fn tell(&mut self, host: usize) {
        let Host { running, held, .. } = &mut self.hosts[host];
        let Some(running) = running else { return };
        if !std::mem::take(&mut running.changed) {
            return;
        }
        for (connection, (wire, end)) in &running.wires {
            if self.wires[*wire].cut {
                continue;
            }
            let queued = running.node.transmit(*connection).len();
            self.wires[*wire].tell(*end, queued, held);
        }
    }

    fn append(&mut self, writer: usize) -> Check {
        let host = self.writers[writer].host;
        let (feed, busy) = (self.writers[writer].feed, self.writers[writer].pending.len() > 4);
        if let (Some(feed), true, false) = (feed, self.hosts[host].is_ready(), busy) {
            let blocks = self.writers[writer].draw(&mut self.rng);
            let given = blocks.clone();
            let command = self.ask(host, Asked::Append(writer), |node| node.append(feed, given))?;
            self.writers[writer].pending.push_back((command, blocks));
            self.drain(host)?;
        }
        if !self.calm {
            let at = self.now + self.rng.within(100 * MILLI..4 * SECOND);
            self.plan(at, Due::Append { writer });
        }
        Ok(())
    }
}
