//! The program `multifeed` and live JavaScript peers over TCP, in both roles.

#![allow(clippy::unwrap_used, missing_docs)]

use conformance::{Contents, Held, Store, line, lines, root_key};

/// Blocks that JavaScript and Rust both find unusual: empty ones, one byte, more than a read buffer.
const SIZES: &[usize] = &[100, 0, 1, 70_000];

#[test]
fn javascript_serves_and_rust_syncs() {
    let key = root_key("javascript serves");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    let mut peer = js.javascript();
    let writer = peer.write("w", 500, SIZES);
    let expected = Contents::from([(writer, Held::written("w", 500, SIZES))]);
    let summary = rust.sync(peer.listen());
    assert_eq!((&summary["feeds"], &summary["blocks_received"]), (&1.into(), &500.into()));
    assert_eq!(rust.contents(), expected);
    assert_eq!(
        rust.javascript_contents(),
        expected,
        "the directory that Rust wrote, read by JavaScript"
    );
}

#[test]
fn rust_serves_and_javascript_syncs() {
    let key = root_key("rust serves");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    rust.append_lines("w", &lines("w", 0..500, 100));
    let expected = rust_lines(&rust, "w", 500);
    let serving = rust.serve(&[]);
    let mut peer = js.javascript();
    peer.connect(serving.port);
    peer.wait_for(&expected);
    peer.close();
    serving.stop();
    assert_eq!(js.javascript_contents(), expected, "what reached the files");
    assert_eq!(js.contents(), expected, "the directory that JavaScript wrote, read by Rust");
}

#[test]
fn both_have_writers_and_both_end_with_all_feeds_when_rust_connects() {
    let key = root_key("both, rust connects");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    rust.append_lines("ours", &lines("ours", 0..300, 100));
    let mut peer = js.javascript();
    let theirs = peer.write("theirs", 400, SIZES);
    let mut expected = rust_lines(&rust, "ours", 300);
    expected.insert(theirs, Held::written("theirs", 400, SIZES));
    let summary = rust.sync(peer.listen());
    assert_eq!((&summary["blocks_sent"], &summary["blocks_received"]), (&300.into(), &400.into()));
    peer.wait_for(&expected);
    peer.close();
    assert_eq!(rust.contents(), expected);
    assert_eq!(js.javascript_contents(), expected, "what reached the files");
}

#[test]
fn both_have_writers_and_both_end_with_all_feeds_when_javascript_connects() {
    let key = root_key("both, javascript connects");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    rust.append_lines("ours", &lines("ours", 0..300, 100));
    let mut expected = rust_lines(&rust, "ours", 300);
    let mut peer = js.javascript();
    expected.insert(peer.write("theirs", 400, SIZES), Held::written("theirs", 400, SIZES));
    let mut serving = rust.serve(&["--once"]);
    peer.connect(serving.port);
    peer.wait_for(&expected);
    // Before the peer leaves: its last block may still be on its way to the program.
    serving.process.expect_event("in_sync");
    peer.close();
    serving.finish();
    assert_eq!(rust.contents(), expected);
}

#[test]
fn several_writers_of_one_name_on_each_side_stay_apart() {
    let key = root_key("same names");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    rust.append_lines("w", &lines("rust", 0..10, 20));
    let own = rust.feed_key("w");
    let mut peer = js.javascript();
    let theirs = peer.write("w", 10, &[20]);
    rust.sync(peer.listen());
    let expected = Contents::from([
        (own, Held::all((0..10).map(|i| line("rust", i, 20)))),
        (theirs, Held::written("w", 10, &[20])),
    ]);
    peer.wait_for(&expected);
    peer.close();
    assert_eq!(rust.contents(), expected);
    rust.append_lines("w", &lines("rust", 10..11, 20));
    assert_eq!(rust.feeds().iter().filter(|feed| feed["length"] == 11).count(), 1);
}

#[test]
fn a_feed_crosses_three_peers_in_a_line_from_javascript_over_rust_to_javascript() {
    let key = root_key("three in a line");
    let (first, middle, last) = (Store::new(&key), Store::new(&key), Store::new(&key));
    let serving = middle.serve(&[]);
    let (mut a, mut c) = (first.javascript(), last.javascript());
    let expected_a = (a.write("a", 200, SIZES), Held::written("a", 200, SIZES));
    let expected_c = (c.write("c", 100, SIZES), Held::written("c", 100, SIZES));
    let expected = Contents::from([expected_a, expected_c]);
    c.connect(serving.port);
    a.connect(serving.port);
    c.wait_for(&expected);
    a.wait_for(&expected);
    a.close();
    c.close();
    serving.stop();
    assert_eq!(middle.contents(), expected);
}

#[test]
fn a_feed_crosses_three_peers_in_a_line_from_rust_over_javascript_to_rust() {
    let key = root_key("three in a line, javascript in the middle");
    let (first, middle, last) = (Store::new(&key), Store::new(&key), Store::new(&key));
    first.append_lines("a", &lines("a", 0..200, 100));
    last.append_lines("c", &lines("c", 0..100, 100));
    let mut expected = rust_lines(&first, "a", 200);
    expected.extend(rust_lines(&last, "c", 100));
    let mut b = middle.javascript();
    let port = b.listen();
    first.sync(port);
    last.sync(port);
    first.sync(port);
    assert_eq!(first.contents(), expected);
    assert_eq!(last.contents(), expected);
    b.wait_for(&expected);
}

#[test]
fn two_connections_between_the_same_two_peers_do_no_harm() {
    let key = root_key("two connections");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    rust.append_lines("ours", &lines("ours", 0..1_000, 100));
    let mut expected = rust_lines(&rust, "ours", 1_000);
    let mut peer = js.javascript();
    expected.insert(peer.write("theirs", 1_000, SIZES), Held::written("theirs", 1_000, SIZES));
    let serving = rust.serve(&[]);
    peer.connect(serving.port);
    peer.connect(serving.port);
    peer.wait_for(&expected);
    // A third peer that gets everything from the program shows that the program has everything.
    let other = Store::new(&key);
    let mut reader = other.javascript();
    reader.connect(serving.port);
    reader.wait_for(&expected);
    peer.close();
    reader.close();
    serving.stop();
    assert_eq!(rust.contents(), expected);
}

#[test]
fn two_rust_programs_sync() {
    let key = root_key("rust to rust");
    let (one, two) = (Store::new(&key), Store::new(&key));
    one.append_lines("one", &lines("one", 0..2_000, 100));
    two.append_lines("two", &lines("two", 0..300, 1_000));
    let mut expected = rust_lines(&one, "one", 2_000);
    expected.insert(two.feed_key("two"), Held::all((0..300).map(|i| line("two", i, 1_000))));
    let mut serving = one.serve(&["--once"]);
    two.sync(serving.port);
    serving.finish();
    assert_eq!(one.contents(), expected);
    assert_eq!(two.contents(), expected);
    assert_eq!(two.javascript_contents(), expected);
}

#[test]
fn a_feed_that_javascript_adds_while_connected_reaches_rust() {
    let key = root_key("added by javascript");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    let mut peer = js.javascript();
    let early = peer.write("early", 10, SIZES);
    let port = peer.listen();
    let mut live = rust.start("sync", &[&format!("127.0.0.1:{port}"), "--live"]);
    live.expect_event("in_sync");
    let late = peer.write("late", 20, SIZES);
    peer.write("early", 5, SIZES);
    live.expect("receive 35 blocks in two feeds", |line| {
        line["feeds"] == 2 && line["blocks_received"] == 35 && line["event"] == "in_sync"
    });
    live.interrupt();
    live.finish();
    let expected = Contents::from([
        (early, Held::written("early", 15, SIZES)),
        (late, Held::written("late", 20, SIZES)),
    ]);
    assert_eq!(rust.contents(), expected);
}

#[test]
fn feeds_without_blocks_and_blocks_without_bytes_arrive() {
    let key = root_key("nothing");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    // JavaScript cannot read a feed that it downloaded if all its blocks are empty (it never makes
    // the file `data`), so there is a byte among ours.
    rust.append_block("our empty blocks", &[]);
    rust.append_block("our empty blocks", b"x");
    rust.append_block("our empty blocks", &[]);
    rust.append_lines("our empty feed", &[]);
    let mut peer = js.javascript();
    let their_empty_feed = peer.write("their empty feed", 0, &[]);
    let mut expected = Contents::from([
        (rust.feed_key("our empty blocks"), Held::all(["", "x", ""])),
        (rust.feed_key("our empty feed"), Held::written("", 0, &[])),
        (peer.write("their empty blocks", 3, &[0]), Held::written("", 3, &[0])),
        (their_empty_feed.clone(), Held::written("", 0, &[])),
    ]);
    let summary = rust.sync(peer.listen());
    assert_eq!(summary["feeds"], 4);
    peer.wait_for(&expected);
    peer.close();
    assert_eq!(js.contents(), expected);
    // Anybody can make up a key: it is recorded here with its first block.
    expected.remove(&their_empty_feed);
    assert_eq!(rust.contents(), expected);
    assert_eq!(rust.javascript_contents(), expected);
}

#[test]
fn javascript_reads_a_writer_of_rust_whose_blocks_are_all_empty() {
    let store = Store::new(&root_key("only empty blocks"));
    store.append_block("w", &[]);
    store.append_block("w", &[]);
    let expected = Contents::from([(store.feed_key("w"), Held::all(["", ""]))]);
    assert_eq!(store.contents(), expected);
    assert_eq!(store.javascript_contents(), expected);
}

#[test]
fn two_empty_stores_are_in_sync() {
    let key = root_key("empty stores");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    let mut peer = js.javascript();
    assert_eq!(rust.sync(peer.listen())["feeds"], 0);
    peer.close();
    assert_eq!(js.contents(), Contents::new());
    let serving = rust.serve(&[]);
    assert_eq!(Store::new(&key).sync(serving.port)["feeds"], 0);
}

#[test]
fn a_second_sync_fetches_only_what_is_new() {
    let key = root_key("twice");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    let mut peer = js.javascript();
    let port = peer.listen();
    let writer = peer.write("w", 100, SIZES);
    assert_eq!(rust.sync(port)["blocks_received"], 100);
    assert_eq!(rust.sync(port)["blocks_received"], 0);
    peer.write("w", 50, SIZES);
    assert_eq!(rust.sync(port)["blocks_received"], 50);
    assert_eq!(rust.contents(), [(writer, Held::written("w", 150, SIZES))].into());
}

#[test]
fn lengths_around_a_bitfield_page_arrive_from_javascript() {
    let key = root_key("pages from javascript");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    let mut peer = js.javascript();
    let expected: Contents = [1, 8_191, 8_192, 8_193]
        .map(|blocks| {
            let name = format!("w{blocks}");
            (peer.write(&name, blocks, &[30]), Held::written(&name, blocks, &[30]))
        })
        .into();
    rust.sync(peer.listen());
    assert_eq!(rust.contents(), expected);
    assert_eq!(rust.javascript_contents(), expected);
}

#[test]
fn lengths_around_a_bitfield_page_arrive_from_rust() {
    let key = root_key("pages from rust");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    let mut expected = Contents::new();
    for blocks in [1, 8_191, 8_192, 8_193] {
        let name = format!("w{blocks}");
        rust.append_lines(&name, &lines(&name, 0..blocks, 30));
        expected.insert(rust.feed_key(&name), Held::all((0..blocks).map(|i| line(&name, i, 30))));
    }
    assert_eq!(rust.javascript_contents(), expected, "as JavaScript opens it");
    let mut serving = rust.serve(&["--once"]);
    let mut peer = js.javascript();
    peer.connect(serving.port);
    peer.wait_for(&expected);
    peer.close();
    serving.finish();
    assert_eq!(js.contents(), expected);
}

/// The contents of a store with one writer of lines of 100 bytes.
fn rust_lines(store: &Store, writer: &str, blocks: u64) -> Contents {
    let held = Held::all((0..blocks).map(|index| line(writer, index, 100)));
    [(store.feed_key(writer), held)].into()
}
