//! Replays the kept inputs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use multifeed_proto::fuzzing::{NEW, Reached};

use crate::floor::FLOOR;
use crate::{TARGETS, Target, find, run};

/// Memory is counted for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

fn seeds(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let entries = std::fs::read_dir(&folder).expect("a folder of kept inputs");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn replay(target: &Target) -> Reached {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut reached = Reached::default();
    let begin = Instant::now();
    let paths = seeds(target.name);
    for path in &paths {
        println!("{}", path.display());
        run(target, &std::fs::read(path).expect("a kept input"), &mut reached);
    }
    println!("{}: {} inputs in {:?}", target.name, paths.len(), begin.elapsed());
    reached
}

fn check(name: &str) {
    let reached = replay(find(name).expect("a target of this name"));
    let (_, floor) = FLOOR.iter().find(|(target, _)| *target == name).expect("a floor for it");
    let missed: Vec<_> = floor.iter().filter(|name| !reached.0.contains(*name)).collect();
    assert!(!reached.0.contains(NEW), "{name} reaches {NEW}: it belongs into reached.rs");
    assert!(missed.is_empty(), "no kept input of {name} reaches {missed:?}");
}

/// A test for each target.
macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        #[test]
        fn every_target_is_replayed() {
            let replayed: BTreeSet<_> = [$(stringify!($name)),*].into();
            let all: BTreeSet<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(replayed, all);
        }
    };
}

targets!(frames messages wire rle json connection node store proofs text files);

/// For a single input: `INPUT=PATH TARGET=NAME cargo test … one_input -- --ignored`.
#[test]
#[ignore = "needs the path of an input"]
fn one_input() {
    let var = |name| std::env::var(name).expect("INPUT and TARGET in the environment");
    let mut reached = Reached::default();
    let data = std::fs::read(var("INPUT")).expect("an input");
    run(find(&var("TARGET")).expect("a target of this name"), &data, &mut reached);
    println!("{reached:?}");
}

/// Without a fuzzer: `TARGET=NAME COUNT=N cargo test … random_inputs -- --ignored`.
#[test]
#[ignore = "needs the name of a target"]
fn random_inputs() {
    let var =
        |name| std::env::var(name).expect("TARGET, COUNT and perhaps SEED in the environment");
    let target = find(&var("TARGET")).expect("a target of this name");
    let count: u64 = var("COUNT").parse().expect("a number");
    let first: u64 = std::env::var("SEED").map_or(0, |seed| seed.parse().expect("a number"));
    let mut reached = Reached::default();
    let begin = Instant::now();
    for seed in first..first + count {
        println!("SEED={seed}");
        run(target, &random(seed), &mut reached);
    }
    println!("{count} inputs in {:?}: {reached:?}", begin.elapsed());
}

/// SplitMix64.
fn random(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let len = next() % 300;
    (0..len).map(|_| next() as u8).collect()
}
