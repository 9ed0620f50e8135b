//! Small files and texts that a user, an application or another program wrote: what is read is what is
//! written for it.

use std::collections::BTreeSet;

use multifeed_proto::fuzzing::{Input, Reached};
use multifeed_proto::{DiscoveryKey, FeedKey, PeerSecret, RootKey, UserData};

use crate::crypto::{SecretKey, Verifier};
use crate::format::{blocked, corestore, list, numbered, sleep};
use crate::tree::{MAX_BYTES, MAX_LENGTH, NodeIndex};

/// One text. The first byte says what it is read as.
pub fn text(data: &[u8], reached: &mut Reached) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let bytes = input.rest();
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    match kind % 12 {
        0 => entry(bytes, reached),
        1 => name(bytes, reached),
        2 => blocked_list(bytes, reached),
        3 => {
            let number = numbered::parse_folder(text);
            if let Some(number) = number {
                reached.note("folder number");
                assert_eq!(numbered::folder(number).as_str(), text);
            }
            let name = numbered::decode_name(bytes);
            assert!(name.len() <= 3 * numbered::MAX_NAME);
        }
        4 => key(text, reached),
        5 => {
            if let Ok(data) = UserData::from_json(text) {
                reached.note("user data");
                assert_eq!(data.as_json(), text);
            }
        }
        6 => headers(bytes, reached),
        7 => entries(bytes, reached),
        8 => secret(bytes, reached),
        9 => {
            // Any name leads to one key, and to no other than itself.
            let root = RootKey::new([7; 32]);
            let name = corestore::writer_name(&root, text);
            let key = corestore::derive(&[1; 32], &name).public();
            assert_eq!(key, corestore::derive(&[1; 32], &name).public());
            assert!(name.ends_with(text) && name != corestore::list_name(&root));
            let folder = corestore::folder(&DiscoveryKey(key.discovery_key().0));
            assert!(folder.as_str().ends_with(&key.discovery_key().to_hex()));
        }
        _ => {
            // An entry of the list and a name file of the same text.
            let entry = list::Entry { key: FeedKey([kind; 32]), name: text.to_string() };
            assert_eq!(list::decode(&list::encode(&entry)), Some(entry));
            let file = corestore::encode_name(text);
            let again = corestore::decode_name(&file);
            assert_eq!(again, Some(text).filter(|text| text.len() <= corestore::MAX_NAME));
        }
    }
}

fn entry(bytes: &[u8], reached: &mut Reached) {
    let Some(entry) = list::decode(bytes) else { return reached.note("no entry") };
    reached.note("entry");
    assert_eq!(list::decode(&list::encode(&entry)), Some(entry));
}

fn name(bytes: &[u8], reached: &mut Reached) {
    let Some(name) = corestore::decode_name(bytes) else { return reached.note("no name") };
    reached.note("name");
    let written = corestore::encode_name(name);
    assert_eq!(corestore::decode_name(&written), Some(name));
    assert!(written.len() <= bytes.len(), "the shortest form is longer");
}

fn blocked_list(bytes: &[u8], reached: &mut Reached) {
    let Some(keys) = blocked::decode(bytes) else { return reached.note("no list") };
    reached.note("list");
    let again = blocked::decode(blocked::encode(&keys).as_bytes());
    assert_eq!(again, Some(keys));
    let some: BTreeSet<FeedKey> = bytes.chunks_exact(32).filter_map(feed_key).collect();
    assert_eq!(blocked::decode(blocked::encode(&some).as_bytes()), Some(some));
}

fn key(text: &str, reached: &mut Reached) {
    match FeedKey::from_hex(text) {
        Ok(key) => {
            reached.note("key");
            assert_eq!(key.to_hex(), text.to_ascii_lowercase());
            assert_eq!(RootKey::from_hex(text).map(|root| *root.expose()), Ok(key.0));
            assert!(PeerSecret::from_hex(text).is_ok_and(|secret| *secret.expose() == key.0));
            let verifier = Verifier::new(&key);
            assert!(verifier.is_none_or(|verifier| verifier.key() == key));
        }
        Err(error) => {
            reached.note("no key");
            assert!(RootKey::from_hex(text).is_err() && PeerSecret::from_hex(text).is_err());
            // A key is never repeated in an error.
            let said = error.to_string();
            let digits = said.as_bytes().split(|byte| !byte.is_ascii_hexdigit());
            assert!(digits.into_iter().all(|run| run.len() < 16), "{said}");
        }
    }
}

fn headers(bytes: &[u8], reached: &mut Reached) {
    let size = sleep::bitfield_page_size(bytes);
    assert!(size <= usize::from(u16::MAX));
    match sleep::parse_header(bytes) {
        Some(_) => reached.note("header"),
        None => reached.note("no header"),
    }
}

fn entries(bytes: &[u8], reached: &mut Reached) {
    let index = NodeIndex(u64::from(bytes.first().copied().unwrap_or_default()));
    if let Some(node) = sleep::read_node(index, bytes) {
        reached.note("node");
        assert!(node.size < MAX_BYTES);
        assert_eq!(sleep::read_node(index, &sleep::write_node(&node)), Some(node));
    }
    if let Some(range) = sleep::read_cleared(bytes) {
        reached.note("cleared");
        assert!(range.start <= range.end && range.end <= MAX_LENGTH);
    }
    if sleep::read_signature(bytes).is_some() {
        reached.note("signature");
    }
}

fn secret(bytes: &[u8], reached: &mut Reached) {
    let Some(bytes) = bytes.first_chunk::<64>() else { return };
    if let Some(key) = SecretKey::from_libsodium(bytes) {
        reached.note("secret key");
        assert_eq!(key.to_libsodium()[..], bytes[..]);
    }
    let key = SecretKey::from_seed(bytes.first_chunk().expect("32 of 64 bytes"));
    let again = SecretKey::from_libsodium(&key.to_libsodium()).map(|key| key.public());
    assert_eq!(again, Some(key.public()));
}

fn feed_key(bytes: &[u8]) -> Option<FeedKey> {
    bytes.try_into().ok().map(FeedKey)
}
