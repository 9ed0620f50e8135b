//! Connections: which multifeeds and feeds are replicated on them, and where their news go.

use alloc::vec::Vec;

use multifeed_proto::messages::Span;
use multifeed_proto::session::FeedOptions;
use multifeed_proto::wire::Wire;
use multifeed_proto::{
    self as proto, ChannelId, Connection, DiscoveryKey, FeedKey, PeerError, Role, RootId, UserData,
};

use super::link::{Barrier, Channel, Link, LinkRoot, Phase};
use super::{ConnectOptions, ConnectionId, Event, FeedId, MultifeedId, Node, NodeError, Outcome};

/// Times that a multifeed is begun again on one connection because the peer opened it again: each
/// time it is sent the whole list of feeds.
const MAX_REJOINS: u8 = 64;

impl Node {
    pub(super) fn start_link(
        &mut self,
        role: Role,
        options: ConnectOptions,
    ) -> Option<ConnectionId> {
        if !self.store.is_ready() || self.closing.is_some() {
            return None;
        }
        let all = options.multifeeds.is_none();
        let multifeeds = options.multifeeds.unwrap_or_else(|| self.multifeeds().collect());
        if multifeeds.iter().any(|id| self.multi(*id).is_none()) {
            return None;
        }
        let id = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let entropy = self.entropy.split();
        let patience = options.patience.unwrap_or(self.config.patience);
        let mut config = self.config.connection.clone();
        if options.origin.is_some() {
            config.first_message_timeout = self.config.strangers.patience;
        }
        if !config.idle_timeout.is_zero() {
            config.idle_timeout = config.idle_timeout.max(patience.stall_timeout);
        }
        let wire = match &options.identity {
            Some(secret) => Wire::with_static_key(role, entropy, &config, *secret.expose()),
            None => Wire::new(role, entropy, &config),
        };
        let wire = if options.unencrypted { wire.into_unencrypted() } else { wire };
        let mut connection = Connection::with_wire(wire, config, self.now);
        for name in &self.extensions {
            connection.register_extension(name);
        }
        let mut link = Link::new(connection, patience, self.awake);
        link.all = all;
        link.options = options.replication;
        link.options.download &= !self.is_read_only();
        link.share(options.policy);
        link.user_data = options.user_data;
        link.admit_only(options.peers);
        link.tick_at = Some(self.now);
        self.links.insert(id, link);
        if role == Role::Responder || options.origin.is_some() {
            self.let_stranger_in(id, options.origin);
        }
        for multifeed in multifeeds {
            // Nothing is open yet that could be in the way.
            let _ = self.attach_root(id, multifeed);
        }
        self.touched.insert(id);
        self.announce(id);
        Some(id)
    }

    pub(super) fn attach_root(
        &mut self,
        id: ConnectionId,
        multifeed: MultifeedId,
    ) -> Result<(), NodeError> {
        let root = self.multi(multifeed).ok_or(NodeError::UnknownMultifeed)?.root.clone();
        let link = self.links.get_mut(&id).ok_or(NodeError::UnknownConnection)?;
        if link.root_of(multifeed).is_some_and(|root| root.phase != Phase::Ended) {
            return Ok(());
        }
        let user_data = link.user_data.clone();
        #[allow(
            clippy::wildcard_enum_match_arm,
            reason = "the rest is a connection that is over or used up"
        )]
        let joined =
            link.connection.join(self.now, root, user_data).map_err(|error| match error {
                proto::UsageError::KeyInUse => NodeError::RootKeyInUse,
                proto::UsageError::OneRoot => NodeError::OneMultifeed,
                _ => NodeError::UnknownConnection,
            })?;
        match link.root_of(multifeed) {
            Some(root) => {
                *root = LinkRoot { rejoins: root.rejoins, ..LinkRoot::new(multifeed, joined) };
            }
            None => link.roots.push(LinkRoot::new(multifeed, joined)),
        }
        link.progress(self.awake);
        link.tick_at.get_or_insert(self.now);
        self.touched.insert(id);
        self.announce(id);
        Ok(())
    }

    /// A multifeed was joined: connections that carry all carry it too.
    pub(super) fn attach_everywhere(&mut self, multifeed: MultifeedId) {
        let all = self.links.iter().filter(|(_, link)| link.all && link.leave_by.is_none());
        for id in all.map(|(id, _)| *id).collect::<Vec<_>>() {
            // Where the root key is in use as that of a feed, the connection goes on without.
            let _ = self.attach_root(id, multifeed);
        }
    }

    /// The remote opened a channel: if it is that of a multifeed that it did not have before, that
    /// begins again.
    fn root_opened(&mut self, id: ConnectionId, key: &DiscoveryKey) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let root = link.roots.iter_mut().find(|root| {
            root.phase == Phase::Ended
                && self.multifeeds[root.multifeed.0 as usize].discovery_key == *key
        });
        let Some(root) = root.filter(|root| root.rejoins < MAX_REJOINS) else { return };
        root.rejoins += 1;
        let multifeed = root.multifeed;
        let _ = self.attach_root(id, multifeed);
    }

    /// A multifeed of a connection is over.
    fn root_ended(&mut self, id: ConnectionId, root: RootId, error: Option<PeerError>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(root) = link.root_mut(root) else { return };
        root.phase = match error {
            None | Some(PeerError::MultifeedTimeout) => Phase::Ended,
            Some(_) => Phase::Failed,
        };
        root.to_offer = Vec::new();
        let multifeed = root.multifeed;
        let in_sync = core::mem::take(&mut root.in_sync);
        root.questions = 0;
        link.questions.retain(|_, question| question.multifeed != multifeed);
        if in_sync {
            self.event(Event::MultifeedOutOfSync { connection: id, multifeed });
        }
        if let Some(error) = error {
            self.event(Event::MultifeedFailed { connection: id, multifeed, error });
        }
    }

    fn multifeed_of(&self, id: ConnectionId, root: RootId) -> Option<MultifeedId> {
        let link = self.links.get(&id)?;
        link.roots.iter().find(|known| known.id == root).map(|known| known.multifeed)
    }

    /// Takes all that a connection has to tell; whether that was anything.
    pub(super) fn pump_link(&mut self, id: ConnectionId) -> bool {
        let mut any = false;
        while let Some(output) =
            self.links.get_mut(&id).and_then(|link| link.connection.poll_output())
        {
            any = true;
            self.touched.insert(id);
            self.connection_output(id, output);
        }
        any
    }

    fn connection_output(&mut self, id: ConnectionId, output: proto::Output) {
        use proto::Output as O;
        match output {
            O::Connected { remote_public_key, .. } => self.connected(id, remote_public_key),
            O::Ready { root, dialect, user_data, .. } => {
                let Some(multifeed) = self.multifeed_of(id, root) else { return };
                if self.multi(multifeed).is_none() {
                    return;
                }
                let Some(link) = self.links.get_mut(&id) else { return };
                if let Some(root) = link.root_mut(root) {
                    root.phase = Phase::Ready;
                    root.was_ready = true;
                    root.first_offer_due = true;
                }
                link.progress(self.awake);
                self.strangers.leave(id);
                let user_data = user_data.and_then(|text| UserData::from_json(text).ok());
                self.event(Event::Ready { connection: id, multifeed, dialect, user_data });
                self.prove_keys();
                self.offer_first(id, multifeed);
            }
            O::Offered { root, keys } => {
                let Some(multifeed) = self.multifeed_of(id, root) else { return };
                if !keys.is_empty() {
                    self.progress(id);
                }
                self.consider(id, multifeed, keys);
            }
            O::Requested { .. } => {}
            O::Extension { channel, name, payload } => {
                self.extension_came(id, channel, name, payload);
            }
            O::RootClosed { root } => self.root_ended(id, root, None),
            O::RootFailed { root, error } => self.root_ended(id, root, Some(error)),
            O::RemoteOpened { discovery_key } => {
                self.root_opened(id, &discovery_key);
                self.remote_opened(id, &discovery_key);
            }
            O::Replicate { root, keys, .. } => self.replicate(id, root, &keys),
            O::FeedOpened { channel } => self.channel_opened(id, channel),
            O::FeedClosed { channel } => self.remote_closed(id, channel),
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
            link.progress(self.awake);
        }
    }

    /// Opens a channel for each feed that both sides agreed on.
    fn replicate(&mut self, id: ConnectionId, root: RootId, keys: &[FeedKey]) {
        let Some(multifeed) = self.multifeed_of(id, root) else { return };
        let feeds = self.add_remote(id, multifeed, keys);
        for feed in feeds {
            self.open_channel(id, multifeed, feed);
        }
        self.event(Event::RemoteFeeds { connection: id, multifeed, keys: keys.to_vec() });
    }

    fn open_channel(&mut self, id: ConnectionId, multifeed: MultifeedId, feed: FeedId) {
        let status = self.status_for(id, feed);
        let distrusted = self.is_distrusted(id, feed);
        // It may have given way to another one meanwhile.
        let Some(entry) = self.feeds.get_mut(feed.0 as usize) else { return };
        let Some(link) = self.links.get_mut(&id) else { return };
        // Acknowledgements are the only way to learn from a JavaScript peer that it stored a block.
        let options = FeedOptions {
            ack: true,
            uploading: status.uploading,
            downloading: status.downloading,
            extensions: entry.extensions.clone(),
        };
        if link.faulty.contains(&feed) {
            return;
        }
        let Ok(channel) = link.connection.open_feed(&entry.key, options) else { return };
        if let Some(known) = link.channels.get_mut(&channel) {
            if !known.multifeeds.contains(&multifeed) {
                known.multifeeds.push(multifeed);
                self.touch_channel(id, channel);
            }
            return;
        }
        let multifeeds = Vec::from([multifeed]);
        let fetch = link.fetch(&entry.key);
        let mut state = Channel { multifeeds, fetch, ..Channel::new(feed, status) };
        if distrusted {
            // Nothing is asked of it.
            state.wrong.insert(0..u64::MAX);
        }
        link.channels.insert(channel, state);
        link.progress(self.awake);
        link.counters.feeds += u64::from(link.closed.remove(&entry.key.discovery_key()).is_none());
        entry.channels.push((id, channel));
        self.taken_up(feed);
        self.touch_channel(id, channel);
        self.ensure_open(feed);
    }

    /// Both sides have a channel open. If they had before, the remote began anew, and what was said
    /// before counts no more.
    fn channel_opened(&mut self, id: ConnectionId, channel: ChannelId) {
        let Some(feed) = self.feed_of(id, channel) else { return };
        if self.channel_mut(id, channel).is_some_and(|state| state.open) {
            self.forget_channel(id, channel);
        } else {
            self.progress(id);
            self.event(Event::PeerOpened { connection: id, feed });
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
        let sent = state.unacked.count();
        let multifeeds = core::mem::take(&mut state.multifeeds);
        let fetch = core::mem::take(&mut state.fetch);
        let (moved, in_sync) = (state.moved, state.in_sync);
        link.counted.ranges -= state.counted_ranges;
        let fresh = Channel::new(state.feed, state.ours);
        *state = Channel { multifeeds, fetch, moved, in_sync, ..fresh };
        link.serving.remove(channel);
        link.wanting.remove(channel);
        link.settled(sent);
        link.comparing.remove(&channel);
        link.quitting.remove(&channel);
    }

    pub(super) fn channel_closed(&mut self, id: ConnectionId, channel: ChannelId) {
        let was_open = self.channel_mut(id, channel).is_some_and(|state| state.open);
        self.forget_channel(id, channel);
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(feed) = link.channels.remove(&channel).map(|state| state.feed) else { return };
        link.closed.insert(self.feeds[feed.0 as usize].key.discovery_key(), feed);
        self.feeds[feed.0 as usize].channels.retain(|at| *at != (id, channel));
        self.left_alone(feed);
        self.offers_changed(feed);
        if was_open {
            self.event(Event::PeerClosed { connection: id, feed });
        }
        self.touch_channel(id, channel);
    }

    /// The feed of a channel.
    pub(super) fn feed_of(&self, id: ConnectionId, channel: ChannelId) -> Option<FeedId> {
        Some(self.links.get(&id)?.channels.get(&channel)?.feed)
    }

    /// Offers the feeds that joined since.
    /// Offers all feeds of a multifeed, once it is known whose keys are right: a peer that is not live takes the
    /// first list for all there is.
    fn offer_first(&mut self, id: ConnectionId, multifeed: MultifeedId) {
        if self.is_proving_keys() {
            return;
        }
        let Some(multi) = self.multi(multifeed) else { return };
        let proven = multi.members.iter().filter(|member| !self.is_unproven(member.feed));
        let keys = proven.map(|member| self.feeds[member.feed.0 as usize].key).collect();
        let root = self.links.get_mut(&id).and_then(|link| link.root_of(multifeed));
        let Some(root) = root else { return };
        root.first_offer_due = false;
        root.to_offer.clear();
        self.propose(id, multifeed, keys);
    }

    pub(super) fn send_offers(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get(&id) else { return };
        let first = link.roots.iter().filter(|root| root.is_ready() && root.first_offer_due);
        let first: Vec<MultifeedId> = first.map(|root| root.multifeed).collect();
        for multifeed in first {
            self.offer_first(id, multifeed);
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        let due = link.roots.iter_mut();
        let due = due.filter(|root| !root.first_offer_due && !root.to_offer.is_empty());
        let due: Vec<(MultifeedId, Vec<FeedKey>)> =
            due.map(|root| (root.multifeed, core::mem::take(&mut root.to_offer))).collect();
        for (multifeed, keys) in due {
            self.propose(id, multifeed, keys);
        }
    }

    fn acked(&mut self, id: ConnectionId, channel: ChannelId, span: Span) {
        if let Some(link) = self.links.get_mut(&id) {
            let blocks = span.start..span.start.saturating_add(span.length);
            if link.settle(channel, blocks.clone()) > 0 {
                link.progress(self.awake);
            }
            if let Some(state) = link.channels.get_mut(&channel) {
                state.given_back.remove(blocks);
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
        // Happens for every block, and hardly ever does a command end without peers.
        if !self.hopeful.is_empty() {
            if let Some(feed) = self.feed_of(id, channel) {
                self.offers_changed(feed);
            }
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
            // What waits for a record that could not be written.
            for id in self.feeds.ids().collect::<Vec<_>>() {
                if !self.may_write(id) {
                    self.give_up(id, &NodeError::Closed);
                }
            }
            for (_, entry) in self.feeds.iter_mut() {
                for command in entry.wishes.take_commands() {
                    let result = Err(NodeError::Closed);
                    self.outputs.push_back(super::Output::Completed { command, result });
                }
            }
            self.complete(command, Ok(Outcome::Closed));
        }
    }
}
