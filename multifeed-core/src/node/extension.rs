//! Messages of the application's own, beside the protocol: on a feed, or on the whole stream.
//!
//! They are neither proven nor stored, and a peer that does not know the name drops them. Names that
//! nobody registered here are left alone.
//!
//! Source: `hypercore@9.12.0/index.js`, `registerExtension`; `hypercore-protocol@8.0.7`, the same.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::{ChannelId, Contents, Now, UsageError};

use super::{ConnectionId, Event, FeedId, Node, NodeError};

impl Node {
    /// Registers the name of an extension, 1 to 256 bytes, on a feed: for connections there are and to
    /// come. Messages of peers come as [`Event::Extension`]. A name that is registered stays; registering
    /// it again changes nothing.
    ///
    /// # Errors
    ///
    /// [`NodeError::UnknownFeed`], or [`NodeError::ExtensionName`] if the name has another length or there
    /// are 256 of them.
    pub fn register_extension(
        &mut self,
        now: Now,
        feed: FeedId,
        name: &str,
    ) -> Result<(), NodeError> {
        self.advance(now);
        let known = self.feeds.get_mut(feed.0 as usize).filter(|entry| entry.list_of.is_none());
        let entry = known.ok_or(NodeError::UnknownFeed)?;
        if !add_name(&mut entry.extensions, name)? {
            return Ok(());
        }
        for (connection, channel) in entry.channels.clone() {
            if let Some(link) = self.links.get_mut(&connection) {
                // Only a connection that is over refuses it.
                let _ = link.connection.register_feed_extension(channel, name);
                self.touched.insert(connection);
            }
        }
        Ok(())
    }

    /// The same on the streams themselves. Those of others, as the multifeed's own in the dialect of
    /// multifeed 6, stay as they are.
    ///
    /// # Errors
    ///
    /// [`NodeError::ExtensionName`].
    pub fn register_stream_extension(&mut self, now: Now, name: &str) -> Result<(), NodeError> {
        self.advance(now);
        if add_name(&mut self.extensions, name)? {
            for link in self.links.values_mut() {
                link.connection.register_extension(name);
            }
        }
        Ok(())
    }

    /// Sends a message of an extension to the peer of one connection, or to all that replicate the feed;
    /// gives the number of connections that it went out on. It is left out where the feed is not open on both
    /// sides, or where too much waits for a peer that does not read.
    ///
    /// # Errors
    ///
    /// [`NodeError::UnknownFeed`]; [`NodeError::UnknownExtension`] if the name is not registered;
    /// [`NodeError::BlockTooLarge`] if the message does not fit a frame.
    pub fn send_extension(
        &mut self,
        now: Now,
        feed: FeedId,
        to: Option<ConnectionId>,
        name: &str,
        payload: &Bytes,
    ) -> Result<usize, NodeError> {
        self.advance(now);
        let entry = self.entry(feed).ok_or(NodeError::UnknownFeed)?;
        if !entry.extensions.iter().any(|known| known == name) {
            return Err(NodeError::UnknownExtension);
        }
        let at = entry.channels.clone();
        let mut sent = 0;
        for (connection, channel) in at {
            if to.is_none_or(|to| to == connection) {
                sent += usize::from(self.extend(connection, Some(channel), name, payload)?);
            }
        }
        Ok(sent)
    }

    /// Sends a message of an extension on the stream of one connection, or of all; as
    /// [`Node::send_extension`]. Before the Noise handshake is over it waits for it.
    ///
    /// # Errors
    ///
    /// As [`Node::send_extension`].
    pub fn send_stream_extension(
        &mut self,
        now: Now,
        to: Option<ConnectionId>,
        name: &str,
        payload: &Bytes,
    ) -> Result<usize, NodeError> {
        self.advance(now);
        if !self.extensions.iter().any(|known| known == name) {
            return Err(NodeError::UnknownExtension);
        }
        let ids: Vec<ConnectionId> = self.links.keys().copied().collect();
        let mut sent = 0;
        for id in ids.into_iter().filter(|id| to.is_none_or(|to| to == *id)) {
            sent += usize::from(self.extend(id, None, name, payload)?);
        }
        Ok(sent)
    }

    fn extend(
        &mut self,
        id: ConnectionId,
        channel: Option<ChannelId>,
        name: &str,
        payload: &Bytes,
    ) -> Result<bool, NodeError> {
        let Some(link) = self.links.get_mut(&id) else { return Ok(false) };
        let max = self.config.connection.max_outbox / 2;
        if link.connection.buffered().saturating_add(payload.len()) > max {
            return Ok(false);
        }
        match link.connection.extension(channel, name, payload.clone()) {
            Ok(()) => {
                self.touched.insert(id);
                Ok(true)
            }
            Err(UsageError::TooLarge { len, max }) => Err(NodeError::BlockTooLarge { len, max }),
            Err(_) => Ok(false),
        }
    }

    pub(super) fn extension_came(
        &mut self,
        id: ConnectionId,
        channel: Option<ChannelId>,
        name: String,
        payload: Contents,
    ) {
        let feed = match channel {
            Some(channel) => match self.feed_of(id, channel) {
                Some(feed) => Some(feed),
                None => return,
            },
            None => None,
        };
        self.event(Event::Extension { connection: id, feed, name, payload });
    }
}

/// Adds a name; whether it is new.
fn add_name(names: &mut Vec<String>, name: &str) -> Result<bool, NodeError> {
    if names.iter().any(|known| known == name) {
        return Ok(false);
    }
    if name.is_empty() || name.len() > MAX_NAME || names.len() >= MAX_NAMES {
        return Err(NodeError::ExtensionName { name: name.chars().take(32).collect() });
    }
    names.push(name.to_owned());
    Ok(true)
}

const MAX_NAME: usize = 256;
const MAX_NAMES: usize = 256;
