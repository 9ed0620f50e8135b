//! A whole store checked and repaired in memory.

use std::cell::RefCell;

use multifeed_core::check::{Finding, Report, Severity, StoreCheck, StoreFinding, StoreReport};
use multifeed_core::storage::{Files, Memory};
use multifeed_proto::RootKey;

use super::util::ROOT;

/// What a check of a store says.
#[derive(Debug)]
pub struct Verdict {
    pub findings: Vec<StoreFinding>,
    pub reports: Vec<StoreReport>,
}

impl Verdict {
    /// Whether nothing is wrong but what does no harm.
    pub fn is_sound(&self) -> bool {
        self.is_whole_store() && self.reports.iter().all(|report| report.last().is_sound())
    }

    /// Whether all that is wrong is that writers wait for blocks which peers have.
    pub fn is_sound_or_sealed(&self) -> bool {
        let sealed = |report: &Report| {
            let waits = |finding: &Finding| matches!(finding, Finding::Sealed { .. });
            report.omitted == 0 && report.findings.iter().any(waits)
        };
        self.is_whole_store()
            && self.reports.iter().all(|report| report.last().is_sound() || sealed(report.last()))
    }

    /// Whether nothing is left to be done but for what nothing in the store tells, and for what peers have.
    pub fn is_as_good_as_it_gets(&self) -> bool {
        let gone = |finding: &Finding| {
            matches!(finding.severity(), Severity::Permanent | Severity::Harmless)
        };
        let is_sealed = |finding: &Finding| matches!(finding, Finding::Sealed { .. });
        let mut reports = self.reports.iter().map(|report| &report.last().findings);
        reports.all(|findings| findings.iter().any(is_sealed) || findings.iter().all(gone))
    }

    fn is_whole_store(&self) -> bool {
        !self.findings.iter().any(StoreFinding::is_damage)
    }

    /// What is wrong, in short.
    pub fn says(&self) -> String {
        let feeds = self.reports.iter().filter(|report| !report.last().is_sound());
        let feeds = feeds.map(|report| (&report.last().folder, &report.last().findings));
        format!("{:?} {:?}", self.findings, feeds.collect::<Vec<_>>())
    }
}

/// Checks, and repairs if asked to, the store of [`ROOT`].
///
/// # Errors
///
/// What the storage says.
pub fn verify(files: &dyn Files, repair: bool) -> Result<Verdict, String> {
    let mut check = StoreCheck::new(files, Some(RootKey::new(ROOT))).map_err(|e| e.to_string())?;
    let mut reports = Vec::new();
    let findings = check.check(repair, |report| reports.push(report.clone()));
    Ok(Verdict { findings: findings.map_err(|error| error.to_string())?, reports })
}

/// The same on a copy: what is said, and what it is made into.
///
/// # Errors
///
/// What the storage says.
pub fn verified(memory: &Memory, repair: bool) -> Result<(Verdict, Memory), String> {
    let files = RefCell::new(memory.clone());
    let verdict = verify(&files, repair)?;
    Ok((verdict, files.into_inner()))
}
