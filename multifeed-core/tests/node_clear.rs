//! Blocks that are given up: on the disk, towards peers, and after a kill.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use multifeed_core::format::sleep;
use multifeed_core::storage::{Memory, Op};
use multifeed_core::{Durability, Event, FeedId, NodeConfig, Outcome};
use multifeed_proto::messages::Request;
use multifeed_proto::{FeedKey, Output};
use util::Sim;
use util::liar::Liar;

fn block(n: usize) -> Bytes {
    Bytes::from(format!("block {n} {}", "x".repeat(n % 50)))
}

fn blocks(count: usize) -> Vec<Bytes> {
    (0..count).map(block).collect()
}

fn clear(sim: &mut Sim, at: usize, feed: FeedId, range: std::ops::Range<u64>) {
    let command = sim.parties[at].node.clear(sim.now, feed, range);
    assert_eq!(sim.finish(at, command), Ok(Outcome::Cleared));
}

/// Indices of the blocks that a party holds of its only feed.
fn held(sim: &mut Sim, at: usize) -> Vec<usize> {
    let contents = sim.contents(at).into_values().next().unwrap();
    for (n, found) in contents.iter().enumerate() {
        assert!(found.as_ref().is_none_or(|found| *found == block(n)), "block {n}");
    }
    (0..contents.len()).filter(|n| contents[*n].is_some()).collect()
}

fn except(count: usize, cleared: std::ops::Range<usize>) -> Vec<usize> {
    (0..count).filter(|n| !cleared.contains(n)).collect()
}

/// A writer with `count` blocks at party 0 and a reader of all of them at party 1.
fn pair(count: usize) -> (Sim, FeedId, FeedId, FeedKey) {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, blocks(count));
    sim.connect(a, b);
    sim.sync();
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let copy = sim.parties[b].node.find(&key).unwrap();
    (sim, feed, copy, key)
}

#[test]
fn cleared_blocks_are_gone_and_the_rest_stays_in_memory_and_on_disk() {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, blocks(40));
    clear(&mut sim, a, feed, 3..20);
    assert_eq!(held(&mut sim, a), except(40, 3..20));
    let info = sim.parties[a].node.feed(feed).unwrap();
    assert_eq!((info.length, info.blocks, info.writable), (40, 23, true));

    let data = sim.parties[a].disk.memory().clone();
    let path = data.paths().find(|path| {
        path.as_str().ends_with("/data") && !data.contents(path).unwrap().starts_with(b"{")
    });
    let bytes = data.contents(path.unwrap()).unwrap();
    let offset: usize = (0..3).map(|n| block(n).len()).sum();
    let size: usize = (3..20).map(|n| block(n).len()).sum();
    assert!(bytes[offset..offset + size].iter().all(|byte| *byte == 0));
    assert_eq!(&bytes[offset + size..offset + size + block(20).len()], &block(20)[..]);

    sim.restart(a);
    assert_eq!(held(&mut sim, a), except(40, 3..20));
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, vec![block(40)]);
    assert_eq!(held(&mut sim, a), except(41, 3..20));
}

#[test]
fn a_clear_of_blocks_that_are_not_held_or_do_not_exist_is_done_at_once() {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, blocks(5));
    clear(&mut sim, a, feed, 2..3);
    for range in [2..3, 5..u64::MAX, 0..0, u64::MAX - 1..u64::MAX] {
        clear(&mut sim, a, feed, range);
    }
    assert_eq!(held(&mut sim, a), [0, 1, 3, 4]);
}

#[test]
fn a_clear_right_behind_an_append_waits_for_the_blocks_to_be_stored() {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed = sim.writer(a, "w");
    let append = sim.parties[a].node.append(sim.now, feed, blocks(9));
    let cleared = sim.parties[a].node.clear(sim.now, feed, 0..8);
    sim.parties[a].drain(sim.now);
    assert!(sim.parties[a].results[&append].is_ok());
    assert_eq!(sim.parties[a].results[&cleared], Ok(Outcome::Cleared));
    assert_eq!(held(&mut sim, a), [8]);
}

#[test]
fn a_clear_over_many_runs_reads_the_tree_that_it_needs_from_disk() {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, blocks(3_000));
    sim.restart(a);
    let feed = sim.writer(a, "w");
    for n in (0..3_000).step_by(2) {
        clear(&mut sim, a, feed, n..n + 1);
    }
    sim.restart(a);
    let feed = sim.writer(a, "w");
    assert_eq!(held(&mut sim, a), (1..3_000).step_by(2).collect::<Vec<_>>());
    clear(&mut sim, a, feed, 1..2_999);
    assert_eq!(held(&mut sim, a), [2_999]);
}

#[test]
fn a_kill_during_a_clear_leaves_every_block_whole_or_cleared() {
    for durability in [Durability::Process, Durability::Power] {
        let mut sim = Sim::new(65_536);
        let a = sim.party_with(Memory::new(), NodeConfig { durability, ..NodeConfig::default() });
        let feed = sim.writer(a, "w");
        sim.append_all(a, feed, blocks(60));
        let before = sim.parties[a].disk.effects().len();
        clear(&mut sim, a, feed, 10..30);
        clear(&mut sim, a, feed, 5..50);
        let journal = &sim.parties[a].disk;
        let effects = journal.effects();
        assert!(effects[before..].iter().any(|effect| matches!(effect.op, Op::Punch { .. })));
        for whole in before..=effects.len() {
            for bytes in 0..journal.torn_len(whole) {
                let mut after = Sim::new(65_536);
                let a = after.party(journal.state_torn(whole, bytes));
                let found = held(&mut after, a);
                let kept = (0..5).chain(50..60).all(|n| found.contains(&n));
                assert!(kept, "{bytes} bytes after {whole}: {found:?}");
                let feed = after.writer(a, "w");
                assert!(after.load(a, feed).writable, "{bytes} bytes after {whole}");
            }
        }
    }
}

#[test]
fn peers_are_told_and_neither_side_fetches_again_by_itself() {
    let (mut sim, feed, copy, _) = pair(30);
    clear(&mut sim, 0, feed, 0..10);
    clear(&mut sim, 1, copy, 5..20);
    sim.sync();
    sim.append_all(0, feed, vec![block(30)]);
    sim.sync();
    assert_eq!(held(&mut sim, 0), except(31, 0..10));
    assert_eq!(held(&mut sim, 1), except(31, 5..20));

    let late = sim.party(Memory::new());
    sim.connect(late, 0);
    sim.sync();
    assert_eq!(held(&mut sim, late), except(31, 0..10), "from the writer alone");
    sim.connect(1, late);
    sim.sync();
    assert_eq!(held(&mut sim, late), except(31, 5..10), "the reader has some of the others");
    assert_eq!(held(&mut sim, 0), except(31, 0..10));
    assert_eq!(held(&mut sim, 1), except(31, 5..20));
}

#[test]
fn a_cleared_block_comes_back_when_it_is_asked_for() {
    let (mut sim, _, copy, _) = pair(30);
    clear(&mut sim, 1, copy, 5..20);
    sim.sync();
    let wait = sim.parties[1].node.wait(sim.now, copy, 7);
    sim.sync();
    assert_eq!(sim.parties[1].results[&wait], Ok(Outcome::Block(block(7))));
    let mut expected = except(30, 5..20);
    expected.insert(5, 7);
    assert_eq!(held(&mut sim, 1), expected);
    clear(&mut sim, 1, copy, 7..8);
    sim.sync();
    assert_eq!(held(&mut sim, 1), except(30, 5..20), "cleared again");
}

#[test]
fn what_was_cleared_is_not_fetched_after_a_restart_either() {
    let (mut sim, feed, copy, _) = pair(30);
    clear(&mut sim, 0, feed, 0..10);
    clear(&mut sim, 1, copy, 20..25);
    sim.restart(0);
    sim.restart(1);
    sim.connect(0, 1);
    sim.sync();
    assert_eq!(held(&mut sim, 0), except(30, 0..10));
    assert_eq!(held(&mut sim, 1), except(30, 20..25));
    assert_eq!(sim.load(0, feed).lost, 0, "given up on purpose");
    let again = sim.parties[1].node.download(sim.now, copy, 20..25);
    sim.sync();
    assert_eq!(sim.parties[1].results[&again], Ok(Outcome::Downloaded));
    assert_eq!(held(&mut sim, 1), except(30, 0..0));
}

#[test]
fn a_request_for_a_cleared_block_gets_no_answer() {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, blocks(4));
    clear(&mut sim, a, feed, 1..2);
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let mut peer = Liar::new(&mut sim);
    let channel = peer.ask(&mut sim, key);
    for index in [1, 2] {
        let request = Request { index, ..Request::default() };
        peer.connection.request(channel, request).unwrap();
    }
    peer.run(&mut sim);
    assert_eq!(peer.data().iter().map(|data| data.index).collect::<Vec<_>>(), [2]);
    assert_eq!(peer.closed_by_node(&sim), None);
}

#[test]
fn a_peer_that_keeps_silent_about_one_block_is_given_up_for_it_while_others_still_come() {
    // The peer announces blocks 0 to 2, but has cleared 0, and goes on appending.
    let mut source = Sim::new(65_536);
    let w = source.party(Memory::new());
    let feed = source.writer(w, "w");
    source.append_all(w, feed, blocks(40));
    let key = source.parties[w].node.feed(feed).unwrap().key;
    let mut answers = Liar::new(&mut source);
    let channel_at_writer = answers.ask(&mut source, key);

    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let mut peer = Liar::new(&mut sim);
    let channel = peer.offer(&mut sim, key);
    let mut asked = 0;
    for length in 1..40 {
        peer.have(&mut sim, channel, length - 1, 1);
        sim.pass(Duration::from_secs(1));
        peer.run(&mut sim);
        let requests: Vec<Request> = peer
            .outputs
            .iter()
            .filter_map(|output| match output {
                Output::Request { request, .. } => Some(*request),
                _ => None,
            })
            .skip(asked)
            .collect();
        asked += requests.len();
        for request in requests.into_iter().filter(|request| request.index != 0) {
            answers.connection.request(channel_at_writer, request).unwrap();
            answers.run(&mut source);
            let data = (*answers.data().last().unwrap()).clone();
            peer.connection.send_data(channel, data).unwrap();
        }
        peer.run(&mut sim);
    }
    assert_eq!(peer.closed_by_node(&sim), None);
    let b = sim.party(source.parties[w].disk.memory().clone());
    assert_eq!(b, 1);
    assert!(!held(&mut sim, a).contains(&0));
    sim.connect(a, b);
    sim.run();
    assert!(held(&mut sim, a).contains(&0), "asked of the other peer");
    assert!(sim.parties[a].events.iter().all(|event| !matches!(event, Event::Closed { .. })));
}

/// The file with the ranges of cleared blocks, and the blocks that it lists.
fn listed(memory: &Memory) -> (usize, BTreeSet<u64>) {
    let path = memory.paths().find(|path| path.as_str().ends_with("/cleared"));
    let bytes = path.and_then(|path| memory.contents(path)).unwrap_or_default();
    let ranges = bytes.chunks_exact(sleep::CLEARED_BYTES).filter_map(sleep::read_cleared);
    (bytes.len(), ranges.flatten().collect())
}

#[test]
fn the_list_of_cleared_blocks_stays_short_however_often_blocks_are_cleared() {
    let (mut sim, _, copy, _) = pair(30);
    let mut longest = 0;
    for round in 0..300 {
        let block = round % 7;
        clear(&mut sim, 1, copy, block..block + 1);
        sim.sync();
        let wait = sim.parties[1].node.wait(sim.now, copy, block);
        sim.sync();
        assert!(matches!(sim.parties[1].results[&wait], Ok(Outcome::Block(_))));
        longest = longest.max(listed(sim.parties[1].disk.memory()).0);
    }
    assert!(longest > 16 * 16 && longest < 100 * 16, "{longest} bytes");
    clear(&mut sim, 1, copy, 20..25);
    sim.restart(1);
    sim.connect(0, 1);
    sim.sync();
    assert_eq!(held(&mut sim, 1), except(30, 20..25));
}

#[test]
fn a_kill_while_the_list_of_cleared_blocks_is_shortened_leaves_what_was_cleared() {
    for durability in [Durability::Process, Durability::Power] {
        let mut sim = Sim::new(65_536);
        let a = sim.party_with(Memory::new(), NodeConfig { durability, ..NodeConfig::default() });
        let feed = sim.writer(a, "w");
        sim.append_all(a, feed, blocks(100));
        // Effects after each clear.
        let mut marks = Vec::new();
        for n in 0..80 {
            clear(&mut sim, a, feed, n..n + 1);
            marks.push(sim.parties[a].disk.effects().len());
        }
        let journal = &sim.parties[a].disk;
        let effects = journal.effects();
        let shortened =
            effects.iter().position(|effect| matches!(effect.op, Op::Rename { .. })).unwrap();
        let last = marks.iter().position(|mark| *mark > shortened).unwrap();
        assert!(last > 50, "{marks:?} {shortened}");
        assert_eq!(listed(journal.memory()).1, (0..80).collect());
        let check = |memory: Memory, whole: usize, what: &str| {
            let done = marks.iter().filter(|mark| **mark <= whole).count() as u64;
            let (_, found) = listed(&memory);
            let may = [done, done + 1].map(|count| (0..count).collect::<BTreeSet<u64>>());
            assert!(may.contains(&found), "{durability:?}, {what} after {whole}: {found:?}");
            let mut after = Sim::new(65_536);
            let a = after.party(memory);
            let feed = after.writer(a, "w");
            assert_eq!(after.load(a, feed).lost, 0, "{durability:?}, {what} after {whole}");
            // Whatever was left behind does not get into the next list.
            for n in 80..99 {
                clear(&mut after, a, feed, n..n + 1);
            }
            let listed = listed(after.parties[a].disk.memory()).1;
            assert!(listed.is_superset(&found) && !listed.contains(&99), "{listed:?}");
            assert!(listed.len() as u64 <= done + 20, "{listed:?}");
        };
        for whole in marks[last - 2]..=marks[last + 1] {
            let next = effects.get(whole).map(|effect| effect.op.path().as_str());
            let is_list = next.is_some_and(|path| path.contains("/cleared"));
            for bytes in 0..if is_list { journal.torn_len(whole) } else { 1 } {
                check(journal.state_torn(whole, bytes), whole, &format!("{bytes} bytes"));
            }
            if durability == Durability::Power {
                for kept in [true, false] {
                    let memory = journal.state_after_power_loss(whole, |n| kept && n % 2 == 0);
                    check(memory, whole, "without power");
                }
            }
        }
    }
}

/// Lets the disk execute what it holds, the first batch, which nothing waits for, last.
fn first_comes_last(sim: &mut Sim, at: usize) {
    let now = sim.now;
    let party = &mut sim.parties[at];
    party.drain(now);
    party.waiting.rotate_left(1);
    party.disk_held = false;
    party.drain(now);
}

#[test]
fn a_block_that_is_cleared_while_it_is_read_for_a_peer_is_not_sent() {
    let (mut sim, feed, key, mut peer) = util::liar::setup(10);
    let channel = peer.ask(&mut sim, key);
    sim.parties[0].disk_held = true;
    for index in [3, 4] {
        peer.connection.request(channel, Request { index, ..Request::default() }).unwrap();
    }
    peer.run(&mut sim);
    sim.parties[0].node.clear(sim.now, feed, 3..4);
    first_comes_last(&mut sim, 0);
    peer.run(&mut sim);
    let sent: Vec<_> = peer.data().iter().map(|data| (data.index, data.value.clone())).collect();
    assert_eq!(sent, [(4, Some(Bytes::from("block 4")))]);
}

#[test]
fn a_block_that_is_cleared_while_it_is_read_is_not_given_as_zeros() {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, blocks(10));
    sim.parties[a].disk_held = true;
    let read = sim.parties[a].node.read(sim.now, feed, 2, 5, usize::MAX);
    let now = sim.now;
    sim.parties[a].drain(now);
    let wait = sim.parties[a].node.wait(sim.now, feed, 6);
    sim.parties[a].node.clear(sim.now, feed, 4..6);
    first_comes_last(&mut sim, a);
    assert_eq!(sim.parties[a].results[&read], Ok(Outcome::Blocks(vec![block(2), block(3)])));
    assert_eq!(sim.parties[a].results[&wait], Ok(Outcome::Block(block(6))));
}

#[test]
fn a_block_that_is_cleared_while_its_place_is_looked_up_for_a_peer_is_not_sent() {
    let (mut sim, feed, key, _) = util::liar::setup(2000);
    sim.restart(0);
    let mut peer = Liar::new(&mut sim);
    let channel = peer.ask(&mut sim, key);
    sim.load(0, feed);
    sim.parties[0].disk_held = true;
    for index in [3, 4] {
        peer.connection.request(channel, Request { index, ..Request::default() }).unwrap();
    }
    peer.run(&mut sim);
    assert!(!sim.parties[0].waiting.is_empty(), "the tree is read first");
    sim.parties[0].node.clear(sim.now, feed, 3..4);
    sim.parties[0].disk_held = false;
    peer.run(&mut sim);
    let sent: Vec<_> = peer.data().iter().map(|data| (data.index, data.value.clone())).collect();
    assert_eq!(sent, [(4, Some(Bytes::from("block 4")))]);
}
