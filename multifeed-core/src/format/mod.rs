//! The bytes of the files of a store, and the names of its files and feeds.
//!
//! Here: the five files of a feed ([`sleep`]), folders, names and derived keys ([`corestore`]), the
//! entries of the list of feeds ([`list`]), the folders of multifeed 6 ([`numbered`]), the feeds that are
//! kept out ([`blocked`]), and what proves a fork ([`forked`]). Everything that is read may be damaged or hostile.
//!
//! Not here: reading and writing (`storage` says what, `disk` does it), and what follows from the
//! contents.

pub mod blocked;
pub mod corestore;
pub mod forked;
pub mod list;
pub mod numbered;
pub mod sleep;

#[cfg(feature = "std")]
use crate::storage::FilePath;

/// Name of the file in which a program may keep the root key of a store.
#[cfg(feature = "std")]
pub(crate) const ROOT_KEY: &str = "root_key";

/// Whether a file holds what only its owner may know: a secret key, the root key, or a name with the root key in
/// it. Such a file is made for its owner only.
#[cfg(feature = "std")]
pub(crate) fn is_secret(path: &FilePath) -> bool {
    let name = path.as_str().rsplit('/').next().unwrap_or_default();
    let secret =
        [corestore::MASTER_KEY, corestore::NAME, sleep::SECRET_KEY, blocked::FILE, ROOT_KEY];
    secret.contains(&name)
}
