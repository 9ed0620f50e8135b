//! Keys that sign logs, and keys that check signatures.

use core::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use multifeed_proto::FeedKey;
use zeroize::Zeroizing;

use crate::tree::hash;

/// The secret half of a feed's ed25519 key. Wiped from memory when dropped, never printed.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key that follows from a seed (`crypto_sign_seed_keypair` in libsodium).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Takes a key in the form of libsodium: the seed, then the public key.
    ///
    /// `None` if the two do not belong together: signing with such a key would give the secret away.
    #[must_use]
    pub fn from_libsodium(bytes: &[u8; 64]) -> Option<Self> {
        SigningKey::from_keypair_bytes(bytes).ok().map(Self)
    }

    /// The key in the form of libsodium: the seed, then the public key.
    #[must_use]
    pub fn to_libsodium(&self) -> Zeroizing<[u8; 64]> {
        Zeroizing::new(self.0.to_keypair_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> FeedKey {
        FeedKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// Signs the log with the given [`hash::root`] and length in blocks.
    #[must_use]
    pub fn sign_log(&self, root: &[u8; 32], length: u64) -> [u8; 64] {
        self.sign(&hash::signable(root, length))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// A feed's public key, unpacked to check signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier(VerifyingKey);

impl Verifier {
    /// Unpacks a key. `None` if no signature can be valid for it: it is [weak](FeedKey::is_weak), or no
    /// point of the curve. The latter can still be the hash of a log that never grows.
    #[must_use]
    pub fn new(key: &FeedKey) -> Option<Self> {
        if key.is_weak() {
            return None;
        }
        VerifyingKey::from_bytes(&key.0).ok().map(Self)
    }

    /// The public key.
    #[must_use]
    pub fn key(&self) -> FeedKey {
        FeedKey(self.0.to_bytes())
    }

    /// Whether `signature` is for the log with this [`hash::root`] and length in blocks.
    ///
    /// Takes the form that covers the length, and the one without it of hypercore 8 and older.
    #[must_use]
    pub fn verify(&self, root: &[u8; 32], length: u64, signature: &[u8; 64]) -> bool {
        self.verify_message(&hash::signable(root, length), signature)
            || self.verify_message(root, signature)
    }

    /// Whether `signature` is for `message`, by the rule of libsodium: the point that follows from
    /// the key, the message and the second half must be written exactly as the first half.
    ///
    /// Unlike libsodium, a first half of small order is not refused. Only the owner of the secret key
    /// can make one, so nobody gains anything by it.
    #[must_use]
    pub fn verify_message(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        use ed25519_dalek::Verifier as _;
        let verify = || self.0.verify(message, &Signature::from_bytes(signature)).is_ok();
        #[cfg(feature = "fuzzing")]
        let verify = || crate::fuzzing::remember(self.0.as_bytes(), message, signature, verify);
        verify()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({:?})", self.key())
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    #[test]
    fn a_key_whose_halves_do_not_match_is_refused() {
        let key = SecretKey::from_seed(&[1; 32]);
        let mut bytes = *key.to_libsodium();
        assert_eq!(SecretKey::from_libsodium(&bytes).map(|key| key.public()), Some(key.public()));
        bytes[40] ^= 1;
        assert!(SecretKey::from_libsodium(&bytes).is_none());
    }

    #[test]
    fn a_secret_key_is_not_printed() {
        assert_eq!(format!("{:?}", SecretKey::from_seed(&[1; 32])), "SecretKey(..)");
    }

    #[test]
    fn keys_that_cannot_sign_verify_nothing() {
        let mut one = [0; 32];
        one[0] = 1; // the neutral element
        let mut shifted = [0xff; 32];
        (shifted[0], shifted[31]) = (0xee, 0x7f); // the same, written as 2^255 - 18
        for key in [[0; 32], one, shifted, [2; 32]] {
            assert!(Verifier::new(&FeedKey(key)).is_none(), "{key:?}");
        }
    }

    #[test]
    fn a_signature_is_for_one_length_only() {
        let key = SecretKey::from_seed(&[1; 32]);
        let verifier = Verifier::new(&key.public()).expect("a real key");
        let signature = key.sign_log(&[7; 32], 5);
        assert!(verifier.verify(&[7; 32], 5, &signature));
        assert!(!verifier.verify(&[7; 32], 6, &signature));
        assert!(verifier.verify(&[7; 32], 6, &key.sign(&[7; 32])), "the old form has no length");
    }
}
