//! What goes before the rest, and requests for hashes: blocks that somebody waits for, seeks, and
//! proofs of a longer log.
//!
//! A seek walks the tree as far as it is known, then asks one peer for the way to the byte. That the
//! peer looks for the byte itself spares round trips; a JavaScript peer whose log ends exactly there
//! ends the stream, so only peers whose log is at least as long as ours are asked to. The others are
//! asked for the hashes of a block in the middle, which halves what is unknown.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use multifeed_proto::messages::Request;
use multifeed_proto::session::Peer;
use multifeed_proto::{ChannelId, Now};

use super::compare::Compare;
use super::link::HashFlight;
use super::{After, CommandId, ConnectionId, FeedId, Node, NodeError, Outcome, Pending};
use crate::feed::{Feed, Located};
use crate::tree::{NodeIndex, proof};

/// Requests beyond the window for what somebody waits for, as in hypercore 9.
pub(super) const URGENT: usize = 16;
/// Blocks looked at for one whose hashes are not known.
const LOOK_AT: usize = 64;

/// A seek that waits for peers.
#[derive(Debug)]
pub(super) struct Seek {
    offset: u64,
    /// Where the search stands: blocks, or `None` beyond the log.
    within: Option<core::ops::Range<u64>>,
    /// Channels whose peer was asked to look for the byte itself.
    asked: BTreeSet<(ConnectionId, ChannelId)>,
}

/// A seek that reads the tree.
#[derive(Debug)]
pub(super) struct SeekJob {
    pub(super) command: CommandId,
    feed: FeedId,
    offset: u64,
}

impl Node {
    /// Finds the block with the byte `offset` of the log, counted from 0, without fetching the block
    /// itself. Answered with [`Outcome::Sought`]; waits for peers if the tree is not known that far, or
    /// the log not to be that long. Ends by [`Node::cancel`].
    pub fn seek(&mut self, now: Now, feed: FeedId, offset: u64) -> CommandId {
        let command = self.command(now);
        self.command_on(feed, Pending::Seek(SeekJob { command, feed, offset }));
        command
    }

    /// Goes on with a seek. The feed is open.
    pub(super) fn run_seek(&mut self, job: SeekJob) {
        let entry = &mut self.feeds[job.feed.0 as usize];
        let Some(feed) = entry.feed_mut() else { return self.fail_seek(&job, NodeError::Closed) };
        let within = match feed.locate(job.offset) {
            Located::At(block, rest) => return self.sought(&job, block, rest),
            Located::End => {
                let length = feed.length();
                return self.sought(&job, length, 0);
            }
            Located::Load(nodes) if nodes.is_empty() || feed.lacking(&nodes).is_some() => {
                let feed = feed.short_key();
                let error = NodeError::Damaged { feed, problem: "its tree lacks a node" };
                return self.fail_seek(&job, error);
            }
            Located::Load(nodes) => {
                self.load_nodes(job.feed, nodes, After::Seek(job));
                return;
            }
            Located::Within(blocks) => Some(blocks),
            Located::Beyond => None,
        };
        let seek = entry.wishes.seeks.entry(job.command).or_insert_with(|| Seek {
            offset: job.offset,
            within: None,
            asked: BTreeSet::new(),
        });
        seek.within = within;
        self.wishes_changed(job.feed);
        self.refuse_wait(job.command);
    }

    fn sought(&mut self, job: &SeekJob, block: u64, offset: u64) {
        self.feeds[job.feed.0 as usize].wishes.seeks.remove(&job.command);
        self.complete(job.command, Ok(Outcome::Sought { block, offset }));
    }

    pub(super) fn fail_seek(&mut self, job: &SeekJob, error: NodeError) {
        if let Some(entry) = self.feeds.get_mut(job.feed.0 as usize) {
            entry.wishes.seeks.remove(&job.command);
        }
        self.complete(job.command, Err(error));
    }

    /// More of a tree is known: seeks that waited for that go on.
    pub(super) fn hashes_came(&mut self, id: FeedId) {
        let seeks = &self.feeds[id.0 as usize].wishes.seeks;
        let jobs: Vec<SeekJob> = seeks
            .iter()
            .map(|(command, seek)| SeekJob { command: *command, feed: id, offset: seek.offset })
            .collect();
        for job in jobs {
            self.run_seek(job);
        }
    }

    /// Asks for what somebody waits for, up to a few requests more than the window has room for.
    pub(super) fn pump_urgent(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let mut channels = core::mem::take(&mut link.urgent);
        while let Some(channel) = channels.pop_first() {
            if !self.request_urgent(id, channel) {
                channels.insert(channel);
                break;
            }
        }
        if let Some(link) = self.links.get_mut(&id) {
            link.urgent.append(&mut channels);
        }
    }

    /// Whether all was asked for that can be.
    fn request_urgent(&mut self, id: ConnectionId, channel: ChannelId) -> bool {
        let Some(feed_id) = self.feed_of(id, channel) else { return true };
        if !self.feeds[feed_id.0 as usize].wishes.is_urgent() {
            return true;
        }
        // The end of the comparison brings the channel back.
        if self.compare(id, channel) || self.awaits_comparison(id, channel) {
            return true;
        }
        while let Some(request) = self.next_hashes(id, channel, feed_id) {
            let (now, awake, config) = (self.now, self.awake, &self.config);
            let Some(link) = self.links.get_mut(&id) else { return true };
            if link.in_flight >= link.window(config) + URGENT {
                return false;
            }
            let Some(state) = link.channels.get_mut(&channel) else { return true };
            if link.connection.request(channel, request).is_err() {
                return true;
            }
            if request.bytes > 0 {
                let seeks = self.feeds[feed_id.0 as usize].wishes.seeks.values_mut();
                for seek in seeks.filter(|seek| seek.offset == request.bytes) {
                    seek.asked.insert((id, channel));
                }
            }
            if link.in_flight == 0 {
                link.pulse.answers.whole(awake);
            }
            state
                .hashes
                .insert(request.index, HashFlight { bytes: request.bytes, asked_at: awake });
            link.active.insert(channel);
            link.in_flight += 1;
            link.tick_at.get_or_insert(now);
        }
        self.request_waited(id, channel, feed_id)
    }

    /// The next request for hashes on a channel, if one is to be made.
    fn next_hashes(
        &self,
        id: ConnectionId,
        channel: ChannelId,
        feed_id: FeedId,
    ) -> Option<Request> {
        let entry = &self.feeds[feed_id.0 as usize];
        let feed = entry.feed()?;
        let link = self.links.get(&id)?;
        link.channels
            .get(&channel)
            .filter(|state| state.open && state.ours.downloading && !state.no_hashes)
            .filter(|state| {
                state.quitting.is_none() && !matches!(state.compare, Compare::Asked { .. })
            })?;
        let peer = link.connection.peer(channel).filter(|peer| peer.status().uploading)?;
        let request = |index, bytes| {
            let has = |node: NodeIndex| feed.bits.has_node(node);
            let nodes = proof::digest(has, index, feed.bits.tree_bit_length());
            Request { index, bytes, hash: true, nodes }
        };
        let beyond = entry.wishes.updates.values().min().copied().into_iter().chain(
            entry
                .wishes
                .seeks
                .values()
                .any(|seek| seek.within.is_none())
                .then(|| feed.length() + 1),
        );
        if let Some(wanted) = beyond.min().filter(|wanted| peer.remote_length() >= *wanted) {
            // The last block that it announced proves most.
            let last = peer.remote_length() - 1;
            let last = if peer.remote().contains(last) {
                Some(last)
            } else {
                peer.remote().first_in(wanted - 1..u64::MAX)
            };
            let asked = self.hash_flights(feed_id).any(|(index, _)| index >= wanted - 1);
            if let Some(index) = last.filter(|_| !asked) {
                return Some(request(index, 0));
            }
        }
        for seek in entry.wishes.seeks.values() {
            let Some(within) = &seek.within else { continue };
            let open = |(index, bytes)| bytes == seek.offset || within.contains(&index);
            if self.hash_flights(feed_id).any(open) {
                continue;
            }
            let Some(index) = unknown_leaf(feed, peer, within) else { continue };
            let may_look = peer.remote_length() >= feed.length();
            let looks = may_look && !seek.asked.contains(&(id, channel));
            return Some(request(index, if looks { seek.offset } else { 0 }));
        }
        None
    }

    /// Requests for hashes that are in flight: block, and byte of a seek.
    fn hash_flights(&self, id: FeedId) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.feeds[id.0 as usize].channels.iter().flat_map(|(connection, channel)| {
            let link = self.links.get(connection);
            let state = link.and_then(|link| link.channels.get(channel));
            let flights = state.into_iter().flat_map(|state| &state.hashes);
            flights.map(|(index, flight)| (*index, flight.bytes))
        })
    }

    /// Hashes came; a seek is answered with another block than it was sent with.
    pub(super) fn end_hashes(&mut self, id: ConnectionId, channel: ChannelId, index: u64) -> bool {
        let Some(link) = self.links.get_mut(&id) else { return false };
        let Some(state) = link.channels.get_mut(&channel) else { return false };
        let asked = if state.hashes.contains_key(&index) {
            Some(index)
        } else {
            state.hashes.iter().find(|(_, flight)| flight.bytes > 0).map(|(index, _)| *index)
        };
        let Some(asked) = asked else { return false };
        state.hashes.remove(&asked);
        link.pulse.answers.whole(self.awake);
        link.in_flight -= 1;
        if state.is_idle() {
            link.active.remove(&channel);
        }
        true
    }

    /// Requests for hashes that saw no answer are given up; others are asked, or the same in another way.
    pub(super) fn give_up_hashes(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get(&id) else { return };
        let timeout = link.patience.request_timeout;
        let mut silent = Vec::new();
        if link.pulse.answers.still(self.awake) < timeout {
            return;
        }
        for channel in &link.active {
            let hashes = link.channels[channel].hashes.iter();
            let old = hashes.filter(|(_, flight)| self.awake.since(flight.asked_at) >= timeout);
            silent.extend(old.map(|(index, flight)| (*channel, *index, flight.bytes)));
        }
        for (channel, index, bytes) in silent {
            self.forget_hashes(id, channel, index);
            if let (Some(state), 0) = (self.channel_mut(id, channel), bytes) {
                state.no_hashes = true;
            }
            if let Some(feed) = self.feed_of(id, channel) {
                self.rewind_others(feed);
            }
        }
    }

    fn forget_hashes(&mut self, id: ConnectionId, channel: ChannelId, index: u64) {
        if let Some(link) = self.links.get_mut(&id) {
            let _ = link.connection.forget_request(channel, index, true);
        }
        self.end_hashes(id, channel, index);
    }

    /// Gives up all requests for hashes on a channel.
    pub(super) fn drop_hashes(&mut self, id: ConnectionId, channel: ChannelId) -> bool {
        let Some(state) = self.channel_mut(id, channel) else { return false };
        let indices: Vec<u64> = state.hashes.keys().copied().collect();
        for &index in &indices {
            self.forget_hashes(id, channel, index);
        }
        !indices.is_empty()
    }
}

/// A block of the range whose hashes are not known and that the peer has: from the middle on, then
/// from the start.
fn unknown_leaf(feed: &Feed, peer: &Peer, within: &core::ops::Range<u64>) -> Option<u64> {
    let middle = within.start + (within.end - within.start) / 2;
    [middle..within.end, within.start..middle].into_iter().find_map(|range| {
        let mut at = range.start;
        for _ in 0..LOOK_AT {
            let block = peer.remote().first_in(at..range.end)?;
            if !feed.bits.has_node(NodeIndex::leaf(block)) {
                return Some(block);
            }
            at = block + 1;
        }
        None
    })
}
