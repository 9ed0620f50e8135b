//! What came: blocks are verified, held until they can be, and taken into their feed.

use alloc::vec::Vec;

use multifeed_proto::ChannelId;
use multifeed_proto::messages::Data;

use super::compare::Compare;
use super::mend::{Mend, Then};
use super::select::Scope;
use super::{After, ConnectionId, Node};
use crate::feed::Proven;
use crate::format::forked::Head;
use crate::storage::{BatchId, StorageError};
use crate::tree::proof::{self, Proof, Unverified};
use crate::tree::{Node as TreeNode, NodeIndex};

/// What became of one answer.
pub(super) enum Verdict {
    /// The block is in the feed; these nodes are known from here on.
    Taken(Vec<TreeNode>, usize),
    /// The feed has it already, or no longer wants it.
    Dropped,
    /// These nodes must be read from storage first.
    Load(Vec<NodeIndex>),
    /// It waits for this node.
    Hold(u64),
    /// It builds on a node that the peer was told we would have, and that never came.
    Orphan,
    Wrong(&'static str),
    /// What is stored here below this node does not fit it.
    Broken(NodeIndex),
    /// It is of another log that is signed.
    Forked(Head),
}

impl Node {
    pub(super) fn data_came(&mut self, id: ConnectionId, channel: ChannelId, data: Data) {
        if data.value.is_none() {
            if self.comparison_came(id, channel, data.index)
                || self.end_hashes(id, channel, data.index)
            {
                self.progress(id);
                if let Some(state) = self.channel_mut(id, channel) {
                    state.inbox.push_back(data);
                }
                self.to_verify.push_back((id, channel));
            }
            return;
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(state) = link.channels.get_mut(&channel) else { return };
        // The answer to a request that was given up is welcome too: the peer leaves what it brings out of
        // the proofs that follow.
        let bytes = data.value.as_ref().map_or(0, bytes::Bytes::len);
        let feed = state.feed;
        let flight = state.flights.get_mut(&data.index);
        let asked = flight.and_then(|flight| {
            let first = !core::mem::replace(&mut flight.answered, true);
            first.then_some(flight.asked_at)
        });
        state.lost.remove(data.index..data.index.saturating_add(1));
        if state.refused.came(data.index) {
            state.rewind(0);
        }
        state.inbox.push_back(data);
        state.moved.block_bytes_received += bytes as u64;
        link.held_bytes += bytes;
        link.block_came(bytes, &self.config);
        if let Some(asked_at) = asked {
            link.pulse.answers.whole(self.awake);
            link.answered(asked_at, self.awake);
            link.progress(self.awake);
        }
        link.counters.block_bytes_received += bytes as u64;
        if link.held_bytes > self.config.max_held_bytes {
            let problem = "more of its answers wait for others than may";
            self.feeds[feed.0 as usize].ailments.there = Some(problem);
            self.quit_feed(id, channel);
            self.tell_health(feed, Some(id));
            return;
        }
        self.to_verify.push_back((id, channel));
    }

    pub(super) fn verify_all(&mut self) {
        while let Some((id, channel)) = self.to_verify.pop_front() {
            self.verify_inbox(id, channel);
        }
    }

    pub(super) fn verify_inbox(&mut self, id: ConnectionId, channel: ChannelId) {
        loop {
            let Some(link) = self.links.get_mut(&id) else { return };
            let Some(state) =
                link.channels.get_mut(&channel).filter(|state| state.loading.is_none())
            else {
                return;
            };
            let feed_id = state.feed;
            if self.feeds[feed_id.0 as usize].feed().is_none() {
                return;
            }
            let Some(data) = state.inbox.pop_front() else { return };
            let block = data.index;
            let hash = data.value.is_none();
            let bytes = data.value.as_ref().map_or(0, bytes::Bytes::len);
            match self.judge_data(id, channel, &data) {
                Verdict::Taken(nodes, stored) => {
                    if let Some(state) = self.channel_mut(id, channel) {
                        state.vain = 0;
                    }
                    self.unstored_bytes += stored;
                    self.release_held(id, bytes);
                    if hash {
                        self.hashes_came(feed_id);
                    } else {
                        self.end_flight(id, channel, block);
                        self.came_first(feed_id, block);
                        self.give_back(id, channel, block);
                    }
                    self.wake_held(id, channel, &nodes);
                    self.mark_dirty(feed_id);
                    if let Some(link) = self.links.get_mut(&id) {
                        link.want(channel);
                    }
                    self.touch_channel(id, channel);
                }
                Verdict::Dropped => {
                    self.release_held(id, bytes);
                    if !hash {
                        self.end_flight(id, channel, block);
                        self.give_back(id, channel, block);
                    }
                    self.touch_channel(id, channel);
                }
                Verdict::Load(nodes) => {
                    let Some(feed) = self.feeds[feed_id.0 as usize].feed() else { return };
                    if let Some(node) = feed.lacking(&nodes) {
                        return self.mend_first(id, channel, data, node);
                    }
                    let batch = self.load_nodes(feed_id, nodes, After::Verify(id, channel));
                    if let Some(state) = self.channel_mut(id, channel) {
                        state.loading = batch;
                        state.inbox.push_front(data);
                    }
                    return;
                }
                Verdict::Hold(node) => {
                    if let Some(state) = self.channel_mut(id, channel) {
                        state.held.entry(node).or_default().push(data);
                    }
                }
                Verdict::Orphan => {
                    // Asked once more, with a digest that is true by now. hypercore 9 remembers the
                    // other one for as long as the channel lives, and so may answer in vain again.
                    self.release_held(id, bytes);
                    let now = self.now;
                    let timeout = self.config.patience.request_timeout;
                    if let Some(state) = self.channel_mut(id, channel) {
                        if hash {
                            state.no_hashes = true;
                        } else {
                            if state.orphaned.contains(block) {
                                state.refused.add(block, now, timeout);
                                state.vain += u32::from(!state.gave_up);
                            }
                            state.orphaned.insert(block..block + 1);
                        }
                    }
                    if !hash {
                        self.end_flight(id, channel, block);
                        self.give_back(id, channel, block);
                    }
                    self.rewind_others(feed_id);
                    self.touch_channel(id, channel);
                    self.judge_vain(id, channel, block);
                }
                Verdict::Wrong(problem) => {
                    self.release_held(id, bytes);
                    let value = (!hash).then_some(block);
                    self.answer_is_wrong(id, channel, value, block, problem);
                }
                Verdict::Broken(above) => {
                    let node = above.left_child().unwrap_or(above);
                    return self.mend_first(id, channel, data, node);
                }
                Verdict::Forked(there) => {
                    self.release_held(id, bytes);
                    self.fork_found(id, channel, there);
                    return;
                }
            }
        }
    }

    fn judge_data(&mut self, id: ConnectionId, channel: ChannelId, data: &Data) -> Verdict {
        let state = self.links.get(&id).and_then(|link| link.channels.get(&channel));
        let asked = state.and_then(|state| match state.compare {
            Compare::Asked { block, .. } => Some(block),
            Compare::Due | Compare::Agrees | Compare::Unknown => None,
        });
        if data.value.is_none() && asked == Some(data.index) {
            if let Some(verdict) = self.judge_comparison(id, channel, data) {
                return verdict;
            }
        }
        let verdict = self.judge_answer(id, channel, data);
        if let Verdict::Wrong(problem) = verdict {
            return self.look_closer(id, channel, data, problem);
        }
        verdict
    }

    /// An answer waits until a node of our own tree is mended.
    fn mend_first(&mut self, id: ConnectionId, channel: ChannelId, data: Data, node: NodeIndex) {
        let Some(state) = self.channel_mut(id, channel) else { return };
        // No batch has this number: the end of the mending brings the channel back.
        state.loading = Some(BatchId(u64::MAX));
        state.inbox.push_front(data);
        let feed = state.feed;
        self.run_mend(Mend::new(feed, node, None, Then::Verify(id, channel)));
    }

    /// An answer does not fit: what is held may be damaged, or the answer part of another log that is
    /// signed.
    fn look_closer(
        &mut self,
        id: ConnectionId,
        channel: ChannelId,
        data: &Data,
        problem: &'static str,
    ) -> Verdict {
        let feed =
            self.feed_of(id, channel).and_then(|feed| self.feeds[feed.0 as usize].feed_mut());
        let Some(feed) = feed else { return Verdict::Dropped };
        match feed.prove_way(data.index) {
            Proven::Load(nodes) => return Verdict::Load(nodes),
            Proven::Broken(above) => return Verdict::Broken(above),
            Proven::Yes | Proven::Open => {}
        }
        let signed = proof::signed_log(feed.verifier.as_ref(), &feed.key, Proof::of(data));
        let Some(signed) = signed else { return Verdict::Wrong(problem) };
        let other = match feed.contradiction(&signed.nodes) {
            Err(nodes) => return Verdict::Load(nodes),
            Ok(other) => other,
        };
        match other.map(|other| feed.prove(other)) {
            Some(Proven::Load(nodes)) => Verdict::Load(nodes),
            Some(Proven::Broken(above)) => Verdict::Broken(above),
            Some(Proven::Yes) => {
                let (length, root, signature) = (signed.length, signed.root, signed.signature);
                Verdict::Forked(Head { length, root, signature })
            }
            Some(Proven::Open) | None => Verdict::Wrong(problem),
        }
    }

    fn judge_answer(&mut self, id: ConnectionId, channel: ChannelId, data: &Data) -> Verdict {
        let Some(state) = self.links.get(&id).and_then(|link| link.channels.get(&channel)) else {
            return Verdict::Dropped;
        };
        // What was asked for a while ago may have been given up since.
        let wanted = state.flights.contains_key(&data.index) || self.wants(id, channel, data.index);
        let Some(feed) = self.feeds[state.feed.0 as usize].feed_mut() else {
            return Verdict::Dropped;
        };
        // Of a block that came from elsewhere meanwhile, the nodes are still counted on.
        // One that is being cleared is asked for again when it is cleared, if it is still wanted.
        let unwanted =
            !wanted || feed.bits.has_block(data.index) || feed.clearing.contains(data.index);
        let value = data.value.clone().filter(|_| !unwanted);
        let proof = Proof::of(data);
        match proof::verify(&*feed, feed.verifier.as_ref(), &feed.key, feed.length(), proof) {
            Ok(verified) => {
                let nodes = verified.nodes.clone();
                let signed = verified.signature.is_some();
                let stored = value.as_ref().map_or(0, bytes::Bytes::len);
                match feed.accept(data.index, value, verified, id) {
                    Ok(()) => {
                        if signed {
                            self.agrees(id, channel);
                        }
                        Verdict::Taken(nodes, stored)
                    }
                    Err(missing) if missing.is_empty() => {
                        Verdict::Wrong("the tree lacks the sizes of the blocks before it")
                    }
                    Err(missing) => Verdict::Load(missing),
                }
            }
            Err(Unverified::NotLoaded(nodes)) => Verdict::Load(nodes),
            Err(Unverified::Missing { sibling, top, otherwise }) => {
                // Either node completes the proof; wait for the one that is on its way.
                let awaited = [top, sibling].into_iter().find(|node| {
                    state.promised.get(*node).is_some_and(|provider| provider != data.index)
                });
                match awaited {
                    Some(node) => Verdict::Hold(node.0),
                    None if state.is_poisoned() => Verdict::Orphan,
                    None => Verdict::Wrong(otherwise),
                }
            }
            Err(Unverified::Invalid(problem)) => Verdict::Wrong(problem),
        }
    }

    /// Whether a block is wanted of the peer of a channel, if it is not here.
    fn wants(&self, id: ConnectionId, channel: ChannelId, block: u64) -> bool {
        let parts = self.links.get(&id).and_then(|link| self.parts(link, channel));
        parts.is_some_and(|(feed, state, peer)| {
            let wishes = &self.feeds[state.feed.0 as usize].wishes;
            let scope = Scope::new(state, feed, peer);
            wishes.run_in(feed, block..block.saturating_add(1), &scope).is_some()
        })
    }

    /// Answers that waited for one of these nodes, on any connection, are looked at again.
    fn wake_held(&mut self, id: ConnectionId, channel: ChannelId, nodes: &[TreeNode]) {
        let Some(feed) = self.feed_of(id, channel) else { return };
        for at in &self.feeds[feed.0 as usize].channels {
            let Some(state) =
                self.links.get_mut(&at.0).and_then(|link| link.channels.get_mut(&at.1))
            else {
                continue;
            };
            if state.held.is_empty() {
                continue;
            }
            let before = state.inbox.len();
            for node in nodes {
                state.inbox.extend(state.held.remove(&node.index).into_iter().flatten());
            }
            if state.inbox.len() > before && *at != (id, channel) {
                self.to_verify.push_back(*at);
            }
        }
    }

    pub(super) fn pages_came(
        &mut self,
        id: ConnectionId,
        channel: ChannelId,
        batch: BatchId,
        result: Result<(), StorageError>,
    ) {
        // The peer may have opened the channel anew since.
        let state = self.channel_mut(id, channel).filter(|state| state.loading == Some(batch));
        let Some(state) = state else { return };
        state.loading = None;
        match result {
            Ok(()) => self.to_verify.push_back((id, channel)),
            // Our own disk failed: the blocks are asked for again when the feed is open again.
            Err(error) => {
                if let Some(feed) = self.feed_of(id, channel) {
                    self.feed_broken(feed, error.into());
                    self.retry_later(feed);
                }
            }
        }
        self.touched.insert(id);
    }

    fn release_held(&mut self, id: ConnectionId, bytes: usize) {
        if let Some(link) = self.links.get_mut(&id) {
            link.held_bytes = link.held_bytes.saturating_sub(bytes);
        }
    }

    pub(super) fn channel_mut(
        &mut self,
        id: ConnectionId,
        channel: ChannelId,
    ) -> Option<&mut super::link::Channel> {
        self.links.get_mut(&id)?.channels.get_mut(&channel)
    }
}
