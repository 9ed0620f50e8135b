//! Selective sync: which feeds are replicated with which peer, and how much of each.
//!
//! A [`Policy`] decides on every feed that is offered to a peer or by it. Two need nobody; with
//! [`Policy::Ask`] each decision goes out as [`Event::Question`] and comes back by [`Node::answer`]. What was
//! refused may be allowed later, by [`Node::allow`].
//!
//! Not here: who is let in at all (`admission`), and feeds that are kept out for good (`blocked`).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Range;

use multifeed_proto::{FeedKey, Now};

use super::link::Link;
use super::{ConnectionId, Event, MultifeedId, Node, NodeError};

/// How much of a feed is fetched from a peer without being asked for.
///
/// What somebody waits for ([`Node::wait`], [`Node::download`], [`Node::update`], [`Node::seek`]) is fetched
/// in any case, and a [sparse](Node::set_sparse) feed fetches nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fetch {
    /// Every block.
    #[default]
    All,
    /// The last so many blocks of the log, as far as it is known or the peer says that it reaches. Those
    /// that are here and are overtaken stay.
    Newest(u64),
    /// The blocks of these ranges.
    Ranges(Vec<Range<u64>>),
    /// Nothing.
    OnlyAsked,
}

/// Which feeds are replicated on a connection.
///
/// What a policy refuses is neither offered to the peer nor accepted from it: the peer does not learn
/// that it is here. Feeds that another multifeed of the connection allows are replicated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// All feeds that are here, and all that the peer offers, as the JavaScript does.
    #[default]
    AcceptAll,
    /// These feeds and no others, local writers included, each as far as is said.
    AllowList(BTreeMap<FeedKey, Fetch>),
    /// Those that the application allows: see [`Event::Question`].
    Ask,
}

/// Number of a question of one node; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuestionId(pub u64);

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Which of our feeds to offer to the peer.
    Offer,
    /// Which of the peer's feeds to accept.
    Accept,
}

/// Which of these feeds are to be shared with a peer?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its number, for [`Node::answer`].
    pub id: QuestionId,
    /// The connection.
    pub connection: ConnectionId,
    /// The multifeed.
    pub multifeed: MultifeedId,
    /// The peer's static Noise public key.
    pub remote_public_key: [u8; 32],
    /// Whether our feeds are to be offered, or the peer's to be accepted.
    pub decision: Decision,
    /// The feeds. Each is asked about once in a connection and multifeed.
    pub keys: BTreeSet<FeedKey>,
}

impl Fetch {
    /// The first block from `at` on that is fetched of a log with `length` blocks.
    pub(super) fn next(&self, at: u64, length: u64) -> Option<u64> {
        match self {
            Self::All => Some(at),
            Self::Newest(count) => Some(at.max(length.saturating_sub(*count))),
            Self::Ranges(ranges) => ranges
                .iter()
                .filter(|range| range.start < range.end && at < range.end)
                .map(|range| at.max(range.start))
                .min(),
            Self::OnlyAsked => None,
        }
    }

    /// The end of a run of fetched blocks that begins at `start`, one of them.
    pub(super) fn end(&self, start: u64) -> u64 {
        match self {
            Self::All | Self::Newest(_) => u64::MAX,
            Self::Ranges(ranges) => {
                let ends = ranges.iter().filter(|range| range.contains(&start));
                ends.map(|range| range.end).max().unwrap_or(start + 1)
            }
            Self::OnlyAsked => start + 1,
        }
    }
}

impl Link {
    /// Sets what is shared. To be called before anything is said.
    pub(super) fn share(&mut self, policy: Policy) {
        self.restricted = policy != Policy::AcceptAll;
        self.asks = policy == Policy::Ask;
        if let Policy::AllowList(feeds) = policy {
            self.allowed = feeds;
        }
    }

    /// Whether the application named a feed for this connection.
    pub(super) fn names(&self, key: &FeedKey) -> bool {
        self.allowed.contains_key(key)
    }

    /// Whether a feed may be shared.
    fn allows(&self, key: &FeedKey) -> bool {
        !self.restricted || self.allowed.contains_key(key)
    }

    /// How much of a feed is fetched.
    pub(super) fn fetch(&self, key: &FeedKey) -> Fetch {
        self.allowed.get(key).cloned().unwrap_or_default()
    }
}

impl Node {
    /// The questions of a connection that are not answered, the oldest first.
    pub fn questions(&self, connection: ConnectionId) -> impl Iterator<Item = &Question> {
        self.links.get(&connection).into_iter().flat_map(|link| link.questions.values())
    }

    /// Answers an [`Event::Question`]: the feeds that are allowed, and how much of each is fetched. All
    /// others of the question are refused, and so are keys that it did not name.
    ///
    /// # Errors
    ///
    /// [`NodeError::UnknownQuestion`] if it was answered before, or its connection or multifeed is over.
    pub fn answer(
        &mut self,
        now: Now,
        question: QuestionId,
        allowed: &[(FeedKey, Fetch)],
    ) -> Result<(), NodeError> {
        self.advance(now);
        let found = self.links.iter_mut().find_map(|(id, link)| {
            let asked = link.questions.remove(&question)?;
            if let Some(root) = link.root_of(asked.multifeed) {
                root.questions = root.questions.saturating_sub(1);
            }
            Some((*id, asked))
        });
        let (id, asked) = found.ok_or(NodeError::UnknownQuestion)?;
        let mut keys = Vec::new();
        for (key, fetch) in allowed.iter().filter(|(key, _)| asked.keys.contains(key)) {
            self.note_allowed(id, key, fetch);
            keys.push(*key);
        }
        match asked.decision {
            Decision::Offer => self.offer_keys(id, asked.multifeed, &keys),
            Decision::Accept => self.request_keys(id, asked.multifeed, keys),
        }
        Ok(())
    }

    /// Allows feeds on a connection that were refused before, or not asked about: they are offered if
    /// they are here, and accepted if the peer has offered them. For one that is replicated, changes how
    /// much of it is fetched.
    ///
    /// Against an [allow list](Policy::AllowList) too, for as long as the connection lasts.
    ///
    /// # Errors
    ///
    /// [`NodeError::UnknownConnection`], and [`NodeError::UnknownMultifeed`] if the connection does not carry it.
    pub fn allow(
        &mut self,
        now: Now,
        connection: ConnectionId,
        multifeed: MultifeedId,
        feeds: &[(FeedKey, Fetch)],
    ) -> Result<(), NodeError> {
        self.advance(now);
        let link = self.links.get_mut(&connection).ok_or(NodeError::UnknownConnection)?;
        let root = link.root_of(multifeed).filter(|root| root.is_ready());
        let root = root.map(|root| root.id).ok_or(NodeError::UnknownMultifeed)?;
        let (mut offer, mut request) = (Vec::new(), Vec::new());
        for (key, fetch) in feeds {
            self.note_allowed(connection, key, fetch);
            let Some(mux) = self.links.get(&connection).and_then(|link| link.connection.mux(root))
            else {
                continue;
            };
            let open = self.links[&connection].connection.channel(key).is_some();
            if mux.offered_by_remote(key) && !open {
                request.push(*key);
            } else if !open && self.is_member(multifeed, key) {
                offer.push(*key);
            }
        }
        if !request.is_empty() {
            self.request_keys(connection, multifeed, request);
        }
        if !offer.is_empty() {
            self.offer_keys(connection, multifeed, &offer);
        }
        Ok(())
    }

    /// Decides which of our feeds are offered, or has it decided.
    pub(super) fn propose(
        &mut self,
        id: ConnectionId,
        multifeed: MultifeedId,
        mut keys: Vec<FeedKey>,
    ) {
        keys.retain(|key| self.is_member(multifeed, key));
        let Some(link) = self.links.get_mut(&id) else { return };
        let asks = link.asks;
        let root = link.root_of(multifeed).map(|root| root.id);
        let Some(mux) = root.and_then(|root| link.connection.mux(root)) else { return };
        if asks {
            keys.retain(|key| !mux.offered_by_remote(key) && !mux.offered_by_us(key));
        }
        if asks && !keys.is_empty() {
            self.ask(id, multifeed, Decision::Offer, keys);
        } else {
            keys.retain(|key| link.allows(key));
            self.offer_keys(id, multifeed, &keys);
        }
    }

    /// Decides which of the peer's feeds are accepted, or has it decided.
    pub(super) fn consider(
        &mut self,
        id: ConnectionId,
        multifeed: MultifeedId,
        mut keys: Vec<FeedKey>,
    ) {
        let room = self.room_for(id);
        let mut new = 0;
        keys.retain(|key| self.may_consider(key, &mut new));
        let asks = self.links.get(&id).is_some_and(|link| link.asks);
        if new > room && !asks {
            self.refused_feeds(id, multifeed, new - room);
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.asks && !keys.is_empty() {
            self.ask(id, multifeed, Decision::Accept, keys);
        } else {
            keys.retain(|key| link.allows(key));
            self.request_keys(id, multifeed, keys);
        }
    }

    fn ask(
        &mut self,
        id: ConnectionId,
        multifeed: MultifeedId,
        decision: Decision,
        keys: Vec<FeedKey>,
    ) {
        let question = QuestionId(self.next_question);
        self.next_question += 1;
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(remote_public_key) = link.remote_public_key else { return };
        let Some(root) = link.root_of(multifeed) else { return };
        root.questions += 1;
        let keys = keys.into_iter().collect();
        let asked =
            Question { id: question, connection: id, multifeed, remote_public_key, decision, keys };
        link.questions.insert(question, asked.clone());
        self.event(Event::Question(asked));
    }

    /// Offers feeds, the first time even none: peers wait for the first list.
    fn offer_keys(&mut self, id: ConnectionId, multifeed: MultifeedId, keys: &[FeedKey]) {
        let keys: Vec<FeedKey> =
            keys.iter().filter(|key| self.is_member(multifeed, key)).copied().collect();
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(root) = link.root_of(multifeed).filter(|root| root.is_ready()) else { return };
        let root = root.id;
        let _ = link.connection.offer(root, &keys);
        self.asked(id);
    }

    /// Asks for feeds of the peer, as far as there is room for them; for none, too: it waits for that.
    fn request_keys(&mut self, id: ConnectionId, multifeed: MultifeedId, mut keys: Vec<FeedKey>) {
        let mut new = 0;
        keys.retain(|key| self.may_add(id, multifeed, key, &mut new));
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(root) = link.root_of(multifeed).map(|root| root.id) else { return };
        let _ = link.connection.request_feeds(root, &keys);
        self.asked(id);
    }

    fn asked(&mut self, id: ConnectionId) {
        self.progress(id);
        self.touched.insert(id);
        self.announce(id);
    }

    fn note_allowed(&mut self, id: ConnectionId, key: &FeedKey, fetch: &Fetch) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.allowed.insert(*key, fetch.clone());
        let Some(channel) = link.connection.channel(key) else { return };
        if let Some(state) = link.channels.get_mut(&channel) {
            state.fetch = fetch.clone();
            state.rewind(0);
        }
        link.want(channel);
        self.touch_channel(id, channel);
    }

    fn is_member(&self, multifeed: MultifeedId, key: &FeedKey) -> bool {
        let known = self.by_key.get(key).filter(|id| self.entry(**id).is_some());
        let place = known.and_then(|id| self.feeds[id.0 as usize].place_in(multifeed));
        let members = &self.multifeeds[multifeed.0 as usize].members;
        let member = place.and_then(|place| members.get(place));
        let seen = known.is_some_and(|id| self.feeds[id.0 as usize].seen);
        member.is_some_and(|member| if member.local { member.recorded } else { seen })
    }
}
