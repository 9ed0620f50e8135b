//! What to ask of whom.
//!
//! Blocks are asked for in ascending order, each of one peer at a time, many at once. Each request
//! tells which hashes we have *or will have* from answers to earlier requests on the channel
//! (speculative digests): so proofs stay as short as if the requests had been made one by one.
//! An answer that comes before one that it builds on is held, see `verify`.

use alloc::vec::Vec;

use multifeed_proto::ChannelId;
use multifeed_proto::messages::{Request, Span};
use multifeed_proto::session::Peer;

use super::compare::Compare;
use super::hashes::URGENT;
use super::link::{Channel, Flight};
use super::pages::first_lacked;
use super::select::{Scope, Wishes};
use super::{ConnectionId, EntryState, FeedId, Node};
use crate::feed::Feed;
use crate::ranges::Ranges;
use crate::tree::{NodeIndex, proof};

/// Requests made on one channel before the next one has its turn.
const TURN: usize = 16;
/// Ranges of blocks that the peer took back when it was asked for them, on one channel.
const MOST_LOST: usize = 1024;

impl Node {
    /// Fills the window of a connection with requests.
    pub(super) fn pump_requests(&mut self, id: ConnectionId) {
        if self.unstored_bytes >= self.config.max_unstored_bytes || self.closing.is_some() {
            return;
        }
        if self.links.get(&id).is_some_and(|link| link.leave_by.is_none()) {
            self.pump_urgent(id);
        }
        loop {
            let Some(link) = self.links.get_mut(&id) else { return };
            let window = link.window(&self.config);
            if link.leave_by.is_some() || link.in_flight >= window {
                return;
            }
            let Some(channel) = link.wanting.pop_front() else { return };
            if link.asking_credit.is_spent() {
                // The next tick goes on.
                link.wanting.push_back(channel);
                return;
            }
            let alone = link.wanting.is_empty();
            let turn =
                if alone { window - link.in_flight } else { TURN.min(window - link.in_flight) };
            if let Some(state) = link.channels.get_mut(&channel) {
                state.queued = false;
            }
            if self.request_some(id, channel, turn) {
                if let Some(link) = self.links.get_mut(&id) {
                    link.want(channel);
                }
            }
        }
    }

    /// Requests up to `most` blocks on a channel; whether there may be more to request.
    fn request_some(&mut self, id: ConnectionId, channel: ChannelId, most: usize) -> bool {
        // The logs are compared before anything is asked for.
        if !self.compare(id, channel) && self.awaits_comparison(id, channel) {
            return false;
        }
        for _ in 0..most {
            let Some((feed, wishes, reserved, state, peer)) = self.open_parts(id, channel) else {
                return false;
            };
            let mut steps = 0;
            let next = next_block(feed, wishes, reserved, state, peer, &mut steps);
            let moves = self.moves(id, channel, state, peer);
            self.spend_asking(id, steps);
            let Some(block) = next.filter(|_| moves) else { return false };
            if !self.request_block(id, channel, block) {
                return false;
            }
            if let Some(state) = self.channel_mut(id, channel) {
                state.cursor = block + 1;
            }
        }
        true
    }

    /// Requests blocks that somebody waits for; `false` if the window is full.
    pub(super) fn request_waited(
        &mut self,
        id: ConnectionId,
        channel: ChannelId,
        feed: FeedId,
    ) -> bool {
        loop {
            let Some((open, wishes, reserved, state, peer)) = self.open_parts(id, channel) else {
                return true;
            };
            let waited = wishes.waiters.range(state.waited_from..).map(|(block, _)| *block);
            let mut due = waited.filter(|block| {
                !open.bits.has_block(*block)
                    && !reserved.contains(*block)
                    && !open.clearing.contains(*block)
                    && !state.refused.contains(*block)
                    && !state.wrong.contains(*block)
                    && peer.remote().contains(*block)
            });
            let moves = self.moves(id, channel, state, peer);
            let next = due.next().filter(|_| moves);
            let Some(link) = self.links.get(&id) else { return true };
            let Some(block) = next else {
                if let Some(state) = self.channel_mut(id, channel) {
                    state.waited_from = u64::MAX;
                }
                return true;
            };
            if link.in_flight >= link.window(&self.config) + URGENT {
                return false;
            }
            debug_assert_eq!(self.feed_of(id, channel), Some(feed));
            if !self.request_block(id, channel, block) {
                return true;
            }
            if let Some(state) = self.channel_mut(id, channel) {
                state.waited_from = block + 1;
            }
        }
    }

    /// Whether blocks may be asked for on a channel now.
    fn moves(&self, id: ConnectionId, channel: ChannelId, state: &Channel, peer: &Peer) -> bool {
        let resumed = self.links.get(&id).is_some_and(|link| link.resumed.contains_key(&channel));
        peer.status().uploading && state.ours.downloading && !resumed
    }

    /// What decides on the next request of a channel that is open and whose feed is.
    fn open_parts(
        &self,
        id: ConnectionId,
        channel: ChannelId,
    ) -> Option<(&Feed, &Wishes, &Ranges, &Channel, &Peer)> {
        let link = self.links.get(&id)?;
        let open = |state: &&Channel| state.open && state.quitting.is_none();
        let state = link.channels.get(&channel).filter(open)?;
        let entry = &self.feeds[state.feed.0 as usize];
        Some((entry.feed()?, &entry.wishes, &entry.reserved, state, link.connection.peer(channel)?))
    }

    /// Requests a block; whether that went out.
    pub(super) fn request_block(
        &mut self,
        id: ConnectionId,
        channel: ChannelId,
        block: u64,
    ) -> bool {
        let (now, awake) = (self.now, self.awake);
        let Some(link) = self.links.get_mut(&id) else { return false };
        let Some(state) = link.channels.get_mut(&channel) else { return false };
        let entry = &mut self.feeds[state.feed.0 as usize];
        let EntryState::Open(feed) = &entry.state else { return false };
        let Some(peer) = link.connection.peer(channel) else { return false };
        let remote = peer.remote();
        let has = |node: NodeIndex| feed.bits.has_node(node) || state.promised.contains(node);
        // No node beyond is held.
        let bit_length = 2 * feed.length().max(peer.remote_length());
        let nodes = proof::digest(has, block, bit_length);
        let expected = proof::expected_nodes(block, has, |blocks| remote.contains_all(blocks));
        let mut promised = expected;
        promised.retain(|node| state.promised.insert(*node, block));
        let request = Request { index: block, bytes: 0, hash: false, nodes };
        if link.connection.request(channel, request).is_err() {
            return false;
        }
        if link.in_flight == 0 {
            link.pulse.answers.whole(awake);
        }
        let flight =
            Flight { promised, asked_at: awake, second: false, here: false, answered: false };
        state.flights.insert(block, flight);
        entry.reserved.insert(block..block + 1);
        link.active.insert(channel);
        link.in_flight += 1;
        link.tick_at.get_or_insert(now);
        true
    }

    /// A request is over: its block came, or never will on this channel.
    pub(super) fn end_flight(&mut self, id: ConnectionId, channel: ChannelId, block: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(state) = link.channels.get_mut(&channel) else { return };
        let Some(flight) = state.flights.remove(&block) else { return };
        state.here -= usize::from(flight.here);
        let (feed, waiting) = (state.feed, state.inbox.len());
        for node in flight.promised {
            state.promised.remove(node);
            // Whoever waited for it has it by now, or must wait for something else.
            state.inbox.extend(state.held.remove(&node.0).into_iter().flatten());
        }
        if state.inbox.len() > waiting {
            self.to_verify.push_back((id, channel));
        }
        if state.is_idle() {
            link.active.remove(&channel);
        }
        link.in_flight -= 1;
        self.release(feed, block, flight.second);
    }

    /// Gives up all that was asked for on a channel, so that it can be asked of others.
    pub(super) fn drop_requests(&mut self, id: ConnectionId, channel: ChannelId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(state) = link.channels.get_mut(&channel) else { return };
        let feed = state.feed;
        let blocks: Vec<u64> = state.flights.keys().copied().collect();
        let held =
            state.inbox.drain(..).chain(core::mem::take(&mut state.held).into_values().flatten());
        let (mut bytes, mut came) = (0, Vec::new());
        for data in held {
            if let Some(value) = data.value {
                bytes += value.len();
                came.push(data.index);
            }
        }
        link.held_bytes = link.held_bytes.saturating_sub(bytes);
        state.rewind(0);
        state.gave_up |= !blocks.is_empty();
        for &block in &blocks {
            let _ = link.connection.forget_request(channel, block, false);
        }
        for block in &blocks {
            self.end_flight(id, channel, *block);
        }
        for block in came {
            self.give_back(id, channel, block);
        }
        self.drop_comparison(id, channel);
        if self.drop_hashes(id, channel) || !blocks.is_empty() {
            self.rewind_others(feed);
        }
    }

    /// Blocks that were reserved are free: every peer of the feed may be asked for them.
    pub(super) fn rewind_others(&mut self, feed: FeedId) {
        for (connection, channel) in &self.feeds[feed.0 as usize].channels {
            if let Some(link) = self.links.get_mut(connection) {
                if let Some(state) = link.channels.get_mut(channel) {
                    state.rewind(0);
                }
                link.want(*channel);
                self.touched.insert(*connection);
            }
        }
    }

    /// A block that the peer sent is dropped. It waits for an acknowledgement, and there is none to come.
    pub(super) fn give_back(&mut self, id: ConnectionId, channel: ChannelId, block: u64) {
        let Some(feed) = self.feed_of(id, channel) else { return };
        let here = self.feeds[feed.0 as usize].feed();
        // The peer hears of it, or has heard.
        if here.is_some_and(|feed| feed.bits.has_block(block)) {
            return;
        }
        if let Some(link) = self.links.get_mut(&id) {
            // Only a closed channel refuses it, and then there is nobody to tell.
            let _ = link.connection.unhave(channel, Span { start: block, length: 1 });
            self.touched.insert(id);
        }
    }

    /// The peer has these blocks no more: requests for them will not be answered.
    pub(super) fn remote_lost(&mut self, id: ConnectionId, channel: ChannelId, span: Span) {
        let end = span.start.saturating_add(span.length);
        let Some(state) = self.channel_mut(id, channel) else { return };
        if matches!(state.compare, Compare::Asked { block, .. } if (span.start..end).contains(&block))
        {
            self.drop_comparison(id, channel);
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        // Nor did it take what it was sent of them.
        let sent = link.settle(channel, span.start..end);
        let Some(state) = link.channels.get_mut(&channel) else { return };
        let mut gone: Vec<u64> =
            state.flights.range(span.start..end).map(|(block, _)| *block).collect();
        gone.retain(|block| !state.has_answer(*block));
        for block in gone.iter().take(MOST_LOST) {
            state.lost.insert(*block..block + 1);
        }
        if state.lost.ranges() > MOST_LOST {
            state.lost = Ranges::default();
        }
        if sent > 0 && state.given_back.ranges() < MOST_LOST {
            state.given_back.insert(span.start..end);
        }
        self.forget_requests(id, channel, &gone);
        self.touch_channel(id, channel);
    }
}

/// The first block from the channel's cursor on that the peer has, that we lack and want, and that is
/// not asked for.
pub(super) fn next_block(
    feed: &Feed,
    wishes: &Wishes,
    reserved: &Ranges,
    state: &Channel,
    peer: &Peer,
    steps: &mut u64,
) -> Option<u64> {
    let mut at = state.cursor;
    let scope = Scope::new(state, feed, peer);
    loop {
        let block = first_lacked(&feed.bits, peer.remote(), at..u64::MAX, steps)?;
        at = if reserved.contains(block) {
            reserved.next_gap(block)
        } else if state.refused.contains(block) {
            state.refused.next_gap(block)
        } else if state.wrong.contains(block) {
            state.wrong.next_gap(block)
        } else if feed.clearing.contains(block) {
            feed.clearing.next_gap(block)
        } else {
            match wishes.next(feed, block, &scope)? {
                wanted if wanted == block => return Some(block),
                wanted => wanted,
            }
        };
    }
}
