//! Two stores over TCP.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use futures_lite::future;
use multifeed_driver::{
    NodeConfig, PeerError, ReplicationError, ReplicationEvent, Role, RootKey, SyncState,
};

use crate::host::{Host, spawn};
use crate::peer::{Peer, check, connected, feed_in, in_sync, options, same};

/// Both ways, to the orderly end.
pub async fn two_stores_sync_over_tcp<H: Host>() {
    let (a, b) = (Peer::<H>::new().await, Peer::<H>::new().await);
    let ours = a.writer("a", 100).await;
    let theirs = b.writer("b", 3000).await;
    let (mut one, mut two) = connected(&a, &b).await;
    in_sync::<H, _>(&mut one, &mut two).await;
    same(&ours, &b.multi).await;
    same(&theirs, &a.multi).await;
    assert_eq!((one.counters().blocks_received, one.counters().blocks_sent), (3000, 100));

    let (one_ended, two_ended) = future::zip(one.close(), two).await;
    one_ended.unwrap();
    two_ended.unwrap();
    a.multi.close().await.unwrap();
    b.multi.close().await.unwrap();
}

/// Live, until the writer's store closes.
pub async fn blocks_appended_while_connected_arrive<H: Host>() {
    let (a, b) = (Peer::<H>::new().await, Peer::<H>::new().await);
    let (one, two) = connected(&a, &b).await;
    let (one, two) = (spawn::<H, _>(one), spawn::<H, _>(two));
    let writer = a.multi.writer("late").await.unwrap();
    let feed = feed_in(&writer, &b.multi).await;
    let mut live = feed.subscribe(..);
    for number in 0..50 {
        let block = format!("block {number}");
        writer.append(block.clone()).await.unwrap();
        assert_eq!(live.next().await.unwrap().unwrap(), block);
    }
    a.multi.close().await.unwrap();
    one.await.unwrap();
    two.await.unwrap();
    assert_eq!(feed.get(49).await.unwrap(), "block 49");
    b.multi.close().await.unwrap();
}

/// The one in the middle serves what it gets.
pub async fn three_stores_in_a_line_pass_blocks_on<H: Host>() {
    let (a, b, c) = (Peer::<H>::new().await, Peer::<H>::new().await, Peer::<H>::new().await);
    let writer = a.writer("a", 500).await;
    let (one, two) = connected(&a, &b).await;
    let (three, four) = connected(&b, &c).await;
    let ends: Vec<_> = [one, two, three, four].into_iter().map(spawn::<H, _>).collect();
    let feed = feed_in(&writer, &c.multi).await;
    assert_eq!(feed.get(499).await.unwrap(), "a 499");
    let mut blocks = feed.subscribe(..500);
    while let Some(block) = blocks.next().await {
        block.unwrap();
    }
    same(&writer, &c.multi).await;
    for peer in [&a, &b, &c] {
        peer.multi.close().await.unwrap();
    }
    for end in ends {
        end.await.unwrap();
    }
}

/// In their order, and the last one is the end.
pub async fn events_tell_how_a_sync_goes<H: Host>() {
    let (a, b) = (Peer::<H>::new().await, Peer::<H>::new().await);
    let writer = a.writer("a", 10).await;
    let (other, mut ours) = connected(&a, &b).await;
    let handle = other.handle();
    let other = spawn::<H, _>(other);
    let mut seen = Vec::new();
    while let Some(event) = ours.next().await {
        if matches!(event, ReplicationEvent::InSync) && ours.counters().blocks_received == 10 {
            handle.disconnect();
        }
        seen.push(event);
    }
    other.await.unwrap();
    let place = |wanted: fn(&ReplicationEvent) -> bool| seen.iter().position(wanted).unwrap();
    let connected = place(|event| matches!(event, ReplicationEvent::Connected { .. }));
    // The empty list of the other side is agreed on, too, before or after.
    let feeds = place(
        |event| matches!(event, ReplicationEvent::RemoteFeeds { keys, .. } if !keys.is_empty()),
    );
    let progress = place(
        |event| matches!(event, ReplicationEvent::Progress(counts) if counts.blocks_received == 10),
    );
    let closed = place(|event| matches!(event, ReplicationEvent::Closed { result: Ok(()) }));
    assert!(connected < feeds && feeds < progress && progress < closed, "{seen:?}");
    assert_eq!(closed, seen.len() - 1);
    let ReplicationEvent::RemoteFeeds { keys, .. } = &seen[feeds] else { unreachable!() };
    assert_eq!(*keys, [writer.key()]);
    assert_eq!(handle.sync_state(), SyncState::Closed);
    assert_eq!(handle.counters().blocks_sent, 10, "known after the end");
}

/// The next connection goes on where it stopped.
pub async fn a_dropped_replication_cuts_the_peer_off_and_loses_nothing_stored<H: Host>() {
    let (a, b) = (Peer::<H>::new().await, Peer::<H>::new().await);
    let writer = a.writer("a", 2000).await;
    let (one, mut two) = connected(&a, &b).await;
    let one = spawn::<H, _>(one);
    while two.counters().blocks_received == 0 {
        check(two.next().await);
    }
    drop(two);
    // Cut in the middle of a message or not: it depends on the socket buffers.
    let _either_way = one.await;

    let (mut one, mut two) = connected(&a, &b).await;
    in_sync::<H, _>(&mut one, &mut two).await;
    same(&writer, &b.multi).await;
}

/// The stream is given up with it.
pub async fn an_aborted_replication_says_so<H: Host>() {
    let a = Peer::<H>::new().await;
    let (ours, theirs) = with_raw_peer::<H>().await;
    let replication = a.multi.replicate(ours, Role::Initiator);
    let handle = replication.handle();
    let replication = spawn::<H, _>(replication);
    let (came, first_byte) = async_channel::bounded(1);
    let reader = thread::spawn(move || {
        let mut theirs = theirs;
        theirs.read_exact(&mut [0]).unwrap();
        came.send_blocking(()).unwrap();
        // The end, in whatever way.
        let _ = theirs.read_to_end(&mut Vec::new());
    });
    first_byte.recv().await.unwrap();
    handle.abort();
    let error = replication.await.unwrap_err();
    assert!(matches!(error, ReplicationError::Aborted), "{error:?}");
    reader.join().unwrap();
}

/// What is no multifeed is the peer's fault.
pub async fn a_peer_that_speaks_nonsense_is_named_in_the_error<H: Host>() {
    let a = Peer::<H>::new().await;
    let (ours, mut theirs) = with_raw_peer::<H>().await;
    let replication = spawn::<H, _>(a.multi.replicate(ours, Role::Responder));
    // A letter asks for a handshake message of about 70 bytes; the second one fails to decrypt.
    theirs.write_all(&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20)).unwrap();
    let error = replication.await.unwrap_err();
    assert!(matches!(error, ReplicationError::Peer(_)), "{error:?}");
}

/// As is one that leaves too early.
pub async fn a_peer_that_leaves_in_the_handshake_is_an_error<H: Host>() {
    let a = Peer::<H>::new().await;
    let (ours, theirs) = with_raw_peer::<H>().await;
    let replication = a.multi.replicate(ours, Role::Initiator);
    drop(theirs);
    let error = replication.await.unwrap_err();
    assert!(
        matches!(
            error,
            ReplicationError::Stream(_)
                | ReplicationError::Peer(PeerError::Left { connected: false })
        ),
        "{error:?}"
    );
}

/// Two that do not belong together part.
pub async fn another_root_key_is_said_to_be_another<H: Host>() {
    let mut config = NodeConfig::default();
    config.connection.multifeed_timeout = Duration::from_millis(200);
    let with = |key| options().root_key(RootKey::new([key; 32])).node_config(config.clone());
    let (a, b) = (Peer::<H>::with(with(1)).await, Peer::<H>::with(with(2)).await);
    let (one, two) = connected(&a, &b).await;
    let both = future::zip(spawn::<H, _>(one), spawn::<H, _>(two)).await;
    assert!(
        matches!(
            both,
            (Err(ReplicationError::Peer(PeerError::MultifeedTimeout)), _)
                | (_, Err(ReplicationError::Peer(PeerError::MultifeedTimeout)))
        ),
        "{both:?}"
    );
}

/// Also those that are gone before they are looked at.
pub async fn a_burst_of_peers_is_accepted<H: Host>() {
    let (a, b) = (Peer::<H>::new().await, Peer::<H>::new().await);
    let writer = a.writer("a", 10).await;
    let (listener, port) = H::listen().await;
    for _ in 0..50 {
        drop(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
    }
    let stream = H::connect(port).await;
    let own = spawn::<H, _>(b.multi.replicate(stream, Role::Initiator));
    let feed = async {
        let feed = feed_in(&writer, &b.multi).await;
        feed.get(9).await.unwrap();
    };
    let accepting = async {
        loop {
            let stream = H::accept(&listener).await;
            // Nobody waits for the end of any of them.
            drop(spawn::<H, _>(a.multi.replicate(stream, Role::Responder)));
        }
    };
    future::or(feed, accepting).await;
    b.multi.close().await.unwrap();
    own.await.unwrap();
}

/// A stream of the host, and its other end in the hands of the test.
async fn with_raw_peer<H: Host>() -> (H::Stream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = H::connect(listener.local_addr().unwrap().port()).await;
    (ours, listener.accept().unwrap().0)
}
