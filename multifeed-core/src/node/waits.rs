//! What a connection waits for until the two ends have what they want of each other.

use multifeed_proto::ChannelId;
use multifeed_proto::session::Peer;

use super::compare::Compare;
use super::link::{Barrier, Channel, Link, LinkRoot, Phase};
use super::missing::{first_missing, given_back, lacks_some, missing, unacknowledged};
use super::select::Wishes;
use super::{ConnectionId, Node, WaitingFor, entry::EntryState};
use crate::feed::Feed;

impl Node {
    /// What a connection waits for; `None`: it is in sync. Blocks are counted only if asked to.
    pub(super) fn link_waits(&self, link: &Link, count: bool) -> Option<WaitingFor> {
        let open = |root: &&LinkRoot| matches!(root.phase, Phase::Waiting | Phase::Ready);
        if !link.roots.iter().any(|root| open(&root) || is_finished(link, root)) {
            let cut_off = link.roots.iter().any(|root| root.was_ready);
            return Some(if cut_off { WaitingFor::OfferAnswer } else { WaitingFor::Handshake });
        }
        let offers = link.roots.iter().filter(open).find_map(|root| offers_wait(link, root));
        offers.or_else(|| self.feeds_wait(link, link.unsynced.first(), count))
    }

    /// What one multifeed of a connection waits for; `None`: it is in sync.
    pub(super) fn root_waits(
        &self,
        link: &Link,
        root: &LinkRoot,
        count: bool,
    ) -> Option<WaitingFor> {
        offers_wait(link, root).or_else(|| self.feeds_wait(link, root.unsynced.first(), count))
    }

    /// What the feeds wait for of which `first` is not in sync, once all offers are answered.
    fn feeds_wait(
        &self,
        link: &Link,
        first: Option<&ChannelId>,
        count: bool,
    ) -> Option<WaitingFor> {
        if self.is_proving_keys() {
            return Some(WaitingFor::OfferAnswer);
        }
        let waits = count.then(|| self.waits_on(link, *first?, true, &mut 0)).flatten();
        first.map(|_| waits.unwrap_or(WaitingFor::OfferAnswer))
    }

    pub(super) fn channel_waits(
        &self,
        id: ConnectionId,
        channel: ChannelId,
        steps: &mut u64,
    ) -> Option<WaitingFor> {
        self.waits_on(self.links.get(&id)?, channel, false, steps)
    }

    /// What one channel waits for; `None`: the feed is in sync, or closed.
    pub(super) fn waits_on(
        &self,
        link: &Link,
        id: ChannelId,
        count: bool,
        steps: &mut u64,
    ) -> Option<WaitingFor> {
        let waiting = self.what_is_open(link, id, count, steps)?;
        let sends = matches!(
            waiting,
            WaitingFor::Have(_)
                | WaitingFor::Requests(_)
                | WaitingFor::Acknowledgement { .. }
                | WaitingFor::Confirmation(_)
        );
        let parts = self.parts(link, id).filter(|_| sends);
        let back = parts.map_or(0, |(feed, state, peer)| given_back(feed, state, peer));
        let entry = link.channels.get(&id).map(|state| &self.feeds[state.feed.0 as usize]);
        match (back, entry) {
            (0, _) | (_, None) => Some(waiting),
            (blocks, Some(entry)) => Some(WaitingFor::GivenBack { feed: entry.key, blocks }),
        }
    }

    /// The same, without a thought of why.
    fn what_is_open(
        &self,
        link: &Link,
        id: ChannelId,
        count: bool,
        steps: &mut u64,
    ) -> Option<WaitingFor> {
        let state = link.channels.get(&id)?;
        let entry = &self.feeds[state.feed.0 as usize];
        let key = entry.key;
        if state.quitting.is_some() {
            return Some(WaitingFor::Comparison(key));
        }
        if !state.open {
            return Some(WaitingFor::Open(key));
        }
        let EntryState::Open(feed) = &entry.state else { return Some(WaitingFor::Storage(key)) };
        let peer = link.connection.peer(id)?;
        let wants_open = peer.unanswered_wants() > 0 || state.wanted_to == 0;
        if wants_open && peer.status().uploading && state.barrier != Barrier::Asked {
            return Some(WaitingFor::Have(key));
        }
        if matches!(state.compare, Compare::Asked { .. }) || self.is_comparable(link, id) {
            return Some(WaitingFor::Comparison(key));
        }
        if peer.status().uploading && state.ours.downloading {
            let (missing, refused) = if count {
                missing(feed, &entry.wishes, state, peer, steps)
            } else if !state.is_waiting() {
                first_missing(feed, &entry.wishes, state, peer, steps)
            } else {
                (1, 0)
            };
            if missing > refused {
                return Some(WaitingFor::Blocks { feed: key, missing });
            }
            if refused > 0 {
                return Some(WaitingFor::Refused { feed: key, missing: refused });
            }
        }
        if !feed.unstored.is_empty() {
            return Some(WaitingFor::Storage(key));
        }
        if !state.parked.is_empty() || state.job.is_some() {
            return Some(WaitingFor::Requests(key));
        }
        let mut taken_back = state.taken_back.iter();
        if peer.status().downloading && taken_back.any(|run| !peer.remote().contains_all(run)) {
            return Some(WaitingFor::Storage(key));
        }
        let unacked = unacknowledged(state, peer, count);
        if unacked > 0 {
            return Some(WaitingFor::Acknowledgement { feed: key, blocks: unacked });
        }
        let settled =
            !peer.status().downloading || !state.ours.uploading || state.barrier == Barrier::Passed;
        if !settled && lacks_some(feed, peer, steps) {
            return Some(WaitingFor::Confirmation(key));
        }
        None
    }

    /// Whether the peer has blocks that are wanted here and that it may still send.
    pub(super) fn lacks(
        &self,
        feed: &Feed,
        wishes: &Wishes,
        state: &Channel,
        peer: &Peer,
        steps: &mut u64,
    ) -> bool {
        let (missing, refused) = first_missing(feed, wishes, state, peer, steps);
        missing > refused
    }
}

/// Whether the peer ended a multifeed after all that was offered on it was answered.
fn is_finished(link: &Link, root: &LinkRoot) -> bool {
    root.was_ready
        && link.connection.mux(root.id).is_some_and(|mux| {
            mux.got_first_manifest() && mux.awaiting_request() == 0 && mux.awaiting_replicate() == 0
        })
}

/// What the offers of one multifeed wait for.
fn offers_wait(link: &Link, root: &LinkRoot) -> Option<WaitingFor> {
    let mux = link.connection.mux(root.id);
    let Some(mux) = mux.filter(|mux| mux.is_ready()) else {
        return Some(WaitingFor::Handshake);
    };
    if root.questions > 0 {
        return Some(WaitingFor::Decision);
    }
    if !mux.got_first_manifest() {
        return Some(WaitingFor::Manifest);
    }
    let open = mux.awaiting_request() > 0 || mux.awaiting_replicate() > 0;
    (open || !root.to_offer.is_empty()).then_some(WaitingFor::OfferAnswer)
}
