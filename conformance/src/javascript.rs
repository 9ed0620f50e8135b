//! The JavaScript peer.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::contents::{Contents, Held};
use crate::install;
use crate::process::{Process, json_u64};

/// A Node process that holds hypermultifeeds, most often one; see `js/peer.js`.
#[derive(Debug)]
pub struct JsPeer {
    process: Process,
    multifeed: usize,
    last_id: u64,
}

/// A command whose answer has not been waited for; give it to [`JsPeer::finish`].
#[derive(Debug)]
#[must_use]
pub struct Pending(u64);

impl JsPeer {
    /// Opens `directory` with the root key `key`; `arguments` are further ones of `peer.js`.
    pub fn open(directory: &Path, key: &str, arguments: &[&str]) -> Self {
        let javascript = install::javascript();
        let mut command = Command::new("node");
        command.arg(javascript.join("peer.js")).arg(directory).args(["--key", key]).args(arguments);
        let mut process = Process::start("the JavaScript peer", &mut command);
        process.expect_event("ready");
        Self { process, multifeed: 0, last_id: 0 }
    }

    /// The process, to wait for its events.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Sets how long each wait lasts before the test fails; 60 s unless told.
    #[must_use]
    pub fn patient(mut self, patience: Duration) -> Self {
        self.process.set_patience(patience);
        self
    }

    /// The multifeed that commands are for, in the order in which they were opened; the first unless
    /// told.
    pub fn select(&mut self, multifeed: usize) {
        self.multifeed = multifeed;
    }

    /// Opens one more multifeed in the same store, and adds it to all connections.
    pub fn join(&mut self, key: &str) {
        self.call(json!({"do": "join", "key": key}));
    }

    /// The same with a key pair that follows from `seed`, 64 hex digits.
    pub fn write_with_key(&mut self, writer: &str, seed: &str, blocks: u64, size: usize) -> String {
        let command = json!({
            "do": "write", "writer": writer, "seed": seed, "blocks": blocks, "sizes": [size]
        });
        self.call(command)["key"].as_str().unwrap().to_owned()
    }

    /// The same for a writer without a name, whose blocks are those of a writer called `undefined`.
    pub fn write_unnamed(&mut self, blocks: u64, size: usize) -> String {
        let command = json!({"do": "write", "blocks": blocks, "sizes": [size]});
        self.call(command)["key"].as_str().unwrap().to_owned()
    }

    /// Appends `blocks` blocks of a writer called `named` to the feed of corestore with this name or, without, to the
    /// default feed of these namespaces; gives its key, its length and whether it is writable.
    pub fn named(&mut self, name: Option<&str>, namespaces: &[&str], blocks: u64) -> Value {
        self.call(json!({
            "do": "named", "name": name, "namespaces": namespaces, "blocks": blocks
        }))
    }

    /// Appends `blocks` blocks whose sizes repeat `sizes` to the writer; gives its key (hex).
    pub fn write(&mut self, writer: &str, blocks: u64, sizes: &[usize]) -> String {
        let pending = self.start_write(writer, blocks, sizes, 1_000);
        self.finish(pending)["key"].as_str().unwrap().to_owned()
    }

    /// Starts to do the same, `batch` blocks at a time.
    pub fn start_write(
        &mut self,
        writer: &str,
        blocks: u64,
        sizes: &[usize],
        batch: u64,
    ) -> Pending {
        self.begin(json!({
            "do": "write", "writer": writer, "blocks": blocks, "sizes": sizes, "batch": batch
        }))
    }

    /// Makes `writers` writers at once, named `prefix` and a number, each with blocks as for `write`.
    pub fn write_many(&mut self, prefix: &str, writers: u64, blocks: u64, sizes: &[usize]) {
        self.call(json!({
            "do": "writeMany", "prefix": prefix, "writers": writers, "blocks": blocks, "sizes": sizes
        }));
    }

    /// Listens on a free port and gives it.
    pub fn listen(&mut self) -> u16 {
        let answer = self.call(json!({"do": "listen"}));
        u16::try_from(json_u64(&answer, "port")).unwrap()
    }

    /// Connects to a port of this machine; the exchange runs on by itself.
    pub fn connect(&mut self, port: u16) {
        self.call(json!({"do": "connect", "port": port}));
    }

    /// Starts waiting until the peer has at least `feeds` feeds, all blocks of the feeds in
    /// `lengths` (key → blocks), and everything written to its files.
    pub fn wait(&mut self, feeds: usize, lengths: &BTreeMap<String, u64>) -> Pending {
        self.begin(json!({"do": "wait", "feeds": feeds, "lengths": lengths}))
    }

    /// Waits until the peer holds all of `contents`, feeds and blocks, and compares it.
    pub fn wait_for(&mut self, contents: &Contents) {
        let lengths = contents.iter().map(|(key, held)| (key.clone(), held.length)).collect();
        let pending = self.wait(contents.len(), &lengths);
        self.finish(pending);
        assert_eq!(&self.contents(), contents, "what the JavaScript peer holds");
    }

    /// What the peer holds.
    pub fn contents(&mut self) -> Contents {
        let answer = self.call(json!({"do": "digest"}));
        answer["feeds"].as_array().unwrap().iter().map(Held::from_json).collect()
    }

    /// The list of feeds: key, name, writable, length, blocks.
    pub fn feeds(&mut self) -> Vec<Value> {
        let answer = self.call(json!({"do": "feeds"}));
        answer["feeds"].as_array().unwrap().clone()
    }

    /// Ends all connections.
    pub fn disconnect(&mut self) {
        self.call(json!({"do": "disconnect"}));
    }

    /// Closes the store and waits for the end of the process.
    pub fn close(mut self) {
        self.call(json!({"do": "close"}));
        let (status, _) = self.process.finish();
        assert!(status.success(), "the JavaScript peer ended with {status}");
    }

    /// Sends a command of `js/peer.js` and waits for its answer.
    pub fn call(&mut self, command: Value) -> Value {
        let pending = self.begin(command);
        self.finish(pending)
    }

    /// Sends a command.
    pub fn begin(&mut self, mut command: Value) -> Pending {
        self.last_id += 1;
        command["id"] = self.last_id.into();
        command["multifeed"] = self.multifeed.into();
        self.process.send(format!("{command}\n").as_bytes());
        Pending(self.last_id)
    }

    /// Waits for the answer of a command.
    pub fn finish(&mut self, pending: Pending) -> Value {
        let answer = self.process.expect(&format!("answer command {}", pending.0), |line| {
            line["id"] == pending.0 || line["event"] == "crashed"
        });
        if answer["event"] != "done" {
            self.process.fail("do as told", &answer.to_string());
        }
        answer
    }
}
