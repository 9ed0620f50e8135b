//! The numbers and names of channels, in both directions.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::extensions::Scope;
use super::peer::Peer;
use crate::connection::RootId;
use crate::{ChannelId, DiscoveryKey, FeedKey};

/// A channel that is open on this side.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) discovery_key: DiscoveryKey,
    /// The remote's number, once it opened the channel and proved the key.
    pub(crate) remote: Option<u32>,
    pub(crate) scope: Scope,
    /// The remote's names on this channel, to be matched again when a name is registered here.
    pub(crate) remote_names: Vec<String>,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Root(RootId),
    Feed(Box<Feed>),
}

#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) key: FeedKey,
    /// Whether we ask for acknowledgements.
    pub(crate) ack: bool,
    pub(crate) peer: Peer,
}

/// A channel that only the remote has open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) remote: u32,
    pub(crate) capability: Option<[u8; 32]>,
    known: bool,
}

/// What a number of the remote stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remote {
    Channel(ChannelId),
    Pending(DiscoveryKey),
}

/// All channels of a connection.
///
/// Source: `simple-hypercore-protocol@2.1.2`, `lib/channelizer.js`. Unlike there, every table that
/// the remote fills is bounded: its numbers by the channels open here plus the pending ones.
#[derive(Debug)]
pub(crate) struct Channels {
    open: BTreeMap<ChannelId, Channel>,
    by_key: BTreeMap<DiscoveryKey, ChannelId>,
    remote: BTreeMap<u32, Remote>,
    pending: BTreeMap<DiscoveryKey, Pending>,
    /// Pending channels whose key nobody spoke of.
    strangers: usize,
    /// Names of the keys in any offer or list of a multifeed: the remote may open these early.
    known: BTreeSet<(DiscoveryKey, RootId)>,
    next: u32,
}

impl Channels {
    pub(crate) fn new() -> Self {
        Self {
            open: BTreeMap::new(),
            by_key: BTreeMap::new(),
            remote: BTreeMap::new(),
            pending: BTreeMap::new(),
            strangers: 0,
            known: BTreeSet::new(),
            next: 1,
        }
    }

    /// The next number of ours, unless it is above `max`. Numbers are never used again.
    pub(crate) fn allocate(&mut self, max: u32) -> Option<ChannelId> {
        let id = ChannelId(self.next);
        if id.0 > max {
            return None;
        }
        self.next += 1;
        Some(id)
    }

    pub(crate) fn insert(&mut self, id: ChannelId, channel: Channel) {
        self.by_key.insert(channel.discovery_key, id);
        self.open.insert(id, channel);
    }

    pub(crate) fn get(&self, id: ChannelId) -> Option<&Channel> {
        self.open.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.open.get_mut(&id)
    }

    /// All channels, in the order in which they were opened here.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ChannelId, &Channel)> {
        self.open.iter().map(|(id, channel)| (*id, channel))
    }

    /// Channels that are open on this side, or on the remote's alone.
    pub(crate) fn len(&self) -> usize {
        self.open.len() + self.pending.len()
    }

    pub(crate) fn by_key(&self, key: &DiscoveryKey) -> Option<ChannelId> {
        self.by_key.get(key).copied()
    }

    pub(crate) fn by_remote(&self, remote: u32) -> Option<Remote> {
        self.remote.get(&remote).copied()
    }

    /// Forgets a channel with its key and both its numbers.
    pub(crate) fn remove(&mut self, id: ChannelId) -> Option<Channel> {
        let channel = self.open.remove(&id)?;
        self.by_key.remove(&channel.discovery_key);
        if let Some(remote) = channel.remote {
            self.remote.remove(&remote);
        }
        Some(channel)
    }

    /// Lets the remote's number stand for an open channel, in place of its former number.
    pub(crate) fn bind(&mut self, id: ChannelId, remote: u32) {
        let Some(channel) = self.open.get_mut(&id) else { return };
        if let Some(former) = channel.remote.replace(remote) {
            self.remote.remove(&former);
        }
        self.remote.insert(remote, Remote::Channel(id));
    }

    /// Forgets the remote's number of an open channel.
    pub(crate) fn unbind(&mut self, id: ChannelId) {
        let former = self.open.get_mut(&id).and_then(|channel| channel.remote.take());
        if let Some(former) = former {
            self.remote.remove(&former);
        }
    }

    /// Remembers a channel that only the remote has open. `false`: there are too many, of keys that nobody
    /// spoke of or in all.
    pub(crate) fn insert_pending(
        &mut self,
        key: DiscoveryKey,
        remote: u32,
        capability: Option<[u8; 32]>,
        max_strangers: usize,
        max: usize,
    ) -> bool {
        self.take_pending(&key);
        let known = self.is_known(&key);
        if (!known && self.strangers >= max_strangers) || self.pending.len() >= max {
            return false;
        }
        self.strangers += usize::from(!known);
        self.pending.insert(key, Pending { remote, capability, known });
        self.remote.insert(remote, Remote::Pending(key));
        true
    }

    pub(crate) fn take_pending(&mut self, key: &DiscoveryKey) -> Option<Pending> {
        let pending = self.pending.remove(key)?;
        self.remote.remove(&pending.remote);
        self.strangers -= usize::from(!pending.known);
        Some(pending)
    }

    /// Whether the remote has a channel for `key` open that is not open here.
    pub(crate) fn is_pending(&self, key: &DiscoveryKey) -> bool {
        self.pending.contains_key(key)
    }

    /// Notes that the remote has a reason to open a channel for this key.
    pub(crate) fn learn(&mut self, root: RootId, key: DiscoveryKey) {
        if self.known.insert((key, root)) {
            if let Some(pending) = self.pending.get_mut(&key) {
                self.strangers -= usize::from(!pending.known);
                pending.known = true;
            }
        }
    }

    /// Forgets the keys of a multifeed that begins anew.
    pub(crate) fn unlearn(&mut self, root: RootId) {
        self.known.retain(|(_, of)| *of != root);
    }

    fn is_known(&self, key: &DiscoveryKey) -> bool {
        self.known.range((*key, RootId(0))..=(*key, RootId(u32::MAX))).next().is_some()
    }

    /// Bytes of the channels that are open here.
    pub(crate) fn channel_bytes(&self) -> usize {
        self.open.len() * (size_of::<Channel>() + size_of::<Feed>() + 3 * TABLES)
    }

    /// Bytes of those that only the remote has open.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending.len() * (size_of::<(DiscoveryKey, Pending)>() + 2 * TABLES)
    }

    /// Bytes of the names of keys in offers.
    pub(crate) fn known_bytes(&self) -> usize {
        self.known.len() * (size_of::<(DiscoveryKey, RootId)>() + TABLES / 4)
    }
}

/// Bytes of a small entry of a table, with its share of the table.
const TABLES: usize = 64;

#[cfg(test)]
impl Channels {
    /// Checks that the tables agree with each other.
    pub(crate) fn check(&self, place: &str) {
        let bound = self.open.values().filter(|channel| channel.remote.is_some()).count();
        assert_eq!(self.remote.len(), bound + self.pending.len(), "{place}");
        assert_eq!(self.by_key.len(), self.open.len(), "{place}");
        let strangers = self.pending.values().filter(|pending| !pending.known).count();
        assert_eq!(self.strangers, strangers, "{place}");
        for (key, pending) in &self.pending {
            assert_eq!(self.remote.get(&pending.remote), Some(&Remote::Pending(*key)), "{place}");
            assert!(pending.known || !self.is_known(key), "{place}");
        }
    }
}
