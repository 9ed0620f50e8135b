//! The limits and choices of one node.

use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use multifeed_proto::{Config, PeerSecret, UserData};
use zeroize::Zeroizing;

use super::{MultifeedId, Patience, Peers, Policy};
use crate::lobby::{LobbyLimits, Origin};

/// How a store keeps its feeds on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Folders named by discovery key, keys derived from one master key: `hypermultifeed` and
    /// `corestore-multifeed` on corestore 5. Any number of multifeeds, and feeds by name.
    #[default]
    Corestore,
    /// Numbered folders with a key pair each: `multifeed` 5 and 6. One multifeed, whose root key is not in
    /// the directory.
    Numbered,
}

/// How a store is opened.
#[derive(Clone, Default)]
pub struct StoreOptions {
    pub(super) layout: Option<Layout>,
    pub(super) read_only: bool,
    pub(super) master_key: Option<Zeroizing<[u8; 32]>>,
}

impl StoreOptions {
    /// The layout that the directory must have, and gets if it is empty. Unless this is called:
    /// whichever is there, and [`Layout::Corestore`] in an empty directory.
    #[must_use]
    pub fn layout(self, layout: Layout) -> Self {
        Self { layout: Some(layout), ..self }
    }

    /// Nothing is written, made, locked or synced, and nothing fetched from peers, who are sent what is here:
    /// for media, snapshots and folders that may only be read, and for stores that another process has open
    /// ([`Node::held_by`](crate::Node::held_by)). A missing or unreadable `master_key` does no harm: the feeds
    /// are found in their folders then, and none of them can be written. What would change the store fails with
    /// [`NodeError::ReadOnly`](crate::NodeError::ReadOnly).
    ///
    /// The executor of storage batches need not allow more than reading.
    #[must_use]
    pub fn read_only(self, read_only: bool) -> Self {
        Self { read_only, ..self }
    }

    /// The secret from which the keys of writers and of feeds by name are derived, in place of the one
    /// in the directory, which is then neither read nor made. Only for [`Layout::Corestore`].
    ///
    /// Source: option `masterKey` of `corestore@5.8.2`.
    #[must_use]
    pub fn master_key(self, key: [u8; 32]) -> Self {
        Self { master_key: Some(Zeroizing::new(key)), ..self }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("layout", &self.layout)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

/// How a connection is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectOptions {
    /// What it is for.
    pub replication: ReplicationOptions,
    /// The multifeeds that it carries, in the order in which they are proposed. `None`: all that are
    /// joined, and those that are joined later. A peer learns the discovery key of each, also of those
    /// that it does not have.
    pub multifeeds: Option<Vec<MultifeedId>>,
    /// Which feeds are shared with the peer, and how much of each.
    pub policy: Policy,
    /// Which peers are let in.
    pub peers: Peers,
    /// What the peer recognises this side by. `None`: an identity that is made for this connection.
    pub identity: Option<PeerSecret>,
    /// The stream is not encrypted, for tests and for bridges to what is encrypted in another way: anybody on
    /// the path reads and changes everything. Both sides have to be told; peers that are not see
    /// garbage.
    ///
    /// Source: option `encrypted: false` of `hypercore-protocol@8.0.7`.
    pub unencrypted: bool,
    /// Where an accepted connection comes from, so that strangers from one place have a bound of their own:
    /// see [`NodeConfig::strangers`]. `None`: not known, or the connection was made by this side.
    pub origin: Option<Origin>,
    /// What the peer is told with the handshake of each multifeed, after it has proven to know the root key;
    /// it comes there with [`Event::Ready`](crate::Event::Ready).
    pub user_data: Option<UserData>,
    /// How long the peer may take. `None`: as [`NodeConfig::patience`] says.
    pub patience: Option<Patience>,
}

/// What an acknowledged append, or an acknowledged download, survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process at any moment, not a power failure: all is handed to the operating system.
    #[default]
    Process,
    /// A power failure too: all is synced to stable storage first. Much slower for single appends.
    Power,
}

/// What one connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicationOptions {
    /// Goes on after the two have all of each other. Otherwise the connection ends by itself then.
    pub live: bool,
    /// Blocks are sent. A side that sends none tells nothing of what it has, as in hypercore 9: unless it has
    /// said that it wants nothing more, the peer cannot know that it is in sync with it.
    pub upload: bool,
    /// Blocks are fetched.
    pub download: bool,
}

impl Default for ReplicationOptions {
    /// Live, in both directions.
    fn default() -> Self {
        Self { live: true, upload: true, download: true }
    }
}

impl ConnectOptions {
    /// The same for a connection that was accepted from this address.
    #[must_use]
    pub fn accepted_from(self, address: SocketAddr) -> Self {
        Self { origin: Some(address.into()), ..self }
    }
}

impl From<SocketAddr> for ConnectOptions {
    /// For all multifeeds, on a connection that was accepted from this address.
    fn from(address: SocketAddr) -> Self {
        Self::default().accepted_from(address)
    }
}

impl From<ReplicationOptions> for ConnectOptions {
    /// For all multifeeds.
    fn from(replication: ReplicationOptions) -> Self {
        Self { replication, ..Self::default() }
    }
}

/// Limits and choices of one node. Memory that peers can fill is bounded by these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Limits and times of each connection.
    pub connection: Config,
    /// Accepted connections whose peer has not proven that it knows a root key. Beyond it the one that
    /// [gives way](crate::Lobby) ends with [`PeerError::GaveWay`](multifeed_proto::PeerError::GaveWay); a
    /// peer that has proven it is never among them. `patience` is the time for the first Noise message where the
    /// [origin](ConnectOptions::origin) is known; the rest must come within
    /// [`Config::multifeed_timeout`].
    pub strangers: LobbyLimits,
    /// When a write counts as done.
    pub durability: Durability,
    /// Only those blocks are fetched that somebody asks for, in every feed for which
    /// [`Node::set_sparse`](crate::Node::set_sparse) does not say otherwise.
    pub sparse: bool,
    /// [`Event::Uploaded`](crate::Event::Uploaded) tells of blocks that are sent: those in a row at once, as
    /// far as they are asked for in a row, which JavaScript peers do not. Off by default.
    pub upload_events: bool,
    /// Feeds in the store of which there is anything; more are not accepted from peers.
    pub max_feeds: usize,
    /// Places beyond these for local writers and feeds by name, so that one can be made whatever peers did.
    pub reserved_feeds: usize,
    /// Feeds that one connection may add, and never more than half of those that there is room for.
    pub max_feeds_per_peer: usize,
    /// Feeds that peers offered and of which nobody gave anything yet, beside those of `max_feeds`: in memory
    /// only, some 4 KiB each.
    pub max_unseen_feeds: usize,
    /// The same for what one connection offered.
    pub max_unseen_per_peer: usize,
    /// Time after which such a feed is forgotten that no connection has open.
    pub forget_after: Duration,
    /// Largest block, in bytes. The protocol's frame also carries the proof, so the JavaScript's
    /// limit of exactly 8 MiB cannot be sent.
    pub max_block: usize,
    /// Bytes of tree nodes kept in memory over all feeds.
    pub cache_bytes: usize,
    /// Feeds that are opened from storage at the same time.
    pub max_opening: usize,
    /// Requests in flight on one connection at most. The JavaScript is served well by 256.
    pub max_window: usize,
    /// Bytes of requested blocks in flight on one connection, estimated by the blocks before.
    pub max_window_bytes: usize,
    /// Bytes of blocks of one connection that wait for another block before they can be verified.
    pub max_held_bytes: usize,
    /// Bytes verified and not yet stored, over all feeds, at which no more blocks are requested and
    /// connections with requests in flight are no longer read.
    pub max_unstored_bytes: usize,
    /// Bytes waiting to be sent on one connection at which no further block is read from storage.
    pub max_outbox_bytes: usize,
    /// Requests of one peer that may wait; beyond it the connection is not read until some are answered.
    pub max_parked_requests: usize,
    /// Bytes that one peer may make the node keep, all together; above it the connection ends: see
    /// [`Node::peer_bytes`](crate::Node::peer_bytes).
    pub max_peer_bytes: usize,
    /// The same for all peers; above it the connection ends that holds most.
    pub max_peers_bytes: usize,
    /// The same for all peers that have not proven yet that they know a root key.
    pub max_strangers_bytes: usize,
    /// How long peers may take, and at what rate blocks must move.
    pub patience: Patience,
    /// Time that [`Node::disconnect`](crate::Node::disconnect) waits for the peer's acknowledgements, and
    /// once more, if anything moved meanwhile, for the peer to close its side.
    pub leave_timeout: Duration,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            connection: Config::default(),
            strangers: LobbyLimits {
                places: 1024,
                per_origin: 512,
                patience: Duration::from_secs(3),
            },
            durability: Durability::default(),
            sparse: false,
            upload_events: false,
            max_feeds: 131_072,
            reserved_feeds: 1024,
            max_feeds_per_peer: 32_768,
            max_unseen_feeds: 16_384,
            max_unseen_per_peer: 8192,
            forget_after: Duration::from_secs(600),
            max_block: 8 * 1024 * 1024 - 16 * 1024,
            cache_bytes: 32 * 1024 * 1024,
            max_opening: 64,
            max_window: 256,
            max_window_bytes: 8 * 1024 * 1024,
            max_held_bytes: 160 * 1024 * 1024,
            max_unstored_bytes: 32 * 1024 * 1024,
            max_outbox_bytes: 1024 * 1024,
            max_parked_requests: 65_536,
            max_peer_bytes: 512 * 1024 * 1024,
            max_peers_bytes: 2 * 1024 * 1024 * 1024,
            max_strangers_bytes: 64 * 1024 * 1024,
            patience: Patience::default(),
            leave_timeout: Duration::from_secs(10),
        }
    }
}
