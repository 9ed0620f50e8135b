//! `multifeed verify`: what it says of stores that are sound, damaged and repaired.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde_json::Value;
use util::{Ended, Folder, OTHER_KEY, Running, contents, run, saved_key};

/// A store `a` with the writer `w` of five blocks, and a store `b` that has synced with it.
struct Stores {
    folder: Folder,
    key: String,
}

impl Stores {
    fn new() -> Self {
        let folder = Folder::new();
        let a = folder.at("a");
        run(["init", &a]).good();
        for text in ["one", "two", "three", "four", "five"] {
            run(["append", &a, "w", text]).good();
        }
        run(["init", &folder.at("b"), "--key", &saved_key(&folder.path("a"))]).good();
        let listed = run(["feeds", &a, "--json"]).good().lines().remove(0);
        let key = listed["feeds"][0]["key"].as_str().unwrap().to_owned();
        let stores = Self { folder, key };
        stores.sync("a", "b");
        stores
    }

    fn sync(&self, from: &str, to: &str) {
        let (serving, address) = Running::serve(&self.folder.at(from), &["--once"]);
        run(["sync", &self.folder.at(to), &address, "--timeout", "20"]).good();
        serving.end().good();
    }

    /// The folder of the writer's feed.
    fn feed(&self, store: &str) -> PathBuf {
        let store = self.folder.path(store);
        find(&store, b"onetwothreefourfive").unwrap()
    }

    fn verify(&self, store: &str, options: &[&str]) -> Ended {
        let store = self.folder.at(store);
        run(["verify", &store].iter().chain(options))
    }
}

/// The folder whose file `data` has these contents.
fn find(folder: &Path, data: &[u8]) -> Option<PathBuf> {
    if fs::read(folder.join("data")).is_ok_and(|bytes| bytes == data) {
        return Some(folder.to_owned());
    }
    let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    folders.filter(|path| path.is_dir()).find_map(|path| find(&path, data))
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn event<'a>(lines: &'a [Value], event: &str, key: &str) -> &'a Value {
    let fits = |line: &&Value| line["event"] == event && (key.is_empty() || line["key"] == key);
    lines.iter().find(fits).unwrap_or_else(|| panic!("no {event} {key}: {lines:?}"))
}

fn codes(line: &Value, field: &str) -> Vec<String> {
    let findings = line[field].as_array().unwrap().iter();
    findings.map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_sound_store_is_told_to_be_with_exit_code_0() {
    let stores = Stores::new();
    for store in ["a", "b"] {
        let text = stores.verify(store, &[]).good().text();
        assert!(text.contains(&format!("{} ", stores.key)), "{text}");
        assert!(text.ends_with("sound: 2 feeds, 6 blocks intact\n"), "{text}");
        let lines = stores.verify(store, &["--json"]).good().lines();
        let feed = event(&lines, "feed", &stores.key);
        assert_eq!(
            (&feed["sound"], &feed["proven"], &feed["lost"]),
            (&true.into(), &5.into(), &0.into())
        );
        assert_eq!(feed["findings"], Value::Array(vec![]));
        let last = lines.last().unwrap();
        assert_eq!((&last["event"], &last["sound"]), (&"verified".into(), &true.into()), "{last}");
    }
}

#[test]
fn a_damaged_block_is_named_with_exit_code_1_and_comes_back_after_a_repair() {
    let stores = Stores::new();
    let feed = stores.feed("b");
    let intact = contents(&stores.folder.at("a"));
    flip(&feed.join("data"), 4);
    for _ in 0..2 {
        let end = stores.verify("b", &["--json"]);
        assert_eq!(end.code, Some(1), "{end:?}");
        let lines = end.lines();
        let line = event(&lines, "feed", &stores.key);
        assert_eq!(codes(line, "findings"), ["blocks-wrong"]);
        assert_eq!(
            (&line["findings"][0]["blocks"], &line["lost"]),
            (&serde_json::json!([1, 2]), &1.into())
        );
        assert_eq!(event(&lines, "verified", "")["damaged"], 1);
    }
    let end = stores.verify("b", &[]);
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(
        end.text().contains("block 1 is damaged") && end.text().contains("--repair"),
        "{end:?}"
    );

    let text = stores.verify("b", &["--repair"]).good().text();
    assert!(text.contains("repaired, 4 of 5 blocks, 1 lost"), "{text}");
    stores.verify("b", &[]).good();
    stores.sync("a", "b");
    assert_eq!(contents(&stores.folder.at("b")), intact);
    assert!(stores.verify("b", &[]).good().text().contains("6 blocks intact"));
}

#[test]
fn the_last_signature_of_an_intact_writer_is_made_again() {
    let stores = Stores::new();
    let feed = stores.feed("a");
    let before = fs::read(feed.join("signatures")).unwrap();
    flip(&feed.join("signatures"), 32 + 64 * 4 + 10);
    assert_eq!(stores.verify("a", &[]).code, Some(1));
    stores.verify("a", &["--repair"]).good();
    assert_eq!(fs::read(feed.join("signatures")).unwrap(), before);
    run(["append", &stores.folder.at("a"), "w", "six"]).good();
    stores.verify("a", &[]).good();
}

#[test]
fn a_writer_that_lost_its_tail_stays_read_only_until_a_peer_sends_it_back() {
    let stores = Stores::new();
    let feed = stores.feed("a");
    let cut = |name: &str, len| {
        File::options().write(true).open(feed.join(name)).unwrap().set_len(len).unwrap();
    };
    cut("signatures", 32 + 64 * 3);
    cut("data", 12);
    let end = stores.verify("a", &["--repair", "--json"]);
    assert_eq!(end.code, Some(1), "{end:?}");
    let lines = end.lines();
    let line = event(&lines, "feed", &stores.key);
    assert!(codes(line, "left").contains(&"sealed".to_owned()), "{line}");
    assert_eq!((&line["proven"], &line["lost"]), (&3.into(), &2.into()), "{line}");
    let a = stores.folder.at("a");
    run(["append", &a, "w", "another four", "--json"]).failed("ERR_BLOCKS_LOST");
    stores.sync("b", "a");
    stores.verify("a", &[]).good();
    assert_eq!(contents(&a), contents(&stores.folder.at("b")));
    run(["append", &a, "w", "six"]).good();
}

#[test]
fn the_key_of_a_feed_by_others_is_restored_from_the_list_of_feeds() {
    let stores = Stores::new();
    let feed = stores.feed("b");
    let before = fs::read(feed.join("key")).unwrap();
    flip(&feed.join("key"), 7);
    let lines = stores.verify("b", &["--json", "--repair"]).good().lines();
    assert_eq!(codes(event(&lines, "feed", &stores.key), "findings"), ["key-other"]);
    assert_eq!(fs::read(feed.join("key")).unwrap(), before);
}

#[test]
fn without_the_root_key_the_feeds_are_checked_all_the_same() {
    let stores = Stores::new();
    fs::remove_file(stores.folder.path("b").join("root_key")).unwrap();
    let lines = stores.verify("b", &["--json"]).good().lines();
    assert_eq!(event(&lines, "feed", &stores.key)["intact"], 5);
    flip(&stores.feed("b").join("key"), 7);
    let end = stores.verify("b", &["--json"]);
    assert_eq!(end.code, Some(1), "{end:?}");
    let lines = stores.verify("b", &["--json", "--repair"]).good().lines();
    let line = event(&lines, "feed", &stores.key);
    assert_eq!(
        codes(line, "findings"),
        ["key-other"],
        "the list tells it, or the name of its folder"
    );
    assert_eq!(event(&lines, "verified", "")["repaired"], 1, "the list is sound");
}

#[test]
fn feeds_beside_the_list_and_entries_without_a_folder_are_told_and_do_no_harm() {
    let stores = Stores::new();
    let feed = stores.feed("b");
    fs::remove_dir_all(&feed).unwrap();
    let lines = stores.verify("b", &["--json"]).good().lines();
    assert_eq!(codes(event(&lines, "verified", ""), "findings"), ["no-folder"]);
    let other = OTHER_KEY;
    fs::remove_file(stores.folder.path("a").join("root_key")).unwrap();
    let lines = stores.verify("a", &["--json", "--key", other]).good().lines();
    assert_eq!(codes(event(&lines, "verified", ""), "findings"), ["no-list"]);
}

#[test]
fn a_store_that_is_open_or_not_there_is_no_damaged_one() {
    let stores = Stores::new();
    let (serving, _) = Running::serve(&stores.folder.at("a"), &[]);
    stores.verify("a", &["--json"]).good();
    stores.verify("a", &["--repair", "--json"]).failed("ERR_IN_USE");
    serving.signal("INT");
    serving.end();
    stores.verify("nowhere", &["--json"]).failed("ERR_NO_STORE");
    assert!(!stores.folder.path("nowhere").exists());
}

#[test]
fn blocks_behind_the_bitfield_do_no_harm_where_they_complete_nodes_before_them() {
    let folder = Folder::new();
    let store = folder.at("store");
    run(["append", &store, "w", "0", "1", "2", "3", "4", "--key", OTHER_KEY]).good();
    let at = |file: &str| {
        let feeds = run(["verify", &store, "--json"]).good().lines();
        let feed = feeds.iter().find(|line| line["name"] == "w").unwrap();
        folder.path("store").join(feed["folder"].as_str().unwrap()).join(file)
    };
    let bitfield = at("bitfield");
    let before = fs::read(&bitfield).unwrap();
    run(["append", &store, "w", "5", "6", "7"]).good();
    fs::write(&bitfield, before).unwrap();
    let lines = run(["verify", &store, "--json"]).good().lines();
    let feed = lines.iter().find(|line| line["name"] == "w").unwrap();
    let codes: Vec<_> =
        feed["findings"].as_array().unwrap().iter().map(|found| found["code"].clone()).collect();
    assert_eq!(codes, ["unrecorded"], "{feed}");
}
