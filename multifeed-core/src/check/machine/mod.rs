//! The passes over one feed, one after another: small files, bitfield, the opening of the feed as a node
//! does it, and the [`Walk`](super::walk) over what it believes.
//!
//! | file | what is in it |
//! |---|---|
//! | `files` | keys, headers, lengths |
//! | `bits` | the bitfield |
//! | `opening` | the opening, and what comes of a log that is not as its bitfield tells |
//! | `whose` | the key, where nothing is proven under the one that is in the folder |

mod bits;
mod files;
mod opening;
mod whose;

use alloc::boxed::Box;
use alloc::string::String;
#[cfg(feature = "std")]
use alloc::string::ToString;
use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::FeedKey;
use zeroize::Zeroizing;

use super::finding::{Finding, Report};
use super::ledger::Ledger;
use super::plan::Fixes;
use super::walk::Walk;
use crate::crypto::{SecretKey, Verifier};
use crate::feed::{Log, Opening};
use crate::format::forked::{FORKED, FORKED_BYTES, Forked};
use crate::format::{corestore, sleep};
use crate::storage::{Answer, FilePath, Op, StorageError};
use crate::tree::{Bitfield, MAX_LENGTH, NodeIndex, PAGE_SIZE, hash};
use opening::Outcome;

/// A feed to be checked, and what is known of it from elsewhere.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its folder in the store.
    pub folder: FilePath,
    /// The discovery key by which the folder is called, 64 hexadecimal digits, in the layout of
    /// corestore. `None` in the layout of multifeed 6.
    pub discovery: Option<String>,
    /// Its key as the list of feeds tells it; used if the folder does not tell it.
    pub key: Option<FeedKey>,
    /// Keys that the feed may have if nothing is proven under its own.
    pub candidates: Vec<FeedKey>,
    /// Its corestore name as it follows from the list of feeds; used if the folder does not tell it.
    pub name: Option<String>,
    /// Whether to keep the blocks that are sound, for [`Checked::blocks`].
    pub keep_blocks: bool,
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Run these operations in one batch and hand the answers to [`Check::answered`].
    Read(Vec<Op>),
    /// The check is over.
    Done(Box<Checked>),
    /// The files could not be read.
    Failed(StorageError),
}

/// A feed that was checked.
#[derive(Debug)]
pub struct Checked {
    /// What was found.
    pub report: Report,
    /// The sound blocks in their order, if they were to be kept; no more than 64 MiB of them.
    pub blocks: Vec<Bytes>,
    pub(super) fixes: Fixes,
}

/// The check of one feed: reads its files from beginning to end, in pieces, and proves everything.
///
/// Memory: the bitfield four times (each up to 64 MiB, as of a feed that is open), 2 MiB of what
/// is read, and at most 64 MiB for two blocks whose tree nodes are damaged.
pub struct Check {
    subject: Subject,
    master: Option<Zeroizing<[u8; 32]>>,
    ledger: Ledger,
    fixes: Fixes,
    secret: Option<SecretKey>,
    /// What the files with secrets hold: the seed alone, the whole key, the key of the name.
    seed: Option<[u8; 32]>,
    stored_secret: Option<SecretKey>,
    named_secret: Option<SecretKey>,
    has_secret_file: bool,
    has_name_file: bool,
    /// What is in the key file, if it is long enough.
    key_file: Option<[u8; 32]>,
    /// A key that the secret key file tells, other than the one in the key file.
    other_key: Option<FeedKey>,
    /// It was asked whose the files are.
    asked_whose: bool,
    /// What the file that seals the log says.
    sealed: u64,
    /// What the file that proves a fork says.
    forked: Option<Forked>,
    bitfield_len: u64,
    /// Entries in the signatures file.
    signed: u64,
    page_size: usize,
    /// The log that the bitfield tells of as the tree has it, though nothing proves it.
    unproven: Option<Log>,
    bad_pages: Vec<u64>,
    /// The files must stay as they are: the next opening then finds the same.
    protect: bool,
    /// What is told beyond the proven log stays: a writer must know how long it was, also to the JavaScript.
    keep_end: bool,
    /// Findings before a walk that may have to be forgotten.
    findings_before: usize,
    stage: Stage,
}

enum Stage {
    Files,
    /// The pages of the bitfield from this one on.
    Bitfield(u64),
    /// The same once more, to compare their summaries.
    Summaries(u64),
    Opening(Option<Box<Opening>>),
    /// Which key signed a log of one of these lengths?
    Whose(Vec<u64>, Box<Outcome>),
    Walk(Box<Walk>, Log, Mode),
    Over,
}

/// What a walk is for.
enum Mode {
    /// The log is proven.
    Check,
    /// It is not. If every block of it is intact it is signed again, else this is its proven part.
    SignAgain(Box<Outcome>),
    /// Nothing is known of what is held: all that is found intact is marked again.
    Everywhere,
}

impl Checked {
    /// The check of a feed that ended at a file which cannot be read.
    #[cfg(feature = "std")]
    pub(super) fn unreadable(subject: &Subject, error: &StorageError, in_the_way: bool) -> Self {
        let mut ledger = Ledger::new(subject.folder.clone());
        ledger.report.key = subject.key;
        let (file, problem) = (error.path.as_str().into(), error.kind.to_string());
        ledger.find(Finding::Unreadable { file, problem, in_the_way });
        Self { report: ledger.report, blocks: Vec::new(), fixes: Fixes::default() }
    }
}

impl Check {
    /// Starts the check; run the operations and give the answers back. `master` is the master key of
    /// the store, from which the secret keys of named feeds follow.
    #[must_use]
    pub fn new(subject: Subject, master: Option<&[u8; 32]>) -> (Self, Vec<Op>) {
        let ledger = Ledger::new(subject.folder.clone());
        let length = |name| Op::Length { path: ledger.file(name) };
        let ops = Vec::from([
            ledger.read(sleep::KEY, 0, 33),
            ledger.read(sleep::SECRET_KEY, 0, 64),
            ledger.read(corestore::NAME, 0, corestore::MAX_NAME + 4),
            ledger.read(sleep::SEALED, 0, 8),
            ledger.read(sleep::TREE, 0, sleep::HEADER_BYTES),
            ledger.read(sleep::SIGNATURES, 0, sleep::HEADER_BYTES),
            ledger.read(sleep::BITFIELD, 0, sleep::HEADER_BYTES),
            length(sleep::BITFIELD),
            length(sleep::SIGNATURES),
            length(sleep::DATA),
            ledger.read(sleep::CLEARED, 0, sleep::MAX_CLEARED * sleep::CLEARED_BYTES),
            ledger.read(FORKED, 0, FORKED_BYTES + 1),
        ]);
        let check = Self {
            subject,
            master: master.map(|master| Zeroizing::new(*master)),
            ledger,
            fixes: Fixes::default(),
            secret: None,
            seed: None,
            stored_secret: None,
            named_secret: None,
            has_secret_file: false,
            has_name_file: false,
            key_file: None,
            other_key: None,
            asked_whose: false,
            sealed: 0,
            forked: None,
            bitfield_len: 0,
            signed: 0,
            page_size: PAGE_SIZE,
            unproven: None,
            bad_pages: Vec::new(),
            protect: false,
            keep_end: false,
            findings_before: 0,
            stage: Stage::Files,
        };
        (check, ops)
    }

    /// Takes the answers to the operations asked for last. After [`Step::Done`] or [`Step::Failed`]
    /// there is nothing more to give, and an empty [`Step::Read`] comes back.
    pub fn answered(&mut self, answers: Vec<Result<Answer, StorageError>>) -> Step {
        if let Stage::Opening(opening) = &mut self.stage {
            let opening = opening.take();
            return self.opening(opening, answers);
        }
        let answers = match answers.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(answers) => answers,
            Err(error) => {
                self.stage = Stage::Over;
                return Step::Failed(error);
            }
        };
        let read = answers.iter().map(bytes).collect::<Vec<_>>();
        match core::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Files => self.files(&answers, &read),
            Stage::Bitfield(page) => self.bitfield(page, &read),
            Stage::Summaries(page) => self.summaries(page, &read),
            Stage::Whose(lengths, outcome) => self.whose(&lengths, *outcome, &read),
            Stage::Walk(mut walk, log, mode) => {
                walk.answered(&mut self.ledger, &read);
                self.walk(walk, log, mode)
            }
            Stage::Opening(..) | Stage::Over => Step::Read(Vec::new()),
        }
    }

    fn start_walk(&mut self, log: Log, mode: Mode) -> Step {
        let walk = Walk::new(&log.roots, self.subject.keep_blocks);
        self.walk(Box::new(walk), log, mode)
    }

    fn walk(&mut self, mut walk: Box<Walk>, log: Log, mode: Mode) -> Step {
        if let Some(ops) = walk.next(&mut self.ledger) {
            self.stage = Stage::Walk(walk, log, mode);
            return Step::Read(ops);
        }
        let blocks = walk.into_blocks();
        match mode {
            Mode::Check => {}
            Mode::SignAgain(outcome) => {
                let report = &self.ledger.report;
                let Some(secret) = self.secret.as_ref().filter(|_| report.sound == log.length)
                else {
                    self.forget_walk();
                    return self.settle(*outcome);
                };
                let (length, root) = (log.length, hash::root(&log.roots));
                self.fixes.signature = Some((length, secret.sign_log(&root, length)));
                self.ledger.bad_signatures.retain(|bad| *bad != length);
                let bad = |finding: &Finding| matches!(finding, Finding::SignatureWrong { length: bad, .. } if *bad == length);
                self.ledger.report.findings.retain(|finding| !bad(finding));
                self.ledger.find(Finding::SignatureWrong { length, restorable: true });
            }
            Mode::Everywhere => {
                self.ledger.quiet = false;
                // It opens without them, until they are marked again.
                self.fixes.cut_signatures = None;
                self.ledger.report.sound = 0;
                self.ledger.told = Bitfield::with_page_size(self.page_size);
            }
        }
        self.ledger.report.proven = log.length;
        if self.holds_beyond(log.length) && !self.keep_end && self.fixes.cut_signatures.is_none() {
            let blocks = self.ledger.file.count_blocks(log.length..MAX_LENGTH);
            self.ledger.find(Finding::BeyondEnd { blocks });
        }
        self.find_dropped(log.length);
        self.done(blocks)
    }

    /// A walk over an unproven log found damage: what it saw proves nothing.
    fn forget_walk(&mut self) {
        let ledger = &mut self.ledger;
        ledger.report.findings.truncate(self.findings_before);
        ledger.report.sound = 0;
        ledger.nodes.clear();
        ledger.bad_signatures.clear();
    }

    fn holds_beyond(&self, length: u64) -> bool {
        let file = &self.ledger.file;
        file.first_block(length..MAX_LENGTH).is_some()
            || file.first_node(2 * length..2 * MAX_LENGTH).is_some()
    }

    /// Blocks that the bitfield marks and the open feed does not have, as their bytes or their leaf are not
    /// there.
    fn find_dropped(&mut self, length: u64) {
        let ledger = &mut self.ledger;
        let mut at = 0;
        while let Some(block) = ledger.file.first_block(at..length) {
            at = block + 1;
            if ledger.told.has_block(block) || ledger.bits.has_block(block) {
                continue;
            }
            let leaf = NodeIndex::leaf(block);
            let blocks = block..block + 1;
            ledger.find(if ledger.told.has_node(leaf) {
                Finding::BlocksCut { blocks }
            } else {
                Finding::Unproven { node: leaf, blocks, held: 1 }
            });
        }
    }

    /// A node found out about two logs under one key.
    fn find_fork(&mut self) {
        let verifier = self.ledger.report.key.as_ref().and_then(Verifier::new);
        let signed = |forked: &Forked| verifier.is_some_and(|key| forked.is_signed(&key));
        if let Some(forked) = self.forked.take().filter(signed) {
            let (here, there) = (forked.here.length, forked.there.length);
            self.ledger.find(Finding::Forked { here, there });
        }
    }

    fn done(&mut self, blocks: Vec<Bytes>) -> Step {
        self.stage = Stage::Over;
        self.find_fork();
        if self.ledger.report.key.is_some() && self.other_key.is_some() {
            self.ledger.find(Finding::SecretKey { restorable: false });
        }
        let ledger = core::mem::replace(&mut self.ledger, Ledger::new(FilePath::root()));
        let mut report = ledger.report;
        report.lost = report.held.saturating_sub(report.sound);
        if self.secret.is_some() {
            // What a writer of this store had, it once held.
            let had = report.proven.max(self.sealed).max(report.recorded);
            let cleared = ledger.cleared.iter().map(|run| run.start.min(had)..run.end.min(had));
            let cleared = cleared.map(|run| run.end - run.start - ledger.told.count_blocks(run));
            let missing = had.saturating_sub(report.sound).saturating_sub(cleared.sum());
            report.lost = report.lost.max(missing);
        }
        let mut fixes = core::mem::take(&mut self.fixes);
        fixes.nodes = ledger.nodes;
        fixes.bad_signatures = ledger.bad_signatures;
        fixes.bits = Some(ledger.bits).filter(|bits| bits.is_dirty() && !self.protect);
        Step::Done(Box::new(Checked { report, blocks, fixes }))
    }
}

/// What was read; nothing for a file that is not there.
fn bytes(answer: &Answer) -> Bytes {
    answer.bytes().cloned().unwrap_or_default()
}
