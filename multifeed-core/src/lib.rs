//! Multifeed's feeds, storage requests and scheduling as sans-IO state machines.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(feature = "std")]
pub mod disk;
pub mod storage;
