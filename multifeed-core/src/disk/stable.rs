//! What is on stable storage already, so that a sync of it can be spared; and a whole store at once.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::system::{open_to_sync, sync_file_system, sync_folder};
use crate::storage::FilePath;

/// What is known to last.
///
/// Where the operating system can sync a whole file system, the first sync of a disk does so: that covers what
/// processes before this one left. From then on only what changed has to be synced.
#[derive(Debug, Default)]
pub(super) struct Stable {
    /// Everything was synced after [`Changed`] began to be kept.
    pub(super) swept: bool,
    changed: Option<Changed>,
    /// Folders whose names last, whatever was swept.
    folders: BTreeSet<FilePath>,
    /// Number of times that a name was made or removed.
    changes: u64,
}

/// What was changed and not synced since.
#[derive(Debug, Default)]
struct Changed {
    files: BTreeSet<FilePath>,
    /// Folders with other names in them.
    folders: BTreeSet<FilePath>,
}

impl Stable {
    /// Begins to keep what changes, before all is synced.
    pub(super) fn begin(&mut self) {
        self.changed = Some(Changed::default());
        self.swept = false;
    }

    /// All that was there when it began was synced, or could not be.
    pub(super) fn ended(&mut self, swept: bool) {
        // Too much may have changed meanwhile.
        self.swept = swept && self.changed.is_some();
        if !swept {
            self.changed = None;
        }
    }

    /// Nothing is known any more.
    pub(super) fn forget(&mut self) {
        // The number goes on: a folder that is being synced must not be taken for up to date.
        *self = Self { changes: self.changes + 1, ..Self::default() };
    }

    /// A file was changed, maybe in part.
    pub(super) fn file_changed(&mut self, path: &FilePath) {
        let Some(changed) = &mut self.changed else { return };
        if !changed.files.contains(path) {
            changed.files.insert(path.clone());
            self.limit();
        }
    }

    /// A name was made or removed.
    pub(super) fn name_changed(&mut self, path: &FilePath) {
        self.changes += 1;
        let Some(folder) = path.parent() else { return };
        self.folders.remove(&folder);
        if let Some(changed) = &mut self.changed {
            changed.folders.insert(folder);
            self.limit();
        }
    }

    /// A file, or a folder with all below it, is removed.
    pub(super) fn removed(&mut self, path: &FilePath) {
        self.folders.retain(|folder| !folder.is_within(path));
        if let Some(changed) = &mut self.changed {
            changed.files.retain(|file| !file.is_within(path));
            changed.folders.retain(|folder| !folder.is_within(path));
        }
    }

    /// A file, or a folder with all below it, gets another name.
    pub(super) fn renamed(&mut self, from: &FilePath, to: &FilePath) {
        self.folders.retain(|folder| !folder.is_within(from));
        let Some(changed) = &mut self.changed else { return };
        for set in [&mut changed.files, &mut changed.folders] {
            // What had the name so far is gone.
            set.retain(|path| !path.is_within(to));
            let moved: Vec<FilePath> =
                set.iter().filter(|path| path.is_within(from)).cloned().collect();
            for path in moved {
                set.remove(&path);
                let rest = path.as_str()[from.as_str().len()..].trim_start_matches('/');
                set.insert(if rest.is_empty() { to.clone() } else { to.join(rest) });
            }
        }
    }

    /// Whether a file must be synced.
    pub(super) fn needs_file(&self, path: &FilePath) -> bool {
        !self.swept || self.changed.as_ref().is_none_or(|changed| changed.files.contains(path))
    }

    /// A file was synced, and not changed meanwhile.
    pub(super) fn file_synced(&mut self, path: &FilePath) {
        if let Some(changed) = &mut self.changed {
            changed.files.remove(path);
        }
    }

    /// Whether a folder must be synced; gives what [`folder_synced`](Self::folder_synced) wants. `swept`: it is
    /// among what was synced at once.
    pub(super) fn needs_folder(&self, folder: &FilePath, swept: bool) -> Option<u64> {
        let unchanged = |changed: &Changed| !changed.folders.contains(folder);
        let swept = swept && self.swept && self.changed.as_ref().is_some_and(unchanged);
        (!swept && !self.folders.contains(folder)).then_some(self.changes)
    }

    /// A folder was synced that was looked at when `changes` names had changed.
    pub(super) fn folder_synced(&mut self, folder: FilePath, changes: u64) {
        // Something made meanwhile may not be covered.
        if self.changes != changes {
            return;
        }
        if let Some(changed) = &mut self.changed {
            changed.folders.remove(&folder);
        }
        if self.folders.len() >= FOLDERS {
            self.folders.clear();
        }
        self.folders.insert(folder);
    }

    /// Rather all is synced again than that the list grows without end.
    fn limit(&mut self) {
        let many = |changed: &Changed| changed.files.len() + changed.folders.len() > CHANGED;
        if self.changed.as_ref().is_some_and(many) {
            self.changed = None;
            self.swept = false;
        }
    }
}

/// Waits until a folder with all below it is on stable storage. Links are not followed.
pub(super) fn sync_all(folder: &Path) -> io::Result<()> {
    if sync_file_system(&File::open(folder)?)? {
        return Ok(());
    }
    sync_below(folder)
}

fn sync_below(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_below(&entry.path())?;
        } else if kind.is_file() {
            open_to_sync(&entry.path())?.sync_all()?;
        }
    }
    sync_folder(folder)
}

/// Number of folders remembered as synced.
const FOLDERS: usize = 4096;
/// Number of files and folders remembered as changed.
const CHANGED: usize = 0x1_0000;

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> FilePath {
        FilePath::new(&[name])
    }

    fn swept() -> Stable {
        let mut stable = Stable::default();
        stable.begin();
        stable.ended(true);
        stable
    }

    #[test]
    fn a_file_is_synced_when_it_changed_after_all_was_synced_and_else_not() {
        let mut stable = Stable::default();
        assert!(stable.needs_file(&path("a")), "nothing is known");
        stable.begin();
        stable.file_changed(&path("b"));
        assert!(stable.needs_file(&path("a")), "it is not over");
        stable.ended(true);
        assert!(!stable.needs_file(&path("a")) && stable.needs_file(&path("b")));
        stable.file_changed(&path("a"));
        assert!(stable.needs_file(&path("a")));
        assert!(stable.needs_file(&path("a")), "whoever asks while it is being synced waits, too");
        stable.file_synced(&path("a"));
        assert!(!stable.needs_file(&path("a")));
        stable.begin();
        stable.ended(false);
        assert!(stable.needs_file(&path("a")), "all was not synced");
    }

    #[test]
    fn a_folder_is_synced_when_names_in_it_changed_and_else_not() {
        let mut stable = swept();
        assert_eq!(stable.needs_folder(&path("a"), true), None);
        assert!(stable.needs_folder(&path("a"), false).is_some(), "on another file system");
        stable.name_changed(&path("a/b"));
        let changes = stable.needs_folder(&path("a"), true).unwrap();
        stable.name_changed(&path("a/c"));
        stable.folder_synced(path("a"), changes);
        let changes = stable.needs_folder(&path("a"), true).expect("c was made meanwhile");
        stable.folder_synced(path("a"), changes);
        assert_eq!(stable.needs_folder(&path("a"), true), None);
        assert_eq!(stable.needs_folder(&path("a"), false), None);
    }

    #[test]
    fn what_was_not_synced_is_not_under_another_name_either() {
        let mut stable = swept();
        for file in ["new/a", "new/b/c", "newer"] {
            stable.file_changed(&path(file));
        }
        stable.name_changed(&path("new/b/c"));
        stable.file_changed(&path("old/gone"));
        stable.renamed(&path("new"), &path("old"));
        for file in ["old/a", "old/b/c", "newer"] {
            assert!(stable.needs_file(&path(file)), "{file}");
        }
        for file in ["new/a", "new/b/c", "old/gone"] {
            assert!(!stable.needs_file(&path(file)), "{file}");
        }
        assert!(stable.needs_folder(&path("old/b"), true).is_some());
    }

    #[test]
    fn when_too_much_changed_nothing_is_known() {
        let change_all = |stable: &mut Stable| {
            (0..=CHANGED).for_each(|n| stable.file_changed(&path(&n.to_string())));
        };
        let mut stable = swept();
        change_all(&mut stable);
        assert!(!stable.swept && stable.needs_file(&path("x")));
        assert!(stable.needs_folder(&path("x"), true).is_some());
        stable.begin();
        change_all(&mut stable);
        stable.ended(true);
        assert!(stable.needs_file(&path("x")), "meanwhile");
    }
}
