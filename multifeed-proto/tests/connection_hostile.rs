//! A whole connection against a peer that floods, stalls or says too much, and an owner that calls
//! it in any order.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::time::Duration;

use bytes::Bytes;
use multifeed_proto::messages::{Data, Have, Message, Options, Request, Status};
use multifeed_proto::{
    ChannelId, Config, Connection, DiscoveryKey, FeedKey, FeedOptions, Now, Output, PeerError,
    Role, RootId,
};
use util::remote::Remote;
use util::sessions::{GOOD, HANDSHAKE, MANIFEST, REPLICATE, REQUEST, manifest};
use util::{at, data, feed, root, span};

/// A connection with the root and one feed open on both sides: the root on channel 1 of the remote,
/// the feed on channel 2.
fn open() -> (Connection, Remote, ChannelId) {
    let (mut connection, mut remote) = Remote::joined(Role::Initiator, &Config::default());
    remote.greet(&root(), GOOD);
    connection.handle_bytes(at(0), &remote.bytes());
    let channel = connection.open_feed(&feed(1), FeedOptions::default()).unwrap();
    let open = remote.open(feed(1).discovery_key(), &feed(1).0);
    remote.say(2, &open);
    connection.handle_bytes(at(0), &remote.bytes());
    outputs(&mut connection);
    remote.hear(&mut connection, 65_536);
    (connection, remote, channel)
}

fn outputs(connection: &mut Connection) -> Vec<Output> {
    std::iter::from_fn(|| connection.poll_output()).collect()
}

fn extension(id: u64, body: &str) -> Message {
    Message::Extension { id, payload: body.as_bytes().to_vec().into() }
}

// Frames.

#[test]
fn a_body_that_stops_coming_is_given_up_by_the_idle_timer() {
    let (mut connection, mut remote, _) = open();
    remote.say(2, &Message::Data(data(0, Some(&[7; 8_000_000]))));
    let bytes = remote.bytes();
    connection.handle_bytes(at(1000), &bytes[..100]);
    connection.handle_bytes(at(5000), &bytes[100..101]);
    // Keepalives of our own are due before that.
    while let Some(due) = connection.poll_timeout().filter(|due| *due < at(25_000)) {
        connection.handle_timeout(due);
    }
    assert!(!connection.is_closed());
    assert_eq!(connection.poll_timeout(), Some(at(25_000)));
    connection.handle_timeout(at(25_000));
    assert_eq!(outputs(&mut connection), [Output::Closed { error: Some(PeerError::Silent) }]);
}

// Mux.

#[test]
fn a_manifest_of_100_000_keys_is_taken_whole_and_can_be_answered() {
    let (mut connection, mut remote, _) = open();
    let key = |n: u32| {
        let mut key = [9; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        FeedKey(key)
    };
    let keys: Vec<_> = (0..100_000).map(key).collect();
    remote.say(1, &extension(MANIFEST, &manifest(&keys)));
    connection.handle_bytes(at(0), &remote.bytes());
    let expected = [Output::Offered { root: RootId(0), keys: keys.clone() }];
    assert_eq!(outputs(&mut connection), expected);
    connection.request_feeds(RootId(0), &keys).unwrap();
    let heard = remote.hear(&mut connection, 65_536);
    assert!(matches!(heard[..], [(1, Message::Extension { id: REQUEST, .. })]));
}

// All layers.

/// One message of each kind that a peer can send at any time, again and again.
fn floods(remote: &Remote) -> Vec<(&'static str, u32, Message)> {
    let keys: Vec<_> = (0..100).map(|n| FeedKey([n; 32])).collect();
    let have = Have { start: 0, length: 1 << 50, bitfield: None, ack: false };
    let bits = Some(Bytes::from_static(&[0x83, 0x80, 0x20]));
    let request = Request { index: 5, ..Request::default() };
    let options = Options { extensions: vec!["chat".to_owned(); 9], ack: Some(true) };
    vec![
        ("open of the root", 1, remote.open(root().discovery_key(), root().expose())),
        ("open of a feed", 2, remote.open(feed(1).discovery_key(), &feed(1).0)),
        ("open of an unknown feed", 7, remote.open(DiscoveryKey([7; 32]), &[7; 32])),
        ("close of an unknown channel", 9, Message::Close { discovery_key: None }),
        ("close by name", 9, Message::Close { discovery_key: Some(DiscoveryKey([8; 32])) }),
        ("options", 2, Message::Options(options.clone())),
        ("options of the stream", 0, Message::Options(options)),
        ("status", 2, Message::Status(Status { uploading: true, downloading: false })),
        ("have", 2, Message::Have(have.clone())),
        ("bitfield", 2, Message::Have(Have { length: 1 << 20, bitfield: bits, ..have })),
        ("unhave", 2, Message::Unhave(span(0, 1 << 50))),
        ("want", 2, Message::Want(span(0, 1 << 20))),
        ("unwant", 2, Message::Unwant(span(0, 1 << 20))),
        ("request", 2, Message::Request(request)),
        ("cancel", 2, Message::Cancel { index: 5, bytes: 0, hash: false }),
        ("data that nobody asked for", 2, Message::Data(data(5, Some(b"")))),
        ("handshake", 1, extension(HANDSHAKE, GOOD)),
        ("empty manifest", 1, extension(MANIFEST, "{\"keys\":[]}")),
        ("manifest", 1, extension(MANIFEST, &manifest(&keys))),
        ("request for feeds", 1, extension(REQUEST, "[]")),
        ("list to replicate", 1, extension(REPLICATE, "[]")),
        ("unknown extension", 2, extension(5, "x")),
        ("message on a channel that is not open", 77, Message::Request(request)),
    ]
}

#[test]
fn no_flood_makes_the_connection_say_more_than_three_times_what_it_heard() {
    let (_, remote, _) = open();
    let kinds = floods(&remote).len();
    for kind in 0..kinds {
        let (mut connection, mut remote, _) = open();
        // Data that nobody asked for is given back only to a remote that wants to know.
        remote.say(2, &Message::Want(span(0, 8192)));
        connection.handle_bytes(at(0), &remote.bytes());
        outputs(&mut connection);
        let (name, channel, message) = floods(&remote).swap_remove(kind);
        for _ in 0..2000 {
            remote.say(channel, &message);
        }
        let bytes = remote.bytes();
        connection.handle_bytes(at(0), &bytes);
        assert!(!connection.is_closed(), "{name}: {:?}", outputs(&mut connection));
        let (said, told) = (connection.buffered(), outputs(&mut connection).len());
        assert!(said <= 3 * bytes.len(), "{name}: {said} bytes said to {} heard", bytes.len());
        assert!(told <= 4000, "{name}: {told} outputs for 2000 messages");
    }
}

// The owner.

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % n
    }
}

/// Calls any verb, in any state, with any channel.
fn call_something(connection: &mut Connection, random: &mut Random, now: Now) {
    let channel = ChannelId(u32::try_from(random.below(5)).unwrap());
    let key = FeedKey([u8::try_from(random.below(3)).unwrap(); 32]);
    let (index, root_id) = (random.below(100), RootId(u32::try_from(random.below(2)).unwrap()));
    match random.below(20) {
        0 => drop(connection.join(now, root(), None)),
        1 => drop(connection.offer(root_id, &[key])),
        2 => drop(connection.request_feeds(root_id, &[key])),
        3 => drop(connection.open_feed(&key, FeedOptions::default())),
        4 => drop(connection.close_feed(channel)),
        5 => drop(connection.want(channel, span(0, 8192))),
        6 => drop(connection.have(channel, span(index, 1))),
        7 => drop(connection.have_bitfield(channel, span(0, 8192), Bytes::new())),
        8 => drop(connection.ack(channel, index)),
        9 => drop(connection.unhave(channel, span(index, 5))),
        10 => drop(connection.request(channel, Request { index, ..Request::default() })),
        11 => drop(connection.forget_request(channel, index, index % 2 == 0)),
        12 => drop(connection.send_data(channel, Data { index, ..data(0, Some(b"block")) })),
        13 => drop(
            connection
                .set_status(channel, Status { uploading: index < 50, downloading: index % 2 == 0 }),
        ),
        14 => drop(connection.extension(Some(channel), "chat", Bytes::from_static(b"hi"))),
        15 => connection.register_extension("chat"),
        16 => drop(connection.extension(None, "chat", Bytes::from_static(b"hi"))),
        17 => connection.handle_timeout(now),
        18 if random.below(40) == 0 => connection.shutdown(),
        19 if random.below(80) == 0 => connection.close(None),
        _ => {}
    }
}

#[test]
fn verbs_in_any_order_at_any_time_never_panic_and_the_end_comes_once_and_last() {
    let (mut both, mut none) = (0, 0);
    for seed in 0..300 {
        let mut random = Random(seed);
        let entropy = |n| multifeed_proto::Entropy::from_seed([n; 32]);
        let new = |role, n| Connection::new(role, Config::default(), entropy(n), at(0));
        let mut peers = [new(Role::Initiator, 1), new(Role::Responder, 2)];
        let mut closed = [0, 0];
        let mut ended = [false; 2];
        let mut now = at(0);
        for _ in 0..400 {
            let i = usize::try_from(random.below(2)).unwrap();
            for _ in 0..random.below(4) {
                call_something(&mut peers[i], &mut random, now);
            }
            let [one, two] = &mut peers;
            let (from, to) = if i == 0 { (one, two) } else { (two, one) };
            let waiting = from.transmit();
            let n = waiting.len().min(usize::try_from(random.below(200)).unwrap());
            let bytes = waiting[..n].to_vec();
            from.transmitted(now, n);
            to.handle_bytes(now, &bytes);
            if from.transmit().is_empty() && (from.is_shut_down() || from.is_closed()) && !ended[i]
            {
                ended[i] = true;
                to.handle_eof(now);
            }
            for (peer, closed) in peers.iter_mut().zip(&mut closed) {
                while random.below(5) > 0 {
                    let Some(output) = peer.poll_output() else { break };
                    assert_eq!(*closed, 0, "seed {seed}: {output:?} after the end");
                    *closed += usize::from(matches!(output, Output::Closed { .. }));
                }
                assert!(!peer.is_closed() || peer.poll_timeout().is_none(), "seed {seed}");
                let waiting = peer.transmit().len();
                assert!(waiting <= peer.buffered(), "seed {seed}");
            }
            now = now.after(Duration::from_millis(random.below(20)));
        }
        for (peer, closed) in peers.iter_mut().zip(&mut closed) {
            *closed += outputs(peer).iter().filter(|o| matches!(o, Output::Closed { .. })).count();
            assert_eq!(*closed, usize::from(peer.is_closed()), "seed {seed}");
        }
        both += usize::from(closed == [1, 1]);
        none += usize::from(closed == [0, 0]);
    }
    assert!(both > 50 && none > 50, "a kind of run is missing: {both} ended, {none} went on");
}
