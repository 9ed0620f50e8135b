//! The large cases: long feeds, large blocks, many feeds.

#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use conformance::{Contents, Held, Store, block, line, lines, root_key};

const LONG: u64 = 100_000;
const FEEDS: u64 = 1_000;
const LARGE: usize = 6 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(240);

#[test]
fn a_feed_of_100_000_blocks_arrives_from_javascript() {
    let key = root_key("long from javascript");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    let mut peer = js.javascript().patient(PATIENCE);
    let expected: Contents =
        [(peer.write("w", LONG, &[20]), Held::written("w", LONG, &[20]))].into();
    rust.sync(peer.listen());
    peer.close();
    assert_eq!(rust.contents(), expected);
    assert_eq!(rust.javascript_contents(), expected);
}

#[test]
fn a_feed_of_100_000_blocks_arrives_from_rust() {
    let key = root_key("long from rust");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    rust.append_lines("w", &lines("w", 0..LONG, 20));
    let held = Held::all((0..LONG).map(|index| line("w", index, 20)));
    let expected: Contents = [(rust.feed_key("w"), held)].into();
    let mut serving = rust.serve(&["--once"]);
    serving.process.set_patience(PATIENCE);
    let mut peer = js.javascript().patient(PATIENCE);
    peer.connect(serving.port);
    peer.wait_for(&expected);
    peer.close();
    serving.finish();
}

#[test]
fn blocks_of_6_mib_arrive_from_javascript() {
    let key = root_key("large from javascript");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    let mut peer = js.javascript();
    let sizes = [LARGE, 1];
    let expected: Contents = [(peer.write("w", 5, &sizes), Held::written("w", 5, &sizes))].into();
    rust.sync(peer.listen());
    assert_eq!(rust.contents(), expected);
    assert_eq!(rust.javascript_contents(), expected);
}

#[test]
fn blocks_of_6_mib_arrive_from_rust() {
    let key = root_key("large from rust");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    let blocks: Vec<_> = (0..3).map(|index| block("w", index, LARGE)).collect();
    for block in &blocks {
        rust.append_block("w", block);
    }
    let expected: Contents = [(rust.feed_key("w"), Held::all(&blocks))].into();
    let serving = rust.serve(&[]);
    let mut peer = js.javascript();
    peer.connect(serving.port);
    peer.wait_for(&expected);
    peer.close();
    assert_eq!(js.contents(), expected);
}

#[test]
fn stores_of_1_000_feeds_sync_with_javascript_and_between_rust_programs() {
    let key = root_key("many");
    let (js, rust, second) = (Store::new(&key), Store::new(&key), Store::new(&key));
    let mut peer = js.javascript().patient(PATIENCE);
    peer.write_many("w", FEEDS, 2, &[30, 0]);
    let expected = peer.contents();
    assert_eq!(expected.len() as u64, FEEDS);
    second.append_lines("one more", b"text\n");
    let summary = rust.sync(peer.listen());
    assert_eq!(
        (&summary["feeds"], &summary["blocks_received"]),
        (&FEEDS.into(), &(2 * FEEDS).into())
    );
    peer.close();
    assert_eq!(rust.contents(), expected);

    let serving = rust.serve(&[]);
    second.sync(serving.port);
    let own = (second.feed_key("one more"), Held::all(["text"]));
    let mut all = expected;
    all.insert(own.0, own.1);
    assert_eq!(second.contents(), all);

    // A JavaScript peer fetches what one Rust program learned from another.
    let last = Store::new(&key);
    let mut reader = last.javascript().patient(PATIENCE);
    reader.connect(serving.port);
    reader.wait_for(&all);
    reader.close();
    serving.stop();
}
