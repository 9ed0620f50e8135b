//! Stores with one damaged file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use multifeed_core::storage::{FilePath, Memory, Op};
use multifeed_core::{Durability, Layout};
use multifeed_proto::FeedKey;

use super::record::{Recorder, Truth, config};
use super::scenarios::run;

/// What happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Bit,
    Head,
    Zeros,
    Tail,
    Half,
    Byte,
    Empty,
    Grown,
    Page,
    Swapped,
    Older,
    Missing,
    Folder,
    Denied,
}

pub const KINDS: [Kind; 14] = [
    Kind::Bit,
    Kind::Head,
    Kind::Zeros,
    Kind::Tail,
    Kind::Half,
    Kind::Byte,
    Kind::Empty,
    Kind::Grown,
    Kind::Page,
    Kind::Swapped,
    Kind::Older,
    Kind::Missing,
    Kind::Folder,
    Kind::Denied,
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bit => "one bit in the middle",
            Self::Head => "its first 32 bytes",
            Self::Zeros => "all zeros",
            Self::Tail => "zeros in its last third",
            Self::Half => "cut to half",
            Self::Byte => "cut by a byte",
            Self::Empty => "empty",
            Self::Grown => "a line feed too many",
            Self::Page => "4,096 bytes too many",
            Self::Swapped => "swapped with its neighbour's",
            Self::Older => "an older copy",
            Self::Missing => "missing",
            Self::Folder => "a folder in its place",
            Self::Denied => "no permission",
        })
    }
}

/// A sound store with all that can be in one, and a peer that has all its feeds.
pub struct World {
    pub layout: Layout,
    pub memory: Memory,
    /// The store at an earlier time.
    pub older: Memory,
    pub peer: Memory,
    pub truth: Truth,
    /// Names of the local writers.
    pub writers: BTreeMap<FeedKey, &'static str>,
    /// A feed that is kept out.
    pub blocked: FeedKey,
    /// Blocks that are held.
    pub held: BTreeMap<FeedKey, Vec<bool>>,
    folders: Vec<(FilePath, FeedKey)>,
}

impl World {
    pub fn new(layout: Layout) -> Self {
        let mut recorder = Recorder::new(layout, config(Durability::Process));
        recorder.open();
        recorder.peer_on(Memory::new());
        let first = recorder.writer("first");
        recorder.append(first, &[60; 9]);
        let second = recorder.writer("second");
        recorder.append(second, &[18; 2]);
        let theirs = recorder.append_there("theirs", &[45; 11]);
        let blocked = recorder.append_there("unwanted", &[16; 3]);
        recorder.connect();
        recorder.block(blocked);
        let older = left(&recorder, recorder.at);
        recorder.append(first, &[0, 21, 70, 29]);
        recorder.append(second, &[600]);
        recorder.append_there("theirs", &[300; 5]);
        recorder.append_there("more", &[33; 5]);
        let feed = recorder.find(&theirs);
        recorder.clear(feed, 5..8);
        let writers = [(first, "first"), (second, "second")];
        let writers = writers.map(|(feed, name)| (recorder.key(feed), name)).into();
        let peer = recorder.peer.expect("there is one");
        let (memory, peer) = (left(&recorder, recorder.at), left(&recorder, peer));
        let folders = folders(&memory, &recorder.truth);
        let held = super::judge::held(memory.clone()).expect("it opens");
        let truth = recorder.truth;
        Self { layout, memory, older, peer, truth, writers, blocked, held, folders }
    }

    /// The files that are damaged in turn: all but the lock.
    pub fn files(&self) -> Vec<FilePath> {
        let files = self.memory.paths().filter(|path| path.as_str() != "multifeed.lock");
        files.cloned().collect()
    }

    /// The feed that a file belongs to; none for what all feeds share.
    pub fn feed_of(&self, file: &FilePath) -> Option<FeedKey> {
        self.folders.iter().find(|(folder, _)| file.is_within(folder)).map(|(_, key)| *key)
    }

    /// The folder of a feed.
    pub fn folder_of(&self, key: &FeedKey) -> Option<&FilePath> {
        self.folders.iter().find(|(_, there)| there == key).map(|(folder, _)| folder)
    }

    /// The feeds that damage reaches; `None`: it may be all of them.
    pub fn touched(&self, file: &FilePath, kind: Kind) -> Option<BTreeSet<FeedKey>> {
        let mut touched = BTreeSet::from([self.feed_of(file)?]);
        if kind == Kind::Swapped {
            touched.extend(self.feed_of(&self.neighbour(file)?));
        }
        Some(touched)
    }

    /// The file of the same name in the next folder of a feed, or else the next file.
    fn neighbour(&self, file: &FilePath) -> Option<FilePath> {
        let files = self.files();
        let name = |path: &FilePath| path.as_str().rsplit('/').next().map(str::to_owned);
        let at = files.iter().position(|path| path == file)?;
        let mut later = files[at + 1..].iter().chain(&files[..at]);
        let same = later.clone().find(|path| name(path) == name(file));
        same.or_else(|| later.next()).cloned()
    }

    /// The store with one file damaged; `None` if this kind changes nothing of it.
    pub fn damaged(&self, file: &FilePath, kind: Kind) -> Option<Memory> {
        let mut memory = self.memory.clone();
        let bytes = memory.contents(file)?;
        let len = bytes.len();
        let changed = match kind {
            Kind::Bit => edited(&bytes, |bytes| {
                if let Some(byte) = bytes.get_mut(len / 2) {
                    *byte ^= 1 << (len % 8);
                }
            }),
            Kind::Head => {
                edited(&bytes, |bytes| bytes.iter_mut().take(32).for_each(|byte| *byte ^= 0x5a))
            }
            Kind::Zeros => edited(&bytes, |bytes| bytes.fill(0)),
            Kind::Tail => edited(&bytes, |bytes| bytes[len - len / 3..].fill(0)),
            Kind::Half => edited(&bytes, |bytes| bytes.truncate(len / 2)),
            Kind::Byte => edited(&bytes, |bytes| bytes.truncate(len.saturating_sub(1))),
            Kind::Empty => edited(&bytes, Vec::clear),
            Kind::Grown => edited(&bytes, |bytes| bytes.push(b'\n')),
            Kind::Page => {
                edited(&bytes, |bytes| bytes.extend((0..4096_u32).map(|n| (n * 7 % 251) as u8)))
            }
            Kind::Older => self.older.contents(file)?,
            Kind::Swapped => {
                let neighbour = self.neighbour(file)?;
                let other = memory.contents(&neighbour)?;
                replace(&mut memory, &neighbour, &bytes);
                other
            }
            Kind::Missing => {
                run(&mut memory, Op::Remove { path: file.clone() });
                return Some(memory);
            }
            Kind::Folder => {
                run(&mut memory, Op::Remove { path: file.clone() });
                let inside = file.join("a file");
                run(&mut memory, Op::Write { path: inside, offset: 0, data: Bytes::from("x") });
                return Some(memory);
            }
            Kind::Denied => {
                memory.set_denied(Some(file.clone()));
                return Some(memory);
            }
        };
        if changed == bytes {
            return None;
        }
        replace(&mut memory, file, &changed);
        Some(memory)
    }

    /// What was left of a store, with the file that was damaged put back.
    pub fn restored(&self, memory: &Memory, file: &FilePath, kind: Kind) -> Memory {
        let mut memory = memory.clone();
        memory.set_denied(None);
        let other = if kind == Kind::Swapped { self.neighbour(file) } else { None };
        for path in [Some(file.clone()), other].into_iter().flatten() {
            run(&mut memory, Op::Remove { path: path.clone() });
            replace(&mut memory, &path, &self.memory.contents(&path).unwrap_or_default());
        }
        memory
    }
}

fn left(recorder: &Recorder, at: usize) -> Memory {
    let mut memory = recorder.sim.parties[at].disk.memory().clone();
    memory.unlock();
    memory
}

fn folders(memory: &Memory, truth: &Truth) -> Vec<(FilePath, FeedKey)> {
    let keys = memory.paths().filter(|path| path.as_str().ends_with("/key"));
    let feed = |path: &FilePath| {
        let key = FeedKey(<[u8; 32]>::try_from(memory.contents(path)?).ok()?);
        Some((path.parent()?, truth.contains_key(&key).then_some(key)?))
    };
    keys.filter_map(feed).collect()
}

fn edited(bytes: &[u8], edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    edit(&mut bytes);
    bytes
}

fn replace(memory: &mut Memory, path: &FilePath, bytes: &[u8]) {
    let data = Bytes::copy_from_slice(bytes);
    run(memory, Op::Write { path: path.clone(), offset: 0, data });
    run(memory, Op::Truncate { path: path.clone(), len: bytes.len() as u64 });
}
