//! A connection behind a handshake that nobody paid for.

use super::Connection;
use crate::Now;
use crate::wire::cipher::Encryption;
use crate::wire::noise::Finished;

impl Connection {
    /// Goes on as after a Noise handshake that ended so, in clear. To be called before any bytes came or
    /// went.
    pub fn begin_behind(&mut self, now: Now, finished: Finished) {
        self.advance(now);
        self.wire.begin_behind(finished, Encryption::Clear);
        if let Err(error) = self.read() {
            self.end(Some(error));
        }
    }
}
