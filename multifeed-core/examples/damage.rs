//! Every file of a store damaged in every way, and what each command makes of it; see `docs/proofs.md`.
//!
//! `cargo run --release -p multifeed-core --example damage`, with `--only TEXT` for what is wrong and has this
//! text in its line; `--every N` tries every so many cells.
#![allow(missing_docs)]

#[path = "../tests/proofs/mod.rs"]
mod proofs;

use std::process::ExitCode;

use proofs::cells::{Cells, judged};
use proofs::damage::World;
use proofs::scenarios::LAYOUTS;

fn main() -> ExitCode {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut every, mut only) = (1, String::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        match (argument.as_str(), value.parse::<usize>()) {
            ("--only", _) => only = value,
            ("--every", Ok(number)) => every = number,
            _ => {
                eprintln!("{argument} {value} is not known");
                return ExitCode::FAILURE;
            }
        }
    }
    // What is wrong is said in the end; a node that panics says it there, too.
    std::panic::set_hook(Box::new(|_| {}));
    let mut all = Cells::default();
    for layout in LAYOUTS {
        let cells = judged(&World::new(layout), every, threads);
        println!("{layout:?}\n{cells}");
        all.join(cells);
    }
    all.wrong.iter().filter(|line| line.contains(&only)).for_each(|line| println!("{line}"));
    println!("{} cells, {} of them wrong", all.all(), all.wrong.len());
    if all.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
