//! What is known to be wrong with a feed: see [`Health`].

use core::ops::Range;

use super::entry::{Entry, EntryState};
use super::{ConnectionId, Event, FeedId, Health, Node, NodeError};
use crate::feed::Feed;
use crate::ranges::Ranges;

/// What was found out about a feed since the node was made.
#[derive(Debug, Default)]
pub(super) struct Ailments {
    /// Lengths of two logs that were signed with its key: the one here and the other.
    pub(super) forked: Option<(u64, u64)>,
    /// Blocks that were found damaged here and are to be fetched again.
    pub(super) lost: Ranges,
    /// What a peer sent does not fit.
    pub(super) there: Option<&'static str>,
    /// Steps of mending.
    pub(super) mends: u32,
    /// What the application was told last.
    told: Health,
}

impl Entry {
    /// Whether two logs were signed with its key.
    pub(super) fn is_forked(&self) -> bool {
        self.ailments.forked.is_some() || self.feed().is_some_and(|feed| feed.forked().is_some())
    }

    /// What is known to be wrong with it. A fork counts more than damage here, and that more than what
    /// peers sent.
    pub(super) fn health(&self) -> Health {
        if let EntryState::Failed(NodeError::Damaged { problem, .. }) = &self.state {
            return Health::DamagedHere { blocks: 0, problem };
        }
        if let Some((here, there)) = self.ailments.forked {
            return Health::Forked { here, there: Some(there) };
        }
        if let Some(forked) = self.feed().and_then(Feed::forked) {
            let (here, there) = (forked.here.length, Some(forked.there.length));
            return Health::Forked { here, there };
        }
        let lost = self.feed().map_or(0, Feed::lost).max(self.ailments.lost.count());
        if lost > 0 {
            let problem = "they do not have the hash that was signed, or are gone";
            return Health::DamagedHere { blocks: lost, problem };
        }
        match self.ailments.there {
            Some(problem) => Health::DamagedThere { problem },
            None => Health::Sound,
        }
    }
}

impl Node {
    /// Tells what is known of a feed, found out on a connection.
    pub(super) fn tell_health(&mut self, id: FeedId, connection: Option<ConnectionId>) {
        let entry = &mut self.feeds[id.0 as usize];
        if entry.list_of.is_some() {
            return;
        }
        let health = entry.health();
        entry.ailments.told = health.clone();
        self.event(Event::FeedHealth { feed: id, health, connection });
    }

    /// Blocks are stored: what was damaged may be whole again.
    pub(super) fn mended(&mut self, id: FeedId, blocks: &[(Range<u64>, Option<ConnectionId>)]) {
        let entry = &mut self.feeds[id.0 as usize];
        if entry.ailments.lost.is_empty() && entry.ailments.told == Health::Sound {
            return;
        }
        for (range, _) in blocks {
            entry.ailments.lost.remove(range.clone());
            entry.wishes.lost.remove(range.clone());
        }
        let whole = entry.feed().is_some_and(|feed| feed.stored_blocks() == feed.length());
        if whole {
            entry.ailments.there = None;
        }
        self.health_changed(id);
    }

    /// Tells what is known of a feed if that is other than before.
    pub(super) fn health_changed(&mut self, id: FeedId) {
        let entry = &self.feeds[id.0 as usize];
        if entry.health() != entry.ailments.told {
            self.tell_health(id, None);
        }
    }
}
