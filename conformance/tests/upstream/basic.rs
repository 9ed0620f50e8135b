//! `basic.js` of both packages, and `existing-protocol.js` of multifeed 6.

use std::fs;
use std::time::Duration;

use conformance::upstream::Family;
use conformance::{Side, connect, root_key};
use multifeed_tokio::{FeedKey, RootKey, SecretKey};
use serde_json::json;

use crate::cast::{Cast, exchange, keys, setup};

pub(crate) async fn no_feeds(cast: Cast) {
    let (mut side, _store) = cast.alone().await;
    assert_eq!(side.feeds().await, []);
}

pub(crate) async fn create_writer(cast: Cast) {
    let (mut side, store) = cast.alone().await;
    let writer = setup(&mut side, "foo").await;
    side.close().await;
    let mut again = cast.javascript(&store).await;
    assert_eq!(keys(&mut again).await, std::slice::from_ref(&writer));
    assert_eq!(again.value(&writer, 0).await, "foo");
}

pub(crate) async fn get_feed_by_key(cast: Cast) {
    let (side, _store) = cast.alone().await;
    let writer = side.ours().writer(None).await.unwrap();
    let bytes = FeedKey(writer.key().0);
    assert_eq!(side.ours().feed(&bytes), Some(writer.clone()));
    let hex = FeedKey::from_hex(&writer.key().to_hex()).unwrap();
    assert_eq!(side.ours().feed(&hex), Some(writer));
}

pub(crate) async fn get_localfeed_by_name(cast: Cast) {
    let (side, _store) = cast.alone().await;
    let bob = side.ours().writer("bob").await.unwrap();
    assert_eq!(side.ours().writer("bob").await.unwrap(), bob);
}

pub(crate) async fn replicate_two_multifeeds_one_empty(cast: Cast) {
    let [(mut one, _a), (mut two, _b)] = cast.both(&["--no-live"]).await;
    let writer = one.writer(None).await;
    connect(&mut one, &mut two, false).await;
    one.remote_feeds().await;
    two.remote_feeds().await;
    one.ended().await;
    two.ended().await;
    assert_eq!(keys(&mut one).await, std::slice::from_ref(&writer));
    assert_eq!(keys(&mut two).await, [writer]);
}

pub(crate) async fn replicate_two_empty_multifeeds(cast: Cast) {
    let [(mut one, _a), (mut two, _b)] = cast.both(&["--no-live"]).await;
    connect(&mut one, &mut two, false).await;
    for side in [&mut one, &mut two] {
        let silent = matches!(side, Side::JavaScript(_, package) if *package == "hypermultifeed");
        if !silent {
            assert_eq!(side.remote_feeds().await.unwrap_or(0), 0);
        }
    }
    one.ended().await;
    two.ended().await;
    assert_eq!(one.feeds().await, []);
    assert_eq!(two.feeds().await, []);
}

pub(crate) async fn replicate_two_multifeeds(cast: Cast) {
    two_multifeeds(cast, false, &["--no-live"]).await;
}

pub(crate) async fn live_replicate_two_multifeeds(cast: Cast) {
    two_multifeeds(cast, true, &[]).await;
}

pub(crate) async fn replicate_from_existing_protocols(cast: Cast) {
    two_multifeeds(cast, false, &["--no-live", "--existing-protocol"]).await;
}

pub(crate) async fn live_replicate_from_existing_protocols(cast: Cast) {
    two_multifeeds(cast, true, &["--existing-protocol"]).await;
}

/// Also what "start replicating before feeds are loaded" does.
pub(crate) async fn two_multifeeds(cast: Cast, live: bool, arguments: &[&str]) {
    let [(mut one, _a), (mut two, _b)] = cast.both(arguments).await;
    exchange_foo_and_bar(&mut one, &mut two, live).await;
}

async fn exchange_foo_and_bar(one: &mut Side, two: &mut Side, live: bool) {
    let first = setup(one, "foo").await;
    let second = setup(two, "bar").await;
    connect(one, two, live).await;
    for side in [&mut *one, &mut *two] {
        side.remote_feeds().await;
        side.wait_for_feeds(2).await;
        if live {
            side.in_sync().await;
        }
    }
    if !live {
        one.ended().await;
        two.ended().await;
    }
    let sides =
        [(one, [&first, &second], ["foo", "bar"]), (two, [&second, &first], ["bar", "foo"])];
    for (side, feeds, values) in sides {
        let listed = keys(side).await;
        assert_eq!(listed.iter().collect::<Vec<_>>(), feeds);
        for (key, value) in feeds.iter().zip(values) {
            assert_eq!(side.value(key, 0).await, value);
        }
        assert_eq!(side.feed_events(2).await, ["0", "1"]);
    }
}

/// The two open one folder, one after the other.
pub(crate) async fn get_localfeed_by_name_across_disk_loads(cast: Cast) {
    let store = cast.store();
    let mut first = cast.open(0, &store, &[]).await;
    let key = first.writer(Some("minuette")).await;
    first.close().await;
    let mut second = cast.open(1, &store, &[]).await;
    assert_eq!(second.writer(Some("minuette")).await, key);
    // And it is the same writer.
    second.append(&key, &["more".into()]).await;
    assert_eq!(keys(&mut second).await, std::slice::from_ref(&key));
    second.close().await;
    let mut third = cast.javascript(&store).await;
    assert_eq!(third.writer(Some("minuette")).await, key);
    assert_eq!(third.value(&key, 0).await, "more");
}

pub(crate) async fn close(cast: Cast) {
    let (side, store) = cast.alone().await;
    let multifeed = side.ours().clone();
    let writer = multifeed.writer("minuette").await.unwrap();
    assert_eq!(multifeed.feeds().len(), 1);
    multifeed.close().await.unwrap();
    assert_eq!(multifeed.feeds(), []);
    assert!(multifeed.feed(&writer.key()).is_none());
    assert_eq!(multifeed.writer("minuette").await.unwrap_err().code(), "ERR_CLOSED");
    fs::remove_dir_all(store.path()).unwrap();
}

/// The two open one folder, one after the other.
pub(crate) async fn close_after_double_open(cast: Cast) {
    let store = cast.store();
    let mut writers = Vec::new();
    for which in [0, 1] {
        let mut side = cast.open(which, &store, &[]).await;
        let writer = side.writer(Some("minuette")).await;
        side.append(&writer, &[json!({"type": "node"})]).await;
        writers.push(writer);
        side.close().await;
    }
    assert_eq!(writers[0], writers[1]);
    let mut third = cast.javascript(&store).await;
    for index in [0, 1] {
        assert_eq!(third.value(&writers[0], index).await, json!({"type": "node"}));
    }
    assert_eq!(third.feeds().await[0].length, 2);
    third.close().await;
    fs::remove_dir_all(store.path()).unwrap();
}

pub(crate) async fn can_provide_custom_encryption_key(cast: Cast) {
    // Both are told it by the same option as in the other cases; `peer.js` says `encryptionKey`.
    let key = root_key("a key of the application");
    let stores = [conformance::Store::new(&key), conformance::Store::new(&key)];
    let mut one = cast.open(0, &stores[0], &["--no-live"]).await;
    let mut two = cast.open(1, &stores[1], &["--no-live"]).await;
    let first = setup(&mut one, "foo").await;
    exchange(&mut one, &mut two).await;
    assert_eq!(two.value(&first, 0).await, "foo");
}

pub(crate) async fn replicate_slow_to_open_multifeeds(cast: Cast) {
    let stores = [cast.store(), cast.store()];
    let latency = Duration::from_millis(100);
    let mut one = open_slow(cast, 0, &stores[0], latency).await;
    let mut two = open_slow(cast, 1, &stores[1], latency).await;
    exchange_foo_and_bar(&mut one, &mut two, false).await;
}

pub(crate) async fn open_slow(
    cast: Cast,
    which: usize,
    store: &conformance::Store,
    latency: Duration,
) -> Side {
    Side::open_slow(cast.players[which], store, latency).await
}

pub(crate) async fn can_create_writer_with_custom_keypair(cast: Cast) {
    let (side, store) = cast.alone().await;
    let seed = root_key("the seed of moose");
    let secret = SecretKey::from_seed(RootKey::from_hex(&seed).unwrap().expose());
    let again = SecretKey::from_libsodium(&secret.to_libsodium()).unwrap();
    let writer = side.ours().writer_with_key("moose", again).await.unwrap();
    assert_eq!(writer.key(), secret.public());
    writer.append(multifeed_tokio::encoding::json("foo").unwrap()).await.unwrap();
    assert_eq!(writer.get(0).await.unwrap(), "\"foo\"\n");
    assert_eq!(side.ours().feeds(), [writer]);
    side.close().await;
    // The secret key is in the folder, as JavaScript writes it, and JavaScript goes on with it.
    if cast.family == Family::Multifeed6 {
        let file = fs::read(store.path().join("0/secret_key")).unwrap();
        assert_eq!(file, secret.to_libsodium()[..]);
    }
    let mut third = cast.javascript(&store).await;
    let key = secret.public().to_hex();
    assert_eq!(third.writer(Some("moose")).await, key);
    third.append(&key, &["bar".into()]).await;
    assert_eq!(third.value(&key, 0).await, "foo");
    assert_eq!(third.value(&key, 1).await, "bar");
}

pub(crate) async fn can_replicate_with_custom_keypairs(cast: Cast) {
    let [(mut one, _a), (mut two, _b)] = cast.both(&["--no-live"]).await;
    let seeds = [root_key("first seed"), root_key("second seed")];
    let mut made = Vec::new();
    for ((side, seed), value) in [&mut one, &mut two].into_iter().zip(&seeds).zip(["foo", "bar"]) {
        let secret = SecretKey::from_seed(RootKey::from_hex(seed).unwrap().expose());
        let key = side.writer_with_key("local", seed).await;
        assert_eq!(key, secret.public().to_hex());
        side.append(&key, &[value.into()]).await;
        assert_eq!(side.value(&key, 0).await, value);
        made.push(key);
    }
    exchange(&mut one, &mut two).await;
    for side in [&mut one, &mut two] {
        assert_eq!(side.feeds().await.len(), 2);
        assert_eq!(side.value(&made[0], 0).await, "foo");
        assert_eq!(side.value(&made[1], 0).await, "bar");
    }
    if let Side::Rust(_) = one {
        assert_eq!(keys(&mut one).await, made, "the order of joining");
    }
}
