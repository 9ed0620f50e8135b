//! Bytes and time to meaning: [`Wire`](crate::wire::Wire), [`Session`](crate::session::Session) and
//! timers joined.
//!
//! In this folder: `machine` ([`Connection`] and what happens to it), `verbs` (what the
//! application can do), `timers`, `output` ([`Output`]), `arriving` ([`Arriving`]),
//! `memory` (what a peer fills).
//!
//! Not here: what a message means (`session`), how it is written (`wire`).

mod arriving;
mod machine;
mod memory;
mod output;
mod timers;
mod verbs;

pub use arriving::Arriving;
pub use machine::Connection;
pub use memory::Memory;
pub use output::{Output, RootId};
