//! A child process that prints JSON lines.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A child process that prints JSON lines; killed by its id when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<Sender<Vec<u8>>>,
    lines: Receiver<String>,
    waiting: VecDeque<Value>,
    history: VecDeque<String>,
    stderr: Arc<Mutex<Vec<u8>>>,
    stderr_reader: Option<JoinHandle<()>>,
    patience: Duration,
}

impl Process {
    /// Starts `command` with its three streams connected to this process; `name` is for messages.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        // Ends with the child: its end of the pipe closes.
        thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let stderr_reader = collect(child.stderr.take().unwrap(), Arc::clone(&stderr));
        Self {
            name: name.to_owned(),
            stdin: Some(writer(child.stdin.take().unwrap())),
            child,
            lines,
            waiting: VecDeque::new(),
            history: VecDeque::new(),
            stderr,
            stderr_reader: Some(stderr_reader),
            patience: PATIENCE,
        }
    }

    /// Sets how long each wait lasts before the test fails; 60 s unless told.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Writes to the child's stdin, without waiting for the child to read it. A child that has gone
    /// is noticed by the next wait.
    pub fn send(&self, bytes: &[u8]) {
        if let Some(stdin) = &self.stdin {
            let _ = stdin.send(bytes.to_vec());
        }
    }

    /// Closes the child's stdin behind what was sent.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for the first line that `matches`, also among those that earlier waits passed over.
    ///
    /// # Panics
    ///
    /// When the child ends or the time is over first; `what` says what was missing.
    pub fn expect(&mut self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.waiting.iter().position(&matches) {
            return self.waiting.remove(at).unwrap();
        }
        let deadline = now() + self.patience;
        loop {
            match self.next_line(deadline) {
                Ok(line) if matches(&line) => return line,
                Ok(line) => self.waiting.push_back(line),
                Err(reason) => self.fail(what, &reason),
            }
        }
    }

    /// The next line whatever it is, or `None` when the child has closed its output.
    ///
    /// # Panics
    ///
    /// When nothing comes in time.
    pub fn next(&mut self, what: &str) -> Option<Value> {
        if let Some(line) = self.waiting.pop_front() {
            return Some(line);
        }
        match self.next_line(now() + self.patience) {
            Ok(line) => Some(line),
            Err(reason) if reason == ENDED => None,
            Err(reason) => self.fail(what, &reason),
        }
    }

    /// Waits for an `{"event": …}` line.
    pub fn expect_event(&mut self, event: &str) -> Value {
        self.expect(&format!("say {event:?}"), |line| line["event"] == event)
    }

    /// Waits for the end of the child; gives its exit status and the lines nobody waited for.
    pub fn finish(&mut self) -> (ExitStatus, Vec<Value>) {
        self.close_stdin();
        let deadline = now() + self.patience;
        loop {
            match self.next_line(deadline) {
                Ok(line) => self.waiting.push_back(line),
                Err(reason) if reason == ENDED => break,
                Err(reason) => self.fail("end", &reason),
            }
        }
        let status = self.child.wait().unwrap();
        (status, self.waiting.drain(..).collect())
    }

    /// Kills the child at once (SIGKILL), waits until it is gone and gives the lines nobody waited
    /// for; half a line at the end is dropped.
    pub fn kill(&mut self) -> Vec<Value> {
        // Fails only for a child that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let rest = self.lines.iter().map_while(|line| serde_json::from_str(&line).ok());
        self.waiting.drain(..).chain(rest).collect()
    }

    /// The lines `{"event": …}` of one kind that have come, without waiting for any.
    pub fn take_events(&mut self, event: &str) -> Vec<Value> {
        while let Ok(line) = self.lines.try_recv() {
            self.waiting.extend(serde_json::from_str::<Value>(&line).ok());
        }
        let (taken, left) = self.waiting.drain(..).partition(|line| line["event"] == event);
        self.waiting = left;
        let taken: VecDeque<Value> = taken;
        taken.into()
    }

    /// The number by which the operating system knows the child.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The memory of the child that is resident, in KiB; 0 where the system does not tell.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Sends the child what Ctrl-C would (SIGINT).
    pub fn interrupt(&self) {
        let status = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "{}: cannot be interrupted",
            self.name
        );
    }

    /// Fails the test: says what was missing, why, and everything the child printed last.
    pub fn fail(&mut self, what: &str, reason: &str) -> ! {
        let ended = reason == ENDED;
        let status =
            if ended { self.child.wait().ok() } else { self.child.try_wait().ok().flatten() };
        if let (true, Some(reader)) = (ended, self.stderr_reader.take()) {
            let _ = reader.join();
        }
        let mut message = format!("{} did not {what}: {reason}", self.name);
        match status {
            Some(status) => write!(message, " ({status})").unwrap(),
            None => message.push_str(" (it is still running)"),
        }
        message.push_str("\nits last lines:");
        for line in &self.history {
            write!(message, "\n  {line}").unwrap();
        }
        write!(message, "\nits stderr:\n{}", self.stderr()).unwrap();
        panic!("{message}");
    }

    /// What the child has written to stderr so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().unwrap()).into_owned()
    }

    fn next_line(&mut self, deadline: Instant) -> Result<Value, String> {
        let line = match self.lines.recv_timeout(deadline.saturating_duration_since(now())) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                return Err(format!("nothing of the kind within {:?}", self.patience));
            }
            Err(RecvTimeoutError::Disconnected) => return Err(ENDED.to_owned()),
        };
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(line.chars().take(LINE_SHOWN).collect());
        serde_json::from_str(&line)
            .map_err(|error| format!("it printed a line that is not JSON: {error}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The number in a field of a JSON line.
pub fn json_u64(line: &Value, field: &str) -> u64 {
    line[field].as_u64().unwrap_or_else(|| panic!("no number {field:?} in {line}"))
}

fn writer(mut to: impl Write + Send + 'static) -> Sender<Vec<u8>> {
    let (sender, pieces) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        pieces.iter().try_for_each(|piece| to.write_all(&piece).and_then(|()| to.flush()))
    });
    sender
}

fn collect(mut from: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            into.lock().unwrap().extend_from_slice(&buffer[..read]);
        }
    })
}

#[allow(clippy::disallowed_methods, reason = "the harness waits for real processes")]
fn now() -> Instant {
    Instant::now()
}

const ENDED: &str = "it ended";
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines and characters of each line that a failure shows.
const HISTORY: usize = 30;
const LINE_SHOWN: usize = 600;
