//! Repeatable choices for the tests that do things at random moments.

/// A small generator (splitmix64) whose seed is printed and can be given again.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Takes the seed from the environment variable `MULTIFEED_SEED` (a decimal number), otherwise
    /// from the operating system, and prints it.
    pub fn from_environment(test: &str) -> Self {
        let seed = match std::env::var("MULTIFEED_SEED") {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("MULTIFEED_SEED={text}: no number")),
            Err(_) => {
                let state = std::collections::hash_map::RandomState::new();
                std::hash::BuildHasher::hash_one(&state, test)
            }
        };
        eprintln!("{test}: replay with MULTIFEED_SEED={seed}");
        Self(seed)
    }

    /// Choices that follow from this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `end`, which must not be zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
