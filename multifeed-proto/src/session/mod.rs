//! Messages to meaning: channels, extensions, multifeed handshakes and what a peer said of each
//! feed.
//!
//! In this folder: [`Session`], which takes messages in and gives messages and
//! [`Output`]s out; `channels` (numbers and names of channels), `extensions` (names
//! and numbers of extensions), `mux` (the multifeed rules), `feed` (messages of a feed channel),
//! `peer`, `blocks` and `bits` (what the remote has), `verbs` (what the application can do).
//!
//! Not here: bytes (`wire`), timers other than that of the multifeed handshake (`connection`), and
//! everything that needs the contents of feeds: which blocks there are, which to ask for, what to
//! answer.

mod bits;
mod blocks;
mod channels;
mod extensions;
mod feed;
mod mux;
mod peer;
#[cfg(test)]
mod random_tests;
mod verbs;

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use self::channels::{Channels, Kind, Remote};
use self::extensions::Scope;
use self::mux::{Body, Received, Way};
use crate::connection::{Output, RootId};
use crate::messages::{Message, Open, Options};
use crate::wire::{self, SplitKeys};
use crate::{ChannelId, Config, Dialect, DiscoveryKey, FeedKey, Now, PeerError};

pub use self::blocks::RemoteBlocks;
pub use self::mux::Mux;
pub use self::peer::Peer;
pub use self::verbs::FeedOptions;

/// Everything of a connection above the bytes: messages in, messages out.
///
/// [`Connection`](crate::Connection) joins it with a [`Wire`](crate::wire::Wire). On its own it
/// serves tests, and streams that are framed in another way.
///
/// After each call, take [`poll_message`](Self::poll_message) and
/// [`poll_output`](Self::poll_output) until both are empty. After an error every call gives an
/// error again.
///
/// Source: `simple-hypercore-protocol@2.1.2`, `hypercore-protocol@8.0.7`.
pub struct Session {
    config: Config,
    now: Now,
    keys: Option<SplitKeys>,
    channels: Channels,
    roots: Vec<Mux>,
    /// The multifeed whose messages may travel on the stream: one at most.
    stream_root: Option<RootId>,
    stream: Scope,
    /// The remote's names on the stream, to be matched again when a name is registered here.
    stream_names: Vec<String>,
    /// Bytes of the remote's names on all feed channels together.
    name_bytes: usize,
    /// Channels of the remote that were refused because there were too many.
    refused: usize,
    /// Entries of all [`RemoteBlocks`] together.
    have_pages: usize,
    messages: VecDeque<(u32, Message)>,
    outputs: VecDeque<Output>,
    failure: Option<PeerError>,
    closed: bool,
}

impl Session {
    /// A session without any channel.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
            now: Now::default(),
            keys: None,
            channels: Channels::new(),
            roots: Vec::new(),
            stream_root: None,
            stream: Scope::default(),
            stream_names: Vec::new(),
            name_bytes: 0,
            refused: 0,
            have_pages: 0,
            messages: VecDeque::new(),
            outputs: VecDeque::new(),
            failure: None,
            closed: false,
        }
    }

    /// The Noise handshake is over: channels can be proven, so those asked for so far are opened.
    pub fn handle_connected(&mut self, now: Now, keys: SplitKeys) {
        self.now = self.now.max(now);
        self.keys = Some(keys);
        let ids: Vec<_> = self.channels.iter().map(|(id, _)| id).collect();
        for id in ids {
            self.send_open(id);
        }
    }

    /// Takes a message from the remote's channel number `remote_channel`.
    ///
    /// Messages before [`handle_connected`](Self::handle_connected) are ignored: nothing in them
    /// could be checked.
    ///
    /// # Errors
    ///
    /// What the remote did wrong. The session is over, this call gives the same error from here on.
    pub fn handle_message(
        &mut self,
        now: Now,
        remote_channel: u32,
        message: Message,
    ) -> Result<(), PeerError> {
        self.now = self.now.max(now);
        if let Some(error) = &self.failure {
            return Err(error.clone());
        }
        if self.closed || self.keys.is_none() {
            return Ok(());
        }
        let result = self.route(remote_channel, message);
        self.failure = result.as_ref().err().cloned();
        result
    }

    /// Checks the deadlines of the multifeed handshakes. Harmless when early.
    ///
    /// A multifeed whose deadline has passed fails with [`PeerError::MultifeedTimeout`]; see
    /// [`Output::RootFailed`].
    ///
    /// # Errors
    ///
    /// [`PeerError::MultifeedTimeout`] if no other multifeed is left. The session is over.
    pub fn handle_timeout(&mut self, now: Now) -> Result<(), PeerError> {
        self.now = self.now.max(now);
        if let Some(error) = &self.failure {
            return Err(error.clone());
        }
        let due = |mux: &Mux| mux.deadline().is_some_and(|deadline| deadline <= self.now);
        let late: Vec<RootId> = (0..)
            .map(RootId)
            .zip(&self.roots)
            .filter(|(_, mux)| due(mux))
            .map(|(root, _)| root)
            .collect();
        let result =
            late.into_iter().try_for_each(|root| self.fail_root(root, PeerError::MultifeedTimeout));
        self.failure = result.as_ref().err().cloned();
        result
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Now> {
        if self.closed || self.failure.is_some() {
            return None;
        }
        self.roots.iter().filter_map(Mux::deadline).min()
    }

    /// The next message to be sent, with our channel number.
    #[must_use]
    pub fn poll_message(&mut self) -> Option<(u32, Message)> {
        self.messages.pop_front()
    }

    /// The next thing to look at.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Outputs that wait to be taken.
    pub(crate) fn waiting_outputs(&self) -> usize {
        self.outputs.len()
    }

    /// What the remote said on a feed channel.
    #[must_use]
    pub fn peer(&self, channel: ChannelId) -> Option<&Peer> {
        match &self.channels.get(channel)?.kind {
            Kind::Feed(feed) => Some(&feed.peer),
            Kind::Root(_) => None,
        }
    }

    /// The key of a feed channel.
    #[must_use]
    pub fn key(&self, channel: ChannelId) -> Option<&FeedKey> {
        match &self.channels.get(channel)?.kind {
            Kind::Feed(feed) => Some(&feed.key),
            Kind::Root(_) => None,
        }
    }

    /// The channel of a feed, if this side has it open.
    #[must_use]
    pub fn channel(&self, key: &FeedKey) -> Option<ChannelId> {
        let id = self.channels.by_key(&key.discovery_key())?;
        self.key(id).map(|_| id)
    }

    /// Channels that either side has open. A stream that is not live ends when there is none left.
    ///
    /// Source: `hypercore-protocol@8.0.7`, `index.js`, `channelCount`.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// The multifeed that was joined as `root`.
    #[must_use]
    pub fn mux(&self, root: RootId) -> Option<&Mux> {
        self.roots.get(usize::try_from(root.0).ok()?)
    }

    /// Ends the session: verbs give an error. Outputs that wait can still be taken.
    pub(crate) fn stop(&mut self) {
        self.closed = true;
        self.messages.clear();
    }

    fn route(&mut self, remote_channel: u32, message: Message) -> Result<(), PeerError> {
        if remote_channel > self.config.max_channel {
            return Err(PeerError::ChannelLimit {
                channel: remote_channel.into(),
                max: self.config.max_channel,
            });
        }
        if let Message::Open(open) = &message {
            return self.on_open(remote_channel, open);
        }
        if let Message::Close { discovery_key } = message {
            self.on_close(remote_channel, discovery_key);
            return Ok(());
        }
        if remote_channel == 0 {
            return self.on_stream_message(message);
        }
        match self.channels.by_remote(remote_channel) {
            Some(Remote::Channel(id)) => self.on_channel_message(id, message),
            // Not open here: dropped, not queued, as the JavaScript does.
            Some(Remote::Pending(_)) | None => Ok(()),
        }
    }

    fn on_open(&mut self, remote: u32, open: &Open) -> Result<(), PeerError> {
        if remote == 0 {
            return Err(PeerError::Message { message: "Open", problem: "channel 0" });
        }
        let key = open.discovery_key;
        // A number that is taken anew was closed before, whether that was said or not.
        match self.channels.by_remote(remote) {
            Some(Remote::Channel(id)) if self.channels.by_key(&key) != Some(id) => {
                self.drop_channel(id);
            }
            Some(Remote::Pending(other)) => {
                self.channels.take_pending(&other);
            }
            Some(Remote::Channel(_)) | None => {}
        }
        let Some(id) = self.channels.by_key(&key) else {
            return self.on_unknown_open(remote, open);
        };
        if !self.is_proven(id, open.capability) {
            return Err(PeerError::Capability);
        }
        self.channels.bind(id, remote);
        self.on_both_open(id);
        Ok(())
    }

    /// Whether a multifeed was joined, and none was ever ready.
    pub(crate) fn is_unanswered(&self) -> bool {
        !self.roots.is_empty() && !self.roots.iter().any(Mux::was_ready)
    }

    fn on_unknown_open(&mut self, remote: u32, open: &Open) -> Result<(), PeerError> {
        let unproven = !self.roots.is_empty() && !self.roots.iter().any(Mux::is_proven);
        if self.config.dialect == Dialect::Stream && unproven {
            return Err(PeerError::ExchangeKey);
        }
        let key = open.discovery_key;
        let max = self.config.max_pending_channels;
        let again = self.channels.is_pending(&key);
        if self.channels.insert_pending(key, remote, open.capability, max) {
            if !again {
                self.outputs.push_back(Output::RemoteOpened { discovery_key: key });
            }
            return Ok(());
        }
        self.refused += 1;
        if self.refused > max.saturating_mul(REFUSED_PER_PENDING) {
            return Err(PeerError::PendingChannels { max });
        }
        self.refuse(key);
        Ok(())
    }

    fn on_close(&mut self, remote: u32, discovery_key: Option<DiscoveryKey>) {
        match self.channels.by_remote(remote) {
            Some(Remote::Channel(id)) => self.drop_channel(id),
            Some(Remote::Pending(key)) => {
                self.channels.take_pending(&key);
            }
            None => {
                let Some(key) = discovery_key else { return };
                self.channels.take_pending(&key);
                if let Some(id) = self.channels.by_key(&key) {
                    self.drop_channel(id);
                }
            }
        }
    }

    /// The remote closed a channel: answers in kind and forgets it.
    ///
    /// Not so a multifeed that waits for its handshake: the remote may have given it up at the moment
    /// at which it was joined here, and be about to begin anew. So its deadline decides.
    fn drop_channel(&mut self, id: ChannelId) {
        let root = match self.channels.get(id).map(|channel| &channel.kind) {
            Some(Kind::Root(root)) => self.mux(*root),
            Some(Kind::Feed(_)) | None => None,
        };
        if root.is_some_and(|mux| mux.deadline().is_some()) {
            return self.channels.unbind(id);
        }
        let Some(channel) = self.channels.remove(id) else { return };
        self.forget_names(&channel.remote_names);
        self.send(id, Message::Close { discovery_key: None });
        match channel.kind {
            Kind::Root(root) => {
                if self.mux_mut(root).is_some_and(Mux::close) {
                    self.outputs.push_back(Output::RootClosed { root });
                }
            }
            Kind::Feed(feed) => {
                self.have_pages -= feed.peer.remote().entries();
                self.outputs.push_back(Output::FeedClosed { channel: id });
                self.feeds_changed();
            }
        }
    }

    /// Sends the answers of a multifeed that need not wait any more.
    fn release_answers(&mut self, root: RootId) {
        let Some(mux) = self.mux_mut(root) else { return };
        let way = mux.way();
        for answer in mux.release() {
            self.send_mux(root, way, answer);
        }
    }

    /// The channel of a feed opened or closed, which answers may have waited for.
    fn feeds_changed(&mut self) {
        let mut answers = Vec::new();
        for (root, mux) in (0..).map(RootId).zip(&mut self.roots) {
            let way = mux.way();
            answers.extend(mux.feeds_changed().into_iter().map(|answer| (root, way, answer)));
        }
        for (root, way, answer) in answers {
            self.send_mux(root, way, answer);
        }
    }

    fn forget_names(&mut self, names: &[String]) {
        self.name_bytes -= names.iter().map(|name| name.len() + feed::NAME).sum::<usize>();
    }

    /// Ends one multifeed by the fault of the remote. Without another one that was or may become
    /// ready there is nothing left to talk about, and the session is over.
    fn fail_root(&mut self, root: RootId, error: PeerError) -> Result<(), PeerError> {
        let Some(mux) = self.mux_mut(root) else { return Ok(()) };
        mux.fail();
        let channel = mux.channel();
        if !self.roots.iter().any(Mux::is_of_use) {
            return Err(error);
        }
        self.close_channel(channel);
        self.outputs.push_back(Output::RootFailed { root, error });
        Ok(())
    }

    /// Closes a channel from this side, if it is open.
    fn close_channel(&mut self, id: ChannelId) {
        let Some(removed) = self.channels.remove(id) else { return };
        self.forget_names(&removed.remote_names);
        // Before the Noise handshake is over the remote has not heard of it.
        if self.keys.is_some() {
            self.send(id, Message::Close { discovery_key: None });
        }
    }

    /// Both sides have the channel open: whatever came before, it starts anew.
    fn on_both_open(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        channel.scope.reset();
        let names = core::mem::take(&mut channel.remote_names);
        self.forget_names(&names);
        let Some(channel) = self.channels.get_mut(id) else { return };
        match &channel.kind {
            Kind::Root(root) => {
                let root = *root;
                for (way, handshake) in self.mux_mut(root).map_or(Vec::new(), Mux::opened) {
                    self.send_mux(root, way, handshake);
                }
            }
            Kind::Feed(_) => {
                self.start_feed(id);
                self.feeds_changed();
            }
        }
    }

    fn on_stream_message(&mut self, message: Message) -> Result<(), PeerError> {
        match message {
            Message::Options(options) => {
                extensions::check(&options.extensions, &self.config)?;
                self.stream.set_remote(&options.extensions);
                self.stream_names = options.extensions;
            }
            Message::Extension { id, payload } => {
                let Some(name) = self.stream.name(id) else { return Ok(()) };
                let root = self.stream_root.filter(|_| Mux::NAMES.contains(&name));
                let place = root.and_then(|root| usize::try_from(root.0).ok());
                let mux = place.and_then(|place| self.roots.get_mut(place));
                if let Some((root, mux)) = root.zip(mux) {
                    match mux.handle(Way::Stream, name, &payload, &self.config) {
                        Ok(received) => self.on_mux(root, Way::Stream, received),
                        Err(error) => self.fail_root(root, error)?,
                    }
                    return Ok(());
                }
                let name = name.into();
                self.outputs.push_back(Output::Extension { channel: None, name, payload });
            }
            Message::Open(_)
            | Message::Status(_)
            | Message::Have(_)
            | Message::Unhave(_)
            | Message::Want(_)
            | Message::Unwant(_)
            | Message::Request(_)
            | Message::Cancel { .. }
            | Message::Data(_)
            | Message::Close { .. } => {}
        }
        Ok(())
    }

    fn on_channel_message(&mut self, id: ChannelId, message: Message) -> Result<(), PeerError> {
        let Some(channel) = self.channels.get_mut(id) else { return Ok(()) };
        let root = match &channel.kind {
            Kind::Feed(_) => return self.on_feed_message(id, message),
            Kind::Root(root) => *root,
        };
        match message {
            Message::Options(options) => {
                extensions::check(&options.extensions, &self.config)?;
                channel.scope.set_remote(&options.extensions);
            }
            Message::Extension { id: number, payload } => {
                let place = usize::try_from(root.0).unwrap_or(usize::MAX);
                let mux = self.roots.get_mut(place).zip(channel.scope.name(number));
                if let Some((mux, name)) = mux {
                    match mux.handle(Way::RootChannel, name, &payload, &self.config) {
                        Ok(received) => self.on_mux(root, Way::RootChannel, received),
                        Err(error) => self.fail_root(root, error)?,
                    }
                }
            }
            Message::Open(_)
            | Message::Status(_)
            | Message::Have(_)
            | Message::Unhave(_)
            | Message::Want(_)
            | Message::Unwant(_)
            | Message::Request(_)
            | Message::Cancel { .. }
            | Message::Data(_)
            | Message::Close { .. } => {}
        }
        Ok(())
    }

    fn on_mux(&mut self, root: RootId, way: Way, received: Received) {
        match received {
            Received::Ready { version, user_data } => {
                let dialect = self.mux(root).map_or(Dialect::Auto, Mux::dialect);
                self.outputs.push_back(Output::Ready { root, dialect, version, user_data });
            }
            Received::Offered(mut keys) => {
                let roots = &self.roots;
                keys.retain(|key| roots.iter().all(|mux| *mux.root().expose() != key.0));
                self.learn(&keys);
                self.outputs.push_back(Output::Offered { root, keys });
            }
            Received::Requested(keys, answer) => {
                if let Some(answer) = answer {
                    self.send_mux(root, way, answer);
                }
                self.outputs.push_back(Output::Requested { root, keys: keys.clone() });
                self.outputs.push_back(Output::Replicate { root, keys, ours: true });
            }
            Received::Replicate(keys) => {
                let open =
                    |key| self.channel(key).and_then(|id| self.peer(id)).is_some_and(Peer::is_open);
                if keys.iter().any(open) {
                    self.feeds_changed();
                } else {
                    self.release_answers(root);
                }
                self.outputs.push_back(Output::Replicate { root, keys, ours: false });
            }
            Received::Ignored => {}
        }
    }

    /// Whether `capability` proves that the remote knows the key of channel `id`.
    fn is_proven(&self, id: ChannelId, capability: Option<[u8; 32]>) -> bool {
        let (Some(keys), Some(channel)) = (&self.keys, self.channels.get(id)) else { return false };
        let expected = match &channel.kind {
            Kind::Root(root) => match self.mux(*root) {
                Some(mux) => wire::remote_capability(keys, mux.root().expose()),
                None => return false,
            },
            Kind::Feed(feed) => wire::remote_capability(keys, &feed.key.0),
        };
        capability == Some(expected)
    }

    /// Opens a channel of ours on the wire, unless the Noise handshake still runs.
    fn send_open(&mut self, id: ChannelId) {
        let (Some(keys), Some(channel)) = (&self.keys, self.channels.get(id)) else { return };
        let capability = match &channel.kind {
            Kind::Root(root) => {
                self.mux(*root).map(|mux| wire::capability(keys, mux.root().expose()))
            }
            Kind::Feed(feed) => Some(wire::capability(keys, &feed.key.0)),
        };
        let open = Open { discovery_key: channel.discovery_key, capability };
        self.send(id, Message::Open(open));
    }

    /// Tells the remote that a channel of its will not be opened here.
    ///
    /// The number that this takes stays unused, as with the JavaScript.
    fn refuse(&mut self, key: DiscoveryKey) {
        if let Some(id) = self.channels.allocate(self.config.max_channel) {
            self.send(id, Message::Close { discovery_key: Some(key) });
        }
    }

    /// Notes that the remote has a reason to open channels for these feeds.
    fn learn(&mut self, keys: &[FeedKey]) {
        for key in keys {
            self.channels.learn(key.discovery_key());
        }
    }

    fn mux_mut(&mut self, root: RootId) -> Option<&mut Mux> {
        self.roots.get_mut(usize::try_from(root.0).ok()?)
    }

    /// Sends a multifeed message, and before it the list of names that gives it its number.
    fn send_mux(&mut self, root: RootId, way: Way, body: Body) {
        let Some(channel) = self.mux(root).map(Mux::channel) else { return };
        let (number, scope) = match way {
            Way::Stream => (0, Some(&mut self.stream)),
            Way::RootChannel => {
                (channel.0, self.channels.get_mut(channel).map(|channel| &mut channel.scope))
            }
        };
        let Some(scope) = scope else { return };
        let Some(id) = scope.id(body.name) else { return };
        if let Some(extensions) = scope.announce() {
            let options = Options { extensions, ack: None };
            self.messages.push_back((number, Message::Options(options)));
        }
        self.messages.push_back((number, Message::Extension { id, payload: body.payload }));
    }

    fn send(&mut self, id: ChannelId, message: Message) {
        self.messages.push_back((id.0, message));
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("channels", &self.channels)
            .field("roots", &self.roots)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

/// Refused channels after which the peer is taken to be hostile, for each one that may wait.
const REFUSED_PER_PENDING: usize = 4;
