//! All targets.

use multifeed_core::fuzzing as core;
use multifeed_proto::fuzzing::{self as proto, Reached};

/// One target.
pub struct Target {
    /// Its name, also of its program and of its folder of kept inputs.
    pub name: &'static str,
    /// What is done with an input.
    pub body: fn(&[u8], &mut Reached),
    /// What is made once, and does not count as memory that an input takes.
    pub prepare: Option<fn()>,
    /// Bytes of memory that any input may take.
    pub base_bytes: usize,
    /// Bytes of memory that it may take besides for each of its bytes.
    pub bytes_each: usize,
}

/// All targets, the simple ones first.
pub const TARGETS: &[Target] = &[
    Target::new("frames", proto::frames, 4 * KIB, 0),
    // A name of an extension is two bytes and becomes a string on the heap, four times.
    Target::new("messages", proto::messages, 16 * KIB, 256),
    Target::new("wire", proto::wire, 64 * KIB, 512),
    // Two bytes can say that 64 KiB are to be filled, here and in the plain decoder.
    Target::new("rle", proto::rle, 512 * KIB, 64),
    Target::new("json", proto::json, 64 * KIB, 256),
    Target::new("connection", proto::connection, 512 * KIB, 1024),
    Target::new("node", core::node, 8 * KIB * KIB, 4096).after(core::prepare),
    Target::new("proofs", core::proofs, 512 * KIB, 4096),
    Target::new("text", core::text, 64 * KIB, 64),
    Target::new("files", core::files, 8 * KIB * KIB, 4096).after(core::prepare),
    Target::new("store", core::store, 8 * KIB * KIB, 4096).after(core::prepare),
];

const KIB: usize = 1024;

impl Target {
    const fn new(
        name: &'static str,
        body: fn(&[u8], &mut Reached),
        base_bytes: usize,
        bytes_each: usize,
    ) -> Self {
        Self { name, body, prepare: None, base_bytes, bytes_each }
    }

    const fn after(self, prepare: fn()) -> Self {
        Self { prepare: Some(prepare), ..self }
    }
}

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
