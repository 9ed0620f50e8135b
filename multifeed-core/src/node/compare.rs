//! Whether a peer's log of a feed is the one that is held here.
//!
//! Two logs under one key, a fork, are found by what differs: a node of the tree that both have. So where both
//! sides have blocks before anything moved between them, the first request on a channel asks for the hashes of
//! the last block that both have, with a full proof: an answer that is signed and contradicts what is
//! held proves a fork. Until it came nothing is served to a peer that has blocks: a JavaScript peer ends the
//! whole stream when a proof does not fit what it has.
//!
//! A request like this is answered whatever is known of the peer, so that both sides find out.

use alloc::vec::Vec;

use multifeed_proto::messages::{Data, Request};
use multifeed_proto::{ChannelId, Now};

use super::link::Link;
use super::verify::Verdict;
use super::{ConnectionId, Node};
use crate::feed::Proven;
use crate::format::forked::Head;
use crate::tree::proof::{self, Proof};

/// Feeds of one connection that are compared at a time, but for those of which blocks are asked for.
const COMPARED: usize = 256;
/// Runs of the peer's blocks that are looked at for the last one that both have.
const LOOK_AT: usize = 64;

/// Whether the peer's log of a feed agrees with the one here, as far as both go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    /// Not asked yet.
    Due,
    /// The hashes of this block were asked for.
    Asked { block: u64, at: Now },
    /// It does.
    Agrees,
    /// It cannot be found out.
    Unknown,
}

/// What of the peer's requests may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    All,
    /// Those for hashes with a full proof.
    Hashes,
    /// Nothing any more: the feed is forked, and the peer's log may be the other one.
    Nothing,
}

impl Node {
    /// Compares feeds that were not yet, a bounded number at a time.
    pub(super) fn pump_compare(&mut self, id: ConnectionId) {
        loop {
            let Some(link) = self.links.get_mut(&id) else { return };
            if link.leave_by.is_some() || link.comparing.len() >= COMPARED {
                return;
            }
            let Some(channel) = link.to_compare.pop_first() else { return };
            self.compare(id, channel);
        }
    }

    /// Compares a feed if that is due and possible; whether it is under way.
    pub(super) fn compare(&mut self, id: ConnectionId, channel: ChannelId) -> bool {
        let Some(block) = self.comparable(id, channel) else { return false };
        self.ask_hashes(id, channel, block)
    }

    /// Whether the peer has yet to say what it has of the blocks that are here: nothing is asked for before, as a
    /// JavaScript peer leaves out of later proofs what a request claims to be here.
    pub(super) fn awaits_comparison(&self, id: ConnectionId, channel: ChannelId) -> bool {
        let parts = self.links.get(&id).and_then(|link| self.parts(link, channel));
        parts.is_some_and(|(feed, state, peer)| {
            let due = state.compare == Compare::Due && state.has_own && feed.length() > 0;
            let mut wants = peer.wants_without_answer();
            due && peer.status().uploading && wants.any(|span| span.start < feed.length())
        })
    }

    /// Asks for the hashes of a block with all that proves them.
    pub(super) fn ask_hashes(&mut self, id: ConnectionId, channel: ChannelId, block: u64) -> bool {
        let (now, awake) = (self.now, self.awake);
        let Some(link) = self.links.get_mut(&id) else { return false };
        let Some(state) = link.channels.get_mut(&channel) else { return false };
        let request = Request { index: block, bytes: 0, hash: true, nodes: 0 };
        let taken = state.hashes.contains_key(&block);
        if taken || link.connection.request(channel, request).is_err() {
            state.compare = Compare::Unknown;
            return false;
        }
        state.compare = Compare::Asked { block, at: awake };
        link.comparing.insert(channel);
        link.tick_at.get_or_insert(now);
        true
    }

    /// The block to ask for if a feed is to be compared: the last one that both have.
    pub(super) fn comparable(&self, id: ConnectionId, channel: ChannelId) -> Option<u64> {
        self.comparable_on(self.links.get(&id)?, channel)
    }

    /// Whether a feed is to be compared and can be.
    pub(super) fn is_comparable(&self, link: &Link, channel: ChannelId) -> bool {
        self.comparable_on(link, channel).is_some()
    }

    fn comparable_on(&self, link: &Link, channel: ChannelId) -> Option<u64> {
        let (feed, state, peer) = self.parts(link, channel)?;
        let due = state.compare == Compare::Due
            && state.has_own
            && state.open
            && state.quitting.is_none();
        if !due || !state.ours.downloading || !peer.status().uploading {
            return None;
        }
        let both = feed.length().min(peer.remote_length());
        let last = both.checked_sub(1)?;
        if peer.remote().contains(last) {
            return Some(last);
        }
        let (mut at, mut found) = (0, None);
        for _ in 0..LOOK_AT {
            let Some(run) = peer.remote().run_in(at..both) else { break };
            at = run.end;
            found = Some(run.end - 1);
        }
        found
    }

    /// Whether hashes that came are the answer to a comparison.
    pub(super) fn comparison_came(
        &mut self,
        id: ConnectionId,
        channel: ChannelId,
        block: u64,
    ) -> bool {
        let Some(link) = self.links.get_mut(&id) else { return false };
        let asked = link.channels.get(&channel).is_some_and(
            |state| matches!(state.compare, Compare::Asked { block: asked, .. } if asked == block),
        );
        asked && link.comparing.remove(&channel)
    }

    /// Judges the answer to a comparison. `None`: as any other hashes.
    pub(super) fn judge_comparison(
        &mut self,
        id: ConnectionId,
        channel: ChannelId,
        data: &Data,
    ) -> Option<Verdict> {
        let feed_id = self.feed_of(id, channel)?;
        let feed = self.feeds[feed_id.0 as usize].feed_mut()?;
        let proof = Proof::of(data);
        let Some(signed) = proof::signed_log(feed.verifier.as_ref(), &feed.key, proof) else {
            self.compared(id, channel, Compare::Unknown);
            return None;
        };
        let other = match feed.contradiction(&signed.nodes) {
            Err(missing) => return Some(Verdict::Load(missing)),
            Ok(None) => {
                self.compared(id, channel, Compare::Agrees);
                return None;
            }
            Ok(Some(other)) => other,
        };
        // The damage may be here.
        let verdict = match feed.prove(other) {
            Proven::Load(missing) => return Some(Verdict::Load(missing)),
            Proven::Broken(above) => return Some(Verdict::Broken(above)),
            Proven::Open => Verdict::Wrong("it contradicts the tree"),
            Proven::Yes => {
                let (length, root, signature) = (signed.length, signed.root, signed.signature);
                Verdict::Forked(Head { length, root, signature })
            }
        };
        self.compared(id, channel, Compare::Unknown);
        Some(verdict)
    }

    /// A comparison is over: what waited for it goes on.
    pub(super) fn compared(&mut self, id: ConnectionId, channel: ChannelId, result: Compare) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.comparing.remove(&channel);
        let Some(state) = link.channels.get_mut(&channel) else { return };
        state.compare = result;
        if !state.parked.is_empty() {
            link.serving.push_back(channel);
        }
        link.want(channel);
        self.touch_channel(id, channel);
    }

    /// An answer that is signed fits what is held here.
    pub(super) fn agrees(&mut self, id: ConnectionId, channel: ChannelId) {
        if self.channel_mut(id, channel).is_some_and(|state| state.compare == Compare::Due) {
            self.compared(id, channel, Compare::Agrees);
        }
    }

    /// Comparisons that saw no answer are given up.
    pub(super) fn give_up_comparing(&mut self, id: ConnectionId) {
        let awake = self.awake;
        let Some(link) = self.links.get(&id) else { return };
        let timeout = link.patience.request_timeout;
        if link.pulse.answers.still(awake) < timeout {
            return;
        }
        let mut silent = Vec::new();
        for channel in &link.comparing {
            if let Some(Compare::Asked { block, at }) =
                link.channels.get(channel).map(|state| state.compare)
            {
                if awake.since(at) >= timeout {
                    silent.push((*channel, block));
                }
            }
        }
        for (channel, block) in silent {
            if let Some(link) = self.links.get_mut(&id) {
                let _ = link.connection.forget_request(channel, block, true);
            }
            self.compared(id, channel, Compare::Unknown);
        }
    }

    /// A comparison that is under way counts no more.
    pub(super) fn drop_comparison(&mut self, id: ConnectionId, channel: ChannelId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.comparing.remove(&channel);
        if let Some(state) = link.channels.get_mut(&channel) {
            if let Compare::Asked { block, .. } = state.compare {
                state.compare = Compare::Due;
                let _ = link.connection.forget_request(channel, block, true);
            }
        }
    }

    /// What may be served on a channel.
    pub(super) fn gate(&self, id: ConnectionId, channel: ChannelId) -> Gate {
        let parts = self.links.get(&id).and_then(|link| self.parts(link, channel));
        let Some((_, state, _)) = parts else { return Gate::All };
        if state.quitting.is_some() {
            return Gate::Hashes;
        }
        // Who has nothing contradicts nothing.
        if state.compare == Compare::Agrees || !state.has_own {
            return Gate::All;
        }
        let waits = match state.compare {
            Compare::Asked { .. } => true,
            Compare::Due => self.comparable(id, channel).is_some(),
            Compare::Agrees | Compare::Unknown => false,
        };
        if waits {
            Gate::Hashes
        } else if self.feeds[state.feed.0 as usize].is_forked() {
            Gate::Nothing
        } else {
            Gate::All
        }
    }
}

/// Whether a request asks for hashes with a full proof.
pub(super) fn asks_for_proof(request: &Request) -> bool {
    request.hash && request.nodes == 0 && request.bytes == 0
}
