//! The store as a whole: its lock, its layout, its master key, feeds by name.
//!
//! Layout and derivation are those of `corestore@5.8.2`, `hypermultifeed@1.1.0` and `multifeed@6.0.0`; see
//! `format::corestore` and `format::numbered`.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::FeedKey;
use zeroize::Zeroizing;

use super::blocked::Blocked;
use super::layout::{self, Told};
use super::numbered::Folders;
use super::unlisted::Survey;
use super::{
    CommandId, Durability, Entry, FeedId, FolderProblem, Layout, MultifeedId, Node, NodeError,
    Outcome, Pending, StoreOptions, Task,
};
use crate::crypto::SecretKey;
use crate::format::{blocked, corestore, numbered, sleep};
use crate::storage::{Answer, BatchId, FilePath, Op, SecretBytes, StorageError, StorageErrorKind};

/// What a node knows of its store.
#[derive(Default)]
pub(super) struct Store {
    pub(super) state: State,
    pub(super) layout: Layout,
    master: Option<Zeroizing<[u8; 32]>>,
    /// The first level of corestore's folders, until somebody has asked what is in them.
    pub(super) root_names: Vec<String>,
    pub(super) survey: Option<Box<Survey>>,
    /// The file with the master key, while the store is opened.
    key_file: Option<Bytes>,
    /// Folders that are not as they should be.
    pub(super) problems: Vec<FolderProblem>,
    options: StoreOptions,
    /// The process that had the store open which is only read.
    pub(super) held_by: Option<u32>,
    /// Feeds that are kept out.
    pub(super) blocked: Blocked,
    opening: Option<CommandId>,
    /// Names of feeds by name, for those that were asked for.
    named: BTreeMap<FeedId, String>,
    /// Commands that wait for a writer to be recorded.
    pub(super) writers: BTreeMap<CommandId, (MultifeedId, FeedId)>,
    /// Lines of lists that are on their way to the disk: the multifeed and the feeds. The commands are never
    /// given to the application.
    pub(super) lines: BTreeMap<CommandId, (MultifeedId, Vec<FeedId>)>,
    /// The folders of the layout of multifeed 6.
    pub(super) folders: Folders,
}

impl core::fmt::Debug for Store {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Store").field("state", &self.state).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    New,
    Opening,
    Ready,
    Failed,
}

/// The file that is locked while the store is open. Ours: the JavaScript takes no lock.
pub(crate) const LOCK_FILE: &str = "multifeed.lock";

/// Steps of opening the store.
#[derive(Clone, Copy, Debug)]
pub(super) enum StoreStep {
    Lock,
    Look,
    /// Folders are listed that tell the layout.
    Inside,
    /// The master key, or the mark of a layout, is written.
    Begun,
}

impl Store {
    /// The key pair of a corestore name, once the master key is read.
    pub(super) fn derive(&self, name: &str) -> Option<SecretKey> {
        Some(corestore::derive(self.master.as_deref()?, name))
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.options.read_only
    }

    /// The master key turned out to be that of another store.
    pub(super) fn forget_master(&mut self) {
        self.master = None;
    }

    pub(super) const fn has_master(&self) -> bool {
        self.master.is_some()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state == State::Ready
    }
}

impl Node {
    pub(super) fn open_store(&mut self, command: CommandId, options: StoreOptions) {
        if self.store.state != State::New || self.closing.is_some() {
            self.complete(command, Err(NodeError::Closed));
            return;
        }
        self.store.state = State::Opening;
        self.store.options = options;
        if self.is_read_only() {
            // Nothing is synced.
            self.config.durability = Durability::Process;
        }
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
            Err(StorageError { kind, .. })
                if self.is_read_only() && matches!(step, StoreStep::Lock) =>
            {
                // Whatever hinders the lock, reading needs none.
                if let StorageErrorKind::InUse { process } = kind {
                    self.store.held_by = Some(process);
                }
                Vec::new()
            }
            Err(error) => return self.opened(Err(error.into())),
        };
        match step {
            StoreStep::Lock => {
                let path = FilePath::new(&[corestore::MASTER_KEY]);
                let ops = Vec::from([
                    Op::Read { path, offset: 0, len: 64 },
                    Op::List { path: FilePath::root() },
                    blocked::read(),
                ]);
                // As with feeds: whoever made it may not have synced it.
                let after = (self.config.durability == Durability::Power).then(|| {
                    let sync = [corestore::MASTER_KEY, numbered::MARK, blocked::FILE]
                        .map(|name| Op::Sync { path: FilePath::new(&[name]) });
                    self.submit(None, Vec::from(sync), Task::Nothing)
                });
                self.submit(after, ops, Task::Store(StoreStep::Look));
            }
            StoreStep::Look => self.looked(&answers),
            StoreStep::Inside => self.lay_out(Some(layout::inside(&answers))),
            StoreStep::Begun => self.opened(Ok(())),
        }
    }

    /// Takes what is at the root of the store.
    fn looked(&mut self, answers: &[Answer]) {
        let [key, names, file] = answers else { return };
        let Some(kept_out) = Blocked::read(file) else {
            let problem = "a line of it is no feed key; remove the line";
            return self.opened(Err(NodeError::Store { file: blocked::FILE, problem }));
        };
        self.store.blocked = kept_out;
        self.store.key_file = key.bytes().cloned();
        self.store.root_names = match names {
            Answer::Names(names) => names.clone(),
            Answer::NotFound | Answer::Done | Answer::Length(_) | Answer::Bytes(_) => Vec::new(),
        };
        match layout::told(&self.store.root_names) {
            Told::Layout(found) => self.lay_out(found),
            Told::LookInto(folders) => {
                let ops = folders.into_iter().map(|path| Op::List { path }).collect();
                self.submit(None, ops, Task::Store(StoreStep::Inside));
            }
        }
    }

    /// Decides on the layout and begins a store that is none yet.
    fn lay_out(&mut self, found: Option<Layout>) {
        if found.is_none() && self.is_read_only() {
            return self.opened(Err(NodeError::NoStore));
        }
        let wanted = self.store.options.layout.or(found).unwrap_or_default();
        if found.is_some_and(|found| found != wanted) {
            let problem = match wanted {
                Layout::Corestore => "the directory has the layout of multifeed 6, not corestore's",
                Layout::Numbered => "the directory has the layout of corestore, not multifeed 6's",
            };
            return self.opened(Err(NodeError::Layout { problem }));
        }
        self.store.layout = wanted;
        match wanted {
            Layout::Numbered => {
                let names = core::mem::take(&mut self.store.root_names);
                self.store.folders.found(&names);
                if found.is_some() {
                    return self.opened(Ok(()));
                }
                // An empty directory would be taken for the other layout the next time.
                let path = FilePath::new(&[numbered::MARK]);
                self.begin(Op::Write { path: path.clone(), offset: 0, data: Bytes::new() }, path);
            }
            Layout::Corestore => {
                let names = &mut self.store.root_names;
                names.retain(|name| layout::is_feed_folder(name));
                let feeds = !names.is_empty();
                let key = self.store.key_file.take().unwrap_or_default();
                self.look_at_master_key(&key, feeds);
            }
        }
    }

    fn look_at_master_key(&mut self, key: &[u8], feeds: bool) {
        let given = self.store.options.master_key.take();
        let read = key.get(..32).and_then(|key| <[u8; 32]>::try_from(key).ok()).map(Zeroizing::new);
        let zeros = |key: &Zeroizing<[u8; 32]>| **key == [0; 32];
        let read = read.filter(|key| !(self.is_read_only() && zeros(key)));
        if let Some(master) = given.or(read) {
            if zeros(&master) {
                let problem = "it holds nothing but zeros; restore it from a copy";
                return self.opened(Err(NodeError::Store { file: corestore::MASTER_KEY, problem }));
            }
            self.store.master = Some(master);
            return self.opened(Ok(()));
        }
        if self.is_read_only() {
            return self.opened(Ok(()));
        }
        // A new key would make every writer of the store unreadable for its owner.
        if feeds || !key.is_empty() {
            let problem = "it is missing or shorter than 32 bytes, and there are feeds that need it; restore it from a copy";
            return self.opened(Err(NodeError::Store { file: corestore::MASTER_KEY, problem }));
        }
        let master: [u8; 32] = self.entropy.bytes();
        let data = SecretBytes::from(&master[..]);
        self.store.master = Some(Zeroizing::new(master));
        let path = FilePath::new(&[corestore::MASTER_KEY]);
        self.begin(Op::CreateSecret { path: path.clone(), data }, path);
    }

    /// Writes the first file of a store.
    fn begin(&mut self, op: Op, path: FilePath) {
        let task = Task::Store(StoreStep::Begun);
        if self.config.durability == Durability::Power {
            let written = self.submit(None, Vec::from([op]), Task::Nothing);
            self.submit(Some(written), Vec::from([Op::Sync { path }]), task);
        } else {
            self.submit(None, Vec::from([op]), task);
        }
    }

    fn opened(&mut self, result: Result<(), NodeError>) {
        self.store.state = if result.is_ok() { State::Ready } else { State::Failed };
        if let Some(command) = self.store.opening.take() {
            self.complete(command, result.map(|()| Outcome::Opened));
        }
    }

    /// Makes an entry for a feed that is not known yet.
    pub(super) fn add_entry(&mut self, key: FeedKey) -> FeedId {
        let folder = match self.store.layout {
            Layout::Corestore => Some(corestore::folder(&key.discovery_key())),
            Layout::Numbered => None,
        };
        let blocked = self.store.blocked.contains(&key);
        let id = self.feeds.push(Entry { blocked, ..Entry::new(key, folder) });
        self.by_key.insert(key, id);
        id
    }

    /// How many feeds may still be added.
    pub(super) fn room(&self) -> usize {
        self.config.max_feeds.saturating_sub(self.seen_feeds())
    }

    /// The feeds that take a place of the table.
    pub(super) fn seen_feeds(&self) -> usize {
        let lists = match self.store.layout {
            Layout::Corestore => self.multifeeds.len(),
            Layout::Numbered => 0,
        };
        self.feeds.len().saturating_sub(lists + self.unseen.len())
    }

    pub(super) fn open_named(&mut self, command: CommandId, name: &str) {
        let result = self.check_named(name);
        let secret = match result {
            Ok(secret) => secret,
            Err(error) => return self.complete(command, Err(error)),
        };
        let key = secret.public();
        let id = match self.by_key.get(&key) {
            Some(id) if self.feeds[id.0 as usize].list_of.is_some() => {
                let problem = "the name is that of a multifeed's own list of feeds";
                return self.complete(command, Err(NodeError::Layout { problem }));
            }
            Some(id) => *id,
            None => self.add_entry(key),
        };
        let new = self.store.named.insert(id, String::from(name)).is_none();
        if new && !self.is_read_only() {
            let written = self.write_name(None, &key, name);
            self.feeds[id.0 as usize].after = Some(written);
        }
        self.when_open(id, Pending::Load(command));
    }

    fn check_named(&self, name: &str) -> Result<SecretKey, NodeError> {
        if !self.store.is_ready() || self.closing.is_some() {
            return Err(NodeError::Closed);
        }
        if self.store.layout != Layout::Corestore {
            let problem = "feeds by name need the layout of corestore";
            return Err(NodeError::Layout { problem });
        }
        let max = corestore::MAX_NAME;
        if name.is_empty() || name.len() > max {
            return Err(NodeError::Name { got: name.len(), max });
        }
        let secret = self.store.derive(name).ok_or(NodeError::Closed)?;
        if self.room_for_own() == 0 && !self.by_key.contains_key(&secret.public()) {
            return Err(NodeError::TooManyFeeds { max: self.config.max_feeds });
        }
        Ok(secret)
    }

    /// The name by which a feed was opened that is in no multifeed.
    pub(super) fn own_name(&self, id: FeedId) -> Option<&str> {
        self.store.named.get(&id).map(String::as_str)
    }

    /// Writes what makes a derived feed writable for a corestore: before anything else of it. Without a key
    /// the JavaScript would not look for the name.
    pub(super) fn write_name(
        &mut self,
        before: Option<BatchId>,
        key: &FeedKey,
        name: &str,
    ) -> BatchId {
        let folder = corestore::folder(&key.discovery_key());
        let data = Bytes::from(corestore::encode_name(name));
        let name = Op::Write { path: folder.join(corestore::NAME), offset: 0, data };
        self.write_first(before, &folder, key, name)
    }

    /// Writes the key of a writer's feed after the file that makes it writable.
    pub(super) fn write_first(
        &mut self,
        before: Option<BatchId>,
        folder: &FilePath,
        key: &FeedKey,
        op: Op,
    ) -> BatchId {
        let data = Bytes::copy_from_slice(&key.0);
        let key = Op::Write { path: folder.join(sleep::KEY), offset: 0, data };
        let mut written = before;
        for op in [op, key] {
            let path = op.path().clone();
            written = Some(self.submit(written, Vec::from([op]), Task::Nothing));
            if self.config.durability == Durability::Power {
                let sync = Vec::from([Op::Sync { path }]);
                written = Some(self.submit(written, sync, Task::Nothing));
            }
        }
        written.expect("two operations were submitted")
    }
}
