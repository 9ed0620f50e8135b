//! Proofs by counting: what a crash at any moment, and damage to any file, leave of a store.
//!
//! | file | what is in it |
//! |---|---|
//! | `record` | a node whose storage requests are recorded, with what is promised meanwhile |
//! | `scenarios` | the work that is recorded |
//! | `cut` | where a recording is cut off, and the files that are left |
//! | `judge` | what must be true of them |
//! | `verify` | the check of a whole store in memory |
//! | `table` | all states judged, on several threads, and counted |
//! | `damage` | a store with one file damaged |
//! | `commands`, `rules` | what each command must do with it |
//! | `cells` | all files × kinds of damage × commands judged, and counted |
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    unreachable_pub
)]

pub mod cells;
pub mod commands;
pub mod cut;
pub mod damage;
pub mod judge;
pub mod record;
pub mod rng;
pub mod rules;
pub mod scenarios;
pub mod table;
#[path = "../util/mod.rs"]
pub mod util;
pub mod verify;
