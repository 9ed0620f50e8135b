//! Keys as people have them: pasted, linked, saved by an editor.

use alloc::borrow::Cow;
use alloc::string::String;
use core::str::FromStr;

use zeroize::Zeroizing;

use crate::keys::{FeedKey, KeyParseError, PeerSecret, RootKey};

/// The 32 bytes of a key in a text: 64 hexadecimal digits of either case.
///
/// Around them may be white space, marks that cannot be seen, quotes or brackets; before them a scheme
/// (`cabal://`, `hyper://`, `dat://`, `multifeed:`) or a name with a colon or an equals sign; behind them what a link has
/// behind a key (`/path`, `?admin=…`, `#…`, `+version`), which is passed over. White space between the digits is
/// what a narrow window leaves.
pub(crate) fn parse(text: &str) -> Result<Zeroizing<[u8; 32]>, KeyParseError> {
    let mut bytes = Zeroizing::new([0; 32]);
    let (mut digits, mut ended) = (0_usize, false);
    let start = beginning(text);
    for (position, c) in text.chars().enumerate().skip(start) {
        if is_blank(c) {
            continue;
        }
        match c.to_digit(16) {
            Some(_) if ended => return Err(KeyParseError::Digit { position, found: c }),
            Some(digit) => {
                if let Some(byte) = bytes.get_mut(digits / 2) {
                    *byte = *byte << 4 | digit as u8;
                }
                digits += 1;
            }
            None if digits >= 64 && is_continued_by(c) => break,
            None if digits > 0 && is_bracket(c) => ended = true,
            None => return Err(KeyParseError::Digit { position, found: c }),
        }
    }
    match digits {
        0 => Err(KeyParseError::Empty),
        64 => Ok(bytes),
        got => Err(KeyParseError::Length { got }),
    }
}

/// The same of the contents of a file, as editors write them: UTF-8 or UTF-16, with or without a mark at the
/// beginning.
pub(crate) fn parse_bytes(bytes: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyParseError> {
    parse(&decode(bytes).ok_or(KeyParseError::Encoding)?)
}

/// Characters before the first that can be a digit of the key.
fn beginning(text: &str) -> usize {
    let is_around = |c: &char| is_blank(*c) || is_bracket(*c);
    let around = text.chars().take_while(is_around).count();
    let rest = || text.chars().skip(around);
    // A scheme begins with a letter and has no digits of a key: at most so many characters before its colon.
    let name = rest().take_while(|c| c.is_ascii_alphanumeric() || "+.-_ ".contains(*c)).count();
    let named = (1..=LONGEST_SCHEME).contains(&name);
    if named && rest().next().is_some_and(|c| c.is_ascii_alphabetic()) {
        let behind = || rest().skip(name);
        let quotes = behind().take_while(is_around).count();
        if matches!(behind().nth(quotes), Some(':' | '=')) {
            let slashes = behind().skip(quotes + 1).take_while(|c| *c == '/' || is_around(c));
            return around + name + quotes + 1 + slashes.count();
        }
    }
    let hexadecimal = rest().next() == Some('0') && matches!(rest().nth(1), Some('x' | 'X'));
    around + if hexadecimal { 2 } else { 0 }
}

/// White space, and marks that cannot be seen: of byte order, direction, and width 0.
fn is_blank(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\0')
}

fn is_bracket(c: char) -> bool {
    matches!(
        c,
        '"' | '\''
            | '`'
            | '<'
            | '>'
            | '('
            | ')'
            | '['
            | ']'
            | '{'
            | '}'
            | '\u{ab}'
            | '\u{bb}'
            | '\u{2018}'..='\u{201f}' | ',' | ';' | '.'
    )
}

/// Whether this goes on with what a link has behind a key.
const fn is_continued_by(c: char) -> bool {
    matches!(c, '/' | '?' | '#' | '+' | '&')
}

/// Text as editors write it; `None` if it is none.
fn decode(bytes: &[u8]) -> Option<Cow<'_, str>> {
    let wide = |of: fn([u8; 2]) -> u16, bytes: &[u8]| {
        let units = bytes.chunks_exact(2).map(|pair| of([pair[0], pair[1]]));
        char::decode_utf16(units).collect::<Result<String, _>>().ok().map(Cow::Owned)
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(u16::from_le_bytes, rest),
        [0xfe, 0xff, rest @ ..] => wide(u16::from_be_bytes, rest),
        // Without a mark: every other byte of a text of this kind is 0.
        [first, 0, _, 0, ..] if *first != 0 => wide(u16::from_le_bytes, bytes),
        [0, second, 0, _, ..] if *second != 0 => wide(u16::from_be_bytes, bytes),
        _ => core::str::from_utf8(bytes).ok().map(Cow::Borrowed),
    }
}

/// Characters of the longest name before a colon that is passed over.
const LONGEST_SCHEME: usize = 24;

macro_rules! readable {
    ($key:ident, $make:expr) => {
        impl FromStr for $key {
            type Err = KeyParseError;

            /// Reads a key as people have it: 64 hexadecimal digits of either case, with a scheme such as `cabal://`
            /// before them, quotes and white space around them, a path behind them.
            fn from_str(text: &str) -> Result<Self, KeyParseError> {
                parse(text).map($make)
            }
        }

        impl $key {
            /// The same of the contents of a file, as editors write them: UTF-8 or UTF-16, with a byte order mark or
            /// without.
            ///
            /// # Errors
            ///
            /// [`KeyParseError`] says what is wrong, without repeating the text.
            pub fn from_text(bytes: &[u8]) -> Result<Self, KeyParseError> {
                parse_bytes(bytes).map($make)
            }
        }
    };
}

readable!(FeedKey, |bytes| Self(*bytes));
readable!(RootKey, |bytes| Self::new(*bytes));
readable!(PeerSecret, |bytes| Self::new(*bytes));

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::to_hex;

    const HEX: &str = "1f0e2d3c4b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeeff0";

    fn wide(text: &str, mark: bool, of: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let mark = mark.then_some(0xfeff_u16);
        mark.into_iter().chain(text.encode_utf16()).flat_map(of).collect()
    }

    #[test]
    fn keys_are_understood_as_people_have_them() {
        let upper = HEX.to_uppercase();
        let (first, second) = HEX.split_at(40);
        for text in [
            HEX.to_string(),
            format!("{upper}\r\n"),
            format!("  {HEX} \n\n"),
            format!("\u{feff}{HEX}\n"),
            format!("\"{HEX}\""),
            format!("'{upper}',"),
            format!("<cabal://{HEX}>"),
            format!("\u{201c}{HEX}\u{201d}"),
            format!("cabal://{HEX}"),
            format!("CABAL://{HEX}/"),
            format!("hyper://{HEX}/"),
            format!("dat://{HEX}+12/dir/file.txt"),
            format!("dat:{HEX}"),
            format!("multifeed:{HEX}"),
            format!("multifeed://{upper}/some/path"),
            format!("cabal://{HEX}?admin={HEX}&mod={HEX}"),
            format!("hyper://{HEX}#part"),
            format!("root key: {HEX}"),
            format!("MULTIFEED_KEY={HEX}"),
            format!("{{\"root_key\": \"{HEX}\"}}"),
            format!("0x{HEX}"),
            format!("{first}\n{second}\n"),
            format!("{first} {second}"),
            format!("\u{200b}{HEX}\u{a0}"),
        ] {
            let key: RootKey = text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!(to_hex(key.expose()), HEX, "{text:?}");
            assert_eq!(text.parse::<FeedKey>().unwrap().0, *key.expose());
        }
    }

    #[test]
    fn files_of_windows_editors_are_understood() {
        for text in [format!("{HEX}\r\n"), format!("cabal://{HEX}"), format!(" \"{HEX}\" ")] {
            for mark in [true, false] {
                for bytes in
                    [wide(&text, mark, u16::to_le_bytes), wide(&text, mark, u16::to_be_bytes)]
                {
                    let key =
                        RootKey::from_text(&bytes).unwrap_or_else(|e| panic!("{text:?}: {e}"));
                    assert_eq!(to_hex(key.expose()), HEX);
                }
            }
            let marked = [b"\xef\xbb\xbf", text.as_bytes()].concat();
            assert_eq!(to_hex(FeedKey::from_text(&marked).unwrap().0.as_slice()), HEX);
        }
        assert_eq!(RootKey::from_text(b"\xff\xfe\x00\xd8").unwrap_err(), KeyParseError::Encoding);
        assert_eq!(RootKey::from_text(&[0xc3; 32]).unwrap_err(), KeyParseError::Encoding);
    }

    #[test]
    fn what_is_no_key_is_told_by_its_place_and_not_repeated() {
        let digit = |position, found| KeyParseError::Digit { position, found };
        for (text, expected) in [
            ("".into(), KeyParseError::Empty),
            (" \r\n".into(), KeyParseError::Empty),
            ("cabal://".into(), KeyParseError::Empty),
            (HEX[1..].into(), KeyParseError::Length { got: 63 }),
            (format!("{HEX}{HEX}"), KeyParseError::Length { got: 128 }),
            (format!("{HEX}\n{HEX}"), KeyParseError::Length { got: 128 }),
            (format!("cabal://{}", &HEX[2..]), KeyParseError::Length { got: 62 }),
            (format!("{}g", &HEX[1..]), digit(63, 'g')),
            (format!(" cabal://{}o{}", &HEX[..5], &HEX[6..]), digit(14, 'o')),
            (format!("{}/{}", &HEX[..32], &HEX[32..]), digit(32, '/')),
            (format!("{HEX} my key"), digit(65, 'm')),
            (format!("\"{HEX}\" {HEX}"), digit(67, '1')),
            ("a/path/to/a/file".into(), digit(1, '/')),
        ] {
            let error = text.parse::<RootKey>().unwrap_err();
            assert_eq!(error, expected, "{text:?}");
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(&HEX[1..6]) && !shown.contains(&HEX[20..26]), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn a_key_is_found_in_whatever_may_stand_around_it(
            bytes: [u8; 32],
            upper: bool,
            before in "[ \t\r\n\"'`<(\u{feff}]{0,6}",
            scheme in "(|[a-zA-Z]{1,12}:|[a-zA-Z]{1,12}://|0x)",
            behind in "(|/|/[a-z0-9/]{0,20}|\\?[a-z]{1,8}=[0-9a-f]{0,64}|#[a-z]{0,5}|[ \r\n\"'>)]{1,5})",
        ) {
            let hex = to_hex(&bytes);
            let hex = if upper { hex.to_uppercase() } else { hex };
            let text = format!("{before}{scheme}{hex}{behind}");
            prop_assert_eq!(text.parse::<FeedKey>(), Ok(FeedKey(bytes)), "{:?}", text);
        }

        #[test]
        fn nothing_makes_it_panic_and_no_other_key_comes_out(text in any::<Vec<u8>>()) {
            if let Ok(key) = FeedKey::from_text(&text) {
                let text = decode(&text).unwrap();
                let digits: String = text.chars().filter(|c| c.is_ascii_hexdigit()).collect();
                prop_assert!(digits.to_lowercase().contains(&key.to_hex()));
            }
        }

        #[test]
        fn a_slip_is_never_taken_for_a_key(bytes: [u8; 32], place in 0_usize..64, slip in "[g-zG-Z@!~]") {
            let mut hex = to_hex(&bytes);
            hex.replace_range(place..=place, &slip);
            prop_assert!(hex.parse::<FeedKey>().is_err());
            hex.remove(place);
            prop_assert_eq!(hex.parse::<FeedKey>(), Err(KeyParseError::Length { got: 63 }));
        }
    }
}
