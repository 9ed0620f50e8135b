//! Feeds that are kept out of the store for good: their blocks are removed, and they are neither offered
//! nor accepted, also after a restart.
//!
//! What records that a feed is in a multifeed stays, so that the JavaScript finds the others: a line of
//! a feed list cannot be taken back, and behind a numbered folder that is missing `multifeed` 6 reads no
//! more. A local writer leaves behind how long its log was: it must never sign other blocks in their places.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::{FeedKey, Now};

use super::{
    CommandId, Durability, EntryState, Event, FeedId, Layout, MultifeedId, Node, NodeError,
    Outcome, Pending, Task,
};
use crate::format::{blocked, corestore, sleep};
use crate::storage::{Answer, BatchId, FilePath, Op, SecretBytes, StorageError};
use crate::tree::MAX_LENGTH;

/// The feeds that are kept out, as far as that is written or on its way.
#[derive(Debug, Default)]
pub(super) struct Blocked {
    keys: BTreeSet<FeedKey>,
    last_batch: Option<BatchId>,
}

/// What was written.
#[derive(Debug)]
pub(super) enum BlockStep {
    /// That the feed is kept out.
    Recorded(CommandId, FeedKey),
    /// That it is not any more.
    Forgotten(CommandId, FeedKey),
    /// Its files are removed.
    Removed(CommandId),
}

impl Blocked {
    /// Takes what the file holds.
    pub(super) fn read(answer: &Answer) -> Option<Self> {
        let file = answer.bytes().map_or(&[][..], |file| file);
        Some(Self { keys: blocked::decode(file)?, last_batch: None })
    }

    pub(super) fn contains(&self, key: &FeedKey) -> bool {
        self.keys.contains(key)
    }
}

impl Node {
    /// Keeps a feed out of this store from here on: its blocks are removed if it is here, and it is neither
    /// offered to peers nor accepted from them, in any multifeed, also after a restart. Answered with
    /// [`Outcome::Blocked`] when its disk space is free; called again after an error, it tries again.
    ///
    /// Where it is a local writer, the blocks that no peer has are gone for good, and so is a key pair that
    /// does not follow from a name. JavaScript programs do not know of this: one that opens the same
    /// directory finds the feed without blocks, and may fetch it again.
    pub fn block(&mut self, now: Now, key: FeedKey) -> CommandId {
        let command = self.command(now);
        if let Err(error) = self.check_blockable(&key) {
            self.complete(command, Err(error));
            return command;
        }
        self.store.blocked.keys.insert(key);
        self.write_blocked(BlockStep::Recorded(command, key));
        command
    }

    /// Takes a [`Node::block`] back: the feed is in its multifeeds again, without blocks, and is fetched
    /// from peers that connect from now on. Answered with [`Outcome::Unblocked`].
    ///
    /// A local writer can be appended to again when peers have sent all its blocks back.
    pub fn unblock(&mut self, now: Now, key: FeedKey) -> CommandId {
        let command = self.command(now);
        if !self.store.is_ready() || self.closing.is_some() {
            self.complete(command, Err(NodeError::Closed));
        } else if let Err(error) = self.check_writable() {
            self.complete(command, Err(error));
        } else if self.store.blocked.keys.remove(&key) {
            self.write_blocked(BlockStep::Forgotten(command, key));
        } else {
            self.complete(command, Ok(Outcome::Unblocked));
        }
        command
    }

    /// The feeds that are kept out of the store.
    pub fn blocked(&self) -> impl Iterator<Item = &FeedKey> {
        self.store.blocked.keys.iter()
    }

    fn check_blockable(&self, key: &FeedKey) -> Result<(), NodeError> {
        self.check_writable()?;
        if !self.store.is_ready() || self.closing.is_some() {
            return Err(NodeError::Closed);
        }
        let known = self.by_key.get(key).map(|id| &self.feeds[id.0 as usize]);
        if known.is_some_and(|entry| entry.list_of.is_some()) {
            return Err(NodeError::UnknownFeed);
        }
        let keys = &self.store.blocked.keys;
        if keys.len() >= blocked::MAX_BLOCKED && !keys.contains(key) {
            return Err(NodeError::TooManyFeeds { max: blocked::MAX_BLOCKED });
        }
        Ok(())
    }

    /// Writes the list anew, each after the one before.
    fn write_blocked(&mut self, step: BlockStep) {
        let data = blocked::encode(&self.store.blocked.keys);
        let path = FilePath::new(&[blocked::FILE]);
        let op = Op::CreateSecret { path, data: SecretBytes::from(data.as_bytes()) };
        let after = self.store.blocked.last_batch.filter(|last| self.tasks.contains_key(last));
        let batch = self.submit(after, Vec::from([op]), Task::Block(step));
        self.store.blocked.last_batch = Some(batch);
    }

    pub(super) fn block_answered(
        &mut self,
        step: BlockStep,
        answers: Vec<Result<Answer, StorageError>>,
    ) {
        let error = answers.into_iter().find_map(Result::err).map(NodeError::from);
        match (step, error) {
            (BlockStep::Recorded(command, key), None) => match self.by_key.get(&key) {
                Some(id) => self.when_open(*id, Pending::Block(*id, command)),
                None => self.complete(command, Ok(Outcome::Blocked)),
            },
            (BlockStep::Recorded(command, key), Some(error)) => {
                self.store.blocked.keys.remove(&key);
                self.complete(command, Err(error));
            }
            (BlockStep::Forgotten(command, key), None) => {
                self.readmit(&key);
                self.complete(command, Ok(Outcome::Unblocked));
            }
            (BlockStep::Forgotten(command, key), Some(error)) => {
                self.store.blocked.keys.insert(key);
                self.complete(command, Err(error));
            }
            (BlockStep::Removed(command), None) => self.complete(command, Ok(Outcome::Blocked)),
            (BlockStep::Removed(command), Some(error)) => self.complete(command, Err(error)),
        }
    }

    /// Gives a feed up and removes its files. It is open, or cannot be opened.
    pub(super) fn run_block(&mut self, id: FeedId, command: CommandId) {
        let entry = &self.feeds[id.0 as usize];
        let (after, sealed) = match entry.feed() {
            Some(feed) if feed.has_secret() => {
                (feed.last_batch(), feed.length().max(feed.sealed_until()))
            }
            Some(feed) => (feed.last_batch(), 0),
            // Nobody knows what was signed.
            None => (None, MAX_LENGTH),
        };
        let after = after.or_else(|| self.before_feed(id));
        let error = NodeError::Blocked { feed: self.feeds[id.0 as usize].short_key() };
        self.give_up(id, &error);
        self.close_channels(id);
        for command in self.feeds[id.0 as usize].wishes.take_commands() {
            self.complete(command, Err(error.clone()));
        }
        let entry = &mut self.feeds[id.0 as usize];
        if !core::mem::replace(&mut entry.blocked, true) {
            let key = entry.key;
            self.event(Event::FeedBlocked { key });
        }
        self.remove_files(id, command, after, sealed);
    }

    fn remove_files(
        &mut self,
        id: FeedId,
        command: CommandId,
        after: Option<BatchId>,
        sealed: u64,
    ) {
        let Some(folder) = self.feeds[id.0 as usize].folder.clone() else {
            return self.complete(command, Ok(Outcome::Blocked));
        };
        let mut after = after;
        if sealed > 0 {
            let path = folder.join(sleep::SEALED);
            let data = Bytes::copy_from_slice(&sealed.to_be_bytes());
            let seal = Op::Write { path: path.clone(), offset: 0, data };
            after = Some(self.submit(after, Vec::from([seal]), Task::Nothing));
            if self.config.durability == Durability::Power {
                let sync = Vec::from([Op::Sync { path }]);
                after = Some(self.submit(after, sync, Task::Nothing));
            }
        }
        let remove = |name: &str| Op::Remove { path: folder.join(name) };
        let cleared = [sleep::CLEARED, sleep::CLEARED_NEXT];
        let files = [sleep::TREE, sleep::SIGNATURES, sleep::BITFIELD].into_iter().chain(cleared);
        let ops = match self.store.layout {
            Layout::Corestore if sealed == 0 => Vec::from([Op::Remove { path: folder }]),
            Layout::Corestore => {
                let rest = [sleep::DATA, sleep::SECRET_KEY, corestore::NAME];
                files.chain(rest).map(remove).collect()
            }
            // The JavaScript reads on behind a folder with a key, and needs `data` in it.
            Layout::Numbered => {
                let empty = Op::Truncate { path: folder.join(sleep::DATA), len: 0 };
                files.chain([sleep::SECRET_KEY]).map(remove).chain([empty]).collect()
            }
        };
        self.submit(after, ops, Task::Block(BlockStep::Removed(command)));
    }

    /// A feed may be here again.
    fn readmit(&mut self, key: &FeedKey) {
        let Some(id) = self.by_key.get(key).copied() else { return };
        let entry = &mut self.feeds[id.0 as usize];
        if !core::mem::replace(&mut entry.blocked, false) {
            return;
        }
        entry.state = EntryState::Listed;
        let places: Vec<MultifeedId> = entry.places.iter().map(|(of, _)| *of).collect();
        for multifeed in places {
            self.feeds_added(multifeed, &[id]);
        }
    }
}
