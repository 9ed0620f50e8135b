//! Connections: which feeds are replicated on them, and where their news go.

use alloc::vec::Vec;
use bytes::Bytes;

use multifeed_proto::messages::Span;
use multifeed_proto::session::FeedOptions;
use multifeed_proto::{self as proto, ChannelId, Connection, FeedKey, Role, rle};

use super::link::{Barrier, Channel, Link};
use super::{ConnectionId, Event, FeedId, Node, Outcome};

/// Blocks in one `Want`, as the JavaScript sends and expects them.
const WANT_BLOCKS: u64 = 1 << 20;
/// Wants that may be unanswered, as in hypercore 9.
const MAX_WANTS: usize = 16;

impl Node {
    pub(super) fn start_link(&mut self, role: Role) -> Option<ConnectionId> {
        let root = self.store.root()?.clone();
        if self.closing.is_some() {
            return None;
        }
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let entropy = self.entropy.split();
        let mut connection =
            Connection::new(role, self.config.connection.clone(), entropy, self.now);
        for name in &self.extensions {
            connection.register_extension(name);
        }
        let root = connection.join(self.now, root, None).ok();
        let mut link = Link::new(connection, self.now);
        link.root = root;
        link.tick_at = Some(self.now);
        self.links.insert(id, link);
        self.touched.insert(id);
        self.announce(id);
        Some(id)
    }

    /// Takes all that a connection has to tell.
    pub(super) fn pump_link(&mut self, id: ConnectionId) {
        while let Some(output) =
            self.links.get_mut(&id).and_then(|link| link.connection.poll_output())
        {
            self.touched.insert(id);
            self.connection_output(id, output);
        }
    }

    fn connection_output(&mut self, id: ConnectionId, output: proto::Output) {
        use proto::Output as O;
        match output {
            O::Connected { remote_public_key, .. } => {
                self.progress(id);
                self.event(Event::Connected { connection: id, remote_public_key });
            }
            O::Ready { root, .. } => {
                let keys: Vec<FeedKey> = self
                    .feeds
                    .iter()
                    .filter(|entry| !entry.internal)
                    .map(|entry| entry.key)
                    .collect();
                let Some(link) = self.links.get_mut(&id) else { return };
                link.ready = true;
                link.progress(self.now);
                // The first list of feeds goes out even if it is empty: peers wait for it.
                let _ = link.connection.offer(root, &keys);
            }
            O::Offered { root, keys } => {
                let room = (self.config.max_feeds + 1).saturating_sub(self.feeds.len());
                let mut new = 0;
                let accepted: Vec<FeedKey> = keys
                    .into_iter()
                    .filter(|key| match self.by_key.get(key) {
                        Some(known) => !self.feeds[known.0 as usize].internal,
                        None => {
                            new += 1;
                            new <= room
                        }
                    })
                    .collect();
                self.progress(id);
                if let Some(link) = self.links.get_mut(&id) {
                    let _ = link.connection.request_feeds(root, &accepted);
                }
            }
            O::RemoteOpened { discovery_key } => self.remote_opened(id, &discovery_key),
            O::Requested { .. } | O::RootClosed { .. } => {}
            O::Extension { channel, name, payload } => {
                self.extension_came(id, channel, name, payload);
            }
            O::Replicate { keys, .. } => self.replicate(id, &keys),
            O::FeedOpened { channel } => {
                self.progress(id);
                self.channel_opened(id, channel);
            }
            O::FeedClosed { channel } => self.channel_closed(id, channel),
            O::Status { channel, status } => self.remote_status(id, channel, status),
            O::Have { channel, span } => self.remote_has(id, channel, span),
            O::Acked { channel, span } => self.acked(id, channel, span),
            O::Unhave { channel, span } => self.remote_lost(id, channel, span),
            O::Want { channel, span } => self.wanted(id, channel, span),
            O::Request { channel, request } => self.requested(id, channel, request),
            O::Data { channel, data } => self.data_came(id, channel, data),
            O::Closed { error } => self.drop_link(id, error),
            _ => {}
        }
    }

    pub(super) fn progress(&mut self, id: ConnectionId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.progress(self.now);
        }
    }

    /// Opens a channel for each feed that both sides agreed on.
    fn replicate(&mut self, id: ConnectionId, keys: &[FeedKey]) {
        let feeds = self.add_remote(keys);
        for feed in feeds {
            self.open_channel(id, feed);
        }
        self.progress(id);
        self.event(Event::RemoteFeeds { connection: id, keys: keys.to_vec() });
    }

    fn open_channel(&mut self, id: ConnectionId, feed: FeedId) {
        let now = self.now;
        let status = self.status_for(id, feed);
        let entry = &mut self.feeds[feed.0 as usize];
        let Some(link) = self.links.get_mut(&id) else { return };
        // Acknowledgements are the only way to learn from a JavaScript peer that it stored a block.
        let options = FeedOptions {
            ack: true,
            uploading: status.uploading,
            downloading: status.downloading,
            extensions: entry.extensions.clone(),
        };
        let Ok(channel) = link.connection.open_feed(&entry.key, options) else { return };
        if link.channels.contains_key(&channel) {
            return;
        }
        link.channels.insert(channel, Channel::new(feed, status, now));
        link.counters.feeds += u64::from(!link.closed.remove(&feed));
        entry.channels.push((id, channel));
        self.touch_channel(id, channel);
        self.ensure_open(feed);
    }

    /// Both sides have a channel open. If they had before, the remote began anew, and what was said
    /// before counts no more.
    fn channel_opened(&mut self, id: ConnectionId, channel: ChannelId) {
        let Some(feed) = self.feed_of(id, channel) else { return };
        if self.channel_mut(id, channel).is_some_and(|state| state.open) {
            self.forget_channel(id, channel);
        }
        if let Some(state) = self.channel_mut(id, channel) {
            state.open = true;
        }
        if self.feeds[feed.0 as usize].feed().is_some() {
            self.start_channel(id, channel);
        }
        self.touch_channel(id, channel);
    }

    /// Gives up all that is under way on a channel.
    fn forget_channel(&mut self, id: ConnectionId, channel: ChannelId) {
        self.drop_requests(id, channel);
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(state) = link.channels.get_mut(&channel) else { return };
        link.parked -= state.parked.len();
        *state = Channel::new(state.feed, state.ours, self.now);
        link.serving.retain(|queued| *queued != channel);
        link.wanting.retain(|queued| *queued != channel);
    }

    pub(super) fn channel_closed(&mut self, id: ConnectionId, channel: ChannelId) {
        self.forget_channel(id, channel);
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(feed) = link.channels.remove(&channel).map(|state| state.feed) else { return };
        link.closed.insert(feed);
        self.feeds[feed.0 as usize].channels.retain(|at| *at != (id, channel));
        self.touch_channel(id, channel);
    }

    /// The feed of a channel.
    pub(super) fn feed_of(&self, id: ConnectionId, channel: ChannelId) -> Option<FeedId> {
        Some(self.links.get(&id)?.channels.get(&channel)?.feed)
    }

    /// Offers the feeds that joined since.
    pub(super) fn send_offers(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let keys = core::mem::take(&mut link.to_offer);
        if let (Some(root), false) = (link.root, keys.is_empty()) {
            let _ = link.connection.offer(root, &keys);
        }
    }

    /// Asks the peer which blocks it has, as far as it says that its log reaches.
    pub(super) fn send_wants(&mut self, id: ConnectionId, channel: ChannelId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(state) = link.channels.get_mut(&channel).filter(|state| state.open) else {
            return;
        };
        while let Some(peer) = link.connection.peer(channel) {
            let due = state.wanted_to == 0 || state.wanted_to < peer.remote_length();
            if !due || peer.unanswered_wants() >= MAX_WANTS || !peer.status().uploading {
                break;
            }
            let span = Span { start: state.wanted_to, length: WANT_BLOCKS };
            if link.connection.want(channel, span).is_err() {
                break;
            }
            state.wanted_to += WANT_BLOCKS;
        }
    }

    fn wanted(&mut self, id: ConnectionId, channel: ChannelId, span: Span) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(state) = link.channels.get_mut(&channel) else { return };
        // An answer costs more than the question. More than a peer may have unanswered, or the same
        // twice, is more than it needs.
        if state.remote_wants.len() < MAX_WANTS && !state.remote_wants.contains(&span) {
            state.remote_wants.push(span);
        }
        link.asking.insert(channel);
        self.touch_channel(id, channel);
    }

    /// Answers wants of the peer while the outbox has room, each after the requests for what the peer
    /// announced before it: so a peer knows by the answer what is not wanted of it.
    pub(super) fn answer_wants(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let leaving = link.leave_by.is_some() || self.closing.is_some();
        let mut later = core::mem::take(&mut link.asking);
        while let Some(channel) = later.pop_first() {
            let Some(link) = self.links.get_mut(&id) else { return };
            let full = link.connection.buffered() >= self.config.max_outbox_bytes;
            let Some(state) = link.channels.get_mut(&channel) else { continue };
            // A feed that is being opened answers then.
            if self.feeds[state.feed.0 as usize].feed().is_none() {
                continue;
            }
            if full || state.queued && !leaving {
                link.asking.insert(channel);
                continue;
            }
            for span in core::mem::take(&mut state.remote_wants) {
                self.answer_want(id, channel, span);
            }
        }
    }

    /// Tells which blocks of a range are stored here; the first time, also where the log ends.
    fn answer_want(&mut self, id: ConnectionId, channel: ChannelId, span: Span) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(state) = link.channels.get_mut(&channel) else { return };
        let Some(feed) = self.feeds[state.feed.0 as usize].feed() else { return };
        let last = feed.length().saturating_sub(1);
        if !core::mem::replace(&mut state.told_last, true) && feed.has(last) {
            let _ = link.connection.have(channel, Span { start: last, length: 1 });
        }
        let length = if span.length == 0 { feed.length() } else { span.length };
        let length = length.min(feed.length().saturating_sub(span.start)).min(WANT_BLOCKS);
        let mut bits = feed.bits.want_bytes(span.start, length);
        for range in feed.unstored.iter() {
            for block in range.start.max(span.start)..range.end.min(span.start + length) {
                let at = block - span.start;
                if let Some(byte) = bits.get_mut((at / 8) as usize) {
                    *byte &= !(0x80 >> (at % 8));
                }
            }
        }
        let _ = link.connection.have_bitfield(channel, span, Bytes::from(rle::encode(&bits)));
    }

    fn remote_has(&mut self, id: ConnectionId, channel: ChannelId, span: Span) {
        if let Some(link) = self.links.get_mut(&id) {
            link.progress(self.now);
            if let Some(state) = link.channels.get_mut(&channel) {
                state.rewind(span.start);
            }
            link.want(channel);
        }
        self.send_wants(id, channel);
        self.touch_channel(id, channel);
    }

    fn acked(&mut self, id: ConnectionId, channel: ChannelId, span: Span) {
        if let Some(link) = self.links.get_mut(&id) {
            link.progress(self.now);
            if let Some(state) = link.channels.get_mut(&channel) {
                state.unacked.remove(span.start..span.start.saturating_add(span.length));
            }
        }
        self.touch_channel(id, channel);
    }

    /// A channel must be judged again, and a passed barrier counts no more if blocks were added.
    pub(super) fn touch_channel(&mut self, id: ConnectionId, channel: ChannelId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.unjudged.insert(channel);
            self.touched.insert(id);
        }
    }

    pub(super) fn reset_barrier(&mut self, id: ConnectionId, channel: ChannelId) {
        if let Some(state) =
            self.links.get_mut(&id).and_then(|link| link.channels.get_mut(&channel))
        {
            state.barrier = Barrier::None;
        }
    }

    /// Ends connections in order, then waits for the storage.
    pub(super) fn start_close(&mut self, command: super::CommandId) {
        if self.closing.is_some() {
            self.complete(command, Ok(Outcome::Closed));
            return;
        }
        self.closing = Some(command);
        let links: Vec<ConnectionId> = self.links.keys().copied().collect();
        for id in links {
            self.leave(id);
        }
    }

    pub(super) fn finish_close(&mut self) {
        if self.closing.is_none()
            || !self.links.is_empty()
            || !self.tasks.is_empty()
            || !self.dirty.is_empty()
        {
            return;
        }
        if let Some(command) = self.closing.take_if(|command| command.0 != 0) {
            self.closing = Some(super::CommandId(0));
            for entry in &mut self.feeds {
                for command in entry.wishes.take_commands() {
                    let result = Err(super::NodeError::Closed);
                    self.outputs.push_back(super::Output::Completed { command, result });
                }
            }
            self.complete(command, Ok(Outcome::Closed));
        }
    }
}
