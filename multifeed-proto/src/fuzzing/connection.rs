//! A whole connection behind a Noise handshake that is over, between an owner and a remote that both do
//! what the input says.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::script::{self, Script, finished};
use super::{Input, Reached, peer_error};
use crate::messages::{Data, Request, Span, Status};
use crate::{
    ChannelId, Config, Connection, Dialect, Entropy, FeedKey, FeedOptions, Now, Output, PeerError,
    Role, RootId, RootKey, UsageError, UserData, rle,
};

/// Bytes that our side queues by itself at most, before it waits for them to be written.
const QUEUED: usize = 16 * 1024;

/// One connection, its owner, and a remote.
///
/// The first two bytes choose the dialect, the multifeeds, and how it begins.
pub fn connection(data: &[u8], reached: &mut Reached) {
    let mut input = Input::new(data);
    let mut world = World::new(&mut input);
    while !input.is_empty() && !world.over {
        world.step(&mut input, reached);
        world.drain(reached);
    }
    world.end(reached);
}

struct World {
    connection: Connection,
    script: Script,
    now: Now,
    /// What the remote said and the connection was not given.
    said: Vec<u8>,
    /// Whether the owner answers what it is told, as it should.
    answers: bool,
    closed: u32,
    over: bool,
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let (mode, more) = (input.byte(), input.byte());
        let now = Now(Duration::from_secs(1));
        let dialect = [Dialect::Auto, Dialect::Stream, Dialect::RootChannel][usize::from(mode % 3)];
        let config = small_config(dialect);
        let entropy = Entropy::from_seed([1; 32]);
        let mut connection = Connection::new(Role::Responder, config, entropy, now);
        if more & 1 == 1 {
            connection.hold();
        }
        let roots: Vec<[u8; 32]> = [[7; 32], [8; 32]][..usize::from(mode >> 2 & 3).min(2)].to_vec();
        for (i, root) in roots.iter().enumerate() {
            let user_data = UserData::from_json("[1]").ok().filter(|_| i == 0);
            let _ = connection.join(now, RootKey::new(*root), user_data);
        }
        if more & 6 != 6 {
            connection.begin_behind(now, finished());
        }
        let feeds = (1..7).map(|n| FeedKey([n; 32])).collect();
        let script = Script::new(roots, feeds);
        let answers = more & 8 == 0;
        Self { connection, script, now, said: Vec::new(), answers, closed: 0, over: false }
    }

    fn step(&mut self, input: &mut Input<'_>, reached: &mut Reached) {
        match input.byte() {
            0..=139 => {
                self.script.say(input, &mut self.said);
                let len = self.said.len();
                self.deliver(len);
            }
            140..=159 => self.script.say(input, &mut self.said),
            160..=169 => self.deliver(usize::from(input.byte())),
            170..=219 => {
                let before = self.connection.is_closed();
                let room = self.connection.buffered() < QUEUED;
                if room && self.verb(input).is_err() && before {
                    reached.note("closed");
                }
            }
            220..=229 => {
                let n = self.connection.transmit().len();
                let n = if input.flag() { n } else { n.min(input.below(256)) };
                self.connection.transmitted(self.now, n);
            }
            230..=243 => self.pass(input),
            244 => self.connection.set_reading(self.now, input.flag()),
            245..=247 => self.connection.admit(self.now),
            248 => self.connection.shutdown(),
            249 => {
                self.connection.handle_eof(self.now);
                self.over = true;
            }
            250 => {
                self.connection.handle_cut(self.now);
                self.over = true;
            }
            251 => self.connection.close(None),
            _ => {}
        }
    }

    fn deliver(&mut self, len: usize) {
        let bytes: Vec<u8> = self.said.drain(..len.min(self.said.len())).collect();
        self.connection.handle_bytes(self.now, &bytes);
    }

    /// Lets time pass: to the next timer, or some seconds.
    fn pass(&mut self, input: &mut Input<'_>) {
        let seconds = input.byte();
        let next = self.connection.poll_timeout().filter(|_| seconds >= 128);
        self.now = next.unwrap_or(self.now.after(Duration::from_millis(u64::from(seconds) * 100)));
        if self.connection.poll_timeout().is_some_and(|at| at <= self.now) {
            self.connection.handle_timeout(self.now);
        }
        let next = self.connection.poll_timeout();
        assert!(next.is_none_or(|at| at > self.now), "a timer that fired is still due");
    }

    /// Follows the drain rule.
    fn drain(&mut self, reached: &mut Reached) {
        while let Some(output) = self.connection.poll_output() {
            assert!(self.closed == 0, "{output:?} after the end");
            if let Output::Closed { error } = &output {
                self.closed += 1;
                assert!(self.connection.is_closed());
                reached.note(error.as_ref().map_or("ended", peer_error));
                self.check_closed(error.as_ref());
            } else {
                reached.note(name(&output));
            }
            if let Output::RootFailed { error, .. } = &output {
                reached.note(peer_error(error));
            }
            if self.answers {
                self.answer(&output);
            }
        }
        assert_eq!(self.connection.is_closed(), self.closed > 0, "closed, and nothing told of it");
        let timeout = self.connection.poll_timeout();
        assert!(!self.connection.is_closed() || timeout.is_none(), "a timer after the end");
    }

    /// What a well-behaved owner does about an output. It need not be possible any more.
    fn answer(&mut self, output: &Output) {
        let connection = &mut self.connection;
        let _ = match output {
            Output::Ready { root, .. } => connection.offer(*root, &self.script.feeds[..3]),
            Output::Offered { root, keys } => connection.request_feeds(*root, keys),
            Output::Replicate { keys, .. } => keys
                .iter()
                .try_for_each(|key| connection.open_feed(key, FeedOptions::default()).map(|_| ())),
            Output::FeedOpened { channel } => {
                connection.want(*channel, Span { start: 0, length: 1 << 20 })
            }
            Output::Want { channel, span } => {
                let bitfield = rle::encode(&[0xff, 0x0f]).into();
                connection.have_bitfield(*channel, *span, bitfield)
            }
            Output::Have { channel, span } if connection.buffered() < QUEUED => {
                let request = Request { index: span.start, ..Request::default() };
                connection.request(*channel, request)
            }
            Output::Request { channel, request } if connection.buffered() < QUEUED => {
                connection.send_data(*channel, block(request.index))
            }
            Output::Data { channel, data } => connection.ack(*channel, data.index),
            _ => Ok(()),
        };
    }

    fn verb(&mut self, input: &mut Input<'_>) -> Result<(), UsageError> {
        let connection = &mut self.connection;
        let channel = ChannelId(u32::from(input.byte() % 12));
        let root = RootId(u32::from(input.byte() % 3));
        let key = FeedKey([input.byte() % 9; 32]);
        match input.byte() % 18 {
            0 => connection.join(self.now, RootKey::new(key.0), None).map(|_| ()),
            1 | 2 => {
                let names = if input.flag() { Vec::new() } else { ["a".to_string()].to_vec() };
                let options =
                    FeedOptions { ack: input.flag(), extensions: names, ..FeedOptions::default() };
                connection.open_feed(&key, options).map(|_| ())
            }
            3 => connection.close_feed(channel),
            4 => connection.offer(root, &[key, FeedKey([3; 32])]),
            5 => connection.request_feeds(root, &[key]),
            6 => connection.want(channel, script::span(input)),
            7 => connection.have(channel, script::span(input)),
            8 => connection.ack(channel, input.integer()),
            9 | 10 => {
                let (index, hash) = (input.integer(), input.flag());
                let bytes = if input.flag() { 0 } else { input.integer() };
                connection.request(channel, Request { index, bytes, hash, nodes: 0 })
            }
            11 => connection.forget_request(channel, input.integer(), input.flag()),
            12 => connection.unhave(channel, script::span(input)),
            13 => {
                let status = Status { uploading: input.flag(), downloading: input.flag() };
                connection.set_status(channel, status)
            }
            14 => {
                connection.register_extension("b");
                connection.extension(None, "b", Bytes::copy_from_slice(input.bytes()))
            }
            15 => connection.register_feed_extension(channel, ["a", "c"][input.below(2)]),
            16 => connection.extension(Some(channel), "a", Bytes::copy_from_slice(input.bytes())),
            _ => connection.close_root(root),
        }
    }

    fn check_closed(&mut self, error: Option<&PeerError>) {
        let refused = self.connection.open_feed(&FeedKey([1; 32]), FeedOptions::default());
        assert_eq!(refused, Err(UsageError::Closed));
        if error.is_some_and(|error| !error.peer_may_listen()) {
            assert!(self.connection.transmit().is_empty(), "sent to one that does not read");
        }
    }

    /// Brings it to its end: nothing more comes, and all timers run.
    fn end(mut self, reached: &mut Reached) {
        let len = self.said.len();
        self.deliver(len);
        self.drain(reached);
        // Multifeed, silence, and the end of a keepalive now and then.
        for _ in 0..64 {
            let Some(at) = self.connection.poll_timeout() else { break };
            self.now = self.now.max(at);
            self.connection.handle_timeout(self.now);
            let next = self.connection.poll_timeout();
            assert!(next.is_none_or(|at| at > self.now), "a timer that fired is still due");
            self.drain(reached);
        }
        assert!(self.closed == 1, "a silent remote is waited for for ever");
        let n = self.connection.transmit().len();
        self.connection.transmitted(self.now, n);
        assert_eq!(self.connection.buffered(), 0);
    }
}

fn block(index: u64) -> Data {
    Data { index, value: Some(Bytes::from_static(b"block")), nodes: Vec::new(), signature: None }
}

/// Limits that few bytes reach.
#[must_use]
pub fn small_config(dialect: Dialect) -> Config {
    Config {
        dialect,
        max_frame_body: 2000,
        max_stranger_frame_body: 600,
        max_channel: 1000,
        max_pending_channels: 3,
        max_stranger_channels: 2,
        max_extensions: 16,
        max_extension_name: 64,
        max_offered_feeds: 12,
        manifest_keys: 2,
        max_announced: 6 * 1024,
        max_outbox: 2 * QUEUED,
        ..Config::default()
    }
}

fn name(output: &Output) -> &'static str {
    match output {
        Output::Connected { .. } => "connected",
        Output::Ready { .. } => "ready",
        Output::Offered { .. } => "offered",
        Output::Requested { .. } => "requested",
        Output::Replicate { .. } => "replicate",
        Output::RootClosed { .. } => "root closed",
        Output::RootFailed { .. } => "root failed",
        Output::RemoteOpened { .. } => "remote opened",
        Output::FeedOpened { .. } => "feed opened",
        Output::FeedClosed { .. } => "feed closed",
        Output::Status { .. } => "status",
        Output::Have { .. } => "have",
        Output::Acked { .. } => "acked",
        Output::Unhave { .. } => "unhave",
        Output::Want { .. } => "want",
        Output::Request { .. } => "request",
        Output::Data { .. } => "data",
        Output::Extension { .. } => "extension",
        Output::Closed { .. } => "closed",
    }
}
