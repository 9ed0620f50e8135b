//! Two connections over a simulated network.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::time::Duration;

use multifeed_proto::messages::{Request, Status};
use multifeed_proto::{
    Config, Connection, Entropy, FeedOptions, Now, Output, PeerError, PeerSecret, Role, RootKey,
    UsageError,
};
use util::app::App;
use util::pair::Pair;
use util::{at, feed, root};

const CHUNKS: [usize; 4] = [1, 2, 3, 65_536];

/// What both sides were told, by side and with channels named by feed. Which of two messages that
/// cross each other comes first depends on the chunks, so the order is left out.
fn trace(pair: &Pair) -> Vec<String> {
    let mut trace: Vec<_> = pair
        .log
        .iter()
        .filter(|(_, output)| !matches!(output, Output::RemoteOpened { .. }))
        .map(|(i, output)| {
            let mut text = format!("{i} {output:?}");
            for channel in (1..20).map(multifeed_proto::ChannelId) {
                if let Some(key) = pair.peers[*i].key(channel) {
                    text = text.replace(&format!("{channel:?}"), &format!("{key:?}"));
                }
            }
            text
        })
        .collect();
    trace.sort();
    trace
}

fn writers() -> [App; 2] {
    [App::with(&[(feed(1), 20), (feed(2), 0)]), App::with(&[(feed(3), 33), (feed(4), 1)])]
}

#[test]
fn two_writers_end_with_each_others_blocks_in_chunks_of_any_size() {
    let mut traces = Vec::new();
    for chunk in CHUNKS {
        let mut pair = Pair::joined(writers(), chunk);
        pair.settle();
        assert_eq!(pair.apps[0].feeds, pair.apps[1].feeds, "chunk {chunk}");
        assert_eq!(pair.apps[0].feeds.len(), 4);
        assert_eq!((pair.apps[0].acked, pair.apps[1].acked), (20, 34));
        for peer in &pair.peers {
            let mux = peer.mux(multifeed_proto::RootId(0)).unwrap();
            assert!(mux.is_ready() && mux.got_first_manifest());
            assert_eq!((mux.awaiting_request(), mux.awaiting_replicate()), (0, 0));
            for n in 1..5 {
                let peer = peer.peer(peer.channel(&feed(n)).unwrap()).unwrap();
                assert_eq!((peer.unanswered_wants(), peer.in_flight()), (0, 0));
            }
        }
        traces.push(trace(&pair));
    }
    assert!(traces.iter().all(|trace| *trace == traces[0]));
}

/// All bytes that a talkative side sent to one that only listens.
fn recorded_stream() -> Vec<u8> {
    let mut listener = listener();
    let entropy = Entropy::from_seed([2; 32]);
    let mut talker = Connection::new(Role::Responder, Config::default(), entropy, at(0));
    let [_, mut app] = writers();
    app.options.extensions = vec!["chat".to_owned()];
    app.start(at(0), &mut talker, &[root()]);
    let channel = talker.open_feed(&feed(3), app.options.clone()).unwrap();
    let mut stream = Vec::new();
    for round in 0..20 {
        let bytes = listener.transmit().to_vec();
        listener.transmitted(at(0), bytes.len());
        talker.handle_bytes(at(0), &bytes);
        while let Some(output) = talker.poll_output() {
            app.react(&mut talker, &output);
        }
        if round > 4 {
            let request = Request { index: round, ..Request::default() };
            talker.have(channel, util::span(round * 100, round)).unwrap();
            talker.request(channel, request).unwrap();
            talker.send_data(channel, util::data(round, Some(b"unasked"))).unwrap();
            talker.unhave(channel, util::span(round * 100, 1)).unwrap();
            talker.extension(Some(channel), "chat", b"hello"[..].into()).unwrap();
            let status = Status { uploading: round % 2 == 0, downloading: true };
            talker.set_status(channel, status).unwrap();
        }
        let bytes = talker.transmit().to_vec();
        talker.transmitted(at(0), bytes.len());
        listener.handle_bytes(at(0), &bytes);
        stream.extend(bytes);
    }
    stream
}

fn listener() -> Connection {
    let entropy = Entropy::from_seed([1; 32]);
    let mut listener = Connection::new(Role::Initiator, Config::default(), entropy, at(0));
    listener.join(at(0), root(), None).unwrap();
    let options = FeedOptions { extensions: vec!["chat".to_owned()], ..FeedOptions::default() };
    listener.open_feed(&feed(3), options).unwrap();
    listener
}

#[test]
fn a_recorded_stream_gives_the_same_trace_in_the_same_order_in_any_chunks() {
    let stream = recorded_stream();
    let run = |chunk: usize| {
        let mut listener = listener();
        let mut trace = Vec::new();
        for bytes in stream.chunks(chunk) {
            listener.handle_bytes(at(0), bytes);
            trace.extend(std::iter::from_fn(|| listener.poll_output()));
        }
        trace
    };
    let whole = run(stream.len());
    assert!(whole.len() > 60, "{whole:?}");
    for chunk in CHUNKS.into_iter().chain([7, 59, 123]) {
        assert_eq!(run(chunk), whole, "chunk {chunk}");
    }
}

#[test]
fn a_recorded_stream_cut_at_random_gives_the_same_trace() {
    let stream = recorded_stream();
    let run = |seed: u64| {
        let mut listener = listener();
        let mut trace = Vec::new();
        let (mut rest, mut random) = (&stream[..], seed);
        while !rest.is_empty() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let longest = if random >> 63 == 0 { 5 } else { 300 };
            let (bytes, after) = rest.split_at(rest.len().min((random >> 33) as usize % longest));
            listener.handle_bytes(at(0), bytes);
            trace.extend(std::iter::from_fn(|| listener.poll_output()));
            rest = after;
        }
        trace
    };
    let first = run(0);
    for seed in 1..100 {
        assert_eq!(run(seed), first, "seed {seed}");
    }
}

#[test]
fn a_stream_cut_at_any_byte_ends_once_and_never_panics() {
    let mut complete = Pair::joined([App::with(&[(feed(1), 2)]), App::with(&[])], 65_536);
    complete.settle();
    let lens = complete.peers.each_ref().map(|peer| usize::try_from(peer.sent_bytes()).unwrap());
    for (side, whole) in lens.into_iter().enumerate() {
        for len in 0..=whole {
            let mut pair = Pair::joined([App::with(&[(feed(1), 2)]), App::with(&[])], 65_536);
            pair.budget[side] = len;
            pair.wait(Duration::from_secs(60));
            for i in 0..2 {
                let closed = pair
                    .outputs(i)
                    .iter()
                    .filter(|output| matches!(output, Output::Closed { .. }))
                    .count();
                // With room for every byte nothing need be cut.
                let cut = len < whole || closed > 0;
                assert_eq!(closed, usize::from(cut), "side {side}, {len} bytes, at {i}");
                if cut {
                    let last = pair.outputs(i).pop();
                    assert!(matches!(last, Some(Output::Closed { .. })), "{last:?}");
                    assert!(pair.peers[i].is_closed());
                    assert_eq!(pair.peers[i].poll_timeout(), None);
                    assert_eq!(pair.peers[i].poll_output(), None);
                }
            }
        }
    }
}

#[test]
fn an_end_before_the_multifeed_handshake_or_inside_a_message_is_an_error_and_any_other_is_none() {
    let stream = recorded_stream();
    let (mut clean, mut cut, mut left, mut silent) = (0, 0, 0, 0);
    for len in 0..=stream.len() {
        let mut listener = listener();
        listener.handle_bytes(at(0), &stream[..len]);
        listener.handle_eof(at(0));
        let outputs: Vec<_> = std::iter::from_fn(|| listener.poll_output()).collect();
        let connected = outputs.iter().any(|output| matches!(output, Output::Connected { .. }));
        let ready = outputs.iter().any(|output| matches!(output, Output::Ready { .. }));
        let Some(Output::Closed { error }) = outputs.last() else { panic!("{len}: {outputs:?}") };
        let count = match (error, connected, ready) {
            (None, true, true) => &mut clean,
            (Some(PeerError::Truncated), true, true) | (Some(PeerError::Truncated), false, _) => {
                &mut cut
            }
            (Some(PeerError::Left { connected: true }), true, false) => &mut left,
            (Some(PeerError::Left { connected: false }), false, _) => &mut silent,
            other => panic!("{len}: {other:?}"),
        };
        *count += 1;
    }
    assert!(clean > 60 && clean < stream.len() / 4, "{clean}");
    assert!(cut > 0 && left > 0, "{cut} cut, {left} left");
    assert_eq!(silent, 1, "only where nothing came");
}

#[test]
fn flipped_bits_end_the_connection_or_are_taken_for_other_messages_but_never_panic() {
    let stream = recorded_stream();
    for place in 0..stream.len() {
        let mut stream = stream.clone();
        stream[place] ^= 1 << (place % 8);
        let mut listener = listener();
        listener.handle_bytes(at(0), &stream);
        let outputs: Vec<_> = std::iter::from_fn(|| listener.poll_output()).collect();
        let closed = |output: &&Output| matches!(output, Output::Closed { .. });
        assert!(outputs.iter().filter(closed).count() <= 1);
        assert_eq!(outputs.last().is_some_and(|last| closed(&last)), listener.is_closed());
    }
}

#[test]
fn different_root_keys_time_out_after_ten_seconds_on_both_sides() {
    let mut pair = Pair::new(Config::default(), writers(), 65_536);
    pair.peers[0].join(at(0), root(), None).unwrap();
    pair.peers[1].join(at(0), RootKey::new([9; 32]), None).unwrap();
    pair.wait(Duration::from_millis(9_999));
    assert_eq!((pair.closed(0), pair.closed(1)), (None, None));
    pair.wait(Duration::from_millis(1));
    let error = Some(PeerError::MultifeedTimeout);
    assert_eq!(pair.closed(0), Some(&Output::Closed { error: error.clone() }));
    assert_eq!(pair.closed(1), Some(&Output::Closed { error }));
    assert_eq!(PeerError::MultifeedTimeout.code(), "ERR_MULTIFEED_TIMEOUT");
}

#[test]
fn two_idle_peers_stay_connected_by_keepalives_alone() {
    let mut pair = Pair::joined(writers(), 65_536);
    pair.settle();
    let sent = pair.peers[0].sent_bytes();
    let received = pair.peers[1].received_bytes();
    assert_eq!(sent, received);
    pair.wait(Duration::from_secs(3600));
    assert_eq!((pair.closed(0), pair.closed(1)), (None, None));
    assert_eq!(pair.peers[0].sent_bytes() - sent, 360);
}

#[test]
fn no_keepalive_is_sent_while_other_bytes_go_out() {
    let mut pair = Pair::joined(writers(), 65_536);
    pair.settle();
    let start = pair.peers[0].sent_bytes();
    let channel = pair.peers[0].channel(&feed(1)).unwrap();
    let mut len = None;
    for _ in 0..10 {
        pair.wait(Duration::from_secs(9));
        let before = pair.peers[0].sent_bytes();
        pair.peers[0].have(channel, util::span(0, 1)).unwrap();
        pair.settle();
        len = Some(pair.peers[0].sent_bytes() - before);
    }
    assert_eq!(pair.peers[0].sent_bytes() - start, 10 * len.unwrap());
}

#[test]
fn a_silent_peer_is_given_up_at_the_exact_moment() {
    let entropy = Entropy::from_seed([1; 32]);
    let config = Config { handshake_timeout: Duration::from_secs(60), ..Config::default() };
    let mut alone = Connection::new(Role::Initiator, config, entropy, at(500));
    assert_eq!(alone.poll_timeout(), Some(at(20_500)));
    alone.handle_timeout(at(20_499));
    assert_eq!(alone.poll_output(), None);
    assert_eq!(alone.poll_timeout(), Some(at(20_500)));
    alone.handle_timeout(at(20_500));
    assert_eq!(alone.poll_output(), Some(Output::Closed { error: Some(PeerError::NothingCame) }));
    assert_eq!(alone.poll_timeout(), None);
}

/// The peer takes all bytes for some seconds and sends none, and the connection goes on.
#[track_caller]
fn takes_keepalives(one: &mut Connection, start: Now, seconds: u64) {
    for second in 1..seconds {
        let now = start.after(Duration::from_secs(second));
        one.handle_timeout(now);
        let bytes = one.transmit().len();
        one.transmitted(now, bytes);
        assert_eq!(one.poll_output(), None, "after {second} seconds");
    }
}

#[test]
fn a_peer_that_is_not_read_is_given_up_only_if_it_takes_no_bytes_either() {
    let mut pair = Pair::joined(writers(), 65_536);
    pair.settle();
    let one = &mut pair.peers[0];
    let start = pair.now;
    let after = |seconds| start.after(Duration::from_secs(seconds));
    one.set_reading(start, false);
    takes_keepalives(one, start, 60);
    // The last keepalive went out, then nobody takes the next.
    one.handle_timeout(after(50 + 20));
    assert_eq!(one.poll_output(), Some(Output::Closed { error: Some(PeerError::Silent) }));
}

#[test]
fn a_peer_that_is_read_again_has_its_time_to_speak() {
    let mut pair = Pair::joined(writers(), 65_536);
    pair.settle();
    let one = &mut pair.peers[0];
    let start = pair.now;
    let after = |seconds| start.after(Duration::from_secs(seconds));
    one.set_reading(start, false);
    one.handle_timeout(after(19));
    one.set_reading(after(19), true);
    one.handle_timeout(after(38));
    assert_eq!(one.poll_output(), None);
    one.handle_timeout(after(39));
    assert_eq!(one.poll_output(), Some(Output::Closed { error: Some(PeerError::Silent) }));
}

#[test]
fn a_peer_that_nobody_decides_on_is_given_up_although_it_takes_keepalives() {
    let mut pair = Pair::new(Config::default(), writers(), 65_536);
    pair.peers[0].hold();
    pair.settle();
    let one = &mut pair.peers[0];
    assert!(one.is_held());
    let start = pair.now;
    let after = |seconds| start.after(Duration::from_secs(seconds));
    one.set_reading(start, false);
    takes_keepalives(one, start, 20);
    one.handle_timeout(after(20));
    assert_eq!(one.poll_output(), Some(Output::Closed { error: Some(PeerError::Silent) }));
}

#[test]
fn a_handshake_that_dribbles_is_given_up_at_its_deadline() {
    let entropy = Entropy::from_seed([1; 32]);
    let mut slow = Connection::new(Role::Responder, Config::default(), entropy, at(0));
    slow.handle_bytes(at(0), &[58]);
    for second in 1..20 {
        slow.handle_bytes(at(second * 1000), &[1]);
        slow.handle_timeout(at(second * 1000));
        assert_eq!(slow.poll_output(), None);
    }
    assert_eq!(slow.poll_timeout(), Some(at(20_000)));
    slow.handle_timeout(at(20_000));
    let error = Some(PeerError::HandshakeTimeout);
    assert_eq!(slow.poll_output(), Some(Output::Closed { error }));
}

#[test]
fn time_that_goes_backwards_stands_still() {
    let entropy = Entropy::from_seed([1; 32]);
    let mut responder = Connection::new(Role::Responder, Config::default(), entropy, at(5000));
    responder.handle_bytes(at(0), &[58]);
    assert_eq!(responder.poll_timeout(), Some(at(25_000)));
    responder.handle_timeout(at(0));
    assert_eq!(responder.poll_output(), None);
}

#[test]
fn a_shut_down_side_ends_its_stream_after_its_last_byte_and_reads_to_the_end() {
    for chunk in CHUNKS {
        let mut pair = Pair::joined(writers(), chunk);
        pair.settle();
        pair.peers[0].shutdown();
        assert!(pair.peers[0].is_shut_down());
        let channel = pair.peers[0].channel(&feed(1)).unwrap();
        assert_eq!(pair.peers[0].ack(channel, 0), Err(UsageError::Closed));
        pair.settle();
        for i in 0..2 {
            assert_eq!(pair.closed(i), Some(&Output::Closed { error: None }));
        }
        assert_eq!(pair.apps[0].feeds, pair.apps[1].feeds);
    }
}

#[test]
fn a_peer_that_never_ends_after_our_end_is_left_after_the_idle_timeout() {
    let mut pair = Pair::joined(writers(), 65_536);
    pair.settle();
    let [leaving, staying] = &mut pair.peers;
    leaving.shutdown();
    let start = pair.now;
    // The other side hears nothing of it and goes on sending keepalives.
    let mut end = None;
    while let Some(due) = leaving.poll_timeout() {
        let keepalive = staying.poll_timeout().unwrap();
        if keepalive < due {
            staying.handle_timeout(keepalive);
            leaving.handle_bytes(keepalive, staying.transmit());
            let n = staying.transmit().len();
            staying.transmitted(keepalive, n);
            continue;
        }
        leaving.handle_timeout(due);
        end = Some(due);
    }
    // The moment counts from the last news before the call, a few milliseconds earlier.
    let waited = end.unwrap().since(start);
    assert!(waited > Duration::from_millis(19_900) && waited <= Duration::from_secs(20));
    assert_eq!(leaving.poll_output(), Some(Output::Closed { error: Some(PeerError::Silent) }));
}

#[test]
fn closing_drops_what_was_not_looked_at_and_leaves_nothing_to_do() {
    let mut pair = Pair::joined(writers(), 65_536);
    pair.settle();
    let channel = pair.peers[0].channel(&feed(1)).unwrap();
    pair.peers[0].have(channel, util::span(0, 1)).unwrap();
    pair.peers[0].close(Some(PeerError::Silent));
    assert_eq!(
        pair.peers[0].poll_output(),
        Some(Output::Closed { error: Some(PeerError::Silent) })
    );
    assert_eq!(pair.peers[0].poll_output(), None);
    assert_eq!(pair.peers[0].transmit(), b"");
    assert_eq!(pair.peers[0].buffered(), 0);
    assert_eq!(pair.peers[0].poll_timeout(), None);
    let closed = Err(UsageError::Closed);
    assert_eq!(pair.peers[0].want(channel, util::span(0, 8192)), closed);
    assert_eq!(pair.peers[0].join(at(0), root(), None), Err(UsageError::Closed));
    pair.peers[0].close(None);
    pair.peers[0].handle_eof(at(0));
    pair.peers[0].handle_bytes(at(0), &[1, 2, 3]);
    pair.peers[0].shutdown();
    assert_eq!(pair.peers[0].poll_output(), None);
}

#[test]
fn bytes_that_arrived_before_the_end_are_taken_first() {
    let mut pair = Pair::joined(writers(), 65_536);
    pair.settle();
    let channel = pair.peers[1].channel(&feed(3)).unwrap();
    pair.peers[1].have(channel, util::span(33, 1)).unwrap();
    let bytes = pair.peers[1].transmit().to_vec();
    pair.peers[0].handle_bytes(at(1), &bytes);
    pair.peers[0].handle_eof(at(1));
    assert!(matches!(pair.peers[0].poll_output(), Some(Output::Have { .. })));
    assert_eq!(pair.peers[0].poll_output(), Some(Output::Closed { error: None }));
}

#[test]
fn a_peer_that_sends_but_does_not_read_is_left_at_the_limit() {
    let config = Config { max_outbox: 10_000, ..Config::default() };
    let mut pair = Pair::new(config, [App::with(&[(feed(1), 1)]), App::with(&[])], 65_536);
    for peer in &mut pair.peers {
        peer.join(at(0), root(), None).unwrap();
    }
    pair.settle();
    let mut error = None;
    for _ in 0..1000 {
        // Each request is answered, and the answers are not taken away.
        pair.peers[1].request_feeds(multifeed_proto::RootId(0), &[feed(1)]).unwrap();
        let bytes = pair.peers[1].transmit().to_vec();
        pair.peers[1].transmitted(at(1), bytes.len());
        pair.peers[0].handle_bytes(at(1), &bytes);
        while let Some(output) = pair.peers[0].poll_output() {
            if let Output::Closed { error: closed } = output {
                error = closed;
            }
        }
    }
    assert!(matches!(error, Some(PeerError::Outbox { bytes, max: 10_000 }) if bytes < 20_000));
}

#[test]
fn a_persistent_identity_is_what_the_remote_sees() {
    let connection = |role, seed, secret: [u8; 32]| {
        let entropy = Entropy::from_seed([seed; 32]);
        Connection::with_static_key(
            role,
            Config::default(),
            entropy,
            &PeerSecret::new(secret),
            at(0),
        )
    };
    let key_of = |secret: [u8; 32], seed| {
        let mut a = connection(Role::Initiator, seed, secret);
        let mut b = connection(Role::Responder, seed + 1, [9; 32]);
        for _ in 0..4 {
            let bytes = a.transmit().to_vec();
            a.transmitted(at(0), bytes.len());
            b.handle_bytes(at(0), &bytes);
            let bytes = b.transmit().to_vec();
            b.transmitted(at(0), bytes.len());
            a.handle_bytes(at(0), &bytes);
        }
        match (a.poll_output(), b.poll_output()) {
            (
                Some(Output::Connected { handshake_hash: ours, .. }),
                Some(Output::Connected { remote_public_key, handshake_hash }),
            ) => {
                assert_eq!(ours, handshake_hash);
                remote_public_key
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(key_of([3; 32], 1), PeerSecret::new([3; 32]).public());
    assert_eq!(key_of([3; 32], 1), key_of([3; 32], 5));
    assert_ne!(key_of([3; 32], 1), key_of([4; 32], 1));
}
