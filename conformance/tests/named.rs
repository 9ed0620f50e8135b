//! Feeds by name and the master key of a corestore, used by `corestore@5.8.2` and by Rust in turn.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;

use conformance::{Held, Store, block, root_key};
use multifeed_tokio::{Feed, Options, RootKey, SecretKey, Store as RustStore};

#[tokio::test(flavor = "multi_thread")]
async fn feeds_by_name_and_namespace_are_the_same_in_both() {
    let key = root_key("by name");
    let directory = Store::new(&key);
    let mut peer = directory.javascript();
    let theirs = peer.named(Some("theirs"), &[], 3);
    let default = peer.named(None, &[], 2);
    let nested = peer.named(None, &["one", "two"], 1);
    peer.write("w", 1, &[10]);
    peer.close();

    let store = RustStore::open(directory.path(), Options::default()).await.unwrap();
    let multifeed = store.multifeed(RootKey::from_hex(&key).unwrap()).await.unwrap();
    assert_eq!(multifeed.feeds().len(), 1, "feeds by name are in no multifeed");
    check(&store.named("theirs").await.unwrap(), &theirs, 3).await;
    check(&store.default_feed().await.unwrap(), &default, 2).await;
    let part = store.namespace("one").namespace("two");
    assert_eq!(part.name(), "one:two");
    check(&part.default_feed().await.unwrap(), &nested, 1).await;
    let ours = store.named("ours").await.unwrap();
    ours.append_batch((0..4).map(|index| block("named", index, 100))).await.unwrap();
    let empty = store.named("empty").await.unwrap();
    store.close().await.unwrap();

    let mut peer = directory.javascript();
    for (name, feed, length) in [("ours", &ours, 4), ("empty", &empty, 0)] {
        let found = peer.named(Some(name), &[], 0);
        assert_eq!(found["key"], feed.key().to_hex(), "{name}");
        assert_eq!(found["length"], length, "{name}");
        assert_eq!(found["writable"], true, "{name}");
    }
    assert_eq!(peer.named(Some("theirs"), &[], 2)["length"], 6);
    assert_eq!(peer.named(None, &["one", "two"], 1)["length"], 3);
    peer.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_key_of_the_application_gives_the_same_writers_in_both() {
    let key = root_key("given master key");
    let directory = Store::new(&key);
    let master = root_key("the master key");
    let mut peer = directory.javascript_with_master_key(&master);
    let theirs = peer.write("w", 3, &[10]);
    let named = peer.named(Some("n"), &[], 1);
    peer.close();
    assert!(!directory.path().join("master_key").exists());

    let options = || {
        let master = *RootKey::from_hex(&master).unwrap().expose();
        Options::default().master_key(master)
    };
    let store = RustStore::open(directory.path(), options()).await.unwrap();
    let multifeed = store.multifeed(RootKey::from_hex(&key).unwrap()).await.unwrap();
    let writer = multifeed.writer("w").await.unwrap();
    assert_eq!(writer.key().to_hex(), theirs);
    assert_eq!(writer.append(block("w", 3, 10)).await.unwrap(), 3);
    let ours = multifeed.writer("ours").await.unwrap();
    ours.append(block("ours", 0, 10)).await.unwrap();
    check(&store.named("n").await.unwrap(), &named, 1).await;
    store.close().await.unwrap();
    assert!(!directory.path().join("master_key").exists());

    let mut peer = directory.javascript_with_master_key(&master);
    assert_eq!(peer.write("w", 1, &[10]), theirs);
    assert_eq!(peer.write("ours", 1, &[10]), ours.key().to_hex());
    let contents = peer.contents();
    assert_eq!(contents[&theirs], Held::written("w", 5, &[10]));
    assert_eq!(contents[&ours.key().to_hex()], Held::written("ours", 2, &[10]));
    peer.close();

    // Without the master key nothing can be derived, and no other may take its place.
    let refused = RustStore::open(directory.path(), Options::default()).await;
    assert_eq!(refused.map(|_| ()).unwrap_err().code(), "ERR_STORE_DAMAGED");
    fs::write(directory.path().join("master_key"), [7; 32]).unwrap();
    let store = RustStore::open(directory.path(), options()).await.unwrap();
    let multifeed = store.multifeed(RootKey::from_hex(&key).unwrap()).await.unwrap();
    assert_eq!(multifeed.feeds().len(), 2, "the one that is given counts");
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_with_a_key_pair_of_its_own_is_writable_in_both() {
    let key = root_key("key pair");
    let directory = Store::new(&key);
    let seeds = [root_key("their seed"), root_key("our seed")];
    let secrets = seeds
        .each_ref()
        .map(|seed| SecretKey::from_seed(RootKey::from_hex(seed).unwrap().expose()));
    let mut peer = directory.javascript();
    let theirs = peer.write_with_key("theirs", &seeds[0], 2, 10);
    peer.close();

    let multifeed = directory.open().await;
    let writer = multifeed.writer("theirs").await.unwrap();
    assert_eq!(writer.key().to_hex(), theirs);
    assert_eq!(writer.append(block("theirs", 2, 10)).await.unwrap(), 2);
    let ours = multifeed.writer_with_key("ours", secrets[1].clone()).await.unwrap();
    ours.append(block("ours", 0, 10)).await.unwrap();
    let empty = multifeed.writer("never written to").await.unwrap().key().to_hex();
    multifeed.close().await.unwrap();

    let mut peer = directory.javascript();
    assert_eq!(peer.write("theirs", 1, &[10]), theirs);
    assert_eq!(peer.write("ours", 2, &[10]), ours.key().to_hex());
    assert_eq!(peer.write("never written to", 1, &[10]), empty);
    let contents = peer.contents();
    assert_eq!(contents[&theirs], Held::written("theirs", 4, &[10]));
    assert_eq!(contents[&ours.key().to_hex()], Held::written("ours", 3, &[10]));
    peer.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_without_a_name_are_new_each_time_and_javascript_finds_them_by_number() {
    let key = root_key("unnamed");
    let directory = Store::new(&key);
    let multifeed = directory.open().await;
    let mut keys = Vec::new();
    for number in 0..3 {
        let writer = multifeed.writer(None).await.unwrap();
        assert_eq!(writer.name(), number.to_string());
        writer.append(block(&number.to_string(), 0, 10)).await.unwrap();
        keys.push(writer.key().to_hex());
    }
    multifeed.close().await.unwrap();
    keys.dedup();
    assert_eq!(keys.len(), 3);
    let mut peer = directory.javascript();
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(peer.write(&number.to_string(), 1, &[10]), *key);
        assert_eq!(peer.contents()[key], Held::written(&number.to_string(), 2, &[10]));
    }
    // The JavaScript has one writer without a name, however often it is asked.
    let theirs = peer.write_unnamed(1, 10);
    assert_eq!(peer.write_unnamed(1, 10), theirs);
    assert!(!keys.contains(&theirs));
    peer.close();
}

/// Compares a feed by name with what JavaScript said of it, then appends one more block.
async fn check(feed: &Feed, theirs: &serde_json::Value, length: u64) {
    assert_eq!(theirs["key"], feed.key().to_hex());
    let info = feed.load().await.unwrap();
    assert!(info.writable && info.length == length, "{info:?}");
    for index in 0..length {
        assert_eq!(feed.get(index).await.unwrap(), block("named", index, 100));
    }
    assert_eq!(feed.append(block("named", length, 100)).await.unwrap(), length);
}
