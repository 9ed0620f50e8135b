//! A second process at the same store.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use multifeed_driver::Hosted;
use scenarios::{AsyncStd, Host, Smol, TokioThread, TokioThreads, options, run};
use tempfile::TempDir;

/// A process that has the store open.
fn holder(folder: &Path) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_holder"))
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "open\n");
    child
}

fn refused<H: Host>(folder: &Path, child: &Child) {
    run::<H>(async {
        let error = Hosted::<H::Runtime>::open(folder, options()).await.unwrap_err();
        assert_eq!(error.code(), "ERR_IN_USE");
        let process = format!("in use by process {}", child.id());
        // Windows does not let others read a locked file.
        assert!(cfg!(windows) || error.to_string().contains(&process), "{error}");
    });
}

fn opened<H: Host>(folder: &Path) {
    run::<H>(async {
        let multi = Hosted::<H::Runtime>::open(folder, options()).await.unwrap();
        let feed = multi.writer("holder").await.unwrap();
        assert_eq!(feed.get(0).await.unwrap(), "of the other process");
        multi.close().await.unwrap();
    });
}

fn everywhere(folder: &TempDir, child: &Child) {
    refused::<TokioThread>(folder.path(), child);
    refused::<TokioThreads>(folder.path(), child);
    refused::<Smol>(folder.path(), child);
    refused::<AsyncStd>(folder.path(), child);
}

#[test]
fn a_second_process_is_told_which_one_has_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = holder(folder.path());
    everywhere(&folder, &child);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    opened::<TokioThread>(folder.path());
    opened::<TokioThreads>(folder.path());
    opened::<Smol>(folder.path());
    opened::<AsyncStd>(folder.path());
}

#[test]
fn a_killed_process_leaves_no_lock() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = holder(folder.path());
    everywhere(&folder, &child);
    child.kill().unwrap();
    child.wait().unwrap();
    opened::<TokioThread>(folder.path());
    opened::<AsyncStd>(folder.path());
}
