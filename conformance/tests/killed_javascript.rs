//! A JavaScript writer that was killed (SIGKILL) while it appended: Rust goes on where that makes no fork,
//! and says so where it would.
//!
//! hypercore 9 writes the blocks of an append, its tree nodes and its signature at the same time, and the
//! bitfield when all of them are written. So a kill may leave any of the three without the others. What must
//! hold follows from the files that it left.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use conformance::{Contents, Held, Random, Store, block, root_key};
use multifeed_core::format::sleep;
use multifeed_core::tree::flat::full_roots;
use multifeed_core::tree::{Bitfield, NodeIndex};

/// Kills of a JavaScript peer.
const KILLS: u64 = 6;
/// Bytes of each block.
const SIZE: usize = 50;
/// Blocks that are acknowledged before.
const FIRST: u64 = 100;

/// What must become of a log whose last append was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Expected {
    /// The append is there, whole.
    Whole(u64),
    /// It is not, and nobody can have heard of it: it was not even signed in a way that could be proven.
    Gone(u64),
    /// It was signed and blocks of it are missing: others must not take their places.
    Sealed(u64),
}

#[test]
fn rust_goes_on_where_a_javascript_writer_was_killed() {
    let mut random = Random::from_environment("killed javascript");
    let key = root_key("killed javascript");
    for round in 0..KILLS {
        let store = Store::new(&key);
        let mut peer = store.javascript();
        let feed = peer.write("w", FIRST, &[SIZE]);
        // Never waited for: it is killed on the way.
        let _ = peer.start_write("w", 1_000_000, &[SIZE], 1 + round);
        // The random moment itself, not a wait for something.
        thread::sleep(Duration::from_micros(random.below(200_000)));
        peer.process().kill();
        let expected = expected(&folder(&store.path(), &feed));
        check(&store, &feed, expected, &format!("round {round}"));
    }
}

#[test]
fn rust_goes_on_from_every_part_of_an_append_that_a_kill_may_leave() {
    let key = root_key("parts of an append");
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for batch in [1, 5] {
        let before = Store::new(&key);
        let mut peer = before.javascript();
        let feed = peer.write("w", FIRST, &[SIZE]);
        peer.close();
        let after = before.copied();
        let mut peer = after.javascript();
        peer.write("w", batch, &[SIZE]);
        peer.close();
        let written = folder(&after.path(), &feed);
        // Without a signature it is all the same, whatever there is.
        for parts in 3..8 {
            let [data, tree, signature] = [1, 2, 4].map(|part| parts & part != 0);
            for leaves in if tree { [true, false].as_slice() } else { &[true] } {
                let store = before.copied();
                let left = folder(&store.path(), &feed);
                let copy = |name: &str| fs::copy(written.join(name), left.join(name)).unwrap();
                if data {
                    copy(sleep::DATA);
                }
                if tree {
                    copy(sleep::TREE);
                }
                if !leaves {
                    // The first one, which is a root of none of these lengths unless the batch is one block.
                    let mut bytes = fs::read(left.join(sleep::TREE)).unwrap();
                    let at = place(sleep::tree_offset(NodeIndex::leaf(FIRST)));
                    bytes[at..at + sleep::TREE_ENTRY_BYTES].fill(0);
                    fs::write(left.join(sleep::TREE), bytes).unwrap();
                }
                if signature {
                    copy(sleep::SIGNATURES);
                }
                let what = format!(
                    "{batch} blocks, data {data}, tree {tree}, leaves {leaves}, signature {signature}"
                );
                let expected = expected(&left);
                if !signature {
                    assert_eq!(expected, Expected::Gone(FIRST), "{what}");
                } else if data && tree && *leaves {
                    assert_eq!(expected, Expected::Whole(FIRST + batch), "{what}");
                }
                *seen.entry(check(&store, &feed, expected, &what)).or_default() += 1;
            }
        }
    }
    eprintln!("{seen:?}");
    assert_eq!(seen.len(), 3, "{seen:?}");
}

/// What must become of the log whose files a killed process left in this folder.
fn expected(left: &Path) -> Expected {
    let file = |name: &str| fs::read(left.join(name)).unwrap();
    let (signatures, tree, data) = (file(sleep::SIGNATURES), file(sleep::TREE), file(sleep::DATA));
    let told = Bitfield::from_file(&file(sleep::BITFIELD)).length();
    let entries = signatures[sleep::HEADER_BYTES..].chunks_exact(sleep::SIGNATURE_BYTES);
    let signed = (1..).zip(entries).filter(|(_, entry)| entry.iter().any(|byte| *byte != 0));
    let signed = signed.map(|(length, _)| length).last().unwrap_or(0);
    if signed <= told {
        assert_eq!(signed, told, "the bitfield is written last");
        return Expected::Gone(told);
    }
    let has_node = |node: NodeIndex| {
        let at = place(sleep::tree_offset(node));
        tree.get(at..).is_some_and(|entry| sleep::read_node(node, entry).is_some())
    };
    if !full_roots(signed).all(has_node) {
        return Expected::Gone(told);
    }
    // The roots tell how long the last block is, if nothing else is missing.
    let leaves = (told..signed - 1).all(|block| has_node(NodeIndex::leaf(block)));
    let mut blocks = told..signed;
    let held = blocks.all(|index| {
        let at = place(index) * SIZE;
        data.get(at..at + SIZE).is_some_and(|found| found == block("w", index, SIZE))
    });
    if leaves && held { Expected::Whole(signed) } else { Expected::Sealed(told) }
}

/// Opens the store with both implementations and goes on with the writer, if that makes no fork; says in
/// a word what was expected.
fn check(store: &Store, feed: &str, expected: Expected, what: &str) -> &'static str {
    let (word, length, goes_on) = match expected {
        Expected::Whole(length) => ("whole", length, true),
        Expected::Gone(length) => ("gone", length, true),
        Expected::Sealed(length) => ("sealed", length, false),
    };
    assert!(length >= FIRST, "{what}: an acknowledged block is missing");
    let mut contents = Contents::from([(feed.to_owned(), Held::written("w", length, &[SIZE]))]);
    assert_eq!(store.contents(), contents, "{what}: {expected:?}");
    if goes_on {
        store.append_block("w", b"by Rust");
        let blocks = (0..length).map(|index| block("w", index, SIZE));
        let blocks: Vec<_> = blocks.chain([b"by Rust".to_vec()]).collect();
        contents = Contents::from([(feed.to_owned(), Held::all(blocks))]);
    } else {
        let mut append = store.start("append", &["w", "by Rust"]);
        let (status, lines) = append.finish();
        let error = lines.last().unwrap_or_else(|| panic!("{what}: append printed nothing"));
        assert!(!status.success() && error["code"] == "ERR_BLOCKS_LOST", "{what}: {lines:?}");
        assert_eq!(store.contents(), contents, "{what}: after an append that was refused");
    }
    assert_eq!(store.javascript_contents(), contents, "{what}, JavaScript: {expected:?}");
    let third = Store::new(store.key());
    let mut serving = store.serve(&["--once"]);
    third.sync(serving.port);
    serving.finish();
    assert_eq!(third.contents(), contents, "{what}, at a peer: {expected:?}");
    word
}

/// The folder of a feed in a store.
fn folder(store: &Path, feed: &str) -> PathBuf {
    let key = multifeed_tokio::FeedKey::from_hex(feed).unwrap();
    let path = multifeed_core::format::corestore::folder(&key.discovery_key());
    store.join(path.as_str())
}

fn place(number: u64) -> usize {
    usize::try_from(number).unwrap()
}
