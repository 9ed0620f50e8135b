//! Golden vectors of channels, extensions and the multifeed: what the JavaScript said is given to a
//! session that plays its partner, and what the session says must be what the partner said.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

mod golden;
mod util;

use std::collections::BTreeSet;

use bytes::Bytes;
use golden::{array, bytes, files, label, list};
use multifeed_proto::messages::{Message, codec};
use multifeed_proto::session::{FeedOptions, Session};
use multifeed_proto::wire::{SplitKeys, varint};
use multifeed_proto::{
    Config, Dialect, FeedKey, INSECURE_DEFAULT_ROOT_KEY, Output, RootId, RootKey,
};
use serde_json::Value;
use util::at;
use util::sessions::{Alone, HANDSHAKE, MANIFEST, NAMES};

/// Channel, type and body of a frame.
fn parse(frame: &[u8]) -> (u32, u8, Bytes) {
    let (_, skip) = varint::read(frame, 10).unwrap().unwrap();
    let (header, len) = varint::read(&frame[skip..], 10).unwrap().unwrap();
    let body = Bytes::copy_from_slice(&frame[skip + len..]);
    (u32::try_from(header >> 4).unwrap(), (header & 15) as u8, body)
}

fn message(frame: &[u8]) -> (u32, Option<Message>) {
    let (channel, kind, body) = parse(frame);
    (channel, codec::decode(kind, body).unwrap())
}

/// A session in the place of one side of a recorded run.
struct Replay {
    session: Session,
    /// Feeds that the side has at the start.
    before: Vec<FeedKey>,
    ready: Option<Dialect>,
    said: Vec<(u32, Message)>,
}

impl Replay {
    fn new(vectors: &Value, side: &str, dialect: Dialect) -> Self {
        let keys = &vectors["noise"][side];
        let keys = SplitKeys { tx: array(&keys["tx"]), rx: array(&keys["rx"]) };
        let root = RootKey::from_hex(vectors["setup"]["rootKey"].as_str().unwrap()).unwrap();
        let key = |value: &Value| FeedKey::from_hex(value.as_str().unwrap()).unwrap();
        let before: Vec<_> =
            list(&vectors["setup"]["before"], side).iter().map(|feed| key(&feed["key"])).collect();
        let mut session = Session::new(&Config { dialect, ..Config::default() });
        session.handle_connected(at(0), keys);
        session.join(at(0), root, None).unwrap();
        Self { session, before, ready: None, said: Vec::new() }
    }

    /// Takes what the session wants and says, as its owner would.
    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Ready { root, dialect, version, user_data } => {
                    assert!(version.starts_with('4') && user_data.is_none());
                    self.ready = Some(dialect);
                    self.session.offer(root, &self.before.clone()).unwrap();
                }
                Output::Offered { root, keys } => self.session.request_feeds(root, &keys).unwrap(),
                Output::Replicate { keys, .. } => {
                    for key in keys {
                        let options = FeedOptions { ack: false, ..FeedOptions::default() };
                        self.session.open_feed(&key, options).unwrap();
                    }
                }
                _ => {}
            }
        }
        self.said.extend(std::iter::from_fn(|| self.session.poll_message()));
    }
}

/// The keys in a recorded manifest.
fn offered(entry: &Value) -> Vec<FeedKey> {
    let is_manifest = entry["extensionId"].as_u64() == Some(MANIFEST);
    let text = entry["extensionText"].as_str().filter(|_| is_manifest).unwrap_or("{}");
    let manifest: Value = serde_json::from_str(text).unwrap();
    list(&manifest, "keys")
        .iter()
        .map(|key| FeedKey::from_hex(key.as_str().unwrap()).unwrap())
        .collect()
}

/// The texts of the multifeed messages among `messages`, in order, by name, with the channel. Of
/// handshakes only that they are there: `multifeed` puts its options into its own.
fn multifeed(messages: &[(u32, Message)]) -> Vec<(u64, u32, String)> {
    let mut texts: Vec<_> = messages
        .iter()
        .filter_map(|(channel, message)| match message {
            Message::Extension { id, payload } => {
                let payload = if *id == HANDSHAKE { &[] } else { &payload[..] };
                Some((*id, *channel, String::from_utf8(payload.to_vec()).unwrap()))
            }
            _ => None,
        })
        .collect();
    // Messages of the two directions cross each other: only the order of equal kinds is fixed.
    texts.sort_by_key(|(id, _, _)| *id);
    texts
}

fn opens(messages: &[(u32, Message)]) -> BTreeSet<[u8; 64]> {
    messages
        .iter()
        .filter_map(|(_, message)| match message {
            Message::Open(open) => {
                let mut both = [0; 64];
                both[..32].copy_from_slice(&open.discovery_key.0);
                both[32..].copy_from_slice(&open.capability.unwrap());
                Some(both)
            }
            _ => None,
        })
        .collect()
}

/// Plays one side of a recorded run against what the other one said; gives what our session says and
/// what the JavaScript said in its place.
fn replay(
    vectors: &Value,
    side: &str,
    dialect: Dialect,
    place: &str,
) -> (Replay, Vec<(u32, Message)>) {
    let mut replay = Replay::new(vectors, side, dialect);
    let mut recorded = Vec::new();
    let frames = list(vectors, "frames");
    replay.drain();
    for (at_frame, entry) in frames.iter().enumerate() {
        if entry["marker"].is_string() && replay.ready.is_some() {
            // Feeds may be added at a marker: those that are offered until the next one.
            let until_next =
                frames[at_frame + 1..].iter().take_while(|entry| !entry["marker"].is_string());
            for entry in until_next.filter(|entry| entry["from"].as_str() == Some(side)) {
                let keys = offered(entry);
                if !keys.is_empty() {
                    replay.session.offer(RootId(0), &keys).unwrap();
                }
            }
            replay.drain();
        }
        let Some(plaintext) = entry["plaintext"].as_str() else { continue };
        let frame = golden::hex(plaintext);
        if frame == [0] {
            continue;
        }
        let (channel, Some(message)) = message(&frame) else { continue };
        if entry["from"].as_str() == Some(side) {
            recorded.push((channel, message));
        } else {
            let result = replay.session.handle_message(at(0), channel, message);
            result.unwrap_or_else(|error| panic!("{place}: {error}"));
            replay.drain();
        }
    }
    (replay, recorded)
}

const DIALECTS: [(&str, Dialect); 2] =
    [("mux_a", Dialect::Stream), ("mux_b", Dialect::RootChannel)];

fn options(messages: &[(u32, Message)]) -> Option<(u32, Message)> {
    messages.iter().find(|(_, message)| matches!(message, Message::Options(_))).cloned()
}

#[test]
fn vector_a_session_says_what_the_javascript_said_in_its_place() {
    for (prefix, dialect) in DIALECTS {
        for (file, vectors) in files(prefix) {
            for side in ["I", "R"] {
                let place = format!("{file} in the place of {side}");
                let (replay, recorded) = replay(&vectors, side, dialect, &place);
                assert_eq!(replay.ready, Some(dialect), "{place}");
                assert_eq!(replay.said[0], recorded[0], "{place}");
                assert_eq!(multifeed(&replay.said), multifeed(&recorded), "{place}");
                assert_eq!(opens(&replay.said), opens(&recorded), "{place}");
                assert_eq!(options(&replay.said), options(&recorded), "{place}");
            }
        }
    }
}

#[test]
fn vector_the_dialect_of_a_peer_is_detected_and_the_rest_is_as_if_it_had_been_known() {
    for (prefix, dialect) in DIALECTS {
        for (file, vectors) in files(prefix) {
            for side in ["I", "R"] {
                let place = format!("{file} in the place of {side}");
                let (known, _) = replay(&vectors, side, dialect, &place);
                let (detected, _) = replay(&vectors, side, Dialect::Auto, &place);
                assert_eq!(detected.ready, Some(dialect), "{place}");
                let without_handshakes = |messages: &[(u32, Message)]| -> Vec<_> {
                    let counts = |message: &Message| match message {
                        Message::Extension { id, .. } => *id != HANDSHAKE,
                        // Those of feed channels carry no names here.
                        Message::Options(options) => options.extensions.is_empty(),
                        _ => true,
                    };
                    messages.iter().filter(|(_, message)| counts(message)).cloned().collect()
                };
                assert_eq!(
                    without_handshakes(&detected.said),
                    without_handshakes(&known.said),
                    "{place}"
                );
            }
        }
    }
}

#[test]
fn vector_extension_names_are_numbered_and_framed_as_by_the_javascript() {
    for (file, vectors) in files("extensions") {
        for case in list(&vectors, "cases") {
            let mut session = Session::new(&Config::default());
            for name in list(case, "registered") {
                session.register_extension(name.as_str().unwrap());
            }
            let mut announced = false;
            for expected in list(case, "messages") {
                let payload = expected["json"].as_str().unwrap().as_bytes().to_vec().into();
                session.extension(None, expected["name"].as_str().unwrap(), payload).unwrap();
                if !std::mem::replace(&mut announced, true) {
                    let (channel, options) = session.poll_message().unwrap();
                    let mut body = Vec::new();
                    codec::encode(&options, &mut body);
                    assert_eq!((channel, body), (0, bytes(&case["optionsBody"])), "{file}");
                }
                let sent = session.poll_message().unwrap();
                let frame = message(&bytes(&expected["frameOnChannel0"]));
                assert_eq!((sent.0, Some(sent.1)), frame, "{}", label(&file, expected));
                assert_eq!(session.poll_message(), None);
            }
        }
    }
}

#[test]
fn vector_remote_numbers_find_at_least_the_names_that_the_javascript_finds() {
    for (file, vectors) in files("extensions") {
        for case in list(&vectors, "match") {
            let names = |which| -> Vec<_> {
                list(case, which).iter().map(|name| name.as_str().unwrap()).collect()
            };
            let (local, remote) = (names("local"), names("remote"));
            let mut alone = Alone::new(&Config::default());
            for name in &local {
                alone.session.register_extension(name);
            }
            alone.give(0, util::sessions::options(&remote)).unwrap();
            for (id, expected) in list(case, "byRemoteId").iter().enumerate() {
                let payload = Bytes::new();
                alone
                    .give(0, Message::Extension { id: id as u64, payload: payload.into() })
                    .unwrap();
                let found = alone.outputs().pop().map(|output| match output {
                    Output::Extension { channel: None, name, .. } => name,
                    other => panic!("{other:?}"),
                });
                let label = label(&file, case);
                // Where its walk over an unsorted list loses a name, the plain lookup does not.
                let plain = Some(remote[id]).filter(|name| local.contains(name));
                assert_eq!(found.as_deref(), plain, "{label}");
                assert!(expected.is_null() || expected.as_str() == plain, "{label}");
            }
        }
    }
}

#[test]
fn vector_odd_multifeed_messages_have_the_expected_effect() {
    for (file, vectors) in files("behaviour") {
        for case in list(&vectors, "cases") {
            let (input, expect) = (&case["input"], case["expect"].as_str().unwrap_or_default());
            let Some(json) = input["json"].as_str() else { continue };
            let name = input["ext"].as_str();
            let id = name.and_then(|name| NAMES.iter().position(|known| *known == name));
            let id = id.map(|id| id as u64).or(input["id"].as_u64());
            let Some(id) = id.filter(|_| !input["options"].is_string()) else { continue };
            let (mut alone, _) = Alone::joined(&Config::default());
            if ![HANDSHAKE, MANIFEST].contains(&id) {
                alone.extension(HANDSHAKE, util::sessions::GOOD).unwrap();
                alone.outputs();
            }
            // A key that the recorder shortened in its note.
            let json = json.replace("abab... (never offered)", &"ab".repeat(32));
            let result = alone.extension(id, &json);
            let label = label(&file, case);
            let js = case["js"].as_str().unwrap_or_default();
            match &result {
                Err(error) => {
                    let wanted = expect.contains("destroy") || js.contains(error.code());
                    assert!(wanted, "{label}: {error}");
                }
                Ok(()) => assert!(!expect.starts_with("destroy"), "{label}"),
            }
            let outputs = alone.outputs();
            match expect {
                "accept" => assert!(matches!(outputs[..], [Output::Ready { .. }]), "{label}"),
                "ignore" | "drop" => assert_eq!(outputs, [], "{label}"),
                _ => {}
            }
        }
    }
}

#[test]
fn vector_the_default_root_key_has_the_recorded_name() {
    for (_, vectors) in files("mux_b_live.json") {
        if vectors["setup"]["rootKey"]
            == multifeed_proto::to_hex(INSECURE_DEFAULT_ROOT_KEY.expose())
        {
            let frame = bytes(&list(&vectors, "frames")[0]["plaintext"]);
            let (_, Some(Message::Open(open))) = message(&frame) else { panic!() };
            assert_eq!(open.discovery_key, INSECURE_DEFAULT_ROOT_KEY.discovery_key());
        }
    }
}
