//! Stores on disk, alone: handles, their ends, what fails.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::time::Duration;

use multifeed_tokio::{Durability, Error, Event, Multifeed, NodeError, Options, RootKey};

fn options() -> Options {
    Options::default().root_key(RootKey::new([7; 32]))
}

async fn open(folder: &Path) -> Multifeed {
    Multifeed::open(folder, options()).await.unwrap()
}

#[tokio::test]
async fn appended_blocks_are_read_and_last() {
    let folder = tempfile::tempdir().unwrap();
    let multi = open(folder.path()).await;
    let writer = multi.writer("local").await.unwrap();
    assert_eq!(writer.append(b"hello").await.unwrap(), 0);
    assert_eq!(writer.append_batch(["a", "", "c"]).await.unwrap(), 1..4);
    assert_eq!((writer.len(), writer.is_writable()), (4, true));
    assert_eq!(writer.get(0).await.unwrap(), "hello");
    assert_eq!(writer.try_get(3).await.unwrap().unwrap(), "c");
    assert_eq!(writer.try_get(4).await.unwrap(), None);
    assert_eq!(writer.read(1, 10, 1000).await.unwrap(), ["a", "", "c"]);
    multi.close().await.unwrap();

    let multi = open(folder.path()).await;
    let [feed] = &multi.feeds()[..] else { panic!("one feed") };
    assert_eq!((feed.key(), feed.name()), (writer.key(), "local".to_owned()));
    assert_eq!(feed.load().await.unwrap().length, 4);
    assert_eq!(feed.try_get(0).await.unwrap().unwrap(), "hello");
    assert_eq!(multi.feed_named("local").as_ref(), Some(feed));
    assert_eq!(multi.feed(&feed.key()).as_ref(), Some(feed));
    assert_eq!(multi.writer("local").await.unwrap(), *feed);
}

#[tokio::test]
async fn power_durability_works_through_threads() {
    let folder = tempfile::tempdir().unwrap();
    let multi = Multifeed::open(folder.path(), options().durability(Durability::Power));
    let multi = multi.await.unwrap();
    let writer = multi.writer("local").await.unwrap();
    for index in 0..10 {
        assert_eq!(writer.append(vec![1; 100]).await.unwrap(), index);
    }
    assert_eq!(writer.get(9).await.unwrap().len(), 100);
    multi.close().await.unwrap();
}

#[tokio::test]
async fn a_large_batch_goes_through_a_thread() {
    let folder = tempfile::tempdir().unwrap();
    let multi = open(folder.path()).await;
    let writer = multi.writer("local").await.unwrap();
    let blocks: Vec<_> = (0..6_u8).map(|byte| vec![byte; 1_000_000]).collect();
    writer.append_batch(blocks).await.unwrap();
    assert_eq!(writer.get(5).await.unwrap(), vec![5; 1_000_000]);
    multi.close().await.unwrap();
}

#[tokio::test]
async fn a_store_has_one_owner_until_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let multi = open(folder.path()).await;
    for _ in 0..2 {
        let error = Multifeed::open(folder.path(), options()).await.unwrap_err();
        assert_eq!(error.code(), "ERR_IN_USE");
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    }
    multi.close().await.unwrap();
    open(folder.path()).await.close().await.unwrap();
}

#[tokio::test]
async fn closing_twice_is_closing_once() {
    let folder = tempfile::tempdir().unwrap();
    let multi = open(folder.path()).await;
    let clone = multi.clone();
    let (one, two) = tokio::join!(multi.close(), clone.close());
    one.unwrap();
    two.unwrap();
    multi.close().await.unwrap();
}

#[tokio::test]
async fn a_closed_store_refuses_everything_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let multi = open(folder.path()).await;
    let writer = multi.writer("local").await.unwrap();
    writer.append("block").await.unwrap();
    let mut events = multi.events();
    let waiting = tokio::spawn(writer.get(9).without_timeout());
    let mut live = writer.subscribe(1..);
    let live = tokio::spawn(async move { (live.next().await, live.next().await) });
    tokio::task::yield_now().await;
    multi.close().await.unwrap();

    let closed = |error: &Error| matches!(error, Error::Node(NodeError::Closed));
    assert!(closed(&waiting.await.unwrap().unwrap_err()));
    let (last, end) = live.await.unwrap();
    assert!(closed(&last.unwrap().unwrap_err()));
    assert!(end.is_none());
    assert_eq!(events.next().await, None);
    assert!(closed(&writer.append("late").await.unwrap_err()));
    assert!(closed(&writer.try_get(0).await.unwrap_err()));
    assert!(closed(&writer.load().await.unwrap_err()));
    assert!(closed(&multi.writer("other").await.unwrap_err()));
    assert_eq!(writer.len(), 1);
}

#[tokio::test]
async fn a_store_whose_handles_are_all_dropped_closes_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let multi = open(folder.path()).await;
    let writer = multi.writer("local").await.unwrap();
    let mut events = multi.events();
    drop(multi);
    writer.append("a feed keeps it open").await.unwrap();
    drop(writer);
    while events.next().await.is_some() {}
    let multi = open(folder.path()).await;
    assert_eq!(multi.writer("local").await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_append_that_is_dropped_midway_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let multi = Multifeed::open(folder.path(), options().durability(Durability::Power));
    let multi = multi.await.unwrap();
    let writer = multi.writer("local").await.unwrap();
    for _ in 0..20 {
        let append = writer.append("block");
        tokio::select! {
            biased;
            _ = append => {}
            () = tokio::task::yield_now() => {}
        }
    }
    let index = writer.append("the last").await.unwrap();
    assert_eq!(writer.len(), index + 1);
    drop((writer, multi.events(), multi));

    let again = loop {
        match Multifeed::open(folder.path(), options()).await {
            Ok(multi) => break multi,
            Err(error) => assert_eq!(error.code(), "ERR_IN_USE"),
        }
    };
    let writer = again.writer("local").await.unwrap();
    assert_eq!(writer.len(), index + 1);
    assert_eq!(writer.get(index).await.unwrap(), "the last");
}

#[tokio::test(start_paused = true)]
async fn a_get_fails_after_its_time_and_says_what_it_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let multi = open(folder.path()).await;
    let writer = multi.writer("local").await.unwrap();
    let error = writer.get(3).timeout(Duration::from_secs(10)).await.unwrap_err();
    assert_eq!(error.code(), "ERR_TIMEOUT");
    assert!(error.to_string().contains("block 3"), "{error}");
}

#[tokio::test]
async fn a_get_is_answered_by_a_later_append() {
    let folder = tempfile::tempdir().unwrap();
    let multi = open(folder.path()).await;
    let writer = multi.writer("local").await.unwrap();
    let waiting = tokio::spawn(writer.get(1));
    tokio::task::yield_now().await;
    writer.append_batch(["zero", "one"]).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), "one");
}

#[tokio::test]
async fn a_subscription_gives_old_and_new_blocks_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let multi = open(folder.path()).await;
    let writer = multi.writer("local").await.unwrap();
    writer.append_batch((0..150).map(|number: u32| number.to_string())).await.unwrap();
    let mut live = writer.subscribe(1..=200);
    let reader = tokio::spawn(async move {
        let mut blocks = Vec::new();
        while let Some(block) = live.next().await {
            blocks.push(block.unwrap());
        }
        (blocks, live.index())
    });
    for number in 150..210_u32 {
        writer.append(number.to_string()).await.unwrap();
    }
    let (blocks, index) = reader.await.unwrap();
    let wanted: Vec<_> = (1..=200).map(|number: u32| number.to_string()).collect();
    assert_eq!(blocks, wanted);
    assert_eq!(index, 201);
}

#[tokio::test]
async fn a_slow_reader_of_events_is_told_what_it_missed() {
    let folder = tempfile::tempdir().unwrap();
    let multi = Multifeed::open(folder.path(), options().event_capacity(2)).await.unwrap();
    let mut events = multi.events();
    let writer = multi.writer("local").await.unwrap();
    for _ in 0..5 {
        writer.append("block").await.unwrap();
    }
    let Some(Event::Lagged { missed }) = events.next().await else { panic!("no marker") };
    assert!(missed >= 3);
    let key = writer.key();
    assert_eq!(events.next().await, Some(Event::Appended { key, start: 3, length: 1 }));
    assert_eq!(events.next().await, Some(Event::Appended { key, start: 4, length: 1 }));
}

#[tokio::test]
async fn options_without_a_key_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = Multifeed::open(folder.path(), Options::default()).await.unwrap_err();
    assert_eq!(error.code(), "ERR_NO_KEY");
}

#[tokio::test]
async fn a_file_in_place_of_the_folder_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Multifeed::open(file.path(), options()).await.unwrap_err();
    assert_eq!(error.code(), "ERR_DIRECTORY");
    assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn a_block_that_is_too_large_is_refused_and_the_writer_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let multi = open(folder.path()).await;
    let writer = multi.writer("local").await.unwrap();
    let error = writer.append(vec![0; 9_000_000]).await.unwrap_err();
    assert_eq!(error.code(), "ERR_BLOCK_TOO_LARGE");
    assert_eq!(writer.append("small").await.unwrap(), 0);
}

#[test]
fn a_runtime_that_ends_frees_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let first = runtime();
    let (multi, writer) = first.block_on(async {
        let multi = open(folder.path()).await;
        let writer = multi.writer("local").await.unwrap();
        writer.append("block").await.unwrap();
        (multi, writer)
    });
    drop(first);
    let second = runtime();
    second.block_on(async {
        assert_eq!(writer.append("late").await.unwrap_err().code(), "ERR_CLOSED");
        assert!(multi.close().await.is_err());
        let again = open(folder.path()).await;
        assert_eq!(again.writer("local").await.unwrap().len(), 1);
        again.close().await.unwrap();
    });
}
