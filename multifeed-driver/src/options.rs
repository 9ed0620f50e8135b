//! How a store is opened.

use std::time::Duration;

use multifeed_core::{Durability, Layout, NodeConfig, Patience, StoreOptions};
use multifeed_proto::{Dialect, RootKey};

/// How a store is opened: its key, and limits.
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) root_key: Option<RootKey>,
    pub(crate) store: StoreOptions,
    pub(crate) node: NodeConfig,
    pub(crate) get_timeout: Option<Duration>,
    pub(crate) event_capacity: usize,
    pub(crate) open_files: usize,
    pub(crate) read_only: bool,
}

impl Options {
    /// The key that all stores of one multifeed share, a secret. There is no default. Not used by a
    /// [`Store`](crate::Store), which is given one for each multifeed.
    #[must_use]
    pub fn root_key(self, key: RootKey) -> Self {
        Self { root_key: Some(key), ..self }
    }

    /// The layout that the directory must have, and gets if it is empty. Unless this is called:
    /// whichever is there, and [`Layout::Corestore`] in an empty directory.
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.store = self.store.layout(layout);
        self
    }

    /// Nothing is written, made, locked or synced, and nothing fetched from peers, who are sent what is here: for
    /// media, snapshots and folders that may only be read, for stores without `master_key`, and for those that
    /// another process has open ([`Store::held_by`](crate::Store::held_by) tells). What would change the store fails
    /// with [`NodeError::ReadOnly`](crate::NodeError::ReadOnly), and a folder without a store with
    /// [`NodeError::NoStore`](crate::NodeError::NoStore).
    ///
    /// What another process writes meanwhile is not seen. Blocks and lengths are proven as always: what does not fit
    /// any more because the folder was changed under our feet is an error.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self.store = self.store.read_only(read_only);
        self
    }

    /// Whether [`read_only`](Self::read_only) was chosen, for adapters.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The secret from which the keys of writers and of feeds by name are derived, in place of the one
    /// in the directory, which is then neither read nor made. Only for [`Layout::Corestore`].
    #[must_use]
    pub fn master_key(mut self, key: [u8; 32]) -> Self {
        self.store = self.store.master_key(key);
        self
    }

    /// What a finished append survives; [`Durability::Process`] unless said otherwise.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.node.durability = durability;
        self
    }

    /// What peers speak; found out with each peer unless said otherwise.
    #[must_use]
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.node.connection.dialect = dialect;
        self
    }

    /// Only those blocks are fetched from peers that somebody asks for, by
    /// [`Feed::get`](crate::Feed::get), [`Feed::subscribe`](crate::Feed::subscribe) or
    /// [`Feed::download`](crate::Feed::download), unless [`Feed::set_sparse`](crate::Feed::set_sparse)
    /// says otherwise for a feed. Off by default.
    #[must_use]
    pub fn sparse(mut self, sparse: bool) -> Self {
        self.node.sparse = sparse;
        self
    }

    /// Events tell of the blocks that are sent to peers ([`Event::Uploaded`](crate::Event::Uploaded)): one for
    /// those that were asked for in a row, so up to one for each block. Off by default.
    #[must_use]
    pub fn upload_events(mut self, events: bool) -> Self {
        self.node.upload_events = events;
        self
    }

    /// How long peers may take, and at what rate blocks must move; on one connection
    /// [`ConnectOptions::patience`](crate::ConnectOptions::patience) says otherwise.
    #[must_use]
    pub const fn patience(mut self, patience: Patience) -> Self {
        self.node.patience = patience;
        self
    }

    /// Feeds in the store at most: more are not accepted from peers, and no more writers are made. 131,072
    /// by default.
    #[must_use]
    pub const fn max_feeds(mut self, feeds: usize) -> Self {
        self.node.max_feeds = feeds;
        self
    }

    /// All limits of the node, in place of the defaults.
    #[must_use]
    pub fn node_config(self, node: NodeConfig) -> Self {
        Self { node, ..self }
    }

    /// How long [`Feed::get`](crate::Feed::get) waits unless told otherwise there; `None`: for ever.
    /// 30 seconds by default.
    #[must_use]
    pub fn get_timeout(self, get_timeout: Option<Duration>) -> Self {
        Self { get_timeout, ..self }
    }

    /// Events kept for each reader that is slow, at least 1; 1,024 by default.
    #[must_use]
    pub fn event_capacity(self, events: usize) -> Self {
        Self { event_capacity: events.max(1), ..self }
    }

    /// Files kept open, at least 1; 256 by default.
    #[must_use]
    pub fn open_files(self, files: usize) -> Self {
        Self { open_files: files.max(1), ..self }
    }

    /// The number given to [`open_files`](Self::open_files), for adapters.
    #[must_use]
    pub const fn max_open_files(&self) -> usize {
        self.open_files
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            root_key: None,
            store: StoreOptions::default(),
            node: NodeConfig::default(),
            get_timeout: Some(Duration::from_secs(30)),
            event_capacity: 1024,
            open_files: 256,
            read_only: false,
        }
    }
}
