//! Many live connections at once into one node: the program, serving a folder.
//!
//! `cargo run --release -p conformance --bin load -- [--links 500] [--writers 25] [--blocks 20]`: so many peers in this
//! process, each with a store in memory; every so many of them has a writer with blocks. All come to hold all through
//! the one that is served; then one block more is appended, and nothing is done for a while.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test program fails by panicking, and takes the time"
)]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use conformance::{Store, line, lines, root_key};
use multifeed_tokio::{Feed, MemoryStorage, Multifeed, Options, Role, RootKey};

/// Blocks of the node that is served.
const SERVED: u64 = 1_000;
/// Bytes of each block.
const SIZE: usize = 100;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str, default: u64| {
        let at = arguments.iter().position(|argument| argument == name);
        at.map_or(default, |at| arguments[at + 1].parse().expect("a number"))
    };
    let (links, writers, blocks) =
        (option("--links", 500), option("--writers", 25), option("--blocks", 20));
    let key = root_key("load");
    let store = Store::new(&key);
    store.append_lines("served", &lines("served", 0..SERVED, SIZE));
    let serving = store.serve(&["--max-connections", &links.to_string()]);
    let before = serving.process.resident();

    let mut peers = Vec::new();
    for at in 0..links {
        let options = Options::default().root_key(RootKey::from_hex(&key).unwrap());
        let peer = Multifeed::open_on(Arc::new(MemoryStorage::default()), options).await.unwrap();
        if at % links.div_ceil(writers) == 0 {
            let name = format!("w{at}");
            let writer = peer.writer(name.as_str()).await.unwrap();
            writer.append_batch((0..blocks).map(|n| line(&name, n, SIZE))).await.unwrap();
        }
        peers.push(peer);
    }
    let feeds = 1 + peers.iter().filter(|peer| peer.feeds().iter().any(Feed::is_writable)).count();
    let start = Instant::now();
    for peer in &peers {
        let stream = multifeed_tokio::connect((Ipv4Addr::LOCALHOST, serving.port)).await.unwrap();
        tokio::spawn(peer.replicate(stream, Role::Initiator));
    }
    let all = SERVED + blocks * (feeds as u64 - 1);
    let most = wait(&serving, &peers, feeds, all).await;
    println!(
        "{links} connections, {feeds} feeds: all {} peers hold {all} blocks after {:.1} s; the served process had {before} KiB before, {most} KiB at most ({} KiB a connection)",
        peers.len(),
        start.elapsed().as_secs_f64(),
        most.saturating_sub(before) / links,
    );

    let start = Instant::now();
    let writer = peers[0].feeds().into_iter().find(Feed::is_writable).unwrap();
    writer.append("one more").await.unwrap();
    let most = wait(&serving, &peers, feeds, all + 1).await;
    println!("one more block is everywhere after {} ms ({most} KiB)", start.elapsed().as_millis());
    tokio::time::sleep(Duration::from_secs(30)).await;
    println!("half a minute later: {} KiB", serving.process.resident());
    drop(peers);
    serving.stop();
}

/// Waits until all peers hold all; gives the most memory of the served process meanwhile.
async fn wait(
    serving: &conformance::Serving,
    peers: &[Multifeed],
    feeds: usize,
    blocks: u64,
) -> u64 {
    let (end, mut most) = (Instant::now() + Duration::from_secs(600), 0);
    let mut next = 0;
    while next < peers.len() {
        most = most.max(serving.process.resident());
        let held = peers[next].feeds();
        let there: u64 = held.iter().map(|feed| feed.info().blocks).sum();
        if held.len() == feeds && there == blocks {
            next += 1;
            continue;
        }
        assert!(
            Instant::now() < end,
            "peer {next} has {} feeds and {there} blocks of {blocks}",
            held.len(),
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    most
}
