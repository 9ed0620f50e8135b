//! All feeds of a store.
//!
//! | file | what is in it |
//! |---|---|
//! | `finding` | what can be wrong with the store as a whole |
//! | `lists` | the lists of feeds, in the layout of corestore: checked, completed, made anew |
//! | `numbered` | gaps and names in the layout of multifeed 6 |
//! | `truncate` | the end of a log given up on demand |

mod finding;
mod lists;
mod numbered;
mod truncate;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use multifeed_proto::{FeedKey, RootKey};
use zeroize::Zeroizing;

pub use finding::{StoreFinding, StoreReport};
pub use truncate::{TruncateError, Truncation};

use super::modes;
use super::{Check, Checked, FeedFolder, Finding, Folders, FoldersStep, Report, Step, Subject};
use crate::format::{blocked, corestore, sleep};
use crate::node::{LOCK_FILE, Layout};
use crate::storage::{Answer, Batch, BatchId, FilePath, Files, Op, StorageError};

/// The check of a whole store. Holds its lock until it is dropped.
#[derive(Debug)]
pub struct StoreCheck<'a> {
    files: &'a dyn Files,
    root: Option<RootKey>,
    master: Option<Zeroizing<[u8; 32]>>,
    folders: Vec<FeedFolder>,
    /// Feeds that are kept out of the store: what is left of them is not looked at. `None`: the list of
    /// them is damaged.
    blocked: Option<BTreeSet<FeedKey>>,
    /// The master key is there and may not be read.
    hidden: bool,
    /// The process that has a store open which is only checked.
    held_by: Option<u32>,
    next_batch: u64,
    findings: Vec<StoreFinding>,
}

/// A feed as it was found, and as it is after a repair.
type Reports = (Report, Option<Report>);

impl<'a> StoreCheck<'a> {
    /// Locks the store and finds its feeds. With the root key the list of feeds is checked, too, and
    /// helps where a folder does not tell its key.
    ///
    /// Files that are only read ([`Files::is_read_only`]) cannot be repaired, and are checked too while another process
    /// has them open ([`held_by`](Self::held_by)): feeds that seem damaged are looked at again then.
    ///
    /// # Errors
    ///
    /// If the store is to be repaired and in use, or cannot be read.
    pub fn new(files: &'a dyn Files, root: Option<RootKey>) -> Result<Self, StorageError> {
        let mut check = Self {
            files,
            root,
            master: None,
            folders: Vec::new(),
            blocked: Some(BTreeSet::new()),
            hidden: false,
            held_by: None,
            next_batch: 0,
            findings: Vec::new(),
        };
        let lock = Op::Lock { path: FilePath::new(&[LOCK_FILE]) };
        if files.is_read_only() {
            check.held_by = files.keep_still(lock.path());
        } else {
            check.run_all(Vec::from([lock]))?;
        }
        let path = FilePath::new(&[corestore::MASTER_KEY]);
        if let Some(bytes) = check.try_read(Op::Read { path: path.clone(), offset: 0, len: 32 }) {
            let master = <[u8; 32]>::try_from(&bytes[..]).ok().filter(|key| *key != [0; 32]);
            check.master = master.map(Zeroizing::new);
        } else if files.is_read_only() {
            let length = check.run(Vec::from([Op::Length { path }]));
            check.hidden = matches!(length[..], [Ok(Answer::Length(_))]);
        }
        if let Some(bytes) = check.try_read(blocked::read()) {
            check.blocked = blocked::decode(&bytes);
        }
        let (mut folders, mut ops) = Folders::new();
        check.folders = loop {
            match folders.answered(check.run(ops)) {
                FoldersStep::Read(next) => ops = next,
                FoldersStep::Done(found) => break found,
                FoldersStep::Failed(error) => return Err(error),
            }
        };
        for error in folders.unreadable() {
            check.unreadable(error);
        }
        Ok(check)
    }

    /// The process that has the store open, 0 if its number is not known. What is found may be a moment old then.
    #[must_use]
    pub const fn held_by(&self) -> Option<u32> {
        self.held_by
    }

    /// Folders of feeds.
    #[must_use]
    pub fn folders(&self) -> &[FeedFolder] {
        &self.folders
    }

    /// Checks all feeds, and repairs them if asked to. `seen` is given each feed when it is done. A feed whose
    /// files cannot be read is damaged, and the others are checked all the same.
    ///
    /// # Errors
    ///
    /// The first storage error that is not one file's; what was repaired before it stays.
    pub fn check(
        &mut self,
        repair: bool,
        mut seen: impl FnMut(&StoreReport),
    ) -> Result<Vec<StoreFinding>, StorageError> {
        let folders = self.folders.clone();
        let files = modes::open_to_others(self.files, &folders, repair);
        if files > 0 {
            self.findings.push(StoreFinding::OpenToOthers { files });
        }
        let corestore = folders.iter().any(|feed| feed.layout == Layout::Corestore);
        if corestore && self.master.is_none() && !self.hidden {
            self.findings.push(StoreFinding::MasterKeyMissing);
        }
        let blocked = self.blocked.clone().unwrap_or_else(|| {
            self.findings.push(StoreFinding::BlockedList);
            BTreeSet::new()
        });
        let mut lists = self.lists(&folders, repair)?;
        let candidates = self.keys(&folders);
        let mut numbered = BTreeMap::new();
        for folder in &folders {
            if lists.is_list(&folder.name) {
                continue;
            }
            if self.is_kept_out(folder, &blocked)? {
                lists.kept_out(&folder.name);
                continue;
            }
            let entry = lists.entry(&folder.name);
            let mut subject = subject(folder);
            if let Some((root, entry)) = entry {
                subject.key = Some(entry.key);
                subject.name = Some(corestore::writer_name(root, &entry.name));
            }
            let mut name = entry.map(|(_, entry)| entry.name.clone());
            if folder.layout == Layout::Numbered {
                subject.candidates.clone_from(&candidates);
            }
            let ((found, repaired), _) = self.feed(subject, repair)?;
            let last = repaired.as_ref().unwrap_or(&found);
            if folder.layout == Layout::Numbered {
                name = self.local_name(folder, last, repair)?;
                if let Some(other) = last.key.and_then(|key| numbered.insert(key, folder)) {
                    let (folder, other) = (folder.name.clone(), other.name.clone());
                    self.findings.push(StoreFinding::SameFeed { folder, other });
                }
            } else {
                lists.checked(folder, last);
            }
            seen(&StoreReport { found, repaired, name, is_list: false });
        }
        self.settle_lists(lists, &blocked, repair, &mut seen)?;
        self.fill_gaps(repair)?;
        Ok(std::mem::take(&mut self.findings))
    }

    fn is_kept_out(
        &mut self,
        folder: &FeedFolder,
        blocked: &BTreeSet<FeedKey>,
    ) -> Result<bool, StorageError> {
        Ok(match folder.layout {
            Layout::Corestore => {
                blocked.iter().any(|key| key.discovery_key().to_hex() == folder.name)
            }
            Layout::Numbered => {
                !blocked.is_empty() && self.key_in(folder).is_some_and(|key| blocked.contains(&key))
            }
        })
    }

    /// The keys that are in numbered folders: a folder may have got the key of another.
    fn keys(&mut self, folders: &[FeedFolder]) -> Vec<FeedKey> {
        let numbered = folders.iter().filter(|folder| folder.layout == Layout::Numbered);
        let keys = numbered.filter_map(|folder| self.key_in(folder));
        let keys: BTreeSet<FeedKey> = keys.filter(|key| !key.is_weak()).collect();
        keys.into_iter().take(MAX_CANDIDATES).collect()
    }

    /// Checks one feed, repairs it and checks it again, until nothing changes any more. A file that cannot be read
    /// is a finding; a folder in the place of a file is set aside by a repair.
    fn feed(
        &mut self,
        subject: Subject,
        repair: bool,
    ) -> Result<(Reports, Vec<Bytes>), StorageError> {
        let mut checked = self.once(&subject)?;
        for _ in 0..if self.held_by.is_some() { LOOKS } else { 0 } {
            if checked.report.is_sound() {
                break;
            }
            // It may have been written to meanwhile.
            checked = self.once(&subject)?;
        }
        let found = checked.report.clone();
        let mut repaired = None;
        for _ in 0..if repair { ROUNDS } else { 0 } {
            let mut done = !self.make_way(&subject, &checked.report)?;
            let batches = checked.into_repair();
            done &= batches.is_empty();
            for ops in batches {
                self.run_all(ops)?;
            }
            checked = self.once(&subject)?;
            if done {
                break;
            }
            repaired = Some(checked.report.clone());
        }
        Ok(((found, repaired), checked.blocks))
    }

    fn once(&mut self, subject: &Subject) -> Result<Checked, StorageError> {
        let (mut check, mut ops) = Check::new(subject.clone(), self.master.as_deref());
        loop {
            match check.answered(self.run(ops)) {
                Step::Read(next) => ops = next,
                Step::Done(checked) => return Ok(*checked),
                Step::Failed(error) if error.is_of_file() => {
                    let listed = self.run(Vec::from([Op::List { path: error.path.clone() }]));
                    let in_the_way = matches!(listed[..], [Ok(Answer::Names(_))]);
                    return Ok(Checked::unreadable(subject, &error, in_the_way));
                }
                Step::Failed(error) => return Err(error),
            }
        }
    }

    /// Sets a folder aside that is in the place of a file.
    fn make_way(&mut self, subject: &Subject, report: &Report) -> Result<bool, StorageError> {
        let mut any = false;
        for finding in &report.findings {
            let Finding::Unreadable { file, in_the_way: true, .. } = finding else { continue };
            let path = FilePath::new(&[file]);
            if path.is_within(&subject.folder) {
                let to = self.free_name(&path)?;
                self.run_all(Vec::from([Op::Rename { from: path, to }]))?;
                any = true;
            }
        }
        Ok(any)
    }

    /// A name that nothing has, to set something aside.
    fn free_name(&mut self, path: &FilePath) -> Result<FilePath, StorageError> {
        for number in 1_u32.. {
            let to = FilePath::new(&[&format!("{path}.aside-{number}")]);
            let ops = Vec::from([Op::List { path: to.clone() }, Op::Length { path: to.clone() }]);
            let answers = self.run(ops);
            if answers.iter().any(|answer| matches!(answer, Ok(Answer::NotFound))) {
                let is_there = |answer: &Result<Answer, _>| {
                    matches!(answer, Ok(Answer::Names(_) | Answer::Length(_)))
                };
                if !answers.iter().any(is_there) {
                    return Ok(to);
                }
            }
        }
        Ok(path.clone())
    }

    fn key_in(&mut self, folder: &FeedFolder) -> Option<FeedKey> {
        let read = Op::Read { path: folder.path.join(sleep::KEY), offset: 0, len: 32 };
        self.try_read(read).and_then(|key| <[u8; 32]>::try_from(&key[..]).ok()).map(FeedKey)
    }

    fn unreadable(&mut self, error: &StorageError) {
        let (path, problem) = (error.path.as_str().to_owned(), error.kind.to_string());
        self.findings.push(StoreFinding::Unreadable { path, problem });
    }

    fn run(&mut self, ops: Vec<Op>) -> Vec<Result<Answer, StorageError>> {
        let id = BatchId(self.next_batch);
        self.next_batch += 1;
        self.files.execute(&Batch { id, after: None, ops }).answers
    }

    /// What one operation reads; nothing if the file is not there or cannot be read.
    fn try_read(&mut self, op: Op) -> Option<Bytes> {
        let answers = self.run(Vec::from([op]));
        answers.first()?.as_ref().ok()?.bytes().cloned()
    }

    fn run_all(&mut self, ops: Vec<Op>) -> Result<Vec<Answer>, StorageError> {
        self.run(ops).into_iter().collect()
    }
}

impl Drop for StoreCheck<'_> {
    fn drop(&mut self) {
        self.files.close();
    }
}

fn subject(folder: &FeedFolder) -> Subject {
    Subject {
        folder: folder.path.clone(),
        discovery: (folder.layout == Layout::Corestore).then(|| folder.name.clone()),
        key: None,
        candidates: Vec::new(),
        name: None,
        keep_blocks: false,
    }
}

/// Checks and repairs of one feed: the key, what it hid, and what that hid in turn.
const ROUNDS: u32 = 6;
/// Times that a feed is looked at again that somebody may be writing to.
const LOOKS: u32 = 3;
/// Keys that are tried where nothing is proven under the one in the folder.
const MAX_CANDIDATES: usize = 4_096;
