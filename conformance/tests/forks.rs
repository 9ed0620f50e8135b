//! Feeds that were continued in two places, with JavaScript peers of both dialects: they cost nothing but
//! themselves.

#![allow(clippy::unwrap_used, missing_docs)]

use conformance::{Contents, Held, JsPeer, Store, root_key};
use serde_json::Value;

const PACKAGES: [&str; 2] = ["hypermultifeed", "multifeed"];

/// Blocks that both logs begin with, and how many each goes on by: ours, theirs.
const FORKS: [(u64, u64, u64); 4] = [(0, 3, 4), (5, 1, 5), (5, 4, 4), (6, 9, 2)];

/// A store of ours and one of the JavaScript with the same writer, who goes on in both, and another writer each.
struct Forked {
    ours: Store,
    peer: JsPeer,
    key: String,
    /// What the JavaScript is to have in the end.
    expected: Contents,
}

fn forked(package: &str, (common, here, there): (u64, u64, u64)) -> Forked {
    let ours = Store::new(&root_key(&format!("{package} {common} {here} {there}")));
    let mut peer = ours.javascript_of(package);
    let key = peer.write("w", common, &[20]);
    peer.close();
    let theirs = ours.copied();
    let lines = |what: &str, count: u64| -> Vec<Vec<u8>> {
        (0..count).map(|n| format!("{what} {n}").into_bytes()).collect()
    };
    ours.append_lines("w", &lines("ours", here).join(&b'\n'));
    ours.append_lines("more", &lines("more", 300).join(&b'\n'));
    let mut peer = theirs.javascript_of(package);
    peer.write("w", there, &[21]);
    peer.write("other", 300, &[50]);
    let mut expected = peer.contents();
    expected.insert(ours.feed_key("more"), Held::all(lines("more", 300)));
    Forked { ours, peer, key, expected }
}

fn without(mut contents: Contents, key: &str) -> Contents {
    contents.remove(key);
    contents
}

fn health(store: &Store, key: &str) -> Value {
    let feeds = store.feeds();
    feeds.iter().find(|feed| feed["key"] == key).unwrap()["health"].clone()
}

#[test]
fn a_fork_costs_only_its_feed_towards_javascript_that_listens() {
    for package in PACKAGES {
        for fork in FORKS {
            let what = format!("{package} {fork:?}");
            let Forked { ours, mut peer, key, expected } = forked(package, fork);
            let port = peer.listen();
            let (status, lines) = ours.start("sync", &[&format!("127.0.0.1:{port}")]).finish();
            assert!(!status.success(), "{what}: {lines:?}");
            let code = &lines.last().unwrap()["code"];
            assert_eq!(code, "ERR_FEED_FORKED", "{what}: {lines:?}");
            peer.wait_for(&expected);
            peer.close();
            assert_eq!(without(ours.contents(), &key), without(expected, &key), "{what}");
            assert_eq!(health(&ours, &key), "forked", "{what}");
        }
    }
}

#[test]
fn a_fork_costs_only_its_feed_towards_javascript_that_connects() {
    for package in PACKAGES {
        for fork in FORKS {
            let what = format!("{package} {fork:?}");
            let Forked { ours, mut peer, key, expected } = forked(package, fork);
            let mut serving = ours.serve(&[]);
            peer.connect(serving.port);
            peer.wait_for(&expected);
            let told = serving.process.expect_event("feed_health");
            assert_eq!((&told["feed"], &told["health"]), (&key.as_str().into(), &"forked".into()));
            serving.process.expect_event("in_sync");
            peer.close();
            serving.stop();
            assert_eq!(without(ours.contents(), &key), without(expected, &key), "{what}");
        }
    }
}
