//! Stores cut off at every moment, with and without a loss of power; see `docs/proofs.md`.
//!
//! `cargo run --release -p multifeed-core --example crashes -- --states 50000 [--seed N] [--every N] [--threads N]`;
//! `--promised 1` leaves out states for which nothing was promised; `--replay STATE` tries one state, as it is named
//! where it is wrong.
#![allow(missing_docs)]

#[path = "../tests/proofs/mod.rs"]
mod proofs;

use std::process::ExitCode;

use proofs::table::{Plan, attempt, judged, parse};
use proofs::{cut, scenarios};

/// States that are named where they are wrong.
const SHOWN: usize = 40;

fn main() -> ExitCode {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut plan = Plan { states: 50_000, seed: 1, every: 1, promised: false, threads };
    let mut replay = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let number = value.parse::<u64>();
        match (argument.as_str(), number) {
            ("--replay", _) => replay = Some(value),
            ("--states", Ok(states)) => plan.states = states as usize,
            ("--seed", Ok(seed)) => plan.seed = seed,
            ("--every", Ok(every)) => plan.every = every as usize,
            ("--promised", Ok(only)) => plan.promised = only != 0,
            ("--threads", Ok(threads)) => plan.threads = threads as usize,
            _ => {
                eprintln!("{argument} {value} is not known");
                return ExitCode::FAILURE;
            }
        }
    }
    let recordings = scenarios::all();
    if let Some(replay) = replay {
        let Some((at, cut)) = parse(&replay).filter(|(at, _)| *at < recordings.len()) else {
            eprintln!("no such state: {replay}");
            return ExitCode::FAILURE;
        };
        return one(&recordings[at], cut);
    }
    // What is wrong is said in the end; a node that panics says it there, too.
    std::panic::set_hook(Box::new(|_| {}));
    let table = judged(&recordings, plan);
    println!("{table}");
    table.wrong.iter().take(SHOWN).for_each(|wrong| println!("{wrong}"));
    println!("{} states, {} wrong, seed {}", table.states(), table.wrong(), plan.seed);
    if table.wrong() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(recording: &proofs::record::Recording, cut: cut::Cut) -> ExitCode {
    println!("{} {cut}", cut::name(recording));
    for (at, effect) in recording.journal.effects().iter().enumerate().take(cut.effects + 1) {
        println!("{at:>5} {} {}", effect.op.doing(), effect.op.path());
    }
    let memory = cut::state(recording, cut);
    for path in memory.paths() {
        println!("{path}: {} bytes", memory.contents(path).map_or(0, |bytes| bytes.len()));
    }
    match attempt(recording, cut) {
        Ok(()) => {
            println!("right");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            println!("wrong: {problem}");
            ExitCode::FAILURE
        }
    }
}
