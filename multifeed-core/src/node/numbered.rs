//! The record of a multifeed in the layout of multifeed 6: folders `0`, `1`, … in the order of its feeds.
//!
//! A folder counts once it has a `key`, and the JavaScript ends reading at the first that has none. So folders
//! are made one after another, each elsewhere first and then given its number: whatever happens in
//! between, it finds all of it or nothing. Here all folders are read, also those behind one that is missing
//! or damaged. See `format::numbered`.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::FeedKey;

use super::entry::EntryState;
use super::{Durability, Event, FeedId, MultifeedId, Node, NodeError, Task, multifeed::State};
use crate::crypto::SecretKey;
use crate::format::{numbered, sleep};
use crate::storage::{Answer, FilePath, Op, SecretBytes, StorageError};

/// Folders that are read at once.
const READ_FOLDERS: usize = 64;
/// The multifeed of such a store: there is one.
const ONLY: MultifeedId = MultifeedId(0);

/// The folders of a store.
#[derive(Debug, Default)]
pub(super) struct Folders {
    /// Folders that are there and were not read.
    found: BTreeSet<u32>,
    /// Numbers of folders with something in them. The lowest that is free is the next feed's.
    taken: BTreeSet<u32>,
    /// Folders that are there and hold nothing.
    empty: BTreeSet<u32>,
    /// There may be rests of a folder that got no number.
    rests: bool,
    /// Feeds without a folder, in order.
    queue: VecDeque<FeedId>,
    /// Something is under way.
    busy: bool,
    /// Names of local writers whose folder is damaged.
    lost: BTreeSet<String>,
    /// A folder of a local writer whose name is lost.
    nameless: Option<u32>,
    /// Feeds that were read and not opened since: nothing proves yet that their keys are right.
    pub(super) unproven: BTreeSet<FeedId>,
}

/// What was asked of the storage.
#[derive(Clone, Debug)]
pub(super) enum FolderStep {
    /// These folders are read.
    Read(Vec<u32>),
    /// The next folder is made.
    Made(u32),
}

/// The files of a folder that are read, then those whose length is asked for.
const READ: [&str; 3] = [sleep::KEY, numbered::LOCAL_NAME, sleep::SECRET_KEY];
const MEASURED: [&str; 4] = [sleep::TREE, sleep::DATA, sleep::SIGNATURES, sleep::BITFIELD];

/// What a folder holds.
enum Contents {
    Feed {
        key: FeedKey,
        name: Option<String>,
        /// It is written here, and does not tell its name.
        nameless: bool,
        /// There is something of it.
        seen: bool,
    },
    /// Nothing, or no more than the headers of files.
    Empty,
    Damaged {
        problem: &'static str,
        name: Option<String>,
        is_writer: bool,
    },
}

impl Folders {
    /// Takes the names at the root of the store.
    pub(super) fn found(&mut self, names: &[String]) {
        self.found = names.iter().filter_map(|name| numbered::parse_folder(name)).collect();
        self.rests = names.iter().any(|name| name == numbered::UNNUMBERED);
    }

    /// The number of the next feed: where the JavaScript ends reading.
    fn next(&self) -> u32 {
        (0..)
            .zip(&self.taken)
            .find(|(free, taken)| free != *taken)
            .map_or(u32::try_from(self.taken.len()).unwrap_or(u32::MAX), |(free, _)| free)
    }

    /// The folder of a writer that may be the one of this name, and cannot be opened.
    pub(super) fn lost_writer(&self, name: &str) -> Option<NodeError> {
        if self.lost.contains(name) {
            let feed = format!("{name} of this store");
            let problem = "what is in its folder cannot be opened";
            return Some(NodeError::Damaged { feed, problem });
        }
        let number = self.nameless?;
        let feed = format!("in folder {number}");
        let problem = "it is a writer of this store whose name is lost, and may be this one";
        Some(NodeError::Damaged { feed, problem })
    }
}

impl Node {
    pub(super) fn queue_folders(&mut self, ids: &[FeedId]) {
        self.store.folders.queue.extend(ids);
        self.pump_folders();
    }

    /// Reads folders that are there, then makes those that are wanted.
    pub(super) fn pump_folders(&mut self) {
        let folders = &mut self.store.folders;
        if folders.busy {
            return;
        }
        if !folders.found.is_empty() {
            folders.busy = true;
            let numbers: Vec<u32> = folders.found.iter().copied().take(READ_FOLDERS).collect();
            let mut ops = Vec::with_capacity(numbers.len() * (READ.len() + MEASURED.len()));
            let mut files = Vec::with_capacity(numbers.len() * 2);
            for number in &numbers {
                let folder = numbered::folder(*number);
                files.extend([folder.join(sleep::KEY), folder.join(numbered::LOCAL_NAME)]);
                ops.extend(READ.map(|name| Op::Read {
                    path: folder.join(name),
                    offset: 0,
                    len: if name == numbered::LOCAL_NAME { numbered::MAX_NAME + 1 } else { 64 },
                }));
                ops.extend(MEASURED.map(|name| Op::Length { path: folder.join(name) }));
            }
            // What is read may be what was made when its sync failed, or by a process that was killed
            // before.
            let unsure = self.config.durability == Durability::Power;
            let after = unsure.then(|| {
                let sync = files.into_iter().map(|path| Op::Sync { path }).collect();
                self.submit(None, sync, Task::Nothing)
            });
            self.submit(after, ops, Task::Folders(FolderStep::Read(numbers)));
        } else if !folders.queue.is_empty() {
            folders.busy = true;
            self.make_folder();
        } else if self.multifeeds.first().is_some_and(|multi| multi.state == State::Loading) {
            self.find_gap();
            self.loaded(ONLY, Ok(()));
        }
    }

    /// Tells of a number that is missing: the JavaScript does not look behind it.
    fn find_gap(&mut self) {
        let folders = &self.store.folders;
        let next = folders.next();
        if folders.taken.last().is_some_and(|last| *last > next) {
            let problem = "it is missing, and there are folders behind it, which the JavaScript does not find";
            self.folder_problem(&next.to_string(), problem, false);
        }
    }

    /// Makes the next folder and gives it its number.
    fn make_folder(&mut self) {
        let Some(feed) = self.store.folders.queue.front().copied() else { return };
        let number = self.store.folders.next();
        let mut secret = None;
        if let Some(member) = self.member_mut(ONLY, feed) {
            secret = member.secret.as_ref().map(SecretKey::to_libsodium);
            // A number stands for the folder, whichever was thought to come next.
            if numbered::parse_folder(&member.name).is_some() {
                member.name = number.to_string();
            }
        }
        let folder = FilePath::new(&[numbered::UNNUMBERED]);
        let write = |name: &str, data| Op::Write { path: folder.join(name), offset: 0, data };
        let key = Bytes::copy_from_slice(&self.feeds[feed.0 as usize].key.0);
        // The JavaScript reads no block, not even an empty one, of a feed without `data`.
        let mut ops = Vec::from([write(sleep::KEY, key), write(sleep::DATA, Bytes::new())]);
        if let Some(secret) = secret {
            let data = SecretBytes::from(&secret[..]);
            ops.push(Op::CreateSecret { path: folder.join(sleep::SECRET_KEY), data });
            let name = self.member_mut(ONLY, feed).map(|member| member.name.clone());
            ops.push(write(numbered::LOCAL_NAME, Bytes::from(name.unwrap_or_default())));
        }
        let files: Vec<FilePath> = ops.iter().map(|op| op.path().clone()).collect();

        let mut batches = Vec::new();
        if self.store.folders.rests {
            batches.push(Vec::from([Op::Remove { path: folder.clone() }]));
        }
        batches.push(ops);
        let lasting = self.config.durability == Durability::Power;
        if lasting {
            batches.push(files.into_iter().map(|path| Op::Sync { path }).collect());
        }
        let to = numbered::folder(number);
        if self.store.folders.empty.contains(&number) {
            // Nobody can read it, but it is not ours to remove.
            let mark = u32::from_be_bytes(self.entropy.bytes());
            let aside = format!("{}-{number}-{mark:08x}", numbered::ASIDE);
            let to_aside = FilePath::new(&[&aside]);
            batches.push(Vec::from([Op::Rename { from: to.clone(), to: to_aside }]));
        }
        batches.push(Vec::from([Op::Rename { from: folder, to: to.clone() }]));
        if lasting {
            batches.push(Vec::from([Op::Sync { path: to.join(sleep::KEY) }]));
        }
        self.store.folders.rests = true;
        let last = batches.len() - 1;
        let mut after = None;
        for (at, ops) in batches.into_iter().enumerate() {
            let made = at == last;
            let task = if made { Task::Folders(FolderStep::Made(number)) } else { Task::Nothing };
            after = Some(self.submit(after, ops, task));
        }
    }

    pub(super) fn folders_answered(
        &mut self,
        step: FolderStep,
        answers: Vec<Result<Answer, StorageError>>,
    ) {
        self.store.folders.busy = false;
        let failed = answers.iter().find_map(|answer| answer.as_ref().err());
        let result = match step {
            FolderStep::Read(numbers) => self.folders_read(&numbers, &answers),
            FolderStep::Made(number) => match failed {
                Some(error) => Err((Some(number), error.clone())),
                None => {
                    self.folder_made(number);
                    Ok(())
                }
            },
        };
        match result {
            Ok(()) => self.pump_folders(),
            Err((number, error)) => self.folders_failed(number, error.into()),
        }
    }

    fn folders_read(
        &mut self,
        numbers: &[u32],
        answers: &[Result<Answer, StorageError>],
    ) -> Result<(), (Option<u32>, StorageError)> {
        let mut added = Vec::new();
        for (&number, of_folder) in numbers.iter().zip(answers.chunks(READ.len() + MEASURED.len()))
        {
            let contents = contents(of_folder).map_err(|error| (None, error))?;
            self.store.folders.found.remove(&number);
            match contents {
                Contents::Empty => {
                    self.store.folders.empty.insert(number);
                }
                Contents::Damaged { problem, name, is_writer } => {
                    self.store.folders.taken.insert(number);
                    self.folder_problem(&number.to_string(), problem, true);
                    match name {
                        Some(name) => _ = self.store.folders.lost.insert(name),
                        None if is_writer => self.store.folders.nameless = Some(number),
                        None => {}
                    }
                }
                Contents::Feed { key, name, nameless, seen } => {
                    self.store.folders.taken.insert(number);
                    if nameless {
                        let problem = "its feed is written here, and its name is lost";
                        self.folder_problem(&number.to_string(), problem, true);
                        self.store.folders.nameless = Some(number);
                    }
                    added.extend(self.folder_of(number, key, name, seen));
                }
            }
        }
        // Behind a gap that was filled since, there may be feeds that nobody has heard of.
        if self.multi(ONLY).is_some() {
            self.feeds_added(ONLY, &added);
        }
        self.store.folders.queue.retain(|feed| self.feeds[feed.0 as usize].folder.is_none());
        Ok(())
    }

    /// A folder with a feed was read: the feed, if it is new and not written here.
    fn folder_of(
        &mut self,
        number: u32,
        key: FeedKey,
        name: Option<String>,
        seen: bool,
    ) -> Option<FeedId> {
        let folder = numbered::folder(number);
        let known = self.by_key.get(&key).copied();
        let there = known.and_then(|id| self.feeds[id.0 as usize].folder.as_ref());
        if let Some(there) = there {
            if *there != folder {
                self.folder_problem(folder.as_str(), "its key is that of another folder", true);
                self.store.folders.lost.extend(name);
            }
            return None;
        }
        let id = match known {
            Some(id) => id,
            None if !seen && name.is_none() && !self.store.blocked.contains(&key) => {
                self.add_recorded(ONLY, key, number.to_string(), Some(folder));
                return None;
            }
            None if self.room_for_own() == 0 => return None,
            None => {
                let id = self.add_entry(key);
                self.store.folders.unproven.insert(id);
                id
            }
        };
        self.feeds[id.0 as usize].folder = Some(folder);
        let local = name.is_some();
        let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| number.to_string());
        self.add_member(ONLY, id, name, local);
        self.folder_known(id);
        self.recorded(ONLY, id, Ok(()));
        (!local).then_some(id)
    }

    fn folder_made(&mut self, number: u32) {
        let folders = &mut self.store.folders;
        let Some(feed) = folders.queue.pop_front() else { return };
        folders.taken.insert(number);
        folders.empty.remove(&number);
        folders.rests = false;
        self.feeds[feed.0 as usize].folder = Some(numbered::folder(number));
        self.folder_known(feed);
        self.recorded(ONLY, feed, Ok(()));
    }

    /// Opens a feed that waited for its folder.
    fn folder_known(&mut self, feed: FeedId) {
        let entry = &mut self.feeds[feed.0 as usize];
        match (&mut entry.state, &entry.folder) {
            (EntryState::Queued, _) => self.to_open.push_back(feed),
            (EntryState::Open(open), Some(folder)) => open.set_folder(folder.clone()),
            _ => {}
        }
    }

    /// The storage failed: the command of a writer is answered, and folders are tried again later.
    fn folders_failed(&mut self, made: Option<u32>, error: NodeError) {
        let multi = &self.multifeeds[ONLY.0 as usize];
        if multi.state == State::Loading {
            return self.loaded(ONLY, Err(error));
        }
        if let Some(feed) = self.store.folders.queue.front().copied() {
            self.recorded(ONLY, feed, Err(error.clone()));
            self.retry_folder(feed);
            // They wait for its folder, which may never be made.
            for pending in core::mem::take(&mut self.feeds[feed.0 as usize].pending) {
                self.fail_pending(pending, error.clone());
            }
            // It may have got its number all the same.
            self.store.folders.found.extend(made);
        }
        self.event(Event::StorageFailed { multifeed: ONLY, error });
    }

    /// Whether a feed is not offered, because nothing proves yet that its key is right.
    pub(super) fn is_unproven(&self, id: FeedId) -> bool {
        self.store.folders.unproven.contains(&id)
    }

    /// Opens the feeds of which that has to be found out.
    pub(super) fn prove_keys(&mut self) {
        for id in self.store.folders.unproven.clone() {
            if matches!(self.feeds[id.0 as usize].state, EntryState::Listed) {
                self.ensure_open(id);
            }
        }
    }

    /// Whether feeds are being opened to find that out.
    pub(super) fn is_proving_keys(&self) -> bool {
        let under_way = |id: &FeedId| {
            matches!(self.feeds[id.0 as usize].state, EntryState::Queued | EntryState::Opening(_))
        };
        self.store.folders.unproven.iter().any(under_way)
    }

    /// A feed is open, so its key is right: it is offered from here on.
    pub(super) fn key_proven(&mut self, id: FeedId) {
        if self.store.folders.unproven.remove(&id) {
            self.offer_all(ONLY, &[id]);
        }
    }
}

/// What a folder holds, from the answers to what was asked of its files.
fn contents(answers: &[Result<Answer, StorageError>]) -> Result<Contents, StorageError> {
    let (mut unreadable, mut written) = (false, false);
    let mut read: [&[u8]; READ.len()] = [&[]; READ.len()];
    for (at, answer) in answers.iter().enumerate() {
        match answer {
            Ok(Answer::Bytes(bytes)) if at < READ.len() => read[at] = bytes,
            Ok(Answer::Length(length)) => written |= *length > sleep::HEADER_BYTES as u64,
            Ok(_) => {}
            Err(error) if error.is_of_file() => unreadable = true,
            Err(error) => return Err(error.clone()),
        }
    }
    let [key, name, secret] = read;
    let is_writer = !secret.is_empty();
    let name = (!name.is_empty()).then(|| numbered::decode_name(name));
    // The JavaScript, too, takes the first bytes and looks at no more.
    let in_file = key.first_chunk().map(|key| FeedKey(*key)).filter(|key| !key.is_weak());
    let secret = secret.first_chunk().and_then(SecretKey::from_libsodium);
    let damaged = |problem| Contents::Damaged { problem, name: name.clone(), is_writer };
    Ok(match in_file.or_else(|| secret.as_ref().map(SecretKey::public)) {
        _ if unreadable => damaged("a file in it cannot be read"),
        Some(key) => {
            let nameless = name.is_none() && secret.is_some_and(|secret| secret.public() == key);
            // What the JavaScript calls a writer without a name.
            let name = name.or_else(|| nameless.then(String::new));
            Contents::Feed { key, name, nameless, seen: written }
        }
        None if key.is_empty() && !is_writer && name.is_none() && !written => Contents::Empty,
        None => damaged("its key is missing or damaged"),
    })
}
