//! `serve` and `sync`, over TCP on this machine.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;

use util::{Folder, OTHER_KEY, Running, command, contents, ended, run, run_with_input, saved_key};

#[test]
fn both_sides_end_with_all_feeds_and_say_what_moved() {
    let folder = pair();
    let (mut serving, address) = Running::serve(&folder.at("a"), &["--once"]);
    let lines = run(["sync", &folder.at("b"), &address, "--json"]).good().lines();
    let last = lines.last().unwrap();
    assert_eq!(last["event"], "in_sync");
    assert_eq!(last["feeds"], 2);
    assert_eq!((&last["blocks_received"], &last["bytes_received"]), (&1_000.into(), &8_890.into()));
    assert_eq!((&last["blocks_sent"], &last["bytes_sent"]), (&2.into(), &6.into()));
    assert!(last["milliseconds"].is_u64());
    assert!(lines.iter().rev().skip(1).all(|line| line["event"] == "progress"), "{lines:?}");

    let peer = serving.event("connected")["peer"].clone();
    let in_sync = serving.event("in_sync");
    assert_eq!((&in_sync["peer"], &in_sync["blocks_sent"]), (&peer, &1_000.into()));
    let closed = serving.event("closed");
    assert_eq!((&closed["peer"], &closed["in_sync"]), (&peer, &true.into()));
    assert!(closed["code"].is_null());
    serving.end().good();
    assert_eq!(contents(&folder.at("a")), contents(&folder.at("b")));
    assert_eq!(contents(&folder.at("a")).len(), 2);
}

#[test]
fn people_get_a_short_summary() {
    let folder = pair();
    let (a, b) = (folder.at("a"), folder.at("b"));
    let mut serving = Running::start(["serve", &a, "--listen", "127.0.0.1:0", "--once"]);
    let listening = serving.text_line();
    let address = listening.split([' ', ',']).nth(2).unwrap().to_owned();
    assert!(listening.starts_with("listening at 127.0.0.1:"), "{listening}");
    let text = run(["sync", &b, &address]).good().text();
    let expected =
        format!("in sync with {address}: 2 feeds, 1,000 blocks received (8.68 KiB), 2 sent");
    assert!(text.starts_with(&expected), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    let served = serving.end().good();
    assert!(served.text().contains(" in sync: 2 feeds, 2 blocks received (6 B), 1,000 sent"));
    assert_eq!(served.text().lines().count(), 4, "{served:?}");
}

#[test]
fn people_are_told_that_ctrl_c_was_heard() {
    let folder = pair();
    let mut serving = Running::start(["serve", &folder.at("a"), "--listen", "127.0.0.1:0"]);
    let listening = serving.text_line();
    serving.signal("INT");
    assert!(serving.end().good().stderr.ends_with("stopped\n"));

    let mut serving = Running::start(["serve", &folder.at("a"), "--listen", "127.0.0.1:0"]);
    let address = serving.text_line().split([' ', ',']).nth(2).unwrap().to_owned();
    assert_ne!(listening, address);
    let live = Running::start(["sync", &folder.at("b"), &address, "--live"]);
    assert!(serving.text_line().trim_end().ends_with(" connected"));
    serving.signal("INT");
    let ended = serving.end().good();
    assert!(ended.stderr.contains("stopping: connected peers have 3 seconds"), "{ended:?}");
    // It goes on connecting until it is told to stop, unless it had not been in sync yet.
    live.signal("INT");
    live.end();
}

#[test]
fn a_second_sync_has_nothing_to_do() {
    let folder = pair();
    let (serving, address) = Running::serve(&folder.at("a"), &[]);
    run(["sync", &folder.at("b"), &address]).good();
    let last = run(["sync", &folder.at("b"), &address, "--json"]).good().lines().pop().unwrap();
    assert_eq!((&last["blocks_received"], &last["blocks_sent"]), (&0.into(), &0.into()));
    serving.signal("INT");
    serving.end().good();
}

#[test]
fn a_store_is_made_for_a_given_key_by_both_commands() {
    let folder = pair();
    let key = saved_key(&folder.path("a"));
    let (_serving, address) = Running::serve(&folder.at("a"), &[]);
    run(["sync", &folder.at("new"), &address, "--key", &key]).good();
    assert_eq!(saved_key(&folder.path("new")), key);
    run(["sync", &folder.at("unsaved"), &address, "--key", &key, "--no-save-key"]).good();
    assert!(!folder.path("unsaved/root_key").exists());
    let (serving, _) = Running::serve(&folder.at("served"), &["--key", &key]);
    assert_eq!(saved_key(&folder.path("served")), key);
    serving.signal("INT");
    serving.end().good();
    assert_eq!(contents(&folder.at("new")).len(), 1);
}

#[test]
fn many_peers_are_served_at_once() {
    let folder = pair();
    let key = saved_key(&folder.path("a"));
    let (serving, address) = Running::serve(&folder.at("a"), &[]);
    let peers: Vec<_> = (0..5)
        .map(|i| {
            let directory = folder.at(&format!("peer {i}"));
            Running::start(["sync", &directory, &address, "--key", &key, "--json"])
        })
        .collect();
    for peer in peers {
        assert_eq!(peer.end().good().lines().pop().unwrap()["blocks_received"], 1_000);
    }
    serving.signal("INT");
    serving.end().good();
}

#[test]
fn a_live_sync_passes_on_what_comes_later() {
    let folder = pair();
    let (serving, address) = Running::serve(&folder.at("a"), &[]);
    let key = saved_key(&folder.path("a"));
    let mut live =
        Running::start(["sync", &folder.at("live"), &address, "--live", "--json", "--key", &key]);
    assert_eq!(live.event("in_sync")["blocks_received"], 1_000);
    run(["sync", &folder.at("b"), &address]).good();
    while live.event("in_sync")["blocks_received"] != 1_002 {}
    live.signal("INT");
    live.end().good();
    assert_eq!(contents(&folder.at("live")), contents(&folder.at("b")));
    serving.signal("INT");
    serving.end().good();
}

#[test]
fn a_live_sync_connects_again_when_its_server_is_back_and_fetches_what_came_meanwhile() {
    let folder = pair();
    let (serving, address) = Running::serve(&folder.at("a"), &[]);
    let mut live = Running::start(["sync", &folder.at("b"), &address, "--live", "--json"]);
    live.event("in_sync");
    serving.signal("INT");
    serving.end().good();
    let again = live.event("reconnecting");
    assert_eq!((&again["attempt"], &again["code"]), (&1.into(), &serde_json::Value::Null));
    assert!((500..=1_000).contains(&again["milliseconds"].as_u64().unwrap()), "{again}");
    let refused = live.event("reconnecting");
    assert_eq!((&refused["attempt"], &refused["code"]), (&2.into(), &"ERR_REFUSED".into()));
    assert!((1_000..=2_000).contains(&refused["milliseconds"].as_u64().unwrap()), "{refused}");

    run(["append", &folder.at("a"), "many", "meanwhile"]).good();
    let mut serving = Running::start(["serve", &folder.at("a"), "--listen", &address, "--json"]);
    serving.event("listening");
    assert_eq!(live.event("in_sync")["blocks_received"], 1);
    // That was a good one: the next wait is a short one again.
    serving.signal("TERM");
    serving.end().good();
    assert_eq!(live.event("reconnecting")["attempt"], 1);
    live.signal("INT");
    live.end().good();
    assert_eq!(contents(&folder.at("a")), contents(&folder.at("b")), "both locks are free");
}

#[test]
fn people_are_told_that_it_connects_again() {
    let folder = pair();
    let (serving, address) = Running::serve(&folder.at("a"), &[]);
    let mut live = Running::start(["sync", &folder.at("b"), &address, "--live"]);
    assert!(live.text_line().starts_with("in sync with"));
    serving.signal("INT");
    serving.end().good();
    let again = live.text_line();
    assert!(again.starts_with(&format!("{address} left; connecting again in ")), "{again}");
    let refused = live.text_line();
    assert!(refused.contains("connection refused; connecting again in "), "{refused}");
    live.signal("INT");
    live.end().good();
}

#[test]
fn a_sync_tries_again_from_the_beginning_only_if_it_is_asked_to() {
    let folder = pair();
    let (serving, address) = Running::serve(&folder.at("a"), &[]);
    serving.signal("INT");
    serving.end().good();
    let b = folder.at("b");
    run(["sync", &b, &address, "--json"]).failed("ERR_REFUSED");
    run(["sync", &b, &address, "--json", "--live"]).failed("ERR_REFUSED");
    run(["sync", &b, &address, "--json", "--retry", "--timeout", "0.1"]).failed("ERR_REFUSED");
    let mut syncing = Running::start(["sync", &b, &address, "--json", "--retry"]);
    assert_eq!(syncing.event("reconnecting")["code"], "ERR_REFUSED");
    let _serving = Running::start(["serve", &folder.at("a"), "--listen", &address, "--json"]);
    syncing.event("in_sync");
    syncing.end().good();
}

#[test]
fn peers_beyond_the_limit_wait_until_one_has_left() {
    let folder = pair();
    let key = saved_key(&folder.path("a"));
    let options = ["--max-connections", "1"];
    let (mut serving, address) = Running::serve(&folder.at("a"), &options);
    let first = folder.at("first");
    let mut first = Running::start(["sync", &first, &address, "--key", &key, "--live", "--json"]);
    first.event("in_sync");
    // The two are said by different tasks.
    let (mut connected, mut full) = (false, false);
    while !(connected && full) {
        let line = serving.line();
        connected |= line["event"] == "connected";
        full |= line["event"] == "full" && line["connections"] == 1;
    }
    let mut second = command(["sync", &folder.at("second"), &address, "--key", &key, "--json"]);
    let second = second.spawn().unwrap();
    first.signal("INT");
    first.end().good();
    let mut line = serving.line();
    while line["event"] != "closed" {
        assert_eq!(line["event"], "in_sync", "the second one is not let in yet");
        line = serving.line();
    }
    serving.event("connected");
    ended(second.wait_with_output().unwrap()).good();
    assert_eq!(run(["serve", "x", "--listen", ":0", "--max-connections", "0"]).code, Some(2));
    serving.signal("INT");
    serving.end().good();
}

#[test]
fn a_request_to_terminate_ends_a_server_in_order() {
    let folder = pair();
    let (serving, _) = Running::serve(&folder.at("a"), &[]);
    serving.signal("TERM");
    serving.end().good();
    run(["feeds", &folder.at("a")]).good();
}

#[test]
fn ctrl_c_keeps_the_lines_that_were_stored() {
    let folder = pair();
    let a = folder.at("a");
    let mut command = command(["append", &a, "typed", "--lines", "--json"]);
    let mut append = Running::spawn(command.stdin(Stdio::piped()));
    let mut stdin = append.stdin();
    stdin.write_all(b"one\ntwo\nhalf a li").unwrap();
    let mut stored = 0;
    while stored < 2 {
        stored += append.event("appended")["length"].as_u64().unwrap();
    }
    append.signal("INT");
    let end = append.end();
    assert_eq!(end.code, Some(130), "{end:?}");
    end.error("ERR_INTERRUPTED");
    assert_eq!(run(["cat", &a, "typed"]).good().stdout, b"onetwo");
}

#[test]
fn ctrl_c_ends_a_sync_that_leads_nowhere() {
    let folder = pair();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let sync = Running::start(["sync", &folder.at("b"), &address, "--json"]);
    let _connection = silent.accept().unwrap();
    sync.signal("INT");
    let end = sync.end();
    assert_eq!(end.code, Some(130), "{end:?}");
    end.error("ERR_INTERRUPTED");
    run(["feeds", &folder.at("b")]).good();
}

#[test]
fn a_store_in_use_says_by_whom() {
    let folder = pair();
    let a = folder.at("a");
    let (serving, address) = Running::serve(&a, &[]);
    let commands: &[&[&str]] = &[
        &["append", &a, "w", "text"],
        &["sync", &a, &address],
        &["serve", &a, "--listen", "127.0.0.1:0"],
    ];
    for arguments in commands {
        let error = run(arguments.iter().chain(&["--json"])).failed("ERR_IN_USE");
        assert_eq!(error["process"], serving.id(), "{error}");
        assert!(error["advice"].as_str().unwrap().contains("one program at a time"), "{error}");
    }
}

#[test]
fn an_address_that_does_not_work_is_named() {
    let folder = pair();
    let b = folder.at("b");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let error = run(["sync", &b, &free, "--json"]).failed("ERR_REFUSED");
    assert!(error["message"].as_str().unwrap().contains(&free), "{error}");
    let nowhere = "no-such-host.invalid:4000";
    let error = run(["sync", &b, nowhere, "--json"]).failed("ERR_UNKNOWN_HOST");
    assert!(error["message"].as_str().unwrap().contains("no-such-host.invalid"), "{error}");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = run(["serve", &b, "--listen", &address, "--json"]).failed("ERR_LISTEN");
    assert_eq!(error["address"], address);
}

#[test]
fn a_silent_peer_is_given_up_after_the_limit_and_what_was_missing_is_named() {
    let folder = pair();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let arguments = ["sync", &folder.at("b"), &address, "--timeout", "0.3", "--json"];
    let error = run(arguments).failed("ERR_TIMEOUT");
    assert!(error["message"].as_str().unwrap().contains("0.3 s"), "{error}");
    assert_eq!(error["waiting"], "the peer's handshake");
    let human = run(&arguments[..5]);
    assert!(
        human.stderr.contains("error: not in sync after 0.3 s: still waiting for"),
        "{human:?}"
    );
}

#[test]
fn a_peer_that_hangs_up_is_an_error() {
    let folder = pair();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let sync = Running::start(["sync", &folder.at("b"), &address, "--json"]);
    drop(listener.accept().unwrap());
    let end = sync.end();
    assert_eq!(end.code, Some(1), "{end:?}");
    let lines = end.lines();
    assert_eq!(lines.last().unwrap()["event"], "error", "{lines:?}");
}

#[test]
fn a_peer_that_speaks_something_else_does_not_end_the_server() {
    let folder = pair();
    let (mut serving, address) = Running::serve(&folder.at("a"), &[]);
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let error = serving.event("error");
    assert_eq!(error["peer"], stream.local_addr().unwrap().to_string());
    assert_eq!(serving.event("closed")["code"], error["code"]);
    run(["sync", &folder.at("b"), &address]).good();
}

#[test]
fn another_root_key_is_told_on_both_sides() {
    let folder = pair();
    let other = folder.at("other");
    run(["append", &other, "w", "secret", "--key", OTHER_KEY]).good();
    let (mut serving, address) = Running::serve(&folder.at("a"), &[]);
    let end = run(["sync", &other, &address, "--json"]);
    // Whose time is over first is chance: the other one sees it leave.
    for error in [end.lines().pop().unwrap(), serving.event("error")] {
        assert!(error["message"].as_str().unwrap().contains("another root key"), "{error}");
    }
    assert_eq!(end.code, Some(1), "{end:?}");
    assert_eq!(contents(&other).len(), 1);
    run(["sync", &folder.at("b"), &address]).good();
}

#[test]
fn a_sync_that_nobody_listens_to_does_its_work() {
    let folder = pair();
    let (_serving, address) = Running::serve(&folder.at("a"), &[]);
    let mut sync = command(["sync", &folder.at("b"), &address, "--json"]).spawn().unwrap();
    drop(sync.stdout.take());
    ended(sync.wait_with_output().unwrap()).good();
    assert_eq!(contents(&folder.at("b")).len(), 2);
}

#[test]
fn a_cut_connection_is_an_error_and_the_next_sync_fetches_the_rest() {
    let folder = pair();
    let (_serving, address) = Running::serve(&folder.at("a"), &[]);
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let through = proxy.local_addr().unwrap().to_string();
    let target = address.clone();
    let cut = thread::spawn(move || {
        let (client, _) = proxy.accept().unwrap();
        let server = TcpStream::connect(target).unwrap();
        let (mut up, mut up_to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut up, &mut up_to).is_ok());
        let mut some = server.take(20_000);
        let _broken_when_cut = std::io::copy(&mut some, &mut &client);
        client.shutdown(std::net::Shutdown::Both).unwrap();
        some.into_inner().shutdown(std::net::Shutdown::Both).unwrap();
    });
    let end = run(["sync", &folder.at("b"), &through, "--json"]);
    cut.join().unwrap();
    assert_eq!(end.code, Some(1), "{end:?}");
    assert_eq!(end.lines().iter().filter(|line| line["event"] == "error").count(), 1, "{end:?}");
    run(["sync", &folder.at("b"), &address]).good();
    assert_eq!(contents(&folder.at("b")).len(), 2);
    assert_eq!(contents(&folder.at("b"))[..], contents_of_both(&folder)[..]);
}

/// What `b` must hold: its own feed and that of `a`, read where they were written.
fn contents_of_both(folder: &Folder) -> Vec<(String, Vec<u8>)> {
    let lines: String = (0..1_000).map(|i| format!("block {i}")).collect();
    let key = |directory: &str, name: &str| {
        let line = run(["feeds", directory, "--json"]).lines().remove(0);
        let feeds = line["feeds"].as_array().unwrap().clone();
        let feed = feeds.iter().find(|feed| feed["name"] == name).unwrap().clone();
        feed["key"].as_str().unwrap().to_owned()
    };
    let own = key(&folder.at("b"), "bob");
    contents(&folder.at("b"))
        .into_iter()
        .map(|(key, _)| {
            let expected = if key == own { b"onetwo".to_vec() } else { lines.clone().into_bytes() };
            (key, expected)
        })
        .collect()
}

/// Two stores of one multifeed: `a` with a writer of 1,000 blocks, `b` with one of two.
fn pair() -> Folder {
    let folder = Folder::new();
    run(["init", &folder.at("a")]).good();
    let lines: String = (0..1_000).map(|i| format!("block {i}\n")).collect();
    run_with_input(["append", &folder.at("a"), "alice", "--lines"], lines.as_bytes()).good();
    let key = saved_key(&folder.path("a"));
    run(["append", &folder.at("b"), "bob", "one", "two", "--key", &key]).good();
    folder
}
