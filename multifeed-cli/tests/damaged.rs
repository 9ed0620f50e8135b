//! Stores whose files were damaged, and what a sync makes of them.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use std::fs::{self, File};
use std::path::PathBuf;

use serde_json::Value;
use util::{Ended, Folder, Running, contents, run, saved_key};

/// A store `a` with the writer `w` of five blocks, a copy of it, and an empty store for the same key.
struct Stores {
    folder: Folder,
    /// The folder of the writer's feed in `a`.
    feed: PathBuf,
}

impl Stores {
    fn new() -> Self {
        let folder = Folder::new();
        let a = folder.at("a");
        run(["init", &a]).good();
        for text in ["one", "two", "three", "four", "five"] {
            run(["append", &a, "w", text]).good();
        }
        run(["init", &folder.at("empty"), "--key", &saved_key(&folder.path("a"))]).good();
        copy(&folder.path("a"), &folder.path("copy"));
        let feed = find(&folder.path("a"), b"onetwothreefourfive").unwrap();
        Self { folder, feed }
    }

    fn cut(&self, name: &str, len: u64) {
        File::options().write(true).open(self.feed.join(name)).unwrap().set_len(len).unwrap();
    }

    /// Syncs `a` with another store; how that ended, and the last of what the other one said.
    fn sync(&self, with: &str) -> (Ended, Value) {
        let (serving, address) = Running::serve(&self.folder.at(with), &["--once"]);
        // Half the time after which a connection on which nothing moves is told to be stalled.
        let end = run(["sync", &self.folder.at("a"), &address, "--json", "--timeout", "7"]);
        (end, serving.end().lines().pop().unwrap())
    }

    fn listed(&self) -> Value {
        let end = run(["feeds", &self.folder.at("a"), "--json"]);
        end.lines().remove(0)["feeds"][0].clone()
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// The folder whose file `data` has these contents.
fn find(folder: &std::path::Path, data: &[u8]) -> Option<PathBuf> {
    if fs::read(folder.join("data")).is_ok_and(|bytes| bytes == data) {
        return Some(folder.to_owned());
    }
    let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    folders.filter(|path| path.is_dir()).find_map(|path| find(&path, data))
}

#[test]
fn blocks_cut_from_the_data_file_are_listed_as_lost_and_can_be_written_behind() {
    let stores = Stores::new();
    stores.cut("data", 7);
    let feed = stores.listed();
    let seen = [&feed["length"], &feed["blocks"], &feed["lost"]].map(|n| n.as_u64().unwrap());
    assert_eq!((seen, feed["writable"] == true), ([5, 2, 3], true));
    let a = stores.folder.at("a");
    run(["append", &a, "w", "six"]).good();
    assert_eq!(run(["cat", &a, "w", "--to", "2"]).good().stdout, b"onetwo");
    assert_eq!(run(["cat", &a, "w", "--from", "5"]).good().stdout, b"six");
}

#[test]
fn a_peer_that_has_the_lost_blocks_sends_them_back() {
    for (file, len) in [("data", 7), ("signatures", 32 + 64 * 3), ("bitfield", 40)] {
        let stores = Stores::new();
        stores.cut(file, len);
        stores.sync("copy").0.good();
        let (a, copy) = (stores.folder.at("a"), stores.folder.at("copy"));
        assert_eq!(contents(&a), contents(&copy), "{file}");
        run(["append", &a, "w", "six"]).good();
        assert_eq!(run(["cat", &a, "w", "--from", "5"]).good().stdout, b"six", "{file}");
    }
}

#[test]
fn a_sync_with_a_peer_that_has_the_lost_blocks_neither_ends_at_once_and_names_them() {
    for (file, len, lost) in [("data", 7, 3), ("signatures", 32 + 64 * 3, 2)] {
        let stores = Stores::new();
        stores.cut(file, len);
        let (end, peer) = stores.sync("empty");
        let error = end.failed("ERR_BLOCKS_LOST");
        assert_eq!((&error["lost"], &error["feed"]), (&lost.into(), &stores.listed()["key"]));
        assert_eq!((&peer["event"], &peer["in_sync"]), (&"closed".into(), &true.into()), "{peer}");
        // What is left of it has arrived there.
        assert_eq!(peer["blocks_received"], 5 - lost);
    }
}

#[test]
fn a_writer_that_lost_its_tail_says_so_when_it_is_to_be_written() {
    let stores = Stores::new();
    stores.cut("signatures", 32 + 64 * 3);
    let end = run(["append", &stores.folder.at("a"), "w", "six", "--json"]);
    assert!(end.failed("ERR_BLOCKS_LOST")["advice"].as_str().unwrap().contains("sync"));
}

#[test]
fn a_feed_damaged_beyond_repair_ends_a_sync_at_once_by_its_name() {
    for with in ["copy", "empty"] {
        let stores = Stores::new();
        run(["append", &stores.folder.at("a"), "good", "fine"]).good();
        fs::write(stores.feed.join("signatures"), [0x55; 352]).unwrap();
        let (end, peer) = stores.sync(with);
        assert_eq!(end.failed("ERR_FEED_DAMAGED")["feed"], stores.listed()["key"]);
        assert_eq!((&peer["in_sync"], &peer["blocks_received"]), (&true.into(), &1.into()));
    }
}
