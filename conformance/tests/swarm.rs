//! Several peers of both kinds that come, go and write at random, and agree in the end.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::time::Duration;

use conformance::{Contents, Held, JsPeer, Random, Store, block, contents, root_key};
use multifeed_tokio::{Listener, Multifeed, Role, connect};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Sizes of the blocks of every writer, in turn. No empty ones: JavaScript makes no file `data` for a
/// feed of which it downloaded empty blocks only, and drops a peer that asks for one ("Not opened").
const SIZES: [usize; 4] = [100, 1, 3_000, 20];
const STEPS: u64 = 60;
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn peers_of_both_kinds_that_come_go_and_write_at_random_agree_in_the_end() {
    let mut random = Random::from_environment("swarm");
    let key = root_key("swarm");
    let stores: Vec<_> = (0..4).map(|_| Store::new(&key)).collect();
    let mut peers = Vec::new();
    for (number, store) in stores.iter().enumerate() {
        peers.push(if number % 2 == 0 { Peer::javascript(store) } else { Peer::rust(store).await });
    }
    let mut written = BTreeMap::new();
    for _ in 0..STEPS {
        let chosen = random.below(4) as usize;
        let other = (chosen + 1 + random.below(3) as usize) % 4;
        match random.below(5) {
            0 | 1 => {
                let name = format!("peer {chosen} writer {}", random.below(3));
                let (key, length) = peers[chosen].write(&name, random.below(120)).await;
                written.insert(key, (name, length));
            }
            2 | 3 => {
                let port = peers[other].port();
                peers[chosen].connect(port).await;
            }
            _ => peers[chosen].disconnect(),
        }
    }
    // In the end they stand in a line.
    peers.iter_mut().for_each(Peer::disconnect);
    for number in 1..4 {
        let port = peers[number - 1].port();
        peers[number].connect(port).await;
    }
    let expected: Contents = written
        .into_iter()
        .map(|(key, (name, length))| (key, Held::written(&name, length, &SIZES)))
        .collect();
    for peer in &mut peers {
        peer.wait_for(&expected).await;
    }
}

enum Peer {
    JavaScript { peer: JsPeer, port: u16 },
    Rust { multifeed: Multifeed, port: u16, connections: JoinSet<()>, _accepts: JoinSet<()> },
}

impl Peer {
    fn javascript(store: &Store) -> Self {
        let mut peer = store.javascript().patient(PATIENCE);
        let port = peer.listen();
        Self::JavaScript { peer, port }
    }

    async fn rust(store: &Store) -> Self {
        let multifeed = store.open().await;
        let listener = Listener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = multifeed.clone();
        let mut accepts = JoinSet::new();
        accepts.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serving.replicate(stream, Role::Responder));
            }
        });
        Self::Rust { multifeed, port, connections: JoinSet::new(), _accepts: accepts }
    }

    fn port(&self) -> u16 {
        match self {
            Self::JavaScript { port, .. } | Self::Rust { port, .. } => *port,
        }
    }

    /// Appends to a writer; gives its key and length.
    async fn write(&mut self, name: &str, count: u64) -> (String, u64) {
        match self {
            Self::JavaScript { peer, .. } => {
                let key = peer.write(name, count, &SIZES);
                let feeds = peer.feeds();
                let feed = feeds.iter().find(|feed| feed["key"] == key.as_str()).unwrap();
                (key, conformance::json_u64(feed, "length"))
            }
            Self::Rust { multifeed, .. } => {
                let writer = multifeed.writer(name).await.unwrap();
                let start = writer.load().await.unwrap().length;
                let blocks = (start..start + count)
                    .map(|index| block(name, index, SIZES[(index % SIZES.len() as u64) as usize]));
                writer.append_batch(blocks).await.unwrap();
                (writer.key().to_hex(), start + count)
            }
        }
    }

    async fn connect(&mut self, port: u16) {
        match self {
            Self::JavaScript { peer, .. } => peer.connect(port),
            Self::Rust { multifeed, connections, .. } => {
                let stream = connect(("127.0.0.1", port)).await.unwrap();
                let replication = multifeed.replicate(stream, Role::Initiator);
                connections.spawn(async {
                    // The other end may be cut at any time.
                    let _ = replication.await;
                });
            }
        }
    }

    /// Cuts the connections that this peer made; JavaScript also those that it accepted.
    fn disconnect(&mut self) {
        match self {
            Self::JavaScript { peer, .. } => peer.disconnect(),
            Self::Rust { connections, .. } => connections.abort_all(),
        }
    }

    async fn wait_for(&mut self, expected: &Contents) {
        match self {
            Self::JavaScript { peer, .. } => peer.wait_for(expected),
            Self::Rust { multifeed, .. } => {
                let mut events = multifeed.events();
                let complete = async {
                    while !holds_all(multifeed, expected) {
                        events.next().await.expect("the store is open");
                    }
                };
                let complete = timeout(PATIENCE, complete).await;
                assert_eq!(&contents(multifeed).await, expected, "in time: {}", complete.is_ok());
            }
        }
    }
}

fn holds_all(multifeed: &Multifeed, expected: &Contents) -> bool {
    let feeds = multifeed.feeds();
    feeds.len() == expected.len()
        && feeds.iter().all(|feed| {
            let info = feed.info();
            info.blocks == expected[&feed.key().to_hex()].length
        })
}
