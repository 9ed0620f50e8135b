//! Sessions without bytes between them.

use std::collections::VecDeque;

use multifeed_proto::messages::{Message, Open, Options};
use multifeed_proto::session::{FeedOptions, Session};
use multifeed_proto::wire::{SplitKeys, capability};
use multifeed_proto::{
    ChannelId, Config, DiscoveryKey, FeedKey, Output, PeerError, RootId, RootKey,
};

use super::{at, root};

pub const NAMES: [&str; 4] = [
    "MULTIFEED_HANDSHAKE",
    "MULTIFEED_MANIFEST",
    "MULTIFEED_REPLICATE_FEEDS",
    "MULTIFEED_REQUEST_FEEDS",
];
pub const HANDSHAKE: u64 = 0;
pub const MANIFEST: u64 = 1;
pub const REPLICATE: u64 = 2;
pub const REQUEST: u64 = 3;
pub const GOOD: &str = r#"{"client":"MULTIFEED","version":"4.0.0"}"#;

/// A session whose remote is played by hand.
pub struct Alone {
    pub session: Session,
    /// What the played remote would hold.
    keys: SplitKeys,
    next: u32,
}

impl Alone {
    pub fn new(config: &Config) -> Self {
        let mut session = Session::new(config);
        session.handle_connected(at(0), SplitKeys { tx: [1; 32], rx: [2; 32] });
        Self { session, keys: SplitKeys { tx: [2; 32], rx: [1; 32] }, next: 1 }
    }

    /// With the root joined, opened by the remote too, and its extensions announced; what came of
    /// that is taken away.
    pub fn joined(config: &Config) -> (Self, RootId) {
        let mut alone = Self::new(config);
        let id = alone.session.join(at(0), root(), None).unwrap();
        alone.open(&root().discovery_key(), root().expose());
        alone.give(1, options(&NAMES)).unwrap();
        alone.messages();
        alone.outputs();
        (alone, id)
    }

    /// The same with the handshake over.
    pub fn ready(config: &Config) -> (Self, RootId) {
        let (mut alone, id) = Self::joined(config);
        alone.extension(HANDSHAKE, GOOD).unwrap();
        alone.outputs();
        (alone, id)
    }

    /// With a feed open on both sides, on channel 1 here and there.
    pub fn feed(key: &FeedKey, options: FeedOptions) -> (Self, ChannelId) {
        Self::feed_with(&Config::default(), key, options)
    }

    pub fn feed_with(config: &Config, key: &FeedKey, options: FeedOptions) -> (Self, ChannelId) {
        let mut alone = Self::new(config);
        let id = alone.session.open_feed(key, options).unwrap();
        alone.open(&key.discovery_key(), &key.0);
        alone.messages();
        alone.outputs();
        (alone, id)
    }

    /// The remote opens a channel, with the proof that it knows `key`, and gets its number.
    pub fn open(&mut self, discovery_key: &DiscoveryKey, key: &[u8; 32]) -> u32 {
        let number = self.next;
        self.next += 1;
        let open = self.proof(discovery_key, key);
        self.give(number, Message::Open(open)).unwrap();
        number
    }

    pub fn proof(&self, discovery_key: &DiscoveryKey, key: &[u8; 32]) -> Open {
        let capability = Some(capability(&self.keys, key));
        Open { discovery_key: *discovery_key, capability }
    }

    pub fn give(&mut self, channel: u32, message: Message) -> Result<(), PeerError> {
        self.session.handle_message(at(0), channel, message)
    }

    /// A multifeed message on the remote's channel 1.
    pub fn extension(&mut self, id: u64, json: &str) -> Result<(), PeerError> {
        let payload = json.as_bytes().to_vec().into();
        self.give(1, Message::Extension { id, payload })
    }

    pub fn messages(&mut self) -> Vec<(u32, Message)> {
        std::iter::from_fn(|| self.session.poll_message()).collect()
    }

    pub fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.session.poll_output()).collect()
    }
}

/// Two sessions that hear each other.
pub struct Two {
    pub sessions: [Session; 2],
    pub log: [Vec<Output>; 2],
    wire: VecDeque<(usize, u32, Message)>,
}

impl Two {
    pub fn new(config: &Config) -> Self {
        let mut sessions = [Session::new(config), Session::new(config)];
        let (one, two) = ([1; 32], [2; 32]);
        sessions[0].handle_connected(at(0), SplitKeys { tx: one, rx: two });
        sessions[1].handle_connected(at(0), SplitKeys { tx: two, rx: one });
        Self { sessions, log: [Vec::new(), Vec::new()], wire: VecDeque::new() }
    }

    pub fn joined(config: &Config, roots: &[RootKey]) -> Self {
        let mut two = Self::new(config);
        for root in roots {
            for session in &mut two.sessions {
                session.join(at(0), root.clone(), None).unwrap();
            }
        }
        two.settle();
        two
    }

    /// Carries messages until there are none.
    pub fn settle(&mut self) {
        loop {
            for (i, session) in self.sessions.iter_mut().enumerate() {
                while let Some((channel, message)) = session.poll_message() {
                    self.wire.push_back((1 - i, channel, message));
                }
                self.log[i].extend(std::iter::from_fn(|| session.poll_output()));
            }
            let Some((to, channel, message)) = self.wire.pop_front() else { return };
            self.sessions[to].handle_message(at(0), channel, message).unwrap();
        }
    }

    pub fn take(&mut self, i: usize) -> Vec<Output> {
        std::mem::take(&mut self.log[i])
    }
}

pub fn options(names: &[&str]) -> Message {
    let extensions = names.iter().map(ToString::to_string).collect();
    Message::Options(Options { extensions, ack: None })
}

pub fn close() -> Message {
    Message::Close { discovery_key: None }
}

/// The text of a multifeed message.
pub fn text(message: &(u32, Message)) -> (u64, String) {
    match &message.1 {
        Message::Extension { id, payload } => (*id, String::from_utf8(payload.to_vec()).unwrap()),
        other => panic!("no extension message: {other:?}"),
    }
}

/// The body of a request or replicate list.
pub fn hex_list(keys: &[FeedKey]) -> String {
    let quoted: Vec<_> = keys.iter().map(|key| format!("\"{}\"", key.to_hex())).collect();
    format!("[{}]", quoted.join(","))
}

/// The body of a manifest.
pub fn manifest(keys: &[FeedKey]) -> String {
    format!("{{\"keys\":{}}}", hex_list(keys))
}
