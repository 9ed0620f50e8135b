//! Reads the files of a feed and proves them before anything is believed.
//!
//! The bitfield says how long the log is; the signature of that length, over the tree's roots, must
//! agree. If it does not, the log steps back to the last length that is signed. A writer never
//! signs a second block at an index that it may have signed before: it takes up signed blocks that
//! the bitfield does not know of if all of them are intact. If they are not, it is read-only until
//! peers have sent them back.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use multifeed_proto::FeedKey;

use super::Feed;
use super::cut::{self, Cut};
use crate::crypto::SecretKey;
use crate::format::{corestore, sleep};
use crate::node::NodeError;
use crate::storage::{Answer, FilePath, Op, StorageError};
use crate::tree::flat::full_roots;
use crate::tree::{self, Bitfield, MAX_LENGTH, Node, NodeIndex, proof};

/// First read of the bitfield, in bytes; most feeds need no second.
const BITFIELD_FIRST: usize = 16 * 1024;
/// Bytes of one further read, of any file.
const CHUNK: usize = 1024 * 1024;
/// Greatest bitfield that is taken into memory: 150 million blocks.
pub(crate) const BITFIELD_MAX: usize = 64 * 1024 * 1024;
/// Signatures looked at on either side of the length that the bitfield tells.
const SIGNATURES_MAX: u64 = (CHUNK / 64) as u64;
/// Signed lengths tried when stepping back.
const TRIES: usize = 64;
/// Bytes of the blocks read at once when they are checked again, at least one block.
const REBUILD_BYTES: usize = 16 * 1024 * 1024;
/// Leaf nodes read at once when blocks are checked again.
const REBUILD_BLOCKS: u64 = 4096;

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
    /// Entries in the signatures file.
    signed: u64,
    /// Bytes of the data file.
    data_len: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Files,
    Bitfield,
    /// Is the log as long as the bitfield says?
    Current,
    /// Which signatures are there beyond it?
    Beyond,
    /// Is there a tree for this longer one?
    Forward {
        length: u64,
        signature: [u8; 64],
    },
    /// Are all blocks of the longer one intact?
    Rebuild(Rebuild),
    /// Which shorter lengths are signed?
    Behind,
    /// Is one of these, longest first?
    Back {
        candidates: Vec<(u64, [u8; 64])>,
        next: usize,
    },
    /// Where does the data file end?
    Cut(Cut),
}

#[derive(Debug)]
struct Rebuild {
    target: u64,
    target_roots: Vec<Node>,
    length: u64,
    byte_length: u64,
    roots: Vec<Node>,
    nodes: Vec<Node>,
    /// Sizes of the blocks whose data is being read; empty while their leaves are.
    sizes: Vec<u64>,
}

impl Opening {
    /// Starts to open the feed in `folder`; run the operations and give the answers back.
    pub(crate) fn new(key: FeedKey, folder: FilePath) -> (Self, Vec<Op>) {
        let feed = Feed::new(key, folder);
        let read = |name: &str, len| Op::Read { path: feed.file(name), offset: 0, len };
        let ops = Vec::from([
            read(sleep::KEY, 33),
            read(sleep::SECRET_KEY, 65),
            read(corestore::NAME, 1024),
            read(sleep::BITFIELD, BITFIELD_FIRST),
            Op::Length { path: feed.file(sleep::SIGNATURES) },
            Op::Length { path: feed.file(sleep::TREE) },
            Op::Length { path: feed.file(sleep::DATA) },
            read(sleep::SEALED, 8),
            read(sleep::CLEARED, sleep::MAX_CLEARED * sleep::CLEARED_BYTES),
        ]);
        let (bitfield, state) = (BytesMut::new(), State::Files);
        (Self { feed, bitfield, signed: 0, data_len: 0, state }, ops)
    }

    /// Takes the answers to the operations asked for last. `derive` makes the
    /// key pair of a corestore name; without one, of the name that the feed would have as a local writer.
    pub(crate) fn answered(
        mut self,
        answers: Vec<Result<Answer, StorageError>>,
        derive: impl FnOnce(Option<&str>) -> Option<SecretKey>,
    ) -> (Option<Self>, OpenStep) {
        let answers = match answers.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(answers) => answers,
            Err(error) => return (None, OpenStep::Failed(error.into())),
        };
        let step = match core::mem::replace(&mut self.state, State::Files) {
            State::Files => self.files(&answers, derive),
            State::Bitfield => self.more_bitfield(bytes(&answers, 0)),
            State::Current => self.current(&answers),
            State::Beyond => self.beyond(bytes(&answers, 0)),
            State::Forward { length, signature } => self.forward(length, &signature, &answers),
            State::Rebuild(rebuild) => self.rebuild(rebuild, bytes(&answers, 0)),
            State::Behind => self.behind(bytes(&answers, 0)),
            State::Back { candidates, next } => self.back(candidates, next, &answers),
            State::Cut(cut) => {
                let answers: Vec<Bytes> =
                    (0..answers.len()).map(|at| bytes(&answers, at)).collect();
                let next = cut.answered(&mut self.feed, &answers);
                return self.looked_for_cut(next);
            }
        };
        match step {
            Next::Read(ops) => (Some(self), OpenStep::Read(ops)),
            Next::Done => {
                let next = Cut::look(&mut self.feed, self.data_len);
                self.looked_for_cut(next)
            }
            Next::Failed(problem) => {
                let feed = self.feed.short_key();
                (None, OpenStep::Failed(NodeError::Damaged { feed, problem }))
            }
        }
    }

    fn looked_for_cut(mut self, next: cut::Next) -> (Option<Self>, OpenStep) {
        match next {
            cut::Next::Read(cut, ops) => {
                self.state = State::Cut(cut);
                (Some(self), OpenStep::Read(ops))
            }
            cut::Next::Done => (None, OpenStep::Done(Box::new(self.feed))),
        }
    }

    fn files(
        &mut self,
        answers: &[Answer],
        derive: impl FnOnce(Option<&str>) -> Option<SecretKey>,
    ) -> Next {
        let key = bytes(answers, 0);
        if key.len() >= 32 && key[..] != self.feed.key.0 {
            return Next::Failed("another feed is stored in its folder");
        }
        // A shorter file was cut off when it was first written.
        self.feed.files.key = key.len() >= 32;
        let secret = bytes(answers, 1);
        if let Ok(secret) = <[u8; 64]>::try_from(&secret[..]) {
            self.feed.secret =
                SecretKey::from_libsodium(&secret).filter(|s| s.public() == self.feed.key);
        }
        if self.feed.secret.is_none() {
            let name = bytes(answers, 2);
            let derived = derive(corestore::decode_name(&name));
            self.feed.secret = derived.filter(|s| s.public() == self.feed.key);
        }
        self.feed.files.bitfield = bytes(answers, 3).len() >= sleep::HEADER_BYTES;
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
        if let Ok(length) = <[u8; 8]>::try_from(&bytes(answers, 7)[..]) {
            self.feed.files.sealed = u64::from_be_bytes(length).min(MAX_LENGTH);
            self.feed.sealed_until = self.feed.files.sealed;
        }
        self.feed.read_cleared(&bytes(answers, 8));
        self.more_bitfield(bytes(answers, 3))
    }

    fn more_bitfield(&mut self, read: Bytes) -> Next {
        let wanted = if self.bitfield.is_empty() { BITFIELD_FIRST } else { CHUNK };
        self.bitfield.extend_from_slice(&read);
        if self.bitfield.len() > BITFIELD_MAX {
            return Next::Failed("its bitfield is larger than this program takes");
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
        let length = self.feed.bits.length();
        if length == 0 {
            if self.feed.bits.last_block().is_some() {
                self.feed.bits.clear_from(0);
            }
            return self.look_beyond();
        }
        if length > MAX_LENGTH {
            return Next::Failed("its bitfield tells an impossible length");
        }
        self.state = State::Current;
        Next::Read(self.read_log(length))
    }

    /// Reads the roots of a length, and the signature at its end.
    fn read_log(&self, length: u64) -> Vec<Op> {
        let path = self.feed.file(sleep::TREE);
        let roots = full_roots(length).map(|root| Op::Read {
            path: path.clone(),
            offset: sleep::tree_offset(root),
            len: 40,
        });
        roots.chain([self.feed.read_signature(length - 1)]).collect()
    }

    fn proves(&self, roots: &[Node], length: u64, signature: &[u8; 64]) -> bool {
        let hash = tree::hash::root(roots);
        self.feed.verifier.as_ref().is_some_and(|key| key.verify(&hash, length, signature))
    }

    fn current(&mut self, answers: &[Answer]) -> Next {
        let length = self.feed.bits.length();
        let signature = <[u8; 64]>::try_from(&bytes(answers, answers.len() - 1)[..]);
        if let Some(roots) = roots(length, answers) {
            let hash = tree::hash::root(&roots);
            let proven = match signature {
                Ok(signature) if signature != [0; 64] => self.proves(&roots, length, &signature),
                // A static feed has no signatures; its key is the hash of its tree.
                _ => hash == self.feed.key.0,
            };
            if proven {
                self.feed.bits.clear_from(length);
                self.feed.set_log(length, roots);
                return self.look_beyond();
            }
        }
        let start = length.saturating_sub(SIGNATURES_MAX);
        self.state = State::Behind;
        let (path, offset) = (self.feed.file(sleep::SIGNATURES), sleep::signature_offset(start));
        Next::Read(Vec::from([Op::Read { path, offset, len: (length - start) as usize * 64 }]))
    }

    /// A writer asks whether it signed more than the bitfield knows of.
    fn look_beyond(&mut self) -> Next {
        let length = self.feed.length;
        if self.feed.secret.is_none() || self.signed <= length {
            return Next::Done;
        }
        let start = self.signed.saturating_sub(SIGNATURES_MAX).max(length);
        self.state = State::Beyond;
        let (path, offset) = (self.feed.file(sleep::SIGNATURES), sleep::signature_offset(start));
        Next::Read(Vec::from([Op::Read { path, offset, len: (self.signed - start) as usize * 64 }]))
    }

    fn beyond(&mut self, read: Bytes) -> Next {
        let start = self.signed.saturating_sub(SIGNATURES_MAX).max(self.feed.length);
        match signed_lengths(start, &read).next() {
            Some((length, signature)) => {
                self.state = State::Forward { length, signature };
                Next::Read(self.read_log(length))
            }
            None => self.drop_tail(),
        }
    }

    fn forward(&mut self, length: u64, signature: &[u8; 64], answers: &[Answer]) -> Next {
        let roots = roots(length, answers).filter(|roots| self.proves(roots, length, signature));
        let Some(target_roots) = roots else { return self.drop_tail() };
        let rebuild = Rebuild {
            target: length,
            target_roots,
            length: self.feed.length,
            byte_length: self.feed.byte_length,
            roots: self.feed.roots.clone(),
            nodes: Vec::new(),
            sizes: Vec::new(),
        };
        self.read_leaves(rebuild)
    }

    fn read_leaves(&mut self, rebuild: Rebuild) -> Next {
        let count = (rebuild.target - rebuild.length).min(REBUILD_BLOCKS);
        let offset = sleep::tree_offset(NodeIndex::leaf(rebuild.length));
        self.state = State::Rebuild(rebuild);
        Next::Read(Vec::from([Op::Read {
            path: self.feed.file(sleep::TREE),
            offset,
            len: (count as usize * 2 - 1) * 40,
        }]))
    }

    /// Alternates between leaf nodes, for the sizes, and the blocks themselves.
    fn rebuild(&mut self, mut rebuild: Rebuild, read: Bytes) -> Next {
        if rebuild.sizes.is_empty() {
            let mut total = 0usize;
            let leaves = (rebuild.length..)
                .zip(read.chunks(80))
                .map_while(|(block, entry)| sleep::read_node(NodeIndex::leaf(block), entry));
            for leaf in leaves {
                let size = usize::try_from(leaf.size).unwrap_or(usize::MAX);
                if !rebuild.sizes.is_empty() && total.saturating_add(size) > CHUNK {
                    break;
                }
                total = total.saturating_add(size);
                rebuild.sizes.push(leaf.size);
            }
            if rebuild.sizes.is_empty() && rebuild.length + 1 == rebuild.target {
                // The leaf of the last block was not written; the proven roots say what is left for it.
                let sizes = rebuild.target_roots.iter().map(|root| root.size);
                let whole = sizes.fold(0, u64::saturating_add);
                let size = whole.saturating_sub(rebuild.byte_length);
                total = usize::try_from(size).unwrap_or(usize::MAX);
                rebuild.sizes.push(size);
            }
            if rebuild.sizes.is_empty() || total > REBUILD_BYTES {
                return self.seal(rebuild.target);
            }
            let (path, offset) = (self.feed.file(sleep::DATA), rebuild.byte_length);
            self.state = State::Rebuild(rebuild);
            return Next::Read(Vec::from([Op::Read { path, offset, len: total }]));
        }
        let sizes = core::mem::take(&mut rebuild.sizes);
        if read.len() as u64 != sizes.iter().sum::<u64>() {
            return self.seal(rebuild.target);
        }
        let mut at = 0;
        let blocks: Vec<Bytes> = sizes
            .iter()
            .map(|&size| {
                at += size as usize;
                read.slice(at - size as usize..at)
            })
            .collect();
        let Ok(grown) = proof::append(&rebuild.roots, rebuild.length, &blocks) else {
            return self.seal(rebuild.target);
        };
        rebuild.length += blocks.len() as u64;
        rebuild.byte_length += read.len() as u64;
        rebuild.roots = grown.roots;
        rebuild.nodes.extend(grown.nodes);
        if rebuild.length < rebuild.target {
            return self.read_leaves(rebuild);
        }
        if rebuild.roots != rebuild.target_roots {
            return self.seal(rebuild.target);
        }
        for block in self.feed.length..rebuild.target {
            self.feed.bits.set_block(block, true);
        }
        self.feed.put_nodes(&rebuild.nodes);
        self.feed.set_log(rebuild.target, rebuild.roots);
        Next::Done
    }

    /// What is written beyond the log is no signature of it, but what a crash left of one. It goes, so
    /// that it cannot be taken for the signature of other blocks.
    fn drop_tail(&mut self) -> Next {
        if !self.feed.files.bitfield {
            return self.seal(self.signed);
        }
        if self.feed.sealed_until <= self.feed.length {
            self.feed.buffer.truncate_signatures = Some(self.feed.length);
        }
        Next::Done
    }

    /// Blocks up to `length` were signed once and are damaged: others must not take their places. The
    /// files stay as they are, so that the next opening finds the same.
    fn seal(&mut self, length: u64) -> Next {
        self.feed.sealed_until = self.feed.sealed_until.max(length);
        Next::Done
    }

    fn behind(&mut self, read: Bytes) -> Next {
        let length = self.feed.bits.length();
        let start = length.saturating_sub(SIGNATURES_MAX);
        let candidates = signed_lengths(start, &read)
            .filter(|(signed, _)| *signed < length)
            .take(TRIES)
            .collect();
        self.try_next(candidates, 0)
    }

    fn try_next(&mut self, candidates: Vec<(u64, [u8; 64])>, next: usize) -> Next {
        if let Some((length, _)) = candidates.get(next) {
            let ops = self.read_log(*length);
            self.state = State::Back { candidates, next };
            return Next::Read(ops);
        }
        if self.feed.secret.is_some() {
            return Next::Failed("no signature proves any length of the log");
        }
        self.step_back(0, Vec::new())
    }

    fn back(&mut self, candidates: Vec<(u64, [u8; 64])>, next: usize, answers: &[Answer]) -> Next {
        let (length, signature) = candidates[next];
        match roots(length, answers) {
            Some(roots) if self.proves(&roots, length, &signature) => self.step_back(length, roots),
            _ => self.try_next(candidates, next + 1),
        }
    }

    fn step_back(&mut self, length: u64, roots: Vec<Node>) -> Next {
        let told = self.feed.bits.length();
        self.feed.bits.clear_from(length);
        self.feed.set_log(length, roots);
        if self.feed.secret.is_some() {
            let _only_in_memory = self.feed.bits.take_dirty();
            self.feed.sealed_until = self.feed.sealed_until.max(told);
            return self.look_beyond();
        }
        if self.signed > length {
            self.feed.buffer.truncate_signatures = Some(length);
        }
        Next::Done
    }
}

enum Next {
    Read(Vec<Op>),
    Done,
    Failed(&'static str),
}

fn bytes(answers: &[Answer], at: usize) -> Bytes {
    answers.get(at).and_then(Answer::bytes).cloned().unwrap_or_default()
}

/// The roots of a length from one answer each; `None` if one is missing or impossible.
fn roots(length: u64, answers: &[Answer]) -> Option<Vec<Node>> {
    let mut total = 0u64;
    full_roots(length)
        .enumerate()
        .map(|(at, root)| {
            let node = sleep::read_node(root, &bytes(answers, at))?;
            total = total.checked_add(node.size).filter(|total| *total < tree::MAX_BYTES)?;
            Some(node)
        })
        .collect()
}

/// Lengths with a signature among those read from entry `start` on, longest first.
fn signed_lengths(start: u64, read: &Bytes) -> impl Iterator<Item = (u64, [u8; 64])> + '_ {
    let entries = read.chunks_exact(64).zip(start + 1..).collect::<Vec<_>>();
    entries.into_iter().rev().filter_map(|(entry, length)| {
        let signature = <[u8; 64]>::try_from(entry).ok()?;
        (signature != [0; 64]).then_some((length, signature))
    })
}
