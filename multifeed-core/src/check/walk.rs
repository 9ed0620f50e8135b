//! The walk over a tree whose roots are proven: from the roots down, and from left to right.
//!
//! What is proven at each step is one node; it proves its two children, if these are what was once
//! hashed. A damaged child is rebuilt from the nodes below it, or a leaf from its block. Where that
//! fails, all below is given up. In a feed with gaps a node can stand without its sibling, proven by
//! the signature of a shorter log only. On its way the walk knows the roots of every length that it
//! passes, and checks the signatures of these.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use super::finding::Finding;
use super::ledger::Ledger;
use crate::format::sleep;
use crate::storage::Op;
use crate::tree::flat::full_roots;
use crate::tree::hash::{self, Leaf};
use crate::tree::{Node, NodeIndex};

/// Depth of a node below which everything is read at once: 2,048 blocks, 160 KiB of nodes.
const CHUNK_DEPTH: u32 = 11;
/// Bytes of the data file that are read at once.
const RUN_BYTES: u64 = 1024 * 1024;
/// Bytes of two blocks that are read at once to find out which of their nodes is damaged.
const PAIR_BYTES: u64 = 16 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Walk {
    /// Proven nodes to visit, each with the offset of its first block; the next one last.
    stack: Vec<Visit>,
    /// The roots of the log up to where the walk is.
    roots: Vec<Node>,
    /// Blocks to read before the walk goes on.
    jobs: VecDeque<Job>,
    state: State,
    /// The blocks, if they are to be kept, at most [`Self::KEPT_BYTES`] of them.
    kept: Option<Vec<Bytes>>,
    kept_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
enum Visit {
    Node(Node, u64),
    /// A node that does not prove both of its children, and where a shorter log may end below it.
    Orphans(Node, u64, u64),
    /// Everything below the node was visited.
    Close(Node),
}

#[derive(Debug)]
enum Job {
    Block(Block),
    /// What is left of a block from a place on.
    Rest(Block, u64, Leaf),
    /// Two blocks whose nodes contradict the one above.
    Pair(Pair, u64),
}

/// Two blocks, the node above them, and what is stored as their nodes.
#[derive(Clone, Copy, Debug)]
struct Pair {
    node: Node,
    stored: [Option<Node>; 2],
    /// Whether the signature of the log that ends between the two proves the first.
    first_proven: bool,
}

/// A block to be read.
#[derive(Clone, Copy, Debug)]
struct Block {
    index: u64,
    offset: u64,
    size: u64,
    hash: [u8; 32],
}

#[derive(Debug)]
enum State {
    Idle,
    Chunk(Node, u64),
    Large(Node, u64),
    /// Signature of a shorter log, and the roots of it that are below a node.
    Orphans(Node, u64, u64),
    /// Signature of the length.
    Signature(u64),
    Run(Vec<Block>),
    Long(Block, u64, Leaf),
    Pair(Pair),
}

/// What was read of the tree below one node, and the signatures of the lengths that end there.
struct Chunk<'a> {
    start: u64,
    entries: &'a [u8],
    signatures: &'a [u8],
}

impl Walk {
    /// Bytes of blocks kept.
    const KEPT_BYTES: usize = 64 * 1024 * 1024;

    pub(super) fn new(roots: &[Node], keep: bool) -> Self {
        let mut offset = 0;
        let mut stack = Vec::with_capacity(roots.len());
        for root in roots {
            stack.push(Visit::Node(*root, offset));
            // The sum of all was checked when they were read.
            offset = offset.saturating_add(root.size);
        }
        stack.reverse();
        Self {
            stack,
            roots: Vec::new(),
            jobs: VecDeque::new(),
            state: State::Idle,
            kept: keep.then(Vec::new),
            kept_bytes: 0,
        }
    }

    /// The blocks that were kept.
    pub(super) fn into_blocks(self) -> Vec<Bytes> {
        self.kept.unwrap_or_default()
    }

    /// The next operations; `None` at the end.
    pub(super) fn next(&mut self, ledger: &mut Ledger) -> Option<Vec<Op>> {
        loop {
            if let Some(job) = self.jobs.pop_front() {
                match self.job(ledger, job) {
                    Some(op) => return Some(Vec::from([op])),
                    None => continue,
                }
            }
            match self.stack.pop()? {
                Visit::Close(node) => self.close(node),
                Visit::Orphans(node, offset, length) => {
                    self.state = State::Orphans(node, offset, length);
                    let nodes = parts(NodeIndex(node.index), length);
                    let nodes = nodes.map(|part| ledger.read_node(part));
                    return Some(nodes.chain([ledger.read_signatures(length, 1)]).collect());
                }
                Visit::Node(node, offset) => return Some(self.visit(ledger, node, offset)),
            }
        }
    }

    /// Takes the answers to the operations that [`Self::next`] gave.
    pub(super) fn answered(&mut self, ledger: &mut Ledger, answers: &[Bytes]) {
        let empty = Bytes::new();
        let answer = |at: usize| answers.get(at).unwrap_or(&empty);
        match core::mem::replace(&mut self.state, State::Idle) {
            State::Idle => {}
            State::Chunk(node, offset) => {
                let start = NodeIndex(node.index).blocks().start;
                let chunk = Chunk { start, entries: answer(0), signatures: answer(1) };
                self.descend(ledger, &chunk, node, offset);
            }
            State::Large(node, offset) => self.large(ledger, node, offset, answers),
            State::Orphans(node, offset, length) => {
                self.orphans(ledger, node, offset, length, answers);
            }
            State::Signature(length) => self.check(ledger, length, answer(0)),
            State::Run(blocks) => self.run(ledger, &blocks, answer(0)),
            State::Long(block, at, leaf) => self.long(ledger, block, at, leaf, answer(0)),
            State::Pair(pair) => resolve(ledger, &pair, answer(0)),
        }
    }

    fn visit(&mut self, ledger: &Ledger, node: Node, offset: u64) -> Vec<Op> {
        let index = NodeIndex(node.index);
        let blocks = index.blocks();
        if index.depth() <= CHUNK_DEPTH {
            self.state = State::Chunk(node, offset);
            let count = blocks.end - blocks.start;
            let entries = ledger.read(
                sleep::TREE,
                sleep::tree_offset(index.left_span()),
                (2 * count as usize - 1) * sleep::TREE_ENTRY_BYTES,
            );
            return Vec::from([entries, ledger.read_signatures(blocks.start + 1, count)]);
        }
        if !ledger.anything_below(index) {
            self.close(node);
            self.state = State::Signature(blocks.end);
            return Vec::from([ledger.read_signatures(blocks.end, 1)]);
        }
        self.state = State::Large(node, offset);
        large_family(index).map(|node| ledger.read_node(node)).into()
    }

    /// Goes down from a proven node, all of whose tree is in memory.
    fn descend(&mut self, ledger: &mut Ledger, chunk: &Chunk<'_>, node: Node, offset: u64) {
        let index = NodeIndex(node.index);
        let blocks = index.blocks();
        let (Some(left), Some(right)) = (index.left_child(), index.right_child()) else {
            self.close(node);
            self.check(ledger, blocks.end, chunk.signature(blocks.end));
            let marked = ledger.told.has_block(blocks.start);
            let there = offset.saturating_add(node.size) <= ledger.data_len;
            if marked || there && !ledger.cleared.contains(blocks.start) {
                let (index, size, hash) = (blocks.start, node.size, node.hash);
                self.jobs.push_back(Job::Block(Block { index, offset, size, hash }));
            }
            return;
        };
        if !ledger.anything_below(index) {
            self.close(node);
            self.check(ledger, blocks.end, chunk.signature(blocks.end));
            return;
        }
        let stored = [chunk.node(left), chunk.node(right)];
        let folded = [chunk.fold(ledger, left), chunk.fold(ledger, right)];
        if let Some([left, right]) = children(&node, stored, folded) {
            ledger.proven(&left, stored[0].as_ref());
            ledger.proven(&right, stored[1].as_ref());
            self.descend(ledger, chunk, left, offset);
            self.descend(ledger, chunk, right, offset + left.size);
            return;
        }
        let held = blocks.clone().any(|block| ledger.told.has_block(block));
        if index.depth() == 1 && held {
            let length = blocks.start + 1;
            let first_proven = self.shorter(ledger, chunk, index, length).is_some();
            self.jobs.push_back(Job::Pair(Pair { node, stored, first_proven }, offset));
        } else {
            let mut lengths = (blocks.start + 1..blocks.end).rev();
            let found = lengths.find_map(|length| {
                self.shorter(ledger, chunk, index, length).map(|parts| (length, parts))
            });
            let (length, parts) = found.unwrap_or_default();
            let mut offset = offset;
            for part in parts {
                self.descend(ledger, chunk, part, offset);
                offset += part.size;
            }
            ledger.lose(index, length);
        }
        self.close(node);
        self.check(ledger, blocks.end, chunk.signature(blocks.end));
    }

    /// The roots below `node` of the log of `length` blocks, if the signature of that proves them.
    fn shorter(
        &self,
        ledger: &Ledger,
        chunk: &Chunk<'_>,
        node: NodeIndex,
        length: u64,
    ) -> Option<Vec<Node>> {
        let signature = sleep::read_signature(chunk.signature(length))?;
        let stored = |part| chunk.node(part).filter(|_| ledger.told.has_node(part));
        let parts = parts(node, length).map(stored).collect::<Option<Vec<Node>>>()?;
        self.proves(ledger, &parts, length, &signature).then_some(parts)
    }

    /// Goes down from a proven node high up in the tree.
    fn large(&mut self, ledger: &mut Ledger, node: Node, offset: u64, answers: &[Bytes]) {
        let index = NodeIndex(node.index);
        let family = large_family(index);
        let read = |at: usize| sleep::read_node(family[at], answers.get(at)?);
        let fold = |at: usize| hash::parent(&read(at)?, &read(at + 1)?);
        let stored = [read(0), read(1)];
        if let Some([left, right]) = children(&node, stored, [fold(2), fold(4)]) {
            ledger.proven(&left, stored[0].as_ref());
            ledger.proven(&right, stored[1].as_ref());
            self.stack.push(Visit::Close(node));
            self.stack.push(Visit::Node(right, offset + left.size));
            self.stack.push(Visit::Node(left, offset));
            return;
        }
        let length = held_up_to(ledger, index);
        if length == index.blocks().start {
            ledger.lose(index, 0);
            self.close(node);
            return;
        }
        self.stack.push(Visit::Orphans(node, offset, length));
    }

    fn orphans(
        &mut self,
        ledger: &mut Ledger,
        node: Node,
        offset: u64,
        length: u64,
        answers: &[Bytes],
    ) {
        let index = NodeIndex(node.index);
        let found = answers.split_last().and_then(|(signature, entries)| {
            let signature = sleep::read_signature(signature)?;
            let nodes = parts(index, length).zip(entries);
            let nodes = nodes.map(|(part, entry)| sleep::read_node(part, entry));
            let nodes = nodes.collect::<Option<Vec<_>>>()?;
            self.proves(ledger, &nodes, length, &signature).then_some(nodes)
        });
        self.stack.push(Visit::Close(node));
        let Some(nodes) = found else {
            ledger.lose(index, 0);
            return;
        };
        ledger.lose(index, length);
        let mut ends = Vec::with_capacity(nodes.len());
        let mut offset = offset;
        for part in nodes {
            ends.push(Visit::Node(part, offset));
            offset = offset.saturating_add(part.size);
        }
        self.stack.extend(ends.into_iter().rev());
    }

    /// The walk is past all blocks below a proven node.
    fn close(&mut self, node: Node) {
        let start = NodeIndex(node.index).blocks().start;
        while self.roots.last().is_some_and(|root| NodeIndex(root.index).blocks().end > start) {
            self.roots.pop();
        }
        let mut top = node;
        while let Some(left) = self.roots.last() {
            if left.index != NodeIndex(top.index).sibling().0 {
                break;
            }
            let Some(parent) = hash::parent(left, &top) else { break };
            self.roots.pop();
            top = parent;
        }
        self.roots.push(top);
    }

    /// Checks what is stored as the signature of the log up to where the walk is.
    fn check(&self, ledger: &mut Ledger, length: u64, signature: &[u8]) {
        let Some(signature) = sleep::read_signature(signature) else { return };
        if ledger.verifier.is_some() && !self.proves(ledger, &[], length, &signature) {
            ledger.bad_signature(length);
        }
    }

    fn proves(&self, ledger: &Ledger, more: &[Node], length: u64, signature: &[u8; 64]) -> bool {
        let roots: Vec<Node> = self.roots.iter().chain(more).copied().collect();
        let hash = hash::root(&roots);
        ledger.verifier.as_ref().is_some_and(|key| key.verify(&hash, length, signature))
    }
}

impl Walk {
    fn job(&mut self, ledger: &mut Ledger, job: Job) -> Option<Op> {
        let first = match job {
            Job::Block(block) => block,
            Job::Rest(block, at, leaf) => {
                let len = (block.size - at).min(RUN_BYTES) as usize;
                self.state = State::Long(block, at, leaf);
                return Some(ledger.read(sleep::DATA, block.offset + at, len));
            }
            Job::Pair(pair, offset) => {
                // Of more, only the first block is looked at if that is proven.
                let len = pair.node.size.min(PAIR_BYTES) as usize;
                self.state = State::Pair(pair);
                return Some(ledger.read(sleep::DATA, offset, len));
            }
        };
        if first.offset.saturating_add(first.size) > ledger.data_len {
            ledger.bits.set_block(first.index, false);
            ledger.find(Finding::BlocksCut { blocks: first.index..first.index + 1 });
            return None;
        }
        if first.size > RUN_BYTES {
            self.state = State::Long(first, 0, Leaf::new(first.size));
            return Some(ledger.read(sleep::DATA, first.offset, RUN_BYTES as usize));
        }
        let (mut run, mut size) = (Vec::from([first]), first.size);
        while let Some(&Job::Block(next)) = self.jobs.front() {
            let end = first.offset + size;
            if next.offset != end
                || next.size > RUN_BYTES - size
                || end + next.size > ledger.data_len
            {
                break;
            }
            size += next.size;
            run.push(next);
            self.jobs.pop_front();
        }
        self.state = State::Run(run);
        Some(ledger.read(sleep::DATA, first.offset, size as usize))
    }

    fn run(&mut self, ledger: &mut Ledger, blocks: &[Block], data: &Bytes) {
        let mut at = 0;
        for block in blocks {
            let end = at + block.size as usize;
            let right = data.get(at..end).is_some_and(|data| hash::leaf(data) == block.hash);
            block_read(ledger, block.index, right);
            if right {
                self.keep(data.slice(at..end));
            }
            at = end;
        }
    }

    fn long(&mut self, ledger: &mut Ledger, block: Block, at: u64, mut leaf: Leaf, data: &Bytes) {
        leaf.update(data);
        let at = at + data.len() as u64;
        if at < block.size && !data.is_empty() {
            self.jobs.push_front(Job::Rest(block, at, leaf));
            return;
        }
        let right = at == block.size && leaf.finish() == block.hash;
        block_read(ledger, block.index, right);
    }

    fn keep(&mut self, data: Bytes) {
        if let Some(kept) = &mut self.kept {
            self.kept_bytes = self.kept_bytes.saturating_add(data.len());
            if self.kept_bytes <= Self::KEPT_BYTES {
                kept.push(Bytes::copy_from_slice(&data));
            }
        }
    }
}

impl Chunk<'_> {
    fn node(&self, node: NodeIndex) -> Option<Node> {
        let at = (node.0 - 2 * self.start) as usize * sleep::TREE_ENTRY_BYTES;
        sleep::read_node(node, self.entries.get(at..)?)
    }

    fn signature(&self, length: u64) -> &[u8] {
        let at = (length - 1 - self.start) as usize * sleep::SIGNATURE_BYTES;
        self.signatures.get(at..).unwrap_or_default()
    }

    /// The node as it follows from the lowest nodes below it that are there.
    fn fold(&self, ledger: &Ledger, node: NodeIndex) -> Option<Node> {
        let (Some(left), Some(right)) = (node.left_child(), node.right_child()) else {
            return self.node(node);
        };
        if !ledger.told.has_node(left) && !ledger.told.has_node(right) {
            return self.node(node);
        }
        hash::parent(&self.fold(ledger, left)?, &self.fold(ledger, right)?)
    }
}

/// Finds out which of two nodes is damaged, from the data of their blocks.
fn resolve(ledger: &mut Ledger, pair: &Pair, data: &Bytes) {
    let Pair { node, stored, first_proven } = pair;
    let index = NodeIndex(node.index);
    let start = index.blocks().start;
    let hash_of = |at: u64, from: u64, to: u64| {
        let (from, to) = (usize::try_from(from).ok()?, usize::try_from(to).ok()?);
        data.get(from..to).map(|block| hash::leaf_node(start + at, block))
    };
    let sizes = [
        stored[0].map(|left| left.size),
        stored[1].and_then(|right| node.size.checked_sub(right.size)),
    ];
    for size in sizes.into_iter().flatten() {
        let hashed = [hash_of(0, 0, size), hash_of(1, size, node.size)];
        let Some(pair) = children(node, *stored, hashed) else { continue };
        for (at, leaf) in pair.iter().enumerate() {
            ledger.proven(leaf, stored[at].as_ref());
            block_read(ledger, start + at as u64, hashed[at].as_ref() == Some(leaf));
        }
        return;
    }
    let Some(first) = stored[0].filter(|_| *first_proven) else { return ledger.lose(index, 0) };
    ledger.lose(index, start + 1);
    block_read(ledger, start, hash_of(0, 0, first.size) == Some(first));
}

fn block_read(ledger: &mut Ledger, block: u64, right: bool) {
    let marked = ledger.told.has_block(block);
    if right && marked {
        ledger.report.sound += 1;
    } else if right {
        if ledger.cleared.contains(block) {
            return;
        }
        ledger.bits.set_block(block, true);
        ledger.find(Finding::BlocksUnmarked { blocks: block..block + 1 });
    } else if marked {
        ledger.bits.set_block(block, false);
        ledger.find(Finding::BlocksWrong { blocks: block..block + 1 });
    }
}

/// The children of a proven node: what is stored, or else what it could be instead.
fn children(node: &Node, stored: [Option<Node>; 2], other: [Option<Node>; 2]) -> Option<[Node; 2]> {
    let [stored_left, stored_right] = stored;
    let [other_left, other_right] = other;
    let pairs = [
        (stored_left, stored_right),
        (other_left, stored_right),
        (stored_left, other_right),
        (other_left, other_right),
    ];
    pairs.into_iter().find_map(|(left, right)| {
        let (left, right) = (left?, right?);
        (hash::parent(&left, &right).as_ref() == Some(node)).then_some([left, right])
    })
}

/// A node's children and grandchildren, which it must have.
fn large_family(node: NodeIndex) -> [NodeIndex; 6] {
    let left = |node: NodeIndex| node.left_child().unwrap_or(node);
    let right = |node: NodeIndex| node.right_child().unwrap_or(node);
    let (l, r) = (left(node), right(node));
    [l, r, left(l), right(l), left(r), right(r)]
}

/// The roots of a log of `length` blocks that are below `node`, in which that log ends.
fn parts(node: NodeIndex, length: u64) -> impl Iterator<Item = NodeIndex> {
    full_roots(length).filter(move |root| root.blocks().start >= node.blocks().start)
}

/// The end of the longest log that ends below `node` and whose roots there are all held.
fn held_up_to(ledger: &Ledger, node: NodeIndex) -> u64 {
    let mut length = node.blocks().start;
    let mut next = node;
    while let (Some(left), Some(right)) = (next.left_child(), next.right_child()) {
        if ledger.told.has_node(left) {
            length = left.blocks().end;
            next = right;
        } else {
            next = left;
        }
    }
    length
}
