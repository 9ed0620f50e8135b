//! Checks the files of feeds: every hash and every signature. Says what is damaged and what was
//! lost, and what to write to undo it.
//!
//! | file | what is in it |
//! |---|---|
//! | `finding` | what can be wrong, as values; the [`Report`] of a feed |
//! | `machine` | the passes over one feed, as requests for storage operations and answers |
//! | `list` | the list of feeds of corestore, written anew |
//! | `ledger` | what these passes have in common |
//! | `walk` | the pass over tree, blocks and signatures |
//! | `plan` | repair: what to write, in which order |
//! | `folders` | which feeds a store has, in either layout |
//! | `unlisted` | which of them a multifeed has where the master key is not known |
//! | `modes` | files with secrets that others may read (feature `std`) |
//! | `store` | all feeds of a store (feature `std`) |
//!
//! A feed is opened first, like by a [`Node`](crate::Node), and what that believes is what is checked: so what is
//! sound here opens there, with the same length and the same blocks. Not here: fetching what was lost, which the next sync does.

mod finding;
mod folders;
mod ledger;
mod list;
mod machine;
#[cfg(feature = "std")]
mod modes;
mod plan;
#[cfg(feature = "std")]
mod store;
mod unlisted;
mod walk;

pub use finding::{Finding, Report, Severity};
pub use folders::{FeedFolder, Folders, FoldersStep};
pub(crate) use list::write as write_list;
pub use machine::{Check, Checked, Step, Subject};
#[cfg(feature = "std")]
pub use store::{StoreCheck, StoreFinding, StoreReport, TruncateError, Truncation};
pub(crate) use unlisted::Unlisted;
