//! Ends of tokio runtimes.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use multifeed_tokio::{Durability, Multifeed, Options, RootKey};
use tokio::runtime::{Builder, Runtime};

fn options() -> Options {
    Options::default().root_key(RootKey::new([7; 32]))
}

async fn open(folder: &Path) -> Multifeed {
    Multifeed::open(folder, options()).await.unwrap()
}

#[test]
fn a_runtime_that_ends_frees_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = || Builder::new_multi_thread().enable_all().build().unwrap();
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

#[test]
fn a_runtime_that_ends_in_mid_write_loses_no_acknowledged_block() {
    type End = fn(Runtime);
    let ends: [End; 3] =
        [drop, Runtime::shutdown_background, |runtime| runtime.shutdown_timeout(Duration::ZERO)];
    let runtime = || Builder::new_multi_thread().enable_all().build().unwrap();
    for (end, acknowledged) in ends.into_iter().flat_map(|end| [0, 1, 7].map(|count| (end, count)))
    {
        let folder = tempfile::tempdir().unwrap();
        let first = runtime();
        let options = options().durability(Durability::Power);
        let multi = first.block_on(Multifeed::open(folder.path(), options.clone())).unwrap();
        let (sender, acknowledgements) = mpsc::channel();
        let appending = multi.clone();
        first.spawn(async move {
            let writer = appending.writer("local").await.unwrap();
            loop {
                let Ok(index) = writer.append(vec![7; 1_000_000]).await else { return };
                if sender.send(index).is_err() {
                    return;
                }
            }
        });
        let seen: Vec<u64> = acknowledgements.iter().take(acknowledged).collect();
        end(first);
        let seen = seen.into_iter().chain(acknowledgements).last();

        runtime().block_on(async {
            // It fails unless the end came between two writes; that it returns is what counts.
            let _either = multi.close().await;
            // A write that had begun goes on without the runtime, and keeps the lock meanwhile.
            let again = loop {
                match Multifeed::open(folder.path(), options.clone()).await {
                    Ok(again) => break again,
                    Err(error) => assert_eq!(error.code(), "ERR_IN_USE", "{error}"),
                }
            };
            let writer = again.writer("local").await.unwrap();
            let wanted = seen.map_or(0, |last| last + 1);
            assert!(writer.len() >= wanted, "{} blocks, {wanted} acknowledged", writer.len());
            for index in 0..writer.len() {
                assert_eq!(writer.get(index).await.unwrap(), vec![7; 1_000_000]);
            }
            again.close().await.unwrap();
        });
    }
}
