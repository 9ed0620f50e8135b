//! Which peers are let in.
//!
//! A peer is known by its Noise static public key as soon as the Noise handshake is over. Until it is let in,
//! no root key, feed or length is spoken of, not even by its discovery key. Until it has proven that it knows a root
//! key it is a stranger, and has a place only among those.

use alloc::collections::BTreeSet;

use multifeed_proto::{Now, PeerError, to_hex};

use super::link::Link;
use super::{ConnectionId, Event, Node, NodeError};
use crate::lobby::Origin;

/// Which peers are let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Peers {
    /// All that know a root key.
    #[default]
    Any,
    /// Those with these Noise public keys. Others see no more than a disconnect.
    Listed(BTreeSet<[u8; 32]>),
    /// Those that the application lets in: after [`Event::Connected`] it calls [`Node::admit`], or
    /// [`Node::abort`], within [`Config::multifeed_timeout`](multifeed_proto::Config::multifeed_timeout) or
    /// [`Config::idle_timeout`](multifeed_proto::Config::idle_timeout), whichever is shorter.
    Ask,
}

impl Node {
    /// Lets the peer of a connection in, where [`Peers::Ask`] says that this is asked.
    ///
    /// # Errors
    ///
    /// [`NodeError::UnknownConnection`].
    pub fn admit(&mut self, now: Now, connection: ConnectionId) -> Result<(), NodeError> {
        self.advance(now);
        let now = self.now;
        let link = self.links.get_mut(&connection).ok_or(NodeError::UnknownConnection)?;
        link.connection.admit(now);
        self.progress(connection);
        self.pump_link(connection);
        self.touched.insert(connection);
        self.announce(connection);
        Ok(())
    }

    /// A connection was accepted, and its peer has proven nothing: another may have to give way to it.
    pub(super) fn let_stranger_in(&mut self, id: ConnectionId, origin: Option<Origin>) {
        let Some(gone) = self.strangers.enter(self.now, id, origin) else { return };
        if let Some(link) = self.links.get_mut(&gone) {
            link.connection.close(Some(PeerError::GaveWay));
            self.pump_link(gone);
        }
    }

    /// The Noise handshake is over: it is known who the peer is.
    pub(super) fn connected(&mut self, id: ConnectionId, remote_public_key: [u8; 32]) {
        let now = self.now;
        let refused = self.refused_for(&remote_public_key);
        let Some(link) = self.links.get_mut(&id) else { return };
        link.remote_public_key = Some(remote_public_key);
        link.progress(self.awake);
        match &link.peers {
            _ if refused.is_some() => {
                let seconds = refused.unwrap_or_default();
                link.connection.close(Some(PeerError::Distrusted { seconds }));
            }
            Peers::Listed(peers) if peers.contains(&remote_public_key) => {
                link.connection.admit(now);
            }
            Peers::Listed(_) => {
                let key = to_hex(&remote_public_key);
                link.connection.close(Some(PeerError::NotAllowed { key }));
            }
            Peers::Any | Peers::Ask => {}
        }
        self.event(Event::Connected { connection: id, remote_public_key });
    }
}

impl Link {
    /// Sets who is let in. To be called before anything is said.
    pub(super) fn admit_only(&mut self, peers: Peers) {
        if peers != Peers::Any {
            self.connection.hold();
        }
        self.peers = peers;
    }
}
