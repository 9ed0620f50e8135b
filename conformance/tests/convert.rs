//! Stores of one JavaScript package converted for the other: opened there, and its writers go on.

#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use conformance::{Contents, Held, JsPeer, Store, block, multifeed, root_key};
use serde_json::{Value, json};

/// Runs `multifeed convert`, which must leave nothing out; gives its last line.
fn convert(from: &Store, to: &Path, layout: &str) -> Value {
    let output = multifeed(["convert"])
        .arg(from.path())
        .arg(to)
        .args(["--layout", layout, "--json", "--no-save-key"])
        .env("MULTIFEED_KEY", from.key())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

fn verify_sound(store: &Store) {
    for line in store.run("verify", &[], &[]) {
        assert_eq!(line["sound"], true, "{line:#}");
        // The JavaScript leaves the bytes of cleared blocks where they are, unless the disk takes holes.
        for finding in line["findings"].as_array().unwrap() {
            assert_eq!(finding["code"], "blocks-unmarked", "{line:#}");
        }
    }
}

fn contents_of(mut peer: JsPeer) -> Contents {
    let contents = peer.contents();
    peer.close();
    contents
}

fn names(peer: &mut JsPeer) -> Vec<(String, String, bool)> {
    let feeds = peer.feeds();
    let text = |feed: &Value, field: &str| feed[field].as_str().unwrap().to_owned();
    let of = |feed: &Value| (text(feed, "key"), text(feed, "name"), feed["writable"] == true);
    feeds.iter().map(of).collect()
}

/// The writer `first` of 9,001 blocks, `second` of 3, an unnamed one, a feed of others with `clear`ed blocks.
fn fill(peer: &mut JsPeer, other: &Store) -> (String, Contents) {
    let first = peer.write("first", 9_000, &[10, 0, 70]);
    peer.write("first", 1, &[10]);
    peer.write("second", 3, &[5_000]);
    let unnamed = peer.write_unnamed(2, 10);
    let mut theirs = other.javascript_of("multifeed");
    let copy = theirs.write("theirs", 60, &[4_000]);
    let port = theirs.listen();
    peer.connect(port);
    peer.call(json!({"do": "wait", "lengths": { copy.as_str(): 60 }}));
    theirs.close();
    peer.call(json!({"do": "clear", "key": copy, "start": 20, "end": 40}));
    let contents = peer.contents();
    assert_eq!(contents.len(), 4);
    assert!(contents.contains_key(&unnamed));
    (first, contents)
}

#[test]
fn a_directory_of_multifeed_6_goes_on_in_hypermultifeed_and_comes_back() {
    let key = root_key("convert multifeed 6");
    let [old, other, new, back] = [(); 4].map(|()| Store::new(&key));
    let mut peer = old.multifeed6();
    let (first, mut expected) = fill(&mut peer, &other);
    let before = names(&mut peer);
    peer.close();

    let line = convert(&old, &new.path(), "corestore");
    assert_eq!((&line["feeds"], &line["writers"]), (&4.into(), &3.into()));
    verify_sound(&new);
    assert_eq!(new.contents(), expected, "as Rust opens it");
    assert_eq!(old.contents(), expected, "what was read is as it was");
    let mut peer = new.javascript();
    assert_eq!(names(&mut peer), before);
    assert_eq!(peer.contents(), expected, "as hypermultifeed opens it");
    assert_eq!(peer.write("first", 3, &[50]), first);
    let added = peer.write("made by hypermultifeed", 2, &[10]);
    expected = peer.contents();
    peer.close();
    assert_eq!(expected.len(), 5);
    assert_eq!(expected[&added], Held::written("made by hypermultifeed", 2, &[10]));
    new.append_block("first", b"by Rust");
    verify_sound(&new);
    let expected = new.contents();
    third_has(&new, &expected);

    convert(&new, &back.path(), "numbered");
    verify_sound(&back);
    assert_eq!(contents_of(back.multifeed6()), expected, "as multifeed 6 opens it");
    let mut peer = back.multifeed6();
    assert_eq!(peer.write("first", 1, &[10]), first);
    assert_eq!(peer.write("made by hypermultifeed", 1, &[10]), added);
    peer.close();
    verify_sound(&back);
}

#[test]
fn a_directory_of_hypermultifeed_goes_on_in_multifeed_6_and_comes_back() {
    let key = root_key("convert hypermultifeed");
    let [old, other, new, back] = [(); 4].map(|()| Store::new(&key));
    let mut theirs = other.javascript();
    let copy = theirs.write("theirs", 60, &[4_000]);
    let port = theirs.listen();
    let mut peer = old.javascript();
    let first = peer.write("first", 9_000, &[10, 0, 70]);
    peer.write("second", 3, &[5_000]);
    peer.write_unnamed(2, 10);
    peer.connect(port);
    peer.call(json!({"do": "wait", "lengths": { copy.as_str(): 60 }}));
    theirs.close();
    peer.call(json!({"do": "clear", "key": copy, "start": 20, "end": 40}));
    let expected = peer.contents();
    let before = names(&mut peer);
    peer.close();

    let line = convert(&old, &new.path(), "numbered");
    assert_eq!((&line["feeds"], &line["writers"]), (&4.into(), &3.into()));
    verify_sound(&new);
    assert_eq!(new.contents(), expected, "as Rust opens it");
    let mut peer = new.multifeed6();
    assert_eq!(names(&mut peer), before);
    assert_eq!(peer.contents(), expected, "as multifeed 6 opens it");
    assert_eq!(peer.write("first", 3, &[50]), first);
    let added = peer.write("made by multifeed 6", 2, &[10]);
    let expected = peer.contents();
    peer.close();
    assert_eq!(expected.len(), 5);
    assert_eq!(expected[&added], Held::written("made by multifeed 6", 2, &[10]));
    verify_sound(&new);
    third_has(&new, &expected);

    convert(&new, &back.path(), "corestore");
    verify_sound(&back);
    assert_eq!(back.javascript_contents(), expected, "as hypermultifeed opens it");
    let mut peer = back.javascript();
    assert_eq!(peer.write("first", 1, &[10]), first);
    peer.close();
    assert_eq!(back.blocks("first").last().unwrap(), &block("first", 9_003, 10));
}

#[test]
fn a_sparse_feed_keeps_exactly_the_blocks_that_it_has() {
    let key = root_key("convert sparse");
    let [source, old, new] = [(); 3].map(|()| Store::new(&key));
    let mut writer = source.javascript();
    let feed = writer.write("w", 20_000, &[30]);
    let mut sparse = JsPeer::open(&old.path(), &key, &["--sparse"]);
    sparse.connect(writer.listen());
    sparse.call(json!({"do": "wait", "feeds": 1}));
    for index in [0, 7, 8_192, 19_999] {
        sparse.call(json!({"do": "download", "key": feed, "start": index, "end": index + 1}));
    }
    let expected = sparse.contents();
    sparse.close();
    writer.close();
    convert(&old, &new.path(), "numbered");
    verify_sound(&new);
    assert_eq!(new.contents(), expected);
    assert_eq!(contents_of(new.multifeed6()), expected);
}

/// A third store that syncs with it verifies every block that it has.
fn third_has(store: &Store, expected: &Contents) {
    let third = Store::new(store.key());
    let mut serving = store.serve(&["--once"]);
    third.sync(serving.port);
    serving.finish();
    assert_eq!(&third.contents(), expected, "what a third peer verified");
}
