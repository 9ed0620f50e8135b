//! Files behind a runtime whose threads run when the test says so.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod util;

use std::future::Future;
use std::sync::{Arc, Mutex};

use multifeed_driver::{
    DiskStorage, Durability, Multifeed, NodeError, Now, Options, Sleep, Storage, Task, Timer, Work,
};
use util::{Clock, Runtime};

/// Threads that do nothing by themselves.
#[derive(Default)]
struct Threads {
    clock: Clock,
    work: Mutex<Vec<Work>>,
}

impl Timer for Threads {
    fn now(&self) -> Now {
        self.clock.now()
    }

    fn sleep_until(&self, at: Now) -> Sleep {
        self.clock.sleep_until(at)
    }
}

impl multifeed_driver::Runtime for Threads {
    fn spawn(&self, _: Task) {
        unreachable!("the tests spawn the driver themselves");
    }

    fn spawn_blocking(&self, work: Work) {
        self.work.lock().unwrap().push(work);
    }
}

impl Threads {
    fn waiting(&self) -> Vec<Work> {
        std::mem::take(&mut self.work.lock().unwrap())
    }

    /// Does all the work, on this thread.
    fn run(&self) {
        self.waiting().into_iter().for_each(|work| work());
    }
}

struct Store {
    runtime: Runtime,
    threads: Arc<Threads>,
    folder: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { runtime: Runtime::new(30), threads: Arc::default(), folder }
    }

    fn storage(&self) -> Arc<dyn Storage> {
        let threads = Arc::clone(&self.threads) as Arc<dyn multifeed_driver::Runtime>;
        Arc::new(DiskStorage::open(threads, self.folder.path(), 16).unwrap())
    }

    /// Runs a future, and the threads whenever it waits for them.
    fn wait<T: 'static>(&mut self, future: impl Future<Output = T> + 'static) -> T {
        let result = self.runtime.spawn(future);
        let threads = Arc::clone(&self.threads);
        loop {
            self.runtime.run();
            if let Some(value) = result.lock().unwrap().take() {
                return value;
            }
            let work = threads.waiting();
            assert!(!work.is_empty(), "nothing will ever happen");
            work.into_iter().for_each(|work| work());
        }
    }

    fn open(&mut self) -> Result<Multifeed, multifeed_driver::Error> {
        let storage = self.storage();
        let options = Options::default()
            .durability(Durability::Power)
            .root_key(multifeed_driver::RootKey::new([7; 32]));
        let clock = Arc::new(self.runtime.clock.clone());
        let entropy = multifeed_driver::Entropy::from_seed([1; 32]);
        let (opening, driver) = Multifeed::start(options, entropy, clock, storage).unwrap();
        self.runtime.spawn(driver);
        self.wait(opening)
    }
}

#[test]
fn a_runtime_that_ends_in_mid_write_keeps_the_lock_until_the_write_is_over() {
    let mut store = Store::new();
    let multi = store.open().unwrap();
    let writer = store.wait(async move { multi.writer("a").await }).unwrap();
    let first = writer.clone();
    store.wait(async move { first.append("acknowledged").await }).unwrap();
    let append = store.runtime.spawn(async move { writer.append("in flight").await });
    store.runtime.run();
    let in_flight = store.threads.waiting();
    assert!(!in_flight.is_empty());

    store.runtime.drop_tasks();
    drop(append);
    let error = store.open().unwrap_err();
    assert_eq!(error.code(), "ERR_IN_USE", "{error}");
    in_flight.into_iter().for_each(|work| work());
    let multi = store.open().unwrap();
    let writer = store.wait(async move { multi.writer("a").await }).unwrap();
    assert_eq!(store.wait(async move { writer.get(0).await }).unwrap(), "acknowledged");
}

#[test]
fn work_that_is_dropped_unrun_fails_its_command_and_frees_the_store() {
    let mut store = Store::new();
    let multi = store.open().unwrap();
    let opened = multi.clone();
    let writer = store.wait(async move { opened.writer("a").await }).unwrap();
    let appender = writer.clone();
    let append = store.runtime.spawn(async move { appender.append("lost").await });
    store.runtime.run();
    // As tokio does when it shuts down.
    while append.lock().unwrap().is_none() {
        let work = store.threads.waiting();
        assert!(!work.is_empty(), "nothing will ever happen");
        drop(work);
        store.runtime.run();
    }
    let error = append.lock().unwrap().take().expect("an answer").unwrap_err();
    assert_eq!(error.code(), "ERR_STORAGE", "{error}");
    drop((writer, append));
    store.wait(async move { multi.close().await }).unwrap();
    store.open().unwrap();
}

#[test]
fn a_close_returns_when_the_lock_is_free() {
    let mut store = Store::new();
    let multi = store.open().unwrap();
    let opened = multi.clone();
    let writer = store.wait(async move { opened.writer("a").await }).unwrap();
    let append = store.runtime.spawn(async move { writer.append("block").await });
    store.runtime.run();
    assert!(append.lock().unwrap().is_none());
    let closing = multi.clone();
    store.wait(async move { closing.close().await }).unwrap();
    assert_eq!(append.lock().unwrap().take().unwrap().unwrap(), 0);
    let again = store.open().unwrap();
    let late = store.wait(async move { multi.writer("b").await }).unwrap_err();
    assert!(matches!(late, multifeed_driver::Error::Node(NodeError::Closed)));
    let writer = store.wait(async move { again.writer("a").await }).unwrap();
    assert_eq!(writer.len(), 1);
    store.threads.run();
}

/// Space that the files of a folder take, in bytes.
#[cfg(target_os = "linux")]
fn space(folder: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let taken = entries.map(|entry| match entry.metadata().unwrap() {
        found if found.is_dir() => space(&entry.path()),
        found => found.blocks() * 512,
    });
    taken.sum()
}

#[cfg(target_os = "linux")]
#[test]
fn the_disk_space_of_cleared_blocks_comes_back() {
    const BLOCK: usize = 10_000;
    let mut store = Store::new();
    let multi = store.open().unwrap();
    let opened = multi.clone();
    let writer = store.wait(async move { opened.writer("a").await }).unwrap();
    let append = writer.clone();
    let block = |n: u8| vec![n; BLOCK];
    store.wait(async move { append.append_batch((0..200).map(block)).await }).unwrap();
    let full = space(store.folder.path());
    let clear = writer.clone();
    store.wait(async move { clear.clear(20..120).await }).unwrap();
    let less = space(store.folder.path());
    // The list of cleared blocks may have taken a block of the file system.
    let slack = 3 * 0x1_0000;
    assert!(full - less >= 100 * BLOCK as u64 - slack, "{full} before, {less} after");
    for n in 120..180 {
        let clear = writer.clone();
        store.wait(async move { clear.clear(n..n + 1).await }).unwrap();
    }
    let least = space(store.folder.path());
    assert!(less - least >= 60 * BLOCK as u64 - 4096, "{less} before, {least} one by one");

    drop(writer);
    store.wait(async move { multi.close().await }).unwrap();
    let multi = store.open().unwrap();
    let writer = store.wait(async move { multi.writer("a").await }).unwrap();
    assert_eq!((writer.len(), writer.info().blocks), (200, 40));
    for n in [0, 19, 20, 179, 180, 199] {
        let reader = writer.clone();
        let found = store.wait(async move { reader.try_get(n).await }).unwrap();
        let held = !(20..180).contains(&n);
        assert_eq!(found.as_deref(), held.then(|| block(n as u8)).as_deref(), "block {n}");
    }
}
