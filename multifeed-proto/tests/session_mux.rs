//! Sessions without bytes: the multifeed rules of a root key.
//!
//! Tests named `hostile_…` are the rows of the list of hostile input for these layers.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use std::time::Duration;

use multifeed_proto::messages::Message;
use multifeed_proto::session::FeedOptions;
use multifeed_proto::{
    Config, Dialect, FeedKey, Output, PeerError, RootId, RootKey, UsageError, UserData,
};
use util::sessions::{
    Alone, GOOD, HANDSHAKE, MANIFEST, NAMES, REPLICATE, REQUEST, Two, close, hex_list, manifest,
    options, text,
};
use util::{at, feed, root};

fn plain() -> FeedOptions {
    FeedOptions { ack: false, ..FeedOptions::default() }
}

#[test]
fn options_and_handshake_follow_both_opens_in_whichever_order_they_came() {
    let hello = |mut alone: Alone| {
        let messages = alone.messages();
        assert_eq!(messages[1], (1, options(&NAMES)));
        assert_eq!(text(&messages[2]), (HANDSHAKE, GOOD.to_owned()));
        assert_eq!(messages.len(), 3);
    };
    let config = Config { dialect: Dialect::RootChannel, ..Config::default() };
    let mut early = Alone::new(&config);
    early.session.join(at(0), root(), None).unwrap();
    early.open(&root().discovery_key(), root().expose());
    hello(early);
    let mut late = Alone::new(&config);
    late.open(&root().discovery_key(), root().expose());
    late.session.join(at(0), root(), None).unwrap();
    hello(late);
}

#[test]
fn two_sessions_agree_on_feeds_as_the_javascript_does() {
    let mut two = Two::joined(&Config::default(), &[root()]);
    let root = RootId(0);
    for i in 0..2 {
        let dialect = Dialect::RootChannel;
        let ready = Output::Ready { root, dialect, version: "4.0.0".into(), user_data: None };
        assert_eq!(two.take(i), [ready]);
        assert!(two.sessions[i].mux(root).unwrap().is_ready());
    }
    two.sessions[0].offer(root, &[feed(3), feed(1), feed(2)]).unwrap();
    two.settle();
    let keys = vec![feed(3), feed(1), feed(2)];
    assert_eq!(two.take(1), [Output::Offered { root, keys }]);
    assert_eq!(two.sessions[0].mux(root).unwrap().awaiting_request(), 1);
    // One that was not offered, one twice.
    two.sessions[1].request_feeds(root, &[feed(3), feed(9), feed(1), feed(3)]).unwrap();
    assert_eq!(two.sessions[1].mux(root).unwrap().awaiting_replicate(), 1);
    two.settle();
    let keys = vec![feed(1), feed(3)];
    assert_eq!(
        two.take(0),
        [
            Output::Requested { root, keys: keys.clone() },
            Output::Replicate { root, keys: keys.clone(), ours: true }
        ]
    );
    assert_eq!(two.take(1), [Output::Replicate { root, keys, ours: false }]);
    assert_eq!(two.sessions[0].mux(root).unwrap().awaiting_request(), 0);
    assert_eq!(two.sessions[1].mux(root).unwrap().awaiting_replicate(), 0);
}

#[test]
fn empty_lists_are_answered_and_keep_the_channel_open() {
    let mut two = Two::joined(&Config::default(), &[root()]);
    let root = RootId(0);
    for session in &mut two.sessions {
        session.offer(root, &[]).unwrap();
    }
    two.settle();
    for session in &mut two.sessions {
        session.request_feeds(root, &[]).unwrap();
    }
    two.settle();
    for i in 0..2 {
        assert_eq!(
            two.take(i)[1..],
            [
                Output::Offered { root, keys: vec![] },
                Output::Requested { root, keys: vec![] },
                Output::Replicate { root, keys: vec![], ours: true },
                Output::Replicate { root, keys: vec![], ours: false },
            ]
        );
        let mux = two.sessions[i].mux(root).unwrap();
        assert!(mux.is_ready() && mux.got_first_manifest());
    }
    two.sessions[0].offer(root, &[feed(1)]).unwrap();
    two.settle();
    assert_eq!(two.take(1), [Output::Offered { root, keys: vec![feed(1)] }]);
}

#[test]
fn the_first_manifest_holds_everything_and_later_ones_only_what_neither_side_offered() {
    let (mut alone, root) = Alone::ready(&Config::default());
    alone.extension(MANIFEST, &manifest(&[feed(1), feed(2)])).unwrap();
    let sent = |alone: &mut Alone| {
        alone.messages().iter().map(text).map(|(id, body)| (id == MANIFEST, body)).collect()
    };
    let offer = |alone: &mut Alone, keys: &[FeedKey]| -> Vec<(bool, String)> {
        alone.session.offer(root, keys).unwrap();
        sent(alone)
    };
    let keys = [feed(3), feed(1), feed(3), FeedKey(*util::root().expose())];
    assert_eq!(offer(&mut alone, &keys), [(true, manifest(&[feed(3), feed(1)]))]);
    assert_eq!(offer(&mut alone, &[feed(1), feed(2), feed(3)]), []);
    assert_eq!(offer(&mut alone, &[feed(2), feed(4)]), [(true, manifest(&[feed(4)]))]);
    let mux = alone.session.mux(root).unwrap();
    assert!(mux.offered_by_us(&feed(1)) && mux.offered_by_remote(&feed(1)));
    assert!(!mux.offered_by_us(&feed(2)) && !mux.offered_by_remote(&feed(4)));
    assert_eq!(mux.awaiting_request(), 2);
}

#[test]
fn a_large_offer_is_split_and_a_large_request_is_not() {
    let config = Config { manifest_keys: 3, ..Config::default() };
    let (mut alone, root) = Alone::ready(&config);
    let keys: Vec<_> = (0..8).map(feed).collect();
    alone.session.offer(root, &keys).unwrap();
    let sent: Vec<_> = alone.messages().iter().map(text).collect();
    let manifests = [&keys[..3], &keys[3..6], &keys[6..]].map(|keys| (MANIFEST, manifest(keys)));
    assert_eq!(sent, manifests);
    assert_eq!(alone.session.mux(root).unwrap().awaiting_request(), 3);
    alone.session.request_feeds(root, &keys).unwrap();
    assert_eq!(alone.messages().len(), 1);
}

#[test]
fn a_request_that_fits_no_frame_is_split() {
    let config = Config { max_frame_body: 67 * 3 + 40, ..Config::default() };
    let (mut alone, root) = Alone::ready(&config);
    let keys: Vec<_> = (0..8).map(feed).collect();
    alone.session.request_feeds(root, &keys).unwrap();
    let sent = alone.messages();
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|message| text(message).1.len() < 67 * 3 + 40));
    assert_eq!(alone.session.mux(root).unwrap().awaiting_replicate(), 3);
}

#[test]
fn offers_need_the_handshake_and_requests_only_the_channel() {
    let mut alone = Alone::new(&Config::default());
    let root = alone.session.join(at(0), root(), None).unwrap();
    assert_eq!(alone.session.offer(root, &[]), Err(UsageError::UnknownRoot));
    assert_eq!(alone.session.request_feeds(root, &[]), Err(UsageError::UnknownRoot));
    assert_eq!(alone.session.offer(RootId(7), &[]), Err(UsageError::UnknownRoot));
    let (mut alone, root) = Alone::joined(&Config::default());
    assert_eq!(alone.session.offer(root, &[]), Err(UsageError::UnknownRoot));
    alone.session.request_feeds(root, &[]).unwrap();
}

#[test]
fn user_data_arrives_as_its_json_text() {
    let mut two = Two::new(&Config::default());
    let text = r#"{"b":[1.50,null],"a":"ü"}"#;
    two.sessions[0].join(at(0), root(), Some(UserData::from_json(text).unwrap())).unwrap();
    two.sessions[1].join(at(0), root(), None).unwrap();
    two.settle();
    let user_data = |output: &Output| match output {
        Output::Ready { user_data, .. } => user_data.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(user_data(&two.take(1)[0]).as_deref(), Some(text));
    assert_eq!(user_data(&two.take(0)[0]), None);
    let mut alone = Alone::new(&Config { max_frame_body: 1_000, ..Config::default() });
    let huge = Some(UserData::from_json(format!("\"{}\"", "x".repeat(1_000))).unwrap());
    assert!(matches!(alone.session.join(at(0), root(), huge), Err(UsageError::TooLarge { .. })));
}

#[test]
fn several_roots_share_a_stream_and_keep_their_offers_apart() {
    let roots = [root(), RootKey::new([0x22; 32])];
    let mut two = Two::joined(&Config::default(), &roots);
    assert_eq!(two.take(0).len(), 2);
    two.take(1);
    two.sessions[0].offer(RootId(0), &[feed(1)]).unwrap();
    two.sessions[0].offer(RootId(1), &[feed(2)]).unwrap();
    two.settle();
    let offered = |root, key| Output::Offered { root, keys: vec![key] };
    assert_eq!(two.take(1), [offered(RootId(0), feed(1)), offered(RootId(1), feed(2))]);
    two.sessions[1].request_feeds(RootId(0), &[feed(2)]).unwrap();
    two.settle();
    let keys = vec![];
    assert_eq!(two.take(1), [Output::Replicate { root: RootId(0), keys, ours: false }]);
    assert_eq!(two.sessions[0].join(at(0), root(), None), Ok(RootId(0)));
}

#[test]
fn a_root_closed_by_the_remote_is_done_and_its_feeds_go_on() {
    let (mut alone, root_id) = Alone::ready(&Config::default());
    let channel = alone.session.open_feed(&feed(1), plain()).unwrap();
    alone.open(&feed(1).discovery_key(), &feed(1).0);
    alone.messages();
    alone.outputs();
    alone.give(1, close()).unwrap();
    assert_eq!(alone.messages(), [(1, close())]);
    assert_eq!(alone.outputs(), [Output::RootClosed { root: root_id }]);
    assert!(alone.session.peer(channel).unwrap().is_open());
    assert!(alone.session.mux(root_id).unwrap().is_closed());
    assert_eq!(alone.session.poll_timeout(), None);
    assert_eq!(alone.session.offer(root_id, &[feed(2)]), Err(UsageError::UnknownRoot));
    assert_eq!(alone.session.request_feeds(root_id, &[]), Err(UsageError::UnknownRoot));
    // Joined again, it starts anew.
    assert_eq!(alone.session.join(at(0), root(), None), Ok(root_id));
    alone.open(&root().discovery_key(), root().expose());
    assert_eq!(text(&alone.messages()[2]), (HANDSHAKE, GOOD.to_owned()));
    assert!(!alone.session.mux(root_id).unwrap().is_closed());
}

#[test]
fn the_handshake_of_each_root_has_a_deadline_of_its_own() {
    let (mut alone, _) = Alone::ready(&Config::default());
    assert_eq!(alone.session.poll_timeout(), None);
    alone.session.join(at(3000), RootKey::new([5; 32]), None).unwrap();
    assert_eq!(alone.session.poll_timeout(), Some(at(13_000)));
    alone.session.handle_timeout(at(12_999)).unwrap();
    assert_eq!(alone.outputs(), []);
    alone.session.handle_timeout(at(13_000)).unwrap();
    assert_eq!(alone.outputs().len(), 1);
    assert_eq!(alone.session.poll_timeout(), None);
}

#[test]
fn a_root_that_the_remote_does_not_know_leaves_the_others_alone() {
    let (mut alone, known) = Alone::ready(&Config::default());
    let unknown = alone.session.join(at(0), RootKey::new([5; 32]), None).unwrap();
    alone.messages();
    alone.session.handle_timeout(at(10_000)).unwrap();
    let error = PeerError::MultifeedTimeout;
    assert_eq!(alone.outputs(), [Output::RootFailed { root: unknown, error }]);
    assert_eq!(alone.messages(), [(2, close())]);
    assert!(alone.session.mux(unknown).unwrap().is_failed());
    alone.session.offer(known, &[feed(1)]).unwrap();
    assert_eq!(text(&alone.messages()[0]), (MANIFEST, manifest(&[feed(1)])));
}

#[test]
fn without_a_root_that_was_ready_the_last_deadline_ends_the_session() {
    let mut alone = Alone::new(&Config::default());
    let early = alone.session.join(at(0), root(), None).unwrap();
    alone.session.join(at(3_000), RootKey::new([5; 32]), None).unwrap();
    alone.session.handle_timeout(at(10_000)).unwrap();
    let error = PeerError::MultifeedTimeout;
    assert_eq!(alone.outputs(), [Output::RootFailed { root: early, error: error.clone() }]);
    assert_eq!(alone.session.handle_timeout(at(13_000)), Err(error));
}

#[test]
fn a_root_that_fails_can_be_joined_again() {
    let (mut alone, _) = Alone::ready(&Config::default());
    let second = RootKey::new([5; 32]);
    let id = alone.session.join(at(0), second.clone(), None).unwrap();
    alone.session.handle_timeout(at(10_000)).unwrap();
    alone.outputs();
    alone.messages();
    let remote = alone.open(&second.discovery_key(), second.expose());
    let discovery_key = second.discovery_key();
    assert_eq!(alone.outputs(), [Output::RemoteOpened { discovery_key }]);
    assert_eq!(alone.session.join(at(11_000), second, None), Ok(id));
    alone.give(remote, options(&NAMES)).unwrap();
    let payload = GOOD.as_bytes().to_vec().into();
    alone.give(remote, Message::Extension { id: HANDSHAKE, payload }).unwrap();
    assert!(alone.session.mux(id).unwrap().is_ready());
}

#[test]
fn a_root_that_the_remote_gives_up_while_it_is_joined_here_can_still_begin() {
    let mut alone = Alone::new(&Config::default());
    alone.open(&root().discovery_key(), root().expose());
    let id = alone.session.join(at(9_999), root(), None).unwrap();
    alone.give(1, close()).unwrap();
    alone.messages();
    alone.outputs();
    let again = alone.open(&root().discovery_key(), root().expose());
    assert_eq!(text(&alone.messages()[1]), (HANDSHAKE, GOOD.to_owned()));
    alone.give(again, options(&NAMES)).unwrap();
    let payload = GOOD.as_bytes().to_vec().into();
    alone.give(again, Message::Extension { id: HANDSHAKE, payload }).unwrap();
    assert!(alone.session.mux(id).unwrap().is_ready());
}

#[test]
fn what_a_remote_does_wrong_on_one_root_ends_that_root_alone() {
    let bad_version = r#"{"client":"MULTIFEED","version":"5.0.0"}"#;
    let bad_client = r#"{"client":"OTHER","version":"4.0.0"}"#;
    for (extension, body) in
        [(HANDSHAKE, bad_version), (HANDSHAKE, bad_client), (HANDSHAKE, "{"), (MANIFEST, "null")]
    {
        let (mut alone, known) = Alone::ready(&Config::default());
        let second = RootKey::new([5; 32]);
        let id = alone.session.join(at(0), second.clone(), None).unwrap();
        let remote = alone.open(&second.discovery_key(), second.expose());
        alone.give(remote, options(&NAMES)).unwrap();
        alone.outputs();
        let payload = body.as_bytes().to_vec().into();
        alone.give(remote, Message::Extension { id: extension, payload }).unwrap();
        let outputs = alone.outputs();
        assert!(
            matches!(&outputs[..], [Output::RootFailed { root, .. }] if *root == id),
            "{body}: {outputs:?}"
        );
        assert!(alone.session.mux(known).unwrap().is_ready(), "{body}");
    }
}

#[test]
fn a_multifeed_timeout_of_zero_is_none() {
    let config = Config { multifeed_timeout: Duration::ZERO, ..Config::default() };
    let mut alone = Alone::new(&config);
    alone.session.join(at(0), root(), None).unwrap();
    assert_eq!(alone.session.poll_timeout(), None);
    alone.session.handle_timeout(at(u64::MAX)).unwrap();
}

#[test]
fn hostile_multifeed_messages_of_another_shape_end_the_stream() {
    for (id, bodies) in [
        (HANDSHAKE, &["{nope", "null", "[]", "7", "\"x\""][..]),
        (MANIFEST, &["{nope", "null", "\"x\"", "{\"keys\":5}", "{\"keys\":{}}", "5"][..]),
        (REQUEST, &["null", "\"abc\"", "{}", "[", "5"][..]),
        (REPLICATE, &["null", "\"abc\"", "{}", "", "true"][..]),
    ] {
        for body in bodies {
            let (mut alone, _) = Alone::joined(&Config::default());
            let result = alone.extension(id, body);
            let name = NAMES[usize::try_from(id).unwrap()];
            assert_eq!(result, Err(PeerError::Json { message: name }), "{body}");
            assert_eq!(alone.outputs(), []);
        }
    }
}

#[test]
fn hostile_wrong_version_then_wrong_client_end_the_stream_with_both_values() {
    let error = |body: &str| {
        let (mut alone, _) = Alone::joined(&Config::default());
        alone.extension(HANDSHAKE, body).unwrap_err()
    };
    let version = error(r#"{"client":"X","version":"5.0.0"}"#);
    assert_eq!(version.code(), "ERR_VERSION_MISMATCH");
    assert_eq!(version.to_string(), "protocol version mismatch! us=4.0.0 them=5.0.0");
    let client = error(r#"{"client":"X","version":"4.1.0"}"#);
    assert_eq!(client.code(), "ERR_CLIENT_MISMATCH");
    assert_eq!(client.to_string(), "client mismatch! expected MULTIFEED but got X");
    assert_eq!(error("{}").code(), "ERR_VERSION_MISMATCH");
}

#[test]
fn hostile_keys_that_are_no_keys_are_dropped_and_upper_case_is_read_as_lower() {
    let (mut alone, root) = Alone::ready(&Config::default());
    let good = "AB".repeat(32);
    let body = format!("{{\"keys\":[\"zz\",5,null,\"{good}\",\"{}\",[[]]]}}", "g".repeat(64));
    alone.extension(MANIFEST, &body).unwrap();
    assert_eq!(alone.outputs(), [Output::Offered { root, keys: vec![feed(0xab)] }]);
}

#[test]
fn hostile_root_keys_and_repeated_keys_are_dropped_from_offers() {
    let (mut alone, root) = Alone::ready(&Config::default());
    let second = RootKey::new([0x33; 32]);
    alone.session.join(at(0), second, None).unwrap();
    let own = FeedKey(*util::root().expose());
    let keys = [feed(1), own, feed(0x33), feed(1), feed(2)];
    alone.extension(MANIFEST, &manifest(&keys)).unwrap();
    alone.extension(MANIFEST, &manifest(&[feed(2), feed(3), feed(1)])).unwrap();
    alone.extension(MANIFEST, &manifest(&[feed(2)])).unwrap();
    let offered = |keys: &[FeedKey]| Output::Offered { root, keys: keys.to_vec() };
    let expected = [offered(&[feed(1), feed(2)]), offered(&[feed(3)]), offered(&[])];
    assert_eq!(alone.outputs(), expected);
}

#[test]
fn hostile_a_manifest_of_very_many_keys_ends_the_stream_at_the_limit() {
    let config = Config { max_offered_feeds: 5, ..Config::default() };
    let (mut alone, _) = Alone::ready(&config);
    let keys: Vec<_> = (1..=5).map(feed).collect();
    alone.extension(MANIFEST, &manifest(&keys)).unwrap();
    alone.extension(MANIFEST, &manifest(&keys)).unwrap();
    let over = alone.extension(MANIFEST, &manifest(&[feed(6)]));
    assert_eq!(over, Err(PeerError::OfferedFeeds { max: 5 }));
}

#[test]
fn hostile_a_second_handshake_is_ignored_whatever_it_says() {
    let (mut alone, _) = Alone::ready(&Config::default());
    alone.extension(HANDSHAKE, GOOD).unwrap();
    alone.extension(HANDSHAKE, r#"{"client":"X","version":"9"}"#).unwrap();
    assert_eq!((alone.messages(), alone.outputs()), (vec![], vec![]));
}

#[test]
fn hostile_a_handshake_of_the_other_dialect_on_the_stream_is_ignored() {
    let (mut alone, _) = Alone::ready(&Config::default());
    alone.give(0, options(&NAMES)).unwrap();
    for body in [GOOD, "{nope", r#"{"client":"X","version":"9"}"#] {
        let payload = body.as_bytes().to_vec().into();
        alone.give(0, Message::Extension { id: HANDSHAKE, payload }).unwrap();
    }
    assert_eq!((alone.messages(), alone.outputs()), (vec![], vec![]));
}

#[test]
fn hostile_requests_for_keys_not_offered_and_lists_of_keys_not_requested_are_dropped() {
    let (mut alone, root) = Alone::ready(&Config::default());
    alone.extension(REQUEST, &hex_list(&[feed(1)])).unwrap();
    assert_eq!(alone.messages().iter().map(text).collect::<Vec<_>>(), [(REPLICATE, "[]".into())]);
    alone.extension(REPLICATE, &hex_list(&[feed(1)])).unwrap();
    let replicate = |ours| Output::Replicate { root, keys: vec![], ours };
    let requested = Output::Requested { root, keys: vec![] };
    assert_eq!(alone.outputs(), [requested, replicate(true), replicate(false)]);
    let mux = alone.session.mux(root).unwrap();
    assert_eq!((mux.awaiting_request(), mux.awaiting_replicate()), (0, 0));
}

#[test]
fn a_manifest_before_the_handshake_is_offered_and_can_be_answered() {
    let (mut alone, root) = Alone::joined(&Config::default());
    alone.extension(MANIFEST, &manifest(&[feed(1)])).unwrap();
    assert_eq!(alone.outputs(), [Output::Offered { root, keys: vec![feed(1)] }]);
    alone.session.request_feeds(root, &[feed(1)]).unwrap();
    let sent: Vec<_> = alone.messages().iter().map(text).collect();
    assert_eq!(sent, [(REQUEST, hex_list(&[feed(1)]))]);
}

#[test]
fn a_repeated_open_of_the_root_says_hello_again_and_keeps_what_was_agreed() {
    let (mut alone, root_id) = Alone::ready(&Config::default());
    alone.session.offer(root_id, &[feed(1)]).unwrap();
    alone.messages();
    alone.open(&root().discovery_key(), root().expose());
    let sent = alone.messages();
    assert_eq!(sent[0], (1, options(&NAMES)));
    assert_eq!(text(&sent[1]).0, HANDSHAKE);
    assert_eq!(alone.outputs(), []);
    assert!(alone.session.mux(root_id).unwrap().is_ready());
}

#[test]
fn keys_never_show_in_debug_output() {
    let (alone, _) = Alone::ready(&Config::default());
    let text = format!("{:?}", alone.session);
    assert!(!text.contains(&"17, ".repeat(4)) && !text.contains("11111111"), "{text}");
}

#[test]
fn an_empty_request_is_answered_when_a_feed_of_the_remote_is_open() {
    let (mut alone, root) = Alone::ready(&Config::default());
    alone.session.offer(root, &[]).unwrap();
    alone.messages();
    // What corestore-multifeed does when its handshake comes together with our manifest.
    alone.extension(REQUEST, "[]").unwrap();
    alone.extension(MANIFEST, &manifest(&[feed(1)])).unwrap();
    assert_eq!(alone.messages(), []);
    alone.session.request_feeds(root, &[feed(1)]).unwrap();
    assert_eq!(alone.messages().len(), 1);
    alone.extension(REPLICATE, &hex_list(&[feed(1)])).unwrap();
    assert_eq!(alone.messages(), []);
    alone.session.open_feed(&feed(1), plain()).unwrap();
    assert_eq!(alone.messages().len(), 1);
    alone.open(&feed(1).discovery_key(), &feed(1).0);
    let messages = alone.messages();
    assert_eq!(text(messages.last().unwrap()), (REPLICATE, "[]".to_owned()));
}

#[test]
fn an_empty_request_is_answered_at_once_when_the_remote_has_nothing_either_or_refuses() {
    let (mut alone, root) = Alone::ready(&Config::default());
    alone.session.offer(root, &[]).unwrap();
    alone.messages();
    alone.extension(REQUEST, "[]").unwrap();
    alone.extension(MANIFEST, &manifest(&[])).unwrap();
    alone.session.request_feeds(root, &[]).unwrap();
    let messages = alone.messages();
    assert_eq!(text(&messages[0]), (REQUEST, "[]".to_owned()));
    assert_eq!(text(&messages[1]), (REPLICATE, "[]".to_owned()));

    let (mut alone, root) = Alone::ready(&Config::default());
    alone.session.offer(root, &[]).unwrap();
    alone.extension(MANIFEST, &manifest(&[feed(1)])).unwrap();
    alone.session.request_feeds(root, &[feed(1)]).unwrap();
    alone.messages();
    alone.extension(REQUEST, "[]").unwrap();
    assert_eq!(alone.messages(), []);
    alone.extension(REPLICATE, "[]").unwrap();
    assert_eq!(text(&alone.messages()[0]), (REPLICATE, "[]".to_owned()));
}

#[test]
fn an_empty_request_is_answered_when_the_feed_that_was_awaited_is_given_up_here() {
    let (mut alone, root) = Alone::ready(&Config::default());
    alone.session.offer(root, &[]).unwrap();
    alone.extension(MANIFEST, &manifest(&[feed(1)])).unwrap();
    alone.session.request_feeds(root, &[feed(1)]).unwrap();
    alone.extension(REPLICATE, &hex_list(&[feed(1)])).unwrap();
    let channel = alone.session.open_feed(&feed(1), plain()).unwrap();
    alone.extension(REQUEST, "[]").unwrap();
    alone.messages();
    alone.session.close_feed(channel).unwrap();
    let messages = alone.messages();
    assert_eq!(messages[0], (channel.0, close()));
    assert_eq!(text(&messages[1]), (REPLICATE, "[]".to_owned()));
}

#[test]
fn hostile_keys_of_small_order_are_dropped_from_offers_and_never_opened() {
    let (mut alone, root) = Alone::ready(&Config::default());
    let mut one = [0; 32];
    one[0] = 1;
    let weak = [FeedKey([0; 32]), FeedKey(one), FeedKey([0xff; 32])];
    alone.extension(MANIFEST, &manifest(&[weak[0], feed(1), weak[1], weak[2]])).unwrap();
    assert_eq!(alone.outputs(), [Output::Offered { root, keys: vec![feed(1)] }]);
    for key in weak {
        assert_eq!(alone.session.open_feed(&key, plain()), Err(UsageError::WeakKey));
    }
}

#[test]
fn hostile_empty_requests_are_held_to_a_few_and_the_others_are_answered_at_once() {
    let (mut alone, root) = Alone::ready(&Config::default());
    let before = alone.session.memory();
    for _ in 0..100_000 {
        alone.extension(REQUEST, "[]").unwrap();
        alone.outputs();
    }
    assert_eq!(alone.messages().len(), 100_000 - 64);
    assert_eq!(alone.session.memory(), before);
    alone.extension(MANIFEST, &manifest(&[])).unwrap();
    alone.session.request_feeds(root, &[]).unwrap();
    let answers = alone.messages().into_iter().filter(|message| text(message).0 == REPLICATE);
    assert_eq!(answers.count(), 64);
}

#[test]
fn hostile_names_of_offered_keys_are_forgotten_when_a_multifeed_begins_anew() {
    let mut alone = Alone::new(&Config::default());
    let mut sizes = Vec::new();
    for round in 0..64u8 {
        alone.session.join(at(0), root(), None).unwrap();
        let number = alone.open(&root().discovery_key(), root().expose());
        alone.give(number, options(&NAMES)).unwrap();
        let mut say = |id, json: &str| {
            let payload = json.as_bytes().to_vec().into();
            alone.give(number, Message::Extension { id, payload }).unwrap();
        };
        say(HANDSHAKE, GOOD);
        let keys: Vec<_> = (1..200u8)
            .map(|n| {
                let mut key = [n; 32];
                key[0] = round;
                FeedKey(key)
            })
            .collect();
        say(MANIFEST, &manifest(&keys));
        sizes.push(alone.session.memory().offers);
        alone.give(number, close()).unwrap();
        alone.messages();
        alone.outputs();
    }
    assert!(sizes.iter().all(|size| *size <= sizes[0]), "{sizes:?}");
}
