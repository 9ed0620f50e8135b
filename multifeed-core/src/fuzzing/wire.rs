//! Connections between two hosts, and what happens to their bytes on the way.

use multifeed_proto::fuzzing::script::{finished, finished_there};
use multifeed_proto::{Now, Role};

use super::host::Host;
use crate::{ConnectOptions, ConnectionId};

/// A connection between two hosts, behind its Noise handshake.
pub(super) struct Wire {
    /// Host and connection.
    pub(super) ends: [(usize, ConnectionId); 2],
    flow: [Direction; 2],
    pub(super) cut: bool,
    /// Somebody on the path changed something.
    pub(super) tampered: bool,
}

#[derive(Default)]
struct Direction {
    bytes: Vec<u8>,
    ended: bool,
    eof_told: bool,
}

/// Joins two hosts, if both are open.
pub(super) fn connect(
    hosts: &mut [Host],
    ends: [usize; 2],
    now: Now,
    options: [ConnectOptions; 2],
) -> Option<Wire> {
    let roles = [Role::Initiator, Role::Responder];
    let mut ids = Vec::new();
    for ((at, role), options) in ends.into_iter().zip(roles).zip(options) {
        ids.push(hosts[at].node.connect_with(now, role, options));
    }
    let &[Some(first), Some(second)] = &ids[..] else {
        for (at, id) in ends.into_iter().zip(ids) {
            if let Some(id) = id {
                hosts[at].node.abort(now, id);
            }
        }
        return None;
    };
    hosts[ends[0]].node.begin_behind(now, first, finished());
    hosts[ends[1]].node.begin_behind(now, second, finished_there());
    let ends = [(ends[0], first), (ends[1], second)];
    Some(Wire { ends, flow: Default::default(), cut: false, tampered: false })
}

impl Wire {
    /// Moves up to `chunk` bytes in each direction; whether anything moved.
    pub(super) fn step(&mut self, hosts: &mut [Host], now: Now, chunk: usize) -> bool {
        if self.cut {
            return false;
        }
        let mut busy = false;
        for (from, (host, id)) in self.ends.into_iter().enumerate() {
            let node = &mut hosts[host].node;
            let bytes = node.transmit(id);
            let len = bytes.len();
            if len > 0 {
                self.flow[from].bytes.extend_from_slice(bytes);
                node.transmitted(now, id, len);
                busy = true;
            }
            if node.is_shut_down(id) || node.is_closed(id) {
                busy |= !std::mem::replace(&mut self.flow[from].ended, true);
            }
        }
        for (to, (host, id)) in self.ends.into_iter().enumerate() {
            let node = &mut hosts[host].node;
            let flow = &mut self.flow[1 - to];
            if node.is_closed(id) {
                flow.bytes.clear();
                continue;
            }
            if !node.wants_read(id) {
                continue;
            }
            let len = flow.bytes.len().min(chunk);
            if len > 0 {
                node.handle_bytes(now, id, &flow.bytes[..len]);
                flow.bytes.drain(..len);
                busy = true;
            } else if flow.ended && !std::mem::replace(&mut flow.eof_told, true) {
                node.handle_eof(now, id);
                busy = true;
            }
        }
        busy
    }

    /// Changes what is on the way: a byte, a part that is lost, or one that comes twice.
    pub(super) fn tamper(&mut self, direction: usize, what: u8, at: u16, more: &[u8]) {
        let bytes = &mut self.flow[direction % 2].bytes;
        if bytes.is_empty() {
            return;
        }
        self.tampered = true;
        let at = usize::from(at) % bytes.len();
        match what % 4 {
            0 => bytes[at] ^= what | 4,
            1 => drop(bytes.drain(at..(at + more.len()).min(bytes.len()))),
            2 => {
                let again = bytes[at..].to_vec();
                bytes.extend(again);
            }
            _ => drop(bytes.splice(at..at, more.iter().copied())),
        }
    }

    /// The stream breaks: what is on the way is lost.
    pub(super) fn cut(&mut self, hosts: &mut [Host], now: Now) {
        self.cut = true;
        for (host, id) in self.ends {
            hosts[host].node.handle_cut(now, id);
        }
    }
}
