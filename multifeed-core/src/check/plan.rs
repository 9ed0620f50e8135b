//! What undoes the damage, as storage operations in an order that survives a crash anywhere.
//!
//! First of all what keeps a writer from signing another block at the same place; then what is
//! restored (keys, nodes, signatures); last the bitfield, which tells what is held. Sound blocks are
//! never written, moved or cut off.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::FeedKey;
use zeroize::Zeroizing;

use super::machine::Checked;
use crate::format::{corestore, sleep};
use crate::storage::{FilePath, Op, SecretBytes};
use crate::tree::{Bitfield, Node, NodeIndex};

/// What is to be written, gathered by the check.
#[derive(Default)]
pub(super) struct Fixes {
    /// The length below which the writer must not append.
    pub(super) seal: Option<u64>,
    pub(super) key: Option<FeedKey>,
    pub(super) secret: Option<Zeroizing<[u8; 64]>>,
    pub(super) name: Option<String>,
    pub(super) headers: Vec<(&'static str, &'static [u8; sleep::HEADER_BYTES])>,
    pub(super) nodes: Vec<Node>,
    /// Lengths whose signatures are wiped.
    pub(super) bad_signatures: Vec<u64>,
    /// A length that is signed again.
    pub(super) signature: Option<(u64, [u8; 64])>,
    /// The signatures of longer logs go.
    pub(super) cut_signatures: Option<u64>,
    /// The bitfield, if its changed pages are to be written.
    pub(super) bits: Option<Bitfield>,
}

impl core::fmt::Debug for Fixes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Fixes").finish_non_exhaustive()
    }
}

impl Checked {
    /// The batches that repair the feed as far as the store allows, each to be run when the one
    /// before is over and went well; none if there is nothing to do.
    ///
    /// Afterwards the feed is to be checked again: what could not be seen behind the damage is seen then.
    #[must_use]
    pub fn into_repair(self) -> Vec<Vec<Op>> {
        let folder = FilePath::new(&[&self.report.folder]);
        let fixes = self.fixes;
        let mut plan = Plan { folder, batches: Vec::new() };
        if let Some(length) = fixes.seal {
            let data = Bytes::copy_from_slice(&length.to_be_bytes());
            plan.write_file(sleep::SEALED, data);
        }
        if let Some(key) = fixes.key {
            plan.write_file(sleep::KEY, Bytes::copy_from_slice(&key.0));
        }
        if let Some(secret) = fixes.secret {
            let path = plan.folder.join(sleep::SECRET_KEY);
            let data = SecretBytes::from(&secret[..]);
            plan.batches.push(Vec::from([Op::CreateSecret { path, data }]));
        }
        if let Some(name) = fixes.name {
            plan.write_file(corestore::NAME, corestore::encode_name(&name).into());
        }
        let headers =
            fixes.headers.iter().map(|(file, header)| (*file, 0, Bytes::from_static(*header)));
        plan.write(headers.collect());
        plan.write_log(&fixes.nodes, &fixes.bad_signatures, fixes.signature, fixes.cut_signatures);
        if let Some(mut bits) = fixes.bits {
            let size = bits.page_size();
            let pages = bits.take_dirty().into_iter();
            let pages = pages
                .map(|(page, data)| (sleep::BITFIELD, sleep::bitfield_offset(page, size), data));
            plan.write(pages.collect());
        }
        plan.batches
    }
}

struct Plan {
    folder: FilePath,
    batches: Vec<Vec<Op>>,
}

impl Plan {
    /// Writes places in files, then has the files synced.
    fn write(&mut self, places: Vec<(&'static str, u64, Bytes)>) {
        if places.is_empty() {
            return;
        }
        let mut names: Vec<&str> = places.iter().map(|(name, ..)| *name).collect();
        names.sort_unstable();
        names.dedup();
        let sync = names.iter().map(|name| Op::Sync { path: self.folder.join(name) }).collect();
        let write = |(name, offset, data)| Op::Write { path: self.folder.join(name), offset, data };
        let writes = places.into_iter().map(write).collect();
        self.batches.push(writes);
        self.batches.push(sync);
    }

    /// Replaces the contents of a small file.
    fn write_file(&mut self, name: &'static str, data: Bytes) {
        let (path, len) = (self.folder.join(name), data.len() as u64);
        self.write(Vec::from([(name, 0, data)]));
        self.batches.push(Vec::from([Op::Truncate { path, len }]));
    }

    fn write_log(
        &mut self,
        nodes: &[Node],
        bad: &[u64],
        signature: Option<(u64, [u8; 64])>,
        cut: Option<u64>,
    ) {
        if let Some(length) = cut {
            let path = self.folder.join(sleep::SIGNATURES);
            let len = sleep::signature_offset(length);
            self.batches.push(Vec::from([Op::Truncate { path, len }]));
        }
        let place = |length: u64| sleep::signature_offset(length - 1);
        let bad = bad.iter().filter(|&&length| cut.is_none_or(|cut| length <= cut));
        let wiped = bad.map(|&length| {
            (sleep::SIGNATURES, place(length), Bytes::from_static(&[0; sleep::SIGNATURE_BYTES]))
        });
        let signed = signature.iter().map(|(length, signature)| {
            (sleep::SIGNATURES, place(*length), Bytes::copy_from_slice(signature))
        });
        let nodes = nodes.iter().map(|node| {
            let data = Bytes::copy_from_slice(&sleep::write_node(node));
            (sleep::TREE, sleep::tree_offset(NodeIndex(node.index)), data)
        });
        let all = nodes.chain(wiped).chain(signed).collect();
        self.write(all);
    }
}
