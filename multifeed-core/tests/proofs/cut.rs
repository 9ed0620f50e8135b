//! Where a recording is cut off, and what is left on the disk then.

use std::fmt;

use multifeed_core::Layout;
use multifeed_core::storage::{Journal, Kept, Memory, Op};

use super::record::Recording;
use super::rng::Rng;

/// One state of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Effects that had happened.
    pub effects: usize,
    pub kind: CutKind,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutKind {
    /// The process ended between two requests.
    Between,
    /// The process ended after so many bytes of the next write.
    Inside(usize),
    /// The power was lost: what is left of the writes that no sync covers follows from this seed.
    Power(u64),
}

/// The columns of the table.
pub const KINDS: [&str; 3] = ["between", "inside", "power"];

impl CutKind {
    pub const fn column(self) -> usize {
        match self {
            Self::Between => 0,
            Self::Inside(_) => 1,
            Self::Power(_) => 2,
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            CutKind::Between => write!(f, "after {} requests", self.effects),
            CutKind::Inside(bytes) => {
                write!(f, "{bytes} bytes into the request after {}", self.effects)
            }
            CutKind::Power(seed) => write!(f, "power lost after {}, seed {seed}", self.effects),
        }
    }
}

/// All cuts between and inside requests, and as many with a loss of power as make `states` of them.
pub fn cuts(recording: &Recording, states: usize, seed: u64) -> Vec<Cut> {
    let journal = &recording.journal;
    let mut cuts = Vec::new();
    for effects in recording.from..=journal.effects().len() {
        cuts.push(Cut { effects, kind: CutKind::Between });
        for bytes in places(journal, effects) {
            cuts.push(Cut { effects, kind: CutKind::Inside(bytes) });
        }
    }
    let mut rng = Rng::new(seed);
    let least = journal.effects().len() + 1 - recording.from;
    for at in 0..least.max(states.saturating_sub(cuts.len())) {
        let effects = recording.from + at % least;
        cuts.push(Cut { effects, kind: CutKind::Power(rng.next() >> 16) });
    }
    cuts
}

/// Where the next effect is torn when the process ends. The operating system takes what a write has in one page
/// of the page cache whole or not at all; what relies on that are bitfield pages only, so only they are
/// spared other places.
fn places(journal: &Journal, effects: usize) -> Vec<usize> {
    let Some(Op::Write { path, offset, data }) = journal.effects().get(effects).map(|e| &e.op)
    else {
        return Vec::new();
    };
    let (len, next_page) = (data.len(), PAGE - (*offset % PAGE as u64) as usize);
    let mut places = vec![next_page, next_page + PAGE];
    if !path.as_str().ends_with("/bitfield") {
        places.extend([1, len / 4, len / 2, len * 3 / 4, len.saturating_sub(1)]);
    }
    places.retain(|bytes| (1..len).contains(bytes));
    places.sort_unstable();
    places.dedup();
    places
}

/// The files that a cut leaves.
pub fn state(recording: &Recording, cut: Cut) -> Memory {
    let journal = &recording.journal;
    match cut.kind {
        CutKind::Between => journal.state_after(cut.effects),
        CutKind::Inside(bytes) => journal.state_torn(cut.effects, bytes),
        CutKind::Power(seed) => {
            let mut rng = Rng::new(seed);
            let percent = [0, 8, 30, 60, 92][rng.below(5)];
            let torn = rng.below(3) == 0;
            journal.state_after_power_loss(cut.effects, |at| {
                if rng.below(100) < percent {
                    return Kept::Whole;
                }
                match &journal.effects()[at].op {
                    Op::Write { offset, data, .. } if torn && rng.below(3) == 0 => {
                        // A disk writes whole sectors.
                        let first = SECTOR - (*offset % SECTOR as u64) as usize;
                        let more = data.len().saturating_sub(first) / SECTOR + 1;
                        Kept::Part(first + SECTOR * rng.below(more))
                    }
                    _ => Kept::Nothing,
                }
            })
        }
    }
}

/// What the recording is of, for the table and for messages.
pub fn name(recording: &Recording) -> String {
    let layout = match recording.layout {
        Layout::Corestore => "corestore",
        Layout::Numbered => "numbered",
    };
    let durability = match recording.durability {
        Some(multifeed_core::Durability::Process) => "process",
        Some(multifeed_core::Durability::Power) => "power",
        None => "always synced",
    };
    format!("{:<12} {layout:<10} {durability:<13}", recording.scenario)
}

const PAGE: usize = 4096;
const SECTOR: usize = 512;
