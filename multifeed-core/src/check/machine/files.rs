//! The small files: keys, headers, lengths.

use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::FeedKey;

use super::whose::one_bit_off;
use super::{Check, Step};
use crate::check::finding::Finding;
use crate::crypto::SecretKey;
use crate::feed::{BITFIELD_MAX, TOO_LARGE};
use crate::format::forked::Forked;
use crate::format::{corestore, sleep};
use crate::storage::Answer;
use crate::tree::{Bitfield, MAX_LENGTH, PAGE_SIZE};

impl Check {
    pub(super) fn files(&mut self, answers: &[Answer], read: &[Bytes]) -> Step {
        let [key, secret, name, sealed, tree, signatures, bitfield, ..] = read else {
            return self.done(Vec::new());
        };
        let length = |at: usize| match answers.get(at) {
            Some(Answer::Length(length)) => *length,
            _ => 0,
        };
        self.bitfield_len = length(7);
        self.signed = length(8).saturating_sub(sleep::HEADER_BYTES as u64) / 64;
        self.signed = self.signed.min(MAX_LENGTH);
        self.ledger.data_len = length(9);
        if let Ok(sealed) = <[u8; 8]>::try_from(&sealed[..]) {
            self.sealed = u64::from_be_bytes(sealed).min(MAX_LENGTH);
        }
        let written = self.signed > 0 || self.ledger.data_len > 0;
        let cleared = read.get(10).map(|file| file.chunks_exact(sleep::CLEARED_BYTES));
        for blocks in cleared.into_iter().flatten().filter_map(sleep::read_cleared) {
            self.ledger.cleared.insert(blocks);
        }
        self.forked = read.get(11).and_then(|file| Forked::decode(file));
        self.keys(key, secret, name, written);
        for (file, found, wanted) in [
            (sleep::TREE, tree, &sleep::TREE_HEADER),
            (sleep::SIGNATURES, signatures, &sleep::SIGNATURES_HEADER),
        ] {
            if !found.is_empty() && found[..] != wanted[..] {
                self.bad_header(file, wanted);
            }
        }
        self.bitfield_header(bitfield);
        if bitfield.len() < sleep::HEADER_BYTES && written {
            self.ledger.find(Finding::BitfieldMissing);
            self.fixes.headers.push((sleep::BITFIELD, &sleep::BITFIELD_HEADER));
        }
        self.ledger.file = Bitfield::with_page_size(self.page_size);
        if self.bitfield_len > BITFIELD_MAX as u64 {
            self.ledger.find(Finding::Unopenable { problem: TOO_LARGE });
            return self.done(Vec::new());
        }
        self.read_pages(0)
    }

    /// Finds out the key and the secret key. Before something is `written` there need be no key file.
    fn keys(&mut self, key_file: &Bytes, secret_file: &Bytes, name: &Bytes, written: bool) {
        self.key_file = key_file.first_chunk().copied();
        self.seed = secret_file.first_chunk().copied();
        let whole = <[u8; 64]>::try_from(&secret_file[..]).ok();
        self.stored_secret = whole.as_ref().and_then(SecretKey::from_libsodium);
        self.named_secret = corestore::decode_name(name).and_then(|name| self.derive(name));
        self.has_secret_file = !secret_file.is_empty();
        self.has_name_file = !name.is_empty();

        let in_file = self.key_file.map(FeedKey).filter(|key| self.fits(key));
        let known = in_file.or_else(|| self.key_from_elsewhere());
        if in_file.is_none() && (written || !key_file.is_empty()) {
            self.find_key(known);
        } else if key_file.len() > 32 {
            self.ledger.find(Finding::KeyLong);
            self.fixes.key = in_file;
        }
        let Some(key) = known else { return };
        self.ledger.set_key(key);
        self.settle_secret();
    }

    /// Whether this may be the key of the feed.
    pub(super) fn fits(&self, key: &FeedKey) -> bool {
        let named = self.subject.discovery.as_ref();
        !key.is_weak() && named.is_none_or(|name| key.discovery_key().to_hex() == *name)
    }

    fn derive(&self, name: &str) -> Option<SecretKey> {
        Some(corestore::derive(self.master.as_deref()?, name))
    }

    /// The key, where its file does not tell it.
    fn key_from_elsewhere(&self) -> Option<FeedKey> {
        let whole = self.stored_secret.iter().map(SecretKey::public);
        if self.subject.discovery.is_none() {
            // Any key would fit into a numbered folder, so only a secret key that is whole tells.
            return whole.chain(self.subject.key).find(|key| self.fits(key));
        }
        let seed = self.seed.map(|seed| SecretKey::from_seed(&seed).public());
        let named = self.named_secret.as_ref().map(SecretKey::public);
        let near = self.key_file.into_iter().flat_map(|key| one_bit_off(key).map(FeedKey));
        let known = self.subject.key.into_iter().chain(self.subject.candidates.iter().copied());
        whole.chain(named).chain(seed).chain(known).chain(near).find(|key| self.fits(key))
    }

    /// Finds out the secret key, once the key is known.
    pub(super) fn settle_secret(&mut self) {
        let Some(key) = self.ledger.report.key else { return };
        let mine = |secret: &SecretKey| secret.public() == key;
        let about_it =
            |finding: &Finding| matches!(finding, Finding::SecretKey { .. } | Finding::Name { .. });
        self.ledger.report.findings.retain(|finding| !about_it(finding));
        self.other_key = None;
        self.secret = self.stored_secret.clone().filter(mine);
        if self.secret.is_none() && self.has_secret_file {
            let near = self.seed.into_iter().flat_map(one_bit_off);
            let seeds = self.seed.into_iter().chain(near);
            let restored = seeds.map(|seed| SecretKey::from_seed(&seed)).find(mine);
            if self.subject.discovery.is_none() && restored.is_none() {
                self.other_key = self.stored_secret.as_ref().map(SecretKey::public);
            }
            if self.other_key.is_none() {
                let restorable = restored.is_some();
                self.ledger.find(Finding::SecretKey { restorable });
            }
            self.fixes.secret = restored.as_ref().map(SecretKey::to_libsodium);
            self.secret = restored;
        }
        if self.secret.is_none() && self.master.is_some() {
            let listed = self.subject.name.as_deref().and_then(|name| self.derive(name));
            let listed = listed.filter(mine);
            self.secret = self.named_secret.clone().filter(mine);
            if self.secret.is_none() && (listed.is_some() || self.has_name_file) {
                self.ledger.find(Finding::Name { known: listed.is_some() });
                self.fixes.name = self.subject.name.clone().filter(|_| listed.is_some());
                self.secret = listed;
            }
        }
        self.ledger.report.writer = self.secret.is_some();
    }

    fn bad_header(&mut self, file: &'static str, wanted: &'static [u8; sleep::HEADER_BYTES]) {
        self.ledger.find(Finding::Header { file });
        self.fixes.headers.push((file, wanted));
    }

    fn bitfield_header(&mut self, found: &Bytes) {
        if found.len() < sleep::HEADER_BYTES || found[..] == sleep::BITFIELD_HEADER {
            return;
        }
        let told = Bitfield::with_page_size(sleep::bitfield_page_size(found)).page_size();
        let pages = self.bitfield_len.saturating_sub(sleep::HEADER_BYTES as u64);
        let whole = pages > 0 && pages % PAGE_SIZE as u64 == 0;
        if told != PAGE_SIZE && !whole {
            // A very old file with smaller pages.
            self.page_size = told;
            return;
        }
        if told == PAGE_SIZE {
            self.bad_header(sleep::BITFIELD, &sleep::BITFIELD_HEADER);
        } else {
            self.ledger.find(Finding::PageSize);
            self.fixes.headers.push((sleep::BITFIELD, &sleep::BITFIELD_HEADER));
        }
    }
}
