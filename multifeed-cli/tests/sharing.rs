//! What is shared with peers, and with which: `--only`, `--newest`, `--max-feeds`, `--identity`,
//! `--allow-peer`, `block` and `unblock`.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use serde_json::Value;
use util::{Folder, Running, run};

const KEY: [&str; 2] =
    ["--key", "1111111111111111111111111111111111111111111111111111111111111111"];

/// A folder `a` with writers `x` and `y` of three blocks each; gives their keys.
fn store(folder: &Folder) -> [String; 2] {
    run(["init", &folder.at("a"), KEY[0], KEY[1]]).good();
    for name in ["x", "y"] {
        run(["append", &folder.at("a"), name, "one", "two", "three"]).good();
    }
    let listed = feeds(folder, "a");
    ["x", "y"].map(|name| {
        let feed = listed.iter().find(|feed| feed["name"] == name).unwrap();
        feed["key"].as_str().unwrap().to_owned()
    })
}

fn listing(folder: &Folder, store: &str) -> Value {
    run(["feeds", &folder.at(store), "--json"]).good().lines().remove(0)
}

fn feeds(folder: &Folder, store: &str) -> Vec<Value> {
    listing(folder, store)["feeds"].as_array().unwrap().clone()
}

/// Serves `a` once with these options, and syncs a folder with it; gives what both printed.
fn sync(folder: &Folder, store: &str, serve: &[&str], sync: &[&str]) -> (util::Ended, Vec<Value>) {
    let directory = folder.at("a");
    let fixed = ["serve", &directory, "--listen", "127.0.0.1:0", "--once", "--json"];
    let mut server = Running::start(fixed.iter().chain(serve));
    let address = server.event("listening")["address"].as_str().unwrap().to_owned();
    let directory = folder.at(store);
    let fixed = ["sync", &directory, &address, KEY[0], KEY[1], "--json"];
    let ended = run(fixed.iter().chain(sync));
    if ended.code != Some(0) {
        // It waits for one that proves to be a peer.
        server.signal("INT");
    }
    (ended, server.end().lines())
}

fn public_key(lines: &[Value]) -> String {
    let line = lines.iter().find(|line| line["event"] == "identity").unwrap();
    line["public_key"].as_str().unwrap().to_owned()
}

#[test]
fn only_the_feeds_that_are_named_are_fetched_and_as_many_blocks_as_asked() {
    let folder = Folder::new();
    let [x, y] = store(&folder);
    let (ended, _) = sync(&folder, "b", &[], &["--only", &x, "--newest", "2"]);
    ended.good();
    let there = feeds(&folder, "b");
    assert_eq!(there.len(), 1);
    assert_eq!((&there[0]["key"], &there[0]["length"]), (&Value::from(x), &Value::from(3)));
    assert_eq!(there[0]["blocks"], 2);
    let (ended, _) = sync(&folder, "c", &["--only", &y], &[]);
    ended.good();
    let there = feeds(&folder, "c");
    assert_eq!((there.len(), &there[0]["key"]), (1, &Value::from(y)));
}

#[test]
fn no_more_feeds_than_allowed_are_accepted() {
    let folder = Folder::new();
    store(&folder);
    let (ended, _) = sync(&folder, "b", &[], &["--max-feeds", "1"]);
    ended.good();
    assert_eq!(feeds(&folder, "b").len(), 1);
}

#[test]
fn peers_are_recognised_by_their_identity_and_others_are_not_let_in() {
    let folder = Folder::new();
    store(&folder);
    let (here, there) = (folder.at("here.id"), folder.at("there.id"));
    let (ended, lines) = sync(&folder, "b", &["--identity", &here], &["--identity", &there]);
    let (server, client) = (public_key(&lines), public_key(&ended.good().lines()));
    assert_ne!(server, client);
    let options = ["--identity", &here, "--allow-peer", &client];
    let (ended, lines) =
        sync(&folder, "c", &options, &["--identity", &there, "--allow-peer", &server]);
    assert_eq!(public_key(&ended.good().lines()), client);
    assert_eq!(public_key(&lines), server);

    let (ended, lines) = sync(&folder, "d", &options, &[]);
    ended.failed("ERR_PEER_LEFT");
    let refused = lines.iter().find(|line| line["event"] == "error").unwrap();
    assert_eq!(refused["code"], "ERR_PEER_NOT_ALLOWED");
    assert!(feeds(&folder, "d").is_empty());
    // The one who connects refuses, too.
    let (ended, _) = sync(&folder, "d", &[], &["--allow-peer", &server]);
    ended.failed("ERR_PEER_NOT_ALLOWED");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&here).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_file_that_holds_no_identity_is_named_and_left_alone() {
    let folder = Folder::new();
    store(&folder);
    std::fs::write(folder.path("id"), "what?").unwrap();
    let ended =
        run(["sync", &folder.at("a"), "127.0.0.1:1", "--identity", &folder.at("id"), "--json"]);
    ended.failed("ERR_IDENTITY");
    assert_eq!(std::fs::read(folder.path("id")).unwrap(), b"what?");
}

#[test]
fn a_blocked_feed_is_removed_listed_and_not_fetched_until_it_is_unblocked() {
    let folder = Folder::new();
    let [x, y] = store(&folder);
    sync(&folder, "b", &[], &[]).0.good();
    let blocked = run(["block", &folder.at("b"), &x, "--json"]).good().lines();
    assert_eq!((&blocked[0]["event"], &blocked[0]["feed"]), (&"blocked".into(), &Value::from(&*x)));
    assert_eq!(listing(&folder, "b")["blocked"], Value::from(vec![x.clone()]));
    sync(&folder, "b", &[], &[]).0.good();
    let left = feeds(&folder, "b");
    assert_eq!((left.len(), &left[0]["key"]), (1, &Value::from(y)));
    run(["verify", &folder.at("b")]).good();
    let text = run(["feeds", &folder.at("b")]).good().text();
    assert!(text.contains(&format!("blocked: {x}")), "{text}");
    run(["unblock", &folder.at("b"), &x]).good();
    sync(&folder, "b", &[], &[]).0.good();
    assert_eq!(feeds(&folder, "b").len(), 2);
    assert!(feeds(&folder, "b").iter().all(|feed| feed["blocks"] == 3));
}

#[test]
fn a_blocked_writer_does_not_write_again_and_its_store_is_sound() {
    let folder = Folder::new();
    let [x, _] = store(&folder);
    run(["block", &folder.at("a"), &x]).good();
    run(["append", &folder.at("a"), "x", "other", "--json"]).failed("ERR_FEED_BLOCKED");
    run(["verify", &folder.at("a"), KEY[0], KEY[1]]).good();
}
