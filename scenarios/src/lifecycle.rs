//! Ends of all kinds, at any moment.

use std::path::Path;

use futures_lite::future::{self, yield_now};
use multifeed_driver::{
    Durability, Error, Event, Hosted, NodeConfig, NodeError, Options, ReplicationError,
    ReplicationEvent, Role,
};

use crate::host::{Host, spawn, timeout};
use crate::peer::{PATIENCE, Peer, connected, feed_in, in_sync, options, same, tcp};

async fn open<H: Host>(folder: &Path) -> Hosted<H::Runtime> {
    Hosted::open(folder, options()).await.unwrap()
}

/// A second owner is told who is the first, as often as it tries.
pub async fn a_store_has_one_owner_until_it_is_closed<H: Host>() {
    let Peer { multi, folder } = Peer::<H>::new().await;
    for _ in 0..2 {
        let error = Hosted::<H::Runtime>::open(folder.path(), options()).await.unwrap_err();
        assert_eq!(error.code(), "ERR_IN_USE");
        let process = format!("in use by process {}", std::process::id());
        assert!(error.to_string().contains(&process), "{error}");
    }
    multi.close().await.unwrap();
    open::<H>(folder.path()).await.close().await.unwrap();
}

/// At the same time, and one after the other.
pub async fn closing_twice_is_closing_once<H: Host>() {
    let Peer { multi, folder: _folder } = Peer::<H>::new().await;
    let clone = multi.clone();
    let (one, two) = future::zip(multi.close(), clone.close()).await;
    one.unwrap();
    two.unwrap();
    multi.close().await.unwrap();
}

/// Nothing waits for what will never come.
pub async fn a_closed_store_refuses_everything_at_once<H: Host>() {
    let Peer { multi, folder: _folder } = Peer::<H>::new().await;
    let writer = multi.writer("local").await.unwrap();
    writer.append("block").await.unwrap();
    let mut events = multi.events();
    let waiting = spawn::<H, _>(writer.get(9).without_timeout());
    let mut live = writer.subscribe(1..);
    let live = spawn::<H, _>(async move { (live.next().await, live.next().await) });
    yield_now().await;
    multi.close().await.unwrap();

    let closed = |error: &Error| matches!(error, Error::Node(NodeError::Closed));
    assert!(closed(&waiting.await.unwrap_err()));
    let (last, end) = live.await;
    assert!(closed(&last.unwrap().unwrap_err()));
    assert!(end.is_none());
    assert_eq!(events.next().await, None);
    assert!(closed(&writer.append("late").await.unwrap_err()));
    assert!(closed(&writer.try_get(0).await.unwrap_err()));
    assert!(closed(&writer.load().await.unwrap_err()));
    assert!(closed(&multi.writer("other").await.unwrap_err()));
    assert_eq!(writer.len(), 1);
}

/// Nor does a connection.
pub async fn a_replication_on_a_closed_store_ends_at_once<H: Host>() {
    let Peer { multi, folder: _folder } = Peer::<H>::new().await;
    multi.close().await.unwrap();
    let (one, _two) = tcp::<H>().await;
    let mut replication = multi.replicate(one, Role::Initiator);
    assert!(matches!(
        replication.next().await,
        Some(ReplicationEvent::Closed { result: Err(ReplicationError::StoreClosed) })
    ));
    assert!(replication.next().await.is_none());
    assert!(matches!(replication.await, Err(ReplicationError::StoreClosed)));
}

/// Also while events are still listened to.
pub async fn a_store_whose_handles_are_all_dropped_closes_by_itself<H: Host>() {
    let Peer { multi, folder } = Peer::<H>::new().await;
    let writer = multi.writer("local").await.unwrap();
    let mut events = multi.events();
    drop(multi);
    writer.append("a feed keeps it open").await.unwrap();
    drop(writer);
    while events.next().await.is_some() {}
    let multi = open::<H>(folder.path()).await;
    assert_eq!(multi.writer("local").await.unwrap().len(), 1);
}

/// It lands or it does not.
pub async fn an_append_that_is_dropped_midway_does_no_harm<H: Host>() {
    let Peer { multi, folder } = Peer::<H>::with(options().durability(Durability::Power)).await;
    let writer = multi.writer("local").await.unwrap();
    for _ in 0..20 {
        let append = async { drop(writer.append("block").await) };
        future::or(append, yield_now()).await;
    }
    let index = writer.append("the last").await.unwrap();
    assert_eq!(writer.len(), index + 1);
    drop((writer, multi.events(), multi));

    let again = reopened::<H>(folder.path(), options()).await;
    let writer = again.writer("local").await.unwrap();
    assert_eq!(writer.len(), index + 1);
    assert_eq!(writer.get(index).await.unwrap(), "the last");
}

/// Whatever the moment, the close returns in time, the peer hears of it, and nothing is lost.
pub async fn a_store_closed_during_a_sync_ends_it_and_keeps_what_it_acknowledged<H: Host>() {
    // A narrow window makes the sync take many round trips.
    let narrow = NodeConfig { max_window: 4, ..NodeConfig::default() };
    let a = Peer::<H>::new().await;
    let blocks = (0..4000_u32).map(|number| number.to_le_bytes().repeat(50));
    let writer = a.multi.writer("a").await.unwrap();
    writer.append_batch(blocks).await.unwrap();
    for received in [0, 1, 500] {
        let b = Peer::<H>::with(options().node_config(narrow.clone())).await;
        let own = b.writer("b", 10).await.key();
        let mut events = b.multi.events();
        let (one, two) = connected(&a, &b).await;
        let (one, two) = (spawn::<H, _>(one), spawn::<H, _>(two));
        let mut acknowledged = 0;
        while acknowledged < received {
            if let Event::Downloaded { length, .. } = events.next().await.unwrap() {
                acknowledged += length;
            }
        }
        assert!(acknowledged < 4000, "in the middle of it");
        timeout::<H, _>("close", PATIENCE, b.multi.close()).await.unwrap();
        // Ended by the one that leaves in the middle of what it asked for, in order or not.
        let _either_way = timeout::<H, _>("end", PATIENCE, two).await;
        let _either_way = timeout::<H, _>("end", PATIENCE, one).await;

        let again = open::<H>(b.folder.path()).await;
        let mut held = 0;
        for feed in again.feeds().iter().filter(|feed| feed.key() != own) {
            held += feed.load().await.unwrap().blocks;
        }
        assert!(held >= acknowledged, "{held} held, {acknowledged} acknowledged");
        let b = Peer { multi: again, folder: b.folder };
        let (mut one, mut two) = connected(&a, &b).await;
        in_sync::<H, _>(&mut one, &mut two).await;
        same(&writer, &b.multi).await;
        same(&b.multi.writer("b").await.unwrap(), &a.multi).await;
    }
}

/// A close that nobody waits for goes on.
pub async fn a_close_that_is_dropped_closes_all_the_same<H: Host>() {
    let (a, b) = (Peer::<H>::new().await, Peer::<H>::new().await);
    let writer = a.writer("a", 10).await;
    let (one, two) = connected(&a, &b).await;
    let (one, two) = (spawn::<H, _>(one), spawn::<H, _>(two));
    feed_in(&writer, &b.multi).await;
    future::or(async { drop(a.multi.close().await) }, async {}).await;
    one.await.unwrap();
    two.await.unwrap();
    reopened::<H>(a.folder.path(), options()).await;
}

/// Opens a store that somebody is closing.
async fn reopened<H: Host>(folder: &Path, options: Options) -> Hosted<H::Runtime> {
    loop {
        match Hosted::open(folder, options.clone()).await {
            Ok(multi) => return multi,
            Err(error) => assert_eq!(error.code(), "ERR_IN_USE"),
        }
        yield_now().await;
    }
}
