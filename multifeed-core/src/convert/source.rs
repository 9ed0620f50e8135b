//! The feeds of the store that is read: where they are, which keys and names they have.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::{FeedKey, RootKey};
use zeroize::Zeroizing;

use super::ConvertError;
use crate::check::FeedFolder;
use crate::crypto::SecretKey;
use crate::format::{corestore, list, numbered, sleep};
use crate::node::Layout;
use crate::storage::{Answer, FilePath, Op, StorageError};

/// Bytes of a file of a log in which nothing was written yet.
const HEADER: u64 = sleep::HEADER_BYTES as u64;
/// The operations that look at one feed.
const OPS: usize = 3 + sleep::LOG.len();

/// One feed of the store that is read.
pub(super) struct Source {
    /// `None` for a feed on the list of which nothing was stored yet.
    pub(super) folder: Option<FilePath>,
    pub(super) key: Option<FeedKey>,
    /// Its name in the multifeed. `None`: its number.
    pub(super) name: Option<String>,
    pub(super) kind: Kind,
    pub(super) secret: Option<SecretKey>,
    /// The files that differ between the layouts, as they are.
    pub(super) key_file: Option<Bytes>,
    pub(super) secret_file: Option<Zeroizing<Vec<u8>>>,
    pub(super) name_file: Option<Bytes>,
    /// Bytes of each of [`sleep::LOG`] that is there.
    pub(super) lengths: [Option<u64>; sleep::LOG.len()],
    /// One of its files cannot be read.
    unreadable: bool,
    /// It is a numbered folder that has no key.
    keyless: bool,
}

/// What a feed is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A feed of the multifeed.
    Member,
    /// Its list of feeds, or a feed that is none of its.
    Other,
}

impl Source {
    fn new(folder: Option<FilePath>, key: Option<FeedKey>, kind: Kind) -> Self {
        Self {
            folder,
            key,
            name: None,
            kind,
            secret: None,
            key_file: None,
            secret_file: None,
            name_file: None,
            lengths: [None; sleep::LOG.len()],
            unreadable: false,
            keyless: false,
        }
    }

    /// The path of one of its files.
    pub(super) fn file(&self, name: &str) -> Option<FilePath> {
        Some(self.folder.as_ref()?.join(name))
    }

    /// Bytes of [`sleep::LOG`].
    pub(super) fn bytes(&self) -> u64 {
        self.lengths.iter().flatten().fold(0, |sum, length| sum.saturating_add(*length))
    }

    /// What reads its small files and measures the others.
    fn look(&self, layout: Layout) -> Vec<Op> {
        let Some(folder) = &self.folder else { return Vec::new() };
        let read = |name: &str, len| Op::Read { path: folder.join(name), offset: 0, len };
        let name = match layout {
            Layout::Corestore => read(corestore::NAME, corestore::MAX_NAME + 4),
            Layout::Numbered => read(numbered::LOCAL_NAME, numbered::MAX_NAME),
        };
        let mut ops = Vec::from([read(sleep::KEY, 33), read(sleep::SECRET_KEY, 65), name]);
        ops.extend(sleep::LOG.map(|name| Op::Length { path: folder.join(name) }));
        ops
    }
}

/// Names of the feeds of the list, and where each of the store's feeds is.
pub(super) struct Found {
    pub(super) sources: Vec<Source>,
    /// Folders of feeds that are not converted.
    pub(super) left_out: Vec<String>,
    /// Those in which a file cannot be read.
    pub(super) unreadable: Vec<String>,
}

impl Found {
    /// The feeds of a store with numbered folders, `all` that it has.
    pub(super) fn numbered(all: &[FeedFolder]) -> Self {
        let (here, rest): (Vec<_>, Vec<_>) =
            all.iter().cloned().partition(|feed| feed.layout == Layout::Numbered);
        let source = |feed: FeedFolder| Source::new(Some(feed.path), None, Kind::Member);
        Self {
            sources: here.into_iter().map(source).collect(),
            left_out: paths(&rest),
            unreadable: Vec::new(),
        }
    }

    /// The feeds that the `blocks` of a list name, and with `whole` all the others too.
    pub(super) fn listed(all: &[FeedFolder], blocks: &[Bytes], list: &str, whole: bool) -> Self {
        let folders = all.iter().filter(|feed| feed.layout == Layout::Corestore);
        let folders: BTreeMap<&str, &FilePath> =
            folders.map(|feed| (feed.name.as_str(), &feed.path)).collect();
        let (mut sources, mut seen) = (Vec::new(), BTreeSet::new());
        for entry in blocks.iter().filter_map(|block| list::decode(block)) {
            let name = entry.key.discovery_key().to_hex();
            if name == list || !seen.insert(name.clone()) {
                continue;
            }
            let folder = folders.get(name.as_str()).map(|path| (*path).clone());
            let mut source = Source::new(folder, Some(entry.key), Kind::Member);
            source.name = Some(entry.name);
            sources.push(source);
        }
        let others = all.iter().filter(|feed| {
            feed.layout != Layout::Corestore || !(feed.name == list || seen.contains(&feed.name))
        });
        if !whole {
            let others: Vec<FeedFolder> = others.cloned().collect();
            return Self { sources, left_out: paths(&others), unreadable: Vec::new() };
        }
        let (here, left_out): (Vec<_>, Vec<_>) =
            others.cloned().partition(|feed| feed.layout == Layout::Corestore);
        let list = folders.get(list).map(|path| (*path).clone());
        let others = list.into_iter().chain(here.into_iter().map(|feed| feed.path));
        sources.extend(others.map(|path| Source::new(Some(path), None, Kind::Other)));
        Self { sources, left_out: paths(&left_out), unreadable: Vec::new() }
    }

    /// What looks at these feeds.
    pub(super) fn look(&self, from: usize, layout: Layout) -> (usize, Vec<Op>) {
        let to = self.sources.len().min(from + LOOKED_AT_ONCE);
        (to, self.sources[from..to].iter().flat_map(|source| source.look(layout)).collect())
    }

    /// Takes the answers to that. A feed of others of which a file cannot be read is left out; one that is written
    /// here ends the conversion.
    pub(super) fn looked(
        &mut self,
        from: usize,
        answers: Vec<Result<Answer, StorageError>>,
        layout: Layout,
        derive: &dyn Fn(&str) -> Option<SecretKey>,
        root: &RootKey,
    ) -> Result<(), ConvertError> {
        let mut answers = answers.into_iter();
        for at in from..self.sources.len().min(from + LOOKED_AT_ONCE) {
            let source = &mut self.sources[at];
            let Some(folder) = source.folder.clone() else { continue };
            let own: Vec<Result<Answer, StorageError>> = answers.by_ref().take(OPS).collect();
            // Under its name another feed would be begun in the new store.
            let there = |answer: &Result<Answer, StorageError>| {
                answer
                    .as_ref()
                    .map_or(true, |answer| answer.bytes().is_some_and(|file| !file.is_empty()))
            };
            let writes_here = own.iter().skip(1).take(2).any(there);
            let own = match own.into_iter().collect::<Result<Vec<_>, _>>() {
                Ok(own) => own,
                Err(error) if error.is_of_file() && !writes_here => {
                    source.unreadable = true;
                    continue;
                }
                Err(error) => return Err(ConvertError::Read(error)),
            };
            let mut own = own.into_iter();
            source.key_file = own.next().and_then(|answer| answer.bytes().cloned());
            let secret = own.next().and_then(|answer| answer.bytes().cloned());
            source.secret_file = secret.map(|bytes| Zeroizing::new(bytes.to_vec()));
            source.name_file = own.next().and_then(|answer| answer.bytes().cloned());
            for length in &mut source.lengths {
                *length = match own.next() {
                    Some(Answer::Length(length)) => Some(length),
                    _ => None,
                };
            }
            if layout == Layout::Numbered {
                let key = source.key_file.as_ref().map_or(0, Bytes::len);
                let holds = |length: &Option<u64>| length.is_some_and(|bytes| bytes > HEADER);
                if key < 4 && writes_here && source.lengths.iter().any(holds) {
                    let problem = "it is shorter than 32 bytes, and the feed is written here";
                    let path = folder.join(sleep::KEY).as_str().to_string();
                    return Err(ConvertError::Damaged { path, problem });
                }
                if key < 4 {
                    // It was begun and no more, or nothing tells whose it is.
                    source.keyless = true;
                    continue;
                }
                // One without a name has that of its folder, which need not be its place among them.
                let name = source.name_file.as_deref().map(numbered::decode_name);
                let number = || folder.as_str().to_string();
                source.name = Some(name.filter(|name| !name.is_empty()).unwrap_or_else(number));
            }
            source.take_keys(&folder, derive, root)?;
        }
        Ok(())
    }
}

impl Found {
    /// Leaves out the feeds of which a file cannot be read, numbered folders without a key, and those that hold
    /// the feed of another once more: opening takes the first, too.
    pub(super) fn leave_out(&mut self) {
        let mut keys = BTreeSet::new();
        for source in core::mem::take(&mut self.sources) {
            let folder = source.folder.as_ref().map(|folder| folder.as_str().to_string());
            if source.unreadable {
                self.unreadable.extend(folder);
            } else if source.keyless || source.key.is_some_and(|key| !keys.insert(key.0)) {
                self.left_out.extend(folder);
            } else {
                self.sources.push(source);
            }
        }
    }
}

impl Source {
    /// Finds out its key and its secret key.
    fn take_keys(
        &mut self,
        folder: &FilePath,
        derive: &dyn Fn(&str) -> Option<SecretKey>,
        root: &RootKey,
    ) -> Result<(), ConvertError> {
        if self.kind == Kind::Other {
            return Ok(());
        }
        let damaged = |name: &str, problem| ConvertError::Damaged {
            path: folder.join(name).as_str().to_string(),
            problem,
        };
        let in_file = self.key_file.as_ref().and_then(|file| file.first_chunk::<32>());
        let in_file = in_file.map(|key| FeedKey(*key));
        let Some(key) = self.key.or(in_file) else {
            return Err(damaged(
                sleep::KEY,
                "it is shorter than 32 bytes, and nothing else tells the key",
            ));
        };
        if in_file.is_some_and(|found| found != key) {
            return Err(damaged(sleep::KEY, "it holds the key of another feed"));
        }
        self.key = Some(key);
        let mine = |secret: &SecretKey| secret.public() == key;
        let file = self.secret_file.as_deref().filter(|file| !file.is_empty());
        let whole = file.and_then(|file| <[u8; 64]>::try_from(&file[..]).ok()).map(Zeroizing::new);
        let stored = whole.as_deref().and_then(SecretKey::from_libsodium).filter(mine);
        if file.is_some() && stored.is_none() {
            return Err(damaged(sleep::SECRET_KEY, "it is not the secret key of this feed"));
        }
        let named = || derive(corestore::decode_name(self.name_file.as_deref()?)?).filter(mine);
        let listed = || derive(&corestore::writer_name(root, self.name.as_deref()?)).filter(mine);
        self.secret = stored.or_else(named).or_else(listed);
        Ok(())
    }
}

fn paths(folders: &[FeedFolder]) -> Vec<String> {
    folders.iter().map(|feed| feed.path.as_str().to_string()).collect()
}

/// Feeds that are looked at in one batch.
const LOOKED_AT_ONCE: usize = 64;
