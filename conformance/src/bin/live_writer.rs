//! Appends as fast as it can while it serves peers, until it is killed: `live_writer DIR NAME COUNT`.
//!
//! Appends blocks `NAME 0`, `NAME 1`, … to the writer `live` of the store in DIR, whose key is in the
//! environment (`MULTIFEED_KEY`). Prints `{"event":"listening","port"}`, then
//! `{"event":"appended","start","length"}` after each append was acknowledged. After COUNT blocks it only
//! serves. A test program: the tests of killed processes run it.

#![allow(clippy::unwrap_used, reason = "a test program fails by panicking")]

use std::net::Ipv4Addr;

use multifeed_tokio::{Listener, Multifeed, Options, Role, RootKey};
use serde_json::json;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, name, count] = &arguments[..] else { panic!("DIR NAME COUNT") };
    let key = RootKey::from_hex(&std::env::var("MULTIFEED_KEY").unwrap()).unwrap();
    let multifeed = Multifeed::open(directory, Options::default().root_key(key)).await.unwrap();
    let writer = multifeed.writer("live").await.unwrap();
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    println!("{}", json!({"event": "listening", "port": listener.local_addr().unwrap().port()}));
    let serving = multifeed.clone();
    let serve = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serving.replicate(stream, Role::Responder));
        }
    });
    for index in 0..count.parse().unwrap() {
        let start = writer.append(format!("{name} {index}")).await.unwrap();
        println!("{}", json!({"event": "appended", "start": start, "length": 1}));
    }
    serve.await.unwrap();
}
