//! Feeds that a peer offered and of which nobody has ever given a block or a signed length.
//!
//! Anybody can make up keys. So these are kept in memory only: they are shown and can be fetched, but neither
//! recorded nor offered to other peers. The first proof makes a feed like any other. Until then it has a place of
//! its own beside the table of feeds, of which each peer has a share, and it is forgotten some time after the
//! last peer that has it is gone. Where places are short, those that nobody has open go first, then those of the
//! peer that has most.
//!
//! The JavaScript records and offers them, too: whoever knows the root key fills every store of a swarm.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use multifeed_proto::{FeedKey, Now};

use super::sync::TICK;
use super::{ConnectionId, EntryState, Event, FeedId, Layout, MultifeedId, Node};
use crate::feed::Feed;
use crate::format::{corestore, sleep};
use crate::storage::{Answer, FilePath, Op, StorageError};

/// The feeds of which nobody gave anything, and when those are forgotten that nobody has open.
#[derive(Debug, Default)]
pub(super) struct Unseen {
    feeds: BTreeMap<FeedId, Option<Now>>,
    due: BTreeSet<(Now, FeedId)>,
    /// Those that are recorded all the same, as the JavaScript does it, and not in memory.
    dormant: BTreeMap<(MultifeedId, FeedKey), Dormant>,
}

/// What the record of a multifeed says of a feed.
#[derive(Debug)]
struct Dormant {
    name: String,
    folder: Option<FilePath>,
}

impl Unseen {
    pub(super) fn len(&self) -> usize {
        self.feeds.len()
    }

    /// When the next one is forgotten.
    pub(super) fn next_due(&self) -> Option<Now> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Sets when a feed is forgotten, if it is one of these.
    fn set_due(&mut self, id: FeedId, at: Option<Now>) {
        let Some(before) = self.feeds.get_mut(&id) else { return };
        if let Some(before) = core::mem::replace(before, at) {
            self.due.remove(&(before, id));
        }
        self.due.extend(at.map(|at| (at, id)));
    }

    fn remove(&mut self, id: FeedId) {
        self.set_due(id, None);
        self.feeds.remove(&id);
    }
}

impl Node {
    /// Whether a key that a peer offers may be taken in, and has room; `new` counts those that are not here yet.
    pub(super) fn may_add(
        &self,
        connection: ConnectionId,
        multifeed: MultifeedId,
        key: &FeedKey,
        new: &mut usize,
    ) -> bool {
        match self.by_key.get(key) {
            Some(id) => self.entry(*id).is_some() && self.may_join(connection, multifeed, *id),
            None if key.is_weak() || self.store.blocked.contains(key) => false,
            None if self.is_read_only() => false,
            None => {
                *new += 1;
                *new <= self.room_for(connection)
            }
        }
    }

    /// Whether a key that a peer offers may be taken in if the application wants it; `new` counts those that are
    /// not here yet.
    pub(super) fn may_consider(&self, key: &FeedKey, new: &mut usize) -> bool {
        match self.by_key.get(key) {
            Some(id) => self.entry(*id).is_some(),
            None if self.is_read_only() => false,
            None => {
                *new += 1;
                !key.is_weak() && !self.store.blocked.contains(key)
            }
        }
    }

    /// Whether a peer's offer is enough for a feed that is here to join a multifeed. Not for what is this
    /// node's own, as its writers in other multifeeds are, and its feeds by name: those who know the key of
    /// one would spread it to others. The application can allow it.
    fn may_join(&self, connection: ConnectionId, multifeed: MultifeedId, id: FeedId) -> bool {
        let entry = &self.feeds[id.0 as usize];
        let allowed = |key| self.links.get(&connection).is_some_and(|link| link.names(key));
        entry.place_in(multifeed).is_some() || !self.is_own(id) || allowed(&entry.key)
    }

    /// Whether a feed is written here, or known by name.
    fn is_own(&self, id: FeedId) -> bool {
        let entry = &self.feeds[id.0 as usize];
        let mut members = entry.places.iter().filter_map(|(multifeed, place)| {
            self.multifeeds[multifeed.0 as usize].members.get(*place as usize)
        });
        self.own_name(id).is_some()
            || entry.feed().is_some_and(Feed::has_secret)
            || members.any(|member| member.local)
    }

    /// How many feeds more a connection may add. One peer gets half of what is left at most, so that no number
    /// of them fills the table.
    pub(super) fn room_for(&self, connection: ConnectionId) -> usize {
        let Some(link) = self.links.get(&connection) else { return 0 };
        let share = self.config.max_feeds_per_peer.saturating_sub(link.added);
        let before = self.room() + link.added.saturating_sub(link.unseen.len());
        let left = before.div_ceil(2).saturating_sub(link.added);
        let unseen = self.config.max_unseen_per_peer.saturating_sub(link.unseen.len());
        if self.feeds.is_used_up() { 0 } else { share.min(left).min(unseen) }
    }

    /// Adds a feed that a peer offered, if there is room.
    pub(super) fn add_unseen(&mut self, connection: ConnectionId, key: FeedKey) -> Option<FeedId> {
        if self.room_for(connection) == 0 || !self.make_room(connection) {
            return None;
        }
        let id = self.add_entry(key);
        let entry = &mut self.feeds[id.0 as usize];
        entry.seen = false;
        entry.added_by = Some(connection);
        let link = self.links.get_mut(&connection)?;
        link.added += 1;
        link.unseen.insert(id);
        self.unseen.feeds.insert(id, None);
        self.left_alone(id);
        Some(id)
    }

    /// Takes in a feed that is recorded and of which nothing is in its folder, as far as there is room in memory.
    pub(super) fn add_recorded(
        &mut self,
        multifeed: MultifeedId,
        key: FeedKey,
        name: String,
        folder: Option<FilePath>,
    ) {
        if self.unseen.len() >= self.config.max_unseen_feeds || self.feeds.is_used_up() {
            self.unseen.dormant.insert((multifeed, key), Dormant { name, folder });
            return;
        }
        let id = self.add_entry(key);
        let entry = &mut self.feeds[id.0 as usize];
        entry.seen = false;
        entry.folder = folder.or(entry.folder.take());
        self.unseen.feeds.insert(id, None);
        self.left_alone(id);
        self.add_member(multifeed, id, name, false);
        if let Some(member) = self.member_mut(multifeed, id) {
            member.recorded = true;
        }
    }

    /// A feed joined of which nobody gave anything: it may be recorded from before.
    pub(super) fn recall(&mut self, multifeed: MultifeedId, id: FeedId) {
        let key = self.feeds[id.0 as usize].key;
        let Some(dormant) = self.unseen.dormant.remove(&(multifeed, key)) else { return };
        let entry = &mut self.feeds[id.0 as usize];
        entry.folder = dormant.folder.or(entry.folder.take());
        if let Some(member) = self.member_mut(multifeed, id) {
            member.name = dormant.name;
            member.recorded = true;
        }
    }

    /// Forgets a feed if there are as many as there may be: one that nobody has open, or the youngest of the peer
    /// that has most.
    fn make_room(&mut self, connection: ConnectionId) -> bool {
        if self.unseen.len() < self.config.max_unseen_feeds {
            return true;
        }
        let strange = |id: &FeedId| {
            self.feeds[id.0 as usize].added_by != Some(connection) && self.is_forgettable(*id)
        };
        let alone = self.unseen.due.iter().map(|(_, id)| *id).find(strange);
        let most = || {
            let most = self.links.iter().max_by_key(|(_, link)| link.unseen.len())?;
            let own = self.links.get(&connection)?.unseen.len();
            (most.1.unseen.len() > own + 1).then(|| most.1.unseen.last().copied()).flatten()
        };
        let Some(id) = alone.or_else(most) else { return false };
        self.close_channels(id);
        self.forget(id)
    }

    /// The first proof of a feed came: it is recorded, and offered to others.
    pub(super) fn feed_seen(&mut self, id: FeedId) {
        let entry = &mut self.feeds[id.0 as usize];
        if core::mem::replace(&mut entry.seen, true) {
            return;
        }
        self.unseen.remove(id);
        let entry = &self.feeds[id.0 as usize];
        if let Some(link) = entry.added_by.and_then(|by| self.links.get_mut(&by)) {
            link.unseen.remove(&id);
        }
        let places: Vec<MultifeedId> = entry.places.iter().map(|(of, _)| *of).collect();
        for multifeed in places {
            if self.member_mut(multifeed, id).is_some_and(|member| !member.recorded) {
                self.record(multifeed, &[id]);
            }
            self.offer_all(multifeed, &[id]);
        }
    }

    /// No connection has a feed open any more, maybe.
    pub(super) fn left_alone(&mut self, id: FeedId) {
        let entry = &self.feeds[id.0 as usize];
        if !entry.seen && entry.channels.is_empty() {
            let at = self.now.after(self.config.forget_after.max(TICK));
            self.unseen.set_due(id, Some(at));
        }
    }

    /// A connection has a feed open.
    pub(super) fn taken_up(&mut self, id: FeedId) {
        self.unseen.set_due(id, None);
    }

    /// Forgets what is due.
    pub(super) fn forget_due(&mut self) {
        while let Some((at, id)) = self.unseen.due.first().copied() {
            if at > self.now {
                return;
            }
            if !self.forget(id) {
                self.left_alone(id);
                if self.unseen.due.contains(&(at, id)) {
                    self.unseen.set_due(id, None);
                }
            }
        }
    }

    fn is_forgettable(&self, id: FeedId) -> bool {
        let entry = &self.feeds[id.0 as usize];
        let idle = match &entry.state {
            EntryState::Listed | EntryState::Failed(_) => true,
            EntryState::Open(feed) => feed.flushes.is_empty() && feed.length() == 0,
            EntryState::Queued | EntryState::Opening(_) => false,
        };
        idle && !entry.seen && entry.pending.is_empty() && !entry.wishes.is_waited_for()
    }

    /// Forgets a feed that nobody has open; `false` if something is under way with it.
    fn forget(&mut self, id: FeedId) -> bool {
        let entry = &self.feeds[id.0 as usize];
        if !self.is_forgettable(id) || !entry.channels.is_empty() {
            return false;
        }
        let (key, places) = (entry.key, entry.places.clone());
        for (multifeed, place) in places {
            let member = self.multifeeds[multifeed.0 as usize].members.remove(place as usize);
            if let Some(member) = member.filter(|member| member.recorded) {
                let numbered = self.store.layout == Layout::Numbered;
                let folder = self.feeds[id.0 as usize].folder.clone().filter(|_| numbered);
                let dormant = Dormant { name: member.name, folder };
                self.unseen.dormant.insert((multifeed, key), dormant);
            }
            self.event(Event::FeedForgotten { multifeed, feed: id, key });
        }
        self.unseen.remove(id);
        self.by_key.remove(&key);
        let Some(entry) = self.feeds.remove(id) else { return false };
        self.cache_bytes -= entry.cache_bytes;
        if let Some(at) = entry.retry_at {
            self.retries.remove(&(at, id));
        }
        if let Some(link) = entry.added_by.and_then(|by| self.links.get_mut(&by)) {
            link.unseen.remove(&id);
            link.added = link.added.saturating_sub(1);
        }
        for link in self.links.values_mut() {
            link.closed.remove(&key.discovery_key());
        }
        true
    }

    /// A feed that a peer offered is open, and may turn out to be here already. As this node's own, of another
    /// multifeed or by name, it leaves the multifeed again, unless the application allows it.
    pub(super) fn disown_or_see(&mut self, id: FeedId, name: Option<Option<String>>) {
        let entry = &self.feeds[id.0 as usize];
        let Some(feed) = entry.feed() else { return };
        if !feed.has_secret() {
            // It is here from before.
            if feed.length() > 0 {
                self.feed_seen(id);
            }
            return;
        }
        let key = entry.key;
        let ours = |multifeed: &MultifeedId| {
            let root = &self.multifeeds[multifeed.0 as usize].root;
            let here = match &name {
                Some(Some(name)) => name.starts_with(&corestore::writer_name(root, "")),
                // Its name in this multifeed gave its key pair.
                Some(None) => true,
                None => false,
            };
            here || self.store.layout == Layout::Numbered
        };
        let allowed = entry.added_by.and_then(|by| self.links.get(&by));
        let allowed = allowed.is_some_and(|link| link.names(&key));
        let recorded = |of: &MultifeedId, place: u32| {
            let member = self.multifeeds[of.0 as usize].members.get(place as usize);
            member.is_some_and(|member| member.recorded)
        };
        let places = entry.places.iter();
        let strange = places.filter(|(of, at)| !allowed && !recorded(of, *at) && !ours(of));
        let strange: Vec<(MultifeedId, u32)> = strange.copied().collect();
        if !strange.is_empty() {
            self.close_channels(id);
        }
        for (multifeed, place) in strange {
            self.multifeeds[multifeed.0 as usize].members.remove(place as usize);
            self.feeds[id.0 as usize].places.retain(|(of, _)| *of != multifeed);
            self.event(Event::FeedForgotten { multifeed, feed: id, key });
        }
        self.feed_seen(id);
    }

    /// Says that feeds of a peer were not taken in for want of room.
    pub(super) fn refused_feeds(
        &mut self,
        connection: ConnectionId,
        multifeed: MultifeedId,
        feeds: usize,
    ) {
        if feeds > 0 {
            self.event(Event::FeedsRefused { connection, multifeed, feeds });
        }
    }

    /// How many local writers and feeds by name may still be made: for them there is room beyond what peers fill.
    pub(super) fn room_for_own(&self) -> usize {
        self.room() + self.config.reserved_feeds.saturating_sub(self.over())
    }

    /// The feeds above [`NodeConfig::max_feeds`](crate::NodeConfig).
    fn over(&self) -> usize {
        self.seen_feeds().saturating_sub(self.config.max_feeds)
    }
}

/// Files that show whether a folder holds anything of a feed.
const SIGNS: [&str; 6] = [
    sleep::SIGNATURES,
    sleep::TREE,
    sleep::DATA,
    sleep::SEALED,
    sleep::SECRET_KEY,
    corestore::NAME,
];

/// Looks at what is in the folder of a feed; to be answered by [`is_seen`].
pub(super) fn look(folder: &FilePath) -> [Op; SIGNS.len()] {
    SIGNS.map(|name| Op::Length { path: folder.join(name) })
}

/// Whether a folder holds anything of a feed: something signed, or what makes it writable.
pub(super) fn is_seen(answers: &[Result<Answer, StorageError>]) -> bool {
    answers.iter().zip(SIGNS).any(|(answer, name)| {
        let least = match name {
            sleep::SIGNATURES | sleep::TREE => sleep::HEADER_BYTES as u64,
            _ => 0,
        };
        match answer {
            Ok(Answer::NotFound) => false,
            Ok(Answer::Length(length)) => *length > least,
            // What cannot be looked at is found out when it is opened.
            Ok(_) | Err(_) => true,
        }
    })
}
