//! Many nodes under one clock, with everything going wrong: see `swarm/mod.rs`. The long run is a
//! command: `cargo run --release -p multifeed-core --example swarm -- --seeds 1000`.
#![allow(missing_docs)]

#[path = "swarm/mod.rs"]
mod swarm;

use swarm::{Setup, run};

#[track_caller]
fn passes(seed: u64, nodes: usize, seconds: u64) -> swarm::Report {
    let kind = Setup { seed, nodes, seconds, pace: 1, hostile: 0, failing: 0, verbose: false };
    goes_well(kind)
}

#[track_caller]
fn goes_well(setup: Setup) -> swarm::Report {
    match run(setup) {
        Ok(report) => report,
        Err(problem) => panic!("{problem}"),
    }
}

#[test]
fn a_swarm_comes_to_hold_the_same_after_everything_went_wrong() {
    for seed in 0..3 {
        let report = passes(seed, 10, 30);
        assert!(report.counts.crashes > 0 && report.counts.cuts > 0 && report.counts.blocks > 0);
    }
}

#[test]
fn a_swarm_of_hosts_with_policies_comes_to_hold_what_each_of_them_takes() {
    let counts = passes(100, 20, 20).counts;
    assert!(counts.questions > 0 && counts.answers > 0 && counts.forgotten > 0);
    assert!(counts.denied > 0 && counts.allowed > 0);
    assert!(counts.hidden > 0 && counts.partial > 0);
    assert!(counts.granted > 0 && counts.clears > 0);
}

#[test]
fn a_swarm_of_fifty_comes_to_hold_the_same() {
    passes(1000, 50, 10);
}

#[test]
fn a_swarm_with_hostile_hosts_and_a_failing_disk_comes_to_hold_the_same_beside_them() {
    let setup = Setup {
        seed: 2000,
        nodes: 10,
        seconds: 120,
        pace: 3,
        hostile: 2,
        failing: 1,
        verbose: false,
    };
    goes_well(setup);
}

#[test]
fn a_swarm_with_the_same_seed_does_the_same() {
    let first = passes(7, 8, 20);
    assert_eq!(first, passes(7, 8, 20));
    assert_ne!(first.trace, passes(8, 8, 20).trace);
}
