//! Two connections joined by a wire with latency and a chosen chunk size.

use std::collections::VecDeque;
use std::time::Duration;

use multifeed_proto::{Config, Connection, Entropy, Now, Output, Role};

use super::app::App;
use super::{at, root};

pub struct Pair {
    pub peers: [Connection; 2],
    pub apps: [App; 2],
    pub now: Now,
    pub latency: Duration,
    /// Bytes that travel at once; 1 finds whoever takes a chunk for a message.
    pub chunk: usize,
    /// Bytes that the wire still takes from each side before it is cut.
    pub budget: [usize; 2],
    pub log: Vec<(usize, Output)>,
    /// Arrival, receiver, bytes; no bytes is the end of the stream.
    wire: VecDeque<(Now, usize, Vec<u8>)>,
    ended: [bool; 2],
}

impl Pair {
    pub fn new(config: Config, apps: [App; 2], chunk: usize) -> Self {
        let connection = |role, seed| {
            let entropy = Entropy::from_seed([seed; 32]);
            Connection::new(role, config.clone(), entropy, at(0))
        };
        Self {
            peers: [connection(Role::Initiator, 1), connection(Role::Responder, 2)],
            apps,
            now: at(0),
            latency: Duration::from_millis(1),
            chunk,
            budget: [usize::MAX; 2],
            log: Vec::new(),
            wire: VecDeque::new(),
            ended: [false; 2],
        }
    }

    /// Both take part in the same multifeed.
    pub fn joined(apps: [App; 2], chunk: usize) -> Self {
        let mut pair = Self::new(Config::default(), apps, chunk);
        for (app, peer) in pair.apps.iter().zip(&mut pair.peers) {
            app.start(at(0), peer, &[root()]);
        }
        pair
    }

    /// Goes on until nothing but timers is due.
    pub fn settle(&mut self) {
        for _ in 0..10_000_000 {
            self.flush();
            if !self.deliver_next() {
                return;
            }
        }
        panic!("no rest");
    }

    /// Lets `span` pass with all deliveries and timers in it, a delivery before a timer.
    pub fn wait(&mut self, span: Duration) {
        let end = self.now.after(span);
        for _ in 0..1_000_000 {
            self.flush();
            let timer = (0..2).filter_map(|i| Some((self.peers[i].poll_timeout()?, i))).min();
            let arrival = self.wire.front().map(|(arrival, ..)| *arrival);
            let due = timer.map(|(due, _)| due);
            let next = [arrival, due].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = self.now.max(end);
                return;
            };
            if arrival == Some(next) {
                self.deliver_next();
            } else if let Some((due, i)) = timer {
                self.now = self.now.max(due);
                self.peers[i].handle_timeout(self.now);
                let after = self.peers[i].poll_timeout();
                assert!(after.is_none_or(|after| after > self.now), "an overdue timer was left");
            }
        }
        panic!("no rest");
    }

    /// What side `i` was told.
    pub fn outputs(&self, i: usize) -> Vec<&Output> {
        self.log.iter().filter(|(side, _)| *side == i).map(|(_, output)| output).collect()
    }

    pub fn closed(&self, i: usize) -> Option<&Output> {
        self.outputs(i).into_iter().find(|output| matches!(output, Output::Closed { .. }))
    }

    fn deliver_next(&mut self) -> bool {
        let Some((arrival, to, bytes)) = self.wire.pop_front() else { return false };
        self.now = self.now.max(arrival);
        if bytes.is_empty() {
            self.peers[to].handle_eof(self.now);
        } else {
            self.peers[to].handle_bytes(self.now, &bytes);
        }
        true
    }

    /// Answers outputs, then puts what waits onto the wire in chunks.
    fn flush(&mut self) {
        for i in 0..2 {
            while let Some(output) = self.peers[i].poll_output() {
                self.apps[i].react(&mut self.peers[i], &output);
                self.log.push((i, output));
            }
            let arrival = self.now.after(self.latency);
            while !self.peers[i].transmit().is_empty() && !self.ended[i] {
                let waiting = self.peers[i].transmit();
                let n = waiting.len().min(self.chunk).min(self.budget[i]);
                if n > 0 {
                    self.wire.push_back((arrival, 1 - i, waiting[..n].to_vec()));
                    self.peers[i].transmitted(self.now, n);
                }
                self.budget[i] -= n;
                if self.budget[i] == 0 {
                    self.end(i);
                }
            }
            if self.peers[i].is_shut_down() || self.peers[i].is_closed() {
                self.end(i);
            }
        }
    }

    fn end(&mut self, i: usize) {
        if !std::mem::replace(&mut self.ended[i], true) {
            self.wire.push_back((self.now.after(self.latency), 1 - i, Vec::new()));
        }
    }
}
