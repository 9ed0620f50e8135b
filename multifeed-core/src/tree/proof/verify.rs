//! Checking an answer.

use alloc::vec::Vec;

use multifeed_proto::FeedKey;
use multifeed_proto::messages::Data;

use crate::crypto::Verifier;
use crate::tree::{MAX_BYTES, Node, NodeIndex, flat, hash};

/// Most nodes that an answer may carry.
pub const MAX_NODES: usize = 128;

/// Usual length of a way that does not meet a node that is held, for a first guess at memory.
const EXPECTED_DEPTH: usize = 4;

const NOT_A_ROOT: &str = "the way does not reach a root";
const LEADS_NOWHERE: &str = "the way leads nowhere";

/// The part of a tree that is held here.
pub trait TreeView {
    /// Whether the node is held, in memory or in the tree file.
    fn has(&self, node: NodeIndex) -> bool;

    /// The node. `None` while [`Self::has`] is true: it has to be read first.
    fn node(&self, node: NodeIndex) -> Option<Node>;
}

/// An answer, as it came.
#[derive(Clone, Copy, Debug)]
pub struct Proof<'a> {
    /// Block that the answer is about, less than [`MAX_LENGTH`](crate::tree::MAX_LENGTH).
    pub index: u64,
    /// The block. Without it the first of `nodes` has to be the leaf.
    pub value: Option<&'a [u8]>,
    /// Nodes in the order in which they came.
    pub nodes: &'a [Node],
    /// Signature of the log that the nodes lead to.
    pub signature: Option<&'a [u8; 64]>,
}

impl<'a> Proof<'a> {
    /// The proof in an answer.
    pub(crate) fn of(data: &'a Data) -> Self {
        Self {
            index: data.index,
            value: data.value.as_deref(),
            nodes: &data.nodes,
            signature: data.signature.as_ref(),
        }
    }
}

/// What a true answer teaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The leaf of the block.
    pub leaf: Node,
    /// All nodes that are true and not held yet, the leaf among them; none twice. To be stored before
    /// the block is.
    pub nodes: Vec<Node>,
    /// A signature that was checked, and the length in blocks of the log that it proves, which may
    /// be shorter than the one that is known. To be stored as number `length - 1`: the nodes may
    /// reach no other signed root.
    pub signature: Option<(u64, [u8; 64])>,
    /// The log, if it is longer than it was known to be.
    pub log: Option<NewLog>,
    /// The feed is static: its key is the hash of its log, and it has no signatures.
    pub static_root: bool,
}

/// A log that is longer than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewLog {
    /// Number of blocks.
    pub length: u64,
    /// Bytes of all its blocks.
    pub byte_length: u64,
}

/// Why an answer could not be verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// These nodes are held, but have to be read first. At least one; then the answer is to be tried
    /// again. Nothing was hashed so far.
    #[error("{} nodes have to be read first", .0.len())]
    NotLoaded(Vec<NodeIndex>),
    /// A node is neither in the answer nor held.
    ///
    /// If another answer on the same channel is on its way, or held back, that will bring `sibling` or
    /// `top`, this one is to be held until it does; such requests were claimed from in a digest. If
    /// there is none, the answer is as good as [`Self::Invalid`] for the reason `otherwise`.
    #[error("node {sibling} is missing: {otherwise}")]
    Missing {
        /// The node that is missing: beside the way, or a root.
        sibling: NodeIndex,
        /// The highest node on the way from the leaf that follows from the answer.
        top: NodeIndex,
        /// What is wrong if nothing will bring the node.
        otherwise: &'static str,
    },
    /// The answer is false, whatever else arrives.
    #[error("{0}")]
    Invalid(&'static str),
}

/// Checks an answer against the tree that is held and, where it leads beyond it, against the key.
///
/// `length` is the length of the log in blocks as far as it is known. `verifier` is made from `key`; a
/// key without one can only be that of a static feed. What is held is never contradicted: a signed
/// answer that does so is an error, and a shorter log never replaces a longer one.
///
/// Where the way meets a node that is held, the block is proven. If the answer goes on beside the way
/// above it, that is checked and kept, too: the remote counts on it. Other nodes left over then are not
/// looked at, as in the JavaScript. Unlike there, what was computed has to be among the roots that
/// are signed.
///
/// # Errors
///
/// [`Unverified`] tells what has to be read, waited for, or refused.
///
/// Source: `hypercore@9.12.0`, `index.js`, `_putBuffer`, `_verifyAndWrite`, `_verifyRootsAndWrite`.
pub fn verify(
    view: &impl TreeView,
    verifier: Option<&Verifier>,
    key: &FeedKey,
    length: u64,
    proof: Proof<'_>,
) -> Result<Verified, Unverified> {
    check_form(&proof)?;
    look_ahead(view, length, &proof)?;

    let leaf = match proof.value {
        Some(value) => hash::leaf_node(proof.index, value),
        None => proof.nodes[0],
    };
    let mut nodes = Vec::with_capacity(proof.nodes.len() + 2 * EXPECTED_DEPTH);
    let mut rest = &proof.nodes[usize::from(proof.value.is_none())..];
    let mut top = leaf;
    loop {
        let at = NodeIndex(top.index);
        let step = Step::from(view, at, rest);
        match view.has(at) {
            true if loaded(view, at)? != top => {
                return Err(Unverified::Invalid("it does not match the tree"));
            }
            true => {}
            false => nodes.push(top),
        }
        let (below, beside) = match step {
            Step::Accept => {
                let (signature, log) = (None, None);
                return Ok(Verified { leaf, nodes, signature, log, static_root: false });
            }
            Step::Roots => break,
            Step::Held => (top, loaded(view, at.sibling())?),
            Step::Sent { below } => {
                let (node, after) = rest.split_first().ok_or(Unverified::Invalid(LEADS_NOWHERE))?;
                rest = after;
                take(view, *node, &mut nodes)?;
                (if below == at { top } else { loaded(view, below)? }, *node)
            }
        };
        top = hash::parent(&below, &beside).ok_or(Unverified::Invalid("sizes overflow"))?;
    }
    Ending { view, verifier, key, length, signature: proof.signature }
        .verify(leaf, top, rest, nodes)
}

/// Everything that can be said without looking at hashes.
fn check_form(proof: &Proof<'_>) -> Result<(), Unverified> {
    let invalid = |reason| Err(Unverified::Invalid(reason));
    if !NodeIndex::leaf(proof.index).is_valid() || proof.index >= crate::tree::MAX_LENGTH {
        return invalid("the block is out of range");
    }
    if proof.nodes.len() > MAX_NODES {
        return invalid("too many nodes");
    }
    if proof.value.is_some_and(|value| value.len() as u64 >= MAX_BYTES) {
        return invalid("the block is too large");
    }
    let mut seen = [0; MAX_NODES];
    let seen = &mut seen[..proof.nodes.len()];
    for (seen, node) in seen.iter_mut().zip(proof.nodes) {
        if !NodeIndex(node.index).is_valid() {
            return invalid("a node is out of range");
        }
        if node.size >= MAX_BYTES {
            return invalid("the size of a node is out of range");
        }
        *seen = node.index;
    }
    seen.sort_unstable();
    if seen.windows(2).any(|pair| pair[0] == pair[1]) {
        return invalid("a node twice");
    }
    if proof.value.is_none()
        && proof.nodes.first().map(|node| node.index) != Some(NodeIndex::leaf(proof.index).0)
    {
        return invalid("neither the block nor its leaf");
    }
    Ok(())
}

/// How the way goes on from a node.
#[derive(Clone, Copy)]
enum Step {
    /// The node is held, and the answer does not continue the way.
    Accept,
    /// The next node of the answer is beside `below`, which is the node itself or, when that is held,
    /// one above it that is held, too.
    ///
    /// A way that goes on above what is held teaches nodes that the remote takes as known from then on.
    Sent { below: NodeIndex },
    /// The node beside is held.
    Held,
    /// Neither the node nor the one beside it is held or in the answer: it has to be a root.
    Roots,
}

impl Step {
    fn from(view: &impl TreeView, at: NodeIndex, rest: &[Node]) -> Self {
        let sent = rest.first().map(|node| NodeIndex(node.index).sibling());
        if view.has(at) {
            return match sent {
                Some(below) if below.contains(at) => {
                    let mut held = at;
                    while held != below && view.has(held.parent()) {
                        held = held.parent();
                    }
                    // Otherwise it is another root: those to the left can be beside the way, too.
                    if held == below { Self::Sent { below } } else { Self::Accept }
                }
                _ => Self::Accept,
            };
        }
        if sent == Some(at) {
            Self::Sent { below: at }
        } else if view.has(at.sibling()) {
            Self::Held
        } else {
            Self::Roots
        }
    }
}

/// Goes the way without hashing, so that what has to be read or waited for is known first.
fn look_ahead(view: &impl TreeView, length: u64, proof: &Proof<'_>) -> Result<(), Unverified> {
    let mut to_load = Vec::new();
    let mut need = |node: NodeIndex| {
        if view.has(node) && view.node(node).is_none() && !to_load.contains(&node) {
            to_load.push(node);
        }
    };
    let mut rest = &proof.nodes[usize::from(proof.value.is_none())..];
    let mut top = NodeIndex::leaf(proof.index);
    loop {
        need(top);
        let below = match Step::from(view, top, rest) {
            Step::Accept => break,
            Step::Roots => {
                let unsigned = rest.is_empty() && proof.signature.is_none() && length > 0;
                let roots = || flat::full_roots(length_of(top, rest));
                if unsigned || !roots().any(|root| root == top) {
                    let otherwise = if unsigned { "it carries no signature" } else { NOT_A_ROOT };
                    return Err(Unverified::Missing { sibling: top.sibling(), top, otherwise });
                }
                roots().filter(|&root| root != top).for_each(need);
                break;
            }
            Step::Held => top,
            Step::Sent { below } => {
                rest = &rest[1..];
                below
            }
        };
        need(below);
        need(below.sibling());
        if below.parent() == below {
            return Err(Unverified::Invalid(LEADS_NOWHERE));
        }
        top = below.parent();
    }
    if to_load.is_empty() { Ok(()) } else { Err(Unverified::NotLoaded(to_load)) }
}

/// The end of a way that does not meet a node that is held: at the roots.
struct Ending<'a, V> {
    view: &'a V,
    verifier: Option<&'a Verifier>,
    key: &'a FeedKey,
    length: u64,
    signature: Option<&'a [u8; 64]>,
}

impl<V: TreeView> Ending<'_, V> {
    fn verify(
        &self,
        leaf: Node,
        top: Node,
        rest: &[Node],
        mut nodes: Vec<Node>,
    ) -> Result<Verified, Unverified> {
        let at = NodeIndex(top.index);
        let missing = |sibling, otherwise| Unverified::Missing { sibling, top: at, otherwise };
        let length = length_of(at, rest);
        let mut rest = rest.iter();
        let mut roots = Vec::with_capacity(length.count_ones() as usize);
        let mut reached = false;
        for index in flat::full_roots(length) {
            if index == at {
                reached = true;
                roots.push(top);
            } else if rest.as_slice().first().is_some_and(|node| node.index == index.0) {
                let node = rest.as_slice()[0];
                rest.next();
                take(self.view, node, &mut nodes)?;
                roots.push(node);
            } else if self.view.has(index) {
                roots.push(loaded(self.view, index)?);
            } else {
                return Err(missing(index, "a root is missing"));
            }
        }
        if !reached {
            return Err(missing(at.sibling(), NOT_A_ROOT));
        }
        let byte_length = hash::total_size(&roots)
            .ok_or(Unverified::Invalid("the sizes of the roots overflow"))?;
        let root = hash::root(&roots);

        let static_root = match self.signature {
            Some(signature) => {
                if !self.verifier.is_some_and(|key| key.verify(&root, length, signature)) {
                    // With the sibling, the way might have led to other roots.
                    return Err(missing(at.sibling(), "the signature is wrong"));
                }
                false
            }
            None if root == self.key.0 => true,
            None => return Err(missing(at.sibling(), "it carries no signature")),
        };
        Ok(Verified {
            leaf,
            nodes,
            signature: self.signature.map(|signature| (length, *signature)),
            log: (length > self.length).then_some(NewLog { length, byte_length }),
            static_root,
        })
    }
}

/// Length of the log that a way to `top` and the nodes that were not used up speak of.
///
/// Source: `index.js`, `_verifyRootsAndWrite`.
fn length_of(top: NodeIndex, rest: &[Node]) -> u64 {
    let last = rest.last().map_or(top, |node| NodeIndex(node.index));
    top.blocks().end.max(last.blocks().end)
}

/// A node that [`look_ahead`] saw in memory.
fn loaded(view: &impl TreeView, node: NodeIndex) -> Result<Node, Unverified> {
    view.node(node).ok_or_else(|| Unverified::NotLoaded([node].into()))
}

/// Takes a node from the answer: to be stored, or equal to what is held.
fn take(view: &impl TreeView, node: Node, nodes: &mut Vec<Node>) -> Result<(), Unverified> {
    let index = NodeIndex(node.index);
    if !view.has(index) {
        nodes.push(node);
        return Ok(());
    }
    if loaded(view, index)? == node {
        Ok(())
    } else {
        Err(Unverified::Invalid("it contradicts the tree"))
    }
}
