//! Which layout a directory has, as the names in it tell.

use alloc::string::String;
use alloc::vec::Vec;

use super::Layout;
use crate::format::{corestore, numbered, sleep};
use crate::storage::{Answer, FilePath};

/// What the names at the root of a directory tell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The layout of the store; none if there is no store yet.
    Layout(Option<Layout>),
    /// These may be numbered folders, or the first level of corestore's.
    LookInto(Vec<FilePath>),
}

/// Tells the layout from the names at the root. Folder 0 may be missing.
pub(crate) fn told(names: &[String]) -> Told {
    let has = |name: &str| names.iter().any(|found| found == name);
    if has(corestore::MASTER_KEY) {
        return Told::Layout(Some(Layout::Corestore));
    }
    let mut numbers = names.iter().filter(|name| numbered::parse_folder(name).is_some());
    if has(numbered::MARK) || numbers.clone().any(|name| !is_feed_folder(name)) {
        return Told::Layout(Some(Layout::Numbered));
    }
    if numbers.clone().next().is_none() {
        let feeds = names.iter().any(|name| is_feed_folder(name));
        return Told::Layout(feeds.then_some(Layout::Corestore));
    }
    Told::LookInto(numbers.by_ref().map(|name| FilePath::new(&[name])).collect())
}

/// Tells the layout from the names in the folders that [`told`] wants to look into.
pub(crate) fn inside(answers: &[Answer]) -> Layout {
    let files = [sleep::KEY, sleep::TREE, sleep::DATA, sleep::SIGNATURES, sleep::BITFIELD];
    let has_files = answers.iter().any(|answer| match answer {
        Answer::Names(names) => names.iter().any(|name| files.contains(&name.as_str())),
        Answer::NotFound | Answer::Done | Answer::Length(_) | Answer::Bytes(_) => false,
    });
    if has_files { Layout::Numbered } else { Layout::Corestore }
}

/// Whether a name at the root of a store is the first level of corestore's feed folders.
pub(crate) fn is_feed_folder(name: &str) -> bool {
    name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Told {
        told(&names.iter().map(|name| String::from(*name)).collect::<Vec<_>>())
    }

    #[test]
    fn numbered_folders_are_known_without_the_first_of_them() {
        for names in [&["0"][..], &["7"], &["multifeed.numbered"], &["123"], &["12", "3", "ab"]] {
            assert_eq!(of(names), Told::Layout(Some(Layout::Numbered)), "{names:?}");
        }
        assert_eq!(of(&["12"]), Told::LookInto(Vec::from([FilePath::new(&["12"])])));
        let names =
            |names: &[&str]| Answer::Names(names.iter().map(|name| String::from(*name)).collect());
        assert_eq!(inside(&[names(&["34", "56"])]), Layout::Corestore);
        assert_eq!(inside(&[names(&[]), names(&["data", "key"])]), Layout::Numbered);
    }

    #[test]
    fn folders_by_discovery_key_are_a_store_without_its_master_key_too() {
        for names in [&["master_key", "0"][..], &["ab"]] {
            assert_eq!(of(names), Told::Layout(Some(Layout::Corestore)), "{names:?}");
        }
        assert_eq!(of(&["root_key", "multifeed.lock"]), Told::Layout(None));
    }
}
