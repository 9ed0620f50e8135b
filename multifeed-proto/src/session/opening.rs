//! How channels open and close: the proof that both sides know the key, and what the remote opens
//! before this side does.

use alloc::string::String;
use alloc::vec::Vec;

use subtle::ConstantTimeEq as _;

use super::channels::{Kind, Remote};
use super::{Mux, Session, feed};
use crate::connection::Output;
use crate::messages::{Message, Open};
use crate::{ChannelId, Dialect, DiscoveryKey, PeerError, wire};

/// Refused channels after which the peer is taken to be hostile, for each one that may wait.
const REFUSED_PER_PENDING: usize = 4;

impl Session {
    pub(super) fn on_open(&mut self, remote: u32, open: &Open) -> Result<(), PeerError> {
        if remote == 0 {
            return Err(PeerError::Message { message: "Open", problem: "channel 0" });
        }
        let key = open.discovery_key;
        // A number that is taken anew was closed before, whether that was said or not.
        match self.channels.by_remote(remote) {
            Some(Remote::Channel(id)) if self.channels.by_key(&key) != Some(id) => {
                self.drop_channel(id);
            }
            Some(Remote::Pending(other)) => {
                self.channels.take_pending(&other);
            }
            Some(Remote::Channel(_)) | None => {}
        }
        let Some(id) = self.channels.by_key(&key) else {
            return self.on_unknown_open(remote, open);
        };
        if !self.proves(id, open.capability) {
            return Err(PeerError::Capability);
        }
        self.channels.bind(id, remote);
        self.on_both_open(id);
        Ok(())
    }

    fn on_unknown_open(&mut self, remote: u32, open: &Open) -> Result<(), PeerError> {
        let unproven = !self.roots.is_empty() && !self.roots.iter().any(Mux::is_proven);
        if self.config.dialect == Dialect::Stream && unproven {
            return Err(PeerError::ExchangeKey);
        }
        let key = open.discovery_key;
        let max = self.config.max_pending_channels;
        let strangers = if self.proven { max } else { max.min(self.config.max_stranger_channels) };
        let in_all = max.saturating_add(self.config.max_offered_feeds);
        let again = self.channels.is_pending(&key);
        if self.channels.insert_pending(key, remote, open.capability, strangers, in_all) {
            if !again {
                self.outputs.push_back(Output::RemoteOpened { discovery_key: key });
            }
            return Ok(());
        }
        self.refused += 1;
        if self.refused > max.saturating_mul(REFUSED_PER_PENDING) {
            return Err(PeerError::PendingChannels { max });
        }
        self.refuse(key);
        Ok(())
    }

    pub(super) fn on_close(&mut self, remote: u32, discovery_key: Option<DiscoveryKey>) {
        match self.channels.by_remote(remote) {
            Some(Remote::Channel(id)) => self.drop_channel(id),
            Some(Remote::Pending(key)) => {
                self.channels.take_pending(&key);
            }
            None => {
                let Some(key) = discovery_key else { return };
                self.channels.take_pending(&key);
                if let Some(id) = self.channels.by_key(&key) {
                    self.drop_channel(id);
                }
            }
        }
    }

    /// The remote closed a channel: answers in kind and forgets it.
    ///
    /// Not so a multifeed that waits for its handshake: the remote may have given it up at the moment
    /// at which it was joined here, and be about to begin anew. So its deadline decides.
    fn drop_channel(&mut self, id: ChannelId) {
        let root = match self.channels.get(id).map(|channel| &channel.kind) {
            Some(Kind::Root(root)) => self.mux(*root),
            Some(Kind::Feed(_)) | None => None,
        };
        if root.is_some_and(|mux| mux.deadline().is_some()) {
            return self.channels.unbind(id);
        }
        let Some(channel) = self.channels.remove(id) else { return };
        self.forget_names(&channel.remote_names);
        self.send(id, Message::Close { discovery_key: None });
        match channel.kind {
            Kind::Root(root) => {
                if self.mux_mut(root).is_some_and(Mux::close) {
                    self.outputs.push_back(Output::RootClosed { root });
                }
            }
            Kind::Feed(feed) => {
                self.announced -= feed.peer.remote().bytes();
                self.outputs.push_back(Output::FeedClosed { channel: id });
                self.feeds_changed();
            }
        }
    }

    /// Closes a channel from this side, if it is open.
    pub(super) fn close_channel(&mut self, id: ChannelId) {
        let Some(removed) = self.channels.remove(id) else { return };
        self.forget_names(&removed.remote_names);
        // Before the Noise handshake is over the remote has not heard of it.
        if self.keys.is_some() {
            self.send(id, Message::Close { discovery_key: None });
        }
    }

    /// Both sides have the channel open: whatever came before, it starts anew.
    pub(super) fn on_both_open(&mut self, id: ChannelId) {
        self.proven = true;
        let Some(channel) = self.channels.get_mut(id) else { return };
        channel.scope.reset();
        let names = core::mem::take(&mut channel.remote_names);
        self.forget_names(&names);
        let Some(channel) = self.channels.get_mut(id) else { return };
        match &channel.kind {
            Kind::Root(root) => {
                let root = *root;
                for (way, handshake) in self.mux_mut(root).map_or(Vec::new(), Mux::opened) {
                    self.send_mux(root, way, handshake);
                }
            }
            Kind::Feed(_) => {
                self.start_feed(id);
                self.feeds_changed();
            }
        }
    }

    /// Whether `capability` proves that the remote knows the key of channel `id`.
    pub(super) fn proves(&self, id: ChannelId, capability: Option<[u8; 32]>) -> bool {
        let (Some(keys), Some(channel)) = (&self.keys, self.channels.get(id)) else { return false };
        let expected = match &channel.kind {
            Kind::Root(root) => match self.mux(*root) {
                Some(mux) => wire::remote_capability(keys, mux.root().expose()),
                None => return false,
            },
            Kind::Feed(feed) => wire::remote_capability(keys, &feed.key.0),
        };
        capability.is_some_and(|capability| capability[..].ct_eq(&expected[..]).into())
    }

    /// Opens a channel of ours on the wire, unless the Noise handshake still runs.
    pub(super) fn send_open(&mut self, id: ChannelId) {
        let (Some(keys), Some(channel)) = (&self.keys, self.channels.get(id)) else { return };
        let capability = match &channel.kind {
            Kind::Root(root) => {
                self.mux(*root).map(|mux| wire::capability(keys, mux.root().expose()))
            }
            Kind::Feed(feed) => Some(wire::capability(keys, &feed.key.0)),
        };
        let open = Open { discovery_key: channel.discovery_key, capability };
        self.send(id, Message::Open(open));
    }

    /// Tells the remote that a channel of its will not be opened here.
    ///
    /// The number that this takes stays unused, as with the JavaScript.
    fn refuse(&mut self, key: DiscoveryKey) {
        if let Some(id) = self.channels.allocate(self.config.max_channel) {
            self.send(id, Message::Close { discovery_key: Some(key) });
        }
    }

    fn forget_names(&mut self, names: &[String]) {
        self.name_bytes -= names.iter().map(|name| name.len() + feed::NAME).sum::<usize>();
    }
}
