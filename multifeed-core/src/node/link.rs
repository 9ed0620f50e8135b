//! What a node keeps of one connection, and of one feed on it.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use multifeed_proto::messages::{Data, Request, Span, Status};
use multifeed_proto::{ChannelId, Connection, DiscoveryKey, FeedKey, Now, RootId, UserData};

use super::admission::Peers;
use super::budget::Counted;
use super::compare::Compare;
use super::credit::Credit;
use super::job::Job;
use super::output::Counters;
use super::patience::{Patience, Pulse};
use super::policy::{Fetch, Question, QuestionId};
use super::refused::Refused;
use super::turns::Turns;
use super::{FeedId, MultifeedId, NodeConfig, ReplicationOptions};
use crate::ranges::Ranges;
use crate::storage::BatchId;
use crate::tree::{NodeIndex, Promised};

/// Requests in flight on a fresh connection; hypercore 9 never goes beyond it.
const FIRST_WINDOW: usize = 16;
/// Requests in flight that are always allowed, however large the blocks are.
const LEAST_WINDOW: usize = 4;

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: Connection,
    /// In the order in which they were attached.
    pub(super) roots: Vec<LinkRoot>,
    /// It carries the multifeeds that are joined later, too.
    pub(super) all: bool,
    pub(super) options: ReplicationOptions,
    pub(super) peers: Peers,
    /// Known once the Noise handshake is over.
    pub(super) remote_public_key: Option<[u8; 32]>,
    /// Feeds that are not in `allowed` are refused.
    pub(super) restricted: bool,
    /// The application is asked about them.
    pub(super) asks: bool,
    pub(super) user_data: Option<UserData>,
    pub(super) questions: BTreeMap<QuestionId, Question>,
    /// Feeds that the list or the application allows, and how much of each is fetched.
    pub(super) allowed: BTreeMap<FeedKey, Fetch>,
    pub(super) channels: BTreeMap<ChannelId, Channel>,
    /// Feeds that both agreed on, and that one side closed.
    pub(super) closed: BTreeMap<DiscoveryKey, FeedId>,
    /// Feeds that ended for what the peer sent of them: not to be opened again.
    pub(super) faulty: BTreeSet<FeedId>,
    /// Feeds with too many wrong answers.
    pub(super) distrusted: BTreeSet<FeedId>,
    /// Channels of such feeds on which the peer is still answered.
    pub(super) quitting: BTreeSet<ChannelId>,
    /// Channels on which the two logs are to be compared.
    pub(super) to_compare: BTreeSet<ChannelId>,
    /// Channels on which they are.
    pub(super) comparing: BTreeSet<ChannelId>,
    /// Channels that may have a block to request, in turn.
    pub(super) wanting: Turns,
    /// Channels on which somebody may wait for something that goes before the rest.
    pub(super) urgent: BTreeSet<ChannelId>,
    /// Channels with requests in flight.
    pub(super) active: BTreeSet<ChannelId>,
    /// Channels on which the peer began to upload again, and when it is asked again there.
    pub(super) resumed: BTreeMap<ChannelId, Now>,
    /// Times that the peer took back what it was asked for, since a block came.
    pub(super) flaps: u32,
    /// Requests in flight, or answered and not verified yet.
    pub(super) in_flight: usize,
    pub(super) held_bytes: usize,
    window: usize,
    /// Running mean of block sizes, in bytes.
    mean_block: usize,
    /// Channels with requests of the peer, in turn.
    pub(super) serving: Turns,
    /// Work that it may still cause: in judging the state of the sync, and in choosing what to ask for.
    pub(super) credit: Credit,
    pub(super) asking_credit: Credit,
    /// Channels with wants of the peer to be answered.
    pub(super) asking: BTreeSet<ChannelId>,
    /// Channels whose storage failed when serving, to be tried again.
    pub(super) stuck: BTreeSet<ChannelId>,
    /// Requests of the peer that wait, over all channels.
    pub(super) parked: usize,
    /// Channels to look at again for the state of the sync.
    pub(super) unjudged: BTreeSet<ChannelId>,
    /// Channels that are not in sync.
    pub(super) unsynced: BTreeSet<ChannelId>,
    pub(super) in_sync: bool,
    pub(super) patience: Patience,
    /// What moves on it, and since when nothing does.
    pub(super) pulse: Pulse,
    /// What answers take, about.
    pub(super) usual: Option<Duration>,
    /// When the youngest request was made that was answered.
    pub(super) answered_to: Now,
    pub(super) stall_told: bool,
    pub(super) tick_at: Option<Now>,
    /// The moment at which an orderly end stops waiting for the peer: first for its acknowledgements,
    /// then for the end of what it sends.
    pub(super) leave_by: Option<Now>,
    pub(super) counters: Counters,
    pub(super) counted: Counted,
    /// Feeds that the peer added to the store.
    pub(super) added: usize,
    /// Those of which nobody gave anything yet.
    pub(super) unseen: BTreeSet<FeedId>,
    /// What the host was told last of whether to read.
    pub(super) reading: bool,
    pub(super) announced: bool,
}

/// One multifeed on one connection.
#[derive(Debug)]
pub(super) struct LinkRoot {
    pub(super) multifeed: MultifeedId,
    pub(super) id: RootId,
    pub(super) phase: Phase,
    pub(super) was_ready: bool,
    /// Nothing was offered yet: it is being found out which keys are right.
    pub(super) first_offer_due: bool,
    /// Feeds to offer at the next settling.
    pub(super) to_offer: Vec<FeedKey>,
    /// Channels of its feeds that are not in sync.
    pub(super) unsynced: BTreeSet<ChannelId>,
    pub(super) in_sync: bool,
    /// Questions about it that are open.
    pub(super) questions: usize,
    /// How often it was begun again.
    pub(super) rejoins: u8,
}

/// How far a multifeed on a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The peer's handshake has not come.
    Waiting,
    Ready,
    /// The peer is done with it, or did not open it in time. It may do so later.
    Ended,
    /// The peer broke its rules.
    Failed,
}

/// One feed on one connection.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) feed: FeedId,
    /// The multifeeds in which both sides agreed on it.
    pub(super) multifeeds: Vec<MultifeedId>,
    /// Both sides have it open.
    pub(super) open: bool,
    /// What this side does on it.
    pub(super) ours: Status,
    /// How much is fetched.
    pub(super) fetch: Fetch,
    /// What moved on it.
    pub(super) moved: Moved,
    /// What was told last.
    pub(super) in_sync: bool,
    /// Of a connection that is not live: this side has all that it wants, and said so.
    pub(super) done: bool,
    /// Wants of the peer that wait for their turn, or for the feed to be opened.
    pub(super) remote_wants: Vec<Span>,
    pub(super) told_last: bool,
    /// The peer has blocks that it did not get from here.
    pub(super) has_own: bool,
    /// Whether the two logs agree.
    pub(super) compare: Compare,
    /// Answers that were wrong.
    pub(super) faults: u32,
    /// The blocks of them, which are not asked for again.
    pub(super) wrong: Ranges,
    /// The logs were compared once more after a wrong answer.
    pub(super) rechecked: bool,
    /// To be closed as soon as the peer has asked for a proof and got it, or at that time.
    pub(super) quitting: Option<Now>,
    /// The peer got a full proof.
    pub(super) proof_given: bool,
    /// The peer said that it does not upload, and has not said since that it does.
    pub(super) stopped: bool,
    /// Wants sent cover the blocks below.
    pub(super) wanted_to: u64,
    /// Whether it is in [`Link::wanting`].
    pub(super) queued: bool,
    /// No block below is worth a look when choosing the next request.
    pub(super) cursor: u64,
    pub(super) flights: BTreeMap<u64, Flight>,
    /// Requests for hashes in flight, by the block that they were sent with.
    pub(super) hashes: BTreeMap<u64, HashFlight>,
    /// The peer's hashes cannot be had, or not be proven.
    pub(super) no_hashes: bool,
    /// No block below is worth a look when choosing the next one that somebody waits for.
    pub(super) waited_from: u64,
    /// Tree nodes that answers in flight are certain to bring, and which block's answer does.
    pub(super) promised: Promised,
    pub(super) inbox: VecDeque<Data>,
    /// Answers that wait for a tree node.
    pub(super) held: BTreeMap<u64, Vec<Data>>,
    /// The batch that reads tree pages for the first answer of the inbox.
    pub(super) loading: Option<BatchId>,
    /// Requests were given up: nodes that they were to bring never came.
    pub(super) gave_up: bool,
    /// Blocks whose answers proved nothing twice, since the last one that was taken, where no request was given up.
    pub(super) vain: u32,
    /// Requests in flight whose block came from another peer meanwhile.
    pub(super) here: usize,
    pub(super) refused: Refused,
    /// Blocks that the peer took back when it was asked for them: announced again, they are asked for in time.
    pub(super) lost: Ranges,
    /// Blocks that the peer was sent and gave back.
    pub(super) given_back: Ranges,
    /// Blocks whose answer built on a node that never came.
    pub(super) orphaned: Ranges,
    /// Blocks that could not be read when the peer asked for them, and that it is told of again later.
    pub(super) taken_back: Ranges,
    pub(super) parked: VecDeque<Request>,
    pub(super) job: Option<Job>,
    /// Times in a row that our storage failed when serving.
    pub(super) failures: u8,
    /// Byte that the peer looked for last.
    pub(super) last_bytes: u64,
    /// Blocks sent and not acknowledged.
    pub(super) unacked: Ranges,
    /// Ranges of blocks in all of these, as counted last.
    pub(super) counted_ranges: usize,
    pub(super) barrier: Barrier,
}

/// Blocks that moved on a channel, and their bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moved {
    pub(super) blocks_received: u64,
    pub(super) block_bytes_received: u64,
    pub(super) blocks_sent: u64,
    pub(super) block_bytes_sent: u64,
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct Flight {
    /// Nodes that only this answer is counted on for.
    pub(super) promised: Vec<NodeIndex>,
    pub(super) asked_at: Now,
    /// The block was asked of another peer as well.
    pub(super) second: bool,
    /// The block came from another peer.
    pub(super) here: bool,
    /// Its answer came, and may wait to be verified.
    pub(super) answered: bool,
}

/// A request for hashes in flight.
#[derive(Debug)]
pub(super) struct HashFlight {
    /// Byte that it looks for, 0 for none.
    pub(super) bytes: u64,
    pub(super) asked_at: Now,
}

/// Whether the peer showed that it does not want the blocks that it lacks: a `Want` far beyond the
/// end of the feed that is answered with no request before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Barrier {
    None,
    Asked,
    Passed,
}

impl Link {
    pub(super) fn new(connection: Connection, patience: Patience, awake: Now) -> Self {
        Self {
            connection,
            roots: Vec::new(),
            all: false,
            options: ReplicationOptions::default(),
            peers: Peers::Any,
            remote_public_key: None,
            restricted: false,
            asks: false,
            user_data: None,
            questions: BTreeMap::new(),
            allowed: BTreeMap::new(),
            channels: BTreeMap::new(),
            closed: BTreeMap::new(),
            wanting: Turns::default(),
            faulty: BTreeSet::new(),
            distrusted: BTreeSet::new(),
            quitting: BTreeSet::new(),
            to_compare: BTreeSet::new(),
            comparing: BTreeSet::new(),
            urgent: BTreeSet::new(),
            active: BTreeSet::new(),
            resumed: BTreeMap::new(),
            flaps: 0,
            in_flight: 0,
            held_bytes: 0,
            window: FIRST_WINDOW,
            mean_block: 0,
            serving: Turns::default(),
            credit: Credit::default(),
            asking_credit: Credit::default(),
            asking: BTreeSet::new(),
            stuck: BTreeSet::new(),
            parked: 0,
            unjudged: BTreeSet::new(),
            unsynced: BTreeSet::new(),
            in_sync: false,
            patience,
            pulse: Pulse::new(awake),
            usual: None,
            answered_to: Now::default(),
            stall_told: false,
            tick_at: None,
            leave_by: None,
            counters: Counters::default(),
            counted: Counted::default(),
            added: 0,
            unseen: BTreeSet::new(),
            reading: true,
            announced: false,
        }
    }

    /// Requests that may be in flight.
    pub(super) fn window(&self, config: &NodeConfig) -> usize {
        let by_bytes = match self.mean_block {
            0 => usize::MAX,
            mean => (config.max_window_bytes / mean).max(LEAST_WINDOW),
        };
        self.window.min(by_bytes).min(config.max_window)
    }

    /// A block of `bytes` came: the window opens by one, and learns how large blocks are.
    pub(super) fn block_came(&mut self, bytes: usize, config: &NodeConfig) {
        self.mean_block =
            if self.mean_block == 0 { bytes } else { (self.mean_block * 7 + bytes) / 8 };
        self.window = (self.window + 1).min(config.max_window);
    }

    /// Requests were not answered: fewer are made until blocks come again, as on a fresh connection. Not
    /// fewer than that: a peer that lacks some of its blocks may have those behind them.
    pub(super) fn narrow(&mut self) {
        self.window = (self.window / 2).max(FIRST_WINDOW);
    }

    /// Puts a channel in the queue for requests.
    pub(super) fn want(&mut self, id: ChannelId) {
        if let Some(channel) = self.channels.get_mut(&id) {
            self.urgent.insert(id);
            if !core::mem::replace(&mut channel.queued, true) {
                self.wanting.push_back(id);
            }
        }
    }

    pub(super) fn root_of(&mut self, multifeed: MultifeedId) -> Option<&mut LinkRoot> {
        self.roots.iter_mut().find(|root| root.multifeed == multifeed)
    }

    pub(super) fn root_mut(&mut self, id: RootId) -> Option<&mut LinkRoot> {
        self.roots.iter_mut().find(|root| root.id == id)
    }

    /// Whether the handshake of any multifeed is over.
    pub(super) fn is_ready(&self) -> bool {
        self.roots.iter().any(LinkRoot::is_ready)
    }

    /// A channel to look at, as long as that is not too much work for the peer.
    pub(super) fn next_unjudged(&mut self) -> Option<ChannelId> {
        if self.credit.is_spent() { None } else { self.unjudged.pop_first() }
    }
}

impl LinkRoot {
    pub(super) fn new(multifeed: MultifeedId, id: RootId) -> Self {
        Self {
            multifeed,
            id,
            phase: Phase::Waiting,
            was_ready: false,
            first_offer_due: false,
            to_offer: Vec::new(),
            unsynced: BTreeSet::new(),
            in_sync: false,
            questions: 0,
            rejoins: 0,
        }
    }

    /// Whether feeds may be offered.
    pub(super) fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }
}

impl Channel {
    /// Whether the peer was told that we have nodes that never came, with an answer that was wrong or a request that
    /// was given up: it leaves them out of its proofs for as long as the channel lives.
    pub(super) fn is_poisoned(&self) -> bool {
        self.gave_up || self.faults > 0
    }

    /// Whether nothing is asked for.
    pub(super) fn is_idle(&self) -> bool {
        self.flights.is_empty() && self.hashes.is_empty()
    }

    /// Blocks from `block` on are worth a look again.
    pub(super) fn rewind(&mut self, block: u64) {
        self.cursor = self.cursor.min(block);
        self.waited_from = self.waited_from.min(block);
    }

    pub(super) fn new(feed: FeedId, ours: Status) -> Self {
        Self {
            feed,
            multifeeds: Vec::new(),
            open: false,
            ours,
            fetch: Fetch::All,
            moved: Moved::default(),
            in_sync: false,
            done: false,
            remote_wants: Vec::new(),
            told_last: false,
            has_own: false,
            compare: Compare::Due,
            faults: 0,
            wrong: Ranges::default(),
            rechecked: false,
            quitting: None,
            proof_given: false,
            stopped: false,
            wanted_to: 0,
            queued: false,
            cursor: 0,
            flights: BTreeMap::new(),
            hashes: BTreeMap::new(),
            no_hashes: false,
            waited_from: 0,
            promised: Promised::default(),
            inbox: VecDeque::new(),
            held: BTreeMap::new(),
            loading: None,
            gave_up: false,
            vain: 0,
            here: 0,
            refused: Refused::default(),
            lost: Ranges::default(),
            given_back: Ranges::default(),
            orphaned: Ranges::default(),
            taken_back: Ranges::default(),
            parked: VecDeque::new(),
            job: None,
            failures: 0,
            last_bytes: 0,
            unacked: Ranges::default(),
            counted_ranges: 0,
            barrier: Barrier::None,
        }
    }
}
