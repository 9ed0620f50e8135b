//! Keys as people have them, wherever one is given.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use std::fs;

use util::{Folder, command, ended, run, run_with_input};

const KEY: &str = "1f0e2d3c4b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeeff0";

fn wide(text: &str, of: fn(u16) -> [u8; 2]) -> Vec<u8> {
    std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(of).collect()
}

fn texts() -> Vec<String> {
    vec![
        format!("{KEY}\r\n"),
        format!("  {} \n\n", KEY.to_uppercase()),
        format!("\u{feff}{KEY}\n"),
        format!("cabal://{KEY}\n"),
        format!("hyper://{KEY}/"),
        format!("dat://{KEY}/path?x=1"),
        format!("multifeed:{KEY}"),
        format!("\"{KEY}\""),
        format!("cabal://{KEY}?admin={KEY}"),
        format!("root key: {KEY}"),
    ]
}

fn store() -> Folder {
    let folder = Folder::new();
    run(["append", &folder.at("a"), "alice", "one", "--key", KEY]).good();
    folder
}

#[test]
fn a_root_key_is_understood_in_every_form_and_place() {
    let folder = store();
    let (a, file) = (folder.at("a"), folder.at("key"));
    let found = |end: util::Ended, what: &str| {
        assert!(end.code == Some(0) && end.text().contains("alice"), "{what}: {end:?}");
    };
    for text in texts() {
        // Saved in the store.
        fs::write(folder.path("a/root_key"), &text).unwrap();
        found(run(["feeds", &a]), &text);
        // The other ways, where none is saved.
        fs::remove_file(folder.path("a/root_key")).unwrap();
        found(run(["feeds", &a, "--key", &text]), &text);
        found(ended(command(["feeds", &a]).env("MULTIFEED_KEY", &text).output().unwrap()), &text);
        found(run_with_input(["feeds", &a, "--key-file", "-"], text.as_bytes()), &text);
        for bytes in [
            text.clone().into_bytes(),
            [b"\xef\xbb\xbf", text.trim_start_matches('\u{feff}').as_bytes()].concat(),
            wide(&text, u16::to_le_bytes),
            wide(&text, u16::to_be_bytes),
        ] {
            fs::write(&file, &bytes).unwrap();
            found(run(["feeds", &a, "--key-file", &file]), &format!("{bytes:02x?}"));
        }
    }
}

#[test]
fn a_feed_key_is_understood_in_every_form() {
    let folder = store();
    let a = folder.at("a");
    let listed = run(["feeds", &a, "--json"]).good().lines().remove(0);
    let feed = listed["feeds"][0]["key"].as_str().unwrap().to_owned();
    let other = "ab".repeat(32);
    let spelled = |text: &str, key: &str| {
        text.replace(KEY, key).replace(&KEY.to_uppercase(), &key.to_uppercase())
    };
    for text in texts() {
        assert_eq!(run(["cat", &a, &spelled(&text, &feed)]).good().stdout, b"one", "{text:?}");
        let blocked = run(["block", &a, &spelled(&text, &other), "--json"]).good().lines();
        assert_eq!(blocked[0]["feed"], other.as_str(), "{text:?}");
        run(["unblock", &a, &spelled(&text, &other)]).good();
    }
}

#[test]
fn what_is_no_key_is_told_by_its_place_and_never_repeated() {
    let folder = store();
    let a = folder.at("a");
    fs::remove_file(folder.path("a/root_key")).unwrap();
    let short = &KEY[..63];
    let slip = KEY.replace("3c4b", "3x4b");
    let file = folder.at("key");
    for (text, told) in [
        (short.to_owned(), "got 63"),
        (slip.clone(), "character 8 is 'x'"),
        (format!("cabal://{slip}"), "character 16 is 'x'"),
        (format!("{KEY}{KEY}"), "got 128"),
    ] {
        fs::write(&file, &text).unwrap();
        let variable = ended(command(["feeds", &a]).env("MULTIFEED_KEY", &text).output().unwrap());
        for end in [
            run(["feeds", &a, "--key", &text]),
            run(["feeds", &a, "--key-file", &file]),
            variable,
            run(["block", &a, &text, "--key", KEY]),
            run(["serve", &a, "--listen", "127.0.0.1:0", "--only", &text, "--key", KEY]),
            run(["serve", &a, "--listen", "127.0.0.1:0", "--allow-peer", &text, "--key", KEY]),
        ] {
            assert!(matches!(end.code, Some(1 | 2)), "{end:?}");
            assert!(end.stderr.contains(told), "{end:?}");
            assert!(!end.stderr.contains(&text[20..40]), "{end:?}");
        }
    }
}
