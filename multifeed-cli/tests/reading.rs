//! Commands that read work where nothing may be written: on read-only media, without rights, without `master_key`,
//! beside a program that has the store open. And they write nothing.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod util;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use util::{Ended, Folder, Running, contents, ended, run, saved_key};

const LAYOUTS: [&str; 2] = ["corestore", "numbered"];

/// A store with a writer `mine` of two blocks, and a feed of somebody else with three.
fn store(folder: &Folder, layout: &str) -> String {
    let (store, other) = (folder.at("store"), folder.at("other"));
    run(["init", &other]).good();
    run(["append", &other, "theirs", "one", "two", "three"]).good();
    let key = saved_key(&folder.path("other"));
    run(["init", &store, "--layout", layout, "--key", &key]).good();
    run(["append", &store, "mine", "first", "second"]).good();
    let (serving, address) = Running::serve(&other, &["--once"]);
    run(["sync", &store, &address]).good();
    serving.end().good();
    store
}

/// Everything about every file in a folder.
fn everything(folder: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, u64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut next = vec![folder.to_path_buf()];
    while let Some(path) = next.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        let bytes = if about.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        if about.is_dir() {
            next.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let (seconds, nanoseconds) = (about.mtime(), about.mtime_nsec());
        found.insert(path, (about.mode(), seconds, nanoseconds, about.ino(), bytes));
    }
    found
}

/// Listing, reading, checking and converting, with the program run by `run`.
fn read_all(run: impl Fn(&[&str]) -> Ended, store: &str, new: &str, key: &str) {
    let listed = run(&["feeds", store, "--json", "--key", key]).good().lines().remove(0);
    let names: Vec<_> =
        listed["feeds"].as_array().unwrap().iter().map(|feed| &feed["name"]).collect();
    assert_eq!(names.len(), 2, "{listed}");
    let mine = listed["feeds"].as_array().unwrap().iter().find(|feed| feed["length"] == 2).unwrap();
    let block = run(&["cat", store, mine["key"].as_str().unwrap(), "--key", key]).good();
    assert_eq!(block.text(), "firstsecond");
    run(&["verify", store, "--key", key]).good();
    for layout in LAYOUTS {
        let new = format!("{new}-{layout}");
        run(&["convert", store, &new, "--layout", layout, "--key", key]).good();
    }
}

fn plainly(arguments: &[&str]) -> Ended {
    run(arguments)
}

#[test]
fn commands_that_read_write_nothing() {
    for layout in LAYOUTS {
        let folder = Folder::new();
        let store = store(&folder, layout);
        let key = saved_key(&folder.path("store"));
        // As an earlier version and the JavaScript leave them.
        for path in everything(Path::new(&store)).keys() {
            let mode = if path.is_dir() { 0o755 } else { 0o644 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::remove_file(folder.path("store/multifeed.lock")).unwrap();
        let before = everything(Path::new(&store));
        read_all(plainly, &store, &folder.at("new"), &key);
        assert!(everything(Path::new(&store)) == before, "{layout}");
    }
}

/// Runs the program where `store` can only be read, by a mount that nobody else sees.
fn on_read_only_media(store: &str, arguments: &[&str]) -> Ended {
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script, store, env!("CARGO_BIN_EXE_multifeed")]);
    command.args(arguments).env_remove("MULTIFEED_KEY").stdin(Stdio::null());
    ended(command.output().unwrap())
}

fn can_mount() -> bool {
    let can = Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|it| it.success());
    if !can {
        println!("skipped: nothing can be mounted here");
    }
    can
}

#[test]
fn a_store_on_read_only_media_is_listed_read_checked_and_converted() {
    if !can_mount() {
        return;
    }
    for layout in LAYOUTS {
        let folder = Folder::new();
        let store = store(&folder, layout);
        let key = saved_key(&folder.path("store"));
        read_all(|args| on_read_only_media(&store, args), &store, &folder.at("new"), &key);
        let refused = on_read_only_media(&store, &["append", &store, "mine", "third", "--json"]);
        let error = refused.failed("ERR_READ_ONLY");
        assert!(error["advice"].as_str().unwrap().contains("copy"), "{error}");
        on_read_only_media(&store, &["verify", &store, "--repair", "--json"])
            .failed("ERR_READ_ONLY");
        assert_eq!(contents(&format!("{}-numbered", folder.at("new"))), contents(&store));
    }
}

/// Runs the program as a user who owns nothing; `None` where that cannot be done.
fn as_nobody(arguments: &[&str]) -> Option<Ended> {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.arg(env!("CARGO_BIN_EXE_multifeed")).args(arguments);
    let output = command.env_remove("MULTIFEED_KEY").stdin(Stdio::null()).output().ok()?;
    // 126 and 127: it could not be started.
    (!matches!(output.status.code(), Some(126 | 127)) && !output.stderr.starts_with(b"setpriv"))
        .then(|| ended(output))
}

#[test]
fn whoever_may_read_the_blocks_and_not_the_secrets_reads_the_blocks() {
    if as_nobody(&["--version"]).is_none() {
        println!("skipped: the program cannot be run as another user here");
        return;
    }
    for layout in LAYOUTS {
        let folder = Folder::new();
        let store = store(&folder, layout);
        let key = saved_key(&folder.path("store"));
        fs::set_permissions(folder.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(folder.path("theirs")).unwrap();
        fs::set_permissions(folder.path("theirs"), fs::Permissions::from_mode(0o777)).unwrap();
        for path in everything(Path::new(&store)).keys().filter(|path| path.is_dir()) {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let before = everything(Path::new(&store));
        let nobody = |arguments: &[&str]| as_nobody(arguments).unwrap();
        read_all(nobody, &store, &folder.at("theirs/new"), &key);
        nobody(&["append", &store, "mine", "third", "--json", "--key", &key])
            .failed("ERR_KEY_FILE");
        assert!(everything(Path::new(&store)) == before);
    }
}

#[test]
fn a_store_without_its_master_key_is_read_by_its_list_or_else_by_its_folders() {
    let folder = Folder::new();
    let store = store(&folder, "corestore");
    let key = saved_key(&folder.path("store"));
    let whole = contents(&store);
    fs::remove_file(folder.path("store/master_key")).unwrap();
    let listed = |store: &str| run(["feeds", store, "--json"]).good().lines().remove(0);
    let feeds = listed(&store);
    let names: Vec<_> =
        feeds["feeds"].as_array().unwrap().iter().map(|feed| &feed["name"]).collect();
    assert_eq!(names, ["mine", "1"], "{feeds}");
    assert!(feeds["feeds"].as_array().unwrap().iter().all(|feed| feed["writable"] == false));
    assert_eq!(contents(&store), whole);
    run(["verify", &store]);
    for layout in LAYOUTS {
        let new = folder.at(&format!("new-{layout}"));
        let converted = run(["convert", &store, &new, "--layout", layout, "--json"]).good();
        assert_eq!(converted.lines().pop().unwrap()["writers"], 0);
        assert_eq!(contents(&new), whole, "{layout}");
        run(["verify", &new]).good();
    }
    run(["append", &store, "mine", "third", "--json"]).failed("ERR_STORE_DAMAGED");
    // Nothing tells any more which feed is the list.
    for path in everything(Path::new(&store)).keys().filter(|path| path.ends_with("name")) {
        let text = fs::read(path).unwrap();
        if text.ends_with(b"persist") {
            fs::remove_dir_all(path.parent().unwrap()).unwrap();
        }
    }
    assert_eq!(contents(&store), whole);
    let feeds = listed(&store);
    assert!(
        feeds["feeds"].as_array().unwrap().iter().any(|feed| feed["name"] == "mine"),
        "{feeds}"
    );
    let new = folder.at("again");
    run(["convert", &store, &new, "--layout", "numbered", "--key", &key]).good();
    assert_eq!(contents(&new), whole);
}

#[test]
fn a_store_that_is_open_elsewhere_is_read_and_that_is_said() {
    for layout in LAYOUTS {
        let folder = Folder::new();
        let store = store(&folder, layout);
        let key = saved_key(&folder.path("store"));
        let whole = contents(&store);
        let (serving, _) = Running::serve(&store, &[]);
        let process = serving.id().to_string();
        let read = |arguments: &[&str]| {
            let end = run(arguments);
            let said = end.stderr.lines().filter(|line| line.contains(&process)).count();
            assert_eq!(said, 1, "{end:?}");
            end
        };
        read_all(read, &store, &folder.at("new"), &key);
        assert_eq!(contents(&format!("{}-{layout}", folder.at("new"))), whole);
        run(["append", &store, "mine", "third", "--json"]).failed("ERR_IN_USE");
        run(["verify", &store, "--repair", "--json"]).failed("ERR_IN_USE");
        serving.signal("KILL");
        serving.end();
        let end = run(["feeds", &store]).good();
        assert_eq!(end.stderr, "", "nobody has it any more");
        run(["append", &store, "mine", "third"]).good();
    }
}

#[test]
fn a_copy_of_a_store_that_is_being_written_to_is_whole_as_far_as_it_goes() {
    let folder = Folder::new();
    let store = folder.at("store");
    run(["init", &store]).good();
    let mut writer = Running::spawn(
        util::command(["append", &store, "w", "--lines", "--json"]).stdin(Stdio::piped()),
    );
    let mut stdin = writer.stdin();
    let feeding = std::thread::spawn(move || {
        use std::io::Write;
        for number in 0..50_000 {
            if writeln!(stdin, "line {number:>60}").is_err() {
                break;
            }
        }
    });
    writer.event("appended");
    for (number, layout) in ["corestore", "numbered", "corestore"].into_iter().enumerate() {
        let new = folder.at(&format!("new-{number}"));
        let end = run(["convert", &store, &new, "--layout", layout]);
        if end.code == Some(0) {
            run(["verify", &new]).good();
            run(["append", &new, "w", "goes on"]).good();
        } else {
            assert!(!Path::new(&new).exists(), "{end:?}");
        }
        run(["verify", &store]).good();
        run(["cat", &store, "w"]).good();
    }
    drop(writer);
    feeding.join().unwrap();
}

#[test]
fn a_peer_gets_what_is_in_a_store_that_is_only_read_and_changes_nothing_there() {
    for layout in LAYOUTS {
        let folder = Folder::new();
        let store = store(&folder, layout);
        let key = saved_key(&folder.path("store"));
        let before = everything(Path::new(&store));
        let peer = folder.at("peer");
        run(["append", &peer, "new", "here", "--key", &key]).good();
        // Beside another program that has it open.
        let (other, _) = Running::serve(&store, &["--read-only"]);
        let (serving, address) = Running::serve(&store, &["--read-only", "--once", "--no-live"]);
        run(["sync", &peer, &address]);
        drop(serving);
        drop(other);
        let held = contents(&peer);
        for feed in contents(&store) {
            assert!(held.contains(&feed), "{layout}");
        }
        let (serving, address) = Running::serve(&peer, &[]);
        run(["sync", &store, &address, "--read-only", "--timeout", "20"]);
        drop(serving);
        assert!(everything(Path::new(&store)) == before, "{layout}");
    }
}

#[test]
fn where_there_is_no_store_nothing_is_made_by_reading() {
    let folder = Folder::new();
    fs::create_dir(folder.path("empty")).unwrap();
    for name in ["missing", "empty"] {
        let directory = folder.at(name);
        for command in ["feeds", "cat"] {
            let mut arguments = vec![command, &directory];
            arguments.extend((command == "cat").then_some("feed"));
            arguments.extend(["--json", "--key", util::OTHER_KEY]);
            run(arguments).failed("ERR_NO_STORE");
        }
        let serve = ["serve", &directory, "--listen", "127.0.0.1:0", "--read-only", "--json"];
        run(serve.iter().chain(&["--key", util::OTHER_KEY])).failed("ERR_NO_STORE");
    }
    assert!(!folder.path("missing").exists());
    assert_eq!(fs::read_dir(folder.path("empty")).unwrap().count(), 0);
}

#[test]
fn a_master_key_of_zeros_or_of_another_store_is_as_good_as_none_and_nothing_is_made_with_it() {
    for (what, master) in [("zeros", [0; 32]), ("another", [7; 32])] {
        let folder = Folder::new();
        let store = store(&folder, "corestore");
        let held = contents(&store);
        fs::write(folder.path("store/master_key"), master).unwrap();
        let files = || -> Vec<(PathBuf, Vec<u8>)> {
            let files = everything(Path::new(&store)).into_iter();
            let files = files.filter(|(path, _)| !path.ends_with("multifeed.lock"));
            files.map(|(path, about)| (path, about.4)).collect()
        };
        let before = files();
        assert_eq!(contents(&store), held, "{what}");
        let new = folder.at("new");
        run(["convert", &store, &new, "--layout", "numbered"]).good();
        assert_eq!(contents(&new), held, "{what}");
        for writer in ["w", "another"] {
            let end = run(["append", &store, writer, "more"]);
            assert!(end.stderr.contains("master_key is damaged"), "{what}: {end:?}");
        }
        let end = run(["verify", &store, "--repair"]);
        assert!(end.code == Some(1) && end.text().contains("master_key"), "{what}: {end:?}");
        assert!(files() == before, "{what}");
    }
}
