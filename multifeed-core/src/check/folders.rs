//! Which feeds a store has, as its folders tell it.

use alloc::string::String;
use alloc::vec::Vec;

use crate::format::{numbered, sleep};
use crate::node::Layout;
use crate::storage::{Answer, FilePath, Op, StorageError};

/// The folder of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedFolder {
    /// Where it is.
    pub path: FilePath,
    /// The discovery key that it is called by, or else its number.
    pub name: String,
    /// The layout that it belongs to.
    pub layout: Layout,
}

/// What to do next.
#[derive(Debug)]
pub enum FoldersStep {
    /// Run these operations in one batch and hand the answers to [`Folders::answered`].
    Read(Vec<Op>),
    /// All folders: numbered ones by number, then the others by name.
    Done(Vec<FeedFolder>),
    /// A folder could not be read.
    Failed(StorageError),
}

/// The search for all feeds of a store, which may have both layouts.
#[derive(Debug)]
pub struct Folders {
    found: Vec<FeedFolder>,
    /// Folders to look into, each with its depth below the store.
    next: Vec<(FilePath, u8)>,
    asked: Vec<(FilePath, u8)>,
    unreadable: Vec<StorageError>,
}

impl Folders {
    /// Starts the search; run the operations and give the answers back.
    #[must_use]
    pub fn new() -> (Self, Vec<Op>) {
        let root = (FilePath::root(), 0);
        let ops = Vec::from([Op::List { path: root.0.clone() }]);
        (Self { asked: Vec::from([root]), ..Self::empty() }, ops)
    }

    /// Looks only into these folders at the root of the store.
    pub(crate) fn within(first: Vec<FilePath>) -> (Self, Vec<Op>) {
        let ops = first.iter().map(|path| Op::List { path: path.clone() }).collect();
        let asked = first.into_iter().map(|path| (path, 1)).collect();
        (Self { asked, ..Self::empty() }, ops)
    }

    fn empty() -> Self {
        let (found, next, asked) = (Vec::new(), Vec::new(), Vec::new());
        Self { found, next, asked, unreadable: Vec::new() }
    }

    /// Folders that could not be listed.
    #[must_use]
    pub fn unreadable(&self) -> &[StorageError] {
        &self.unreadable
    }

    /// Takes the answers to the operations asked for last.
    pub fn answered(&mut self, answers: Vec<Result<Answer, StorageError>>) -> FoldersStep {
        for ((path, depth), answer) in core::mem::take(&mut self.asked).into_iter().zip(answers) {
            match answer {
                Ok(Answer::Names(names)) => self.listed(&path, depth, &names),
                Ok(Answer::Done | Answer::Bytes(_) | Answer::Length(_) | Answer::NotFound) => {}
                Err(error) if depth > 0 && error.is_of_file() => self.unreadable.push(error),
                Err(error) => return FoldersStep::Failed(error),
            }
        }
        let count = self.next.len().min(LISTED_AT_ONCE);
        self.asked = self.next.split_off(self.next.len() - count);
        if self.asked.is_empty() {
            let mut found = core::mem::take(&mut self.found);
            found.sort_by_key(|feed| {
                let number = (feed.layout == Layout::Numbered).then(|| feed.name.parse::<u64>());
                (number.is_none(), number.and_then(Result::ok), feed.name.clone())
            });
            return FoldersStep::Done(found);
        }
        FoldersStep::Read(
            self.asked.iter().map(|(path, _)| Op::List { path: path.clone() }).collect(),
        )
    }

    fn listed(&mut self, path: &FilePath, depth: u8, names: &[String]) {
        if depth == 1
            && numbered::parse_folder(path.as_str()).is_some()
            && names.iter().any(|name| is_feed_file(name))
        {
            let (name, layout) = (String::from(path.as_str()), Layout::Numbered);
            self.found.push(FeedFolder { path: path.clone(), name, layout });
        }
        let above: String = path.as_str().chars().filter(|c| *c != '/').collect();
        for name in names {
            match depth {
                0 if is_hex(name, 2) || numbered::parse_folder(name).is_some() => {
                    self.next.push((path.join(name), 1))
                }
                1 if is_hex(&above, 2) && is_hex(name, 2) => self.next.push((path.join(name), 2)),
                2 if is_hex(name, 64) && name.starts_with(&above) => {
                    let (path, name) = (path.join(name), name.clone());
                    self.found.push(FeedFolder { path, name, layout: Layout::Corestore });
                }
                _ => {}
            }
        }
    }
}

fn is_feed_file(name: &str) -> bool {
    [sleep::KEY, sleep::BITFIELD, sleep::TREE, sleep::SIGNATURES, sleep::DATA].contains(&name)
}

fn is_hex(name: &str, len: usize) -> bool {
    name.len() == len && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Folders that are listed in one batch.
const LISTED_AT_ONCE: usize = 64;

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn walk(tree: &[(&str, &[&str])]) -> Vec<FeedFolder> {
        let (mut folders, mut ops) = Folders::new();
        loop {
            let answers = ops.iter().map(|op| {
                let found = tree.iter().find(|(path, _)| *path == op.path().as_str());
                Ok(found.map_or(Answer::NotFound, |(_, names)| {
                    Answer::Names(names.iter().map(|name| String::from(*name)).collect())
                }))
            });
            match folders.answered(answers.collect()) {
                FoldersStep::Read(next) => ops = next,
                FoldersStep::Done(found) => return found,
                FoldersStep::Failed(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn numbers_come_in_their_order_and_folders_of_other_names_are_left_alone() {
        let found = walk(&[
            ("", &["0", "10", "2", "07", "x", "master_key", "12"]),
            ("0", &["key", "data"]),
            ("10", &["bitfield"]),
            ("2", &["key"]),
            ("12", &["34"]),
        ]);
        let names: Vec<_> = found.iter().map(|feed| (feed.name.as_str(), feed.layout)).collect();
        assert_eq!(names, ["0", "2", "10"].map(|name| (name, Layout::Numbered)));
    }

    #[test]
    fn a_folder_of_corestore_is_found_though_its_first_level_looks_like_a_number() {
        let name = String::from("1234") + &"a".repeat(60);
        let other = String::from("ffff") + &"a".repeat(60);
        let found = walk(&[("", &["12"]), ("12", &["34"]), ("12/34", &[&name, &other])]);
        let path = FilePath::new(&["12", "34", &name]);
        assert_eq!(found, vec![FeedFolder { path, name, layout: Layout::Corestore }]);
    }
}
