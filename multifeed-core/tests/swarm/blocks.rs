//! Which blocks of a feed: a set of small numbers.

use std::ops::Range;
use std::rc::Rc;

/// Some blocks of one feed.
#[derive(Clone, Debug, Default)]
pub struct Blocks(Vec<u64>);

/// What a host has of each writer's feed; `None` if it does not know the feed.
pub type Held = Rc<[Option<Rc<Blocks>>]>;

impl Blocks {
    pub fn of(range: Range<u64>) -> Self {
        let mut blocks = Self::default();
        blocks.insert(range);
        blocks
    }

    pub fn insert(&mut self, range: Range<u64>) {
        let words = range.end.div_ceil(64) as usize;
        if !range.is_empty() && self.0.len() < words {
            self.0.resize(words, 0);
        }
        for block in range {
            self.0[(block / 64) as usize] |= 1 << (block % 64);
        }
    }

    pub fn remove(&mut self, range: Range<u64>) {
        for block in range.start..range.end.min(self.0.len() as u64 * 64) {
            self.0[(block / 64) as usize] &= !(1 << (block % 64));
        }
    }

    pub fn contains(&self, block: u64) -> bool {
        self.0.get((block / 64) as usize).is_some_and(|word| word >> (block % 64) & 1 == 1)
    }

    pub fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.0.len() as u64 * 64).filter(|block| self.contains(*block))
    }

    /// The block after the last.
    pub fn end(&self) -> u64 {
        let last = self.0.iter().rposition(|word| *word != 0);
        last.map_or(0, |at| at as u64 * 64 + 64 - u64::from(self.0[at].leading_zeros()))
    }

    pub fn add(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & b).collect())
    }

    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let others = other.0.iter().copied().chain(std::iter::repeat(0));
        Self(self.0.iter().zip(others).map(|(a, b)| a & !b).collect())
    }
}
