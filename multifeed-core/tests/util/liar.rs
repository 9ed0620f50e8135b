//! A peer that does what a test tells it, on a bare protocol connection.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    unreachable_pub
)]

use bytes::Bytes;
use multifeed_core::storage::Memory;
use multifeed_core::{ConnectOptions, ConnectionId, Event, FeedId, ReplicationOptions};
use multifeed_proto::messages::{Data, Span};
use multifeed_proto::session::FeedOptions;
use multifeed_proto::{
    ChannelId, Config, Connection, Entropy, FeedKey, Output, PeerError, Role, RootId, RootKey,
};

use super::{ROOT, Sim};

/// A peer in our hands, on a connection to party 0.
pub struct Liar {
    pub connection: Connection,
    pub root: RootId,
    pub id: ConnectionId,
    pub outputs: Vec<Output>,
}

impl Liar {
    pub fn new(sim: &mut Sim) -> Self {
        Self::with(sim, ReplicationOptions::default())
    }

    /// The same, with options for the node's end.
    pub fn with(sim: &mut Sim, options: ReplicationOptions) -> Self {
        Self::connected(sim, options.into())
    }

    /// The same, with all that can be said of a connection.
    pub fn connected(sim: &mut Sim, options: ConnectOptions) -> Self {
        let mut connection = Connection::new(
            Role::Initiator,
            Config::default(),
            Entropy::from_seed([77; 32]),
            sim.now,
        );
        let root = connection.join(sim.now, RootKey::new(ROOT), None).unwrap();
        let id = sim.parties[0].node.connect_with(sim.now, Role::Responder, options).unwrap();
        let mut liar = Self { connection, root, id, outputs: Vec::new() };
        liar.run(sim);
        liar.connection.offer(root, &[]).unwrap();
        liar.run(sim);
        liar
    }

    /// Moves everything until nothing moves.
    pub fn run(&mut self, sim: &mut Sim) {
        let now = sim.now;
        loop {
            let party = &mut sim.parties[0];
            let mut busy = party.drain(now);
            while party.node.poll_transmit().is_some() {}
            let bytes = party.node.transmit(self.id).to_vec();
            party.node.transmitted(now, self.id, bytes.len());
            self.connection.handle_bytes(now, &bytes);
            busy |= !bytes.is_empty();
            while let Some(output) = self.connection.poll_output() {
                self.outputs.push(output);
                busy = true;
            }
            if party.node.wants_read(self.id) {
                let bytes = self.connection.transmit().to_vec();
                self.connection.transmitted(now, bytes.len());
                party.node.handle_bytes(now, self.id, &bytes);
                busy |= !bytes.is_empty();
            }
            if !busy {
                return;
            }
        }
    }

    /// Makes the node take up a feed of the liar's and opens its channel.
    pub fn offer(&mut self, sim: &mut Sim, key: FeedKey) -> ChannelId {
        self.connection.offer(self.root, &[key]).unwrap();
        self.run(sim);
        self.open(sim, key)
    }

    pub fn open(&mut self, sim: &mut Sim, key: FeedKey) -> ChannelId {
        let options =
            FeedOptions { ack: true, uploading: true, downloading: true, extensions: Vec::new() };
        let channel = self.connection.open_feed(&key, options).unwrap();
        self.run(sim);
        channel
    }

    /// Asks the node for a feed that it offered and opens its channel.
    pub fn ask(&mut self, sim: &mut Sim, key: FeedKey) -> ChannelId {
        self.connection.request_feeds(self.root, &[key]).unwrap();
        self.run(sim);
        self.open(sim, key)
    }

    pub fn have(&mut self, sim: &mut Sim, channel: ChannelId, start: u64, length: u64) {
        self.connection.have(channel, Span { start, length }).unwrap();
        self.run(sim);
    }

    pub fn requests(&self) -> Vec<u64> {
        self.outputs
            .iter()
            .filter_map(|output| match output {
                Output::Request { request, .. } => Some(request.index),
                _ => None,
            })
            .collect()
    }

    pub fn data(&self) -> Vec<&Data> {
        self.outputs
            .iter()
            .filter_map(|output| match output {
                Output::Data { data, .. } => Some(data),
                _ => None,
            })
            .collect()
    }

    pub fn closed_by_node(&self, sim: &Sim) -> Option<Option<PeerError>> {
        sim.parties[0].events.iter().find_map(|event| match event {
            Event::Closed { connection, error, .. } if *connection == self.id => {
                Some(error.clone())
            }
            _ => None,
        })
    }
}

/// A node with one writer of `length` blocks, and a liar.
pub fn setup(length: u64) -> (Sim, FeedId, FeedKey, Liar) {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, (0..length).map(|n| Bytes::from(format!("block {n}"))).collect());
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let liar = Liar::new(&mut sim);
    (sim, feed, key, liar)
}
