//! `multifeed-proto` alone against a live JavaScript peer: a connection without a store.

#![allow(clippy::unwrap_used, missing_docs)]
#![allow(clippy::wildcard_enum_match_arm, reason = "each wait looks for one output")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use conformance::{Store, block, root_key};
use multifeed_proto::messages::{Request, Span};
use multifeed_proto::{
    Config, Connection, Entropy, FeedKey, FeedOptions, Now, Output, PeerError, Role, RootKey,
};

#[test]
fn a_connection_that_connects_shakes_hands_with_javascript() {
    let key = root_key("protocol initiator");
    let store = Store::new(&key);
    let mut peer = store.javascript();
    let mut link = Link::connect(peer.listen(), &key);
    link.until_ready();
}

#[test]
fn a_connection_that_accepts_shakes_hands_with_javascript() {
    let key = root_key("protocol responder");
    let store = Store::new(&key);
    let mut peer = store.javascript();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    peer.connect(listener.local_addr().unwrap().port());
    let mut link = Link::new(listener.accept().unwrap().0, Role::Responder, &key);
    link.until_ready();
}

#[test]
fn javascript_answers_an_offer_with_a_request_for_it() {
    let key = root_key("protocol offer");
    let store = Store::new(&key);
    let mut peer = store.javascript();
    let mut link = Link::connect(peer.listen(), &key);
    let root = link.until_ready();
    let offered = FeedKey::from_hex(&root_key("any feed key")).unwrap();
    link.connection.offer(root, &[offered]).unwrap();
    link.until("Requested", |output| {
        matches!(output, Output::Requested { keys, .. } if keys == &[offered]).then_some(())
    });
    // It makes the feed and opens its channel.
    link.until("RemoteOpened", |output| {
        matches!(output, Output::RemoteOpened { discovery_key }
            if *discovery_key == offered.discovery_key())
        .then_some(())
    });
    assert_eq!(peer.feeds()[0]["key"], offered.to_hex());
}

#[test]
fn a_block_of_javascript_comes_over_an_open_channel() {
    let key = root_key("protocol block");
    let store = Store::new(&key);
    let mut peer = store.javascript();
    let feed = FeedKey::from_hex(&peer.write("w", 3, &[50])).unwrap();
    let mut link = Link::connect(peer.listen(), &key);
    let root = link.until_ready();
    link.connection.offer(root, &[]).unwrap();
    let keys = link.until("Offered", |output| match output {
        Output::Offered { keys, .. } => Some(keys.clone()),
        _ => None,
    });
    assert_eq!(keys, [feed]);
    let now = link.now();
    link.connection.request_feeds(root, &keys).unwrap();
    link.until("Replicate", |output| match output {
        Output::Replicate { keys, ours: false, .. } => (keys == &[feed]).then_some(()),
        _ => None,
    });
    let options =
        FeedOptions { ack: true, uploading: true, downloading: true, ..FeedOptions::default() };
    let channel = link.connection.open_feed(&feed, options).unwrap();
    link.until("FeedOpened", |output| (output == &Output::FeedOpened { channel }).then_some(()));
    link.connection.want(channel, Span { start: 0, length: 1 << 20 }).unwrap();
    link.until("Have", |output| {
        matches!(output, Output::Have { span, .. } if span.length > 1).then_some(())
    });
    assert!(link.connection.peer(channel).unwrap().remote().contains(2));
    link.connection.request(channel, Request { index: 2, ..Request::default() }).unwrap();
    let data = link.until("Data", |output| match output {
        Output::Data { data, .. } => Some(data.clone()),
        _ => None,
    });
    assert_eq!((data.index, data.value.as_deref()), (2, Some(&block("w", 2, 50)[..])));
    assert!(data.signature.is_some());
    assert!(link.now() > now);
}

#[test]
fn a_wrong_root_key_ends_in_a_multifeed_timeout() {
    let store = Store::new(&root_key("protocol right"));
    let mut peer = store.javascript();
    let config = Config { multifeed_timeout: Duration::from_millis(500), ..Config::default() };
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, peer.listen())).unwrap();
    let mut link = Link::with(stream, Role::Initiator, &root_key("protocol wrong"), config);
    let error = link.until("Closed", |output| match output {
        Output::Closed { error } => Some(error.clone()),
        _ => None,
    });
    assert_eq!(error, Some(PeerError::MultifeedTimeout));
}

/// A connection and its socket: the whole of a blocking driver.
struct Link {
    connection: Connection,
    stream: TcpStream,
    start: Instant,
    root: multifeed_proto::RootId,
}

impl Link {
    fn connect(port: u16, key: &str) -> Self {
        Self::new(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap(), Role::Initiator, key)
    }

    fn new(stream: TcpStream, role: Role, key: &str) -> Self {
        Self::with(stream, role, key, Config::default())
    }

    fn with(stream: TcpStream, role: Role, key: &str, config: Config) -> Self {
        stream.set_nodelay(true).unwrap();
        let seed = std::array::from_fn(|_| rand_byte());
        let mut connection =
            Connection::new(role, config, Entropy::from_seed(seed), Now::default());
        let root = connection.join(Now::default(), RootKey::from_hex(key).unwrap(), None).unwrap();
        Self { connection, stream, start: clock(), root }
    }

    fn now(&self) -> Now {
        Now(self.start.elapsed())
    }

    fn until_ready(&mut self) -> multifeed_proto::RootId {
        let root = self.root;
        self.until("Ready", |output| match output {
            Output::Ready { root: ready, version, .. } => {
                assert_eq!((*ready, version.as_str()), (root, "4.0.0"));
                Some(root)
            }
            _ => None,
        })
    }

    /// Runs the connection until an output is the one looked for; any other end is a failure.
    fn until<T>(&mut self, what: &str, find: impl Fn(&Output) -> Option<T>) -> T {
        let deadline = self.now().after(Duration::from_secs(30));
        let mut seen = Vec::new();
        let mut buffer = [0; 64 * 1024];
        loop {
            while let Some(output) = self.connection.poll_output() {
                if let Some(found) = find(&output) {
                    return found;
                }
                let closed = matches!(output, Output::Closed { .. });
                seen.push(output);
                assert!(!closed, "no {what}: {seen:?}");
            }
            while !self.connection.transmit().is_empty() {
                let written = self.stream.write(self.connection.transmit()).unwrap();
                let now = self.now();
                self.connection.transmitted(now, written);
            }
            if self.connection.is_shut_down() {
                self.stream.shutdown(Shutdown::Write).unwrap();
            }
            let now = self.now();
            assert!(now < deadline, "no {what}: {seen:?}");
            let next = self.connection.poll_timeout().unwrap_or(deadline).min(deadline);
            let wait = next.0.saturating_sub(now.0).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(wait)).unwrap();
            match self.stream.read(&mut buffer) {
                Ok(0) => self.connection.handle_eof(now),
                Ok(read) => {
                    let now = self.now();
                    self.connection.handle_bytes(now, &buffer[..read]);
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    let now = self.now();
                    self.connection.handle_timeout(now);
                }
                Err(error) => panic!("no {what}: {error}; {seen:?}"),
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a driver reads the clock")]
fn clock() -> Instant {
    Instant::now()
}

/// From the keys of the standard hasher, which are random.
fn rand_byte() -> u8 {
    let state = std::collections::hash_map::RandomState::new();
    std::hash::BuildHasher::hash_one(&state, 0).to_le_bytes()[0]
}
