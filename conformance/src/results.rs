//! `RESULTS.md`: one row for each case of the JavaScript packages, and the matrix of implementations.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::matrix::{KINDS, Outcome};
use crate::upstream::cases;

/// The last part of a test's name, and what it says in the table.
const ROLES: [(&str, &str); 4] = [
    ("rust", "Rust"),
    ("rust_javascript", "Rust–JS"),
    ("javascript_rust", "JS–Rust"),
    ("rust_rust", "Rust–Rust"),
];

/// Where the table is.
#[must_use]
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md")
}

/// The tests that `cargo test` said to have run, and whether they went well.
#[must_use]
pub fn parse(output: &str) -> BTreeMap<String, bool> {
    let test = |line: &str| {
        let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
        match result {
            "ok" => Some((name.to_owned(), true)),
            "FAILED" => Some((name.to_owned(), false)),
            _ => None,
        }
    };
    output.lines().filter_map(test).collect()
}

/// The tests of the program that asks, as if all had gone well.
#[must_use]
pub fn own_tests() -> BTreeMap<String, bool> {
    let this = std::env::current_exe().unwrap();
    let output = Command::new(this).arg("--list").output().unwrap();
    let listing = String::from_utf8(output.stdout).unwrap();
    let tests = listing.lines().filter_map(|line| line.strip_suffix(": test"));
    tests.map(|test| (test.to_owned(), true)).collect()
}

/// Fails unless the committed file has this part.
///
/// # Panics
///
/// Then, with the first line that differs.
pub fn check(part: &str) {
    let committed = fs::read_to_string(path()).unwrap();
    for line in part.lines() {
        assert!(committed.lines().any(|found| found == line), "{UPDATE}; there is no line {line}");
    }
    assert!(committed.contains(part), "{UPDATE}; it has more lines, or other ones");
}

const UPDATE: &str = "RESULTS.md is written anew by: cargo run -p conformance --bin results";

/// The file. What is not in `tests`, which [`parse`] gave, did not run, and the file says so.
#[must_use]
pub fn render(tests: &BTreeMap<String, bool>) -> String {
    [&render_cases(tests), "\n", &render_matrix(tests)].concat()
}

/// The part with the cases.
#[must_use]
pub fn render_cases(tests: &BTreeMap<String, bool>) -> String {
    let mut text = String::from(HEAD);
    for case in cases() {
        let module = case.module();
        let ran: Vec<(&str, bool)> = ROLES
            .iter()
            .filter_map(|(role, shown)| {
                tests.get(&format!("{module}::{role}")).map(|well| (*shown, *well))
            })
            .collect();
        let roles: Vec<&str> = ran.iter().map(|(role, _)| *role).collect();
        let failed: Vec<&str> =
            ran.iter().filter(|(_, well)| !well).map(|(role, _)| *role).collect();
        let outcome = match (ran.is_empty(), failed.is_empty()) {
            (true, _) => "not run".to_owned(),
            (false, true) if case.opposite() => "as noted".to_owned(),
            (false, true) if case.difference.is_empty() => "pass".to_owned(),
            (false, true) => "pass, as noted".to_owned(),
            (false, false) => format!("**fail**: {}", failed.join(", ")),
        };
        let (family, file, number, name) = (case.family, case.file, case.number, case.name);
        let (roles, difference) = (roles.join(", "), case.difference);
        writeln!(
            text,
            "| {family} | {file} | {number} | {name} | {roles} | {outcome} | {difference} |"
        )
        .expect("text grows");
    }
    text
}

/// The part with the matrix.
#[must_use]
pub fn render_matrix(tests: &BTreeMap<String, bool>) -> String {
    let mut text = String::from(MATRIX);
    for (live, module) in [(true, "live"), (false, "not_live")] {
        let title = if live { "Live" } else { "Not live" };
        write!(text, "\n| {title} |").expect("text grows");
        for two in KINDS {
            write!(text, " {two} |").expect("text grows");
        }
        text.push_str("\n|---|---|---|---|---|---|\n");
        for one in KINDS {
            write!(text, "| {one} |").expect("text grows");
            for two in KINDS {
                let test = format!("{}::{}::{module}", one.module(), two.module());
                let cell = match tests.get(&test) {
                    Some(true) => Outcome::of(one, two, live).to_string(),
                    Some(false) => "**fail**".to_owned(),
                    None => "not run".to_owned(),
                };
                write!(text, " {cell} |").expect("text grows");
            }
            text.push('\n');
        }
    }
    text
}

const HEAD: &str = "\
# Results

Written by `cargo run -p conformance --bin results` from the tests that it ran; not to be edited by hand.

## The JavaScript packages' own test cases

Every case of the tests of hypermultifeed 1.1.0 and multifeed 6.0.0, in the words there, with Rust in the place of one side
or both and the real npm package on the other (`tests/upstream`). Rust–JS: Rust is the first side of the case, which
connects; where the sides share a folder, it opens it first. Rust: a case of one side; where files are left, JavaScript
reads them too. Connections are TCP, and nothing is in memory but slow storage. \"pass\": the tests
assert what the case does. \"pass, as noted\": the same, in the way that the note says. \"as noted\": they assert what the note
says in place of something that the case wants.

| package | file | # | case | ran as | outcome | difference |
|---|---|---|---|---|---|---|
";

const MATRIX: &str = "\
## Every implementation with every other

`tests/matrix.rs`: the row connects, the column accepts; both have writers, one of them empty. \"same\": both end with the
same feeds and blocks, byte for byte, in memory and as read from their files afterwards; \"ends\": the connection ends by
itself, \"stays\": blocks that are appended then still arrive; \"nothing\": neither hears the other, each fails after its timeout (multifeed 6 speaks another
dialect than the other two), and nothing is exchanged.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_run_is_not_said_to_pass() {
        let nothing = render(&BTreeMap::new());
        assert!(!nothing.contains("| pass") && !nothing.contains("| same, "), "{nothing}");
        assert_eq!(nothing.matches("|  | not run |").count(), 59);
        let output = "test hm::basic::no_feeds::rust ... FAILED\ntest other ... ignored\n";
        let tests = parse(output);
        assert_eq!(tests.len(), 1);
        assert!(render(&tests).contains("| no feeds | Rust | **fail**: Rust |"));
    }
}
