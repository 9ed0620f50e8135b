//! The bitfield and the node cache against simple models of them.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use multifeed_core::format::sleep;
use multifeed_core::tree::{
    BLOCKS_PER_PAGE, Bitfield, CACHE_PAGE_BYTES, MAX_LENGTH, MAX_WANT_BYTES, Node, NodeCache,
    NodeIndex, PAGE_SIZE,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Blocks { start: u64, count: u64, held: bool },
    Nodes { start: u64, count: u64 },
    ClearFrom(u64),
    Write,
    Reopen,
}

/// Positions near the edges of words and pages, some of them far away.
fn position() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0_u64..300,
        4 => 8_100_u64..8_300,
        2 => 16_300_u64..16_500,
        2 => 40_000_u64..90_000,
        1 => (1_u64 << 40)..(1 << 40) + 200,
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (position(), 0_u64..200, prop::bool::weighted(0.8))
            .prop_map(|(start, count, held)| Op::Blocks { start, count, held }),
        1 => (0_u64..20_000, 0_u64..20_000)
            .prop_map(|(start, count)| Op::Blocks { start, count, held: true }),
        4 => (position(), 0_u64..200).prop_map(|(start, count)| Op::Nodes { start, count }),
        1 => position().prop_map(Op::ClearFrom),
        2 => Just(Op::Write),
        1 => Just(Op::Reopen),
    ]
}

/// The pages of a file, as far as they were written.
type File = BTreeMap<u64, Bytes>;

fn write(bits: &mut Bitfield, file: &mut File) {
    for (page, bytes) in bits.take_dirty() {
        assert_eq!(bytes.len(), PAGE_SIZE);
        file.insert(page, bytes);
    }
    assert!(!bits.is_dirty());
}

fn read(file: &File) -> Bitfield {
    let mut bits = Bitfield::new();
    for (&page, bytes) in file {
        bits.load_page(page, bytes);
    }
    bits
}

/// The index part of a file made in the simplest way: each byte has a class for each quarter of the blocks
/// that it is about.
fn index_byte(file: &File, pages: u64, position: u64) -> u8 {
    let node = NodeIndex(position);
    if position / 512 >= pages {
        return 0;
    }
    let class = |bytes: &mut dyn Iterator<Item = u8>| {
        let (mut all, mut any) = (true, false);
        for byte in bytes {
            all &= byte == 0xff;
            any |= byte != 0;
        }
        if all { 3 } else { u8::from(any) }
    };
    match node.left_child().zip(node.right_child()) {
        None => (0..4).fold(0, |out, i| {
            let byte = 4 * node.offset() + i;
            let data = file.get(&(byte / 1_024)).map_or(0, |page| page[(byte % 1_024) as usize]);
            out << 2 | class(&mut [data].into_iter())
        }),
        Some((left, right)) => [left, right].iter().fold(0, |out, child| {
            let byte = index_byte(file, pages, child.0);
            let nibble = |nibble: u8| match nibble {
                0 => 0,
                15 => 3,
                _ => 1,
            };
            out << 4 | nibble(byte >> 4) << 2 | nibble(byte & 15)
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn a_bitfield_does_what_two_sets_do(
        ops in prop::collection::vec(op(), 1..24),
        ranges in prop::collection::vec((position(), 0_u64..40_000), 12),
    ) {
        let (mut blocks, mut nodes) = (BTreeSet::new(), BTreeSet::new());
        let mut bits = Bitfield::new();
        let mut file = File::new();
        for op in ops {
            match op {
                Op::Blocks { start, count, held } => (start..start + count).for_each(|block| {
                    let changed = if held { blocks.insert(block) } else { blocks.remove(&block) };
                    assert_eq!(bits.set_block(block, held), changed);
                }),
                Op::Nodes { start, count } => (start..start + count).for_each(|node| {
                    assert_eq!(bits.set_node(NodeIndex(node)), nodes.insert(node));
                }),
                Op::ClearFrom(length) => {
                    bits.clear_from(length);
                    blocks.retain(|&block| block < length);
                    nodes.retain(|&node| NodeIndex(node).blocks().end <= length);
                }
                Op::Write => write(&mut bits, &mut file),
                Op::Reopen => {
                    write(&mut bits, &mut file);
                    bits = read(&file);
                }
            }
            prop_assert_eq!(bits.blocks(), blocks.len() as u64);
        }
        let bytes = nodes.last().map_or(0, |last| last / 8 + 1);
        prop_assert_eq!(bits.tree_bit_length(), 8 * bytes);
        for (start, count) in ranges {
            let range = start..start + count;
            let held = || blocks.range(range.clone());
            let missing = range.clone().find(|block| !blocks.contains(block));
            prop_assert_eq!(bits.count_blocks(range.clone()), held().count() as u64);
            prop_assert_eq!(bits.first_block(range.clone()), held().next().copied());
            prop_assert_eq!(bits.first_missing_block(range.clone()), missing);
            prop_assert_eq!(bits.contains_all(range.clone()), missing.is_none());
            let start = start / 8 * 8;
            let raw = bits.want_bytes(start, count);
            for block in start..start + count {
                let at = ((block - start) / 8) as usize;
                let bit = raw.get(at).is_some_and(|byte| byte & (0x80 >> (block % 8)) != 0);
                prop_assert_eq!(bit, blocks.contains(&block), "block {}", block);
            }
            prop_assert!(raw.last() != Some(&0));
            prop_assert_eq!(bits.has_node(NodeIndex(start)), nodes.contains(&start));
            prop_assert_eq!(bits.has_block(start), blocks.contains(&start));
        }
        write(&mut bits, &mut file);
        let again = read(&file);
        prop_assert_eq!(again.blocks(), bits.blocks());
        prop_assert_eq!(again.length(), bits.length());
        prop_assert!(nodes.iter().all(|&node| again.has_node(NodeIndex(node))));
        let pages = file.keys().last().map_or(0, |page| page + 1);
        // Far away the model would take for ever.
        for (&page, bytes) in file.iter().filter(|_| pages < 40) {
            for position in 0..512 {
                let wanted = index_byte(&file, pages, 512 * page + position);
                prop_assert_eq!(bytes[3_072 + position as usize], wanted, "page {}, {}", page, position);
            }
        }
    }

    #[test]
    fn a_file_with_any_bytes_is_read(file in prop::collection::vec(any::<u8>(), 0..8_000), end: u64) {
        let mut bits = Bitfield::from_file(&file);
        let _ = (bits.length(), bits.verified_by(NodeIndex(end)), bits.want_bytes(end, end));
        let _ = (bits.count_blocks(0..end), bits.first_missing_block(end..u64::MAX));
        bits.load_page(end, &file);
        bits.clear_from(end);
        bits.clear_from(0);
        prop_assert_eq!((bits.blocks(), bits.length(), bits.tree_bit_length()), (0, 0, 0));
        let _ = bits.take_dirty();
    }
}

#[test]
fn huge_positions_cost_little_and_do_no_harm() {
    let mut bits = Bitfield::new();
    assert!(bits.set_block(MAX_LENGTH - 1, true));
    assert!(!bits.set_block(MAX_LENGTH, true));
    assert!(!bits.set_block(u64::MAX, true));
    assert!(bits.set_node(NodeIndex::leaf(MAX_LENGTH - 1)));
    assert!(bits.set_node(NodeIndex::at(52, 0)));
    assert!(!bits.set_node(NodeIndex(u64::MAX)));
    assert!(!bits.set_node(NodeIndex(2 * MAX_LENGTH - 1)));
    let _ = bits.length();
    assert_eq!(bits.first_block(0..u64::MAX), Some(MAX_LENGTH - 1));
    assert_eq!(bits.count_blocks(0..u64::MAX), 1);
    assert_eq!(bits.want_bytes(0, u64::MAX).len(), 0);
    let raw = bits.want_bytes(MAX_LENGTH - 8 * MAX_WANT_BYTES as u64, u64::MAX);
    assert_eq!(raw.len(), MAX_WANT_BYTES);
    // Besides these, one summary for each level above a page: 2^39 pages have 39.
    assert!(bits.take_dirty().len() <= 3 + 39);
    assert!(bits.memory() < 20_000);
}

#[test]
fn full_pages_are_skipped() {
    let mut bits = Bitfield::new();
    let full = [0xff; PAGE_SIZE];
    (0..2_000).for_each(|page| bits.load_page(page, &full));
    assert_eq!(bits.first_missing_block(5..u64::MAX), Some(2_000 * BLOCKS_PER_PAGE));
    assert!(bits.contains_all(0..2_000 * BLOCKS_PER_PAGE));
    assert_eq!(bits.blocks(), 2_000 * BLOCKS_PER_PAGE);
}

#[test]
fn an_old_page_size_is_kept() {
    let mut header = sleep::BITFIELD_HEADER;
    header[5..7].copy_from_slice(&3_328_u16.to_be_bytes());
    let mut file = header.to_vec();
    file.resize(32 + 2 * 3_328, 0);
    file[32] = 0x80;
    file[32 + 3_328] = 0x80;
    let mut bits = Bitfield::from_file(&file);
    assert_eq!(bits.page_size(), 3_328);
    assert!(bits.has_block(0) && bits.has_block(BLOCKS_PER_PAGE) && bits.blocks() == 2);
    bits.set_block(1, true);
    let dirty = bits.take_dirty();
    assert_eq!(
        dirty.iter().map(|(page, bytes)| (*page, bytes.len())).collect::<Vec<_>>(),
        [(0, 3_328)]
    );
    for size in [0, 3_071, 3_073, 3_585, 65_535] {
        assert_eq!(Bitfield::with_page_size(size).page_size(), PAGE_SIZE, "{size}");
    }
}

fn node(index: u64) -> Node {
    Node { index, hash: [(index as u8).wrapping_add(1); 32], size: index }
}

#[test]
fn a_cache_gives_back_what_it_took() {
    let mut cache = NodeCache::new();
    let indices = [0, 1, 5, 126, 127, 128, 1_000, (1 << 52) + 3];
    indices.iter().for_each(|&index| cache.insert(node(index)));
    for index in 0..1_100 {
        let wanted = indices.contains(&index).then(|| node(index));
        assert_eq!(cache.get(NodeIndex(index)), wanted);
    }
    cache.remove(NodeIndex(5));
    assert_eq!(cache.get(NodeIndex(5)), None);
    cache.clear();
    assert_eq!((cache.bytes(), cache.get(NodeIndex(0))), (0, None));
}

#[test]
fn a_page_from_the_file_fills_only_what_is_held_and_not_present() {
    let mut bits = Bitfield::new();
    let mut file = Vec::new();
    for index in 128..256 {
        file.extend(sleep::write_node(&node(index)));
        bits.set_node(NodeIndex(index));
    }
    file[40 * 7..40 * 8].fill(0); // never written
    file[40 * 9 + 32] = 0xff; // a size that cannot be
    let mut bits = {
        let mut page = bits.take_dirty()[0].1.to_vec();
        page[1_024 + 128 / 8] &= 0x7f; // node 128 is not held
        let mut bits = Bitfield::new();
        bits.load_page(0, &page);
        bits
    };
    let mut cache = NodeCache::new();
    let newer = Node { size: 77, ..node(130) };
    cache.insert(newer);
    assert_eq!(NodeCache::byte_range(1), (32 + 40 * 128, CACHE_PAGE_BYTES));
    cache.fill(1, &file[..40 * 100 + 39], |node| bits.has_node(node));
    for index in 128..256 {
        let wanted = match index {
            128 | 135 | 137 | 228.. => None,
            130 => Some(newer),
            _ => Some(node(index)),
        };
        assert_eq!(cache.get(NodeIndex(index)), wanted, "node {index}");
    }
    cache.fill(u64::MAX, &file, |node| bits.has_node(node));
    cache.fill(1, &[], |node| bits.has_node(node));
    bits.clear_from(0);
}

#[test]
fn pages_longest_out_of_use_go_first() {
    let mut cache = NodeCache::new();
    (0..10).for_each(|page| cache.insert(node(page * 128 + 127)));
    let one = cache.bytes() / 10;
    assert!((CACHE_PAGE_BYTES..CACHE_PAGE_BYTES + 200).contains(&one), "{one} bytes a page");
    assert!(cache.get(NodeIndex(127)).is_some());
    cache.evict_to(2 * one);
    let left: Vec<u64> =
        (0..10).filter(|page| cache.get(NodeIndex(page * 128 + 127)).is_some()).collect();
    assert_eq!(left, [0, 9]);
    cache.evict_to(0);
    assert_eq!(cache.bytes(), 0);
}

#[test]
fn a_few_nodes_take_little_memory() {
    let mut cache = NodeCache::new();
    (0..3).for_each(|index| cache.insert(node(index)));
    assert!(cache.bytes() < 300, "{} bytes", cache.bytes());
}
