//! The opening of the feed as a node does it, and what comes of a log that is not as its bitfield tells.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{Check, Mode, Stage, Step};
use crate::check::finding::Finding;
use crate::feed::{BITFIELD_MAX, Feed, Log, NOTHING_PROVEN, OpenStep, Opening, TOO_LARGE};
use crate::format::sleep;
use crate::node::NodeError;
use crate::storage::{Answer, StorageError};
use crate::tree::{BLOCKS_PER_PAGE, Bitfield, Node, NodeIndex, PAGE_SIZE};

/// What the opening of the feed gives.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) log: Log,
    sealed: u64,
    problem: Option<&'static str>,
    /// What the open feed holds.
    bits: Bitfield,
    /// Roots that are not stored like that.
    mended: Vec<Node>,
}

impl Check {
    pub(super) fn open(&mut self) -> Step {
        let Some(key) = self.ledger.report.key else {
            // A signature may tell it.
            let asked = self.ask_whose(Box::default());
            return asked.unwrap_or_else(|_| self.done(Vec::new()));
        };
        let (opening, ops) = Opening::new(key, self.subject.folder.clone());
        self.stage = Stage::Opening(Some(Box::new(opening)));
        Step::Read(ops)
    }

    pub(super) fn opening(
        &mut self,
        opening: Option<Box<Opening>>,
        answers: Vec<Result<Answer, StorageError>>,
    ) -> Step {
        self.stage = Stage::Over;
        let Some(mut opening) = opening else { return Step::Read(Vec::new()) };
        let secret = self.secret.clone();
        let outcome = match opening.answered(answers, |_| secret) {
            OpenStep::Read(ops) => {
                self.stage = Stage::Opening(Some(opening));
                return Step::Read(ops);
            }
            OpenStep::Done(feed) => opened(&feed),
            OpenStep::Failed(NodeError::Storage(error)) => return Step::Failed(error),
            OpenStep::Failed(NodeError::Damaged { problem, .. }) => self.unopened(problem),
            OpenStep::Failed(_) => self.unopened("it is not known why"),
        };
        self.unproven = opening.unproven();
        if outcome.problem.is_none() && outcome.log.length > 0 {
            return self.after_opening(outcome);
        }
        match self.ask_whose(Box::new(outcome)) {
            Ok(step) => step,
            Err(outcome) => self.after_opening(*outcome),
        }
    }

    pub(super) fn after_opening(&mut self, outcome: Outcome) -> Step {
        if self.ledger.report.key.is_none() {
            return self.done(Vec::new());
        }
        let recorded = self.ledger.report.recorded;
        if outcome.log.length >= recorded && outcome.problem.is_none() {
            return self.opened(outcome);
        }
        let whole = self.ledger.file.contains_all(0..recorded) && self.sealed <= recorded;
        match self.unproven.take().filter(|log| whole && log.length == recorded) {
            // A log of one's own that nothing proves but that is intact is what was once signed.
            Some(log) if self.secret.is_some() => {
                self.findings_before = self.ledger.report.findings.len();
                self.ledger.told = self.ledger.file.clone();
                self.ledger.bits = self.file_bits();
                self.start_walk(log, Mode::SignAgain(Box::new(outcome)))
            }
            _ => self.settle(outcome),
        }
    }

    fn unopened(&self, problem: &'static str) -> Outcome {
        Outcome { sealed: self.sealed, problem: Some(problem), ..Outcome::default() }
    }

    /// The log is proven at least as far as the bitfield tells.
    fn opened(&mut self, outcome: Outcome) -> Step {
        let Outcome { log, sealed, bits, mended, .. } = outcome;
        let recorded = self.ledger.report.recorded;
        if sealed > log.length {
            let length = log.length;
            self.ledger.find(Finding::Sealed { length, sealed });
            self.fixes.seal = Some(sealed).filter(|sealed| *sealed > self.sealed);
        }
        self.believe(bits, &mended);
        if log.length > recorded {
            let fits = log.length / BLOCKS_PER_PAGE * (PAGE_SIZE as u64) <= BITFIELD_MAX as u64;
            let nothing_held = self.ledger.told.blocks() == 0;
            let blocks = recorded..log.length;
            // Only the header of the bitfield is there, where a feed that was just made was not finished.
            let new = self.bitfield_len == sleep::HEADER_BYTES as u64;
            self.ledger.find(if nothing_held && !new {
                Finding::BitfieldLost { blocks }
            } else {
                Finding::Unrecorded { blocks }
            });
            if nothing_held && fits {
                return self.look_everywhere(log);
            }
        }
        self.start_walk(log, Mode::Check)
    }

    /// Marks everything, so that the walk looks everywhere, and keeps what is intact.
    fn look_everywhere(&mut self, log: Log) -> Step {
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
        self.start_walk(log, Mode::Everywhere)
    }

    /// Takes what the open feed believes as what is to be checked.
    fn believe(&mut self, bits: Bitfield, mended: &[Node]) {
        self.ledger.bits = bits.clone();
        for &page in &self.bad_pages {
            self.ledger.bits.rewrite_page(page);
        }
        self.ledger.told = bits;
        for root in mended {
            self.ledger.proven(root, None);
        }
    }

    /// The bitfield as it is in the file, with its summaries put right.
    pub(super) fn file_bits(&self) -> Bitfield {
        let mut bits = self.ledger.file.clone();
        for &page in &self.bad_pages {
            bits.rewrite_page(page);
        }
        bits
    }

    /// Goes on with what the opening made of a log that is not proven to the end.
    pub(super) fn settle(&mut self, outcome: Outcome) -> Step {
        let recorded = self.ledger.report.recorded;
        let Outcome { log, sealed, problem, bits, mended } = outcome;
        let proven = log.length;
        if let Some(problem) = problem {
            return self.nothing_proven(problem);
        }
        self.ledger.find(Finding::LengthUnproven { recorded, proven });
        self.believe(bits, &mended);
        if self.secret.is_some() {
            // What is told beyond it stays, so that the JavaScript too knows how long the log was.
            self.ledger.bits = self.file_bits();
            self.keep_end = true;
            if sealed > proven {
                let length = proven;
                self.ledger.find(Finding::Sealed { length, sealed });
                self.fixes.seal = Some(sealed).filter(|sealed| *sealed > self.sealed);
            }
        } else {
            self.fixes.cut_signatures = Some(proven).filter(|proven| *proven < self.signed);
        }
        self.start_walk(log, Mode::Check)
    }

    /// Nothing proves any of it.
    fn nothing_proven(&mut self, problem: &'static str) -> Step {
        let recorded = self.ledger.report.recorded;
        self.ledger.bits = self.file_bits();
        if problem == TOO_LARGE {
            self.protect = true;
            self.ledger.find(Finding::Unopenable { problem });
        } else if self.secret.is_some() {
            self.ledger.find(Finding::Unopenable { problem });
            // It opens again without its blocks, and takes them back from peers.
            self.fixes.seal = Some(recorded.max(self.sealed).max(self.signed));
            self.ledger.bits.clear_from(0);
        } else if self.subject.discovery.is_some() || problem == NOTHING_PROVEN {
            // The key is that of the folder, or nothing speaks against it: the log is what is damaged.
            self.ledger.find(Finding::NothingProven);
            self.ledger.bits.clear_from(0);
            self.fixes.cut_signatures = Some(0).filter(|_| self.signed > 0);
        } else {
            // Rather the key is damaged than every signature: nothing is given up for that.
            self.protect = true;
            self.ledger.find(Finding::KeyUnfit);
        }
        self.done(Vec::new())
    }
}

fn opened(feed: &Feed) -> Outcome {
    Outcome {
        log: Log { length: feed.length(), roots: feed.roots().to_vec() },
        sealed: feed.sealed_until(),
        problem: None,
        bits: feed.bits.clone(),
        mended: feed.mended_roots().collect(),
    }
}
