//! A log without files: its owner has all blocks, all signatures, and can make any proof of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use multifeed_proto::messages::Data;

use crate::crypto::SecretKey;
use crate::tree::proof::{self, ProofPlan};
use crate::tree::{Bitfield, Node, RemoteTree, hash};

/// A log with all that its owner has.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub(super) key: SecretKey,
    pub(super) bits: Bitfield,
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) blocks: Vec<Bytes>,
    pub(super) signatures: BTreeMap<u64, [u8; 64]>,
}

impl Log {
    /// An empty log.
    pub(super) fn new(seed: u8) -> Self {
        Self {
            key: SecretKey::from_seed(&[seed; 32]),
            bits: Bitfield::default(),
            nodes: BTreeMap::new(),
            blocks: Vec::new(),
            signatures: BTreeMap::new(),
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.blocks.len() as u64
    }

    pub(super) fn roots(&self, length: u64) -> Vec<Node> {
        proof::roots_of(length).map(|root| self.nodes[&root.0]).collect()
    }

    /// Appends blocks under one signature.
    pub(super) fn append(&mut self, blocks: &[Bytes]) {
        let grown = proof::append(&self.roots(self.length()), self.length(), blocks);
        let grown = grown.expect("a log grows");
        for node in &grown.nodes {
            self.nodes.insert(node.index, *node);
            self.bits.set_node(crate::tree::NodeIndex(node.index));
        }
        for block in blocks {
            self.bits.set_block(self.length(), true);
            self.blocks.push(block.clone());
        }
        let signature = self.key.sign_log(&hash::root(&grown.roots), self.length());
        self.signatures.insert(self.length(), signature);
    }

    /// The answer to a request of one that says that it has this; as a sender plans it that has all.
    pub(super) fn answer(&self, block: u64, hash: bool, digest: u64) -> Option<Data> {
        let plan = proof::plan(&self.bits, &mut RemoteTree::new(), block, hash, digest).ok()?;
        Some(self.carry_out(&plan, block, hash))
    }

    pub(super) fn carry_out(&self, plan: &ProofPlan, block: u64, hash: bool) -> Data {
        let signature = plan.signature.map(|index| self.signatures[&(index + 1)]);
        Data {
            index: block,
            value: (!hash).then(|| self.blocks[block as usize].clone()),
            nodes: plan.nodes.iter().map(|node| self.nodes[&node.0]).collect(),
            signature,
        }
    }
}

/// Blocks of all lengths from nothing on, which differ from each other.
pub(super) fn blocks(count: u64, seed: u8) -> Vec<Bytes> {
    let block = |n: u64| {
        let len = [0, 1, 7, 40, 3, 90][n as usize % 6];
        let text = format!("{seed} {n} {}", "-".repeat(len));
        Bytes::from(if len == 0 { String::new() } else { text })
    };
    (0..count).map(block).collect()
}
