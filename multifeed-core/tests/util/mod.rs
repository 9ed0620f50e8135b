//! Nodes joined by wires under a virtual clock, each on a store in memory.
#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

pub mod liar;
pub mod raider;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use multifeed_core::storage::{
    Batch, BatchId, BatchResult, FilePath, Journal, Memory, Op, StorageErrorKind,
};
use multifeed_core::{
    CommandId, ConnectOptions, ConnectionId, Event, FeedId, FeedInfo, Layout, MultifeedId, Node,
    NodeConfig, NodeError, Outcome, Output, ReplicationOptions, StoreOptions, SyncState,
};
use multifeed_proto::{Entropy, Now, Role, RootKey};

pub const ROOT: [u8; 32] = [7; 32];

/// The multifeed of [`ROOT`], which every party joins first.
pub const FIRST: MultifeedId = MultifeedId(0);

/// One node with its store.
pub struct Party {
    pub node: Node,
    pub disk: Journal,
    pub events: Vec<Event>,
    pub results: BTreeMap<CommandId, Result<Outcome, NodeError>>,
    /// Batches that wait while the disk is held.
    pub waiting: VecDeque<Batch>,
    pub disk_held: bool,
    /// Reads of files of this name fail, so many batches of them.
    pub unreadable: Option<(&'static str, u32)>,
    /// All outputs of the node in their order, where a test wants them.
    pub recorded: Option<Vec<Output>>,
}

/// One direction of a connection.
#[derive(Default)]
struct Direction {
    bytes: VecDeque<u8>,
    /// The moment up to which what moved used the rate up.
    paid: Now,
    ended: bool,
    eof_told: bool,
}

/// A connection between two parties.
pub struct Wire {
    pub ends: [(usize, ConnectionId); 2],
    flow: [Direction; 2],
    pub cut: bool,
    pub moved: [u64; 2],
    /// Cut when this many bytes went in the direction 0 → 1 or 1 → 0.
    pub cut_after: [Option<u64>; 2],
    /// All bytes sent in each direction, where a test wants them.
    pub recorded: Option<[Vec<u8>; 2]>,
    /// Bytes that move at a time in each direction, instead of [`Sim::chunk`].
    pub chunk: [Option<usize>; 2],
    /// Bytes that move in a second in each direction; as many as there are, unless it is said.
    pub rate: [Option<u64>; 2],
    /// Bytes of each direction that may be on the way: what the sockets in between take.
    pub room: usize,
}

/// Nodes and wires.
pub struct Sim {
    pub now: Now,
    pub parties: Vec<Party>,
    pub wires: Vec<Wire>,
    /// Bytes that move at a time, and after which the nodes are drained.
    pub chunk: usize,
    /// Bytes of them that a node is handed in one call.
    pub piece: usize,
}

impl Wire {
    /// Whether bytes are on their way that wait for their time.
    fn is_busy(&self) -> bool {
        (0..2).any(|from| self.rate[from].is_some() && !self.flow[from].bytes.is_empty())
    }
}

impl Direction {
    /// Bytes that may move by now, at so many a second; notes that they do.
    fn allowed(&mut self, now: Now, rate: Option<u64>) -> usize {
        let Some(rate) = rate else { return usize::MAX };
        let bytes = now.since(self.paid).as_millis() as u64 * rate / 1000;
        let bytes = bytes.min(self.bytes.len() as u64);
        if bytes > 0 {
            self.paid = self.paid.after(Duration::from_nanos(bytes * 1_000_000_000 / rate));
        }
        bytes as usize
    }
}

impl Party {
    pub fn new(seed: u8, memory: Memory, config: NodeConfig, now: Now) -> Self {
        let node = Node::new(config, Entropy::from_seed([seed; 32]), now);
        Self {
            node,
            disk: Journal::new(memory),
            events: Vec::new(),
            results: BTreeMap::new(),
            waiting: VecDeque::new(),
            disk_held: false,
            unreadable: None,
            recorded: None,
        }
    }

    /// Follows the drain rule once; whether anything happened.
    pub fn drain(&mut self, now: Now) -> bool {
        let mut busy = false;
        loop {
            while let Some(output) = self.node.poll_output() {
                busy = true;
                if let Some(recorded) = &mut self.recorded {
                    recorded.push(output.clone());
                }
                match output {
                    Output::Storage(batch) => self.waiting.push_back(batch),
                    Output::Completed { command, result } => {
                        assert!(self.results.insert(command, result).is_none(), "answered twice");
                    }
                    Output::Event(event) => self.events.push(event),
                    _ => {}
                }
            }
            if self.disk_held {
                return busy;
            }
            let Some(batch) = self.waiting.pop_front() else { return busy };
            let result = self.execute(&batch);
            self.node.handle_storage(now, result);
        }
    }
}

impl Party {
    /// Cuts a file behind the node's back.
    pub fn cut(&mut self, path: &FilePath, len: u64) {
        let ops = vec![Op::Truncate { path: path.clone(), len }];
        self.disk.execute(&Batch { id: BatchId(u64::MAX), after: None, ops });
    }

    fn execute(&mut self, batch: &Batch) -> BatchResult {
        let hit =
            |op: &Op, name| matches!(op, Op::Read { path, .. } if path.as_str().ends_with(name));
        match &mut self.unreadable {
            Some((name, times)) if *times > 0 && batch.ops.iter().any(|op| hit(op, *name)) => {
                *times -= 1;
                let error = |op: &Op| op.error(StorageErrorKind::Io("broken".into()));
                let answers = batch.ops.iter().map(|op| Err(error(op))).collect();
                BatchResult { id: batch.id, answers }
            }
            _ => self.disk.execute(batch),
        }
    }
}

impl Sim {
    pub fn new(chunk: usize) -> Self {
        let (parties, wires) = (Vec::new(), Vec::new());
        Self { now: Now(Duration::from_secs(1)), parties, wires, chunk, piece: usize::MAX }
    }

    /// Adds a party with an open store on `memory`.
    pub fn party(&mut self, memory: Memory) -> usize {
        self.party_with(memory, NodeConfig::default())
    }

    pub fn party_with(&mut self, memory: Memory, config: NodeConfig) -> usize {
        let at = self.parties.len();
        let seed = (1 + at as u8).wrapping_add((memory.paths().count() as u8).wrapping_mul(17));
        self.parties.push(Party::new(seed, memory, config, self.now));
        self.open(at, StoreOptions::default());
        at
    }

    /// A party that goes on with the files of another that is no more.
    pub fn party_on(&mut self, disk: Journal, config: NodeConfig) -> usize {
        let at = self.parties.len();
        // Draws what no party before it did.
        let seed = 200 + at as u8;
        self.parties.push(Party { disk, ..Party::new(seed, Memory::new(), config, self.now) });
        self.open(at, StoreOptions::default());
        at
    }

    /// A party with its store in this layout.
    pub fn party_in(&mut self, memory: Memory, layout: Layout, config: NodeConfig) -> usize {
        let at = self.parties.len();
        let seed = (1 + at as u8).wrapping_add((memory.paths().count() as u8).wrapping_mul(17));
        self.parties.push(Party::new(seed, memory, config, self.now));
        self.open(at, StoreOptions::default().layout(layout));
        at
    }

    /// A party with an open store that has joined no multifeed.
    pub fn unjoined(&mut self, memory: Memory) -> usize {
        let at = self.parties.len();
        self.parties.push(Party::new(1 + at as u8, memory, NodeConfig::default(), self.now));
        let open = self.parties[at].node.open(self.now, StoreOptions::default());
        assert_eq!(self.finish(at, open), Ok(Outcome::Opened));
        at
    }

    /// A feed by its corestore name.
    pub fn named(&mut self, at: usize, name: &str) -> FeedId {
        let command = self.parties[at].node.named(self.now, name);
        match self.finish(at, command) {
            Ok(Outcome::Feed(feed)) => feed,
            other => panic!("not opened: {other:?}"),
        }
    }

    /// Opens the store of a party and joins the multifeed of [`ROOT`].
    pub fn open(&mut self, at: usize, options: StoreOptions) {
        let open = self.parties[at].node.open(self.now, options);
        assert_eq!(self.finish(at, open), Ok(Outcome::Opened));
        assert_eq!(self.join(at, ROOT), FIRST);
    }

    pub fn join(&mut self, at: usize, root: [u8; 32]) -> MultifeedId {
        let command = self.parties[at].node.join(self.now, RootKey::new(root));
        match self.finish(at, command) {
            Ok(Outcome::Joined(multifeed)) => multifeed,
            other => panic!("not joined: {other:?}"),
        }
    }

    /// Runs one party until a command is answered, without any wire.
    pub fn finish(&mut self, at: usize, command: CommandId) -> Result<Outcome, NodeError> {
        let now = self.now;
        self.parties[at].drain(now);
        self.parties[at].results.remove(&command).expect("the command was not answered")
    }

    pub fn writer(&mut self, at: usize, name: &str) -> FeedId {
        self.writer_of(at, FIRST, name)
    }

    pub fn writer_of(&mut self, at: usize, multifeed: MultifeedId, name: &str) -> FeedId {
        let command = self.parties[at].node.writer(self.now, multifeed, Some(name), None);
        match self.finish(at, command) {
            Ok(Outcome::Feed(feed)) => feed,
            other => panic!("no writer: {other:?}"),
        }
    }

    pub fn append(&mut self, at: usize, feed: FeedId, blocks: &[&[u8]]) {
        let blocks: Vec<Bytes> = blocks.iter().map(|block| Bytes::copy_from_slice(block)).collect();
        self.append_all(at, feed, blocks);
    }

    pub fn append_all(&mut self, at: usize, feed: FeedId, blocks: Vec<Bytes>) {
        let command = self.parties[at].node.append(self.now, feed, blocks);
        let result = self.finish(at, command);
        assert!(matches!(result, Ok(Outcome::Appended { .. })), "{result:?}");
    }

    pub fn load(&mut self, at: usize, feed: FeedId) -> FeedInfo {
        let command = self.parties[at].node.load(self.now, feed);
        let result = self.finish(at, command);
        assert_eq!(result, Ok(Outcome::Feed(feed)));
        self.parties[at].node.feed(feed).unwrap()
    }

    /// All feeds with all blocks that are held, by key.
    pub fn contents(&mut self, at: usize) -> BTreeMap<String, Vec<Option<Vec<u8>>>> {
        self.contents_of(at, FIRST)
    }

    /// All feeds of a multifeed with all blocks that are held, by key.
    pub fn contents_of(
        &mut self,
        at: usize,
        multifeed: MultifeedId,
    ) -> BTreeMap<String, Vec<Option<Vec<u8>>>> {
        let ids: Vec<FeedId> = self.parties[at].node.feeds(multifeed).map(|feed| feed.id).collect();
        let mut all = BTreeMap::new();
        for id in ids {
            let info = self.load(at, id);
            let mut blocks: Vec<Option<Vec<u8>>> = Vec::new();
            while (blocks.len() as u64) < info.length {
                let command = self.parties[at].node.read(
                    self.now,
                    id,
                    blocks.len() as u64,
                    u64::MAX,
                    1 << 20,
                );
                match self.finish(at, command) {
                    Ok(Outcome::Blocks(read)) if read.is_empty() => blocks.push(None),
                    Ok(Outcome::Blocks(read)) => {
                        blocks.extend(read.into_iter().map(|b| Some(b.to_vec())))
                    }
                    other => panic!("{other:?}"),
                }
            }
            all.insert(info.key.to_hex(), blocks);
        }
        all
    }

    /// Joins two parties; the first is the initiator.
    pub fn connect(&mut self, a: usize, b: usize) -> usize {
        self.connect_for(a, b, Default::default())
    }

    /// The same, with options for each end.
    pub fn connect_with(&mut self, a: usize, b: usize, options: [ReplicationOptions; 2]) -> usize {
        self.connect_for(a, b, options.map(ConnectOptions::from))
    }

    /// Joins two parties, each for the multifeeds given.
    pub fn connect_for(&mut self, a: usize, b: usize, options: [ConnectOptions; 2]) -> usize {
        let now = self.now;
        let [of_a, of_b] = options;
        let first = self.parties[a].node.connect_with(now, Role::Initiator, of_a).unwrap();
        let second = self.parties[b].node.connect_with(now, Role::Responder, of_b).unwrap();
        self.wires.push(Wire {
            ends: [(a, first), (b, second)],
            flow: Default::default(),
            cut: false,
            moved: [0; 2],
            cut_after: [None; 2],
            recorded: None,
            chunk: [None; 2],
            rate: [None; 2],
            room: usize::MAX,
        });
        self.wires.len() - 1
    }

    pub fn id(&self, wire: usize, end: usize) -> ConnectionId {
        self.wires[wire].ends[end].1
    }

    pub fn sync_state(&self, wire: usize, end: usize) -> SyncState {
        let (party, id) = self.wires[wire].ends[end];
        self.parties[party].node.sync_state(id)
    }

    /// Moves one chunk on each wire and lets everybody work; whether anything happened.
    pub fn step(&mut self) -> bool {
        let mut busy = false;
        let now = self.now;
        for party in &mut self.parties {
            busy |= party.drain(now);
            while party.node.poll_transmit().is_some() {}
        }
        for wire in &mut self.wires {
            if wire.cut {
                continue;
            }
            for from in 0..2 {
                let (party, id) = wire.ends[from];
                let node = &mut self.parties[party].node;
                loop {
                    let bytes = node.transmit(id);
                    if bytes.is_empty() {
                        break;
                    }
                    let n = bytes.len().min(wire.room.saturating_sub(wire.flow[from].bytes.len()));
                    if n == 0 {
                        break;
                    }
                    if wire.flow[from].bytes.is_empty() {
                        wire.flow[from].paid = now;
                    }
                    wire.flow[from].bytes.extend(bytes[..n].iter().copied());
                    if let Some(recorded) = &mut wire.recorded {
                        recorded[from].extend_from_slice(&bytes[..n]);
                    }
                    node.transmitted(now, id, n);
                    busy = true;
                }
                if node.is_shut_down(id) || node.is_closed(id) {
                    busy |= !std::mem::replace(&mut wire.flow[from].ended, true);
                }
            }
            for to in 0..2 {
                let (party, id) = wire.ends[to];
                let node = &mut self.parties[party].node;
                let flow = &mut wire.flow[1 - to];
                if !node.wants_read(id) {
                    continue;
                }
                let n = flow.bytes.len().min(wire.chunk[1 - to].unwrap_or(self.chunk));
                let n = n.min(flow.allowed(now, wire.rate[1 - to]));
                if n > 0 {
                    let bytes: Vec<u8> = flow.bytes.drain(..n).collect();
                    bytes.chunks(self.piece).for_each(|piece| node.handle_bytes(now, id, piece));
                    wire.moved[1 - to] += n as u64;
                    busy = true;
                } else if flow.bytes.is_empty() && flow.ended && !flow.eof_told {
                    flow.eof_told = true;
                    node.handle_eof(now, id);
                    busy = true;
                }
            }
            if (0..2).any(|d| wire.cut_after[d].is_some_and(|limit| wire.moved[d] >= limit)) {
                wire.cut = true;
                for (party, id) in wire.ends {
                    self.parties[party].node.abort(now, id);
                }
                busy = true;
            }
        }
        busy
    }

    /// Runs without letting time pass, until nothing moves.
    pub fn run(&mut self) {
        for _ in 0..5_000_000 {
            if !self.step() {
                return;
            }
        }
        panic!("no rest");
    }

    /// Lets time pass to the next timer and fires it; `false` if there is none before `end`.
    pub fn tick(&mut self, end: Now) -> bool {
        let slow = self.wires.iter().filter(|wire| !wire.cut).any(Wire::is_busy);
        let slow = slow.then(|| self.now.after(Duration::from_millis(200)));
        let next = self.parties.iter().filter_map(|party| party.node.poll_timeout());
        let next = next.chain(slow).min();
        match next {
            Some(at) if at <= end => {
                self.now = self.now.max(at);
                for party in &mut self.parties {
                    if party.node.poll_timeout().is_some_and(|at| at <= self.now) {
                        party.node.handle_timeout(self.now);
                        assert!(
                            party.node.poll_timeout().is_none_or(|at| at > self.now),
                            "a timer that fired is still due"
                        );
                    }
                }
                true
            }
            _ => {
                self.now = self.now.max(end);
                false
            }
        }
    }

    /// Lets `span` pass.
    pub fn pass(&mut self, span: Duration) {
        let end = self.now.after(span);
        self.run();
        while self.tick(end) {
            self.run();
        }
    }

    /// Runs until both ends of all wires that are not cut are in sync.
    #[track_caller]
    pub fn sync(&mut self) {
        self.run();
        for wire in 0..self.wires.len() {
            if !self.wires[wire].cut {
                for end in 0..2 {
                    assert_eq!(
                        self.sync_state(wire, end),
                        SyncState::InSync,
                        "wire {wire} end {end}"
                    );
                }
            }
        }
    }

    /// Replaces a party by a new one on the same store, as after a clean end.
    pub fn restart(&mut self, at: usize) {
        let mut memory = self.parties[at].disk.memory().clone();
        memory.unlock();
        self.parties[at] = Party::new(100 + at as u8, memory, NodeConfig::default(), self.now);
        for wire in &mut self.wires {
            wire.cut |= wire.ends.iter().any(|(party, _)| *party == at);
        }
        self.open(at, StoreOptions::default());
    }
}
