//! Which feeds a multifeed has in the layout of corestore where the master key is not known: as the keys and names in
//! their folders tell it.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use multifeed_proto::{FeedKey, RootKey};

use super::{FeedFolder, Folders, FoldersStep};
use crate::format::{corestore, list, sleep};
use crate::node::Layout;
use crate::storage::{Answer, Op, StorageError};

/// The search for keys and names in all folders of a store.
#[derive(Debug)]
pub(crate) struct Unlisted {
    /// The search for folders, until it is over.
    folders: Option<Folders>,
    found: Vec<FeedFolder>,
    /// Folders that were read.
    read: usize,
    feeds: Vec<Feed>,
}

/// What a folder tells of its feed.
#[derive(Debug)]
struct Feed {
    key: FeedKey,
    name: Option<String>,
    /// It begins as a list of feeds does.
    lists: bool,
}

impl Unlisted {
    /// Starts the search; run the operations and give the answers back.
    pub(crate) fn new() -> (Self, Vec<Op>) {
        let (folders, ops) = Folders::new();
        let folders = Some(folders);
        (Self { folders, found: Vec::new(), read: 0, feeds: Vec::new() }, ops)
    }

    /// Takes the answers to the operations asked for last. What to read next; `None`: all is known.
    ///
    /// # Errors
    ///
    /// The first storage error.
    pub(crate) fn answered(
        &mut self,
        answers: Vec<Result<Answer, StorageError>>,
    ) -> Result<Option<Vec<Op>>, StorageError> {
        if let Some(mut folders) = self.folders.take() {
            match folders.answered(answers) {
                FoldersStep::Read(ops) => {
                    self.folders = Some(folders);
                    return Ok(Some(ops));
                }
                FoldersStep::Failed(error) => return Err(error),
                FoldersStep::Done(found) => self.found = found,
            }
            self.found.retain(|folder| folder.layout == Layout::Corestore);
        } else {
            let answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
            for (folder, files) in self.found[self.read..].iter().zip(answers.chunks_exact(READS)) {
                self.read += 1;
                let key = files[0].bytes().and_then(|key| key.first_chunk::<32>());
                let key = key.map(|key| FeedKey(*key));
                let key = key.filter(|key| key.discovery_key().to_hex() == folder.name);
                let name = files[1].bytes().and_then(|name| corestore::decode_name(name));
                let line =
                    files[2].bytes().and_then(|data| data.split(|byte| *byte == b'\n').next());
                let lists = line.and_then(list::decode).is_some();
                self.feeds.extend(key.map(|key| Feed { key, name: name.map(String::from), lists }));
            }
        }
        let next = self.found[self.read..].iter().take(READ_AT_ONCE);
        let ops = next.flat_map(|folder| {
            let read = |name: &str, len| Op::Read { path: folder.path.join(name), offset: 0, len };
            [
                read(sleep::KEY, 33),
                read(corestore::NAME, corestore::MAX_NAME + 4),
                read(sleep::DATA, LINE),
            ]
        });
        let ops: Vec<Op> = ops.collect();
        Ok((!ops.is_empty()).then_some(ops))
    }

    /// The key of the feed that lists the feeds of a multifeed: by its name, or else if it is the only one that
    /// looks like a list.
    pub(crate) fn list(&self, root: &RootKey) -> Option<FeedKey> {
        let list = corestore::list_name(root);
        let named = self.feeds.iter().find(|feed| feed.name.as_deref() == Some(&*list));
        let mut alike = self.feeds.iter().filter(|feed| feed.is_nameless_list());
        let only = alike.next().filter(|_| alike.next().is_none());
        named.or(only).map(|feed| feed.key)
    }

    /// The feeds of a multifeed, with their names in it: those of its writers, and all that have no name, since
    /// nothing tells where they belong. These are called by numbers. None that looks like a list is among them,
    /// which is nobody's to know.
    pub(crate) fn feeds(&self, root: &RootKey) -> Vec<(FeedKey, String)> {
        let writers = corestore::writer_name(root, "");
        let mut feeds = Vec::new();
        for feed in self.feeds.iter().filter(|feed| !feed.is_nameless_list()) {
            let name = match &feed.name {
                Some(name) => name.strip_prefix(&writers).map(String::from),
                None => Some(feeds.len().to_string()),
            };
            feeds.extend(name.map(|name| (feed.key, name)));
        }
        feeds
    }
}

impl Feed {
    fn is_nameless_list(&self) -> bool {
        self.name.is_none() && self.lists
    }
}

/// Files that are read of each folder, and bytes of the last one: more than a line of a list has.
const READS: usize = 3;
const LINE: usize = 8192;
/// Folders whose files are read in one batch.
const READ_AT_ONCE: usize = 64;
