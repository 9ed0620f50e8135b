//! `@frando/corestore-multifeed`, which speaks the protocol of hypermultifeed, live in both roles.
//!
//! Its 0.0.1 closes the channel of the root key when a list of feeds to replicate is empty and no feed is
//! open yet, and cannot offer feeds afterwards. Our side keeps such an answer back while it waits for a feed;
//! where neither side has one, nothing helps.

#![allow(clippy::unwrap_used, missing_docs)]

use conformance::{Contents, Held, JsPeer, Store, line, lines, root_key};

const PACKAGE: &str = "@frando/corestore-multifeed";
const SIZES: &[usize] = &[100, 0, 1, 70_000];

/// A store with a writer of 300 lines, what it holds, and the same for a peer of the package.
fn both_write(name: &str) -> (Store, Store, JsPeer, Contents) {
    let key = root_key(name);
    let (js, rust) = (Store::new(&key), Store::new(&key));
    rust.append_lines("ours", &lines("ours", 0..300, 100));
    let mut peer = js.javascript_of(PACKAGE);
    let ours = Held::all((0..300).map(|index| line("ours", index, 100)));
    let theirs = peer.write("theirs", 400, SIZES);
    let expected = Contents::from([
        (rust.feed_key("ours"), ours),
        (theirs, Held::written("theirs", 400, SIZES)),
    ]);
    (js, rust, peer, expected)
}

#[test]
fn both_end_with_all_feeds_when_rust_connects() {
    let (js, rust, mut peer, expected) = both_write("corestore-multifeed listens");
    let summary = rust.sync(peer.listen());
    assert_eq!((&summary["blocks_sent"], &summary["blocks_received"]), (&300.into(), &400.into()));
    peer.wait_for(&expected);
    peer.close();
    assert_eq!(rust.contents(), expected);
    let mut again = js.javascript_of(PACKAGE);
    assert_eq!(again.contents(), expected, "what reached the files");
}

#[test]
fn both_end_with_all_feeds_when_it_connects() {
    let (js, rust, mut peer, expected) = both_write("corestore-multifeed connects");
    let mut serving = rust.serve(&["--once"]);
    peer.connect(serving.port);
    peer.wait_for(&expected);
    serving.process.expect_event("in_sync");
    peer.close();
    serving.finish();
    assert_eq!(rust.contents(), expected);
    let mut again = js.javascript_of(PACKAGE);
    assert_eq!(again.contents(), expected, "what reached the files");
}

#[test]
fn a_feed_crosses_from_it_over_rust_to_hypermultifeed_and_back() {
    let key = root_key("corestore-multifeed in a line");
    let (first, middle, last) = (Store::new(&key), Store::new(&key), Store::new(&key));
    let mut serving = middle.serve(&[]);
    let (mut a, mut c) = (first.javascript_of(PACKAGE), last.javascript());
    let expected = Contents::from([
        (a.write("a", 200, SIZES), Held::written("a", 200, SIZES)),
        (c.write("c", 100, SIZES), Held::written("c", 100, SIZES)),
    ]);
    c.connect(serving.port);
    serving.process.expect_event("in_sync");
    a.connect(serving.port);
    c.wait_for(&expected);
    a.wait_for(&expected);
    a.close();
    c.close();
    serving.stop();
    assert_eq!(middle.contents(), expected);
}

#[test]
fn feeds_and_blocks_added_while_connected_reach_the_other_side() {
    let key = root_key("corestore-multifeed added");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    rust.append_lines("ours", &lines("ours", 0..1, 100));
    let mut peer = js.javascript_of(PACKAGE);
    let early = peer.write("early", 10, SIZES);
    let port = peer.listen();
    let mut live = rust.start("sync", &[&format!("127.0.0.1:{port}"), "--live"]);
    live.expect_event("in_sync");
    let late = peer.write("late", 20, SIZES);
    peer.write("early", 5, SIZES);
    live.expect("receive 35 blocks in two of three feeds", |line| {
        line["feeds"] == 3 && line["blocks_received"] == 35 && line["event"] == "in_sync"
    });
    live.interrupt();
    live.finish();
    let expected = Contents::from([
        (early, Held::written("early", 15, SIZES)),
        (late, Held::written("late", 20, SIZES)),
        (rust.feed_key("ours"), Held::all([line("ours", 0, 100)])),
    ]);
    assert_eq!(rust.contents(), expected);
}

#[test]
fn it_refuses_another_version_by_name() {
    let key = root_key("corestore-multifeed version");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    let serving = rust.serve(&[]);
    let arguments = ["--package", PACKAGE, "--expect-version", "5.0.0"];
    let mut peer = JsPeer::open(&js.path(), &key, &arguments);
    peer.connect(serving.port);
    let error = peer.process().expect_event("error");
    assert_eq!(
        (&error["code"], &error["themVersion"]),
        (&"ERR_VERSION_MISMATCH".into(), &"4.0.0".into())
    );
    serving.stop();
}

#[test]
fn a_store_of_its_own_opens_in_rust_and_its_writer_goes_on() {
    let key = root_key("corestore-multifeed store");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    let mut peer = js.javascript_of(PACKAGE);
    let writer = peer.write("w", 50, SIZES);
    peer.close();
    let written = [(writer.clone(), Held::written("w", 50, SIZES))].into();
    assert_eq!(js.contents(), written);
    js.append_block("w", b"by Rust");
    let mut blocks = js.blocks("w");
    assert_eq!((blocks.len(), &blocks.pop().unwrap()[..]), (51, &b"by Rust"[..]));
    let mut peer = js.javascript_of(PACKAGE);
    rust.sync(peer.listen());
    assert_eq!(peer.contents(), rust.contents());
    assert_eq!(rust.contents()[&writer].length, 51);
}
