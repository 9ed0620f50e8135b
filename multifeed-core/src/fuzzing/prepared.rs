//! Stores that are made once, and cloned for each input.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;

use multifeed_proto::fuzzing::Reached;
use multifeed_proto::messages::Data;
use multifeed_proto::{FeedKey, Now};

use super::host::{Asked, Host};
use super::log::{self, Log};
use super::truth::Truth;
use super::wire::{self, Wire};
use crate::storage::Memory;
use crate::{CommandId, FeedId, Layout, MultifeedId, NodeConfig, Outcome};

pub(super) const ROOT: [u8; 32] = [7; 32];
pub(super) const OTHER_ROOT: [u8; 32] = [8; 32];
pub(super) const FIRST: MultifeedId = MultifeedId(0);
pub(super) const START: Now = Now(Duration::from_secs(1));

/// Stores that an input begins with, and the logs in them.
pub(super) struct Prepared {
    /// A writer of 9 blocks, one of 2 and one of none, in the layout of corestore; then a reader of these
    /// with a writer of its own; then the same two numbered; then nothing.
    pub(super) stores: Vec<Memory>,
    pub(super) truth: Truth,
    /// Blocks of the writers of each store.
    pub(super) lengths: Vec<BTreeMap<FeedKey, u64>>,
    /// Blocks of all feeds of each store.
    pub(super) held: Vec<BTreeMap<FeedKey, u64>>,
    /// Each store at an earlier time, when it was half as long.
    pub(super) older: Vec<Memory>,
    /// Feeds of the first store, and those of the second.
    pub(super) feeds: Vec<FeedKey>,
    /// A log whose owner lies, and answers out of it. The second is the same log forked at block 3.
    pub(super) lies: [Log; 2],
    pub(super) answers: [Vec<Data>; 2],
}

/// What is made once.
pub(super) fn prepared() -> &'static Prepared {
    static ONCE: OnceLock<Prepared> = OnceLock::new();
    ONCE.get_or_init(Prepared::make)
}

impl Prepared {
    fn make() -> Self {
        let mut truth = Truth::default();
        let (mut stores, mut older, mut feeds) = (Vec::new(), Vec::new(), Vec::new());
        let (mut lengths, mut held) = (Vec::new(), Vec::new());
        for layout in [Layout::Corestore, Layout::Numbered] {
            let mut pair = Pair::new(layout, &mut truth);
            for (name, count) in [("w", 4), ("v", 1), ("empty", 0)] {
                pair.writer(0, name, 0..count, &mut truth);
            }
            pair.writer(1, "x", 0..2, &mut truth);
            pair.sync(&mut truth);
            older.extend(pair.hosts.iter().map(|host| host.disk.close()));
            for (name, from, to) in [("w", 4, 9), ("v", 1, 2)] {
                pair.writer(0, name, from..to, &mut truth);
            }
            pair.writer(1, "x", 2..5, &mut truth);
            pair.sync(&mut truth);
            for host in &pair.hosts {
                let infos = host.feeds().into_iter().filter_map(|feed| host.node.feed(feed));
                held.push(infos.map(|info| (info.key, info.blocks)).collect());
                stores.push(host.disk.close());
                lengths.push(host.acknowledged.clone());
                for feed in host.feeds() {
                    let key = host.node.feed(feed).expect("it is here").key;
                    if !feeds.contains(&key) {
                        feeds.push(key);
                    }
                }
            }
        }
        stores.push(Memory::new());
        lengths.push(BTreeMap::new());
        let mut sound = Log::new(77);
        let all = log::blocks(9, 5);
        sound.append(&all[..3]);
        let mut forked = sound.clone();
        sound.append(&all[3..]);
        forked.append(&log::blocks(4, 6));
        let answers = [&sound, &forked].map(|log| {
            let digests = [0, 1, 2, 6, 14, 3];
            let all = (0..log.length()).flat_map(|block| {
                digests.into_iter().filter_map(move |digest| log.answer(block, false, digest))
            });
            all.collect::<Vec<_>>()
        });
        for (index, block) in (0..).zip(&sound.blocks) {
            truth.see(&sound.key.public(), index, block);
        }
        Self { stores, truth, lengths, held, older, feeds, lies: [sound, forked], answers }
    }
}

/// Two hosts whose commands all go well.
struct Pair {
    hosts: Vec<Host>,
    reached: Reached,
}

impl Pair {
    fn new(layout: Layout, truth: &mut Truth) -> Self {
        let new = |seed: u8| {
            let seed = if layout == Layout::Numbered { seed + 2 } else { seed };
            let mut host = Host::new(seed, Memory::new(), NodeConfig::default(), START);
            host.open(START, Some(layout), &[ROOT]);
            host
        };
        let mut pair = Self { hosts: vec![new(1), new(2)], reached: Reached::default() };
        pair.drain(truth);
        pair
    }

    fn drain(&mut self, truth: &mut Truth) -> bool {
        let mut busy = false;
        for host in &mut self.hosts {
            busy |= host.drain(START, 0, truth, &mut self.reached);
        }
        busy
    }

    fn finish(
        &mut self,
        at: usize,
        command: CommandId,
        asked: Asked,
        truth: &mut Truth,
    ) -> Outcome {
        self.hosts[at].asked.insert(command, asked);
        self.drain(truth);
        let answer = self.hosts[at].take_answer(command).expect("an answer");
        answer.expect("it goes well")
    }

    fn writer(&mut self, at: usize, name: &str, blocks: Range<u64>, truth: &mut Truth) {
        let command = self.hosts[at].node.writer(START, FIRST, Some(name), None);
        let Outcome::Feed(feed) = self.finish(at, command, Asked::Other, truth) else {
            panic!("no writer");
        };
        let key = self.hosts[at].node.feed(feed).expect("it is here").key;
        let all = log::blocks(blocks.end, name.as_bytes()[0]);
        for block in all.into_iter().skip(blocks.start as usize) {
            let command = self.hosts[at].node.append(START, FeedId(feed.0), vec![block.clone()]);
            self.finish(at, command, Asked::Append(key, vec![block]), truth);
        }
    }

    fn sync(&mut self, truth: &mut Truth) {
        let both = [Default::default(), Default::default()];
        let mut wire: Wire = wire::connect(&mut self.hosts, [0, 1], START, both).expect("a wire");
        while self.drain(truth) | wire.step(&mut self.hosts, START, usize::MAX) {}
        wire.cut(&mut self.hosts, START);
        self.drain(truth);
    }
}
