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
use crate::check::{Check, FeedFolder, Folders, Unlisted};
use crate::format::{blocked, corestore, numbered};
use crate::node::layout::{self, Told};
use crate::node::{LOCK_FILE, Layout};
use crate::storage::{Answer, FilePath, Op, SecretBytes, StorageError, StorageErrorKind};

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
    pub(super) root: RootKey,
    to: Layout,
    pub(super) from: Layout,
    /// The process that has the store open which is read.
    held_by: Option<u32>,
    /// The master key of the store that is read, if it has one; else the one for the new store.
    pub(super) master: Zeroizing<[u8; 32]>,
    /// `master` is that of the store that is read.
    pub(super) mastered: bool,
    /// The one for a new store that cannot have that.
    pub(super) fresh: Zeroizing<[u8; 32]>,
    /// The file that lists the feeds that are kept out of the store, as it is.
    blocked: Option<Bytes>,
    pub(super) folders: Vec<FeedFolder>,
    pub(super) found: Found,
    places: Vec<Place>,
    renamed: Vec<Renamed>,
    copy: Copy,
    progress: Progress,
    pub(super) stage: Stage,
}

pub(super) enum Stage {
    Lock,
    Look,
    /// Are the folders with two digits numbered ones?
    Inside,
    Folders(Folders),
    /// The master key is not known: the list is looked for by its name.
    Unlisted(Box<Unlisted>),
    List(Box<Check>, String),
    Feeds(usize, usize),
    /// The feeds whose small files come next; they are written, or synced.
    Small(usize),
    SmallSync(usize, Vec<Op>),
    /// Where the hole ends that a file begins with, or goes on with.
    Hole,
    /// These feeds are measured again, after their bitfields were copied.
    Others(usize, usize),
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
            held_by: None,
            mastered: false,
            master: Zeroizing::new(master),
            fresh: Zeroizing::new(master),
            blocked: None,
            folders: Vec::new(),
            found: Found { sources: Vec::new(), left_out: Vec::new(), unreadable: Vec::new() },
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
        #[allow(clippy::wildcard_enum_match_arm, reason = "these take errors in their own way")]
        let stage = match stage {
            Stage::Lock => return Ok(self.locked(&answers)),
            Stage::Folders(folders) => return self.folders(folders, answers),
            Stage::Unlisted(unlisted) => return self.unlisted(unlisted, answers),
            Stage::List(check, name) => return self.list(check, name, answers),
            Stage::Feeds(from, to) => return self.feeds(from, to, answers),
            stage => stage,
        };
        let writes = matches!(
            stage,
            Stage::Small(_) | Stage::SmallSync(..) | Stage::Write | Stage::Sync | Stage::Record(_)
        );
        let failed = if writes { ConvertError::Write } else { ConvertError::Read };
        let answers = answers.into_iter().collect::<Result<Vec<_>, _>>().map_err(failed)?;
        match stage {
            Stage::Look => self.looked(&answers),
            Stage::Inside => Ok(self.laid_out(layout::inside(&answers))),
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
            Stage::Others(from, to) => {
                copy::others_measured(&mut self.found.sources[from..to], &answers);
                self.others(to)
            }
            Stage::Lock
            | Stage::Feeds(..)
            | Stage::Folders(_)
            | Stage::Unlisted(_)
            | Stage::List(..)
            | Stage::Over => Ok(Step::Read(Vec::new())),
        }
    }

    /// A store that is only read is read also while somebody has its lock, and whatever else hinders that.
    fn locked(&mut self, answers: &[Result<Answer, StorageError>]) -> Step {
        if let Some(Err(error)) = answers.first() {
            if let StorageErrorKind::InUse { process } = error.kind {
                self.held_by = Some(process);
                self.copy.begin_with_bitfields();
            }
        }
        self.look()
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
        let master = answers.first().and_then(Answer::bytes);
        let master = master.and_then(|bytes| bytes.first_chunk::<32>());
        let master = master.filter(|master| **master != [0; 32]);
        if let Some(master) = master {
            self.master = Zeroizing::new(*master);
            self.mastered = true;
        }
        match layout::told(names) {
            Told::Layout(Some(from)) => Ok(self.laid_out(from)),
            Told::Layout(None) => Err(ConvertError::NoStore),
            Told::LookInto(folders) => {
                self.stage = Stage::Inside;
                Ok(Step::Read(folders.into_iter().map(|path| Op::List { path }).collect()))
            }
        }
    }

    fn laid_out(&mut self, from: Layout) -> Step {
        self.from = from;
        let (folders, ops) = Folders::new();
        self.stage = Stage::Folders(folders);
        Step::Read(ops)
    }

    pub(super) fn look_at_feeds(&mut self, from: usize) -> Result<Step, ConvertError> {
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
        answers: Vec<Result<Answer, StorageError>>,
    ) -> Result<Step, ConvertError> {
        let master = &self.master;
        let named = self.from == Layout::Corestore && self.mastered;
        let derive = |name: &str| named.then(|| corestore::derive(master, name));
        self.found.looked(from, answers, self.from, &derive, &self.root)?;
        self.look_at_feeds(to)
    }

    /// Whether the new store is to be the same as the one that is read. Without its master key its writers are
    /// none there, and the list is made anew.
    pub(super) fn is_copy(&self) -> bool {
        self.from == self.to && (self.mastered || self.from == Layout::Numbered)
    }

    fn place(&mut self) -> Result<Step, ConvertError> {
        self.found.leave_out();
        if self.from == Layout::Corestore && !self.mastered {
            // Their names lead to no key.
            self.found.sources.iter_mut().for_each(|source| source.name_file = None);
        }
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
        if self.copy.go_on() {
            return self.others(0);
        }
        self.progress.feeds_done = self.progress.feeds;
        let mut batches = VecDeque::new();
        let kept_out = self.blocked.take().map(|file| {
            let path = FilePath::new(&[blocked::FILE]);
            Vec::from([Op::CreateSecret { path, data: SecretBytes::from(&file[..]) }])
        });
        match self.to {
            Layout::Corestore => {
                if !self.is_copy() {
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

    /// Measures the files of the next feeds again that are copied after their bitfields.
    fn others(&mut self, from: usize) -> Result<Step, ConvertError> {
        let to = self.found.sources.len().min(from + SMALL_AT_ONCE);
        if from < to {
            self.stage = Stage::Others(from, to);
            return Ok(Step::Read(copy::measure_others(&self.found.sources[from..to])));
        }
        let done = self.progress.bytes_done;
        self.progress.bytes = self.found.sources.iter().map(Source::bytes).sum::<u64>().max(done);
        self.read()
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
        // Of a store that somebody has open they may well be longer by now.
        if from < to && self.held_by.is_none() {
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
            held_by: self.held_by,
            left_out: core::mem::take(&mut self.found.left_out),
            unreadable: core::mem::take(&mut self.found.unreadable),
            damaged: Vec::new(),
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
