//! The commands that work on one folder, and the command line as such.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use util::{Ended, Folder, OTHER_KEY, command, ended, run, run_with_input, saved_key};

#[test]
fn init_makes_a_store_and_saves_its_random_key_for_its_owner_only() {
    let folder = Folder::new();
    let line = run(["init", &folder.at("a"), "--json"]).good().lines().remove(0);
    assert_eq!(line["event"], "initialized");
    assert_eq!(line["key_saved"], true);
    let key = line["root_key"].as_str().unwrap();
    assert_eq!(key.len(), 64);
    assert_eq!(fs::read_to_string(folder.path("a/root_key")).unwrap(), format!("{key}\n"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(folder.path("a/root_key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    let text = run(["init", &folder.at("b")]).good().text();
    assert!(text.contains(&saved_key(&folder.path("b"))), "{text}");
    assert_ne!(saved_key(&folder.path("b")), key, "each store has a key of its own");
}

#[test]
fn init_for_a_given_key_does_not_print_it() {
    let folder = Folder::new();
    for (name, json) in [("a", &["--json"][..]), ("b", &[])] {
        let directory = folder.at(name);
        let mut arguments = vec!["init", &directory];
        arguments.extend(json);
        let output = command(arguments).env("MULTIFEED_KEY", OTHER_KEY).output().unwrap();
        let made = ended(output).good();
        assert!(!made.text().contains(OTHER_KEY) && !made.stderr.contains(OTHER_KEY), "{made:?}");
        assert_eq!(saved_key(&folder.path(name)), OTHER_KEY);
    }
}

#[test]
fn init_does_not_touch_a_store_or_a_folder_with_other_things() {
    let folder = Folder::new();
    let directory = folder.at("a");
    run(["init", &directory]).good();
    let key = saved_key(&folder.path("a"));
    run(["init", &directory, "--json"]).failed("ERR_EXISTS");
    assert_eq!(saved_key(&folder.path("a")), key);

    fs::create_dir(folder.path("full")).unwrap();
    fs::write(folder.path("full/letter"), "text").unwrap();
    run(["init", &folder.at("full"), "--json"]).failed("ERR_NOT_EMPTY");
    assert_eq!(fs::read_dir(folder.path("full")).unwrap().count(), 1);

    fs::create_dir(folder.path("empty")).unwrap();
    run(["init", &folder.at("empty")]).good();
}

#[test]
fn a_key_that_is_not_saved_must_be_given_each_time() {
    let folder = Folder::new();
    let directory = folder.at("a");
    let made = run(["init", &directory, "--no-save-key", "--json"]).good().lines().remove(0);
    assert_eq!(made["key_saved"], false);
    assert!(!folder.path("a/root_key").exists());
    let error = run(["feeds", &directory, "--json"]).failed("ERR_NO_KEY");
    assert!(error["advice"].as_str().unwrap().contains("--key-file"), "{error}");
    let key = made["root_key"].as_str().unwrap();
    run(["append", &directory, "w", "text", "--key", key]).good();
    assert!(!folder.path("a/root_key").exists(), "only who makes a store saves its key");
    let found = command(["feeds", &directory, "--json"]).env("MULTIFEED_KEY", key).output();
    assert_eq!(ended(found.unwrap()).good().lines()[0]["feeds"].as_array().unwrap().len(), 1);
}

#[test]
fn append_says_which_blocks_it_made_in_which_feed() {
    let folder = store();
    let directory = folder.at("a");
    let first = run(["append", &directory, "me", "one", "two", "--json"]).good().lines().remove(0);
    assert_eq!(first["event"], "appended");
    assert_eq!((&first["start"], &first["length"]), (&0.into(), &2.into()));
    assert_eq!(first["name"], "me");
    let key = first["key"].as_str().unwrap();

    let text = run(["append", &directory, "me", "--", "-three"]).good().text();
    assert_eq!(text, format!("appended block 2 to me, feed {key}\n"));
    let text = run(["append", &directory, "me", "4", "5"]).good().text();
    assert_eq!(text, format!("appended 2 blocks (3 to 4) to me, feed {key}\n"));
    assert_eq!(run(["cat", &directory, "me"]).good().stdout, b"onetwo-three45");
}

#[test]
fn any_bytes_make_the_way_through_append_and_cat() {
    let folder = store();
    let directory = folder.at("a");
    let bytes: Vec<u8> = (0..300_000_u32).map(|i| ((i % 251) ^ (i >> 8)) as u8).collect();
    fs::write(folder.path("bytes"), &bytes).unwrap();
    fs::write(folder.path("nothing"), []).unwrap();
    run(["append", &directory, "w", "--file", &folder.at("bytes")]).good();
    run(["append", &directory, "w", "--file", &folder.at("nothing")]).good();
    run_with_input(["append", &directory, "w", "--file", "-"], b"\xff\0\n").good();
    let all = [&bytes[..], b"\xff\0\n"].concat();
    assert_eq!(run(["cat", &directory, "w"]).good().stdout, all);
    assert_eq!(run(["cat", &directory, "w", "--json"]).good().stdout, all);
    assert_eq!(run(["cat", &directory, "w", "--from", "1", "--to", "2"]).good().stdout, b"");
    assert_eq!(run(["cat", &directory, "w", "--from", "2"]).good().stdout, b"\xff\0\n");
    assert_eq!(run(["cat", &directory, "w", "--to", "1"]).good().stdout, bytes);
}

#[test]
fn many_lines_become_as_many_blocks() {
    let folder = store();
    let directory = folder.at("a");
    let input: String = (0..LINES).map(|i| format!("line {i}\n")).collect();
    let lines = run_with_input(["append", &directory, "w", "--lines", "--json"], input.as_bytes());
    let mut next = 0;
    for line in lines.good().lines() {
        assert_eq!((&line["event"], &line["start"]), (&"appended".into(), &next.into()));
        next += line["length"].as_u64().unwrap();
    }
    assert_eq!(next, LINES);
    assert_eq!(feeds(&directory)[0]["length"], LINES);
    assert_eq!(run(["cat", &directory, "w"]).good().text(), input.replace('\n', ""));
    let some = run(["cat", &directory, "w", "--from", "99998"]).good().text();
    assert_eq!(some, "line 99998line 99999");
}

#[test]
fn lines_are_summed_up_for_people_and_none_still_make_the_writer() {
    let folder = store();
    let directory = folder.at("a");
    let text = run_with_input(["append", &directory, "w", "--lines"], b"a\n\nc").good().text();
    assert!(text.starts_with("appended 3 blocks (0 to 2) to w, feed "), "{text}");
    assert_eq!(text.lines().count(), 1);
    let none = run_with_input(["append", &directory, "new", "--lines", "--json"], b"").good();
    let none = none.lines().remove(0);
    assert_eq!((&none["start"], &none["length"]), (&0.into(), &0.into()));
    let text = run_with_input(["append", &directory, "w", "--lines"], b"").good().text();
    assert!(text.starts_with("appended nothing to w"), "{text}");
    assert_eq!(feeds(&directory).len(), 2);
}

#[test]
fn a_block_that_is_too_large_is_refused_and_what_came_before_it_stays() {
    let folder = store();
    let directory = folder.at("a");
    let large = vec![b'x'; 9 * 1024 * 1024];
    fs::write(folder.path("large"), &large).unwrap();
    let arguments = ["append", &directory, "w", "--file", &folder.at("large"), "--json"];
    run(arguments).failed("ERR_BLOCK_TOO_LARGE");
    assert!(feeds(&directory).is_empty(), "not even the writer was made");
    let input = [b"one\ntwo\n", &large[..]].concat();
    let lines = run_with_input(["append", &directory, "w", "--lines", "--json"], &input);
    assert_eq!(lines.failed("ERR_BLOCK_TOO_LARGE")["line"], 3);
    assert_eq!(run(["cat", &directory, "w"]).good().stdout, b"onetwo");
}

#[test]
fn feeds_lists_what_is_there_for_programs_and_for_people() {
    let folder = store();
    let directory = folder.at("a");
    assert!(run(["feeds", &directory]).good().text().starts_with("no feeds yet"));
    assert!(feeds(&directory).is_empty());
    run(["append", &directory, "a long name", "12345"]).good();
    run(["append", &directory, "b", "1", "2"]).good();
    let listed = feeds(&directory);
    let fields: Vec<_> = listed[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["blocks", "bytes", "health", "key", "length", "name", "writable"]);
    let b = listed.iter().find(|feed| feed["name"] == "b").unwrap();
    assert_eq!(
        (&b["writable"], &b["length"], &b["blocks"], &b["bytes"]),
        (&true.into(), &2.into(), &2.into(), &2.into())
    );
    let text = run(["feeds", &directory]).good().text();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains(b["key"].as_str().unwrap()), "{text}");
}

#[test]
fn cat_finds_a_feed_by_name_and_by_key_and_says_when_it_cannot() {
    let folder = store();
    let directory = folder.at("a");
    run(["append", &directory, "w", "one", "two"]).good();
    let key = feeds(&directory)[0]["key"].as_str().unwrap().to_owned();
    assert_eq!(run(["cat", &directory, "w"]).good().stdout, b"onetwo");
    assert_eq!(run(["cat", &directory, &key]).good().stdout, b"onetwo");
    assert_eq!(run(["cat", &directory, &key.to_uppercase()]).good().stdout, b"onetwo");
    for nobody in ["x", OTHER_KEY] {
        let error = run(["cat", &directory, nobody, "--json"]).failed("ERR_UNKNOWN_FEED");
        assert_eq!(error["feed"], nobody);
    }
    let error = run(["cat", &directory, "w", "--to", "3", "--json"]).failed("ERR_RANGE");
    assert_eq!((&error["from"], &error["to"], &error["length"]), (&0.into(), &3.into(), &2.into()));
    for (arguments, says) in [
        (&["--from", "2", "--to", "1"][..], "--from 2 is behind --to 1"),
        (&["--from", "5"], "no block 5: the feed has 2 blocks"),
        (&["--to", "3"], "no block 2: the feed has 2 blocks"),
    ] {
        let cat = ["cat", &directory, "w", "--json"];
        let error = run(cat.iter().chain(arguments)).failed("ERR_RANGE");
        assert!(error["message"].as_str().unwrap().contains(says), "{error}");
    }
    let negative = run(["cat", &directory, "w", "--from", "-1"]);
    assert_eq!(negative.code, Some(2));
    assert!(negative.stderr.contains("'-1'") && !negative.stderr.contains("tip"), "{negative:?}");
    let human = run(["cat", &directory, "x"]);
    assert_eq!((human.code, human.text()), (Some(1), String::new()));
    assert!(
        human.stderr.starts_with("error: no feed in ") && human.stderr.contains("multifeed feeds")
    );
}

#[test]
fn cat_into_a_closed_pipe_ends_quietly() {
    let folder = store();
    let directory = folder.at("a");
    let input: String = (0..LINES).map(|i| format!("line {i}\n")).collect();
    run_with_input(["append", &directory, "w", "--lines"], input.as_bytes()).good();
    let mut child = command(["cat", &directory, "w"]).spawn().unwrap();
    let mut some = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    let end = ended(child.wait_with_output().unwrap()).good();
    assert_eq!(end.stderr, "");
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let folder = store();
    let directory = folder.at("a");
    run(["append", &directory, "w", "text"]).good();
    for arguments in [&["cat", &directory, "w"][..], &["feeds", &directory]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let end = ended(command(arguments).stdout(full).output().unwrap());
        assert_eq!(end.code, Some(1), "{end:?}");
        assert!(end.stderr.contains("standard output"), "{end:?}");
    }
}

#[test]
fn wrong_use_of_the_command_line_ends_with_2_and_touches_nothing() {
    let folder = Folder::new();
    let directory = folder.at("a");
    let wrong: &[&[&str]] = &[
        &[],
        &["fly"],
        &["feeds"],
        &["feeds", &directory, "--colour"],
        &["append", &directory, "w"],
        &["append", &directory, "w", "text", "--lines"],
        &["append", &directory, "w", "--lines", "--file", "x"],
        &["append", &directory, "w", "--lines", "--key-file", "-"],
        &["cat", &directory, "w", "--from", "-1"],
        &["serve", &directory],
        &["serve", &directory, "--listen", "4000"],
        &["sync", &directory, "localhost"],
        &["sync", &directory, "localhost:1", "--timeout", "0"],
        &["init", &directory, "--key", OTHER_KEY, "--insecure-default-key"],
        &["--key-file", "x", "init", &directory, "--key", OTHER_KEY],
    ];
    for arguments in wrong {
        let end = run(*arguments);
        assert_eq!(end.code, Some(2), "{arguments:?}: {end:?}");
        assert!(end.stderr.contains("Usage") || end.stderr.contains("error:"), "{end:?}");
    }
    assert!(!folder.path("a").exists());
}

#[test]
fn a_text_that_is_no_key_is_not_repeated() {
    let folder = store();
    let directory = folder.at("a");
    let slip = &OTHER_KEY[..63];
    fs::write(folder.path("key"), slip).unwrap();
    let option = run(["feeds", &directory, "--key", slip]);
    assert_eq!(option.code, Some(2), "{option:?}");
    let file = run(["feeds", &directory, "--json", "--key-file", &folder.at("key")]);
    file.failed("ERR_KEY");
    let variable = command(["feeds", &directory, "--json"]).env("MULTIFEED_KEY", slip).output();
    let variable = ended(variable.unwrap());
    variable.failed("ERR_KEY");
    for end in [option, file, variable] {
        assert!(!end.text().contains(slip) && !end.stderr.contains(slip), "{end:?}");
    }
    run(["feeds", &directory, "--json", "--key-file", &folder.at("none")]).failed("ERR_KEY_FILE");
}

#[test]
fn without_a_key_nothing_is_made_and_the_error_says_what_to_do() {
    let folder = Folder::new();
    let directory = folder.at("a");
    let commands: &[&[&str]] = &[
        &["append", &directory, "w", "text"],
        &["serve", &directory, "--listen", "127.0.0.1:0"],
        &["sync", &directory, "127.0.0.1:1"],
    ];
    for arguments in commands {
        let error = run(arguments.iter().chain(&["--json"])).failed("ERR_NO_KEY");
        assert!(error["advice"].as_str().unwrap().contains("multifeed init"), "{error}");
    }
    run(["feeds", &directory, "--json"]).failed("ERR_NO_STORE");
    run(["cat", &directory, "w", "--json"]).failed("ERR_NO_STORE");
    run(["feeds", &directory, "--key", OTHER_KEY, "--json"]).failed("ERR_NO_STORE");
    assert!(!folder.path("a").exists());
}

#[test]
fn a_key_that_contradicts_the_saved_one_is_refused() {
    let folder = store();
    let directory = folder.at("a");
    run(["append", &directory, "w", "text"]).good();
    fs::write(folder.path("other"), OTHER_KEY).unwrap();
    let ways: &[&[&str]] =
        &[&["--key", OTHER_KEY], &["--key-file", &folder.at("other")], &["--insecure-default-key"]];
    for way in ways {
        run(["feeds", &directory, "--json"].iter().chain(*way)).failed("ERR_KEY_MISMATCH");
    }
    let by_variable =
        command(["feeds", &directory, "--json"]).env("MULTIFEED_KEY", OTHER_KEY).output();
    let error = ended(by_variable.unwrap()).failed("ERR_KEY_MISMATCH");
    assert!(error["message"].as_str().unwrap().contains("MULTIFEED_KEY"), "{error}");
    run(["feeds", &directory, "--key", &saved_key(&folder.path("a"))]).good();
}

#[test]
fn an_option_counts_more_than_the_environment() {
    let folder = store();
    let key = saved_key(&folder.path("a"));
    let directory = folder.at("a");
    for variable in [OTHER_KEY, "no key at all"] {
        let mut feeds = command(["feeds", &directory, "--key", &key]);
        ended(feeds.env("MULTIFEED_KEY", variable).output().unwrap()).good();
    }
    let output = command(["feeds", &directory]).env("MULTIFEED_KEY", "").output();
    ended(output.unwrap()).good();
}

#[test]
fn a_store_made_by_append_keeps_the_key_unless_told_otherwise() {
    let folder = Folder::new();
    run(["append", &folder.at("a"), "w", "text", "--key", OTHER_KEY]).good();
    assert_eq!(saved_key(&folder.path("a")), OTHER_KEY);
    run(["append", &folder.at("b"), "w", "text", "--key", OTHER_KEY, "--no-save-key"]).good();
    assert!(!folder.path("b/root_key").exists());
    fs::write(folder.path("key"), format!("{}\n", OTHER_KEY.to_uppercase())).unwrap();
    run(["feeds", &folder.at("b"), "--key-file", &folder.at("key")]).good();
    run_with_input(["feeds", &folder.at("b"), "--key-file", "-"], OTHER_KEY.as_bytes()).good();
}

#[test]
fn the_default_key_is_warned_of_beside_the_output() {
    let folder = Folder::new();
    let end =
        run(["append", &folder.at("a"), "w", "text", "--insecure-default-key", "--json"]).good();
    assert_eq!(end.lines().len(), 1);
    assert!(end.stderr.starts_with("warning: ") && end.stderr.contains("everybody"), "{end:?}");
}

#[test]
fn the_key_is_in_no_log() {
    let folder = Folder::new();
    let end = run(["append", &folder.at("a"), "w", "text", "-vv", "--key", OTHER_KEY]).good();
    assert!(end.stderr.contains("store opened"), "{end:?}");
    assert!(!end.stderr.contains(OTHER_KEY) && !end.text().contains(OTHER_KEY), "{end:?}");
}

#[test]
fn the_help_says_who_sees_the_key() {
    let help = run(["sync", "--help"]).good().text();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("prefer --key-file"), "{help}");
    assert!(help.contains("bytes of these blocks"), "{help}");
    assert!(run(["--version"]).good().text().starts_with("multifeed "));
}

#[test]
fn a_file_in_place_of_the_folder_is_a_clear_error() {
    let folder = Folder::new();
    fs::write(folder.path("file"), "text").unwrap();
    run(["feeds", &folder.at("file"), "--json"]).failed("ERR_NO_STORE");
    let end = run(["append", &folder.at("file"), "w", "text", "--key", OTHER_KEY, "--json"]);
    let error = end.failed("ERR_DIRECTORY");
    assert!(error["message"].as_str().unwrap().contains("is a file"), "{error}");
    let end = run(["init", &folder.at("file/in/it"), "--json"]);
    end.failed("ERR_DIRECTORY");
    assert_eq!(fs::read_to_string(folder.path("file")).unwrap(), "text");
}

#[test]
fn no_command_strews_a_store_among_other_things() {
    let folder = Folder::new();
    let directory = folder.at("full");
    fs::create_dir(folder.path("full")).unwrap();
    fs::write(folder.path("full/letter"), "text").unwrap();
    for arguments in [
        &["append", &directory, "w", "text"][..],
        &["serve", &directory, "--listen", "127.0.0.1:0"],
        &["sync", &directory, "127.0.0.1:1"],
        &["init", &directory],
    ] {
        let arguments = arguments.iter().chain(&["--key", OTHER_KEY, "--json"]);
        run(arguments).failed("ERR_NOT_EMPTY");
    }
    assert_eq!(fs::read_dir(folder.path("full")).unwrap().count(), 1);
}

#[test]
fn a_folder_in_which_a_command_was_killed_at_once_can_be_used() {
    let folder = Folder::new();
    fs::create_dir(folder.path("a")).unwrap();
    fs::write(folder.path("a/multifeed.lock"), "1234\n").unwrap();
    run(["append", &folder.at("a"), "w", "text", "--key", OTHER_KEY]).good();
    assert_eq!(run(["cat", &folder.at("a"), "w"]).good().stdout, b"text");
}

#[test]
fn a_damaged_store_is_named() {
    let folder = store();
    fs::write(folder.path("a/master_key"), "short").unwrap();
    let append = ["append", &folder.at("a"), "w", "text", "--json"];
    assert_eq!(run(append).failed("ERR_STORE_DAMAGED")["file"], "master_key");
    let folder = store();
    fs::write(folder.path("a/root_key"), "short").unwrap();
    run(["feeds", &folder.at("a"), "--json"]).failed("ERR_KEY_FILE");
}

#[test]
fn a_damaged_feed_is_listed_and_named_and_the_others_can_be_used() {
    let folder = store();
    let directory = folder.at("a");
    run(["append", &directory, "bad", "one"]).good();
    let damaged = files_of_feeds(&folder.path("a"), "signatures");
    run(["append", &directory, "good", "one"]).good();
    for signatures in damaged {
        // The list of feeds has signatures, too, and is none of this test's business.
        if fs::read(signatures.with_file_name("data")).unwrap() == b"one" {
            fs::write(&signatures, vec![0x55; 96]).unwrap();
        }
    }
    let end = run(["feeds", &directory, "--json"]);
    let feeds = end.lines().remove(0)["feeds"].as_array().unwrap().clone();
    let bad = feeds.iter().find(|feed| feed["name"] == "bad").unwrap();
    assert_eq!(bad["error"], "ERR_FEED_DAMAGED");
    assert_eq!(end.failed("ERR_FEED_DAMAGED")["feed"], bad["key"]);
    run(["append", &directory, "bad", "two", "--json"]).failed("ERR_FEED_DAMAGED");
    run(["append", &directory, "good", "two"]).good();
    assert_eq!(run(["cat", &directory, "good"]).good().stdout, b"onetwo");
}

#[test]
fn the_demo_shows_both_folders_alike_and_removes_them() {
    let folder = Folder::new();
    fs::create_dir(folder.path("tmp")).unwrap();
    let demo = |arguments: &[&str]| -> Ended {
        let mut demo = command(["demo"]);
        ended(demo.args(arguments).env("TMPDIR", folder.path("tmp")).output().unwrap()).good()
    };
    let text = demo(&[]).text();
    assert!(text.contains("Both hold the same"), "{text}");
    let lines = demo(&["--json"]).lines();
    let of = |who: &str| -> Vec<_> {
        let lines = lines.iter().filter(|line| line["event"] == "contents" && line["who"] == who);
        lines.map(|line| (line["key"].clone(), line["blocks"].clone())).collect()
    };
    assert_eq!(of("alice").len(), 2);
    assert_eq!(of("alice"), of("bob"));
    assert_eq!(lines.last().unwrap()["event"], "done");
    assert_eq!(fs::read_dir(folder.path("tmp")).unwrap().count(), 0);
}

/// A folder with the new store `a` in it.
fn store() -> Folder {
    let folder = Folder::new();
    run(["init", &folder.at("a")]).good();
    folder
}

/// The files of this name of all feeds in a store.
fn files_of_feeds(directory: &Path, name: &str) -> Vec<PathBuf> {
    let mut folders = vec![directory.to_owned()];
    for _ in 0..3 {
        let inner = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
        folders = inner.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    }
    folders.into_iter().map(|folder| folder.join(name)).filter(|path| path.exists()).collect()
}

fn feeds(directory: &str) -> Vec<serde_json::Value> {
    let line = run(["feeds", directory, "--json"]).good().lines().remove(0);
    line["feeds"].as_array().unwrap().clone()
}

const LINES: u64 = 100_000;
