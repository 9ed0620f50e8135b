//! Pages by their numbers, of which the same is asked for many times in a row.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::RangeBounds;
use core::sync::atomic::{AtomicUsize, Ordering};

/// A sparse array of pages.
#[derive(Debug)]
pub(super) struct Pages<T> {
    /// Where the page of a number is in `pages`.
    places: BTreeMap<u64, usize>,
    pages: Vec<(u64, T)>,
    /// The place of the page that was asked for last. Atomic so that a shared look-up can set it.
    last: AtomicUsize,
}

impl<T> Pages<T> {
    pub(super) const fn new() -> Self {
        Self { places: BTreeMap::new(), pages: Vec::new(), last: AtomicUsize::new(0) }
    }

    pub(super) fn len(&self) -> usize {
        self.pages.len()
    }

    pub(super) fn get(&self, number: u64) -> Option<&T> {
        self.pages.get(self.place(number)?).map(|(_, page)| page)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let place = self.place(number)?;
        self.pages.get_mut(place).map(|(_, page)| page)
    }

    pub(super) fn get_or_insert_with(&mut self, number: u64, new: impl FnOnce() -> T) -> &mut T {
        let place = self.place(number).unwrap_or_else(|| {
            self.pages.push((number, new()));
            let place = self.pages.len() - 1;
            self.places.insert(number, place);
            place
        });
        &mut self.pages[place].1
    }

    /// Puts a page in; what was in its place.
    pub(super) fn insert(&mut self, number: u64, page: T) -> Option<T> {
        let before = self.remove(number);
        self.get_or_insert_with(number, || page);
        before
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        let place = self.places.remove(&number)?;
        let (_, page) = self.pages.swap_remove(place);
        if let Some((moved, _)) = self.pages.get(place) {
            self.places.insert(*moved, place);
        }
        Some(page)
    }

    /// In ascending order.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &T)> {
        self.range(..)
    }

    /// In ascending order.
    pub(super) fn range(
        &self,
        numbers: impl RangeBounds<u64>,
    ) -> impl DoubleEndedIterator<Item = (u64, &T)> {
        self.places.range(numbers).map(|(number, place)| (*number, &self.pages[*place].1))
    }

    /// In no order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut T)> {
        self.pages.iter_mut().map(|(number, page)| (*number, page))
    }

    fn place(&self, number: u64) -> Option<usize> {
        let last = self.last.load(Ordering::Relaxed);
        if self.pages.get(last).is_some_and(|(there, _)| *there == number) {
            return Some(last);
        }
        let place = *self.places.get(&number)?;
        self.last.store(place, Ordering::Relaxed);
        Some(place)
    }
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone> Clone for Pages<T> {
    fn clone(&self) -> Self {
        let (places, pages) = (self.places.clone(), self.pages.clone());
        Self { places, pages, last: AtomicUsize::new(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_found_by_their_numbers_whatever_was_removed_before() {
        let mut pages = Pages::new();
        let mut wanted = BTreeMap::new();
        let mut draw = 1_u64;
        for step in 0..3000 {
            draw = draw
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let number = draw >> 59;
            match (draw >> 32) % 3 {
                0 => assert_eq!(pages.remove(number), wanted.remove(&number)),
                1 => assert_eq!(pages.insert(number, step), wanted.insert(number, step)),
                _ => {
                    *pages.get_or_insert_with(number, || 7) += 1;
                    *wanted.entry(number).or_insert(7) += 1;
                }
            }
            for number in 0..32 {
                assert_eq!(pages.get(number), wanted.get(&number), "step {step}");
            }
            assert!(pages.iter().eq(wanted.iter().map(|(number, page)| (*number, page))));
            assert_eq!(pages.len(), wanted.len());
        }
    }
}
