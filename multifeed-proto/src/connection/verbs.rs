//! What the application can do with a connection. The rules are those of
//! [`Session`].

use bytes::Bytes;

use super::machine::{Connection, Phase};
use super::memory::Memory;
use super::output::RootId;
use super::timers::Timer;
use crate::messages::{Data, Request, Span, Status};
use crate::session::{FeedOptions, Mux, Peer, Session};
use crate::{ChannelId, FeedKey, Now, PeerError, RootKey, UsageError, UserData};

impl Connection {
    /// Takes part in the multifeed of `root` on this connection; see [`Session::join`].
    ///
    /// To be called before any feed is opened: `multifeed` 6 ends the stream otherwise.
    ///
    /// # Errors
    ///
    /// Those of [`Session::join`]; nothing changed then.
    pub fn join(
        &mut self,
        now: Now,
        root: RootKey,
        user_data: Option<UserData>,
    ) -> Result<RootId, UsageError> {
        self.advance(now);
        let now = self.now;
        self.act(|session| session.join(now, root, user_data))
    }

    /// Offers feeds to the remote; see [`Session::offer`].
    ///
    /// # Errors
    ///
    /// Those of [`Session::offer`]; nothing changed then.
    pub fn offer(&mut self, root: RootId, keys: &[FeedKey]) -> Result<(), UsageError> {
        self.act(|session| session.offer(root, keys))
    }

    /// Asks for feeds that the remote offered; see [`Session::request_feeds`].
    ///
    /// # Errors
    ///
    /// Those of [`Session::request_feeds`]; nothing changed then.
    pub fn request_feeds(&mut self, root: RootId, keys: &[FeedKey]) -> Result<(), UsageError> {
        self.act(|session| session.request_feeds(root, keys))
    }

    /// Closes the channel of a root key; see [`Session::close_root`].
    ///
    /// # Errors
    ///
    /// Those of [`Session::close_root`]; nothing changed then.
    pub fn close_root(&mut self, root: RootId) -> Result<(), UsageError> {
        self.act(|session| session.close_root(root))
    }

    /// Opens the channel of a feed, or gives the one that is open; see [`Session::open_feed`].
    ///
    /// # Errors
    ///
    /// Those of [`Session::open_feed`]; nothing changed then.
    pub fn open_feed(
        &mut self,
        key: &FeedKey,
        options: FeedOptions,
    ) -> Result<ChannelId, UsageError> {
        self.act(|session| session.open_feed(key, options))
    }

    /// Closes the channel of a feed; see [`Session::close_feed`].
    ///
    /// # Errors
    ///
    /// Those of [`Session::close_feed`]; nothing changed then.
    pub fn close_feed(&mut self, channel: ChannelId) -> Result<(), UsageError> {
        self.act(|session| session.close_feed(channel))
    }

    /// Asks which of these blocks the remote has; see [`Session::want`].
    ///
    /// # Errors
    ///
    /// Those of [`Session::want`]; nothing changed then.
    pub fn want(&mut self, channel: ChannelId, span: Span) -> Result<(), UsageError> {
        self.act(|session| session.want(channel, span))
    }

    /// Tells the remote that we have these blocks; see [`Session::have`].
    ///
    /// # Errors
    ///
    /// Those of [`Session::have`]; nothing changed then.
    pub fn have(&mut self, channel: ChannelId, span: Span) -> Result<(), UsageError> {
        self.act(|session| session.have(channel, span))
    }

    /// Answers an [`Output::Want`](crate::Output::Want); see [`Session::have_bitfield`].
    ///
    /// # Errors
    ///
    /// Those of [`Session::have_bitfield`]; nothing changed then.
    pub fn have_bitfield(
        &mut self,
        channel: ChannelId,
        span: Span,
        encoded: Bytes,
    ) -> Result<(), UsageError> {
        self.act(|session| session.have_bitfield(channel, span, encoded))
    }

    /// Tells the remote that a block that it sent is stored; see [`Session::ack`].
    ///
    /// # Errors
    ///
    /// Those of [`Session::ack`]; nothing changed then.
    pub fn ack(&mut self, channel: ChannelId, index: u64) -> Result<(), UsageError> {
        self.act(|session| session.ack(channel, index))
    }

    /// Tells the remote that we have these blocks no more; see [`Session::unhave`].
    ///
    /// # Errors
    ///
    /// Those of [`Session::unhave`]; nothing changed then.
    pub fn unhave(&mut self, channel: ChannelId, span: Span) -> Result<(), UsageError> {
        self.act(|session| session.unhave(channel, span))
    }

    /// Asks for a block; see [`Session::request`].
    ///
    /// # Errors
    ///
    /// Those of [`Session::request`]; nothing changed then.
    pub fn request(&mut self, channel: ChannelId, request: Request) -> Result<(), UsageError> {
        self.act(|session| session.request(channel, request))
    }

    /// No longer waits for the answer to a request; see [`Session::forget_request`].
    ///
    /// # Errors
    ///
    /// Those of [`Session::forget_request`]; nothing changed then.
    pub fn forget_request(
        &mut self,
        channel: ChannelId,
        index: u64,
        hash: bool,
    ) -> Result<(), UsageError> {
        self.act(|session| session.forget_request(channel, index, hash))
    }

    /// Answers a request; see [`Session::send_data`].
    ///
    /// # Errors
    ///
    /// Those of [`Session::send_data`]; nothing changed then.
    pub fn send_data(&mut self, channel: ChannelId, data: Data) -> Result<(), UsageError> {
        self.act(|session| session.send_data(channel, data))
    }

    /// Changes what this side is ready to do on a channel; see [`Session::set_status`].
    ///
    /// # Errors
    ///
    /// Those of [`Session::set_status`]; nothing changed then.
    pub fn set_status(&mut self, channel: ChannelId, status: Status) -> Result<(), UsageError> {
        self.act(|session| session.set_status(channel, status))
    }

    /// Sends a message of an extension of the application; see [`Session::extension`].
    ///
    /// # Errors
    ///
    /// Those of [`Session::extension`]; nothing changed then.
    pub fn extension(
        &mut self,
        channel: Option<ChannelId>,
        name: &str,
        payload: Bytes,
    ) -> Result<(), UsageError> {
        self.act(|session| session.extension(channel, name, payload))
    }

    /// Registers the name of an extension on a feed channel; see [`Session::register_feed_extension`].
    ///
    /// # Errors
    ///
    /// Those of [`Session::register_feed_extension`]; nothing changed then.
    pub fn register_feed_extension(
        &mut self,
        channel: ChannelId,
        name: &str,
    ) -> Result<(), UsageError> {
        self.act(|session| session.register_feed_extension(channel, name))
    }

    /// Registers the name of an extension on the stream; see [`Session::register_extension`].
    pub fn register_extension(&mut self, name: &str) {
        self.session.register_extension(name);
    }

    /// Ends our side in order: nothing more is sent than what waits in the outbox, then the
    /// stream must be ended ([`is_shut_down`](Self::is_shut_down)). What the remote still sends is
    /// taken until its end, which must come within [`Config::idle_timeout`](crate::Config).
    ///
    /// During the Noise handshake there is nothing to end in order: the connection is closed.
    pub fn shutdown(&mut self) {
        if self.phase != Phase::Open {
            return;
        }
        if !self.wire.is_connected() {
            self.close(None);
            return;
        }
        self.phase = Phase::ShutDown;
        self.timers.stop(Timer::Keepalive);
        self.timers.start(Timer::Linger, self.now, self.config.idle_timeout);
    }

    /// Ends the connection at once: outputs that nobody has looked at are dropped, and
    /// [`Output::Closed`](crate::Output::Closed) with `error` is next. What waits in the outbox may
    /// still be [written](Self::transmit).
    pub fn close(&mut self, error: Option<PeerError>) {
        if self.is_closed() {
            return;
        }
        self.forget_outputs();
        self.end(error);
    }

    /// What the remote said on a feed channel.
    #[must_use]
    pub fn peer(&self, channel: ChannelId) -> Option<&Peer> {
        self.session.peer(channel)
    }

    /// The key of a feed channel.
    #[must_use]
    pub fn key(&self, channel: ChannelId) -> Option<&FeedKey> {
        self.session.key(channel)
    }

    /// The channel of a feed, if this side has it open.
    #[must_use]
    pub fn channel(&self, key: &FeedKey) -> Option<ChannelId> {
        self.session.channel(key)
    }

    /// Channels that either side has open; see [`Session::channel_count`].
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.session.channel_count()
    }

    /// Whether the remote proved that it knows the key of a multifeed or feed that is open here; before that
    /// it is a stranger. See [`Session::is_proven`].
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.session.is_proven()
    }

    /// Bytes of memory kept for the remote.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let (inbox, outbox) = self.wire.memory();
        Memory { inbox, outbox, ..self.session.memory() }
    }

    /// The multifeed that was joined as `root`.
    #[must_use]
    pub fn mux(&self, root: RootId) -> Option<&Mux> {
        self.session.mux(root)
    }

    fn act<T>(
        &mut self,
        verb: impl FnOnce(&mut Session) -> Result<T, UsageError>,
    ) -> Result<T, UsageError> {
        if self.phase != Phase::Open {
            return Err(UsageError::Closed);
        }
        let result = verb(&mut self.session)?;
        self.flush();
        if let Err(error) = self.check_outbox() {
            self.end(Some(error));
        }
        Ok(result)
    }
}
