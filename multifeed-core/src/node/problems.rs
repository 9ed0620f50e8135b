//! Folders that are not as they should be, and that no open feed tells of.

use alloc::string::String;
use alloc::vec::Vec;

use super::Node;

/// A folder of the store that is damaged, missing, or on no list of feeds: what is in it is not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FolderProblem {
    /// The folder, or where it should be.
    pub folder: String,
    /// What is wrong with it.
    pub problem: &'static str,
    /// Whether what is in it cannot be used. A feed that is on no list, or behind a missing folder, may be intact.
    pub damaged: bool,
}

/// What is kept of folders, at most.
const MAX_PROBLEMS: usize = 1_000;

impl Node {
    /// The folders of the store that are damaged, missing, or on no list of feeds, as far as they were met.
    /// [`check`](crate::check) says more, and repairs what can be repaired.
    #[must_use]
    pub fn folder_problems(&self) -> &[FolderProblem] {
        &self.store.problems
    }

    pub(super) fn folder_problem(&mut self, folder: &str, problem: &'static str, damaged: bool) {
        let problems: &mut Vec<FolderProblem> = &mut self.store.problems;
        let folder = String::from(folder);
        let found = FolderProblem { folder, problem, damaged };
        if problems.len() < MAX_PROBLEMS && !problems.contains(&found) {
            problems.push(found);
        }
    }
}
