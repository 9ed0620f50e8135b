//! `multifeed verify` on stores of both implementations: sound ones, and ones damaged in every way.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use conformance::{Contents, Held, JsPeer, Random, Store, lines, root_key};
use serde_json::{Value, json};

/// Runs `multifeed verify`; its exit code and the lines it printed.
fn verify(store: &Store, options: &[&str]) -> (i32, Vec<Value>) {
    let mut process = store.start("verify", options);
    let (status, lines) = process.finish();
    let code = status.code().unwrap_or_else(|| panic!("verify ended with {status}"));
    assert_eq!(lines.last().unwrap()["event"], "verified", "{lines:?}\n{}", process.stderr());
    (code, lines)
}

/// The store must be sound without any finding, harmless ones included.
#[track_caller]
fn verify_sound(store: &Store, what: &str) {
    let (code, lines) = verify(store, &[]);
    assert_eq!(code, 0, "{what}: {lines:#?}");
    for line in lines {
        assert_eq!(line["findings"], Value::Array(Vec::new()), "{what}: {line:#}");
    }
}

/// The folder of the one feed that is not the list of feeds.
fn feed_folder(store: &Store) -> PathBuf {
    let (_, lines) = verify(store, &[]);
    let feed = lines.iter().find(|line| line["list"] == false).unwrap();
    store.path().join(feed["folder"].as_str().unwrap())
}

fn flip(path: &Path, at: u64, bit: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[usize::try_from(at).unwrap()] ^= 1 << bit;
    fs::write(path, bytes).unwrap();
}

/// A JavaScript writer of `blocks` blocks, and copies of it that both implementations synced.
struct Stores {
    written: Store,
    by_rust: Store,
    by_javascript: Store,
    contents: Contents,
}

impl Stores {
    fn new(name: &str, blocks: u64, sizes: &[usize]) -> Self {
        let key = root_key(name);
        let [written, by_rust, by_javascript] = [(); 3].map(|()| Store::new(&key));
        let mut writer = written.javascript();
        // A signature for each half: the second is appended block by block.
        writer.write("w", blocks - blocks / 2, sizes);
        let mut writer_key = writer.write("w", 0, sizes);
        for _ in 0..(blocks / 2).min(5) {
            writer_key = writer.write("w", 1, sizes);
        }
        let length = blocks - blocks / 2 + (blocks / 2).min(5);
        let contents = Contents::from([(writer_key, Held::written("w", length, sizes))]);
        let port = writer.listen();
        by_rust.sync(port);
        let mut reader = by_javascript.javascript();
        reader.connect(port);
        reader.wait_for(&contents);
        reader.close();
        writer.close();
        Self { written, by_rust, by_javascript, contents }
    }

    fn all(&self) -> [(&str, &Store); 3] {
        [
            ("written by JavaScript", &self.written),
            ("fetched by Rust", &self.by_rust),
            ("fetched by JavaScript", &self.by_javascript),
        ]
    }

    /// The store must open, and have everything after a sync with an intact one. A writer that is
    /// sealed until then is not given to the JavaScript, which does not know of that: where it opens
    /// such a log at all, it takes it for a shorter one.
    fn healed(&self, damaged: &Store, intact: &Store, sealed: bool, what: &str) {
        eprintln!("{what}");
        damaged.feeds();
        if !sealed {
            let mut peer = damaged.javascript();
            peer.feeds();
            peer.close();
        }
        let serving = intact.copied();
        let serving = serving.serve(&["--once"]);
        damaged.sync(serving.port);
        drop(serving);
        assert_eq!(damaged.contents(), self.contents, "{what}: as Rust opens it");
        assert_eq!(damaged.javascript_contents(), self.contents, "{what}: as JavaScript opens it");
        let (code, lines) = verify(damaged, &["--repair"]);
        assert_eq!(code, 0, "{what}: {lines:#?}");
        assert_eq!(lines.last().unwrap()["lost"], 0, "{what}: {lines:#?}");
    }
}

#[test]
fn sound_stores_of_both_are_told_to_be() {
    for (blocks, sizes) in [(1, &[10][..]), (12, &[100, 0, 7]), (9_000, &[3]), (20_001, &[1])] {
        let stores = Stores::new(&format!("sound {blocks}"), blocks, sizes);
        for (what, store) in stores.all() {
            verify_sound(store, &format!("{blocks} blocks, {what}"));
        }
    }
}

#[test]
fn a_store_that_was_fetched_in_parts_while_its_writer_went_on_is_sound() {
    let key = root_key("parts");
    let [written, rust, sparse] = [(); 3].map(|()| Store::new(&key));
    let mut writer = written.javascript();
    let mut reader = JsPeer::open(&sparse.path(), &key, &["--sparse"]);
    let port = writer.listen();
    reader.connect(port);
    for (blocks, index) in [(5, 4), (5, 7), (40, 13), (7, 0), (3_000, 2_000), (4_500, 7_000)] {
        let feed = writer.write("w", blocks, &[20]);
        let known = reader.wait(1, &BTreeMap::new());
        reader.finish(known);
        reader.call(json!({"do": "update", "key": feed, "length": index + 1}));
        reader.call(json!({"do": "get", "key": feed, "index": index}));
    }
    reader.close();
    verify_sound(&sparse, "a sparse reader");
    // Cut off in the middle.
    let proxy = conformance::CuttingProxy::start(port, &[60_000]);
    let mut cut = rust.start("sync", &[&format!("127.0.0.1:{}", proxy.port())]);
    assert!(!cut.finish().0.success());
    verify_sound(&rust, "a reader that was cut off");
    rust.sync(port);
    verify_sound(&rust, "a reader that went on");
}

#[test]
fn flipped_bits_at_random_places_are_found_and_undone() {
    let mut random = Random::from_environment("flipped bits");
    let stores = Stores::new("flips", 20, &[90, 0, 13]);
    for round in 0..24 {
        let all = stores.all();
        let which = (round % 3) as usize;
        let (from, store) = all[which];
        let intact = all[(which + 1 + random.below(2) as usize) % 3].1;
        let damaged = store.copied();
        let folder = feed_folder(&damaged);
        let mut files: Vec<PathBuf> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| fs::metadata(file).unwrap().len() > 0);
        files.sort();
        let file = &files[random.below(files.len() as u64) as usize];
        let (at, bit) = (random.below(fs::metadata(file).unwrap().len()), random.below(8));
        flip(file, at, bit);
        let name = file.file_name().unwrap().to_string_lossy();
        let what = format!("round {round}, {from}: bit {bit} of byte {at} of {name}");
        let (code, lines) = verify(&damaged, &[]);
        let found =
            lines.iter().any(|line| line["findings"].as_array().is_some_and(|all| !all.is_empty()));
        assert!(code == 0 || found, "{what}: {lines:?}");
        if found {
            let (code, lines) = verify(&damaged, &["--repair"]);
            let text = format!("{lines:?}");
            assert!(code == 0 || text.contains("sealed"), "{what}: {lines:#?}");
        }
        stores.healed(&damaged, intact, false, &what);
    }
}

type Damage = (&'static str, &'static str, fn(PathBuf, u64));

fn cut(file: PathBuf, len: u64) {
    fs::File::options().write(true).open(file).unwrap().set_len(len).unwrap();
}

/// What is known of how the JavaScript opens damaged files, as damage to one of them.
const DAMAGES: [Damage; 9] = [
    ("tree lacks the last node", "tree", |file, len| cut(file, len - 40)),
    ("tree lacks more", "tree", |file, len| cut(file, len - 400)),
    ("bitfield missing", "bitfield", |file, _| fs::remove_file(file).unwrap()),
    ("bitfield torn", "bitfield", |file, _| cut(file, 500)),
    ("last signature missing", "signatures", |file, len| cut(file, len - 64)),
    ("all signatures missing", "signatures", |file, _| cut(file, 32)),
    ("data truncated", "data", |file, len| cut(file, len / 2)),
    ("headers wrong", "tree", |file, _| flip(&file, 0, 1)),
    ("key file missing", "key", |file, _| fs::remove_file(file).unwrap()),
];

/// Does each damage to a copy of `store`, and has it found, undone, and what was lost fetched again.
fn undo_each(stores: &Stores, from: &str, store: &Store) {
    for (damage, file, act) in DAMAGES {
        let what = format!("{damage}, {from}");
        let damaged = store.copied();
        let path = feed_folder(&damaged).join(file);
        let len = fs::metadata(&path).unwrap().len();
        act(path, len);
        let (_, lines) = verify(&damaged, &[]);
        let found = |line: &Value| line["findings"].as_array().is_some_and(|all| !all.is_empty());
        assert!(lines.iter().any(found), "{what}: nothing found");
        let (code, lines) = verify(&damaged, &["--repair"]);
        let sealed = code != 0 && format!("{lines:?}").contains("sealed");
        assert!(code == 0 || sealed, "{what}: {lines:#?}");
        stores.healed(&damaged, &stores.by_rust, sealed, &what);
    }
}

#[test]
fn every_damage_that_is_known_of_the_javascript_is_found_and_undone_in_copies_of_others_feeds() {
    let stores = Stores::new("table", 10, &[90, 0, 13]);
    undo_each(&stores, "fetched by Rust", &stores.by_rust);
    undo_each(&stores, "fetched by JavaScript", &stores.by_javascript);
}

#[test]
fn every_damage_that_is_known_of_the_javascript_is_found_and_undone_in_a_writer() {
    let stores = Stores::new("table of a writer", 10, &[90, 0, 13]);
    undo_each(&stores, "written by JavaScript", &stores.written);
}

#[test]
fn a_writer_continued_by_both_in_turn_is_sound() {
    let store = Store::new(&root_key("in turn"));
    for _ in 0..3 {
        store.append_lines("w", &lines("w", 0..50, 20));
        let mut peer = store.javascript();
        peer.write("w", 70, &[20, 0]);
        peer.write("v", 1, &[5]);
        peer.close();
        verify_sound(&store, "written by both");
    }
}

#[test]
fn numbered_folders_of_multifeed_6_and_of_rust_are_checked_and_repaired() {
    let key = root_key("numbered folders");
    let [written, fetched] = [(); 2].map(|()| Store::new(&key));
    let mut writer = written.multifeed6();
    let feed = writer.write("w", 9, &[90, 0, 13]);
    let port = writer.listen();
    fetched.run("sync", &[&format!("127.0.0.1:{port}"), "--layout", "numbered"], &[]);
    writer.close();
    verify_sound(&written, "written by multifeed 6");
    verify_sound(&fetched, "fetched by Rust");
    let contents = Contents::from([(feed, Held::written("w", 9, &[90, 0, 13]))]);
    for (place, store) in [("written by multifeed 6", &written), ("fetched by Rust", &fetched)] {
        for (damage, file, act) in DAMAGES {
            // Without its `key`, multifeed 6 makes another feed in its place.
            if file == "key" {
                continue;
            }
            let what = format!("{damage}, {place}");
            let damaged = store.copied();
            let path = damaged.path().join("0").join(file);
            let len = fs::metadata(&path).unwrap().len();
            println!("{what}");
            act(path, len);
            let (_, lines) = verify(&damaged, &[]);
            let found =
                |line: &Value| line["findings"].as_array().is_some_and(|all| !all.is_empty());
            assert!(lines.iter().any(found), "{what}: nothing found");
            verify(&damaged, &["--repair"]);
            let serving = written.copied();
            let serving = serving.serve(&["--once"]);
            damaged.sync(serving.port);
            drop(serving);
            assert_eq!(damaged.contents(), contents, "{what}: as Rust opens it");
            let mut peer = damaged.multifeed6();
            assert_eq!(peer.contents(), contents, "{what}: as multifeed 6 opens it");
            peer.close();
            let (code, lines) = verify(&damaged, &["--repair"]);
            assert_eq!(code, 0, "{what}: {lines:#?}");
        }
    }
}
