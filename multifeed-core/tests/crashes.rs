//! Stores cut off at moments that lie evenly over all of them: see `docs/proofs.md` for the command that tries
//! every one.
#![allow(missing_docs)]

#[path = "proofs/mod.rs"]
mod proofs;

use proofs::scenarios::{self, Scenario};
use proofs::table::{Plan, judged};

#[test]
fn a_store_cut_off_at_any_moment_holds_what_was_promised_and_goes_on() {
    let mut recordings = scenarios::all();
    recordings
        .retain(|recording| !matches!(recording.scenario, Scenario::Convert | Scenario::Repair));
    let plan = Plan { states: 1, seed: 7, every: 61, promised: true, threads: 2 };
    let table = judged(&recordings, plan);
    assert!(table.states() > 150, "{table}");
    assert_eq!(table.wrong(), 0, "{table}\n{}", table.wrong.join("\n"));
}
