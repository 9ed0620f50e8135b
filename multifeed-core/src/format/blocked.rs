//! The feeds that are kept out of a store: a file of ours at its root, a key a line.

use alloc::collections::BTreeSet;
use alloc::string::String;

use multifeed_proto::FeedKey;

use crate::storage::{FilePath, Op};

/// Name of the file. The JavaScript does not look at it.
pub const FILE: &str = "multifeed.blocked";

/// Feeds in the file at most.
pub const MAX_BLOCKED: usize = 131_072;

/// Bytes of a line: 64 hexadecimal digits and a line end.
pub const LINE_BYTES: usize = 65;

/// What reads the file, or enough of it to see that it is too long.
#[must_use]
pub fn read() -> Op {
    let path = FilePath::new(&[FILE]);
    Op::Read { path, offset: 0, len: MAX_BLOCKED * LINE_BYTES + 1 }
}

/// The file with these keys.
#[must_use]
pub fn encode(keys: &BTreeSet<FeedKey>) -> String {
    let mut text = String::with_capacity(keys.len() * LINE_BYTES);
    for key in keys {
        text.push_str(&key.to_hex());
        text.push('\n');
    }
    text
}

/// The keys in a file; `None` if a line is none.
#[must_use]
pub fn decode(file: &[u8]) -> Option<BTreeSet<FeedKey>> {
    if file.len() > MAX_BLOCKED * LINE_BYTES {
        return None;
    }
    let text = core::str::from_utf8(file).ok()?;
    text.lines().map(|line| FeedKey::from_hex(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_anything_else_is_refused() {
        let keys = BTreeSet::from([FeedKey([1; 32]), FeedKey([9; 32])]);
        let text = encode(&keys);
        assert_eq!(decode(text.as_bytes()), Some(keys));
        assert_eq!(decode(b""), Some(BTreeSet::new()));
        for bad in [&text.as_bytes()[1..], b"\xff", b"key\n", &[b'a'; 10_000_000]] {
            assert_eq!(decode(bad), None);
        }
    }
}
