//! `multifeed convert`: the same multifeed in another layout, or nothing.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use std::fs;
use std::path::{Path, PathBuf};

use util::{Folder, OTHER_KEY, Running, command, contents, ended, run, run_with_input, saved_key};

/// A store `a` with two writers, one of them of `blocks` lines.
fn store(blocks: usize) -> Folder {
    let folder = Folder::new();
    let a = folder.at("a");
    run(["init", &a]).good();
    run(["append", &a, "me", "one", "two"]).good();
    let lines: String = (0..blocks).map(|n| format!("line {n}\n")).collect();
    run_with_input(["append", &a, "log", "--lines"], lines.as_bytes()).good();
    folder
}

fn names(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(folder.path("")).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_store_goes_to_the_other_layout_and_back_and_its_writers_go_on() {
    let folder = store(1_000);
    let [a, b, c] = ["a", "b", "c"].map(|name| folder.at(name));
    let before = contents(&a);
    let line = run(["convert", &a, &b, "--layout", "numbered", "--json"]).good().lines().pop();
    let line = line.unwrap();
    assert_eq!((&line["event"], &line["layout"]), (&"converted".into(), &"numbered".into()));
    assert_eq!((&line["feeds"], &line["writers"]), (&2.into(), &2.into()));
    assert_eq!(line["left_out"], serde_json::json!([]));
    assert_eq!(saved_key(&folder.path("b")), saved_key(&folder.path("a")));
    assert!(folder.path("b/0/localname").exists() && !folder.path("b/master_key").exists());
    assert_eq!(contents(&b), before);
    run(["verify", &b]).good();

    fs::create_dir(folder.path("c")).unwrap();
    let text = run(["convert", &b, &c, "--layout", "corestore", "--no-save-key"]).good().text();
    assert!(text.starts_with(&format!("new store in {c}: 2 feeds, 2 written here, ")), "{text}");
    assert!(text.contains("never to both"), "{text}");
    assert!(!folder.path("c/root_key").exists());
    let key = saved_key(&folder.path("a"));
    run(["append", &c, "me", "three", "--key", &key]).good();
    let feeds = run(["feeds", &c, "--key", &key, "--json"]).good().lines().remove(0);
    assert_eq!(feeds["feeds"].as_array().unwrap().len(), 2, "{feeds}");
    assert_eq!(
        (&feeds["feeds"][0]["name"], &feeds["feeds"][0]["length"]),
        (&"me".into(), &3.into())
    );
    run(["verify", &c, "--key", &key]).good();
    assert_eq!(contents(&a), before);
    assert_eq!(names(&folder), ["a", "b", "c"]);
}

#[test]
fn what_is_in_the_way_is_left_as_it_is() {
    let folder = store(1);
    let (a, b) = (folder.at("a"), folder.at("b"));
    let convert = |to: &str| run(["convert", &a, to, "--layout", "numbered", "--json"]);
    fs::create_dir(folder.path("b")).unwrap();
    fs::write(folder.path("b/mine"), "x").unwrap();
    convert(&b).failed("ERR_NOT_EMPTY");
    convert(&a).failed("ERR_NOT_EMPTY");
    convert(&folder.at("b/mine")).failed("ERR_NOT_EMPTY");
    convert(&folder.at("a/inside")).failed("ERR_DIRECTORY");
    convert(&folder.at("none/below")).failed("ERR_DIRECTORY");
    run(["convert", &folder.at("none"), &folder.at("c"), "--layout", "numbered", "--json"])
        .failed("ERR_NO_STORE");
    run(["convert", &a, &folder.at("c"), "--layout", "numbered", "--json", "--key", OTHER_KEY])
        .failed("ERR_KEY_MISMATCH");
    assert_eq!(names(&folder), ["a", "b"]);
    assert!(!folder.path("a/inside").exists());
}

#[test]
fn a_store_in_use_is_converted_and_that_is_said() {
    let folder = store(1);
    let (serving, _) = Running::serve(&folder.at("a"), &[]);
    let to = folder.at("b");
    let end = run(["convert", &folder.at("a"), &to, "--layout", "numbered", "--json"]).good();
    assert!(end.stderr.contains(&serving.id().to_string()), "{end:?}");
    assert_eq!(contents(&to), contents(&folder.at("a")));
    serving.signal("INT");
    serving.end().good();
}

#[test]
fn feeds_of_another_multifeed_are_left_out_by_name_and_make_the_exit_code_1() {
    let folder = store(1);
    let (a, b) = (folder.at("a"), folder.at("b"));
    let key = saved_key(&folder.path("a"));
    fs::remove_file(folder.path("a/root_key")).unwrap();
    run(["append", &a, "theirs", "x", "--key", OTHER_KEY, "--no-save-key"]).good();
    let end =
        run(["convert", &a, &b, "--layout", "numbered", "--key", &key, "--json", "--no-save-key"]);
    assert_eq!(end.code, Some(1), "{end:?}");
    let line = end.lines().pop().unwrap();
    assert_eq!((&line["event"], &line["feeds"]), (&"converted".into(), &2.into()));
    assert_eq!(line["left_out"].as_array().unwrap().len(), 2, "a list and a writer: {line}");
    run(["feeds", &b, "--key", &key]).good();
    let none = "ff".repeat(32);
    let wrong =
        run(["convert", &a, &folder.at("c"), "--layout", "numbered", "--key", &none, "--json"]);
    wrong.failed("ERR_NO_MULTIFEED");
    assert!(!end.stderr.contains(&key) && !end.text().contains(OTHER_KEY));
}

/// Killed at moments all over its work, it leaves no folder of that name but a whole one.
#[test]
fn a_conversion_that_is_killed_never_leaves_a_part_under_the_new_name() {
    let folder = store(200_000);
    let a = folder.at("a");
    let (mut killed, mut whole) = (0, 0);
    for attempt in 0..12 {
        let to = folder.at(&format!("new {attempt}"));
        let mut converting =
            command(["convert", &a, &to, "--layout", "numbered", "--json"]).spawn().unwrap();
        // At a line of its progress, or before the first.
        let mut stdout = std::io::BufReader::new(converting.stdout.take().unwrap());
        for _ in 0..attempt % 4 {
            std::io::BufRead::read_line(&mut stdout, &mut String::new()).unwrap();
        }
        converting.kill().unwrap();
        drop(stdout);
        ended(converting.wait_with_output().unwrap());
        if folder.path(&format!("new {attempt}")).exists() {
            assert_eq!(contents_with(&to, &saved_key(&folder.path("a"))), contents(&a));
            whole += 1;
        } else {
            killed += 1;
        }
    }
    assert!(killed > 0, "{whole} whole");
    run(["convert", &a, &folder.at("last"), "--layout", "numbered"]).good();
    assert_eq!(contents(&folder.at("last")), contents(&a));
}

/// The contents of a store that may not have its key saved yet.
fn contents_with(directory: &str, key: &str) -> Vec<(String, Vec<u8>)> {
    let listed = run(["feeds", directory, "--json", "--key", key]).good().lines().remove(0);
    let feeds = listed["feeds"].as_array().unwrap().clone();
    let mut contents: Vec<_> = feeds
        .iter()
        .map(|feed| {
            let name = feed["key"].as_str().unwrap().to_owned();
            let blocks = run(["cat", directory, &name, "--key", key]).good().stdout;
            (name, blocks)
        })
        .collect();
    contents.sort();
    contents
}

#[test]
fn ctrl_c_takes_away_what_was_made() {
    let folder = store(200_000);
    let to = folder.at("b");
    let mut converting =
        Running::start(["convert", &folder.at("a"), &to, "--layout", "numbered", "--json"]);
    assert_eq!(converting.line()["event"], "progress");
    converting.signal("INT");
    let end = converting.end();
    // It may have been done already.
    if end.code == Some(0) {
        assert_eq!(contents(&to), contents(&folder.at("a")));
    } else {
        assert_eq!(end.code, Some(130), "{end:?}");
        end.error("ERR_INTERRUPTED");
        assert_eq!(names(&folder), ["a"]);
    }
}

/// The folder of a feed in which a file begins like this.
fn folder_with(folder: &Path, file: &str, begins: &[u8]) -> Option<PathBuf> {
    if fs::read(folder.join(file)).is_ok_and(|bytes| bytes.starts_with(begins)) {
        return Some(folder.to_owned());
    }
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).find_map(|path| folder_with(&path, file, begins))
}

#[test]
fn a_damaged_block_is_told_and_is_not_held_in_the_new_store() {
    for layout in ["corestore", "numbered"] {
        let folder = store(20);
        let (a, b) = (folder.at("a"), folder.at("b"));
        let data = folder_with(&folder.path("a"), "data", b"line 0").unwrap().join("data");
        let mut bytes = fs::read(&data).unwrap();
        bytes[3] ^= 1;
        fs::write(&data, &bytes).unwrap();
        let end = run(["convert", &a, &b, "--layout", layout, "--json"]);
        assert_eq!(end.code, Some(1), "{end:?}");
        let line = end.lines().pop().unwrap();
        assert_eq!(line["damaged"][0]["lost"], 1, "{line}");
        assert_eq!(line["damaged"].as_array().unwrap().len(), 1, "{line}");
        assert_eq!(fs::read(&data).unwrap(), bytes, "{layout}");
        let feeds = run(["feeds", &b, "--json"]).good().lines().remove(0);
        let held: Vec<_> =
            feeds["feeds"].as_array().unwrap().iter().map(|feed| feed["blocks"].clone()).collect();
        assert!(held.contains(&2.into()) && held.contains(&19.into()), "{feeds}");
        run(["verify", &b]).good();
    }
}

#[test]
fn a_fork_is_known_in_the_new_store_too() {
    let folder = store(3);
    let [a, copy, new] = ["a", "copy", "new"].map(|name| folder.at(name));
    run(["convert", &a, &copy, "--layout", "corestore"]).good();
    run(["append", &a, "me", "three"]).good();
    run(["append", &copy, "me", "another three"]).good();
    let (serving, address) = Running::serve(&copy, &[]);
    run(["sync", &a, &address]);
    drop(serving);
    for layout in ["corestore", "numbered"] {
        let new = format!("{new}-{layout}");
        run(["convert", &a, &new, "--layout", layout]).good();
        let feeds = run(["feeds", &new, "--json"]).good().lines().remove(0);
        let forked =
            feeds["feeds"].as_array().unwrap().iter().filter(|it| it["health"] == "forked");
        assert_eq!(forked.count(), 1, "{feeds}");
        assert!(run(["verify", &new]).text().contains("\nforked: "), "{layout}");
    }
}

/// Puts a folder in the place of the data file of the feed whose first block begins with `line 0`; its folder.
fn folder_for_data(store: &Path) -> PathBuf {
    let feed = folder_with(store, "data", b"line 0").unwrap();
    fs::remove_file(feed.join("data")).unwrap();
    fs::create_dir(feed.join("data")).unwrap();
    feed
}

#[test]
fn a_feed_of_others_of_which_a_file_cannot_be_read_is_left_out_and_told() {
    for layout in ["corestore", "numbered"] {
        let folder = store(20);
        let [a, copy, b] = ["a", "copy", "b"].map(|name| folder.at(name));
        let key = fs::read_to_string(folder.path("a").join("root_key")).unwrap();
        run(["init", &copy, "--key", key.trim()]).good();
        let (serving, address) = Running::serve(&a, &[]);
        run(["sync", &copy, &address]).good();
        drop(serving);
        let feed = folder_for_data(&folder.path("copy"));
        let end = run(["convert", &copy, &b, "--layout", layout, "--json"]);
        assert_eq!(end.code, Some(1), "{end:?}");
        let line = end.lines().pop().unwrap();
        let folder = feed.strip_prefix(&copy).unwrap().to_str().unwrap();
        assert_eq!(line["unreadable"], serde_json::json!([folder]), "{line}");
        let held = contents(&b);
        // A copy keeps the list, with the key of the feed that is left out.
        assert_eq!(held.iter().filter(|(_, bytes)| !bytes.is_empty()).count(), 1, "{held:?}");
        run(["append", &b, "me", "three"]).good();
    }
}

#[test]
fn a_writer_of_which_a_file_cannot_be_read_is_not_left_out_for_its_name_would_begin_another_feed() {
    for layout in ["corestore", "numbered"] {
        let folder = store(20);
        let (a, b) = (folder.at("a"), folder.at("b"));
        folder_for_data(&folder.path("a"));
        let end = run(["convert", &a, &b, "--layout", layout, "--json"]);
        assert_eq!(end.lines().pop().unwrap()["code"], "ERR_NOT_A_FILE", "{end:?}");
        assert!(!folder.path("b").exists());
    }
}
