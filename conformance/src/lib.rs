//! Runs multifeed for Rust against the real JavaScript packages: live, over TCP, in both roles, and
//! on the same directories.
//!
//! This library is the harness of the tests in `tests/` and of the benchmark `bench`:
//!
//! - [`JsPeer`]: a Node process that holds one hypermultifeed (`js/peer.js`), driven by JSON lines;
//! - [`Store`]: a directory and its root key, opened by either side; runs our program `multifeed`;
//! - [`Side`]: our library or a JavaScript peer, spoken to in the same words;
//! - [`upstream`]: the list of the JavaScript packages' own test cases;
//! - [`Link`]: a connection of `multifeed-proto` without a store;
//! - [`Contents`]: what a store holds, as one SHA-256 a feed, and [`Held`], what it should hold;
//! - [`CuttingProxy`]: a TCP proxy that cuts a connection after so many bytes.
//!
//! What it is not: part of the library, or a place for protocol code. Nothing here panics on purpose
//! but to fail a test, with a message that says what was missing and what the processes printed.
//! The npm packages are installed on the first run. Without Node every test fails with one line.

#![allow(clippy::unwrap_used, reason = "a harness fails its test by panicking")]

mod contents;
mod install;
mod javascript;
mod library;
mod link;
pub mod matrix;
mod process;
mod program;
mod proxy;
mod random;
pub mod results;
mod side;
mod slow;
mod store;
pub mod upstream;

pub use contents::{Contents, Held, block, line, lines, root_key};
pub use install::mux_program;
pub use javascript::{JsPeer, Pending};
pub use library::contents;
pub use link::Link;
pub use process::{Process, json_u64};
pub use program::{multifeed, program};
pub use proxy::{CuttingProxy, Transfer};
pub use random::Random;
pub use side::{Player, Side, connect};
pub use slow::SlowStorage;
pub use store::{Serving, Store};
