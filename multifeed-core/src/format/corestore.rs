//! Where corestore keeps a feed, what it is called there, and the keys that follow from names.
//!
//! Source: `corestore@5.8.2`, `index.js`; `derive-key@1.0.1`; `derived-key-storage@2.1.0`;
//! `hypermultifeed@1.1.0`, `index.js`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use multifeed_proto::{DiscoveryKey, RootKey, keyed_hash, to_hex};
use zeroize::Zeroizing;

use crate::crypto::SecretKey;
use crate::storage::FilePath;

/// Name of the file with the secret from which all keys of a store are derived: 32 bytes, at its root.
pub const MASTER_KEY: &str = "master_key";

/// Name of the file, in the folder of a feed with a derived key, that holds the name.
pub const NAME: &str = "name";

/// Longest name that is read from a name file, in bytes.
pub const MAX_NAME: usize = 4_096;

/// The secret key of the feed that is called `name` in the store with this master key.
#[must_use]
pub fn derive(master: &[u8; 32], name: &str) -> SecretKey {
    // The namespace of the derivation: its length in digits, a line end, itself.
    let seed = Zeroizing::new(keyed_hash(master, &[b"9\ncorestore", name.as_bytes()]));
    SecretKey::from_seed(&seed)
}

/// Folder of the feed with this discovery key: `ab/cd/abcd…`.
#[must_use]
pub fn folder(key: &DiscoveryKey) -> FilePath {
    let hex = key.to_hex();
    FilePath::new(&[&hex[..2], &hex[2..4], &hex])
}

/// Contents of the name file: length in bytes as a varint, then the name.
#[must_use]
pub fn encode_name(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 5);
    let mut length = name.len();
    while length > 0x7f {
        out.push(length as u8 & 0x7f | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(name.as_bytes());
    out
}

/// Reads a name file; `None` if the length does not fit the rest, or the name is no UTF-8 or longer
/// than [`MAX_NAME`].
#[must_use]
pub fn decode_name(file: &[u8]) -> Option<&str> {
    let (mut length, mut used) = (0_usize, 0_u32);
    loop {
        let byte = *file.get(used as usize)?;
        // Three bytes hold more than the longest name.
        if used == 3 {
            return None;
        }
        length |= usize::from(byte & 0x7f) << (7 * used);
        used += 1;
        if byte < 0x80 {
            break;
        }
    }
    let name = &file[used as usize..];
    if name.len() != length || length > MAX_NAME {
        return None;
    }
    core::str::from_utf8(name).ok()
}

/// Name of the feed that lists the feeds of a multifeed. It is never offered to anybody.
#[must_use]
pub fn list_name(root: &RootKey) -> String {
    format!("@multifeed:{}:@multifeed:persist", to_hex(root.expose()))
}

/// Name of the feed that the application knows as the writer `name`.
///
/// The JavaScript calls the one without a name `undefined`.
#[must_use]
pub fn writer_name(root: &RootKey, name: &str) -> String {
    format!("@multifeed:{}:@multifeed:feed:{name}", to_hex(root.expose()))
}

/// What a name of a multifeed's feed is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// The list of feeds.
    List,
    /// The writer that the application knows by this name.
    Writer(&'a str),
}

/// The root key in hexadecimal digits, and what the feed is for, if a name is one that [`list_name`] or
/// [`writer_name`] makes.
#[must_use]
pub fn multifeed_of_name(name: &str) -> Option<(&str, Part<'_>)> {
    let rest = name.strip_prefix("@multifeed:")?;
    let (root, rest) = rest.split_once(":@multifeed:")?;
    let part = match rest.strip_prefix("feed:") {
        Some(writer) => Part::Writer(writer),
        None if rest == "persist" => Part::List,
        None => return None,
    };
    Some((root, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back() {
        for length in [0, 1, 127, 128, 300, MAX_NAME] {
            let name = "x".repeat(length);
            assert_eq!(decode_name(&encode_name(&name)), Some(name.as_str()));
        }
    }

    #[test]
    fn a_name_tells_its_multifeed() {
        let root = RootKey::new([7; 32]);
        let hex = to_hex(root.expose());
        let (list, writer) = (list_name(&root), writer_name(&root, "a:b"));
        assert_eq!(multifeed_of_name(&list), Some((hex.as_str(), Part::List)));
        assert_eq!(multifeed_of_name(&writer), Some((hex.as_str(), Part::Writer("a:b"))));
        for other in ["default", "@multifeed:", "@multifeed:ab:@multifeed:other"] {
            assert_eq!(multifeed_of_name(other), None);
        }
    }

    #[test]
    fn a_damaged_name_file_is_no_name() {
        let long = encode_name(&"x".repeat(MAX_NAME + 1));
        for file in [&[][..], &[5, b'a'], &[1, b'a', b'b'], &[0x80], &[0xff; 9], &[1, 0xff], &long]
        {
            assert_eq!(decode_name(file), None, "{file:?}");
        }
    }
}
