//! Random messages and verbs: nothing panics, and what is counted stays true.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::channels::Kind;
use super::*;
use crate::messages::{Data, Have, Open, Options, Request, Span, Status};
use crate::{RootKey, UsageError, wire};

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % n
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 0
    }

    fn number(&mut self) -> u64 {
        let wide = self.below(1 << 31) << 22 | self.below(1 << 22);
        [self.below(4), self.below(40_000), self.below(5) * 8192, wide][self.below(4) as usize]
    }

    fn span(&mut self) -> Span {
        Span { start: self.number(), length: self.number() }
    }

    fn key(&mut self) -> FeedKey {
        FeedKey([self.below(8) as u8; 32])
    }

    fn channel(&mut self) -> u32 {
        self.below(12) as u32
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.below(20)).map(|_| self.below(256) as u8).collect()
    }

    fn json(&mut self) -> Vec<u8> {
        let keys: Vec<_> =
            (0..self.below(4)).map(|_| format!("{:?}", self.key().to_hex())).collect();
        let list = format!("[{}]", keys.join(","));
        match self.below(12) {
            0..4 => format!("{{\"keys\":{list}}}").into_bytes(),
            4..8 => list.into_bytes(),
            8..11 => br#"{"client":"MULTIFEED","version":"4.0.0"}"#.to_vec(),
            _ => self.bytes(),
        }
    }

    /// Mostly what passes, so that runs get long.
    fn message(&mut self, keys: &SplitKeys) -> Message {
        match self.below(12) {
            0 | 1 => {
                let key = self.key();
                let good = Some(wire::remote_capability(keys, &key.0));
                let capability = if self.below(200) == 0 { None } else { good };
                Message::Open(Open { discovery_key: key.discovery_key(), capability })
            }
            2 => {
                let names = ["a", "b", "MULTIFEED_HANDSHAKE"];
                let names = Mux::NAMES.into_iter().chain(names);
                let extensions = names.filter(|_| self.below(8) > 0).map(ToString::to_string);
                let extensions = extensions.collect();
                Message::Options(Options { extensions, ack: Some(self.flag()) })
            }
            3 => Message::Status(Status { uploading: self.flag(), downloading: self.flag() }),
            4 => {
                let Span { start, length } = self.span();
                let repeat = [(self.below(200) << 2) as u8 & 0x7c | 3, 2, self.below(256) as u8];
                let bitfield = self.flag().then(|| repeat.to_vec().into());
                Message::Have(Have { start, length, bitfield, ack: self.flag() })
            }
            5 => Message::Unhave(self.span()),
            6 => Message::Want(self.span()),
            7 => {
                let (index, bytes) = (self.number(), self.below(2));
                Message::Request(Request { index, bytes, hash: self.flag(), nodes: self.number() })
            }
            8 => {
                let value = self.flag().then(|| self.bytes().into());
                Message::Data(Data {
                    index: self.below(9),
                    value,
                    nodes: Vec::new(),
                    signature: None,
                })
            }
            9 => {
                let discovery_key = self.flag().then(|| self.key().discovery_key());
                Message::Close { discovery_key }
            }
            _ => Message::Extension { id: self.below(5), payload: self.json().into() },
        }
    }

    fn verb(&mut self, session: &mut Session) -> Result<(), UsageError> {
        let channel = ChannelId(self.channel());
        let root = RootId(self.below(3) as u32);
        let keys = [self.key(), self.key()];
        match self.below(14) {
            0 => session.join(Now::default(), RootKey::new(self.key().0), None).map(|_| ()),
            1 | 2 => {
                let options = FeedOptions { ack: self.flag(), ..FeedOptions::default() };
                session.open_feed(&keys[0], options).map(|_| ())
            }
            3 => session.close_feed(channel),
            4 => session.offer(root, &keys),
            5 => session.request_feeds(root, &keys),
            6 => session.want(channel, self.span()),
            7 => session.have(channel, self.span()),
            8 => session.ack(channel, self.number()),
            9 => {
                let (index, bytes) = (self.below(9), self.below(2));
                session.request(channel, Request { index, bytes, ..Request::default() })
            }
            10 => session.forget_request(channel, self.below(9), self.below(2) == 0),
            11 => session.unhave(channel, self.span()),
            12 => {
                let status = Status { uploading: self.flag(), downloading: self.flag() };
                session.set_status(channel, status)
            }
            _ => {
                session.register_extension(["a", "c"][self.below(2) as usize]);
                session.extension(None, "a", self.bytes().into())
            }
        }
    }
}

fn check(session: &Session, place: &str) {
    let bytes = session.channels.iter().map(|(_, channel)| match &channel.kind {
        Kind::Feed(feed) => feed.peer.remote().bytes(),
        Kind::Root(_) => 0,
    });
    assert_eq!(session.announced, bytes.sum::<usize>(), "{place}");
    assert!(session.announced <= session.config.max_announced, "{place}");
    for (id, channel) in session.channels.iter() {
        assert_eq!(session.channels.by_key(&channel.discovery_key), Some(id), "{place}");
        if let Some(remote) = channel.remote {
            assert_eq!(session.channels.by_remote(remote), Some(Remote::Channel(id)), "{place}");
        }
        assert!(!session.channels.is_pending(&channel.discovery_key), "{place}");
        if let Kind::Feed(feed) = &channel.kind {
            assert_eq!(feed.peer.is_open(), channel.remote.is_some(), "{place}");
        }
    }
    session.channels.check(place);
}

#[test]
fn random_messages_and_verbs_never_break_what_is_counted() {
    let keys = SplitKeys { tx: [1; 32], rx: [2; 32] };
    let config = Config { max_pending_channels: 3, max_announced: 9000, ..Config::default() };
    let mut steps = 0;
    for seed in 0..2000 {
        let mut random = Random(seed);
        let mut session = Session::new(&config);
        if random.flag() {
            session.handle_connected(Now::default(), keys.clone());
        }
        for step in 0..200 {
            let place = format!("seed {seed} step {step}");
            if random.below(3) == 0 {
                let _ = random.verb(&mut session);
            } else if session.keys.is_none() {
                session.handle_connected(Now::default(), keys.clone());
            } else {
                let (channel, message) = (random.channel(), random.message(&keys));
                if channel == 0 && matches!(message, Message::Open(_)) {
                    continue;
                }
                if let Err(error) = session.handle_message(Now::default(), channel, message) {
                    let again = session.handle_message(
                        Now::default(),
                        1,
                        Message::Close { discovery_key: None },
                    );
                    assert_eq!(again, Err(error), "{place}");
                    assert_eq!(random.verb(&mut session).err(), Some(UsageError::Closed));
                    break;
                }
            }
            check(&session, &place);
            while session.poll_message().is_some() || session.poll_output().is_some() {}
            steps += 1;
        }
    }
    assert!(steps > 50_000, "the runs end too early: {steps} steps");
}
