//! Sessions without bytes: what peers say of the blocks of a feed.
//!
//! Tests named `hostile_…` are the rows of the list of hostile input for these layers.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod util;

use multifeed_proto::messages::{Data, Have, Message, Request, Status};
use multifeed_proto::session::FeedOptions;
use multifeed_proto::{ChannelId, Config, Output, PeerError, UsageError, rle};
use util::sessions::{Alone, Two};
use util::{data, feed, span};

const UNIT: u64 = 1 << 20;

fn open() -> (Alone, ChannelId) {
    Alone::feed(&feed(1), FeedOptions::default())
}

fn have(start: u64, length: u64) -> Message {
    Message::Have(Have { start, length, bitfield: None, ack: false })
}

fn bitfield(start: u64, length: u64, encoded: &[u8]) -> Message {
    let bitfield = Some(encoded.to_vec().into());
    Message::Have(Have { start, length, bitfield, ack: false })
}

fn status(uploading: bool, downloading: bool) -> Status {
    Status { uploading, downloading }
}

fn request(index: u64) -> Request {
    Request { index, ..Request::default() }
}

fn peer(alone: &Alone) -> &multifeed_proto::session::Peer {
    alone.session.peer(ChannelId(1)).unwrap()
}

#[test]
fn a_writer_says_on_open_that_it_downloads_nothing() {
    let options = FeedOptions { ack: false, downloading: false, ..FeedOptions::default() };
    let mut alone = Alone::new(&Config::default());
    alone.session.open_feed(&feed(1), options).unwrap();
    alone.messages();
    alone.open(&feed(1).discovery_key(), &feed(1).0);
    assert_eq!(alone.messages(), [(1, Message::Status(status(true, false)))]);
}

#[test]
fn a_want_is_handed_up_and_its_answer_counts_for_the_one_who_asked() {
    let mut two = Two::new(&Config::default());
    let ids = [0, 1].map(|i| two.sessions[i].open_feed(&feed(1), FeedOptions::default()).unwrap());
    two.settle();
    two.take(0);
    two.take(1);
    two.sessions[0].want(ids[0], span(0, UNIT)).unwrap();
    two.settle();
    assert_eq!(two.take(1), [Output::Want { channel: ids[1], span: span(0, UNIT) }]);
    assert!(two.sessions[1].peer(ids[1]).unwrap().remote_wants());
    assert_eq!(two.sessions[0].peer(ids[0]).unwrap().unanswered_wants(), 1);
    // The eager announcement of the last block answers nothing yet.
    two.sessions[1].have(ids[1], span(9, 1)).unwrap();
    two.settle();
    assert_eq!(two.sessions[0].peer(ids[0]).unwrap().unanswered_wants(), 1);
    let bits = rle::encode(&[0xff, 0x40]).into();
    two.sessions[1].have_bitfield(ids[1], span(0, UNIT), bits).unwrap();
    two.settle();
    let peer = two.sessions[0].peer(ids[0]).unwrap();
    assert_eq!(peer.unanswered_wants(), 0);
    assert_eq!(peer.remote_length(), 10);
    assert!(peer.remote().contains_all(0..8) && peer.remote().contains(9));
    assert!(!peer.remote().contains(8));
    assert_eq!(peer.remote().count(), 9);
    let have = |span| Output::Have { channel: ids[0], span };
    assert_eq!(two.take(0), [have(span(9, 1)), have(span(0, UNIT))]);
}

#[test]
fn wants_are_answered_one_by_one_by_start_and_length() {
    let (mut alone, channel) = open();
    for start in [0, UNIT, 2 * UNIT, 2 * UNIT] {
        alone.session.want(channel, span(start, UNIT)).unwrap();
    }
    assert_eq!(peer(&alone).unanswered_wants(), 4);
    alone.give(1, bitfield(UNIT, UNIT, &[])).unwrap();
    assert_eq!(peer(&alone).unanswered_wants(), 3);
    alone.give(1, have(2 * UNIT, UNIT)).unwrap();
    assert_eq!(peer(&alone).unanswered_wants(), 2);
    alone.give(1, bitfield(0, 8192, &[])).unwrap();
    assert_eq!(peer(&alone).unanswered_wants(), 2);
    // Old peers answer without a length.
    alone.give(1, bitfield(0, 1, &[2, 0x80])).unwrap();
    assert_eq!(peer(&alone).unanswered_wants(), 1);
}

#[test]
fn a_remote_that_does_not_upload_owes_nothing() {
    let (mut alone, channel) = open();
    alone.session.want(channel, span(0, UNIT)).unwrap();
    alone.give(1, have(0, 9)).unwrap();
    alone.session.request(channel, request(3)).unwrap();
    assert!(peer(&alone).is_requested(3));
    alone.outputs();
    alone.give(1, Message::Status(status(false, true))).unwrap();
    assert_eq!(alone.outputs(), [Output::Status { channel, status: status(false, true) }]);
    assert_eq!((peer(&alone).unanswered_wants(), peer(&alone).in_flight()), (0, 0));
    alone.session.want(channel, span(UNIT, UNIT)).unwrap();
    assert_eq!(peer(&alone).unanswered_wants(), 0);
}

#[test]
fn hostile_a_flapping_status_is_reported_only_when_it_changes() {
    let (mut alone, channel) = open();
    assert_eq!(peer(&alone).status(), status(true, true));
    for _ in 0..100 {
        alone.give(1, Message::Status(status(true, true))).unwrap();
    }
    assert_eq!((alone.messages(), alone.outputs()), (vec![], vec![]));
    alone.give(1, Message::Status(status(true, false))).unwrap();
    alone.give(1, Message::Status(status(true, false))).unwrap();
    assert_eq!(alone.outputs(), [Output::Status { channel, status: status(true, false) }]);
    assert_eq!(alone.messages(), []);
}

#[test]
fn our_status_is_sent_when_it_changes() {
    let (mut alone, channel) = open();
    alone.session.set_status(channel, status(true, true)).unwrap();
    assert_eq!(alone.messages(), []);
    alone.session.set_status(channel, status(false, true)).unwrap();
    assert_eq!(alone.messages(), [(1, Message::Status(status(false, true)))]);
}

#[test]
fn a_side_that_does_not_upload_ignores_wants_and_requests() {
    let options = FeedOptions { uploading: false, ..FeedOptions::default() };
    let (mut alone, _) = Alone::feed(&feed(1), options);
    alone.give(1, Message::Want(span(0, UNIT))).unwrap();
    alone.give(1, Message::Request(request(0))).unwrap();
    assert_eq!(alone.outputs(), []);
    assert!(!peer(&alone).remote_wants());
}

#[test]
fn hostile_unaligned_wants_are_ignored_and_repeated_ones_handed_up() {
    let (mut alone, channel) = open();
    for (start, length) in [(0, 100), (1, 8192), (8191, 8192), (8192, 8193)] {
        alone.give(1, Message::Want(span(start, length))).unwrap();
    }
    assert_eq!(alone.outputs(), []);
    assert!(!peer(&alone).remote_wants());
    for span in [span(0, 0), span(8192, 8192), span(8192, 8192), span(1 << 52, 8192)] {
        alone.give(1, Message::Want(span)).unwrap();
        assert_eq!(alone.outputs(), [Output::Want { channel, span }]);
    }
}

#[test]
fn hostile_huge_and_overflowing_haves_cost_no_time_and_stay_in_range() {
    let (mut alone, channel) = open();
    let top = (1 << 53) - 1;
    alone.give(1, have(3, top)).unwrap();
    alone.give(1, have(top, top)).unwrap();
    assert_eq!(peer(&alone).remote_length(), 1 << 53);
    assert_eq!(peer(&alone).remote().count(), (1 << 53) - 3);
    assert_eq!(peer(&alone).remote().first_in(0..u64::MAX), Some(3));
    let spans: Vec<_> = alone
        .outputs()
        .iter()
        .map(|output| match output {
            Output::Have { channel: from, span } if *from == channel => span.start + span.length,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(spans, [1 << 53, 1 << 53]);
    alone.give(1, have(5, 0)).unwrap();
    assert_eq!(alone.outputs(), [Output::Have { channel, span: span(5, 1) }]);
}

#[test]
fn hostile_scattered_haves_end_the_stream_at_the_limit() {
    let config = Config { max_announced: 50 * 1200, ..Config::default() };
    let (mut alone, _) = Alone::feed_with(&config, &feed(1), FeedOptions::default());
    let scattered = (0..10_000).flat_map(|page| [page * 8192 * 2 + 1, page * 8192 * 2 + 3]);
    let error = scattered.map(|at| alone.give(1, have(at, 1))).find_map(Result::err);
    assert_eq!(error, Some(PeerError::Announced { max: 50 * 1200 }));
    let count = peer(&alone).remote().count();
    assert!((90..=120).contains(&count), "{count} blocks were taken in");
}

#[test]
fn hostile_all_feeds_of_a_connection_share_one_limit_and_closing_gives_back() {
    let config = Config { max_announced: 64 * 150, ..Config::default() };
    let (mut alone, first) = Alone::feed_with(&config, &feed(1), FeedOptions::default());
    let second = alone.session.open_feed(&feed(2), FeedOptions::default()).unwrap();
    alone.open(&feed(2).discovery_key(), &feed(2).0);
    let fill = |alone: &mut Alone, number| {
        for page in 0..100 {
            alone.give(number, have(page * 8192 * 2 + 1, 1)).unwrap();
        }
    };
    assert_eq!(alone.session.memory().announced, 0);
    fill(&mut alone, 1);
    alone.session.close_feed(first).unwrap();
    fill(&mut alone, 2);
    alone.give(2, Message::Unhave(span(0, 1 << 53))).unwrap();
    let third = alone.session.open_feed(&feed(3), FeedOptions::default()).unwrap();
    alone.open(&feed(3).discovery_key(), &feed(3).0);
    fill(&mut alone, 3);
    assert_eq!(alone.session.memory().announced, 6400);
    assert_eq!(alone.session.peer(third).unwrap().remote().count(), 100);
    // Half of the other feed fits beside it.
    let over = (0..100).map(|page| alone.give(2, have(page * 8192 * 2 + 1, 1)));
    assert_eq!(over.filter(Result::is_ok).count(), 50);
    assert!(alone.session.peer(second).is_some());
}

#[test]
fn hostile_bad_and_exploding_bitfields_end_the_stream() {
    let bomb = |bytes: u64| {
        let mut out = Vec::new();
        multifeed_proto::wire::varint::write(bytes << 2 | 3, &mut out);
        out
    };
    for encoded in [b"\x08\xaa".to_vec(), vec![0x80], bomb(131_073), bomb(1 << 50)] {
        let (mut alone, _) = open();
        let result = alone.give(1, bitfield(0, UNIT, &encoded));
        assert_eq!(result, Err(PeerError::Bitfield), "{encoded:?}");
    }
    let (mut alone, _) = open();
    alone.give(1, bitfield(0, UNIT, &bomb(131_072))).unwrap();
    assert_eq!(peer(&alone).remote().count(), UNIT);
}

#[test]
fn an_empty_bitfield_far_beyond_the_end_says_nothing_of_the_length() {
    let (mut alone, channel) = Alone::feed(&feed(1), FeedOptions::default());
    let start = 1 << 40;
    let bitfield = Some(Vec::new().into());
    alone.give(1, Message::Have(Have { start, length: 8192, bitfield, ack: false })).unwrap();
    let peer = alone.session.peer(channel).unwrap();
    assert_eq!((peer.remote_length(), peer.remote().count()), (0, 0));
}

#[test]
fn hostile_bitfields_with_unaligned_start_are_ignored() {
    let (mut alone, _) = open();
    alone.give(1, bitfield(8, UNIT, b"\x08\xaa")).unwrap();
    alone.give(1, bitfield(8191, UNIT, &[2, 0xff])).unwrap();
    assert_eq!(alone.outputs(), []);
    assert!(peer(&alone).remote().is_empty());
}

#[test]
fn unhave_takes_blocks_back_and_all_of_them_resets_the_length() {
    let (mut alone, channel) = open();
    alone.give(1, have(0, 20_000)).unwrap();
    alone.outputs();
    alone.give(1, Message::Unhave(span(8192, 100))).unwrap();
    assert_eq!(alone.outputs(), [Output::Unhave { channel, span: span(8192, 100) }]);
    assert!(!peer(&alone).remote().contains(8192));
    assert_eq!(peer(&alone).remote().count(), 19_900);
    assert_eq!(peer(&alone).remote_length(), 20_000);
    alone.give(1, Message::Unhave(span(0, 20_000))).unwrap();
    assert_eq!(peer(&alone).remote_length(), 0);
    assert!(peer(&alone).remote().is_empty());
}

#[test]
fn hostile_huge_unhaves_cost_no_time() {
    let (mut alone, channel) = open();
    let top = (1 << 53) - 1;
    alone.give(1, have(0, top)).unwrap();
    alone.outputs();
    for start in 0..10_000 {
        alone.give(1, Message::Unhave(span(start * 8191 + 1, top - start * 8191))).unwrap();
    }
    assert!(peer(&alone).remote().count() <= 1);
    for output in alone.outputs() {
        match output {
            Output::Unhave { channel: from, span } => {
                assert!(from == channel && span.start + span.length <= 1 << 53);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_requested_block_is_handed_up_once() {
    let (mut alone, channel) = open();
    alone.session.request(channel, request(7)).unwrap();
    assert_eq!(peer(&alone).in_flight(), 1);
    alone.give(1, Message::Data(data(7, Some(b"x")))).unwrap();
    alone.give(1, Message::Data(data(7, Some(b"x")))).unwrap();
    let expected = Output::Data { channel, data: data(7, Some(b"x")) };
    assert_eq!(alone.outputs(), [expected]);
    assert_eq!(peer(&alone).in_flight(), 0);
}

#[test]
fn hostile_unrequested_blocks_are_dropped_and_given_back_if_the_remote_wants() {
    let (mut alone, _) = open();
    alone.give(1, Message::Data(data(9, Some(b"x")))).unwrap();
    assert_eq!(alone.messages(), []);
    alone.give(1, Message::Want(span(0, 8192))).unwrap();
    alone.outputs();
    alone.give(1, Message::Data(data(9, Some(b"x")))).unwrap();
    assert_eq!(alone.messages(), [(1, Message::Unhave(span(9, 1)))]);
    alone.give(1, Message::Data(data(9, None))).unwrap();
    assert_eq!((alone.messages(), alone.outputs()), (vec![], vec![]));
}

#[test]
fn the_late_answer_to_a_request_given_up_is_handed_up_too() {
    let (mut alone, channel) = open();
    alone.give(1, Message::Want(span(0, 8192))).unwrap();
    alone.session.request(channel, request(7)).unwrap();
    alone.session.forget_request(channel, 7, false).unwrap();
    assert!(!peer(&alone).is_requested(7));
    alone.messages();
    alone.outputs();
    let expected = Output::Data { channel, data: data(7, Some(b"x")) };
    alone.give(1, Message::Data(data(7, Some(b"x")))).unwrap();
    assert_eq!((alone.messages(), alone.outputs()), (vec![], vec![expected.clone()]));
    // Asked again meanwhile, both answers are; no third one.
    alone.session.request(channel, request(7)).unwrap();
    alone.session.forget_request(channel, 7, false).unwrap();
    alone.session.request(channel, request(7)).unwrap();
    alone.messages();
    for _ in 0..3 {
        alone.give(1, Message::Data(data(7, Some(b"x")))).unwrap();
    }
    assert_eq!(alone.outputs(), [expected.clone(), expected]);
    assert_eq!(alone.messages(), [(1, Message::Unhave(span(7, 1)))]);
}

#[test]
fn a_seek_is_answered_with_another_index() {
    let (mut alone, channel) = open();
    let seek = Request { index: 5, bytes: 3, hash: true, nodes: 0 };
    alone.session.request(channel, seek).unwrap();
    alone.session.request(channel, request(6)).unwrap();
    alone.give(1, Message::Data(data(1, None))).unwrap();
    assert_eq!(alone.outputs(), [Output::Data { channel, data: data(1, None) }]);
    assert_eq!(peer(&alone).in_flight(), 1);
    alone.give(1, Message::Data(data(2, None))).unwrap();
    assert_eq!(alone.outputs(), []);
}

#[test]
fn acks_are_asked_for_and_reported_and_count_as_blocks_of_the_remote() {
    let mut two = Two::new(&Config::default());
    let ids = [0, 1].map(|i| two.sessions[i].open_feed(&feed(1), FeedOptions::default()).unwrap());
    two.settle();
    two.take(0);
    assert!(two.sessions[1].peer(ids[1]).unwrap().remote_acks());
    two.sessions[1].ack(ids[1], 4).unwrap();
    two.settle();
    assert_eq!(two.take(0), [Output::Acked { channel: ids[0], span: span(4, 1) }]);
    assert!(two.sessions[0].peer(ids[0]).unwrap().remote().contains(4));
}

#[test]
fn unwant_and_cancel_are_ignored() {
    let (mut alone, _) = open();
    alone.give(1, Message::Unwant(span(0, 8192))).unwrap();
    alone.give(1, Message::Cancel { index: 1, bytes: 0, hash: false }).unwrap();
    assert_eq!((alone.messages(), alone.outputs()), (vec![], vec![]));
}

#[test]
fn hostile_requests_of_any_index_are_handed_up_as_they_are() {
    let (mut alone, channel) = open();
    let odd = Request { index: (1 << 53) - 1, bytes: 9, hash: true, nodes: u64::MAX >> 11 };
    alone.give(1, Message::Request(odd)).unwrap();
    assert_eq!(alone.outputs(), [Output::Request { channel, request: odd }]);
}

#[test]
fn messages_that_fit_no_frame_are_refused_and_nothing_is_sent() {
    let config = Config { max_frame_body: 1000, ..Config::default() };
    let (mut alone, channel) = Alone::feed_with(
        &config,
        &feed(1),
        FeedOptions { extensions: vec!["e".into()], ..FeedOptions::default() },
    );
    let block = |len| Data { value: Some(vec![0; len].into()), ..data(0, None) };
    let too_large = |result| matches!(result, Err(UsageError::TooLarge { max: 1000, .. }));
    assert!(too_large(alone.session.send_data(channel, block(1000))));
    alone.session.send_data(channel, block(990)).unwrap();
    let body = vec![0; 1000];
    assert!(too_large(alone.session.extension(Some(channel), "e", body.clone().into())));
    assert!(too_large(alone.session.have_bitfield(channel, span(0, 8192), body.into())));
    let names = FeedOptions { extensions: vec!["e".repeat(1000)], ..FeedOptions::default() };
    assert!(too_large(alone.session.open_feed(&feed(2), names).map(|_| ())));
    assert_eq!(alone.messages().len(), 1);
}

#[test]
fn verbs_on_unknown_channels_change_nothing() {
    let (mut alone, _) = open();
    let nobody = ChannelId(9);
    let unknown = Err(UsageError::UnknownChannel);
    assert_eq!(alone.session.want(nobody, span(0, 8192)), unknown);
    assert_eq!(alone.session.request(nobody, request(0)), unknown);
    assert_eq!(alone.session.forget_request(nobody, 0, false), unknown);
    assert_eq!(alone.session.send_data(nobody, data(0, None)), unknown);
    assert_eq!(alone.session.set_status(nobody, status(true, true)), unknown);
    assert_eq!(alone.session.unhave(nobody, span(0, 1)), unknown);
    assert_eq!(alone.session.extension(Some(nobody), "e", b""[..].into()), unknown);
    assert_eq!(alone.session.close_feed(nobody), unknown);
    assert_eq!(alone.messages(), []);
}
