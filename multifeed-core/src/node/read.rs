//! Blocks for the application.

use alloc::vec::Vec;
use core::ops::Range;

use bytes::Bytes;

use super::mend::{Mend, Then};
use super::{After, CommandId, FeedId, Node, NodeError, Outcome, Pending, Task};
use crate::feed::{Loading, Place};
use crate::format::sleep;
use crate::storage::{Answer, BatchId, Op, StorageError};
use crate::tree::{self, NodeIndex};

/// Bytes of one read of blocks, whatever the application allows.
const MAX_READ: usize = 16 * 1024 * 1024;
/// Blocks of one read.
const MAX_BLOCKS: u64 = 65_536;

/// Blocks that are being read.
#[derive(Debug)]
pub(super) struct ReadJob {
    command: CommandId,
    feed: FeedId,
    index: u64,
    count: u64,
    max_bytes: usize,
    kind: Kind,
    /// Where the blocks that were found so far are, and their sizes.
    start: u64,
    sizes: Vec<usize>,
    /// What they hash to.
    hashes: Vec<[u8; 32]>,
    total: u64,
    /// [`Entry::cleared`](super::entry::Entry) when the blocks were read.
    cleared: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Blocks,
    Wait,
    List,
}

impl ReadJob {
    pub(super) fn blocks(
        command: CommandId,
        feed: FeedId,
        index: u64,
        count: u64,
        max_bytes: usize,
    ) -> Self {
        let (count, max_bytes) = (count.min(MAX_BLOCKS), max_bytes.min(MAX_READ));
        Self {
            command,
            feed,
            index,
            count,
            max_bytes,
            kind: Kind::Blocks,
            start: 0,
            sizes: Vec::new(),
            hashes: Vec::new(),
            total: 0,
            cleared: 0,
        }
    }

    pub(super) fn wait(command: CommandId, feed: FeedId, index: u64) -> Self {
        Self { kind: Kind::Wait, ..Self::blocks(command, feed, index, 1, 0) }
    }

    /// Whether this is a command that waits for its block.
    pub(super) fn waits_as(&self, command: CommandId) -> bool {
        self.kind == Kind::Wait && self.command == command
    }

    /// Whether it waits for a block that is not here.
    pub(super) fn waits(&self) -> bool {
        self.kind == Kind::Wait
    }

    pub(super) fn list(feed: FeedId, index: u64, max_bytes: usize) -> Self {
        Self { kind: Kind::List, ..Self::blocks(CommandId(0), feed, index, MAX_BLOCKS, max_bytes) }
    }
}

impl ReadJob {
    /// Forgets what was found so far.
    fn begin_again(&mut self) {
        (self.total, self.sizes, self.hashes) = (0, Vec::new(), Vec::new());
    }
}

impl Node {
    /// Goes on with a job: tree pages first, then the blocks. The feed is open.
    pub(super) fn run_read(&mut self, mut job: ReadJob) {
        let limit = self.config.max_block.max(MAX_READ) as u64;
        let entry = &mut self.feeds[job.feed.0 as usize];
        let cleared = entry.cleared;
        let Some(feed) = entry.feed_mut() else { return self.fail_read(job, NodeError::Closed) };
        if job.kind == Kind::Wait && !feed.has(job.index) {
            entry.wishes.waiters.entry(job.index).or_default().push(job.command);
            self.wishes_changed(job.feed);
            return self.refuse_wait(job.command);
        }
        // Blocks that were found and then cleared are not read any more.
        let found = job.index..job.index + job.sizes.len() as u64;
        if let Some(gap) = feed.bits.first_missing_block(found.clone()) {
            job.sizes.truncate((gap - job.index) as usize);
            job.hashes.truncate(job.sizes.len());
            job.total = job.sizes.iter().map(|size| *size as u64).sum();
            job.count = gap - job.index;
        }
        let end = job.index.saturating_add(job.count).min(feed.length());
        for block in found.end..end {
            if !feed.has(block) {
                break;
            }
            match feed.place(block) {
                Ok(place) => {
                    if !job.sizes.is_empty() && job.total + place.size > job.max_bytes as u64 {
                        break;
                    }
                    if job.sizes.is_empty() {
                        job.start = place.offset;
                    }
                    if place.size > limit {
                        if !job.sizes.is_empty() {
                            break;
                        }
                        let leaf = NodeIndex::leaf(block);
                        let id = job.feed;
                        let wrong = Some((block, place));
                        return self.run_mend(Mend::new(id, leaf, wrong, Then::Read(job)));
                    }
                    let leaf = feed.node(NodeIndex::leaf(block));
                    job.hashes.push(leaf.map_or([0; 32], |leaf| leaf.hash));
                    job.total += place.size;
                    job.sizes.push(place.size as usize);
                }
                Err(nodes) if nodes.is_empty() || feed.lacking(&nodes).is_some() => {
                    // What is before it is sound; the next call tells what is wrong with it.
                    if !job.sizes.is_empty() {
                        break;
                    }
                    let lost =
                        Some((block, Place { offset: 0, size: 0 })).filter(|_| nodes.is_empty());
                    let node = feed.lacking(&nodes).unwrap_or(NodeIndex::leaf(block));
                    let id = job.feed;
                    return self.run_mend(Mend::new(id, node, lost, Then::Read(job)));
                }
                Err(nodes) => {
                    self.load_nodes(job.feed, nodes, After::Read(job));
                    return;
                }
            }
        }
        if job.total == 0 {
            let blocks = job.sizes.iter().map(|_| Bytes::new()).collect();
            return self.check_read(job, blocks);
        }
        job.cleared = cleared;
        let read =
            Op::Read { path: feed.file(sleep::DATA), offset: job.start, len: job.total as usize };
        self.submit(None, Vec::from([read]), Task::Read(job));
    }

    pub(super) fn run_has(&mut self, id: FeedId, command: CommandId, blocks: &Range<u64>) {
        let feed = self.feeds[id.0 as usize].feed();
        let all = feed.is_some_and(|feed| feed.has_all(blocks));
        self.complete(command, Ok(Outcome::Has(all)));
    }

    pub(super) fn read_answered(
        &mut self,
        mut job: ReadJob,
        answers: Vec<Result<Answer, StorageError>>,
    ) {
        if self.feeds[job.feed.0 as usize].cleared != job.cleared {
            job.begin_again();
            return self.when_open(job.feed, Pending::Read(job));
        }
        let bytes = match answers.into_iter().next() {
            Some(Ok(Answer::Bytes(bytes))) => bytes,
            Some(Err(error)) => return self.fail_read(job, error.into()),
            _ => Bytes::new(),
        };
        let mut at = 0;
        let blocks = job.sizes.iter().map_while(|size| {
            at += size;
            // Those behind the end of the file are missing.
            (at <= bytes.len()).then(|| bytes.slice(at - size..at))
        });
        let blocks = blocks.collect();
        self.check_read(job, blocks);
    }

    /// Hands out blocks that have the hash of their leaf; those from the first on that does not are looked
    /// into.
    fn check_read(&mut self, mut job: ReadJob, mut blocks: Vec<Bytes>) {
        let wrong = blocks
            .iter()
            .zip(&job.hashes)
            .position(|(block, hash)| tree::hash::leaf(block) != *hash);
        let short = wrong.is_none() && blocks.len() < job.sizes.len();
        let wrong = wrong.or_else(|| short.then_some(blocks.len()));
        let Some(wrong) = wrong else { return self.read_done(job, blocks) };
        let before: u64 = job.sizes[..wrong].iter().map(|size| *size as u64).sum();
        let place = Place { offset: job.start + before, size: job.sizes[wrong] as u64 };
        let (id, block) = (job.feed, job.index + wrong as u64);
        let then = if wrong == 0 {
            job.begin_again();
            Then::Read(job)
        } else {
            // What is before it is sound; the next call tells of it.
            blocks.truncate(wrong);
            self.read_done(job, blocks);
            Then::Nothing
        };
        let mend = Mend::new(id, NodeIndex::leaf(block), Some((block, place)), then);
        self.run_mend(mend.short(short));
    }

    fn read_done(&mut self, job: ReadJob, mut blocks: Vec<Bytes>) {
        match job.kind {
            Kind::Blocks => self.complete(job.command, Ok(Outcome::Blocks(blocks))),
            Kind::Wait => {
                self.complete(job.command, Ok(Outcome::Block(blocks.pop().unwrap_or_default())))
            }
            Kind::List => self.list_read(job.feed, job.index, Ok(blocks)),
        }
    }

    pub(super) fn fail_read(&mut self, job: ReadJob, error: NodeError) {
        match job.kind {
            Kind::Blocks | Kind::Wait => self.complete(job.command, Err(error)),
            Kind::List => self.list_read(job.feed, job.index, Err(error)),
        }
    }

    /// Reads nodes of a feed, which is open, for whoever goes on after that.
    pub(super) fn load_nodes(
        &mut self,
        id: FeedId,
        nodes: Vec<NodeIndex>,
        after: After,
    ) -> Option<BatchId> {
        let feed = self.feeds[id.0 as usize].feed_mut()?;
        let (loading, ops) = feed.load_nodes(nodes);
        Some(self.submit(None, ops, Task::Nodes(id, loading, after)))
    }

    /// Tree pages came: whoever waits for them goes on.
    pub(super) fn nodes_answered(
        &mut self,
        id: FeedId,
        batch: BatchId,
        loading: &Loading,
        after: After,
        answers: Vec<Result<Answer, StorageError>>,
    ) {
        let mut result = Ok(());
        if let Some(feed) = self.feeds[id.0 as usize].feed_mut() {
            result = feed.nodes_loaded(loading, answers);
            self.count_cache(id);
        }
        match after {
            After::Verify(connection, channel) => {
                self.pages_came(connection, channel, batch, result);
            }
            After::Serve(connection, channel) => {
                self.serve_pages_came(connection, channel, batch, result);
            }
            After::Seek(job) => match result {
                Ok(()) => self.run_seek(job),
                Err(error) => self.fail_seek(&job, error.into()),
            },
            After::Clear(job) => match result {
                Ok(()) => self.run_clear(job),
                Err(error) => self.fail_clear(&job, error.into()),
            },
            After::Mend(job) => match result {
                Ok(()) => self.run_mend(job),
                Err(error) => self.end_mend(job, Some(error.into())),
            },
            After::Read(job) => match result {
                Ok(()) => self.run_read(job),
                Err(error) => self.fail_read(job, error.into()),
            },
        }
    }
}
