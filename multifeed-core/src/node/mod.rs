//! All multifeeds of one store and all connections to peers, as one machine.
//!
//! | file | what it does |
//! |---|---|
//! | `commands`, `host` | what the application wants, and how a host drives the node |
//! | `store`, `layout` | opens the store: lock, layout, master key; feeds by name |
//! | `reading` | a store that is only read |
//! | `multifeed` | which feeds are in which multifeed; writers |
//! | `list`, `numbered` | where that is recorded, in each layout |
//! | `unlisted`, `problems` | folders of feeds that are on no list, damaged, or missing |
//! | `entry`, `table`, `opening` | feeds, and their way from files to memory |
//! | `unseen` | feeds of which nobody gave anything yet |
//! | `flush` | writes what changed, tells peers and the application when it is stored |
//! | `read` | blocks for the application |
//! | `blocked` | feeds that are kept out for good |
//! | `mend` | damage of our own files |
//! | `lost` | blocks that were here and are not any more |
//! | `link`, `mux` | connections; which multifeeds and feeds are replicated on them |
//! | `admission`, `policy` | which peers are let in; which feeds are shared with them, and how much |
//! | `wants`, `missing`, `pages` | which blocks each side has, and what one of them lacks |
//! | `budget`, `credit`, `turns` | what a peer may have us keep, and do |
//! | `download`, `verify` | what to ask of whom; what came |
//! | `compare` | whether a peer's log is the one that is held here |
//! | `standing` | what wrong answers cost their sender |
//! | `fault` | what follows when something of a feed does not fit |
//! | `patience` | what counts as moving, and how long a peer may take |
//! | `refused`, `second` | what did not come; what is asked of a second peer |
//! | `select`, `clear` | which blocks are wanted, and who waits; blocks that are given up |
//! | `health` | what is known to be wrong with a feed |
//! | `hashes` | what goes before the rest: blocks waited for, seeks, proofs of a longer log |
//! | `available` | what is waited for only while a peer has it |
//! | `extension` | messages of the application's own |
//! | `serve`, `job` | what peers ask for |
//! | `transfer` | what is moved in which direction; how a connection that is not live ends |
//! | `sync`, `waits`, `progress` | whether two peers have what they want, and how far each feed is; timeouts |
//!
//! What is *legal* on a connection is decided in `multifeed-proto`; what is *true* of a feed in `feed`
//! and `tree`.

mod admission;
mod available;
#[cfg(feature = "fuzzing")]
mod behind;
mod blocked;
mod budget;
mod clear;
mod commands;
mod compare;
mod config;
mod credit;
mod download;
mod entry;
mod extension;
mod fault;
mod flush;
mod hashes;
mod health;
mod host;
mod job;
pub(crate) mod layout;
mod link;
mod list;
mod lost;
mod mend;
mod missing;
mod multifeed;
mod mux;
mod numbered;
mod opening;
mod output;
mod pages;
mod patience;
mod policy;
mod problems;
mod progress;
mod read;
mod reading;
mod refused;
mod second;
mod select;
mod serve;
mod standing;
mod store;
mod sync;
mod table;
mod transfer;
mod turns;
mod unlisted;
mod unseen;
mod verify;
mod waits;
mod wants;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use multifeed_proto::{ChannelId, Entropy, FeedKey, Now, PeerError};

pub use admission::Peers;
pub use config::{
    ConnectOptions, Durability, Layout, NodeConfig, ReplicationOptions, StoreOptions,
};
pub use output::{
    CommandId, ConnectionId, Counters, Event, FeedId, FeedInfo, Health, MultifeedId, NodeError,
    Outcome, Output, SyncState, WaitingFor,
};
pub use patience::Patience;
pub use policy::{Decision, Fetch, Policy, Question, QuestionId};
pub use problems::FolderProblem;
pub use progress::PeerInfo;

use crate::feed::Loading;
use crate::lobby::Lobby;
use crate::storage::{Batch, BatchId, Op};
use crate::tree::NodeIndex;
use available::Hopeful;
use budget::Sums;
use clear::ClearJob;
use entry::{Entry, EntryState, Pending};
use hashes::SeekJob;
use link::Link;
use multifeed::Multifeed;
use read::ReadJob;
pub(crate) use store::LOCK_FILE;
use store::Store;
use table::Feeds;
use unseen::Unseen;

/// All multifeeds of one store and all connections to peers.
///
/// Open the store, join multifeeds, connect to peers: each connection carries those multifeeds that it
/// is told to, and a feed that is in several of them is kept, and replicated on a connection, once.
///
/// Nothing in it does I/O or reads a clock: what happened comes in by `handle_*`, what the
/// application wants by plain verbs, what is to be done goes out by `poll_*` and `transmit`.
///
/// **The drain rule**: after every call of a verb or a `handle_*`, call [`Node::poll_output`] until it
/// gives `None` (execute each batch and give its answer back at any later time), then
/// [`Node::poll_transmit`] until it gives `None` (write [`Node::transmit`] of each connection named), then
/// wait for news or for [`Node::poll_timeout`]. Calling more often is harmless.
///
/// Every number that comes from a peer or the disk is checked before it is used; memory that
/// peers can fill is bounded by [`NodeConfig`].
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    entropy: Entropy,
    now: Now,
    /// The time for which the node was awake: see `patience`.
    awake: Now,
    store: Store,
    multifeeds: Vec<Multifeed>,
    feeds: Feeds,
    unseen: Unseen,
    /// Bytes kept for peers.
    held: Sums,
    by_key: BTreeMap<FeedKey, FeedId>,
    links: BTreeMap<ConnectionId, Link>,
    /// Accepted connections whose peer has proven nothing.
    strangers: Lobby<ConnectionId>,
    next_connection: u32,
    next_command: u64,
    next_batch: u64,
    next_question: u64,
    tasks: BTreeMap<BatchId, Task>,
    outputs: VecDeque<Output>,
    transmits: VecDeque<ConnectionId>,
    /// Connections to look at when settling.
    touched: BTreeSet<ConnectionId>,
    /// Feeds to flush.
    dirty: VecDeque<FeedId>,
    /// Feeds to open.
    to_open: VecDeque<FeedId>,
    opening: usize,
    /// Channels with answers to verify.
    to_verify: VecDeque<(ConnectionId, ChannelId)>,
    /// Bytes verified and not stored, over all feeds.
    unstored_bytes: usize,
    /// Where trimming of caches goes on.
    trim_at: usize,
    cache_bytes: usize,
    /// When to open feeds again whose storage failed.
    retries: BTreeSet<(Now, FeedId)>,
    closing: Option<CommandId>,
    /// Names of the application's extensions on streams.
    extensions: Vec<String>,
    /// What peers lost by wrong answers.
    standings: standing::Standings,
    /// Commands that end when no peer has what they wait for.
    hopeful: Hopeful,
    /// Feeds of which peers may have said something that ends one.
    unsure: BTreeSet<FeedId>,
}

/// What the answer to a batch is for.
#[derive(Debug)]
enum Task {
    Store(store::StoreStep),
    Folders(numbered::FolderStep),
    /// Folders and small files of feeds that no list tells.
    Find(MultifeedId),
    /// What is in the folders of some lines of a list; the line behind them.
    Lines(FeedId, u64, Vec<crate::format::list::Entry>),
    Survey,
    Block(blocked::BlockStep),
    Open(FeedId),
    Flush(FeedId),
    /// Tree pages: the feed, the first page of each read, and who waits.
    Nodes(FeedId, Loading, After),
    Serve(ConnectionId, ChannelId),
    Read(ReadJob),
    Fork(fault::ForkFound),
    /// The blocks of the two leaves below a node.
    Mend(mend::Mend, NodeIndex),
    /// Written, and followed by a batch that tells.
    Nothing,
}

/// Who waits for tree pages.
#[derive(Debug)]
enum After {
    Verify(ConnectionId, ChannelId),
    Serve(ConnectionId, ChannelId),
    Read(ReadJob),
    Mend(mend::Mend),
    Clear(ClearJob),
    Seek(SeekJob),
}

impl Node {
    /// A node without a store and without connections. `entropy` seeds everything random in it.
    #[must_use]
    pub fn new(config: NodeConfig, entropy: Entropy, now: Now) -> Self {
        Self {
            strangers: Lobby::new(config.strangers.clone()),
            config,
            entropy,
            now,
            awake: now,
            store: Store::default(),
            multifeeds: Vec::new(),
            feeds: Feeds::default(),
            unseen: Unseen::default(),
            held: Sums::default(),
            by_key: BTreeMap::new(),
            links: BTreeMap::new(),
            next_connection: 0,
            next_command: 0,
            next_batch: 0,
            next_question: 0,
            tasks: BTreeMap::new(),
            outputs: VecDeque::new(),
            transmits: VecDeque::new(),
            touched: BTreeSet::new(),
            dirty: VecDeque::new(),
            to_open: VecDeque::new(),
            opening: 0,
            to_verify: VecDeque::new(),
            unstored_bytes: 0,
            trim_at: 0,
            cache_bytes: 0,
            retries: BTreeSet::new(),
            closing: None,
            extensions: Vec::new(),
            standings: standing::Standings::default(),
            hopeful: Hopeful::new(),
            unsure: BTreeSet::new(),
        }
    }

    /// How the store keeps its feeds; before it is open, [`Layout::Corestore`].
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.store.layout
    }

    /// The multifeeds that are joined, in the order of [`Node::join`].
    pub fn multifeeds(&self) -> impl Iterator<Item = MultifeedId> + '_ {
        (0..self.multifeeds.len() as u32).map(MultifeedId).filter(|id| self.multi(*id).is_some())
    }

    /// The feeds of a multifeed in the order in which they joined, without those that are
    /// [blocked](Self::block); none if it is not joined.
    pub fn feeds(&self, multifeed: MultifeedId) -> impl Iterator<Item = FeedInfo> + '_ {
        let members = self.multi(multifeed).into_iter().flat_map(|multi| multi.members.iter());
        members.filter_map(|member| {
            self.entry(member.feed).map(|entry| entry.info(member.feed, member.name.clone()))
        })
    }

    /// What is known of a feed.
    #[must_use]
    pub fn feed(&self, feed: FeedId) -> Option<FeedInfo> {
        self.any_entry(feed).map(|entry| entry.info(feed, self.name_of(feed)))
    }

    /// What is known of a feed of a multifeed; `None` if it is not in it. As [`Node::feed`], but with the
    /// name that it has in this multifeed.
    #[must_use]
    pub fn feed_in(&self, multifeed: MultifeedId, feed: FeedId) -> Option<FeedInfo> {
        self.member_info(multifeed, feed)
    }

    /// The multifeeds that a feed is in.
    pub fn multifeeds_of(&self, feed: FeedId) -> impl Iterator<Item = MultifeedId> + '_ {
        let places = self.entry(feed).into_iter().flat_map(|entry| &entry.places);
        places.map(|(multifeed, _)| *multifeed)
    }

    /// The feed with this key, in whichever multifeed it is.
    #[must_use]
    pub fn find(&self, key: &FeedKey) -> Option<FeedId> {
        self.by_key.get(key).copied().filter(|id| self.entry(*id).is_some())
    }

    /// The feed with this name in a multifeed, a local writer before others.
    #[must_use]
    pub fn find_name(&self, multifeed: MultifeedId, name: &str) -> Option<FeedId> {
        let multi = self.multi(multifeed)?;
        let writer = self.derive_writer(multifeed, name);
        let writer = writer.and_then(|secret| self.find(&secret.public()));
        let mut named = multi.members.iter().filter(|member| member.name == name);
        writer.or_else(|| {
            let first = named.clone().next();
            named.find(|member| member.local).or(first).map(|member| member.feed)
        })
    }

    /// A feed, also one that is kept out of the store.
    fn any_entry(&self, feed: FeedId) -> Option<&Entry> {
        self.feeds.get(feed.0 as usize).filter(|entry| entry.list_of.is_none())
    }

    fn entry(&self, feed: FeedId) -> Option<&Entry> {
        self.any_entry(feed).filter(|entry| !entry.blocked)
    }

    /// The number of a command that is given now.
    fn command(&mut self, now: Now) -> CommandId {
        self.advance(now);
        self.next_command += 1;
        CommandId(self.next_command)
    }

    fn complete(&mut self, command: CommandId, result: Result<Outcome, NodeError>) {
        self.hopeful.remove(&command);
        self.outputs.push_back(Output::Completed { command, result });
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Submits a batch.
    fn submit(&mut self, after: Option<BatchId>, ops: Vec<Op>, task: Task) -> BatchId {
        debug_assert!(!(self.is_read_only() && ops.iter().any(Op::changes)), "{ops:?}");
        let id = BatchId(self.next_batch);
        self.next_batch += 1;
        self.tasks.insert(id, task);
        self.outputs.push_back(Output::Storage(Batch { id, after, ops }));
        id
    }

    /// Says that a connection has news for the side that writes.
    fn announce(&mut self, id: ConnectionId) {
        if let Some(link) = self.links.get_mut(&id) {
            if !core::mem::replace(&mut link.announced, true) {
                self.transmits.push_back(id);
            }
        }
    }

    /// Does all that follows from what happened, until there is something to tell or nothing is left.
    fn settle(&mut self) {
        loop {
            self.verify_all();
            self.open_next();
            self.flush_all();
            self.trim_caches();
            while let Some(id) = self.touched.pop_first() {
                self.settle_link(id);
            }
            self.end_hopeless();
            if !self.outputs.is_empty() || self.to_verify.is_empty() {
                break;
            }
        }
        self.finish_close();
    }

    fn settle_link(&mut self, id: ConnectionId) {
        self.send_offers(id);
        self.pump_compare(id);
        self.pump_requests(id);
        self.answer_wants(id);
        self.pump_serve(id);
        self.finish_quitting(id);
        self.judge(id);
        self.finish_leaving(id);
        self.pump_link(id);
        self.count_bytes(id);
        let Some(link) = self.links.get(&id) else { return };
        let reading = self.may_read(link);
        let Some(link) = self.links.get_mut(&id) else { return };
        let resumed = reading && !link.reading;
        if reading != link.reading {
            link.reading = reading;
            link.connection.set_reading(self.now, reading);
            // While it was not read, nothing could come.
            link.pulse.answers.whole(self.awake);
        }
        if resumed || link.connection.buffered() > 0 || link.connection.is_shut_down() {
            self.announce(id);
        }
    }

    /// A disk that falls behind holds up those that send blocks, not those that only ask for some.
    fn may_read(&self, link: &Link) -> bool {
        let sends_blocks = link.in_flight > 0;
        !link.connection.is_held()
            && link.parked < self.config.max_parked_requests
            && !(sends_blocks && self.unstored_bytes >= self.config.max_unstored_bytes)
    }

    fn drop_link(&mut self, id: ConnectionId, error: Option<PeerError>) {
        self.judge_last(id);
        let counters = self.counters(id);
        let Some(mut link) = self.links.remove(&id) else { return };
        self.uncount_bytes(&link);
        self.strangers.leave(id);
        let unsent = link.connection.transmit().to_vec();
        for (channel_id, channel) in &link.channels {
            if let Some(entry) = self.feeds.get_mut(channel.feed.0 as usize) {
                entry.channels.retain(|at| *at != (id, *channel_id));
            }
            for (&block, flight) in &channel.flights {
                self.release(channel.feed, block, flight.second);
            }
        }
        for channel in link.channels.values() {
            self.left_alone(channel.feed);
            self.offers_changed(channel.feed);
            if channel.open {
                self.event(Event::PeerClosed { connection: id, feed: channel.feed });
            }
        }
        // Blocks that were asked for here are free for the others.
        for channel in link.channels.values().filter(|channel| !channel.is_idle()) {
            self.rewind_others(channel.feed);
        }
        self.event(Event::Closed { connection: id, error, counters, unsent });
        self.transmits.push_back(id);
    }
}

impl EntryState {
    fn is_closed(&self) -> bool {
        matches!(self, Self::Listed | Self::Failed(_))
    }
}
