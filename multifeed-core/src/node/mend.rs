//! Our own files do not fit: which of them is damaged, and what is done about it.
//!
//! A block that was read does not have its hash, or a node of the tree does not fit those above. First
//! the tree is proven from the block up, and mended from what is below where that is possible. If the tree is
//! right, the block is damaged: it is taken out of what is held and announced, and fetched again from peers.
//! Nothing of what is damaged leaves this machine.

use alloc::vec::Vec;

use multifeed_proto::ChannelId;
use multifeed_proto::messages::Request;

use super::{After, ConnectionId, Event, FeedId, Node, NodeError, Pending, ReadJob, Task};
use crate::feed::{Heal, Place, Proven};
use crate::format::sleep;
use crate::storage::{Answer, Op, StorageError};
use crate::tree::NodeIndex;

/// Steps of one job.
const MAX_STEPS: u8 = 200;
/// Steps of all jobs of one feed.
const MAX_MENDS: u32 = 100_000;

/// Something stored that does not fit.
#[derive(Debug)]
pub(super) struct Mend {
    pub(super) feed: FeedId,
    /// The node that is to be proven.
    pub(super) node: NodeIndex,
    /// A block that does not have its hash, and where it was read.
    pub(super) block: Option<(u64, Place)>,
    pub(super) then: Then,
    /// The data file ends before the block does.
    short: bool,
    steps: u8,
}

/// What waits for it.
#[derive(Debug)]
pub(super) enum Then {
    Nothing,
    Read(ReadJob),
    Serve(ConnectionId, ChannelId, Request),
    Verify(ConnectionId, ChannelId),
}

impl Mend {
    pub(super) const fn new(
        feed: FeedId,
        node: NodeIndex,
        block: Option<(u64, Place)>,
        then: Then,
    ) -> Self {
        Self { feed, node, block, then, short: false, steps: 0 }
    }

    /// The data file ends before the block does, or not.
    pub(super) fn short(self, short: bool) -> Self {
        Self { short, ..self }
    }
}

impl Node {
    /// Goes on with mending. The feed need not be open any more.
    pub(super) fn run_mend(&mut self, mut job: Mend) {
        let ailments = &mut self.feeds[job.feed.0 as usize].ailments;
        ailments.mends = ailments.mends.saturating_add(1);
        if ailments.mends > MAX_MENDS {
            return self.give_up_mending(job);
        }
        loop {
            job.steps = job.steps.saturating_add(1);
            let id = job.feed;
            let Some(feed) = self.feeds[id.0 as usize].feed_mut() else {
                return self.end_mend(job, Some(NodeError::Closed));
            };
            if !feed.bits.has_node(job.node) {
                // It was forgotten, and no block is held without its leaf.
                return match job.block {
                    Some(_) => self.tree_is_right(job, false),
                    None => self.end_mend(job, None),
                };
            }
            let above = match feed.prove(job.node) {
                Proven::Load(nodes) => match feed.lacking(&nodes) {
                    None => return self.load_for(job, nodes),
                    Some(top) => match feed.prove(top.parent()) {
                        Proven::Broken(above) => Ok(above),
                        Proven::Yes => Ok(top.parent()),
                        Proven::Load(nodes) if feed.lacking(&nodes).is_none() => {
                            return self.load_for(job, nodes);
                        }
                        Proven::Open | Proven::Load(_) => Err(top),
                    },
                },
                Proven::Broken(above) => Ok(above),
                Proven::Yes => return self.tree_is_right(job, true),
                Proven::Open => return self.tree_is_right(job, false),
            };
            if job.steps >= MAX_STEPS {
                return self.give_up_mending(job);
            }
            let healed = match above {
                Ok(above) => feed.heal(above, self.config.max_block),
                Err(top) => feed.forget(&[top]),
            };
            match healed {
                Heal::Load(nodes) => return self.load_for(job, nodes),
                Heal::Read { above, offset, len } => {
                    let path = feed.file(sleep::DATA);
                    let read = Op::Read { path, offset, len };
                    self.submit(None, Vec::from([read]), Task::Mend(job, above));
                    return;
                }
                Heal::Done(lost) => self.tree_healed(id, &lost),
                Heal::Hopeless => return self.give_up_mending(job),
            }
            // What was read is to be read again.
            job.block = None;
        }
    }

    fn load_for(&mut self, job: Mend, nodes: Vec<NodeIndex>) {
        self.load_nodes(job.feed, nodes, After::Mend(job));
    }

    /// The blocks of two leaves were read.
    pub(super) fn mend_answered(
        &mut self,
        mut job: Mend,
        above: NodeIndex,
        answers: Vec<Result<Answer, StorageError>>,
    ) {
        let bytes = match answers.into_iter().next() {
            Some(Ok(Answer::Bytes(bytes))) => bytes,
            Some(Err(error)) => return self.end_mend(job, Some(error.into())),
            _ => bytes::Bytes::new(),
        };
        let Some(feed) = self.feeds[job.feed.0 as usize].feed_mut() else {
            return self.end_mend(job, Some(NodeError::Closed));
        };
        job.block = None;
        match feed.heal_leaves(above, &bytes) {
            Heal::Done(lost) => {
                self.tree_healed(job.feed, &lost);
                self.run_mend(job);
            }
            Heal::Hopeless | Heal::Load(_) | Heal::Read { .. } => self.give_up_mending(job),
        }
    }

    fn tree_healed(&mut self, id: FeedId, lost: &[u64]) {
        self.blocks_lost(id, lost);
        self.mark_dirty(id);
        self.count_cache(id);
    }

    /// The tree is right, as far as it is known: if the block is still where it was read, it is damaged.
    fn tree_is_right(&mut self, mut job: Mend, proven: bool) {
        let id = job.feed;
        let Some((block, read_at)) = job.block.take() else { return self.end_mend(job, None) };
        let Some(feed) = self.feeds[id.0 as usize].feed_mut() else {
            return self.end_mend(job, Some(NodeError::Closed));
        };
        feed.forget_cursor();
        match feed.place(block) {
            Err(nodes) if !nodes.is_empty() && feed.lacking(&nodes).is_none() => {
                job.block = Some((block, read_at));
                return self.load_for(job, nodes);
            }
            // Mended meanwhile: it is to be read again.
            Ok(place) if place != read_at => return self.end_mend(job, None),
            Ok(place) if place.size > self.config.max_block as u64 && proven => {
                let feed = feed.short_key();
                let problem = "a block is too large for the protocol";
                let error = NodeError::Damaged { feed, problem };
                self.event(Event::FeedFailed { feed: id, error });
                job.then = Then::Nothing;
                return self.end_mend(job, None);
            }
            Ok(_) | Err(_) => {}
        }
        let is_list = self.is_list(id);
        if let Some(feed) = self.feeds[id.0 as usize].feed_mut().filter(|_| !is_list) {
            if !proven {
                // The leaf may be what is wrong.
                feed.forget(&[NodeIndex::leaf(block)]);
            }
            self.blocks_lost(id, &[block]);
        }
        let feed = self.feeds[id.0 as usize].short_key();
        let problem = if job.short {
            "its data file is too short"
        } else {
            "a block does not have the hash that was signed"
        };
        let error = NodeError::Damaged { feed, problem };
        if !is_list && !matches!(job.then, Then::Read(_)) {
            self.event(Event::FeedFailed { feed: id, error: error.clone() });
        }
        self.end_mend(job, Some(error));
    }

    fn give_up_mending(&mut self, job: Mend) {
        let id = job.feed;
        let feed = self.feeds[id.0 as usize].short_key();
        let problem = "its tree does not fit what was signed";
        let error = NodeError::Damaged { feed, problem };
        self.feed_broken(id, error.clone());
        self.end_mend(job, Some(error));
    }

    /// What waited goes on, or is told why not.
    pub(super) fn end_mend(&mut self, job: Mend, error: Option<NodeError>) {
        match job.then {
            Then::Nothing => {}
            Then::Read(read) => match error {
                Some(error) if !read.waits() => self.fail_read(read, error),
                // A block that is lost is waited for.
                Some(_) | None => self.when_open(job.feed, Pending::Read(read)),
            },
            Then::Serve(id, channel, request) => {
                let Some(link) = self.links.get_mut(&id) else { return };
                let Some(state) = link.channels.get_mut(&channel) else { return };
                if error.is_none() && state.feed == job.feed {
                    state.parked.push_front(request);
                    link.parked += 1;
                }
                link.serving.push_back(channel);
                self.touch_channel(id, channel);
            }
            Then::Verify(id, channel) => {
                if let Some(state) = self.channel_mut(id, channel) {
                    state.loading = None;
                }
                self.to_verify.push_back((id, channel));
                self.touch_channel(id, channel);
            }
        }
    }
}
