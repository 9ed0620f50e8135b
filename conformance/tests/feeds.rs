//! What a single feed can do, with live JavaScript peers: the library as the one that asks, and as the one
//! that is asked.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

use std::net::Ipv4Addr;
use std::time::Duration;

use conformance::{Held, JsPeer, Store, block, json_u64, root_key};
use multifeed_tokio::{
    Event, Feed, Multifeed, Options, ReplicationEvent, ReplicationOptions, Role, RootKey, encoding,
};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);
const SIZES: [usize; 3] = [100, 7, 1_000];

/// A JavaScript peer that serves a writer of `blocks` blocks, and our store, connected and in sync.
struct Setup {
    peer: JsPeer,
    multifeed: Multifeed,
    theirs: Feed,
    key: String,
    _stores: (Store, Store),
}

/// The index of the block with the byte `byte`, and how far into it.
fn place(mut byte: u64) -> (u64, u64) {
    let mut index = 0;
    loop {
        let size = SIZES[index as usize % SIZES.len()] as u64;
        if byte < size {
            return (index, byte);
        }
        byte -= size;
        index += 1;
    }
}

async fn setup(name: &str, blocks: u64, sparse: bool) -> Setup {
    let root = root_key(name);
    let (js, rust) = (Store::new(&root), Store::new(&root));
    let mut peer = js.javascript();
    let key = peer.write("w", blocks, &SIZES);
    let options = Options::default().root_key(RootKey::from_hex(&root).unwrap()).sparse(sparse);
    let multifeed = Multifeed::open(rust.path(), options).await.unwrap();
    replicate(&multifeed, peer.listen()).await;
    let theirs =
        multifeed.feeds().into_iter().find(|feed| feed.key().to_hex() == key).expect("the feed");
    theirs.load().await.unwrap();
    Setup { peer, multifeed, theirs, key, _stores: (js, rust) }
}

/// The same the other way round: our writer, and a JavaScript peer that is sparse.
async fn serving(name: &str, blocks: u64, sparse: bool) -> Setup {
    let root = root_key(name);
    let (js, rust) = (Store::new(&root), Store::new(&root));
    let mut peer = JsPeer::open(&js.path(), &root, if sparse { &["--sparse"] } else { &[] });
    let multifeed = rust.open().await;
    let ours = multifeed.writer("w").await.unwrap();
    let size = |index: u64| SIZES[index as usize % SIZES.len()];
    ours.append_batch((0..blocks).map(|index| block("w", index, size(index)))).await.unwrap();
    let key = ours.key().to_hex();
    replicate(&multifeed, peer.listen()).await;
    let known = peer.wait(1, &std::collections::BTreeMap::new());
    peer.finish(known);
    Setup { peer, multifeed, theirs: ours, key, _stores: (js, rust) }
}

/// Connects and goes on replicating until the store closes; waits until the two are in sync.
async fn replicate(multifeed: &Multifeed, port: u16) {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut replication = multifeed.replicate(stream, Role::Initiator);
    let (in_sync, when) = oneshot::channel();
    tokio::spawn(async move {
        let mut in_sync = Some(in_sync);
        while let Some(event) = replication.next().await {
            match event {
                ReplicationEvent::InSync => {
                    in_sync.take().map(|sender| sender.send(()));
                }
                ReplicationEvent::Closed { result } => result.expect("an orderly end"),
                _ => {}
            }
        }
    });
    timeout(PATIENCE, when).await.expect("in sync in time").expect("the connection stays");
}

fn size(index: u64) -> usize {
    SIZES[index as usize % SIZES.len()]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sparse_feed_fetches_from_javascript_what_is_asked_for() {
    let setup = setup("sparse rust", 3_000, true).await;
    let theirs = &setup.theirs;
    assert_eq!(theirs.info().blocks, 0);
    let length = timeout(PATIENCE, theirs.update(Some(3_000))).await.unwrap().unwrap();
    assert_eq!((length, theirs.info().blocks), (3_000, 0));
    for index in [2_999, 0, 1_500, 1_501] {
        let found = theirs.get(index).timeout(PATIENCE).await.unwrap();
        assert_eq!(found, block("w", index, size(index)));
    }
    timeout(PATIENCE, theirs.download(100..400)).await.unwrap().unwrap();
    assert_eq!(theirs.info().blocks, 304);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_here_by_has_where_they_are_in_javascript() {
    let Setup { mut peer, theirs: feed, key, multifeed: _multifeed, _stores } =
        setup("has", 60, false).await;
    peer.call(json!({"do": "clear", "key": key, "start": 10, "end": 20}));
    feed.clear(10..20).await.unwrap();
    for index in [0, 9, 10, 19, 20, 59, 60, 1_000_000] {
        let answer = peer.call(json!({"do": "has", "key": key, "start": index}));
        assert_eq!(answer["has"], feed.has(index).await.unwrap(), "block {index}");
    }
    for (start, end) in [(0, 10), (0, 11), (9, 20), (20, 60), (20, 61), (15, 15), (70, 70)] {
        let answer = peer.call(json!({"do": "has", "key": key, "start": start, "end": end}));
        assert_eq!(answer["has"], feed.has_all(start..end).await.unwrap(), "{start}..{end}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wanted_only_if_available_ends_here_as_in_javascript() {
    // JavaScript asks, and we have it or not.
    let Setup { mut peer, key, multifeed: _multifeed, _stores, .. } =
        serving("if available js", 100, true).await;
    let update =
        |length| json!({"do": "update", "key": key, "length": length, "ifAvailable": true});
    let get = |index| json!({"do": "get", "key": key, "index": index, "ifAvailable": true});
    assert_eq!(json_u64(&peer.call(update(100)), "length"), 100);
    peer.call(get(99));
    for (command, reason) in [
        (update(101), "No update available from peers"),
        (get(100), "Block not available from peers"),
    ] {
        let _failing = peer.begin(command);
        let failed = peer.process().expect_event("failed");
        assert_eq!(failed["message"], reason);
    }
    // We ask, and JavaScript has it or not.
    let setup = setup("if available rust", 100, true).await;
    let theirs = &setup.theirs;
    let length = timeout(PATIENCE, theirs.update_if_available(Some(100))).await.unwrap();
    assert_eq!(length.unwrap(), 100);
    theirs.get(99).if_available().await.unwrap();
    let update = timeout(PATIENCE, theirs.update_if_available(None)).await.unwrap().unwrap_err();
    let get = theirs.get(100).timeout(PATIENCE).if_available().await.unwrap_err();
    assert_eq!([update.code(), get.code()], ["ERR_NOT_AVAILABLE"; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_and_uploads_of_a_feed_are_told_of_here_as_in_javascript() {
    const EVENTS: [&str; 3] = ["peer-open", "upload", "peer-remove"];
    let root = root_key("peer events");
    let (js, rust) = (Store::new(&root), Store::new(&root));
    let mut peer = js.javascript();
    let theirs = peer.write("theirs", 50, &SIZES);
    peer.call(json!({"do": "watch", "key": theirs, "events": EVENTS}));
    let options =
        Options::default().root_key(RootKey::from_hex(&root).unwrap()).upload_events(true);
    let multifeed = Multifeed::open(rust.path(), options).await.unwrap();
    let ours = multifeed.writer("ours").await.unwrap();
    ours.append_batch((0..50).map(|index| block("ours", index, size(index)))).await.unwrap();
    let mut events = multifeed.events();
    replicate(&multifeed, peer.listen()).await;
    let expected = conformance::Contents::from([
        (theirs.clone(), Held::written("theirs", 50, &SIZES)),
        (ours.key().to_hex(), Held::written("ours", 50, &SIZES)),
    ]);
    peer.wait_for(&expected);
    peer.disconnect();
    let (mut opened, mut uploaded, mut closed) = (0, Vec::new(), 0);
    while closed == 0 {
        let event = timeout(PATIENCE, events.next()).await.expect("in time").expect("it is open");
        match event {
            Event::PeerOpened { key, .. } if key == ours.key() => opened += 1,
            Event::PeerClosed { key, .. } if key == ours.key() => closed += 1,
            Event::Uploaded { key, start, length, .. } if key == ours.key() => {
                uploaded.extend(start..start + length);
            }
            _ => {}
        }
    }
    uploaded.sort_unstable();
    assert_eq!((opened, uploaded), (1, (0..50).collect::<Vec<_>>()));
    let counts = peer.call(json!({"do": "counts", "key": theirs}));
    assert_eq!(counts["counts"], json!({"peer-open": 1, "upload": 50, "peer-remove": 1}));
}

#[tokio::test(flavor = "multi_thread")]
async fn seeks_are_answered_by_javascript() {
    let setup = setup("seek rust", 1_000, true).await;
    let theirs = &setup.theirs;
    timeout(PATIENCE, theirs.update(Some(1_000))).await.unwrap().unwrap();
    let bytes = theirs.info().bytes;
    for byte in [0, 1, 99, 100, 107, 5_000, bytes / 2, bytes / 2, bytes - 1] {
        let found = timeout(PATIENCE, theirs.seek(byte)).await.expect("in time").unwrap();
        assert_eq!(found, place(byte), "byte {byte} of {bytes}");
    }
    assert_eq!(theirs.seek(bytes).await.unwrap(), (1_000, 0));
    assert_eq!(theirs.info().blocks, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sparse_javascript_peer_gets_updates_and_seeks_from_us() {
    let Setup { mut peer, theirs: ours, key, multifeed: _multifeed, _stores } =
        serving("sparse js", 1_000, true).await;
    let answer = peer.call(json!({"do": "update", "key": key, "length": 1_000}));
    assert_eq!(json_u64(&answer, "length"), 1_000);
    let bytes = ours.info().bytes;
    for byte in [0, 1, 99, 100, 107, 5_000, bytes / 2, bytes - 1] {
        let answer = peer.call(json!({"do": "seek", "key": key, "bytes": byte}));
        let found = (json_u64(&answer, "index"), json_u64(&answer, "offset"));
        assert_eq!(found, place(byte), "byte {byte} of {bytes}");
    }
    for index in [999, 0, 500] {
        let answer = peer.call(json!({"do": "get", "key": key, "index": index}));
        let expected: String =
            block("w", index, size(index)).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(answer["value"], expected, "block {index}");
    }
    peer.call(json!({"do": "download", "key": key, "start": 10, "end": 40}));
    let held = &peer.contents()[&key];
    assert_eq!(held.ranges, [(0, 1), (10, 40), (500, 501), (999, 1_000)]);
    peer.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_takes_a_clear_of_ours_and_we_take_one_of_its() {
    let Setup { mut peer, multifeed, theirs, key, _stores } = setup("clear", 60, false).await;
    assert_eq!(theirs.info().blocks, 60);
    theirs.clear(10..20).await.unwrap();
    peer.call(json!({"do": "clear", "key": key, "start": 30, "end": 40}));
    theirs.clear(35..36).await.unwrap();
    assert_eq!(theirs.info().blocks, 49);
    // The peer still has block 12, and has 35 no more.
    let found = theirs.get(12).timeout(PATIENCE).await.unwrap();
    assert_eq!(found, block("w", 12, size(12)));
    let gone = theirs.get(35).timeout(Duration::from_millis(300)).await;
    assert!(gone.is_err(), "nobody has it");
    // All goes on.
    peer.write("w", 1, &[5]);
    theirs.get(60).timeout(PATIENCE).await.unwrap();
    assert_eq!(peer.contents()[&key].ranges, [(0, 30), (40, 61)]);
    multifeed.close().await.unwrap();
    peer.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_opens_a_store_of_ours_with_cleared_blocks() {
    let Setup { mut peer, multifeed, theirs: ours, key, _stores: (js, rust) } =
        serving("cleared files", 2_000, false).await;
    let all = Held::written("w", 2_000, &SIZES);
    peer.wait_for(&std::collections::BTreeMap::from([(key.clone(), all)]));
    let before = space(rust.path().as_ref());
    ours.clear(500..1_500).await.unwrap();
    let after = space(rust.path().as_ref());
    let cleared: u64 = (500..1_500).map(|index| size(index) as u64).sum();
    if cfg!(target_os = "linux") {
        assert!(before - after > cleared / 2, "{before} before, {after} after");
    }
    multifeed.close().await.unwrap();
    peer.close();
    let expected = Held::some(
        2_000,
        (0..500).chain(1_500..2_000).map(|index| (index, block("w", index, size(index)))),
    );
    assert_eq!(rust.javascript_contents()[&key], expected, "our files, read by JavaScript");
    assert_eq!(js.javascript_contents()[&key].blocks(), 2_000, "the reader keeps them");
}

/// Space that the files of a folder take, in bytes.
fn space(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let taken = entries.map(|entry| match entry.metadata().unwrap() {
        found if found.is_dir() => space(&entry.path()),
        found => std::os::unix::fs::MetadataExt::blocks(&found) * 512,
    });
    taken.sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn switches_stop_and_resume_blocks_in_both_directions() {
    let Setup { mut peer, theirs, key, multifeed: _multifeed, _stores } =
        setup("switches", 10, false).await;
    let switch = |peer: &mut JsPeer, upload: bool| {
        let (key, download) = (&key, false);
        peer.call(json!({"do": "transfer", "key": key, "upload": upload, "download": download}));
    };
    switch(&mut peer, false);
    peer.write("w", 1, &[50]);
    assert!(
        theirs.get(10).timeout(Duration::from_millis(500)).await.is_err(),
        "it does not upload"
    );
    switch(&mut peer, true);
    theirs.get(10).timeout(PATIENCE).await.unwrap();
    theirs.set_transfer(true, false);
    peer.write("w", 1, &[50]);
    assert!(
        theirs.get(11).timeout(Duration::from_millis(500)).await.is_err(),
        "we do not download"
    );
    theirs.set_transfer(true, true);
    theirs.get(11).timeout(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_of_feeds_and_of_the_stream_reach_the_other_side() {
    let root = root_key("extensions");
    let (js, rust) = (Store::new(&root), Store::new(&root));
    let mut peer = js.javascript();
    let key = peer.write("w", 1, &[10]);
    peer.call(json!({"do": "register", "name": "peer-id"}));
    let multifeed = rust.open().await;
    for name in ["another", "peer-id"] {
        multifeed.register_extension(name).unwrap();
    }
    replicate(&multifeed, peer.listen()).await;
    let theirs = multifeed.feeds().into_iter().next().expect("the feed");
    assert_eq!(theirs.key().to_hex(), key);
    theirs.register_extension("note").unwrap();
    theirs.register_extension("aaa").unwrap();
    peer.call(json!({"do": "register", "name": "note", "key": key}));
    let mut events = multifeed.events();
    // The peer drops what comes before it knows our names: we sent them before this message.
    assert_eq!(multifeed.send_extension(None, "peer-id", "rust").unwrap(), 1);
    assert_eq!(theirs.send_extension(None, "note", "from rust").unwrap(), 1);
    for expected in ["rust", "from rust"] {
        let event = peer.process().expect_event("extension");
        assert_eq!(event["message"], expected);
    }
    peer.call(json!({"do": "extend", "name": "peer-id", "message": "js"}));
    peer.call(json!({"do": "extend", "name": "note", "key": key, "message": "from js"}));
    for expected in ["js", "from js"] {
        let message = async {
            loop {
                if let Some(Event::Extension { payload, .. }) = events.next().await {
                    return payload.0;
                }
            }
        };
        assert_eq!(timeout(PATIENCE, message).await.expect("in time"), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_javascript_that_is_not_live_ends_with_everything_on_both_sides() {
    let root = root_key("not live");
    let (js, rust) = (Store::new(&root), Store::new(&root));
    let mut peer = js.javascript();
    let theirs = peer.write("theirs", 500, &SIZES);
    let multifeed = rust.open().await;
    let ours = multifeed.writer("ours").await.unwrap();
    ours.append_batch((0..300).map(|index| block("ours", index, size(index)))).await.unwrap();
    let expected = conformance::Contents::from([
        (theirs, Held::written("theirs", 500, &SIZES)),
        (ours.key().to_hex(), Held::written("ours", 300, &SIZES)),
    ]);
    let port = peer.listen();
    for _ in 0..2 {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let options = ReplicationOptions { live: false, ..ReplicationOptions::default() };
        let replication = multifeed.replicate_with(stream, Role::Initiator, options);
        timeout(PATIENCE, replication).await.expect("ends in time").expect("in order");
        let closed = peer.process().expect_event("closed");
        assert_eq!(closed["errors"], json!([]));
        assert_eq!(conformance::contents(&multifeed).await, expected);
        assert_eq!(peer.contents(), expected);
    }
    multifeed.close().await.unwrap();
    peer.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn json_and_text_blocks_are_those_of_javascript_in_both_directions() {
    let Setup { mut peer, multifeed, theirs: ours, key, _stores } =
        serving("encodings", 0, false).await;
    let values = [
        json!({"a": [1.5, 1e21, -0.25, 100], "none": [], "text": "\u{e9}\u{1f600}\"\n"}),
        json!(null),
        json!("text"),
    ];
    let mut events = multifeed.events();
    let written = peer.call(json!({"do": "writeValues", "writer": "values", "values": values}));
    let theirs = timeout(PATIENCE, async {
        loop {
            let feeds = multifeed.feeds().into_iter();
            let mut found = feeds.filter(|feed| written["key"] == feed.key().to_hex());
            if let Some(feed) = found.next() {
                return feed;
            }
            events.next().await.expect("the store is open");
        }
    });
    let theirs = theirs.await.expect("the feed in time");
    for (index, value) in (0..).zip(&values) {
        let block = theirs.get(index).timeout(PATIENCE).await.unwrap();
        assert_eq!(encoding::json(value).unwrap(), block, "block {index} is written alike");
        assert_eq!(&encoding::from_json::<serde_json::Value>(&block).unwrap(), value);
        ours.append(block).await.unwrap();
    }
    ours.append("t\u{e9}xt").await.unwrap();
    for (index, value) in (0..).zip(&values) {
        let read = json!({"do": "getValue", "key": key, "index": index, "encoding": "json"});
        assert_eq!(&peer.call(read)["value"], value, "block {index}");
    }
    let read = json!({"do": "getValue", "key": key, "index": 3, "encoding": "utf-8"});
    assert_eq!(peer.call(read)["value"], "t\u{e9}xt");
}
