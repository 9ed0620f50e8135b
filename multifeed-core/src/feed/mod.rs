//! One feed that is open: its tree, its bits, what is being written.
//!
//! [`open`] reads and proves the files, `roots` finds the roots that a signature proves, `cut` what the data file
//! lacks, [`mod@write`] gathers what changes into storage batches, [`read`] finds blocks in the data file, [`clear`]
//! gives them up, [`seek`] finds bytes, [`prove`] tells whether what is stored of the tree is what was signed, [`heal`]
//! mends it. What goes to and comes from peers is in `node`.

mod clear;
mod cut;
mod heal;
mod open;
mod prove;
mod read;
mod roots;
mod seek;
mod write;

use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use bytes::Bytes;
use multifeed_proto::FeedKey;

pub(crate) use heal::Heal;
pub(crate) use open::{BITFIELD_MAX, NOTHING_PROVEN, OpenStep, Opening, TOO_LARGE};
pub(crate) use prove::Proven;
pub(crate) use read::{Loading, Place};
pub(crate) use roots::Log;
pub(crate) use seek::Located;
pub(crate) use write::{Flush, FlushPlan};

use crate::crypto::{SecretKey, Verifier};
use crate::format::forked::Forked;
use crate::node::{CommandId, ConnectionId, NodeError};
use crate::ranges::Ranges;
use crate::storage::{BatchId, FilePath};
use crate::tree::flat::full_roots;
use crate::tree::{self, BLOCKS_PER_PAGE, Bitfield, Node, NodeCache, NodeIndex, proof};

/// Bytes of tree nodes that a feed keeps when memory is short.
const KEPT_CACHE: usize = 16 * 1024;
/// The same for each load that is under way: all that proves one block, in a tree of any height.
const KEPT_FOR_LOAD: usize = 512 * 1024;
/// Loads that are counted for it: peers choose how many there are.
const MAX_KEPT: usize = 4;

/// A feed whose files were read and proven.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) key: FeedKey,
    /// `None` for a key that is no point of the curve: only a static feed can have it.
    pub(crate) verifier: Option<Verifier>,
    /// Which blocks and tree nodes there are, stored or in [`Feed::buffer`].
    pub(crate) bits: Bitfield,
    /// Blocks whose bits are set but whose storage was not answered: not to be announced or served.
    pub(crate) unstored: Ranges,
    /// Blocks that were cleared: only fetched again if somebody asks for them.
    pub(crate) cleared: Ranges,
    /// Blocks that are being cleared: not to be taken in again before that is stored.
    pub(crate) clearing: Ranges,
    pub(crate) flushes: VecDeque<Flush>,
    folder: FilePath,
    secret: Option<SecretKey>,
    /// After a tail was lost: the length that the log had. Appending below it would fork.
    sealed_until: u64,
    length: u64,
    byte_length: u64,
    roots: Vec<Node>,
    nodes: NodeCache,
    /// Nodes that the bits tell of, and that were not in the file when they were to be loaded.
    lacking: BTreeSet<NodeIndex>,
    /// Loads of nodes that were not answered yet.
    loading: usize,
    buffer: write::Buffer,
    files: write::Files,
    last_batch: Option<BatchId>,
    /// Nodes in the buffer are to replace others in the file.
    mended: bool,
    /// What proves that two logs were signed with its key.
    forked: Option<Forked>,
    /// A block and its byte offset: spares the sum of sizes when blocks come in order.
    cursor: (u64, u64),
}

impl Feed {
    /// A feed that has no files yet, or none that are read.
    fn new(key: FeedKey, folder: FilePath) -> Self {
        Self {
            key,
            verifier: Verifier::new(&key),
            bits: Bitfield::default(),
            unstored: Ranges::default(),
            cleared: Ranges::default(),
            clearing: Ranges::default(),
            flushes: VecDeque::new(),
            folder,
            secret: None,
            sealed_until: 0,
            length: 0,
            byte_length: 0,
            roots: Vec::new(),
            nodes: NodeCache::default(),
            lacking: BTreeSet::new(),
            loading: 0,
            buffer: write::Buffer::default(),
            files: write::Files::default(),
            last_batch: None,
            mended: false,
            forked: None,
            cursor: (0, 0),
        }
    }

    /// A feed without blocks that has no folder yet. Nothing of it is to be written before
    /// [`Self::set_folder`].
    pub(crate) fn unwritten(key: FeedKey) -> Box<Self> {
        Box::new(Self::new(key, FilePath::new(&["unwritten"])))
    }

    /// Gives it its folder.
    pub(crate) fn set_folder(&mut self, folder: FilePath) {
        self.folder = folder;
    }

    /// Blocks in the log as far as it is proven.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// What proves that two logs were signed with its key.
    pub(crate) fn forked(&self) -> Option<&Forked> {
        self.forked.as_ref()
    }

    /// Keeps what proves that two logs were signed with its key; whether it does so.
    pub(crate) fn set_forked(&mut self, forked: Forked) -> bool {
        let signed = self.verifier.as_ref().is_some_and(|key| forked.is_signed(key));
        if signed {
            self.forked = Some(forked);
        }
        signed
    }

    /// The hash of the roots, which is what is signed.
    pub(crate) fn root(&self) -> [u8; 32] {
        tree::hash::root(&self.roots)
    }

    /// Takes the file `forked`, if it proves what it says.
    fn read_forked(&mut self, file: &[u8]) {
        let signed =
            |forked: &Forked| self.verifier.as_ref().is_some_and(|key| forked.is_signed(key));
        self.forked = Forked::decode(file).filter(signed);
    }

    /// Bytes in the log as far as it is proven.
    pub(crate) fn byte_length(&self) -> u64 {
        self.byte_length
    }

    /// The roots of the log as far as it is proven.
    pub(crate) fn roots(&self) -> &[Node] {
        &self.roots
    }

    /// The length below which nothing may be appended.
    pub(crate) fn sealed_until(&self) -> u64 {
        self.sealed_until
    }

    /// Others than the first `length` blocks must not be signed in their places: the log had them.
    pub(crate) fn seal_below(&mut self, length: u64) {
        if self.secret.is_some() && self.length < length {
            self.sealed_until = self.sealed_until.max(length);
        }
    }

    /// Whether this store has the secret key, and the log its last known block.
    pub(crate) fn writable(&self) -> bool {
        self.secret.is_some() && self.length >= self.sealed_until
    }

    /// Blocks of a local writer that were in its log and are damaged or gone: peers may have them.
    pub(crate) fn lost(&self) -> u64 {
        match self.secret {
            Some(_) => self.missing() + self.sealed_until.saturating_sub(self.length),
            None => 0,
        }
    }

    /// The secret key, if this store has it.
    #[cfg(feature = "std")]
    pub(crate) const fn secret(&self) -> Option<&SecretKey> {
        self.secret.as_ref()
    }

    /// Whether this store has the secret key.
    pub(crate) fn has_secret(&self) -> bool {
        self.secret.is_some()
    }

    /// Whether the block is held and stored.
    pub(crate) fn has(&self, block: u64) -> bool {
        self.bits.has_block(block) && !self.unstored.contains(block)
    }

    /// Whether all blocks of a range are held and stored.
    pub(crate) fn has_all(&self, blocks: &Range<u64>) -> bool {
        let unstored = self.unstored.next_in(blocks.start).filter(|next| *next < blocks.end);
        self.bits.contains_all(blocks.clone()) && unstored.is_none()
    }

    /// Blocks held and stored.
    pub(crate) fn stored_blocks(&self) -> u64 {
        self.bits.count_blocks(0..self.length).saturating_sub(self.unstored.count())
    }

    /// Whether its key is the hash of its tree, so that it needs no signature.
    pub(crate) fn is_static(&self) -> bool {
        tree::hash::root(&self.roots) == self.key.0
    }

    /// Blocks in the log without those that were appended here and are not stored. They may be lost with
    /// the process, so that a signature over them must not get out.
    pub(crate) fn stored_length(&self) -> u64 {
        let appended = self.unstored.last().filter(|tail| tail.end == self.length);
        appended.filter(|_| self.secret.is_some()).map_or(self.length, |tail| tail.start)
    }

    /// First digits of the key, for messages.
    pub(crate) fn short_key(&self) -> String {
        short(&self.key)
    }

    /// Adds blocks to a local writer's log: hashed and signed here, stored with the next flush. On an
    /// error the log is as before.
    ///
    /// `command` is answered when they are stored.
    pub(crate) fn append(
        &mut self,
        command: Option<CommandId>,
        blocks: &[Bytes],
    ) -> Result<(), NodeError> {
        let feed = self.short_key();
        let Some(secret) = &self.secret else { return Err(NodeError::NotWritable { feed }) };
        if self.length < self.sealed_until {
            let blocks = self.sealed_until - self.length;
            return Err(NodeError::LostTail { feed, blocks });
        }
        self.buffer.wanted = true;
        let start = self.length;
        let (mut length, mut roots) = (start, self.roots.clone());
        let (mut nodes, mut signatures) = (Vec::new(), Vec::new());
        let mut rest = blocks;
        while !rest.is_empty() {
            // A signature at the end of each bitfield page, and one block before: where the log ends
            // if the process is killed between two pages.
            let left = BLOCKS_PER_PAGE - length % BLOCKS_PER_PAGE;
            let now = if left == 1 { 1 } else { left - 1 };
            let (now, later) = rest.split_at(rest.len().min(now as usize));
            let Ok(grown) = proof::append(&roots, length, now) else {
                return Err(NodeError::Full { feed });
            };
            length += now.len() as u64;
            signatures.push((length - 1, secret.sign_log(&tree::hash::root(&grown.roots), length)));
            nodes.extend(grown.nodes);
            roots = grown.roots;
            rest = later;
        }
        self.put_nodes(&nodes);
        self.buffer.signatures.extend(signatures);
        let mut offset = self.byte_length;
        for (index, block) in (start..).zip(blocks) {
            self.put_block(index, offset, block.clone(), None);
            offset += block.len() as u64;
        }
        self.set_log(length, roots);
        if let Some(command) = command {
            self.buffer.appends.push((command, start, blocks.len() as u64));
        }
        Ok(())
    }

    /// Takes a block that was verified: its nodes, the new end of the log, the block itself.
    ///
    /// # Errors
    ///
    /// The nodes whose sizes are needed to place the block and that must be loaded first.
    pub(crate) fn accept(
        &mut self,
        index: u64,
        value: Option<Bytes>,
        verified: proof::Verified,
        source: ConnectionId,
    ) -> Result<(), Vec<NodeIndex>> {
        let offset = match value {
            Some(_) => Some(self.offset_with(index, &verified.nodes)?),
            None => None,
        };
        self.buffer.wanted = true;
        self.put_nodes(&verified.nodes);
        if let Some((length, signature)) = verified.signature {
            self.buffer.signatures.insert(length - 1, signature);
        }
        if let Some(log) = verified.log {
            let roots = full_roots(log.length).map(|root| self.node(root));
            if let Some(roots) = roots.collect::<Option<Vec<_>>>() {
                self.set_log(log.length, roots);
            }
        }
        if let (Some(value), Some(offset)) = (value, offset) {
            self.cursor = (index + 1, offset + value.len() as u64);
            self.put_block(index, offset, value, Some(source));
        }
        Ok(())
    }

    /// Bytes verified and not stored.
    pub(crate) fn unstored_bytes(&self) -> usize {
        self.buffer.bytes + self.flushes.iter().map(|flush| flush.bytes).sum::<usize>()
    }

    /// Forgets cached nodes, the ones touched longest ago first, until what a feed keeps is left. Who waits for
    /// nodes finds those there that it loaded before.
    pub(crate) fn trim_cache(&mut self) {
        self.nodes.evict_to(KEPT_CACHE + self.loading.min(MAX_KEPT) * KEPT_FOR_LOAD);
    }

    /// Bytes of cached nodes.
    pub(crate) fn cache_bytes(&self) -> usize {
        self.nodes.bytes()
    }

    fn set_log(&mut self, length: u64, roots: Vec<Node>) {
        self.length = length;
        self.byte_length = roots.iter().map(|root| root.size).sum();
        self.roots = roots;
    }

    fn put_nodes(&mut self, nodes: &[Node]) {
        for node in nodes {
            self.bits.set_node(NodeIndex(node.index));
            self.nodes.insert(*node);
            self.lacking.remove(&NodeIndex(node.index));
            self.buffer.nodes.insert(node.index, *node);
        }
    }

    /// Roots of the log that the file has otherwise, or not at all.
    pub(crate) fn mended_roots(&self) -> impl Iterator<Item = Node> + '_ {
        let mended = |root: &&Node| self.buffer.nodes.contains_key(&root.index);
        self.roots.iter().filter(mended).copied()
    }

    /// Takes nodes that the file has otherwise, or not at all. They are written with the next change.
    fn mend_nodes(&mut self, nodes: &[Node]) {
        self.put_nodes(nodes);
        self.mended |= !nodes.is_empty();
    }

    fn put_block(&mut self, index: u64, offset: u64, block: Bytes, source: Option<ConnectionId>) {
        self.bits.set_block(index, true);
        self.cleared.remove(index..index + 1);
        self.unstored.insert(index..index + 1);
        self.buffer.put(index, offset, block, source);
    }
}

impl proof::TreeView for Feed {
    fn has(&self, index: NodeIndex) -> bool {
        self.bits.has_node(index)
    }

    fn node(&self, index: NodeIndex) -> Option<Node> {
        Self::node(self, index)
    }
}

/// First digits of a key, for messages.
pub(crate) fn short(key: &FeedKey) -> String {
    key.to_hex().chars().take(8).collect()
}
