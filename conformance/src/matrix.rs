//! Which pairs of implementations sync, and how it ends: what `tests/matrix.rs` asserts.

use std::fmt;

/// An implementation, with its files in one layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rust with the files of corestore.
    RustCorestore,
    /// Rust with the numbered folders of multifeed 6.
    RustNumbered,
    /// `multifeed@6.0.0`.
    Multifeed6,
    /// `hypermultifeed@1.1.0`.
    Hypermultifeed,
    /// `@frando/corestore-multifeed@0.0.1`.
    CorestoreMultifeed,
}

/// What becomes of two that are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both end with the same contents; the connection stays.
    Same,
    /// Both end with the same contents, and the connection ends by itself.
    SameAndEnds,
    /// Neither hears the other, and nothing is exchanged.
    Nothing,
}

/// All, in the order of the table.
pub const KINDS: [Kind; 5] = [
    Kind::RustCorestore,
    Kind::RustNumbered,
    Kind::Multifeed6,
    Kind::Hypermultifeed,
    Kind::CorestoreMultifeed,
];

impl Kind {
    /// The npm package, or none.
    #[must_use]
    pub const fn package(self) -> Option<&'static str> {
        match self {
            Self::RustCorestore | Self::RustNumbered => None,
            Self::Multifeed6 => Some("multifeed"),
            Self::Hypermultifeed => Some("hypermultifeed"),
            Self::CorestoreMultifeed => Some("@frando/corestore-multifeed"),
        }
    }

    /// As modules of tests are called.
    #[must_use]
    pub const fn module(self) -> &'static str {
        match self {
            Self::RustCorestore => "rust_corestore",
            Self::RustNumbered => "rust_numbered",
            Self::Multifeed6 => "multifeed6",
            Self::Hypermultifeed => "hypermultifeed",
            Self::CorestoreMultifeed => "corestore_multifeed",
        }
    }
}

impl Outcome {
    /// Of two kinds, whichever connects.
    #[must_use]
    pub fn of(one: Kind, two: Kind, live: bool) -> Self {
        let kinds = [one, two];
        let rust = one.package().is_none() || two.package().is_none();
        // Multifeed 6 speaks another dialect than the other packages; Rust speaks both.
        if !rust && one != two && kinds.contains(&Kind::Multifeed6) {
            return Self::Nothing;
        }
        // Two of hypermultifeed or corestore-multifeed never end by themselves.
        if live || !(rust || one == Kind::Multifeed6) { Self::Same } else { Self::SameAndEnds }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RustCorestore => "Rust, corestore folders",
            Self::RustNumbered => "Rust, numbered folders",
            Self::Multifeed6 => "multifeed 6.0.0",
            Self::Hypermultifeed => "hypermultifeed 1.1.0",
            Self::CorestoreMultifeed => "@frando/corestore-multifeed 0.0.1",
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "same, stays",
            Self::SameAndEnds => "same, ends",
            Self::Nothing => "nothing",
        })
    }
}
