//! What the application can do with a session.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use super::Session;
use super::channels::{Channel, Feed, Kind};
use super::extensions::Scope;
use super::mux::{Mux, Way};
use super::peer::Peer;
use crate::connection::{Output, RootId};
use crate::messages::codec::Encoder;
use crate::messages::{Data, Have, Message, Request, Span, Status};
use crate::{ChannelId, Dialect, FeedKey, Now, RootKey, UsageError, UserData};

/// How a feed channel is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedOptions {
    /// Ask the remote for a `Have` with `ack` for each block that it stored.
    pub ack: bool,
    /// Whether requests are answered.
    pub uploading: bool,
    /// Whether requests are made.
    pub downloading: bool,
    /// Names of the application's extensions on this channel.
    pub extensions: Vec<String>,
}

impl Default for FeedOptions {
    /// Acknowledged, in both directions, without extensions.
    fn default() -> Self {
        Self { ack: true, uploading: true, downloading: true, extensions: Vec::new() }
    }
}

impl Session {
    /// Opens the channel of a root key and starts its multifeed handshake, which must be over
    /// after [`Config::multifeed_timeout`](crate::Config::multifeed_timeout).
    ///
    /// The remote gets `user_data` with the handshake. Joining again gives the same id as before; if that multifeed has ended since, it starts anew.
    ///
    /// # Errors
    ///
    /// [`UsageError::KeyInUse`] if a feed with this key is open, [`UsageError::TooLarge`] if the user data
    /// does not fit a frame,
    /// [`UsageError::OneRoot`] if there is another in [`Dialect::Stream`], [`UsageError::Channels`]
    /// or [`UsageError::Closed`].
    pub fn join(
        &mut self,
        now: Now,
        root: RootKey,
        user_data: Option<UserData>,
    ) -> Result<RootId, UsageError> {
        self.now = self.now.max(now);
        self.check_open()?;
        let mut joined = (0..).map(RootId).zip(&self.roots).filter(|(_, mux)| !mux.is_over());
        if let Some((id, _)) = joined.find(|(_, mux)| *mux.root() == root) {
            return Ok(id);
        }
        let alone = self.roots.iter().all(Mux::is_over);
        let discovery_key = root.discovery_key();
        if self.channels.by_key(&discovery_key).is_some() {
            return Err(UsageError::KeyInUse);
        }
        let len = user_data.as_ref().map_or(0, |data| data.as_json().len()) + HANDSHAKE_ENVELOPE;
        self.check_len(len)?;
        let dialect = match self.config.dialect {
            Dialect::Stream if !alone => return Err(UsageError::OneRoot),
            Dialect::Auto if !alone => Dialect::RootChannel,
            dialect @ (Dialect::Auto | Dialect::Stream | Dialect::RootChannel) => dialect,
        };
        // One that ended gives its place to the same again, so a remote cannot make the list grow.
        let before = self.roots.iter().position(|mux| mux.root().expose() == root.expose());
        let place = before.unwrap_or(self.roots.len());
        let id = RootId(u32::try_from(place).map_err(|_| UsageError::Channels)?);
        let channel = self.allocate()?;
        if dialect != Dialect::RootChannel {
            self.stream_root = Some(id);
            for name in Mux::NAMES {
                self.register_extension(name);
            }
        }
        let timeout = self.config.multifeed_timeout;
        let deadline = (!timeout.is_zero()).then(|| self.now.after(timeout));
        let mux = Mux::new(root, channel, user_data, dialect, deadline);
        match self.roots.get_mut(place) {
            Some(ended) => {
                *ended = mux;
                self.channels.unlearn(id);
            }
            None => self.roots.push(mux),
        }
        self.channels.insert(
            channel,
            Channel {
                discovery_key,
                remote: None,
                scope: Scope::new(Mux::NAMES),
                remote_names: Vec::new(),
                kind: Kind::Root(id),
            },
        );
        self.send_open(channel);
        let pending = self.channels.take_pending(&discovery_key);
        // Without a proof the remote's Open counts as not sent: the deadline runs.
        if let Some(pending) = pending.filter(|open| self.proves(channel, open.capability)) {
            self.channels.bind(channel, pending.remote);
            self.on_both_open(channel);
        }
        Ok(id)
    }

    /// Offers feeds to the remote, in manifests of
    /// [`Config::manifest_keys`](crate::Config::manifest_keys).
    ///
    /// Keys that were offered before are left out, and so are, but for the first call, keys that
    /// the remote offered. The first call sends a manifest also when it is empty.
    ///
    /// # Errors
    ///
    /// [`UsageError::UnknownRoot`] before [`Output::Ready`] and after [`Output::RootClosed`];
    /// [`UsageError::Closed`].
    pub fn offer(&mut self, root: RootId, keys: &[FeedKey]) -> Result<(), UsageError> {
        self.check_open()?;
        let place = usize::try_from(root.0).unwrap_or(usize::MAX);
        let mux = self.roots.get_mut(place).filter(|mux| mux.is_ready());
        let mux = mux.ok_or(UsageError::UnknownRoot)?;
        let (bodies, new) = mux.offer(keys, &self.config);
        let way = mux.way();
        self.learn(root, &new);
        for body in bodies {
            self.send_mux(root, way, body);
        }
        Ok(())
    }

    /// Asks for feeds that the remote offered: the answer to an [`Output::Offered`], also if it is
    /// empty.
    ///
    /// # Errors
    ///
    /// [`UsageError::UnknownRoot`] before both sides opened the root's channel and after
    /// [`Output::RootClosed`]; [`UsageError::Closed`].
    pub fn request_feeds(&mut self, root: RootId, keys: &[FeedKey]) -> Result<(), UsageError> {
        self.check_open()?;
        let place = usize::try_from(root.0).unwrap_or(usize::MAX);
        let mux = self.roots.get_mut(place).ok_or(UsageError::UnknownRoot)?;
        let way = mux.way();
        let open = match way {
            Way::Stream => mux.is_ready(),
            Way::RootChannel => {
                let channel = self.channels.get(mux.channel());
                channel.is_some_and(|channel| channel.remote.is_some())
            }
        };
        if !open {
            return Err(UsageError::UnknownRoot);
        }
        let (bodies, new) = mux.request(keys, &self.config);
        self.learn(root, &new);
        for body in bodies {
            self.send_mux(root, way, body);
        }
        self.release_answers(root);
        Ok(())
    }

    /// Closes the channel of a root key. In [`Dialect::RootChannel`] that ends the multifeed, in
    /// [`Dialect::Stream`] its messages go on; the feeds go on in both. No
    /// [`Output::RootClosed`] follows. Closing it again does nothing.
    ///
    /// A stream that is to end by itself ends when no channel is open on it any more.
    ///
    /// # Errors
    ///
    /// [`UsageError::UnknownRoot`] or [`UsageError::Closed`].
    pub fn close_root(&mut self, root: RootId) -> Result<(), UsageError> {
        self.check_open()?;
        let mux = self.mux_mut(root).ok_or(UsageError::UnknownRoot)?;
        mux.close();
        let channel = mux.channel();
        self.close_channel(channel);
        Ok(())
    }

    /// Opens the channel of a feed, or gives the one that is open, with the options it has.
    ///
    /// [`Output::FeedOpened`] follows when the remote has opened it too. If it did so before
    /// without knowing the key, it is refused and [`Output::FeedClosed`] follows.
    ///
    /// # Errors
    ///
    /// [`UsageError::WeakKey`], [`UsageError::KeyInUse`] if this is a root key, [`UsageError::TooLarge`] if
    /// the extension names do not fit a frame, [`UsageError::Channels`] or [`UsageError::Closed`].
    pub fn open_feed(
        &mut self,
        key: &FeedKey,
        options: FeedOptions,
    ) -> Result<ChannelId, UsageError> {
        self.check_open()?;
        if key.is_weak() {
            return Err(UsageError::WeakKey);
        }
        let discovery_key = key.discovery_key();
        if let Some(id) = self.channels.by_key(&discovery_key) {
            return self.key(id).map(|_| id).ok_or(UsageError::KeyInUse);
        }
        let names = options.extensions.iter().map(|name| name.len() + NAME_ENVELOPE);
        self.check_len(names.sum())?;
        let id = self.allocate()?;
        let ours = Status { uploading: options.uploading, downloading: options.downloading };
        let feed = Feed { key: *key, ack: options.ack, peer: Peer::new(ours) };
        self.channels.insert(
            id,
            Channel {
                discovery_key,
                remote: None,
                scope: Scope::new(options.extensions.iter().map(String::as_str)),
                remote_names: Vec::new(),
                kind: Kind::Feed(feed.into()),
            },
        );
        let Some(pending) = self.channels.take_pending(&discovery_key) else {
            self.send_open(id);
            return Ok(id);
        };
        if self.proves(id, pending.capability) {
            self.send_open(id);
            self.channels.bind(id, pending.remote);
            self.on_both_open(id);
        } else {
            self.channels.remove(id);
            self.send(id, Message::Close { discovery_key: Some(discovery_key) });
            self.outputs.push_back(Output::FeedClosed { channel: id });
            self.feeds_changed();
        }
        Ok(id)
    }

    /// Closes the channel of a feed. No [`Output::FeedClosed`] follows.
    ///
    /// # Errors
    ///
    /// [`UsageError::UnknownChannel`] or [`UsageError::Closed`].
    pub fn close_feed(&mut self, channel: ChannelId) -> Result<(), UsageError> {
        self.check_open()?;
        let peer = self.peer(channel).ok_or(UsageError::UnknownChannel)?;
        let bytes = peer.remote().bytes();
        self.announced -= bytes;
        self.close_channel(channel);
        self.feeds_changed();
        Ok(())
    }

    /// Asks which of these blocks the remote has, and to be told of new ones.
    ///
    /// The JavaScript answers only if start and length are multiples of 8,192; it asks in units of
    /// 1,048,576.
    ///
    /// # Errors
    ///
    /// [`UsageError::UnknownChannel`], [`UsageError::NotOpen`] or [`UsageError::Closed`].
    pub fn want(&mut self, channel: ChannelId, span: Span) -> Result<(), UsageError> {
        self.open_peer(channel)?.wanted(span);
        self.send(channel, Message::Want(span));
        Ok(())
    }

    /// Tells the remote that we have these blocks. To be used only once it
    /// [wants](Peer::remote_wants) to know.
    ///
    /// # Errors
    ///
    /// [`UsageError::UnknownChannel`], [`UsageError::NotOpen`] or [`UsageError::Closed`].
    pub fn have(&mut self, channel: ChannelId, span: Span) -> Result<(), UsageError> {
        self.announce(channel, span, None, false)
    }

    /// Answers an [`Output::Want`] of the same `span` with a bitfield in the encoding of
    /// [`rle`](crate::rle).
    ///
    /// # Errors
    ///
    /// [`UsageError::UnknownChannel`], [`UsageError::NotOpen`], [`UsageError::TooLarge`] or
    /// [`UsageError::Closed`].
    pub fn have_bitfield(
        &mut self,
        channel: ChannelId,
        span: Span,
        encoded: Bytes,
    ) -> Result<(), UsageError> {
        self.announce(channel, span, Some(encoded), false)
    }

    /// Tells the remote that a block that it sent is stored. To be used if it
    /// [asked for it](Peer::remote_acks).
    ///
    /// # Errors
    ///
    /// [`UsageError::UnknownChannel`], [`UsageError::NotOpen`] or [`UsageError::Closed`].
    pub fn ack(&mut self, channel: ChannelId, index: u64) -> Result<(), UsageError> {
        self.announce(channel, Span { start: index, length: 1 }, None, true)
    }

    /// Tells the remote that we have these blocks no more.
    ///
    /// # Errors
    ///
    /// [`UsageError::UnknownChannel`], [`UsageError::NotOpen`] or [`UsageError::Closed`].
    pub fn unhave(&mut self, channel: ChannelId, span: Span) -> Result<(), UsageError> {
        self.open_peer(channel)?;
        self.send(channel, Message::Unhave(span));
        Ok(())
    }

    /// Asks for a block. The answer comes as [`Output::Data`]; blocks that were not asked for are
    /// dropped.
    ///
    /// Only for blocks that the remote [has](Peer::remote): the JavaScript ends the stream
    /// otherwise.
    ///
    /// # Errors
    ///
    /// [`UsageError::UnknownChannel`], [`UsageError::NotOpen`] or [`UsageError::Closed`].
    pub fn request(&mut self, channel: ChannelId, request: Request) -> Result<(), UsageError> {
        self.open_peer(channel)?.requested(&request);
        self.send(channel, Message::Request(request));
        Ok(())
    }

    /// No longer waits for the answer to a request for a block or, with `hash`, for its hashes. Nothing is
    /// sent, and should the answer still come, it is an [`Output::Data`] like any other: the peer counts on
    /// what it brings.
    ///
    /// # Errors
    ///
    /// [`UsageError::UnknownChannel`], [`UsageError::NotOpen`] or [`UsageError::Closed`].
    pub fn forget_request(
        &mut self,
        channel: ChannelId,
        index: u64,
        hash: bool,
    ) -> Result<(), UsageError> {
        self.open_peer(channel)?.forget(index, hash);
        Ok(())
    }

    /// Answers a request.
    ///
    /// # Errors
    ///
    /// [`UsageError::UnknownChannel`], [`UsageError::NotOpen`], [`UsageError::TooLarge`] or
    /// [`UsageError::Closed`].
    pub fn send_data(&mut self, channel: ChannelId, data: Data) -> Result<(), UsageError> {
        self.open_peer(channel)?;
        let len = data.value.as_ref().map_or(0, Bytes::len)
            + data.nodes.len().saturating_mul(NODE_ENVELOPE)
            + DATA_ENVELOPE;
        let message = Message::Data(data);
        if len > self.config.max_frame_body {
            self.check_len(Encoder::new(&message).encoded_len())?;
        }
        self.send(channel, message);
        Ok(())
    }

    /// Changes what this side is ready to do on a channel, and says so if it differs.
    ///
    /// # Errors
    ///
    /// [`UsageError::UnknownChannel`] or [`UsageError::Closed`].
    pub fn set_status(&mut self, channel: ChannelId, status: Status) -> Result<(), UsageError> {
        self.check_open()?;
        let peer = self.peer_mut(channel)?;
        let before = core::mem::replace(&mut peer.ours, status);
        if peer.is_open() && before != status {
            self.send(channel, Message::Status(status));
        }
        Ok(())
    }

    /// Sends a message of an extension of the application on a feed channel or, with `None`, on
    /// the stream.
    ///
    /// # Errors
    ///
    /// [`UsageError::UnknownExtension`] if the name was not registered there,
    /// [`UsageError::UnknownChannel`], [`UsageError::NotOpen`], [`UsageError::TooLarge`] or
    /// [`UsageError::Closed`].
    pub fn extension(
        &mut self,
        channel: Option<ChannelId>,
        name: &str,
        payload: Bytes,
    ) -> Result<(), UsageError> {
        self.check_open()?;
        self.check_len(payload.len().saturating_add(EXTENSION_ENVELOPE))?;
        let Some(id) = channel else {
            let number = self.stream.id(name).ok_or(UsageError::UnknownExtension)?;
            if let Some(extensions) = self.stream.announce() {
                let options = crate::messages::Options { extensions, ack: None };
                self.messages.push_back((0, Message::Options(options)));
            }
            self.messages
                .push_back((0, Message::Extension { id: number, payload: payload.into() }));
            return Ok(());
        };
        self.open_peer(id)?;
        let number = self.channels.get(id).and_then(|channel| channel.scope.id(name));
        let number = number.ok_or(UsageError::UnknownExtension)?;
        self.send(id, Message::Extension { id: number, payload: payload.into() });
        Ok(())
    }

    /// Registers the name of an extension of the application on a feed channel, beside those given to
    /// [`open_feed`](Self::open_feed), and tells the remote.
    ///
    /// # Errors
    ///
    /// [`UsageError::UnknownChannel`], [`UsageError::TooLarge`] if the names do not fit a frame, or
    /// [`UsageError::Closed`].
    pub fn register_feed_extension(
        &mut self,
        channel: ChannelId,
        name: &str,
    ) -> Result<(), UsageError> {
        self.check_open()?;
        let open = self.peer(channel).ok_or(UsageError::UnknownChannel)?.is_open();
        let state = self.channels.get(channel).ok_or(UsageError::UnknownChannel)?;
        self.check_len(state.scope.encoded_len() + name.len() + NAME_ENVELOPE)?;
        let state = self.channels.get_mut(channel).ok_or(UsageError::UnknownChannel)?;
        state.scope.register(name);
        state.scope.set_remote(&state.remote_names);
        let Kind::Feed(feed) = &state.kind else { return Err(UsageError::UnknownChannel) };
        let ack = Some(feed.ack);
        // Otherwise the list goes out when the remote opens the channel.
        if let Some(extensions) = open.then(|| state.scope.announce()).flatten() {
            self.send(channel, Message::Options(crate::messages::Options { extensions, ack }));
        }
        Ok(())
    }

    /// Registers the name of an extension of the application on the stream, before its first
    /// message. Those on feed channels: [`register_feed_extension`](Self::register_feed_extension).
    pub fn register_extension(&mut self, name: &str) {
        self.stream.register(name);
        self.stream.set_remote(&self.stream_names);
    }

    fn announce(
        &mut self,
        channel: ChannelId,
        span: Span,
        bitfield: Option<Bytes>,
        ack: bool,
    ) -> Result<(), UsageError> {
        self.open_peer(channel)?;
        if let Some(bitfield) = &bitfield {
            self.check_len(bitfield.len().saturating_add(HAVE_ENVELOPE))?;
        }
        let Span { start, length } = span;
        self.send(channel, Message::Have(Have { start, length, bitfield, ack }));
        Ok(())
    }

    fn check_open(&self) -> Result<(), UsageError> {
        if self.closed || self.failure.is_some() {
            return Err(UsageError::Closed);
        }
        Ok(())
    }

    fn check_len(&self, len: usize) -> Result<(), UsageError> {
        let max = self.config.max_frame_body;
        if len > max {
            return Err(UsageError::TooLarge { len, max });
        }
        Ok(())
    }

    fn allocate(&mut self) -> Result<ChannelId, UsageError> {
        self.channels.allocate(self.config.max_channel).ok_or(UsageError::Channels)
    }

    fn peer_mut(&mut self, channel: ChannelId) -> Result<&mut Peer, UsageError> {
        match self.channels.get_mut(channel).map(|channel| &mut channel.kind) {
            Some(Kind::Feed(feed)) => Ok(&mut feed.peer),
            Some(Kind::Root(_)) | None => Err(UsageError::UnknownChannel),
        }
    }

    /// The peer of a channel that carries data.
    fn open_peer(&mut self, channel: ChannelId) -> Result<&mut Peer, UsageError> {
        self.check_open()?;
        let peer = self.peer_mut(channel)?;
        if peer.is_open() { Ok(peer) } else { Err(UsageError::NotOpen) }
    }
}

// Upper bounds, in bytes, of what surrounds the variable part of a message.
const HANDSHAKE_ENVELOPE: usize = 64;
const NAME_ENVELOPE: usize = 16;
const HAVE_ENVELOPE: usize = 40;
const EXTENSION_ENVELOPE: usize = 10;
const NODE_ENVELOPE: usize = 64;
const DATA_ENVELOPE: usize = 128;
