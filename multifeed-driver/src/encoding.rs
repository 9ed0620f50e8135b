//! Blocks as JSON or text, byte for byte as the JavaScript writes them.
//!
//! A block is bytes; what they mean is for the applications to agree on. A hypercore with
//! `valueEncoding: 'json'` writes `JSON.stringify(value)` and a line feed, one with `'utf-8'` the text; the
//! encoding is not in the feed, so who reads must know it.
//!
//! ```
//! # use multifeed_driver::encoding;
//! let block = encoding::json(&serde_json::json!({"text": "hello", "at": 1.0}))?;
//! assert_eq!(block, b"{\"at\":1,\"text\":\"hello\"}\n");
//! let value: serde_json::Value = encoding::from_json(&block)?;
//! assert_eq!(value["text"], "hello");
//! assert_eq!(encoding::from_text(b"hello"), "hello");
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! A block of text is the text's bytes: [`Feed::append`](crate::Feed::append) takes a `&str`.
//!
//! Source: `hypercore@9.12.0/index.js`, `toCodec`; `codecs@2.2.0`; ECMAScript `JSON.stringify`.

use std::borrow::Cow;
use std::io::{Result, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::ser::{Formatter, Serializer};

/// A block with `value` as JSON: without spaces, numbers in the shortest form that JavaScript reads back,
/// and a line feed.
///
/// Members come in the order in which `value` gives them. JavaScript reads integers above 2^53 inexactly.
///
/// # Errors
///
/// If `value` cannot be written as JSON, such as a map whose keys are no text.
pub fn json<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut block = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut block, Numbers))?;
    block.push(b'\n');
    Ok(block)
}

/// The value of a JSON block, with or without a line feed.
///
/// # Errors
///
/// If the block is no JSON, or not that of a `T`.
pub fn from_json<T: DeserializeOwned>(block: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(block)
}

/// The text of a block; what is no UTF-8 becomes U+FFFD, as in JavaScript.
#[must_use]
pub fn from_text(block: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(block)
}

/// Writes numbers as JavaScript does: `1`, not `1.0`.
struct Numbers;

impl Formatter for Numbers {
    fn write_f32<W: ?Sized + Write>(&mut self, writer: &mut W, value: f32) -> Result<()> {
        // JavaScript has no other numbers than these.
        self.write_f64(writer, f64::from(value))
    }

    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> Result<()> {
        writer.write_all(ryu_js::Buffer::new().format_finite(value).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn numbers_are_written_as_javascript_does() {
        // Made by `node -e 'console.log(JSON.stringify(v))'` of each.
        let numbers: [(f64, &str); 13] = [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (1.234_567_890_123_456_8e20, "123456789012345680000"),
            (1e-7, "1e-7"),
            (0.000_001, "0.000001"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "null"),
        ];
        for (number, expected) in numbers {
            assert_eq!(json(&number).unwrap(), format!("{expected}\n").into_bytes());
        }
        assert_eq!(json(&0.1f32).unwrap(), b"0.10000000149011612\n");
        assert_eq!(json(&9_007_199_254_740_991_u64).unwrap(), b"9007199254740991\n");
    }

    #[test]
    fn text_is_escaped_as_javascript_does() {
        let text = "a\0\u{1f}\u{7f}\u{2028}\u{e9}\u{1f600}\"\\/\u{8}\u{c}\n\r\t";
        let expected = "\"a\\u0000\\u001f\u{7f}\u{2028}\u{e9}\u{1f600}\\\"\\\\/\\b\\f\\n\\r\\t\"\n";
        assert_eq!(String::from_utf8(json(text).unwrap()).unwrap(), expected);
        assert_eq!(expected.len(), 41, "as long as the block of the JavaScript");
    }

    #[test]
    fn what_was_written_is_read_back() {
        let value = BTreeMap::from([("b", vec![Some(0.5), None]), ("a", vec![])]);
        let block = json(&value).unwrap();
        assert_eq!(block, b"{\"a\":[],\"b\":[0.5,null]}\n");
        let read: BTreeMap<String, Vec<Option<f64>>> = from_json(&block).unwrap();
        assert_eq!(read["b"], value["b"]);
        assert!(from_json::<u8>(b"1").is_ok());
        assert!(from_json::<u8>(b"1\n2").is_err());
    }

    #[test]
    fn bytes_that_are_no_text_become_replacement_characters() {
        assert_eq!(from_text(b"a\xffb"), "a\u{fffd}b");
    }
}
