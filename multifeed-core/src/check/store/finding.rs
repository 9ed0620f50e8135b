//! What can be wrong with a store as a whole, as values.

use multifeed_proto::FeedKey;

use crate::check::Report;
use crate::format::blocked;

/// Something about the store as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreFinding {
    /// There are feeds whose keys follow from the master key, and it is missing, too short, or zeros.
    #[error(
        "master_key is missing or damaged: no writer of this store can be opened; restore it from a copy"
    )]
    MasterKeyMissing,
    /// No name in the store leads to the key of its feed.
    #[error(
        "master_key is not the one that the writers of this store were made with; restore it from a copy"
    )]
    MasterKeyOther,
    /// A list of feeds is not here, though there are feeds that belong on it.
    #[error("the list of feeds is missing{}", if *made {": it was made anew from the folders of feeds"} else {""})]
    ListMissing {
        /// Whether it was made anew.
        made: bool,
    },
    /// A list of feeds was damaged, and was written anew from what is left of it and from the folders.
    #[error("the list of feeds was made anew; what was left of the old one is in {aside}")]
    ListMade {
        /// Where the old one is.
        aside: String,
    },
    /// There is no list of feeds for this root key, and nothing that belongs to it.
    #[error("there is nothing of a multifeed with this root key")]
    NoList,
    /// A feed is here and not on the list: a multifeed does not open it.
    #[error("the feed in {folder} is not on the list of feeds{}", told(*belongs, *listed))]
    NotListed {
        /// Its folder.
        folder: String,
        /// Whether it belongs on it: it may be that of another multifeed, or of an application.
        belongs: bool,
        /// Whether it is on it again.
        listed: bool,
    },
    /// A feed is on the list and not here; nothing of it was ever stored, or its folder is lost.
    #[error("the feed {} is on the list, and there is no folder for it", .key.to_hex())]
    NoFolder {
        /// Its key.
        key: FeedKey,
    },
    /// The list of blocked feeds holds something else: the store cannot be opened.
    #[error(
        "a line of {} is no feed key: the store cannot be opened until the line is removed",
        blocked::FILE
    )]
    BlockedList,
    /// Files with the root key or a secret key in them can be read by others than their owner. A repair takes
    /// that from them, and so does whoever opens them to write.
    #[error("{files} files with secrets could be read by other users of this machine")]
    OpenToOthers {
        /// How many.
        files: u64,
    },
    /// A number is missing: multifeed 6 does not open the feeds after it.
    #[error("there is no folder {number}: multifeed 6 does not open the feeds after it{}", moved(*.filled))]
    Gap {
        /// The number.
        number: u64,
        /// The number of the folder that was given this number.
        filled: Option<u64>,
    },
    /// Two folders hold the same feed.
    #[error("the folder {folder} holds the feed of folder {other}")]
    SameFeed {
        /// The one.
        folder: String,
        /// The other.
        other: String,
    },
    /// A writer of this store in a numbered folder does not tell its name.
    #[error("the name of the writer in folder {folder} is lost{}", if *named {": it is called by its number now"} else {""})]
    NameLost {
        /// Its folder.
        folder: String,
        /// Whether it is called by its number from here on, as the JavaScript calls a writer without a name.
        named: bool,
    },
    /// A file or folder of the store cannot be read.
    #[error("{path} cannot be read: {problem}")]
    Unreadable {
        /// The file or folder.
        path: String,
        /// What the operating system says.
        problem: String,
    },
}

fn told(belongs: bool, listed: bool) -> &'static str {
    match (belongs, listed) {
        (_, true) => ": it was added",
        (true, false) => "",
        (false, false) => ", and nothing tells whether it belongs on it",
    }
}

fn moved(filled: Option<u64>) -> String {
    filled.map_or(String::new(), |from| format!("; folder {from} was given this number"))
}

impl StoreFinding {
    /// Whether something is wrong by it, and still is. Feeds beside the list can be those of another multifeed
    /// or of an application, and feeds without a folder those of which nothing came yet.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        match self {
            Self::MasterKeyMissing
            | Self::MasterKeyOther
            | Self::BlockedList
            | Self::SameFeed { .. }
            | Self::Unreadable { .. } => true,
            Self::ListMissing { made } => !*made,
            Self::NotListed { belongs, listed, .. } => *belongs && !*listed,
            Self::Gap { filled, .. } => filled.is_none(),
            Self::NameLost { named, .. } => !*named,
            Self::ListMade { .. }
            | Self::NoList
            | Self::NoFolder { .. }
            | Self::OpenToOthers { .. } => false,
        }
    }

    /// Whether it says nothing of the feeds: every store of the JavaScript is like that.
    #[must_use]
    pub const fn is_note(&self) -> bool {
        matches!(self, Self::OpenToOthers { .. })
    }

    /// Whether a repair undoes it.
    #[must_use]
    pub const fn is_restorable(&self) -> bool {
        match self {
            Self::ListMissing { .. }
            | Self::NotListed { .. }
            | Self::Gap { .. }
            | Self::NameLost { .. } => self.is_damage(),
            Self::MasterKeyMissing
            | Self::MasterKeyOther
            | Self::BlockedList
            | Self::SameFeed { .. }
            | Self::Unreadable { .. }
            | Self::ListMade { .. }
            | Self::OpenToOthers { .. }
            | Self::NoList
            | Self::NoFolder { .. } => false,
        }
    }

    /// A name for programs, which stays the same.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::MasterKeyMissing => "master-key-missing",
            Self::MasterKeyOther => "master-key-other",
            Self::ListMissing { .. } => "list-missing",
            Self::ListMade { .. } => "list-made",
            Self::NoList => "no-list",
            Self::NotListed { .. } => "not-listed",
            Self::NoFolder { .. } => "no-folder",
            Self::BlockedList => "blocked-list",
            Self::OpenToOthers { .. } => "open-to-others",
            Self::Gap { .. } => "gap",
            Self::SameFeed { .. } => "same-feed",
            Self::NameLost { .. } => "name-lost",
            Self::Unreadable { .. } => "unreadable",
        }
    }
}

/// What was found out about one feed, and what was done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreReport {
    /// As the feed was found.
    pub found: Report,
    /// As it is after the repair, if something was repaired.
    pub repaired: Option<Report>,
    /// Its name: on the list of feeds, or that of a local writer in a numbered folder.
    pub name: Option<String>,
    /// Whether it is the list of feeds itself.
    pub is_list: bool,
}

impl StoreReport {
    /// The feed as it is.
    #[must_use]
    pub fn last(&self) -> &Report {
        self.repaired.as_ref().unwrap_or(&self.found)
    }
}
