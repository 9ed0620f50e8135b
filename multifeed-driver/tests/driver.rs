//! The loop and the handles on a virtual clock, with storage that answers in any order.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod util;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use multifeed_core::storage::{Fault, StorageErrorKind};
use multifeed_driver::{
    Durability, Error, Event, NodeError, Options, ReplicationError, ReplicationEvent, Role, Timer,
};
use util::stores::{connect, in_sync, same, spawn, taken, writer};
use util::{Runtime, stream};

/// Two stores, both ways, to the orderly end.
fn sync(seed: u64, slow: bool, chunk: usize, durability: Durability) {
    println!("seed {seed}, slow {slow}, chunk {chunk}");
    let mut runtime = Runtime::new(seed);
    let (here, there) = (runtime.storage(slow), runtime.storage(slow));
    let options = || Options::default().durability(durability);
    let a = runtime.try_open(&here, options()).unwrap();
    let b = runtime.try_open(&there, options()).unwrap();
    let ours = writer(&mut runtime, &a, "a", 30);
    let theirs = writer(&mut runtime, &b, "b", 100);
    let ends = connect(&mut runtime, (&a, &b), stream(chunk));
    in_sync(&mut runtime, &ends);
    same(&mut runtime, &ours, &b);
    same(&mut runtime, &theirs, &a);
    let late = writer(&mut runtime, &a, "late", 3);
    in_sync(&mut runtime, &ends);
    same(&mut runtime, &late, &b);

    ends[0].0.disconnect();
    runtime.run_until(|| ends.iter().all(|(_, ended)| ended.lock().unwrap().is_some()));
    for (_, ended) in &ends {
        taken(ended).unwrap();
    }
    let [ours, theirs] = [0, 1].map(|end: usize| ends[end].0.counters());
    assert_eq!((ours.blocks_sent, ours.blocks_received), (33, 100));
    assert_eq!((theirs.blocks_sent, theirs.blocks_received), (100, 33));
    assert_eq!((ours.wire_sent, theirs.wire_sent), (theirs.wire_received, ours.wire_received));
    runtime.wait(async move { a.close().await }).unwrap();
    runtime.wait(async move { b.close().await }).unwrap();
    assert_eq!((here.closed(), there.closed()), (1, 1));
}

#[test]
fn two_stores_sync_in_chunks_of_any_size() {
    for chunk in [1, 2, 3, 1000, 100_000] {
        sync(1, false, chunk, Durability::Process);
    }
}

/// Number of random orders tried; env `MULTIFEED_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("MULTIFEED_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(25)
}

#[test]
fn two_stores_sync_whatever_the_order_of_storage_answers() {
    for seed in 0..seeds() {
        sync(seed, true, 700, Durability::Process);
        sync(seed, true, 700, Durability::Power);
    }
}

#[test]
fn what_is_idle_is_not_polled() {
    let mut runtime = Runtime::new(3);
    let (here, there) = (runtime.storage(false), runtime.storage(false));
    let (a, b) = (runtime.open(&here), runtime.open(&there));
    writer(&mut runtime, &a, "a", 5);
    let ends = connect(&mut runtime, (&a, &b), stream(1000));
    in_sync(&mut runtime, &ends);
    runtime.run();
    let polls = runtime.polls;
    runtime.run();
    assert_eq!(runtime.polls, polls, "something is always awake");

    let (start, mut timers) = (runtime.clock.now(), 0);
    while runtime.clock.now().since(start) < Duration::from_secs(600) {
        if !runtime.clock.advance() {
            break;
        }
        timers += 1;
        runtime.run();
    }
    assert!(timers < 600, "{timers} timers in ten idle minutes");
    assert!(runtime.polls - polls < timers * 12 + 1, "{} polls", runtime.polls - polls);
}

#[test]
fn a_full_disk_fails_the_append_and_the_writer_goes_on() {
    for slow in [false, true] {
        let mut runtime = Runtime::new(4);
        let storage = runtime.storage(slow);
        let multi = runtime.open(&storage);
        let writer = writer(&mut runtime, &multi, "a", 5);
        let append = |runtime: &mut Runtime, text: &'static str| {
            let writer = writer.clone();
            runtime.wait(async move { writer.append(text).await })
        };
        storage.set_fault(Some(Fault { after: 0, kind: StorageErrorKind::Full }));
        let error = append(&mut runtime, "lost").unwrap_err();
        assert_eq!(error.code(), "ERR_DISK_FULL");
        storage.set_fault(None);
        assert_eq!(append(&mut runtime, "kept").unwrap(), 5);
        let reader = writer.clone();
        assert_eq!(runtime.wait(async move { reader.get(5).await }).unwrap(), "kept");
    }
}

#[test]
fn a_store_that_cannot_be_opened_says_why_and_is_free_again() {
    let mut runtime = Runtime::new(5);
    let storage = runtime.storage(false);
    storage.set_fault(Some(Fault { after: 1, kind: StorageErrorKind::Denied }));
    let error = runtime.try_open(&storage, Options::default()).unwrap_err();
    assert_eq!(error.code(), "ERR_DENIED");
    storage.set_fault(None);
    let multi = runtime.open(&storage);
    let error = runtime.try_open(&storage, Options::default()).unwrap_err();
    assert_eq!(error.code(), "ERR_IN_USE");
    drop(multi);
}

#[test]
fn the_last_handle_closes_the_store() {
    let mut runtime = Runtime::new(6);
    let storage = runtime.storage(true);
    let multi = runtime.open(&storage);
    let feed = writer(&mut runtime, &multi, "a", 1);
    let events = multi.events();
    drop(multi);
    runtime.run();
    assert_eq!(storage.closed(), 0);
    drop(feed);
    runtime.run();
    assert_eq!(storage.closed(), 1);
    drop(events);
}

#[test]
fn a_dropped_append_lands_before_the_store_closes() {
    let mut runtime = Runtime::new(7);
    let storage = runtime.storage(true);
    let multi = runtime.open(&storage);
    let feed = writer(&mut runtime, &multi, "a", 1);
    let mut append = Box::pin(async move { feed.append("dropped").await });
    let waker = std::task::Waker::noop();
    assert!(append.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
    drop((append, multi));
    runtime.run();
    assert_eq!(storage.closed(), 1);
    let multi = runtime.open(&storage);
    let feed = runtime.wait(async move { multi.writer("a").await }).unwrap();
    assert_eq!(feed.len(), 2);
}

#[test]
fn a_dropped_driver_fails_what_waits() {
    let mut runtime = Runtime::new(8);
    let storage = runtime.storage(false);
    let multi = runtime.open(&storage);
    let feed = writer(&mut runtime, &multi, "a", 1);
    let mut other = Runtime::new(9);
    let got = other.spawn(feed.get(5).without_timeout());
    let (one, _two) = stream(100);
    let (_, ended) = spawn(&mut other, multi.replicate(one, Role::Initiator));
    let mut events = multi.events();
    let event = other.spawn(async move { events.next().await });
    other.run();
    assert!(got.lock().unwrap().is_none());

    runtime.drop_tasks();
    other.run();
    assert!(matches!(taken(&got), Err(Error::Node(NodeError::Closed))));
    assert!(matches!(taken(&ended), Err(ReplicationError::StoreClosed) | Ok(())));
    assert!(matches!(taken(&event), None | Some(Event::Closed { .. })));
    assert_eq!(storage.closed(), 1);
    assert!(other.wait(async move { multi.close().await }).is_err());
    assert!(other.wait(async move { feed.append("late").await }).is_err());
}

#[test]
fn a_get_waits_as_long_as_it_is_told() {
    let mut runtime = Runtime::new(10);
    let storage = runtime.storage(false);
    let options = Options::default().get_timeout(Some(Duration::from_secs(7)));
    let multi = runtime.try_open(&storage, options).unwrap();
    let feed = writer(&mut runtime, &multi, "a", 1);
    let start = runtime.clock.now();
    let error = runtime.wait(feed.get(1)).unwrap_err();
    assert_eq!(runtime.clock.now().since(start), Duration::from_secs(7));
    assert!(matches!(error, Error::Timeout { index: 1, .. }), "{error}");
}

#[test]
fn a_stream_that_fails_is_named_and_the_store_goes_on() {
    for reading in [true, false] {
        let mut runtime = Runtime::new(11);
        let (here, there) = (runtime.storage(false), runtime.storage(false));
        let (a, b) = (runtime.open(&here), runtime.open(&there));
        let ours = writer(&mut runtime, &a, "a", 50);
        let (one, two) = stream(1000);
        let faults = std::sync::Arc::clone(&one.faults);
        let ends = connect(&mut runtime, (&a, &b), (one, two));
        in_sync(&mut runtime, &ends);
        if reading { &faults.read } else { &faults.write }.store(true, Ordering::SeqCst);
        let late = writer(&mut runtime, &b, "b", 1);
        runtime.run_until(|| ends.iter().all(|(_, ended)| ended.lock().unwrap().is_some()));
        let result = taken(&ends[0].1);
        assert!(matches!(result, Err(ReplicationError::Stream(_))), "{result:?}");

        let ends = connect(&mut runtime, (&a, &b), stream(1000));
        in_sync(&mut runtime, &ends);
        same(&mut runtime, &ours, &b);
        same(&mut runtime, &late, &a);
    }
}

#[test]
fn what_came_before_a_failed_write_is_kept() {
    let mut runtime = Runtime::new(12);
    let (here, there) = (runtime.storage(false), runtime.storage(false));
    let (a, b) = (runtime.open(&here), runtime.open(&there));
    let (one, two) = stream(1000);
    let faults = std::sync::Arc::clone(&two.faults);
    let ends = connect(&mut runtime, (&a, &b), (one, two));
    let ours = writer(&mut runtime, &a, "a", 1);
    in_sync(&mut runtime, &ends);

    // The far end gets a block, and cannot acknowledge it any more.
    let feed = b.feed(&ours.key()).unwrap();
    let got = runtime.spawn(feed.get(0));
    faults.write.store(true, Ordering::SeqCst);
    runtime.run_until(|| got.lock().unwrap().is_some());
    assert_eq!(taken(&got).unwrap(), "a 0");
}

#[test]
fn closing_a_store_ends_its_connections_in_order() {
    let mut runtime = Runtime::new(13);
    let (here, there) = (runtime.storage(true), runtime.storage(true));
    let (a, b) = (runtime.open(&here), runtime.open(&there));
    let theirs = writer(&mut runtime, &b, "b", 40);
    let ends = connect(&mut runtime, (&a, &b), stream(500));
    in_sync(&mut runtime, &ends);
    let closing = a.clone();
    runtime.wait(async move { closing.close().await }).unwrap();
    runtime.run_until(|| ends.iter().all(|(_, ended)| ended.lock().unwrap().is_some()));
    for (_, ended) in &ends {
        taken(ended).unwrap();
    }
    drop((a, ends));
    let again = runtime.open(&here);
    same(&mut runtime, &theirs, &again);
}

#[test]
fn events_come_in_order_and_end_with_the_end() {
    let mut runtime = Runtime::new(14);
    let (here, there) = (runtime.storage(false), runtime.storage(false));
    let (a, b) = (runtime.open(&here), runtime.open(&there));
    writer(&mut runtime, &a, "a", 500);
    let (one, two) = stream(1000);
    let (handle, _) = spawn(&mut runtime, a.replicate(one, Role::Initiator));
    let mut other = b.replicate(two, Role::Responder);
    let seen = runtime.wait(async move {
        let mut seen = Vec::new();
        while let Some(event) = other.next().await {
            if matches!(event, ReplicationEvent::InSync) && other.counters().blocks_received > 0 {
                handle.disconnect();
            }
            seen.push(event);
        }
        assert!(other.next().await.is_none());
        seen
    });
    let last = seen.last().unwrap();
    assert!(matches!(last, ReplicationEvent::Closed { result: Ok(()) }), "{last:?}");
    let before = seen.iter().take_while(|event| !matches!(event, ReplicationEvent::Closed { .. }));
    let mut counts = Vec::new();
    for event in before {
        if let ReplicationEvent::Progress(counters) = event {
            counts.push(counters.blocks_received);
        }
    }
    assert!(counts.is_sorted() && counts.last() == Some(&500), "{counts:?}");
}

#[test]
fn a_loop_of_commands_answered_at_once_lets_other_tasks_run() {
    let mut runtime = Runtime::new(15);
    let storage = runtime.storage(false);
    let multi = runtime.open(&storage);
    let feed = writer(&mut runtime, &multi, "a", 1000);
    let appender = feed.clone();
    let appends = async move {
        for _ in 0..1000 {
            appender.append("block").await.unwrap();
        }
    };
    let reads = async move {
        for index in 0..1000 {
            feed.try_get(index).await.unwrap().unwrap();
        }
    };
    for task in [Box::pin(appends) as Pin<Box<dyn Future<Output = ()>>>, Box::pin(reads)] {
        let polls = runtime.polls;
        runtime.wait(task);
        // It gave way about thirty times.
        assert!(runtime.polls - polls >= 20, "{} polls", runtime.polls - polls);
    }
}
