//! Gives up the end of a log on demand: what it costs, and what does it.
//!
//! A writer that lost its tail is read-only until peers send it back. Where none has it, or nobody ever got it,
//! this is the way on. The roots of the shorter log are proven from those of the log that is there, so
//! nothing is signed that was not signed before as a part of it.

use bytes::Bytes;
use multifeed_proto::FeedKey;

use super::{StoreCheck, subject};
use crate::check::{FeedFolder, Report};
use crate::crypto::SecretKey;
use crate::feed::{Feed, OpenStep, Opening};
use crate::format::{corestore, numbered, sleep};
use crate::node::{Layout, NodeError};
use crate::storage::{Op, StorageError};
use crate::tree::{Node, NodeIndex, hash};

/// What it costs to give up the end of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Truncation {
    /// Its key.
    pub key: FeedKey,
    /// Its folder in the store.
    pub folder: String,
    /// Whether it is written here: it then signs other blocks in the places of those that are given up.
    pub writer: bool,
    /// Blocks that the log had, as far as anything tells.
    pub length: u64,
    /// Blocks that it has afterwards.
    pub to: u64,
    /// Blocks that are held and given up.
    pub held: u64,
    /// Blocks before the new end that are not held.
    pub missing: u64,
}

/// Why the end of a log cannot be given up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TruncateError {
    /// No feed of the store has this name or key.
    #[error("no feed of this store has this name or key")]
    UnknownFeed,
    /// The log is not proven so far.
    #[error(
        "the first {proven} blocks are proven, no more: give up all behind them or behind one of them"
    )]
    Unproven {
        /// Blocks that are proven.
        proven: u64,
    },
    /// A feed by others can only end where its writer has signed.
    #[error("its writer has not signed this length")]
    Unsigned,
    /// A node of the tree that the shorter log needs is damaged.
    #[error("its tree is damaged")]
    Tree,
    /// The feed does not open.
    #[error("the feed does not open: {0}")]
    Unopenable(NodeError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl StoreCheck<'_> {
    /// Says what it costs to give up all blocks of a feed from block `to` on. `feed` is its key in hexadecimal
    /// digits, or its name.
    ///
    /// # Errors
    ///
    /// If there is no such feed, or its log cannot end there.
    pub fn plan_truncation(&mut self, feed: &str, to: u64) -> Result<Truncation, TruncateError> {
        let (folder, key) = self.find_feed(feed)?;
        let (feed, report) = self.open_feed(&folder, key)?;
        let length = report.recorded.max(feed.length()).max(feed.sealed_until());
        self.roots_at(&feed, to)?;
        Ok(Truncation {
            key,
            folder: folder.path.as_str().to_owned(),
            writer: feed.has_secret(),
            length,
            to,
            held: report.held.saturating_sub(feed.bits.count_blocks(0..to)),
            missing: to - feed.bits.count_blocks(0..to),
        })
    }

    /// Gives up all blocks from the end that a [`plan`](Self::plan_truncation) tells on. A kill in between leaves
    /// a writer read-only, and the same again goes on.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn truncate(&mut self, plan: &Truncation) -> Result<Report, TruncateError> {
        let folder = self.folders.iter().find(|folder| folder.path.as_str() == plan.folder);
        let folder = folder.cloned().ok_or(TruncateError::UnknownFeed)?;
        let (feed, _) = self.open_feed(&folder, plan.key)?;
        let roots = self.roots_at(&feed, plan.to)?;
        let file = |name: &str| folder.path.join(name);
        let mut write = |name: &str, offset: u64, data: Bytes| -> Result<(), StorageError> {
            self.run_all(Vec::from([Op::Write { path: file(name), offset, data }]))?;
            self.run_all(Vec::from([Op::Sync { path: file(name) }]))?;
            Ok(())
        };
        if plan.writer {
            // First of all: until it is over, nothing is to be signed.
            let sealed = plan.length.max(plan.to + 1).to_be_bytes();
            write(sleep::SEALED, 0, Bytes::copy_from_slice(&sealed))?;
        }
        if let (Some(secret), true) = (feed.secret(), plan.to > 0) {
            let signature = secret.sign_log(&hash::root(&roots), plan.to);
            let offset = sleep::signature_offset(plan.to - 1);
            write(sleep::SIGNATURES, offset, Bytes::copy_from_slice(&signature))?;
        }
        for root in &roots {
            let offset = sleep::tree_offset(NodeIndex(root.index));
            write(sleep::TREE, offset, Bytes::copy_from_slice(&sleep::write_node(root)))?;
        }
        let mut bits = feed.bits.clone();
        bits.clear_from(plan.to);
        for root in &roots {
            bits.set_node(NodeIndex(root.index));
        }
        let size = bits.page_size();
        // What the file tells beyond the log that is proven goes, too.
        let mut pages = bits.take_dirty();
        pages.sort_by_key(|(page, _)| *page);
        for (page, data) in pages {
            write(sleep::BITFIELD, sleep::bitfield_offset(page, size), data)?;
        }
        let bytes = roots.iter().map(|root| root.size).sum();
        let nodes = (2 * plan.to).saturating_sub(1);
        for (name, len) in [
            (sleep::SIGNATURES, sleep::signature_offset(plan.to)),
            (sleep::TREE, sleep::tree_offset(NodeIndex(nodes))),
            (sleep::DATA, bytes),
        ] {
            let path = file(name);
            self.run_all(Vec::from([Op::Truncate { path: path.clone(), len }]))?;
            self.run_all(Vec::from([Op::Sync { path }]))?;
        }
        self.run_all(Vec::from([Op::Remove { path: file(sleep::SEALED) }]))?;
        let mut subject = subject(&folder);
        subject.key = Some(plan.key);
        Ok(self.once(&subject)?.report)
    }

    /// The feed that has this key or name.
    fn find_feed(&mut self, feed: &str) -> Result<(FeedFolder, FeedKey), TruncateError> {
        let folders = self.folders.clone();
        let mut wanted = FeedKey::from_hex(feed).ok();
        if wanted.is_none() {
            let lists = self.lists(&folders, false)?;
            wanted = lists.named(feed);
        }
        for folder in &folders {
            let of_corestore = folder.layout == Layout::Corestore;
            if of_corestore {
                let fits = |key: &FeedKey| key.discovery_key().to_hex() == folder.name;
                if let Some(key) = wanted.filter(fits) {
                    return Ok((folder.clone(), key));
                }
                continue;
            }
            let Some(key) = self.key_in(folder) else { continue };
            let path = folder.path.join(numbered::LOCAL_NAME);
            let name = self.try_read(Op::Read { path, offset: 0, len: numbered::MAX_NAME });
            let name =
                name.map_or_else(|| folder.name.clone(), |name| numbered::decode_name(&name));
            if wanted == Some(key) || wanted.is_none() && name == feed {
                return Ok((folder.clone(), key));
            }
        }
        Err(TruncateError::UnknownFeed)
    }

    /// Opens a feed as a node does.
    fn open_feed(
        &mut self,
        folder: &FeedFolder,
        key: FeedKey,
    ) -> Result<(Feed, Report), TruncateError> {
        let mut subject = subject(folder);
        subject.key = Some(key);
        let report = self.once(&subject)?.report;
        let master = self.master.clone();
        let derive = |name: Option<&str>| -> Option<SecretKey> {
            Some(corestore::derive(master.as_deref()?, name?))
        };
        let (mut opening, mut ops) = Opening::new(key, folder.path.clone());
        loop {
            match opening.answered(self.run(ops), derive) {
                OpenStep::Read(more) => ops = more,
                OpenStep::Done(feed) => return Ok((*feed, report)),
                OpenStep::Failed(error) => return Err(TruncateError::Unopenable(error)),
            }
        }
    }

    /// The roots of the first `to` blocks, proven from those of the whole log.
    fn roots_at(&mut self, feed: &Feed, to: u64) -> Result<Vec<Node>, TruncateError> {
        if to > feed.length() {
            return Err(TruncateError::Unproven { proven: feed.length() });
        }
        let mut roots = Vec::new();
        for root in feed.roots() {
            let mut node = *root;
            loop {
                let index = NodeIndex(node.index);
                let blocks = index.blocks();
                if blocks.end <= to {
                    roots.push(node);
                    break;
                }
                let (Some(left), Some(right)) = (index.left_child(), index.right_child()) else {
                    break;
                };
                if blocks.start >= to {
                    break;
                }
                let (left, right) = (self.node(feed, left), self.node(feed, right));
                let (Some(left), Some(right)) = (left, right) else {
                    return Err(TruncateError::Tree);
                };
                if hash::parent(&left, &right) != Some(node) {
                    return Err(TruncateError::Tree);
                }
                if NodeIndex(left.index).blocks().end <= to {
                    roots.push(left);
                    node = right;
                } else {
                    node = left;
                }
            }
        }
        let signed_here = feed.has_secret() || to == 0 || to == feed.length();
        if !signed_here && !self.is_signed(feed, to, &roots) {
            return Err(TruncateError::Unsigned);
        }
        Ok(roots)
    }

    fn node(&mut self, feed: &Feed, node: NodeIndex) -> Option<Node> {
        let (path, offset) = (feed.file(sleep::TREE), sleep::tree_offset(node));
        let entry = self.try_read(Op::Read { path, offset, len: sleep::TREE_ENTRY_BYTES })?;
        sleep::read_node(node, &entry)
    }

    fn is_signed(&mut self, feed: &Feed, length: u64, roots: &[Node]) -> bool {
        let entry = self.try_read(feed.read_signature(length - 1));
        let signature = entry.and_then(|entry| sleep::read_signature(&entry));
        signature.zip(feed.verifier.as_ref()).is_some_and(|(signature, verifier)| {
            verifier.verify(&hash::root(roots), length, &signature)
        })
    }
}
