//! Whether two peers have what they want of each other, and what happens when nothing moves.
//!
//! A JavaScript peer never says that it is done. What is known instead: every list of feeds was
//! answered, every feed is open on both sides, every `Want` was answered, all that the peer announced
//! is stored, all that was sent is acknowledged, and what the peer lacks it has shown not to want.

use alloc::vec::Vec;
use core::time::Duration;

use multifeed_proto::ChannelId;
use multifeed_proto::messages::Span;

use super::link::{Barrier, Channel, Link, Phase};
use super::missing::{MAX_RUNS, lacking, missing, stored_runs, unacknowledged};
use super::{ConnectionId, Counters, Event, MultifeedId, Node, SyncState, WaitingFor};
use crate::feed::Feed;
use crate::ranges::Ranges;
use multifeed_proto::session::Peer;

/// How often a connection that is waiting for something is looked at.
pub(super) const TICK: Duration = Duration::from_millis(500);
/// A barrier asks for blocks at least this far beyond the end of the log.
const BARRIER_AHEAD: u64 = 1 << 24;
const PAGE: u64 = 8192;

impl Node {
    /// Whether the two ends of a connection have what they want of each other.
    #[must_use]
    pub fn sync_state(&self, connection: ConnectionId) -> SyncState {
        let Some(link) = self.links.get(&connection) else { return SyncState::Closed };
        match self.link_waits(link, true) {
            Some(waiting) => SyncState::Waiting(waiting),
            None if link.in_sync => SyncState::InSync,
            None => SyncState::Waiting(WaitingFor::Handshake),
        }
    }

    /// Whether the two ends of a connection have what they want of each other in one multifeed;
    /// [`SyncState::Closed`] if the connection does not carry it, or the peer is done with it.
    #[must_use]
    pub fn multifeed_sync_state(
        &self,
        connection: ConnectionId,
        multifeed: MultifeedId,
    ) -> SyncState {
        let Some(link) = self.links.get(&connection) else { return SyncState::Closed };
        let root = link.roots.iter().find(|root| root.multifeed == multifeed);
        match root {
            Some(root) if matches!(root.phase, Phase::Waiting | Phase::Ready) => {
                match self.root_waits(link, root, true) {
                    Some(waiting) => SyncState::Waiting(waiting),
                    None => SyncState::InSync,
                }
            }
            Some(_) | None => SyncState::Closed,
        }
    }

    /// Counts of a connection; all zero if it is unknown. Those of one that is over are in
    /// [`Event::Closed`].
    #[must_use]
    pub fn counters(&self, connection: ConnectionId) -> Counters {
        let Some(link) = self.links.get(&connection) else { return Counters::default() };
        let mut counters = link.counters;
        counters.wire_received = link.connection.received_bytes();
        counters.wire_sent = link.connection.sent_bytes();
        counters.in_flight = link.in_flight as u64;
        counters.window = link.window(&self.config) as u64;
        counters.parked = link.parked as u64;
        counters.held_bytes = link.held_bytes as u64;
        counters.outbox_bytes = link.connection.buffered() as u64;
        for id in &link.unsynced {
            if let Some((feed, state, peer)) = self.parts(link, *id) {
                let wishes = &self.feeds[state.feed.0 as usize].wishes;
                let missing = missing(feed, wishes, state, peer, &mut 0).0;
                counters.missing = counters.missing.saturating_add(missing);
            }
        }
        for (id, state) in &link.channels {
            if state.barrier == Barrier::Passed {
                if let Some((feed, _, peer)) = self.parts(link, *id) {
                    counters.not_wanted = counters.not_wanted.saturating_add(lacking(feed, peer));
                }
            }
        }
        counters
    }

    pub(super) fn parts<'a>(
        &'a self,
        link: &'a Link,
        id: ChannelId,
    ) -> Option<(&'a Feed, &'a Channel, &'a Peer)> {
        let state = link.channels.get(&id)?;
        Some((self.feeds[state.feed.0 as usize].feed()?, state, link.connection.peer(id)?))
    }

    /// Judges the channels where something happened, and tells if that changes the whole.
    pub(super) fn judge(&mut self, id: ConnectionId) {
        while let Some(channel) = self.links.get_mut(&id).and_then(Link::next_unjudged) {
            let mut steps = 0;
            self.settle_unacked(id, channel);
            self.count_ranges(id, channel);
            self.end_channel(id, channel, &mut steps);
            let waits = self.channel_waits(id, channel, &mut steps);
            self.spend(id, steps);
            self.tell_feed(id, channel, waits.is_none());
            let Some(link) = self.links.get_mut(&id) else { return };
            let of = link.channels.get(&channel).map_or(&[][..], |state| &state.multifeeds);
            for root in &mut link.roots {
                if waits.is_none() {
                    root.unsynced.remove(&channel);
                } else if of.contains(&root.multifeed) {
                    root.unsynced.insert(channel);
                }
            }
            if waits.is_none() {
                link.unsynced.remove(&channel);
                continue;
            }
            link.unsynced.insert(channel);
            if matches!(waits, Some(WaitingFor::Comparison(_)))
                && !link.comparing.contains(&channel)
                && !link.quitting.contains(&channel)
                && link.to_compare.insert(channel)
            {
                self.touched.insert(id);
            }
            if matches!(waits, Some(WaitingFor::Confirmation(_) | WaitingFor::GivenBack { .. })) {
                self.ask_barrier(id, channel);
            }
        }
        self.judge_multifeeds(id);
        let Some(link) = self.links.get(&id) else { return };
        // Once our side is shut down, feeds are no longer opened, and nothing says that they are in sync.
        let open = link.in_sync || !link.connection.is_shut_down();
        let judged = link.unjudged.is_empty();
        let in_sync = open && judged && self.link_waits(link, false).is_none();
        let Some(link) = self.links.get_mut(&id) else { return };
        if in_sync != link.in_sync {
            link.in_sync = in_sync;
            link.pulse.owed = (0, 0);
            link.progress(self.awake);
            if !in_sync && link.tick_at.is_none() {
                link.tick_at = Some(self.now.after(TICK));
            }
            self.event(if in_sync {
                Event::InSync { connection: id }
            } else {
                Event::OutOfSync { connection: id }
            });
        }
        self.end_link(id);
    }

    /// Tells of multifeeds that are in sync, or no longer.
    fn judge_multifeeds(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get(&id) else { return };
        let mut changed = Vec::new();
        for (at, root) in link.roots.iter().enumerate() {
            let open = root.in_sync || !link.connection.is_shut_down();
            let open = open && root.is_ready() && link.unjudged.is_empty();
            let in_sync = open && self.root_waits(link, root, false).is_none();
            if in_sync != root.in_sync {
                changed.push((at, root.multifeed, in_sync));
            }
        }
        for (at, multifeed, in_sync) in changed {
            if let Some(root) = self.links.get_mut(&id).and_then(|link| link.roots.get_mut(at)) {
                root.in_sync = in_sync;
            }
            self.event(if in_sync {
                Event::MultifeedInSync { connection: id, multifeed }
            } else {
                Event::MultifeedOutOfSync { connection: id, multifeed }
            });
        }
    }

    /// Tells the peer again of all blocks that are stored here.
    pub(super) fn tell_held(&mut self, id: ConnectionId, channel: ChannelId) {
        let Some(link) = self.links.get(&id) else { return };
        let Some((feed, _, peer)) = self.parts(link, channel) else { return };
        if !peer.remote_wants() {
            // It asked without having been told of any, and may do so again.
            if let Some(state) = self.channel_mut(id, channel) {
                state.taken_back = Ranges::default();
            }
            return self.touch_channel(id, channel);
        }
        let mut held = Ranges::default();
        for run in stored_runs(feed).take(MAX_RUNS) {
            held.insert(run);
        }
        for run in feed.unstored.iter() {
            held.remove(run);
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        if let Some(state) = link.channels.get_mut(&channel) {
            state.taken_back = Ranges::default();
            state.barrier = Barrier::None;
        }
        for run in held.iter() {
            let span = Span { start: run.start, length: run.end - run.start };
            // Only a closed channel refuses it, and then there is nobody to tell.
            let _ = link.connection.have(channel, span);
        }
        self.touch_channel(id, channel);
    }

    /// Asks the peer for blocks that cannot exist: what it wants of us it asks for before it answers.
    fn ask_barrier(&mut self, id: ConnectionId, channel: ChannelId) {
        let Some(link) = self.links.get(&id) else { return };
        let Some((feed, state, peer)) = self.parts(link, channel) else { return };
        match state.barrier {
            Barrier::None if peer.unanswered_wants() == 0 && peer.status().uploading => {
                let start = (feed.length().max(peer.remote_length()) + BARRIER_AHEAD) / PAGE * PAGE;
                let Some(link) = self.links.get_mut(&id) else { return };
                if link.connection.want(channel, Span { start, length: PAGE }).is_ok() {
                    self.barrier(id, channel, Barrier::Asked);
                }
            }
            Barrier::Asked if peer.unanswered_wants() == 0 => {
                self.barrier(id, channel, Barrier::Passed);
                self.touch_channel(id, channel);
            }
            Barrier::None | Barrier::Asked | Barrier::Passed => {}
        }
    }

    pub(super) fn next_timeout(&self) -> Option<multifeed_proto::Now> {
        let links = self.links.values().flat_map(|link| {
            [link.connection.poll_timeout(), link.tick_at, link.leave_by].into_iter().flatten()
        });
        links.chain(self.retries.first().map(|(at, _)| *at)).chain(self.unseen.next_due()).min()
    }

    pub(super) fn tick(&mut self) {
        while let Some((at, feed)) = self.retries.first().copied().filter(|(at, _)| *at <= self.now)
        {
            self.retries.remove(&(at, feed));
            if self.feeds[feed.0 as usize].retry_at == Some(at) {
                let entry = &self.feeds[feed.0 as usize];
                match entry.list_of {
                    Some(multifeed) => self.list_failed(multifeed),
                    None if entry.folder.is_none() => self.pump_folders(),
                    None if entry.feed().is_some() => {
                        // Blocks that could not be read, and were taken back.
                        for (connection, channel) in entry.channels.clone() {
                            self.tell_held(connection, channel);
                        }
                    }
                    None => self.ensure_open(feed),
                }
            }
        }
        self.forget_due();
        let ids: Vec<ConnectionId> = self.links.keys().copied().collect();
        for id in ids {
            self.tick_link(id);
        }
    }

    fn tick_link(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.connection.handle_timeout(self.now);
        self.touched.insert(id);
        if link.tick_at.is_none_or(|at| at > self.now) {
            return;
        }
        link.credit.ticked();
        link.asking_credit.ticked();
        self.take_resumed(id);
        if let Some(link) = self.links.get_mut(&id) {
            for channel in core::mem::take(&mut link.stuck) {
                link.serving.push_back(channel);
            }
        }
        self.give_up_silent(id);
        self.give_up_comparing(id);
        self.finish_quitting(id);
        self.ask_second(id);
        self.retry_refused(id);
        let Some(link) = self.links.get(&id) else { return };
        let waits = if link.in_sync { None } else { self.link_waits(link, true) };
        let stalled = link.still(self.awake) >= link.patience.stall_timeout;
        let taken = link.connection.buffered() == 0;
        let Some(link) = self.links.get_mut(&id) else { return };
        let idle = link.in_sync
            && link.in_flight == 0
            && link.leave_by.is_none()
            && !link.credit.is_spent()
            && !link.asking_credit.is_spent();
        if taken {
            link.pulse.taken.whole(self.awake);
        }
        link.tick_at = (!idle).then(|| self.now.after(TICK));
        if let (Some(waiting), true, false) = (waits, stalled, link.stall_told) {
            link.stall_told = true;
            let waiting = link.blame(waiting, self.awake);
            self.event(Event::Stalled { connection: id, waiting });
        }
    }

    /// Ends a connection in order: see [`Node::disconnect`].
    pub(super) fn leave(&mut self, id: ConnectionId) {
        let by = self.now.after(self.config.leave_timeout);
        let Some(link) = self.links.get_mut(&id) else { return };
        link.leave_by.get_or_insert(by);
        link.tick_at.get_or_insert(self.now);
        self.touched.insert(id);
    }

    /// A connection that is left is closed when nothing of ours is open on it any more.
    pub(super) fn finish_leaving(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(by) = link.leave_by else { return };
        if link.connection.is_shut_down() {
            // The peer did not close its side in time.
            if self.now >= by {
                link.connection.close(None);
            }
            return;
        }
        let count = link.channels.len() as u64;
        if link.credit.is_spent() && self.now < by {
            return;
        }
        let busy = link
            .channels
            .values()
            .any(|state| !state.parked.is_empty() || state.job.is_some() || state.is_waiting());
        let busy = busy
            || link.channels.iter().any(|(channel, state)| {
                link.connection
                    .peer(*channel)
                    .is_some_and(|peer| unacknowledged(state, peer, false) > 0)
            });
        self.spend(id, count / 64);
        let Some(link) = self.links.get_mut(&id) else { return };
        if busy && self.now >= by && link.pulse.moved.still(self.awake) >= self.config.leave_timeout
        {
            // Nothing has moved since then: an orderly end would not reach the peer either.
            link.connection.close(None);
        } else if !busy || !link.is_ready() || self.now >= by {
            link.connection.shutdown();
            link.leave_by = Some(self.now.after(self.config.leave_timeout));
            self.announce(id);
        }
    }
}
