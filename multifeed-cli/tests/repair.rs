//! What `verify --repair` makes anew, and what `truncate` gives up.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use util::{Folder, run};

/// A store `a` with the writers `w` and `v` of five blocks each.
fn store(layout: &str) -> Folder {
    let folder = Folder::new();
    let a = folder.at("a");
    run(["init", &a, "--layout", layout]).good();
    for writer in ["w", "v"] {
        for text in ["one", "two", "three", "four", "five"] {
            run(["append", &a, writer, text]).good();
        }
    }
    folder
}

/// The folders of feeds whose `name` file has this in it, or not.
fn named(folder: &Path, part: &str, has: bool) -> Option<PathBuf> {
    if let Ok(name) = fs::read_to_string(folder.join("name")) {
        return (name.contains(part) == has).then(|| folder.to_owned());
    }
    let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    folders.filter(|path| path.is_dir()).find_map(|path| named(&path, part, has))
}

fn names(folder: &Folder) -> Vec<String> {
    let lines = run(["feeds", &folder.at("a"), "--json"]).good().lines();
    let feeds = lines[0]["feeds"].as_array().unwrap().iter();
    let mut names: Vec<_> = feeds.map(|feed| feed["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_list_of_feeds_damaged_in_any_file_is_made_anew_with_all_feeds() {
    for file in ["tree", "data", "signatures", "bitfield", "key", "name", ""] {
        for kind in ["zeros", "half", "missing"] {
            let what = format!("{file} {kind}");
            let folder = store("corestore");
            let a = folder.at("a");
            let list = named(&folder.path("a"), ":feed:", false).unwrap();
            let path = list.join(file);
            match kind {
                _ if file.is_empty() => fs::remove_dir_all(&list).unwrap(),
                "zeros" => fs::write(&path, vec![0; fs::read(&path).unwrap().len()]).unwrap(),
                "half" => {
                    let bytes = fs::read(&path).unwrap();
                    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
                }
                _ => fs::remove_file(&path).unwrap(),
            }
            run(["verify", &a, "--repair"]).good();
            run(["verify", &a]).good();
            assert_eq!(names(&folder), ["v", "w"], "{what}");
            run(["append", &a, "w", "six"]).good();
            assert_eq!(run(["cat", &a, "w"]).good().stdout, b"onetwothreefourfivesix", "{what}");
        }
    }
}

#[test]
fn a_feed_that_is_not_on_the_list_is_told_and_comes_back() {
    let folder = store("corestore");
    let a = folder.path("a");
    let list = named(&a, ":feed:", false).unwrap();
    // The list as it was before `v` came.
    for (name, len) in [("signatures", 32 + 64), ("bitfield", 32)] {
        File::options().write(true).open(list.join(name)).unwrap().set_len(len).unwrap();
    }
    let end = run(["feeds", &folder.at("a")]).good();
    assert!(end.stderr.contains("not on the list"), "{end:?}");
    assert_eq!(names(&folder), ["w"]);
    assert_eq!(run(["verify", &folder.at("a")]).code, Some(1));
    run(["verify", &folder.at("a"), "--repair"]).good();
    assert_eq!(names(&folder), ["v", "w"]);
    run(["append", &folder.at("a"), "v", "six"]).good();
}

#[test]
fn a_gap_between_numbered_folders_is_told_and_closed() {
    let folder = store("numbered");
    fs::remove_dir_all(folder.path("a").join("0")).unwrap();
    let end = run(["feeds", &folder.at("a")]).good();
    assert!(end.stderr.contains("folder 0"), "{end:?}");
    assert_eq!(names(&folder), ["v"]);
    assert_eq!(run(["verify", &folder.at("a")]).code, Some(1));
    run(["verify", &folder.at("a"), "--repair"]).good();
    assert!(folder.path("a").join("0/key").exists() && !folder.path("a").join("1").exists());
    assert!(run(["feeds", &folder.at("a")]).good().stderr.is_empty());
    run(["append", &folder.at("a"), "v", "six"]).good();
}

#[test]
fn a_master_key_of_zeros_or_of_another_store_begins_no_writer_anew() {
    for key in [[0; 32], [7; 32]] {
        let folder = store("corestore");
        fs::write(folder.path("a").join("master_key"), key).unwrap();
        run(["append", &folder.at("a"), "w", "six", "--json"]).failed("ERR_STORE_DAMAGED");
        assert_eq!(run(["verify", &folder.at("a")]).code, Some(1));
    }
}

#[test]
fn a_folder_in_the_place_of_a_file_spoils_nothing_but_its_feed_and_is_set_aside() {
    for layout in ["corestore", "numbered"] {
        for file in ["bitfield", "tree", "data", "signatures"] {
            let folder = store(layout);
            let feed = match layout {
                "numbered" => folder.path("a").join("0"),
                _ => named(&folder.path("a"), ":feed:w", true).unwrap(),
            };
            fs::remove_file(feed.join(file)).unwrap();
            fs::create_dir(feed.join(file)).unwrap();
            let a = folder.at("a");
            let end = run(["verify", &a]);
            assert_eq!(end.code, Some(1), "{end:?}");
            assert!(end.text().contains("v: sound"), "{layout} {file}: {end:?}");
            assert_eq!(run(["cat", &a, "v"]).good().stdout, b"onetwothreefourfive");
            run(["verify", &a, "--repair"]);
            assert!(feed.join(format!("{file}.aside-1")).is_dir(), "{layout} {file}");
            run(["feeds", &a]).good();
        }
    }
}

#[test]
fn the_end_of_a_writer_is_given_up_only_when_that_is_confirmed_and_it_then_goes_on() {
    for layout in ["corestore", "numbered"] {
        let folder = store(layout);
        let feed = match layout {
            "numbered" => folder.path("a").join("0"),
            _ => named(&folder.path("a"), ":feed:w", true).unwrap(),
        };
        let cut = |name: &str, len| {
            File::options().write(true).open(feed.join(name)).unwrap().set_len(len).unwrap();
        };
        cut("signatures", 32 + 64 * 3);
        cut("data", 12);
        let a = folder.at("a");
        run(["verify", &a, "--repair"]);
        run(["append", &a, "w", "six", "--json"]).failed("ERR_BLOCKS_LOST");
        run(["truncate", &a, "w", "--to", "4", "--yes", "--json"]).failed("ERR_RANGE");
        let refused = run(["truncate", &a, "w", "--to", "3", "--json"]);
        assert_eq!(refused.failed("ERR_NOT_CONFIRMED")["from"], 5);
        run(["append", &a, "w", "six", "--json"]).failed("ERR_BLOCKS_LOST");
        run(["truncate", &a, "w", "--to", "3", "--yes"]).good();
        run(["verify", &a]).good();
        run(["append", &a, "w", "six"]).good();
        assert_eq!(run(["cat", &a, "w"]).good().stdout, b"onetwothreesix");
        run(["truncate", &a, "w", "--to", "1", "--yes"]).good();
        run(["append", &a, "w", "again"]).good();
        assert_eq!(run(["cat", &a, "w"]).good().stdout, b"oneagain");
        run(["verify", &a]).good();
    }
}
