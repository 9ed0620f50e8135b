//! The set of blocks against a plain one, and its bounds.

use alloc::vec::Vec;

use super::*;

/// A small generator, so that a failure can be replayed from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % n
    }
}

#[test]
fn it_agrees_with_a_plain_set_under_random_operations() {
    const TOP: u64 = 4 * PAGE_BLOCKS;
    for seed in 0..40 {
        let mut random = Random(seed);
        let mut blocks = RemoteBlocks::default();
        let mut model = [false; 2 * TOP as usize];
        for step in 0..30 {
            let edge = [1, 63, 64, PAGE_BLOCKS, 2 * PAGE_BLOCKS, TOP][random.below(6) as usize];
            let mut start = random.below(TOP);
            if random.below(3) == 0 {
                start -= start % PAGE_BLOCKS;
            }
            let end = (start + 1 + random.below(edge)).min(TOP);
            match random.below(5) {
                0 | 1 => {
                    blocks.insert(start..end);
                    model[start as usize..end as usize].fill(true);
                }
                2 | 3 => {
                    blocks.remove(start..end);
                    model[start as usize..end as usize].fill(false);
                }
                _ => {
                    let start = start - start % 8;
                    let bytes: Vec<u8> = (0..1 + random.below(1500))
                        .map(|_| [0, 0xff, random.below(256) as u8][random.below(3) as usize])
                        .collect();
                    blocks.insert_bits(start, &bytes);
                    for bit in 0..bytes.len() * 8 {
                        if bytes[bit / 8] & (0x80 >> (bit % 8)) != 0 {
                            model[start as usize + bit] = true;
                        }
                    }
                }
            }
            let count = model.iter().filter(|set| **set).count() as u64;
            assert_eq!(blocks.count(), count, "seed {seed} step {step}");
            for _ in 0..10 {
                let start = random.below(TOP);
                let end = start + random.below(edge) + 1;
                let part = &model[start as usize..end as usize];
                let place = (seed, step, start, end);
                let first = part.iter().position(|set| *set).map(|at| start + at as u64);
                assert_eq!(blocks.first_in(start..end), first, "{place:?}");
                assert_eq!(blocks.contains(start), part[0], "{place:?}");
                assert_eq!(blocks.contains_all(start..end), part.iter().all(|set| *set));
                let run = first.map(|first| {
                    let rest = &part[(first - start) as usize..];
                    first..first + rest.iter().take_while(|set| **set).count() as u64
                });
                assert_eq!(blocks.run_in(start..end), run, "{place:?}");
            }
        }
    }
}

#[test]
fn a_huge_announcement_costs_one_entry_and_its_ends() {
    let mut blocks = RemoteBlocks::default();
    blocks.insert(5..u64::MAX);
    assert_eq!(blocks.count(), MAX_BLOCKS - 5);
    assert_eq!(blocks.bytes(), 2 * ENTRY);
    assert!(!blocks.contains(4));
    assert!(blocks.contains(MAX_BLOCKS - 1));
    assert!(!blocks.contains(MAX_BLOCKS));
    assert!(blocks.contains_all(5..MAX_BLOCKS));
    assert_eq!(blocks.first_in(0..u64::MAX), Some(5));
    blocks.remove(0..u64::MAX);
    assert_eq!(blocks, RemoteBlocks::default());
}

#[test]
fn memory_is_counted_by_runs_and_by_pages_with_gaps() {
    let mut blocks = RemoteBlocks::default();
    for page in 0..1000 {
        blocks.insert(2 * page * PAGE_BLOCKS..2 * page * PAGE_BLOCKS + 1);
    }
    assert_eq!(blocks.bytes(), 1000 * ENTRY);
    for page in 0..1000 {
        blocks.insert(2 * page * PAGE_BLOCKS + 2..2 * page * PAGE_BLOCKS + 3);
    }
    assert_eq!(blocks.bytes(), 1000 * (ENTRY + size_of::<Bits>()));
    blocks.insert(0..2000 * PAGE_BLOCKS);
    assert_eq!(blocks.bytes(), ENTRY);
    for page in 0..100 {
        blocks.remove(page * PAGE_BLOCKS + 7..page * PAGE_BLOCKS + 8);
    }
    assert_eq!(blocks.bytes(), 101 * ENTRY + 100 * size_of::<Bits>());
    blocks.clear();
    assert_eq!(blocks.bytes(), 0);
}

#[test]
fn a_prefix_of_a_log_is_kept_as_a_run_also_when_it_comes_as_bits() {
    let mut blocks = RemoteBlocks::default();
    blocks.insert_bits(0, &[0xff, 0xff, 0xe0, 0]);
    let mut same = RemoteBlocks::default();
    same.insert(0..19);
    assert_eq!(blocks, same);
    assert!(matches!(blocks.pages[&0], Page::Run(0, 19)));
}
