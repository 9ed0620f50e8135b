//! The search for the roots of a log that its signature proves, where one of them may be damaged.

use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::FeedKey;

use super::ledger::Ledger;
use crate::crypto::Verifier;
use crate::format::sleep;
use crate::storage::Op;
use crate::tree::flat::full_roots;
use crate::tree::{Node, NodeIndex, hash};

/// Greatest last block that is read to find out what its node was.
const LAST_BLOCK: u64 = 16 * 1024 * 1024;

/// A log and its roots, in ascending order.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) length: u64,
    pub(super) roots: Vec<Node>,
}

#[derive(Debug)]
pub(super) struct Search {
    length: u64,
    /// Each root as it is stored, and as it follows from its children.
    roots: Vec<[Option<Node>; 2]>,
    signature: Option<[u8; 64]>,
    /// Whether the last block is being read.
    last: bool,
}

pub(super) enum Found {
    Read(Search, Op),
    /// The signature of this key proves the log.
    Log {
        log: Log,
        key: FeedKey,
        stored: Vec<Node>,
    },
    /// Nothing proves it; its roots if all are stored.
    Nothing(Option<Log>),
}

impl Search {
    /// Starts to look at the log of `length` blocks, which is not empty.
    pub(super) fn new(ledger: &Ledger, length: u64) -> (Self, Vec<Op>) {
        let family = |root: NodeIndex| {
            let child = |child: Option<NodeIndex>| child.unwrap_or(root);
            [root, child(root.left_child()), child(root.right_child())]
        };
        let nodes = full_roots(length).flat_map(family).map(|node| ledger.read_node(node));
        let ops = nodes.chain([ledger.read_signatures(length, 1)]).collect();
        (Self { length, roots: Vec::new(), signature: None, last: false }, ops)
    }

    /// Takes the answers. `keys` are those that may have signed the log.
    pub(super) fn answered(
        mut self,
        ledger: &Ledger,
        keys: &[(FeedKey, Option<Verifier>)],
        read: &[Bytes],
    ) -> Found {
        if self.last {
            return self.last_block(keys, read);
        }
        self.signature = read.last().and_then(|entry| sleep::read_signature(entry));
        let family = |(root, entries): (NodeIndex, &[Bytes])| {
            let stored = sleep::read_node(root, &entries[0]);
            let (Some(left), Some(right)) = (root.left_child(), root.right_child()) else {
                return [stored, None];
            };
            let left = sleep::read_node(left, &entries[1]);
            let right = sleep::read_node(right, &entries[2]);
            [stored, left.zip(right).and_then(|(left, right)| hash::parent(&left, &right))]
        };
        self.roots = full_roots(self.length).zip(read.chunks_exact(3)).map(family).collect();
        if let Some(found) = self.first_proven(keys) {
            return found;
        }
        let last = self.length - 1;
        let sizes = self.roots.iter().rev().skip(1).map(|root| root[0].map(|root| root.size));
        let offset = sizes.sum::<Option<u64>>().filter(|offset| *offset <= ledger.data_len);
        match offset.filter(|_| self.length % 2 == 1 && ledger.told.has_block(last)) {
            Some(offset) => {
                self.last = true;
                let len = (ledger.data_len - offset).min(LAST_BLOCK) as usize;
                let op = ledger.read(sleep::DATA, offset, len);
                Found::Read(self, op)
            }
            None => self.nothing(),
        }
    }

    /// The last block is a root of its own, and its node may be the damaged one.
    fn last_block(mut self, keys: &[(FeedKey, Option<Verifier>)], read: &[Bytes]) -> Found {
        let data = read.first().cloned().unwrap_or_default();
        let stored = self.roots.last().copied().unwrap_or_default();
        let size = stored[0].and_then(|node| usize::try_from(node.size).ok());
        for size in [size, Some(data.len())].into_iter().flatten() {
            let Some(block) = data.get(..size) else { continue };
            if let Some(last) = self.roots.last_mut() {
                last[1] = Some(hash::leaf_node(self.length - 1, block));
            }
            if let Some(found) = self.first_proven(keys) {
                return found;
            }
        }
        self.nothing()
    }

    fn nothing(&self) -> Found {
        let roots = self.roots.iter().map(|root| root[0]).collect::<Option<Vec<_>>>();
        let roots = roots.filter(|roots| hash::total_size(roots).is_some());
        Found::Nothing(roots.map(|roots| Log { length: self.length, roots }))
    }

    /// As stored; with one root made anew; with all of them.
    fn first_proven(&self, keys: &[(FeedKey, Option<Verifier>)]) -> Option<Found> {
        let count = self.roots.len();
        let anew = |which: usize| {
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
        for roots in orders.filter_map(anew) {
            if hash::total_size(&roots).is_none() {
                continue;
            }
            let root = hash::root(&roots);
            for (key, verifier) in keys {
                let signed = self.signature.is_some_and(|signature| {
                    let verifier = verifier.as_ref();
                    verifier.is_some_and(|key| key.verify(&root, self.length, &signature))
                });
                // A static feed has no signatures; its key is the hash of its tree.
                if signed || root == key.0 {
                    let stored = self.roots.iter().filter_map(|root| root[0]).collect();
                    let log = Log { length: self.length, roots };
                    return Some(Found::Log { log, key: *key, stored });
                }
            }
        }
        None
    }
}
