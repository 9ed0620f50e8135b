//! Live peers of multifeed 6, which speak another dialect than hypermultifeed.

#![allow(clippy::unwrap_used, missing_docs)]

use conformance::{Contents, Held, JsPeer, Store, line, lines, root_key};

/// Blocks that JavaScript and Rust both find unusual: empty ones, one byte, more than a read buffer.
const SIZES: &[usize] = &[100, 0, 1, 70_000];

fn multifeed6(store: &Store) -> JsPeer {
    store.javascript_of("multifeed")
}

fn rust_lines(store: &Store, writer: &str, blocks: u64) -> Contents {
    let held = Held::all((0..blocks).map(|i| line(writer, i, 100)));
    Contents::from([(store.feed_key(writer), held)])
}

#[test]
fn multifeed_6_serves_and_rust_syncs() {
    let key = root_key("multifeed 6 serves");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    rust.append_lines("ours", &lines("ours", 0..300, 100));
    let mut expected = rust_lines(&rust, "ours", 300);
    let mut peer = multifeed6(&js);
    expected.insert(peer.write("theirs", 400, SIZES), Held::written("theirs", 400, SIZES));
    let summary = rust.sync(peer.listen());
    assert_eq!((&summary["blocks_sent"], &summary["blocks_received"]), (&300.into(), &400.into()));
    peer.wait_for(&expected);
    peer.close();
    assert_eq!(rust.contents(), expected);
}

#[test]
fn rust_serves_and_multifeed_6_syncs() {
    for dialect in ["auto", "multifeed"] {
        let key = root_key("multifeed 6 connects");
        let (js, rust) = (Store::new(&key), Store::new(&key));
        rust.append_lines("ours", &lines("ours", 0..300, 100));
        let mut expected = rust_lines(&rust, "ours", 300);
        let mut peer = multifeed6(&js);
        expected.insert(peer.write("theirs", 400, SIZES), Held::written("theirs", 400, SIZES));
        let mut serving = rust.serve(&["--once", "--dialect", dialect]);
        peer.connect(serving.port);
        peer.wait_for(&expected);
        serving.process.expect_event("in_sync");
        peer.close();
        serving.finish();
        assert_eq!(rust.contents(), expected, "{dialect}");
    }
}

#[test]
fn a_feed_added_while_connected_reaches_and_comes_from_multifeed_6() {
    let key = root_key("multifeed 6, late feeds");
    let (js, rust, third) = (Store::new(&key), Store::new(&key), Store::new(&key));
    let serving = rust.serve(&[]);
    let mut peer = multifeed6(&js);
    peer.connect(serving.port);
    peer.process().expect_event("remote-feeds");
    let late = peer.write("late", 10, SIZES);
    let mut expected = Contents::from([(late, Held::written("late", 10, SIZES))]);
    // A third party brings a feed to Rust, which offers it to the peer that is connected.
    third.append_lines("third", &lines("third", 0..20, 100));
    expected.extend(rust_lines(&third, "third", 20));
    third.sync(serving.port);
    peer.wait_for(&expected);
    peer.close();
    serving.stop();
    assert_eq!(rust.contents(), expected);
}

#[test]
fn rust_in_the_middle_joins_multifeed_6_and_hypermultifeed() {
    let key = root_key("rust between two dialects");
    let (old, rust, new) = (Store::new(&key), Store::new(&key), Store::new(&key));
    let serving = rust.serve(&[]);
    let (mut six, mut hyper) = (multifeed6(&old), new.javascript());
    let mut expected = Contents::new();
    expected.insert(six.write("six", 200, SIZES), Held::written("six", 200, SIZES));
    expected.insert(hyper.write("hyper", 300, SIZES), Held::written("hyper", 300, SIZES));
    six.connect(serving.port);
    hyper.connect(serving.port);
    six.wait_for(&expected);
    hyper.wait_for(&expected);
    six.close();
    hyper.close();
    serving.stop();
    assert_eq!(rust.contents(), expected);
}

#[test]
fn a_stream_to_multifeed_6_that_is_live_on_neither_side_ends_by_itself() {
    let key = root_key("multifeed 6, not live");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    rust.append_lines("ours", &lines("ours", 0..50, 100));
    let mut expected = rust_lines(&rust, "ours", 50);
    let arguments = ["--package", "multifeed", "--no-live"];
    let mut peer = JsPeer::open(&js.path(), js.key(), &arguments);
    expected.insert(peer.write("theirs", 60, SIZES), Held::written("theirs", 60, SIZES));
    let mut serving = rust.serve(&["--once", "--no-live"]);
    peer.connect(serving.port);
    peer.process().expect_event("ended");
    serving.finish();
    peer.wait_for(&expected);
    peer.close();
    assert_eq!(rust.contents(), expected);
}
