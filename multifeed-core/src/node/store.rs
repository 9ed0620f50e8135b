//! The store as a whole: its lock, its master key, its feed list, the feeds that join.
//!
//! Layout and derivation are those of `corestore@5.8.2` and `hypermultifeed@1.1.0`; see
//! `format::corestore` and `format::list`.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::{FeedKey, RootKey};
use zeroize::Zeroizing;

use super::{
    CommandId, Durability, Entry, Event, FeedId, Node, NodeError, Outcome, Pending, ReadJob, Task,
};
use crate::crypto::SecretKey;
use crate::format::{corestore, list};
use crate::storage::{Answer, BatchId, FilePath, Op, StorageError};

/// Bytes of a writer's name.
const MAX_NAME: usize = 512;
/// Bytes of the feed list that are read at once.
const LIST_CHUNK: usize = 1024 * 1024;
/// Commands for which the feed list grows; never given to the application.
const INTERNAL: CommandId = CommandId(0);

/// What a node knows of its store.
#[derive(Debug, Default)]
pub(super) struct Store {
    root: Option<RootKey>,
    master: Option<Zeroizing<[u8; 32]>>,
    /// The feed list.
    list: Option<FeedId>,
    ready: bool,
    opening: Option<CommandId>,
    /// A batch that must be over before the list grows: it writes the name of a new writer.
    list_after: Option<BatchId>,
    /// Commands that wait for the line of a new writer to be written.
    writers: BTreeMap<CommandId, FeedId>,
    list_named: bool,
}

/// The file that is locked while the store is open. Ours: the JavaScript takes no lock.
pub(crate) const LOCK_FILE: &str = "multifeed.lock";

/// Steps of opening the store.
#[derive(Clone, Copy, Debug)]
pub(super) enum StoreStep {
    Lock,
    MasterKey,
    NewMasterKey,
}

impl Store {
    /// The key pair of a corestore name, once the master key is read.
    pub(super) fn derive(&self, name: &str) -> Option<SecretKey> {
        Some(corestore::derive(self.master.as_deref()?, name))
    }

    /// The key pair of the local writer of this name.
    pub(super) fn derive_writer(&self, name: &str) -> Option<SecretKey> {
        self.derive(&corestore::writer_name(self.root.as_ref()?, name))
    }

    /// The key pair of the feed list.
    pub(super) fn derive_list(&self) -> Option<SecretKey> {
        self.derive(&corestore::list_name(self.root.as_ref()?))
    }

    /// The root key, once the store is open.
    pub(super) fn root(&self) -> Option<&RootKey> {
        self.root.as_ref().filter(|_| self.ready)
    }
}

impl Node {
    pub(super) fn open_store(&mut self, command: CommandId, root: RootKey) {
        if self.store.root.is_some() || self.closing.is_some() {
            self.complete(command, Err(NodeError::Closed));
            return;
        }
        self.store.root = Some(root);
        self.store.opening = Some(command);
        let lock = Op::Lock { path: FilePath::new(&[LOCK_FILE]) };
        self.submit(None, Vec::from([lock]), Task::Store(StoreStep::Lock));
    }

    pub(super) fn store_answered(
        &mut self,
        step: StoreStep,
        answers: Vec<Result<Answer, StorageError>>,
    ) {
        let answers = match answers.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(answers) => answers,
            Err(error) => return self.opened(Err(error.into())),
        };
        let path = FilePath::new(&[corestore::MASTER_KEY]);
        match step {
            StoreStep::Lock => {
                let ops = Vec::from([
                    Op::Read { path, offset: 0, len: 64 },
                    Op::List { path: FilePath::root() },
                ]);
                self.submit(None, ops, Task::Store(StoreStep::MasterKey));
            }
            StoreStep::MasterKey => {
                let [key, names] = &answers[..] else { return };
                let key = match key {
                    Answer::Bytes(bytes) => &bytes[..],
                    Answer::NotFound | Answer::Done | Answer::Length(_) | Answer::Names(_) => &[],
                };
                if let Some(master) = key.get(..32).and_then(|key| <[u8; 32]>::try_from(key).ok()) {
                    self.store.master = Some(Zeroizing::new(master));
                    self.open_list();
                    return;
                }
                // A new key would make every writer of the store unreadable for its owner.
                let feeds = matches!(names, Answer::Names(names) if names.iter().any(|name| is_feed_folder(name)));
                if feeds || !key.is_empty() {
                    let problem = "it is missing or shorter than 32 bytes, and there are feeds that need it; restore it from a copy";
                    self.opened(Err(NodeError::Store { file: corestore::MASTER_KEY, problem }));
                    return;
                }
                let master: [u8; 32] = self.entropy.bytes();
                let data = Bytes::copy_from_slice(&master);
                self.store.master = Some(Zeroizing::new(master));
                let mut ops = Vec::from([Op::CreateSecret { path: path.clone(), data }]);
                if self.config.durability == Durability::Power {
                    let create = self.submit(None, ops, Task::Nothing);
                    ops = Vec::from([Op::Sync { path }]);
                    self.submit(Some(create), ops, Task::Store(StoreStep::NewMasterKey));
                } else {
                    self.submit(None, ops, Task::Store(StoreStep::NewMasterKey));
                }
            }
            StoreStep::NewMasterKey => self.open_list(),
        }
    }

    fn open_list(&mut self) {
        let Some(key) = self.store.derive_list().map(|secret| secret.public()) else { return };
        let id = FeedId(self.feeds.len() as u32);
        let mut entry = Entry::new(key, String::new());
        entry.internal = true;
        entry.listed = true;
        self.by_key.insert(entry.key, id);
        self.feeds.push(entry);
        self.store.list = Some(id);
        self.when_open(id, Pending::Read(ReadJob::list(id, 0, LIST_CHUNK)));
    }

    /// Takes some blocks of the feed list; none of them: the end.
    pub(super) fn list_read(&mut self, start: u64, blocks: Result<Vec<Bytes>, NodeError>) {
        let blocks = match blocks {
            Ok(blocks) => blocks,
            Err(error) => return self.opened(Err(error)),
        };
        let Some(list) = self.store.list else { return };
        for block in &blocks {
            // A line that is no entry is left where it is, like in the JavaScript.
            let Some(line) = list::decode(block) else { continue };
            match self.by_key.get(&line.key) {
                Some(id) => self.feeds[id.0 as usize].listed = true,
                None if self.feeds.len() <= self.config.max_feeds => {
                    let id = self.add_entry(line.key, line.name);
                    self.feeds[id.0 as usize].listed = true;
                }
                None => {}
            }
        }
        let next = start + (blocks.len() as u64).max(1);
        let length = self.feeds[list.0 as usize].feed().map_or(0, crate::feed::Feed::length);
        if next < length {
            self.when_open(list, Pending::Read(ReadJob::list(list, next, LIST_CHUNK)));
            return;
        }
        self.opened(Ok(Outcome::Opened));
    }

    fn opened(&mut self, result: Result<Outcome, NodeError>) {
        self.store.ready |= result.is_ok();
        if let Some(command) = self.store.opening.take() {
            self.complete(command, result);
        }
        self.relist();
    }

    /// Writes the lines of feeds that are not in the list, after its storage had failed.
    fn relist(&mut self) {
        if !self.store.ready {
            return;
        }
        let missing: Vec<FeedId> = (0..)
            .map(FeedId)
            .zip(&self.feeds)
            .filter(|(_, e)| !e.listed)
            .map(|(id, _)| id)
            .collect();
        if !missing.is_empty() {
            self.list_feeds(None, &missing);
        }
    }

    /// Makes an entry for a feed that is not known yet.
    pub(super) fn add_entry(&mut self, key: FeedKey, name: String) -> FeedId {
        let id = FeedId(self.feeds.len() as u32);
        self.by_key.insert(key, id);
        self.feeds.push(Entry::new(key, name));
        id
    }

    /// The feeds of these keys, made where they are not known, with their lines in the list.
    /// Keys that may not or cannot be added are left out.
    pub(super) fn add_remote(&mut self, keys: &[FeedKey]) -> Vec<FeedId> {
        let (mut ids, mut new) = (Vec::with_capacity(keys.len()), Vec::new());
        let mut count = self.feeds.iter().filter(|entry| !entry.internal).count();
        for key in keys {
            match self.by_key.get(key) {
                Some(id) if self.feeds[id.0 as usize].internal => {}
                Some(id) => ids.push(*id),
                None if self.feeds.len() <= self.config.max_feeds => {
                    let id = self.add_entry(*key, count.to_string());
                    count += 1;
                    ids.push(id);
                    new.push(id);
                }
                None => {}
            }
        }
        if !new.is_empty() {
            self.list_feeds(None, &new);
            self.feeds_added(&new);
        }
        ids
    }

    pub(super) fn make_writer(&mut self, command: CommandId, name: &str) {
        if !self.store.ready || self.closing.is_some() {
            self.complete(command, Err(NodeError::Closed));
            return;
        }
        if name.is_empty() || name.len() > MAX_NAME {
            self.complete(command, Err(NodeError::Name { got: name.len(), max: MAX_NAME }));
            return;
        }
        let Some(root) = self.store.root.clone() else { return };
        let Some(key) = self.store.derive_writer(name).map(|secret| secret.public()) else {
            return;
        };
        if let Some(id) = self.by_key.get(&key) {
            self.when_open(*id, Pending::Load(command));
            return;
        }
        let id = self.add_entry(key, String::from(name));
        let after = self.write_name(&key, &corestore::writer_name(&root, name));
        self.store.list_after = Some(after);
        self.store.writers.insert(command, id);
        self.list_feeds(Some(command), &[id]);
        self.feeds_added(&[id]);
    }

    /// Writes the file that makes a derived feed writable for a corestore: before the list speaks of it.
    fn write_name(&mut self, key: &FeedKey, name: &str) -> BatchId {
        let path = corestore::folder(&key.discovery_key()).join(corestore::NAME);
        let data = Bytes::from(corestore::encode_name(name));
        let before = self
            .store
            .list_after
            .filter(|id| self.tasks.contains_key(id))
            .or_else(|| self.list_batch());
        let written = self.submit(
            before,
            Vec::from([Op::Write { path: path.clone(), offset: 0, data }]),
            Task::Nothing,
        );
        if self.config.durability == Durability::Process {
            return written;
        }
        self.submit(Some(written), Vec::from([Op::Sync { path }]), Task::Nothing)
    }

    /// Appends the lines of feeds to the list.
    fn list_feeds(&mut self, command: Option<CommandId>, ids: &[FeedId]) {
        let (Some(list), Some(root)) = (self.store.list, self.store.root.clone()) else { return };
        if !self.store.list_named {
            self.store.list_named = true;
            let key = self.feeds[list.0 as usize].key;
            let after = self.write_name(&key, &corestore::list_name(&root));
            self.store.list_after = Some(after);
        }
        let mut lines = Vec::with_capacity(ids.len());
        for id in ids {
            let entry = &mut self.feeds[id.0 as usize];
            entry.listed = true;
            lines.push(Bytes::from(list::encode(&list::Entry {
                key: entry.key,
                name: entry.name.clone(),
            })));
        }
        self.when_open(list, Pending::Append(command.unwrap_or(INTERNAL), lines));
    }

    /// The batch that must be over before a feed other than the list writes for the first time.
    pub(super) fn list_batch(&self) -> Option<BatchId> {
        let list = self.store.list?;
        self.feeds[list.0 as usize].feed()?.last_batch()
    }

    /// What must be over before the list is written.
    pub(super) fn before_list(&mut self) -> Option<BatchId> {
        let after = self.store.list_after.take();
        after.filter(|id| self.tasks.contains_key(id)).or_else(|| self.list_batch())
    }

    pub(super) fn store_has_writer(&self, command: CommandId) -> bool {
        self.store.writers.contains_key(&command)
    }

    /// The storage of the list failed: which lines are in it is known when it is read again.
    pub(super) fn list_failed(&mut self) {
        for entry in self.feeds.iter_mut().filter(|entry| !entry.internal) {
            entry.listed = false;
        }
        if let Some(list) = self.store.list {
            self.when_open(list, Pending::Read(ReadJob::list(list, 0, LIST_CHUNK)));
        }
    }

    pub(super) fn is_list(&self, id: FeedId) -> bool {
        self.store.list == Some(id)
    }

    /// Lines of the list are stored, or not: answers the command of a new writer.
    pub(super) fn listed(&mut self, command: CommandId, result: Result<(), NodeError>) {
        let Some(feed) = self.store.writers.remove(&command) else { return };
        match result {
            Ok(()) => self.when_open(feed, Pending::Load(command)),
            Err(error) => {
                self.feeds[feed.0 as usize].listed = false;
                self.complete(command, Err(error));
            }
        }
    }

    /// Tells of feeds that joined, and offers them to the peers.
    fn feeds_added(&mut self, ids: &[FeedId]) {
        for &feed in ids {
            self.event(Event::FeedAdded { feed });
        }
        for (connection, link) in &mut self.links {
            if link.ready {
                link.to_offer.extend(ids.iter().map(|id| self.feeds[id.0 as usize].key));
                self.touched.insert(*connection);
            }
        }
    }
}

/// Whether a name at the root of a store is the first level of its feed folders.
fn is_feed_folder(name: &str) -> bool {
    name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
