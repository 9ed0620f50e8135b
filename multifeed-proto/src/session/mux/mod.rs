//! The multifeed handshake, offers and requests of one root key.
//!
//! Here are the rules: what a message means, what it must be answered with, what is remembered.
//! Channels are not: [`Mux`] gives and takes the bodies of extension messages, says which
//! [`Way`] they go, and leaves it to [`Session`](super::Session) to send them there.
//!
//! Source: `hypermultifeed@1.1.0`, `mux.js`; `multifeed@6.0.0`, `mux.js`.

mod json;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::{ChannelId, Config, Contents, Dialect, FeedKey, Now, PeerError, RootKey, UserData};

/// The state of one multifeed (root key) on one connection.
#[derive(Debug)]
pub struct Mux {
    root: RootKey,
    channel: ChannelId,
    user_data: Option<UserData>,
    /// The ways that are open to it: more than one until the handshake came.
    dialect: Dialect,
    /// Whether the remote proved that it knows the root key.
    proven: bool,
    phase: Phase,
    was_ready: bool,
    deadline: Option<Now>,
    got_first_manifest: bool,
    sent_first_manifest: bool,
    awaiting_request: usize,
    awaiting_replicate: usize,
    /// Requests of ours that named feeds and are not answered.
    asked: usize,
    /// Whether we ever answered a manifest.
    requested: bool,
    /// The remote agreed on feeds, and none of them is open yet.
    opening: bool,
    /// Empty requests of the remote that are not answered yet.
    held: usize,
    keys: BTreeMap<FeedKey, Marks>,
    offered_by_remote: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No valid handshake of the remote yet.
    Waiting,
    Ready,
    /// The remote closed the channel.
    Closed,
    /// The remote broke the rules, or was too late.
    Failed,
}

/// How the messages of a multifeed travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// On the channel of the root key.
    RootChannel,
    /// On the stream, channel 0.
    Stream,
}

/// What was said about a key.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    offered_by_us: bool,
    offered_by_remote: bool,
    requested: bool,
}

/// The body of an extension message and the name of its extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) name: &'static str,
    pub(crate) payload: Contents,
}

/// What a message of the remote amounts to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Ready {
        version: String,
        user_data: Option<String>,
    },
    /// Keys that were not offered before.
    Offered(Vec<FeedKey>),
    /// Keys of ours that the remote asks for, to be answered with the body. Without one, the answer waits.
    Requested(Vec<FeedKey>, Option<Body>),
    /// Keys of the remote's that it gives.
    Replicate(Vec<FeedKey>),
    Ignored,
}

impl Mux {
    pub(crate) fn new(
        root: RootKey,
        channel: ChannelId,
        user_data: Option<UserData>,
        dialect: Dialect,
        deadline: Option<Now>,
    ) -> Self {
        Self {
            root,
            channel,
            user_data,
            dialect,
            proven: false,
            phase: Phase::Waiting,
            was_ready: false,
            deadline,
            got_first_manifest: false,
            sent_first_manifest: false,
            awaiting_request: 0,
            awaiting_replicate: 0,
            asked: 0,
            requested: false,
            opening: false,
            held: 0,
            keys: BTreeMap::new(),
            offered_by_remote: 0,
        }
    }

    /// The extension names of a multifeed, in the order of their numbers.
    pub(crate) const NAMES: [&'static str; 4] =
        [json::HANDSHAKE, json::MANIFEST, json::REPLICATE, json::REQUEST];

    /// The root key.
    #[must_use]
    pub fn root(&self) -> &RootKey {
        &self.root
    }

    /// What the remote speaks; [`Dialect::Auto`] as long as it is not known.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whether the remote's handshake was good and its channel is open.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// Whether the remote closed the channel of this multifeed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether this multifeed ended by the fault of the remote.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.phase == Phase::Failed
    }

    /// Whether it may be joined anew.
    pub(crate) fn is_over(&self) -> bool {
        self.is_closed() || self.is_failed()
    }

    /// Whether the connection has a reason to go on: this multifeed was ready, or may become so.
    pub(crate) fn is_of_use(&self) -> bool {
        match self.phase {
            Phase::Waiting | Phase::Ready => true,
            Phase::Closed => self.was_ready,
            Phase::Failed => false,
        }
    }

    /// Whether the remote's handshake was good once.
    pub(crate) fn was_ready(&self) -> bool {
        self.was_ready
    }

    /// Whether a manifest of the remote came.
    #[must_use]
    pub fn got_first_manifest(&self) -> bool {
        self.got_first_manifest
    }

    /// Manifests of ours that the remote has not answered with a request.
    #[must_use]
    pub fn awaiting_request(&self) -> usize {
        self.awaiting_request
    }

    /// Requests of ours that the remote has not answered with a list of feeds to replicate.
    #[must_use]
    pub fn awaiting_replicate(&self) -> usize {
        self.awaiting_replicate
    }

    /// Whether we offered `key`.
    #[must_use]
    pub fn offered_by_us(&self, key: &FeedKey) -> bool {
        self.keys.get(key).is_some_and(|marks| marks.offered_by_us)
    }

    /// Whether the remote offered `key`.
    #[must_use]
    pub fn offered_by_remote(&self, key: &FeedKey) -> bool {
        self.keys.get(key).is_some_and(|marks| marks.offered_by_remote)
    }

    /// Whether the remote proved that it knows the root key.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// Bytes of the keys that either side spoke of.
    pub(crate) fn bytes(&self) -> usize {
        self.keys.len() * (size_of::<(FeedKey, Marks)>() + 16)
    }

    pub(crate) fn channel(&self) -> ChannelId {
        self.channel
    }

    /// When the handshake must have come, as long as it has not.
    pub(crate) fn deadline(&self) -> Option<Now> {
        self.deadline.filter(|_| self.phase == Phase::Waiting)
    }

    /// Whether messages that came this `way` count.
    pub(crate) fn hears(&self, way: Way) -> bool {
        match self.dialect {
            Dialect::Auto => true,
            Dialect::Stream => way == Way::Stream,
            Dialect::RootChannel => way == Way::RootChannel,
        }
    }

    /// The way of everything but handshakes.
    pub(crate) fn way(&self) -> Way {
        match self.dialect {
            Dialect::Stream => Way::Stream,
            Dialect::Auto | Dialect::RootChannel => Way::RootChannel,
        }
    }

    /// Both sides have the channel open: the handshakes to be sent.
    pub(crate) fn opened(&mut self) -> Vec<(Way, Body)> {
        let again = core::mem::replace(&mut self.proven, true);
        let ways = [Way::RootChannel, Way::Stream].into_iter();
        ways.filter(|way| self.hears(*way) && !(again && *way == Way::Stream))
            .map(|way| (way, self.handshake()))
            .collect()
    }

    /// The channel of the root key is closed. `true`: that ends the multifeed.
    pub(crate) fn close(&mut self) -> bool {
        if self.is_ready() && self.way() == Way::Stream {
            return false;
        }
        self.phase = Phase::Closed;
        true
    }

    pub(crate) fn fail(&mut self) {
        self.phase = Phase::Failed;
    }

    fn handshake(&self) -> Body {
        Body {
            name: json::HANDSHAKE,
            payload: json::handshake(self.user_data.as_ref().map(UserData::as_json)).into(),
        }
    }

    /// The manifests that offer what of `keys` must still be offered, and the keys in them.
    pub(crate) fn offer(&mut self, keys: &[FeedKey], config: &Config) -> (Vec<Body>, Vec<FeedKey>) {
        let first = !core::mem::replace(&mut self.sent_first_manifest, true);
        let mut new = Vec::new();
        for key in keys.iter().filter(|key| key.0 != *self.root.expose()) {
            let marks = self.keys.entry(*key).or_default();
            if !marks.offered_by_us && (first || !marks.offered_by_remote) {
                marks.offered_by_us = true;
                new.push(*key);
            }
        }
        let manifest =
            |keys: &[FeedKey]| Body { name: json::MANIFEST, payload: json::manifest(keys).into() };
        let mut bodies: Vec<_> =
            new.chunks(keys_for(config).min(config.manifest_keys.max(1))).map(manifest).collect();
        if first && bodies.is_empty() {
            bodies.push(manifest(&[]));
        }
        self.awaiting_request += bodies.len();
        (bodies, new)
    }

    /// The requests for `keys`, one unless it would not fit a frame, and those of `keys` that were
    /// never spoken of before.
    pub(crate) fn request(
        &mut self,
        keys: &[FeedKey],
        config: &Config,
    ) -> (Vec<Body>, Vec<FeedKey>) {
        let mut new = Vec::new();
        for key in keys {
            let marks = self.keys.entry(*key).or_insert_with(|| {
                new.push(*key);
                Marks::default()
            });
            marks.requested = true;
        }
        let request =
            |keys: &[FeedKey]| Body { name: json::REQUEST, payload: json::list(keys).into() };
        let mut bodies: Vec<_> = keys.chunks(keys_for(config)).map(request).collect();
        if bodies.is_empty() {
            bodies.push(request(&[]));
        }
        self.awaiting_replicate += bodies.len();
        self.requested = true;
        if !keys.is_empty() {
            self.asked += bodies.len();
        }
        (bodies, new)
    }

    /// Takes a message of the extension `name`.
    ///
    /// On the stream nothing counts before the remote proved the root key, and nothing but the
    /// handshake before that decided for this way: what names the feeds is for those who know the key.
    pub(crate) fn handle(
        &mut self,
        way: Way,
        name: &str,
        body: &[u8],
        config: &Config,
    ) -> Result<Received, PeerError> {
        let undecided = way != self.way() && name != json::HANDSHAKE;
        if !self.proven || !self.hears(way) || undecided {
            return Ok(Received::Ignored);
        }
        match name {
            json::HANDSHAKE => self.handle_handshake(way, body),
            json::MANIFEST => self.handle_manifest(body, config),
            json::REQUEST => self.handle_request(body),
            json::REPLICATE => self.handle_replicate(body),
            _ => Ok(Received::Ignored),
        }
    }

    fn handle_handshake(&mut self, way: Way, body: &[u8]) -> Result<Received, PeerError> {
        if self.phase != Phase::Waiting {
            return Ok(Received::Ignored);
        }
        let json::Handshake { version, user_data } = json::parse_handshake(body)?;
        self.phase = Phase::Ready;
        self.dialect = match way {
            Way::RootChannel => Dialect::RootChannel,
            Way::Stream => Dialect::Stream,
        };
        self.was_ready = true;
        Ok(Received::Ready { version, user_data })
    }

    fn handle_manifest(&mut self, body: &[u8], config: &Config) -> Result<Received, PeerError> {
        let mut new = Vec::new();
        for key in json::parse_manifest(body)? {
            if key.0 == *self.root.expose() || key.is_weak() || self.offered_by_remote(&key) {
                continue;
            }
            if self.offered_by_remote >= config.max_offered_feeds {
                return Err(PeerError::OfferedFeeds { max: config.max_offered_feeds });
            }
            self.offered_by_remote += 1;
            self.keys.entry(key).or_default().offered_by_remote = true;
            new.push(key);
        }
        self.got_first_manifest = true;
        Ok(Received::Offered(new))
    }

    fn handle_request(&mut self, body: &[u8]) -> Result<Received, PeerError> {
        let keys = json::parse_list(body, json::REQUEST)?;
        let named = !keys.is_empty();
        let keys = sorted(keys.into_iter().filter(|key| self.offered_by_us(key)));
        self.awaiting_request = self.awaiting_request.saturating_sub(1);
        if !named && self.held < MAX_HELD && self.holds_empty() {
            self.held += 1;
            return Ok(Received::Requested(keys, None));
        }
        let answer = replicate(&keys);
        Ok(Received::Requested(keys, Some(answer)))
    }

    fn handle_replicate(&mut self, body: &[u8]) -> Result<Received, PeerError> {
        let keys = json::parse_list(body, json::REPLICATE)?;
        let requested = |key: &FeedKey| self.keys.get(key).is_some_and(|marks| marks.requested);
        let keys = sorted(keys.into_iter().filter(requested));
        self.awaiting_replicate = self.awaiting_replicate.saturating_sub(1);
        self.asked = self.asked.saturating_sub(1);
        self.opening |= !keys.is_empty();
        Ok(Received::Replicate(keys))
    }

    /// Whether an answer without feeds has to wait until one is open that the remote gives.
    ///
    /// `@frando/corestore-multifeed` 0.0.1 closes the channel of the root key when it gets such an answer while
    /// no feed is open, and then can offer nothing any more. `multifeed` 6 closes it too, and a stream that
    /// is not live ends with it. The remote is not kept waiting for anything but that: answers with feeds
    /// never wait.
    fn holds_empty(&self) -> bool {
        !self.requested || self.asked > 0 || self.opening
    }

    /// Channels of feeds opened or closed: the empty answers that may go out.
    pub(crate) fn feeds_changed(&mut self) -> Vec<Body> {
        self.opening = false;
        self.release()
    }

    /// The empty answers that may go out.
    pub(crate) fn release(&mut self) -> Vec<Body> {
        if self.held == 0 || self.holds_empty() {
            return Vec::new();
        }
        (0..core::mem::take(&mut self.held)).map(|_| replicate(&[])).collect()
    }
}

fn replicate(keys: &[FeedKey]) -> Body {
    Body { name: json::REPLICATE, payload: json::list(keys).into() }
}

fn sorted(keys: impl Iterator<Item = FeedKey>) -> Vec<FeedKey> {
    keys.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Empty requests that may wait for their answer; those above it are answered at once. A peer makes one for
/// each manifest, and they wait for no longer than until a feed is open.
const MAX_HELD: usize = 64;

/// Keys that fit one message.
fn keys_for(config: &Config) -> usize {
    (config.max_frame_body.saturating_sub(ENVELOPE) / json::KEY_BYTES).max(1)
}

/// Bytes of a list message that are no keys, with room to spare.
const ENVELOPE: usize = 32;
