//! What the documents promise is shown by tests that exist.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The names of all tests in the Rust files below `folder`.
fn tests(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut lines = text.lines().map(str::trim_start).peekable();
            while let Some(line) = lines.next() {
                if !(line.starts_with("#[test]")
                    || line.contains("::test]")
                    || line.contains("::test("))
                {
                    continue;
                }
                // Other attributes may stand between.
                while lines.peek().is_some_and(|line| line.starts_with("#[")) {
                    lines.next();
                }
                let function = lines.next().unwrap_or_default();
                let name = function.split("fn ").nth(1).and_then(|rest| rest.split('(').next());
                names.extend(name.map(str::to_owned));
            }
            // Tests within `proptest!` have their arguments drawn.
            let drawn = text.split("#[test]").skip(1).filter_map(|rest| rest.split("fn ").nth(1));
            names.extend(drawn.filter_map(|rest| rest.split('(').next()).map(str::to_owned));
        }
    }
}

/// All tests of the repository; scenarios are tests of every adapter by their names.
fn all_tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for crate_ in [
        "multifeed-proto",
        "multifeed-core",
        "multifeed-driver",
        "multifeed-cli",
        "adapter-tokio",
        "adapter-async-std",
        "scenarios",
        "conformance",
    ] {
        for folder in ["src", "tests"] {
            let folder = root().join(crate_).join(folder);
            if folder.is_dir() {
                tests(&folder, &mut names);
            }
        }
    }
    names
}

#[test]
fn every_promise_names_a_test_and_every_test_it_names_exists() {
    let known = all_tests();
    let threats = fs::read_to_string(root().join("docs/threats.md")).unwrap();
    let mut rows = 0;
    for line in threats.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        if cells.len() != 2 || cells[0] == "promise" {
            continue;
        }
        let named: Vec<_> = cells[1].split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test: {line}");
        for name in named {
            assert!(known.contains(name), "there is no test {name}");
        }
        rows += 1;
    }
    assert!(rows >= 25, "{rows}");
    for name in threats
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.contains('_') && !name.contains(['/', '.']))
    {
        assert!(known.contains(name), "there is no test {name}");
    }
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    for document in
        ["SECURITY.md", "CONTRIBUTING.md", "README.md", "docs/threats.md", "docs/assumptions.md"]
    {
        let path = root().join(document);
        let text = fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with('#') {
                continue;
            }
            let target = path.parent().unwrap().join(link.split('#').next().unwrap());
            assert!(target.exists(), "{document} links to {link}");
        }
    }
}
