//! Hosts whose nodes mean well, and whose bytes are damaged on their way out: as the messages are not
//! authenticated, each flipped bit is one in a message, and so a peer that says what it likes.

use super::world::{Check, MILLI, SECOND, World};

impl World {
    pub fn is_hostile(&self, host: usize) -> bool {
        host >= self.setup.nodes - self.setup.hostile
    }

    /// Whether one of the two ends of a wire is a hostile host.
    pub fn is_hostile_wire(&self, wire: usize) -> bool {
        self.wires[wire].ends.iter().any(|end| self.is_hostile(end.host))
    }

    /// Flips some bits of what a hostile host sends behind the handshake of Noise, in some of its writes.
    pub fn spoil(&mut self, wire: usize, end: usize, bytes: &mut [u8]) {
        let host = self.wires[wire].ends[end].host;
        let behind = self.wires[wire].flow[end].sent > HANDSHAKE;
        if !self.is_hostile(host) || !behind || !self.rng.chance(PERCENT) {
            return;
        }
        for _ in 0..1 + self.rng.index(3) {
            let at = self.rng.index(bytes.len());
            bytes[at] ^= 1 << self.rng.index(8);
        }
    }

    /// Takes the hostile hosts out for good, so that the others can come to rest.
    pub fn dismiss_hostile(&mut self) -> Check {
        for host in (0..self.hosts.len()).filter(|host| self.is_hostile(*host)).collect::<Vec<_>>()
        {
            if self.hosts[host].running.take().is_some() {
                self.gone(host);
            }
        }
        self.dismissed = true;
        // Those whose stream fell silent take their time to notice.
        if self.setup.hostile > 0 { self.run_to(self.now + 180 * SECOND + MILLI) } else { Ok(()) }
    }
}

/// Bytes of the handshakes.
const HANDSHAKE: u64 = 1000;
/// Writes in which bits are flipped, in a hundred.
const PERCENT: u64 = 3;
