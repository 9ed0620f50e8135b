//! The real program on a disk that is really full: a small file system in memory.
//!
//! Only the administrator can make one; for others these tests say so and check nothing.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod util;

use std::fs;
use std::process::Command;

use util::{Folder, Running, contents, run, run_with_input, saved_key};

/// A file system of 3 MiB at `small` in the folder, with some of it taken; unmounted when dropped.
struct SmallDisk {
    folder: Folder,
}

impl SmallDisk {
    fn new() -> Option<Self> {
        let folder = Folder::new();
        let small = folder.path("small");
        fs::create_dir(&small).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(&small);
        if !mount.output().is_ok_and(|output| output.status.success()) {
            println!("skipped: no file system can be mounted here");
            return None;
        }
        fs::write(small.join("ballast"), vec![1; 1 << 20]).unwrap();
        Some(Self { folder })
    }

    fn make_room(&self) {
        fs::remove_file(self.folder.path("small/ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let small = self.folder.path("small");
        let _ = Command::new("umount").arg("-l").arg(small).output();
    }
}

fn line(n: u64) -> String {
    format!("{n:>99}\n")
}

fn lines(range: std::ops::Range<u64>) -> String {
    range.map(line).collect()
}

fn length(directory: &str) -> (u64, bool) {
    let feed = run(["feeds", directory, "--json"]).good().lines().remove(0)["feeds"][0].clone();
    assert_eq!(feed["length"], feed["blocks"], "{feed}");
    (feed["length"].as_u64().unwrap(), feed["writable"] == true)
}

#[test]
fn an_append_to_a_full_disk_fails_loses_nothing_and_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::new() else { return };
    let store = disk.folder.at("small/store");
    run(["init", &store]).good();
    let mut acknowledged = 0;
    // Ever smaller batches, so that the disk is full to the last page.
    for count in [2_000, 2_000, 2_000, 2_000, 2_000, 2_000, 2_000, 500, 100, 10, 1, 1, 1, 1] {
        let input = lines(acknowledged..acknowledged + count);
        let end = run_with_input(["append", &store, "w", "--lines", "--json"], input.as_bytes());
        if end.code == Some(0) {
            acknowledged += count;
        } else {
            let error = end.failed("ERR_DISK_FULL");
            assert!(error["advice"].as_str().unwrap().contains("room"), "{error}");
        }
        let (length, writable) = length(&store);
        assert!(length >= acknowledged && writable, "{length} of {acknowledged} blocks");
        // A batch of many lines may have been stored in part.
        acknowledged = length;
    }
    assert!(acknowledged > 2_000);
    run_with_input(["append", &store, "w", "--lines", "--json"], lines(0..20_000).as_bytes())
        .failed("ERR_DISK_FULL");
    let (length_when_full, _) = length(&store);
    disk.make_room();
    run(["append", &store, "w", "after"]).good();
    let whole = String::from_utf8(run(["cat", &store, "w"]).good().stdout).unwrap();
    let text = whole.replace('\n', "");
    let expected = lines(0..acknowledged).replace('\n', "");
    assert!(text.starts_with(&expected) && text.ends_with("after"));
    assert_eq!(length(&store), (length_when_full + 1, true));
    // A peer takes all of it: each proof is good.
    let other = disk.folder.at("other");
    run(["init", &other, "--key", &saved_key(&disk.folder.path("small/store"))]).good();
    let (serving, address) = Running::serve(&store, &["--once"]);
    run(["sync", &other, &address]).good();
    serving.end().good();
    assert_eq!(contents(&other), contents(&store));
}

#[test]
fn a_sync_to_a_full_disk_fails_by_name_and_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::new() else { return };
    let (source, store) = (disk.folder.at("source"), disk.folder.at("small/store"));
    run(["init", &source]).good();
    let input = lines(0..17_000);
    run_with_input(["append", &source, "w", "--lines"], input.as_bytes()).good();
    let (serving, address) = Running::serve(&source, &[]);
    let key = saved_key(&disk.folder.path("source"));
    let sync = || run(["sync", &store, &address, "--key", &key, "--json"]);
    sync().failed("ERR_DISK_FULL");
    disk.make_room();
    sync().good();
    serving.signal("INT");
    serving.end().good();
    assert_eq!(contents(&source), contents(&store));
}

#[test]
fn a_conversion_to_a_full_disk_fails_by_name_and_leaves_nothing() {
    let Some(disk) = SmallDisk::new() else { return };
    let (source, store) = (disk.folder.at("source"), disk.folder.at("small/store"));
    run(["init", &source]).good();
    let input = lines(0..12_000);
    run_with_input(["append", &source, "w", "--lines"], input.as_bytes()).good();
    let convert = || run(["convert", &source, &store, "--layout", "numbered", "--json"]);
    convert().failed("ERR_DISK_FULL");
    let left: Vec<_> = fs::read_dir(disk.folder.path("small")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    disk.make_room();
    convert().good();
    assert_eq!(contents(&store), contents(&source));
}
