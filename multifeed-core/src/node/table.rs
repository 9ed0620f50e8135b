//! The tables of feeds and of members, from which some are forgotten again. Numbers are never used twice.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::ops::{Index, IndexMut};

use multifeed_proto::FeedKey;

use super::FeedId;
use super::entry::Entry;
use super::multifeed::Member;

/// All feeds of a node, by number.
#[derive(Debug)]
pub(super) struct Feeds {
    entries: BTreeMap<usize, Box<Entry>>,
    next: usize,
    /// Stands for a feed that was forgotten while something about it was under way: kept out, never open.
    gone: Box<Entry>,
}

impl Default for Feeds {
    fn default() -> Self {
        let gone = Entry { blocked: true, ..Entry::new(FeedKey([0; 32]), None) };
        Self { entries: BTreeMap::new(), next: 0, gone: Box::new(gone) }
    }
}

impl Feeds {
    /// Adds a feed and gives its number.
    pub(super) fn push(&mut self, entry: Entry) -> FeedId {
        let at = self.next;
        self.next += 1;
        self.entries.insert(at, Box::new(entry));
        FeedId(at as u32)
    }

    /// Whether all numbers were used.
    pub(super) fn is_used_up(&self) -> bool {
        self.next > u32::MAX as usize
    }

    pub(super) fn remove(&mut self, id: FeedId) -> Option<Box<Entry>> {
        self.entries.remove(&(id.0 as usize))
    }

    pub(super) fn get(&self, at: usize) -> Option<&Entry> {
        self.entries.get(&at).map(|entry| &**entry)
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Entry> {
        self.entries.get_mut(&at).map(|entry| &mut **entry)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The first number behind `at`, in a circle.
    pub(super) fn next_after(&self, at: usize) -> usize {
        let mut behind = self.entries.range(at + 1..);
        let first = || self.entries.keys().next().copied();
        behind.next().map(|(at, _)| *at).or_else(first).unwrap_or(0)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = FeedId> + '_ {
        self.entries.keys().map(|at| FeedId(*at as u32))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (FeedId, &mut Entry)> {
        self.entries.iter_mut().map(|(at, entry)| (FeedId(*at as u32), &mut **entry))
    }
}

impl Index<usize> for Feeds {
    type Output = Entry;

    fn index(&self, at: usize) -> &Entry {
        self.entries.get(&at).unwrap_or(&self.gone)
    }
}

impl IndexMut<usize> for Feeds {
    fn index_mut(&mut self, at: usize) -> &mut Entry {
        self.entries.get_mut(&at).unwrap_or(&mut self.gone)
    }
}

/// The feeds of one multifeed in the order in which they joined, by their place in it.
#[derive(Debug, Default)]
pub(super) struct Members {
    members: BTreeMap<usize, Member>,
    next: u32,
}

impl Members {
    /// Adds a member and gives its place.
    pub(super) fn push(&mut self, member: Member) -> u32 {
        let place = self.next;
        self.next += 1;
        self.members.insert(place as usize, member);
        place
    }

    pub(super) fn remove(&mut self, place: usize) -> Option<Member> {
        self.members.remove(&place)
    }

    pub(super) fn get(&self, place: usize) -> Option<&Member> {
        self.members.get(&place)
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Member> {
        self.members.get_mut(&place)
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> + Clone + '_ {
        self.members.values()
    }
}
