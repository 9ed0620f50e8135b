//! `regression.js` of both packages.

use std::fs;
use std::path::Path;
use std::time::Duration;

use conformance::upstream::Family;
use conformance::{Side, Store, connect, root_key};
use multifeed_tokio::Role;
use serde_json::Value;

use crate::basic::{open_slow, two_multifeeds};
use crate::cast::{Cast, exchange, keys, setup};

pub(crate) async fn concurrency_of_writer_creation(cast: Cast) {
    let (side, _store) = cast.alone().await;
    let multifeed = side.ours();
    let (first, second) = (multifeed.writer("minuette"), multifeed.writer("minuette"));
    assert_eq!(multifeed.feeds().len(), 0, "a future does nothing before it is polled");
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(multifeed.feeds().len(), 1);
}

pub(crate) async fn mf_with_no_writer_replicate_to_mf_with_1_writer(cast: Cast) {
    let [(mut one, _a), (mut two, _b)] = cast.both(&["--no-live"]).await;
    let first = blocks(&mut one, "foo", 1_000).await;
    let second = blocks(&mut two, "bar", 10).await;
    exchange(&mut one, &mut two).await;
    for side in [&mut one, &mut two] {
        let feeds = side.feeds().await;
        let length = |key: &str| feeds.iter().find(|feed| feed.key == key).unwrap().length;
        assert_eq!((feeds.len(), length(&first), length(&second)), (2, 1_000, 10));
        assert_eq!(side.value(&first, 0).await, "foo");
        assert_eq!(side.value(&second, 0).await, "bar");
    }
    assert_eq!(one.contents().await, two.contents().await);
}

async fn blocks(side: &mut Side, value: &str, count: usize) -> String {
    let key = side.writer(None).await;
    side.append(&key, &vec![Value::from(value); count]).await;
    assert_eq!(side.value(&key, 3).await, value);
    key
}

pub(crate) async fn start_replicating_before_feeds_are_loaded(cast: Cast) {
    two_multifeeds(cast, false, &["--no-live"]).await;
}

/// Three sides: the second is in the middle, the first plays both others.
pub(crate) async fn announce_new_feed_on_existing_connections(cast: Cast) {
    let [(mut one, _a), (mut two, _b)] = cast.both(&[]).await;
    let store = cast.store();
    let mut three = cast.open(0, &store, &[]).await;
    let mut made = Vec::new();
    for (side, value) in [&mut one, &mut two, &mut three].into_iter().zip(["1", "2", "3"]) {
        let key = side.writer(Some("local")).await;
        side.append(&key, &[value.into()]).await;
        made.push(key);
    }
    connect(&mut one, &mut two, true).await;
    one.wait_for_feeds(2).await;
    assert_eq!(keys(&mut one).await.len(), 2);
    assert_eq!(one.value(&made[1], 0).await, "2");
    connect(&mut three, &mut two, true).await;
    one.wait_for_feeds(3).await;
    assert_eq!(one.value(&made[2], 0).await, "3");
    assert_eq!(one.feeds().await.len(), 3);
}

pub(crate) async fn replicate_before_multifeed_is_ready(cast: Cast) {
    let (side, _store) = cast.alone().await;
    let multifeed = side.ours();
    multifeed.close().await.unwrap();
    let (stream, _peer) = tokio::io::duplex(1_024);
    let error = multifeed.replicate(stream, Role::Initiator).await.unwrap_err();
    assert_eq!(error.code(), "ERR_CLOSED");
}

pub(crate) async fn mfs_with_different_root_keys_cannot_replicate(cast: Cast) {
    let stores = [Store::new(&root_key("one root key")), Store::new(&root_key("another"))];
    let mut one = cast.open(0, &stores[0], &["--no-live"]).await;
    let mut two = cast.open(1, &stores[1], &["--no-live"]).await;
    blocks(&mut one, "foo", 1_000).await;
    blocks(&mut two, "bar", 1_000).await;
    connect(&mut one, &mut two, false).await;
    let mut failures = Vec::new();
    for side in [&mut one, &mut two] {
        match side {
            Side::Rust(_) => {
                let error = side.closed().await.expect_err("nothing was agreed on");
                // The side whose peer hangs up first hears no reason.
                let codes = ["ERR_PEER_LEFT", "ERR_MULTIFEED_TIMEOUT"];
                assert!(codes.contains(&error.code()), "{error}");
                failures.push(error.code().to_owned());
            }
            Side::JavaScript(peer, _) => {
                let closed = peer.process().expect_event("closed");
                let errors: Vec<String> = serde_json::from_value(closed["errors"].clone()).unwrap();
                failures.extend(errors);
            }
        }
    }
    let wanted: &[&str] = match (cast.family, &one, &two) {
        (Family::Multifeed6, Side::JavaScript(..), _)
        | (Family::Multifeed6, _, Side::JavaScript(..)) => &["Exchange key did not match remote"],
        _ => &["Multifeed handshake remote timeout", "ERR_MULTIFEED_TIMEOUT"],
    };
    assert!(failures.iter().any(|failure| wanted.contains(&failure.as_str())), "{failures:?}");
    for side in [&mut one, &mut two] {
        assert!(!side.agreed(), "neither agrees on feeds");
        assert_eq!(side.feeds().await.len(), 1);
    }
}

pub(crate) async fn calling_close_while_closing_should_not_throw_errors(cast: Cast) {
    let (side, _store) = cast.alone().await;
    let multifeed = side.ours();
    let writer = multifeed.writer("default").await.unwrap();
    writer.append(b"some data").await.unwrap();
    let (first, second) = (multifeed.close(), multifeed.close());
    assert_eq!(writer.get(0).await.unwrap(), "some data", "it is not yet closed");
    let (first, second) = tokio::join!(first, second);
    first.unwrap();
    second.unwrap();
    assert_eq!(writer.append(b"more").await.unwrap_err().code(), "ERR_CLOSED");
}

pub(crate) async fn sync_two_single_core_multifeeds_w_different_storage_speeds(cast: Cast) {
    let stores = [cast.store(), cast.store()];
    let mut one = open_slow(cast, 0, &stores[0], Duration::from_millis(1)).await;
    let mut two = open_slow(cast, 1, &stores[1], Duration::from_millis(500)).await;
    one.writer(None).await;
    two.writer(None).await;
    exchange(&mut one, &mut two).await;
    assert_eq!(one.feeds().await.len(), 2);
    assert_eq!(two.feeds().await.len(), 2);
}

pub(crate) async fn ensure_encryption_key_is_not_written_to_disk(cast: Cast) {
    let (mut side, store) = cast.alone().await;
    let writer = side.writer(None).await;
    side.append(&writer, &["foo".into()]).await;
    side.close().await;
    let files = files_with(&store.path(), store.key());
    match cast.family {
        Family::Multifeed6 => {
            assert_eq!(files, [""; 0]);
            let entries = fs::read_dir(store.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            assert_eq!(names, ["0", "multifeed.lock", "multifeed.numbered"]);
        }
        Family::Hypermultifeed => {
            assert_eq!(files, ["name", "name"], "of the writer and of the list");
            // As in a folder of hypermultifeed itself.
            let theirs = cast.store();
            let mut peer = theirs.javascript();
            peer.write("w", 1, &[10]);
            peer.close();
            assert_eq!(files_with(&theirs.path(), theirs.key()), files);
        }
    }
}

/// The names of the files in which a key stands, as bytes or as hex digits.
fn files_with(folder: &Path, key: &str) -> Vec<String> {
    let bytes = multifeed_tokio::RootKey::from_hex(key).unwrap();
    let contains = |file: &[u8], what: &[u8]| file.windows(what.len()).any(|part| part == what);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_with(&entry.path(), key));
            continue;
        }
        let file = fs::read(entry.path()).unwrap();
        if contains(&file, key.as_bytes()) || contains(&file, bytes.expose()) {
            found.push(entry.file_name().into_string().unwrap());
        }
    }
    found
}

/// The second time while the first connection may still be open.
pub(crate) async fn replicate_two_multifeeds_twice(cast: Cast) {
    let [(mut one, _a), (mut two, _b)] = cast.both(&["--no-live"]).await;
    let first = setup(&mut one, "foo").await;
    let second = setup(&mut two, "bar").await;
    for _ in 0..2 {
        connect(&mut one, &mut two, false).await;
        for side in [&mut one, &mut two] {
            side.remote_feeds().await;
            side.wait_for_feeds(2).await;
            assert_eq!(side.feeds().await.len(), 2);
        }
    }
    assert_eq!(one.value(&second, 0).await, "bar");
    assert_eq!(two.value(&first, 0).await, "foo");
}
