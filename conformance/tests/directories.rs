//! One directory, opened by JavaScript and by Rust in turn.

#![allow(clippy::unwrap_used, missing_docs)]

use conformance::{Contents, Held, Store, block, line, lines, root_key};

#[test]
fn javascript_continues_a_writer_of_rust_and_rust_continues_it_again() {
    let key = root_key("rust first");
    let (store, third) = (Store::new(&key), Store::new(&key));
    store.append_lines("w", &lines("w", 0..8_191, 20));
    let mut blocks: Vec<Vec<u8>> = (0..8_191).map(|index| line("w", index, 20)).collect();
    verify_as_third(&store, &third, "w", &blocks);

    let mut peer = store.javascript();
    peer.write("w", 1, &[20]);
    peer.close();
    blocks.push(block("w", 8_191, 20));
    verify_as_third(&store, &third, "w", &blocks);

    store.append_lines("w", &lines("w", 8_192..8_200, 20));
    blocks.extend((8_192..8_200).map(|index| line("w", index, 20)));
    store.append_block("w", b"");
    blocks.push(Vec::new());
    verify_as_third(&store, &third, "w", &blocks);

    let mut peer = store.javascript();
    peer.write("w", 3, &[0, 7]);
    peer.close();
    blocks.extend((8_201..8_204).map(|index: u64| block("w", index, [0, 7][(index % 2) as usize])));
    verify_as_third(&store, &third, "w", &blocks);
}

#[test]
fn rust_continues_a_writer_of_javascript_and_javascript_continues_it_again() {
    let key = root_key("javascript first");
    let (store, third) = (Store::new(&key), Store::new(&key));
    let mut peer = store.javascript();
    peer.write("w", 5, &[100, 0]);
    peer.close();
    let mut blocks: Vec<Vec<u8>> =
        (0..5).map(|index: u64| block("w", index, [100, 0][(index % 2) as usize])).collect();
    verify_as_third(&store, &third, "w", &blocks);

    store.append_lines("w", &lines("w", 5..9_000, 10));
    blocks.extend((5..9_000).map(|index| line("w", index, 10)));
    verify_as_third(&store, &third, "w", &blocks);

    let mut peer = store.javascript();
    peer.write("w", 2, &[50]);
    peer.close();
    blocks.extend((9_000..9_002).map(|index| block("w", index, 50)));
    verify_as_third(&store, &third, "w", &blocks);

    store.append_block("w", b"the last word");
    blocks.push(b"the last word".to_vec());
    verify_as_third(&store, &third, "w", &blocks);
}

#[test]
fn a_name_gives_the_same_writer_in_both() {
    let key = root_key("names");
    let store = Store::new(&key);
    let mut peer = store.javascript();
    let theirs = peer.write("grüße", 0, &[]);
    peer.close();
    store.append_lines("grüße", b"x\n");
    store.append_lines("ours", b"y\n");
    assert_eq!(store.feed_key("grüße"), theirs);
    let ours = store.feed_key("ours");
    let mut peer = store.javascript();
    assert_eq!(peer.write("ours", 1, &[10]), ours);
    assert_eq!(peer.write("grüße", 0, &[]), theirs);
    let feeds = peer.feeds();
    assert_eq!(feeds.len(), 2);
    assert!(feeds.iter().all(|feed| feed["writable"] == true));
    peer.close();
    assert_eq!(store.feeds().len(), 2);
}

#[test]
fn what_rust_downloaded_is_served_by_javascript_and_the_other_way_round() {
    let key = root_key("passed on");
    let (source, through_rust, through_js) = (Store::new(&key), Store::new(&key), Store::new(&key));
    let (last_js, last_rust) = (Store::new(&key), Store::new(&key));
    let mut writer = source.javascript();
    let sizes = [3_000, 0, 1];
    let expected: Contents =
        [(writer.write("w", 1_000, &sizes), Held::written("w", 1_000, &sizes))].into();
    let port = writer.listen();

    through_rust.sync(port);
    let mut served = through_rust.javascript();
    let mut reader = last_js.javascript();
    reader.connect(served.listen());
    reader.wait_for(&expected);
    reader.close();
    served.close();

    let mut reader = through_js.javascript();
    reader.connect(port);
    reader.wait_for(&expected);
    reader.close();
    let serving = through_js.serve(&[]);
    last_rust.sync(serving.port);
    serving.stop();
    assert_eq!(last_rust.contents(), expected);
}

#[test]
fn a_half_downloaded_feed_is_completed_by_the_other_implementation() {
    let key = root_key("half");
    let (source, other_way, store) = (Store::new(&key), Store::new(&key), Store::new(&key));
    let mut writer = source.javascript();
    let expected: Contents =
        [(writer.write("w", 400, &[20_000]), Held::written("w", 400, &[20_000]))].into();
    let port = writer.listen();

    // Rust starts, JavaScript completes.
    let proxy = conformance::CuttingProxy::start(port, &[3_000_000, 3_000_000]);
    let mut cut = store.start("sync", &[&format!("127.0.0.1:{}", proxy.port())]);
    assert!(!cut.finish().0.success());
    let mut reader = store.javascript();
    assert!(reader.feeds()[0]["blocks"].as_u64().unwrap() > 0, "Rust kept nothing");
    reader.connect(port);
    reader.wait_for(&expected);
    reader.close();
    assert_eq!(store.contents(), expected);

    // JavaScript starts, Rust completes.
    let mut reader = other_way.javascript();
    reader.connect(proxy.port());
    reader.process().expect_event("closed");
    reader.close();
    assert!(other_way.feeds()[0]["blocks"].as_u64().unwrap() > 0, "JavaScript kept nothing");
    other_way.sync(port);
    assert_eq!(other_way.contents(), expected);
    assert_eq!(other_way.javascript_contents(), expected);
}

/// `third`, which may hold an earlier state, syncs from `store` with the program and must end with
/// exactly these blocks; so must both implementations that open `store` itself.
fn verify_as_third(store: &Store, third: &Store, writer: &str, blocks: &[Vec<u8>]) {
    let expected: Contents = [(store.feed_key(writer), Held::all(blocks))].into();
    assert_eq!(store.contents(), expected, "as Rust opens it");
    assert_eq!(store.javascript_contents(), expected, "as JavaScript opens it");
    let mut serving = store.serve(&["--once"]);
    third.sync(serving.port);
    serving.finish();
    assert_eq!(third.contents(), expected, "what a third peer verified");
}
