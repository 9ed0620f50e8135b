//! The passes over one feed, one after another: small files, bitfield, roots and their signature,
//! the opening of the feed as a node does it, and the [`Walk`](super::walk).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::FeedKey;
use zeroize::Zeroizing;

use super::finding::{Finding, Report};
use super::ledger::Ledger;
use super::plan::Fixes;
use super::roots::{self, Log};
use super::walk::Walk;
use crate::crypto::{SecretKey, Verifier};
use crate::feed::{BITFIELD_MAX, Feed, FlushPlan, OpenStep, Opening};
use crate::format::{corestore, sleep};
use crate::node::{Durability, NodeError};
use crate::storage::{Answer, FilePath, Op, StorageError};
use crate::tree::{BLOCKS_PER_PAGE, Bitfield, MAX_LENGTH, NodeIndex, PAGE_SIZE, hash};

/// Pages of the bitfield read at once, at most 917 KiB.
const PAGES: u64 = 256;
/// Signatures read at once at the end of their file, 1 MiB.
const SIGNATURES: u64 = 16_384;

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
/// Memory: the bitfield three times (each up to 64 MiB, as of a feed that is open), 2 MiB of what
/// is read, and at most 64 MiB for two blocks whose tree nodes are damaged.
pub struct Check {
    subject: Subject,
    master: Option<Zeroizing<[u8; 32]>>,
    ledger: Ledger,
    fixes: Fixes,
    secret: Option<SecretKey>,
    /// A key that the secret key file tells, other than the one in the key file.
    other_key: Option<FeedKey>,
    /// What the file that seals the log says.
    sealed: u64,
    bitfield_len: u64,
    /// Entries in the signatures file.
    signed: u64,
    page_size: usize,
    /// The log as the tree has it, though nothing proves it.
    stored: Option<Log>,
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
    LastSigned(u64),
    /// The roots of lengths that may be the log's, the next one last.
    Roots(Vec<u64>, roots::Search),
    Opening(Option<Box<Opening>>, Option<Log>),
    Walk(Box<Walk>, Log, Mode),
    Over,
}

/// What a walk is for.
enum Mode {
    /// The log is proven.
    Check,
    /// It is not. If every block of it is intact it is signed again, else this is its proven part.
    SignAgain(Outcome),
    /// The bitfield is lost: all that is found intact is marked again.
    Rebuild,
}

/// What the opening of the feed gives.
struct Outcome {
    log: Log,
    sealed: u64,
    problem: Option<&'static str>,
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
            ledger.read(sleep::SECRET_KEY, 0, 65),
            ledger.read(corestore::NAME, 0, corestore::MAX_NAME + 4),
            ledger.read(sleep::SEALED, 0, 8),
            ledger.read(sleep::TREE, 0, sleep::HEADER_BYTES),
            ledger.read(sleep::SIGNATURES, 0, sleep::HEADER_BYTES),
            ledger.read(sleep::BITFIELD, 0, sleep::HEADER_BYTES),
            length(sleep::BITFIELD),
            length(sleep::SIGNATURES),
            length(sleep::DATA),
            ledger.read(sleep::CLEARED, 0, sleep::MAX_CLEARED * sleep::CLEARED_BYTES),
        ]);
        let check = Self {
            subject,
            master: master.map(|master| Zeroizing::new(*master)),
            ledger,
            fixes: Fixes::default(),
            secret: None,
            other_key: None,
            sealed: 0,
            bitfield_len: 0,
            signed: 0,
            page_size: PAGE_SIZE,
            stored: None,
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
        if let Stage::Opening(opening, proven) = &mut self.stage {
            let (opening, proven) = (opening.take(), proven.take());
            return self.opening(opening, proven, answers);
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
            Stage::LastSigned(start) => self.last_signed(start, &read),
            Stage::Roots(lengths, search) => self.roots(lengths, search, &read),
            Stage::Walk(mut walk, log, mode) => {
                walk.answered(&mut self.ledger, &read);
                self.walk(walk, log, mode)
            }
            Stage::Opening(..) | Stage::Over => Step::Read(Vec::new()),
        }
    }

    fn files(&mut self, answers: &[Answer], read: &[Bytes]) -> Step {
        let [key, secret, name, sealed, tree, signatures, bitfield, ..] = read else {
            return self.done(Vec::new());
        };
        let length = |at: usize| match answers.get(at) {
            Some(Answer::Length(length)) => *length,
            _ => 0,
        };
        self.bitfield_len = length(7);
        self.signed = length(8).saturating_sub(sleep::HEADER_BYTES as u64) / 64;
        self.signed = self.signed.min(MAX_LENGTH);
        self.ledger.data_len = length(9);
        if let Ok(sealed) = <[u8; 8]>::try_from(&sealed[..]) {
            self.sealed = u64::from_be_bytes(sealed).min(MAX_LENGTH);
        }
        let written = self.signed > 0 || self.ledger.data_len > 0;
        let cleared = read.get(10).map(|file| file.chunks_exact(sleep::CLEARED_BYTES));
        for blocks in cleared.into_iter().flatten().filter_map(sleep::read_cleared) {
            self.ledger.cleared.insert(blocks);
        }
        if !self.keys(key, secret, name, written) {
            return self.done(Vec::new());
        }
        for (file, found, wanted) in [
            (sleep::TREE, tree, &sleep::TREE_HEADER),
            (sleep::SIGNATURES, signatures, &sleep::SIGNATURES_HEADER),
        ] {
            if !found.is_empty() && found[..] != wanted[..] {
                self.bad_header(file, wanted);
            }
        }
        self.bitfield_header(bitfield);
        if bitfield.len() < sleep::HEADER_BYTES && written {
            self.ledger.find(Finding::BitfieldMissing);
            self.fixes.headers.push((sleep::BITFIELD, &sleep::BITFIELD_HEADER));
        }
        self.ledger.told = Bitfield::with_page_size(self.page_size);
        if self.bitfield_len > BITFIELD_MAX as u64 {
            let problem = "its bitfield is larger than this program takes";
            self.ledger.find(Finding::Unopenable { problem });
            return self.done(Vec::new());
        }
        self.read_pages(0)
    }

    /// Finds out the key and the secret key. `false`: nothing tells the key. Before something is
    /// `written` there need be no key file.
    fn keys(&mut self, key: &Bytes, secret_file: &Bytes, name: &Bytes, written: bool) -> bool {
        let fits = |key: &FeedKey| match &self.subject.discovery {
            Some(discovery) => key.discovery_key().to_hex() == *discovery,
            None => true,
        };
        let derive = |name: &str| Some(corestore::derive(self.master.as_deref()?, name));
        let named = corestore::decode_name(name).and_then(derive);
        let whole = <[u8; 64]>::try_from(&secret_file[..]).ok();
        let stored = whole.as_ref().and_then(SecretKey::from_libsodium);
        let seed = secret_file.first_chunk::<32>().map(SecretKey::from_seed);
        let in_file = key.first_chunk::<32>().map(|key| FeedKey(*key));

        let known = in_file.filter(fits).or_else(|| {
            // Any key would fit into a numbered folder, so only a secret key that is whole tells.
            let seed = seed.as_ref().filter(|_| self.subject.discovery.is_some());
            let secrets = stored.iter().chain(&named).chain(seed).map(SecretKey::public);
            secrets.chain(self.subject.key).find(fits)
        });
        if (in_file != known || known.is_none()) && (written || in_file.is_some()) {
            let known = known.is_some();
            self.ledger.find(match in_file {
                Some(_) => Finding::KeyOther { known },
                None => Finding::KeyMissing { known },
            });
        }
        let Some(key) = known else { return false };
        if in_file != Some(key) && (written || in_file.is_some()) {
            self.fixes.key = Some(key);
        }
        self.ledger.set_key(key);

        let mine = |secret: &SecretKey| secret.public() == key;
        self.secret = stored.clone().filter(mine);
        if self.secret.is_none() && !secret_file.is_empty() {
            let restored = seed.filter(mine);
            if self.subject.discovery.is_none() {
                self.other_key = stored.map(|secret| secret.public());
            }
            if self.other_key.is_none() {
                let restorable = restored.is_some();
                self.ledger.find(Finding::SecretKey { restorable });
            }
            self.fixes.secret = restored.as_ref().map(SecretKey::to_libsodium);
            self.secret = restored;
        }
        let listed = self.subject.name.as_deref().and_then(derive).filter(mine);
        if self.secret.is_none() && self.master.is_some() {
            self.secret = named.filter(mine);
            if self.secret.is_none() && (listed.is_some() || !name.is_empty()) {
                self.ledger.find(Finding::Name { known: listed.is_some() });
                self.fixes.name = self.subject.name.clone().filter(|_| listed.is_some());
                self.secret = listed;
            }
        }
        self.ledger.report.writer = self.secret.is_some();
        true
    }

    fn bad_header(&mut self, file: &'static str, wanted: &'static [u8; sleep::HEADER_BYTES]) {
        self.ledger.find(Finding::Header { file });
        self.fixes.headers.push((file, wanted));
    }

    fn bitfield_header(&mut self, found: &Bytes) {
        if found.len() < sleep::HEADER_BYTES || found[..] == sleep::BITFIELD_HEADER {
            return;
        }
        let told = Bitfield::with_page_size(sleep::bitfield_page_size(found)).page_size();
        let pages = self.bitfield_len.saturating_sub(sleep::HEADER_BYTES as u64);
        let whole = pages > 0 && pages % PAGE_SIZE as u64 == 0;
        if told != PAGE_SIZE && !whole {
            // A very old file with smaller pages.
            self.page_size = told;
            return;
        }
        if told == PAGE_SIZE {
            self.bad_header(sleep::BITFIELD, &sleep::BITFIELD_HEADER);
        } else {
            self.ledger.find(Finding::PageSize);
            self.fixes.headers.push((sleep::BITFIELD, &sleep::BITFIELD_HEADER));
        }
    }

    fn read_pages(&mut self, page: u64) -> Step {
        self.stage = Stage::Bitfield(page);
        Step::Read(Vec::from([self.pages(page)]))
    }

    fn pages(&self, page: u64) -> Op {
        let offset = sleep::bitfield_offset(page, self.page_size);
        self.ledger.read(sleep::BITFIELD, offset, PAGES as usize * self.page_size)
    }

    fn bitfield(&mut self, page: u64, read: &[Bytes]) -> Step {
        let Some(read) = read.first() else { return self.done(Vec::new()) };
        for (page, bytes) in (page..).zip(read.chunks(self.page_size)) {
            self.ledger.told.load_page(page, bytes);
        }
        if read.len() == PAGES as usize * self.page_size {
            return self.read_pages(page + PAGES);
        }
        self.ledger.bits = self.ledger.told.clone();
        if self.page_size == PAGE_SIZE {
            self.stage = Stage::Summaries(0);
            return Step::Read(Vec::from([self.pages(0)]));
        }
        self.bits_known()
    }

    fn summaries(&mut self, page: u64, read: &[Bytes]) -> Step {
        let Some(read) = read.first() else { return self.done(Vec::new()) };
        for (page, bytes) in (page..).zip(read.chunks(self.page_size)) {
            if !self.ledger.told.is_page(page, bytes) {
                self.ledger.bits.rewrite_page(page);
                self.bad_pages.push(page);
            }
        }
        if read.len() == PAGES as usize * self.page_size {
            self.stage = Stage::Summaries(page + PAGES);
            return Step::Read(Vec::from([self.pages(page + PAGES)]));
        }
        if !self.bad_pages.is_empty() {
            let pages = self.bad_pages.len() as u64;
            self.ledger.find(Finding::Summaries { pages });
        }
        self.bits_known()
    }

    fn bits_known(&mut self) -> Step {
        let told = &self.ledger.told;
        self.ledger.report.recorded = told.length();
        self.ledger.report.held = told.blocks();
        if told.length() > MAX_LENGTH {
            let problem = "its bitfield tells an impossible length";
            self.ledger.find(Finding::Unopenable { problem });
            return self.done(Vec::new());
        }
        let start = self.signed.saturating_sub(SIGNATURES);
        if self.signed == 0 {
            return self.last_signed(0, &[]);
        }
        self.stage = Stage::LastSigned(start);
        let op = self.ledger.read_signatures(start + 1, self.signed - start);
        Step::Read(Vec::from([op]))
    }

    /// Which lengths may be the log's: what the bitfield tells, and in a feed by others what was
    /// signed last, if the bitfield is lost or knows of something beyond its own length.
    fn last_signed(&mut self, start: u64, read: &[Bytes]) -> Step {
        let recorded = self.ledger.report.recorded;
        let entries = read.first().map(|read| read.chunks(sleep::SIGNATURE_BYTES));
        let last = entries.into_iter().flatten().zip(start + 1..);
        let last = last.filter(|(entry, _)| sleep::read_signature(entry).is_some()).last();
        let mut lengths = Vec::new();
        if recorded > 0 {
            lengths.push(recorded);
        }
        let by_others = self.secret.is_none() && self.other_key.is_none();
        if let Some((_, length)) = last.filter(|(_, length)| by_others && *length > recorded) {
            if recorded == 0 || self.holds_beyond(recorded) {
                lengths.push(length);
            }
        }
        self.next_roots(lengths)
    }

    fn holds_beyond(&self, length: u64) -> bool {
        let told = &self.ledger.told;
        told.first_block(length..MAX_LENGTH).is_some()
            || told.first_node(2 * length..2 * MAX_LENGTH).is_some()
    }

    fn next_roots(&mut self, mut lengths: Vec<u64>) -> Step {
        let Some(length) = lengths.pop() else { return self.open(None) };
        let (search, ops) = roots::Search::new(&self.ledger, length);
        self.stage = Stage::Roots(lengths, search);
        Step::Read(ops)
    }

    fn roots(&mut self, lengths: Vec<u64>, search: roots::Search, read: &[Bytes]) -> Step {
        let keys = self.ledger.report.key.into_iter().chain(self.other_key);
        let verifiers: Vec<(FeedKey, Option<Verifier>)> =
            keys.map(|key| (key, Verifier::new(&key))).collect();
        match search.answered(&self.ledger, &verifiers, read) {
            roots::Found::Read(search, op) => {
                self.stage = Stage::Roots(lengths, search);
                Step::Read(Vec::from([op]))
            }
            roots::Found::Nothing(stored) => {
                // The last one tried is what the bitfield tells.
                self.stored = stored;
                self.next_roots(lengths)
            }
            roots::Found::Log { log, key, stored } => {
                self.settle_key(key);
                let rebuilt = log.roots != stored;
                let recorded = self.ledger.report.recorded;
                if recorded == 0 {
                    return self.rebuild(log);
                }
                for root in &log.roots {
                    let stored = stored.iter().find(|node| node.index == root.index);
                    self.ledger.proven(root, stored);
                }
                // What a writer signed beyond that is found as in opening it, if that finds the same.
                if self.secret.is_some() && !rebuilt && self.fixes.key.is_none() {
                    return self.open(Some(log));
                }
                self.start_walk(log, Mode::Check)
            }
        }
    }

    /// The signature told which of the two files with a key is the damaged one.
    fn settle_key(&mut self, key: FeedKey) {
        if self.other_key == Some(key) {
            self.ledger.find(Finding::KeyOther { known: true });
            self.fixes.key = Some(key);
            self.ledger.set_key(key);
            self.other_key = None;
        }
    }

    /// Marks everything, so that the walk looks everywhere, and keeps what is intact.
    fn rebuild(&mut self, log: Log) -> Step {
        if log.length / BLOCKS_PER_PAGE * PAGE_SIZE as u64 > BITFIELD_MAX as u64 {
            return self.next_roots(Vec::new());
        }
        let mut all = Bitfield::with_page_size(self.page_size);
        for block in 0..log.length {
            all.set_block(block, true);
        }
        for node in (0..2 * log.length).map(NodeIndex) {
            if node.blocks().end <= log.length {
                all.set_node(node);
            }
        }
        self.ledger.bits = all.clone();
        self.ledger.told = all;
        self.ledger.quiet = true;
        self.start_walk(log, Mode::Rebuild)
    }

    fn open(&mut self, proven: Option<Log>) -> Step {
        let recorded = self.ledger.report.recorded;
        let nothing = recorded == 0 && (self.secret.is_none() || self.signed == 0);
        let Some(key) = self.ledger.report.key.filter(|_| !nothing) else {
            return self.settle(Outcome {
                log: Log::default(),
                sealed: self.sealed,
                problem: None,
            });
        };
        if self.fixes.key.is_some() {
            // It would refuse the wrong key; the check after the repair goes on.
            return self.done(Vec::new());
        }
        let (opening, ops) = Opening::new(key, self.subject.folder.clone());
        self.stage = Stage::Opening(Some(Box::new(opening)), proven);
        Step::Read(ops)
    }

    fn opening(
        &mut self,
        opening: Option<Box<Opening>>,
        proven: Option<Log>,
        answers: Vec<Result<Answer, StorageError>>,
    ) -> Step {
        self.stage = Stage::Over;
        let Some(opening) = opening else { return Step::Read(Vec::new()) };
        let secret = self.secret.clone();
        let (opening, step) = opening.answered(answers, |_| secret);
        let (outcome, feed) = match step {
            OpenStep::Read(ops) => {
                self.stage = Stage::Opening(opening.map(Box::new), proven);
                return Step::Read(ops);
            }
            OpenStep::Done(feed) => {
                let log = Log { length: feed.length(), roots: feed.roots().to_vec() };
                (Outcome { log, sealed: feed.sealed_until(), problem: None }, Some(feed))
            }
            OpenStep::Failed(NodeError::Storage(error)) => return Step::Failed(error),
            OpenStep::Failed(NodeError::Damaged { problem, .. }) => {
                let problem = Some(problem);
                (Outcome { log: Log::default(), sealed: self.sealed, problem }, None)
            }
            OpenStep::Failed(_) => {
                let problem = Some("it is not known why");
                (Outcome { log: Log::default(), sealed: self.sealed, problem }, None)
            }
        };
        let recorded = self.ledger.report.recorded;
        if outcome.log.length > recorded {
            return self.unrecorded(outcome, feed);
        }
        let Some(log) = proven else { return self.sign_again(outcome) };
        if outcome.sealed > log.length {
            let (length, sealed) = (log.length, outcome.sealed);
            self.ledger.find(Finding::Sealed { length, sealed });
        }
        self.start_walk(log, Mode::Check)
    }

    /// The opened feed has taken up signed blocks; what it writes is the repair.
    fn unrecorded(&mut self, outcome: Outcome, feed: Option<Box<Feed>>) -> Step {
        let blocks = self.ledger.report.recorded..outcome.log.length;
        self.ledger.find(Finding::Unrecorded { blocks });
        if let Some(mut feed) = feed {
            self.ledger.told = feed.bits.clone();
            self.ledger.bits = feed.bits.clone();
            let mut next_batch = 0;
            let plan = &mut FlushPlan {
                next_batch: &mut next_batch,
                durability: Durability::Power,
                after: None,
            };
            self.fixes.reopened = feed.flush(plan).into_iter().map(|batch| batch.ops).collect();
        }
        self.start_walk(outcome.log, Mode::Check)
    }

    /// A log of one's own that nothing proves but that is intact is what was once signed.
    fn sign_again(&mut self, outcome: Outcome) -> Step {
        let recorded = self.ledger.report.recorded;
        let whole = self.ledger.told.contains_all(0..recorded) && self.sealed <= recorded;
        match self.stored.take().filter(|log| whole && log.length == recorded) {
            Some(log) if self.secret.is_some() => {
                self.findings_before = self.ledger.report.findings.len();
                self.start_walk(log, Mode::SignAgain(outcome))
            }
            _ => self.settle(outcome),
        }
    }

    /// Goes on with what the opening made of a log that is not proven to the end.
    fn settle(&mut self, outcome: Outcome) -> Step {
        let recorded = self.ledger.report.recorded;
        let proven = outcome.log.length;
        if let Some(problem) = outcome.problem {
            self.ledger.find(Finding::Unopenable { problem });
            if self.secret.is_some() {
                // It opens again without its blocks, and takes them back from peers.
                self.fixes.seal = Some(recorded.max(self.sealed));
                self.ledger.bits.clear_from(0);
                return self.done(Vec::new());
            }
            self.protect = true;
            return self.done(Vec::new());
        }
        if proven < recorded {
            if proven == 0 && self.secret.is_none() && self.subject.discovery.is_none() {
                // Rather the key is damaged than every signature: nothing is given up for that.
                self.protect = true;
                self.ledger.find(Finding::KeyUnfit);
                return self.done(Vec::new());
            }
            self.ledger.find(Finding::LengthUnproven { recorded, proven });
            if self.secret.is_some() {
                self.keep_end = true;
            } else {
                self.fixes.cut_signatures = Some(proven).filter(|proven| *proven < self.signed);
                self.ledger.bits.clear_from(proven);
            }
        }
        if self.secret.is_some() && outcome.sealed > proven {
            let (length, sealed) = (proven, outcome.sealed);
            self.ledger.find(Finding::Sealed { length, sealed });
            self.fixes.seal = Some(sealed).filter(|sealed| *sealed > self.sealed);
        }
        self.start_walk(outcome.log, Mode::Check)
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
                    return self.settle(outcome);
                };
                let (length, root) = (log.length, hash::root(&log.roots));
                self.fixes.signature = Some((length, secret.sign_log(&root, length)));
                self.ledger.bad_signatures.retain(|bad| *bad != length);
                let bad = |finding: &Finding| matches!(finding, Finding::SignatureWrong { length: bad, .. } if *bad == length);
                self.ledger.report.findings.retain(|finding| !bad(finding));
                self.ledger.find(Finding::SignatureWrong { length, restorable: true });
            }
            Mode::Rebuild => {
                self.ledger.quiet = false;
                // What was tried in vain was never there.
                self.ledger.report.held = self.ledger.report.sound;
                self.ledger.find(Finding::Unrecorded { blocks: 0..log.length });
            }
        }
        self.ledger.report.proven = log.length;
        if self.holds_beyond(log.length)
            && !self.protect
            && !self.keep_end
            && self.fixes.cut_signatures.is_none()
        {
            let blocks = self.ledger.told.count_blocks(log.length..MAX_LENGTH);
            self.ledger.find(Finding::BeyondEnd { blocks });
            self.ledger.bits.clear_from(log.length);
        }
        self.done(blocks)
    }

    /// A walk over an unproven log found damage: what it saw proves nothing.
    fn forget_walk(&mut self) {
        let ledger = &mut self.ledger;
        ledger.report.findings.truncate(self.findings_before);
        ledger.report.sound = 0;
        ledger.bits = ledger.told.clone();
        for &page in &self.bad_pages {
            ledger.bits.rewrite_page(page);
        }
        ledger.nodes.clear();
        ledger.bad_signatures.clear();
    }

    fn done(&mut self, blocks: Vec<Bytes>) -> Step {
        self.stage = Stage::Over;
        if self.other_key.is_some() {
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
