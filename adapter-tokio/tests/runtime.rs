//! Ends of tokio runtimes.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use multifeed_tokio::{Multifeed, Options, RootKey};

fn options() -> Options {
    Options::default().root_key(RootKey::new([7; 32]))
}

async fn open(folder: &Path) -> Multifeed {
    Multifeed::open(folder, options()).await.unwrap()
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
