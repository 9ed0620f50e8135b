//! One store: its handles, and what fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_lite::future::yield_now;
use multifeed_driver::{Durability, Event, Hosted, Options};

use crate::host::{Host, spawn};
use crate::peer::{Peer, options};

/// What was appended is there, also after the store was opened again.
pub async fn appended_blocks_are_read_and_last<H: Host>() {
    let Peer { multi, folder } = Peer::<H>::new().await;
    let writer = multi.writer("local").await.unwrap();
    assert_eq!(writer.append(b"hello").await.unwrap(), 0);
    assert_eq!(writer.append_batch(["a", "", "c"]).await.unwrap(), 1..4);
    assert_eq!((writer.len(), writer.is_writable()), (4, true));
    assert_eq!(writer.get(0).await.unwrap(), "hello");
    assert_eq!(writer.try_get(3).await.unwrap().unwrap(), "c");
    assert_eq!(writer.try_get(4).await.unwrap(), None);
    assert_eq!(writer.read(1, 10, 1000).await.unwrap(), ["a", "", "c"]);
    multi.close().await.unwrap();

    let multi = Hosted::<H::Runtime>::open(folder.path(), options()).await.unwrap();
    let [feed] = &multi.feeds()[..] else { panic!("one feed") };
    assert_eq!((feed.key(), feed.name()), (writer.key(), "local".to_owned()));
    assert_eq!(feed.load().await.unwrap().length, 4);
    assert_eq!(feed.try_get(0).await.unwrap().unwrap(), "hello");
    assert_eq!(multi.feed_named("local").as_ref(), Some(feed));
    assert_eq!(multi.feed(&feed.key()).as_ref(), Some(feed));
    assert_eq!(multi.writer("local").await.unwrap(), *feed);
}

/// Syncing to the disk is done elsewhere, and comes back.
pub async fn power_durability_works_through_threads<H: Host>() {
    let peer = Peer::<H>::with(options().durability(Durability::Power)).await;
    let writer = peer.multi.writer("local").await.unwrap();
    for index in 0..10 {
        assert_eq!(writer.append(vec![1; 100]).await.unwrap(), index);
    }
    assert_eq!(writer.get(9).await.unwrap().len(), 100);
    peer.multi.close().await.unwrap();
}

/// So are large writes.
pub async fn a_large_batch_goes_through_a_thread<H: Host>() {
    let peer = Peer::<H>::new().await;
    let writer = peer.multi.writer("local").await.unwrap();
    let blocks: Vec<_> = (0..6_u8).map(|byte| vec![byte; 1_000_000]).collect();
    writer.append_batch(blocks).await.unwrap();
    assert_eq!(writer.get(5).await.unwrap(), vec![5; 1_000_000]);
    peer.multi.close().await.unwrap();
}

/// A block may be waited for before it exists.
pub async fn a_get_is_answered_by_a_later_append<H: Host>() {
    let peer = Peer::<H>::new().await;
    let writer = peer.multi.writer("local").await.unwrap();
    let waiting = spawn::<H, _>(writer.get(1));
    yield_now().await;
    writer.append_batch(["zero", "one"]).await.unwrap();
    assert_eq!(waiting.await.unwrap(), "one");
}

/// Not for ever.
pub async fn a_get_fails_after_its_time_and_says_what_it_waited_for<H: Host>() {
    let peer = Peer::<H>::new().await;
    let writer = peer.multi.writer("local").await.unwrap();
    let error = writer.get(3).timeout(Duration::from_millis(10)).await.unwrap_err();
    assert_eq!(error.code(), "ERR_TIMEOUT");
    assert!(error.to_string().contains("block 3"), "{error}");
}

/// A subscription begins with what is there and goes on with what comes.
pub async fn a_subscription_gives_old_and_new_blocks_in_order<H: Host>() {
    let peer = Peer::<H>::new().await;
    let writer = peer.multi.writer("local").await.unwrap();
    writer.append_batch((0..150).map(|number: u32| number.to_string())).await.unwrap();
    let mut live = writer.subscribe(1..=200);
    let reader = spawn::<H, _>(async move {
        let mut blocks = Vec::new();
        while let Some(block) = live.next().await {
            blocks.push(block.unwrap());
        }
        (blocks, live.index())
    });
    for number in 150..210_u32 {
        writer.append(number.to_string()).await.unwrap();
    }
    let (blocks, index) = reader.await;
    let wanted: Vec<_> = (1..=200).map(|number: u32| number.to_string()).collect();
    assert_eq!(blocks, wanted);
    assert_eq!(index, 201);
}

/// Events are dropped when nobody takes them, and that is said.
pub async fn a_slow_reader_of_events_is_told_what_it_missed<H: Host>() {
    let peer = Peer::<H>::with(options().event_capacity(2)).await;
    let mut events = peer.multi.events();
    let writer = peer.multi.writer("local").await.unwrap();
    for _ in 0..5 {
        writer.append("block").await.unwrap();
    }
    let Some(Event::Lagged { missed }) = events.next().await else { panic!("no marker") };
    assert!(missed >= 3);
    let key = writer.key();
    assert_eq!(events.next().await, Some(Event::Appended { key, start: 3, length: 1 }));
    assert_eq!(events.next().await, Some(Event::Appended { key, start: 4, length: 1 }));
}

/// There is no default key.
pub async fn options_without_a_key_are_refused<H: Host>() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Hosted::<H::Runtime>::open(folder.path(), Options::default()).await;
    assert_eq!(opened.unwrap_err().code(), "ERR_NO_KEY");
}

/// A store is a folder.
pub async fn a_file_in_place_of_the_folder_is_refused<H: Host>() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Hosted::<H::Runtime>::open(file.path(), options()).await.unwrap_err();
    assert_eq!(error.code(), "ERR_DIRECTORY");
    assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
}

/// What cannot be sent is not taken.
pub async fn a_block_that_is_too_large_is_refused_and_the_writer_goes_on<H: Host>() {
    let peer = Peer::<H>::new().await;
    let writer = peer.multi.writer("local").await.unwrap();
    let error = writer.append(vec![0; 9_000_000]).await.unwrap_err();
    assert_eq!(error.code(), "ERR_BLOCK_TOO_LARGE");
    assert_eq!(writer.append("small").await.unwrap(), 0);
}

/// Appends that are answered at once do not keep a thread to themselves.
pub async fn a_loop_of_appends_lets_other_tasks_run<H: Host>() {
    let peer = Peer::<H>::new().await;
    let writer = peer.multi.writer("local").await.unwrap();
    let ran = Arc::new(AtomicBool::new(false));
    let other = Arc::clone(&ran);
    let other = spawn::<H, _>(async move { other.store(true, Ordering::SeqCst) });
    while !ran.load(Ordering::SeqCst) {
        writer.append("block").await.unwrap();
    }
    other.await;
}
