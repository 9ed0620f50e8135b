//! Blocks for the application, from a log whose tree is not in memory.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use bytes::Bytes;
use multifeed_core::storage::Memory;
use multifeed_core::{FeedId, NodeConfig, NodeError, Outcome};
use util::Sim;

const COUNT: usize = 5000;

fn blocks() -> Vec<Bytes> {
    (0..COUNT).map(|n| Bytes::from(format!("block {n}"))).collect()
}

/// A writer of 5,000 blocks, whose node was started again: nothing of its tree is in memory.
fn written(config: NodeConfig) -> (Sim, FeedId) {
    let mut sim = Sim::new(65_536);
    sim.party_with(Memory::new(), config);
    let feed = sim.writer(0, "w");
    sim.append_all(0, feed, blocks());
    let key = sim.parties[0].node.feed(feed).unwrap().key;
    sim.restart(0);
    let feed = sim.parties[0].node.find(&key).unwrap();
    (sim, feed)
}

fn read(sim: &mut Sim, feed: FeedId) -> Result<Outcome, NodeError> {
    let command = sim.parties[0].node.read(sim.now, feed, 0, u64::MAX, usize::MAX);
    sim.finish(0, command)
}

#[test]
fn one_read_gives_all_blocks_of_a_log_whose_tree_is_not_in_memory() {
    let (mut sim, feed) = written(NodeConfig::default());
    assert_eq!(read(&mut sim, feed), Ok(Outcome::Blocks(blocks())));
}

#[test]
fn one_read_gives_all_blocks_however_small_the_cache_is() {
    let (mut sim, feed) = written(NodeConfig { cache_bytes: 0, ..NodeConfig::default() });
    assert_eq!(read(&mut sim, feed), Ok(Outcome::Blocks(blocks())));
}

#[test]
fn a_read_beside_a_clear_gives_true_blocks_only() {
    for clear_first in [false, true] {
        let (mut sim, feed) = written(NodeConfig::default());
        let node = &mut sim.parties[0].node;
        if clear_first {
            node.clear(sim.now, feed, 700..720);
        }
        let command = node.read(sim.now, feed, 0, u64::MAX, usize::MAX);
        if !clear_first {
            node.clear(sim.now, feed, 700..720);
        }
        let result = sim.finish(0, command);
        let Ok(Outcome::Blocks(read)) = result else { panic!("{result:?}") };
        assert!(read.len() == 700 || read.len() == COUNT, "{} blocks", read.len());
        assert_eq!(read, blocks()[..read.len()]);
    }
}

#[test]
fn no_command_gets_at_the_private_list_of_feeds() {
    let mut sim = Sim::new(65_536);
    sim.party(Memory::new());
    sim.writer(0, "w");
    let files = sim.parties[0].disk.memory().clone();
    let (list, now) = (FeedId(0), sim.now);
    assert!(sim.parties[0].node.feed(list).is_none(), "the first feed is the list");
    let node = &mut sim.parties[0].node;
    let commands = [
        node.load(now, list),
        node.append(now, list, vec![Bytes::from_static(b"x")]),
        node.read(now, list, 0, 1, 100),
        node.has(now, list, 0..1),
        node.wait(now, list, 0),
        node.wait_if_available(now, list, 0),
        node.download(now, list, 0..1),
        node.update(now, list, None),
        node.update_if_available(now, list, None),
        node.seek(now, list, 0),
        node.clear(now, list, 0..1),
    ];
    for command in commands {
        assert_eq!(sim.finish(0, command), Err(NodeError::UnknownFeed), "{command:?}");
    }
    assert!(*sim.parties[0].disk.memory() == files);
}
