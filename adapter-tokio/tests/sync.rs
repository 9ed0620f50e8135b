//! Two stores over tokio's streams. Where only pipes are used, time passes by itself when nothing
//! else is left to do: a wait that would hang fails at once.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use multifeed_tokio::{
    Feed, Listener, Multifeed, NodeConfig, Options, PeerError, Replication, ReplicationError,
    ReplicationEvent, Role, RootKey, SyncState, connect,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;

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

async fn tcp() -> (TcpStream, TcpStream) {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (one, two) = tokio::join!(connect(address), listener.accept());
    (one.unwrap(), two.unwrap().0)
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

#[tokio::test]
async fn two_stores_sync_over_tcp() {
    let (one, two) = tcp().await;
    sync_over(one, two).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_stores_sync_over_tcp_on_many_threads() {
    let (one, two) = tcp().await;
    sync_over(one, two).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_appended_while_connected_arrive() {
    let (a, b) = (Peer::new().await, Peer::new().await);
    let (one, two) = tcp().await;
    let one = tokio::spawn(a.multi.replicate(one, Role::Initiator));
    let two = tokio::spawn(b.multi.replicate(two, Role::Responder));
    let mut events = b.multi.events();
    let writer = a.multi.writer("late").await.unwrap();
    let feed = loop {
        match b.multi.feed(&writer.key()) {
            Some(feed) => break feed,
            None => drop(events.next().await.unwrap()),
        }
    };
    let mut live = feed.subscribe(..);
    for number in 0..50 {
        let block = format!("block {number}");
        writer.append(block.clone()).await.unwrap();
        assert_eq!(live.next().await.unwrap().unwrap(), block);
    }
    a.multi.close().await.unwrap();
    one.await.unwrap().unwrap();
    two.await.unwrap().unwrap();
    assert_eq!(feed.get(49).await.unwrap(), "block 49");
    b.multi.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn events_tell_how_a_sync_goes() {
    let (a, b) = (Peer::new().await, Peer::new().await);
    let writer = a.writer("a", 10).await;
    let (one, two) = tokio::io::duplex(4096);
    let other = a.multi.replicate(one, Role::Initiator);
    let handle = other.handle();
    let other = tokio::spawn(other);
    let mut ours = b.multi.replicate(two, Role::Responder);
    let mut seen = Vec::new();
    while let Some(event) = ours.next().await {
        if matches!(event, ReplicationEvent::InSync) && ours.counters().blocks_received == 10 {
            handle.disconnect();
        }
        seen.push(event);
    }
    other.await.unwrap().unwrap();
    let place = |wanted: fn(&ReplicationEvent) -> bool| seen.iter().position(wanted).unwrap();
    let connected = place(|event| matches!(event, ReplicationEvent::Connected { .. }));
    let feeds = place(|event| matches!(event, ReplicationEvent::RemoteFeeds { .. }));
    let progress = place(
        |event| matches!(event, ReplicationEvent::Progress(counts) if counts.blocks_received == 10),
    );
    let closed = place(|event| matches!(event, ReplicationEvent::Closed { result: Ok(()) }));
    assert!(connected < feeds && feeds < progress && progress < closed, "{seen:?}");
    assert_eq!(closed, seen.len() - 1);
    let ReplicationEvent::RemoteFeeds { keys } = &seen[feeds] else { unreachable!() };
    assert_eq!(*keys, [writer.key()]);
    assert_eq!(handle.sync_state(), SyncState::Closed);
    assert_eq!(handle.counters().blocks_sent, 10, "known after the end");
}

#[tokio::test]
async fn a_dropped_replication_cuts_the_peer_off_and_loses_nothing_stored() {
    let (a, b) = (Peer::new().await, Peer::new().await);
    let writer = a.writer("a", 2000).await;
    let (one, two) = tcp().await;
    let one = tokio::spawn(a.multi.replicate(one, Role::Initiator));
    let mut two = b.multi.replicate(two, Role::Responder);
    while two.counters().blocks_received == 0 {
        check(two.next().await);
    }
    drop(two);
    // Cut in the middle of a message or not: it depends on the socket buffers.
    let _either_way = one.await.unwrap();

    let (one, two) = tcp().await;
    let mut one = a.multi.replicate(one, Role::Initiator);
    let mut two = b.multi.replicate(two, Role::Responder);
    in_sync(&mut one, &mut two).await;
    same(&writer, &b.multi).await;
}

#[tokio::test(start_paused = true)]
async fn an_aborted_replication_says_so() {
    let a = Peer::new().await;
    let (one, mut two) = tokio::io::duplex(4096);
    let replication = a.multi.replicate(one, Role::Initiator);
    let handle = replication.handle();
    let replication = tokio::spawn(replication);
    assert!(two.read_u8().await.is_ok());
    handle.abort();
    let error = replication.await.unwrap().unwrap_err();
    assert!(matches!(error, ReplicationError::Aborted), "{error:?}");
    assert!(two.read_to_end(&mut Vec::new()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_speaks_nonsense_is_named_in_the_error() {
    let a = Peer::new().await;
    let (one, mut two) = tokio::io::duplex(4096);
    let replication = tokio::spawn(a.multi.replicate(one, Role::Responder));
    two.write_all(b"GET / HTTP/1.1\r\n\r\n and more of it until it is long enough").await.unwrap();
    let error = replication.await.unwrap().unwrap_err();
    assert!(matches!(error, ReplicationError::Peer(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_in_the_handshake_is_an_error() {
    let a = Peer::new().await;
    let (one, two) = tokio::io::duplex(4096);
    let replication = a.multi.replicate(one, Role::Initiator);
    drop(two);
    let error = replication.await.unwrap_err();
    assert!(
        matches!(error, ReplicationError::Stream(_) | ReplicationError::Peer(PeerError::Truncated)),
        "{error:?}"
    );
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

#[tokio::test(start_paused = true)]
async fn a_replication_on_a_closed_store_ends_at_once() {
    let a = Peer::new().await;
    a.multi.close().await.unwrap();
    let (one, _two) = tokio::io::duplex(4096);
    let mut replication = a.multi.replicate(one, Role::Initiator);
    assert!(matches!(
        replication.next().await,
        Some(ReplicationEvent::Closed { result: Err(ReplicationError::StoreClosed) })
    ));
    assert!(replication.next().await.is_none());
    assert!(matches!(replication.await, Err(ReplicationError::StoreClosed)));
}

#[tokio::test(start_paused = true)]
async fn another_root_key_is_said_to_be_another() {
    let a = Peer::new().await;
    let folder = tempfile::tempdir().unwrap();
    let options = Options::default().root_key(RootKey::new([8; 32]));
    let b = Multifeed::open(folder.path(), options).await.unwrap();
    let (one, two) = tokio::io::duplex(4096);
    let one = tokio::spawn(a.multi.replicate(one, Role::Initiator));
    let two = tokio::spawn(b.replicate(two, Role::Responder));
    let both = (one.await.unwrap(), two.await.unwrap());
    assert!(
        matches!(
            both,
            (Err(ReplicationError::Peer(PeerError::MultifeedTimeout)), _)
                | (_, Err(ReplicationError::Peer(PeerError::MultifeedTimeout)))
        ),
        "{both:?}"
    );
}
