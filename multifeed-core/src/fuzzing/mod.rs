//! The bodies of the fuzz targets of this crate (`fuzz/` in the repository). No part of the interface.
//!
//! | file | what is in it |
//! |---|---|
//! | `node` | the target for nodes: two of them and liars |
//! | `commands`, `finish` | what their applications want; what must hold in the end |
//! | `store`, `damage` | the target for edited folders |
//! | `proofs` | the target for proofs |
//! | `text` | the target for small files and texts |
//! | `files` | the target for the executor on real folders |
//! | `host`, `disk`, `wire`, `liar` | one node, its disk, a connection between two, a peer that lies |
//! | `prepared`, `log`, `truth` | stores made once; a log without files; what was ever seen of all logs |
//! | `memory` | signatures that were checked before |
//! | `reached` | names of what inputs can lead to |
#![allow(clippy::wildcard_enum_match_arm, reason = "most inputs, outputs and events do not matter")]

mod commands;
mod damage;
mod disk;
mod files;
mod finish;
mod host;
mod liar;
mod log;
mod memory;
mod node;
mod prepared;
mod proofs;
mod reached;
mod store;
mod text;
mod truth;
mod wire;

pub use self::files::files;
pub(crate) use self::memory::remember;
pub use self::node::{node, prepare};
pub use self::proofs::proofs;
pub use self::reached::{
    CONVERT_ERRORS, FINDINGS, NODE_ERRORS, STORE_FINDINGS, convert_error, finding, node_error,
    store_finding,
};
pub use self::store::store;
pub use self::text::text;
