//! All states of all recordings judged, and counted.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::cut::{Cut, KINDS, cuts, name, state};
use super::judge::{is_promised, judge};
use super::record::Recording;

/// How many states of each kind a row has, and how many of them are wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub states: [usize; 3],
    pub wrong: usize,
}

/// The counts of all rows, and what is wrong.
#[derive(Debug, Default)]
pub struct Table {
    pub rows: BTreeMap<(usize, String), Row>,
    pub wrong: Vec<String>,
}

impl Table {
    pub fn states(&self) -> usize {
        self.rows.values().flat_map(|row| row.states).sum()
    }

    pub fn wrong(&self) -> usize {
        self.rows.values().map(|row| row.wrong).sum()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [between, inside, power] = KINDS;
        writeln!(f, "{:<37} {between:>8} {inside:>8} {power:>8} {:>8}", "", "wrong")?;
        let mut sums = [0; 3];
        for ((_, name), row) in &self.rows {
            let [a, b, c] = row.states;
            sums = [sums[0] + a, sums[1] + b, sums[2] + c];
            writeln!(f, "{name:<37} {a:>8} {b:>8} {c:>8} {:>8}", row.wrong)?;
        }
        let [a, b, c] = sums;
        writeln!(f, "{:<37} {a:>8} {b:>8} {c:>8} {:>8}", "all", self.wrong())
    }
}

/// Which states are judged.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// As many in all, and at least all cuts between and inside requests.
    pub states: usize,
    pub seed: u64,
    /// Every so many of them only.
    pub every: usize,
    /// Only those for which something was promised.
    pub promised: bool,
    pub threads: usize,
}

/// Every state of the plan: the number of its recording, and where it is cut.
pub fn planned(recordings: &[Recording], plan: Plan) -> Vec<(usize, Cut)> {
    let share = plan.states.div_ceil(recordings.len().max(1));
    let of = |(at, recording): (usize, &Recording)| {
        let cuts = cuts(recording, share, plan.seed ^ (at as u64) << 40);
        cuts.into_iter().map(move |cut| (at, cut))
    };
    let all = recordings.iter().enumerate().flat_map(of);
    let wanted = |(at, cut): &(usize, Cut)| !plan.promised || is_promised(&recordings[*at], *cut);
    all.filter(wanted).step_by(plan.every.max(1)).collect()
}

/// Judges all states of the plan.
pub fn judged(recordings: &[Recording], plan: Plan) -> Table {
    let states = planned(recordings, plan);
    let (next, table) = (AtomicUsize::new(0), Mutex::new(Table::default()));
    std::thread::scope(|scope| {
        for _ in 0..plan.threads.max(1) {
            scope.spawn(|| {
                while let Some((at, cut)) = states.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let recording = &recordings[*at];
                    let verdict = attempt(recording, *cut);
                    let mut table = table.lock().unwrap();
                    let row = (recording.scenario as usize, name(recording));
                    let row = table.rows.entry(row).or_default();
                    row.states[cut.kind.column()] += 1;
                    row.wrong += usize::from(verdict.is_err());
                    if let Err(problem) = verdict {
                        table.wrong.push(said(*at, recording, *cut, &problem));
                    }
                }
            });
        }
    });
    let mut table = table.into_inner().unwrap();
    table.wrong.sort();
    table
}

/// Judges one state; a panic is wrong, too.
pub fn attempt(recording: &Recording, cut: Cut) -> Result<(), String> {
    let attempt = || judge(recording, cut, &state(recording, cut));
    catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|panic| Err(message(&*panic)))
}

pub fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    format!("panic: {}", text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("?"))
}

/// A state that is wrong, and how to see it again.
fn said(at: usize, recording: &Recording, cut: Cut, problem: &str) -> String {
    format!("{} {cut} (--replay {}): {problem}", name(recording), replay(at, cut))
}

/// Names a state.
pub fn replay(at: usize, cut: Cut) -> String {
    use super::cut::CutKind;
    match cut.kind {
        CutKind::Between => format!("{at}:{}", cut.effects),
        CutKind::Inside(bytes) => format!("{at}:{}:inside:{bytes}", cut.effects),
        CutKind::Power(seed) => format!("{at}:{}:power:{seed}", cut.effects),
    }
}

/// Reads what [`replay`] writes.
pub fn parse(text: &str) -> Option<(usize, Cut)> {
    use super::cut::CutKind;
    let mut parts = text.split(':');
    let at = parts.next()?.parse().ok()?;
    let effects = parts.next()?.parse().ok()?;
    let kind = match (parts.next(), parts.next()) {
        (None, None) => CutKind::Between,
        (Some("inside"), Some(bytes)) => CutKind::Inside(bytes.parse().ok()?),
        (Some("power"), Some(seed)) => CutKind::Power(seed.parse().ok()?),
        _ => return None,
    };
    Some((at, Cut { effects, kind }))
}
