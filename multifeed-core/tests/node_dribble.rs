//! Peers that keep a node busy and send nothing that it asked for.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::time::Duration;

use bytes::Bytes;
use multifeed_core::storage::Memory;
use multifeed_core::{Event, FeedId, WaitingFor};
use multifeed_proto::messages::{Data, Request, Span, Status};
use multifeed_proto::{ChannelId, FeedKey};
use util::Sim;
use util::liar::Liar;

/// A node, a liar that announced blocks of a feed of another party, and that party, which is not connected.
struct World {
    sim: Sim,
    liar: Liar,
    channel: ChannelId,
    owner: usize,
    feed: FeedId,
    key: FeedKey,
}

const BLOCKS: u64 = 40;

impl World {
    fn new(announced: u64) -> Self {
        let mut sim = Sim::new(65_536);
        let (_, owner) = (sim.party(Memory::new()), sim.party(Memory::new()));
        let feed = sim.writer(owner, "w");
        sim.append_all(owner, feed, (0..BLOCKS as u8).map(|n| Bytes::from(vec![n; 900])).collect());
        let key = sim.parties[owner].node.feed(feed).unwrap().key;
        let mut liar = Liar::new(&mut sim);
        liar.connection.request_feeds(liar.root, &[]).unwrap();
        let channel = liar.offer(&mut sim, key);
        let whole = Span { start: 0, length: 1 << 20 };
        liar.connection.have_bitfield(channel, whole, Bytes::new()).unwrap();
        liar.have(&mut sim, channel, 0, announced);
        Self { sim, liar, channel, owner, feed, key }
    }

    fn held(&mut self) -> u64 {
        let copy = self.sim.parties[0].node.find(&self.key).unwrap();
        self.sim.load(0, copy).blocks
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let now = self.sim.now;
        self.sim.parties[0].node.handle_bytes(now, self.liar.id, bytes);
    }

    /// Sends so many bytes of `frame` a second for so many seconds, with keepalives in place of what follows.
    fn dribble(&mut self, frame: &[u8], rate: usize, seconds: usize) {
        let mut pieces = frame.chunks(rate.div_ceil(4).max(1));
        for at in 0..seconds * 4 {
            match pieces.next() {
                Some(piece) => self.bytes(piece),
                None if at % 40 == 0 => self.liar.connection.handle_timeout(self.sim.now),
                None => {}
            }
            self.sim.pass(Duration::from_millis(250));
        }
    }

    fn frame(&mut self, data: Data) -> Vec<u8> {
        self.liar.run(&mut self.sim);
        self.liar.connection.send_data(self.channel, data).unwrap();
        let frame = self.liar.connection.transmit().to_vec();
        self.liar.connection.transmitted(self.sim.now, frame.len());
        frame
    }

    fn stalled(&self) -> Vec<WaitingFor> {
        let events = self.sim.parties[0].events.iter();
        let of = self.liar.id;
        let stalled = events.filter_map(|event| match event {
            Event::Stalled { connection, waiting } if *connection == of => Some(waiting.clone()),
            _ => None,
        });
        stalled.collect()
    }
}

fn data(index: u64, len: usize) -> Data {
    Data { index, value: Some(Bytes::from(vec![0; len])), nodes: vec![], signature: None }
}

#[test]
fn no_kind_of_message_that_dribbles_keeps_blocks_from_others() {
    for rate in [60, 900, 5000] {
        for kind in ["another block", "a block asked for", "an extension", "silence"] {
            let mut world = World::new(BLOCKS);
            let owner = world.owner;
            world.sim.connect(0, owner);
            world.sim.run();
            let frame = match kind {
                "another block" => world.frame(data(1 << 40, 8_000_000)),
                "a block asked for" => world.frame(data(0, 8_000_000)),
                "an extension" => {
                    let payload = Bytes::from(vec![0; 8_000_000]);
                    world.liar.connection.register_extension("e");
                    world.liar.connection.extension(None, "e", payload).unwrap();
                    world.liar.connection.transmit().to_vec()
                }
                _ => Vec::new(),
            };
            world.dribble(&frame, rate, 30);
            assert_eq!(world.held(), BLOCKS, "{kind}, {rate} bytes a second");
        }
    }
}

#[test]
fn who_announces_everything_holds_up_no_new_block() {
    let mut world = World::new(1 << 40);
    let owner = world.owner;
    world.sim.connect(0, owner);
    world.sim.pass(Duration::from_secs(60));
    for at in 1..=30 {
        let (sim, feed) = (&mut world.sim, world.feed);
        sim.append_all(owner, feed, vec![Bytes::from(vec![at; 20]); 3]);
        sim.pass(Duration::from_secs(8));
        let behind = BLOCKS + u64::from(at) * 3 - world.held();
        assert_eq!(behind, 0, "after {at} appends");
    }
}

#[test]
fn a_peer_that_dribbles_is_named_and_one_that_is_silent_too() {
    for (rate, len, slow) in [(100, 8_000_000, true), (900, 8_000_000, true), (0, 0, false)] {
        let mut world = World::new(BLOCKS);
        let frame = if len > 0 { world.frame(data(0, len)) } else { Vec::new() };
        world.dribble(&frame, rate, 200);
        let stalled = world.stalled();
        let named = stalled.iter().any(|waiting| match waiting {
            WaitingFor::Slow { .. } => slow,
            WaitingFor::Blocks { .. } | WaitingFor::Refused { .. } => !slow,
            _ => false,
        });
        assert!(named, "{rate} bytes a second: {stalled:?}");
    }
}

#[test]
fn a_peer_that_gives_back_what_it_was_sent_is_named() {
    let (sim, _, key, liar) = util::liar::setup(3);
    let (mut sim, mut liar) = (sim, liar);
    let channel = liar.ask(&mut sim, key);
    let whole = Span { start: 0, length: 1 << 20 };
    liar.connection.have_bitfield(channel, whole, Bytes::new()).unwrap();
    for _ in 0..60 {
        for index in 0..3 {
            liar.connection.request(channel, Request { index, ..Request::default() }).unwrap();
        }
        liar.run(&mut sim);
        let span = Span { start: 0, length: 3 };
        liar.connection.unhave(channel, span).unwrap();
        liar.run(&mut sim);
        sim.pass(Duration::from_secs(1));
    }
    assert_eq!(liar.data().len(), 180);
    let stalled = sim.parties[0].events.iter().find_map(|event| match event {
        Event::Stalled { waiting, .. } => Some(waiting.clone()),
        _ => None,
    });
    assert_eq!(stalled, Some(WaitingFor::GivenBack { feed: key, blocks: 3 }));
}

#[test]
fn a_peer_that_takes_nothing_is_named() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, vec![Bytes::from(vec![7; 300_000]); 3]);
    let wire = sim.connect(a, b);
    sim.wires[wire].room = 5000;
    for _ in 0..400 {
        sim.step();
        if sim.parties[a].node.counters(sim.id(wire, 0)).outbox_bytes > 100_000 {
            break;
        }
    }
    // Nothing more is read there, but keepalives come.
    sim.wires[wire].rate[0] = Some(1);
    sim.pass(Duration::from_secs(40));
    let named = sim.parties[a]
        .events
        .iter()
        .any(|event| matches!(event, Event::Stalled { waiting: WaitingFor::Room { .. }, .. }));
    assert!(named, "{:?}", sim.sync_state(wire, 0));
}

#[test]
fn a_status_that_flaps_makes_the_node_ask_for_nothing_again_and_again() {
    let mut world = World::new(BLOCKS);
    let before = world.liar.requests().len();
    for _ in 0..200 {
        for uploading in [false, true] {
            let status = Status { uploading, downloading: true };
            world.liar.connection.set_status(world.channel, status).unwrap();
        }
        world.liar.run(&mut world.sim);
    }
    let asked = world.liar.requests().len() - before;
    assert!(asked <= 4 * 16, "{asked}");
    // In the end it is asked again.
    world.sim.pass(Duration::from_secs(5));
    world.liar.run(&mut world.sim);
    assert!(world.liar.requests().len() > before + asked);
}

#[test]
fn blocks_that_are_taken_back_and_announced_in_turn_are_asked_for_more_and_more_rarely() {
    let mut world = World::new(BLOCKS);
    let before = world.liar.requests().len();
    for _ in 0..200 {
        let span = Span { start: 0, length: BLOCKS };
        world.liar.connection.unhave(world.channel, span).unwrap();
        world.liar.connection.have(world.channel, span).unwrap();
        world.liar.run(&mut world.sim);
    }
    let asked = world.liar.requests().len() - before;
    assert!(asked <= 4 * 16, "{asked}");
    world.sim.pass(Duration::from_secs(5));
    world.liar.run(&mut world.sim);
    assert!(world.liar.requests().len() > before + asked);
}
