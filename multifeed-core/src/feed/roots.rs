//! The search for the roots of a log that its signature proves, where one of them may be damaged.
//!
//! What is stored comes first. If that proves nothing, each root is tried as it follows from its
//! children, and the last one, if it is a leaf, as it follows from its block.

use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::FeedKey;

use crate::crypto::Verifier;
use crate::format::sleep;
use crate::storage::{FilePath, Op};
use crate::tree::flat::full_roots;
use crate::tree::{Node, NodeIndex, hash};

/// Greatest last block that is read to find out what its node was.
const LAST_BLOCK: u64 = 16 * 1024 * 1024;

/// A log and its roots, in ascending order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) length: u64,
    pub(crate) roots: Vec<Node>,
}

/// Who may have signed, and where to look for the last block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signer<'a> {
    pub(super) key: &'a FeedKey,
    pub(super) verifier: Option<&'a Verifier>,
    /// Bytes of the data file; `None` if the last block is not to be looked at.
    pub(super) data_len: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Search {
    folder: FilePath,
    length: u64,
    /// Each root as it is stored, and as it follows from what is below it.
    roots: Vec<[Option<Node>; 2]>,
    signature: Option<[u8; 64]>,
    step: Step,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Stored,
    Children,
    LastBlock,
}

pub(super) enum Found {
    Read(Search, Vec<Op>),
    /// The log is proven; which of its roots have to be written again.
    Log(Log, Vec<Node>),
    /// Nothing proves it; its roots if all are stored, and whether a signature is, too, that is not theirs.
    Nothing(Option<Log>, bool),
}

impl Search {
    /// Starts to look at the log of `length` blocks, which is not empty.
    pub(super) fn new(folder: &FilePath, length: u64) -> (Self, Vec<Op>) {
        let search = Self {
            folder: folder.clone(),
            length,
            roots: Vec::new(),
            signature: None,
            step: Step::Stored,
        };
        let nodes = full_roots(length).map(|root| search.read_node(root));
        let signature = search.read(sleep::SIGNATURES, sleep::signature_offset(length - 1), 64);
        let ops = nodes.chain([signature]).collect();
        (search, ops)
    }

    /// Takes the answers.
    pub(super) fn answered(self, signer: Signer<'_>, read: &[Bytes]) -> Found {
        match self.step {
            Step::Stored => self.stored(signer, read),
            Step::Children => self.children(signer, read),
            Step::LastBlock => self.last_block(signer, read),
        }
    }

    fn stored(mut self, signer: Signer<'_>, read: &[Bytes]) -> Found {
        self.signature = read.last().and_then(|entry| sleep::read_signature(entry));
        let stored = |(root, entry): (NodeIndex, &Bytes)| [sleep::read_node(root, entry), None];
        self.roots = full_roots(self.length).zip(read).map(stored).collect();
        if let Some(found) = self.first_proven(signer) {
            return found;
        }
        let children = full_roots(self.length).flat_map(|root| {
            let child = |child: Option<NodeIndex>| child.unwrap_or(root);
            [child(root.left_child()), child(root.right_child())]
        });
        let ops = children.map(|node| self.read_node(node)).collect();
        self.step = Step::Children;
        Found::Read(self, ops)
    }

    fn children(mut self, signer: Signer<'_>, read: &[Bytes]) -> Found {
        for ((root, entries), node) in
            full_roots(self.length).zip(read.chunks_exact(2)).zip(&mut self.roots)
        {
            let (Some(left), Some(right)) = (root.left_child(), root.right_child()) else {
                continue;
            };
            let left = sleep::read_node(left, &entries[0]);
            let right = sleep::read_node(right, &entries[1]);
            node[1] = left.zip(right).and_then(|(left, right)| hash::parent(&left, &right));
        }
        if let Some(found) = self.first_proven(signer) {
            return found;
        }
        let Some(data_len) = signer.data_len.filter(|_| self.length % 2 == 1) else {
            return self.nothing();
        };
        let before = self.roots.len() - 1;
        let sizes = self.roots.iter().take(before);
        let sizes = sizes.map(|[stored, other]| stored.or(*other).map(|root| root.size));
        let end = sizes.sum::<Option<u64>>().filter(|offset| *offset <= data_len);
        let Some(offset) = end else { return self.nothing() };
        self.step = Step::LastBlock;
        let len = (data_len - offset).min(LAST_BLOCK) as usize;
        let op = self.read(sleep::DATA, offset, len);
        Found::Read(self, Vec::from([op]))
    }

    /// The last block is a root of its own, and its node may be the damaged one.
    fn last_block(mut self, signer: Signer<'_>, read: &[Bytes]) -> Found {
        let data = read.first().cloned().unwrap_or_default();
        let stored = self.roots.last().copied().unwrap_or_default();
        let size = stored[0].and_then(|node| usize::try_from(node.size).ok());
        for size in [size, Some(data.len())].into_iter().flatten() {
            let Some(block) = data.get(..size) else { continue };
            if let Some(last) = self.roots.last_mut() {
                last[1] = Some(hash::leaf_node(self.length - 1, block));
            }
            if let Some(found) = self.first_proven(signer) {
                return found;
            }
        }
        self.nothing()
    }

    fn nothing(&self) -> Found {
        let roots = self.roots.iter().map(|root| root[0]).collect::<Option<Vec<_>>>();
        let roots = roots.filter(|roots| hash::total_size(roots).is_some());
        let contradicts = roots.is_some() && self.signature.is_some();
        Found::Nothing(roots.map(|roots| Log { length: self.length, roots }), contradicts)
    }

    /// As stored; with one root made anew; with all of them.
    fn first_proven(&self, signer: Signer<'_>) -> Option<Found> {
        let count = self.roots.len();
        let pick = |which: usize| {
            let pick = |(at, [stored, other]): (usize, &[Option<Node>; 2])| {
                if which == count + 1 {
                    other.or(*stored)
                } else if at == which {
                    *other
                } else {
                    *stored
                }
            };
            self.roots.iter().enumerate().map(pick).collect::<Option<Vec<_>>>()
        };
        // `count` stands for none of them.
        let orders = core::iter::once(count).chain(0..count).chain([count + 1]);
        let anew = self.roots.iter().any(|root| root[1].is_some());
        for roots in orders.take(if anew { count + 2 } else { 1 }).filter_map(pick) {
            if hash::total_size(&roots).is_none() {
                continue;
            }
            let root = hash::root(&roots);
            let signed = self.signature.is_some_and(|signature| {
                signer.verifier.is_some_and(|key| key.verify(&root, self.length, &signature))
            });
            // A static feed has no signatures; its key is the hash of its tree.
            if signed || root == signer.key.0 {
                let stored = self.roots.iter().map(|root| root[0]);
                let differs = |(root, stored): &(&Node, Option<Node>)| Some(**root) != *stored;
                let anew = roots.iter().zip(stored).filter(differs);
                let anew = anew.map(|(root, _)| *root).collect();
                return Some(Found::Log(Log { length: self.length, roots }, anew));
            }
        }
        None
    }

    fn read_node(&self, node: NodeIndex) -> Op {
        self.read(sleep::TREE, sleep::tree_offset(node), sleep::TREE_ENTRY_BYTES)
    }

    fn read(&self, name: &str, offset: u64, len: usize) -> Op {
        Op::Read { path: self.folder.join(name), offset, len }
    }
}
