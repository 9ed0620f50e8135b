//! A second request for what a peer takes long to send.
//!
//! One peer is asked for a block, as a rule. When its answer takes more than a few seconds, and another peer
//! that has the block has nothing else to do or has shown to be quick, that one is asked too, once. Whichever
//! answer comes first is taken; the other is dropped when it comes, and its place in the window stays taken
//! until then. So a peer that does not answer, or that announces what it does not have, holds up nobody,
//! and two slow ones carry little twice.

use alloc::vec::Vec;
use core::time::Duration;

use multifeed_proto::{ChannelId, Now};

use super::link::{Channel, Link};
use super::select::Scope;
use super::{ConnectionId, FeedId, Node};

/// Blocks of one connection that are asked of others at one look.
const MOST: usize = 16;

impl Node {
    /// Asks others for what was asked on a connection long ago.
    pub(super) fn ask_second(&mut self, id: ConnectionId) {
        let full = self.unstored_bytes >= self.config.max_unstored_bytes;
        let Some(link) = self.links.get(&id).filter(|_| !full && self.closing.is_none()) else {
            return;
        };
        let mut late = Vec::new();
        for channel in &link.active {
            let Some(state) = link.channels.get(channel) else { continue };
            // The last ones wait longest.
            let due = state.late(self.awake, link.patience.second_request_after);
            late.extend(
                due.take(MOST - late.len()).map(|(block, age)| (*channel, state.feed, block, age)),
            );
        }
        for (channel, feed, block, age) in late {
            let Some((other, at)) = self.second_for(id, feed, block, age) else { continue };
            if !self.request_block(other, at, block) {
                continue;
            }
            for place in [(id, channel), (other, at)] {
                let state = self.channel_mut(place.0, place.1);
                if let Some(flight) = state.and_then(|state| state.flights.get_mut(&block)) {
                    flight.second = true;
                }
            }
            self.touched.insert(other);
        }
    }

    /// Who else may be asked for a block.
    fn second_for(
        &self,
        id: ConnectionId,
        feed: FeedId,
        block: u64,
        age: Duration,
    ) -> Option<(ConnectionId, ChannelId)> {
        let entry = &self.feeds[feed.0 as usize];
        let here = entry.feed()?.bits.has_block(block) || entry.feed()?.clearing.contains(block);
        let places = entry.channels.iter().filter(|(other, _)| *other != id && !here);
        let able = places.copied().filter(|(other, channel)| {
            let Some(link) = self.links.get(other).filter(|link| link.is_quick(self, age)) else {
                return false;
            };
            self.parts(link, *channel).is_some_and(|(feed, state, peer)| {
                let scope = Scope::new(state, feed, peer);
                state.open
                    && state.quitting.is_none()
                    && peer.status().uploading
                    && state.ours.downloading
                    && peer.remote().contains(block)
                    && !link.resumed.contains_key(channel)
                    && !state.refused.contains(block)
                    && !state.wrong.contains(block)
                    && !state.flights.contains_key(&block)
                    && entry.wishes.next(feed, block, &scope) == Some(block)
            })
        });
        able.min_by_key(|(other, _)| self.links[other].usual.unwrap_or(Duration::MAX))
    }

    /// A block is asked of nobody any more on a channel; it may be in flight on another one.
    pub(super) fn release(&mut self, feed: FeedId, block: u64, second: bool) {
        let left = second && self.other_flights(feed, block, |flight| flight.second = false);
        if !left {
            self.feeds[feed.0 as usize].reserved.remove(block..block + 1);
        }
    }

    /// A block came: whoever was asked for it besides need not hurry.
    pub(super) fn came_first(&mut self, feed: FeedId, block: u64) {
        if !self.feeds[feed.0 as usize].reserved.contains(block) {
            return;
        }
        for (connection, channel) in self.feeds[feed.0 as usize].channels.clone() {
            if let Some(state) = self.channel_mut(connection, channel) {
                let flight = state.flights.get_mut(&block);
                let fresh =
                    flight.is_some_and(|flight| !core::mem::replace(&mut flight.here, true));
                state.here += usize::from(fresh);
                self.touch_channel(connection, channel);
            }
        }
    }

    /// Does something to all requests for a block; whether there are any.
    fn other_flights(
        &mut self,
        feed: FeedId,
        block: u64,
        act: impl Fn(&mut super::link::Flight),
    ) -> bool {
        let mut any = false;
        for (connection, channel) in &self.feeds[feed.0 as usize].channels {
            let link = self.links.get_mut(connection);
            let state = link.and_then(|link| link.channels.get_mut(channel));
            if let Some(flight) = state.and_then(|state| state.flights.get_mut(&block)) {
                act(flight);
                any = true;
            }
        }
        any
    }
}

impl Channel {
    /// Blocks that were asked for so long ago, the last first, and for how long.
    fn late(&self, awake: Now, after: Duration) -> impl Iterator<Item = (u64, Duration)> + '_ {
        self.flights.iter().rev().filter_map(move |(block, flight)| {
            let age = awake.since(flight.asked_at);
            let open = !flight.second && !flight.here && age >= after;
            (open && !self.has_answer(*block)).then_some((*block, age))
        })
    }

    /// Whether an answer is waited for that brings something new.
    pub(super) fn is_waiting(&self) -> bool {
        self.flights.len() > self.here
    }
}

impl Link {
    /// Whether one more request is likely to be answered well before `age` is over again.
    fn is_quick(&self, node: &Node, age: Duration) -> bool {
        let room = self.leave_by.is_none() && self.in_flight < self.window(&node.config);
        let quick = self.usual.is_some_and(|usual| usual.saturating_mul(2) <= age)
            && self.pulse.answers.still(node.awake) < self.patience.second_request_after;
        room && (self.in_flight == 0 || quick)
    }
}
