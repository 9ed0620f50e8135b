//! The small files: keys, headers, lengths.

use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::FeedKey;

use super::{Check, Step};
use crate::check::finding::Finding;
use crate::crypto::SecretKey;
use crate::feed::BITFIELD_MAX;
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
        if !self.keys(key, secret, name, written) {
            return self.done(Vec::new());
        }
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
        self.ledger.told = Bitfield::with_page_size(self.page_size);
        if self.bitfield_len > BITFIELD_MAX as u64 {
            let problem = "its bitfield is larger than this program takes";
            self.ledger.find(Finding::Unopenable { problem });
            return self.done(Vec::new());
        }
        self.read_pages(0)
    }

    /// Finds out the key and the secret key. `false`: nothing tells the key. Before something is
    /// `written` there need be no key file.
    fn keys(&mut self, key: &Bytes, secret_file: &Bytes, name: &Bytes, written: bool) -> bool {
        let fits = |key: &FeedKey| match &self.subject.discovery {
            Some(discovery) => key.discovery_key().to_hex() == *discovery,
            None => true,
        };
        let derive = |name: &str| Some(corestore::derive(self.master.as_deref()?, name));
        let named = corestore::decode_name(name).and_then(derive);
        let whole = <[u8; 64]>::try_from(&secret_file[..]).ok();
        let stored = whole.as_ref().and_then(SecretKey::from_libsodium);
        let seed = secret_file.first_chunk::<32>().map(SecretKey::from_seed);
        let in_file = key.first_chunk::<32>().map(|key| FeedKey(*key));

        let known = in_file.filter(fits).or_else(|| {
            // Any key would fit into a numbered folder, so only a secret key that is whole tells.
            let seed = seed.as_ref().filter(|_| self.subject.discovery.is_some());
            let secrets = stored.iter().chain(&named).chain(seed).map(SecretKey::public);
            secrets.chain(self.subject.key).find(fits)
        });
        if (in_file != known || known.is_none()) && (written || in_file.is_some()) {
            let known = known.is_some();
            self.ledger.find(match in_file {
                Some(_) => Finding::KeyOther { known },
                None => Finding::KeyMissing { known },
            });
        }
        let Some(key) = known else { return false };
        if in_file != Some(key) && (written || in_file.is_some()) {
            self.fixes.key = Some(key);
        }
        self.ledger.set_key(key);

        let mine = |secret: &SecretKey| secret.public() == key;
        self.secret = stored.clone().filter(mine);
        if self.secret.is_none() && !secret_file.is_empty() {
            let restored = seed.filter(mine);
            if self.subject.discovery.is_none() {
                self.other_key = stored.map(|secret| secret.public());
            }
            if self.other_key.is_none() {
                let restorable = restored.is_some();
                self.ledger.find(Finding::SecretKey { restorable });
            }
            self.fixes.secret = restored.as_ref().map(SecretKey::to_libsodium);
            self.secret = restored;
        }
        let listed = self.subject.name.as_deref().and_then(derive).filter(mine);
        if self.secret.is_none() && self.master.is_some() {
            self.secret = named.filter(mine);
            if self.secret.is_none() && (listed.is_some() || !name.is_empty()) {
                self.ledger.find(Finding::Name { known: listed.is_some() });
                self.fixes.name = self.subject.name.clone().filter(|_| listed.is_some());
                self.secret = listed;
            }
        }
        self.ledger.report.writer = self.secret.is_some();
        true
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
