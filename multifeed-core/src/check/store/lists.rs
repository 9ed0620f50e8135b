//! The lists of feeds, in the layout of corestore.
//!
//! A list is private to its store, and all that is on it follows from the folders of the feeds but the names
//! that feeds of others have here, which nothing depends on. So one that cannot be repaired is made anew:
//! from the lines that are left of it, the names of writers, and the folders that belong to no other list.
//! What was there before is set aside, not removed.

use std::collections::{BTreeMap, BTreeSet};

use multifeed_proto::{FeedKey, RootKey, to_hex};

use super::{Reports, StoreCheck, StoreFinding, StoreReport, subject};
use crate::check::{FeedFolder, Report, list as lines};
use crate::feed::{OpenStep, Opening};
use crate::format::corestore::{self, Part};
use crate::format::{list, numbered, sleep};
use crate::node::{Layout, NodeError};
use crate::storage::{FilePath, Op, StorageError, StorageErrorKind};

/// One list.
struct List {
    root: RootKey,
    /// The folder that it has, or would have.
    folder: FilePath,
    reports: Option<Reports>,
    /// Its entries: those that are proven, or those that are left.
    entries: Vec<list::Entry>,
}

/// All lists of a store.
#[derive(Default)]
pub(super) struct Lists {
    all: Vec<List>,
    /// By the discovery key of a feed: the list that it is on, and its place there.
    by_feed: BTreeMap<String, (usize, usize)>,
    /// By the folder of a feed: what its name is for.
    names: BTreeMap<String, Name>,
    /// Folders with something in them that are on no list: with their keys.
    off: Vec<(FeedFolder, FeedKey)>,
    here: BTreeSet<String>,
    /// Names that lead to their folder, and names that do not.
    named: u64,
    misnamed: u64,
}

enum Name {
    /// A writer of the multifeed with this root key.
    Writer(RootKey, String),
    /// Something else.
    Other,
}

impl Lists {
    pub(super) fn is_list(&self, folder: &str) -> bool {
        self.all.iter().any(|list| list.folder.as_str().ends_with(folder))
    }

    /// The entry of a feed, and the root key of the list that it is on.
    pub(super) fn entry(&self, folder: &str) -> Option<(&RootKey, &list::Entry)> {
        let (list, entry) = self.by_feed.get(folder)?;
        let list = self.all.get(*list)?;
        Some((&list.root, list.entries.get(*entry)?))
    }

    /// The feed with this name, a writer of this store before others.
    pub(super) fn named(&self, name: &str) -> Option<FeedKey> {
        let entries = || self.all.iter().flat_map(|list| &list.entries);
        let mut named = entries().filter(|entry| entry.name == name);
        let written =
            |entry: &&list::Entry| self.names.contains_key(&entry.key.discovery_key().to_hex());
        let writer = named.clone().find(written);
        writer.or_else(|| named.next()).map(|entry| entry.key)
    }

    /// A feed is kept out of the store: it may be on the list.
    pub(super) fn kept_out(&mut self, folder: &str) {
        self.here.insert(folder.to_owned());
    }

    /// A feed was checked.
    pub(super) fn checked(&mut self, folder: &FeedFolder, report: &Report) {
        self.here.insert(folder.name.clone());
        let is_empty = report.recorded == 0 && report.proven == 0 && report.held == 0;
        // A kill may leave the key pair of a writer that nobody was told of.
        if let Some(key) = report.key.filter(|_| !is_empty) {
            if !self.by_feed.contains_key(&folder.name) {
                self.off.push((folder.clone(), key));
            }
        }
    }

    fn index(&mut self, list: usize) {
        for (at, entry) in self.all[list].entries.iter().enumerate() {
            let name = entry.key.discovery_key().to_hex();
            self.by_feed.entry(name).or_insert((list, at));
        }
    }
}

impl StoreCheck<'_> {
    /// Finds the lists, by the root key that is known and by the names of writers and lists, and checks them.
    pub(super) fn lists(
        &mut self,
        folders: &[FeedFolder],
        repair: bool,
    ) -> Result<Lists, StorageError> {
        let mut lists = Lists::default();
        let Some(master) = self.master.clone() else { return Ok(lists) };
        let corestore: Vec<&FeedFolder> =
            folders.iter().filter(|folder| folder.layout == Layout::Corestore).collect();
        let mut roots: BTreeMap<String, RootKey> = BTreeMap::new();
        if let Some(root) = self.root.clone().filter(|_| !corestore.is_empty()) {
            roots.insert(to_hex(root.expose()), root);
        }
        for folder in &corestore {
            let path = folder.path.join(corestore::NAME);
            let read = Op::Read { path, offset: 0, len: corestore::MAX_NAME + 4 };
            let Some(file) = self.try_read(read).filter(|file| !file.is_empty()) else { continue };
            let name = corestore::decode_name(&file);
            let fits = |name: &&str| {
                let key = corestore::derive(&master, name).public();
                key.discovery_key().to_hex() == folder.name
            };
            let is_name = name.is_some();
            let Some(name) = name.filter(fits) else {
                lists.misnamed += u64::from(is_name);
                continue;
            };
            lists.named += 1;
            let part = corestore::multifeed_of_name(name);
            let root = part.and_then(|(root, _)| RootKey::from_hex(root).ok());
            if let Some(root) = &root {
                roots.entry(to_hex(root.expose())).or_insert_with(|| root.clone());
            }
            let name = match (part, root) {
                (Some((_, Part::Writer(name))), Some(root)) => Name::Writer(root, name.to_owned()),
                _ => Name::Other,
            };
            lists.names.insert(folder.name.clone(), name);
        }
        if lists.misnamed > 0 && lists.named == 0 {
            // It tells nothing of this store, and no list is made with it.
            self.findings.push(StoreFinding::MasterKeyOther);
            self.master = None;
            return Ok(Lists::default());
        }
        for root in roots.into_values() {
            let name = corestore::list_name(&root);
            let key = corestore::derive(&master, &name).public();
            let folder = corestore::folder(&key.discovery_key());
            let mut list = List { root, folder, reports: None, entries: Vec::new() };
            if let Some(found) = corestore.iter().find(|found| found.path == list.folder) {
                let mut subject = subject(found);
                (subject.keep_blocks, subject.key) = (true, Some(key));
                subject.name = Some(name);
                let (reports, blocks) = self.feed(subject, repair)?;
                let last = reports.1.as_ref().unwrap_or(&reports.0);
                let proven = blocks.iter().filter_map(|block| list::decode(block)).collect();
                list.entries =
                    if is_whole(last) { proven } else { self.left_of(&list.folder, proven) };
                list.reports = Some(reports);
            }
            lists.all.push(list);
            lists.index(lists.all.len() - 1);
        }
        Ok(lists)
    }

    /// What is left of a list that cannot be repaired: what is proven, and the lines of feeds that are here.
    fn left_of(&mut self, folder: &FilePath, proven: Vec<list::Entry>) -> Vec<list::Entry> {
        let path = folder.join(sleep::DATA);
        let data = self.try_read(Op::Read { path, offset: 0, len: MAX_LIST });
        let here: BTreeSet<&str> = self.folders.iter().map(|folder| &*folder.name).collect();
        let mut known: BTreeSet<FeedKey> = BTreeSet::new();
        let mut left = Vec::new();
        let is_here = |entry: &list::Entry| here.contains(&*entry.key.discovery_key().to_hex());
        let lines = data.map(|data| lines::salvage(&data)).unwrap_or_default();
        let lines = lines.into_iter().filter(is_here);
        for entry in lines.chain(proven) {
            if known.insert(entry.key) {
                left.push(entry);
            }
        }
        left
    }

    /// Says what is off the lists, completes them, and makes those anew that cannot be repaired.
    pub(super) fn settle_lists(
        &mut self,
        mut lists: Lists,
        blocked: &BTreeSet<FeedKey>,
        repair: bool,
        seen: &mut impl FnMut(&StoreReport),
    ) -> Result<(), StorageError> {
        let off = std::mem::take(&mut lists.off);
        for at in 0..lists.all.len() {
            let added = self.belonging(&lists, at, &off);
            let list = &mut lists.all[at];
            let whole = list
                .reports
                .as_ref()
                .is_some_and(|(found, repaired)| is_whole(repaired.as_ref().unwrap_or(found)));
            let is_here =
                |entry: &list::Entry| lists.here.contains(&entry.key.discovery_key().to_hex());
            if list.reports.is_none() && added.is_empty() {
                if !list.entries.iter().any(is_here) {
                    self.findings.push(StoreFinding::NoList);
                }
                continue;
            }
            let listed = added.iter().map(|(_, entry)| entry.clone());
            if whole {
                let entries: Vec<list::Entry> = listed.collect();
                if repair && !entries.is_empty() {
                    self.complete_list(list, &entries)?;
                }
            } else if repair {
                list.entries.extend(listed);
                self.make_list(list)?;
            } else if list.reports.is_none() {
                self.findings.push(StoreFinding::ListMissing { made: false });
            }
            for (folder, _) in added.iter().filter(|_| whole || list.reports.is_some()) {
                let folder = folder.clone();
                self.findings.push(StoreFinding::NotListed {
                    folder,
                    belongs: true,
                    listed: repair,
                });
            }
            if let Some((found, repaired)) = list.reports.take() {
                seen(&StoreReport { found, repaired, name: None, is_list: true });
            }
        }
        for (folder, _) in &off {
            let alone = lists.all.len() == 1;
            if !lists.names.contains_key(&folder.name) && !alone && !lists.all.is_empty() {
                let folder = folder.path.as_str().to_owned();
                let finding = StoreFinding::NotListed { folder, belongs: false, listed: false };
                self.findings.push(finding);
            }
        }
        for (name, (list, entry)) in &lists.by_feed {
            let Some(entry) = lists.all[*list].entries.get(*entry) else { continue };
            if !lists.here.contains(name) && !blocked.contains(&entry.key) {
                self.findings.push(StoreFinding::NoFolder { key: entry.key });
            }
        }
        Ok(())
    }

    /// The feeds among those on no list that belong on this one, each with its folder and its line.
    fn belonging(
        &self,
        lists: &Lists,
        at: usize,
        off: &[(FeedFolder, FeedKey)],
    ) -> Vec<(String, list::Entry)> {
        let list = &lists.all[at];
        let mut count = list.entries.len();
        let mut belonging = Vec::new();
        for (folder, key) in off {
            let name = match lists.names.get(&folder.name) {
                Some(Name::Writer(root, name)) if root.expose() == list.root.expose() => {
                    name.clone()
                }
                Some(Name::Writer(..) | Name::Other) => continue,
                // What the JavaScript calls a feed by others.
                None if lists.all.len() == 1 => count.to_string(),
                None => continue,
            };
            count += 1;
            belonging.push((folder.path.as_str().to_owned(), list::Entry { key: *key, name }));
        }
        belonging
    }

    /// Adds lines to a list that is whole.
    fn complete_list(
        &mut self,
        list: &mut List,
        entries: &[list::Entry],
    ) -> Result<(), StorageError> {
        let Some(master) = self.master.clone() else { return Ok(()) };
        let secret = corestore::derive(&master, &corestore::list_name(&list.root));
        let (mut opening, mut ops) = Opening::new(secret.public(), list.folder.clone());
        let feed = loop {
            match opening.answered(self.run(ops), |_| Some(secret.clone())) {
                OpenStep::Read(more) => ops = more,
                OpenStep::Done(feed) => break *feed,
                OpenStep::Failed(error) => return Err(failed(&list.folder, error)),
            }
        };
        for ops in lines::append(feed, entries).map_err(|error| failed(&list.folder, error))? {
            self.run_all(ops)?;
        }
        self.check_list(list)
    }

    /// Writes a list anew; what was there is set aside.
    fn make_list(&mut self, list: &mut List) -> Result<(), StorageError> {
        let Some(master) = self.master.clone() else { return Ok(()) };
        let new = FilePath::new(&[numbered::UNNUMBERED]);
        self.run_all(Vec::from([Op::Remove { path: new.clone() }]))?;
        let batches = lines::write(&list.root, &master, &new, &list.entries);
        for ops in batches.map_err(|error| failed(&list.folder, error))? {
            self.run_all(ops)?;
        }
        if list.reports.is_some() {
            let to = self.free_name(&FilePath::new(&[LIST_ASIDE]))?;
            let aside = to.as_str().to_owned();
            self.run_all(Vec::from([Op::Rename { from: list.folder.clone(), to }]))?;
            self.findings.push(StoreFinding::ListMade { aside });
        } else {
            self.findings.push(StoreFinding::ListMissing { made: true });
        }
        let to = list.folder.clone();
        self.run_all(Vec::from([Op::Rename { from: new, to }]))?;
        self.run_all(Vec::from([Op::Sync { path: list.folder.join(sleep::KEY) }]))?;
        self.check_list(list)
    }

    fn check_list(&mut self, list: &mut List) -> Result<(), StorageError> {
        let name = list.folder.as_str().rsplit('/').next().unwrap_or_default().to_owned();
        let folder = FeedFolder { path: list.folder.clone(), name, layout: Layout::Corestore };
        let ((found, _), _) = self.feed(subject(&folder), false)?;
        let before = list.reports.take().map_or_else(|| found.clone(), |(before, _)| before);
        list.reports = Some((before, Some(found)));
        Ok(())
    }
}

/// Whether nothing of a list is lost, and lines can be added.
fn is_whole(report: &Report) -> bool {
    report.is_sound() && report.lost == 0 && report.writer
}

fn failed(folder: &FilePath, error: NodeError) -> StorageError {
    if let NodeError::Storage(error) = error {
        return error;
    }
    let (doing, kind) = ("write the list of feeds in", StorageErrorKind::Io(error.to_string()));
    StorageError { doing, path: folder.clone(), kind }
}

/// Bytes of the data file of a list that are looked at.
const MAX_LIST: usize = 64 * 1024 * 1024;
/// How the folder of a list is called that was replaced. Ours: the JavaScript does not look at it.
const LIST_ASIDE: &str = "multifeed.list";
