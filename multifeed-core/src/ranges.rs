//! A set of numbers kept as ranges that neither touch nor overlap.

use alloc::collections::BTreeMap;
use core::ops::Range;

/// Block indexes as ranges. Adding and removing cost the logarithm of the number of ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// Start to end, end not included.
    map: BTreeMap<u64, u64>,
    count: u64,
}

impl Ranges {
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        while let Some((&s, &e)) = self.map.range(..=end).next_back() {
            if e < start {
                break;
            }
            self.map.remove(&s);
            self.count -= e - s;
            start = start.min(s);
            end = end.max(e);
        }
        self.map.insert(start, end);
        self.count += end - start;
    }

    pub(crate) fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        while let Some((&s, &e)) = self.map.range(..range.end).next_back() {
            if e <= range.start {
                break;
            }
            self.map.remove(&s);
            self.count -= e - s;
            for rest in [s..range.start.max(s), range.end.min(e)..e] {
                if !rest.is_empty() {
                    self.count += rest.end - rest.start;
                    self.map.insert(rest.start, rest.end);
                }
            }
        }
    }

    pub(crate) fn contains(&self, value: u64) -> bool {
        self.map.range(..=value).next_back().is_some_and(|(_, &end)| value < end)
    }

    /// The first number at or above `value` that is not in the set.
    pub(crate) fn next_gap(&self, value: u64) -> u64 {
        match self.map.range(..=value).next_back() {
            Some((_, &end)) if value < end => end,
            _ => value,
        }
    }

    /// The first number at or above `value` that is in the set.
    pub(crate) fn next_in(&self, value: u64) -> Option<u64> {
        if self.contains(value) {
            return Some(value);
        }
        self.map.range(value..).next().map(|(&start, _)| start)
    }

    /// How many numbers of a range are in the set.
    pub(crate) fn count_in(&self, range: Range<u64>) -> u64 {
        let before = self.map.range(..range.start).next_back().map(|(&start, &end)| start..end);
        let inside = self.map.range(range.clone()).map(|(&start, &end)| start..end);
        let cut =
            |part: Range<u64>| part.end.min(range.end).saturating_sub(part.start.max(range.start));
        before.into_iter().chain(inside).map(cut).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.map.iter().map(|(&start, &end)| start..end)
    }

    /// How many ranges the set is kept as.
    pub(crate) fn ranges(&self) -> usize {
        self.map.len()
    }

    /// The lowest range.
    pub(crate) fn first(&self) -> Option<Range<u64>> {
        self.map.first_key_value().map(|(&start, &end)| start..end)
    }

    /// The highest range.
    pub(crate) fn last(&self) -> Option<Range<u64>> {
        self.map.last_key_value().map(|(&start, &end)| start..end)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// How many numbers are in the set.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_a_plain_set(ops in prop::collection::vec((any::<bool>(), 0u64..40, 0u64..12), 0..60)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (add, start, len) in ops {
                if add {
                    ranges.insert(start..start + len);
                    set.extend(start..start + len);
                } else {
                    ranges.remove(start..start + len);
                    set.retain(|v| !(start..start + len).contains(v));
                }
                prop_assert_eq!(ranges.iter().flatten().collect::<Vec<_>>(), set.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(ranges.count(), set.len() as u64);
                prop_assert_eq!(ranges.ranges(), ranges.iter().count());
                for v in 0..60 {
                    prop_assert_eq!(ranges.contains(v), set.contains(&v));
                    prop_assert_eq!(ranges.count_in(v..v + 7), set.range(v..v + 7).count() as u64);
                    prop_assert_eq!(ranges.next_gap(v), (v..).find(|n| !set.contains(n)).unwrap());
                    prop_assert_eq!(ranges.next_in(v), set.range(v..).next().copied());
                }
                prop_assert!(ranges.map.iter().zip(ranges.map.iter().skip(1)).all(|(a, b)| a.1 < b.0));
            }
        }
    }
}
