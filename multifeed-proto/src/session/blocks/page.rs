//! One page of blocks that is neither empty nor full.

use alloc::boxed::Box;

use super::BlockPage;
use crate::session::bits::{Bits, PAGE_BLOCKS};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// One run of blocks, counted from the start of the page: what an append-only log looks like.
    Run(u16, u16),
    Bits(Box<Bits>),
}

impl Page {
    #[expect(clippy::cast_possible_truncation, reason = "places in a page are at most 8,192")]
    pub(super) fn run(from: u64, to: u64) -> Self {
        Self::Run(from as u16, to as u16)
    }

    pub(super) fn view(&self) -> BlockPage<'_> {
        match self {
            Self::Run(from, to) => BlockPage::Run((*from).into(), (*to).into()),
            Self::Bits(bits) => BlockPage::Bits(bits.words()),
        }
    }

    pub(super) fn is_bitwise(&self) -> bool {
        matches!(self, Self::Bits(_))
    }

    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Run(from, to) => u64::from(to - from),
            Self::Bits(bits) => bits.count(),
        }
    }

    pub(super) fn contains_all(&self, from: u64, to: u64) -> bool {
        match self {
            Self::Run(first, end) => from >= u64::from(*first) && to <= u64::from(*end),
            Self::Bits(bits) => bits.first_missing(from).is_none_or(|gap| gap >= to),
        }
    }

    pub(super) fn first(&self, from: u64, to: u64) -> Option<u64> {
        match self {
            Self::Run(first, end) => {
                let at = from.max(u64::from(*first));
                (at < to.min(u64::from(*end))).then_some(at)
            }
            Self::Bits(bits) => bits.first(from).filter(|at| *at < to),
        }
    }

    pub(super) fn first_missing(&self, from: u64) -> Option<u64> {
        match self {
            Self::Run(first, end) if from >= u64::from(*first) => {
                Some(from.max(u64::from(*end))).filter(|gap| *gap < PAGE_BLOCKS)
            }
            Self::Run(..) => Some(from),
            Self::Bits(bits) => bits.first_missing(from),
        }
    }

    /// Adds `from..to` and says how many of these blocks were missing.
    pub(super) fn insert(&mut self, from: u64, to: u64) -> u64 {
        let before = self.count();
        match self {
            Self::Run(first, end) if from <= u64::from(*end) && to >= u64::from(*first) => {
                *self = Self::run(from.min(u64::from(*first)), to.max(u64::from(*end)));
                self.count() - before
            }
            Self::Run(..) | Self::Bits(_) => self.as_bits().insert(from, to),
        }
    }

    /// Takes `from..to` out and says how many of these blocks there were.
    pub(super) fn remove(&mut self, from: u64, to: u64) -> u64 {
        let before = self.count();
        match self {
            Self::Run(first, end) => {
                let (first, end) = (u64::from(*first), u64::from(*end));
                if to <= first || from >= end {
                    return 0;
                }
                match (from > first, to < end) {
                    (true, true) => return self.as_bits().remove(from, to),
                    (true, false) => *self = Self::run(first, from),
                    (false, true) => *self = Self::run(to, end),
                    (false, false) => *self = Self::run(0, 0),
                }
                before - self.count()
            }
            Self::Bits(bits) => bits.remove(from, to),
        }
    }

    pub(super) fn as_bits(&mut self) -> &mut Bits {
        if let Self::Run(from, to) = self {
            let mut bits = Box::<Bits>::default();
            bits.insert(u64::from(*from), u64::from(*to));
            *self = Self::Bits(bits);
        }
        match self {
            Self::Bits(bits) => bits,
            Self::Run(..) => unreachable!("a run was turned into bits just above"),
        }
    }
}
