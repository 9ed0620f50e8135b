//! What follows when something of a feed does not fit: it costs that feed on that connection, and no more.
//!
//! An answer that is wrong by itself is dropped, its block is not asked of that peer again, and after a few of
//! them nothing of that feed is. Two signed logs under one key end the feed's channel; what proves that is
//! written to the file `forked`.

use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::{ChannelId, PeerError};

use super::compare::{Compare, asks_for_proof};
use super::link::Channel;
use super::sync::TICK;
use super::{ConnectionId, Durability, FeedId, Node, Task};
use crate::format::forked::{FORKED, Forked, Head};
use crate::storage::{Answer, Op, StorageError};

/// Wrong answers after which a peer is asked nothing more of a feed.
const MAX_FAULTS: u32 = 4;
/// Blocks whose answers prove nothing, twice and one after another, after which the same follows.
const MAX_VAIN: u32 = 32;

/// A fork whose file waits for our own signature.
#[derive(Debug)]
pub(super) struct ForkFound {
    feed: FeedId,
    here: Head,
    there: Head,
}

impl Node {
    /// An answer is wrong, and our own files are not to blame.
    pub(super) fn answer_is_wrong(
        &mut self,
        id: ConnectionId,
        channel: ChannelId,
        block: Option<u64>,
        index: u64,
        problem: &'static str,
    ) {
        let Some(feed) = self.feed_of(id, channel) else { return };
        let Some(state) = self.channel_mut(id, channel) else { return };
        state.faults += 1;
        let (first, many) = (state.faults == 1, state.faults >= MAX_FAULTS);
        let recheck =
            state.compare != Compare::Due && !core::mem::replace(&mut state.rechecked, true);
        if let Some(block) = block {
            state.wrong.insert(block..block + 1);
            self.end_flight(id, channel, block);
            self.give_back(id, channel, block);
        }
        self.feeds[feed.0 as usize].ailments.there = Some(problem);
        if many {
            self.stop_asking(id, channel, index, problem);
        } else if recheck && self.may_ask(id, channel) {
            // It may be part of another log. The hashes of the block also bring what others count on.
            self.ask_hashes(id, channel, index);
        }
        if first || many {
            self.tell_health(feed, Some(id));
        }
        self.rewind_others(feed);
        self.touch_channel(id, channel);
    }

    /// Nothing more is asked of a peer for a feed.
    fn stop_asking(
        &mut self,
        id: ConnectionId,
        channel: ChannelId,
        index: u64,
        problem: &'static str,
    ) {
        let Some(feed) = self.feed_of(id, channel) else { return };
        self.quit_feed(id, channel);
        let short = self.feeds[feed.0 as usize].short_key();
        self.lose_standing(id, feed, PeerError::Proof { feed: short, index, problem });
    }

    /// An answer lacked what proves it. One wrong answer can be the cause of many such, and of no more than that.
    pub(super) fn judge_vain(&mut self, id: ConnectionId, channel: ChannelId, index: u64) {
        let Some(feed) = self.feed_of(id, channel) else { return };
        let state = self.channel_mut(id, channel);
        if state.is_some_and(|state| state.quitting.is_none() && state.vain >= MAX_VAIN) {
            let problem = "nothing that it sent could be proven";
            self.feeds[feed.0 as usize].ailments.there = Some(problem);
            self.stop_asking(id, channel, index, problem);
            self.tell_health(feed, Some(id));
        }
    }

    fn may_ask(&self, id: ConnectionId, channel: ChannelId) -> bool {
        let parts = self.links.get(&id).and_then(|link| self.parts(link, channel));
        parts.is_some_and(|(feed, state, peer)| {
            let asked = matches!(state.compare, Compare::Asked { .. });
            !asked && feed.length() > 0 && peer.status().uploading && state.ours.downloading
        })
    }

    /// Another log was signed with the key of a feed than the one that is held here.
    pub(super) fn fork_found(&mut self, id: ConnectionId, channel: ChannelId, there: Head) {
        let Some(feed_id) = self.feed_of(id, channel) else { return };
        let entry = &mut self.feeds[feed_id.0 as usize];
        let known = entry.is_forked();
        if let (Some(feed), false) = (entry.feed(), known) {
            let (length, root) = (feed.length(), feed.root());
            entry.ailments.forked = Some((length, there.length));
            if let Some(feed) = entry.feed().filter(|_| length > 0) {
                let found = |signature| {
                    let here = Head { length, root, signature };
                    ForkFound { feed: feed_id, here, there }
                };
                match feed.buffered_signature(length - 1) {
                    Some(signature) => self.write_fork(found(signature)),
                    None => {
                        let read = feed.read_signature(length - 1);
                        self.submit(None, Vec::from([read]), Task::Fork(found([0; 64])));
                    }
                }
            }
        }
        self.quit_feed(id, channel);
        self.tell_health(feed_id, Some(id));
        // Peers whose log is not known to be ours are not served any more.
        for (connection, channel) in self.feeds[feed_id.0 as usize].channels.clone() {
            let Some(link) = self.links.get_mut(&connection) else { continue };
            if let Some(state) = link.channels.get_mut(&channel) {
                if state.compare == Compare::Unknown {
                    state.compare = Compare::Due;
                    link.to_compare.insert(channel);
                }
            }
            self.touch_channel(connection, channel);
        }
    }

    /// Our own signature was read.
    pub(super) fn fork_answered(
        &mut self,
        mut found: ForkFound,
        answers: Vec<Result<Answer, StorageError>>,
    ) {
        let read = answers.into_iter().next();
        let Some(Ok(Answer::Bytes(bytes))) = read else { return };
        let Ok(signature) = <[u8; 64]>::try_from(&bytes[..]) else { return };
        found.here.signature = signature;
        self.write_fork(found);
    }

    fn write_fork(&mut self, found: ForkFound) {
        let ForkFound { feed: id, here, there } = found;
        let forked = Forked { here, there };
        let Some(feed) = self.feeds[id.0 as usize].feed_mut() else { return };
        if !feed.set_forked(forked) {
            return;
        }
        let path = feed.file(FORKED);
        let after = feed.last_batch().or_else(|| self.before_feed(id));
        let data = Bytes::copy_from_slice(&forked.encode());
        let mut ops = Vec::from([Op::Write { path: path.clone(), offset: 0, data }]);
        if self.config.durability == Durability::Power {
            ops.push(Op::Sync { path });
        }
        self.submit(after, ops, Task::Nothing);
    }

    /// Ends a feed on one connection for good. Its channel is closed as soon as the peer has asked for a proof
    /// and got it, by which it finds out, too, or at the next tick: a JavaScript peer never asks.
    pub(super) fn quit_feed(&mut self, id: ConnectionId, channel: ChannelId) {
        let Some(feed) = self.feed_of(id, channel) else { return };
        self.drop_requests(id, channel);
        self.drop_comparison(id, channel);
        let by = self.now.after(TICK);
        let Some(link) = self.links.get_mut(&id) else { return };
        link.faulty.insert(feed);
        link.tick_at = Some(link.tick_at.map_or(by, |at| at.min(by)));
        let Some(state) = link.channels.get_mut(&channel) else { return };
        state.quitting = Some(by);
        state.compare = Compare::Unknown;
        let waiting = state.parked.len();
        state.parked.retain(asks_for_proof);
        link.parked -= waiting - state.parked.len();
        link.quitting.insert(channel);
        if !state.parked.is_empty() {
            link.serving.push_back(channel);
        }
        self.touch_channel(id, channel);
    }

    /// The peer closed a channel. The answer to a comparison may have come right before, and tells why.
    pub(super) fn remote_closed(&mut self, id: ConnectionId, channel: ChannelId) {
        self.verify_inbox(id, channel);
        let by = self.now.after(TICK);
        let Some(link) = self.links.get_mut(&id) else { return };
        let loading = |state: &Channel| state.loading.is_some() && !state.inbox.is_empty();
        match link.channels.get_mut(&channel) {
            Some(state) if loading(state) && matches!(state.compare, Compare::Asked { .. }) => {
                state.quitting = Some(by);
                state.proof_given = true;
                link.tick_at.get_or_insert(by);
                link.quitting.insert(channel);
            }
            _ => self.channel_closed(id, channel),
        }
    }

    /// A connection is over: what the last answers on it prove is not lost.
    pub(super) fn judge_last(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get(&id) else { return };
        let open = link.channels.iter().filter(|(_, state)| !state.inbox.is_empty());
        let asked = open.filter(|(_, state)| matches!(state.compare, Compare::Asked { .. }));
        for channel in asked.map(|(channel, _)| *channel).collect::<Vec<_>>() {
            self.verify_inbox(id, channel);
        }
    }

    /// Closes the channels of feeds that are to end, as far as the peer knows why or had time to ask.
    pub(super) fn finish_quitting(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get(&id) else { return };
        let over = |channel: &&ChannelId| {
            let state = link.channels.get(*channel);
            let done = |state: &Channel| {
                let idle = state.job.is_none() && state.loading.is_none();
                state.proof_given && state.parked.is_empty() && idle
            };
            let late = |state: &Channel| state.quitting.is_none_or(|by| by <= self.now);
            state.is_none_or(|state| done(state) || late(state))
        };
        let over: Vec<ChannelId> = link.quitting.iter().filter(over).copied().collect();
        for channel in over {
            if let Some(link) = self.links.get_mut(&id) {
                link.quitting.remove(&channel);
            }
            self.close_channel(id, channel);
        }
    }
}
