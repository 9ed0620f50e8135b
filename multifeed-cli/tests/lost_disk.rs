//! A folder that is removed while the program has it open, and a repair on a full disk.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod util;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use util::{Folder, Running, contents, run, run_with_input, saved_key};

/// A store with a feed `theirs`, served to `store`, which has a feed `mine`.
fn pair(folder: &Folder, layout: &str) -> (String, String) {
    let (other, store) = (folder.at("other"), folder.at("store"));
    run(["init", &other]).good();
    run(["append", &other, "theirs", "one"]).good();
    let key = saved_key(&folder.path("other"));
    run(["init", &store, "--layout", layout, "--key", &key]).good();
    run(["append", &store, "mine", "first"]).good();
    (other, store)
}

/// The folder of the feed with this data.
fn feed_with(store: &Path, data: &[u8]) -> PathBuf {
    let mut next = vec![store.to_path_buf()];
    while let Some(path) = next.pop() {
        if path.is_dir() {
            next.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.ends_with("data") && fs::read(&path).unwrap() == data {
            return path.parent().unwrap().to_path_buf();
        }
    }
    panic!("no such feed");
}

#[test]
fn a_store_that_is_removed_under_a_live_sync_is_told_and_not_made_anew() {
    for layout in ["corestore", "numbered"] {
        let folder = Folder::new();
        let (other, store) = pair(&folder, layout);
        let (serving, address) = Running::serve(&other, &[]);
        let mut syncing = Running::start(["sync", &store, &address, "--live", "--json"]);
        syncing.event("in_sync");
        serving.signal("INT");
        serving.end().good();
        fs::remove_dir_all(&store).unwrap();
        run(["append", &other, "theirs", "two"]).good();
        // It connects again by itself, to the same address.
        let arguments = ["serve", &other, "--listen", &address, "--json"];
        let serving = Running::start(arguments);
        let error = loop {
            let line = syncing.line();
            if line["code"] == "ERR_REMOVED" {
                break line;
            }
        };
        assert!(
            error["message"].as_str().unwrap().contains("removed while it was open"),
            "{error}"
        );
        assert!(!Path::new(&store).exists(), "{layout}");
        syncing.signal("INT");
        syncing.end();
        drop(serving);
    }
}

#[test]
fn a_log_that_vanishes_under_a_server_comes_back_from_a_peer_and_is_not_forked() {
    let folder = Folder::new();
    let (other, store) = pair(&folder, "corestore");
    let (mut serving, address) = Running::serve(&other, &[]);
    run(["sync", &store, &address]).good();
    serving.event("closed");
    // The log of theirs vanishes under the server, and the peer has it.
    let feed = feed_with(&folder.path("other"), b"one");
    for name in ["data", "tree", "signatures", "bitfield"] {
        fs::remove_file(feed.join(name)).unwrap();
    }
    serving.signal("INT");
    serving.end().good();
    let (serving, address) = Running::serve(&store, &[]);
    run(["sync", &other, &address]);
    serving.signal("INT");
    serving.end().good();
    let whole = contents(&store);
    run(["append", &other, "theirs", "two"]);
    for (key, blocks) in whole {
        let there = contents(&other).into_iter().find(|feed| feed.0 == key).unwrap();
        assert!(
            there.1.starts_with(&blocks),
            "another block took the place of one that was signed"
        );
    }
}

/// A folder on a file system of its own, if one can be made; unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(path: PathBuf) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&path).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(path));
        }
        println!("skipped: no file system can be mounted here");
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_repair_on_a_full_disk_fails_by_name_and_goes_on_when_there_is_room() {
    let folder = Folder::new();
    let Some(_disk) = Mounted::new(folder.path("disk")) else { return };
    let small = folder.path("disk");
    let mount = Command::new("mount").args(["-o", "remount,size=2m"]).arg(&small).output().unwrap();
    assert!(mount.status.success(), "{mount:?}");
    let store = folder.at("disk/store");
    run(["init", &store]).good();
    let lines: String = (0..2000).map(|n| format!("{n}\n")).collect();
    run_with_input(["append", &store, "w", "--lines"], lines.as_bytes()).good();
    let first: Vec<u8> = (0..2000).flat_map(|n| n.to_string().into_bytes()).collect();
    // The whole tree is to be made again.
    fs::remove_file(feed_with(Path::new(&store), &first).join("bitfield")).unwrap();
    fs::remove_file(small.join("store/multifeed.lock")).unwrap();
    let mut ballast = vec![0_u8; 4 << 20];
    while !ballast.is_empty() && fs::write(small.join("ballast"), &ballast).is_err() {
        ballast.truncate(ballast.len() / 2);
    }
    let mut fill = 0;
    while fs::write(small.join(format!("fill-{fill}")), [1; 4096]).is_ok() {
        fill += 1;
    }
    let error = run(["verify", &store, "--repair", "--json"]).failed("ERR_DISK_FULL");
    assert!(error["file"].is_string() && error["advice"].is_string(), "{error}");
    for name in fs::read_dir(&small).unwrap().map(|entry| entry.unwrap().path()) {
        if name.is_file() {
            fs::remove_file(name).unwrap();
        }
    }
    run(["verify", &store, "--repair"]).good();
    run(["verify", &store]).good();
    assert_eq!(run(["cat", &store, "w"]).good().stdout, first);
}
