//! Writes what changed, and tells who must know when it is stored.

use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use multifeed_proto::messages::Span;

use super::link::Barrier;
use super::{
    CommandId, ConnectionId, Event, FeedId, Node, NodeError, Outcome, Output, ReadJob, Task,
    entry::EntryState,
};
use crate::feed::{Feed, Flush, FlushPlan};
use crate::storage::{Answer, BatchId, StorageError};

/// Flushes of one feed that may be under way; while they are, what changes is gathered for the next.
const MAX_FLUSHES: usize = 2;
/// Time after which a feed whose storage failed is tried again; doubled as long as nothing can be
/// stored, so that blocks are not downloaded in vain all the time.
const RETRY: Duration = Duration::from_secs(5);
/// Doublings at most.
const MAX_DOUBLINGS: u32 = 6;

impl Node {
    /// Puts a feed in the queue for flushing, if it has something to flush.
    pub(super) fn mark_dirty(&mut self, id: FeedId) {
        if self.is_read_only() {
            return;
        }
        let entry = &mut self.feeds[id.0 as usize];
        let Some(feed) = entry.feed() else { return };
        if feed.is_dirty() && feed.flushes.len() < MAX_FLUSHES && !entry.dirty {
            entry.dirty = true;
            self.dirty.push_back(id);
        }
    }

    /// Whether anything of a feed is here that its owner signed.
    fn is_proven(&self, id: FeedId) -> bool {
        self.feeds[id.0 as usize].feed().is_some_and(|feed| feed.length() > 0)
    }

    /// Submits the batches of all feeds in the queue; those of one that is not recorded wait until it is.
    pub(super) fn flush_all(&mut self) {
        while let Some(id) = self.dirty.pop_front() {
            if !self.feeds[id.0 as usize].seen && self.is_proven(id) {
                self.feed_seen(id);
            }
            if !self.may_write(id) {
                self.feeds[id.0 as usize].dirty = false;
                continue;
            }
            let (first, other) = match self.feeds[id.0 as usize].list_of {
                Some(multifeed) => (self.before_list(multifeed), None),
                None => (None, self.before_feed(id)),
            };
            let entry = &mut self.feeds[id.0 as usize];
            entry.dirty = false;
            let Some(feed) = entry.feed_mut() else { continue };
            let after = first.or_else(|| feed.last_batch()).or(other);
            let mut plan = FlushPlan {
                next_batch: &mut self.next_batch,
                durability: self.config.durability,
                after,
            };
            let batches = feed.flush(&mut plan);
            for batch in batches {
                self.tasks.insert(batch.id, Task::Flush(id));
                self.outputs.push_back(Output::Storage(batch));
            }
        }
    }

    pub(super) fn flush_answered(
        &mut self,
        id: FeedId,
        batch: BatchId,
        answers: Vec<Result<Answer, StorageError>>,
    ) {
        let Some(feed) = self.feeds[id.0 as usize].feed_mut() else { return };
        let Some(flush) = feed.flushes.front_mut() else { return };
        // Batches of one feed are executed one after another, so answers come in their order.
        let Some(at) = flush.batches.iter().position(|known| *known == batch) else { return };
        flush.batches.remove(at);
        if let Some(error) = answers.into_iter().find_map(Result::err) {
            flush.error.get_or_insert(error);
        }
        if !flush.batches.is_empty() {
            return;
        }
        let Some(flush) = feed.flushes.pop_front() else { return };
        match flush.error.clone() {
            None => self.stored(id, flush),
            Some(error) => self.flush_failed(id, flush, error),
        }
    }

    fn stored(&mut self, id: FeedId, flush: Flush) {
        let Some(feed) = self.feeds[id.0 as usize].feed_mut() else { return };
        for (range, _) in &flush.blocks {
            feed.unstored.remove(range.clone());
        }
        self.feeds[id.0 as usize].failures = 0;
        self.release_unstored(flush.bytes);
        for (range, source) in &flush.blocks {
            self.tell_stored(id, range.clone(), *source);
        }
        for (command, start, length) in flush.appends {
            self.append_done(id, command, Ok((start, length)));
        }
        self.length_stored(id);
        self.mended(id, &flush.blocks);
        self.clears_stored(id, &flush.cleared, &flush.clears);
        self.mark_dirty(id);
        self.count_cache(id);
        for (connection, channel) in self.feeds[id.0 as usize].channels.clone() {
            self.touch_channel(connection, channel);
        }
    }

    /// Tells peers, the application and waiting commands of blocks that are stored.
    fn tell_stored(&mut self, id: FeedId, range: Range<u64>, source: Option<ConnectionId>) {
        let span = Span { start: range.start, length: range.end - range.start };
        let entry = &mut self.feeds[id.0 as usize];
        let internal = entry.list_of.is_some();
        for (connection, channel) in &entry.channels {
            let Some(link) = self.links.get_mut(connection) else { continue };
            let Some(peer) = link.connection.peer(*channel) else { continue };
            let (acks, wants) = (peer.remote_acks(), peer.remote_wants());
            if let Some(state) = link.channels.get_mut(channel) {
                if source != Some(*connection) {
                    // Nobody has shown yet not to want these.
                    state.barrier = Barrier::None;
                }
            }
            // Only a closed channel refuses these, and then there is nobody to tell.
            let _ = if source == Some(*connection) {
                link.counters.blocks_received += span.length;
                if let Some(state) = link.channels.get_mut(channel) {
                    state.moved.blocks_received += span.length;
                }
                link.progress(self.awake);
                // One by one, as the JavaScript does: its applications may count them.
                let mut blocks = if acks { range.clone() } else { 0..0 };
                blocks.try_for_each(|block| link.connection.ack(*channel, block))
            } else if wants {
                link.connection.have(*channel, span)
            } else {
                Ok(())
            };
        }
        let mut waiting = Vec::new();
        let waiters = &mut entry.wishes.waiters;
        let due: Vec<u64> = waiters.range(range.clone()).map(|(index, _)| *index).collect();
        for index in due {
            for command in waiters.remove(&index).unwrap_or_default() {
                waiting.push(ReadJob::wait(command, id, index));
            }
        }
        if !internal && source.is_some() {
            self.event(Event::Downloaded { feed: id, start: span.start, length: span.length });
        }
        for job in waiting {
            self.run_read(job);
        }
        self.blocks_stored(id, &range);
    }

    fn append_done(
        &mut self,
        id: FeedId,
        command: CommandId,
        result: Result<(u64, u64), NodeError>,
    ) {
        if self.is_list(id) {
            self.listed(command, &result.map(|_| ()));
            return;
        }
        if let Ok((start, length)) = result {
            if length > 0 {
                self.event(Event::Appended { feed: id, start, length });
            }
        }
        self.complete(command, result.map(|(start, length)| Outcome::Appended { start, length }));
    }

    /// The storage refused: what is in memory is ahead of the files, so the feed is read again from
    /// them. Nothing that was acknowledged is lost, and nothing of what is dropped was announced.
    fn flush_failed(&mut self, id: FeedId, flush: Flush, error: StorageError) {
        let failed = NodeError::from(error);
        self.release_unstored(flush.bytes);
        for (command, _, _) in flush.appends {
            self.append_done(id, command, Err(failed.clone()));
        }
        for command in flush.clears {
            self.complete(command, Err(failed.clone()));
        }
        self.feed_broken(id, failed);
        self.retry_later(id);
    }

    /// A feed that cannot go on, because of its storage or its files: it is given up, the others go on.
    pub(super) fn feed_broken(&mut self, id: FeedId, error: NodeError) {
        self.give_up(id, &error);
        if matches!(error, NodeError::Damaged { .. }) {
            self.close_channels(id);
        }
        self.event(match self.feeds[id.0 as usize].list_of {
            Some(multifeed) => Event::StorageFailed { multifeed, error },
            None => Event::FeedFailed { feed: id, error },
        });
        self.health_changed(id);
    }

    /// Drops what is in memory of a feed, and answers who waits for it to be written.
    pub(super) fn give_up(&mut self, id: FeedId, error: &NodeError) {
        let entry = &mut self.feeds[id.0 as usize];
        self.cache_bytes -= core::mem::take(&mut entry.cache_bytes);
        if let EntryState::Open(mut feed) =
            core::mem::replace(&mut entry.state, EntryState::Failed(error.clone()))
        {
            entry.known_length = entry.known_length.max(feed.stored_length());
            self.release_unstored(feed.unstored_bytes());
            self.tell_dropped(id, &feed);
            let (mut appends, mut clears) = (Vec::new(), Vec::new());
            for flush in core::mem::take(&mut feed.flushes) {
                appends.extend(flush.appends);
                clears.extend(flush.clears);
            }
            for (command, _, _) in appends.into_iter().chain(feed.take_appends()) {
                self.append_done(id, command, Err(error.clone()));
            }
            for command in clears.into_iter().chain(feed.take_clears()) {
                self.complete(command, Err(error.clone()));
            }
            for job in core::mem::take(&mut self.feeds[id.0 as usize].clears) {
                self.fail_clear(&job, error.clone());
            }
        }
        for (connection, channel) in self.feeds[id.0 as usize].channels.clone() {
            self.drop_requests(connection, channel);
        }
    }

    /// Peers wait for an acknowledgement of each block that they sent.
    fn tell_dropped(&mut self, id: FeedId, feed: &Feed) {
        for (connection, channel) in &self.feeds[id.0 as usize].channels {
            let Some(link) = self.links.get_mut(connection) else { continue };
            for run in feed.unstored.iter() {
                let span = Span { start: run.start, length: run.end - run.start };
                // Only a closed channel refuses it, and then there is nobody to tell.
                let _ = link.connection.unhave(*channel, span);
            }
            self.touched.insert(*connection);
        }
    }

    /// Has a feed opened again after a while, if somebody replicates it.
    pub(super) fn retry_later(&mut self, id: FeedId) {
        let entry = &mut self.feeds[id.0 as usize];
        let at = self.now.after(RETRY * (1 << entry.failures.min(MAX_DOUBLINGS)));
        entry.failures = entry.failures.saturating_add(1);
        if entry.list_of.is_some() || !entry.channels.is_empty() {
            entry.retry_at = Some(at);
            self.retries.insert((at, id));
        }
    }

    /// Has folders made after a while, beginning with that of `id`.
    pub(super) fn retry_folder(&mut self, id: FeedId) {
        let at = self.now.after(RETRY);
        self.feeds[id.0 as usize].retry_at = Some(at);
        self.retries.insert((at, id));
    }

    /// Bytes verified are stored, or dropped: connections that were not read may be read again.
    fn release_unstored(&mut self, bytes: usize) {
        let full = self.unstored_bytes >= self.config.max_unstored_bytes;
        self.unstored_bytes = self.unstored_bytes.saturating_sub(bytes);
        if full && self.unstored_bytes < self.config.max_unstored_bytes {
            self.touched.extend(self.links.keys().copied());
        }
    }

    /// Keeps the tree nodes in memory below their limit, feed by feed in turn.
    pub(super) fn trim_caches(&mut self) {
        let mut looked = 0;
        while self.cache_bytes > self.config.cache_bytes && looked < self.feeds.len() {
            self.trim_at = self.feeds.next_after(self.trim_at);
            looked += 1;
            if let Some(feed) = self.feeds[self.trim_at].feed_mut() {
                feed.trim_cache();
                self.count_cache(FeedId(self.trim_at as u32));
            }
        }
    }

    /// Brings the sum of all caches up to date with one of them.
    pub(super) fn count_cache(&mut self, id: FeedId) {
        let entry = &mut self.feeds[id.0 as usize];
        let bytes = entry.feed().map_or(0, Feed::cache_bytes);
        self.cache_bytes =
            self.cache_bytes - core::mem::replace(&mut entry.cache_bytes, bytes) + bytes;
    }
}
