//! Sessions without bytes: channels and extensions.
//!
//! Tests named `hostile_…` are the rows of the list of hostile input for these layers.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use multifeed_proto::messages::{Message, Open, Options};
use multifeed_proto::session::FeedOptions;
use multifeed_proto::{
    ChannelId, Config, DiscoveryKey, FeedKey, Output, PeerError, RootKey, UsageError,
};
use util::sessions::{Alone, GOOD, HANDSHAKE, MANIFEST, NAMES, Two, close, manifest, options};
use util::{at, feed, root};

fn plain() -> FeedOptions {
    FeedOptions { ack: false, ..FeedOptions::default() }
}

// Channels.

#[test]
fn nothing_is_said_before_the_noise_handshake_and_opens_come_first_after_it() {
    let mut session = multifeed_proto::session::Session::new(&Config::default());
    session.join(at(0), root(), None).unwrap();
    session.open_feed(&feed(1), plain()).unwrap();
    assert_eq!(session.poll_message(), None);
    let keys = multifeed_proto::wire::SplitKeys { tx: [1; 32], rx: [2; 32] };
    session.handle_connected(at(0), keys);
    let mut next = || session.poll_message().unwrap();
    for (number, key) in [(1, root().discovery_key()), (2, feed(1).discovery_key())] {
        match next() {
            (channel, Message::Open(Open { discovery_key, capability: Some(_) })) => {
                assert_eq!((channel, discovery_key), (number, key));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(session.poll_message(), None);
}

#[test]
fn only_open_is_sent_on_a_channel_before_both_opens_are_there() {
    let mut alone = Alone::new(&Config::default());
    let id = alone.session.open_feed(&feed(1), FeedOptions::default()).unwrap();
    assert_eq!(alone.messages().len(), 1);
    assert_eq!(alone.session.want(id, util::span(0, 8192)), Err(UsageError::NotOpen));
    assert_eq!(alone.session.have(id, util::span(0, 1)), Err(UsageError::NotOpen));
    assert!(!alone.session.peer(id).unwrap().is_open());
    alone.open(&feed(1).discovery_key(), &feed(1).0);
    assert!(alone.session.peer(id).unwrap().is_open());
    let options = Options { extensions: vec![], ack: Some(true) };
    assert_eq!(alone.messages(), [(1, Message::Options(options))]);
    assert_eq!(alone.outputs(), [Output::FeedOpened { channel: id }]);
}

#[test]
fn numbers_count_up_and_are_never_used_again() {
    let mut alone = Alone::new(&Config::default());
    for number in 1..4 {
        let id = alone.session.open_feed(&feed(1), plain()).unwrap();
        assert_eq!(id, ChannelId(number));
        alone.session.close_feed(id).unwrap();
    }
    // A refusal takes a number too.
    let wrong = alone.proof(&feed(1).discovery_key(), &[0; 32]);
    alone.give(7, Message::Open(wrong)).unwrap();
    assert_eq!(alone.session.open_feed(&feed(1), plain()), Ok(ChannelId(4)));
    assert_eq!(alone.session.open_feed(&feed(1), plain()), Ok(ChannelId(5)));
}

#[test]
fn the_last_number_is_followed_by_an_error() {
    let mut alone = Alone::new(&Config { max_channel: 2, ..Config::default() });
    alone.session.open_feed(&feed(1), plain()).unwrap();
    alone.session.open_feed(&feed(2), plain()).unwrap();
    assert_eq!(alone.session.open_feed(&feed(3), plain()), Err(UsageError::Channels));
    assert_eq!(alone.session.join(at(0), root(), None), Err(UsageError::Channels));
}

#[test]
fn opening_a_feed_twice_gives_the_same_channel() {
    let mut alone = Alone::new(&Config::default());
    let id = alone.session.open_feed(&feed(1), plain()).unwrap();
    assert_eq!(alone.session.open_feed(&feed(1), plain()), Ok(id));
    assert_eq!(alone.session.channel(&feed(1)), Some(id));
    assert_eq!(alone.session.key(id), Some(&feed(1)));
    assert_eq!(alone.messages().len(), 1);
}

#[test]
fn a_root_key_is_no_feed_and_a_feed_is_no_root() {
    let mut alone = Alone::new(&Config::default());
    alone.session.join(at(0), root(), None).unwrap();
    let as_feed = FeedKey(*root().expose());
    assert_eq!(alone.session.open_feed(&as_feed, plain()), Err(UsageError::KeyInUse));
    alone.session.open_feed(&feed(1), plain()).unwrap();
    let as_root = RootKey::new(feed(1).0);
    assert_eq!(alone.session.join(at(0), as_root, None), Err(UsageError::KeyInUse));
    assert_eq!(alone.session.channel(&as_feed), None);
    assert!(alone.session.peer(ChannelId(1)).is_none());
}

#[test]
fn a_channel_that_the_remote_opened_first_opens_at_once() {
    let mut alone = Alone::new(&Config::default());
    let key = feed(1).discovery_key();
    alone.open(&key, &feed(1).0);
    assert_eq!(alone.outputs(), [Output::RemoteOpened { discovery_key: key }]);
    assert_eq!(alone.messages(), []);
    let channel = alone.session.open_feed(&feed(1), plain()).unwrap();
    assert_eq!(alone.outputs(), [Output::FeedOpened { channel }]);
    assert!(matches!(alone.messages()[..], [(1, Message::Open(_))]));
}

#[test]
fn a_remote_that_opened_first_without_the_key_is_refused_and_the_stream_lives() {
    for capability in [None, Some([0; 32])] {
        let mut alone = Alone::new(&Config::default());
        let key = feed(1).discovery_key();
        alone.give(1, Message::Open(Open { discovery_key: key, capability })).unwrap();
        alone.outputs();
        let channel = alone.session.open_feed(&feed(1), plain()).unwrap();
        let refusal = Message::Close { discovery_key: Some(key) };
        assert_eq!(alone.messages(), [(1, refusal)]);
        assert_eq!(alone.outputs(), [Output::FeedClosed { channel }]);
        assert!(alone.session.peer(channel).is_none());
        // With the proof it goes.
        alone.open(&key, &feed(1).0);
        let channel = alone.session.open_feed(&feed(1), plain()).unwrap();
        assert!(alone.session.peer(channel).unwrap().is_open());
    }
}

#[test]
fn hostile_a_bad_capability_on_an_opened_feed_ends_the_stream() {
    for capability in [None, Some([0; 32])] {
        let mut alone = Alone::new(&Config::default());
        let channel = alone.session.open_feed(&feed(1), plain()).unwrap();
        let open = Open { discovery_key: feed(1).discovery_key(), capability };
        assert_eq!(alone.give(1, Message::Open(open)), Err(PeerError::Capability));
        assert_eq!(alone.give(2, close()), Err(PeerError::Capability));
        assert_eq!(alone.session.close_feed(channel), Err(UsageError::Closed));
        assert_eq!(alone.session.poll_timeout(), None);
    }
}

#[test]
fn hostile_a_root_opened_without_its_key_before_we_join_counts_as_not_opened() {
    let mut alone = Alone::new(&Config::default());
    let open = alone.proof(&root().discovery_key(), &[0; 32]);
    alone.give(1, Message::Open(open)).unwrap();
    alone.session.join(at(0), root(), None).unwrap();
    assert!(matches!(alone.messages()[..], [(1, Message::Open(_))]));
    alone.give(1, options(&NAMES)).unwrap();
    alone.extension(HANDSHAKE, GOOD).unwrap();
    let timeout = alone.session.handle_timeout(at(10_000));
    assert_eq!(timeout, Err(PeerError::MultifeedTimeout));
}

#[test]
fn a_close_is_answered_once_and_frees_the_key() {
    let (mut alone, channel) = Alone::feed(&feed(1), plain());
    alone.give(1, close()).unwrap();
    assert_eq!(alone.messages(), [(1, close())]);
    assert_eq!(alone.outputs(), [Output::FeedClosed { channel }]);
    assert_eq!(alone.session.channel(&feed(1)), None);
    alone.give(1, close()).unwrap();
    alone
        .give(
            1,
            Message::Have(multifeed_proto::messages::Have {
                start: 0,
                length: 1,
                bitfield: None,
                ack: false,
            }),
        )
        .unwrap();
    assert_eq!((alone.messages(), alone.outputs()), (vec![], vec![]));
}

#[test]
fn the_answer_to_our_own_close_is_ignored() {
    let (mut alone, channel) = Alone::feed(&feed(1), plain());
    alone.session.close_feed(channel).unwrap();
    assert_eq!(alone.messages(), [(1, close())]);
    alone.give(1, close()).unwrap();
    assert_eq!((alone.messages(), alone.outputs()), (vec![], vec![]));
    assert_eq!(alone.session.close_feed(channel), Err(UsageError::UnknownChannel));
}

#[test]
fn a_close_by_name_refuses_a_channel_that_the_remote_never_opened() {
    let mut alone = Alone::new(&Config::default());
    let channel = alone.session.open_feed(&feed(1), plain()).unwrap();
    alone.messages();
    let refusal = Message::Close { discovery_key: Some(feed(1).discovery_key()) };
    alone.give(9, refusal).unwrap();
    assert_eq!(alone.messages(), [(1, close())]);
    assert_eq!(alone.outputs(), [Output::FeedClosed { channel }]);
}

#[test]
fn hostile_unknown_closes_are_ignored() {
    let (mut alone, _) = Alone::feed(&feed(1), plain());
    for number in 2..10_000 {
        alone.give(number, close()).unwrap();
        let key = Some(DiscoveryKey([3; 32]));
        alone.give(number, Message::Close { discovery_key: key }).unwrap();
    }
    alone.give(0, close()).unwrap();
    assert_eq!((alone.messages(), alone.outputs()), (vec![], vec![]));
}

#[test]
fn hostile_messages_on_channels_that_are_not_open_here_are_dropped() {
    let mut alone = Alone::new(&Config::default());
    alone.open(&DiscoveryKey([3; 32]), &[3; 32]);
    alone.outputs();
    for channel in [1, 2, 77] {
        alone.give(channel, Message::Data(util::data(0, Some(b"x")))).unwrap();
        alone.give(channel, options(&NAMES)).unwrap();
        alone.give(channel, Message::Want(util::span(0, 8192))).unwrap();
    }
    assert_eq!((alone.messages(), alone.outputs()), (vec![], vec![]));
}

#[test]
fn hostile_thousands_of_opens_for_unknown_keys_are_capped_refused_then_fatal() {
    let config = Config { max_pending_channels: 10, ..Config::default() };
    let mut alone = Alone::new(&config);
    let open = |n: u32| {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        Message::Open(Open { discovery_key: DiscoveryKey(key), capability: None })
    };
    for n in 1..=10 {
        alone.give(n, open(n)).unwrap();
    }
    assert_eq!(alone.messages(), []);
    assert_eq!(alone.outputs().len(), 10);
    // The same again costs nothing, closing makes room.
    alone.give(99, open(10)).unwrap();
    alone.give(99, close()).unwrap();
    alone.give(98, open(10)).unwrap();
    alone.outputs();
    for n in 11..=50 {
        alone.give(n, open(n)).unwrap();
        assert!(matches!(alone.messages()[..], [(_, Message::Close { discovery_key: Some(_) })]));
    }
    assert_eq!(alone.outputs(), []);
    assert_eq!(alone.give(51, open(51)), Err(PeerError::PendingChannels { max: 10 }));
}

#[test]
fn opens_for_keys_in_an_offer_are_not_counted_as_unknown() {
    let config = Config { max_pending_channels: 1, ..Config::default() };
    let (mut alone, root) = Alone::ready(&config);
    let (ours, theirs, stranger) = (feed(1), feed(2), feed(3));
    alone.session.offer(root, &[ours]).unwrap();
    // Known only after its Open.
    alone.open(&theirs.discovery_key(), &theirs.0);
    alone.extension(MANIFEST, &manifest(&[theirs])).unwrap();
    alone.messages();
    alone.open(&ours.discovery_key(), &ours.0);
    alone.open(&stranger.discovery_key(), &stranger.0);
    assert_eq!(alone.messages(), []);
    alone.open(&feed(4).discovery_key(), &feed(4).0);
    assert_eq!(alone.messages().len(), 1);
}

#[test]
fn hostile_open_on_channel_0_ends_the_stream() {
    let mut alone = Alone::new(&Config::default());
    let open = alone.proof(&feed(1).discovery_key(), &feed(1).0);
    let result = alone.give(0, Message::Open(open));
    assert!(matches!(result, Err(PeerError::Message { message: "Open", .. })));
}

#[test]
fn hostile_a_channel_number_above_the_limit_ends_the_stream() {
    let mut alone = Alone::new(&Config { max_channel: 100, ..Config::default() });
    alone.give(100, close()).unwrap();
    let error = PeerError::ChannelLimit { channel: 101, max: 100 };
    assert_eq!(alone.give(101, close()), Err(error));
}

#[test]
fn hostile_a_repeated_open_starts_the_channel_anew_under_the_new_number() {
    let options = FeedOptions { downloading: false, ..FeedOptions::default() };
    let (mut alone, channel) = Alone::feed(&feed(1), options);
    alone.session.want(channel, util::span(0, 8192)).unwrap();
    alone.give(1, Message::Want(util::span(0, 8192))).unwrap();
    alone.outputs();
    alone.messages();
    alone.open(&feed(1).discovery_key(), &feed(1).0);
    assert_eq!(alone.outputs(), [Output::FeedOpened { channel }]);
    assert!(matches!(alone.messages()[..], [(1, Message::Options(_)), (1, Message::Status(_))]));
    let peer = alone.session.peer(channel).unwrap();
    assert!(!peer.remote_wants());
    assert_eq!(peer.unanswered_wants(), 0);
    // The former number is free.
    alone.give(1, close()).unwrap();
    assert_eq!(alone.outputs(), []);
    alone.give(2, close()).unwrap();
    assert_eq!(alone.outputs(), [Output::FeedClosed { channel }]);
}

#[test]
fn hostile_a_number_taken_for_another_key_closes_what_it_stood_for() {
    let (mut alone, channel) = Alone::feed(&feed(1), plain());
    let other = alone.proof(&feed(2).discovery_key(), &feed(2).0);
    alone.give(1, Message::Open(other)).unwrap();
    let discovery_key = feed(2).discovery_key();
    let expected = [Output::FeedClosed { channel }, Output::RemoteOpened { discovery_key }];
    assert_eq!(alone.outputs(), expected);
    assert_eq!(alone.messages(), [(1, close())]);
    // A pending one is replaced too.
    let third = alone.proof(&feed(3).discovery_key(), &feed(3).0);
    alone.give(1, Message::Open(third)).unwrap();
    let channel = alone.session.open_feed(&feed(2), plain()).unwrap();
    assert!(!alone.session.peer(channel).unwrap().is_open());
}

#[test]
fn two_sessions_close_and_reopen_a_feed_at_will() {
    let mut two = Two::new(&Config::default());
    for _ in 0..3 {
        let ids = [0, 1].map(|i| two.sessions[i].open_feed(&feed(1), plain()).unwrap());
        two.settle();
        for (i, id) in ids.into_iter().enumerate() {
            assert!(two.sessions[i].peer(id).unwrap().is_open());
            two.take(i);
        }
        two.sessions[0].close_feed(ids[0]).unwrap();
        two.settle();
        assert_eq!(two.take(0), []);
        assert_eq!(two.take(1), [Output::FeedClosed { channel: ids[1] }]);
    }
}

// Extensions.

#[test]
fn stream_extensions_are_announced_before_the_first_message_and_after_a_change() {
    let mut alone = Alone::new(&Config::default());
    alone.session.register_extension("b");
    let send = |alone: &mut Alone, name| {
        alone.session.extension(None, name, b"x"[..].into()).unwrap();
        alone.messages()
    };
    let message = |id| (0, Message::Extension { id, payload: b"x"[..].into() });
    assert_eq!(send(&mut alone, "b"), [(0, options(&["b"])), message(0)]);
    assert_eq!(send(&mut alone, "b"), [message(0)]);
    alone.session.register_extension("a");
    assert_eq!(send(&mut alone, "b"), [(0, options(&["a", "b"])), message(1)]);
    let unknown = alone.session.extension(None, "c", b""[..].into());
    assert_eq!(unknown, Err(UsageError::UnknownExtension));
}

#[test]
fn a_name_registered_after_the_remotes_list_came_is_still_found_in_it() {
    let mut alone = Alone::new(&Config::default());
    alone.give(0, options(&["a", "b"])).unwrap();
    alone.session.register_extension("b");
    alone.give(0, Message::Extension { id: 1, payload: b"x"[..].into() }).unwrap();
    let expected =
        Output::Extension { channel: None, name: "b".to_owned(), payload: b"x"[..].into() };
    assert_eq!(alone.outputs(), [expected]);
}

#[test]
fn feed_extensions_travel_on_their_channel() {
    let options = FeedOptions { extensions: vec!["b".into(), "a".into()], ..plain() };
    let mut two = Two::new(&Config::default());
    let ids = [0, 1].map(|i| two.sessions[i].open_feed(&feed(1), options.clone()).unwrap());
    two.settle();
    two.sessions[0].extension(Some(ids[0]), "b", b"hello"[..].into()).unwrap();
    let unknown = two.sessions[0].extension(Some(ids[0]), "c", b""[..].into());
    assert_eq!(unknown, Err(UsageError::UnknownExtension));
    two.take(1);
    two.settle();
    let name = "b".to_owned();
    let expected = Output::Extension { channel: Some(ids[1]), name, payload: b"hello"[..].into() };
    assert_eq!(two.take(1), [expected]);
}

#[test]
fn hostile_too_many_or_too_long_extension_names_end_the_stream() {
    let config = Config { max_extensions: 3, max_extension_name: 5, ..Config::default() };
    for scope in [0, 1] {
        let check = |names: &[&str]| {
            let (mut alone, _) = Alone::feed_with(&config, &feed(1), plain());
            alone.give(scope, options(names))
        };
        check(&["a", "b", "12345"]).unwrap();
        assert_eq!(check(&["a", "b", "c", "d"]), Err(PeerError::Extensions));
        assert_eq!(check(&["123456"]), Err(PeerError::Extensions));
    }
}

#[test]
fn hostile_extension_messages_with_unknown_numbers_or_before_the_list_are_dropped() {
    let mut alone = Alone::new(&Config::default());
    alone.session.join(at(0), root(), None).unwrap();
    alone.open(&root().discovery_key(), root().expose());
    alone.messages();
    alone.extension(HANDSHAKE, GOOD).unwrap();
    assert_eq!(alone.outputs(), []);
    alone.give(1, options(&["MULTIFEED_MANIFEST", "x"])).unwrap();
    for id in [1, 2, 3, 200, u64::MAX] {
        alone.extension(id, "{nope").unwrap();
    }
    assert_eq!((alone.messages(), alone.outputs()), (vec![], vec![]));
}

#[test]
fn numbers_are_those_of_the_senders_list_in_any_order() {
    let mut alone = Alone::new(&Config::default());
    alone.session.join(at(0), root(), None).unwrap();
    alone.open(&root().discovery_key(), root().expose());
    alone.give(1, options(&["MULTIFEED_MANIFEST", "MULTIFEED_HANDSHAKE"])).unwrap();
    alone.extension(1, GOOD).unwrap();
    assert!(matches!(alone.outputs()[..], [Output::Ready { .. }]));
}
