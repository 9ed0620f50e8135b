//! Our program, `multifeed`, built for the tests that run it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The program's file, built by the first call in the profile and target directory of the test.
///
/// The environment variable `MULTIFEED_PROGRAM` names another one.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("MULTIFEED_PROGRAM") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

/// A command that runs the program with `arguments`, apart from the caller's key and settings.
pub fn multifeed(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).env_remove("MULTIFEED_KEY").env("RUST_BACKTRACE", "1");
    command
}

fn build() -> PathBuf {
    // <target>/<profile>/deps/<test> or <target>/<profile>/<program>
    let this = std::env::current_exe().expect("a program knows its file");
    let profile = this
        .ancestors()
        .skip(1)
        .find(|directory| !directory.ends_with("deps"))
        .expect("cargo builds into <target>/<profile>");
    let name = match profile.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--package", "multifeed-cli", "--bin", "multifeed", "--profile", name])
        .args(["--quiet", "--message-format", "json", "--target-dir"])
        .arg(profile.parent().expect("cargo builds into <target>/<profile>"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs where its tests run");
    assert!(output.status.success(), "the program `multifeed` does not build");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "multifeed")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the program that it built")
}
