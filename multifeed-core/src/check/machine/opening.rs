//! The opening of the feed as a node does it, and what comes of a log that is not proven to its end.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{Check, Mode, Outcome, Stage, Step};
use crate::check::finding::Finding;
use crate::check::roots::Log;
use crate::feed::{Feed, FlushPlan, OpenStep, Opening};
use crate::node::{Durability, NodeError};
use crate::storage::{Answer, StorageError};

impl Check {
    pub(super) fn open(&mut self, proven: Option<Log>) -> Step {
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

    pub(super) fn opening(
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
    pub(super) fn settle(&mut self, outcome: Outcome) -> Step {
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
}
