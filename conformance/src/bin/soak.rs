//! Nodes on real sockets that are killed all the time: nothing may be lost, and memory must stay flat.
//!
//! `cargo run --release -p conformance --bin soak -- [--minutes 10] [--nodes 4] [--seed 1]`: so many processes,
//! each with a store, a writer and connections to all others. All append all the time; each but the first is
//! killed (SIGKILL) at random moments and started again. In the end all must hold the same, every block whose append was acknowledged
//! in its place, and every store must be sound. The memory of the first is measured all the time.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test program fails by panicking, and waits for real processes"
)]

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use conformance::{Process, Random, json_u64, multifeed, root_key};
use multifeed_tokio::{Listener, Multifeed, Options, Role, RootKey};
use serde_json::{Value, json};

/// Time between two appends of a node.
const APPEND_EVERY: Duration = Duration::from_millis(20);
/// Time in which all must hold the same in the end.
const SETTLE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "node") {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(node(Path::new(&arguments[1]), &arguments[2]));
        return ExitCode::SUCCESS;
    }
    let option = |name: &str, default: u64| {
        let at = arguments.iter().position(|argument| argument == name);
        at.map_or(default, |at| arguments[at + 1].parse().expect("a number"))
    };
    let (minutes, nodes) = (option("--minutes", 10), option("--nodes", 4));
    Soak::new(nodes as usize, Random::new(option("--seed", 1)))
        .run(Duration::from_secs(60 * minutes))
}

/// One node: appends, serves, and connects to those that are told on its standard input.
async fn node(directory: &Path, name: &str) {
    let key = RootKey::from_hex(&root_key("soak")).unwrap();
    let multifeed = Multifeed::open(directory, Options::default().root_key(key)).await.unwrap();
    let writer = multifeed.writer(name).await.unwrap();
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    println!("{}", json!({"event": "listening", "port": port, "key": writer.key().to_hex()}));
    let serving = multifeed.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serving.replicate(stream, Role::Responder));
        }
    });
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let mut appending = true;
    let mut next = tokio::time::interval(APPEND_EVERY);
    let mut made = writer.load().await.unwrap().length;
    loop {
        tokio::select! {
            line = lines.recv() => match line.as_deref() {
                Some("stop") => appending = false,
                Some("contents") => println!("{}", contents(&multifeed).await),
                Some(port) => {
                    let to = (Ipv4Addr::LOCALHOST, port.parse::<u16>().unwrap());
                    if let Ok(stream) = multifeed_tokio::connect(to).await {
                        tokio::spawn(multifeed.replicate(stream, Role::Initiator));
                    }
                }
                None => return,
            },
            _ = next.tick(), if appending => {
                let block = format!("{name} {made} {}", "x".repeat((made % 200) as usize));
                let start = writer.append(block).await.unwrap();
                println!("{}", json!({"event": "appended", "start": start}));
                made = start + 1;
            }
        }
    }
}

/// Feed key → blocks held and length, and a digest of all.
async fn contents(multifeed: &Multifeed) -> Value {
    let all = conformance::contents(multifeed).await;
    let all = all.into_iter().map(|(key, held)| {
        (key, json!({"length": held.length, "blocks": held.blocks(), "sha256": held.sha256}))
    });
    json!({"event": "contents", "feeds": all.collect::<serde_json::Map<_, _>>()})
}

struct Soak {
    folder: tempfile::TempDir,
    random: Random,
    nodes: Vec<Node>,
    kills: u64,
    memory: Vec<u64>,
}

struct Node {
    process: Process,
    port: u16,
    key: String,
    /// Blocks whose appends were acknowledged.
    acknowledged: u64,
}

impl Soak {
    fn new(nodes: usize, random: Random) -> Self {
        let folder = tempfile::Builder::new().prefix("multifeed-soak-").tempdir().unwrap();
        let mut soak = Self { folder, random, nodes: Vec::new(), kills: 0, memory: Vec::new() };
        for at in 0..nodes {
            let node = soak.start(at);
            soak.nodes.push(node);
            soak.join(at);
        }
        soak
    }

    fn store(&self, at: usize) -> PathBuf {
        self.folder.path().join(at.to_string())
    }

    fn start(&self, at: usize) -> Node {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("node").arg(self.store(at)).arg(format!("w{at}"));
        let mut process = Process::start("a node", &mut command);
        let listening = process.expect_event("listening");
        let port = u16::try_from(json_u64(&listening, "port")).unwrap();
        let key = listening["key"].as_str().unwrap().to_owned();
        Node { process, port, key, acknowledged: 0 }
    }

    /// Connects a node to all others.
    fn join(&self, at: usize) {
        for (_, other) in self.nodes.iter().enumerate().filter(|(other, _)| *other != at) {
            self.nodes[at].process.send(format!("{}\n", other.port).as_bytes());
        }
    }

    fn run(mut self, time: Duration) -> ExitCode {
        let start = Instant::now();
        let mut next_kill = start + Duration::from_secs(2);
        while start.elapsed() < time {
            std::thread::sleep(Duration::from_millis(200));
            self.note();
            if Instant::now() >= next_kill {
                let at =
                    1 + usize::try_from(self.random.below(self.nodes.len() as u64 - 1)).unwrap();
                self.kill(at);
                next_kill = Instant::now() + Duration::from_millis(500 + self.random.below(3_000));
            }
            if start.elapsed().as_secs() >= 5 * self.memory.len() as u64 {
                self.memory.push(self.nodes[0].process.resident());
            }
        }
        self.nodes.iter().for_each(|node| node.process.send(b"stop\n"));
        let problems = [self.settle(), self.sound(), self.flat()];
        let blocks: u64 = self.nodes.iter().map(|node| node.acknowledged).sum();
        println!(
            "{} s, {} nodes, {} kills, {blocks} blocks acknowledged; the first node had {} KiB in its first minute at most, {} KiB in its last, {} KiB at most",
            start.elapsed().as_secs(),
            self.nodes.len(),
            self.kills,
            self.part(0).unwrap_or(0),
            self.part(1).unwrap_or(0),
            self.memory.iter().max().unwrap_or(&0),
        );
        problems.iter().flatten().for_each(|problem| println!("wrong: {problem}"));
        if problems.iter().all(Option::is_none) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Takes note of what was acknowledged.
    fn note(&mut self) {
        for node in &mut self.nodes {
            for line in node.process.take_events("appended") {
                node.acknowledged = node.acknowledged.max(json_u64(&line, "start") + 1);
            }
        }
    }

    fn kill(&mut self, at: usize) {
        self.kills += 1;
        let node = &mut self.nodes[at];
        for line in node.process.kill().iter().filter(|line| line["event"] == "appended") {
            node.acknowledged = node.acknowledged.max(json_u64(line, "start") + 1);
        }
        let node = self.start(at);
        assert_eq!(node.key, self.nodes[at].key, "the writer is another one than before");
        let acknowledged = self.nodes[at].acknowledged;
        self.nodes[at] = Node { acknowledged, ..node };
        self.join(at);
    }

    /// Waits until all nodes hold the same, with all that was acknowledged.
    fn settle(&mut self) -> Option<String> {
        let end = Instant::now() + SETTLE;
        loop {
            self.note();
            let mut all = Vec::new();
            for node in &mut self.nodes {
                node.process.send(b"contents\n");
                all.push(node.process.expect_event("contents")["feeds"].clone());
            }
            let lacking = self.lacking(&all);
            if lacking.is_none() || Instant::now() > end {
                return lacking;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn lacking(&self, all: &[Value]) -> Option<String> {
        let first = all.first()?;
        for (at, there) in all.iter().enumerate() {
            if there != first {
                return Some(format!(
                    "node {at} holds something else than node 0: {there} {first}"
                ));
            }
        }
        for (at, node) in self.nodes.iter().enumerate() {
            let feed = &first[&node.key];
            let [length, blocks] = ["length", "blocks"].map(|name| feed[name].as_u64());
            if length != blocks || length < Some(node.acknowledged) {
                return Some(format!("writer {at}: {feed}, {} acknowledged", node.acknowledged));
            }
        }
        None
    }

    /// Ends all nodes, and verifies their stores.
    fn sound(&mut self) -> Option<String> {
        let keys = root_key("soak");
        for at in 0..self.nodes.len() {
            self.nodes[at].process.kill();
            let mut command = multifeed(["verify"]);
            let output = command.arg(self.store(at)).env("MULTIFEED_KEY", &keys).output().unwrap();
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                return Some(format!("store {at} is not sound: {said}"));
            }
        }
        None
    }

    /// The most memory in the first or last fifth of the time, in KiB.
    fn part(&self, which: usize) -> Option<u64> {
        let count = (self.memory.len() / 5).max(1);
        let chunk = if which == 0 {
            self.memory.get(..count)?
        } else {
            self.memory.get(self.memory.len() - count..)?
        };
        chunk.iter().max().copied()
    }

    fn flat(&self) -> Option<String> {
        let (first, last) = (self.part(0)?, self.part(1)?);
        (last > first * 3 / 2 + 16 * 1024)
            .then(|| format!("memory grew from {first} to {last} KiB"))
    }
}
