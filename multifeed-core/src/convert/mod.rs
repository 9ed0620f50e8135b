//! Makes a store in another layout of one that is there, with the same feeds, names, order and writers.
//!
//! | file | what is in it |
//! |---|---|
//! | `machine` | the steps from the one store to the other, as requests for storage operations and answers |
//! | `find` | the folders of the store that is read, and the list of its feeds |
//! | `source` | what is found in the store that is read: its feeds, their keys and names |
//! | `place` | where each feed goes, and the small files that make it what it is there |
//! | `copy` | the files of the feeds, piece by piece; holes are passed over, what is zero becomes one |
//! | `list` | the list of feeds, where the new layout has one |
//!
//! On two folders of a file system it is run by [`convert()`] (feature `std`), whose code is in `disk`.
//!
//! The blocks, trees, signatures and bitfields are the same bytes in every layout, so they are copied
//! as they are: sparse feeds, cleared blocks and what a crash left come out as they went in. [`convert()`]
//! checks every block in the new store then, and has those that are damaged marked as not held there.
//!
//! **Both stores have the same writers afterwards.** Whoever appends in both signs two logs with one key,
//! which no peer can sync: only one of the two may be written to.

mod copy;
mod find;
mod list;
mod machine;
mod place;
mod source;

use alloc::string::String;
use alloc::vec::Vec;

#[cfg(feature = "std")]
pub use crate::disk::convert::convert;
pub use machine::{Convert, Step};

use crate::node::NodeError;
use crate::storage::StorageError;

/// How far a conversion is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Feeds to be copied; 0 until they are counted.
    pub feeds: u64,
    /// Feeds that are copied.
    pub feeds_done: u64,
    /// Bytes to be copied, holes included; 0 until they are counted.
    pub bytes: u64,
    /// Bytes that are copied.
    pub bytes_done: u64,
}

/// What a conversion has made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Converted {
    /// Feeds of the multifeed.
    pub feeds: u64,
    /// Those among them that can be written to.
    pub writers: u64,
    /// Bytes that were copied, holes included.
    pub bytes: u64,
    /// Folders of feeds that the new store does not have: those of other multifeeds, feeds by name, and
    /// numbered folders without a key.
    pub left_out: Vec<String>,
    /// The process that had the store open which was read, 0 if its number is not known: the copy is of no certain
    /// moment.
    pub held_by: Option<u32>,
    /// Folders of feeds that the new store does not have, since one of their files cannot be read.
    pub unreadable: Vec<String>,
    /// Feeds of which something is damaged in the store that is read. The new one has what is sound of them.
    pub damaged: Vec<Damaged>,
    /// Feeds of others whose names the new layout cannot keep: each is called by its number.
    pub renamed: Vec<Renamed>,
}

/// A feed of which not all was sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Its key, if that is known.
    pub key: Option<multifeed_proto::FeedKey>,
    /// Its folder in the new store.
    pub folder: String,
    /// Blocks that were held according to the store that was read, and are not in the new one.
    pub lost: u64,
}

/// A feed of others that has another name in the new store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// Its name so far.
    pub from: String,
    /// Its name in the new store.
    pub to: String,
}

/// Why a store was not converted. Nothing was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// There is no store in the folder that is read.
    #[error("there is no store in it")]
    NoStore,
    /// There are feeds, and no list of feeds for this root key.
    #[error("it holds no multifeed with this root key")]
    NoMultifeed,
    /// What is read is damaged in a way that a copy would make worse.
    #[error("{path}: {problem}")]
    Damaged {
        /// The file or folder.
        path: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The new layout cannot keep the name of a writer.
    #[error("the writer {name:?}, feed number {number}: {problem}")]
    Name {
        /// The name.
        name: String,
        /// Its place among the feeds, from 0.
        number: u64,
        /// Why not.
        problem: &'static str,
    },
    /// A file became longer or shorter while it was copied.
    #[error("{path} changed while it was read: another program uses the store")]
    Changed {
        /// The file.
        path: String,
    },
    /// The store that is read could not be.
    #[error(transparent)]
    Read(StorageError),
    /// The new store could not be written.
    #[error(transparent)]
    Write(StorageError),
    /// The list of feeds could not be made.
    #[error(transparent)]
    List(NodeError),
    /// The new folder is there and not empty.
    #[error("it exists and is not empty")]
    NotEmpty,
    /// The new folder lies in the store that is read.
    #[error("it lies in the store that is read, which must stay as it is")]
    Inside,
    /// A folder could not be made, moved or looked at; the text is the operating system's.
    #[error("{0}")]
    Folder(String),
    /// The caller did not want to go on.
    #[error("stopped before it was done")]
    Stopped,
}

impl ConvertError {
    /// A name for programs, which stays the same.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoStore => "ERR_NO_STORE",
            Self::NoMultifeed => "ERR_NO_MULTIFEED",
            Self::Damaged { .. } => "ERR_STORE_DAMAGED",
            Self::Name { .. } => "ERR_NAME",
            Self::Changed { .. } => "ERR_IN_USE",
            Self::Read(error) | Self::Write(error) => NodeError::Storage(error.clone()).code(),
            Self::List(error) => error.code(),
            Self::NotEmpty => "ERR_NOT_EMPTY",
            Self::Inside | Self::Folder(_) => "ERR_DIRECTORY",
            Self::Stopped => "ERR_INTERRUPTED",
        }
    }

    /// Whether the fault lies with the store that is read, rather than with the new one.
    #[must_use]
    pub const fn is_of_source(&self) -> bool {
        match self {
            Self::NoStore
            | Self::NoMultifeed
            | Self::Damaged { .. }
            | Self::Name { .. }
            | Self::Changed { .. }
            | Self::Read(_) => true,
            Self::Write(_)
            | Self::List(_)
            | Self::NotEmpty
            | Self::Inside
            | Self::Folder(_)
            | Self::Stopped => false,
        }
    }
}
