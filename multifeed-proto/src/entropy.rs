//! Randomness as an argument: the machines own none.

use core::fmt;

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

/// A source of unpredictable bytes, made from 32 bytes that the host drew from its operating system.
///
/// Not `Clone` and consumed by what uses it: two connections with the same entropy would use the
/// same nonce and the same ephemeral key, which gives their contents away.
pub struct Entropy(ChaCha20Rng);

impl Entropy {
    /// Expands `seed`. Every seed must be used once only and come from a cryptographic source.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }

    /// The next `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.0.fill_bytes(&mut out);
        out
    }

    /// An independent source, seeded from this one.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self::from_seed(self.bytes())
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy(..)")
    }
}
