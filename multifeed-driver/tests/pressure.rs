//! What is slow stays where it is: memory is bounded, other connections go on at full speed, and closing
//! returns. On a virtual clock; the same on real sockets and disks is in `scenarios`.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod util;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use multifeed_driver::{MemoryStorage, Multifeed, NodeConfig, Options, SyncState, Timer};
use peak_alloc::PeakAlloc;
use util::slow::{SlowDisk, Trickle};
use util::stores::{connect, in_sync, same, taken, writer};
use util::{Runtime, stream};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Memory is measured for the whole process, so one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that were in use at most while `run` ran, beyond those at its beginning.
fn peak(run: impl FnOnce()) -> usize {
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    run();
    HEAP.peak_usage().saturating_sub(before)
}

/// Limits that are small beside the data.
fn small() -> Options {
    Options::default().node_config(NodeConfig {
        max_outbox_bytes: 256 * 1024,
        max_unstored_bytes: 1024 * 1024,
        max_window_bytes: 512 * 1024,
        cache_bytes: 1024 * 1024,
        ..NodeConfig::default()
    })
}

fn open(runtime: &mut Runtime) -> Multifeed {
    runtime.open_on(Arc::new(MemoryStorage::default()), small()).unwrap()
}

/// Appends this many blocks of 10,000 bytes.
fn fill(runtime: &mut Runtime, multi: &Multifeed, blocks: u32) -> multifeed_driver::Feed {
    let multi = multi.clone();
    runtime.wait(async move {
        let writer = multi.writer("large").await.unwrap();
        for number in 0..blocks {
            writer.append(number.to_le_bytes().repeat(2500)).await.unwrap();
        }
        writer
    })
}

/// Lets time pass.
fn pass(runtime: &mut Runtime, span: Duration) {
    let end = runtime.clock.now().after(span);
    while runtime.clock.now() < end {
        runtime.run();
        assert!(runtime.clock.advance());
    }
    runtime.run();
}

#[test]
fn a_peer_that_reads_one_byte_a_second_costs_its_outbox_and_nobody_else_waits() {
    let _alone = alone();
    let mut runtime = Runtime::new(20);
    let (a, b) = (open(&mut runtime), open(&mut runtime));
    writer(&mut runtime, &a, "a", 10);
    let (one, two) = stream(5000);
    let (two, slow) = Trickle::new(two, &runtime.clock);
    let ends = connect(&mut runtime, (&a, &b), (one, two));
    in_sync(&mut runtime, &ends);

    slow.store(true, Ordering::SeqCst);
    let large = fill(&mut runtime, &a, 2000);
    let before = HEAP.current_usage();
    let extra = peak(|| pass(&mut runtime, Duration::from_secs(15)));
    assert!(extra < 2 << 20, "{extra} bytes for a peer that does not read");
    assert!(HEAP.current_usage() < before + (2 << 20));

    // Another peer gets all of it in no time at all.
    let c = open(&mut runtime);
    let start = runtime.clock.now();
    let fast = connect(&mut runtime, (&a, &c), stream(5000));
    in_sync(&mut runtime, &fast);
    same(&mut runtime, &large, &c);
    let took = runtime.clock.now().since(start);
    assert!(took < Duration::from_secs(1), "{took:?} beside a slow peer");

    // The close waits for the slow one as long as it is told to, not longer.
    let start = runtime.clock.now();
    let closing = a.clone();
    runtime.wait(async move { closing.close().await }).unwrap();
    let took = runtime.clock.now().since(start);
    assert!(
        took <= NodeConfig::default().leave_timeout + Duration::from_secs(1),
        "{took:?} to close"
    );
}

#[test]
fn a_disk_that_takes_a_second_for_each_write_slows_its_own_download_only() {
    let _alone = alone();
    let mut runtime = Runtime::new(21);
    let (a, c, d) = (open(&mut runtime), open(&mut runtime), open(&mut runtime));
    let disk = SlowDisk::new(&runtime.clock);
    let b = runtime.open_on(Arc::clone(&disk) as _, small()).unwrap();
    let own = writer(&mut runtime, &b, "b", 50);
    let large = fill(&mut runtime, &a, 2000);
    let slow = connect(&mut runtime, (&a, &b), stream(5000));
    runtime.run_until(|| slow[1].0.counters().blocks_received > 0);

    // What is stored is what the peer sent; the rest is the node's.
    let stored = |multi: &Multifeed| multi.feed(&large.key()).unwrap().info().blocks as usize;
    let held = stored(&b);
    let mut kept = 0;
    let extra = peak(|| {
        pass(&mut runtime, Duration::from_secs(10));
        kept = (stored(&b) - held) * 10_000;
    });
    assert!(kept > 0 && stored(&b) < 2000, "in the middle of it: {}", stored(&b));
    let bound = kept + 6 * (1 << 20);
    assert!(extra < bound, "{extra} bytes, of which {kept} are stored");

    // Neither the one that serves it nor what it serves itself is held up by it.
    let start = runtime.clock.now();
    let fast = connect(&mut runtime, (&a, &c), stream(5000));
    in_sync(&mut runtime, &fast);
    same(&mut runtime, &large, &c);
    let took = runtime.clock.now().since(start);
    assert!(took < Duration::from_millis(100), "{took:?} for a peer of the same server");
    let start = runtime.clock.now();
    let served = connect(&mut runtime, (&b, &d), stream(5000));
    runtime.run_until(|| d.feed(&own.key()).is_some());
    same(&mut runtime, &own, &d);
    let took = runtime.clock.now().since(start);
    assert!(took < Duration::from_millis(100), "{took:?} for what a store with a slow disk has");

    let start = runtime.clock.now();
    let closing = b.clone();
    runtime.wait(async move { closing.close().await }).unwrap();
    let took = runtime.clock.now().since(start);
    assert!(took <= Duration::from_secs(20), "{took:?} to close");
    runtime.run_until(|| served.iter().all(|(_, ended)| ended.lock().unwrap().is_some()));
    taken(&served[0].1).unwrap();

    // What was acknowledged is there.
    let again = runtime.open_on(disk.memory(), small()).unwrap();
    let copy = again.feed(&large.key()).unwrap();
    let info = runtime.wait(async move { copy.load().await }).unwrap();
    assert!(info.blocks as usize * 10_000 >= kept);
}

#[test]
fn an_application_that_reads_no_events_costs_its_queue() {
    let _alone = alone();
    let mut runtime = Runtime::new(22);
    let a =
        runtime.open_on(Arc::new(MemoryStorage::default()), small().event_capacity(100)).unwrap();
    let b = open(&mut runtime);
    let unread: Vec<_> = (0..10).map(|_| a.events()).collect();
    let theirs = fill(&mut runtime, &b, 500);
    let ends = connect(&mut runtime, (&a, &b), stream(5000));
    in_sync(&mut runtime, &ends);
    same(&mut runtime, &theirs, &a);
    let ours = writer(&mut runtime, &a, "a", 0);
    let extra = peak(|| {
        for _ in 0..5000 {
            let ours = ours.clone();
            runtime.wait(async move { ours.append("x").await }).unwrap();
        }
    });
    // Five thousand blocks on two sides, their trees, and ten queues of a hundred events.
    assert!(extra < 4 << 20, "{extra} bytes");
    assert!(ends.iter().all(|(handle, _)| handle.sync_state() != SyncState::Closed));
    let start = runtime.clock.now();
    let closing = a.clone();
    runtime.wait(async move { closing.close().await }).unwrap();
    assert!(runtime.clock.now().since(start) < Duration::from_secs(1));
    drop(unread);
}

#[test]
fn a_replication_that_nobody_polls_holds_its_peer_back_and_nothing_else() {
    let _alone = alone();
    let mut runtime = Runtime::new(23);
    let (a, b) = (open(&mut runtime), open(&mut runtime));
    let large = fill(&mut runtime, &a, 2000);
    let (one, two) = stream(5000);
    let sending =
        util::stores::spawn(&mut runtime, a.replicate(one, multifeed_driver::Role::Initiator));
    let mut receiving = Box::pin(b.replicate(two, multifeed_driver::Role::Responder));
    // Polled until blocks come, then no more.
    while receiving.counters().blocks_received == 0 {
        runtime.run();
        let waker = std::task::Waker::noop();
        let _pending = receiving.as_mut().poll(&mut std::task::Context::from_waker(waker));
    }
    let extra = peak(|| {
        for _ in 0..5 {
            runtime.run();
            assert!(runtime.clock.advance());
        }
    });
    assert!(extra < 2 << 20, "{extra} bytes");
    let c = open(&mut runtime);
    let fast = connect(&mut runtime, (&a, &c), stream(5000));
    in_sync(&mut runtime, &fast);
    same(&mut runtime, &large, &c);
    drop(receiving);
    runtime.run_until(|| sending.1.lock().unwrap().is_some());
}
