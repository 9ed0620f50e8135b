//! The harness against itself: JavaScript on both sides. What fails here is no fault of ours.

#![allow(clippy::unwrap_used, missing_docs)]

use conformance::{CuttingProxy, Held, JsPeer, Store, root_key};

#[test]
fn two_javascript_peers_end_with_the_same_contents() {
    let key = root_key("javascript to javascript");
    let (one, two) = (Store::new(&key), Store::new(&key));
    let (mut a, mut b) = (one.javascript(), two.javascript());
    let first = a.write("first", 300, &[100, 0, 70_000]);
    let second = b.write("second", 20, &[5]);
    let empty = b.write("empty", 0, &[]);
    b.connect(a.listen());
    let expected = [
        (first, Held::written("first", 300, &[100, 0, 70_000])),
        (second, Held::written("second", 20, &[5])),
        (empty, Held::written("empty", 0, &[])),
    ]
    .into();
    a.wait_for(&expected);
    b.wait_for(&expected);
    b.close();
    a.close();
    assert_eq!(two.javascript_contents(), expected, "after reopening");
}

#[test]
fn a_javascript_peer_resumes_after_a_cut() {
    let key = root_key("javascript cut");
    let (one, two) = (Store::new(&key), Store::new(&key));
    let (mut a, mut b) = (one.javascript(), two.javascript());
    let writer = a.write("w", 200, &[10_000]);
    let proxy = CuttingProxy::start(a.listen(), &[500_000]);
    b.connect(proxy.port());
    b.process().expect_event("closed");
    b.connect(proxy.port());
    b.wait_for(&[(writer, Held::written("w", 200, &[10_000]))].into());
    let transfers = proxy.transfers();
    assert_eq!(transfers[0].1, 500_000);
    assert!(transfers[1].1 < 1_700_000, "the second connection repeats the first: {transfers:?}");
}

#[test]
fn a_patched_javascript_peer_announces_and_expects_what_it_was_told() {
    let key = root_key("javascript patched");
    let stores = [Store::new(&key), Store::new(&key), Store::new(&key)];
    let mut plain = stores[0].javascript();
    let port = plain.listen();

    let mut announces = JsPeer::open(&stores[1].path(), &key, &["--announce-version", "5.0.0"]);
    announces.connect(port);
    let error = plain.process().expect_event("error");
    assert_eq!(error["code"], "ERR_VERSION_MISMATCH");
    assert_eq!((&error["usVersion"], &error["themVersion"]), (&"4.0.0".into(), &"5.0.0".into()));

    let mut expects = JsPeer::open(&stores[2].path(), &key, &["--expect-client", "OTHER"]);
    expects.connect(port);
    let error = expects.process().expect_event("error");
    assert_eq!(error["code"], "ERR_CLIENT_MISMATCH");
    assert_eq!((&error["usClient"], &error["themClient"]), (&"OTHER".into(), &"MULTIFEED".into()));
}
