//! Messages to meaning: channels, extensions, multifeed handshakes and what a peer said of each
//! feed.
//!
//! In this folder: [`Session`], which takes messages in and gives messages and
//! [`Output`]s out; `channels` (numbers and names of channels), `opening` (how channels open and
//! close), `extensions` (names and numbers of extensions), `mux` (the multifeed rules), `root`
//! (messages of a multifeed), `feed` (messages of a feed channel), `peer`, `blocks` and `bits` (what
//! the remote has), `verbs` (what the application can do).
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
mod opening;
mod peer;
#[cfg(test)]
mod random_tests;
mod root;
mod verbs;

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use self::channels::{Channels, Kind, Remote};
use self::extensions::Scope;
use crate::connection::{Memory, Output, RootId};
use crate::messages::Message;
use crate::wire::SplitKeys;
use crate::{ChannelId, Config, FeedKey, Now, PeerError};

pub use self::blocks::{BlockPage, RemoteBlocks};
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
    stream_name_bytes: usize,
    /// Bytes of the remote's names on all feed channels together.
    name_bytes: usize,
    /// Channels of the remote that were refused because there were too many.
    refused: usize,
    /// Bytes of all [`RemoteBlocks`] together.
    announced: usize,
    /// The remote proved once that it knows the key of a channel that is open here.
    proven: bool,
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
            stream_name_bytes: 0,
            name_bytes: 0,
            refused: 0,
            announced: 0,
            proven: false,
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

    /// Our number of the channel that the remote calls by this number, if both have it open.
    pub(crate) fn by_remote(&self, remote: u32) -> Option<ChannelId> {
        match self.channels.by_remote(remote)? {
            Remote::Channel(id) => Some(id),
            Remote::Pending(_) => None,
        }
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

    /// Whether a multifeed was joined, and none was ever ready.
    pub(crate) fn is_unanswered(&self) -> bool {
        !self.roots.is_empty() && !self.roots.iter().any(Mux::was_ready)
    }

    /// Whether the remote proved that it knows the key of a multifeed or feed that is open here. Before that
    /// it is a stranger, and gets little.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// Bytes kept for the remote.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory {
            channels: self.channels.channel_bytes(),
            pending: self.channels.pending_bytes(),
            offers: self.channels.known_bytes() + self.roots.iter().map(Mux::bytes).sum::<usize>(),
            names: self.name_bytes + self.stream_name_bytes,
            announced: self.announced,
            ..Memory::default()
        }
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

    fn mux_mut(&mut self, root: RootId) -> Option<&mut Mux> {
        self.roots.get_mut(usize::try_from(root.0).ok()?)
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
