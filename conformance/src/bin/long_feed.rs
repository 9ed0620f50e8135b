//! Feeds of more blocks than one `Want` speaks of (1,048,576), between the library and JavaScript, each
//! way: blocks beyond are announced, asked for, verified and cleared.
//!
//! `cargo run --release -p conformance --bin long_feed`; takes less than a minute.

#![allow(clippy::unwrap_used, reason = "a check fails by panicking")]

use std::net::Ipv4Addr;
use std::time::Duration;

use conformance::{JsPeer, Store, block, json_u64, root_key};
use multifeed_tokio::{Multifeed, Options, Role, RootKey};
use serde_json::json;
use tokio::net::TcpStream;

const BLOCKS: u64 = (1 << 20) + 10_000;
const SIZE: usize = 8;
const BATCH: u64 = 20_000;
const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::main]
async fn main() {
    let root = root_key("long feed");
    let (js, rust) = (Store::new(&root), Store::new(&root));
    let mut peer = JsPeer::open(&js.path(), &root, &["--sparse"]).patient(PATIENCE);
    let pending = peer.start_write("theirs", BLOCKS, &[SIZE], BATCH);
    let key = peer.finish(pending)["key"].as_str().unwrap().to_owned();
    println!("JavaScript wrote {BLOCKS} blocks");
    let options = Options::default().root_key(RootKey::from_hex(&root).unwrap()).sparse(true);
    let multifeed = Multifeed::open(rust.path(), options).await.unwrap();
    let ours = multifeed.writer("ours").await.unwrap();
    for start in (0..BLOCKS).step_by(BATCH as usize) {
        let end = BLOCKS.min(start + BATCH);
        ours.append_batch((start..end).map(|index| block("ours", index, SIZE))).await.unwrap();
    }
    println!("we wrote {BLOCKS} blocks");

    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, peer.listen())).await.unwrap();
    tokio::spawn(multifeed.replicate(stream, Role::Initiator));
    let mut events = multifeed.events();
    let theirs = loop {
        let mut feeds = multifeed.feeds().into_iter();
        match feeds.find(|feed| feed.key().to_hex() == key) {
            Some(feed) => break feed,
            None => events.next().await.unwrap(),
        };
    };
    assert_eq!(theirs.update(Some(BLOCKS)).await.unwrap(), BLOCKS);
    for index in [BLOCKS - 1, 1 << 20, (1 << 20) - 1, 0] {
        let found = theirs.get(index).timeout(PATIENCE).await.unwrap();
        assert_eq!(found, block("theirs", index, SIZE), "block {index}");
    }
    println!("we read blocks of JavaScript on both sides of the border");

    let own = ours.key().to_hex();
    let known = peer.wait(2, &std::collections::BTreeMap::new());
    peer.finish(known);
    ours.clear((1 << 20) + 5..(1 << 20) + 50).await.unwrap();
    let answer = peer.call(json!({"do": "update", "key": own, "length": BLOCKS}));
    assert_eq!(json_u64(&answer, "length"), BLOCKS);
    for index in [BLOCKS - 1, 1 << 20, (1 << 20) + 50, 0] {
        let answer = peer.call(json!({"do": "get", "key": own, "index": index}));
        let hex: String =
            block("ours", index, SIZE).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(answer["value"], hex, "block {index}");
    }
    println!("JavaScript read ours");
    multifeed.close().await.unwrap();
    peer.close();
}
