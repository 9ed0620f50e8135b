//! Connections whose other side proves nothing: what they cannot do, and what is said of them.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use util::{Folder, OTHER_KEY, Running, run, saved_key};

fn store() -> Folder {
    let folder = Folder::new();
    run(["init", &folder.at("a")]).good();
    run(["append", &folder.at("a"), "alice", "one", "two"]).good();
    let key = saved_key(&folder.path("a"));
    run(["append", &folder.at("b"), "bob", "three", "--key", &key]).good();
    folder
}

#[test]
fn nobody_but_a_peer_with_the_root_key_ends_a_server_that_serves_once() {
    let folder = store();
    let (serving, address) = Running::serve(&folder.at("a"), &["--once"]);
    drop(TcpStream::connect(&address).unwrap());
    for words in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 200], &[58], b"\x16\x03\x01\x02\x00"] {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(words).unwrap();
    }
    // Half a handshake: a first message that fits, and no more.
    let mut half = TcpStream::connect(&address).unwrap();
    half.write_all(&[[58].as_slice(), &[9; 58]].concat()).unwrap();
    half.read_exact(&mut [0]).unwrap();
    let other = folder.at("other");
    let end = run(["sync", &other, &address, "--key", OTHER_KEY, "--json"]);
    assert_eq!(end.code, Some(1), "{end:?}");

    run(["sync", &folder.at("b"), &address]).good();
    let end = serving.end().good();
    let connected = end.lines().iter().filter(|line| line["event"] == "connected").count();
    assert_eq!(connected, 1, "{end:?}");
}

#[test]
fn a_server_that_serves_once_fails_if_its_peer_does() {
    let folder = store();
    let (mut serving, address) = Running::serve(&folder.at("a"), &["--once"]);
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let through = proxy.local_addr().unwrap().to_string();
    let relay = thread::spawn(move || {
        let (client, _) = proxy.accept().unwrap();
        let server = TcpStream::connect(address).unwrap();
        let (mut up, mut up_to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let up = thread::spawn(move || std::io::copy(&mut up, &mut up_to).is_ok());
        let _cut = std::io::copy(&mut &server, &mut &client);
        let _gone = client.shutdown(std::net::Shutdown::Both);
        up.join().unwrap()
    });
    let sync = Running::start(["sync", &folder.at("b"), &through, "--live", "--json"]);
    serving.event("connected");
    // It dies in the middle of whatever it does; a cut after both have everything is no failure.
    drop(sync);
    let end = serving.end();
    relay.join().unwrap();
    let closed = end.lines().into_iter().find(|line| line["event"] == "closed").unwrap();
    assert_eq!(end.code, Some(i32::from(!closed["code"].is_null())), "{end:?}");
}

#[test]
fn peers_that_say_nothing_keep_nobody_out() {
    let folder = store();
    let (serving, address) = Running::serve(&folder.at("a"), &["--max-connections", "2"]);
    let idle: Vec<_> = (0..700).map(|_| TcpStream::connect(&address).unwrap()).collect();
    run(["sync", &folder.at("b"), &address, "--timeout", "5"]).good();
    drop(idle);
    serving.signal("INT");
    serving.end().good();
}

#[test]
fn a_flood_of_other_services_is_counted_and_does_not_fill_the_output() {
    let folder = store();
    let (mut serving, address) = Running::serve(&folder.at("a"), &[]);
    for _ in 0..200 {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    }
    let error = serving.event("error");
    assert_eq!(error["code"], "ERR_HANDSHAKE");
    assert!(error["message"].as_str().unwrap().contains("it speaks HTTP"), "{error}");
    let told = serving.event("strangers");
    assert!(told["turned_away"].as_u64().unwrap() > 100, "{told}");
    serving.signal("INT");
    let lines = serving.end().good().lines();
    assert!(lines.len() < 100, "{} lines", lines.len());
}

/// Plays a service that says `words` to whoever connects; gives what `sync` says of it.
fn said_of(folder: &Folder, words: &'static [u8], closes: bool) -> (serde_json::Value, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let service = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // Not before its first message came: closing with that unread would be a reset.
        stream.read_exact(&mut [0; 59]).unwrap();
        stream.write_all(words).unwrap();
        if !closes {
            let _until_it_leaves = stream.read_to_end(&mut Vec::new());
        }
    });
    let end = run(["sync", &folder.at("b"), &address, "--json"]);
    service.join().unwrap();
    assert_eq!(end.code, Some(1), "{end:?}");
    let error = end.lines().pop().unwrap();
    let message = error["message"].as_str().unwrap().to_owned();
    (error, message)
}

#[test]
fn a_sync_tells_silence_from_another_service_and_from_another_root_key() {
    let folder = store();
    let (error, message) = said_of(&folder, b"", false);
    assert_eq!(error["code"], "ERR_NOTHING_CAME");
    assert!(message.contains("the peer said nothing"), "{message}");
    let (error, message) = said_of(&folder, b"SSH-2.0-x\r\n", false);
    assert_eq!(error["code"], "ERR_HANDSHAKE");
    assert!(message.contains("no multifeed: it speaks SSH"), "{message}");
    let (_, message) = said_of(&folder, b"HTTP/1.1 400 Bad Request\r\n\r\n", true);
    assert!(message.contains("it speaks HTTP"), "{message}");
    let (error, message) = said_of(&folder, b"", true);
    assert_eq!(error["code"], "ERR_PEER_LEFT");
    assert!(message.contains("without a word"), "{message}");
    let (error, message) = said_of(&folder, &[0; 64], false);
    assert_eq!(error["code"], "ERR_HANDSHAKE");
    assert!(!message.contains("root key"), "{message}");
}

#[test]
fn a_server_that_is_stopped_is_not_taken_for_one_with_another_root_key() {
    let folder = store();
    let (serving, address) = Running::serve(&folder.at("a"), &[]);
    serving.signal("STOP");
    let end = run(["sync", &folder.at("b"), &address]);
    serving.signal("CONT");
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.stderr.contains("said nothing") && !end.stderr.contains("root key"), "{end:?}");
}
