//! A peer that keeps nothing of its own: frames on a stream to party 0, as a test says them.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    unreachable_pub
)]

use bytes::Bytes;
use multifeed_core::{ConnectionId, Event, ReplicationOptions};
use multifeed_proto::messages::{Message, Open, Options};
use multifeed_proto::wire::{SplitKeys, Wire, WireEvent, capability};
use multifeed_proto::{Config, DiscoveryKey, Entropy, FeedKey, PeerError, Role, RootKey};

use super::{ROOT, Sim};

/// The numbers of the multifeed messages.
pub const MANIFEST: u64 = 1;
pub const REPLICATE: u64 = 2;
pub const REQUEST: u64 = 3;

pub struct Raider {
    pub wire: Wire,
    pub id: ConnectionId,
    keys: SplitKeys,
    /// Messages of the node are thrown away, but for those that a test wants.
    pub heard: Vec<(u32, Message)>,
    pub listens: bool,
}

impl Raider {
    /// Behind the Noise handshake, and nothing said.
    pub fn stranger(sim: &mut Sim, seed: u8) -> Self {
        let id = sim.parties[0]
            .node
            .connect_with(sim.now, Role::Responder, ReplicationOptions::default())
            .unwrap();
        let mut wire =
            Wire::new(Role::Initiator, Entropy::from_seed([seed; 32]), &Config::default());
        let keys = loop {
            exchange(sim, id, &mut wire);
            if let Some(WireEvent::Connected { keys, .. }) = wire.poll_event().unwrap() {
                break keys;
            }
        };
        let mut raider = Self { wire, id, keys, heard: Vec::new(), listens: false };
        raider.run(sim);
        raider
    }

    /// With the handshake of the multifeed over, and an empty manifest sent.
    pub fn new(sim: &mut Sim, seed: u8) -> Self {
        let mut raider = Self::stranger(sim, seed);
        let root = RootKey::new(ROOT);
        raider.open(1, root.discovery_key(), root.expose());
        let names = ["HANDSHAKE", "MANIFEST", "REPLICATE_FEEDS", "REQUEST_FEEDS"];
        let extensions = names.iter().map(|name| format!("MULTIFEED_{name}")).collect();
        raider.say(1, &Message::Options(Options { extensions, ack: None }));
        raider.mux(0, r#"{"client":"MULTIFEED","version":"4.0.0"}"#);
        raider.mux(MANIFEST, r#"{"keys":[]}"#);
        raider.run(sim);
        raider
    }

    pub fn say(&mut self, channel: u32, message: &Message) {
        self.wire.send(channel, message).unwrap();
    }

    pub fn mux(&mut self, id: u64, json: &str) {
        let payload = Bytes::copy_from_slice(json.as_bytes());
        self.say(1, &Message::Extension { id, payload: payload.into() });
    }

    pub fn open(&mut self, channel: u32, discovery_key: DiscoveryKey, key: &[u8; 32]) {
        let capability = Some(capability(&self.keys, key));
        self.say(channel, &Message::Open(Open { discovery_key, capability }));
    }

    /// Offers feeds, agrees to all of them, and opens them on channels from `first` on.
    pub fn offer(&mut self, sim: &mut Sim, first: u32, keys: &[FeedKey]) {
        let list = list(keys);
        self.mux(MANIFEST, &format!("{{\"keys\":{list}}}"));
        self.run(sim);
        self.mux(REPLICATE, &list);
        for (channel, key) in (first..).zip(keys) {
            self.open(channel, key.discovery_key(), &key.0);
        }
        self.run(sim);
    }

    /// Asks for feeds of the node and opens them on channels from `first` on.
    pub fn ask(&mut self, sim: &mut Sim, first: u32, keys: &[FeedKey]) {
        self.mux(REQUEST, &list(keys));
        for (channel, key) in (first..).zip(keys) {
            self.open(channel, key.discovery_key(), &key.0);
        }
        self.run(sim);
    }

    /// Hands over all that was said, 64 KiB at a time, and throws away what comes.
    pub fn run(&mut self, sim: &mut Sim) {
        while exchange(sim, self.id, &mut self.wire) {
            while let Some(event) = self.wire.poll_event().unwrap() {
                if let (true, WireEvent::Message { channel, message }) = (self.listens, event) {
                    self.heard.push((channel, message));
                }
            }
        }
    }

    /// How the node ended the connection.
    pub fn closed(&self, sim: &Sim) -> Option<Option<PeerError>> {
        sim.parties[0].events.iter().find_map(|event| match event {
            Event::Closed { connection, error, .. } if *connection == self.id => {
                Some(error.clone())
            }
            _ => None,
        })
    }
}

/// Moves one packet each way; whether there was any.
fn exchange(sim: &mut Sim, id: ConnectionId, wire: &mut Wire) -> bool {
    let now = sim.now;
    let party = &mut sim.parties[0];
    let mut busy = party.drain(now);
    while party.node.poll_transmit().is_some() {}
    let bytes = party.node.transmit(id).to_vec();
    party.node.transmitted(now, id, bytes.len());
    wire.handle_bytes(&bytes).unwrap();
    busy |= !bytes.is_empty();
    if party.node.wants_read(id) {
        let bytes = wire.transmit();
        let packet = bytes[..bytes.len().min(65_536)].to_vec();
        wire.transmitted(packet.len());
        party.node.handle_bytes(now, id, &packet);
        busy |= !packet.is_empty();
    }
    busy
}

/// The body of a list of feeds.
pub fn list(keys: &[FeedKey]) -> String {
    let quoted: Vec<_> = keys.iter().map(|key| format!("\"{}\"", key.to_hex())).collect();
    format!("[{}]", quoted.join(","))
}

/// Keys of nobody, from number `first` on.
pub fn keys(first: u32, count: u32) -> Vec<FeedKey> {
    let key = |n: u32| {
        let mut key = [0x58; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        FeedKey(key)
    };
    (first..first + count).map(key).collect()
}
