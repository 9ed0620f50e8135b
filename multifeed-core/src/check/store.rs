//! All feeds of a store.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use multifeed_proto::{FeedKey, RootKey};
use zeroize::Zeroizing;

use super::modes;
use super::{Check, Checked, FeedFolder, Finding, Folders, FoldersStep, Report, Step, Subject};
use crate::format::{blocked, corestore, list, numbered, sleep};
use crate::node::{LOCK_FILE, Layout};
use crate::storage::{Answer, Batch, BatchId, FilePath, Files, Op, StorageError};

/// Something about the store as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreFinding {
    /// There are feeds whose keys follow from the master key, and it is missing or too short.
    #[error(
        "master_key is missing or shorter than 32 bytes: no writer of this store can be opened"
    )]
    MasterKeyMissing,
    /// No name in the store leads to the key of its feed.
    #[error("master_key is not the one that the writers of this store were made with")]
    MasterKeyOther,
    /// The list of feeds of this root key is not here.
    #[error("there is no list of feeds for this root key")]
    NoList,
    /// A feed is here and not on the list: a multifeed does not open it.
    #[error("the feed in {folder} is not on the list of feeds")]
    NotListed {
        /// Its folder.
        folder: String,
    },
    /// A feed is on the list and not here; nothing of it was ever stored, or its folder is lost.
    #[error("the feed {} is on the list, and there is no folder for it", .key.to_hex())]
    NoFolder {
        /// Its key.
        key: FeedKey,
    },
    /// The list of blocked feeds holds something else: the store cannot be opened.
    #[error(
        "a line of {} is no feed key: the store cannot be opened until the line is removed",
        blocked::FILE
    )]
    BlockedList,
    /// Files with the root key or a secret key in them can be read by others than their owner. A repair takes
    /// that from them, and so does whoever opens them to write.
    #[error("{files} files with secrets could be read by other users of this machine")]
    OpenToOthers {
        /// How many.
        files: u64,
    },
    /// A number is missing: multifeed 6 does not open the feeds after it.
    #[error("there is no folder {number}: multifeed 6 does not open the feeds after it")]
    Gap {
        /// The number.
        number: u64,
    },
}

impl StoreFinding {
    /// Whether something is wrong by it. Feeds beside the list can be those of another multifeed or
    /// of an application, and feeds without a folder those of which nothing came yet.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        match self {
            Self::MasterKeyMissing
            | Self::MasterKeyOther
            | Self::BlockedList
            | Self::Gap { .. } => true,
            Self::NoList
            | Self::NotListed { .. }
            | Self::NoFolder { .. }
            | Self::OpenToOthers { .. } => false,
        }
    }

    /// A name for programs, which stays the same.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::MasterKeyMissing => "master-key-missing",
            Self::MasterKeyOther => "master-key-other",
            Self::NoList => "no-list",
            Self::NotListed { .. } => "not-listed",
            Self::NoFolder { .. } => "no-folder",
            Self::BlockedList => "blocked-list",
            Self::OpenToOthers { .. } => "open-to-others",
            Self::Gap { .. } => "gap",
        }
    }
}

/// What was found out about one feed, and what was done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreReport {
    /// As the feed was found.
    pub found: Report,
    /// As it is after the repair, if something was repaired.
    pub repaired: Option<Report>,
    /// Its name: on the list of feeds, or that of a local writer in a numbered folder.
    pub name: Option<String>,
    /// Whether it is the list of feeds itself.
    pub is_list: bool,
}

impl StoreReport {
    /// The feed as it is.
    #[must_use]
    pub fn last(&self) -> &Report {
        self.repaired.as_ref().unwrap_or(&self.found)
    }
}

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
}

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
        let (folders, blocked) = (Vec::new(), Some(BTreeSet::new()));
        let mut check = Self {
            files,
            root,
            master: None,
            folders,
            blocked,
            hidden: false,
            held_by: None,
            next_batch: 0,
        };
        let lock = Op::Lock { path: FilePath::new(&[LOCK_FILE]) };
        if files.is_read_only() {
            check.held_by = files.keep_still(lock.path());
        } else {
            check.run_all(Vec::from([lock]))?;
        }
        let master = FilePath::new(&[corestore::MASTER_KEY]);
        if let Some(bytes) = check.read(Op::Read { path: master.clone(), offset: 0, len: 32 })? {
            check.master = <[u8; 32]>::try_from(&bytes[..]).ok().map(Zeroizing::new);
        } else if files.is_read_only() {
            let length = check.run_all(Vec::from([Op::Length { path: master }]))?;
            check.hidden = matches!(length[..], [Answer::Length(_)]);
        }
        if let Some(bytes) = check.read(blocked::read())? {
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

    /// Checks all feeds, and repairs them if asked to. `seen` is given each feed when it is done.
    ///
    /// # Errors
    ///
    /// The first storage error; what was repaired before it stays.
    pub fn check(
        &mut self,
        repair: bool,
        mut seen: impl FnMut(&StoreReport),
    ) -> Result<Vec<StoreFinding>, StorageError> {
        let mut findings = Vec::new();
        let folders = std::mem::take(&mut self.folders);
        let files = modes::open_to_others(self.files, &folders, repair);
        if files > 0 {
            findings.push(StoreFinding::OpenToOthers { files });
        }
        let corestore = folders.iter().any(|feed| feed.layout == Layout::Corestore);
        if corestore && self.master.is_none() && !self.hidden {
            findings.push(StoreFinding::MasterKeyMissing);
        }
        let numbers = folders.iter().filter(|feed| feed.layout == Layout::Numbered);
        let gap = (0..).zip(numbers).find(|(number, feed)| feed.name != number.to_string());
        if let Some((number, _)) = gap {
            findings.push(StoreFinding::Gap { number });
        }

        let blocked = self.blocked.clone().unwrap_or_else(|| {
            findings.push(StoreFinding::BlockedList);
            BTreeSet::new()
        });
        let discovery: BTreeSet<String> =
            blocked.iter().map(|key| key.discovery_key().to_hex()).collect();

        let list = self.list_folder();
        let mut listed = Listed::default();
        if let Some(list) = list.as_ref().filter(|_| corestore) {
            match folders.iter().find(|feed| feed.name == list.0) {
                Some(folder) => {
                    let mut subject = subject(folder);
                    subject.keep_blocks = true;
                    subject.name = Some(list.1.clone());
                    let (report, blocks) = self.feed(subject, repair)?;
                    listed = Listed::new(&blocks);
                    let (found, repaired) = report;
                    seen(&StoreReport { found, repaired, name: None, is_list: true });
                }
                None => findings.push(StoreFinding::NoList),
            }
        }
        let mut here = BTreeSet::new();
        let (mut named, mut misnamed) = (0_u64, 0_u64);
        for folder in &folders {
            if list.as_ref().is_some_and(|list| list.0 == folder.name) {
                continue;
            }
            let kept_out = match folder.layout {
                Layout::Corestore => discovery.contains(&folder.name),
                Layout::Numbered => {
                    !blocked.is_empty()
                        && self.key_in(folder)?.is_some_and(|key| blocked.contains(&key))
                }
            };
            if kept_out {
                continue;
            }
            let entry = listed.0.get(&folder.name);
            let mut subject = subject(folder);
            subject.key = entry.map(|entry| entry.key);
            if let (Some(entry), Some(root)) = (entry, &self.root) {
                subject.name = Some(corestore::writer_name(root, &entry.name));
            }
            let ((found, repaired), _) = self.feed(subject, repair)?;
            let wrong = |finding: &Finding| matches!(finding, Finding::Name { known: false });
            misnamed += u64::from(found.findings.iter().any(wrong));
            named += u64::from(found.writer);
            if list.is_some() && corestore && folder.layout == Layout::Corestore && entry.is_none()
            {
                findings.push(StoreFinding::NotListed { folder: folder.path.as_str().to_owned() });
            }
            here.insert(folder.name.clone());
            let name = match folder.layout {
                Layout::Corestore => entry.map(|entry| entry.name.clone()),
                Layout::Numbered => self.local_name(folder)?,
            };
            seen(&StoreReport { found, repaired, name, is_list: false });
        }
        if misnamed > 0 && named == 0 {
            findings.push(StoreFinding::MasterKeyOther);
        }
        let absent = listed
            .0
            .iter()
            .filter(|(name, entry)| !here.contains(*name) && !blocked.contains(&entry.key));
        findings.extend(absent.map(|(_, entry)| StoreFinding::NoFolder { key: entry.key }));
        self.folders = folders;
        Ok(findings)
    }

    /// Checks one feed, repairs it and checks it again, until nothing changes any more.
    #[allow(clippy::type_complexity, reason = "two reports and the blocks, taken apart at once")]
    fn feed(
        &mut self,
        subject: Subject,
        repair: bool,
    ) -> Result<((Report, Option<Report>), Vec<Bytes>), StorageError> {
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
            let batches = checked.into_repair();
            let done = batches.is_empty();
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
                Step::Failed(error) => return Err(error),
            }
        }
    }

    fn local_name(&mut self, folder: &FeedFolder) -> Result<Option<String>, StorageError> {
        let path = folder.path.join(numbered::LOCAL_NAME);
        let read = Op::Read { path, offset: 0, len: numbered::MAX_NAME };
        Ok(self.read(read)?.map(|name| numbered::decode_name(&name)))
    }

    fn key_in(&mut self, folder: &FeedFolder) -> Result<Option<FeedKey>, StorageError> {
        let read = Op::Read { path: folder.path.join(sleep::KEY), offset: 0, len: 32 };
        Ok(self.read(read)?.and_then(|key| <[u8; 32]>::try_from(&key[..]).ok()).map(FeedKey))
    }

    /// Folder and name of the list of feeds.
    fn list_folder(&self) -> Option<(String, String)> {
        let name = corestore::list_name(self.root.as_ref()?);
        let key = corestore::derive(self.master.as_deref()?, &name).public();
        Some((key.discovery_key().to_hex(), name))
    }

    fn run(&mut self, ops: Vec<Op>) -> Vec<Result<Answer, StorageError>> {
        let id = BatchId(self.next_batch);
        self.next_batch += 1;
        self.files.execute(&Batch { id, after: None, ops }).answers
    }

    /// What one operation reads.
    fn read(&mut self, op: Op) -> Result<Option<Bytes>, StorageError> {
        Ok(self.run_all(Vec::from([op]))?.first().and_then(Answer::bytes).cloned())
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

/// The entries of the list of feeds, by discovery key.
#[derive(Default)]
struct Listed(BTreeMap<String, list::Entry>);

impl Listed {
    fn new(blocks: &[Bytes]) -> Self {
        let mut entries = BTreeMap::new();
        for entry in blocks.iter().filter_map(|block| list::decode(block)) {
            entries.entry(entry.key.discovery_key().to_hex()).or_insert(entry);
        }
        Self(entries)
    }
}

fn subject(folder: &FeedFolder) -> Subject {
    let discovery = (folder.layout == Layout::Corestore).then(|| folder.name.clone());
    let folder = folder.path.clone();
    Subject { folder, discovery, key: None, candidates: Vec::new(), name: None, keep_blocks: false }
}

/// Checks and repairs of one feed: the key, what it hid, and what that hid in turn.
const ROUNDS: u32 = 4;
/// Times that a feed is looked at again that somebody may be writing to.
const LOOKS: u32 = 3;
