//! The multifeeds of a store: which feeds are in each, in which order, under which names.
//!
//! A feed has one entry in the node however many multifeeds it is in. Where a multifeed's feeds are
//! recorded depends on the layout: in a feed of its own (`list`), or as numbered folders (`numbered`).

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use multifeed_proto::{DiscoveryKey, FeedKey, RootKey};

use super::table::Members;
use super::{
    CommandId, ConnectionId, Event, FeedId, FeedInfo, Layout, MultifeedId, Node, NodeError,
    Outcome, Pending,
};
use crate::check::Unlisted;
use crate::crypto::SecretKey;
use crate::feed::short;
use crate::format::{corestore, numbered};
use crate::storage::BatchId;

/// Bytes of a writer's name.
const MAX_NAME: usize = 512;

/// One multifeed of the store.
#[derive(Debug)]
pub(super) struct Multifeed {
    pub(super) root: RootKey,
    pub(super) discovery_key: DiscoveryKey,
    pub(super) state: State,
    /// In the order in which they joined.
    pub(super) members: Members,
    /// The feed that lists the members, in the layout of corestore.
    pub(super) list: Option<FeedId>,
    pub(super) list_named: bool,
    /// A batch that must be over before the list grows: it makes a new writer writable.
    pub(super) list_after: Option<BatchId>,
    joining: Vec<CommandId>,
    /// What the folders tell of its feeds, until its list is read: where the master key is not known.
    pub(super) unlisted: Option<Box<Unlisted>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Loading,
    Ready,
    Failed,
}

/// A feed in a multifeed.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) feed: FeedId,
    pub(super) name: String,
    /// It is recorded, so that it is there when the store is opened again. Before that none of its files is
    /// written, and a local writer is not told of.
    pub(super) recorded: bool,
    /// Its line of the list is on the way to the disk.
    pub(super) listing: bool,
    /// It was made by this node; in the layout of multifeed 6 also if its folder says that it is
    /// written here.
    pub(super) local: bool,
    /// Until it is recorded: the key pair of a local writer that does not follow from its name.
    pub(super) secret: Option<SecretKey>,
}

/// A writer that is looked for before it is made.
#[derive(Debug)]
pub(super) struct Claim {
    command: CommandId,
    multifeed: MultifeedId,
    name: String,
    secret: Option<SecretKey>,
    /// Feeds that may be it.
    candidates: Vec<FeedId>,
}

impl Claim {
    pub(super) fn command(&self) -> CommandId {
        self.command
    }
}

impl Node {
    pub(super) fn start_join(&mut self, command: CommandId, root: RootKey) {
        if !self.store.is_ready() || self.closing.is_some() {
            return self.complete(command, Err(NodeError::Closed));
        }
        let id = match self.find_multifeed(&root) {
            Some(id) => id,
            None if self.store.layout == Layout::Numbered && !self.multifeeds.is_empty() => {
                let problem = "a store in the layout of multifeed 6 holds one multifeed";
                return self.complete(command, Err(NodeError::Layout { problem }));
            }
            None => {
                let id = MultifeedId(self.multifeeds.len() as u32);
                self.multifeeds.push(Multifeed {
                    discovery_key: root.discovery_key(),
                    root,
                    state: State::Failed,
                    members: Members::default(),
                    list: None,
                    list_named: false,
                    list_after: None,
                    joining: Vec::new(),
                    unlisted: None,
                });
                id
            }
        };
        let multifeed = &mut self.multifeeds[id.0 as usize];
        if multifeed.state == State::Ready {
            return self.complete(command, Ok(Outcome::Joined(id)));
        }
        multifeed.joining.push(command);
        if multifeed.state == State::Failed {
            multifeed.state = State::Loading;
            match self.store.layout {
                Layout::Corestore => self.load_list(id),
                Layout::Numbered => self.pump_folders(),
            }
        }
    }

    /// The feeds of a multifeed are known, or cannot be.
    pub(super) fn loaded(&mut self, id: MultifeedId, result: Result<(), NodeError>) {
        let multifeed = &mut self.multifeeds[id.0 as usize];
        if result.is_ok() {
            multifeed.state = State::Ready;
            multifeed.unlisted = None;
        } else if multifeed.state == State::Loading {
            multifeed.state = State::Failed;
        }
        let first = !multifeed.joining.is_empty() && result.is_ok();
        for command in core::mem::take(&mut multifeed.joining) {
            self.complete(command, result.clone().map(|()| Outcome::Joined(id)));
        }
        if first {
            self.attach_everywhere(id);
        }
    }

    pub(super) fn find_multifeed(&self, root: &RootKey) -> Option<MultifeedId> {
        let at = self.multifeeds.iter().position(|multi| multi.root.expose() == root.expose())?;
        Some(MultifeedId(at as u32))
    }

    /// A multifeed whose feeds are known.
    pub(super) fn multi(&self, id: MultifeedId) -> Option<&Multifeed> {
        self.multifeeds.get(id.0 as usize).filter(|multifeed| multifeed.state == State::Ready)
    }

    /// Adds a feed to the end of a multifeed, if it is not in it.
    pub(super) fn add_member(&mut self, id: MultifeedId, feed: FeedId, name: String, local: bool) {
        let entry = &mut self.feeds[feed.0 as usize];
        if entry.place_in(id).is_some() {
            return;
        }
        let members = &mut self.multifeeds[id.0 as usize].members;
        let member = Member { feed, name, recorded: false, listing: false, local, secret: None };
        let place = members.push(member);
        entry.places.push((id, place));
    }

    pub(super) fn member_mut(&mut self, id: MultifeedId, feed: FeedId) -> Option<&mut Member> {
        let place = self.feeds[feed.0 as usize].place_in(id)?;
        self.multifeeds[id.0 as usize].members.get_mut(place)
    }

    pub(super) fn member_info(&self, id: MultifeedId, feed: FeedId) -> Option<FeedInfo> {
        let entry = self.any_entry(feed)?;
        let member = self.multi(id)?.members.get(entry.place_in(id)?)?;
        Some(entry.info(feed, member.name.clone()))
    }

    /// The name of a feed in the first multifeed that it is in, or by itself.
    pub(super) fn name_of(&self, feed: FeedId) -> String {
        let first = self.feeds[feed.0 as usize].places.first();
        let member = first
            .and_then(|(id, place)| self.multifeeds[id.0 as usize].members.get(*place as usize));
        let name = member.map(|member| member.name.as_str()).or_else(|| self.own_name(feed));
        String::from(name.unwrap_or_default())
    }

    /// The key pair of a local writer in the layout of corestore.
    pub(super) fn derive_writer(&self, id: MultifeedId, name: &str) -> Option<SecretKey> {
        self.store.derive(&corestore::writer_name(&self.multifeeds[id.0 as usize].root, name))
    }

    /// The key pair of a feed whose folder does not say how it is derived.
    pub(super) fn derive_unnamed(&self, feed: FeedId) -> Option<SecretKey> {
        let entry = &self.feeds[feed.0 as usize];
        if let Some(id) = entry.list_of {
            return self.store.derive(&corestore::list_name(&self.multifeeds[id.0 as usize].root));
        }
        let named = self.own_name(feed).and_then(|name| self.store.derive(name));
        let mut writers = entry.places.iter().filter_map(|(id, place)| {
            let member = self.multifeeds[id.0 as usize].members.get(*place as usize)?;
            self.derive_writer(*id, &member.name)
        });
        let fits = |secret: &SecretKey| secret.public() == entry.key;
        named.filter(fits).or_else(|| writers.find(fits))
    }

    /// The feeds of these keys, made where they are not known, and recorded where somebody has given anything of
    /// them. Keys that may not or cannot be added are left out.
    pub(super) fn add_remote(
        &mut self,
        connection: ConnectionId,
        multifeed: MultifeedId,
        keys: &[FeedKey],
    ) -> Vec<FeedId> {
        let (mut ids, mut new) = (Vec::with_capacity(keys.len()), Vec::new());
        let mut refused = 0;
        for key in keys {
            if !self.may_add(connection, multifeed, key, &mut 0) {
                continue;
            }
            let known = self.by_key.get(key).copied();
            let Some(id) = known.or_else(|| self.add_unseen(connection, *key)) else {
                refused += 1;
                continue;
            };
            let known = self.feeds[id.0 as usize].place_in(multifeed).is_some();
            if !known && self.is_read_only() {
                continue;
            }
            ids.push(id);
            if !known {
                let count = self.multifeeds[multifeed.0 as usize].members.len();
                self.add_member(multifeed, id, count.to_string(), false);
                self.recall(multifeed, id);
                new.push(id);
            }
        }
        for &feed in &new {
            self.event(Event::FeedAdded { multifeed, feed });
        }
        self.refused_feeds(connection, multifeed, refused);
        new.retain(|id| self.feeds[id.0 as usize].seen);
        if !new.is_empty() {
            self.record(multifeed, &new);
            self.offer_all(multifeed, &new);
        }
        ids
    }

    pub(super) fn make_writer(
        &mut self,
        command: CommandId,
        multifeed: MultifeedId,
        name: Option<&str>,
        secret: Option<SecretKey>,
    ) {
        if !self.store.is_ready() || self.closing.is_some() {
            return self.complete(command, Err(NodeError::Closed));
        }
        if self.multi(multifeed).is_none() {
            return self.complete(command, Err(NodeError::UnknownMultifeed));
        }
        if let Some(name) = name.filter(|name| name.is_empty() || name.len() > MAX_NAME) {
            let error = NodeError::Name { got: name.len(), max: MAX_NAME };
            return self.complete(command, Err(error));
        }
        // A folder that comes to have this number would have the same name. The JavaScript keeps one of
        // the two then, and gives the next feed the folder of another.
        let local = |member: &Member| member.local && name == Some(member.name.as_str());
        if self.store.layout == Layout::Numbered
            && name.is_some_and(|name| numbered::parse_folder(name).is_some())
            && !self.multifeeds[multifeed.0 as usize].members.iter().any(local)
        {
            let problem = "in the layout of multifeed 6 a number is no name for a writer";
            return self.complete(command, Err(NodeError::WriterExists { problem }));
        }
        let name = match name {
            Some(name) => String::from(name),
            None => self.free_name(multifeed),
        };
        if let Some(error) = self.lost_writer(multifeed, &name) {
            return self.complete(command, Err(error));
        }
        let key = match &secret {
            Some(secret) => Some(secret.public()),
            None => self.derive_writer(multifeed, &name).map(|secret| secret.public()),
        };
        let known = key.and_then(|key| self.by_key.get(&key)).copied();
        let members = &self.multifeeds[multifeed.0 as usize].members;
        let mut candidates: Vec<FeedId> =
            members.iter().filter(|member| member.name == name).map(|member| member.feed).collect();
        candidates.retain(|id| Some(*id) != known);
        candidates.extend(known);
        self.claim(Claim { command, multifeed, name, secret, candidates });
    }

    /// Why no writer of this name can be made: there may be one in a folder that is damaged.
    fn lost_writer(&self, multifeed: MultifeedId, name: &str) -> Option<NodeError> {
        let members = &self.multifeeds[multifeed.0 as usize].members;
        let is_there = members.iter().any(|member| member.local && member.name == name);
        if is_there { None } else { self.store.folders.lost_writer(name) }
    }

    /// A name that no feed has: the number of feeds, as the JavaScript calls a writer without a name.
    fn free_name(&self, multifeed: MultifeedId) -> String {
        let members = &self.multifeeds[multifeed.0 as usize].members;
        let is_free = |name: &String| {
            let key = self.derive_writer(multifeed, name).map(|secret| secret.public());
            !key.is_some_and(|key| self.by_key.contains_key(&key))
                && members.iter().all(|member| member.name != *name)
        };
        let names = (members.len()..).map(|count| count.to_string());
        names.into_iter().find(is_free).unwrap_or_default()
    }

    /// Goes on with the feeds that may be the writer; the last one is the most likely.
    fn claim(&mut self, mut claim: Claim) {
        match claim.candidates.pop() {
            Some(id) => self.when_open(id, Pending::Claim(claim.into())),
            None => self.create_writer(claim),
        }
    }

    /// A feed that may be the writer is open.
    pub(super) fn claimed(&mut self, id: FeedId, claim: Claim) {
        let Some(feed) = self.feeds[id.0 as usize].feed() else { return };
        let same = claim.secret.as_ref().is_none_or(|secret| secret.public() == feed.key);
        let problem = match (feed.has_secret(), same) {
            (true, true) => None,
            (true, false) => Some("a writer of this name has another key pair"),
            (false, true) if claim.secret.is_some() => {
                Some("the feed of this key pair is here as one of others")
            }
            (false, _) if self.store.layout == Layout::Numbered => {
                Some("a feed of others has this name")
            }
            // In the layout of corestore several feeds may have one name.
            (false, _) => return self.claim(claim),
        };
        if let Some(problem) = problem {
            return self.complete(claim.command, Err(NodeError::WriterExists { problem }));
        }
        let Claim { command, multifeed, .. } = claim;
        match self.member_mut(multifeed, id).map(|member| member.recorded) {
            Some(true) => self.complete(command, Ok(Outcome::Feed(id))),
            Some(false) => {
                if let Some(member) = self.member_mut(multifeed, id) {
                    member.local = true;
                }
                self.feed_seen(id);
                self.store.writers.insert(command, (multifeed, id));
                self.record(multifeed, &[id]);
            }
            None => self.add_writer(id, claim),
        }
    }

    fn create_writer(&mut self, claim: Claim) {
        if let Err(error) = self.check_writable() {
            return self.complete(claim.command, Err(error));
        }
        if self.room_for_own() == 0 {
            let error = NodeError::TooManyFeeds { max: self.config.max_feeds };
            return self.complete(claim.command, Err(error));
        }
        let derived = self.derive_writer(claim.multifeed, &claim.name);
        let key = match claim.secret.as_ref().or(derived.as_ref()).map(SecretKey::public) {
            Some(key) if self.store.blocked.contains(&key) => {
                let error = NodeError::Blocked { feed: short(&key) };
                return self.complete(claim.command, Err(error));
            }
            Some(key) => key,
            None if self.store.layout == Layout::Numbered => {
                let secret = SecretKey::from_seed(&self.entropy.bytes());
                return self.create_writer(Claim { secret: Some(secret), ..claim });
            }
            None => return self.complete(claim.command, Err(NodeError::Closed)),
        };
        let id = self.add_entry(key);
        self.add_writer(id, claim);
    }

    fn add_writer(&mut self, id: FeedId, claim: Claim) {
        let Claim { command, multifeed, name, secret, .. } = claim;
        if let Err(error) = self.check_writable() {
            return self.complete(command, Err(error));
        }
        self.add_member(multifeed, id, name, true);
        if let Some(member) = self.member_mut(multifeed, id) {
            member.secret = secret;
        }
        self.store.writers.insert(command, (multifeed, id));
        self.record(multifeed, &[id]);
    }

    /// Records feeds that joined.
    pub(super) fn record(&mut self, multifeed: MultifeedId, ids: &[FeedId]) {
        match self.store.layout {
            Layout::Corestore => self.list_feeds(multifeed, ids),
            Layout::Numbered => self.queue_folders(ids),
        }
    }

    /// A feed that joined is recorded, or not. What waits for that goes on; a local writer is told of only
    /// now, since peers would keep it although nobody knew its key pair after a crash.
    pub(super) fn recorded(
        &mut self,
        multifeed: MultifeedId,
        feed: FeedId,
        result: Result<(), NodeError>,
    ) {
        if result.is_ok() {
            let Some(member) = self.member_mut(multifeed, feed) else { return };
            member.secret = None;
            let new = !core::mem::replace(&mut member.recorded, true);
            let local = member.local;
            if new && local && self.multi(multifeed).is_some() {
                self.feeds_added(multifeed, &[feed]);
            }
            self.mark_dirty(feed);
        }
        let waits = |(_, at): &(&CommandId, &(MultifeedId, FeedId))| **at == (multifeed, feed);
        let waiting: Vec<CommandId> =
            self.store.writers.iter().filter(waits).map(|(command, _)| *command).collect();
        for command in waiting {
            self.store.writers.remove(&command);
            match &result {
                Ok(()) => self.when_open(feed, Pending::Load(command)),
                Err(error) => self.complete(command, Err(error.clone())),
            }
        }
    }

    /// Tells of feeds that joined, and offers them to the peers.
    pub(super) fn feeds_added(&mut self, multifeed: MultifeedId, ids: &[FeedId]) {
        for &feed in ids {
            self.event(Event::FeedAdded { multifeed, feed });
        }
        self.offer_all(multifeed, ids);
    }

    /// Offers feeds to all peers of a multifeed.
    pub(super) fn offer_all(&mut self, multifeed: MultifeedId, ids: &[FeedId]) {
        for (connection, link) in &mut self.links {
            if let Some(root) = link.root_of(multifeed).filter(|root| root.is_ready()) {
                root.to_offer.extend(ids.iter().map(|id| self.feeds[id.0 as usize].key));
                self.touched.insert(*connection);
            }
        }
    }

    /// What must be written before the files of a feed: what made it writable.
    pub(super) fn before_feed(&self, id: FeedId) -> Option<BatchId> {
        self.feeds[id.0 as usize].after.filter(|batch| self.tasks.contains_key(batch))
    }

    /// Whether files of a feed may be written: it would be found again.
    pub(super) fn may_write(&self, id: FeedId) -> bool {
        let entry = &self.feeds[id.0 as usize];
        let mut members = entry.places.iter().map(|(multifeed, place)| {
            self.multifeeds[multifeed.0 as usize].members.get(*place as usize)
        });
        let recorded = entry.seen && members.any(|member| member.is_some_and(|it| it.recorded));
        entry.places.is_empty() || recorded
    }
}
