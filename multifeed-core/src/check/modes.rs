//! Files with secrets that others than their owner may read.

use super::FeedFolder;
use crate::format::{blocked, corestore, sleep};
use crate::storage::{FilePath, Files};

/// Counts the files with secrets that others may read, where they may enter the folder of the store; with `close`
/// takes that from them.
pub(super) fn open_to_others(files: &dyn Files, folders: &[FeedFolder], close: bool) -> u64 {
    if !files.is_open_to_others(&FilePath::root()) {
        return 0;
    }
    let at_root = [corestore::MASTER_KEY, crate::format::ROOT_KEY, blocked::FILE];
    let in_feeds = folders
        .iter()
        .flat_map(|feed| [corestore::NAME, sleep::SECRET_KEY].map(|name| feed.path.join(name)));
    let secrets = at_root.into_iter().map(|name| FilePath::new(&[name])).chain(in_feeds);
    let open = secrets.filter(|path| files.is_open_to_others(path));
    open.inspect(|path| {
        if close {
            files.keep_to_owner(path);
        }
    })
    .count() as u64
}
