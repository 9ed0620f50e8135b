//! Feeds on their way from files to memory, a bounded number at a time.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::{
    Durability, Event, FeedId, Node, NodeError, Outcome, Pending, Task, entry::EntryState,
};
use crate::feed::{Feed, OpenStep, Opening};
use crate::format::{corestore, numbered, sleep};
use crate::storage::{Answer, Op, StorageError};

impl Node {
    /// As [`when_open`](Self::when_open) for the application, which does not get at the lists of feeds.
    pub(super) fn command_on(&mut self, id: FeedId, pending: Pending) {
        if self.any_entry(id).is_none() {
            return self.fail_pending(pending, NodeError::UnknownFeed);
        }
        self.when_open(id, pending);
    }

    /// Does `pending` as soon as the feed is open, and opens it if it is not.
    pub(super) fn when_open(&mut self, id: FeedId, pending: Pending) {
        let Some(entry) = self.feeds.get_mut(id.0 as usize) else {
            return self.fail_pending(pending, NodeError::UnknownFeed);
        };
        if self.closing.is_some() && entry.list_of.is_none() {
            return self.fail_pending(pending, NodeError::Closed);
        }
        if entry.blocked && !matches!(pending, Pending::Block(..)) {
            let error = NodeError::Blocked { feed: entry.short_key() };
            return self.fail_pending(pending, error);
        }
        match &entry.state {
            EntryState::Open(_) => self.run_pending(id, pending),
            EntryState::Failed(error @ (NodeError::Damaged { .. } | NodeError::Blocked { .. })) => {
                let error = error.clone();
                self.fail_pending(pending, error);
            }
            EntryState::Listed
            | EntryState::Failed(_)
            | EntryState::Queued
            | EntryState::Opening(_) => {
                entry.pending.push(pending);
                self.ensure_open(id);
            }
        }
    }

    /// Opens a feed in its turn, unless it is open or on its way.
    pub(super) fn ensure_open(&mut self, id: FeedId) {
        let entry = &mut self.feeds[id.0 as usize];
        if entry.state.is_closed() {
            if entry.folder.is_none() && !entry.seen {
                // It gets its folder with its first block; there is nothing to read.
                entry.state = EntryState::Open(Feed::unwritten(entry.key));
                return self.feed_opened(id);
            }
            entry.state = EntryState::Queued;
            // Without a folder, its making queues it.
            if entry.folder.is_some() {
                // A list is also to get the lines that it lacks then.
                if entry.list_of.is_none() {
                    entry.retry_at = None;
                }
                self.to_open.push_back(id);
            }
        }
    }

    /// Starts to open feeds while there is room.
    pub(super) fn open_next(&mut self) {
        while self.opening < self.config.max_opening {
            let Some(id) = self.to_open.pop_front() else { return };
            let entry = &mut self.feeds[id.0 as usize];
            let Some(folder) = entry.folder.clone() else { continue };
            // What is read may be what a process left that was killed before it had synced, or never meant to,
            // or an operation that failed. It must last before anybody hears of it.
            let unsure = self.config.durability == Durability::Power;
            let (opening, ops) = Opening::new(entry.key, folder.clone());
            entry.state = EntryState::Opening(Some(Box::new(opening)));
            self.opening += 1;
            let after = unsure.then(|| {
                let own = [sleep::KEY, sleep::SECRET_KEY, corestore::NAME, numbered::LOCAL_NAME];
                let sync = own
                    .into_iter()
                    .chain(sleep::LOG)
                    .map(|name| Op::Sync { path: folder.join(name) });
                self.submit(None, sync.collect(), Task::Nothing)
            });
            self.submit(after, ops, Task::Open(id));
        }
    }

    pub(super) fn opening_answered(
        &mut self,
        id: FeedId,
        answers: Vec<Result<Answer, StorageError>>,
    ) {
        let entry = &mut self.feeds[id.0 as usize];
        let EntryState::Opening(opening) = &mut entry.state else { return };
        let Some(mut opening) = opening.take() else { return };
        let mut own_name = None;
        let step = opening.answered(answers, |name| {
            own_name = Some(name.map(String::from));
            match name {
                Some(name) => self.store.derive(name),
                None => self.derive_unnamed(id),
            }
        });
        if own_name.is_some() {
            self.feeds[id.0 as usize].file_name = own_name;
        }
        let entry = &mut self.feeds[id.0 as usize];
        match step {
            OpenStep::Read(ops) => {
                entry.state = EntryState::Opening(Some(opening));
                self.submit(None, ops, Task::Open(id));
            }
            OpenStep::Done(mut feed) => {
                self.opening -= 1;
                // Its files may be gone, or older ones in their place.
                feed.seal_below(entry.known_length);
                entry.state = EntryState::Open(feed);
                self.feed_opened(id);
            }
            OpenStep::Failed(error) => {
                self.opening -= 1;
                self.open_failed(id, error);
            }
        }
    }

    fn feed_opened(&mut self, id: FeedId) {
        if !self.feeds[id.0 as usize].seen {
            let name = self.feeds[id.0 as usize].file_name.take();
            self.disown_or_see(id, name);
        }
        self.mark_dirty(id);
        self.key_proven(id);
        let entry = &mut self.feeds[id.0 as usize];
        entry.wishes.sparse.get_or_insert(self.config.sparse);
        let channels = entry.channels.clone();
        for pending in core::mem::take(&mut entry.pending) {
            if self.feeds[id.0 as usize].blocked {
                let error = NodeError::Blocked { feed: self.feeds[id.0 as usize].short_key() };
                self.fail_pending(pending, error);
            } else {
                self.run_pending(id, pending);
            }
        }
        self.blocks_found(id);
        self.health_changed(id);
        for (connection, channel) in channels {
            self.start_channel(connection, channel);
        }
    }

    fn open_failed(&mut self, id: FeedId, error: NodeError) {
        let entry = &mut self.feeds[id.0 as usize];
        entry.state = EntryState::Failed(error.clone());
        let list_of = entry.list_of.filter(|multifeed| self.multi(*multifeed).is_some());
        let pending = core::mem::take(&mut self.feeds[id.0 as usize].pending);
        for pending in pending {
            self.fail_pending(pending, error.clone());
        }
        if list_of.is_some() {
            // Its lines are written when that is possible.
            self.retry_later(id);
        }
        if matches!(error, NodeError::Damaged { .. }) {
            self.close_channels(id);
        }
        if self.is_unproven(id) {
            // It is not offered, and nobody waits for that any more.
            self.touched.extend(self.links.keys().copied());
        }
        if !self.is_list(id) && !self.feeds[id.0 as usize].blocked {
            self.retry_later(id);
            self.event(Event::FeedFailed { feed: id, error });
        }
        self.health_changed(id);
    }

    fn run_pending(&mut self, id: FeedId, pending: Pending) {
        match pending {
            Pending::Load(command) => self.complete(command, Ok(Outcome::Feed(id))),
            Pending::Append(command, blocks) => {
                let Some(feed) = self.feeds[id.0 as usize].feed_mut() else { return };
                match feed.append(Some(command), &blocks) {
                    Ok(()) => {
                        self.unstored_bytes += blocks.iter().map(bytes::Bytes::len).sum::<usize>();
                        self.mark_dirty(id);
                    }
                    Err(error) if self.is_list(id) => self.listed(command, &Err(error)),
                    Err(error) => self.complete(command, Err(error)),
                }
            }
            Pending::Read(job) => self.run_read(job),
            Pending::Has(command, blocks) => self.run_has(id, command, &blocks),
            Pending::Clear(job) => self.run_clear(job),
            Pending::Block(_, command) => self.run_block(id, command),
            Pending::Download(command, blocks) => self.run_download(id, command, blocks),
            Pending::Update(command, length) => self.run_update(id, command, length),
            Pending::Seek(job) => self.run_seek(job),
            Pending::Claim(claim) => self.claimed(id, *claim),
        }
    }

    pub(super) fn fail_pending(&mut self, pending: Pending, error: NodeError) {
        match pending {
            Pending::Load(command) => self.complete(command, Err(error)),
            // What cannot be read can be removed all the same.
            Pending::Block(id, command) if error != NodeError::Closed => {
                self.run_block(id, command);
            }
            Pending::Block(_, command) => self.complete(command, Err(error)),
            Pending::Append(command, _) if self.store.lines.contains_key(&command) => {
                self.listed(command, &Err(error));
            }
            Pending::Claim(claim) => self.complete(claim.command(), Err(error)),
            Pending::Append(command, _) | Pending::Has(command, _) => {
                self.complete(command, Err(error));
            }
            Pending::Read(job) => self.fail_read(job, error),
            Pending::Clear(job) => self.fail_clear(&job, error),
            Pending::Download(command, _) | Pending::Update(command, _) => {
                self.complete(command, Err(error));
            }
            Pending::Seek(job) => self.fail_seek(&job, error),
        }
    }

    /// A feed was opened that is replicated already: tells and asks what had to wait for it.
    pub(super) fn start_channel(
        &mut self,
        connection: super::ConnectionId,
        id: multifeed_proto::ChannelId,
    ) {
        let Some(link) = self.links.get_mut(&connection) else { return };
        if !link.channels.get(&id).is_some_and(|channel| channel.open) {
            return;
        }
        link.asking.insert(id);
        if link.channels.get(&id).is_some_and(|channel| channel.told_last) {
            // It was open before, and its files may hold more than was announced.
            self.tell_held(connection, id);
        }
        self.send_wants(connection, id);
        self.touch_channel(connection, id);
        if let Some(link) = self.links.get_mut(&connection) {
            link.want(id);
            link.to_compare.insert(id);
            if link.channels.get(&id).is_some_and(|channel| !channel.parked.is_empty()) {
                link.serving.push_back(id);
            }
        }
        self.to_verify.push_back((connection, id));
    }
}
