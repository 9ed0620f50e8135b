//! Whose files these are, where nothing is proven under the key that is thought to be theirs.
//!
//! A signature tells which of several keys made it. Asked are the key of `secret_key`, those that are known
//! from elsewhere, and in numbered folders, which are not called by their key, those that differ from
//! the one in `key` by one bit.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::FeedKey;

use super::opening::Outcome;
use super::{Check, Stage, Step};
use crate::check::finding::Finding;
use crate::crypto::Verifier;
use crate::format::sleep;
use crate::tree::flat::full_roots;
use crate::tree::{Node, hash};

impl Check {
    /// Reads what tells whose files these are; `None` if nothing can, or it was asked before.
    pub(super) fn ask_whose(&mut self, outcome: Box<Outcome>) -> Result<Step, Box<Outcome>> {
        let mut lengths = Vec::from([self.ledger.report.recorded, self.signed]);
        lengths.retain(|length| *length > 0);
        lengths.dedup();
        if core::mem::replace(&mut self.asked_whose, true) || lengths.is_empty() {
            return Err(outcome);
        }
        let log = |length: &u64| {
            let roots = full_roots(*length).map(|root| self.ledger.read_node(root));
            roots.chain([self.ledger.read_signatures(*length, 1)]).collect::<Vec<_>>()
        };
        let ops = lengths.iter().flat_map(log).collect();
        self.stage = Stage::Whose(lengths, outcome);
        Ok(Step::Read(ops))
    }

    pub(super) fn whose(&mut self, lengths: &[u64], outcome: Outcome, read: &[Bytes]) -> Step {
        let mut rest = read;
        let mut signed = Vec::new();
        for &length in lengths {
            let (own, others) = rest.split_at(rest.len().min(full_roots(length).count() + 1));
            rest = others;
            let Some((signature, entries)) = own.split_last() else { continue };
            let roots = full_roots(length).zip(entries);
            let roots = roots.map(|(root, entry)| sleep::read_node(root, entry));
            let roots = roots.collect::<Option<Vec<Node>>>();
            signed.extend(
                roots
                    .zip(sleep::read_signature(signature))
                    .map(|(roots, signature)| (hash::root(&roots), length, signature)),
            );
        }
        let is_signer = |key: &FeedKey| {
            let verifier = Verifier::new(key);
            verifier.is_some_and(|verifier| {
                signed.iter().any(|(root, length, by)| verifier.verify(root, *length, by))
            })
        };
        let fits = |key: &FeedKey| self.fits(key);
        let known = self.other_key.iter().chain(&self.subject.candidates).copied();
        let near = self.key_file.into_iter().flat_map(|key| one_bit_off(key).map(FeedKey));
        let near = near.filter(|_| self.subject.discovery.is_none());
        match known.chain(near).filter(fits).find(is_signer) {
            Some(key) => {
                self.find_key(Some(key));
                self.settle_secret();
                self.open()
            }
            None => self.after_opening(outcome),
        }
    }

    /// Notes which key is the right one, and that the file does not tell it.
    pub(super) fn find_key(&mut self, key: Option<FeedKey>) {
        let known = key.is_some();
        let told = |finding: &Finding| {
            matches!(finding, Finding::KeyMissing { .. } | Finding::KeyOther { .. })
        };
        self.ledger.report.findings.retain(|finding| !told(finding));
        self.ledger.find(match self.key_file {
            Some(_) => Finding::KeyOther { known },
            None => Finding::KeyMissing { known },
        });
        if let Some(key) = key {
            self.fixes.key = Some(key);
            self.ledger.set_key(key);
        }
    }
}

/// All keys, or seeds, that differ from this one by one bit.
pub(super) fn one_bit_off(bytes: [u8; 32]) -> impl Iterator<Item = [u8; 32]> {
    (0..256usize).map(move |bit| {
        let mut other = bytes;
        other[bit / 8] ^= 1 << (bit % 8);
        other
    })
}
