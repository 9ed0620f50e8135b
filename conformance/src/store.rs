//! A directory that either implementation opens.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use multifeed_tokio::{Bytes, Multifeed, Options, RootKey};
use serde_json::Value;
use tempfile::TempDir;

use crate::contents::Contents;
use crate::javascript::JsPeer;
use crate::library;
use crate::process::Process;
use crate::program::multifeed;

/// A directory and its root key; removed when dropped.
#[derive(Debug)]
pub struct Store {
    directory: TempDir,
    key: String,
}

impl Store {
    /// A directory that does not exist yet, for the root key `key` (64 hex digits).
    pub fn new(key: &str) -> Self {
        let directory =
            tempfile::Builder::new().prefix("multifeed-conformance-").tempdir().unwrap();
        Self { directory, key: key.to_owned() }
    }

    /// A copy of the directory as it is, which must not be open in a living process.
    #[must_use]
    pub fn copied(&self) -> Self {
        let copy = Self::new(&self.key);
        copy_folder(&self.path(), &copy.path());
        copy
    }

    /// Where the store is.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// The root key, 64 hex digits.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Opens the store in a JavaScript peer.
    pub fn javascript(&self) -> JsPeer {
        JsPeer::open(&self.path(), &self.key, &[])
    }

    /// Opens the store in a JavaScript peer of another package than hypermultifeed.
    pub fn javascript_of(&self, package: &str) -> JsPeer {
        JsPeer::open(&self.path(), &self.key, &["--package", package])
    }

    /// Opens the store in multifeed 6.
    pub fn multifeed6(&self) -> JsPeer {
        self.javascript_of("multifeed")
    }

    /// Opens the store in a JavaScript peer that is given the master key, 64 hex digits.
    pub fn javascript_with_master_key(&self, key: &str) -> JsPeer {
        JsPeer::open(&self.path(), &self.key, &["--master-key", key])
    }

    /// Opens the store in a JavaScript peer with a second multifeed.
    pub fn javascript_with(&self, other: &str) -> JsPeer {
        JsPeer::open(&self.path(), &self.key, &["--also", other])
    }

    /// Runs `multifeed` on the store: `command` is the sub-command, `arguments` follow the directory.
    pub fn start(&self, command: &str, arguments: &[&str]) -> Process {
        let mut process = multifeed([command]);
        process.arg(self.path()).args(arguments).arg("--json").env("MULTIFEED_KEY", &self.key);
        Process::start(&format!("multifeed {command}"), &mut process)
    }

    /// Runs `multifeed` with `input` on its stdin to its end, which must be a good one; gives the
    /// lines it printed.
    pub fn run(&self, command: &str, arguments: &[&str], input: &[u8]) -> Vec<Value> {
        let mut process = self.start(command, arguments);
        process.set_patience(PATIENCE);
        process.send(input);
        let (status, lines) = process.finish();
        assert!(
            status.success(),
            "multifeed {command} {arguments:?} ended with {status}: {lines:?}\n{}",
            process.stderr()
        );
        lines
    }

    /// Appends one line of text a block, in batches.
    pub fn append_lines(&self, writer: &str, lines: &[u8]) {
        self.run("append", &[writer, "--lines"], lines);
    }

    /// Appends one block.
    pub fn append_block(&self, writer: &str, block: &[u8]) {
        let file = self.directory.path().join("block");
        fs::write(&file, block).unwrap();
        self.run("append", &[writer, "--file", path_text(&file)], &[]);
    }

    /// The feeds as `multifeed feeds --json` lists them.
    pub fn feeds(&self) -> Vec<Value> {
        let lines = self.run("feeds", &[], &[]);
        lines[0]["feeds"].as_array().unwrap_or_else(|| panic!("no feeds in {lines:?}")).clone()
    }

    /// The key (hex) of the feed called `name`.
    pub fn feed_key(&self, name: &str) -> String {
        let feeds = self.feeds();
        let feed = feeds.iter().find(|feed| feed["name"] == name);
        feed.unwrap_or_else(|| panic!("no feed {name:?} in {feeds:?}"))["key"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Serves the store on a free port.
    pub fn serve(&self, arguments: &[&str]) -> Serving {
        let mut process = self.start("serve", &[&["--listen", "127.0.0.1:0"], arguments].concat());
        let listening = process.expect_event("listening");
        let address = listening["address"].as_str().unwrap();
        let port = address.rsplit(':').next().unwrap().parse().unwrap();
        Serving { process, port }
    }

    /// Syncs with whoever listens on `port`; gives the line that says `in_sync`.
    pub fn sync(&self, port: u16) -> Value {
        let lines = self.run("sync", &[&format!("127.0.0.1:{port}")], &[]);
        let last = lines.last().unwrap_or_else(|| panic!("multifeed sync printed nothing"));
        assert_eq!(last["event"], "in_sync", "the last line of multifeed sync");
        last.clone()
    }

    /// What our library finds in the store.
    pub fn contents(&self) -> Contents {
        self.look(async |multifeed| library::contents(multifeed).await)
    }

    /// All blocks of the feed called `name`, which must be held.
    pub fn blocks(&self, name: &str) -> Vec<Bytes> {
        self.look(async |multifeed| {
            let feed = multifeed.feed_named(name).expect("the feed is in the list");
            library::blocks(&feed).await.1.into_iter().map(|(_, block)| block).collect()
        })
    }

    fn look<T>(&self, at: impl AsyncFnOnce(&Multifeed) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let multifeed = self.open().await;
            let seen = at(&multifeed).await;
            multifeed.close().await.expect("the store closes");
            seen
        })
    }

    /// Opens the store with our library.
    pub async fn open(&self) -> Multifeed {
        let key = RootKey::from_hex(&self.key).expect("a root key");
        let opened = Multifeed::open(self.path(), Options::default().root_key(key)).await;
        opened.unwrap_or_else(|error| panic!("{} does not open: {error}", self.path().display()))
    }

    /// What a JavaScript peer finds in the store.
    pub fn javascript_contents(&self) -> Contents {
        let mut peer = self.javascript();
        let contents = peer.contents();
        peer.close();
        contents
    }
}

/// `multifeed serve`, listening.
#[derive(Debug)]
pub struct Serving {
    /// The running program.
    pub process: Process,
    /// The port that it listens on.
    pub port: u16,
}

impl Serving {
    /// Ends it with Ctrl-C, which must be a clean end.
    pub fn stop(mut self) {
        self.process.interrupt();
        self.finish();
    }

    /// Waits for its end by itself (`--once`), which must be a clean one.
    pub fn finish(&mut self) {
        let (status, lines) = self.process.finish();
        assert!(
            status.success(),
            "multifeed serve: {status}: {lines:?}\n{}",
            self.process.stderr()
        );
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).into_iter().flatten() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(crate) fn path_text(path: &Path) -> &str {
    path.to_str().expect("test directories have plain names")
}

const PATIENCE: Duration = Duration::from_secs(240);
