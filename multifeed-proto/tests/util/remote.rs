//! The other end of a connection, played by hand down to the byte.

use multifeed_proto::messages::{Message, Open, Options};
use multifeed_proto::wire::{SplitKeys, Wire, WireEvent, capability};
use multifeed_proto::{Config, Connection, DiscoveryKey, Entropy, Output, Role, RootKey};

use super::{at, root, sessions::NAMES};

/// A peer that says what a test makes it say.
pub struct Remote {
    pub wire: Wire,
    keys: SplitKeys,
}

impl Remote {
    /// A connection of this role and its remote, behind the Noise handshake.
    pub fn connect(role: Role, config: &Config) -> (Connection, Self) {
        let entropy = |seed| Entropy::from_seed([seed; 32]);
        let other = match role {
            Role::Initiator => Role::Responder,
            Role::Responder => Role::Initiator,
        };
        let mut connection = Connection::new(role, config.clone(), entropy(1), at(0));
        let mut wire = Wire::new(other, entropy(2), config);
        for _ in 0..2 {
            hand(&mut connection, &mut wire);
            let bytes = wire.transmit().to_vec();
            wire.transmitted(bytes.len());
            connection.handle_bytes(at(0), &bytes);
        }
        hand(&mut connection, &mut wire);
        let event = wire.poll_event().unwrap();
        let Some(WireEvent::Connected { keys, .. }) = event else { panic!("{event:?}") };
        assert!(matches!(connection.poll_output(), Some(Output::Connected { .. })));
        (connection, Self { wire, keys })
    }

    /// The same with the root joined by the connection; the remote has said nothing yet.
    pub fn joined(role: Role, config: &Config) -> (Connection, Self) {
        let (mut connection, remote) = Self::connect(role, config);
        connection.join(at(0), root(), None).unwrap();
        (connection, remote)
    }

    pub fn say(&mut self, channel: u32, message: &Message) {
        self.wire.send(channel, message).unwrap();
    }

    /// An Open with the proof that the key is known.
    pub fn open(&self, discovery_key: DiscoveryKey, key: &[u8; 32]) -> Message {
        Message::Open(Open { discovery_key, capability: Some(capability(&self.keys, key)) })
    }

    /// Opens the root on channel 1 and says hello there.
    pub fn greet(&mut self, root: &RootKey, handshake: &str) {
        let open = self.open(root.discovery_key(), root.expose());
        self.say(1, &open);
        let extensions = NAMES.iter().map(ToString::to_string).collect();
        self.say(1, &Message::Options(Options { extensions, ack: None }));
        let payload = handshake.as_bytes().to_vec().into();
        self.say(1, &Message::Extension { id: 0, payload });
    }

    /// What was said and not delivered.
    pub fn bytes(&mut self) -> Vec<u8> {
        let bytes = self.wire.transmit().to_vec();
        self.wire.transmitted(bytes.len());
        bytes
    }

    /// What the connection has said, taken in chunks.
    pub fn hear(&mut self, connection: &mut Connection, chunk: usize) -> Vec<(u32, Message)> {
        let mut heard = Vec::new();
        while !connection.transmit().is_empty() {
            let waiting = connection.transmit();
            let bytes = waiting[..chunk.min(waiting.len())].to_vec();
            connection.transmitted(at(0), bytes.len());
            self.wire.handle_bytes(&bytes).unwrap();
            while let Some(event) = self.wire.poll_event().unwrap() {
                let WireEvent::Message { channel, message } = event else { panic!("{event:?}") };
                heard.push((channel, message));
            }
        }
        heard
    }
}

fn hand(connection: &mut Connection, wire: &mut Wire) {
    let bytes = connection.transmit().to_vec();
    connection.transmitted(at(0), bytes.len());
    wire.handle_bytes(&bytes).unwrap();
}
