//! The hashes of the tree: BLAKE2b-256 without a key, over a type byte and big-endian numbers.
//!
//! Source: `hypercore-crypto@2.3.2`, `index.js`.

use blake2::digest::core_api::{Buffer, UpdateCore, VariableOutputCore};
use blake2::digest::{Digest, consts::U32};
use blake2::{Blake2b, Blake2bVarCore};

use super::{MAX_BYTES, Node, NodeIndex};

/// Hash of a block: of `00`, its length in bytes and its contents.
#[must_use]
pub fn leaf(data: &[u8]) -> [u8; 32] {
    let mut message = [0; SHORT];
    if let Some(place) = message.get_mut(9..9 + data.len()) {
        place.copy_from_slice(data);
        message[1..9].copy_from_slice(&(data.len() as u64).to_be_bytes());
        return short(&message[..9 + data.len()]);
    }
    Blake2b::<U32>::new()
        .chain_update([0])
        .chain_update((data.len() as u64).to_be_bytes())
        .chain_update(data)
        .finalize()
        .into()
}

/// The hash of a block that comes in pieces.
#[derive(Debug)]
pub(crate) struct Leaf(Blake2b<U32>);

impl Leaf {
    /// Starts with the size of the whole block in bytes.
    pub(crate) fn new(size: u64) -> Self {
        Self(Blake2b::<U32>::new().chain_update([0]).chain_update(size.to_be_bytes()))
    }

    /// Takes the next piece.
    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// What [`leaf`] gives for the pieces together.
    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// The leaf node of block number `block` with the contents `data`.
#[must_use]
pub fn leaf_node(block: u64, data: &[u8]) -> Node {
    Node { index: NodeIndex::leaf(block).0, hash: leaf(data), size: data.len() as u64 }
}

/// The node above two siblings, given in either order.
///
/// `None` if together they have [`MAX_BYTES`] bytes or more.
#[must_use]
pub fn parent(one: &Node, other: &Node) -> Option<Node> {
    let (left, right) = if one.index < other.index { (one, other) } else { (other, one) };
    let size = left.size.checked_add(right.size).filter(|&size| size < MAX_BYTES)?;
    // One message of 73 bytes fits in one block of the hash function.
    let mut message = [0; 73];
    message[0] = 1;
    message[1..9].copy_from_slice(&size.to_be_bytes());
    message[9..41].copy_from_slice(&left.hash);
    message[41..].copy_from_slice(&right.hash);
    Some(Node { index: NodeIndex(left.index).parent().0, hash: short(&message), size })
}

/// Bytes of one block of the hash function.
const SHORT: usize = 128;

/// What [`Digest::digest`] gives for the few bytes that most messages are, without what it does for longer
/// ones. That saves a fifth of the time.
fn short(message: &[u8]) -> [u8; 32] {
    let mut core = Blake2bVarCore::new_with_params(&[], &[], 0, 32);
    let mut buffer = Buffer::<Blake2bVarCore>::default();
    buffer.digest_blocks(message, |blocks| core.update_blocks(blocks));
    let mut out = Default::default();
    core.finalize_variable_core(&mut buffer, &mut out);
    let mut hash = [0; 32];
    hash.copy_from_slice(&out[..32]);
    hash
}

/// Hash of a whole log: of `02` and, for each root from left to right, hash, index and size.
#[must_use]
pub fn root(roots: &[Node]) -> [u8; 32] {
    let mut state = Blake2b::<U32>::new();
    state.update([2]);
    for node in roots {
        state.update(node.hash);
        state.update(node.index.to_be_bytes());
        state.update(node.size.to_be_bytes());
    }
    state.finalize().into()
}

/// What a writer signs: the [`root`] hash of a log and its length in blocks.
#[must_use]
pub fn signable(root: &[u8; 32], length: u64) -> [u8; 40] {
    let mut out = [0; 40];
    out[..32].copy_from_slice(root);
    out[32..].copy_from_slice(&length.to_be_bytes());
    out
}

/// Bytes in all blocks below `nodes`; `None` if they are [`MAX_BYTES`] or more.
#[must_use]
pub fn total_size(nodes: &[Node]) -> Option<u64> {
    nodes
        .iter()
        .try_fold(0_u64, |sum, node| sum.checked_add(node.size))
        .filter(|&size| size < MAX_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_overflow_have_no_parent() {
        let node = |index, size| Node { index, hash: [7; 32], size };
        assert!(parent(&node(0, u64::MAX), &node(2, 1)).is_none());
        assert!(parent(&node(0, MAX_BYTES - 1), &node(2, 1)).is_none());
        assert!(parent(&node(0, MAX_BYTES - 2), &node(2, 1)).is_some());
        assert!(total_size(&[node(0, u64::MAX), node(2, 1)]).is_none());
    }

    #[test]
    fn a_parent_does_not_depend_on_the_order_of_its_children() {
        let (a, b) = (leaf_node(0, b"a"), leaf_node(1, b"bc"));
        assert_eq!(parent(&a, &b), parent(&b, &a));
        assert_eq!(parent(&a, &b).map(|node| (node.index, node.size)), Some((1, 3)));
    }
}
