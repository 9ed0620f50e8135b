//! The machine that joins handshake, cipher, frames and message codec.

#[cfg(feature = "fuzzing")]
mod behind;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::messages::{Message, codec};
use crate::wire::cipher::{Encryption, StreamCipher};
use crate::wire::foreign;
use crate::wire::frame::{self, Head};
use crate::wire::inbox::{self, Inbox};
use crate::wire::noise::{Finished, Handshake};
use crate::wire::outbox::{self, Outbox};
use crate::wire::{WireEvent, varint};
use crate::{Config, Entropy, PeerError, Role, UsageError};

/// One end of an encrypted stream of messages, without a socket.
///
/// The drain rule: after each [`handle_bytes`](Self::handle_bytes) call
/// [`poll_event`](Self::poll_event) until it returns `None`; after anything, write what
/// [`transmit`](Self::transmit) returns and report it with [`transmitted`](Self::transmitted).
///
/// ```
/// use multifeed_proto::messages::{Message, Status};
/// use multifeed_proto::wire::{Wire, WireEvent};
/// use multifeed_proto::{Config, Entropy, PeerError, Role};
///
/// // Seeds come from the operating system; these are for show.
/// let config = Config::default();
/// let mut alice = Wire::new(Role::Initiator, Entropy::from_seed([1; 32]), &config);
/// let mut bob = Wire::new(Role::Responder, Entropy::from_seed([2; 32]), &config);
///
/// /// Stands for the network.
/// fn deliver(from: &mut Wire, to: &mut Wire) -> Result<(), PeerError> {
///     let bytes = from.transmit();
///     let written = bytes.len();
///     to.handle_bytes(bytes)?;
///     from.transmitted(written);
///     Ok(())
/// }
///
/// // What is sent before the handshake is over waits for it.
/// let status = Message::Status(Status { uploading: true, downloading: false });
/// alice.send(1, &status)?;
/// while alice.buffered() > 0 || bob.buffered() > 0 {
///     deliver(&mut alice, &mut bob)?;
///     deliver(&mut bob, &mut alice)?;
/// }
///
/// assert!(matches!(bob.poll_event()?, Some(WireEvent::Connected { .. })));
/// assert_eq!(bob.poll_event()?, Some(WireEvent::Message { channel: 1, message: status }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Wire {
    phase: Phase,
    encryption: Encryption,
    max_handshake_message: usize,
    /// Of what is sent.
    max_body: usize,
    /// Of what comes.
    limits: frame::Limits,
    inbox: Inbox,
    outbox: Outbox,
    connected: Option<WireEvent>,
    /// A whole handshake message came.
    heard: bool,
    error: Option<PeerError>,
}

/// A frame whose end has not arrived.
pub(crate) struct Partial {
    /// The remote's channel number.
    pub(crate) channel: u32,
    /// The block that it brings, if it is a `Data` with one.
    pub(crate) block: Option<u64>,
    /// Bytes of its body that arrived.
    pub(crate) received: usize,
    /// Bytes of its body.
    pub(crate) len: usize,
}

enum Phase {
    Handshaking {
        handshake: Box<Handshake>,
        // Frames, in clear, that go out as soon as there is a cipher.
        waiting: Vec<u8>,
    },
    Connected {
        tx: Box<dyn StreamCipher>,
        rx: Box<dyn StreamCipher>,
    },
    Failed,
}

impl Wire {
    /// An end with a static Noise key of its own, made from `entropy`. An initiator's first message
    /// can be transmitted at once.
    #[must_use]
    pub fn new(role: Role, entropy: Entropy, config: &Config) -> Self {
        Self::start(Handshake::new(role, entropy), Encryption::XSalsa20, config)
    }

    /// An end with a lasting Noise identity: the peer gets to know the public key of `secret`, 32
    /// bytes of any value (X25519). It is no ed25519 key of a feed.
    #[must_use]
    pub fn with_static_key(
        role: Role,
        entropy: Entropy,
        config: &Config,
        secret: [u8; 32],
    ) -> Self {
        let secret = zeroize::Zeroizing::new(secret);
        let handshake = Handshake::with_static_key(role, entropy, &secret);
        Self::start(handshake, Encryption::XSalsa20, config)
    }

    /// An end that leaves frames in clear after the handshake, for a peer that was told the same
    /// (`encrypted: false` in the JavaScript). Anyone on the path reads and changes everything.
    #[must_use]
    pub fn unencrypted(role: Role, entropy: Entropy, config: &Config) -> Self {
        Self::new(role, entropy, config).into_unencrypted()
    }

    /// The same for an end of any identity, before any bytes came.
    #[must_use]
    pub fn into_unencrypted(self) -> Self {
        Self { encryption: Encryption::Clear, ..self }
    }

    pub(super) fn start(mut handshake: Handshake, encryption: Encryption, config: &Config) -> Self {
        let mut outbox = Outbox::default();
        handshake.start(outbox.buffer());
        outbox.seal(None);
        Self {
            phase: Phase::Handshaking { handshake: Box::new(handshake), waiting: Vec::new() },
            encryption,
            max_handshake_message: config.max_handshake_message,
            max_body: config.max_frame_body,
            limits: config.into(),
            inbox: Inbox::default(),
            outbox,
            connected: None,
            heard: false,
            error: None,
        }
    }

    /// Takes bytes that arrived, cut anywhere, and keeps a deciphered copy until
    /// [`poll_event`](Self::poll_event) has read them. Memory grows with what arrived, whatever
    /// lengths it announces.
    ///
    /// # Errors
    ///
    /// What is wrong with a handshake message. From the first error of this or of `poll_event` on,
    /// both return that error and nothing else happens.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), PeerError> {
        self.check()?;
        let arrived = self.inbox.push(bytes);
        match &mut self.phase {
            Phase::Connected { rx, .. } => {
                rx.apply(arrived);
                Ok(())
            }
            Phase::Handshaking { .. } => {
                let result = self.advance_handshake().map_err(|error| self.named(error));
                self.remember(result)
            }
            Phase::Failed => Ok(()),
        }
    }

    /// The next thing that came out of the bytes, `None` when more are needed.
    ///
    /// # Errors
    ///
    /// What is wrong with a frame or message, once everything before it was returned; see
    /// [`handle_bytes`](Self::handle_bytes).
    pub fn poll_event(&mut self) -> Result<Option<WireEvent>, PeerError> {
        self.check()?;
        if let Some(event) = self.connected.take() {
            return Ok(Some(event));
        }
        if !self.is_connected() {
            return Ok(None);
        }
        let result = self.read_frames();
        self.remember(result)
    }

    /// Queues `message` on our channel `channel`; while handshaking it waits for the end of that.
    ///
    /// Integers must not exceed [`varint::MAX_SAFE_INTEGER`]: peers round or refuse them.
    ///
    /// # Errors
    ///
    /// [`UsageError::TooLarge`] if the body exceeds [`Config::max_frame_body`]; nothing was queued.
    pub fn send(&mut self, channel: u32, message: &Message) -> Result<(), UsageError> {
        let encoder = codec::Encoder::new(message);
        let len = encoder.encoded_len();
        if len > self.max_body {
            return Err(UsageError::TooLarge { len, max: self.max_body });
        }
        let Some(out) = self.frames_out() else { return Ok(()) };
        out.reserve(len + 2 * frame::MAX_VARINT);
        frame::write_header(channel, codec::kind(message), len, out);
        encoder.write(out);
        Ok(())
    }

    /// Queues a frame without contents, unless something is waiting anyway or the handshake is not
    /// over.
    pub fn send_keepalive(&mut self) {
        if self.is_connected() && self.buffered() == 0 {
            frame::write_keepalive(self.outbox.buffer());
        }
    }

    /// The bytes to write, ciphered in bulk. Any prefix of them may be written.
    #[must_use]
    pub fn transmit(&mut self) -> &[u8] {
        match &mut self.phase {
            Phase::Connected { tx, .. } => self.outbox.seal(Some(tx.as_mut())),
            Phase::Handshaking { .. } | Phase::Failed => {}
        }
        self.outbox.sealed()
    }

    /// Drops the first `n` bytes of what [`transmit`](Self::transmit) returned: they were written.
    pub fn transmitted(&mut self, n: usize) {
        self.outbox.transmitted(n);
    }

    /// Whether the handshake is over and nothing failed.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected { .. })
    }

    /// Whether a whole handshake message of the peer came and fitted.
    #[must_use]
    pub fn has_heard(&self) -> bool {
        self.heard
    }

    /// What the peer's first bytes look like, where they are no handshake.
    #[must_use]
    pub fn foreign(&self) -> Option<&'static str> {
        let handshaking = matches!(self.phase, Phase::Handshaking { .. }) && !self.heard;
        handshaking.then(|| foreign::nature(self.inbox.bytes())).flatten()
    }

    /// Whether the end of the stream at this point would cut something off: the handshake is not over,
    /// or a part of a frame waits for the rest. Meant to be asked after draining `poll_event`.
    #[must_use]
    pub fn is_mid_message(&self) -> bool {
        match self.phase {
            Phase::Handshaking { .. } => true,
            Phase::Connected { .. } => !self.inbox.bytes().is_empty(),
            Phase::Failed => false,
        }
    }

    /// Drops what waits for the end of a handshake that will have none.
    pub(crate) fn forget_waiting(&mut self) {
        if let Phase::Handshaking { waiting, .. } = &mut self.phase {
            *waiting = Vec::new();
        }
    }

    /// The frame at the front of what arrived, if its head is here and its end is not.
    pub(crate) fn partial(&self) -> Option<Partial> {
        if !self.is_connected() || self.connected.is_some() {
            return None;
        }
        let bytes = self.inbox.bytes();
        let Ok(Some(Head::Frame(header))) = frame::read_head(bytes, &self.limits) else {
            return None;
        };
        let body = &bytes[header.len..];
        (body.len() < header.body_len).then(|| Partial {
            channel: header.channel,
            block: codec::block_in(header.kind, body),
            received: body.len(),
            len: header.body_len,
        })
    }

    /// Bytes waiting to be transmitted, including those that wait for the end of the handshake.
    #[must_use]
    pub fn buffered(&self) -> usize {
        let waiting = match &self.phase {
            Phase::Handshaking { waiting, .. } => waiting.len(),
            Phase::Connected { .. } | Phase::Failed => 0,
        };
        self.outbox.len() + waiting
    }

    /// Takes frames of `max` bytes at most and keeps little memory: the peer is a stranger.
    pub(crate) fn distrust(&mut self, max: usize) {
        self.limits.max_body = max;
        self.inbox.keep(STRANGER_BUFFER);
        self.outbox.keep(STRANGER_BUFFER);
    }

    /// Takes frames of `max` bytes from here on.
    pub(crate) fn trust(&mut self, max: usize) {
        self.limits.max_body = max;
        self.inbox.keep(inbox::KEPT_CAPACITY);
        self.outbox.keep(outbox::KEPT_CAPACITY);
    }

    /// Bytes of memory behind what arrived, and behind what is to be sent.
    pub(crate) fn memory(&self) -> (usize, usize) {
        let waiting = match &self.phase {
            Phase::Handshaking { waiting, .. } => waiting.capacity(),
            Phase::Connected { .. } | Phase::Failed => 0,
        };
        (self.inbox.capacity(), self.outbox.capacity() + waiting)
    }

    /// Bytes of memory behind what arrived.
    #[cfg(test)]
    pub(super) fn inbox_capacity(&self) -> usize {
        self.inbox.capacity()
    }

    fn check(&self) -> Result<(), PeerError> {
        self.error.clone().map_or(Ok(()), Err)
    }

    fn remember<T>(&mut self, result: Result<T, PeerError>) -> Result<T, PeerError> {
        if let Err(error) = &result {
            self.error = Some(error.clone());
            // What was queued before may still be transmitted; the cipher goes with the phase.
            if let Phase::Connected { tx, .. } = &mut self.phase {
                self.outbox.seal(Some(tx.as_mut()));
            }
            self.phase = Phase::Failed;
            self.inbox = Inbox::default();
        }
        result
    }

    /// The error of a handshake, by the name of the service that speaks if it is none of ours.
    fn named(&self, error: PeerError) -> PeerError {
        let nature = foreign::nature(self.inbox.bytes()).filter(|_| !self.heard);
        nature.map_or(error, |speaks| PeerError::OtherProtocol { speaks })
    }

    fn advance_handshake(&mut self) -> Result<(), PeerError> {
        if let Some(speaks) = foreign::service(self.inbox.bytes()).filter(|_| !self.heard) {
            return Err(PeerError::OtherProtocol { speaks });
        }
        while let Phase::Handshaking { handshake, .. } = &mut self.phase {
            let input = self.inbox.bytes();
            let Some((len, len_bytes)) = varint::read(input, frame::MAX_VARINT)
                .map_err(|varint::Endless| PeerError::Varint)?
            else {
                return Ok(());
            };
            let message_len = usize::try_from(len)
                .ok()
                .filter(|message_len| (1..=self.max_handshake_message).contains(message_len))
                .ok_or(PeerError::HandshakeLength { len, max: self.max_handshake_message })?;
            let Some(message) = input[len_bytes..].get(..message_len) else { return Ok(()) };

            let finished = handshake.read(message, self.outbox.buffer())?;
            self.heard = true;
            self.outbox.seal(None);
            self.inbox.consume(len_bytes + message_len);
            if let Some(finished) = finished {
                self.connect(finished);
            }
        }
        Ok(())
    }

    fn connect(&mut self, finished: Finished) {
        let Finished { keys, local_nonce, remote_nonce, remote_public_key, handshake_hash } =
            finished;
        let tx = self.encryption.cipher(&keys.tx, &local_nonce);
        let mut rx = self.encryption.cipher(&keys.rx, &remote_nonce);
        // The peer may send frames in the packet of its last handshake message.
        rx.apply(self.inbox.bytes_mut());
        let before = core::mem::replace(&mut self.phase, Phase::Connected { tx, rx });
        if let Phase::Handshaking { waiting, .. } = before {
            self.outbox.buffer().extend_from_slice(&waiting);
        }
        self.connected = Some(WireEvent::Connected { remote_public_key, handshake_hash, keys });
    }

    fn read_frames(&mut self) -> Result<Option<WireEvent>, PeerError> {
        while let Some(head) = frame::read_head(self.inbox.bytes(), &self.limits)? {
            let header = match head {
                Head::Keepalive { len } => {
                    self.inbox.consume(len);
                    continue;
                }
                Head::Frame(header) => header,
            };
            if self.inbox.bytes().len() < header.len + header.body_len {
                return Ok(None);
            }
            let body = self.inbox.take(header.len, header.body_len);
            if header.channel == frame::CLOSED_CHANNEL {
                continue;
            }
            if let Some(message) = codec::decode(header.kind, body)? {
                return Ok(Some(WireEvent::Message { channel: header.channel, message }));
            }
        }
        Ok(None)
    }

    /// Where frames are appended; `None` after a failure.
    fn frames_out(&mut self) -> Option<&mut Vec<u8>> {
        match &mut self.phase {
            Phase::Handshaking { waiting, .. } => Some(waiting),
            Phase::Connected { .. } => Some(self.outbox.buffer()),
            Phase::Failed => None,
        }
    }
}

/// Bytes of an empty inbox or outbox that are kept for a stranger.
const STRANGER_BUFFER: usize = 2048;

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("connected", &self.is_connected())
            .field("received", &self.inbox.bytes().len())
            .field("buffered", &self.buffered())
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}
