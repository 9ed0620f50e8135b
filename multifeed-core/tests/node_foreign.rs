//! Feeds that this program cannot write: static ones, whose key is the hash of their tree, and ones signed
//! by hypercore 8, over the tree's hash alone.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::collections::BTreeMap;

use bytes::Bytes;
use multifeed_core::crypto::SecretKey;
use multifeed_core::storage::Memory;
use multifeed_core::tree::{Bitfield, NodeIndex, RemoteTree, hash, proof};
use multifeed_core::{FeedId, Health, Outcome};
use multifeed_proto::messages::{Data, Node as TreeNode, Request};
use multifeed_proto::{ChannelId, FeedKey, Output};
use util::Sim;
use util::liar::Liar;

/// A whole log in memory, and how its end is proven.
struct Log {
    blocks: Vec<Bytes>,
    nodes: BTreeMap<u64, TreeNode>,
    bits: Bitfield,
    key: FeedKey,
    signature: Option<[u8; 64]>,
    told: RemoteTree,
}

impl Log {
    fn new(blocks: Vec<Bytes>, secret: Option<&SecretKey>) -> Self {
        let grown = proof::append(&[], 0, &blocks).unwrap();
        let root = hash::root(&grown.roots);
        let mut bits = Bitfield::default();
        for node in &grown.nodes {
            bits.set_node(NodeIndex(node.index));
        }
        for block in 0..blocks.len() as u64 {
            bits.set_block(block, true);
        }
        Self {
            nodes: grown.nodes.iter().map(|node| (node.index, *node)).collect(),
            bits,
            blocks,
            key: secret.map_or(FeedKey(root), SecretKey::public),
            signature: secret.map(|secret| secret.sign(&root)),
            told: RemoteTree::new(),
        }
    }

    fn answer(&mut self, request: &Request) -> Data {
        let Request { index, hash, nodes, .. } = *request;
        let plan = proof::plan(&self.bits, &mut self.told, index, hash, nodes).unwrap();
        Data {
            index,
            value: (!hash).then(|| self.blocks[index as usize].clone()),
            nodes: plan.nodes.iter().map(|node| self.nodes[&node.0]).collect(),
            signature: plan.signature.and(self.signature),
        }
    }

    /// Offers the log to party 0 and answers until all is there.
    fn give(&mut self, sim: &mut Sim, forge: impl Fn(&mut Data)) -> (Liar, FeedId) {
        let mut peer = Liar::new(sim);
        let channel: ChannelId = peer.offer(sim, self.key);
        peer.have(sim, channel, 0, self.blocks.len() as u64);
        let mut answered = 0;
        loop {
            let requests: Vec<Request> = peer
                .outputs
                .iter()
                .filter_map(|output| match output {
                    Output::Request { request, .. } => Some(*request),
                    _ => None,
                })
                .skip(answered)
                .collect();
            if requests.is_empty() {
                let feed = sim.parties[0].node.find(&self.key).unwrap();
                return (peer, feed);
            }
            answered += requests.len();
            for request in requests {
                let mut data = self.answer(&request);
                forge(&mut data);
                let _ = peer.connection.send_data(channel, data);
            }
            peer.run(sim);
        }
    }
}

fn blocks(count: u64) -> Vec<Bytes> {
    (0..count).map(|n| Bytes::from(format!("block {n} {}", "x".repeat(n as usize % 60)))).collect()
}

fn secret() -> SecretKey {
    SecretKey::from_seed(&[42; 32])
}

/// The log reaches party 0, its files, and from there a third party, in memory and after a restart.
fn travels(mut log: Log, what: &str) {
    let mut sim = Sim::new(65_536);
    sim.party(Memory::new());
    let (peer, feed) = log.give(&mut sim, |_| {});
    assert_eq!(peer.closed_by_node(&sim), None, "{what}");
    let expected: Vec<Option<Vec<u8>>> = log.blocks.iter().map(|b| Some(b.to_vec())).collect();
    assert_eq!(sim.contents(0)[&log.key.to_hex()], expected, "{what}");
    assert!(!sim.parties[0].node.feed(feed).unwrap().writable);
    sim.restart(0);
    assert_eq!(sim.contents(0)[&log.key.to_hex()], expected, "{what} after a restart");
    let b = sim.party(Memory::new());
    sim.connect(b, 0);
    sim.sync();
    assert_eq!(sim.contents(b), sim.contents(0), "{what} from us");
    sim.restart(b);
    let c = sim.party(Memory::new());
    sim.connect(c, b);
    sim.sync();
    assert_eq!(sim.contents(c), sim.contents(0), "{what} from who has it from us");

    let late = sim.parties[b].node.find(&log.key).unwrap();
    let append = sim.parties[b].node.append(sim.now, late, vec![Bytes::from_static(b"no")]);
    assert!(sim.finish(b, append).is_err());
}

#[test]
fn static_feeds_of_any_length_are_verified_stored_and_served() {
    for length in [1, 2, 3, 7, 8, 100, 1_000] {
        travels(Log::new(blocks(length), None), &format!("static, {length} blocks"));
    }
}

#[test]
fn signatures_of_hypercore_8_are_verified_stored_and_passed_on_unchanged() {
    for length in [1, 2, 3, 100, 1_000] {
        travels(Log::new(blocks(length), Some(&secret())), &format!("signed, {length} blocks"));
    }
    let mut log = Log::new(blocks(5), Some(&secret()));
    let signature = log.signature;
    let mut sim = Sim::new(65_536);
    sim.party(Memory::new());
    log.give(&mut sim, |_| {});
    let mut reader = Liar::new(&mut sim);
    let channel = reader.ask(&mut sim, log.key);
    reader.connection.request(channel, Request { index: 4, ..Request::default() }).unwrap();
    reader.run(&mut sim);
    assert_eq!(reader.data()[0].signature, signature);
}

#[test]
fn a_static_feed_tells_its_length_and_bytes_by_hashes_alone() {
    let mut log = Log::new(blocks(100), None);
    let mut sim = Sim::new(65_536);
    let config = multifeed_core::NodeConfig { sparse: true, ..Default::default() };
    sim.party_with(Memory::new(), config);
    let (mut peer, feed) = log.give(&mut sim, |_| {});
    let update = sim.parties[0].node.update(sim.now, feed, Some(100));
    peer.run(&mut sim);
    let request = peer.outputs.iter().rev().find_map(|output| match output {
        Output::Request { channel, request } => Some((*channel, *request)),
        _ => None,
    });
    let (channel, request) = request.expect("asked for hashes");
    assert!(request.hash);
    let data = log.answer(&request);
    peer.connection.send_data(channel, data).unwrap();
    peer.run(&mut sim);
    assert_eq!(sim.parties[0].results[&update], Ok(Outcome::Updated { length: 100 }));
}

#[test]
fn a_false_block_of_a_static_feed_or_under_an_old_signature_costs_only_the_feed() {
    for secret in [None, Some(secret())] {
        let mut log = Log::new(blocks(9), secret.as_ref());
        let mut sim = Sim::new(65_536);
        sim.party(Memory::new());
        let (peer, feed) = log.give(&mut sim, |data| {
            if data.index == 3 {
                data.value = Some(Bytes::from_static(b"forged"));
            }
        });
        assert_eq!(peer.closed_by_node(&sim), None);
        let health = sim.parties[0].node.feed(feed).unwrap().health;
        assert!(matches!(health, Health::DamagedThere { .. }), "{health:?}");
        let read = sim.parties[0].node.read(sim.now, feed, 3, 1, 1_000);
        assert_eq!(sim.finish(0, read), Ok(Outcome::Blocks(vec![])));
    }
}

#[test]
fn a_static_feed_cut_short_is_not_taken_for_the_whole() {
    let whole = Log::new(blocks(9), None);
    let mut part = Log::new(blocks(8), None);
    part.key = whole.key;
    let mut sim = Sim::new(65_536);
    sim.party(Memory::new());
    let (peer, feed) = part.give(&mut sim, |_| {});
    assert_eq!(peer.closed_by_node(&sim), None);
    assert_eq!(sim.parties[0].node.feed(feed).unwrap().length, 0);
}
