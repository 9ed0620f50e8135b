//! What can be wrong with a feed, as values.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::tree::NodeIndex;

/// Something that is not as it should be in the files of one feed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// `key` is missing or shorter than a key.
    KeyMissing {
        /// Whether the key is known from elsewhere, so that the rest could be checked.
        known: bool,
    },
    /// `key` holds a key that does not belong into this folder.
    KeyOther {
        /// Whether the right one is known from elsewhere.
        known: bool,
    },
    /// No signature of the log fits the key in `key`, and nothing else tells which of them is damaged.
    KeyUnfit,
    /// `key` is longer than a key: what is behind it is not looked at, here and by the JavaScript.
    KeyLong,
    /// No signature of the log is one, though the key is known: nothing of it is proven.
    NothingProven,
    /// The bitfield tells a length that no log can have.
    LengthImpossible,
    /// `secret_key` is no secret key, or that of another feed.
    SecretKey {
        /// Whether its first half is right, from which the rest follows.
        restorable: bool,
    },
    /// `name` is no name, or that of another feed: the feed cannot be written here.
    Name {
        /// Whether the right name is known from the list of feeds.
        known: bool,
    },
    /// A file does not begin as it should.
    Header {
        /// `bitfield`, `signatures` or `tree`.
        file: &'static str,
    },
    /// The header of the bitfield tells another size of its pages than they have.
    PageSize,
    /// The bitfield is not there, though other files of the feed are.
    BitfieldMissing,
    /// The bitfield tells of nothing, and blocks are signed. Those that are intact can be marked again.
    BitfieldLost {
        /// The blocks that are signed.
        blocks: Range<u64>,
    },
    /// The summaries in the bitfield, which only speed searches up, do not fit the rest of it.
    Summaries {
        /// Pages of the bitfield in which they do not.
        pages: u64,
    },
    /// The bitfield knows of blocks at or beyond the end of the log.
    BeyondEnd {
        /// Blocks that are marked as held there.
        blocks: u64,
    },
    /// A node is stored and true, and the bitfield does not know of it.
    NodeUnmarked {
        /// The node.
        node: NodeIndex,
    },
    /// A node is damaged; what it was follows from the nodes around it or from its block.
    NodeRebuilt {
        /// The node.
        node: NodeIndex,
    },
    /// Nodes or blocks are held that nothing proves: the tree below `node` is damaged.
    Unproven {
        /// The lowest node above them that is proven.
        node: NodeIndex,
        /// The blocks below that are not proven.
        blocks: Range<u64>,
        /// How many of these are marked as held.
        held: u64,
    },
    /// What is stored as the signature of a length is not one.
    SignatureWrong {
        /// The length in blocks.
        length: u64,
        /// Whether the feed can be signed again: all its blocks are intact and the secret key is here.
        restorable: bool,
    },
    /// The log is not proven to the length that the bitfield tells.
    LengthUnproven {
        /// What the bitfield tells.
        recorded: u64,
        /// The last length that is proven.
        proven: u64,
    },
    /// The feed does not open.
    Unopenable {
        /// What opening it says.
        problem: &'static str,
    },
    /// Blocks do not have their hash.
    BlocksWrong {
        /// The blocks, one after another.
        blocks: Range<u64>,
    },
    /// The data file ends before blocks that are marked as held.
    BlocksCut {
        /// The blocks, one after another.
        blocks: Range<u64>,
    },
    /// Blocks are there and intact that the bitfield does not mark as held.
    BlocksUnmarked {
        /// The blocks, one after another.
        blocks: Range<u64>,
    },
    /// A file of it cannot be read. The rest of it was not looked at.
    Unreadable {
        /// The file in the store.
        file: String,
        /// What the operating system says.
        problem: String,
        /// A folder is in the place of the file, which a repair sets aside.
        in_the_way: bool,
    },
    /// Signed blocks are there that the bitfield does not know of. A writer takes them up when it is
    /// opened.
    Unrecorded {
        /// The blocks.
        blocks: Range<u64>,
    },
    /// A writer of this store has signed more blocks than are left. It is read-only until peers have
    /// sent them back.
    Sealed {
        /// Blocks that are left and proven.
        length: u64,
        /// Blocks that it had.
        sealed: u64,
    },
    /// Two logs were signed with the key of the feed.
    Forked {
        /// Blocks of the one that was held here when that was found out.
        here: u64,
        /// Blocks of the other one.
        there: u64,
    },
}

/// What a finding means for the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing is lost, and nothing will go wrong by it.
    Harmless,
    /// Damage that is undone without loss.
    Restorable,
    /// Something is lost here, and comes back from a peer that has the feed.
    Refetch,
    /// Nothing in the store tells how to undo it.
    Permanent,
}

impl Finding {
    /// What it means for the feed.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Header { .. }
            | Self::KeyLong
            | Self::Summaries { .. }
            | Self::BlocksUnmarked { .. }
            | Self::Unrecorded { .. } => Severity::Harmless,
            Self::PageSize
            | Self::NodeUnmarked { .. }
            | Self::NodeRebuilt { .. }
            | Self::SignatureWrong { .. }
            | Self::Unreadable { in_the_way: true, .. }
            | Self::BitfieldLost { .. }
            | Self::KeyMissing { known: true }
            | Self::KeyOther { known: true }
            | Self::SecretKey { restorable: true }
            | Self::Name { known: true } => Severity::Restorable,
            Self::BitfieldMissing
            | Self::NothingProven
            | Self::LengthImpossible
            | Self::BeyondEnd { .. }
            | Self::Unproven { .. }
            | Self::LengthUnproven { .. }
            | Self::Unopenable { .. }
            | Self::BlocksWrong { .. }
            | Self::BlocksCut { .. }
            | Self::Sealed { .. } => Severity::Refetch,
            Self::KeyMissing { known: false }
            | Self::KeyOther { known: false }
            | Self::KeyUnfit
            | Self::Forked { .. }
            | Self::Unreadable { in_the_way: false, .. }
            | Self::SecretKey { restorable: false }
            | Self::Name { known: false } => Severity::Permanent,
        }
    }

    /// Whether a repair does something about it. What a writer lost at its end only peers can undo.
    #[must_use]
    pub const fn is_repaired(&self) -> bool {
        match self.severity() {
            Severity::Restorable => true,
            Severity::Refetch => !matches!(self, Self::Sealed { .. }),
            Severity::Harmless | Severity::Permanent => false,
        }
    }

    /// A name for programs, which stays the same.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::KeyMissing { .. } => "key-missing",
            Self::KeyOther { .. } => "key-other",
            Self::KeyUnfit => "key-unfit",
            Self::KeyLong => "key-long",
            Self::Unreadable { .. } => "unreadable",
            Self::NothingProven => "nothing-proven",
            Self::LengthImpossible => "length-impossible",
            Self::SecretKey { .. } => "secret-key",
            Self::Name { .. } => "name",
            Self::Header { .. } => "header",
            Self::PageSize => "page-size",
            Self::BitfieldMissing => "bitfield-missing",
            Self::BitfieldLost { .. } => "bitfield-lost",
            Self::Summaries { .. } => "summaries",
            Self::BeyondEnd { .. } => "beyond-end",
            Self::NodeUnmarked { .. } => "node-unmarked",
            Self::NodeRebuilt { .. } => "node-damaged",
            Self::Unproven { .. } => "unproven",
            Self::SignatureWrong { .. } => "signature-wrong",
            Self::LengthUnproven { .. } => "length-unproven",
            Self::Unopenable { .. } => "unopenable",
            Self::BlocksWrong { .. } => "blocks-wrong",
            Self::BlocksCut { .. } => "blocks-cut",
            Self::BlocksUnmarked { .. } => "blocks-unmarked",
            Self::Unrecorded { .. } => "unrecorded",
            Self::Sealed { .. } => "sealed",
            Self::Forked { .. } => "forked",
        }
    }

    /// The blocks that it is about, if it is about some.
    #[must_use]
    pub fn blocks(&self) -> Option<Range<u64>> {
        match self {
            Self::Unproven { blocks, .. }
            | Self::BlocksWrong { blocks }
            | Self::BlocksCut { blocks }
            | Self::BlocksUnmarked { blocks }
            | Self::BitfieldLost { blocks }
            | Self::Unrecorded { blocks } => Some(blocks.clone()),
            Self::LengthUnproven { recorded, proven } => Some(*proven..*recorded),
            Self::Sealed { length, sealed } => Some(*length..*sealed),
            Self::KeyMissing { .. }
            | Self::KeyOther { .. }
            | Self::KeyUnfit
            | Self::KeyLong
            | Self::Unreadable { .. }
            | Self::NothingProven
            | Self::LengthImpossible
            | Self::SecretKey { .. }
            | Self::Name { .. }
            | Self::Header { .. }
            | Self::PageSize
            | Self::BitfieldMissing
            | Self::Summaries { .. }
            | Self::BeyondEnd { .. }
            | Self::NodeUnmarked { .. }
            | Self::NodeRebuilt { .. }
            | Self::SignatureWrong { .. }
            | Self::Forked { .. }
            | Self::Unopenable { .. } => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyMissing { known: true } => f.write_str("the file key is missing or cut"),
            Self::KeyMissing { known: false } => {
                f.write_str("the file key is missing or cut, and nothing else tells the key")
            }
            Self::KeyOther { known: true } => {
                f.write_str("the file key holds the key of another feed")
            }
            Self::KeyOther { known: false } => f.write_str(
                "the file key holds a key that is not this feed's, and nothing else tells the key",
            ),
            Self::KeyUnfit => f.write_str("no signature fits the key in the file key"),
            Self::KeyLong => f.write_str("the file key is longer than a key"),
            Self::Unreadable { file, in_the_way: true, .. } => {
                write!(f, "a folder is in the place of {file}")
            }
            Self::Unreadable { file, problem, .. } => write!(f, "{file} cannot be read: {problem}"),
            Self::NothingProven => f.write_str(
                "its signatures, or the nodes that they sign, are lost: nothing proves its blocks",
            ),
            Self::LengthImpossible => f.write_str("bitfield tells an impossible length"),
            Self::SecretKey { restorable: true } => f.write_str("a part of secret_key is damaged"),
            Self::SecretKey { restorable: false } => f.write_str(
                "secret_key is not the secret key of this feed: it cannot be written here",
            ),
            Self::Name { known: true } => f.write_str("the file name is damaged"),
            Self::Name { known: false } => f.write_str(
                "the file name is not the name of this feed: the JavaScript cannot write it",
            ),
            Self::Header { file } => write!(f, "the header of {file} is not as it should be"),
            Self::PageSize => f.write_str("the header of bitfield tells a wrong size of its pages"),
            Self::BitfieldMissing => f.write_str("the file bitfield is missing or cut"),
            Self::BitfieldLost { blocks } => {
                write!(f, "bitfield knows of nothing, and {} are signed", Blocks(blocks))
            }
            Self::Summaries { pages } => {
                write!(f, "the summaries of bitfield do not fit it in {pages} of its pages")
            }
            Self::BeyondEnd { blocks } => {
                write!(f, "bitfield marks things beyond the end of the log, {} blocks", blocks)
            }
            Self::NodeUnmarked { node } => write!(f, "bitfield does not mark tree node {node}"),
            Self::NodeRebuilt { node } => {
                write!(f, "tree node {node} contradicts the nodes around it")
            }
            Self::Unproven { node, blocks, held } => write!(
                f,
                "the tree below node {node} is damaged: nothing proves {} ({held} held)",
                Blocks(blocks)
            ),
            Self::SignatureWrong { length, restorable: false } => {
                write!(f, "the signature of length {length} is damaged")
            }
            Self::SignatureWrong { length, restorable: true } => write!(
                f,
                "the signature of length {length} is damaged, and all blocks are intact to sign again"
            ),
            Self::LengthUnproven { recorded, proven } => write!(
                f,
                "bitfield tells {recorded} blocks, and signatures prove the first {proven} of them"
            ),
            Self::Unopenable { problem } => write!(f, "the feed does not open: {problem}"),
            Self::BlocksWrong { blocks } => write!(f, "{} damaged", Verb(blocks)),
            Self::BlocksCut { blocks } => {
                write!(f, "{} missing: the file data ends too early", Verb(blocks))
            }
            Self::BlocksUnmarked { blocks } => {
                write!(f, "{} intact, and bitfield does not mark that", Verb(blocks))
            }
            Self::Unrecorded { blocks } => {
                write!(f, "bitfield does not know of {}, which are signed", Blocks(blocks))
            }
            Self::Sealed { length, sealed } => write!(
                f,
                "its own writer had {sealed} blocks, {length} are left: read-only until peers send \
                 the others back; the JavaScript does not know that and must not append meanwhile"
            ),
            Self::Forked { here, there } => write!(
                f,
                "its writer went on in two places: {here} blocks are signed here, and {there} others \
                 elsewhere"
            ),
        }
    }
}

struct Blocks<'a>(&'a Range<u64>);

impl fmt::Display for Blocks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.end.saturating_sub(self.0.start) {
            1 => write!(f, "block {}", self.0.start),
            _ => write!(f, "blocks {} to {}", self.0.start, self.0.end.saturating_sub(1)),
        }
    }
}

struct Verb<'a>(&'a Range<u64>);

impl fmt::Display for Verb<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = self.0.end.saturating_sub(self.0.start) == 1;
        write!(f, "{} {}", Blocks(self.0), if one { "is" } else { "are" })
    }
}

/// What was found out about one feed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Its folder in the store.
    pub folder: String,
    /// Its public key, if something in the store tells it.
    pub key: Option<multifeed_proto::FeedKey>,
    /// Whether the store has its secret key.
    pub writer: bool,
    /// Length of the log in blocks, as the bitfield tells it.
    pub recorded: u64,
    /// Length of the log in blocks, as far as a signature proves it.
    pub proven: u64,
    /// Blocks that are marked as held.
    pub held: u64,
    /// Blocks that are held and proven.
    pub sound: u64,
    /// Blocks that were held and are damaged or gone.
    pub lost: u64,
    /// What is wrong, in the order in which it was found; the first 1,000.
    pub findings: Vec<Finding>,
    /// Findings beyond these.
    pub omitted: u64,
}

impl Report {
    /// Whether nothing is wrong but what does no harm.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.omitted == 0
            && self.findings.iter().all(|finding| finding.severity() == Severity::Harmless)
    }
}
