//! What wrong answers cost their sender.
//!
//! A peer that sent a few for one feed is asked nothing more of it, on that connection and for a while on later ones.
//! One that did so for many feeds is dropped, and refused for a time that doubles with each time. Peers are known
//! by their Noise public key: one that draws a new key for each connection, as JavaScript peers do, begins anew.

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

use multifeed_proto::{Now, PeerError};

use super::{ConnectionId, FeedId, Node};

/// Feeds of one connection with wrong answers after which the peer is dropped.
const MAX_FEEDS: usize = 32;
/// Peers that are remembered; those whose time is over first are forgotten first.
const MAX_PEERS: usize = 1024;
/// The first time for which a peer is remembered.
const PAUSE: Duration = Duration::from_secs(60);
/// How often it is doubled.
const MAX_DOUBLINGS: u32 = 6;

/// What peers lost by wrong answers, by their Noise public keys.
#[derive(Debug, Default)]
pub(super) struct Standings(BTreeMap<[u8; 32], Standing>);

#[derive(Debug)]
struct Standing {
    until: Now,
    /// Times that the peer was dropped.
    drops: u32,
    /// It is not to come back before.
    refused: bool,
    /// Feeds that it is not asked for.
    feeds: BTreeSet<FeedId>,
}

impl Standings {
    fn standing(&mut self, peer: [u8; 32], now: Now) -> &mut Standing {
        if self.0.len() >= MAX_PEERS && !self.0.contains_key(&peer) {
            let first = self.0.iter().min_by_key(|(_, standing)| standing.until);
            if let Some(peer) = first.map(|(peer, _)| *peer) {
                self.0.remove(&peer);
            }
        }
        let fresh = || Standing { until: now, drops: 0, refused: false, feeds: BTreeSet::new() };
        self.0.entry(peer).or_insert_with(fresh)
    }
}

impl Node {
    /// A peer sent too many wrong answers for a feed.
    pub(super) fn lose_standing(&mut self, id: ConnectionId, feed: FeedId, error: PeerError) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        link.distrusted.insert(feed);
        let many = link.distrusted.len() >= MAX_FEEDS;
        if let Some(peer) = link.remote_public_key {
            let standing = self.standings.standing(peer, now);
            if standing.feeds.len() < MAX_FEEDS {
                standing.feeds.insert(feed);
            }
            standing.refused |= many;
            standing.drops = (standing.drops + u32::from(many)).min(MAX_DOUBLINGS);
            standing.until = now.after(PAUSE * (1 << standing.drops));
        }
        if many {
            link.connection.close(Some(error));
            self.touched.insert(id);
        }
    }

    /// The seconds for which a peer is not to come back; `None`: it may.
    pub(super) fn refused_for(&self, peer: &[u8; 32]) -> Option<u64> {
        let standing = self.standings.0.get(peer).filter(|standing| standing.refused)?;
        let left = standing.until.since(self.now);
        (standing.until > self.now).then(|| left.as_secs().max(1))
    }

    /// Whether a peer is asked nothing of a feed.
    pub(super) fn is_distrusted(&self, id: ConnectionId, feed: FeedId) -> bool {
        let peer = self.links.get(&id).and_then(|link| link.remote_public_key);
        let standing = peer.and_then(|peer| self.standings.0.get(&peer));
        standing.is_some_and(|known| known.until > self.now && known.feeds.contains(&feed))
    }
}
