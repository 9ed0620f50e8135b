//! Proofs between the owner of a log and a reader, against a model that knows the whole log: what is taken
//! is true, and what is true is taken.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use multifeed_proto::FeedKey;
use multifeed_proto::fuzzing::{Input, Reached};
use multifeed_proto::messages::Data;

use super::log::{Log, blocks};
use crate::crypto::Verifier;
use crate::tree::proof::{self, Proof, TreeView, Unverified, Verified};
use crate::tree::{Bitfield, Node, NodeIndex, RemoteTree};

/// A log of up to 40 blocks, one that forked from it, and a reader.
///
/// The first bytes choose how the logs came about; then come answers, true ones and others.
pub fn proofs(data: &[u8], reached: &mut Reached) {
    let mut input = Input::new(data);
    let mut log = Log::new(3);
    let mut fork = None;
    for round in 0..1 + input.below(6) {
        let count = 1 + u64::from(input.byte() % 8);
        if round == 2 {
            let mut other = log.clone();
            other.append(&blocks(count + 1, 99));
            fork = Some(other);
        }
        log.append(&blocks(count, round as u8));
    }
    let mut world = World {
        key: log.key.public(),
        remotes: [RemoteTree::new(), RemoteTree::new()],
        logs: vec![log],
        reader: Reader::default(),
    };
    world.logs.extend(fork);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input, reached);
    }
    world.check();
}

struct World {
    key: FeedKey,
    remotes: [RemoteTree; 2],
    logs: Vec<Log>,
    reader: Reader,
}

impl World {
    fn step(&mut self, input: &mut Input<'_>, reached: &mut Reached) {
        let mode = input.byte();
        let which = usize::from(mode >> 7).min(self.logs.len() - 1);
        let block = u64::from(input.byte()) % (self.logs[which].length() + 1);
        let hash = mode & 3 == 3;
        if mode & 64 != 0 {
            self.remotes[which] = RemoteTree::new();
        }
        if mode & 32 != 0 {
            self.reader.unload();
        }
        let has = |node: NodeIndex| self.reader.bits.has_node(node);
        let mut digest = proof::digest(has, block, self.reader.bits.tree_bit_length());
        let honest = mode & 16 == 0;
        if !honest {
            digest = input.number();
        }
        let log = &self.logs[which];
        let plan = proof::plan(&log.bits, &mut self.remotes[which], block, hash, digest);
        assert_eq!(plan.is_ok(), block < log.length(), "a proof of what is not there, or none");
        let Ok(plan) = plan else { return };
        let mut data = log.carry_out(&plan, block, hash);
        let changed = mode & 8 != 0 && self.change(&mut data, input);
        let result = self.reader.receive(&self.key, &data);
        match result {
            Ok(verified) => {
                reached.note("taken");
                self.check_taken(&data, &verified, reached);
            }
            Err(error) => {
                reached.note(match error {
                    Unverified::Missing { .. } => "missing",
                    _ => "invalid",
                });
                // Where two logs are signed with one key, either may contradict what is held.
                let plain = self.logs.len() == 1 && honest && !changed;
                // What was claimed to the remote before and never came may be missing.
                let claimed = matches!(error, Unverified::Missing { .. });
                assert!(!plain || claimed, "a true answer is refused: {error}");
            }
        }
    }

    /// Changes something in an answer; whether it did.
    fn change(&self, data: &mut Data, input: &mut Input<'_>) -> bool {
        let before = data.clone();
        let place = input.below(data.nodes.len().max(1));
        match input.byte() % 10 {
            0 => data.index = input.number(),
            1 => data.value = Some(Bytes::copy_from_slice(input.bytes())),
            2 => data.value = None,
            3 => data.nodes.truncate(place),
            4 => {
                if let Some(node) = data.nodes.get_mut(place) {
                    node.size = node.size.wrapping_add(input.number());
                }
            }
            5 => {
                if let Some(node) = data.nodes.get_mut(place) {
                    node.hash[usize::from(input.byte() % 32)] ^= input.byte();
                }
            }
            6 => {
                if let Some(node) = data.nodes.get_mut(place) {
                    node.index = input.number();
                }
            }
            7 => {
                let all: Vec<&Node> = self.logs.iter().flat_map(|log| log.nodes.values()).collect();
                data.nodes.insert(place, *all[usize::from(input.short()) % all.len()]);
            }
            8 => {
                let all: Vec<_> =
                    self.logs.iter().flat_map(|log| log.signatures.values()).collect();
                data.signature = Some(*all[input.below(all.len())]);
            }
            _ => data.signature = None,
        }
        *data != before
    }

    /// What was taken is what one of the logs has.
    fn check_taken(&self, data: &Data, verified: &Verified, reached: &mut Reached) {
        let true_in = |log: &Log| {
            let nodes = verified.nodes.iter().all(|node| log.nodes.get(&node.index) == Some(node));
            let block = data.value.as_ref();
            nodes && block.is_none_or(|block| log.blocks.get(data.index as usize) == Some(block))
        };
        assert!(self.logs.iter().any(true_in), "something false was taken: {data:?}");
        if let Some(log) = verified.log {
            reached.note("longer");
            let bytes = |of: &Log| {
                let blocks = of.blocks.iter().take(log.length as usize);
                blocks.map(|block| block.len() as u64).sum::<u64>()
            };
            let signed = |of: &&Log| of.signatures.contains_key(&log.length);
            let same = |of: &Log| bytes(of) == log.byte_length;
            assert!(self.logs.iter().filter(signed).any(same), "another length: {log:?}");
        }
    }

    /// All that the reader has is true. Of two logs that are signed with one key, it may have parts of both:
    /// what shows the fork are nodes that it lacks.
    fn check(&self) {
        for (at, node) in &self.reader.nodes {
            assert!(self.logs.iter().any(|log| log.nodes.get(at) == Some(node)), "{node:?}");
        }
        for (at, block) in &self.reader.blocks {
            let of = |log: &Log| log.blocks.get(*at as usize) == Some(block);
            assert!(self.logs.iter().any(of), "block {at}");
        }
    }
}

/// What a reader holds.
#[derive(Default)]
struct Reader {
    bits: Bitfield,
    nodes: BTreeMap<u64, Node>,
    blocks: BTreeMap<u64, Bytes>,
    length: u64,
    /// Nodes that have to be asked for before they are seen.
    unloaded: RefCell<BTreeSet<NodeIndex>>,
}

impl TreeView for Reader {
    fn has(&self, node: NodeIndex) -> bool {
        self.bits.has_node(node)
    }

    fn node(&self, node: NodeIndex) -> Option<Node> {
        let seen = self.has(node) && !self.unloaded.borrow().contains(&node);
        seen.then(|| self.nodes[&node.0])
    }
}

impl Reader {
    fn receive(&mut self, key: &FeedKey, data: &Data) -> Result<Verified, Unverified> {
        let verifier = Verifier::new(key);
        let proof = Proof {
            index: data.index,
            value: data.value.as_deref(),
            nodes: &data.nodes,
            signature: data.signature.as_ref(),
        };
        let verified = loop {
            match proof::verify(self, verifier.as_ref(), key, self.length, proof) {
                Err(Unverified::NotLoaded(nodes)) => {
                    assert!(!nodes.is_empty());
                    let mut unloaded = self.unloaded.borrow_mut();
                    assert!(nodes.iter().all(|node| unloaded.remove(node)), "asked for twice");
                }
                other => break other?,
            }
        };
        for node in &verified.nodes {
            let before = self.nodes.insert(node.index, *node);
            assert!(before.is_none(), "{node:?} was there");
            self.bits.set_node(NodeIndex(node.index));
        }
        if let Some(log) = verified.log {
            assert!(log.length > self.length);
            self.length = log.length;
        }
        if let Some(value) = &data.value {
            self.bits.set_block(data.index, true);
            self.blocks.insert(data.index, value.clone());
        }
        Ok(verified)
    }

    fn unload(&self) {
        self.unloaded.replace(self.nodes.keys().map(|index| NodeIndex(*index)).collect());
    }
}

/// Answers of one input.
const STEPS: usize = 100;
