//! The steps of a conversion, one after another.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::RootKey;
use zeroize::Zeroizing;

use super::copy::{self, Copy};
use super::place::{self, Place};
use super::source::{Found, Kind, Source};
use super::{ConvertError, Converted, Progress, Renamed, list};
use crate::check::{self, Check, FeedFolder, Folders, FoldersStep, Subject};
use crate::format::{blocked, corestore, numbered};
use crate::node::{LOCK_FILE, Layout};
use crate::storage::{Answer, FilePath, Op, SecretBytes, StorageError};

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Run these operations in one batch on the store that is read, and hand the answers to
    /// [`Convert::answered`]. They change nothing there but the lock.
    Read(Vec<Op>),
    /// Run these operations in one batch on the new store, which must be empty at first, and hand the
    /// answers to [`Convert::answered`].
    Write(Vec<Op>),
    /// The new store is complete, and on stable storage.
    Done(Box<Converted>),
    /// The new store is not complete and must be removed.
    Failed(ConvertError),
}

/// One conversion: asks for operations on the store that is read and on the new one.
///
/// Memory: under 1 KiB for each feed, 1 MiB of what is copied, and the list of feeds.
pub struct Convert {
    root: RootKey,
    to: Layout,
    from: Layout,
    /// The master key of the store that is read, if it has one; else the one for the new store.
    master: Zeroizing<[u8; 32]>,
    /// The file that lists the feeds that are kept out of the store, as it is.
    blocked: Option<Bytes>,
    folders: Vec<FeedFolder>,
    found: Found,
    places: Vec<Place>,
    renamed: Vec<Renamed>,
    copy: Copy,
    progress: Progress,
    stage: Stage,
}

enum Stage {
    Lock,
    Look,
    Folders(Folders),
    List(Box<Check>, String),
    Feeds(usize, usize),
    /// The feeds whose small files come next; they are written, or synced.
    Small(usize),
    SmallSync(usize, Vec<Op>),
    /// Where the hole ends that a file begins with, or goes on with.
    Hole,
    Read,
    Write,
    Sync,
    Record(VecDeque<Vec<Op>>),
    Measure(usize, Vec<FilePath>, Vec<Option<u64>>),
    Over,
}

impl Convert {
    /// Starts the conversion of the multifeed with the key `root` to the layout `to`; run the operations
    /// on the store that is read and give the answers back.
    ///
    /// A store in the layout of corestore that is made of another layout has the master key `master`, which
    /// must be random and not used elsewhere.
    #[must_use]
    pub fn new(root: RootKey, to: Layout, master: [u8; 32]) -> (Self, Vec<Op>) {
        let convert = Self {
            root,
            to,
            from: to,
            master: Zeroizing::new(master),
            blocked: None,
            folders: Vec::new(),
            found: Found { sources: Vec::new(), left_out: Vec::new() },
            places: Vec::new(),
            renamed: Vec::new(),
            copy: Copy::default(),
            progress: Progress::default(),
            stage: Stage::Lock,
        };
        (convert, Vec::from([Op::Lock { path: FilePath::new(&[LOCK_FILE]) }]))
    }

    /// How far it is.
    #[must_use]
    pub const fn progress(&self) -> Progress {
        self.progress
    }

    /// Takes the answers to the operations asked for last. After [`Step::Done`] or [`Step::Failed`]
    /// there is nothing more to give, and an empty [`Step::Read`] comes back.
    pub fn answered(&mut self, answers: Vec<Result<Answer, StorageError>>) -> Step {
        let stage = core::mem::replace(&mut self.stage, Stage::Over);
        match self.step(stage, answers) {
            Ok(step) => step,
            Err(error) => Step::Failed(error),
        }
    }

    fn step(
        &mut self,
        stage: Stage,
        answers: Vec<Result<Answer, StorageError>>,
    ) -> Result<Step, ConvertError> {
        #[allow(clippy::wildcard_enum_match_arm, reason = "these two take errors in their own way")]
        let stage = match stage {
            Stage::Folders(folders) => return self.folders(folders, answers),
            Stage::List(check, name) => return self.list(check, name, answers),
            stage => stage,
        };
        let writes = matches!(
            stage,
            Stage::Small(_) | Stage::SmallSync(..) | Stage::Write | Stage::Sync | Stage::Record(_)
        );
        let failed = if writes { ConvertError::Write } else { ConvertError::Read };
        let answers = answers.into_iter().collect::<Result<Vec<_>, _>>().map_err(failed)?;
        match stage {
            Stage::Lock => Ok(self.look()),
            Stage::Look => self.looked(&answers),
            Stage::Feeds(from, to) => self.feeds(from, to, answers),
            Stage::Small(next) => self.small(next),
            Stage::SmallSync(next, ops) => {
                self.stage = Stage::Small(next);
                Ok(Step::Write(ops))
            }
            Stage::Hole => {
                self.copy.looked(&self.found.sources, answers.first(), &mut self.progress);
                self.read()
            }
            Stage::Read => {
                let ops = self.copy.write(&answers, &mut self.progress)?;
                self.stage = Stage::Write;
                Ok(Step::Write(ops))
            }
            Stage::Write => {
                let ops = self.copy.sync();
                if ops.is_empty() {
                    return self.read();
                }
                self.stage = Stage::Sync;
                Ok(Step::Write(ops))
            }
            Stage::Sync => self.read(),
            Stage::Record(batches) => Ok(self.record(batches)),
            Stage::Measure(next, paths, lengths) => {
                copy::is_unchanged(&paths, &lengths, &answers)?;
                Ok(self.measure(next))
            }
            Stage::Folders(_) | Stage::List(..) | Stage::Over => Ok(Step::Read(Vec::new())),
        }
    }

    fn look(&mut self) -> Step {
        self.stage = Stage::Look;
        let path = FilePath::new(&[corestore::MASTER_KEY]);
        let key = Op::Read { path, offset: 0, len: 32 };
        Step::Read(Vec::from([key, Op::List { path: FilePath::root() }, blocked::read()]))
    }

    fn looked(&mut self, answers: &[Answer]) -> Result<Step, ConvertError> {
        let names = match answers.get(1) {
            Some(Answer::Names(names)) => &names[..],
            _ => &[],
        };
        if let Some(bytes) = answers.get(2).and_then(Answer::bytes) {
            if blocked::decode(bytes).is_none() {
                let (path, problem) = (blocked::FILE.into(), "a line of it is no feed key");
                return Err(ConvertError::Damaged { path, problem });
            }
            self.blocked = Some(bytes.clone());
        }
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        self.from = if has(corestore::MASTER_KEY) {
            let master = answers.first().and_then(Answer::bytes);
            let Some(master) = master.and_then(|bytes| bytes.first_chunk::<32>()) else {
                let (path, problem) = (corestore::MASTER_KEY.into(), "it is shorter than 32 bytes");
                return Err(ConvertError::Damaged { path, problem });
            };
            self.master = Zeroizing::new(*master);
            Layout::Corestore
        } else if has(numbered::FIRST) || has(numbered::MARK) {
            Layout::Numbered
        } else {
            return Err(ConvertError::NoStore);
        };
        let (folders, ops) = Folders::new();
        self.stage = Stage::Folders(folders);
        Ok(Step::Read(ops))
    }

    fn folders(
        &mut self,
        mut folders: Folders,
        answers: Vec<Result<Answer, StorageError>>,
    ) -> Result<Step, ConvertError> {
        match folders.answered(answers) {
            FoldersStep::Read(ops) => {
                self.stage = Stage::Folders(folders);
                return Ok(Step::Read(ops));
            }
            FoldersStep::Failed(error) => return Err(ConvertError::Read(error)),
            FoldersStep::Done(found) => self.folders = found,
        }
        if self.from == Layout::Numbered {
            self.found = Found::numbered(&self.folders);
            return self.look_at_feeds(0);
        }
        let name = corestore::list_name(&self.root);
        let key = corestore::derive(&self.master, &name).public();
        let list = key.discovery_key().to_hex();
        let feeds = |feed: &&FeedFolder| feed.layout == Layout::Corestore;
        if self.folders.iter().find(feeds).is_none() {
            return self.listed(&[], &list);
        }
        let Some(folder) = self.folders.iter().filter(feeds).find(|feed| feed.name == list) else {
            return Err(ConvertError::NoMultifeed);
        };
        let subject = Subject {
            folder: folder.path.clone(),
            discovery: Some(list.clone()),
            key: Some(key),
            candidates: Vec::new(),
            name: Some(name),
            keep_blocks: true,
        };
        let (check, ops) = Check::new(subject, Some(&self.master));
        self.stage = Stage::List(Box::new(check), list);
        Ok(Step::Read(ops))
    }

    fn list(
        &mut self,
        mut check: Box<Check>,
        list: String,
        answers: Vec<Result<Answer, StorageError>>,
    ) -> Result<Step, ConvertError> {
        let checked = match check.answered(answers) {
            check::Step::Read(ops) => {
                self.stage = Stage::List(check, list);
                return Ok(Step::Read(ops));
            }
            check::Step::Failed(error) => return Err(ConvertError::Read(error)),
            check::Step::Done(checked) => checked,
        };
        let report = &checked.report;
        if !report.is_sound() || checked.blocks.len() as u64 != report.proven {
            let (path, problem) = (report.folder.clone(), "the list of feeds is damaged");
            return Err(ConvertError::Damaged { path, problem });
        }
        self.listed(&checked.blocks, &list)
    }

    fn listed(&mut self, blocks: &[Bytes], list: &str) -> Result<Step, ConvertError> {
        self.found = Found::listed(&self.folders, blocks, list, self.to == self.from);
        self.look_at_feeds(0)
    }

    fn look_at_feeds(&mut self, from: usize) -> Result<Step, ConvertError> {
        if from >= self.found.sources.len() {
            return self.place();
        }
        let (to, ops) = self.found.look(from, self.from);
        self.stage = Stage::Feeds(from, to);
        Ok(Step::Read(ops))
    }

    fn feeds(
        &mut self,
        from: usize,
        to: usize,
        answers: Vec<Answer>,
    ) -> Result<Step, ConvertError> {
        let master = &self.master;
        let named = self.from == Layout::Corestore;
        let derive = |name: &str| named.then(|| corestore::derive(master, name));
        if self.found.looked(from, answers, self.from, &derive, &self.root)? {
            return self.look_at_feeds(to);
        }
        self.place()
    }

    fn place(&mut self) -> Result<Step, ConvertError> {
        (self.places, self.renamed) = place::places(&self.found.sources, self.from, self.to)?;
        self.progress.feeds = self.found.sources.len() as u64;
        self.progress.bytes = self.found.sources.iter().map(Source::bytes).sum();
        self.small(0)
    }

    /// Writes the small files of the next feeds.
    fn small(&mut self, from: usize) -> Result<Step, ConvertError> {
        let to = self.places.len().min(from + SMALL_AT_ONCE);
        let pairs = self.found.sources[from..to].iter().zip(&self.places[from..to]);
        let ops =
            pairs.flat_map(|(source, place)| place::small_files(source, place, self.from, self.to));
        let ops: Vec<Op> = ops.collect();
        if from == to {
            return self.read();
        }
        let writes = ops.iter().filter(|op| matches!(op, Op::Write { .. }));
        let syncs = writes.map(|op| Op::Sync { path: op.path().clone() }).collect();
        self.stage = Stage::SmallSync(to, syncs);
        Ok(Step::Write(ops))
    }

    fn read(&mut self) -> Result<Step, ConvertError> {
        let ops = self.copy.read(&self.found.sources, &self.places);
        if !ops.is_empty() {
            self.stage = Stage::Read;
            return Ok(Step::Read(ops));
        }
        if let Some(op) = self.copy.look(&self.found.sources) {
            self.stage = Stage::Hole;
            return Ok(Step::Read(Vec::from([op])));
        }
        self.progress.feeds_done = self.progress.feeds;
        let mut batches = VecDeque::new();
        let kept_out = self.blocked.take().map(|file| {
            let path = FilePath::new(&[blocked::FILE]);
            Vec::from([Op::CreateSecret { path, data: SecretBytes::from(&file[..]) }])
        });
        match self.to {
            Layout::Corestore => {
                if self.from != self.to {
                    let (sources, places) = (&self.found.sources, &self.places);
                    batches = list::batches(&self.root, &self.master, sources, places)?;
                }
                batches.extend(kept_out);
                // Last of all: without it there are feeds, but no store.
                let path = FilePath::new(&[corestore::MASTER_KEY]);
                let data = SecretBytes::from(&self.master[..]);
                batches.push_back(Vec::from([Op::CreateSecret { path, data }]));
            }
            Layout::Numbered => {
                batches.extend(kept_out);
                let path = FilePath::new(&[numbered::MARK]);
                let data = Bytes::new();
                batches.push_back(Vec::from([Op::Write { path: path.clone(), offset: 0, data }]));
                batches.push_back(Vec::from([Op::Sync { path }]));
            }
        }
        Ok(self.record(batches))
    }

    fn record(&mut self, mut batches: VecDeque<Vec<Op>>) -> Step {
        let Some(ops) = batches.pop_front() else { return self.measure(0) };
        self.stage = Stage::Record(batches);
        Step::Write(ops)
    }

    /// Measures the files that were read again: the JavaScript takes no lock.
    fn measure(&mut self, from: usize) -> Step {
        let sources = &self.found.sources;
        let to = sources.len().min(from + SMALL_AT_ONCE);
        if from < to {
            let (ops, lengths) = copy::measure(&sources[from..to]);
            let paths = ops.iter().map(|op| op.path().clone()).collect();
            self.stage = Stage::Measure(to, paths, lengths);
            return Step::Read(ops);
        }
        let members = sources.iter().filter(|source| source.kind == Kind::Member);
        Step::Done(Box::new(Converted {
            feeds: members.clone().count() as u64,
            writers: members.filter(|source| place::is_writer(source)).count() as u64,
            bytes: self.progress.bytes_done,
            left_out: core::mem::take(&mut self.found.left_out),
            renamed: core::mem::take(&mut self.renamed),
        }))
    }
}

impl core::fmt::Debug for Convert {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Convert").field("progress", &self.progress).finish_non_exhaustive()
    }
}

/// Feeds whose small files are written, or whose files are measured, in one batch.
const SMALL_AT_ONCE: usize = 64;
