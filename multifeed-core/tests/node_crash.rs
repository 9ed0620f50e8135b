//! Stores after a process, or the power, ended at any moment.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use bytes::Bytes;
use multifeed_core::crypto::SecretKey;
use multifeed_core::format::{numbered, sleep};
use multifeed_core::storage::{FilePath, Journal, Memory, Op};
use multifeed_core::tree::Bitfield;
use multifeed_core::{
    Durability, Event, FeedId, Layout, NodeConfig, NodeError, Outcome, SyncState,
};
use util::Sim;

/// What was acknowledged once so many effects had happened.
struct Mark {
    effects: usize,
    length: usize,
}

const LAYOUTS: [Layout; 2] = [Layout::Corestore, Layout::Numbered];

fn block(n: usize) -> Bytes {
    Bytes::from(format!("block {n} {}", "x".repeat(n % 90)))
}

/// A writer that appends alone, in batches and nothing, with a mark after each acknowledgement.
fn writer_history(layout: Layout, config: NodeConfig) -> (Sim, FeedId, Vec<Mark>) {
    let mut sim = Sim::new(65_536);
    let a = sim.party_in(Memory::new(), layout, config);
    let feed = sim.writer(a, "w");
    let mut marks = Vec::new();
    let mut length = 0;
    for batch in [1, 1, 3, 0, 1, 5, 1, 2, 1] {
        sim.append_all(a, feed, (length..length + batch).map(block).collect());
        length += batch;
        marks.push(Mark { effects: sim.parties[a].disk.effects().len(), length });
    }
    (sim, feed, marks)
}

/// Opens what is left, checks that all that was acknowledged is there, and goes on writing.
fn check_writer(memory: Memory, acknowledged: usize, what: &str) {
    let mut sim = Sim::new(65_536);
    let a = sim.party(memory);
    let feed = sim.writer(a, "w");
    let blocks = sim.contents(a).into_values().next().unwrap();
    assert!(blocks.len() >= acknowledged, "{what}: {} of {acknowledged} blocks", blocks.len());
    for (n, found) in blocks.iter().enumerate() {
        assert_eq!(found.as_deref(), Some(&block(n)[..]), "{what}: block {n}");
    }
    sim.append(a, feed, &[b"after"]);
    let b = sim.party(Memory::new());
    sim.connect(a, b);
    sim.sync();
    assert_eq!(sim.contents(a), sim.contents(b), "{what}");
}

/// As [`check_writer`], without a peer.
fn check_long_writer(memory: Memory, acknowledged: usize, what: &str) {
    let mut sim = Sim::new(65_536);
    let a = sim.party(memory);
    let feed = sim.writer(a, "w");
    let info = sim.load(a, feed);
    assert!(info.length >= acknowledged as u64 && info.writable, "{what}: {info:?}");
    assert_eq!(info.blocks, info.length, "{what}");
    sim.append(a, feed, &[b"after"]);
    let last = sim.contents(a).into_values().next().unwrap();
    assert!(last.iter().all(Option::is_some), "{what}: holes");
}

/// What the JavaScript would make of the files: a log that ends with a signature.
fn check_for_javascript(memory: &Memory, what: &str) {
    let Some(bitfield) = memory.paths().find(|path| path.as_str().ends_with("/bitfield")) else {
        return;
    };
    for bitfield in
        memory.paths().filter(|path| path.as_str().ends_with("/bitfield")).chain([bitfield])
    {
        let length = Bitfield::from_file(&memory.contents(bitfield).unwrap()).length();
        if length == 0 {
            continue;
        }
        let folder = bitfield.parent().unwrap();
        let signatures = memory.contents(&folder.join("signatures")).unwrap_or_default();
        let at = sleep::signature_offset(length - 1) as usize;
        let signature = signatures.get(at..at + 64).unwrap_or_default();
        assert!(
            signature.iter().any(|byte| *byte != 0),
            "{what}: length {length} has no signature"
        );
        assert!(
            memory.contents(&folder.join("key")).is_some_and(|key| key.len() == 32),
            "{what}: no key"
        );
    }
}

/// What multifeed 6 would make of the folders: each with a key is a feed, up to the first without.
fn check_folders(memory: &Memory, what: &str) {
    let has_key =
        |number: u32| memory.contents(&numbered::folder(number).join(sleep::KEY)).is_some();
    let count = (0..).take_while(|number| has_key(*number)).count() as u32;
    let mut names = Vec::new();
    for number in 0..count {
        let file = |name: &str| memory.contents(&numbered::folder(number).join(name));
        assert_eq!(file(sleep::KEY).unwrap().len(), 32, "{what}: key of {number}");
        let secret = file(sleep::SECRET_KEY);
        let name = file(numbered::LOCAL_NAME);
        assert_eq!(secret.is_some(), name.is_some(), "{what}: folder {number}");
        if let Some(secret) = secret {
            let secret = SecretKey::from_libsodium(&secret[..].try_into().unwrap()).unwrap();
            assert_eq!(secret.public().0[..], file(sleep::KEY).unwrap(), "{what}: {number}");
        }
        names.push(name.map_or(number.to_string(), |name| String::from_utf8(name).unwrap()));
    }
    let beyond = memory.paths().filter_map(|path| path.as_str().split_once('/'));
    let mut beyond = beyond.filter_map(|(folder, _)| numbered::parse_folder(folder));
    assert!(beyond.all(|number| number < count), "{what}: a folder beyond {count}");
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count as usize, "{what}: two feeds of one name");
}

#[test]
fn a_writer_killed_between_any_two_effects_loses_nothing_acknowledged_and_goes_on() {
    for layout in LAYOUTS {
        let (sim, _, marks) = writer_history(layout, NodeConfig::default());
        let journal = &sim.parties[0].disk;
        for count in 0..=journal.effects().len() {
            let acknowledged =
                marks.iter().filter(|mark| mark.effects <= count).map(|m| m.length).max();
            let memory = journal.state_after(count);
            let what = format!("{layout:?} after {count}");
            check_for_javascript(&memory, &what);
            check_folders(&memory, &what);
            check_writer(memory, acknowledged.unwrap_or(0), &what);
        }
    }
}

#[test]
fn numbered_folders_killed_anywhere_open_with_all_that_was_told_and_take_more() {
    for durability in [Durability::Process, Durability::Power] {
        let config = NodeConfig { durability, ..NodeConfig::default() };
        let mut sim = Sim::new(65_536);
        let (a, b) =
            (sim.party_in(Memory::new(), Layout::Numbered, config), sim.party(Memory::new()));
        let mut marks = Vec::new();
        for name in ["one", "a longer name", "x"] {
            let theirs = sim.writer(b, name);
            sim.append(b, theirs, &[name.as_bytes()]);
            let feed = sim.writer(a, name);
            marks.push((sim.parties[a].disk.effects().len(), name.to_owned()));
            sim.append(a, feed, &[b"", name.as_bytes()]);
            let command = sim.parties[a].node.writer(sim.now, util::FIRST, None, None);
            let Ok(Outcome::Feed(unnamed)) = sim.finish(a, command) else { panic!("no writer") };
            let name = sim.parties[a].node.feed_in(util::FIRST, unnamed).unwrap().name;
            marks.push((sim.parties[a].disk.effects().len(), name));
            let wire = sim.connect(a, b);
            sim.sync();
            sim.wires[wire].cut = true;
        }
        let journal = &sim.parties[a].disk;
        for whole in 0..=journal.effects().len() {
            let len = journal.torn_len(whole);
            let bitfield = matches!(journal.effects().get(whole).map(|effect| &effect.op),
                Some(Op::Write { path, .. }) if path.as_str().ends_with("/bitfield"));
            let torn = [0, 1, len / 2, len - 1];
            for bytes in torn.into_iter().filter(|bytes| *bytes == 0 || *bytes < len && !bitfield) {
                let what = format!("{durability:?}: {bytes} bytes of {len} after {whole}");
                let memory = journal.state_torn(whole, bytes);
                check_folders(&memory, &what);
                let mut again = Sim::new(65_536);
                // First, so that the other draws other keys than it did before.
                let source = again.party(Memory::new());
                let theirs = again.writer(source, "theirs");
                again.append(source, theirs, &[b"theirs"]);
                let a = again.party_in(memory, Layout::Numbered, NodeConfig::default());
                let names: Vec<String> =
                    again.parties[a].node.feeds(util::FIRST).map(|feed| feed.name).collect();
                for (_, name) in marks.iter().filter(|(at, _)| *at <= whole) {
                    assert!(names.contains(name), "{what}: {name} of {names:?}");
                }
                let feed = again.writer(a, "one");
                again.append(a, feed, &[b"after"]);
                again.connect(a, source);
                again.sync();
                // Nobody passes a feed on of which nobody gave anything.
                let given = |mut contents: std::collections::BTreeMap<_, Vec<_>>| {
                    contents.retain(|_: &String, blocks| !blocks.is_empty());
                    contents
                };
                assert_eq!(given(again.contents(a)), given(again.contents(source)), "{what}");
                check_folders(again.parties[a].disk.memory(), &what);
            }
        }
    }
}

#[test]
fn a_writer_killed_in_the_middle_of_a_write_loses_nothing_acknowledged_and_goes_on() {
    for layout in LAYOUTS {
        let (sim, _, marks) = writer_history(layout, NodeConfig::default());
        let journal = &sim.parties[0].disk;
        for whole in 0..journal.effects().len() {
            let acknowledged =
                marks.iter().filter(|mark| mark.effects <= whole).map(|m| m.length).max();
            let len = journal.torn_len(whole);
            let bitfield = matches!(&journal.effects()[whole].op,
            Op::Write { path, .. } if path.as_str().ends_with("/bitfield"));
            // A bitfield page lies in one page of the page cache: the system writes it whole or not at all.
            let torn =
                if bitfield { vec![] } else { vec![1, len / 3, len / 2, len.saturating_sub(1)] };
            for bytes in torn.into_iter().filter(|bytes| *bytes > 0 && *bytes < len) {
                let what = format!("{layout:?}: {bytes} bytes of {len} after {whole}");
                let memory = journal.state_torn(whole, bytes);
                check_for_javascript(&memory, &what);
                check_folders(&memory, &what);
                check_writer(memory, acknowledged.unwrap_or(0), &what);
            }
        }
    }
}

#[test]
fn a_batch_over_several_bitfield_pages_survives_a_kill_at_any_of_its_writes() {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, (0..10_000).map(block).collect());
    let before = sim.parties[a].disk.effects().len();
    sim.append_all(a, feed, (10_000..30_000).map(block).collect());
    let journal = &sim.parties[a].disk;
    for whole in before..=journal.effects().len() {
        let len = journal.torn_len(whole);
        // The page cache takes the part of a write in one page of 4,096 bytes whole or not at all.
        let torn = match journal.effects().get(whole).map(|effect| &effect.op) {
            Some(Op::Write { path, offset, data }) if path.as_str().ends_with("/bitfield") => {
                let first = 4096 - offset % 4096;
                (first < data.len() as u64).then_some(first as usize)
            }
            Some(_) => Some(len / 2),
            None => None,
        };
        for bytes in [Some(0), torn].into_iter().flatten() {
            let what = format!("{bytes} bytes of {len} after {whole}");
            let memory = journal.state_torn(whole, bytes);
            if bytes == 0 {
                check_for_javascript(&memory, &what);
            }
            check_long_writer(memory, 10_000, &what);
        }
    }
}

#[test]
fn a_writer_that_syncs_loses_nothing_acknowledged_when_the_power_fails() {
    let config = NodeConfig { durability: Durability::Power, ..NodeConfig::default() };
    for layout in LAYOUTS {
        let (sim, _, marks) = writer_history(layout, config.clone());
        let journal = &sim.parties[0].disk;
        for seed in 0..4u64 {
            for count in 0..=journal.effects().len() {
                let acknowledged =
                    marks.iter().filter(|mark| mark.effects <= count).map(|m| m.length).max();
                let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ count as u64;
                let memory = journal.state_after_power_loss(count, |_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    seed != 0 && state >> 63 == 1
                });
                let what = format!("{layout:?}: seed {seed} after {count}");
                check_folders(&memory, &what);
                check_writer(memory, acknowledged.unwrap_or(0), &what);
            }
        }
    }
}

#[test]
fn what_a_killed_writer_had_not_synced_is_synced_before_it_counts() {
    let config = NodeConfig { durability: Durability::Power, ..NodeConfig::default() };
    let (sim, _, _) = writer_history(Layout::Corestore, config.clone());
    let journal = &sim.parties[0].disk;
    let open = |memory: Memory| {
        let mut sim = Sim::new(65_536);
        let a = sim.party_with(memory, config.clone());
        let feed = sim.writer(a, "w");
        (sim.load(a, feed).length, sim)
    };
    let mut longer = 0;
    for count in 0..journal.effects().len() {
        let (killed, sim) = open(journal.state_after(count));
        let (lasting, _) = open(journal.state_after_power_loss(count, |_| false));
        if killed > lasting {
            longer += 1;
            let synced = sim.parties[0].disk.effects().iter().any(|effect| {
                matches!(&effect.op, Op::Sync { path } if path.as_str().ends_with("/signatures"))
            });
            assert!(synced, "after {count}: {killed} blocks, and {lasting} of them last");
        }
    }
    assert!(longer > 0);
}

/// Has a process go on after a kill, tells all to a peer, and takes the power away: all that the peer got
/// must be there. Gives the number of blocks that the peer got.
fn check_told_before_power_loss(killed: Journal, layout: Layout, what: &str) -> usize {
    let config = NodeConfig { durability: Durability::Power, ..NodeConfig::default() };
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party_on(killed, config.clone()), sim.party(Memory::new()));
    let writer = (layout == Layout::Numbered).then(|| {
        let feed = sim.writer(a, "told");
        sim.parties[a].node.feed(feed).unwrap().key
    });
    sim.connect(a, b);
    sim.sync();
    let told = sim.contents(b);
    let journal = &sim.parties[a].disk;
    let memory = journal.state_after_power_loss(journal.effects().len(), |_| false);
    let mut after = Sim::new(65_536);
    let a = after.party(memory);
    let found = after.contents(a);
    for (key, blocks) in &told {
        let kept = found.get(key).map_or(&[][..], |kept| kept);
        for (n, block) in blocks.iter().enumerate().filter(|(_, block)| block.is_some()) {
            assert_eq!(kept.get(n), Some(block), "{what}: block {n} of {key}");
        }
    }
    if let Some(key) = writer {
        assert!(after.parties[a].node.find(&key).is_some(), "{what}: a writer that was told");
    }
    told.values().flatten().flatten().count()
}

#[test]
fn what_is_told_after_a_kill_outlasts_the_power_whatever_the_killed_process_had_synced() {
    for durability in [Durability::Process, Durability::Power] {
        for layout in LAYOUTS {
            let config = NodeConfig { durability, ..NodeConfig::default() };
            let (sim, _, _) = writer_history(layout, config.clone());
            let journal = &sim.parties[0].disk;
            let mut most = 0;
            for count in 0..=journal.effects().len() {
                let what = format!("writer, {durability:?}, {layout:?}, {count} effects");
                let killed = journal.killed_after(count);
                most = most.max(check_told_before_power_loss(killed, layout, &what));
            }
            assert_eq!(most, 15);

            let mut sim = Sim::new(65_536);
            let (a, b) = (sim.party(Memory::new()), sim.party_in(Memory::new(), layout, config));
            let feed = sim.writer(a, "w");
            for n in 0..4 {
                sim.append_all(a, feed, (n * 5..n * 5 + 5).map(block).collect());
                let wire = sim.connect(a, b);
                sim.sync();
                sim.wires[wire].cut = true;
            }
            let journal = &sim.parties[b].disk;
            let mut most = 0;
            for count in 0..=journal.effects().len() {
                let what = format!("reader, {durability:?}, {layout:?}, {count} effects");
                let killed = journal.killed_after(count);
                most = most.max(check_told_before_power_loss(killed, layout, &what));
            }
            assert_eq!(most, 20);
        }
    }
}

#[test]
fn a_download_killed_anywhere_keeps_what_was_told_and_goes_on() {
    let mut sim = Sim::new(300);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, (0..60).map(block).collect());
    sim.connect(a, b);
    let mut marks = Vec::new();
    while sim.step() {
        let told: u64 = sim.parties[b]
            .events
            .iter()
            .map(|event| if let Event::Downloaded { length, .. } = event { *length } else { 0 })
            .sum();
        marks.push((sim.parties[b].disk.effects().len(), told));
    }
    let source = sim.parties[a].disk.memory().clone();
    let effects = sim.parties[b].disk.effects().len();
    assert!(effects > 20, "{effects} effects are too few to show anything");
    for count in 0..=effects {
        let told =
            marks.iter().filter(|(at, _)| *at <= count).map(|(_, told)| *told).max().unwrap_or(0);
        for torn in [false, true] {
            let memory = if torn {
                let len = sim.parties[b].disk.torn_len(count);
                sim.parties[b].disk.state_torn(count, len / 2)
            } else {
                sim.parties[b].disk.state_after(count)
            };
            let mut again = Sim::new(65_536);
            let b = again.party(memory);
            let held: usize =
                again.contents(b).values().map(|blocks| blocks.iter().flatten().count()).sum();
            assert!(held as u64 >= told, "after {count}: {held} of {told}");
            let mut source = source.clone();
            source.unlock();
            let a = again.party(source);
            again.connect(a, b);
            again.sync();
            assert_eq!(again.contents(a), again.contents(b), "after {count}");
        }
    }
}

/// A store with one writer of `length` blocks, each appended alone.
fn damaged(length: usize, damage: impl FnOnce(&mut Memory, &FilePath)) -> Memory {
    let mut sim = Sim::new(65_536);
    let a = sim.party(Memory::new());
    let feed = sim.writer(a, "w");
    for n in 0..length {
        sim.append_all(a, feed, vec![block(n)]);
    }
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let mut memory = sim.parties[a].disk.memory().clone();
    memory.unlock();
    damage(&mut memory, &multifeed_core::format::corestore::folder(&key.discovery_key()));
    memory
}

fn run(memory: &mut Memory, op: Op) {
    use multifeed_core::storage::{Batch, BatchId};
    memory
        .execute(&Batch { id: BatchId(u64::MAX), after: None, ops: vec![op] })
        .answers
        .remove(0)
        .unwrap();
}

#[test]
fn a_lost_bitfield_is_rebuilt_from_tree_signatures_and_data() {
    let memory =
        damaged(9, |memory, folder| run(memory, Op::Remove { path: folder.join("bitfield") }));
    check_writer(memory, 9, "no bitfield");
}

#[test]
fn a_signed_block_whose_leaf_was_not_written_is_taken_up_again() {
    // What a killed JavaScript writer leaves: it writes all files at the same time.
    let before = damaged(3, |_, _| {});
    let memory = damaged(4, |memory, folder| {
        let path = folder.join("bitfield");
        let data = Bytes::from(before.contents(&path).unwrap());
        run(memory, Op::Write { path, offset: 0, data });
        let len = sleep::tree_offset(multifeed_core::tree::NodeIndex(6));
        run(memory, Op::Truncate { path: folder.join("tree"), len });
    });
    check_writer(memory, 4, "no last leaf");
}

#[test]
fn a_lost_last_signature_is_no_fork() {
    let memory = damaged(5, |memory, folder| {
        run(
            memory,
            Op::Truncate { path: folder.join("signatures"), len: sleep::signature_offset(4) },
        );
    });
    let mut sim = Sim::new(65_536);
    let a = sim.party(memory);
    let feed = sim.writer(a, "w");
    let info = sim.load(a, feed);
    assert_eq!((info.length, info.writable, info.lost), (4, false, 1));
    let command = sim.parties[a].node.append(sim.now, feed, vec![block(4)]);
    let refused = sim.finish(a, command);
    assert!(matches!(refused, Err(NodeError::LostTail { blocks: 1, .. })), "{refused:?}");
}

#[test]
fn a_tree_without_its_last_node_is_made_whole_from_the_block_or_is_no_fork() {
    for block_damaged in [false, true] {
        let memory = damaged(5, |memory, folder| {
            let len = sleep::tree_offset(multifeed_core::tree::NodeIndex(8));
            run(memory, Op::Truncate { path: folder.join("tree"), len });
            if block_damaged {
                let path = folder.join("data");
                let len = memory.contents(&path).unwrap().len() as u64 - 1;
                run(memory, Op::Truncate { path, len });
            }
        });
        let mut sim = Sim::new(65_536);
        let a = sim.party(memory);
        let feed = sim.writer(a, "w");
        let info = sim.load(a, feed);
        let wanted = if block_damaged { (4, false) } else { (5, true) };
        assert_eq!((info.length, info.writable), wanted);
    }
}

#[test]
fn a_writer_that_lost_its_tail_writes_again_when_a_peer_gave_it_back() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "w");
    for n in 0..5 {
        sim.append_all(a, feed, vec![block(n)]);
    }
    sim.connect(a, b);
    sim.sync();
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let folder = multifeed_core::format::corestore::folder(&key.discovery_key());
    let mut memory = sim.parties[a].disk.memory().clone();
    memory.unlock();
    run(
        &mut memory,
        Op::Truncate { path: folder.join("signatures"), len: sleep::signature_offset(3) },
    );
    let c = sim.party(memory);
    let feed = sim.writer(c, "w");
    assert!(!sim.load(c, feed).writable);
    sim.connect(c, b);
    sim.sync();
    assert!(sim.load(c, feed).writable);
    sim.append(c, feed, &[b"after"]);
    sim.sync();
    assert_eq!(sim.contents(c), sim.contents(b));
}

#[test]
fn garbage_in_any_file_never_panics_and_never_forks() {
    for name in ["bitfield", "tree", "signatures", "data", "key", "name"] {
        for seed in 0..40u64 {
            let memory = damaged(12, |memory, folder| {
                let path = folder.join(name);
                let mut bytes = memory.contents(&path).unwrap();
                let mut state = seed;
                for _ in 0..1 + seed % 4 {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    let at = (state >> 33) as usize % bytes.len();
                    bytes[at] ^= (state >> 20) as u8 | 1;
                }
                if seed % 5 == 0 {
                    bytes.truncate((state >> 40) as usize % bytes.len());
                }
                run(memory, Op::Remove { path: path.clone() });
                run(memory, Op::Write { path, offset: 0, data: Bytes::from(bytes) });
            });
            let mut sim = Sim::new(65_536);
            let a = sim.party(memory);
            let command = sim.parties[a].node.writer(sim.now, util::FIRST, Some("w"), None);
            let Ok(Outcome::Feed(feed)) = sim.finish(a, command) else { continue };
            let info = sim.parties[a].node.feed(feed).unwrap();
            assert!(!info.writable || info.length == 12, "{name} seed {seed}: {info:?}");
        }
    }
}

#[test]
fn a_writer_that_got_back_only_a_part_of_its_lost_tail_stays_read_only_when_it_is_opened_again() {
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "w");
    for n in 0..4 {
        sim.append_all(a, feed, vec![block(n)]);
    }
    sim.connect(a, b);
    sim.sync();
    sim.wires[0].cut = true;
    sim.append_all(a, feed, vec![block(4)]);
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let folder = multifeed_core::format::corestore::folder(&key.discovery_key());
    let mut memory = sim.parties[a].disk.memory().clone();
    memory.unlock();
    // Nothing but the bitfield tells of the last block any more.
    run(
        &mut memory,
        Op::Truncate { path: folder.join("signatures"), len: sleep::signature_offset(2) },
    );
    let c = sim.party(memory);
    sim.connect(c, b);
    sim.pass(std::time::Duration::from_secs(1));
    let feed = sim.writer(c, "w");
    let info = sim.load(c, feed);
    assert_eq!((info.length, info.writable), (4, false));
    sim.restart(c);
    let feed = sim.writer(c, "w");
    let info = sim.load(c, feed);
    assert_eq!((info.length, info.writable), (4, false));
}

#[test]
fn blocks_cut_from_the_data_file_are_known_to_be_lost_when_the_feed_is_opened() {
    let whole: usize = (0..40).map(|n| block(n).len()).sum();
    for len in [0, 1, 30, whole / 2, whole - 1, whole, whole + 5] {
        let memory = damaged(40, |memory, folder| {
            run(memory, Op::Truncate { path: folder.join("data"), len: len as u64 });
        });
        let mut ends = (0..40).scan(0, |end, n| {
            *end += block(n).len();
            Some(*end)
        });
        let left = ends.position(|end| end > len).unwrap_or(40) as u64;
        let mut sim = Sim::new(65_536);
        let a = sim.party(memory);
        let feed = sim.writer(a, "w");
        let info = sim.load(a, feed);
        let seen = (info.length, info.blocks, info.lost, info.writable);
        assert_eq!(seen, (40, left, 40 - left, true), "{len} bytes of data left");
        // The places of the lost blocks stay theirs.
        sim.append(a, feed, &[b"after"]);
        assert_eq!(
            sim.contents(a).into_values().next().unwrap()[40].as_deref(),
            Some(&b"after"[..])
        );
    }
}

#[test]
fn a_feed_with_gaps_whose_data_file_was_cut_gets_the_lost_blocks_again() {
    let mut sim = Sim::new(300);
    let (a, b) = (sim.party(Memory::new()), sim.party(Memory::new()));
    let feed = sim.writer(a, "w");
    sim.append_all(a, feed, (0..300).map(block).collect());
    let wire = sim.connect(a, b);
    sim.wires[wire].cut_after = [Some(7000), None];
    sim.run();
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let theirs = sim.parties[b].node.find(&key).unwrap();
    let before = sim.load(b, theirs);
    assert!(before.blocks > 20 && before.blocks < 290, "{before:?}");
    sim.restart(b);
    assert_eq!(sim.load(b, theirs).blocks, before.blocks, "nothing was cut yet");
    let path = multifeed_core::format::corestore::folder(&key.discovery_key()).join("data");
    sim.parties[b].cut(&path, 500);
    sim.restart(b);
    let after = sim.load(b, theirs);
    let kept = (1..300).take_while(|n| (0..*n).map(|n| block(n).len()).sum::<usize>() <= 500);
    assert_eq!((after.length, after.blocks, after.lost), (300, kept.count() as u64, 0));
    sim.connect(a, b);
    sim.sync();
    assert_eq!(sim.contents(a), sim.contents(b));
}

#[test]
fn an_empty_block_behind_a_gap_is_still_there_when_the_feed_is_opened_again() {
    let mut sim = Sim::new(65_536);
    let config = NodeConfig { sparse: true, ..NodeConfig::default() };
    let (a, b) = (sim.party(Memory::new()), sim.party_with(Memory::new(), config));
    let feed = sim.writer(a, "w");
    sim.append(a, feed, &[b"first", b"not here", b"", b"", b"last"]);
    sim.connect(a, b);
    sim.run();
    let key = sim.parties[a].node.feed(feed).unwrap().key;
    let theirs = sim.parties[b].node.find(&key).unwrap();
    for index in [0, 2, 3] {
        sim.parties[b].node.wait(sim.now, theirs, index);
    }
    sim.run();
    assert_eq!(sim.load(b, theirs).blocks, 3);
    sim.restart(b);
    assert_eq!(sim.load(b, theirs).blocks, 3);
}

/// What is left when no length of the log has a good signature.
fn unsigned(memory: &mut Memory, folder: &FilePath) {
    let data = Bytes::from(vec![0x55; 64 * 5]);
    let offset = sleep::signature_offset(0);
    run(memory, Op::Write { path: folder.join("signatures"), offset, data });
}

#[test]
fn a_damaged_feed_holds_up_neither_side_and_no_other_feed() {
    for (peer_has_it, chunk) in [(false, 65_536), (true, 65_536), (false, 50), (true, 50)] {
        let mut sim = Sim::new(chunk);
        let (a, b) = (sim.party(damaged(5, unsigned)), sim.party(Memory::new()));
        let good = sim.writer(a, "good");
        sim.append(a, good, &[b"fine"]);
        if peer_has_it {
            let c = sim.party(damaged(5, |_, _| {}));
            let wire = sim.connect(c, b);
            sim.sync();
            sim.wires[wire].cut = true;
        }
        let wire = sim.connect(a, b);
        sim.run();
        for end in 0..2 {
            assert_eq!(sim.sync_state(wire, end), SyncState::InSync, "{peer_has_it} {chunk}");
        }
        let failed = |event: &Event| matches!(event, Event::FeedFailed { .. });
        assert!(sim.parties[a].events.iter().any(failed));
        let key = sim.parties[a].node.feed(good).unwrap().key;
        let there = sim.parties[b].node.find(&key).unwrap();
        assert_eq!(sim.load(b, there).blocks, 1);
    }
}

#[test]
fn a_damaged_tree_node_is_made_anew_when_it_is_needed_for_a_proof() {
    let memory = damaged(5, |memory, folder| {
        // The roots of the last two lengths are there, a node below them is not.
        let offset = sleep::tree_offset(multifeed_core::tree::NodeIndex(2));
        run(memory, Op::Write { path: folder.join("tree"), offset, data: vec![0; 40].into() });
    });
    let mut sim = Sim::new(65_536);
    let (a, b) = (sim.party(memory), sim.party(Memory::new()));
    let wire = sim.connect(a, b);
    sim.run();
    for end in 0..2 {
        assert_eq!(sim.sync_state(wire, end), SyncState::InSync);
    }
    assert_eq!(sim.contents(b), sim.contents(a));
    assert!(sim.parties[a].events.iter().all(|event| !matches!(event, Event::FeedFailed { .. })));
}

#[test]
fn a_line_of_the_feed_list_that_is_no_entry_is_skipped_and_its_writer_found_by_name() {
    use multifeed_core::format::corestore::{list_name, writer_name};
    let root = multifeed_proto::RootKey::new(util::ROOT);
    for line in ["null", "[]", "{\"key\":7}", "{\"key\":\"xyz\"}", "\u{1}"] {
        let mut sim = Sim::new(65_536);
        let a = sim.unjoined(Memory::new());
        let list = sim.named(a, &list_name(&root));
        sim.append(a, list, &[line.as_bytes()]);
        let first = sim.named(a, &writer_name(&root, "first"));
        sim.append(a, first, &[b"first"]);
        let key = sim.parties[a].node.feed(first).unwrap().key;
        let mut memory = sim.parties[a].disk.memory().clone();
        memory.unlock();

        let mut again = Sim::new(65_536);
        let a = again.party(memory);
        assert_eq!(again.parties[a].node.feeds(util::FIRST).count(), 0, "{line}");
        let first = again.writer(a, "first");
        assert_eq!(again.parties[a].node.feed(first).unwrap().key, key);
        assert_eq!(again.load(a, first).blocks, 1);
    }
}
