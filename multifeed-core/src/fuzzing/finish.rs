//! The end of an input: faults are over, and the two hosts must come to hold the same.

use std::collections::BTreeMap;
use std::time::Duration;

use multifeed_proto::fuzzing::Reached;
use multifeed_proto::{FeedKey, Now};

use super::host::Asked;
use super::node::World;
use super::prepared::FIRST;
use super::wire::{self, Wire};
use crate::{CommandId, FeedId, FeedInfo, NodeError, Outcome, SyncState};

impl World {
    pub(super) fn finish(mut self, reached: &mut Reached) {
        let wires = std::mem::take(&mut self.wires);
        for mut wire in wires {
            wire.cut(&mut self.hosts, self.now);
        }
        for at in 0..self.hosts.len() {
            self.recover(at, reached);
        }
        if !self.crowded {
            self.sync(reached);
        }
        let mut held = Vec::new();
        for at in 0..self.hosts.len() {
            held.push(self.read_all(at, reached));
        }
        if !self.crowded {
            self.compare(&held);
        }
        for (at, held) in held.iter().enumerate() {
            self.close(at, reached);
            if self.thorough {
                self.reopen(at, held, reached);
            }
        }
    }

    /// Has a host with a disk that works, with an open store.
    fn recover(&mut self, at: usize, reached: &mut Reached) {
        self.hosts[at].disk.heal();
        self.rest(reached);
        let host = &self.hosts[at];
        if host.node.multifeeds().any(|multifeed| multifeed == FIRST) && !self.is_closing(at) {
            return;
        }
        self.restart(at, None);
        self.open_anew(at, reached);
    }

    fn is_closing(&mut self, at: usize) -> bool {
        let now = self.now;
        let id = self.hosts[at].node.connect(now, multifeed_proto::Role::Responder);
        if let Some(id) = id {
            self.hosts[at].node.abort(now, id);
        }
        id.is_none()
    }

    /// The store opens again.
    fn open_anew(&mut self, at: usize, reached: &mut Reached) {
        let (now, pick) = (self.now, self.pick);
        let host = &mut self.hosts[at];
        host.drain(now, pick, &mut self.truth, reached);
        for (_, asked, result) in std::mem::take(&mut host.answers) {
            if matches!(asked, Asked::Open | Asked::Join) {
                // A numbered store holds one multifeed.
                let second = matches!(result, Err(NodeError::Layout { .. }));
                assert!(result.is_ok() || second, "the store does not open again: {result:?}");
            }
        }
    }

    /// Joins the two hosts and waits until they have all of each other.
    fn sync(&mut self, reached: &mut Reached) {
        let both = [Default::default(), Default::default()];
        let wire = wire::connect(&mut self.hosts, [0, 1], self.now, both);
        self.wires.push(wire.expect("both stores are open"));
        let end = self.now.after(CONVERGE);
        self.settle(reached);
        while !self.in_sync() && self.now < end {
            self.tick(self.now.after(Duration::from_secs(1)));
            self.settle(reached);
        }
        if !self.in_sync() {
            panic!("not in sync after {CONVERGE:?}: {:?}", self.states(&self.wires[0]));
        }
        reached.note("pair in sync");
    }

    /// Runs until nothing moves, and all of all feeds is wanted.
    fn settle(&mut self, reached: &mut Reached) {
        for _ in 0..2 {
            for host in &mut self.hosts {
                for feed in host.feeds() {
                    host.node.set_sparse(self.now, feed, false);
                    host.node.set_transfer(self.now, feed, true, true);
                }
            }
            self.rest(reached);
        }
    }

    fn in_sync(&self) -> bool {
        self.states(&self.wires[0]).iter().all(|state| *state == SyncState::InSync)
    }

    fn states(&self, wire: &Wire) -> Vec<SyncState> {
        wire.ends.iter().map(|(host, id)| self.hosts[*host].node.sync_state(*id)).collect()
    }

    fn finished(
        &mut self,
        at: usize,
        command: CommandId,
        asked: Asked,
        reached: &mut Reached,
    ) -> Result<Outcome, NodeError> {
        let (now, pick) = (self.now, self.pick);
        let host = &mut self.hosts[at];
        host.asked.insert(command, asked);
        host.drain(now, pick, &mut self.truth, reached);
        let answer = host.take_answer(command);
        host.answers.clear();
        answer.expect("a command that is not answered")
    }

    /// What a host says of all its feeds; all blocks that it holds are read and are true.
    fn read_all(&mut self, at: usize, reached: &mut Reached) -> BTreeMap<FeedKey, FeedInfo> {
        let mut all = BTreeMap::new();
        for feed in self.hosts[at].feeds() {
            let command = self.hosts[at].node.load(self.now, feed);
            let loaded = self.finished(at, command, Asked::Other, reached);
            let info = self.hosts[at].node.feed(feed).expect("it is here");
            match loaded {
                Ok(_) => self.read_feed(at, feed, &info, reached),
                Err(error) => panic!("feed {:?} does not open: {error}", info.key),
            }
            all.insert(info.key, info);
        }
        all
    }

    fn read_feed(&mut self, at: usize, feed: FeedId, info: &FeedInfo, reached: &mut Reached) {
        let (mut index, mut held) = (0, 0);
        while index < info.length && held < info.blocks {
            let command = self.hosts[at].node.read(self.now, feed, index, u64::MAX, 1 << 20);
            match self.finished(at, command, Asked::Read(info.key, index), reached) {
                Ok(Outcome::Blocks(blocks)) => {
                    held += blocks.len() as u64;
                    index += blocks.len().max(1) as u64;
                }
                other => panic!("block {index} cannot be read: {other:?}"),
            }
        }
        assert_eq!(held, info.blocks, "blocks that are counted and not there");
        let acknowledged = self.hosts[at].acknowledged.get(&info.key).copied().unwrap_or(0);
        if !self.gone.contains(&info.key) {
            assert!(
                info.length >= acknowledged,
                "{} of {acknowledged} blocks are left",
                info.length
            );
        }
    }

    /// Both hold the same of all that nobody gave up.
    fn compare(&self, held: &[BTreeMap<FeedKey, FeedInfo>]) {
        for (key, here) in &held[0] {
            let Some(there) = held[1].get(key).filter(|_| !self.gone.contains(key)) else {
                continue;
            };
            assert_eq!(here.length, there.length, "lengths of {key:?}");
            assert_eq!(here.blocks, there.blocks, "blocks of {key:?}");
        }
    }

    /// Closes a node: each command is answered by then.
    fn close(&mut self, at: usize, reached: &mut Reached) {
        let now = self.now;
        let command = self.hosts[at].node.close(now);
        self.hosts[at].asked.insert(command, Asked::Other);
        let end = Now(now.0 + Duration::from_secs(60));
        for _ in 0..200 {
            self.rest(reached);
            if self.hosts[at].asked.is_empty() || !self.tick(end) {
                break;
            }
        }
        let asked = &self.hosts[at].asked;
        assert!(asked.is_empty(), "never answered: {asked:?}");
    }

    fn reopen(&mut self, at: usize, held: &BTreeMap<FeedKey, FeedInfo>, reached: &mut Reached) {
        self.restart(at, None);
        self.open_anew(at, reached);
        let again = self.read_all(at, reached);
        for (key, info) in held {
            let Some(now) = again.get(key) else {
                // A feed of which nobody gave anything is not recorded.
                assert_eq!(info.length, 0, "{key:?} is not there any more");
                continue;
            };
            assert_eq!((now.length, now.blocks), (info.length, info.blocks), "of {key:?}");
        }
    }
}

/// Time in which two hosts must have all of each other: storage that failed is tried again after 80 seconds
/// or so, and what a liar keeps waiting is given up after 20.
const CONVERGE: Duration = Duration::from_secs(400);
