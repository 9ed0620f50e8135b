//! What goes wrong between two peers: wrong keys, other versions, cut connections.

#![allow(clippy::unwrap_used, missing_docs)]

use conformance::{Contents, CuttingProxy, Held, JsPeer, Store, line, lines, root_key};
use serde_json::Value;

const OURS: &str = "4.0.0";

#[test]
fn a_wrong_root_key_is_reported_by_rust_that_connects_and_nothing_is_exchanged() {
    let js = Store::new(&root_key("right"));
    let rust = Store::new(&root_key("wrong"));
    rust.append_lines("ours", b"secret\n");
    let mut peer = js.javascript();
    peer.write("theirs", 3, &[10]);
    let error = failed_sync(&rust, peer.listen());
    assert!(error["message"].as_str().unwrap().contains("key"), "says what may be wrong: {error}");
    let theirs = peer.process().expect_event("error");
    assert_eq!(theirs["message"], "Multifeed handshake remote timeout");
    assert_eq!(peer.feeds().len(), 1);
    assert_eq!(rust.feeds().len(), 1);
}

#[test]
fn a_wrong_root_key_is_reported_by_rust_that_serves_and_nothing_is_exchanged() {
    let js = Store::new(&root_key("right"));
    let rust = Store::new(&root_key("wrong"));
    rust.append_lines("ours", b"secret\n");
    let mut serving = rust.serve(&[]);
    let mut peer = js.javascript();
    peer.write("theirs", 3, &[10]);
    peer.connect(serving.port);
    serving.process.expect_event("error");
    peer.process().expect_event("closed");
    assert_eq!(peer.feeds().len(), 1);
    // It goes on serving those that have its key.
    let friend = Store::new(rust.key());
    friend.sync(serving.port);
    assert_eq!(friend.contents(), rust_contents(&friend, &rust, serving));
}

#[test]
fn another_major_version_is_refused_by_rust_that_connects() {
    let error = refused(&["--announce-version", "5.0.0"]);
    assert_eq!(error["code"], "ERR_VERSION_MISMATCH");
    assert_eq!((&error["ours"], &error["theirs"]), (&OURS.into(), &"5.0.0".into()), "{error}");
}

#[test]
fn another_client_is_refused_by_rust_that_connects() {
    let error = refused(&["--announce-client", "OTHER"]);
    assert_eq!(error["code"], "ERR_CLIENT_MISMATCH");
    assert_eq!(
        (&error["ours"], &error["theirs"]),
        (&"MULTIFEED".into(), &"OTHER".into()),
        "{error}"
    );
}

#[test]
fn another_version_or_client_is_refused_by_rust_that_serves() {
    let key = root_key("patched connects");
    let rust = Store::new(&key);
    let mut serving = rust.serve(&[]);
    for (arguments, code, theirs) in [
        (["--announce-version", "3.9.9"], "ERR_VERSION_MISMATCH", "3.9.9"),
        (["--announce-client", "OTHER"], "ERR_CLIENT_MISMATCH", "OTHER"),
    ] {
        let js = Store::new(&key);
        let mut peer = JsPeer::open(&js.path(), &key, &arguments);
        peer.connect(serving.port);
        let error = serving.process.expect_event("error");
        assert_eq!((&error["code"], &error["theirs"]), (&code.into(), &theirs.into()), "{error}");
        peer.process().expect_event("closed");
    }
}

#[test]
fn javascript_that_expects_another_version_or_client_refuses_ours_by_name() {
    let key = root_key("patched refuses");
    let rust = Store::new(&key);
    let serving = rust.serve(&[]);
    let js = [Store::new(&key), Store::new(&key)];
    let mut peer = JsPeer::open(&js[0].path(), &key, &["--expect-version", "5.0.0"]);
    peer.connect(serving.port);
    let error = peer.process().expect_event("error");
    assert_eq!(error["code"], "ERR_VERSION_MISMATCH");
    assert_eq!((&error["usVersion"], &error["themVersion"]), (&"5.0.0".into(), &OURS.into()));
    let mut peer = JsPeer::open(&js[1].path(), &key, &["--expect-client", "OTHER"]);
    peer.connect(serving.port);
    let error = peer.process().expect_event("error");
    assert_eq!(error["code"], "ERR_CLIENT_MISMATCH");
    assert_eq!((&error["usClient"], &error["themClient"]), (&"OTHER".into(), &"MULTIFEED".into()));
    serving.stop();
}

#[test]
fn javascript_always_learns_why_when_both_sides_refuse_each_other() {
    for (option, value, code) in
        [("version", "5.0.0", "ERR_VERSION_MISMATCH"), ("client", "OTHER", "ERR_CLIENT_MISMATCH")]
    {
        let key = root_key(&format!("both refuse the {option}"));
        let [js, connects, serves] = [(); 3].map(|()| Store::new(&key));
        let (announce, expect) = (format!("--announce-{option}"), format!("--expect-{option}"));
        let mut peer = JsPeer::open(&js.path(), &key, &[&announce, value, &expect, value]);
        let us = if option == "version" { OURS } else { "MULTIFEED" };
        let fields = [["usVersion", "themVersion"], ["usClient", "themClient"]];
        let [us_field, them_field] = fields[usize::from(option == "client")];
        let port = peer.listen();
        let mut serving = serves.serve(&[]);
        // Which of the many bytes that cross each other comes first differs from time to time.
        for round in 0..10 {
            let ours = if round % 2 == 0 {
                failed_sync(&connects, port)
            } else {
                peer.connect(serving.port);
                serving.process.expect_event("error")
            };
            // A JavaScript peer that finds the mismatch first destroys its stream with its own
            // handshake unsent.
            if ours["code"] == "ERR_PEER_LEFT" {
                assert!(ours["message"].as_str().unwrap().contains("version"), "{ours}");
            } else {
                assert_eq!(
                    (&ours["code"], &ours["ours"], &ours["theirs"]),
                    (&code.into(), &us.into(), &value.into()),
                    "round {round}: {ours}"
                );
            }
            let theirs = peer.process().expect_event("error");
            assert_eq!(theirs["code"], code, "round {round}: {theirs}");
            assert_eq!(
                (&theirs[us_field], &theirs[them_field]),
                (&value.into(), &us.into()),
                "round {round}: {theirs}"
            );
            peer.process().expect_event("closed");
        }
    }
}

#[test]
fn another_minor_version_is_accepted() {
    let key = root_key("minor version");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    let mut peer = JsPeer::open(&js.path(), &key, &["--announce-version", "4.9.1-x"]);
    let writer = peer.write("w", 3, &[10]);
    rust.sync(peer.listen());
    assert_eq!(rust.contents(), [(writer, Held::written("w", 3, &[10]))].into());
}

#[test]
fn rust_resumes_after_cuts_in_mid_transfer() {
    let key = root_key("rust cut");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    let mut peer = js.javascript();
    let writer = peer.write("w", 300, &[20_000]);
    let expected = Contents::from([(writer, Held::written("w", 300, &[20_000]))]);
    let proxy = CuttingProxy::start(peer.listen(), &[1_500_000, 70, 2_500_000]);
    for _ in 0..3 {
        failed_sync(&rust, proxy.port());
    }
    rust.sync(proxy.port());
    assert_eq!(rust.contents(), expected);
    assert_eq!(rust.javascript_contents(), expected);
    let received: u64 = proxy.transfers().iter().map(|transfer| transfer.1).sum();
    assert!(received < 7_500_000, "6 MB of blocks took {received} bytes: {:?}", proxy.transfers());
}

#[test]
fn javascript_resumes_from_rust_after_cuts_in_mid_transfer() {
    let key = root_key("javascript cut by rust");
    let (js, rust) = (Store::new(&key), Store::new(&key));
    rust.append_lines("w", &lines("w", 0..300, 20_000));
    let held = Held::all((0..300).map(|index| line("w", index, 20_000)));
    let expected = Contents::from([(rust.feed_key("w"), held)]);
    let serving = rust.serve(&[]);
    let proxy = CuttingProxy::start(serving.port, &[1_500_000, 70, 2_500_000]);
    let mut peer = js.javascript();
    for _ in 0..3 {
        peer.connect(proxy.port());
        peer.process().expect_event("closed");
    }
    peer.connect(proxy.port());
    peer.wait_for(&expected);
    serving.stop();
    let received: u64 = proxy.transfers().iter().map(|transfer| transfer.1).sum();
    assert!(received < 7_500_000, "6 MB of blocks took {received} bytes: {:?}", proxy.transfers());
}

#[test]
fn a_peer_that_hangs_up_at_once_is_an_error_and_not_a_hang() {
    let rust = Store::new(&root_key("hang up"));
    let proxy = CuttingProxy::start(1, &[]); // nobody listens on port 1
    failed_sync(&rust, proxy.port());
    failed_sync(&rust, 1);
}

/// Rust connects to a JavaScript peer that announces something else: the error that Rust reports.
fn refused(arguments: &[&str]) -> Value {
    let key = root_key(&arguments.concat());
    let (js, rust) = (Store::new(&key), Store::new(&key));
    let mut peer = JsPeer::open(&js.path(), &key, arguments);
    let error = failed_sync(&rust, peer.listen());
    peer.process().expect_event("closed");
    error
}

/// Runs `multifeed sync`, which must fail with exit status 1; gives the line that says why.
fn failed_sync(store: &Store, port: u16) -> Value {
    let mut process = store.start("sync", &[&format!("127.0.0.1:{port}")]);
    let (status, lines) = process.finish();
    assert_eq!(status.code(), Some(1), "{lines:?}\n{}", process.stderr());
    let errors: Vec<_> = lines.iter().filter(|line| line["event"] == "error").collect();
    assert_eq!(errors.len(), 1, "one failure, one line: {lines:?}");
    assert!(errors[0]["code"].is_string(), "{lines:?}");
    errors[0].clone()
}

/// What both hold after `serving` of `rust` has ended.
fn rust_contents(friend: &Store, rust: &Store, serving: conformance::Serving) -> Contents {
    serving.stop();
    let contents = rust.contents();
    assert_eq!(friend.javascript_contents(), contents);
    contents
}
