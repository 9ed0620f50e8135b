//! Simulated swarms, one for each seed: many nodes under one virtual clock, with everything going wrong.
//!
//! `cargo run --release -p multifeed-core --example swarm -- --seeds 1000 [--nodes 50] [--seconds 30]`, or
//! `--seed N` for one of them, with `--trace` to see what happens; `--from N` begins later. A day of thirty nodes, two of
//! them hostile, one with a failing disk: `--nodes 30 --seconds 86400 --pace 60 --hostile 2 --failing 1`.
#![allow(missing_docs)]

#[path = "../tests/swarm/mod.rs"]
mod swarm;

use std::process::ExitCode;

use swarm::{Setup, run};

fn main() -> ExitCode {
    let mut setup =
        Setup { seed: 0, nodes: 50, seconds: 30, pace: 1, hostile: 0, failing: 0, verbose: false };
    let (mut seeds, mut from) = (1, 0);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--trace" {
            setup.verbose = true;
            continue;
        }
        let Some(value) = arguments.next().and_then(|value| value.parse::<u64>().ok()) else {
            eprintln!("{argument} needs a number");
            return ExitCode::FAILURE;
        };
        match argument.as_str() {
            "--seeds" => seeds = value,
            "--seed" | "--from" => from = value,
            "--nodes" => setup.nodes = (value as usize).max(2),
            "--seconds" => setup.seconds = value,
            "--pace" => setup.pace = value.max(1),
            "--hostile" => setup.hostile = value as usize,
            "--failing" => setup.failing = value as usize,
            _ => {
                eprintln!("{argument} is not known");
                return ExitCode::FAILURE;
            }
        }
    }
    let (mut failed, mut blocks, mut slowest) = (Vec::new(), 0, 0);
    for seed in from..from + seeds {
        match run(Setup { seed, ..setup }) {
            Ok(report) => {
                let counts = report.counts;
                println!(
                    "seed {seed}: {:016x}, converged in {} s; {} blocks stored, {} appends refused, {} connections, {} cuts, {} crashes, {} restarts, {} bad disks, {} times in sync, {} steps; asked {} times, answered {}, forgot {}; {} feeds denied, {} allowed later, {} hidden, {} partial; {} wishes, {} granted, {} clears",
                    report.trace,
                    report.converged,
                    counts.blocks,
                    counts.refused,
                    counts.connections,
                    counts.cuts,
                    counts.crashes,
                    counts.restarts,
                    counts.faults,
                    counts.in_sync,
                    counts.steps,
                    counts.questions,
                    counts.answers,
                    counts.forgotten,
                    counts.denied,
                    counts.allowed,
                    counts.hidden,
                    counts.partial,
                    counts.wishes,
                    counts.granted,
                    counts.clears,
                );
                blocks += counts.blocks;
                slowest = slowest.max(report.converged);
            }
            Err(problem) => {
                println!("{problem}");
                failed.push(seed);
            }
        }
    }
    println!(
        "{} of {seeds} swarms of {} nodes went well; {blocks} blocks stored; converged in {slowest} s at most; failed: {failed:?}",
        seeds - failed.len() as u64,
        setup.nodes,
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
