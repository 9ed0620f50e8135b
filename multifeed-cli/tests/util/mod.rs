//! Runs the real program.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

/// A folder for the stores of one test; removed when dropped.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::Builder::new().prefix("multifeed-cli-").tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path of something in the folder, as an argument.
    pub(crate) fn at(&self, name: &str) -> String {
        self.path(name).to_str().expect("test folders have plain names").to_owned()
    }
}

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// The JSON lines on standard output.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = self.text();
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{self:?}"));
        text.lines().map(parse).collect()
    }

    /// The run was a good one.
    pub(crate) fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// The one JSON line that says why the run failed.
    pub(crate) fn failed(&self, code: &str) -> Value {
        assert_eq!(self.code, Some(1), "{self:?}");
        self.error(code)
    }

    pub(crate) fn error(&self, code: &str) -> Value {
        let errors: Vec<_> =
            self.lines().into_iter().filter(|line| line["event"] == "error").collect();
        let [error] = &errors[..] else { panic!("one failure, one line: {self:?}") };
        assert_eq!(error["code"], code, "{self:?}");
        assert!(error["message"].is_string(), "{self:?}");
        error.clone()
    }
}

/// The program with these arguments, apart from the caller's key and settings.
pub(crate) fn command<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_multifeed"));
    command.args(arguments).env_remove("MULTIFEED_KEY").env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program to its end.
pub(crate) fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Ended {
    ended(command(arguments).output().unwrap())
}

/// Runs the program with `input` on its standard input.
pub(crate) fn run_with_input<A: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = A>,
    input: &[u8],
) -> Ended {
    let mut child = command(arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that does not read all of it is none of this thread's business.
    let writer = thread::spawn(move || stdin.write_all(&input).is_ok());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    ended(output)
}

pub(crate) fn ended(output: Output) -> Ended {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!stderr.contains("panicked"), "{stderr}");
    Ended { code: output.status.code(), stdout: output.stdout, stderr }
}

/// A program that runs beside the test; killed when dropped.
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    seen: Vec<u8>,
}

impl Running {
    pub(crate) fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        Self::spawn(&mut command(arguments))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout, seen: Vec::new() }
    }

    /// Serves the store in `directory` on a free port, with JSON lines.
    pub(crate) fn serve(directory: &str, options: &[&str]) -> (Self, String) {
        let arguments = ["serve", directory, "--listen", "127.0.0.1:0", "--json"];
        let mut running = Self::start(arguments.iter().chain(options));
        let line = running.line();
        assert_eq!(line["event"], "listening", "{line}");
        let address = line["address"].as_str().unwrap().to_owned();
        (running, address)
    }

    /// The next line of its output as it is; empty at the end.
    pub(crate) fn text_line(&mut self) -> String {
        let start = self.seen.len();
        self.stdout.read_until(b'\n', &mut self.seen).unwrap();
        String::from_utf8(self.seen[start..].to_vec()).unwrap()
    }

    pub(crate) fn line(&mut self) -> Value {
        let line = self.text_line();
        assert!(!line.is_empty(), "it ended: {}", String::from_utf8_lossy(&self.seen));
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"))
    }

    /// Waits for an event, passing over others.
    pub(crate) fn event(&mut self, event: &str) -> Value {
        loop {
            let line = self.line();
            if line["event"] == event {
                return line;
            }
        }
    }

    pub(crate) fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal: `INT` is Ctrl-C.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        while !self.text_line().is_empty() {}
        let mut stderr = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut stderr).unwrap();
        let code = self.child.wait().unwrap().code();
        assert!(!stderr.contains("panicked"), "{stderr}");
        Ended { code, stdout: std::mem::take(&mut self.seen), stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only for one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Key and name of all feeds, and their contents.
pub(crate) fn contents(directory: &str) -> Vec<(String, Vec<u8>)> {
    let listed = run(["feeds", directory, "--json"]).good().lines().remove(0);
    let feeds = listed["feeds"].as_array().unwrap();
    let mut contents: Vec<_> = feeds
        .iter()
        .map(|feed| {
            let key = feed["key"].as_str().unwrap().to_owned();
            let blocks = run(["cat", directory, &key]).good().stdout;
            (key, blocks)
        })
        .collect();
    contents.sort();
    contents
}

/// The key that `init` saved.
pub(crate) fn saved_key(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("root_key")).unwrap().trim().to_owned()
}

/// A key that is not the one of any store of the tests.
pub(crate) const OTHER_KEY: &str =
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
