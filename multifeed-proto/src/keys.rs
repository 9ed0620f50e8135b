//! The keys that name feeds and multifeeds, and what is derived from them for the wire.

use alloc::string::String;
use core::fmt;

use blake2::Blake2bMac;
use blake2::digest::{FixedOutput, KeyInit, Update, consts::U32};
use curve25519_dalek::MontgomeryPoint;
use zeroize::Zeroize;

/// The root key that the JavaScript uses when the application gives none. Anybody knows it.
///
/// Source: `multifeed@6.0.0/index.js`, `hypermultifeed@1.1.0/index.js`.
pub const INSECURE_DEFAULT_ROOT_KEY: RootKey = RootKey([
    0xbe, 0xe8, 0x0f, 0xf3, 0xa4, 0xee, 0x5e, 0x72, 0x7d, 0xc4, 0x41, 0x97, 0xcb, 0x9d, 0x25, 0xbf,
    0x8f, 0x19, 0xd5, 0x0b, 0x0f, 0x3a, 0xd2, 0x98, 0x4c, 0xfe, 0x5b, 0x7d, 0x14, 0xe7, 0x5d, 0xe7,
]);

/// The ed25519 public key of one feed (hypercore). Whoever knows it can read the feed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedKey(pub [u8; 32]);

/// The secret that names a multifeed: peers that know it sync its feeds.
///
/// Never sent and never printed; wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RootKey([u8; 32]);

/// The public name of a key on the wire and on disk: a keyed hash that does not reveal it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiscoveryKey(pub [u8; 32]);

/// The lasting secret of one peer: its Noise static key pair. Peers recognise it by the public half.
///
/// Never sent and never printed; wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerSecret([u8; 32]);

/// Why a text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyParseError {
    /// Nothing that could be a key.
    #[error("a key is 64 hexadecimal digits, and there are none")]
    Empty,
    /// Not 64 digits.
    #[error("a key is 64 hexadecimal digits, got {got}")]
    Length {
        /// Digits in the text.
        got: usize,
    },
    /// A character that is no hexadecimal digit, or stands behind the key.
    #[error("a key is 64 hexadecimal digits, character {} is {found:?}", position + 1)]
    Digit {
        /// Its place in the text, in characters from 0.
        position: usize,
        /// The character.
        found: char,
    },
    /// Not a text.
    #[error("a key is 64 hexadecimal digits, and this is no text in UTF-8 or UTF-16")]
    Encoding,
}

impl FeedKey {
    /// Reads 64 hexadecimal digits of either case and nothing else; see `from_str` for what people write.
    ///
    /// # Errors
    ///
    /// [`KeyParseError`] says what is wrong with `text`.
    pub fn from_hex(text: &str) -> Result<Self, KeyParseError> {
        parse_hex(text).map(Self)
    }

    /// 64 lower-case hexadecimal digits, the form used in the multifeed messages.
    #[must_use]
    pub fn to_hex(&self) -> String {
        to_hex(&self.0)
    }

    /// `BLAKE2b-256(key = public key, "hypercore")` (`hypercore-crypto/index.js`, `discoveryKey`).
    #[must_use]
    pub fn discovery_key(&self) -> DiscoveryKey {
        DiscoveryKey(keyed_hash(&self.0, &[b"hypercore"]))
    }

    /// Whether this key is refused wherever it comes from: a point of small order, such as 32 bytes of
    /// zeros, or a point that is not written in its one canonical form. Anybody can make signatures for the
    /// former, and no honest key generator gives either.
    ///
    /// A key that is no point of the curve is not weak: it may be the hash of a log that never grows.
    ///
    /// Source: libsodium, `crypto_sign_ed25519_verify_detached`, refuses the same keys.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        let mut y = self.0;
        y[31] &= 0x7f; // without the sign of x
        let [first, middle @ .., last] = &y;
        let canonical = *first < 0xed || middle.iter().any(|&byte| byte != 0xff) || *last < 0x7f;
        !canonical || SMALL_ORDER.contains(&y)
    }
}

/// The y coordinates of the eight points whose order divides eight.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    [
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00,
    ],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x7f,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
];

impl RootKey {
    /// Takes 32 bytes as they are. Use unpredictable ones.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads 64 hexadecimal digits of either case and nothing else; see `from_str` for what people write.
    ///
    /// # Errors
    ///
    /// [`KeyParseError`] says what is wrong, without repeating the text.
    pub fn from_hex(text: &str) -> Result<Self, KeyParseError> {
        parse_hex(text).map(Self)
    }

    /// The secret bytes.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The name of this multifeed's channel on the wire.
    #[must_use]
    pub fn discovery_key(&self) -> DiscoveryKey {
        DiscoveryKey(keyed_hash(&self.0, &[b"hypercore"]))
    }
}

impl Drop for RootKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PeerSecret {
    /// Takes an X25519 secret, 32 bytes of any value. Use unpredictable ones.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads 64 hexadecimal digits of either case and nothing else; see `from_str` for what people write.
    ///
    /// # Errors
    ///
    /// [`KeyParseError`] says what is wrong, without repeating the text.
    pub fn from_hex(text: &str) -> Result<Self, KeyParseError> {
        parse_hex(text).map(Self)
    }

    /// The secret bytes.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The public half, as the other side of a connection sees it.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        MontgomeryPoint::mul_base_clamped(self.0).to_bytes()
    }
}

impl Drop for PeerSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for PeerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerSecret(..)")
    }
}

impl DiscoveryKey {
    /// 64 lower-case hexadecimal digits, the form used in folder names.
    #[must_use]
    pub fn to_hex(&self) -> String {
        to_hex(&self.0)
    }
}

impl fmt::Debug for FeedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FeedKey({}..)", to_hex(&self.0[..4]))
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(..)")
    }
}

impl fmt::Debug for DiscoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiscoveryKey({}..)", to_hex(&self.0[..4]))
    }
}

/// BLAKE2b-256 with a key, over `parts` as one message.
#[must_use]
pub fn keyed_hash(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac =
        Blake2bMac::<U32>::new_from_slice(key).expect("32 bytes are a legal BLAKE2b key length");
    for part in parts {
        Update::update(&mut mac, part);
    }
    mac.finalize_fixed().into()
}

/// Lower-case hexadecimal digits of `bytes`.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

fn parse_hex(text: &str) -> Result<[u8; 32], KeyParseError> {
    let slip = text.chars().enumerate().find(|(_, c)| !c.is_ascii_hexdigit());
    if let Some((position, found)) = slip {
        return Err(KeyParseError::Digit { position, found });
    }
    if text.len() != 64 {
        return Err(KeyParseError::Length { got: text.len() });
    }
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16).unwrap_or_default() as u8;
        *byte = digit(pair[0]) << 4 | digit(pair[1]);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};

    use super::*;

    #[test]
    fn all_points_of_small_order_are_weak() {
        for point in EIGHT_TORSION {
            let mut key = point.compress().to_bytes();
            assert!(FeedKey(key).is_weak(), "{key:?}");
            key[31] ^= 0x80;
            assert!(FeedKey(key).is_weak(), "with the other sign: {key:?}");
        }
    }

    #[test]
    fn keys_that_are_not_canonical_are_weak() {
        for low in 0xed..=0xff {
            for high in [0x7f, 0xff] {
                let mut key = [0xff; 32];
                (key[0], key[31]) = (low, high);
                assert!(FeedKey(key).is_weak(), "{key:?}");
            }
        }
    }

    #[test]
    fn real_keys_and_hashes_are_not_weak() {
        assert!(!FeedKey(ED25519_BASEPOINT_POINT.compress().to_bytes()).is_weak());
        assert!(!FeedKey([2; 32]).is_weak(), "no point of the curve: maybe the hash of a log");
        let mut largest = [0xff; 32];
        (largest[0], largest[31]) = (0xeb, 0x7f);
        assert!(!FeedKey(largest).is_weak());
    }
}
