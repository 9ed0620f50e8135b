//! Handles used in ways that nobody planned: futures dropped half-way, commands after the end,
//! readers that are too slow, streams that end anywhere.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs, unreachable_pub)]

mod util;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use multifeed_driver::{
    ByteStream, Error, Event, Feed, Multifeed, NodeError, Options, ReplicationError,
    ReplicationEvent, Role, Timer,
};
use util::{End, Runtime, stream};

/// A future that is given up after some polls.
struct GiveUp<F> {
    future: Option<Pin<Box<F>>>,
    polls: usize,
}

impl<F: Future> Future for GiveUp<F> {
    type Output = bool;

    /// Whether the future was ready before.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let this = &mut *self;
        let Some(future) = &mut this.future else { return Poll::Ready(false) };
        if this.polls > 0 {
            this.polls -= 1;
            if future.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
        }
        if this.polls == 0 {
            this.future = None;
            return Poll::Ready(false);
        }
        Poll::Pending
    }
}

fn give_up<F: Future>(future: F, polls: usize) -> GiveUp<F> {
    GiveUp { future: Some(Box::pin(future)), polls }
}

fn writer(runtime: &mut Runtime, multi: &Multifeed, name: &'static str) -> Feed {
    let multi = multi.clone();
    runtime.wait(async move { multi.writer(name).await }).unwrap()
}

#[test]
fn futures_dropped_after_any_number_of_polls_harm_nothing() {
    for slow in [false, true] {
        for polls in 0..6 {
            for kind in 0..9 {
                let mut runtime = Runtime::new(polls as u64 * 10 + kind);
                let storage = runtime.storage(slow);
                let multi = runtime.open(&storage);
                let feed = writer(&mut runtime, &multi, "w");
                let first = feed.clone();
                runtime.wait(async move { first.append("0").await }).unwrap();
                let (store, log) = (multi.clone(), feed.clone());
                let mut events = multi.events();
                let dropped = match kind {
                    0 => runtime
                        .spawn(give_up(async move { store.writer("x").await.is_ok() }, polls)),
                    1 => {
                        runtime.spawn(give_up(async move { log.append("1").await.is_ok() }, polls))
                    }
                    2 => runtime.spawn(give_up(
                        async move { log.append_batch(["1", "2"]).await.is_ok() },
                        polls,
                    )),
                    3 => runtime.spawn(give_up(log.get(0), polls)),
                    4 => runtime.spawn(give_up(log.get(1).without_timeout(), polls)),
                    5 => runtime.spawn(give_up(async move { log.try_get(0).await.is_ok() }, polls)),
                    6 => {
                        let mut blocks = log.subscribe(0..);
                        runtime.spawn(give_up(
                            async move { while blocks.next().await.is_some() {} },
                            polls,
                        ))
                    }
                    7 => runtime.spawn(give_up(
                        async move { while events.next().await.is_some() {} },
                        polls,
                    )),
                    _ => runtime.spawn(give_up(async move { log.load().await.is_ok() }, polls)),
                };
                runtime.run();
                assert!(
                    dropped.lock().unwrap().is_some() || polls > 0,
                    "kind {kind}, {polls} polls"
                );
                let place = format!("slow {slow}, kind {kind}, {polls} polls");
                let log = feed.clone();
                let at = runtime.wait(async move { log.append("last").await }).expect(&place);
                let expected: &[u64] = match kind {
                    1 => &[1, 2],
                    2 => &[1, 3],
                    _ => &[1],
                };
                assert!(expected.contains(&at), "{place}: {at}");
                let log = feed.clone();
                assert_eq!(runtime.wait(async move { log.get(at).await }).unwrap(), "last");
                let store = multi.clone();
                runtime.wait(async move { store.writer("y").await }).expect(&place);
                runtime.wait(async move { multi.close().await }).expect(&place);
                assert_eq!(storage.closed(), 1, "{place}");
            }
        }
    }
}

#[test]
fn a_store_is_closed_when_its_lock_is_free() {
    let mut runtime = Runtime::new(12);
    let storage = runtime.storage(true);
    let multi = runtime.open(&storage);
    assert!(!multi.is_closed());
    let store = multi.clone();
    let closed = runtime.spawn(async move { store.close().await });
    assert!(!multi.is_closed());
    runtime.run_until(|| {
        assert_eq!(multi.is_closed(), storage.closed() > 0);
        closed.lock().unwrap().is_some()
    });
    assert!(multi.is_closed());
    assert!(multi.store().is_closed());
}

#[test]
fn a_store_whose_driver_is_gone_is_closed() {
    let mut runtime = Runtime::new(13);
    let storage = runtime.storage(false);
    let multi = runtime.open(&storage);
    runtime.drop_tasks();
    assert!(multi.is_closed());
}

#[test]
fn a_closed_store_has_no_feeds_and_handles_tell_what_was_known() {
    let mut runtime = Runtime::new(14);
    let storage = runtime.storage(true);
    let multi = runtime.open(&storage);
    let feed = writer(&mut runtime, &multi, "w");
    let log = feed.clone();
    runtime.wait(async move { log.append("a").await }).unwrap();
    let store = multi.clone();
    let closed = runtime.spawn(async move { store.close().await });
    runtime.run_until(|| {
        let count = usize::from(!multi.is_closed());
        assert_eq!(multi.feeds().len(), count);
        assert_eq!(multi.store().multifeeds().len(), count);
        closed.lock().unwrap().is_some()
    });
    assert!(multi.is_closed());
    assert_eq!(multi.feeds(), []);
    assert_eq!(multi.feed(&feed.key()), None);
    assert_eq!(multi.feed_named("w"), None);
    assert_eq!(multi.store().feed(&feed.key()), None);
    assert_eq!((feed.len(), feed.name()), (1, "w".to_owned()));
}

#[test]
fn a_close_dropped_after_its_first_poll_goes_on() {
    for slow in [false, true] {
        let mut runtime = Runtime::new(1);
        let storage = runtime.storage(slow);
        let multi = runtime.open(&storage);
        let feed = writer(&mut runtime, &multi, "w");
        let closing = multi.clone();
        runtime.spawn(give_up(async move { closing.close().await.is_ok() }, 1));
        runtime.run();
        assert_eq!(storage.closed(), 1);
        assert!(runtime.wait(async move { feed.append("late").await }).is_err());
        drop(multi);
    }
}

#[test]
fn a_replication_dropped_after_any_number_of_polls_leaves_both_stores_in_order() {
    for polls in 0..40 {
        let mut runtime = Runtime::new(polls as u64);
        let (here, there) = (runtime.storage(true), runtime.storage(true));
        let (a, b) = (runtime.open(&here), runtime.open(&there));
        let feed = writer(&mut runtime, &a, "w");
        let log = feed.clone();
        runtime
            .wait(async move { log.append_batch((0..30).map(|n| n.to_string())).await })
            .unwrap();
        let (one, two) = stream(300);
        runtime.spawn(give_up(a.replicate(one, Role::Initiator), polls));
        let other = runtime.spawn(b.replicate(two, Role::Responder));
        runtime.run_until(|| other.lock().unwrap().is_some());

        let (one, two) = stream(300);
        runtime.spawn(a.replicate(one, Role::Initiator));
        runtime.spawn(b.replicate(two, Role::Responder));
        let copies = b.clone();
        let key = feed.key();
        runtime.run_until(|| copies.feed(&key).is_some());
        let copy = b.feed(&key).unwrap();
        let last = runtime.wait(async move { copy.get(29).await }).unwrap();
        assert_eq!(last, "29", "{polls} polls");
    }
}

#[test]
fn commands_after_the_close_fail_and_say_so() {
    let mut runtime = Runtime::new(2);
    let storage = runtime.storage(true);
    let multi = runtime.open(&storage);
    let feed = writer(&mut runtime, &multi, "w");
    let closing = multi.clone();
    runtime.wait(async move { closing.close().await }).unwrap();
    let is_closed = |error: Error| matches!(error, Error::Node(NodeError::Closed));
    let (store, log) = (multi.clone(), feed.clone());
    assert!(is_closed(runtime.wait(async move { store.writer("x").await }).unwrap_err()));
    assert!(is_closed(runtime.wait(async move { log.append("x").await }).unwrap_err()));
    assert!(is_closed(runtime.wait(feed.get(0)).unwrap_err()));
    assert!(is_closed(runtime.wait(feed.get(7).without_timeout()).unwrap_err()));
    let mut blocks = feed.subscribe(0..);
    let next = runtime.wait(async move { (blocks.next().await, blocks.next().await) });
    assert!(matches!(next, (Some(Err(_)), None)), "{next:?}");
    let mut events = multi.events();
    assert_eq!(runtime.wait(async move { events.next().await }), None);
    let mut late = multi.replicate(stream(10).0, Role::Initiator);
    let event = runtime.wait(async move { (late.next().await, late.next().await) });
    let closed = ReplicationError::StoreClosed;
    match event {
        (Some(ReplicationEvent::Closed { result: Err(error) }), None) => {
            assert_eq!(error.to_string(), closed.to_string());
        }
        other => panic!("{other:?}"),
    }
    let closing = multi.clone();
    runtime.wait(async move { closing.close().await }).expect("closing twice is closing once");
    assert_eq!(storage.closed(), 1);
}

#[test]
fn a_slow_reader_of_events_is_told_exactly_how_many_it_missed() {
    for capacity in [1, 5, 100] {
        let mut runtime = Runtime::new(3);
        let storage = runtime.storage(false);
        let multi =
            runtime.try_open(&storage, Options::default().event_capacity(capacity)).unwrap();
        let feed = writer(&mut runtime, &multi, "w");
        let mut slow = multi.events();
        for _ in 0..20 {
            let log = feed.clone();
            runtime.wait(async move { log.append("x").await }).unwrap();
        }
        runtime.wait(async move { multi.close().await }).unwrap();
        drop(feed);
        let seen = runtime.wait(async move {
            let mut seen = Vec::new();
            while let Some(event) = slow.next().await {
                seen.push(event);
            }
            seen
        });
        let (mut missed, mut appended) = (0, Vec::new());
        for event in &seen {
            match event {
                Event::Lagged { missed: count } => missed += count,
                Event::Appended { start, .. } => appended.push(*start),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(missed + appended.len() as u64, 20, "{seen:?}");
        assert_eq!(appended.len(), capacity.min(20));
        let newest: Vec<_> = (20 - appended.len() as u64..20).collect();
        assert_eq!(appended, newest, "the oldest were dropped");
        let first = matches!(seen[0], Event::Lagged { .. });
        assert_eq!(first, capacity < 20, "the gap is told where it is");
    }
}

/// A stream that ends, or fails, when this many bytes were read from it.
struct Cut {
    inner: End,
    left: usize,
    fails: bool,
}

impl ByteStream for Cut {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.left == 0 {
            let error = io::ErrorKind::ConnectionReset;
            return Poll::Ready(if self.fails { Err(error.into()) } else { Ok(0) });
        }
        let room = buffer.len().min(self.left);
        let read = self.inner.poll_read(cx, &mut buffer[..room]);
        if let Poll::Ready(Ok(count)) = &read {
            self.left -= count;
        }
        read
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.inner.poll_write(cx, data)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_close(cx)
    }
}

#[test]
fn a_stream_cut_after_any_byte_ends_both_connections_in_time() {
    let mut cleanly = 0;
    for fails in [false, true] {
        // All is exchanged after 1,034 bytes.
        for left in (0..1034).step_by(if fails { 7 } else { 1 }) {
            let mut runtime = Runtime::new(5);
            let (here, there) = (runtime.storage(false), runtime.storage(false));
            let (a, b) = (runtime.open(&here), runtime.open(&there));
            for (store, name) in [(&a, "a"), (&b, "b")] {
                let feed = writer(&mut runtime, store, name);
                runtime.wait(async move { feed.append_batch(["1", "22", "333"]).await }).unwrap();
            }
            let (one, two) = stream(100_000);
            let one = runtime.spawn(a.replicate(Cut { inner: one, left, fails }, Role::Initiator));
            let two = runtime.spawn(b.replicate(two, Role::Responder));
            let start = runtime.clock.now();
            runtime.run_until(|| one.lock().unwrap().is_some() && two.lock().unwrap().is_some());
            let took = runtime.clock.now().since(start);
            let (one, two) =
                (one.lock().unwrap().take().unwrap(), two.lock().unwrap().take().unwrap());
            let place = format!("{left} bytes, fails {fails}: {one:?}, {two:?}");
            assert!(took <= Duration::from_secs(1), "{place} after {took:?}");
            assert!(!fails || one.is_err(), "{place}");
            cleanly += usize::from(one.is_ok() && two.is_ok());
            for store in [a, b] {
                runtime.wait(async move { store.close().await }).expect(&place);
            }
        }
    }
    assert!(cleanly > 5, "{cleanly} ends between two messages");
}
