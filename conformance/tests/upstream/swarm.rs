//! `new-basic.js` and `corestore.js` of hypermultifeed: several multifeeds on one connection. There they
//! meet by a DHT; here a TCP connection is given to both, to JavaScript's networker as if it came from there.

use std::net::Ipv4Addr;

use conformance::{JsPeer, Player, Side, Store, connect, root_key};
use multifeed_tokio::{
    Feed, FeedKey, Multifeed, Options, Role, RootKey, SecretKey, Store as RustStore,
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::cast::{Cast, keys};

pub(crate) async fn minimal_swarm_example(cast: Cast) {
    let [(mut one, _a), (mut two, _b)] = cast.both(&["--networker"]).await;
    let first = one.writer(Some("foo")).await;
    let second = two.writer(Some("bar")).await;
    connect(&mut one, &mut two, true).await;
    one.append(&first, &["first".into()]).await;
    two.append(&second, &["second".into()]).await;
    for (side, other, value) in [(&mut one, &second, "second"), (&mut two, &first, "first")] {
        side.wait_for_feeds(2).await;
        let (mut found, mut wanted) = (keys(side).await, vec![first.clone(), second.clone()]);
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted);
        let named = match side {
            Side::Rust(side) => side.multifeed.feed_named("1").unwrap().key().to_hex(),
            Side::JavaScript(..) => side.writer(Some("1")).await,
        };
        assert_eq!(named, *other);
        assert_eq!(side.value(other, 0).await, value);
    }
}

/// One side with two multifeeds on its connection.
enum Topics {
    Rust { store: RustStore, multifeeds: Vec<Multifeed>, _folder: Store },
    JavaScript { peer: JsPeer, _folder: Store },
}

const TOPICS: [&str; 2] = ["topic A", "topic B"];

impl Topics {
    async fn open(player: Player, arguments: &[&str]) -> Self {
        let [first, second] = TOPICS.map(root_key);
        let folder = Store::new(&first);
        match player {
            Player::Rust(layout) => {
                let options = Options::default().layout(layout);
                let store = RustStore::open(folder.path(), options).await.unwrap();
                let mut multifeeds = Vec::new();
                for key in [first, second] {
                    let key = RootKey::from_hex(&key).unwrap();
                    multifeeds.push(store.multifeed(key).await.unwrap());
                }
                Self::Rust { store, multifeeds, _folder: folder }
            }
            Player::JavaScript(_) => {
                let arguments = [&["--json"], arguments].concat();
                let peer = JsPeer::open(&folder.path(), &first, &arguments);
                Self::JavaScript { peer, _folder: folder }
            }
        }
    }

    async fn append(&mut self, topic: usize, name: &str, value: &str) -> String {
        match self {
            Self::Rust { multifeeds, .. } => {
                let writer = multifeeds[topic].writer(name).await.unwrap();
                writer.append(multifeed_tokio::encoding::json(value).unwrap()).await.unwrap();
                writer.key().to_hex()
            }
            Self::JavaScript { peer, .. } => {
                peer.select(topic);
                let key = peer.write(name, 0, &[]);
                peer.call(json!({"do": "append", "key": key, "values": [value]}));
                key
            }
        }
    }

    /// Waits for two feeds in a topic, and gives their keys, sorted.
    async fn feeds(&mut self, topic: usize) -> Vec<String> {
        let mut keys: Vec<String> = match self {
            Self::Rust { multifeeds, .. } => {
                let mut events = multifeeds[topic].events();
                while multifeeds[topic].feeds().len() < 2 {
                    events.next().await.unwrap();
                }
                multifeeds[topic].feeds().iter().map(|feed| feed.key().to_hex()).collect()
            }
            Self::JavaScript { peer, .. } => {
                peer.select(topic);
                let pending = peer.wait(2, &std::collections::BTreeMap::new());
                peer.finish(pending);
                let key = |feed: &Value| feed["key"].as_str().unwrap().to_owned();
                peer.feeds().iter().map(key).collect()
            }
        };
        keys.sort();
        keys
    }

    async fn value(&mut self, topic: usize, key: &str) -> Value {
        match self {
            Self::Rust { multifeeds, .. } => {
                let feed = multifeeds[topic].feed(&FeedKey::from_hex(key).unwrap()).unwrap();
                multifeed_tokio::encoding::from_json(&feed.get(0).await.unwrap()).unwrap()
            }
            Self::JavaScript { peer, .. } => {
                peer.call(json!({"do": "getValue", "key": key, "index": 0}))["value"].clone()
            }
        }
    }
}

async fn connect_stores(one: &mut Topics, two: &mut Topics) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = match two {
        Topics::Rust { .. } => listener.local_addr().unwrap().port(),
        Topics::JavaScript { peer, .. } => peer.listen(),
    };
    match one {
        Topics::Rust { store, .. } => {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            tokio::spawn(store.replicate(stream, Role::Initiator));
        }
        Topics::JavaScript { peer, .. } => peer.connect(port),
    }
    if let Topics::Rust { store, .. } = two {
        let stream = listener.accept().await.unwrap().0;
        tokio::spawn(store.replicate(stream, Role::Responder));
    }
}

pub(crate) async fn multiple_topics_example(cast: Cast) {
    let second = root_key(TOPICS[1]);
    let arguments = ["--networker", "--also", &second];
    let mut one = Topics::open(cast.players[0], &arguments).await;
    let mut two = Topics::open(cast.players[1], &arguments).await;
    connect_stores(&mut one, &mut two).await;
    let writers = [
        [one.append(0, "foo", "first").await, two.append(0, "baz", "second").await],
        [one.append(1, "bar", "third").await, two.append(1, "bam", "fourth").await],
    ];
    let values = [["first", "second"], ["third", "fourth"]];
    for topic in 0..2 {
        let mut wanted = writers[topic].to_vec();
        wanted.sort();
        for side in [&mut one, &mut two] {
            assert_eq!(side.feeds(topic).await, wanted);
            for (key, value) in writers[topic].iter().zip(values[topic]) {
                assert_eq!(side.value(topic, key).await, value);
            }
        }
    }
}

/// The first has one feed in both topics, the second has one in each.
pub(crate) async fn corestore_networker_example(cast: Cast) {
    let roots = TOPICS.map(root_key);
    let mut one = Topics::open(cast.players[0], &["--muxers"]).await;
    let mut two = Topics::open(cast.players[1], &["--muxers"]).await;
    let shared = match &mut one {
        Topics::Rust { multifeeds, .. } => {
            let secret = SecretKey::from_seed(&[7; 32]);
            let mut feed: Option<Feed> = None;
            for multifeed in multifeeds {
                feed = Some(multifeed.writer_with_key("core1", secret.clone()).await.unwrap());
            }
            feed.unwrap().append(b"hello").await.unwrap();
            secret.public().to_hex()
        }
        Topics::JavaScript { peer, .. } => {
            let answer = peer.call(json!({"do": "mux", "keys": roots, "value": "hello"}));
            answer["key"].as_str().unwrap().to_owned()
        }
    };
    let mut own = Vec::new();
    for topic in 0..2 {
        own.push(match &mut two {
            Topics::Rust { multifeeds, .. } => {
                multifeeds[topic].writer("core2").await.unwrap().key().to_hex()
            }
            Topics::JavaScript { peer, .. } => {
                let answer = peer.call(json!({"do": "mux", "keys": [roots[topic]]}));
                answer["key"].as_str().unwrap().to_owned()
            }
        });
    }
    connect_stores(&mut one, &mut two).await;
    for topic in 0..2 {
        let mut wanted = vec![shared.clone(), own[topic].clone()];
        wanted.sort();
        for side in [&mut one, &mut two] {
            assert_eq!(muxed(side, topic, &roots[topic]).await, wanted, "{}", TOPICS[topic]);
        }
    }
    match &mut two {
        Topics::Rust { multifeeds, .. } => {
            let feed = multifeeds[1].feed(&FeedKey::from_hex(&shared).unwrap()).unwrap();
            assert_eq!(feed.get(0).await.unwrap(), "hello");
        }
        Topics::JavaScript { peer, .. } => {
            let answer = peer.call(json!({"do": "muxed", "key": roots[1], "get": shared}));
            assert_eq!(answer["value"], "hello");
        }
    }
}

/// The feeds of a topic as soon as there are two.
async fn muxed(side: &mut Topics, topic: usize, root: &str) -> Vec<String> {
    match side {
        Topics::Rust { .. } => side.feeds(topic).await,
        Topics::JavaScript { peer, .. } => {
            let answer = peer.call(json!({"do": "muxed", "key": root, "count": 2}));
            serde_json::from_value(answer["feeds"].clone()).unwrap()
        }
    }
}

/// The first replicates its whole store, the second one multifeed.
pub(crate) async fn corestore_to_multifeed_over_hyperswarm(cast: Cast) {
    let root = root_key(TOPICS[0]);
    let mut one = Topics::open(cast.players[0], &["--muxers"]).await;
    let core = match &mut one {
        Topics::Rust { multifeeds, .. } => {
            // The other multifeed of the store is none of the peer's.
            multifeeds[0].writer("core").await.unwrap().key().to_hex()
        }
        Topics::JavaScript { peer, .. } => {
            let answer = peer.call(json!({"do": "mux", "keys": [root]}));
            answer["key"].as_str().unwrap().to_owned()
        }
    };
    let folder = Store::new(&root);
    let mut two = Side::open_json(cast.players[1], &folder, &[]).await;
    let writer = two.writer(Some("local")).await;
    two.append(&writer, &["hello".into()]).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = match &mut two {
        Side::Rust(_) => listener.local_addr().unwrap().port(),
        Side::JavaScript(peer, _) => peer.listen(),
    };
    match &mut one {
        Topics::Rust { store, .. } => {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            tokio::spawn(store.replicate(stream, Role::Initiator));
        }
        Topics::JavaScript { peer, .. } => peer.connect(port),
    }
    if let Side::Rust(side) = &two {
        let stream = listener.accept().await.unwrap().0;
        tokio::spawn(side.multifeed.replicate(stream, Role::Responder));
    }
    let mut wanted = vec![core, writer];
    wanted.sort();
    assert_eq!(muxed(&mut one, 0, &root).await, wanted);
    two.wait_for_feeds(2).await;
    let mut found = keys(&mut two).await;
    found.sort();
    assert_eq!(found, wanted);
}
