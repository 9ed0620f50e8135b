//! Reads the files of a feed and proves them before anything is believed.
//!
//! The bitfield says how long the log is; the signature of that length, over the tree's roots, must
//! agree. If it does not, the log steps back to the last length that is signed; if none is, the feed
//! is damaged, never taken for an empty one. A writer never signs a second block at an index that it
//! may have signed before: it takes up signed blocks that the bitfield does not know of if all of them
//! are intact. If they are not, it is read-only until peers have sent them back.
//!
//! Nothing is written by that: what an opening mends is mended in memory, and goes to the disk with the
//! next change that somebody asks for. So an opening finds what the one before it found.
//!
//! | file | what is in it |
//! |---|---|
//! | `log` | which length is proven |
//! | `rebuild` | blocks that are signed and that the bitfield does not know of |

mod log;
mod rebuild;

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use multifeed_proto::FeedKey;

use super::Feed;
use super::cut::{self, Cut};
use super::roots::Log;
use crate::crypto::SecretKey;
use crate::format::forked::{FORKED, FORKED_BYTES};
use crate::format::{corestore, sleep};
use crate::node::NodeError;
use crate::storage::{Answer, FilePath, Op, StorageError};
use crate::tree::{Bitfield, MAX_LENGTH};
pub(crate) use log::NOTHING_PROVEN;
use log::Trial;
use rebuild::Rebuild;

/// First read of the bitfield, in bytes; most feeds need no second.
const BITFIELD_FIRST: usize = 16 * 1024;
/// Bytes of one further read, of any file.
const CHUNK: usize = 1024 * 1024;
/// Greatest bitfield that is taken into memory: 150 million blocks.
pub(crate) const BITFIELD_MAX: usize = 64 * 1024 * 1024;
/// Why a feed with a larger one does not open.
pub(crate) const TOO_LARGE: &str = "its bitfield is larger than this program takes";

/// What to do next.
#[derive(Debug)]
pub(crate) enum OpenStep {
    /// Run these operations in one batch and hand the answers to [`Opening::answered`].
    Read(Vec<Op>),
    /// The feed is open.
    Done(Box<Feed>),
    /// It is not.
    Failed(NodeError),
}

/// A feed on its way from files to memory.
#[derive(Debug)]
pub(crate) struct Opening {
    feed: Feed,
    bitfield: BytesMut,
    /// What the bitfield tells as the length of the log.
    told: u64,
    /// The bitfield is gone or holds nothing, and is not that of a feed that was just made.
    bits_lost: bool,
    /// A signature is there that is none of the roots that are there.
    contradicted: bool,
    /// Entries in the signatures file.
    signed: u64,
    /// The longest log that something is stored as the signature of, beyond what is proven.
    last_signed: u64,
    /// Bytes of the data file.
    data_len: u64,
    /// The log that the bitfield tells of, as the tree has it, where nothing proves it.
    unproven: Option<Log>,
    state: State,
}

#[derive(Debug)]
enum State {
    Files,
    Bitfield,
    /// Which of several lengths is proven?
    Trial(Trial),
    /// Which signatures are there before, or beyond, the length that is known?
    Signatures(log::Why),
    /// Are all blocks intact that the bitfield does not know of?
    Rebuild(Rebuild),
    /// What does the tree have as nodes of these blocks that lie before them?
    Rebuilt(Rebuild),
    /// Where does the data file end?
    Cut(Cut),
}

/// How a step ends.
enum Next {
    Read(Vec<Op>),
    Done,
    Failed(&'static str),
}

impl Opening {
    /// Starts to open the feed in `folder`; run the operations and give the answers back.
    pub(crate) fn new(key: FeedKey, folder: FilePath) -> (Self, Vec<Op>) {
        let feed = Feed::new(key, folder);
        let read = |name: &str, len| Op::Read { path: feed.file(name), offset: 0, len };
        let ops = Vec::from([
            // The JavaScript, too, takes the first bytes and looks at no more.
            read(sleep::KEY, 32),
            read(sleep::SECRET_KEY, 64),
            read(corestore::NAME, corestore::MAX_NAME + 4),
            read(sleep::BITFIELD, BITFIELD_FIRST),
            Op::Length { path: feed.file(sleep::SIGNATURES) },
            Op::Length { path: feed.file(sleep::TREE) },
            Op::Length { path: feed.file(sleep::DATA) },
            read(sleep::SEALED, 8),
            read(sleep::CLEARED, sleep::MAX_CLEARED * sleep::CLEARED_BYTES),
            read(FORKED, FORKED_BYTES + 1),
        ]);
        let opening = Self {
            feed,
            bitfield: BytesMut::new(),
            told: 0,
            bits_lost: false,
            contradicted: false,
            signed: 0,
            last_signed: 0,
            data_len: 0,
            unproven: None,
            state: State::Files,
        };
        (opening, ops)
    }

    /// The log that the bitfield tells of, if the tree has its roots and nothing proves it. Known when the
    /// opening is over.
    pub(crate) fn unproven(&mut self) -> Option<Log> {
        self.unproven.take()
    }

    /// Takes the answers to the operations asked for last. `derive` makes the
    /// key pair of a corestore name; without one, of the name that the feed would have as a local writer.
    pub(crate) fn answered(
        &mut self,
        answers: Vec<Result<Answer, StorageError>>,
        derive: impl FnOnce(Option<&str>) -> Option<SecretKey>,
    ) -> OpenStep {
        let answers = match answers.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(answers) => answers,
            Err(error) => return OpenStep::Failed(error.into()),
        };
        let read: Vec<Bytes> = answers.iter().map(bytes).collect();
        let first = read.first().cloned().unwrap_or_default();
        let step = match core::mem::replace(&mut self.state, State::Files) {
            State::Files => self.files(&answers, &read, derive),
            State::Bitfield => self.more_bitfield(first),
            State::Trial(trial) => self.tried(trial, &read),
            State::Signatures(why) => self.signatures(why, &first),
            State::Rebuild(rebuild) => self.rebuild(rebuild, first),
            State::Rebuilt(rebuild) => self.compare(rebuild, &read),
            State::Cut(cut) => {
                let next = cut.answered(&mut self.feed, &read);
                return self.looked_for_cut(next);
            }
        };
        match step {
            Next::Read(ops) => OpenStep::Read(ops),
            Next::Done => {
                let next = Cut::look(&mut self.feed, self.data_len);
                self.looked_for_cut(next)
            }
            Next::Failed(problem) => {
                let feed = self.feed.short_key();
                OpenStep::Failed(NodeError::Damaged { feed, problem })
            }
        }
    }

    fn looked_for_cut(&mut self, next: cut::Next) -> OpenStep {
        match next {
            cut::Next::Read(cut, ops) => {
                self.state = State::Cut(cut);
                OpenStep::Read(ops)
            }
            cut::Next::Done => {
                let nothing = Feed::new(self.feed.key, self.feed.folder.clone());
                OpenStep::Done(Box::new(core::mem::replace(&mut self.feed, nothing)))
            }
        }
    }

    fn files(
        &mut self,
        answers: &[Answer],
        read: &[Bytes],
        derive: impl FnOnce(Option<&str>) -> Option<SecretKey>,
    ) -> Next {
        let [key, secret, name, bitfield, _, _, _, sealed, cleared, forked] = read else {
            return Next::Failed("its files could not be read");
        };
        // Another key than the one that is known, or a part of one: what is signed tells whose the files are.
        self.feed.files.key = key[..] == self.feed.key.0;
        if let Ok(secret) = <[u8; 64]>::try_from(&secret[..]) {
            self.feed.secret =
                SecretKey::from_libsodium(&secret).filter(|s| s.public() == self.feed.key);
        }
        if self.feed.secret.is_none() {
            let derived = derive(corestore::decode_name(name));
            self.feed.secret = derived.filter(|s| s.public() == self.feed.key);
        }
        self.feed.files.bitfield = bitfield.len() >= sleep::HEADER_BYTES;
        self.bits_lost = bitfield[..] != sleep::BITFIELD_HEADER;
        if let Answer::Length(len) = answers[4] {
            self.feed.files.signatures = len >= sleep::HEADER_BYTES as u64;
            self.signed = (len.saturating_sub(sleep::HEADER_BYTES as u64) / 64).min(MAX_LENGTH);
        }
        if let Answer::Length(len) = answers[5] {
            self.feed.files.tree = len >= sleep::HEADER_BYTES as u64;
        }
        if let Answer::Length(len) = answers[6] {
            self.feed.files.data = true;
            self.data_len = len;
        }
        if let Ok(length) = <[u8; 8]>::try_from(&sealed[..]) {
            self.feed.files.sealed = u64::from_be_bytes(length).min(MAX_LENGTH);
            self.feed.sealed_until = self.feed.files.sealed;
        }
        self.feed.read_cleared(cleared);
        self.feed.read_forked(forked);
        self.more_bitfield(bitfield.clone())
    }

    fn more_bitfield(&mut self, read: Bytes) -> Next {
        let wanted = if self.bitfield.is_empty() { BITFIELD_FIRST } else { CHUNK };
        self.bitfield.extend_from_slice(&read);
        if self.bitfield.len() > BITFIELD_MAX {
            return Next::Failed(TOO_LARGE);
        }
        if read.len() == wanted {
            self.state = State::Bitfield;
            let offset = self.bitfield.len() as u64;
            return Next::Read(Vec::from([Op::Read {
                path: self.feed.file(sleep::BITFIELD),
                offset,
                len: CHUNK,
            }]));
        }
        let file = core::mem::take(&mut self.bitfield);
        self.feed.bits = Bitfield::from_file(&file);
        self.feed.bits.clear_without_leaf();
        self.told = self.feed.bits.length();
        if self.told > MAX_LENGTH {
            // It is something else.
            (self.told, self.bits_lost) = (0, true);
            self.feed.bits.clear_from(0);
        }
        self.bits_lost &= self.told == 0;
        self.look_at_log()
    }
}

/// What was read; nothing for a file that is not there.
fn bytes(answer: &Answer) -> Bytes {
    answer.bytes().cloned().unwrap_or_default()
}
