//! A store that is only read: nothing is written, made, locked or synced, nothing is fetched from peers, and it works
//! without the master key.
//!
//! Such a store may change under our feet: another process may write to it, a snapshot may be replaced. Lengths are
//! proven by signatures and blocks by the tree, as always: what does not fit any more is an error, and what is shown
//! may be a moment old.
//!
//! Without the master key nobody can say which feed is the list of a multifeed; its `name` file does. Where that is
//! missing too, the multifeed has all feeds that are not known to be of another one.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::list::LIST_CHUNK;
use super::{CommandId, FeedId, MultifeedId, Node, NodeError, Pending, ReadJob, Task};
use crate::check::Unlisted;
use crate::storage::{Answer, StorageError};

impl Node {
    /// Whether the store is only read: [`StoreOptions::read_only`](crate::StoreOptions::read_only).
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.store.is_read_only()
    }

    /// The process that had a store open which is only read, when it was opened here; its number, 0 if that is not
    /// known. What is shown may be a moment old then.
    #[must_use]
    pub fn held_by(&self) -> Option<u32> {
        self.store.held_by
    }

    /// Refuses what would change the store.
    pub(super) fn check_writable(&self) -> Result<(), NodeError> {
        if self.is_read_only() { Err(NodeError::ReadOnly) } else { Ok(()) }
    }

    /// Ends a command that waits for something from peers, where nothing is fetched.
    pub(super) fn refuse_wait(&mut self, command: CommandId) {
        if self.is_read_only() {
            self.end_wait(command, NodeError::ReadOnly);
        }
    }

    /// Looks for the feeds of a multifeed in their folders.
    pub(super) fn find_feeds(&mut self, multifeed: MultifeedId) {
        let (unlisted, ops) = Unlisted::new();
        self.multifeeds[multifeed.0 as usize].unlisted = Some(Box::new(unlisted));
        self.submit(None, ops, Task::Find(multifeed));
    }

    pub(super) fn find_answered(
        &mut self,
        multifeed: MultifeedId,
        answers: Vec<Result<Answer, StorageError>>,
    ) {
        let multi = &mut self.multifeeds[multifeed.0 as usize];
        let Some(unlisted) = &mut multi.unlisted else { return };
        let list = match unlisted.answered(answers) {
            Ok(Some(ops)) => {
                self.submit(None, ops, Task::Find(multifeed));
                return;
            }
            Ok(None) => unlisted.list(&multi.root),
            Err(error) => return self.loaded(multifeed, Err(error.into())),
        };
        let Some(key) = list else {
            self.take_unlisted(multifeed);
            return;
        };
        let id = match self.by_key.get(&key) {
            Some(id) => *id,
            None => self.add_entry(key),
        };
        self.read_list(multifeed, id);
    }

    /// Reads the list of a multifeed from the beginning.
    pub(super) fn read_list(&mut self, multifeed: MultifeedId, list: FeedId) {
        self.feeds[list.0 as usize].list_of = Some(multifeed);
        self.multifeeds[multifeed.0 as usize].list = Some(list);
        self.when_open(list, Pending::Read(ReadJob::list(list, 0, LIST_CHUNK)));
    }

    /// Takes what the folders hold for the feeds of a multifeed whose list is not known, or cannot be read. `false`:
    /// they were not looked at.
    pub(super) fn take_unlisted(&mut self, multifeed: MultifeedId) -> bool {
        let multi = &mut self.multifeeds[multifeed.0 as usize];
        let Some(unlisted) = multi.unlisted.take() else { return false };
        for (key, name) in unlisted.feeds(&multi.root) {
            let id = match self.by_key.get(&key) {
                Some(id) => *id,
                None if self.room() > 0 => self.add_entry(key),
                None => continue,
            };
            self.add_member(multifeed, id, name, false);
            self.recorded(multifeed, id, Ok(()));
        }
        self.loaded(multifeed, Ok(()));
        true
    }
}
