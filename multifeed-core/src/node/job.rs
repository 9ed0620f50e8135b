//! One turn of serving a channel: what each request needs, and where that is read.

use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::messages::{Node as TreeNode, Request};

use super::link::Channel;
use crate::feed::{Feed, Located, Place, Proven};
use crate::format::sleep;
use crate::storage::{Answer, BatchId, Op};
use crate::tree::NodeIndex;
use crate::tree::proof::{self, ProofPlan};

/// Blocks this close in the data file are read together.
const GAP: u64 = 4096;

/// One turn of a channel: requests that are being answered.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) items: Vec<Item>,
    pub(super) loads: u8,
    /// The batch that reads its tree pages or its blocks.
    pub(super) batch: Option<BatchId>,
    /// [`Entry::cleared`](super::entry::Entry) when it was submitted.
    pub(super) cleared: u64,
    /// Byte ranges that are being read: offset and length.
    pub(super) reads: Vec<(u64, u64)>,
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) request: Request,
    pub(super) plan: ProofPlan,
    pub(super) place: Place,
    pub(super) nodes: Vec<TreeNode>,
    /// What its block hashes to.
    pub(super) leaf: [u8; 32],
    pub(super) signature: Option<[u8; 64]>,
    /// Position of its signature among the answers of the batch.
    pub(super) signature_at: Option<usize>,
}

impl Job {
    pub(super) const fn new(items: Vec<Item>) -> Self {
        Self { items, loads: 0, batch: None, cleared: 0, reads: Vec::new() }
    }
}

impl Channel {
    /// Turns requests for the block with a byte, among the first `count` that wait, into requests for that
    /// block; the tree nodes that must be loaded first.
    ///
    /// One for the same byte as the one before is dropped: JavaScript peers send up to 32 of them at a time. If
    /// the block cannot be told, the one that is named is answered.
    ///
    /// Source: `hypercore@9.12.0/lib/replicate.js`, `_onbytes`.
    pub(super) fn find_bytes(&mut self, feed: &Feed, count: usize) -> Vec<NodeIndex> {
        let mut place = 0;
        let mut left = count;
        while left > 0 && place < self.parked.len() {
            left -= 1;
            let request = &mut self.parked[place];
            let bytes = request.bytes;
            if bytes == 0 {
                place += 1;
                continue;
            }
            match feed.locate(bytes) {
                Located::Load(nodes) if !nodes.is_empty() && feed.lacking(&nodes).is_none() => {
                    return nodes;
                }
                Located::At(..) if self.last_bytes == bytes => {
                    self.parked.remove(place);
                    continue;
                }
                Located::At(block, _) => {
                    self.last_bytes = bytes;
                    let hash = request.hash;
                    *request = Request { index: block, bytes: 0, hash, nodes: 0 };
                }
                Located::Load(_) | Located::Within(_) | Located::Beyond | Located::End => {
                    request.bytes = 0;
                }
            }
            place += 1;
        }
        Vec::new()
    }
}

/// Whether a request can be answered.
pub(super) enum Ready {
    Yes,
    /// These nodes must be loaded first.
    Load(Vec<NodeIndex>),
    /// This node, or the block at its place, does not fit what was signed.
    Damaged(NodeIndex, Option<(u64, Place)>),
}

impl Ready {
    fn broken(above: NodeIndex) -> Self {
        Self::Damaged(above.left_child().unwrap_or(above), None)
    }
}

/// A node that is held, proven as far as something tells; notes what must be loaded for it.
///
/// # Errors
///
/// The node that what is below it does not fit.
fn proven(
    feed: &mut Feed,
    node: NodeIndex,
    missing: &mut Vec<NodeIndex>,
) -> Result<Option<TreeNode>, NodeIndex> {
    if let Some(found) = feed.proven(node) {
        return Ok(Some(found));
    }
    match feed.prove(node) {
        Proven::Broken(above) => return Err(above),
        Proven::Load(nodes) => missing.extend(nodes),
        Proven::Yes | Proven::Open => {
            let found = feed.node(node);
            missing.extend(Some(node).filter(|_| found.is_none()));
            return Ok(found);
        }
    }
    Ok(None)
}

impl Item {
    /// Takes the nodes of its proof from memory, proven, and finds its block.
    pub(super) fn prepare(&mut self, feed: &mut Feed, max_block: u64) -> Ready {
        let index = self.request.index;
        let leaf = NodeIndex::leaf(index);
        self.nodes.clear();
        let mut missing = Vec::new();
        // From the top: each is beside the way, so that its parent was proven with the one before.
        for &node in self.plan.nodes.iter().rev() {
            match proven(feed, node, &mut missing) {
                Ok(found) => self.nodes.extend(found),
                Err(above) => return Ready::broken(above),
            }
        }
        self.nodes.reverse();
        let with_block = !self.request.hash;
        let mut found = None;
        if with_block {
            found = match proven(feed, leaf, &mut missing) {
                Ok(found) => found,
                Err(above) => return Ready::broken(above),
            };
            let place = match &found {
                Some(leaf) => feed.place_of(leaf),
                None => feed.place(index),
            };
            match place {
                Ok(place) => self.place = place,
                Err(nodes) if nodes.is_empty() => {
                    return Ready::Damaged(leaf, Some((index, Place { offset: 0, size: 0 })));
                }
                Err(nodes) => missing.extend(nodes),
            }
        }
        if !missing.is_empty() {
            return Ready::Load(missing);
        }
        if with_block && self.place.size > max_block {
            return Ready::Damaged(leaf, Some((index, self.place)));
        }
        self.leaf = found.map_or([0; 32], |leaf| leaf.hash);
        Ready::Yes
    }
}

impl Job {
    /// How many of its items have blocks of `bytes` together; at least one.
    pub(super) fn fitting(&self, bytes: u64) -> usize {
        let mut total = 0;
        let fit = self.items.iter().take_while(|item| {
            let first = total == 0;
            total += item.place.size;
            first || total <= bytes
        });
        fit.count()
    }

    /// Joins blocks that are neighbours in the file into one read each.
    pub(super) fn plan_reads(&mut self, feed: &Feed) -> Vec<Op> {
        let mut places: Vec<Place> = self
            .items
            .iter()
            .filter(|item| !item.request.hash && item.place.size > 0)
            .map(|item| item.place)
            .collect();
        places.sort_unstable_by_key(|place| place.offset);
        for place in places {
            let end = place.offset + place.size;
            match self.reads.last_mut() {
                Some((offset, len)) if place.offset <= *offset + *len + GAP => {
                    *len = (*len).max(end - *offset);
                }
                _ => self.reads.push((place.offset, place.size)),
            }
        }
        let path = feed.file(sleep::DATA);
        self.reads
            .iter()
            .map(|&(offset, len)| Op::Read { path: path.clone(), offset, len: len as usize })
            .collect()
    }
}

/// Plans the answer to a request; `None` if there is none to give.
///
/// A request for a block that is not here is left unanswered: hypercore 9 does so for cleared
/// blocks, and ends the stream for blocks beyond the log, which helps nobody.
pub(super) fn plan(feed: &Feed, request: &Request) -> Option<ProofPlan> {
    if request.index >= feed.length() || !(request.hash || feed.has(request.index)) {
        return None;
    }
    let Request { index, hash, nodes, .. } = *request;
    proof::plan_below(&feed.bits, index, hash, nodes, feed.stored_length()).ok()
}

/// Cuts the block of a request out of what was read.
pub(super) fn block_of(
    item: &Item,
    reads: &[(u64, u64)],
    answers: &[Answer],
) -> Result<Option<Bytes>, &'static str> {
    if item.request.hash {
        return Ok(None);
    }
    if item.place.size == 0 {
        return Ok(Some(Bytes::new()));
    }
    let at = reads.partition_point(|(offset, _)| *offset <= item.place.offset).saturating_sub(1);
    let (Some((offset, _)), Some(Answer::Bytes(bytes))) = (reads.get(at), answers.get(at)) else {
        return Err("its data file is too short");
    };
    let start = (item.place.offset - offset) as usize;
    let end = start + item.place.size as usize;
    if end > bytes.len() {
        return Err("its data file is too short");
    }
    Ok(Some(bytes.slice(start..end)))
}
