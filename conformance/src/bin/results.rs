//! Runs the cases of the JavaScript packages and the matrix of implementations, and writes `RESULTS.md`.
//!
//! `cargo run -p conformance --bin results`; takes about two minutes. Its exit status is that of the tests.

#![allow(clippy::unwrap_used, reason = "a command fails by panicking")]

use std::fs;
use std::process::{Command, ExitCode, Stdio};

use conformance::results;

fn main() -> ExitCode {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "--package", "conformance", "--no-fail-fast"])
        .args(["--test", "upstream", "--test", "matrix"])
        // The tests of the file that is about to be written.
        .args(["--", "--skip", "committed_results"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    let text = String::from_utf8(output.stdout).unwrap();
    print!("{text}");
    let tests = results::parse(&text);
    assert!(!tests.is_empty(), "no test ran");
    fs::write(results::path(), results::render(&tests)).unwrap();
    println!("wrote {}", results::path().display());
    if output.status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
