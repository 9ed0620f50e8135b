//! A connection of a node behind a Noise handshake that nobody paid for.

use multifeed_proto::Now;
use multifeed_proto::wire::noise::Finished;

use super::{ConnectionId, Node};

impl Node {
    /// Goes on with a connection as after a Noise handshake that ended so, in clear. To be called before any
    /// bytes came or went.
    pub fn begin_behind(&mut self, now: Now, connection: ConnectionId, finished: Finished) {
        self.advance(now);
        if let Some(link) = self.links.get_mut(&connection) {
            link.connection.begin_behind(self.now, finished);
            self.pump_link(connection);
            self.announce(connection);
        }
    }
}
