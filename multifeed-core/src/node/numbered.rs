//! The record of a multifeed in the layout of multifeed 6: folders `0`, `1`, … in the order of its feeds.
//!
//! A folder counts once it has a `key`, and reading ends at the first that has none. So folders are
//! made one after another, each elsewhere first and then given its number: whatever happens in
//! between, the JavaScript finds all of it or nothing. See `format::numbered`.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::FeedKey;

use super::entry::EntryState;
use super::unseen::{is_seen, look};
use super::{Durability, Event, FeedId, MultifeedId, Node, NodeError, Task, multifeed::State};
use crate::crypto::SecretKey;
use crate::format::{numbered, sleep};
use crate::storage::{Answer, FilePath, Op, SecretBytes, StorageError};

/// Folders that are read at once.
const READ_FOLDERS: u32 = 64;
/// The multifeed of such a store: there is one.
const ONLY: MultifeedId = MultifeedId(0);

/// The folders of a store.
#[derive(Debug, Default)]
pub(super) struct Folders {
    /// Folders that are there and were not read.
    found: BTreeSet<u32>,
    /// The number of the next feed.
    next: u32,
    /// The folder `next` is there and holds no feed.
    spoilt: bool,
    /// There may be rests of a folder that got no number.
    rests: bool,
    /// Feeds without a folder, in order.
    queue: VecDeque<FeedId>,
    /// Something is under way.
    busy: bool,
}

/// What was asked of the storage.
#[derive(Clone, Copy, Debug)]
pub(super) enum FolderStep {
    /// So many folders are read.
    Read(u32),
    /// The next folder is made.
    Made,
}

impl Folders {
    /// Takes the names at the root of the store.
    pub(super) fn found(&mut self, names: &[String]) {
        self.found = names.iter().filter_map(|name| numbered::parse_folder(name)).collect();
        self.rests = names.iter().any(|name| name == numbered::UNNUMBERED);
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
        let next = folders.next;
        if folders.found.contains(&next) {
            let there = (next..).take_while(|number| folders.found.contains(number));
            let count = there.take(READ_FOLDERS as usize).count() as u32;
            let mut ops = Vec::with_capacity(count as usize * 2);
            let mut files = Vec::with_capacity(count as usize * 2);
            for number in next..next + count {
                let folder = numbered::folder(number);
                let key = folder.join(sleep::KEY);
                let name = folder.join(numbered::LOCAL_NAME);
                files.extend([key.clone(), name.clone()]);
                ops.push(Op::Read { path: key, offset: 0, len: 33 });
                ops.push(Op::Read { path: name, offset: 0, len: numbered::MAX_NAME + 1 });
                ops.extend(look(&folder));
            }
            folders.busy = true;
            // What is read may be what was made when its sync failed, or by a process that was killed
            // before.
            let unsure = self.config.durability == Durability::Power;
            let after = unsure.then(|| {
                let sync = files.into_iter().map(|path| Op::Sync { path }).collect();
                self.submit(None, sync, Task::Nothing)
            });
            self.submit(after, ops, Task::Folders(FolderStep::Read(count)));
        } else if !folders.queue.is_empty() {
            folders.busy = true;
            self.make_folder();
        } else if self.multifeeds.first().is_some_and(|multi| multi.state == State::Loading) {
            self.loaded(ONLY, Ok(()));
        }
    }

    /// Makes the next folder and gives it its number.
    fn make_folder(&mut self) {
        let Some(feed) = self.store.folders.queue.front().copied() else { return };
        let number = self.store.folders.next;
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
        if self.store.folders.spoilt {
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
            let task = if made { Task::Folders(FolderStep::Made) } else { Task::Nothing };
            after = Some(self.submit(after, ops, task));
        }
    }

    pub(super) fn folders_answered(
        &mut self,
        step: FolderStep,
        mut answers: Vec<Result<Answer, StorageError>>,
    ) {
        self.store.folders.busy = false;
        let seen: Vec<bool> = match step {
            FolderStep::Read(count) => {
                let each = answers.len() / (count as usize).max(1);
                answers
                    .chunks(each.max(1))
                    .map(|folder| is_seen(folder.get(2..).unwrap_or(&[])))
                    .collect()
            }
            FolderStep::Made => Vec::new(),
        };
        if let FolderStep::Read(count) = step {
            let each = answers.len() / (count as usize).max(1);
            answers = answers
                .chunks(each.max(1))
                .flat_map(|folder| folder[..2.min(folder.len())].to_vec())
                .collect();
        }
        let result = answers.into_iter().collect::<Result<Vec<_>, _>>().map_err(NodeError::from);
        let result = match (step, result) {
            (_, Err(error)) => Err(error),
            (FolderStep::Read(count), Ok(answers)) => self.folders_read(count, &answers, &seen),
            (FolderStep::Made, Ok(_)) => {
                self.folder_made();
                Ok(())
            }
        };
        match result {
            Ok(()) => self.pump_folders(),
            Err(error) => self.folders_failed(error),
        }
    }

    fn folders_read(
        &mut self,
        count: u32,
        answers: &[Answer],
        seen: &[bool],
    ) -> Result<(), NodeError> {
        let mut added = Vec::new();
        for (pair, seen) in answers.chunks_exact(2).zip(seen).take(count as usize) {
            let number = self.store.folders.next;
            let key = pair[0].bytes().map_or(&[][..], |key| key);
            let name = pair[1].bytes().map(|name| numbered::decode_name(name));
            let Some(key) = key.get(..32).and_then(|key| <[u8; 32]>::try_from(key).ok()) else {
                // The JavaScript takes four bytes for a key, and then makes another one.
                if key.len() >= 4 {
                    let problem = "a numbered folder has one shorter than 32 bytes; restore it from a copy, or move the folder away";
                    return Err(NodeError::Store { file: sleep::KEY, problem });
                }
                self.store.folders.found.remove(&number);
                self.store.folders.spoilt = true;
                break;
            };
            self.store.folders.found.remove(&number);
            self.store.folders.next += 1;
            let key = FeedKey(key);
            let known = self.by_key.get(&key).copied();
            if known.is_some_and(|id| self.feeds[id.0 as usize].folder.is_some()) {
                continue;
            }
            let id = match known {
                Some(id) => id,
                None if !seen && name.is_none() && !self.store.blocked.contains(&key) => {
                    let folder = Some(numbered::folder(number));
                    self.add_recorded(ONLY, key, number.to_string(), folder);
                    continue;
                }
                None if self.room_for_own() == 0 => continue,
                None => self.add_entry(key),
            };
            self.feeds[id.0 as usize].folder = Some(numbered::folder(number));
            let local = name.is_some();
            let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| number.to_string());
            self.add_member(ONLY, id, name, local);
            if !local {
                added.push(id);
            }
            self.folder_known(id);
            self.recorded(ONLY, id, Ok(()));
        }
        // Behind a gap that was filled since, there may be feeds that nobody has heard of.
        if self.multi(ONLY).is_some() {
            self.feeds_added(ONLY, &added);
        }
        self.store.folders.queue.retain(|feed| self.feeds[feed.0 as usize].folder.is_none());
        Ok(())
    }

    fn folder_made(&mut self) {
        let folders = &mut self.store.folders;
        let Some(feed) = folders.queue.pop_front() else { return };
        let number = folders.next;
        folders.next += 1;
        folders.spoilt = false;
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
    fn folders_failed(&mut self, error: NodeError) {
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
            self.store.folders.found.insert(self.store.folders.next);
        }
        self.event(Event::StorageFailed { multifeed: ONLY, error });
    }
}
