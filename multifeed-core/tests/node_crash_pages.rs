//! A reader that is killed while it writes its bitfield: what it holds afterwards, it can read.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::collections::BTreeMap;

use bytes::Bytes;
use multifeed_core::storage::{Memory, Op};
use multifeed_core::{ConnectOptions, Durability, Fetch, NodeConfig, Outcome, Policy};
use util::Sim;

fn blocks(count: usize) -> Vec<Bytes> {
    (0..count).map(|n| Bytes::from(format!("block {n}"))).collect()
}

fn writes_bitfield(op: &Op) -> bool {
    matches!(op, Op::Write { path, .. } if path.as_str().ends_with("/bitfield"))
}

/// A writer, and a reader that has fetched as much of its feed.
fn downloaded(count: usize, fetch: Fetch, config: NodeConfig) -> Sim {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party_with(Memory::new(), config));
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, blocks(count));
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let policy = Policy::AllowList(BTreeMap::from([(key, fetch)]));
    let options = ConnectOptions { policy, ..ConnectOptions::default() };
    sim.connect_for(a, b, [ConnectOptions::default(), options]);
    sim.sync();
    sim
}

/// Opens what a reader has left: every block that is held must be there, and the rest must come.
fn check(source: &Memory, left: Memory, count: usize, what: &str) {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(source.clone()), sim.party(left));
    let all = blocks(count);
    for (key, contents) in sim.contents(b) {
        let held = contents.iter().flatten().count() as u64;
        let feed = sim.parties[b].node.feeds(util::FIRST).find(|feed| feed.key.to_hex() == key);
        assert_eq!(held, feed.unwrap().blocks, "{what}");
        for (at, block) in contents.iter().enumerate() {
            assert!(block.as_ref().is_none_or(|block| *block == all[at]), "{what}: block {at}");
        }
    }
    sim.connect(a, b);
    sim.sync();
    let feed = sim.parties[b].node.feeds(util::FIRST).next().unwrap();
    assert_eq!(feed.blocks, count as u64, "{what}");
}

#[test]
fn a_bitfield_page_that_was_written_in_part_tells_of_no_block_that_cannot_be_found() {
    let sim = downloaded(60, Fetch::All, NodeConfig::default());
    let source = sim.parties[0].disk.memory().clone();
    let journal = &sim.parties[1].disk;
    let mut tried = 0;
    for (at, effect) in journal.effects().iter().enumerate().filter(|(_, e)| writes_bitfield(&e.op))
    {
        for bytes in (1..journal.torn_len(at)).filter(|bytes| bytes % 256 == 0 || *bytes < 8) {
            let what = format!("{bytes} bytes of {}", effect.op.doing());
            check(&source, journal.state_torn(at, bytes), 60, &what);
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried}");
}

#[test]
fn of_several_bitfield_pages_none_lasts_without_the_one_whose_nodes_it_needs() {
    const COUNT: usize = 2 * 8192 + 10;
    let config = NodeConfig { durability: Durability::Power, ..NodeConfig::default() };
    let mut sim = downloaded(COUNT, Fetch::Newest(5), config);
    let feed = sim.parties[1].node.feeds(util::FIRST).next().unwrap().id;
    // Its place is told by the node above the first page, which nothing else needs.
    let command = sim.parties[1].node.wait(sim.now, feed, 9000);
    sim.sync();
    assert_eq!(sim.finish(1, command), Ok(Outcome::Block(blocks(COUNT)[9000].clone())));
    let source = sim.parties[0].disk.memory().clone();
    let journal = &sim.parties[1].disk;
    let page = |op: &Op| if let Op::Write { offset, .. } = op { offset / 3584 } else { 0 };
    let writes: Vec<usize> = (0..journal.effects().len())
        .filter(|at| writes_bitfield(&journal.effects()[*at].op))
        .collect();
    let mut tried = 0;
    for pair in writes.windows(2) {
        let [first, second] = [pair[0], pair[1]];
        if page(&journal.effects()[first].op) != page(&journal.effects()[second].op) {
            let left = journal.state_after_power_loss(second + 1, |effect| effect != first);
            check(&source, left, COUNT, &format!("without {first}, with {second}"));
            tried += 1;
        }
    }
    assert!(tried > 0);
}
