//! The Noise XX handshake: three messages that end with two keys and two nonces.
//!
//! Each message is preceded by its length as a varint and carries a protobuf payload with the
//! sender's nonce for the transport cipher. The transport does not use Noise's own messages.
//!
//! Source: `simple-handshake@3.0.0`, `noise-protocol@3.0.1`, `simple-hypercore-protocol@2.1.2`,
//! `lib/handshake.js`.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use snow::{Builder, HandshakeState};
use zeroize::{Zeroize, Zeroizing};

use crate::messages::codec;
use crate::wire::resolver::Resolver;
use crate::wire::{SplitKeys, varint};
use crate::{Entropy, PeerError, Role};

/// One side of a handshake. Made for one connection and used up by it.
pub struct Handshake {
    // On the heap, so that moving the handshake leaves no copies of its secrets behind.
    state: Box<HandshakeState>,
    role: Role,
    nonce: [u8; 24],
    remote_payload: Vec<u8>,
}

/// What a handshake ends with.
#[derive(Debug)]
pub struct Finished {
    /// The keys of both directions.
    pub keys: SplitKeys,
    /// Nonce of what this side sends.
    pub local_nonce: [u8; 24],
    /// Nonce of what the peer sends.
    pub remote_nonce: [u8; 24],
    /// The peer's static public key.
    pub remote_public_key: [u8; 32],
    /// Noise `h` after the last message, equal on both sides.
    pub handshake_hash: [u8; 64],
}

impl Handshake {
    /// A handshake with a static key of its own: nobody recognises this side again.
    #[must_use]
    pub fn new(role: Role, mut entropy: Entropy) -> Self {
        let secret = Zeroizing::new(entropy.bytes());
        Self::with_static_key(role, entropy, &secret)
    }

    /// A handshake with a static X25519 key, 32 bytes of any value, that peers see and may remember.
    #[must_use]
    pub fn with_static_key(role: Role, mut entropy: Entropy, secret: &[u8; 32]) -> Self {
        let nonce = entropy.bytes();
        Self::build(role, entropy, secret, nonce, None)
    }

    /// A handshake that repeats a recorded one.
    #[cfg(test)]
    pub(crate) fn with_fixed_secrets(
        role: Role,
        secret: &[u8; 32],
        ephemeral: &[u8; 32],
        nonce: [u8; 24],
    ) -> Self {
        Self::build(role, Entropy::from_seed([0; 32]), secret, nonce, Some(ephemeral))
    }

    fn build(
        role: Role,
        entropy: Entropy,
        secret: &[u8; 32],
        nonce: [u8; 24],
        ephemeral: Option<&[u8; 32]>,
    ) -> Self {
        let params = PATTERN.parse().expect("the pattern is one that snow knows");
        let mut builder = Builder::with_resolver(params, Box::new(Resolver::new(entropy)))
            .local_private_key(secret)
            .expect("the static key is set once");
        if let Some(ephemeral) = ephemeral {
            builder = builder.fixed_ephemeral_key_for_testing_only(ephemeral);
        }
        let state = match role {
            Role::Initiator => builder.build_initiator(),
            Role::Responder => builder.build_responder(),
        }
        .expect("the resolver has every primitive of the pattern");
        Self { state: Box::new(state), role, nonce, remote_payload: Vec::new() }
    }

    /// Appends what this side sends before it receives anything: the first message of an initiator,
    /// nothing of a responder. To be called once.
    pub fn start(&mut self, out: &mut Vec<u8>) {
        match self.role {
            Role::Initiator => {
                self.write(out).expect("the first message needs nothing from the peer");
            }
            Role::Responder => {}
        }
    }

    /// Takes a message of the peer, without its length, and appends the answer if there is one.
    /// `Some` when the handshake is over with it.
    ///
    /// # Errors
    ///
    /// [`PeerError::Handshake`] if the message does not decrypt, is too short or holds a low-order
    /// point; [`PeerError::HandshakePayload`] at the end if there was no nonce of 24 bytes. The
    /// handshake must not be used afterwards.
    pub fn read(
        &mut self,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Finished>, PeerError> {
        let mut payload = vec![0; message.len()];
        let len = self
            .state
            .read_message(message, &mut payload)
            .map_err(|_: snow::Error| PeerError::Handshake)?;
        payload.truncate(len);
        // The last payload counts. One that is empty does not, as in the JavaScript.
        if !payload.is_empty() {
            self.remote_payload = payload;
        }
        if !self.state.is_handshake_finished() {
            self.write(out)?;
        }
        if self.state.is_handshake_finished() { self.finish().map(Some) } else { Ok(None) }
    }

    fn write(&mut self, out: &mut Vec<u8>) -> Result<(), PeerError> {
        let mut message = [0; LONGEST_MESSAGE];
        let payload = codec::encode_noise_payload(&self.nonce);
        // The secret of an exchange can turn out all-zero here, which is the peer's fault.
        let len = self
            .state
            .write_message(&payload, &mut message)
            .map_err(|_: snow::Error| PeerError::Handshake)?;
        varint::write(len as u64, out);
        out.extend_from_slice(&message[..len]);
        Ok(())
    }

    fn finish(&mut self) -> Result<Finished, PeerError> {
        let remote_payload = Bytes::from(core::mem::take(&mut self.remote_payload));
        let remote_nonce = codec::decode_noise_payload(remote_payload)?;
        let remote_public_key = self
            .state
            .get_remote_static()
            .and_then(|key| key.try_into().ok())
            .ok_or(PeerError::Handshake)?;
        let handshake_hash =
            self.state.get_handshake_hash().try_into().map_err(|_| PeerError::Handshake)?;

        let (mut to_responder, mut to_initiator) = self.state.dangerously_get_raw_split();
        let keys = match self.role {
            Role::Initiator => SplitKeys { tx: to_responder, rx: to_initiator },
            Role::Responder => SplitKeys { tx: to_initiator, rx: to_responder },
        };
        to_responder.zeroize();
        to_initiator.zeroize();
        Ok(Finished {
            keys,
            local_nonce: self.nonce,
            remote_nonce,
            remote_public_key,
            handshake_hash,
        })
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("role", &self.role).finish_non_exhaustive()
    }
}

/// Pattern and primitives. `noise-protocol` computes exactly this standard protocol.
const PATTERN: &str = "Noise_XX_25519_ChaChaPoly_BLAKE2b";

/// Room for the longest message that we write, in bytes: the second has 122.
const LONGEST_MESSAGE: usize = 256;
