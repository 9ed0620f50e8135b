//! The record of a multifeed in the layout of corestore: a feed with a line for each member.
//!
//! It is never offered to anybody. See `format::list`.

use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::FeedKey;

use super::multifeed::State;
use super::unseen::{is_seen, look};
use super::{CommandId, FeedId, MultifeedId, Node, NodeError, Pending, ReadJob, Task};
use crate::crypto::SecretKey;
use crate::format::{corestore, list, sleep};
use crate::storage::{Answer, BatchId, Op, SecretBytes, StorageError};

/// Bytes of the feed list that are read at once.
pub(super) const LIST_CHUNK: usize = 1024 * 1024;

impl Node {
    pub(super) fn load_list(&mut self, multifeed: MultifeedId) {
        let root = &self.multifeeds[multifeed.0 as usize].root;
        let Some(secret) = self.store.derive(&corestore::list_name(root)) else {
            // Without a master key a store is only read.
            return self.find_feeds(multifeed);
        };
        let key = secret.public();
        let id = match self.by_key.get(&key) {
            Some(id) => *id,
            None => self.add_entry(key),
        };
        self.read_list(multifeed, id);
    }

    /// Takes some blocks of a feed list; none of them: the end.
    pub(super) fn list_read(
        &mut self,
        list: FeedId,
        start: u64,
        blocks: Result<Vec<Bytes>, NodeError>,
    ) {
        let Some(multifeed) = self.feeds[list.0 as usize].list_of else { return };
        let blocks = match blocks {
            Ok(blocks) => blocks,
            Err(_) if self.take_unlisted(multifeed) => return,
            // What it told of is in the folders.
            Err(_) if self.is_read_only() => return self.find_feeds(multifeed),
            Err(error) => {
                // Lines may have to be written that are not in it.
                if self.multi(multifeed).is_some() {
                    self.retry_later(list);
                }
                return self.loaded(multifeed, Err(of_list(error)));
            }
        };
        if start == 0 && self.lacks_lines(list) {
            // The folders tell more.
            if !self.take_unlisted(multifeed) {
                self.find_feeds(multifeed);
            }
            return;
        }
        // A line that is no entry is left where it is, like in the JavaScript.
        let lines = blocks.iter().filter_map(|block| list::decode(block));
        let lines: Vec<list::Entry> = lines.filter(|line| !line.key.is_weak()).collect();
        let next = start + (blocks.len() as u64).max(1);
        // Whoever fills a list with keys that nobody has anything of is to fill nothing else.
        let ops = lines.iter().flat_map(|line| look(&corestore::folder(&line.key.discovery_key())));
        let ops: Vec<Op> = ops.collect();
        if ops.is_empty() {
            return self.lines_looked_at(list, next, lines, &[]);
        }
        self.submit(None, ops, Task::Lines(list, next, lines));
    }

    /// Whether blocks of a list are not here, of a store that is only read.
    fn lacks_lines(&self, list: FeedId) -> bool {
        let feed = self.feeds[list.0 as usize].feed().filter(|_| self.is_read_only());
        feed.is_some_and(|feed| feed.bits.blocks() < feed.length())
    }

    /// It is known of which feeds of some lines there is anything.
    pub(super) fn lines_looked_at(
        &mut self,
        list: FeedId,
        next: u64,
        lines: Vec<list::Entry>,
        answers: &[Result<Answer, StorageError>],
    ) {
        let Some(multifeed) = self.feeds[list.0 as usize].list_of else { return };
        let each = answers.len() / lines.len().max(1);
        for (line, answers) in lines.into_iter().zip(answers.chunks(each.max(1))) {
            let id = match self.by_key.get(&line.key) {
                Some(id) if self.feeds[id.0 as usize].list_of.is_some() => continue,
                Some(id) => *id,
                None if !is_seen(answers) && !self.store.blocked.contains(&line.key) => {
                    self.add_recorded(multifeed, line.key, line.name, None);
                    continue;
                }
                None if self.room_for_own() > 0 => self.add_entry(line.key),
                None => continue,
            };
            self.add_member(multifeed, id, line.name, false);
            self.recorded(multifeed, id, Ok(()));
        }
        let length = self.feeds[list.0 as usize].feed().map_or(0, crate::feed::Feed::length);
        if next < length {
            self.when_open(list, Pending::Read(ReadJob::list(list, next, LIST_CHUNK)));
            return;
        }
        self.list_known(multifeed, length);
        self.relist(multifeed);
    }

    /// Writes the lines of feeds that are not in the list, after its storage had failed.
    fn relist(&mut self, multifeed: MultifeedId) {
        let members = self.multifeeds[multifeed.0 as usize].members.iter();
        let missing: Vec<FeedId> = members
            .filter(|member| !member.recorded && self.feeds[member.feed.0 as usize].seen)
            .map(|member| member.feed)
            .collect();
        self.list_feeds(multifeed, &missing);
    }

    /// Appends the lines of feeds to the list, unless they are on their way.
    pub(super) fn list_feeds(&mut self, multifeed: MultifeedId, ids: &[FeedId]) {
        let Some(list) = self.multifeeds[multifeed.0 as usize].list else { return };
        let (mut lines, mut listed) = (Vec::with_capacity(ids.len()), Vec::new());
        for id in ids {
            let key = self.feeds[id.0 as usize].key;
            let Some(member) = self.member_mut(multifeed, *id) else { continue };
            if core::mem::replace(&mut member.listing, true) {
                continue;
            }
            listed.push(*id);
            let name = member.name.clone();
            let (local, secret) = (member.local, member.secret.clone());
            match secret {
                Some(secret) => self.write_secret(multifeed, *id, &secret),
                None if local => {
                    let root = &self.multifeeds[multifeed.0 as usize].root;
                    let derived = corestore::writer_name(root, &name);
                    self.write_list_name(multifeed, &key, &derived);
                }
                None => {}
            }
            lines.push(Bytes::from(list::encode(&list::Entry { key, name })));
        }
        if lines.is_empty() {
            return;
        }
        let multi = &mut self.multifeeds[multifeed.0 as usize];
        if !core::mem::replace(&mut multi.list_named, true) {
            let name = corestore::list_name(&multi.root);
            let key = self.feeds[list.0 as usize].key;
            self.write_list_name(multifeed, &key, &name);
        }
        let command = self.command(self.now);
        self.store.lines.insert(command, (multifeed, listed));
        self.when_open(list, Pending::Append(command, lines));
    }

    /// Writes what makes a derived feed writable: before the list grows.
    fn write_list_name(&mut self, multifeed: MultifeedId, key: &FeedKey, name: &str) {
        let before = self.before_writer(multifeed);
        let written = self.write_name(before, key, name);
        self.multifeeds[multifeed.0 as usize].list_after = Some(written);
    }

    /// Writes the secret key of a writer that no name gives: before the list speaks of it.
    pub(super) fn write_secret(&mut self, multifeed: MultifeedId, id: FeedId, secret: &SecretKey) {
        let Some(folder) = self.feeds[id.0 as usize].folder.clone() else { return };
        let path = folder.join(sleep::SECRET_KEY);
        let data = SecretBytes::from(&secret.to_libsodium()[..]);
        let before = self.before_writer(multifeed);
        let op = Op::CreateSecret { path, data };
        let written = self.write_first(before, &folder, &secret.public(), op);
        self.multifeeds[multifeed.0 as usize].list_after = Some(written);
    }

    /// What must be over before the first file of a new writer is written.
    pub(super) fn before_writer(&self, multifeed: MultifeedId) -> Option<BatchId> {
        let after = self.multifeeds[multifeed.0 as usize].list_after;
        after.filter(|id| self.tasks.contains_key(id)).or_else(|| self.list_batch(multifeed))
    }

    /// The batch that must be over before a member writes for the first time.
    pub(super) fn list_batch(&self, multifeed: MultifeedId) -> Option<BatchId> {
        let list = self.multifeeds[multifeed.0 as usize].list?;
        self.feeds[list.0 as usize].feed()?.last_batch()
    }

    /// What must be over before the list is written.
    pub(super) fn before_list(&mut self, multifeed: MultifeedId) -> Option<BatchId> {
        let before = self.before_writer(multifeed);
        self.multifeeds[multifeed.0 as usize].list_after = None;
        before
    }

    /// The storage of a list failed: which lines are in it is known when it is read again.
    pub(super) fn list_failed(&mut self, multifeed: MultifeedId) {
        let multi = &self.multifeeds[multifeed.0 as usize];
        if multi.state != State::Ready {
            return;
        }
        if let Some(list) = multi.list {
            self.when_open(list, Pending::Read(ReadJob::list(list, 0, LIST_CHUNK)));
        }
    }

    pub(super) fn is_list(&self, id: FeedId) -> bool {
        self.feeds[id.0 as usize].list_of.is_some()
    }

    /// Lines of a list are stored, or not.
    pub(super) fn listed(&mut self, command: CommandId, result: &Result<(), NodeError>) {
        let Some((multifeed, feeds)) = self.store.lines.remove(&command) else { return };
        if result.is_err() {
            // Its name may be what could not be written.
            self.multifeeds[multifeed.0 as usize].list_named = false;
        }
        for feed in feeds {
            if let Some(member) = self.member_mut(multifeed, feed) {
                member.listing = false;
            }
            self.recorded(multifeed, feed, result.clone());
        }
    }
}

/// What is wrong with a list of feeds: nobody knows its key.
fn of_list(error: NodeError) -> NodeError {
    let NodeError::Damaged { problem, .. } = error else { return error };
    NodeError::Store { file: "the list of feeds", problem }
}
