//! One page of 8,192 bits.

/// Blocks in a page.
pub(crate) const PAGE_BLOCKS: u64 = 8192;

/// Bytes that describe a page bit by bit.
pub(crate) const PAGE_BYTES: usize = 1024;

/// A page bit by bit, in the bit order of the wire: the first block is the most significant bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bits {
    words: [u64; WORDS],
    count: u16,
}

impl Bits {
    /// Reads `bytes`, of which those that reach beyond the page are left out, to byte `at` of the page;
    /// the rest is zero.
    pub(crate) fn from_bytes(at: usize, bytes: &[u8]) -> Self {
        let mut bits = Self::default();
        for (place, byte) in (at..PAGE_BYTES).zip(bytes) {
            bits.words[place / 8] |= u64::from(*byte) << (56 - 8 * (place % 8));
            bits.count += ones(u64::from(*byte));
        }
        bits
    }

    pub(crate) fn words(&self) -> &[u64; WORDS] {
        &self.words
    }

    /// Number of set bits.
    pub(crate) fn count(&self) -> u64 {
        u64::from(self.count)
    }

    /// The bounds of the set bits, if there are any and they have no gap.
    pub(crate) fn single_run(&self) -> Option<(u64, u64)> {
        let from = self.first(0)?;
        let to = from + self.count();
        self.first_missing(from).is_none_or(|gap| gap == to).then_some((from, to))
    }

    /// The first set bit at or after `from`.
    pub(crate) fn first(&self, from: u64) -> Option<u64> {
        Self::scan(from, |word| self.words[word])
    }

    /// The first clear bit at or after `from`.
    pub(crate) fn first_missing(&self, from: u64) -> Option<u64> {
        Self::scan(from, |word| !self.words[word])
    }

    /// Sets `from..to` and says how many of these bits were clear.
    pub(crate) fn insert(&mut self, from: u64, to: u64) -> u64 {
        let mut added = 0;
        for word in words(from, to) {
            let new = mask(word, from, to) & !self.words[word];
            self.words[word] |= new;
            added += ones(new);
        }
        self.count += added;
        added.into()
    }

    /// Clears `from..to` and says how many of these bits were set.
    pub(crate) fn remove(&mut self, from: u64, to: u64) -> u64 {
        let mut removed = 0;
        for word in words(from, to) {
            let old = mask(word, from, to) & self.words[word];
            self.words[word] &= !old;
            removed += ones(old);
        }
        self.count -= removed;
        removed.into()
    }

    /// Sets the bits that are set in `other` and says how many of them were clear.
    pub(crate) fn merge(&mut self, other: &Self) -> u64 {
        let before = self.count;
        for (word, other) in self.words.iter_mut().zip(other.words) {
            self.count += ones(other & !*word);
            *word |= other;
        }
        u64::from(self.count - before)
    }

    fn scan(from: u64, word: impl Fn(usize) -> u64) -> Option<u64> {
        (usize::try_from(from / 64).unwrap_or(WORDS)..WORDS).find_map(|at| {
            let base = at as u64 * 64;
            let bits = word(at) & mask(at, from, PAGE_BLOCKS);
            (bits != 0).then(|| base + u64::from(bits.leading_zeros()))
        })
    }
}

impl Default for Bits {
    fn default() -> Self {
        Self { words: [0; WORDS], count: 0 }
    }
}

/// The words that hold bits of `from..to`, which lies in the page.
fn words(from: u64, to: u64) -> core::ops::Range<usize> {
    let end = to.min(PAGE_BLOCKS).div_ceil(64);
    usize::try_from(from / 64).unwrap_or(WORDS)..usize::try_from(end).unwrap_or(WORDS)
}

/// The bits of word number `word` that lie in `from..to`.
fn mask(word: usize, from: u64, to: u64) -> u64 {
    let base = word as u64 * 64;
    let place = |bit: u64| bit.saturating_sub(base).min(64);
    let ones_from = |place: u64| if place == 64 { 0 } else { u64::MAX >> place };
    ones_from(place(from)) & !ones_from(place(to))
}

#[expect(clippy::cast_possible_truncation, reason = "a word has 64 bits at most")]
fn ones(word: u64) -> u16 {
    word.count_ones() as u16
}

const WORDS: usize = PAGE_BYTES / 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_meet_at_word_borders() {
        assert_eq!(mask(0, 0, 64), u64::MAX);
        assert_eq!(mask(0, 0, 1), 1 << 63);
        assert_eq!(mask(0, 63, 65), 1);
        assert_eq!(mask(1, 63, 65), 1 << 63);
        assert_eq!(mask(1, 0, 64), 0);
        assert_eq!(mask(1, 128, 200), 0);
    }

    #[test]
    fn the_first_bit_of_a_byte_is_its_most_significant() {
        let bits = Bits::from_bytes(0, &[0x01, 0x80]);
        assert_eq!(bits.first(0), Some(7));
        assert_eq!(bits.first(8), Some(8));
        assert_eq!(bits.first(9), None);
        assert_eq!(bits.single_run(), Some((7, 9)));
    }

    #[test]
    fn a_full_page_counts_8192_bits() {
        let mut bits = Bits::default();
        assert_eq!(bits.insert(0, PAGE_BLOCKS), PAGE_BLOCKS);
        assert_eq!(bits.first_missing(0), None);
        assert_eq!(bits.single_run(), Some((0, PAGE_BLOCKS)));
        assert_eq!(bits.remove(100, 300), 200);
        assert_eq!(bits.first_missing(0), Some(100));
        assert_eq!(bits.single_run(), None);
    }
}
