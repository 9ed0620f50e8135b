//! Sessions without bytes: the two ways in which multifeeds talk, and how a peer's is found out.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use multifeed_proto::messages::Message;
use multifeed_proto::{Config, Dialect, Output, PeerError, RootId, RootKey, UsageError};
use util::sessions::{
    Alone, GOOD, HANDSHAKE, MANIFEST, NAMES, REPLICATE, REQUEST, Two, close, hex_list, manifest,
    options, text,
};
use util::{at, feed, root};

const ROOT: RootId = RootId(0);

fn config(dialect: Dialect) -> Config {
    Config { dialect, ..Config::default() }
}

/// A session that joined and met a remote that opened the root's channel and registered its names
/// on the stream, as multifeed 6 does. What it said so far is taken away.
fn met(dialect: Dialect) -> Alone {
    let mut alone = Alone::new(&config(dialect));
    alone.session.join(at(0), root(), None).unwrap();
    alone.open(&root().discovery_key(), root().expose());
    alone.give(0, options(&NAMES)).unwrap();
    alone.give(1, options(&NAMES)).unwrap();
    alone.messages();
    alone.outputs();
    alone
}

/// A multifeed message on the stream.
fn on_stream(alone: &mut Alone, id: u64, json: &str) -> Result<(), PeerError> {
    alone.give(0, Message::Extension { id, payload: json.as_bytes().to_vec().into() })
}

fn is_ready(outputs: &[Output], wanted: Dialect) -> bool {
    matches!(outputs, [Output::Ready { dialect, .. }] if *dialect == wanted)
}

#[test]
fn without_a_known_dialect_the_handshake_goes_both_ways_on_the_root_channel_first() {
    let mut alone = Alone::new(&config(Dialect::Auto));
    alone.session.join(at(0), root(), None).unwrap();
    alone.open(&root().discovery_key(), root().expose());
    let messages = alone.messages();
    let channels: Vec<u32> = messages.iter().map(|(channel, _)| *channel).collect();
    assert_eq!(channels, [1, 1, 1, 0, 0]);
    assert_eq!(messages[1].1, options(&NAMES));
    assert_eq!(text(&messages[2]), (HANDSHAKE, GOOD.to_owned()));
    assert_eq!(messages[3].1, options(&NAMES));
    assert_eq!(text(&messages[4]), (HANDSHAKE, GOOD.to_owned()));
}

#[test]
fn the_first_good_handshake_decides_and_the_other_way_is_not_heard_any_more() {
    for (decided, first, second) in [(Dialect::Stream, 0, 1), (Dialect::RootChannel, 1, 0)] {
        let mut alone = met(Dialect::Auto);
        let say = |alone: &mut Alone, channel, id, json: &str| {
            let payload = json.as_bytes().to_vec().into();
            alone.give(channel, Message::Extension { id, payload }).unwrap();
        };
        say(&mut alone, first, HANDSHAKE, GOOD);
        assert!(is_ready(&alone.outputs(), decided));
        assert_eq!(alone.session.mux(ROOT).unwrap().dialect(), decided);
        say(&mut alone, second, HANDSHAKE, r#"{"client":"MULTIFEED","version":"9.0.0"}"#);
        say(&mut alone, second, MANIFEST, &manifest(&[feed(1)]));
        assert_eq!(alone.outputs(), []);
        assert_eq!(alone.messages(), []);
        alone.session.offer(ROOT, &[feed(2)]).unwrap();
        let messages = alone.messages();
        assert_eq!(messages[0].0, first);
        assert_eq!(text(&messages[0]), (MANIFEST, manifest(&[feed(2)])));
        say(&mut alone, first, REQUEST, &hex_list(&[feed(2)]));
        let messages = alone.messages();
        assert_eq!(messages[0].0, first);
        assert_eq!(text(&messages[0]), (REPLICATE, hex_list(&[feed(2)])));
    }
}

#[test]
fn two_that_detect_settle_on_the_root_channel() {
    let mut two = Two::joined(&config(Dialect::Auto), &[root()]);
    for i in 0..2 {
        assert!(is_ready(&two.take(i), Dialect::RootChannel));
    }
}

#[test]
fn one_that_detects_meets_one_of_either_kind() {
    for dialect in [Dialect::Stream, Dialect::RootChannel] {
        let mut two = Two::new(&config(dialect));
        two.sessions[0] = Two::new(&config(Dialect::Auto)).sessions.into_iter().next().unwrap();
        for session in &mut two.sessions {
            session.join(at(0), root(), None).unwrap();
        }
        two.settle();
        assert!(is_ready(&two.take(0), dialect));
        assert!(is_ready(&two.take(1), dialect));
        two.sessions[0].offer(ROOT, &[feed(1)]).unwrap();
        two.settle();
        assert_eq!(two.take(1), [Output::Offered { root: ROOT, keys: vec![feed(1)] }]);
    }
}

#[test]
fn the_two_kinds_do_not_hear_each_other() {
    let mut two = Two::new(&config(Dialect::Stream));
    two.sessions[0] = Two::new(&config(Dialect::RootChannel)).sessions.into_iter().next().unwrap();
    for session in &mut two.sessions {
        session.join(at(0), root(), None).unwrap();
    }
    two.settle();
    assert_eq!([two.take(0), two.take(1)], [vec![], vec![]]);
}

#[test]
fn who_has_not_proven_the_root_key_is_not_heard_on_the_stream() {
    let mut alone = Alone::new(&config(Dialect::Auto));
    alone.session.join(at(0), root(), None).unwrap();
    alone.give(0, options(&NAMES)).unwrap();
    on_stream(&mut alone, HANDSHAKE, GOOD).unwrap();
    on_stream(&mut alone, MANIFEST, &manifest(&[feed(1)])).unwrap();
    assert_eq!(alone.outputs(), []);
    assert_eq!(alone.session.offer(ROOT, &[feed(2)]), Err(UsageError::UnknownRoot));
}

#[test]
fn nothing_but_a_handshake_counts_on_the_stream_before_it_decided() {
    let mut alone = met(Dialect::Auto);
    on_stream(&mut alone, MANIFEST, &manifest(&[feed(1)])).unwrap();
    on_stream(&mut alone, REQUEST, "[]").unwrap();
    assert_eq!(alone.outputs(), []);
    assert_eq!(alone.messages(), []);
    on_stream(&mut alone, HANDSHAKE, GOOD).unwrap();
    assert!(is_ready(&alone.outputs(), Dialect::Stream));
}

#[test]
fn on_the_stream_a_multifeed_outlives_the_channel_of_its_root_key() {
    let mut alone = met(Dialect::Stream);
    on_stream(&mut alone, HANDSHAKE, GOOD).unwrap();
    alone.outputs();
    alone.give(1, close()).unwrap();
    assert_eq!(alone.messages(), [(1, close())]);
    assert_eq!(alone.outputs(), []);
    alone.session.offer(ROOT, &[feed(1)]).unwrap();
    on_stream(&mut alone, MANIFEST, &manifest(&[feed(2)])).unwrap();
    assert_eq!(alone.outputs(), [Output::Offered { root: ROOT, keys: vec![feed(2)] }]);
    alone.session.request_feeds(ROOT, &[feed(2)]).unwrap();
    let sent = alone.messages();
    assert_eq!(text(&sent[0]), (MANIFEST, manifest(&[feed(1)])));
    assert_eq!(text(&sent[1]), (REQUEST, hex_list(&[feed(2)])));
    assert_eq!(alone.session.join(at(0), root(), None), Ok(ROOT));
}

#[test]
fn closing_the_root_channel_ends_the_multifeed_only_where_its_messages_travel_there() {
    for (dialect, channel, lives) in [(Dialect::Stream, 0, true), (Dialect::RootChannel, 1, false)]
    {
        let mut alone = met(dialect);
        let payload = GOOD.as_bytes().to_vec().into();
        alone.give(channel, Message::Extension { id: HANDSHAKE, payload }).unwrap();
        alone.outputs();
        assert_eq!(alone.session.channel_count(), 1);
        alone.session.close_root(ROOT).unwrap();
        alone.session.close_root(ROOT).unwrap();
        assert_eq!(alone.messages(), [(1, close())]);
        assert_eq!(alone.session.channel_count(), 0);
        assert_eq!(alone.session.mux(ROOT).unwrap().is_ready(), lives);
        assert_eq!(alone.session.offer(ROOT, &[]).is_ok(), lives);
        alone.give(1, close()).unwrap();
        assert_eq!(alone.outputs(), []);
    }
}

#[test]
fn on_the_stream_there_is_one_root_key_and_others_keep_to_their_channels() {
    let other = RootKey::new([9; 32]);
    let mut alone = Alone::new(&config(Dialect::Stream));
    alone.session.join(at(0), root(), None).unwrap();
    assert_eq!(alone.session.join(at(0), other.clone(), None), Err(UsageError::OneRoot));

    let mut alone = met(Dialect::Auto);
    let second = alone.session.join(at(0), other.clone(), None).unwrap();
    alone.open(&other.discovery_key(), other.expose());
    assert!(alone.messages().iter().all(|(channel, _)| *channel != 0));
    on_stream(&mut alone, HANDSHAKE, GOOD).unwrap();
    let [Output::Ready { root, .. }] = alone.outputs()[..] else { panic!() };
    assert_eq!(root, ROOT);
    assert!(!alone.session.mux(second).unwrap().is_ready());
}

#[test]
fn on_the_stream_a_remote_that_opens_another_key_first_has_another_root_key() {
    let other = RootKey::new([9; 32]);
    for (dialect, error) in [(Dialect::Stream, Some(PeerError::ExchangeKey)), (Dialect::Auto, None)]
    {
        let mut alone = Alone::new(&config(dialect));
        alone.session.join(at(0), root(), None).unwrap();
        let open = alone.proof(&other.discovery_key(), other.expose());
        assert_eq!(alone.give(1, Message::Open(open)).err(), error);
    }
}

#[test]
fn names_of_the_application_on_the_stream_shift_the_numbers_of_ours() {
    let mut alone = Alone::new(&config(Dialect::Stream));
    alone.session.register_extension("AAA");
    alone.session.join(at(0), root(), None).unwrap();
    alone.open(&root().discovery_key(), root().expose());
    let messages = alone.messages();
    let names: Vec<&str> = ["AAA"].into_iter().chain(NAMES).collect();
    assert_eq!(messages[1], (0, options(&names)));
    assert_eq!(text(&messages[2]), (HANDSHAKE + 1, GOOD.to_owned()));
    // The remote has names of its own before ours: its numbers are others again.
    let theirs: Vec<&str> = ["A", "B"].into_iter().chain(NAMES).chain(["AAA"]).collect();
    alone.give(0, options(&theirs)).unwrap();
    on_stream(&mut alone, 6, "before the handshake").unwrap();
    on_stream(&mut alone, 0, "not ours").unwrap();
    on_stream(&mut alone, HANDSHAKE + 2, GOOD).unwrap();
    let outputs = alone.outputs();
    assert!(matches!(&outputs[0], Output::Extension { channel: None, name, .. } if name == "AAA"));
    assert!(is_ready(&outputs[1..], Dialect::Stream));
}

#[test]
fn a_body_on_the_stream_that_is_no_json_ends_the_connection() {
    let mut alone = met(Dialect::Auto);
    let result = on_stream(&mut alone, HANDSHAKE, "nope");
    assert!(matches!(result, Err(PeerError::Json { .. })), "{result:?}");
}

#[test]
fn on_the_stream_too_an_empty_request_is_not_answered_before_feeds_that_are_offered_are_open() {
    let mut alone = met(Dialect::Stream);
    on_stream(&mut alone, HANDSHAKE, GOOD).unwrap();
    alone.session.offer(ROOT, &[]).unwrap();
    alone.messages();
    // Both come at once from a multifeed 6 that has a feed.
    on_stream(&mut alone, MANIFEST, &manifest(&[feed(1)])).unwrap();
    on_stream(&mut alone, REQUEST, "[]").unwrap();
    assert_eq!(alone.messages(), []);
    alone.session.request_feeds(ROOT, &[feed(1)]).unwrap();
    let sent = alone.messages();
    assert_eq!((sent.len(), text(&sent[0])), (1, (REQUEST, hex_list(&[feed(1)]))));
    on_stream(&mut alone, REPLICATE, "[]").unwrap();
    assert_eq!(text(&alone.messages()[0]), (REPLICATE, "[]".to_owned()));
}
