//! Peers that begin a channel again and again while the storage is slow.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use bytes::Bytes;
use multifeed_core::storage::Memory;
use multifeed_core::{ConnectionId, Event, NodeConfig, ReplicationOptions};
use multifeed_proto::messages::{Message, Open, Request};
use multifeed_proto::session::{FeedOptions, Session};
use multifeed_proto::wire::{SplitKeys, Wire, WireEvent, capability};
use multifeed_proto::{Config, Entropy, FeedKey, Output, Role, RootId, RootKey};
use util::{ROOT, Sim};

/// A peer whose session can be passed by: it sends whatever a test likes.
struct Raw {
    wire: Wire,
    session: Session,
    keys: Option<SplitKeys>,
    root: RootId,
    id: ConnectionId,
    outputs: Vec<Output>,
}

impl Raw {
    fn new(sim: &mut Sim) -> Self {
        let config = Config::default();
        let wire = Wire::new(Role::Initiator, Entropy::from_seed([78; 32]), &config);
        let mut session = Session::new(&config);
        let root = session.join(sim.now, RootKey::new(ROOT), None).unwrap();
        let options = ReplicationOptions::default();
        let id = sim.parties[0].node.connect_with(sim.now, Role::Responder, options).unwrap();
        let mut raw = Self { wire, session, keys: None, root, id, outputs: Vec::new() };
        raw.run(sim);
        raw.session.offer(root, &[]).unwrap();
        raw.run(sim);
        raw
    }

    fn run(&mut self, sim: &mut Sim) {
        let now = sim.now;
        loop {
            while let Some((channel, message)) = self.session.poll_message() {
                self.wire.send(channel, &message).unwrap();
            }
            let bytes = self.wire.transmit().to_vec();
            self.wire.transmitted(bytes.len());
            let mut busy = !bytes.is_empty();
            let party = &mut sim.parties[0];
            party.node.handle_bytes(now, self.id, &bytes);
            busy |= party.drain(now);
            while party.node.poll_transmit().is_some() {}
            let bytes = party.node.transmit(self.id).to_vec();
            party.node.transmitted(now, self.id, bytes.len());
            busy |= !bytes.is_empty();
            self.wire.handle_bytes(&bytes).unwrap();
            while let Some(event) = self.wire.poll_event().unwrap() {
                match event {
                    WireEvent::Connected { keys, .. } => {
                        let (tx, rx) = (keys.tx, keys.rx);
                        self.keys = Some(SplitKeys { tx, rx });
                        self.session.handle_connected(now, keys);
                    }
                    WireEvent::Message { channel, message } => {
                        self.session.handle_message(now, channel, message).unwrap();
                    }
                }
            }
            self.outputs.extend(std::iter::from_fn(|| self.session.poll_output()));
            if !busy {
                return;
            }
        }
    }

    /// Begins the channel of a feed anew, and asks for a block.
    fn begin_anew(&mut self, sim: &mut Sim, number: u32, key: &FeedKey, index: u64) {
        let capability = Some(capability(self.keys.as_ref().unwrap(), &key.0));
        let open = Open { discovery_key: key.discovery_key(), capability };
        self.wire.send(number, &Message::Open(open)).unwrap();
        let request = Request { index, ..Request::default() };
        self.wire.send(number, &Message::Request(request)).unwrap();
        self.run(sim);
    }
}

#[test]
fn a_peer_that_begins_a_channel_anew_while_the_disk_is_slow_harms_no_feed() {
    let mut sim = Sim::new(65_536);
    let a = sim.party_with(Memory::new(), NodeConfig::default());
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, (0..40_000u64).map(|n| Bytes::from(format!("block {n}"))).collect());
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    sim.restart(a);
    let feed = sim.parties[a].node.find(&key).unwrap();
    sim.load(a, feed);
    let mut raw = Raw::new(&mut sim);
    raw.session.request_feeds(raw.root, &[key]).unwrap();
    raw.run(&mut sim);
    let options = FeedOptions { uploading: true, downloading: true, ..FeedOptions::default() };
    raw.session.open_feed(&key, options).unwrap();
    raw.run(&mut sim);
    sim.parties[a].disk_held = true;
    for n in 0..10u32 {
        raw.begin_anew(&mut sim, 10 + n, &key, u64::from(n) * 3900 + 1);
    }
    sim.parties[a].disk_held = false;
    raw.run(&mut sim);
    let failed = |event: &&Event| matches!(event, Event::FeedFailed { .. });
    assert_eq!(sim.parties[a].events.iter().find(failed), None);
}
