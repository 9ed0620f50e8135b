//! The transport cipher: one XSalsa20 keystream per direction over everything after the handshake.
//!
//! There is no authentication: a flipped bit on the path flips the same bit of a frame. Only what a
//! Merkle proof covers is trusted.
//!
//! Source: `simple-hypercore-protocol@2.1.2/lib/xor.js`, `xsalsa20-universal@1.0.0`.

use alloc::boxed::Box;
use core::fmt;

use salsa20::XSalsa20;
use salsa20::cipher::{KeyIvInit, StreamCipher as _};

/// One direction of a stream cipher. Encryption and decryption are the same operation.
pub trait StreamCipher: Send + Sync {
    /// Combines `buffer` with the next `buffer.len()` bytes of the keystream, in place.
    ///
    /// How the stream is cut into buffers makes no difference; long ones are faster.
    fn apply(&mut self, buffer: &mut [u8]);
}

/// How the bytes after the handshake travel. Both ends must agree; nothing is negotiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// XSalsa20, as all JavaScript peers do unless told otherwise.
    #[default]
    XSalsa20,
    /// In clear, the JavaScript's `encrypted: false`. The handshake and the capabilities stay.
    Clear,
}

impl Encryption {
    /// The cipher of one direction.
    pub(crate) fn cipher(self, key: &[u8; 32], nonce: &[u8; 24]) -> Box<dyn StreamCipher> {
        match self {
            Self::XSalsa20 => Box::new(Keystream::new(key, nonce)),
            Self::Clear => Box::new(Clear),
        }
    }
}

/// The XSalsa20 keystream of a key and a nonce, from its start. Wiped from memory when dropped.
pub struct Keystream(XSalsa20);

impl Keystream {
    /// A keystream at block 0. The pair of key and nonce must be used once only.
    #[must_use]
    pub fn new(key: &[u8; 32], nonce: &[u8; 24]) -> Self {
        Self(XSalsa20::new(key.into(), nonce.into()))
    }
}

impl StreamCipher for Keystream {
    fn apply(&mut self, buffer: &mut [u8]) {
        // Ends after 2^70 bytes, which no connection carries.
        self.0.apply_keystream(buffer);
    }
}

impl fmt::Debug for Keystream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keystream(..)")
    }
}

/// No cipher.
struct Clear;

impl StreamCipher for Clear {
    fn apply(&mut self, _buffer: &mut [u8]) {}
}
