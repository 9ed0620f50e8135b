//! What the passes over a feed have in common: what the bitfield tells, what was found, what would
//! undo it.

use alloc::vec::Vec;

use multifeed_proto::FeedKey;

use super::finding::{Finding, Report};
use crate::crypto::Verifier;
use crate::format::sleep;
use crate::ranges::Ranges;
use crate::storage::{FilePath, Op};
use crate::tree::{Bitfield, Node, NodeIndex};

/// Findings kept of one feed.
const MAX_FINDINGS: usize = 1_000;
/// Nodes, and signatures, that one repair writes; what is beyond is found again by the next check.
const MAX_FIXES: usize = 65_536;

#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) folder: FilePath,
    pub(super) report: Report,
    pub(super) verifier: Option<Verifier>,
    /// The bitfield as it is in the file.
    pub(super) file: Bitfield,
    /// The bitfield of the feed when it is open: what is checked.
    pub(super) told: Bitfield,
    /// The bitfield as it would be without what is damaged.
    pub(super) bits: Bitfield,
    /// Nodes to write again.
    pub(super) nodes: Vec<Node>,
    /// Lengths whose signatures are none.
    pub(super) bad_signatures: Vec<u64>,
    /// Blocks that were cleared on purpose.
    pub(super) cleared: Ranges,
    /// Bytes of the data file.
    pub(super) data_len: u64,
    /// Nothing is known of what is held: everything is tried, and what fails is no finding.
    pub(super) quiet: bool,
}

impl Ledger {
    pub(super) fn new(folder: FilePath) -> Self {
        let report = Report {
            folder: folder.as_str().into(),
            key: None,
            writer: false,
            recorded: 0,
            proven: 0,
            held: 0,
            sound: 0,
            lost: 0,
            findings: Vec::new(),
            omitted: 0,
        };
        Self {
            folder,
            report,
            verifier: None,
            file: Bitfield::new(),
            told: Bitfield::new(),
            bits: Bitfield::new(),
            nodes: Vec::new(),
            bad_signatures: Vec::new(),
            cleared: Ranges::default(),
            data_len: 0,
            quiet: false,
        }
    }

    pub(super) fn set_key(&mut self, key: FeedKey) {
        self.report.key = Some(key);
        self.verifier = Verifier::new(&key);
    }

    /// Notes a finding; blocks one after another become one.
    pub(super) fn find(&mut self, finding: Finding) {
        if self.quiet {
            return;
        }
        let joined = match (self.report.findings.last_mut(), &finding) {
            (
                Some(Finding::BlocksUnmarked { blocks }),
                Finding::BlocksUnmarked { blocks: next },
            )
            | (Some(Finding::BlocksWrong { blocks }), Finding::BlocksWrong { blocks: next })
            | (Some(Finding::BlocksCut { blocks }), Finding::BlocksCut { blocks: next })
                if blocks.end == next.start =>
            {
                blocks.end = next.end;
                true
            }
            _ => false,
        };
        if joined {
            return;
        }
        if self.report.findings.len() < MAX_FINDINGS {
            self.report.findings.push(finding);
        } else {
            self.report.omitted += 1;
        }
    }

    /// A node turned out to be `node`; `stored` is what the file has in its place.
    pub(super) fn proven(&mut self, node: &Node, stored: Option<&Node>) {
        let index = NodeIndex(node.index);
        if stored != Some(node) {
            if self.nodes.len() < MAX_FIXES {
                self.nodes.push(*node);
            }
            self.find(Finding::NodeRebuilt { node: index });
        }
        if !self.told.has_node(index) {
            self.bits.set_node(index);
            self.find(Finding::NodeUnmarked { node: index });
        }
    }

    pub(super) fn bad_signature(&mut self, length: u64) {
        if self.bad_signatures.len() < MAX_FIXES {
            self.bad_signatures.push(length);
        }
        self.find(Finding::SignatureWrong { length, restorable: false });
    }

    /// Gives up the blocks and nodes below `node` from block `from` on, but for `node` itself.
    pub(super) fn lose(&mut self, node: NodeIndex, from: u64) {
        let mut blocks = node.blocks();
        blocks.start = blocks.start.max(from);
        let held = self.told.count_blocks(blocks.clone());
        let mut nodes = 2 * blocks.start..2 * blocks.end;
        let mut any = held > 0;
        while let Some(found) = self.bits.first_node(nodes.clone()) {
            nodes.start = found + 1;
            if found != node.0 && NodeIndex(found).blocks().start >= blocks.start {
                self.bits.unset_node(NodeIndex(found));
                any = true;
            }
        }
        // Where blocks were held, what reaches over the first of them should have been proven, too. A
        // sparse log may have such nodes before it has what is below them.
        let mut above = NodeIndex::leaf(blocks.start).parent();
        while held > 0 && above.depth() < node.depth() {
            if self.bits.has_node(above) {
                self.bits.unset_node(above);
            }
            above = above.parent();
        }
        let mut at = blocks.start;
        while let Some(block) = self.bits.first_block(at..blocks.end) {
            self.bits.set_block(block, false);
            at = block + 1;
        }
        if any {
            self.find(Finding::Unproven { node, blocks, held });
        }
    }

    /// Whether anything below `node`, apart from itself, is held.
    pub(super) fn anything_below(&self, node: NodeIndex) -> bool {
        let (left, right) = (node.left_span().0, node.right_span().0);
        self.told.first_node(left..node.0).is_some()
            || self.told.first_node(node.0 + 1..right + 1).is_some()
            || self.told.first_block(node.blocks()).is_some()
    }

    pub(super) fn file(&self, name: &str) -> FilePath {
        self.folder.join(name)
    }

    pub(super) fn read_node(&self, node: NodeIndex) -> Op {
        self.read(sleep::TREE, sleep::tree_offset(node), sleep::TREE_ENTRY_BYTES)
    }

    /// Reads the signatures of `count` lengths from `length` on.
    pub(super) fn read_signatures(&self, length: u64, count: u64) -> Op {
        let offset = sleep::signature_offset(length - 1);
        self.read(sleep::SIGNATURES, offset, count as usize * sleep::SIGNATURE_BYTES)
    }

    pub(super) fn read(&self, name: &str, offset: u64, len: usize) -> Op {
        Op::Read { path: self.file(name), offset, len }
    }
}
