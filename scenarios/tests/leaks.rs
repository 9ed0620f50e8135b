//! What is left of stores that are gone: no thread, no open file. One test, since both are counted for
//! the whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;
use std::{fs, thread};

use multifeed_driver::Durability;
use scenarios::{
    AsyncStd, Host, Peer, Smol, TokioThread, TokioThreads, connected, feed_in, in_sync, options,
    run, spawn,
};

/// Names of the threads of this process, and what files it has open.
fn left() -> [Vec<String>; 2] {
    let entries = |folder: &str| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    // What ends in between is not there.
    let threads = entries("/proc/self/task").flat_map(|at| fs::read_to_string(at.join("comm")));
    // The crate `blocking` keeps its idle threads for the next work, for all of the process.
    let threads = threads.filter(|name| !name.starts_with("blocking-"));
    let files = entries("/proc/self/fd").flat_map(fs::read_link);
    let files = files.map(|file| file.to_string_lossy().into_owned());
    [threads.collect(), files.collect()]
}

/// Stores that end in every way.
fn use_and_leave<H: Host>() {
    run::<H>(async {
        for ending in 0..4 {
            let power = options().durability(Durability::Power);
            let (a, b) = (Peer::<H>::with(power).await, Peer::<H>::new().await);
            let writer = a.writer("a", 100).await;
            let (mut one, mut two) = connected(&a, &b).await;
            match ending {
                0 => {
                    in_sync::<H, _>(&mut one, &mut two).await;
                    drop((one, two));
                    a.multi.close().await.unwrap();
                    b.multi.close().await.unwrap();
                }
                1 => drop((one, two, a, b)),
                2 => {
                    let (one, two) = (spawn::<H, _>(one), spawn::<H, _>(two));
                    feed_in(&writer, &b.multi).await;
                    drop((writer, b));
                    a.multi.close().await.unwrap();
                    let _either_way = (one.await, two.await);
                }
                _ => drop(writer.append("nobody waits for it")),
            }
        }
    });
}

fn check<H: Host>() {
    // What a runtime starts once for the whole process is no leak.
    use_and_leave::<H>();
    thread::sleep(IDLE);
    let before = left();
    for _ in 0..2 {
        use_and_leave::<H>();
    }
    let is_more = |now: &[Vec<String>; 2]| (0..2).any(|i| now[i].len() > before[i].len());
    let mut now = left();
    for _ in 0..20 {
        if !is_more(&now) {
            return;
        }
        thread::sleep(IDLE);
        now = left();
    }
    panic!("{}: before {before:?}, now {now:?}", std::any::type_name::<H>());
}

/// Stores whose handles were dropped close behind the scenes, and threads end a little after their last
/// work; nothing tells of it.
const IDLE: Duration = Duration::from_millis(500);

#[test]
fn stores_leave_no_threads_and_no_open_files() {
    check::<TokioThread>();
    check::<TokioThreads>();
    check::<Smol>();
    check::<AsyncStd>();
}
