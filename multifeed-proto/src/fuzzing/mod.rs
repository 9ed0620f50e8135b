//! The bodies of the fuzz targets of this crate (`fuzz/` in the repository). No part of the interface.
//!
//! Each is a function of bytes: it does with the crate what these bytes say, and panics if anything comes
//! out that must not. Beside the fuzzer, a test of the stable toolchain calls them with the inputs that
//! are kept.
#![allow(clippy::wildcard_enum_match_arm, reason = "most inputs, outputs and events do not matter")]

mod bytes;
mod connection;
mod input;
mod json;
mod reached;
mod rle;
pub mod script;

pub use self::bytes::{frames, messages};
pub use self::connection::{connection, small_config};
pub use self::input::Input;
pub use self::json::json;
pub use self::reached::{NEW, PEER_ERRORS, Reached, peer_error};
pub use self::rle::rle;
pub use crate::wire::fuzzing::{NoiseRemote, wire};
