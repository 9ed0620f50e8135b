//! Our library (`multifeed-tokio`) and live JavaScript peers.

#![allow(clippy::unwrap_used, missing_docs)]

use std::net::Ipv4Addr;
use std::time::Duration;

use conformance::{Contents, Held, JsPeer, Store, block, contents, root_key};
use multifeed_proto::{Config, Connection, Entropy, Now, Output};
use multifeed_tokio::{Feed, Multifeed, ReplicationEvent, Role};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_rust_adds_while_connected_reaches_javascript() {
    let key = root_key("added by rust");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    let mut peer = js.javascript();
    let theirs = peer.write("theirs", 10, &[10]);
    let multifeed = rust.open().await;
    let early = written(&multifeed, "early", 5, 100).await;
    replicate_until_in_sync(&multifeed, peer.listen()).await;

    let late = written(&multifeed, "late", 20, 1_000).await;
    written(&multifeed, "early", 7, 100).await;
    let empty = written(&multifeed, "empty", 0, 0).await;
    let expected = Contents::from([
        (theirs, Held::written("theirs", 10, &[10])),
        (early.key().to_hex(), Held::written("early", 12, &[100])),
        (late.key().to_hex(), Held::written("late", 20, &[1_000])),
        (empty.key().to_hex(), Held::written("empty", 0, &[])),
    ]);
    peer.wait_for(&expected);
    assert_eq!(contents(&multifeed).await, expected);
    multifeed.close().await.unwrap();
    peer.close();
    assert_eq!(js.javascript_contents(), expected, "what reached the files");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_multifeed_has_no_feeds_any_more_in_rust_as_in_javascript() {
    let key = root_key("closed");
    for package in ["hypermultifeed", "multifeed"] {
        let (js, rust) = (Store::new(&key), Store::new(&key));
        let mut peer = js.javascript_of(package);
        peer.write("w", 1, &[10]);
        let closed = peer.call(json!({"do": "close"}));
        assert_eq!(closed["feeds"], json!([0]), "{package}");
        let multifeed = rust.open().await;
        written(&multifeed, "w", 1, 10).await;
        multifeed.close().await.unwrap();
        assert_eq!(multifeed.feeds().len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_with_another_root_key_that_hangs_up_first_has_left_without_a_handshake() {
    let (right, wrong) = (root_key("right"), root_key("wrong"));
    for package in ["hypermultifeed", "multifeed"] {
        for role in [Role::Initiator, Role::Responder] {
            let (js, rust) = (Store::new(&right), Store::new(&wrong));
            // Ours is 10 seconds.
            let arguments = ["--package", package, "--timeout", "1000"];
            let mut peer = JsPeer::open(&js.path(), &right, &arguments);
            let multifeed = rust.open().await;
            let stream = match role {
                Role::Initiator => TcpStream::connect((Ipv4Addr::LOCALHOST, peer.listen())).await,
                Role::Responder => {
                    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                    peer.connect(listener.local_addr().unwrap().port());
                    listener.accept().await.map(|(stream, _)| stream)
                }
            };
            let replication = multifeed.replicate(stream.unwrap(), role);
            let result = timeout(PATIENCE, replication).await.expect("the end");
            let error = result.expect_err("nothing was agreed on");
            assert_eq!(error.code(), "ERR_PEER_LEFT", "{package} {role:?}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_hears_no_reason_from_a_peer_that_leaves_before_its_handshake_and_rust_names_it()
{
    let key = root_key("leaves");
    for package in ["hypermultifeed", "multifeed"] {
        let js = Store::new(&key);
        let mut peer = js.javascript_of(package);
        leave_after_noise(TcpStream::connect((Ipv4Addr::LOCALHOST, peer.listen())).await.unwrap())
            .await;
        let closed = peer.process().expect_event("closed");
        assert_eq!(closed["errors"], json!([]), "{package}");
    }
    let rust = Store::new(&key);
    let multifeed = rust.open().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let leaving = tokio::spawn(leave_after_noise(stream));
    let replication = multifeed.replicate(listener.accept().await.unwrap().0, Role::Responder);
    let error = timeout(PATIENCE, replication).await.expect("the end").unwrap_err();
    assert_eq!(error.code(), "ERR_PEER_LEFT");
    leaving.await.unwrap();
}

/// A peer without a multifeed: connects, and ends its side in order.
async fn leave_after_noise(mut stream: TcpStream) {
    let start = Now::default();
    let mut connection =
        Connection::new(Role::Initiator, Config::default(), Entropy::from_seed([5; 32]), start);
    let mut buffer = [0; 1_000];
    let mut connected = false;
    loop {
        while let Some(output) = connection.poll_output() {
            connected |= matches!(output, Output::Connected { .. });
        }
        let bytes = connection.transmit().to_vec();
        stream.write_all(&bytes).await.unwrap();
        connection.transmitted(start, bytes.len());
        if connected {
            stream.shutdown().await.unwrap();
            // What the other side says meanwhile, to its end.
            let _reset_or_end = stream.read_to_end(&mut Vec::new()).await;
            return;
        }
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the end before the handshake");
        connection.handle_bytes(start, &buffer[..count]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_javascript_appends_while_connected_come_in_order() {
    let key = root_key("appended live");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    let mut peer = js.javascript();
    let writer = peer.write("w", 1, &[30]);
    let multifeed = rust.open().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    peer.connect(listener.local_addr().unwrap().port());
    let stream = listener.accept().await.unwrap().0;
    tokio::spawn(multifeed.replicate(stream, Role::Responder));
    let feed = feed_of(&multifeed, &writer).await;
    let mut blocks = feed.subscribe(..);
    for length in 1..50 {
        let next = timeout(PATIENCE, blocks.next()).await.expect("a block in time");
        assert_eq!(next.unwrap().unwrap(), block("w", length - 1, 30));
        peer.write("w", 1, &[30]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_append_at_the_same_time_and_agree_in_the_end() {
    let key = root_key("both append");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    let mut peer = js.javascript();
    let multifeed = rust.open().await;
    let theirs = peer.write("theirs", 1, &[100]);
    let ours = written(&multifeed, "ours", 1, 100).await;
    replicate_until_in_sync(&multifeed, peer.listen()).await;
    let mut length = 1;
    for _ in 0..10 {
        let batch = (length..length + 100).map(|index| block("ours", index, 100));
        ours.append_batch(batch).await.unwrap();
        length += 100;
        peer.write("theirs", 100, &[100]);
    }
    let expected = Contents::from([
        (theirs.clone(), Held::written("theirs", 1_001, &[100])),
        (ours.key().to_hex(), Held::written("ours", 1_001, &[100])),
    ]);
    peer.wait_for(&expected);
    let last = feed_of(&multifeed, &theirs).await;
    for index in 0..1_001 {
        last.get(index).timeout(PATIENCE).await.unwrap();
    }
    assert_eq!(contents(&multifeed).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_store_syncs_with_three_javascript_peers_at_once() {
    let key = root_key("three at once");
    let stores: Vec<_> = (0..3).map(|_| Store::new(&key)).collect();
    let rust = Store::new(&key);
    let mut expected = Contents::new();
    let mut peers: Vec<JsPeer> = stores.iter().map(Store::javascript).collect();
    for (number, peer) in peers.iter_mut().enumerate() {
        let name = format!("w{number}");
        let sizes = [100, 0, 5_000];
        expected.insert(peer.write(&name, 300, &sizes), Held::written(&name, 300, &sizes));
    }
    let multifeed = rust.open().await;
    for peer in &mut peers {
        replicate(&multifeed, peer.listen()).await;
    }
    for peer in &mut peers {
        peer.wait_for(&expected);
    }
    assert_eq!(contents(&multifeed).await, expected);
}

/// Appends `count` blocks to the writer `name`.
async fn written(multifeed: &Multifeed, name: &str, count: u64, size: usize) -> Feed {
    let feed = multifeed.writer(name).await.unwrap();
    let start = feed.load().await.unwrap().length;
    for index in start..start + count {
        assert_eq!(feed.append(block(name, index, size)).await.unwrap(), index);
    }
    feed
}

/// Connects and goes on replicating until the store closes.
async fn replicate(multifeed: &Multifeed, port: u16) -> oneshot::Receiver<()> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut replication = multifeed.replicate(stream, Role::Initiator);
    let (in_sync, when) = oneshot::channel();
    tokio::spawn(async move {
        let mut in_sync = Some(in_sync);
        while let Some(event) = replication.next().await {
            if matches!(event, ReplicationEvent::InSync) {
                in_sync.take().map(|sender| sender.send(()));
            }
        }
    });
    when
}

async fn replicate_until_in_sync(multifeed: &Multifeed, port: u16) {
    let in_sync = replicate(multifeed, port).await;
    timeout(PATIENCE, in_sync).await.expect("in sync in time").expect("the connection stays");
}

/// The feed with this key (hex), as soon as the store knows it.
async fn feed_of(multifeed: &Multifeed, key: &str) -> Feed {
    let mut events = multifeed.events();
    let found = async {
        loop {
            if let Some(feed) =
                multifeed.feeds().into_iter().find(|feed| feed.key().to_hex() == key)
            {
                return feed;
            }
            events.next().await.expect("the store is open");
        }
    };
    timeout(PATIENCE, found).await.expect("the feed in time")
}
