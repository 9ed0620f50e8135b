//! One side of a case, in the same words for our library and for a JavaScript peer.

#![allow(clippy::wildcard_enum_match_arm, reason = "each wait looks for one event")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use multifeed_tokio::{
    Event, Events, Feed, FeedKey, Layout, Multifeed, Options, ReplicationError, ReplicationEvent,
    ReplicationOptions, Role, RootKey, encoding,
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::contents::{Contents, block};
use crate::javascript::JsPeer;
use crate::library;
use crate::process::json_u64;
use crate::slow::SlowStorage;
use crate::store::Store;

/// Who plays a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Player {
    /// Our library, with files in this layout.
    Rust(Layout),
    /// An npm package.
    JavaScript(&'static str),
}

/// A multifeed that is open on one side.
#[derive(Debug)]
pub enum Side {
    /// In our library.
    Rust(Box<RustSide>),
    /// In a Node process.
    JavaScript(Box<JsPeer>, &'static str),
}

/// A multifeed in our library, and what it and its connections said.
#[derive(Debug)]
pub struct RustSide {
    /// The multifeed.
    pub multifeed: Multifeed,
    events: Events,
    news: UnboundedReceiver<ReplicationEvent>,
    tell: UnboundedSender<ReplicationEvent>,
    waiting: Vec<ReplicationEvent>,
}

/// A feed as a side lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key, 64 hex digits.
    pub key: String,
    /// The name in the multifeed.
    pub name: String,
    /// Blocks in the log.
    pub length: u64,
}

impl Side {
    /// Opens the store, with JSON as the encoding of JavaScript; `arguments` are for `peer.js`.
    pub async fn open_json(player: Player, store: &Store, arguments: &[&str]) -> Self {
        Self::open(player, store, &[&["--json"], arguments].concat()).await
    }

    /// Opens the store; `arguments` are for `peer.js`.
    pub async fn open(player: Player, store: &Store, arguments: &[&str]) -> Self {
        match player {
            Player::Rust(layout) => Self::rust(
                Multifeed::open(store.path(), options(store).layout(layout)).await.unwrap(),
            ),
            Player::JavaScript(package) => {
                let all = [&["--package", package], arguments].concat();
                let peer = JsPeer::open(&store.path(), store.key(), &all).patient(PATIENCE);
                Self::JavaScript(Box::new(peer), package)
            }
        }
    }

    /// Opens an empty store, each operation on whose storage takes so long: in memory for Rust.
    pub async fn open_slow(player: Player, store: &Store, latency: Duration) -> Self {
        match player {
            Player::Rust(layout) => {
                let options = options(store).layout(layout);
                let storage = Arc::new(SlowStorage::new(latency));
                Self::rust(Multifeed::open_on(storage, options).await.unwrap())
            }
            Player::JavaScript(_) => {
                let latency = latency.as_millis().to_string();
                Self::open_json(player, store, &["--latency", &latency]).await
            }
        }
    }

    /// A multifeed that is open.
    #[must_use]
    pub fn rust(multifeed: Multifeed) -> Self {
        let events = multifeed.events();
        let (tell, news) = unbounded_channel();
        Self::Rust(Box::new(RustSide { multifeed, events, news, tell, waiting: Vec::new() }))
    }

    /// The multifeed of our library.
    ///
    /// # Panics
    ///
    /// If it is not ours.
    #[must_use]
    pub fn ours(&self) -> &Multifeed {
        match self {
            Self::Rust(side) => &side.multifeed,
            Self::JavaScript(..) => panic!("this side is JavaScript"),
        }
    }

    /// Makes or finds a writer; gives its key.
    pub async fn writer(&mut self, name: Option<&str>) -> String {
        match self {
            Self::Rust(side) => side.multifeed.writer(name).await.unwrap().key().to_hex(),
            Self::JavaScript(peer, _) => key_of(&peer.call(json!({"do": "write", "writer": name}))),
        }
    }

    /// The same with a key pair, as libsodium writes the secret key.
    pub async fn writer_with_key(&mut self, name: &str, seed: &str) -> String {
        match self {
            Self::Rust(side) => {
                let seed = RootKey::from_hex(seed).unwrap();
                let secret = multifeed_tokio::SecretKey::from_seed(seed.expose());
                side.multifeed.writer_with_key(name, secret).await.unwrap().key().to_hex()
            }
            Self::JavaScript(peer, _) => peer.write_with_key(name, seed, 0, 0),
        }
    }

    /// Appends values as JSON under one signature.
    pub async fn append(&mut self, key: &str, values: &[Value]) {
        match self {
            Self::Rust(side) => {
                let blocks = values.iter().map(|value| encoding::json(value).unwrap());
                feed_of(&side.multifeed, key).append_batch(blocks).await.unwrap();
            }
            Self::JavaScript(peer, _) => {
                peer.call(json!({"do": "append", "key": key, "values": values}));
            }
        }
    }

    /// Appends so many blocks to a writer, as `Held::written` has them; gives its key.
    pub async fn write(&mut self, name: &str, blocks: u64, sizes: &[usize]) -> String {
        match self {
            Self::Rust(side) => {
                let writer = side.multifeed.writer(name).await.unwrap();
                let size = |index: u64| sizes[usize::try_from(index).unwrap() % sizes.len()];
                let start = writer.load().await.unwrap().length;
                let indices = start..start + blocks;
                let blocks = indices.map(|index| block(name, index, size(index)));
                writer.append_batch(blocks).await.unwrap();
                writer.key().to_hex()
            }
            Self::JavaScript(peer, _) => peer.write(name, blocks, sizes),
        }
    }

    /// The JSON value of a block, asked of peers if it is not here.
    pub async fn value(&mut self, key: &str, index: u64) -> Value {
        match self {
            Self::Rust(side) => {
                let block = feed_of(&side.multifeed, key).get(index).timeout(PATIENCE).await;
                encoding::from_json(&block.unwrap()).unwrap()
            }
            Self::JavaScript(peer, _) => {
                let get = json!({"do": "getValue", "key": key, "index": index});
                peer.call(get)["value"].clone()
            }
        }
    }

    /// The feeds, in the order in which this side gives them.
    pub async fn feeds(&mut self) -> Vec<Listed> {
        match self {
            Self::Rust(side) => {
                let mut feeds = Vec::new();
                for feed in side.multifeed.feeds() {
                    let info = feed.load().await.unwrap();
                    let key = feed.key().to_hex();
                    feeds.push(Listed { key, name: info.name, length: info.length });
                }
                feeds
            }
            Self::JavaScript(peer, _) => {
                let mut feeds = peer.feeds();
                feeds.sort_by_key(|feed| json_u64(feed, "index"));
                let name = |feed: &Value| feed["name"].as_str().unwrap().to_owned();
                let listed = |feed: &Value| Listed {
                    key: key_of(feed),
                    name: name(feed),
                    length: json_u64(feed, "length"),
                };
                feeds.iter().map(listed).collect()
            }
        }
    }

    /// Waits until this side has at least so many feeds.
    pub async fn wait_for_feeds(&mut self, count: usize) {
        match self {
            Self::Rust(side) => {
                let mut events = side.multifeed.events();
                while side.multifeed.feeds().len() < count {
                    within("a feed", events.next()).await.expect("the store is open");
                }
            }
            Self::JavaScript(peer, _) => {
                let pending = peer.wait(count, &std::collections::BTreeMap::new());
                peer.finish(pending);
            }
        }
    }

    /// The names of the first feeds whose joining this side tells by an event, or told.
    pub async fn feed_events(&mut self, count: usize) -> Vec<String> {
        match self {
            Self::Rust(side) => {
                let mut names = Vec::new();
                while names.len() < count {
                    let event = within("a feed's event", side.events.next()).await;
                    if let Event::FeedAdded { key, .. } = event.expect("the store is open") {
                        names.push(side.multifeed.feed(&key).unwrap().name());
                    }
                }
                names
            }
            Self::JavaScript(peer, _) => {
                let names = peer.call(json!({"do": "feedEvents"}))["names"].clone();
                serde_json::from_value(names).unwrap()
            }
        }
    }

    /// Waits until a connection says which feeds both agreed on, which hypermultifeed does not say of
    /// none; gives their number on our side.
    pub async fn remote_feeds(&mut self) -> Option<usize> {
        match self {
            Self::Rust(side) => {
                let wanted = |event: &ReplicationEvent| match event {
                    ReplicationEvent::RemoteFeeds { keys, .. } => Some(keys.len()),
                    _ => None,
                };
                Some(side.until("RemoteFeeds", wanted).await)
            }
            Self::JavaScript(peer, _) => {
                peer.process().expect_event("remote-feeds");
                None
            }
        }
    }

    /// Waits until a connection is in sync; only for our side.
    pub async fn in_sync(&mut self) {
        if let Self::Rust(side) = self {
            let wanted =
                |event: &ReplicationEvent| matches!(event, ReplicationEvent::InSync).then_some(());
            side.until("InSync", wanted).await;
        }
    }

    /// Waits for the end of a connection that is to end by itself, and in order.
    pub async fn ended(&mut self) {
        match self {
            Self::Rust(_) => self.closed().await.expect("the connection ends in order"),
            Self::JavaScript(peer, package) => {
                // hypermultifeed never ends by itself.
                if *package == "multifeed" {
                    peer.process().expect_event("ended");
                }
                let closed = peer.process().expect_event("closed");
                assert_eq!(closed["errors"], json!([]), "how the connection ended");
            }
        }
    }

    /// Waits for the end of a connection of our side.
    ///
    /// # Errors
    ///
    /// As it ended.
    pub async fn closed(&mut self) -> Result<(), ReplicationError> {
        let Self::Rust(side) = self else { panic!("this side is JavaScript") };
        let wanted = |event: &ReplicationEvent| match event {
            ReplicationEvent::Closed { result } => Some(result.clone()),
            _ => None,
        };
        side.until("Closed", wanted).await
    }

    /// Waits until this side holds all of `contents`, and compares it.
    pub async fn wait_for(&mut self, contents: &Contents) {
        match self {
            Self::Rust(side) => {
                within("all feeds", async {
                    let mut events = side.multifeed.events();
                    while side.multifeed.feeds().len() < contents.len() {
                        events.next().await.expect("the store is open");
                    }
                })
                .await;
                for (key, held) in contents {
                    for index in 0..held.length {
                        feed_of(&side.multifeed, key).get(index).timeout(PATIENCE).await.unwrap();
                    }
                }
                assert_eq!(&library::contents(&side.multifeed).await, contents);
            }
            Self::JavaScript(peer, _) => peer.wait_for(contents),
        }
    }

    /// Waits for the end of a connection of a JavaScript peer, however it comes.
    pub async fn left(&mut self) {
        let Self::JavaScript(peer, _) = self else { panic!("this side is Rust") };
        peer.process().expect_event("closed");
    }

    /// Whether a connection of our side agreed on feeds or came in sync so far, and nobody waited for
    /// that.
    #[must_use]
    pub fn agreed(&self) -> bool {
        let Self::Rust(side) = self else { return false };
        side.waiting.iter().any(|event| {
            matches!(event, ReplicationEvent::RemoteFeeds { .. } | ReplicationEvent::InSync)
        })
    }

    /// What this side holds.
    pub async fn contents(&mut self) -> Contents {
        match self {
            Self::Rust(side) => library::contents(&side.multifeed).await,
            Self::JavaScript(peer, _) => peer.contents(),
        }
    }

    /// Closes the store.
    pub async fn close(self) {
        match self {
            Self::Rust(side) => side.multifeed.close().await.unwrap(),
            Self::JavaScript(peer, _) => peer.close(),
        }
    }

    async fn listen(&mut self) -> Listening {
        match self {
            Self::Rust(_) => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                Listening::Ours(listener)
            }
            Self::JavaScript(peer, _) => Listening::Theirs(peer.listen()),
        }
    }

    fn replicate(&self, stream: TcpStream, role: Role, live: bool) {
        let Self::Rust(side) = self else { panic!("this side is JavaScript") };
        stream.set_nodelay(true).unwrap();
        let options = ReplicationOptions { live, ..ReplicationOptions::default() };
        let mut replication = side.multifeed.replicate_with(stream, role, options);
        let tell = side.tell.clone();
        tokio::spawn(async move {
            while let Some(event) = replication.next().await {
                // The test may be over.
                let _ = tell.send(event);
            }
        });
    }
}

impl RustSide {
    async fn until<T>(&mut self, what: &str, wanted: impl Fn(&ReplicationEvent) -> Option<T>) -> T {
        let found = |event: &(usize, &ReplicationEvent)| wanted(event.1).is_some();
        if let Some((at, _)) = self.waiting.iter().enumerate().find(found) {
            let event = self.waiting.remove(at);
            return wanted(&event).unwrap();
        }
        let waiting = async {
            loop {
                let event = self.news.recv().await.expect("this side holds a sender");
                if let Some(found) = wanted(&event) {
                    return found;
                }
                self.waiting.push(event);
            }
        };
        within(what, waiting).await
    }
}

enum Listening {
    Ours(TcpListener),
    Theirs(u16),
}

/// Connects two sides over TCP, `one` as the initiator. A peer that was started with `--no-live` is not
/// live whatever is said here.
pub async fn connect(one: &mut Side, two: &mut Side, live: bool) {
    let listening = two.listen().await;
    let port = match &listening {
        Listening::Ours(listener) => listener.local_addr().unwrap().port(),
        Listening::Theirs(port) => *port,
    };
    match one {
        Side::Rust(_) => {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            one.replicate(stream, Role::Initiator, live);
        }
        Side::JavaScript(peer, _) => peer.connect(port),
    }
    if let Listening::Ours(listener) = listening {
        let stream = listener.accept().await.unwrap().0;
        two.replicate(stream, Role::Responder, live);
    }
}

fn options(store: &Store) -> Options {
    Options::default().root_key(RootKey::from_hex(store.key()).unwrap())
}

fn feed_of(multifeed: &Multifeed, key: &str) -> Feed {
    let feed = multifeed.feed(&FeedKey::from_hex(key).unwrap());
    feed.unwrap_or_else(|| panic!("no feed {key} in {:?}", multifeed.feeds()))
}

fn key_of(answer: &Value) -> String {
    answer["key"].as_str().unwrap().to_owned()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let over = tokio::time::timeout(PATIENCE, future).await;
    over.unwrap_or_else(|_| panic!("no {what} within {PATIENCE:?}"))
}

const PATIENCE: Duration = Duration::from_secs(60);
