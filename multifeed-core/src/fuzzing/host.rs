//! A node with its disk, and what it was asked.

use std::collections::BTreeMap;

use bytes::Bytes;
use multifeed_proto::fuzzing::{Input, Reached, peer_error};
use multifeed_proto::{Entropy, FeedKey, Now, RootKey};

use super::disk::TestDisk;
use super::reached::node_error;
use super::truth::Truth;
use crate::storage::Memory;
use crate::{
    CommandId, Event, FeedId, Layout, MultifeedId, Node, NodeConfig, NodeError, Outcome, Output,
    Question, StoreOptions,
};

/// What a command was about.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Open,
    Join,
    Append(FeedKey, Vec<Bytes>),
    Read(FeedKey, u64),
    Wait(FeedKey, u64),
    /// May wait for ever, unless it is taken back.
    Endless,
    Other,
}

/// A node with its disk.
pub(super) struct Host {
    pub(super) node: Node,
    pub(super) disk: TestDisk,
    pub(super) asked: BTreeMap<CommandId, Asked>,
    /// Answers that nobody looked at.
    pub(super) answers: Vec<(CommandId, Asked, Result<Outcome, NodeError>)>,
    pub(super) questions: Vec<Question>,
    /// Blocks of local writers that were acknowledged, by feed.
    pub(super) acknowledged: BTreeMap<FeedKey, u64>,
    config: NodeConfig,
    /// Multifeeds to join when the store is open.
    roots: Vec<[u8; 32]>,
    lives: u8,
    /// A timer fired, and what follows from it was not done yet.
    fired: bool,
}

impl Host {
    /// A node on these files.
    pub(super) fn new(seed: u8, memory: Memory, config: NodeConfig, now: Now) -> Self {
        let node = Node::new(config.clone(), Entropy::from_seed([seed; 32]), now);
        Self {
            node,
            disk: TestDisk::new(memory),
            asked: BTreeMap::new(),
            answers: Vec::new(),
            questions: Vec::new(),
            acknowledged: BTreeMap::new(),
            config,
            roots: Vec::new(),
            lives: seed,
            fired: false,
        }
    }

    /// Starts to open the store, and then to join these multifeeds.
    pub(super) fn open(&mut self, now: Now, layout: Option<Layout>, roots: &[[u8; 32]]) {
        let options = StoreOptions::default();
        let options = layout.map_or(options.clone(), |layout| options.layout(layout));
        let command = self.node.open(now, options);
        self.asked.insert(command, Asked::Open);
        self.roots = roots.to_vec();
    }

    /// The same node anew on what is left of its files after a crash or, without input, a clean end.
    pub(super) fn restart(self, now: Now, crash: Option<&mut Input<'_>>) -> Self {
        let memory = match crash {
            Some(input) => self.disk.crash(self.config.durability, input),
            None => self.disk.close(),
        };
        let lives = self.lives.wrapping_add(16);
        let acknowledged = self.acknowledged;
        Self { acknowledged, ..Self::new(lives, memory, self.config, now) }
    }

    /// Follows the drain rule until nothing is to be done; whether there was anything.
    pub(super) fn drain(
        &mut self,
        now: Now,
        pick: u8,
        truth: &mut Truth,
        reached: &mut Reached,
    ) -> bool {
        let mut busy = false;
        for _ in 0..ROUNDS {
            while let Some(output) = self.node.poll_output() {
                busy = true;
                match output {
                    Output::Storage(batch) => self.disk.submit(batch),
                    Output::Completed { command, result } => {
                        self.answered(now, command, result, truth, reached);
                    }
                    Output::Event(event) => self.told(event, reached),
                }
            }
            if std::mem::take(&mut self.fired) {
                let next = self.node.poll_timeout();
                assert!(next.is_none_or(|at| at > now), "a timer that fired is still due");
            }
            let Some(result) = self.disk.step(pick) else { return busy };
            self.node.handle_storage(now, result);
        }
        panic!("a node that never rests");
    }

    fn answered(
        &mut self,
        now: Now,
        command: CommandId,
        result: Result<Outcome, NodeError>,
        truth: &mut Truth,
        reached: &mut Reached,
    ) {
        let asked = self.asked.remove(&command).expect("an answer that nobody waits for");
        match (&asked, &result) {
            (Asked::Append(key, blocks), Ok(Outcome::Appended { start, length })) => {
                assert_eq!(*length, blocks.len() as u64);
                for (index, block) in (*start..).zip(blocks) {
                    truth.append(key, index, block);
                }
                let acknowledged = self.acknowledged.entry(*key).or_default();
                *acknowledged = (*acknowledged).max(start + length);
            }
            (Asked::Read(key, index), Ok(Outcome::Blocks(blocks))) => {
                for (index, block) in (*index..).zip(blocks) {
                    truth.see(key, index, block);
                }
            }
            (Asked::Wait(key, index), Ok(Outcome::Block(block))) => truth.see(key, *index, block),
            (Asked::Open, Ok(_)) => {
                for root in std::mem::take(&mut self.roots) {
                    let command = self.node.join(now, RootKey::new(root));
                    self.asked.insert(command, Asked::Join);
                }
            }
            (_, Err(error)) => reached.note(node_error(error)),
            (_, Ok(_)) => {}
        }
        self.answers.push((command, asked, result));
    }

    fn told(&mut self, event: Event, reached: &mut Reached) {
        match event {
            Event::Closed { error: Some(error), .. } | Event::MultifeedFailed { error, .. } => {
                reached.note(peer_error(&error));
            }
            Event::FeedFailed { error, .. } | Event::StorageFailed { error, .. } => {
                reached.note(node_error(&error));
            }
            Event::Question(question) => {
                reached.note("question");
                self.questions.push(question);
            }
            Event::FeedHealth { health, .. } => reached.note(health.code()),
            Event::Stalled { .. } => reached.note("stalled"),
            Event::InSync { .. } => reached.note("in sync"),
            Event::Cleared { .. } => reached.note("cleared"),
            Event::Downloaded { .. } => reached.note("downloaded"),
            Event::Extension { .. } => reached.note("extension"),
            _ => {}
        }
    }

    /// The answer to a command, if it has come.
    pub(super) fn take_answer(&mut self, command: CommandId) -> Option<Result<Outcome, NodeError>> {
        let place = self.answers.iter().position(|(id, ..)| *id == command)?;
        Some(self.answers.swap_remove(place).2)
    }

    /// All feeds of all multifeeds, each once.
    pub(super) fn feeds(&self) -> Vec<FeedId> {
        let multifeeds: Vec<MultifeedId> = self.node.multifeeds().collect();
        let mut feeds: Vec<FeedId> = multifeeds
            .into_iter()
            .flat_map(|multifeed| self.node.feeds(multifeed).map(|feed| feed.id))
            .collect();
        feeds.sort();
        feeds.dedup();
        feeds
    }

    /// Lets time pass to `now`.
    pub(super) fn tick(&mut self, now: Now) {
        if self.node.poll_timeout().is_some_and(|at| at <= now) {
            self.node.handle_timeout(now);
            self.fired = true;
        }
    }
}

/// Batches that one drain may execute.
const ROUNDS: usize = 50_000;
