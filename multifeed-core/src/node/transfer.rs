//! What is moved on a channel, and in which directions: switches, and the end of a channel that is not live.
//!
//! A channel of a connection that is not live ends when both sides have what they want of it. Who has
//! all that it wants says `Status{downloading: false}`; who has said so and hears it from the other
//! closes the channel. A live peer never says so: then all channels are closed when the two are in
//! sync. When none is left the stream is ended.
//!
//! Source: `hypercore@9.12.0/lib/replicate.js`, `onstatus`, `end`. Other than there, a writer without
//! blocks to fetch says so too, and hashes and lengths that somebody waits for are waited for.

use alloc::vec::Vec;

use multifeed_proto::messages::Status;
use multifeed_proto::{ChannelId, Now};

use super::compare::Compare;
use super::{ConnectionId, FeedId, Node};

impl Node {
    /// Says whether blocks of a feed are sent to peers and fetched from them, on every connection as far as
    /// its [`ReplicationOptions`](crate::ReplicationOptions) allow. Both are until said otherwise; not
    /// remembered in the store.
    pub fn set_transfer(&mut self, now: Now, feed: FeedId, upload: bool, download: bool) {
        self.advance(now);
        let Some(entry) =
            self.feeds.get_mut(feed.0 as usize).filter(|entry| entry.list_of.is_none())
        else {
            return;
        };
        entry.transfer = Status { uploading: upload, downloading: download };
        for (connection, channel) in entry.channels.clone() {
            let status = self.status_for(connection, feed);
            self.set_channel_status(connection, channel, status);
        }
    }

    /// What this side does with a feed on a connection.
    pub(super) fn status_for(&self, id: ConnectionId, feed: FeedId) -> Status {
        let wished = self.feeds[feed.0 as usize].transfer;
        let options = self.links.get(&id).map(|link| link.options).unwrap_or_default();
        Status {
            uploading: wished.uploading && options.upload,
            downloading: wished.downloading && options.download,
        }
    }

    fn set_channel_status(&mut self, id: ConnectionId, channel: ChannelId, status: Status) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(state) = link.channels.get_mut(&channel) else { return };
        let status =
            Status { downloading: status.downloading && !state.done, uploading: status.uploading };
        let before = core::mem::replace(&mut state.ours, status);
        if before == status {
            return;
        }
        if !status.uploading {
            // The peer takes its requests back when it hears of it.
            link.parked -= state.parked.len();
            state.parked.clear();
        }
        // Only a closed channel refuses it, and then there is nobody to tell.
        let _ = link.connection.set_status(channel, status);
        if before.downloading && !status.downloading {
            self.drop_requests(id, channel);
        } else if let Some(link) = self.links.get_mut(&id) {
            link.want(channel);
        }
        self.touch_channel(id, channel);
    }

    /// The peer's status changed.
    pub(super) fn remote_status(&mut self, id: ConnectionId, channel: ChannelId, status: Status) {
        if !status.uploading {
            let again_at = self.resume_at(id, channel);
            self.drop_requests(id, channel);
            if let Some(link) = self.links.get_mut(&id) {
                link.resumed.insert(channel, again_at);
            }
            if let Some(state) = self.channel_mut(id, channel) {
                // It forgot what it was asked while it was off.
                state.wanted_to = 0;
                state.stopped = true;
            }
        } else if let Some(link) = self.links.get_mut(&id) {
            let state = link.channels.get_mut(&channel);
            if state.is_some_and(|state| core::mem::replace(&mut state.stopped, false)) {
                // A peer that flaps must not make us ask for everything each time.
                link.resumed.entry(channel).or_insert(self.now);
                link.tick_at.get_or_insert(self.now);
            }
        }
        self.touch_channel(id, channel);
    }

    /// When a peer that stops uploading is asked again at the earliest, should it go on.
    fn resume_at(&mut self, id: ConnectionId, channel: ChannelId) -> Now {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return now };
        let asked = link.channels.get(&channel).is_some_and(|state| !state.is_idle());
        let again_at = if asked { now.after(link.flapped()) } else { now };
        link.resumed.get(&channel).map_or(again_at, |before| again_at.max(*before))
    }

    /// Peers that upload again are asked again.
    pub(super) fn take_resumed(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let due = link.resumed.iter().filter(|(_, at)| **at <= self.now);
        let due: Vec<ChannelId> = due.map(|(channel, _)| *channel).collect();
        for channel in due {
            if let Some(link) = self.links.get_mut(&id) {
                link.resumed.remove(&channel);
                if let Some(state) = link.channels.get_mut(&channel) {
                    state.rewind(0);
                }
                link.want(channel);
            }
            self.send_wants(id, channel);
            self.touch_channel(id, channel);
        }
    }

    /// Ends a channel that is not live, as far as both sides have what they want.
    pub(super) fn end_channel(&mut self, id: ConnectionId, channel: ChannelId, steps: &mut u64) {
        let Some(link) = self.links.get(&id).filter(|link| !link.options.live) else { return };
        let Some(state) = link.channels.get(&channel).filter(|state| state.open) else { return };
        if !state.done {
            if self.fetches(id, channel, steps) {
                return;
            }
            let status = Status { downloading: false, ..state.ours };
            if let Some(state) = self.channel_mut(id, channel) {
                state.done = true;
            }
            self.set_channel_status(id, channel, status);
        }
        let Some(link) = self.links.get(&id) else { return };
        if link.connection.peer(channel).is_some_and(|peer| !peer.status().downloading) {
            self.close_channel(id, channel);
        }
    }

    /// Whether there is something to fetch on a channel, or may be.
    fn fetches(&self, id: ConnectionId, channel: ChannelId, steps: &mut u64) -> bool {
        let Some(link) = self.links.get(&id) else { return false };
        let Some((feed, state, peer)) = self.parts(link, channel) else { return true };
        let wishes = &self.feeds[state.feed.0 as usize].wishes;
        let busy = state.is_waiting()
            || !state.hashes.is_empty()
            || !state.inbox.is_empty()
            || !state.held.is_empty();
        if busy || !feed.unstored.is_empty() || !feed.flushes.is_empty() {
            return true;
        }
        if !peer.status().uploading || !state.ours.downloading {
            return false;
        }
        let told = state.wanted_to > 0 && peer.unanswered_wants() == 0;
        if matches!(state.compare, Compare::Asked { .. }) || self.comparable(id, channel).is_some()
        {
            return true;
        }
        !told || self.lacks(feed, wishes, state, peer, steps)
    }

    /// Ends the stream of a connection that is not live and in sync: a live peer never does.
    pub(super) fn end_link(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get(&id) else { return };
        if link.options.live || !link.in_sync || link.leave_by.is_some() {
            return;
        }
        let open: Vec<ChannelId> = link.channels.keys().copied().collect();
        for channel in open {
            self.close_channel(id, channel);
        }
        self.leave(id);
    }

    /// Closes a channel on this side.
    pub(super) fn close_channel(&mut self, id: ConnectionId, channel: ChannelId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        // Only a connection that is over refuses it.
        let _ = link.connection.close_feed(channel);
        self.channel_closed(id, channel);
    }
}
