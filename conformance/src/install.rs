//! Node, and the npm packages of `js/`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use fs4::fs_std::FileExt;

/// The folder of the JavaScript programs, with its packages installed.
///
/// The first call installs them (`npm ci`), other processes of the same test run wait for it.
///
/// # Panics
///
/// With one line that says what is missing and how to leave these tests out.
pub(crate) fn javascript() -> &'static Path {
    static DIRECTORY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match DIRECTORY.get_or_init(install) {
        Ok(directory) => directory,
        Err(problem) => panic!("{problem}"),
    }
}

/// The program `js/mux.js`, with its packages installed.
#[must_use]
pub fn mux_program() -> PathBuf {
    javascript().join("mux.js")
}

fn install() -> Result<PathBuf, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("js");
    require("node")?;
    let lock =
        File::create(directory.join(".install-lock")).map_err(|e| format!("{LEAVE}: {e}"))?;
    FileExt::lock_exclusive(&lock).map_err(|e| format!("{LEAVE}: {e}"))?;
    let wanted =
        fs::read(directory.join("package-lock.json")).map_err(|e| format!("{LEAVE}: {e}"))?;
    let stamp = directory.join("node_modules/.installed-from");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(directory);
    }
    require("npm")?;
    // Once more, because a registry may fail a single request.
    npm_ci(&directory).or_else(|_| npm_ci(&directory))?;
    fs::write(stamp, wanted).map_err(|e| format!("{LEAVE}: {e}"))?;
    Ok(directory)
}

fn require(program: &str) -> Result<(), String> {
    let found = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match found {
        Ok(status) if status.success() => Ok(()),
        Ok(_) | Err(_) => Err(format!("`{program}` does not run here (Node 16 or later); {LEAVE}")),
    }
}

fn npm_ci(directory: &Path) -> Result<(), String> {
    eprintln!("installing the JavaScript packages (npm ci in {})", directory.display());
    let output = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("npm does not start: {e}; {LEAVE}"))?;
    if output.status.success() {
        return Ok(());
    }
    let problem = String::from_utf8_lossy(&output.stderr).replace('\n', " | ");
    Err(format!("npm ci failed in {}: {problem}; {LEAVE}", directory.display()))
}

const LEAVE: &str = "the conformance tests need Node and the npm packages of conformance/js; \
                     leave them out with: cargo test --workspace --exclude conformance";
