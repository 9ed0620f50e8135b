//! What peers ask for.
//!
//! Requests wait in their channel until the outbox has room; channels take turns, so that no feed
//! starves. Each turn is one job: proofs are planned from the bits, tree pages are read if they are
//! not in memory, the blocks are read with neighbours joined, and go out in the order of the
//! requests.
//!
//! hypercore 9 remembers for the life of a channel what all digests claimed. Here each request is
//! planned by its own digest alone, which repeats what counts for it: so a claim on an answer that
//! never came harms no later request.

use alloc::format;
use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::messages::{Data, Request, Span};
use multifeed_proto::{ChannelId, UsageError};

use super::compare::{Gate, asks_for_proof};
use super::job::{Item, Job, Ready, block_of, plan};
use super::link::Barrier;
use super::mend::{Mend, Then};
use super::sync::TICK;
use super::{After, ConnectionId, Event, Node, NodeError, Task};
use crate::feed::{Feed, Place};
use crate::format::sleep;
use crate::ranges::Ranges;
use crate::storage::{Answer, BatchId, FilePath, StorageError, StorageErrorKind};
use crate::tree::{NodeIndex, hash};

/// Requests answered in one turn of a channel.
const TURN: usize = 64;
/// Bytes of blocks read in one turn; at least one block is.
const TURN_BYTES: u64 = 512 * 1024;
/// Times that requests are tried again, one every half second, before the blocks are taken back.
const TRIES: u8 = 6;
/// Times that tree pages are read for all requests of a turn: then they do not fit into memory together, and
/// half of them wait.
const MAX_LOADS: u8 = 4;
impl Node {
    pub(super) fn requested(&mut self, id: ConnectionId, channel: ChannelId, request: Request) {
        self.reset_barrier(id, channel);
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(state) = link.channels.get_mut(&channel) else { return };
        let is_proof = asks_for_proof(&request);
        if state.quitting.is_some() && !is_proof {
            return;
        }
        state.parked.push_back(request);
        link.parked += 1;
        if state.job.is_none() && (state.parked.len() == 1 || is_proof) {
            link.serving.push_back(channel);
        }
        self.touch_channel(id, channel);
    }

    /// Starts jobs while the outbox has room.
    pub(super) fn pump_serve(&mut self, id: ConnectionId) {
        loop {
            let Some(link) = self.links.get_mut(&id) else { return };
            if link.connection.buffered() >= self.config.max_outbox_bytes {
                return;
            }
            let Some(channel) = link.serving.pop_front() else { return };
            let gate = self.gate(id, channel);
            let Some(state) = self.channel_mut(id, channel) else { continue };
            if state.job.is_some() || state.parked.is_empty() {
                continue;
            }
            if gate == Gate::Nothing {
                let feed = state.feed;
                self.quit_feed(id, channel);
                self.tell_health(feed, Some(id));
                continue;
            }
            let Some(link) = self.links.get_mut(&id) else { return };
            let Some(state) = link.channels.get_mut(&channel) else { continue };
            // What could not be read is tried alone, so that it holds up nothing else.
            let mut turn = if state.failures == 0 { TURN } else { 1 };
            if gate == Gate::Hashes {
                // The others wait for the end of the comparison.
                state.parked.make_contiguous().sort_by_key(|request| !asks_for_proof(request));
                let proofs = state.parked.iter().take_while(|request| asks_for_proof(request));
                turn = turn.min(proofs.count());
                if turn == 0 {
                    continue;
                }
            }
            let Some(count) = self.find_bytes(id, channel, turn) else { continue };
            let Some(link) = self.links.get_mut(&id) else { return };
            let Some(state) = link.channels.get_mut(&channel) else { continue };
            let Some(feed) = self.feeds[state.feed.0 as usize].feed() else { continue };
            link.parked -= count;
            let items = state
                .parked
                .drain(..count)
                .filter_map(|request| {
                    let plan = plan(feed, &request)?;
                    let place = Place { offset: 0, size: 0 };
                    Some(Item {
                        request,
                        plan,
                        place,
                        nodes: Vec::new(),
                        leaf: [0; 32],
                        signature: None,
                        signature_at: None,
                    })
                })
                .collect();
            self.go_on(id, channel, Job::new(items));
        }
    }

    /// Finds the blocks of those of the first `turn` requests that ask for a byte; how many requests that
    /// leaves. `None` while tree pages are read for it, and while the feed is not open: its opening brings the
    /// channel back.
    fn find_bytes(&mut self, id: ConnectionId, channel: ChannelId, turn: usize) -> Option<usize> {
        let link = self.links.get_mut(&id)?;
        let state = link.channels.get_mut(&channel)?;
        let feed_id = state.feed;
        let feed = self.feeds[feed_id.0 as usize].feed_mut()?;
        let waiting = state.parked.len();
        let missing = state.find_bytes(feed, waiting.min(turn));
        let dropped = waiting - state.parked.len();
        link.parked -= dropped;
        if missing.is_empty() {
            return Some(waiting.min(turn) - dropped);
        }
        let batch = self.load_nodes(feed_id, missing, After::Serve(id, channel));
        self.keep_job(id, channel, Job { batch, ..Job::new(Vec::new()) });
        None
    }

    /// Finds the nodes and places of a job, and reads what is missing or, at last, the blocks.
    fn go_on(&mut self, id: ConnectionId, channel: ChannelId, mut job: Job) {
        let Some(feed_id) = self.feed_of(id, channel) else { return };
        let Some(feed) = self.feeds[feed_id.0 as usize].feed_mut() else {
            // Its storage failed meanwhile; its opening brings the channel back.
            return self.park_again(id, channel, job.items);
        };
        // Those that were cleared while tree pages were read are not here any more.
        job.items.retain(|item| item.request.hash || feed.has(item.request.index));
        let (mut missing, mut damaged) = (Vec::new(), Vec::new());
        let max_block = self.config.max_block as u64;
        job.items.retain_mut(|item| match item.prepare(feed, max_block) {
            Ready::Yes => true,
            Ready::Load(nodes) => match feed.lacking(&nodes) {
                None => {
                    missing.extend(nodes);
                    true
                }
                Some(node) => {
                    damaged.push((item.request, node, None));
                    false
                }
            },
            Ready::Damaged(node, block) => {
                damaged.push((item.request, node, block));
                false
            }
        });
        // What is damaged does not leave this machine, and holds up nothing else.
        for (request, node, block) in damaged {
            self.run_mend(Mend::new(feed_id, node, block, Then::Serve(id, channel, request)));
        }
        let Some(feed) = self.feeds[feed_id.0 as usize].feed_mut() else {
            return self.park_again(id, channel, job.items);
        };
        if !missing.is_empty() {
            if job.loads >= MAX_LOADS && job.items.len() > 1 {
                let rest = job.items.split_off(job.items.len() / 2);
                self.park_again(id, channel, rest);
                return self.go_on(id, channel, job);
            }
            job.loads = job.loads.saturating_add(1);
            job.batch = self.load_nodes(feed_id, missing, After::Serve(id, channel));
            self.keep_job(id, channel, job);
            return;
        }
        let fit = job.fitting(TURN_BYTES);
        let rest = job.items.split_off(fit);
        let mut ops = job.plan_reads(feed);
        for item in &mut job.items {
            if let Some(index) = item.plan.signature {
                item.signature = feed.buffered_signature(index);
                if item.signature.is_none() {
                    item.signature_at = Some(ops.len());
                    ops.push(feed.read_signature(index));
                }
            }
        }
        self.park_again(id, channel, rest);
        job.cleared = self.feeds[feed_id.0 as usize].cleared;
        job.batch = (!ops.is_empty()).then(|| self.submit(None, ops, Task::Serve(id, channel)));
        let batch = job.batch;
        self.keep_job(id, channel, job);
        if batch.is_none() {
            self.serve_answered(id, channel, batch, Vec::new());
        }
    }

    /// Puts requests back to the front of those that wait.
    fn park_again(&mut self, id: ConnectionId, channel: ChannelId, items: Vec<Item>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(state) = link.channels.get_mut(&channel) else { return };
        link.parked += items.len();
        for item in items.into_iter().rev() {
            state.parked.push_front(item.request);
        }
    }

    fn keep_job(&mut self, id: ConnectionId, channel: ChannelId, job: Job) {
        if let Some(state) = self.channel_mut(id, channel) {
            state.job = Some(job);
        }
    }

    pub(super) fn serve_pages_came(
        &mut self,
        id: ConnectionId,
        channel: ChannelId,
        batch: BatchId,
        result: Result<(), StorageError>,
    ) {
        // The peer may have opened the channel anew since.
        let job = self
            .channel_mut(id, channel)
            .and_then(|state| state.job.take_if(|job| job.batch == Some(batch)));
        let Some(job) = job else { return };
        match result {
            // At once, while what was read is in memory.
            Ok(()) if job.items.is_empty() && self.find_bytes(id, channel, TURN).is_none() => {}
            Ok(()) => self.go_on(id, channel, job),
            Err(error) => self.serve_failed(id, channel, job, error.into()),
        }
    }

    /// Blocks and signatures came: the answers go out.
    pub(super) fn serve_answered(
        &mut self,
        id: ConnectionId,
        channel: ChannelId,
        batch: Option<BatchId>,
        answers: Vec<Result<Answer, StorageError>>,
    ) {
        // The peer may have opened the channel anew since, and asked for other blocks.
        let job = self
            .channel_mut(id, channel)
            .and_then(|state| state.job.take_if(|job| job.batch == batch));
        let Some(job) = job else { return };
        let Some(feed_id) = self.feed_of(id, channel) else { return };
        if !job.reads.is_empty() && self.feeds[feed_id.0 as usize].cleared != job.cleared {
            self.park_again(id, channel, job.items);
            if let Some(link) = self.links.get_mut(&id) {
                link.serving.push_back(channel);
            }
            return self.touch_channel(id, channel);
        }
        let answers = match answers.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(answers) => answers,
            Err(error) => return self.serve_failed(id, channel, job, error.into()),
        };
        let awake = self.awake;
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(state) = link.channels.get_mut(&channel) else { return };
        let (mut broken, mut damaged, mut unsigned) = (None, Vec::new(), Vec::new());
        let (mut uploaded, mut fresh) = (Ranges::default(), Vec::new());
        // What was asked for before uploading was switched off is not sent any more.
        let items = if state.ours.uploading { job.items } else { Vec::new() };
        for item in items {
            let index = item.request.index;
            let value = match block_of(&item, &job.reads, &answers) {
                Ok(value) => value,
                Err(_) => {
                    damaged.push((item.request, item.place, true));
                    continue;
                }
            };
            let signature = item.signature.or_else(|| {
                let bytes = answers.get(item.signature_at?)?.bytes()?;
                <[u8; 64]>::try_from(&bytes[..]).ok()
            });
            if let Some(value) = value.as_ref().filter(|value| hash::leaf(value) != item.leaf) {
                debug_assert_eq!(value.len() as u64, item.place.size);
                damaged.push((item.request, item.place, false));
                continue;
            }
            // A blank signature proves nothing; a static feed has none.
            let signature = signature.filter(|signature| *signature != [0; 64]);
            let is_static = || self.feeds[feed_id.0 as usize].feed().is_some_and(Feed::is_static);
            let due = item.plan.signature.filter(|_| signature.is_none());
            if let Some(entry) = due.filter(|_| !is_static()) {
                // Its write failed; without it the answer would prove nothing.
                unsigned.push((entry, item));
                continue;
            }
            let bytes = value.as_ref().map_or(0, Bytes::len) as u64;
            let sent = value.is_some();
            state.proof_given |= asks_for_proof(&item.request);
            let data = Data { index, value, nodes: item.nodes, signature };
            match link.connection.send_data(channel, data) {
                Ok(()) => {}
                Err(UsageError::TooLarge { .. }) => {
                    broken = Some("a block is too large for the protocol");
                    continue;
                }
                // The connection is over, or the peer closed the feed.
                Err(_) => break,
            }
            if sent {
                link.counters.blocks_sent += 1;
                link.counters.block_bytes_sent += bytes;
                state.moved.blocks_sent += 1;
                state.moved.block_bytes_sent += bytes;
                uploaded.insert(index..index.saturating_add(1));
                if link.connection.peer(channel).is_some_and(|peer| !peer.remote().contains(index))
                    && !state.unacked.contains(index)
                {
                    state.unacked.insert(index..index + 1);
                    fresh.push((bytes, state.given_back.contains(index)));
                }
            }
        }
        if unsigned.is_empty() {
            state.failures = 0;
            if !state.parked.is_empty() {
                link.serving.push_back(channel);
            }
        }
        for (bytes, again) in fresh {
            link.owes(awake, bytes, again);
        }
        self.touch_channel(id, channel);
        if self.config.upload_events {
            for range in uploaded.iter() {
                let (start, length) = (range.start, range.end - range.start);
                self.event(Event::Uploaded { connection: id, feed: feed_id, start, length });
            }
        }
        if let Some(problem) = broken {
            let feed = crate::feed::short(&self.feeds[feed_id.0 as usize].key);
            let error = NodeError::Damaged { feed, problem };
            self.event(Event::FeedFailed { feed: feed_id, error });
        }
        for (request, place, short) in damaged {
            let (leaf, block) = (NodeIndex::leaf(request.index), Some((request.index, place)));
            let then = Then::Serve(id, channel, request);
            self.run_mend(Mend::new(feed_id, leaf, block, then).short(short));
        }
        if let Some((entry, _)) = unsigned.first() {
            let path = self.feeds[feed_id.0 as usize].folder.as_ref();
            let path = path.map_or_else(FilePath::root, |folder| folder.join(sleep::SIGNATURES));
            let kind = StorageErrorKind::Io(format!("entry {entry} is blank"));
            let error = StorageError { doing: "read", path, kind };
            let items = unsigned.into_iter().map(|(_, item)| item).collect();
            self.serve_failed(id, channel, Job::new(items), error.into());
        }
    }

    /// Our own storage failed: the requests are tried again, one by one, at the next ticks. What still
    /// cannot be read is taken back, so that the peer asks others for it, and offered again later.
    fn serve_failed(&mut self, id: ConnectionId, channel: ChannelId, job: Job, error: NodeError) {
        let Some(feed) = self.feed_of(id, channel) else { return };
        let next_tick = self.now.after(TICK);
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(state) = link.channels.get_mut(&channel) else { return };
        let first = state.failures == 0;
        if state.failures < TRIES {
            state.failures += 1;
            link.stuck.insert(channel);
            link.tick_at.get_or_insert(next_tick);
            self.park_again(id, channel, job.items);
        } else {
            // The block of a byte that cannot be found is the one that is named.
            let bytes = state.parked.iter_mut().find(|request| request.bytes != 0);
            if let (true, Some(request)) = (job.items.is_empty(), bytes) {
                request.bytes = 0;
            }
            for item in job.items {
                let index = item.request.index;
                let _ = link.connection.unhave(channel, Span { start: index, length: 1 });
                state.taken_back.insert(index..index + 1);
            }
            link.serving.push_back(channel);
            // Once for all blocks that are taken back until then.
            if self.feeds[feed.0 as usize].retry_at.is_none_or(|at| at <= self.now) {
                self.retry_later(feed);
            }
        }
        if first {
            self.event(Event::FeedFailed { feed, error });
        }
        self.touch_channel(id, channel);
    }

    /// Whether the peer showed, or was just asked to show, that it wants no more of a feed.
    pub(super) fn barrier(&mut self, id: ConnectionId, channel: ChannelId, to: Barrier) {
        if let Some(state) = self.channel_mut(id, channel) {
            state.barrier = to;
        }
    }
}
