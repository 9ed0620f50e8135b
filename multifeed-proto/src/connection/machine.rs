//! The machine that joins wire, session and timers.

#[cfg(feature = "fuzzing")]
mod behind;

use core::fmt;

use super::output::Output;
use super::timers::{Timer, Timers};
use crate::session::Session;
use crate::wire::{SplitKeys, Wire, WireEvent};
use crate::{Config, Entropy, Now, PeerError, PeerSecret, Role};

/// One end of one connection to a peer: bytes and time in, bytes and [`Output`]s out.
///
/// It has no socket, clock, thread or task. Its owner tells it what happened (`handle_*`) and what
/// the application wants (the other verbs), and after each such call follows **the drain rule**:
/// [`poll_output`](Self::poll_output) until `None`, write what [`transmit`](Self::transmit)
/// returns, sleep until [`poll_timeout`](Self::poll_timeout) or news. Doing these too often is
/// harmless.
///
/// What is legal on the stream is decided here; what to ask for and what to answer is not:
/// [`Output`] says which verb answers it.
///
/// [`Output::Closed`] is the last output. After it, or after the call that led to it, input is
/// ignored and verbs return [`UsageError::Closed`](crate::UsageError::Closed).
pub struct Connection {
    pub(super) config: Config,
    pub(super) wire: Wire,
    pub(super) session: Session,
    pub(super) timers: Timers,
    pub(super) now: Now,
    pub(super) phase: Phase,
    /// The end of the Noise handshake is not the beginning of the session.
    held: bool,
    /// Nothing is read, so that nothing can arrive.
    paused: bool,
    /// The session keys, while it is held.
    waiting: Option<SplitKeys>,
    connected: Option<Output>,
    closed: Option<Output>,
    /// Messages may wait to be read until the outputs of those before are taken.
    unread: bool,
    received: u64,
    sent: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Nothing more is sent; the remote's end is awaited.
    ShutDown,
    /// Ended in order. What waits in the outbox may still be written.
    Ended,
    /// The same after an error, so that the remote learns what we said before it.
    Failed,
    /// Ended because nobody takes what we write.
    Deaf,
}

impl Connection {
    /// A connection that begins at `now`. Its Noise identity is made from `entropy`.
    #[must_use]
    pub fn new(role: Role, config: Config, entropy: Entropy, now: Now) -> Self {
        let wire = Wire::new(role, entropy, &config);
        Self::with_wire(wire, config, now)
    }

    /// A connection with a lasting Noise identity.
    #[must_use]
    pub fn with_static_key(
        role: Role,
        config: Config,
        entropy: Entropy,
        secret: &PeerSecret,
        now: Now,
    ) -> Self {
        let wire = Wire::with_static_key(role, entropy, &config, *secret.expose());
        Self::with_wire(wire, config, now)
    }

    /// A connection over a fresh `wire` that was made with the same `config`.
    #[must_use]
    pub fn with_wire(mut wire: Wire, config: Config, now: Now) -> Self {
        wire.distrust(config.max_stranger_frame_body.min(config.max_frame_body));
        let mut timers = Timers::default();
        timers.start(Timer::Handshake, now, config.handshake_timeout);
        timers.start(Timer::FirstMessage, now, config.first_message_timeout);
        timers.start(Timer::Idle, now, config.idle_timeout);
        Self {
            wire,
            session: Session::new(&config),
            timers,
            now,
            phase: Phase::Open,
            held: false,
            paused: false,
            waiting: None,
            connected: None,
            closed: None,
            unread: false,
            received: 0,
            sent: 0,
            config,
        }
    }

    /// Has the connection wait after the Noise handshake, when it is known who the peer is: nothing of
    /// any multifeed or feed is said, and nothing is heard, before [`admit`](Self::admit). To be
    /// called before the first bytes come.
    ///
    /// Bytes that come meanwhile are kept: who holds a connection for long stops reading its stream.
    /// The time to decide is [`Config::idle_timeout`].
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// Lets a connection that was [held](Self::hold) go on.
    pub fn admit(&mut self, now: Now) {
        self.advance(now);
        self.held = false;
        if self.is_closed() {
            return;
        }
        let Some(keys) = self.waiting.take() else { return };
        self.session.handle_connected(self.now, keys);
        self.flush();
        if let Err(error) = self.read() {
            self.end(Some(error));
        }
    }

    /// Whether the Noise handshake is over and [`admit`](Self::admit) is waited for.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.waiting.is_some() && !self.is_closed()
    }

    /// Takes bytes that arrived, cut anywhere. What is wrong with them becomes an
    /// [`Output::Closed`], after the outputs of what was right before.
    ///
    /// Messages are read as far as the first output; [`poll_output`](Self::poll_output) goes on when that
    /// is taken. So what the owner answers does not depend on how many messages came at once.
    pub fn handle_bytes(&mut self, now: Now, bytes: &[u8]) {
        self.advance(now);
        if self.is_closed() || bytes.is_empty() {
            return;
        }
        self.received = self.received.saturating_add(bytes.len() as u64);
        self.timers.start(Timer::Idle, self.now, self.config.idle_timeout);
        let result = self.wire.handle_bytes(bytes).and_then(|()| self.read());
        if self.wire.has_heard() {
            self.timers.stop(Timer::FirstMessage);
        }
        if let Err(error) = result {
            self.end(Some(error));
        }
    }

    /// Whether the stream is read from here on. While it is not, the peer's silence means nothing: then only
    /// one that takes no bytes either, for the [idle timeout](Config::idle_timeout), is held to be gone.
    pub fn set_reading(&mut self, now: Now, reading: bool) {
        self.advance(now);
        if core::mem::replace(&mut self.paused, !reading) == reading && !self.is_closed() {
            self.timers.start(Timer::Idle, self.now, self.config.idle_timeout);
        }
    }

    /// The remote ended its side of the stream.
    ///
    /// In order if no message was cut off: then what waits in the outbox may still be written, as
    /// the JavaScript does. Else the connection ends with [`PeerError::Truncated`]. Where a multifeed was
    /// joined, and nothing came or after the Noise handshake no handshake of any multifeed, it ends with
    /// [`PeerError::Left`].
    pub fn handle_eof(&mut self, now: Now) {
        self.advance(now);
        if self.is_closed() {
            return;
        }
        // Nothing is left to be read where the drain rule is followed.
        if let Err(error) = self.read_messages(usize::MAX) {
            return self.end(Some(error));
        }
        let cut_off = self.wire.is_mid_message().then(|| match self.wire.foreign() {
            Some(speaks) => PeerError::OtherProtocol { speaks },
            None => PeerError::Truncated,
        });
        let left = self.left_by_remote().filter(|_| self.wire.is_connected() || self.received == 0);
        self.end(left.or(cut_off));
    }

    /// The stream failed: nothing more is read from it or written to it. The connection ends at once, with
    /// [`PeerError::Left`] after the Noise handshake as at its [end](Self::handle_eof), else without an
    /// error: its owner has that of the stream.
    pub fn handle_cut(&mut self, now: Now) {
        self.advance(now);
        let left = self.left_by_remote().filter(|_| self.wire.is_connected());
        self.close(left);
    }

    /// What it means that the remote ends the stream, if nothing was agreed on before.
    fn left_by_remote(&self) -> Option<PeerError> {
        let waits = self.phase == Phase::Open && !self.is_held();
        let left = PeerError::Left { connected: self.wire.is_connected() };
        (waits && self.session.is_unanswered()).then_some(left)
    }

    /// Why the Noise handshake is not over in time.
    fn late_handshake(&self) -> PeerError {
        match self.wire.foreign() {
            Some(speaks) => PeerError::OtherProtocol { speaks },
            None if self.received == 0 => PeerError::NothingCame,
            None => PeerError::HandshakeTimeout,
        }
    }

    /// The moment of [`poll_timeout`](Self::poll_timeout) has come. Harmless when early.
    pub fn handle_timeout(&mut self, now: Now) {
        self.advance(now);
        if self.is_closed() {
            return;
        }
        if let Err(error) = self.session.handle_timeout(self.now) {
            let early = !self.wire.is_connected() && error == PeerError::MultifeedTimeout;
            self.end(Some(if early { self.late_handshake() } else { error }));
            return;
        }
        self.flush();
        while let Some(timer) = self.timers.expired(self.now) {
            match timer {
                Timer::Handshake | Timer::FirstMessage => {
                    return self.end(Some(self.late_handshake()));
                }
                Timer::Idle if !self.wire.is_connected() => {
                    return self.end(Some(self.late_handshake()));
                }
                Timer::Idle | Timer::Linger => return self.end(Some(PeerError::Silent)),
                Timer::Keepalive => {
                    self.wire.send_keepalive();
                    self.timers.start(Timer::Keepalive, self.now, self.config.keepalive);
                }
            }
        }
    }

    /// The next thing to look at.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            let first = self.connected.take().or_else(|| self.session.poll_output());
            let first = first.or_else(|| self.closed.take());
            if first.is_some() || !self.unread || self.is_closed() {
                return first;
            }
            if let Err(error) = self.read() {
                self.end(Some(error));
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) must be called; `None`: no timer runs.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Now> {
        self.timers.next().into_iter().chain(self.session.poll_timeout()).min()
    }

    /// Bytes to be written. Write any prefix, then say how much with
    /// [`transmitted`](Self::transmitted).
    ///
    /// What was queued before the end of the connection is still here after it: write it before the
    /// stream is closed, or the remote sees a mere disconnect where it would have found the reason,
    /// say another protocol version, by itself. A peer that does not read is sent nothing more.
    #[must_use]
    pub fn transmit(&mut self) -> &[u8] {
        match self.phase {
            Phase::Open | Phase::ShutDown | Phase::Ended | Phase::Failed => self.wire.transmit(),
            Phase::Deaf => &[],
        }
    }

    /// The first `n` bytes of [`transmit`](Self::transmit) were written.
    pub fn transmitted(&mut self, now: Now, n: usize) {
        self.advance(now);
        if n == 0 || self.phase == Phase::Deaf {
            return;
        }
        self.wire.transmitted(n);
        self.sent = self.sent.saturating_add(n as u64);
        // Who decides on a peer has a deadline, whatever it takes meanwhile.
        if self.paused && !self.is_closed() && !self.is_held() {
            self.timers.start(Timer::Idle, self.now, self.config.idle_timeout);
        }
        if self.phase == Phase::Open && self.wire.is_connected() {
            self.timers.start(Timer::Keepalive, self.now, self.config.keepalive);
        }
    }

    /// Whether the connection is over; [`Output::Closed`] is out or next after what came before.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Ended | Phase::Failed | Phase::Deaf)
    }

    /// Whether [`shutdown`](Self::shutdown) was called: end our side of the stream once
    /// [`transmit`](Self::transmit) is empty, and keep reading.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.phase == Phase::ShutDown
    }

    /// Bytes waiting to be written: the measure of back-pressure.
    #[must_use]
    pub fn buffered(&self) -> usize {
        if self.phase == Phase::Deaf { 0 } else { self.wire.buffered() }
    }

    /// Bytes taken by [`handle_bytes`](Self::handle_bytes) so far.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.received
    }

    /// Bytes reported by [`transmitted`](Self::transmitted) so far.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.sent
    }

    /// Takes the time; time that goes backwards stands still.
    pub(super) fn advance(&mut self, now: Now) {
        self.now = self.now.max(now);
    }

    /// Moves what the session wants to say into the outbox.
    pub(super) fn flush(&mut self) {
        while let Some((channel, message)) = self.session.poll_message() {
            if self.phase != Phase::Open {
                continue;
            }
            let sent = self.wire.send(channel, &message);
            debug_assert!(sent.is_ok(), "the session lets no message pass that fits no frame");
        }
    }

    /// The connection is over.
    pub(super) fn end(&mut self, error: Option<PeerError>) {
        self.flush();
        self.wire.forget_waiting();
        self.phase = match &error {
            None => Phase::Ended,
            Some(error) if error.peer_may_listen() => Phase::Failed,
            Some(_) => Phase::Deaf,
        };
        self.session.stop();
        self.timers.stop_all();
        self.closed = Some(Output::Closed { error });
    }

    /// Drops the outputs that nobody has looked at.
    pub(super) fn forget_outputs(&mut self) {
        self.connected = None;
        while self.session.poll_output().is_some() {}
    }

    /// Reads what came up to the first message with an output. The rest is read when that is taken, so that
    /// the owner answers each message before the next is looked at, however many came at once.
    fn read(&mut self) -> Result<(), PeerError> {
        self.read_messages(1)
    }

    /// Reads until so many outputs wait, or nothing is left.
    fn read_messages(&mut self, outputs: usize) -> Result<(), PeerError> {
        self.unread = false;
        while self.waiting.is_none() {
            if usize::from(self.connected.is_some()) + self.session.waiting_outputs() >= outputs {
                self.unread = true;
                break;
            }
            if self.session.is_proven() {
                self.wire.trust(self.config.max_frame_body);
            }
            let Some(event) = self.wire.poll_event()? else { break };
            match event {
                WireEvent::Connected { remote_public_key, handshake_hash, keys } => {
                    self.connected = Some(Output::Connected { remote_public_key, handshake_hash });
                    self.timers.stop(Timer::Handshake);
                    self.timers.start(Timer::Keepalive, self.now, self.config.keepalive);
                    if self.held {
                        self.waiting = Some(keys);
                        return Ok(());
                    }
                    self.session.handle_connected(self.now, keys);
                }
                WireEvent::Message { channel, message } => {
                    self.session.handle_message(self.now, channel, message)?;
                }
            }
            self.flush();
            self.check_outbox()?;
        }
        Ok(())
    }

    /// Ends with a peer that does not take what it is sent.
    pub(super) fn check_outbox(&self) -> Result<(), PeerError> {
        let (bytes, max) = (self.wire.buffered(), self.config.max_outbox);
        if bytes > max { Err(PeerError::Outbox { bytes, max }) } else { Ok(()) }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("phase", &self.phase)
            .field("session", &self.session)
            .field("timers", &self.timers)
            .field("received", &self.received)
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}
