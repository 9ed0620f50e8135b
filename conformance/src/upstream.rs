//! The test cases of the JavaScript packages themselves, by their names there.
//!
//! The tests of these names are in `tests/upstream`; `RESULTS.md` is written from what they did.

use std::fmt;

/// A package whose tests are taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `hypermultifeed@1.1.0`.
    Hypermultifeed,
    /// `multifeed@6.0.0`.
    Multifeed6,
}

/// One case of a package's tests.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Whose it is.
    pub family: Family,
    /// Its file there, without `.js`.
    pub file: &'static str,
    /// Its place in the file, from 0 on.
    pub number: usize,
    /// Its name there.
    pub name: &'static str,
    /// What is otherwise here, if anything is.
    pub difference: &'static str,
}

impl Family {
    /// The module of its tests.
    #[must_use]
    pub const fn module(self) -> &'static str {
        match self {
            Self::Hypermultifeed => "hm",
            Self::Multifeed6 => "mf6",
        }
    }

    /// The npm package.
    #[must_use]
    pub const fn package(self) -> &'static str {
        match self {
            Self::Hypermultifeed => "hypermultifeed",
            Self::Multifeed6 => "multifeed",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hypermultifeed => "hypermultifeed 1.1.0",
            Self::Multifeed6 => "multifeed 6.0.0",
        })
    }
}

impl Case {
    /// Whether its tests assert something else than the case wants: what `difference` says.
    #[must_use]
    pub fn opposite(&self) -> bool {
        [NO_EARLY_HANDLE, KEY_ON_DISK].contains(&self.difference)
    }

    /// The path of the module that holds its tests, one for each way to cast it: `hm::basic::no_feeds`.
    #[must_use]
    pub fn module(&self) -> String {
        let name = self.name.strip_prefix("regression: ").unwrap_or(self.name);
        let words = name.split(|letter: char| !letter.is_ascii_alphanumeric());
        let words: Vec<_> =
            words.filter(|word| !word.is_empty()).map(str::to_ascii_lowercase).collect();
        let file = self.file.replace('-', "_");
        format!("{}::{file}::{}", self.family.module(), words.join("_"))
    }
}

/// All cases, in their order there.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (family, files) in [(Family::Hypermultifeed, HM), (Family::Multifeed6, MF6)] {
        for (file, list) in files {
            for (number, (name, difference)) in list.iter().enumerate() {
                cases.push(Case { family, file, number, name, difference });
            }
        }
    }
    cases
}

type Files = &'static [(&'static str, &'static [(&'static str, &'static str)])];

const SAME: &str = "";
const NO_EARLY_HANDLE: &str =
    "there is no handle before the store is open; asked of one whose store is closed again";
const CLOSED: &str = "a closed store refuses what is asked of it (`ERR_CLOSED`), the second close waits for the first";
const END: &str = "hypermultifeed never ends a stream by itself, its own test fails; Rust does, and \
                   hypermultifeed sees it closed in order";
const TCP: &str = "over TCP without discovery; JavaScript runs its `MultifeedNetworker` on a real \
                   `@corestore/networker`. A feed of others is found by `feed_named`";
const KEY_PAIR: &str = "hypermultifeed ignores `keypair` and its own test fails; given as `keyPair`, \
                        which it takes";
const REAL_KEYS: &str =
    "keys of 32 bytes in place of 'A', 'B', 'C', 'X'; asked of `multifeed-proto`";
const KEY_ON_DISK: &str = "skipped in hypermultifeed. The opposite is asserted: as with it, the `name` files \
                 of writers and of the list, and no others, hold the root key, which corestore \
                 needs there to open them";
const HANDSHAKE: &str = "asked of `multifeed-proto`";
const STREAM: &str = "any byte stream can be given to Rust; the `Protocol` object is JavaScript's";

const HM: Files = &[
    ("new-basic", &[("minimal swarm example", TCP), ("multiple topics example", TCP)]),
    (
        "basic",
        &[
            ("no feeds", SAME),
            ("create writer", SAME),
            ("get feed by key", SAME),
            ("get localfeed by name", SAME),
            (
                "replicate two empty multifeeds",
                "hypermultifeed says neither `remote-feeds` nor `end`, its own test fails; Rust says \
                 both, and hypermultifeed sees the stream closed in order",
            ),
            ("replicate two multifeeds", END),
            ("live replicate two multifeeds", SAME),
            ("get localfeed by name across disk loads", SAME),
            ("close", SAME),
            ("close after double-open", SAME),
            ("can provide custom encryption key", "seen by what a peer with that key receives"),
            ("replicate slow-to-open multifeeds", END),
            ("can create writer with custom keypair", KEY_PAIR),
            ("can replicate with custom keypairs", END),
        ],
    ),
    (
        "corestore",
        &[("corestore networker example", TCP), ("corestore to multifeed over hyperswarm", TCP)],
    ),
    (
        "mux",
        &[
            ("key exchange API", REAL_KEYS),
            ("regression: ensure we're receiving remote handshake", HANDSHAKE),
        ],
    ),
    (
        "regression",
        &[
            (
                "regression: concurrency of writer creation",
                "fails in hypermultifeed; an opened store has 0 feeds until a writer is made",
            ),
            ("regression: MF with no writer replicate to MF with 1 writer", END),
            ("regression: start replicating before feeds are loaded", END),
            ("regression: announce new feed on existing connections", SAME),
            ("regression: replicate before multifeed is ready", NO_EARLY_HANDLE),
            (
                "regression: MFs with different root keys cannot replicate",
                "after the same 10 s, by whichever side is first (Rust: `ERR_MULTIFEED_TIMEOUT`); the other \
                 hears no reason, which Rust calls `ERR_PEER_LEFT`",
            ),
            ("regression: calling close while closing should not throw errors", CLOSED),
            ("regression: sync two single-core multifeeds /w different storage speeds", END),
            ("regression: ensure encryption key is not written to disk", KEY_ON_DISK),
            ("replicate two multifeeds, twice", SAME),
        ],
    ),
];

const MF6: Files = &[
    (
        "basic",
        &[
            ("no feeds", SAME),
            ("create writer", SAME),
            ("get feed by key", SAME),
            ("get localfeed by name", SAME),
            ("replicate two multifeeds, one empty", SAME),
            ("replicate two empty multifeeds", SAME),
            ("replicate two multifeeds", SAME),
            ("live replicate two multifeeds", SAME),
            ("get localfeed by name across disk loads", SAME),
            ("close", SAME),
            ("close after double-open", SAME),
            ("can provide custom encryption key", "seen by what a peer with that key receives"),
            ("replicate slow-to-open multifeeds", SAME),
            ("can create writer with custom keypair", SAME),
            (
                "can replicate with custom keypairs",
                "`feeds` of Rust is in the order of joining; multifeed 6 sorts the remote '1' first",
            ),
        ],
    ),
    (
        "existing-protocol",
        &[
            ("replicate from existing protocols", STREAM),
            ("live replicate from existing protocols", STREAM),
        ],
    ),
    (
        "mux",
        &[
            ("key exchange API", REAL_KEYS),
            ("regression: ensure we're receiving remote handshake", HANDSHAKE),
        ],
    ),
    (
        "regression",
        &[
            (
                "regression: concurrency of writer creation",
                "an opened store has 0 feeds until a writer is made",
            ),
            ("regression: MF with no writer replicate to MF with 1 writer", SAME),
            ("regression: start replicating before feeds are loaded", SAME),
            ("regression: announce new feed on existing connections", SAME),
            ("regression: replicate before multifeed is ready", NO_EARLY_HANDLE),
            (
                "regression: MFs with different root keys cannot replicate",
                "multifeed 6 says so at once, which Rust calls `ERR_PEER_LEFT`; between Rust and Rust it is a \
                 timeout after 10 s",
            ),
            ("regression: calling close while closing should not throw errors", CLOSED),
            ("regression: sync two single-core multifeeds /w different storage speeds", SAME),
            (
                "regression: ensure encryption key is not written to disk",
                "beside the folder '0' there are two small files of Rust, `multifeed.lock` and \
                 `multifeed.numbered`; no file holds the key",
            ),
            ("replicate two multifeeds, twice", SAME),
        ],
    ),
];
