//! Reads golden vectors: JSON files that the JavaScript made.
//!
//! The folder is the one named by `MULTIFEED_VECTORS`, else `tests/vectors` of this crate. A folder
//! may hold some of the files only, but not none.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)]

extern crate std;

use std::path::PathBuf;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{env, format, fs};

use serde_json::Value;

/// The files whose names begin with `prefix`, sorted, with their contents.
pub fn files(prefix: &str) -> Vec<(String, Value)> {
    let folder = env::var_os("MULTIFEED_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"),
        PathBuf::from,
    );
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().to_string())
        .filter(|name| name.ends_with(".json"))
        .collect();
    assert!(!names.is_empty(), "no golden vectors in {}", folder.display());
    names.sort();
    names.retain(|name| name.starts_with(prefix));
    names
        .into_iter()
        .map(|name| {
            let text = fs::read_to_string(folder.join(&name)).unwrap();
            let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
            (name, value)
        })
        .collect()
}

/// The entries of a list, none if it is not there.
pub fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], |list| list.as_slice())
}

/// The bytes that a hexadecimal text stands for.
pub fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap_or_else(|| panic!("not a hexadecimal text: {value}"));
    hex(text)
}

/// [`bytes`] of a known number.
pub fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap_or_else(|_| panic!("not {N} bytes: {value}"))
}

/// The bytes that a hexadecimal text stands for.
pub fn hex(text: &str) -> Vec<u8> {
    assert!(text.len() % 2 == 0, "odd number of digits: {text}");
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// A short name of a case for messages.
pub fn label(file: &str, case: &Value) -> String {
    let text = case.to_string();
    format!("{file}: {}", text.chars().take(200).collect::<String>())
}
