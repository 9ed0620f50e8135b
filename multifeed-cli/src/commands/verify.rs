//! `multifeed verify`: whether a store is sound, and its repair.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use multifeed_tokio::core::check::{
    Finding, Report, Severity, StoreCheck, StoreFinding, StoreReport,
};
use multifeed_tokio::core::disk::Disk;
use multifeed_tokio::core::storage::StorageError;
use multifeed_tokio::{Error, NodeError, RootKey};
use serde_json::{Value, json};

use crate::advice;
use crate::args::Verify;
use crate::context::Context;
use crate::failure::Failure;
use crate::keys;
use crate::output::{Output, plural, printable};
use crate::store;

pub(super) async fn run(context: &Context, args: Verify) -> Result<ExitCode, Failure> {
    let place = args.directory.display().to_string();
    if !args.directory.is_dir() {
        let message = format!("there is no folder {place}");
        return Err(Failure::new("ERR_NO_STORE", message)
            .advice("see whether the path is right")
            .detail("directory", place));
    }
    let root = match keys::given(context).await? {
        Some(given) => Some(given.key),
        None if args.repair => keys::saved(&args.directory)?,
        None => keys::saved_if_readable(&args.directory)?,
    };
    let output = context.output.clone();
    // Reads everything: on a thread of its own, so that Ctrl-C ends it.
    let work = tokio::task::spawn_blocking(move || check(&args, root, &output));
    let sound = tokio::select! {
        done = work => done.map_err(|error| Failure::new("ERR_SYSTEM", error.to_string()))??,
        signal = context.signals.received() => return Err(Failure::interrupted(signal)),
    };
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(args: &Verify, root: Option<RootKey>, output: &Output) -> Result<bool, Failure> {
    let directory = &args.directory;
    let failed = |error: StorageError| storage_failed(directory, error);
    let disk = Disk::open(directory).map_err(|error| {
        let place = directory.display();
        Failure::new("ERR_DIRECTORY", format!("cannot open the folder {place}: {error}"))
            .detail("directory", place.to_string())
    })?;
    // What only checks needs no more than that, and works beside another process.
    let disk = if args.repair { disk } else { disk.read_only() };
    let mut check = StoreCheck::new(&disk, root).map_err(failed)?;
    if let Some(process) = check.held_by() {
        store::say_held(output, directory, process);
    }
    if check.folders().is_empty() {
        output.note(format_args!("there are no feeds in {}", directory.display()));
    }
    let mut sums = Sums::default();
    let mut said = Ok(());
    let findings = check
        .check(args.repair, |report| {
            sums.add(report);
            if said.is_ok() {
                said = output.result(|| feed_line(report), || feed_text(report));
            }
        })
        .map_err(failed)?;
    said?;
    let sound = sums.damaged == 0 && !findings.iter().any(StoreFinding::is_damage);
    output.result(|| sums.line(sound, &findings), || sums.text(sound, &findings, output))?;
    Ok(sound)
}

fn storage_failed(directory: &Path, error: StorageError) -> Failure {
    Failure::store(directory, &Error::Node(NodeError::Storage(error)))
}

/// Of all feeds together, as they are at the end.
#[derive(Default)]
struct Sums {
    feeds: u64,
    damaged: u64,
    /// Those of `damaged` of which every block is here as it was signed, and others were signed elsewhere.
    forked: u64,
    blocks: u64,
    lost: u64,
    repaired: u64,
    /// Feeds of which a repair can do something about what is wrong.
    repairable: u64,
}

impl Sums {
    fn add(&mut self, report: &StoreReport) {
        let last = report.last();
        self.feeds += 1;
        self.damaged += u64::from(!last.is_sound());
        self.forked += u64::from(is_forked_only(last));
        self.repaired += u64::from(report.repaired.is_some());
        let repairable = last.findings.iter().any(Finding::is_repaired);
        self.repairable += u64::from(repairable || last.omitted > 0);
        self.blocks += last.sound;
        // What a repair gave up is no longer marked as held.
        self.lost += report.found.lost.max(last.lost);
    }

    fn line(&self, sound: bool, findings: &[StoreFinding]) -> Value {
        let value = |finding: &&StoreFinding| {
            json!({
                "code": finding.code(),
                "damage": finding.is_damage(),
                "message": finding.to_string(),
            })
        };
        let (notes, findings): (Vec<_>, Vec<_>) =
            findings.iter().partition(|finding| finding.is_note());
        json!({
            "event": "verified",
            "sound": sound,
            "feeds": self.feeds,
            "damaged": self.damaged,
            "forked": self.forked,
            "repaired": self.repaired,
            "blocks": self.blocks,
            "lost": self.lost,
            "findings": findings.iter().map(value).collect::<Vec<_>>(),
            "notes": notes.iter().map(value).collect::<Vec<_>>(),
        })
    }

    fn text(&self, sound: bool, findings: &[StoreFinding], output: &Output) -> String {
        let mut text = String::new();
        for finding in findings {
            let kind = if finding.is_damage() { "damaged" } else { "note" };
            let _infallible = writeln!(text, "{kind}: {}", printable(&finding.to_string()));
        }
        let (feeds, blocks) = (plural(self.feeds, "feed"), plural(self.blocks, "block"));
        let only_forked =
            self.forked == self.damaged && !findings.iter().any(StoreFinding::is_damage);
        let state = match (sound, only_forked) {
            (true, _) => "sound",
            (false, true) => "forked",
            (false, false) => "damaged",
        };
        let _infallible = write!(text, "{state}: {feeds}, {blocks} intact");
        if self.lost > 0 {
            let _infallible = write!(text, ", {} lost", self.lost);
        }
        let repairable = self.repairable > 0 || findings.iter().any(StoreFinding::is_restorable);
        let repairable = !sound && repairable;
        if let Some(advice) = advice::damaged(output.doing(), repairable, self.lost > 0) {
            let _infallible = write!(text, "\n  {advice}");
        }
        text
    }
}

/// Whether nothing is wrong with a feed but that its writer went on in two places.
fn is_forked_only(report: &Report) -> bool {
    let forked = |finding: &Finding| matches!(finding, Finding::Forked { .. });
    let harmless = |finding: &Finding| finding.severity() == Severity::Harmless;
    report.omitted == 0
        && report.findings.iter().any(forked)
        && report.findings.iter().all(|finding| forked(finding) || harmless(finding))
}

fn feed_line(report: &StoreReport) -> Value {
    let (found, last) = (&report.found, report.last());
    let mut line = json!({
        "event": "feed",
        "folder": found.folder,
        "key": found.key.map(|key| key.to_hex()),
        "name": report.name,
        "list": report.is_list,
        "writer": last.writer,
        "sound": last.is_sound(),
        "recorded": found.recorded,
        "proven": last.proven,
        "held": found.held,
        "intact": last.sound,
        "lost": found.lost.max(last.lost),
        "findings": found.findings.iter().map(finding_value).collect::<Vec<_>>(),
    });
    if found.omitted > 0 {
        line["omitted"] = found.omitted.into();
    }
    if let Some(repaired) = &report.repaired {
        line["left"] = repaired.findings.iter().map(finding_value).collect();
    }
    line
}

fn finding_value(finding: &Finding) -> Value {
    let mut value = json!({
        "code": finding.code(),
        "severity": severity(finding.severity()),
        "message": finding.to_string(),
    });
    if let Some(blocks) = finding.blocks() {
        value["blocks"] = json!([blocks.start, blocks.end]);
    }
    value
}

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Harmless => "harmless",
        Severity::Restorable => "restorable",
        Severity::Refetch => "refetch",
        Severity::Permanent => "permanent",
    }
}

fn feed_text(report: &StoreReport) -> String {
    let (found, last) = (&report.found, report.last());
    let mut text = match (&found.key, &report.name) {
        (Some(key), Some(name)) => format!("{} {}", key.to_hex(), printable(name)),
        (Some(key), None) if report.is_list => format!("{} (the list of feeds)", key.to_hex()),
        (Some(key), None) => key.to_hex(),
        (None, _) => format!("the feed in {}", found.folder),
    };
    let state = match (last.is_sound(), report.repaired.is_some()) {
        (true, true) => "repaired",
        (true, false) => "sound",
        (false, _) if is_forked_only(last) => "forked",
        (false, _) => "damaged",
    };
    let intact = last.sound;
    let _infallible = write!(text, ": {state}, {intact} of {}", plural(last.proven, "block"));
    let lost = found.lost.max(last.lost);
    if lost > 0 {
        let _infallible = write!(text, ", {lost} lost");
    }
    for finding in &found.findings {
        let _infallible = write!(text, "\n  {}", finding_text(finding));
    }
    if found.omitted > 0 {
        let _infallible = write!(text, "\n  and {} more", found.omitted);
    }
    if let Some(repaired) = &report.repaired {
        for finding in repaired.findings.iter().filter(|left| !found.findings.contains(left)) {
            let _infallible = write!(text, "\n  after the repair: {}", finding_text(finding));
        }
    }
    text
}

fn finding_text(finding: &Finding) -> String {
    let what = match finding.severity() {
        Severity::Harmless => " (harmless)",
        Severity::Restorable => " (can be restored)",
        Severity::Refetch => "",
        Severity::Permanent => " (cannot be repaired)",
    };
    format!("{finding}{what}")
}
