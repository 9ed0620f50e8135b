//! Which blocks of a feed this node wants, and who waits for them.
//!
//! A feed that is not sparse wants every block. A sparse one wants those that somebody waits for
//! ([`Node::wait`]), asked to be kept ([`Node::download`]) or looks for ([`Node::seek`]), and its length
//! ([`Node::update`]). What somebody waits for goes before the rest.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use multifeed_proto::Now;
use multifeed_proto::session::Peer;

use super::hashes::Seek;
use super::link::Channel;
use super::policy::Fetch;
use super::{CommandId, FeedId, Node, NodeError, Outcome, Pending, ReadJob};
use crate::feed::Feed;
use crate::ranges::Ranges;

/// Which blocks of a feed are to be downloaded, and who waits for what.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// Only what is asked for is fetched. `None`: as the node's configuration says.
    pub(super) sparse: Option<bool>,
    /// Commands that wait for a block to be stored.
    pub(super) waiters: BTreeMap<u64, Vec<CommandId>>,
    /// Ranges to be downloaded; the blocks below the start are here.
    selections: BTreeMap<CommandId, Range<u64>>,
    /// All blocks in `selections`, and maybe some that are here.
    selected: Ranges,
    /// Blocks that were found damaged here.
    pub(super) lost: Ranges,
    /// Commands that wait for the log to have this length.
    pub(super) updates: BTreeMap<CommandId, u64>,
    pub(super) seeks: BTreeMap<CommandId, Seek>,
}

/// What one command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// A log of this many blocks.
    Length(u64),
    /// A block.
    Block(u64),
}

/// What is fetched of a feed from one peer without being asked for.
pub(super) struct Scope<'a> {
    fetch: &'a Fetch,
    /// Blocks in the log, as far as that is known or the peer says.
    length: u64,
}

impl<'a> Scope<'a> {
    pub(super) fn new(state: &'a Channel, feed: &Feed, peer: &Peer) -> Self {
        Self { fetch: &state.fetch, length: feed.length().max(peer.remote_length()) }
    }

    /// The first block from `at` on that is fetched and was not cleared.
    fn next(&self, feed: &Feed, mut at: u64) -> Option<u64> {
        loop {
            let block = self.fetch.next(at, self.length)?;
            at = feed.cleared.next_gap(block);
            if at == block {
                return Some(block);
            }
        }
    }
}

impl Wishes {
    /// The first block from `at` on that is wanted, held or not.
    pub(super) fn next(&self, feed: &Feed, at: u64, scope: &Scope<'_>) -> Option<u64> {
        let automatic = if self.sparse == Some(true) { None } else { scope.next(feed, at) };
        let selected = self.selected.next_in(at);
        let waited = self.waiters.range(at..).next().map(|(block, _)| *block);
        let lost = self.lost.next_in(at);
        [automatic, selected, waited, lost].into_iter().flatten().min()
    }

    /// The first blocks in a row in `range` that are wanted, held or not; maybe not all of the row.
    pub(super) fn run_in(
        &self,
        feed: &Feed,
        range: Range<u64>,
        scope: &Scope<'_>,
    ) -> Option<Range<u64>> {
        let start = self.next(feed, range.start, scope).filter(|start| *start < range.end)?;
        let mut end = start + 1;
        if self.sparse != Some(true) && scope.next(feed, start) == Some(start) {
            let cleared = feed.cleared.next_in(start).unwrap_or(u64::MAX);
            end = cleared.min(scope.fetch.end(start));
        }
        if self.selected.contains(start) {
            end = end.max(self.selected.next_gap(start));
        }
        if self.lost.contains(start) {
            end = end.max(self.lost.next_gap(start));
        }
        Some(start..end.min(range.end))
    }

    /// Whether somebody waits for something that is to be asked for before the rest.
    pub(super) fn is_urgent(&self) -> bool {
        !self.waiters.is_empty() || !self.updates.is_empty() || !self.seeks.is_empty()
    }

    /// Whether anybody waits for anything of the feed.
    pub(super) fn is_waited_for(&self) -> bool {
        self.is_urgent() || !self.selections.is_empty()
    }

    /// What each `wait` and `update` waits for.
    pub(super) fn waits(&self) -> impl Iterator<Item = (CommandId, Wish)> + '_ {
        let updates = self.updates.iter();
        let lengths = updates.map(|(command, length)| (*command, Wish::Length(*length)));
        let blocks = self.waiters.iter().flat_map(|(index, commands)| {
            commands.iter().map(|command| (*command, Wish::Block(*index)))
        });
        lengths.chain(blocks)
    }

    /// Takes one command back; whether it waited here.
    fn remove(&mut self, command: CommandId) -> bool {
        let mut found = false;
        self.waiters.retain(|_, commands| {
            found |= commands.contains(&command);
            commands.retain(|waiting| *waiting != command);
            !commands.is_empty()
        });
        if self.selections.remove(&command).is_some() {
            found = true;
            self.reselect();
        }
        found |= self.updates.remove(&command).is_some();
        found | self.seeks.remove(&command).is_some()
    }

    /// All commands that wait.
    pub(super) fn take_commands(&mut self) -> Vec<CommandId> {
        self.selected = Ranges::default();
        let mut commands: Vec<CommandId> =
            core::mem::take(&mut self.waiters).into_values().flatten().collect();
        commands.extend(core::mem::take(&mut self.selections).into_keys());
        commands.extend(core::mem::take(&mut self.updates).into_keys());
        commands.extend(core::mem::take(&mut self.seeks).into_keys());
        commands
    }

    fn reselect(&mut self) {
        self.selected = Ranges::default();
        for range in self.selections.values() {
            self.selected.insert(range.clone());
        }
    }

    /// The downloads that are complete, now that blocks of `stored` are.
    fn complete(&mut self, feed: &Feed, stored: &Range<u64>) -> Vec<CommandId> {
        let mut done = Vec::new();
        for (command, left) in &mut self.selections {
            if stored.start <= left.start && left.start < stored.end {
                let missing = feed.bits.first_missing_block(left.clone()).unwrap_or(left.end);
                let unstored = feed.unstored.next_in(left.start).unwrap_or(u64::MAX);
                left.start = missing.min(unstored);
                if left.start >= left.end {
                    done.push(*command);
                }
            }
        }
        for command in &done {
            self.selections.remove(command);
        }
        if !done.is_empty() {
            self.reselect();
        }
        done
    }
}

impl Node {
    /// Has only those blocks of a feed fetched that somebody asks for (`true`), or all of them.
    /// Not remembered in the store, as the option of the JavaScript is not; see
    /// [`NodeConfig::sparse`](crate::NodeConfig::sparse).
    pub fn set_sparse(&mut self, now: Now, feed: FeedId, sparse: bool) {
        self.advance(now);
        let Some(entry) =
            self.feeds.get_mut(feed.0 as usize).filter(|entry| entry.list_of.is_none())
        else {
            return;
        };
        entry.wishes.sparse = Some(sparse);
        self.wishes_changed(feed);
    }

    /// Fetches the blocks of a range, whatever else is fetched of the feed, and keeps it up while the log
    /// grows. Answered with [`Outcome::Downloaded`] when all of them are stored; that of an open range is
    /// never. Ends by [`Node::cancel`].
    pub fn download(&mut self, now: Now, feed: FeedId, blocks: Range<u64>) -> CommandId {
        let command = self.command(now);
        self.command_on(feed, Pending::Download(command, blocks));
        command
    }

    /// Waits until the log is known to have `length` blocks or, with `None`, one more than now, and asks
    /// peers for the proof of it, not for the blocks. Answered with [`Outcome::Updated`]; ends by
    /// [`Node::cancel`].
    pub fn update(&mut self, now: Now, feed: FeedId, length: Option<u64>) -> CommandId {
        let command = self.command(now);
        self.command_on(feed, Pending::Update(command, length));
        command
    }

    pub(super) fn run_download(&mut self, id: FeedId, command: CommandId, blocks: Range<u64>) {
        let entry = &mut self.feeds[id.0 as usize];
        if blocks.is_empty() {
            return self.complete(command, Ok(Outcome::Downloaded));
        }
        let start = blocks.start;
        entry.wishes.selections.insert(command, blocks.clone());
        entry.wishes.selected.insert(blocks);
        self.blocks_stored(id, &(start..start + 1));
        self.wishes_changed(id);
        self.refuse_wait(command);
    }

    pub(super) fn run_update(&mut self, id: FeedId, command: CommandId, length: Option<u64>) {
        let entry = &mut self.feeds[id.0 as usize];
        let known = entry.feed().map_or(0, Feed::length);
        let length = length.unwrap_or(known + 1);
        if known >= length {
            return self.complete(command, Ok(Outcome::Updated { length: known }));
        }
        entry.wishes.updates.insert(command, length);
        self.wishes_changed(id);
        self.refuse_wait(command);
    }

    /// Blocks are stored: who waits for these ranges, or for the length, is answered.
    pub(super) fn blocks_stored(&mut self, id: FeedId, stored: &Range<u64>) {
        let entry = &mut self.feeds[id.0 as usize];
        let super::EntryState::Open(feed) = &entry.state else { return };
        for command in entry.wishes.complete(feed, stored) {
            self.complete(command, Ok(Outcome::Downloaded));
        }
    }

    /// A feed was opened: its files may hold what somebody waits for, written by an operation that failed.
    pub(super) fn blocks_found(&mut self, id: FeedId) {
        let wishes = &mut self.feeds[id.0 as usize].wishes;
        for (block, commands) in core::mem::take(&mut wishes.waiters) {
            for command in commands {
                self.run_read(ReadJob::wait(command, id, block));
            }
        }
        self.blocks_stored(id, &(0..u64::MAX));
        self.length_stored(id);
        self.hashes_came(id);
    }

    /// The log got longer, and that is stored.
    pub(super) fn length_stored(&mut self, id: FeedId) {
        let entry = &mut self.feeds[id.0 as usize];
        let Some(length) = entry.feed().map(Feed::length) else { return };
        let due: Vec<CommandId> = entry
            .wishes
            .updates
            .iter()
            .filter(|(_, wanted)| **wanted <= length)
            .map(|(command, _)| *command)
            .collect();
        for command in due {
            self.feeds[id.0 as usize].wishes.updates.remove(&command);
            self.complete(command, Ok(Outcome::Updated { length }));
        }
    }

    /// Something else is wanted than before: every peer of the feed may be asked for it.
    pub(super) fn wishes_changed(&mut self, id: FeedId) {
        self.rewind_others(id);
        self.offers_changed(id);
        for (connection, channel) in self.feeds[id.0 as usize].channels.clone() {
            self.touch_channel(connection, channel);
        }
    }

    /// Ends a command that waits for something from peers.
    pub(super) fn end_wait(&mut self, command: CommandId, error: NodeError) {
        let found = self.feeds.iter_mut().find_map(|(id, entry)| {
            let pending = entry.pending.iter().position(|pending| pending.waits_as(command));
            if let Some(place) = pending {
                entry.pending.remove(place);
                return Some(id);
            }
            entry.wishes.remove(command).then_some(id)
        });
        if let Some(id) = found {
            self.complete(command, Err(error));
            self.wishes_changed(id);
        }
    }
}
