//! The message that is on its way: what its first bytes say of it.

use super::Connection;
use crate::ChannelId;
use crate::session::Session;

/// A message of which the end has not come yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arriving {
    /// The feed channel that it is on; `None`: it is on none.
    pub channel: Option<ChannelId>,
    /// The block that it brings, if it is a `Data` with one and that much of it came. Nothing proves it.
    pub block: Option<u64>,
    /// Bytes of its body that came.
    pub received: usize,
    /// Bytes of its body.
    pub len: usize,
}

impl Connection {
    /// The message that is on its way, from the moment at which its channel and type are here until its end
    /// is; `None` while messages that are complete wait to be read.
    ///
    /// On a slow link a large block is one message for long: this tells one from other bytes.
    #[must_use]
    pub fn arriving(&self) -> Option<Arriving> {
        let partial = self.wire.partial().filter(|_| !self.is_closed())?;
        Some(Arriving {
            channel: self.session.feed_channel(partial.channel),
            block: partial.block,
            received: partial.received,
            len: partial.len,
        })
    }
}

impl Session {
    /// Our number of the feed channel that the remote calls by this number.
    fn feed_channel(&self, remote: u32) -> Option<ChannelId> {
        self.by_remote(remote).filter(|id| self.peer(*id).is_some())
    }
}
