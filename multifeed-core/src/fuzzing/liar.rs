//! A peer of one node that knows the root key, or does not, and says whatever the input has it say.

use multifeed_proto::fuzzing::script::{Script, finished};
use multifeed_proto::fuzzing::{Input, NoiseRemote};
use multifeed_proto::{Now, Role};

use super::host::Host;
use crate::{ConnectOptions, ConnectionId};

/// A connection to a liar.
pub(super) struct Liar {
    pub(super) host: usize,
    pub(super) id: ConnectionId,
    script: Script,
    noise: Option<NoiseRemote>,
    said: Vec<u8>,
    /// It reads what it is sent.
    reads: bool,
}

impl Liar {
    /// Connects one to a host, if that is open.
    pub(super) fn connect(
        hosts: &mut [Host],
        host: usize,
        now: Now,
        options: ConnectOptions,
        script: Script,
        mode: u8,
    ) -> Option<Self> {
        let id = hosts[host].node.connect_with(now, Role::Responder, options)?;
        let noise = match mode % 8 {
            0 => Some(NoiseRemote::new()),
            1 => None,
            _ => {
                hosts[host].node.begin_behind(now, id, finished());
                None
            }
        };
        Some(Self { host, id, script, noise, said: Vec::new(), reads: mode & 128 == 0 })
    }

    /// Says something, and may hand over only a part of it.
    pub(super) fn speak(&mut self, hosts: &mut [Host], now: Now, input: &mut Input<'_>) {
        let node = &mut hosts[self.host].node;
        if node.is_closed(self.id) {
            return;
        }
        if let Some(noise) = &mut self.noise {
            // Mostly as the rules want it.
            let payload = [&[10, 24][..], &[1; 24][..]].concat();
            let other = input.flag().then(|| input.bytes());
            match noise.say(other.unwrap_or(&payload)) {
                Some(said) => self.said.extend(said),
                None => self.noise = None,
            }
        } else {
            self.script.say(input, &mut self.said);
        }
        let part = usize::from(input.byte());
        let len = if part < 200 { self.said.len() } else { self.said.len().min(part - 200) };
        if node.wants_read(self.id) {
            node.handle_bytes(now, self.id, &self.said[..len]);
            self.said.drain(..len);
        }
    }

    /// Reads what it was sent; whether there was anything.
    pub(super) fn read(&mut self, hosts: &mut [Host], now: Now) -> bool {
        let node = &mut hosts[self.host].node;
        if !self.reads && !node.is_closed(self.id) {
            return false;
        }
        let bytes = node.transmit(self.id);
        let len = bytes.len();
        if let Some(noise) = self.noise.as_mut().filter(|_| len > 0) {
            if !noise.hear(bytes) {
                self.noise = None;
            }
        }
        node.transmitted(now, self.id, len);
        len > 0
    }

    /// Ends its side of the stream, or breaks it.
    pub(super) fn leave(self, hosts: &mut [Host], now: Now, cut: bool) {
        let node = &mut hosts[self.host].node;
        if cut {
            node.handle_cut(now, self.id);
        } else {
            node.handle_eof(now, self.id);
        }
    }
}
