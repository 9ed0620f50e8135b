//! A writer's log and a reader of it, without files or connections.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use multifeed_core::crypto::{SecretKey, Verifier};
use multifeed_core::tree::proof::{self, Proof, ProofPlan, TreeView, Unverified, Verified};
use multifeed_core::tree::{Bitfield, Node, NodeIndex, RemoteTree, hash};
use multifeed_proto::FeedKey;

/// What is held of a log; a writer holds all of it.
#[derive(Clone, Default)]
pub struct Tree {
    pub bits: Bitfield,
    pub nodes: BTreeMap<u64, Node>,
    pub blocks: BTreeMap<u64, Vec<u8>>,
    pub signatures: BTreeMap<u64, [u8; 64]>,
    pub length: u64,
    pub byte_length: u64,
    /// Nodes that have to be asked for before they are seen.
    pub unloaded: RefCell<BTreeSet<NodeIndex>>,
}

/// An answer as it travels.
#[derive(Clone, Debug)]
pub struct Answer {
    pub index: u64,
    pub value: Option<Vec<u8>>,
    pub nodes: Vec<Node>,
    pub signature: Option<[u8; 64]>,
}

impl Answer {
    pub fn proof(&self) -> Proof<'_> {
        Proof {
            index: self.index,
            value: self.value.as_deref(),
            nodes: &self.nodes,
            signature: self.signature.as_ref(),
        }
    }
}

impl TreeView for Tree {
    fn has(&self, node: NodeIndex) -> bool {
        self.bits.has_node(node)
    }

    fn node(&self, node: NodeIndex) -> Option<Node> {
        if self.unloaded.borrow().contains(&node) {
            return None;
        }
        self.has(node).then(|| self.nodes[&node.0])
    }
}

impl Tree {
    /// A log of `blocks`, each signed.
    pub fn written(key: &SecretKey, blocks: &[Vec<u8>]) -> Self {
        let mut tree = Self::default();
        for block in blocks {
            tree.append(key, std::slice::from_ref(block));
        }
        tree
    }

    pub fn roots(&self) -> Vec<Node> {
        proof::roots_of(self.length).map(|root| self.nodes[&root.0]).collect()
    }

    pub fn append(&mut self, key: &SecretKey, blocks: &[Vec<u8>]) {
        let grown = proof::append(&self.roots(), self.length, blocks).unwrap();
        for node in &grown.nodes {
            self.store(*node);
        }
        for block in blocks {
            self.bits.set_block(self.length, true);
            self.blocks.insert(self.length, block.clone());
            self.length += 1;
            self.byte_length += block.len() as u64;
        }
        let signature = key.sign_log(&hash::root(&grown.roots), self.length);
        self.signatures.insert(self.length, signature);
        assert_eq!(grown.roots, self.roots());
    }

    fn store(&mut self, node: Node) {
        let before = self.nodes.insert(node.index, node);
        assert!(before.is_none_or(|before| before == node), "{before:?} replaced by {node:?}");
        self.bits.set_node(NodeIndex(node.index));
    }

    pub fn digest(&self, block: u64) -> u64 {
        proof::digest(|node| self.bits.has_node(node), block, self.bits.tree_bit_length())
    }

    pub fn answer(&self, remote: &mut RemoteTree, block: u64, hash: bool, digest: u64) -> Answer {
        let plan = proof::plan(&self.bits, remote, block, hash, digest).unwrap();
        self.carry_out(&plan, block, hash)
    }

    pub fn carry_out(&self, plan: &ProofPlan, block: u64, hash: bool) -> Answer {
        Answer {
            index: block,
            value: (!hash).then(|| self.blocks[&block].clone()),
            nodes: plan.nodes.iter().map(|node| self.nodes[&node.0]).collect(),
            signature: plan.signature.map(|index| {
                *self
                    .signatures
                    .get(&(index + 1))
                    .unwrap_or_else(|| panic!("no signature of length {}", index + 1))
            }),
        }
    }

    /// Checks an answer, loading what has to be loaded, and stores what it teaches.
    pub fn receive(&mut self, key: &FeedKey, answer: &Answer) -> Result<Verified, Unverified> {
        let verifier = Verifier::new(key);
        let result = loop {
            let result = proof::verify(self, verifier.as_ref(), key, self.length, answer.proof());
            match result {
                Err(Unverified::NotLoaded(nodes)) => {
                    assert!(!nodes.is_empty());
                    for node in nodes {
                        assert!(self.unloaded.borrow_mut().remove(&node), "{node:?} was loaded");
                    }
                }
                other => break other,
            }
        };
        let verified = result?;
        if let Some((length, signature)) = verified.signature {
            self.signatures.insert(length, signature);
        }
        if let Some(log) = verified.log {
            assert!(log.length > self.length);
            (self.length, self.byte_length) = (log.length, log.byte_length);
        }
        for node in &verified.nodes {
            assert!(!self.bits.has_node(NodeIndex(node.index)), "{node:?} was there");
            self.store(*node);
        }
        assert!(self.bits.has_node(NodeIndex(verified.leaf.index)));
        if let Some(value) = &answer.value {
            self.bits.set_block(answer.index, true);
            self.blocks.insert(answer.index, value.clone());
        }
        assert_eq!(self.bits.length(), self.length, "the bits tell another length");
        Ok(verified)
    }

    /// Makes all nodes unseen until asked for.
    pub fn unload(&self) {
        self.unloaded.replace(self.nodes.keys().map(|&index| NodeIndex(index)).collect());
    }
}

/// Block contents that differ from each other, some of them empty.
pub fn contents(count: u64, seed: u8) -> Vec<Vec<u8>> {
    (0..count)
        .map(|n| {
            vec![seed ^ n as u8; (n.wrapping_mul(37).wrapping_add(u64::from(seed)) % 9) as usize]
        })
        .collect()
}

/// A small generator of numbers for choices inside a test case.
pub struct Dice(pub u64);

impl Dice {
    /// A number less than `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }
}
