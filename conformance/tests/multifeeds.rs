//! Several multifeeds in one store and on one connection, with live JavaScript peers.

#![allow(clippy::unwrap_used, missing_docs)]

use std::net::Ipv4Addr;
use std::time::Duration;

use conformance::{Contents, Held, JsPeer, Store, block, contents, root_key};
use multifeed_tokio::{
    Multifeed, Options, PeerError, Replication, ReplicationEvent, Role, RootKey,
    Store as RustStore, SyncState,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
enum Connects {
    Rust,
    JavaScript,
}

#[tokio::test(flavor = "multi_thread")]
async fn two_multifeeds_on_one_stream_when_rust_connects() {
    two_multifeeds_on_one_stream(Connects::Rust).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_multifeeds_on_one_stream_when_javascript_connects() {
    two_multifeeds_on_one_stream(Connects::JavaScript).await;
}

async fn two_multifeeds_on_one_stream(connects: Connects) {
    let keys = [root_key("first of two"), root_key("second of two")];
    let (js, rust) = (Store::new(&keys[0]), Store::new(&keys[0]));
    let mut peer = js.javascript_with(&keys[1]);
    let (store, multifeeds) = open(&rust, &keys).await;
    let mut expected = [Contents::new(), Contents::new()];
    for at in 0..2 {
        let blocks = 20 + at as u64;
        peer.select(at);
        let theirs = peer.write("theirs", blocks, &[100, 0]);
        expected[at].insert(theirs, Held::written("theirs", blocks, &[100, 0]));
        let ours = append(&multifeeds[at], "ours", 0..blocks).await;
        expected[at].insert(ours, Held::written("ours", blocks, &[50]));
    }
    let mut replication = connect(&mut peer, &store, connects).await;
    until(&mut replication, |event| matches!(event, ReplicationEvent::InSync)).await;
    for multifeed in &multifeeds {
        assert_eq!(replication.sync_state_of(multifeed), SyncState::InSync);
    }
    tokio::spawn(replication);
    for at in 0..2 {
        peer.select(at);
        peer.wait_for(&expected[at]);
        assert_eq!(contents(&multifeeds[at]).await, expected[at], "multifeed {at}");
    }
    // A feed that joins one is not offered in the other.
    peer.select(1);
    let late = peer.write("late", 3, &[10]);
    expected[1].insert(late.clone(), Held::written("late", 3, &[10]));
    wait_for_feed(&multifeeds[1], &late, 3).await;
    assert_eq!(contents(&multifeeds[0]).await, expected[0]);
    assert_eq!(contents(&multifeeds[1]).await, expected[1]);
    store.close().await.unwrap();
    peer.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_multifeed_that_javascript_lacks_fails_alone() {
    let keys = [root_key("known"), root_key("unknown to them")];
    let (js, rust) = (Store::new(&keys[0]), Store::new(&keys[0]));
    let mut peer = js.javascript();
    let (store, multifeeds) = open(&rust, &keys).await;
    let theirs = peer.write("theirs", 5, &[100]);
    let mut expected = Contents::from([(theirs.clone(), Held::written("theirs", 5, &[100]))]);
    let mut replication = connect(&mut peer, &store, Connects::Rust).await;
    let failed =
        until(&mut replication, |event| matches!(event, ReplicationEvent::MultifeedFailed { .. }));
    let ReplicationEvent::MultifeedFailed { multifeed, error } = failed.await else {
        unreachable!("it was waited for")
    };
    assert_eq!((multifeed, error), (multifeeds[1].id(), PeerError::MultifeedTimeout));
    until(&mut replication, |event| matches!(event, ReplicationEvent::InSync)).await;
    tokio::spawn(replication);
    // The connection is as good as before.
    peer.write("theirs", 5, &[100]);
    expected.insert(theirs.clone(), Held::written("theirs", 10, &[100]));
    wait_for_feed(&multifeeds[0], &theirs, 10).await;
    assert_eq!(contents(&multifeeds[0]).await, expected);

    // And once they have it, it is taken up.
    peer.join(&keys[1]);
    peer.select(1);
    let late = peer.write("late", 7, &[100]);
    wait_for_feed(&multifeeds[1], &late, 7).await;
    let ours = append(&multifeeds[1], "ours", 0..4).await;
    let expected = Contents::from([
        (late, Held::written("late", 7, &[100])),
        (ours, Held::written("ours", 4, &[50])),
    ]);
    peer.wait_for(&expected);
    assert_eq!(contents(&multifeeds[1]).await, expected);
    store.close().await.unwrap();
    peer.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_multifeed_that_rust_attaches_late_is_exchanged() {
    let keys = [root_key("early"), root_key("attached late")];
    let (js, rust) = (Store::new(&keys[0]), Store::new(&keys[0]));
    let mut peer = js.javascript_with(&keys[1]);
    peer.select(1);
    let theirs = peer.write("theirs", 5, &[100]);
    let (store, multifeeds) = open(&rust, &keys).await;
    let port = peer.listen();
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let mut replication = multifeeds[0].replicate(stream, Role::Initiator);
    until(&mut replication, |event| matches!(event, ReplicationEvent::InSync)).await;
    assert_eq!(replication.sync_state_of(&multifeeds[1]), SyncState::Closed);
    assert_eq!(contents(&multifeeds[1]).await, Contents::new());
    replication.attach(&multifeeds[1]).unwrap();
    let id = multifeeds[1].id();
    until(&mut replication, |event| {
        matches!(event, ReplicationEvent::MultifeedInSync { multifeed } if *multifeed == id)
    })
    .await;
    let expected = Contents::from([(theirs, Held::written("theirs", 5, &[100]))]);
    assert_eq!(contents(&multifeeds[1]).await, expected);
    drop(replication);
    store.close().await.unwrap();
    peer.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_two_multifeeds_is_continued_by_either_implementation() {
    let keys = [root_key("one of a directory"), root_key("other of a directory")];
    let directory = Store::new(&keys[0]);
    let (store, multifeeds) = open(&directory, &keys).await;
    let mut expected = [Contents::new(), Contents::new()];
    for (at, multifeed) in multifeeds.iter().enumerate() {
        let key = append(multifeed, "w", 0..5).await;
        expected[at].insert(key, Held::written("w", 8, &[50]));
    }
    store.close().await.unwrap();
    let mut peer = directory.javascript_with(&keys[1]);
    for (at, expected) in expected.iter().enumerate() {
        peer.select(at);
        peer.write("w", 3, &[50]);
        assert_eq!(peer.contents(), *expected);
    }
    peer.close();
    let (store, multifeeds) = open(&directory, &keys).await;
    for (at, multifeed) in multifeeds.iter().enumerate() {
        assert_eq!(contents(multifeed).await, expected[at]);
    }
    store.close().await.unwrap();
}

async fn open(directory: &Store, keys: &[String; 2]) -> (RustStore, [Multifeed; 2]) {
    let store = RustStore::open(directory.path(), Options::default()).await.unwrap();
    let [first, second] = keys.each_ref().map(|key| RootKey::from_hex(key).unwrap());
    let multifeeds =
        [store.multifeed(first).await.unwrap(), store.multifeed(second).await.unwrap()];
    (store, multifeeds)
}

/// Appends blocks of 50 bytes; gives the key.
async fn append(multifeed: &Multifeed, writer: &str, blocks: std::ops::Range<u64>) -> String {
    let feed = multifeed.writer(writer).await.unwrap();
    feed.append_batch(blocks.map(|index| block(writer, index, 50))).await.unwrap();
    feed.key().to_hex()
}

async fn connect(
    peer: &mut JsPeer,
    store: &RustStore,
    connects: Connects,
) -> Replication<TcpStream> {
    match connects {
        Connects::Rust => {
            let port = peer.listen();
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            store.replicate(stream, Role::Initiator)
        }
        Connects::JavaScript => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            peer.connect(listener.local_addr().unwrap().port());
            store.replicate(listener.accept().await.unwrap().0, Role::Responder)
        }
    }
}

/// Runs the connection until this event.
async fn until(
    replication: &mut Replication<TcpStream>,
    wanted: impl Fn(&ReplicationEvent) -> bool,
) -> ReplicationEvent {
    let found = async {
        loop {
            let event = replication.next().await.expect("the connection goes on");
            if wanted(&event) {
                return event;
            }
            let closed = matches!(event, ReplicationEvent::Closed { .. });
            assert!(!closed, "the connection ended: {event:?}");
        }
    };
    timeout(PATIENCE, found).await.expect("the event in time")
}

/// Waits until a feed has so many blocks.
async fn wait_for_feed(multifeed: &Multifeed, key: &str, length: u64) {
    let mut events = multifeed.events();
    let found = async {
        loop {
            let feed = multifeed.feeds().into_iter().find(|feed| feed.key().to_hex() == key);
            if let Some(feed) = feed {
                for index in 0..length {
                    feed.get(index).await.unwrap();
                }
                return;
            }
            events.next().await.expect("the store is open");
        }
    };
    timeout(PATIENCE, found).await.expect("the feed in time");
}
