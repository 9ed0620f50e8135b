//! The JSON bodies of the multifeed messages.
//!
//! Read without building a tree, so that neither depth nor number of foreign members costs
//! memory; the size is bounded by that of a frame.
//!
//! Source: `hypermultifeed@1.1.0`, `mux.js`.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::{FeedKey, PeerError};

/// The client name that both sides must send.
pub(super) const CLIENT: &str = "MULTIFEED";

/// The protocol version that we send. Only its first number is compared.
pub(super) const VERSION: &str = "4.0.0";

pub(super) const HANDSHAKE: &str = "MULTIFEED_HANDSHAKE";
pub(super) const MANIFEST: &str = "MULTIFEED_MANIFEST";
pub(super) const REPLICATE: &str = "MULTIFEED_REPLICATE_FEEDS";
pub(super) const REQUEST: &str = "MULTIFEED_REQUEST_FEEDS";

/// What a peer's `MULTIFEED_HANDSHAKE` says, after it was found compatible.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Handshake {
    pub(super) version: String,
    /// JSON text.
    pub(super) user_data: Option<String>,
}

/// `{"client":"MULTIFEED","version":"4.0.0"}`, with `userData` if there is any.
pub(super) fn handshake(user_data: Option<&str>) -> Vec<u8> {
    let user_data = user_data.map(|json| [",\"userData\":", json].concat()).unwrap_or_default();
    [r#"{"client":""#, CLIENT, r#"","version":""#, VERSION, "\"", &user_data, "}"]
        .concat()
        .into_bytes()
}

/// `{"keys":["…",…]}`
pub(super) fn manifest(keys: &[FeedKey]) -> Vec<u8> {
    let mut out = Vec::with_capacity(KEY_BYTES * keys.len() + 16);
    out.extend_from_slice(br#"{"keys":"#);
    write_list(&mut out, keys);
    out.push(b'}');
    out
}

/// `["…",…]`
pub(super) fn list(keys: &[FeedKey]) -> Vec<u8> {
    let mut out = Vec::with_capacity(KEY_BYTES * keys.len() + 2);
    write_list(&mut out, keys);
    out
}

/// Reads a handshake and checks the version, then the client name.
///
/// # Errors
///
/// [`PeerError::Json`], [`PeerError::VersionMismatch`], [`PeerError::ClientMismatch`].
pub(super) fn parse_handshake(body: &[u8]) -> Result<Handshake, PeerError> {
    let raw: RawHandshake<'_> = read_object(body, HANDSHAKE)?;
    let version = text(raw.version);
    let major = |version: &str| version.split('.').next().and_then(parse_int);
    let good = version.as_ref().is_ok_and(|version| major(version) == major(VERSION));
    let version = shorten(&version.unwrap_or_else(|other| other));
    if !good {
        return Err(PeerError::VersionMismatch { ours: VERSION, theirs: version });
    }
    let client = text(raw.client);
    if client.as_deref() != Ok(CLIENT) {
        let theirs = shorten(&client.unwrap_or_else(|other| other));
        return Err(PeerError::ClientMismatch { ours: CLIENT, theirs });
    }
    Ok(Handshake { version, user_data: raw.user_data.map(|json| json.get().to_owned()) })
}

/// The valid keys of a manifest, in its order, repeated ones repeated.
///
/// # Errors
///
/// [`PeerError::Json`] if the body is not an object whose `keys`, if any, is an array.
pub(super) fn parse_manifest(body: &[u8]) -> Result<Vec<FeedKey>, PeerError> {
    read_object::<RawManifest>(body, MANIFEST).map(|manifest| manifest.keys.0)
}

/// The valid keys of a request or replicate list, in its order, repeated ones repeated.
///
/// # Errors
///
/// [`PeerError::Json`] if the body is not an array. `message` is named in it.
pub(super) fn parse_list(body: &[u8], message: &'static str) -> Result<Vec<FeedKey>, PeerError> {
    read::<Keys>(body, message).map(|keys| keys.0)
}

/// Bytes that one key takes in a list: 64 digits, two quotes, a comma.
pub(super) const KEY_BYTES: usize = 67;

fn write_list(out: &mut Vec<u8>, keys: &[FeedKey]) {
    out.push(b'[');
    for (i, key) in keys.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(key.to_hex().as_bytes());
        out.push(b'"');
    }
    out.push(b']');
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8], message: &'static str) -> Result<T, PeerError> {
    serde_json::from_slice(body).map_err(|_| PeerError::Json { message })
}

/// Reads a struct from an object only; serde would take an array of the fields' values too.
fn read_object<'a, T: Deserialize<'a>>(
    body: &'a [u8],
    message: &'static str,
) -> Result<T, PeerError> {
    match body.trim_ascii_start().first() {
        Some(b'{') => read(body, message),
        Some(_) | None => Err(PeerError::Json { message }),
    }
}

/// The string in `value`; `Err` holds the text of what is there in place of a string.
fn text(value: Option<&RawValue>) -> Result<String, String> {
    let json = value.map_or("", RawValue::get);
    serde_json::from_str(json).map_err(|_| json.to_owned())
}

/// A text of the peer that is fit for an error message.
fn shorten(text: &str) -> String {
    let printable = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().take(MAX_SHOWN).map(printable).collect()
}

/// JavaScript's `parseInt` for decimal numbers: blanks, a sign, digits, then anything.
fn parse_int(text: &str) -> Option<u64> {
    let text = text.trim_start();
    let text = text.strip_prefix('+').unwrap_or(text);
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..digits].parse().ok()
}

#[derive(Deserialize)]
struct RawHandshake<'a> {
    #[serde(borrow, default)]
    client: Option<&'a RawValue>,
    #[serde(borrow, default)]
    version: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "userData")]
    user_data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawManifest {
    #[serde(default)]
    keys: Keys,
}

/// The elements of an array that are keys.
#[derive(Default)]
struct Keys(Vec<FeedKey>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;

        impl<'de> Visitor<'de> for Elements {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some(Element(key)) = seq.next_element()? {
                    keys.extend(key);
                }
                Ok(Keys(keys))
            }
        }

        deserializer.deserialize_seq(Elements)
    }
}

/// An element of a list: a key, or anything else.
struct Element(Option<FeedKey>);

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Element;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_str<E>(self, text: &str) -> Result<Element, E> {
                Ok(Element(FeedKey::from_hex(text).ok()))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Element, E> {
                Ok(Element(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Element, E> {
                Ok(Element(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Element, E> {
                Ok(Element(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Element, E> {
                Ok(Element(None))
            }

            fn visit_unit<E>(self) -> Result<Element, E> {
                Ok(Element(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Element, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Element(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Element, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Element(None))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// Characters of a peer's text that an error repeats.
const MAX_SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    fn key(byte: u8) -> FeedKey {
        FeedKey([byte; 32])
    }

    #[test]
    fn the_handshake_is_byte_exact() {
        assert_eq!(handshake(None), br#"{"client":"MULTIFEED","version":"4.0.0"}"#);
        assert_eq!(
            handshake(Some(r#"{"a":1}"#)),
            br#"{"client":"MULTIFEED","version":"4.0.0","userData":{"a":1}}"#
        );
    }

    #[test]
    fn only_the_major_version_counts() {
        for version in ["4.0.0", "4", "4.9.1-x", " +4", "4abc", "04.1"] {
            let body = alloc::format!(r#"{{"version":"{version}","client":"MULTIFEED"}}"#);
            assert_eq!(parse_handshake(body.as_bytes()).unwrap().version, version);
        }
        for version in ["5.0.0", "", "x4", "-4", "44", "40.0", "99999999999999999999999"] {
            let body = alloc::format!(r#"{{"version":"{version}","client":"MULTIFEED"}}"#);
            assert_eq!(
                parse_handshake(body.as_bytes()),
                Err(PeerError::VersionMismatch { ours: "4.0.0", theirs: version.to_string() })
            );
        }
    }

    #[test]
    fn version_and_client_of_other_types_are_mismatches_and_version_comes_first() {
        let theirs = |body: &str| match parse_handshake(body.as_bytes()) {
            Err(PeerError::VersionMismatch { theirs, .. }) => alloc::format!("version {theirs}"),
            Err(PeerError::ClientMismatch { theirs, .. }) => alloc::format!("client {theirs}"),
            other => panic!("{body}: {other:?}"),
        };
        assert_eq!(theirs("{}"), "version ");
        assert_eq!(theirs(r#"{"client":"X","version":4}"#), "version 4");
        assert_eq!(theirs(r#"{"version":"4.0.0"}"#), "client ");
        assert_eq!(theirs(r#"{"version":"4.0.0","client":{"a":[]}}"#), r#"client {"a":[]}"#);
        let long = alloc::format!(r#"{{"version":"4","client":"\u0007{}"}}"#, "x".repeat(5000));
        assert_eq!(theirs(&long), alloc::format!("client \u{fffd}{}", "x".repeat(63)));
    }

    #[test]
    fn user_data_is_kept_as_its_text_and_foreign_members_are_not_looked_at() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let body = alloc::format!(
            r#"{{"live":{deep},"client":"MULTIFEED","userData":{{"b":1.50,"a":[]}},"version":"4"}}"#
        );
        let handshake = parse_handshake(body.as_bytes()).unwrap();
        assert_eq!(handshake.user_data.as_deref(), Some(r#"{"b":1.50,"a":[]}"#));
    }

    #[test]
    fn keys_that_are_no_keys_are_dropped() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let body = alloc::format!(
            r#"{{"x":{deep},"keys":["{}",5,null,-1,2.5,true,"zz",{{"a":{deep}}},{deep},"{}"]}}"#,
            "AB".repeat(32),
            "cd".repeat(32),
        );
        assert_eq!(parse_manifest(body.as_bytes()), Ok(vec![key(0xab), key(0xcd)]));
    }

    #[test]
    fn bodies_of_another_shape_are_errors() {
        for body in [
            "",
            "null",
            "\"abc\"",
            "[]x",
            "{nope",
            "7",
            "{\"keys\":\"x\"}",
            "[]",
            "[[]]",
            "{\"keys\":null}",
        ] {
            let error = Err(PeerError::Json { message: MANIFEST });
            assert_eq!(parse_manifest(body.as_bytes()), error, "{body}");
        }
        for body in ["", "null", "\"abc\"", "{}", "[", "[1,]", "\u{feff}[]"] {
            let error = Err(PeerError::Json { message: REQUEST });
            assert_eq!(parse_list(body.as_bytes(), REQUEST), error, "{body}");
        }
        assert_eq!(parse_list(b"[\"\xff\"]", REQUEST), Err(PeerError::Json { message: REQUEST }));
        assert_eq!(parse_manifest(b"{}"), Ok(vec![]));
    }

    #[test]
    fn lists_read_back_as_written() {
        let keys = [key(1), key(2)];
        assert_eq!(parse_list(&list(&keys), REQUEST).unwrap(), keys);
        assert_eq!(parse_manifest(&manifest(&keys)).unwrap(), keys);
        assert_eq!(list(&[]), b"[]");
        assert_eq!(manifest(&[]), br#"{"keys":[]}"#);
        assert!(list(&keys).len() <= 2 * KEY_BYTES + 2);
    }
}
