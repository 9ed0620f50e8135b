//! What a remote says, as the fuzzer wants it: messages that fit what was said before oftener than chance
//! would have it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;

use super::Input;
use crate::messages::{Data, Have, Message, Node, Open, Options, Request, Span, Status, codec};
use crate::session::Mux;
use crate::wire::noise::Finished;
use crate::wire::{SplitKeys, frame, remote_capability};
use crate::{DiscoveryKey, FeedKey, RootKey, rle};

/// A remote that knows these keys. It opens the channel of the first root as number 1, and so on.
#[derive(Clone, Debug)]
pub struct Script {
    keys: SplitKeys,
    /// Root keys that it knows.
    pub roots: Vec<[u8; 32]>,
    /// Feeds that it knows of.
    pub feeds: Vec<FeedKey>,
    /// Answers that are true, of the first feed.
    pub truth: Vec<Data>,
}

/// What a handshake ends with on the side of a connection that a [`Script`] speaks to.
#[must_use]
pub fn finished() -> Finished {
    crate::wire::fuzzing::finished()
}

/// What it ends with on the other side.
#[must_use]
pub fn finished_there() -> Finished {
    let here = finished();
    Finished {
        keys: SplitKeys { tx: here.keys.rx, rx: here.keys.tx },
        local_nonce: here.remote_nonce,
        remote_nonce: here.local_nonce,
        ..here
    }
}

impl Script {
    /// A remote with these keys.
    #[must_use]
    pub fn new(roots: Vec<[u8; 32]>, feeds: Vec<FeedKey>) -> Self {
        Self { keys: finished().keys.clone(), roots, feeds, truth: Vec::new() }
    }

    /// Several messages that belong together, or one of any kind, as frames.
    pub fn say(&self, input: &mut Input<'_>, out: &mut Vec<u8>) {
        match input.byte() {
            0..=19 => self.greet(input, out),
            20..=39 => self.open_feed(input, out),
            40..=47 => out.extend_from_slice(input.bytes()),
            48 => frame::write_keepalive(out),
            // A frame of any size, of which nothing but the head need come.
            49..=51 => {
                let len = usize::from(input.short()) * 64;
                frame::write_header(self.channel(input), input.byte() & 15, len, out);
                out.extend_from_slice(input.bytes());
            }
            _ => {
                let (channel, message) = (self.channel(input), self.message(input));
                write(channel, &message, out);
            }
        }
    }

    /// Opens a root, says hello there, and offers feeds.
    fn greet(&self, input: &mut Input<'_>, out: &mut Vec<u8>) {
        let place = input.below(self.roots.len().max(1));
        let Some(root) = self.roots.get(place) else { return };
        let number = 1 + place as u32;
        let discovery_key = RootKey::new(*root).discovery_key();
        write(number, &self.open(discovery_key, root), out);
        let mode = input.byte();
        // On the stream as multifeed 6, or on the channel of the root.
        let channel = if mode & 1 == 1 { 0 } else { number };
        let extensions = Mux::NAMES.iter().map(ToString::to_string).collect();
        write(channel, &Message::Options(Options { extensions, ack: None }), out);
        let extension = |id, json: String| Message::Extension { id, payload: json.into() };
        write(channel, &extension(0, HELLO.to_string()), out);
        if mode & 2 == 0 {
            let count = input.below(self.feeds.len() + 1);
            let keys = list(&self.feeds[..count]);
            write(channel, &extension(1, format!("{{\"keys\":{keys}}}")), out);
        }
        if mode & 4 == 0 {
            write(channel, &extension(3, list(&self.feeds)), out);
        }
    }

    /// Opens the channel of a feed and says what it has.
    fn open_feed(&self, input: &mut Input<'_>, out: &mut Vec<u8>) {
        let place = input.below(self.feeds.len().max(1));
        let Some(key) = self.feeds.get(place) else { return };
        let channel = (1 + self.roots.len() + place) as u32;
        write(channel, &self.open(key.discovery_key(), &key.0), out);
        let mode = input.byte();
        if mode & 1 == 0 {
            write(
                channel,
                &Message::Options(Options { extensions: Vec::new(), ack: Some(true) }),
                out,
            );
        }
        if mode & 2 == 0 {
            write(channel, &Message::Want(Span { start: 0, length: 1 << 20 }), out);
        }
        if mode & 4 == 0 {
            let length = u64::from(mode >> 3);
            let have = Have { start: 0, length, bitfield: None, ack: false };
            write(channel, &Message::Have(have), out);
        }
    }

    fn channel(&self, input: &mut Input<'_>) -> u32 {
        match input.byte() {
            254 => u32::from(input.short()),
            255 => frame::CLOSED_CHANNEL,
            byte => u32::from(byte) % (2 + self.roots.len() + self.feeds.len()) as u32,
        }
    }

    fn open(&self, discovery_key: DiscoveryKey, key: &[u8; 32]) -> Message {
        let capability = Some(remote_capability(&self.keys, key));
        Message::Open(Open { discovery_key, capability })
    }

    fn key(&self, input: &mut Input<'_>) -> [u8; 32] {
        let all = self.roots.len() + self.feeds.len();
        let place = usize::from(input.byte()) % (all + 2);
        let feed = || self.feeds.get(place.wrapping_sub(self.roots.len())).map(|key| key.0);
        self.roots.get(place).copied().or_else(feed).unwrap_or([input.byte(); 32])
    }

    fn message(&self, input: &mut Input<'_>) -> Message {
        match input.byte() % 16 {
            0 => {
                let key = self.key(input);
                let discovery_key = FeedKey(key).discovery_key();
                match input.byte() {
                    0 => Message::Open(Open { discovery_key, capability: None }),
                    1 => Message::Open(Open { discovery_key, capability: Some([0; 32]) }),
                    _ => self.open(discovery_key, &key),
                }
            }
            1 => Message::Options(options(input)),
            2 => Message::Status(Status { uploading: input.flag(), downloading: input.flag() }),
            3 | 4 => Message::Have(have(input)),
            5 => Message::Unhave(span(input)),
            6 => Message::Want(span(input)),
            7 => Message::Unwant(span(input)),
            8 | 9 => Message::Request(Request {
                index: input.integer(),
                bytes: if input.flag() { 0 } else { input.integer() },
                hash: input.below(4) == 0,
                nodes: input.integer(),
            }),
            10 => {
                let (index, bytes) = (input.integer(), input.integer());
                Message::Cancel { index, bytes, hash: input.flag() }
            }
            11 | 12 => Message::Data(self.data(input)),
            13 => {
                let named = input.flag();
                let key = named.then(|| FeedKey(self.key(input)).discovery_key());
                Message::Close { discovery_key: key }
            }
            _ => {
                let id = u64::from(input.byte() % 6);
                Message::Extension { id, payload: self.payload(id, input).into() }
            }
        }
    }

    /// A true answer with something changed, or one of any kind.
    fn data(&self, input: &mut Input<'_>) -> Data {
        let mode = input.byte();
        if !self.truth.is_empty() && mode < 200 {
            let mut data = self.truth[input.below(self.truth.len())].clone();
            match mode % 12 {
                0 => data.index = input.integer(),
                1 => data.value = Some(Bytes::copy_from_slice(input.bytes())),
                2 => data.value = None,
                3 => data.signature = None,
                4 => data.nodes.truncate(input.below(8)),
                5 => {
                    let place = input.below(data.nodes.len().max(1));
                    if let Some(node) = data.nodes.get_mut(place) {
                        node.size = input.integer();
                    }
                }
                6 => {
                    let other = self.truth[input.below(self.truth.len())].clone();
                    data.nodes.extend(other.nodes);
                    data.nodes.truncate(codec::MAX_NODES);
                }
                _ => {}
            }
            return data;
        }
        let node = |input: &mut Input<'_>| Node {
            index: input.integer(),
            hash: [input.byte(); 32],
            size: input.integer(),
        };
        Data {
            index: input.integer(),
            value: input.flag().then(|| Bytes::copy_from_slice(input.bytes())),
            nodes: (0..mode % 5).map(|_| node(input)).collect(),
            signature: input.flag().then(|| [input.byte(); 64]),
        }
    }

    fn payload(&self, id: u64, input: &mut Input<'_>) -> Bytes {
        let choice = input.byte();
        let keys = || {
            let bits = usize::from(choice);
            let chosen = self.feeds.iter().enumerate().filter(|(i, _)| bits >> (i % 8) & 1 == 1);
            list(&chosen.map(|(_, key)| *key).collect::<Vec<_>>())
        };
        match (id, choice) {
            (_, 250..) => Bytes::copy_from_slice(input.bytes()),
            (0, version @ 0..8) => {
                format!(r#"{{"client":"MULTIFEED","version":"{version}"}}"#).into()
            }
            (0, 8..12) => r#"{"client":"OTHER","version":"4.0.0"}"#.into(),
            (0, _) => HELLO.into(),
            (1, 200..) => {
                // Keys of feeds that nobody has.
                let count = input.byte() % 16;
                let new = |i: u8| FeedKey([choice.wrapping_add(i); 32]);
                format!("{{\"keys\":{}}}", list(&(0..count).map(new).collect::<Vec<_>>())).into()
            }
            (1, _) => format!("{{\"keys\":{}}}", keys()).into(),
            (_, _) => keys().into(),
        }
    }
}

/// Appends a message as a frame.
pub fn write(channel: u32, message: &Message, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    codec::encode(message, &mut body);
    frame::write_header(channel, codec::kind(message), body.len(), out);
    out.extend_from_slice(&body);
}

/// A range of blocks.
pub fn span(input: &mut Input<'_>) -> Span {
    Span { start: input.integer(), length: input.integer() }
}

fn have(input: &mut Input<'_>) -> Have {
    let Span { start, length } = span(input);
    let bitfield = match input.byte() {
        0..=127 => None,
        128..=191 => Some(rle::encode(input.bytes()).into()),
        192..=255 => Some(Bytes::copy_from_slice(input.bytes())),
    };
    Have { start, length, bitfield, ack: input.flag() }
}

fn options(input: &mut Input<'_>) -> Options {
    let mode = input.byte();
    let known = Mux::NAMES.into_iter().chain(["a", "b"]).filter(|_| mode & 128 == 0);
    let mut extensions: Vec<String> = known.map(ToString::to_string).collect();
    extensions.truncate(usize::from(mode & 7));
    let more = |i: u8| format!("{i}{}", "x".repeat(usize::from(mode & 127)));
    extensions.extend((0..(mode >> 3 & 15)).map(more));
    Options { extensions, ack: [None, Some(true), Some(false)][input.below(3)] }
}

fn list(keys: &[FeedKey]) -> String {
    let quoted: Vec<_> = keys.iter().map(|key| format!("\"{}\"", key.to_hex())).collect();
    format!("[{}]", quoted.join(","))
}

const HELLO: &str = r#"{"client":"MULTIFEED","version":"4.0.0"}"#;
