//! Where multifeed 5 and 6 keep feeds: in folders `0`, `1`, … in the order in which they joined.
//!
//! Each is a plain hypercore with its files and, if it is written here, its name in `localname`.
//!
//! Source: `multifeed@6.0.0`, `index.js`.

use alloc::string::{String, ToString};

use crate::storage::FilePath;

/// Name of the first folder.
pub const FIRST: &str = "0";

/// Name of the file with the name of a local writer: the name and nothing else.
pub const LOCAL_NAME: &str = "localname";

/// Longest name that is read, in bytes; the rest is left out.
pub const MAX_NAME: usize = 4_096;

/// A file that says which layout a directory without any feed has. Ours: the JavaScript has no need
/// of it, and does not look at it.
pub const MARK: &str = "multifeed.numbered";

/// The folder in which the next one is prepared. Ours, as [`MARK`] is.
pub const UNNUMBERED: &str = "multifeed.new";

/// How the names of folders begin that had a number and no key. Ours, as [`MARK`] is.
pub const ASIDE: &str = "multifeed.aside";

/// The folder of feed `number`.
#[must_use]
pub fn folder(number: u32) -> FilePath {
    FilePath::new(&[&number.to_string()])
}

/// The number of a folder, if its name is one: digits without a leading zero.
#[must_use]
pub fn parse_folder(name: &str) -> Option<u32> {
    let number: u32 = name.parse().ok()?;
    (number.to_string() == name).then_some(number)
}

/// Reads a name file. What is no UTF-8 is replaced, as the JavaScript does.
#[must_use]
pub fn decode_name(file: &[u8]) -> String {
    String::from_utf8_lossy(&file[..file.len().min(MAX_NAME)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_numbers_are_folders() {
        assert_eq!(parse_folder("0"), Some(0));
        assert_eq!(parse_folder("10"), Some(10));
        for name in ["", "01", "+1", "-1", "1 ", "0x1", "4294967296", "multifeed.lock", "é"] {
            assert_eq!(parse_folder(name), None, "{name}");
        }
    }

    #[test]
    fn a_name_that_is_no_text_is_read_all_the_same() {
        assert_eq!(decode_name(b"local"), "local");
        assert_eq!(decode_name(b"\xff"), "\u{fffd}");
    }
}
