//! Who may read what the program leaves on the disk, and what it makes of a folder with links and pipes in it.
#![cfg(unix)]
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use util::{Ended, Folder, OTHER_KEY, Running, ended, run};

const LAYOUTS: [&str; 2] = ["corestore", "numbered"];

/// All files and folders in a folder.
fn all(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut next) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(path) = next.pop() {
        if path.is_dir() && !path.is_symlink() {
            next.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.push(path);
    }
    found.sort();
    found
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Runs the program under a mask of modes.
fn under_mask(mask: &str, arguments: &[&str]) -> Ended {
    let mut command = Command::new("sh");
    command.args(["-c", "umask $0 && exec \"$@\"", mask, env!("CARGO_BIN_EXE_multifeed")]);
    command.args(arguments).env_remove("MULTIFEED_KEY").stdin(Stdio::null());
    ended(command.output().unwrap())
}

/// No file that others may read holds a secret, and they may not even enter the folders.
fn keeps_secrets(store: &Path) {
    let secret = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        let holds = bytes.windows(OTHER_KEY.len()).any(|part| part == OTHER_KEY.as_bytes());
        holds || path.ends_with("master_key") || path.ends_with("secret_key")
    };
    for path in all(store) {
        if path.is_dir() {
            assert_eq!(mode(&path), 0o700, "{}", path.display());
        } else if secret(&path) {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        } else {
            assert_eq!(mode(&path) & 0o022, 0, "{}", path.display());
        }
    }
}

#[test]
fn no_file_that_others_may_read_holds_a_key() {
    for mask in ["0", "022"] {
        for layout in LAYOUTS {
            let folder = Folder::new();
            let path = |name: &str| folder.path(name);
            let made = |name: &str, arguments: &[&str]| {
                under_mask(mask, arguments).good();
                keeps_secrets(&path(name));
            };
            let (a, b, c) = (folder.at("a"), folder.at("b"), folder.at("c"));
            made("a", &["init", &a, "--key", OTHER_KEY, "--layout", layout]);
            made("a", &["append", &a, "w", "one"]);
            let new = ["append", &b, "w", "one", "--no-save-key", "--layout", layout];
            made("b", &[&new[..], &["--key", OTHER_KEY]].concat());
            let (serving, address) = Running::serve(&a, &["--once"]);
            made("c", &["sync", &c, &address, "--key", OTHER_KEY, "--layout", layout]);
            serving.end().good();
            for to in LAYOUTS {
                let name = format!("new-{to}");
                made(&name, &["convert", &a, &folder.at(&name), "--layout", to]);
            }
        }
    }
}

#[test]
fn a_store_of_before_is_closed_to_others_when_it_is_written_to_or_repaired() {
    for command in ["append", "repair"] {
        let folder = Folder::new();
        let store = folder.at("store");
        run(["append", &store, "w", "one", "--key", OTHER_KEY]).good();
        for path in all(&folder.path("store")) {
            let mode = if path.is_dir() { 0o755 } else { 0o644 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let told = run(["verify", &store, "--json"]).good().lines().pop().unwrap();
        assert!(told["notes"].to_string().contains("open-to-others"), "{told}");
        match command {
            "append" => run(["append", &store, "w", "two"]).good(),
            _ => run(["verify", &store, "--repair"]).good(),
        };
        for path in all(&folder.path("store")) {
            if path.is_file()
                && fs::read(&path).unwrap().windows(64).any(|it| it == OTHER_KEY.as_bytes())
            {
                assert_eq!(mode(&path), 0o600, "{command} {}", path.display());
            }
        }
        assert_eq!(mode(&folder.path("store/master_key")), 0o600);
        let told = run(["verify", &store, "--json"]).good().lines().pop().unwrap();
        assert_eq!(told["findings"], serde_json::json!([]));
    }
}

/// Ends by itself, or at a signal: never for want of the other end of a pipe.
fn ends_at_a_signal(mut command: Command) {
    let mut running = command.spawn().unwrap();
    let id = running.id().to_string();
    for _ in 0..600 {
        if running.try_wait().unwrap().is_some() {
            return;
        }
        Command::new("kill").args(["-TERM", &id]).status().unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = running.kill();
    panic!("it goes on for ever");
}

#[test]
fn a_pipe_in_place_of_a_file_keeps_no_command_from_ending() {
    let folder = Folder::new();
    let (store, pipe) = (folder.at("store"), folder.at("pipe"));
    run(["append", &store, "w", "one", "--key", OTHER_KEY]).good();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    ends_at_a_signal(util::command(["feeds", &store, "--key-file", &pipe]));
    ends_at_a_signal(util::command(["verify", &store, "--key-file", &pipe]));
    ends_at_a_signal(util::command(["append", &store, "w", "--file", &pipe]));
    let serve = ["serve", &store, "--listen", "127.0.0.1:0", "--identity", &pipe];
    ends_at_a_signal(util::command(serve));
    for name in ["root_key", "master_key", "multifeed.lock", "multifeed.blocked"] {
        let copy = folder.at(&format!("copy-{name}"));
        assert!(Command::new("cp").args(["-r", &store, &copy]).status().unwrap().success());
        let place = Path::new(&copy).join(name);
        let _ = fs::remove_file(&place);
        assert!(Command::new("mkfifo").arg(&place).status().unwrap().success());
        // These end by themselves.
        let end = run(["append", &copy, "w", "two", "--json", "--key", OTHER_KEY]);
        assert_eq!(end.code, Some(1), "{name} {end:?}");
        run(["verify", &copy, "--json", "--key", OTHER_KEY]);
        run(["feeds", &copy, "--json", "--key", OTHER_KEY]);
    }
}

#[test]
fn a_key_file_may_be_a_pipe_or_a_link() {
    let folder = Folder::new();
    let store = folder.at("store");
    run(["append", &store, "w", "one", "--key", OTHER_KEY, "--no-save-key"]).good();
    fs::write(folder.path("key"), OTHER_KEY).unwrap();
    symlink(folder.path("key"), folder.path("link")).unwrap();
    run(["feeds", &store, "--key-file", &folder.at("link")]).good();
    let script = "printf %s \"$2\" | \"$0\" feeds \"$1\" --key-file /dev/stdin";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_multifeed"), &store, OTHER_KEY]);
    ended(command.output().unwrap()).good();
    let mut endless = util::command(["feeds", &store, "--key-file", "/dev/zero"]);
    assert_eq!(endless.status().unwrap().code(), Some(1));
}

#[test]
fn nothing_outside_of_a_store_is_written_or_read_through_links_in_it() {
    for layout in LAYOUTS {
        let folder = Folder::new();
        let store = folder.at("store");
        run(["append", &store, "w", "one", "--key", OTHER_KEY, "--layout", layout]).good();
        let files: Vec<PathBuf> = all(&folder.path("store"))
            .into_iter()
            .filter(|path| *path != folder.path("store"))
            .collect();
        for (number, path) in files.iter().enumerate() {
            for dangling in [false, true] {
                let copy = folder.at(&format!("copy-{number}-{dangling}"));
                assert!(Command::new("cp").args(["-r", &store, &copy]).status().unwrap().success());
                let place = Path::new(&copy).join(path.strip_prefix(&store).unwrap());
                let outside = folder.path(&format!("outside-{number}-{dangling}"));
                if dangling {
                    if place.is_dir() {
                        fs::remove_dir_all(&place).unwrap();
                    } else {
                        fs::remove_file(&place).unwrap();
                    }
                } else {
                    fs::rename(&place, &outside).unwrap();
                }
                symlink(&outside, &place).unwrap();
                let before: Vec<_> = if dangling { Vec::new() } else { snapshot(&outside) };
                for arguments in [
                    vec!["feeds", &copy],
                    vec!["cat", &copy, "w"],
                    vec!["verify", &copy],
                    vec!["verify", &copy, "--repair"],
                    vec!["append", &copy, "w", "two"],
                    vec!["append", &copy, "other", "two"],
                ] {
                    run(arguments.iter().chain(&["--key", OTHER_KEY]));
                }
                assert_eq!(outside.exists(), !dangling, "{}", path.display());
                assert!(dangling || snapshot(&outside) == before, "{}", path.display());
            }
        }
    }
}

fn snapshot(path: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let bytes = |path: &PathBuf| if path.is_dir() { Vec::new() } else { fs::read(path).unwrap() };
    all(path).into_iter().map(|path| (path.clone(), mode(&path), bytes(&path))).collect()
}
