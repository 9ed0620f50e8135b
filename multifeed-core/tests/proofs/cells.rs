//! All files × all kinds of damage × all commands, judged and counted.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use multifeed_core::Layout;
use multifeed_core::storage::FilePath;

use super::commands::{COMMANDS, Case, Command};
use super::damage::{KINDS, Kind, World};
use super::table::message;

/// Cells that are right, and all.
pub type Count = (usize, usize);

/// The counts of all cells, and what is wrong.
#[derive(Debug, Default)]
pub struct Cells {
    pub by_kind: BTreeMap<(Kind, Command), Count>,
    pub wrong: Vec<String>,
}

impl Cells {
    pub fn all(&self) -> usize {
        self.by_kind.values().map(|(_, all)| all).sum()
    }

    fn add(&mut self, kind: Kind, command: Command, right: bool) {
        let count = self.by_kind.entry((kind, command)).or_default();
        *count = (count.0 + usize::from(right), count.1 + 1);
    }

    pub fn join(&mut self, other: Self) {
        for (cell, (right, all)) in other.by_kind {
            let count = self.by_kind.entry(cell).or_default();
            *count = (count.0 + right, count.1 + all);
        }
        self.wrong.extend(other.wrong);
    }
}

impl fmt::Display for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<28}", "right / all")?;
        COMMANDS.iter().try_for_each(|command| write!(f, "{command:>10}"))?;
        for kind in KINDS {
            write!(f, "\n{kind:<28}")?;
            for command in COMMANDS {
                let (right, all) = self.by_kind.get(&(kind, command)).copied().unwrap_or_default();
                write!(f, "{:>10}", format!("{right}/{all}"))?;
            }
        }
        write!(f, "\n{:<28}", "all")?;
        for command in COMMANDS {
            let of = self.by_kind.iter().filter(|((_, of), _)| *of == command);
            let (right, all) = of.fold((0, 0), |sum, (_, at)| (sum.0 + at.0, sum.1 + at.1));
            write!(f, "{:>10}", format!("{right}/{all}"))?;
        }
        writeln!(f)
    }
}

/// Judges the cells of a world, every so many only.
pub fn judged(world: &World, every: usize, threads: usize) -> Cells {
    let files = world.files();
    let cases = files.iter().flat_map(|file| KINDS.map(|kind| (file, kind)));
    let cells = cases.flat_map(|(file, kind)| COMMANDS.map(|command| (file, kind, command)));
    let cells: Vec<(&FilePath, Kind, Command)> = cells.step_by(every.max(1)).collect();
    let (next, sum) = (AtomicUsize::new(0), Mutex::new(Cells::default()));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some((file, kind, command)) =
                    cells.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let Some(verdict) = one(world, file, *kind, *command) else { continue };
                    let mut sum = sum.lock().unwrap();
                    sum.add(*kind, *command, verdict.is_ok());
                    if let Err(problem) = verdict {
                        sum.wrong.push(said(world, file, *kind, *command, &problem));
                    }
                }
            });
        }
    });
    let mut sum = sum.into_inner().unwrap();
    sum.wrong.sort();
    sum
}

/// Judges one cell; a panic is wrong, too. `None` if this kind of damage changes nothing of the file.
pub fn one(
    world: &World,
    file: &FilePath,
    kind: Kind,
    command: Command,
) -> Option<Result<(), String>> {
    let case = Case::new(world, file, kind)?;
    let judge = || case.judge(command);
    let verdict = catch_unwind(AssertUnwindSafe(judge));
    Some(verdict.unwrap_or_else(|panic| Err(message(&*panic))))
}

fn said(world: &World, file: &FilePath, kind: Kind, command: Command, problem: &str) -> String {
    let layout = match world.layout {
        Layout::Corestore => "corestore",
        Layout::Numbered => "numbered",
    };
    let feed = world.feed_of(file);
    let of = match feed.as_ref().map(|key| world.writers.contains_key(key)) {
        Some(true) => "writer",
        Some(false) => "reader",
        None => "shared",
    };
    let path = file.as_str();
    let name = path.rsplit('/').next().unwrap_or(path);
    format!("{layout} {of} {name} | {kind} | {command}: {problem} [{path}]")
}
