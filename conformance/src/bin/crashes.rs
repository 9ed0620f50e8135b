//! Opens in the JavaScript what crashes leave of stores: a sample of the states that
//! `cargo run --release -p multifeed-core --example crashes` judges.
//!
//! `cargo run --release -p conformance --bin crashes -- [--sample 24] [--seed 1] [--replay STATE]`: so many states of
//! each scenario, layout and durability, drawn by the seed. The JavaScript must open the files as they are (of a
//! repair that was cut off, once it is repeated), find nothing that was never written, and all that was promised.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test program fails by panicking")]

#[path = "../../../multifeed-core/tests/proofs/mod.rs"]
mod proofs;

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use conformance::{Held, Store};
use multifeed_core::Layout;
use multifeed_core::storage::Memory;
use proofs::cut::{Cut, name, state};
use proofs::judge::{Check, is_promised};
use proofs::record::Recording;
use proofs::rng::Rng;
use proofs::scenarios::{self, Scenario};
use proofs::table::{Plan, message, parse, planned, replay};
use proofs::util::ROOT;
use proofs::verify::verified;

fn main() -> ExitCode {
    let (mut sample, mut seed, mut only) = (24, 1, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        match (argument.as_str(), value.parse::<u64>()) {
            ("--replay", _) => only = parse(&value),
            ("--sample", Ok(number)) => sample = number as usize,
            ("--seed", Ok(number)) => seed = number,
            _ => {
                eprintln!("{argument} {value} is not known");
                return ExitCode::FAILURE;
            }
        }
    }
    let recordings = scenarios::all();
    let drawn = only.map_or_else(|| draw(&recordings, sample, seed), |state| vec![state]);
    std::panic::set_hook(Box::new(|_| {}));
    let (mut counts, mut wrong) = (BTreeMap::<(usize, String), usize>::new(), 0);
    for (at, cut) in drawn {
        let recording = &recordings[at];
        let attempt = || opens(recording, cut);
        let verdict = catch_unwind(AssertUnwindSafe(attempt));
        if let Err(problem) = verdict.unwrap_or_else(|panic| Err(message(&*panic))) {
            wrong += 1;
            println!("{} {cut} (--replay {}): {problem}", name(recording), replay(at, cut));
        }
        *counts.entry((recording.scenario as usize, name(recording))).or_default() += 1;
    }
    counts.iter().for_each(|((_, name), count)| println!("{name:<37} {count:>5}"));
    let all: usize = counts.values().sum();
    println!("{all} states opened in the JavaScript, {wrong} wrong, seed {seed}");
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// So many states of each row of the table.
fn draw(recordings: &[Recording], sample: usize, seed: u64) -> Vec<(usize, Cut)> {
    let plan = Plan { states: 1, seed, every: 1, promised: true, threads: 1 };
    let mut rows = BTreeMap::<(usize, String), Vec<(usize, Cut)>>::new();
    for (at, cut) in planned(recordings, plan) {
        let recording = &recordings[at];
        // A conversion that was cut off has made no store.
        let whole = cut.effects == recording.journal.effects().len();
        if recording.scenario != Scenario::Convert || whole {
            rows.entry((recording.scenario as usize, name(recording))).or_default().push((at, cut));
        }
    }
    let mut rng = Rng::new(seed);
    let mut drawn = Vec::new();
    for mut row in rows.into_values() {
        for _ in 0..sample.min(row.len()) {
            drawn.push(row.swap_remove(rng.below(row.len())));
        }
    }
    drawn
}

fn opens(recording: &Recording, cut: Cut) -> Check {
    let mut memory = state(recording, cut);
    if recording.scenario == Scenario::Repair {
        memory = verified(&memory, true)?.1;
    }
    let store = Store::new(&ROOT.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    write(&store, &memory);
    let mut peer = match recording.layout {
        Layout::Corestore => store.javascript(),
        Layout::Numbered => store.multifeed6(),
    };
    let found = peer.contents();
    peer.close();
    let promise = &recording.promised(cut.effects).promise;
    let promised = is_promised(recording, cut);
    for (key, truth) in &recording.truth {
        let name = &key.to_hex()[..8];
        let there = found.get(&key.to_hex());
        let kept_out = promise.blocked.contains(key);
        let held = promise.held.get(key).filter(|_| promised && !kept_out);
        let Some(there) = there else {
            match held {
                Some(_) => return Err(format!("the feed {name} is not there")),
                None => continue,
            }
        };
        let blocks: Vec<u64> = there.ranges.iter().flat_map(|&(a, b)| a..b).collect();
        let written = blocks.iter().all(|at| (*at as usize) < truth.len());
        let expected =
            || Held::some(there.length, blocks.iter().map(|at| (*at, &truth[*at as usize])));
        if !written || *there != expected() {
            return Err(format!("feed {name}: blocks that were never written: {there:?}"));
        }
        let lost = held.into_iter().flatten().enumerate();
        let lost = lost.filter(|(_, held)| **held).find(|(at, _)| !blocks.contains(&(*at as u64)));
        if let Some((at, _)) = lost {
            return Err(format!("feed {name}: block {at} is lost"));
        }
    }
    Ok(())
}

fn write(store: &Store, memory: &Memory) {
    for path in memory.paths() {
        let file = store.path().join(path.as_str());
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, memory.contents(path).unwrap()).unwrap();
    }
}
