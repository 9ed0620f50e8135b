//! A store in a folder, and two of them connected.

use std::time::Duration;

use futures_lite::future;
use multifeed_driver::{
    ByteStream, Feed, Hosted, Multifeed, Options, Replication, ReplicationEvent, Role, RootKey,
    SyncState, Wrap,
};
use tempfile::TempDir;

use crate::host::{Host, timeout};

/// How long anything takes at most.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A store in a folder that goes away with it.
#[derive(Debug)]
pub struct Peer<H: Host> {
    /// The store.
    pub multi: Hosted<H::Runtime>,
    /// Its folder.
    pub folder: TempDir,
}

/// One end of a connection.
pub type End<H> = Replication<<<H as Host>::Runtime as Wrap<<H as Host>::Stream>>::Stream>;

/// The options of all scenarios.
#[must_use]
pub fn options() -> Options {
    Options::default().root_key(RootKey::new([7; 32]))
}

impl<H: Host> Peer<H> {
    /// A new store.
    pub async fn new() -> Self {
        Self::with(options()).await
    }

    /// A new store with these options.
    pub async fn with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let multi = Hosted::open(folder.path(), options).await.unwrap();
        Self { multi, folder }
    }

    /// A writer with so many blocks of its name and their number.
    pub async fn writer(&self, name: &str, blocks: u32) -> Feed {
        let writer = self.multi.writer(name).await.unwrap();
        writer.append_batch((0..blocks).map(|n| format!("{name} {n}"))).await.unwrap();
        writer
    }
}

/// Two ends of a TCP connection.
pub async fn tcp<H: Host>() -> (H::Stream, H::Stream) {
    let (listener, port) = H::listen().await;
    future::zip(H::connect(port), H::accept(&listener)).await
}

/// Connects two stores over TCP.
pub async fn connected<H: Host>(a: &Peer<H>, b: &Peer<H>) -> (End<H>, End<H>) {
    let (one, two) = tcp::<H>().await;
    (a.multi.replicate(one, Role::Initiator), b.multi.replicate(two, Role::Responder))
}

/// Polls two ends until both say that they are in sync.
pub async fn in_sync<H: Host, S: ByteStream>(one: &mut Replication<S>, two: &mut Replication<S>) {
    let both = async {
        while one.sync_state() != SyncState::InSync || two.sync_state() != SyncState::InSync {
            check(future::or(one.next(), two.next()).await);
        }
    };
    timeout::<H, _>("come in sync", PATIENCE, both).await;
}

/// Fails at the end of a connection.
pub fn check(event: Option<ReplicationEvent>) {
    let event = event.expect("the end of a connection");
    assert!(!matches!(event, ReplicationEvent::Closed { .. }), "{event:?}");
}

/// Compares all blocks of a writer with those that `other` holds.
pub async fn same(writer: &Feed, other: &Multifeed) {
    let feed = other.feed(&writer.key()).expect("the feed");
    let length = writer.len();
    let mut blocks = feed.subscribe(0..length);
    for index in 0..length {
        let block = blocks.next().await.unwrap().unwrap();
        assert_eq!(block, writer.get(index).await.unwrap(), "block {index}");
    }
}

/// The feed of a writer in another store, as soon as that knows it.
pub async fn feed_in(writer: &Feed, other: &Multifeed) -> Feed {
    let mut events = other.events();
    loop {
        match other.feed(&writer.key()) {
            Some(feed) => return feed,
            None => drop(events.next().await.expect("the store is open")),
        }
    }
}
