//! Clearing blocks: given up here, told to peers, and not fetched again unless somebody asks.
//!
//! Source: `hypercore@9.12.0/index.js`, `clear`. There a feed that is not sparse fetches them again on
//! its next connection, unless it is a writer; here a file remembers what was cleared on purpose.

use core::ops::Range;

use multifeed_proto::Now;
use multifeed_proto::messages::Span;

use super::{After, CommandId, Event, FeedId, Node, NodeError, Outcome, Pending};

/// A clear that is under way.
#[derive(Debug)]
pub(super) struct ClearJob {
    command: CommandId,
    feed: FeedId,
    blocks: Range<u64>,
    /// Blocks below are done.
    at: u64,
}

impl Node {
    /// Gives blocks up: their bits are cleared, their bytes become a hole, the tree stays. What is beyond
    /// the log is left out. Answered with [`Outcome::Cleared`] when that is as durable as
    /// [`NodeConfig::durability`](crate::NodeConfig::durability) says.
    ///
    /// Peers are told. The blocks, also those that were not held, are not fetched again unless
    /// [`Node::wait`] or [`Node::download`] asks for them.
    pub fn clear(&mut self, now: Now, feed: FeedId, blocks: Range<u64>) -> CommandId {
        let command = self.command(now);
        if let Err(error) = self.check_writable() {
            self.complete(command, Err(error));
            return command;
        }
        let at = blocks.start;
        self.command_on(feed, Pending::Clear(ClearJob { command, feed, blocks, at }));
        command
    }

    /// Goes on with a clear. The feed is open.
    pub(super) fn run_clear(&mut self, mut job: ClearJob) {
        let id = job.feed;
        let entry = &mut self.feeds[id.0 as usize];
        let is_list = entry.list_of.is_some();
        entry.cleared += 1;
        let Some(feed) = entry.feed_mut().filter(|_| !is_list) else {
            return self.fail_clear(&job, NodeError::Closed);
        };
        job.blocks.end = job.blocks.end.min(feed.length());
        // Not to be fetched while it waits, nor afterwards.
        feed.note_cleared(job.blocks.clone());
        if feed.unstored.next_in(job.at).is_some_and(|block| block < job.blocks.end) {
            entry.clears.push(job);
            return;
        }
        loop {
            match feed.clear(job.at..job.blocks.end) {
                Ok(Some(next)) => job.at = next,
                Ok(None) => break,
                Err(nodes) if nodes.is_empty() || feed.lacking(&nodes).is_some() => {
                    let feed = feed.short_key();
                    let problem = "its tree lacks a node";
                    self.tell_cleared(id, job.blocks.start..job.at);
                    self.mark_dirty(id);
                    return self.fail_clear(&job, NodeError::Damaged { feed, problem });
                }
                Err(nodes) => {
                    self.load_nodes(id, nodes, After::Clear(job));
                    return;
                }
            }
        }
        feed.answer_clear(job.command);
        self.tell_cleared(id, job.blocks);
        self.mark_dirty(id);
        self.count_cache(id);
    }

    pub(super) fn fail_clear(&mut self, job: &ClearJob, error: NodeError) {
        self.complete(job.command, Err(error));
    }

    /// Tells peers that want to know, before the bytes go.
    fn tell_cleared(&mut self, id: FeedId, blocks: Range<u64>) {
        if blocks.is_empty() {
            return;
        }
        let span = Span { start: blocks.start, length: blocks.end - blocks.start };
        for (connection, channel) in self.feeds[id.0 as usize].channels.clone() {
            let Some(link) = self.links.get_mut(&connection) else { continue };
            if link.connection.peer(channel).is_some_and(|peer| peer.remote_wants()) {
                // Only a closed channel refuses it, and then there is nobody to tell.
                let _ = link.connection.unhave(channel, span);
            }
            // What is not held needs no confirmation.
            link.settle(channel, blocks.clone());
            self.touch_channel(connection, channel);
        }
    }

    /// Blocks are cleared and that is stored: they may be fetched again.
    pub(super) fn clears_stored(&mut self, id: FeedId, cleared: &[Range<u64>], done: &[CommandId]) {
        if let Some(feed) = self.feeds[id.0 as usize].feed_mut() {
            cleared.iter().for_each(|run| feed.clearing.remove(run.clone()));
        }
        for run in cleared {
            let (start, length) = (run.start, run.end - run.start);
            self.event(Event::Cleared { feed: id, start, length });
        }
        for command in done {
            self.complete(*command, Ok(Outcome::Cleared));
        }
        if !cleared.is_empty() {
            self.rewind_others(id);
        }
        for job in core::mem::take(&mut self.feeds[id.0 as usize].clears) {
            self.run_clear(job);
        }
    }
}
