//! Two stores over tokio's pipes, with a clock that is paused: time passes by itself when nothing else
//! is left to do, so a wait that would hang fails at once. What all runtimes must do is in `scenarios`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use multifeed_tokio::{
    Feed, Multifeed, NodeConfig, Options, Replication, ReplicationEvent, Role, RootKey, SyncState,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// A store in a folder that goes away with it.
struct Peer {
    multi: Multifeed,
    _folder: TempDir,
}

impl Peer {
    async fn new() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = options.root_key(RootKey::new([7; 32]));
        let multi = Multifeed::open(folder.path(), options).await.unwrap();
        Self { multi, _folder: folder }
    }

    async fn writer(&self, name: &str, blocks: u32) -> Feed {
        let writer = self.multi.writer(name).await.unwrap();
        writer.append_batch((0..blocks).map(|n| format!("{name} {n}"))).await.unwrap();
        writer
    }
}

/// Polls two ends until both say that they are in sync.
async fn in_sync<S, T>(one: &mut Replication<S>, two: &mut Replication<T>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let both = async {
        while one.sync_state() != SyncState::InSync || two.sync_state() != SyncState::InSync {
            tokio::select! {
                event = one.next() => check(event),
                event = two.next() => check(event),
            }
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), both).await;
    assert!(waited.is_ok(), "{:?} {:?}", one.sync_state(), two.sync_state());
}

fn check(event: Option<ReplicationEvent>) {
    let event = event.expect("the end of a connection");
    assert!(!matches!(event, ReplicationEvent::Closed { .. }), "{event:?}");
}

async fn same(writer: &Feed, other: &Multifeed) {
    let feed = other.feed(&writer.key()).expect("the feed");
    let length = writer.len();
    let mut blocks = feed.subscribe(0..length);
    for index in 0..length {
        let block = blocks.next().await.unwrap().unwrap();
        assert_eq!(block, writer.get(index).await.unwrap(), "block {index}");
    }
}

async fn sync_over<S>(one: S, two: S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (a, b) = (Peer::new().await, Peer::new().await);
    let ours = a.writer("a", 100).await;
    let theirs = b.writer("b", 3000).await;
    let mut one = a.multi.replicate(one, Role::Initiator);
    let mut two = b.multi.replicate(two, Role::Responder);
    in_sync(&mut one, &mut two).await;
    same(&ours, &b.multi).await;
    same(&theirs, &a.multi).await;
    assert_eq!((one.counters().blocks_received, one.counters().blocks_sent), (3000, 100));

    let (one_ended, two_ended) = tokio::join!(one.close(), two);
    one_ended.unwrap();
    two_ended.unwrap();
    a.multi.close().await.unwrap();
    b.multi.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn two_stores_sync_over_a_pipe() {
    let (one, two) = tokio::io::duplex(4096);
    sync_over(one, two).await;
}

#[tokio::test(start_paused = true)]
async fn two_stores_sync_over_a_pipe_of_one_byte() {
    let (a, b) = (Peer::new().await, Peer::new().await);
    let ours = a.writer("a", 5).await;
    let (one, two) = tokio::io::duplex(1);
    let mut one = a.multi.replicate(one, Role::Initiator);
    let mut two = b.multi.replicate(two, Role::Responder);
    in_sync(&mut one, &mut two).await;
    same(&ours, &b.multi).await;
}

/// Carries bytes between two streams until `stop` of them went from the first to the second.
async fn carry(one: &mut DuplexStream, two: &mut DuplexStream, stop: usize) {
    let (mut there, mut back) = ([0; 1024], [0; 1024]);
    let mut carried = 0;
    while carried < stop {
        tokio::select! {
            count = one.read(&mut there) => {
                let count = count.unwrap();
                two.write_all(&there[..count]).await.unwrap();
                carried += count;
            }
            count = two.read(&mut back) => {
                let count = count.unwrap();
                one.write_all(&back[..count]).await.unwrap();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_neither_blocks_the_store_nor_the_close() {
    let config = NodeConfig {
        leave_timeout: Duration::from_millis(50),
        max_outbox_bytes: 64 * 1024,
        ..NodeConfig::default()
    };
    let a = Peer::with(Options::default().node_config(config)).await;
    let b = Peer::new().await;
    let blocks = (0..200_u8).map(|byte| vec![byte; 10_000]);
    let writer = a.multi.writer("a").await.unwrap();
    writer.append_batch(blocks).await.unwrap();

    let (one, mut one_far) = tokio::io::duplex(1024);
    let (two, mut two_far) = tokio::io::duplex(1024);
    let stuck = tokio::spawn(a.multi.replicate(one, Role::Initiator));
    let other = tokio::spawn(b.multi.replicate(two, Role::Responder));
    carry(&mut one_far, &mut two_far, 100_000).await;

    // Nobody reads the stream any more: the store works on, also for others.
    writer.append("more").await.unwrap();
    assert_eq!(writer.get(200).await.unwrap(), "more");
    let c = Peer::new().await;
    let (one, two) = tokio::io::duplex(65_536);
    let mut one = a.multi.replicate(one, Role::Initiator);
    let mut two = c.multi.replicate(two, Role::Responder);
    in_sync(&mut one, &mut two).await;
    same(&writer, &c.multi).await;
    drop((one, two));

    let closed = tokio::time::timeout(Duration::from_secs(30), a.multi.close()).await;
    closed.expect("an end in time").unwrap();
    let _ended = stuck.await.unwrap();
    other.abort();
}
