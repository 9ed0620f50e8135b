//! Golden vectors of the layers below the messages, through the public interface.
#![allow(clippy::unwrap_used, missing_docs)]

mod golden;

use golden::{array, bytes, files, label, list};
use multifeed_proto::wire::cipher::{Keystream, StreamCipher};
use multifeed_proto::wire::frame::{self, Head, Limits};
use multifeed_proto::wire::{SplitKeys, capability, remote_capability};
use multifeed_proto::{FeedKey, PeerError, rle};
use serde_json::Value;

const LIMITS: Limits = Limits { max_body: 8 * 1024 * 1024, max_channel: (1 << 27) - 1 };

#[test]
fn vector_frames_are_written_as_the_javascript_does() {
    for (file, vectors) in files("framing") {
        for case in list(&vectors, "encode") {
            let channel = u32::try_from(case["channel"].as_u64().unwrap()).unwrap();
            let kind = u8::try_from(case["type"].as_u64().unwrap()).unwrap();
            let body = bytes(&case["body"]);
            let mut frame = Vec::new();
            frame::write_header(channel, kind, body.len(), &mut frame);
            frame.extend_from_slice(&body);
            assert_eq!(frame, bytes(&case["frame"]), "{}", label(&file, case));

            let head = frame::read_head(&frame, &LIMITS);
            let header = frame::Header {
                channel,
                kind,
                len: frame.len() - body.len(),
                body_len: body.len(),
            };
            if channel <= LIMITS.max_channel {
                assert_eq!(head, Ok(Some(Head::Frame(header))), "{}", label(&file, case));
            } else {
                assert!(matches!(head, Err(PeerError::ChannelLimit { .. })));
            }
        }
    }
}

#[test]
fn vector_frames_are_read_from_any_chunks() {
    for (file, vectors) in files("framing") {
        for case in list(&vectors, "decode") {
            let mut stream = Vec::new();
            let mut frames = Vec::new();
            let mut result = Ok(());
            for chunk in list(case, "chunks") {
                stream.extend_from_slice(&bytes(chunk));
                result = result.and_then(|()| read_frames(&mut stream, &mut frames));
            }
            let label = label(&file, case);
            assert_eq!(result.is_ok(), case["ok"].as_bool().unwrap(), "{label}: {result:?}");
            let expected = list(case, "messages");
            assert_eq!(frames.len(), expected.len(), "{label}");
            for ((channel, kind, body), expected) in frames.iter().zip(expected) {
                assert_eq!(u64::from(*channel), expected["channel"].as_u64().unwrap(), "{label}");
                assert_eq!(u64::from(*kind), expected["type"].as_u64().unwrap(), "{label}");
                assert_eq!(body.len() as u64, expected["bodyLength"].as_u64().unwrap(), "{label}");
                // Long bodies are shortened in the file.
                let start = bytes(&expected["body"]);
                assert_eq!(body[..start.len().min(body.len())], start, "{label}");
            }
        }
    }
}

#[test]
fn vector_one_keystream_runs_over_all_chunks() {
    for (file, vectors) in files("xsalsa20") {
        for case in list(&vectors, "cases") {
            let keystream = || Keystream::new(&array(&case["key"]), &array(&case["nonce"]));
            let (mut chunked, mut plain, mut cipher) = (keystream(), Vec::new(), Vec::new());
            for chunk in list(case, "chunks") {
                let mut buffer = bytes(&chunk["plaintext"]);
                plain.extend_from_slice(&buffer);
                chunked.apply(&mut buffer);
                assert_eq!(buffer, bytes(&chunk["ciphertext"]), "{}", label(&file, case));
                cipher.extend_from_slice(&buffer);
            }
            keystream().apply(&mut plain);
            assert_eq!(plain, cipher, "{}", label(&file, case));
        }
    }
}

#[test]
fn vector_capabilities_prove_keys_both_ways() {
    for (file, vectors) in files("capability") {
        for case in list(&vectors, "cases") {
            let key = FeedKey(array(&case["key"]));
            let keys = SplitKeys { tx: array(&case["splitTx"]), rx: array(&case["splitRx"]) };
            let label = label(&file, case);
            assert_eq!(key.discovery_key().0, array(&case["discoveryKey"]), "{label}");
            assert_eq!(capability(&keys, &key.0), array(&case["capability"]), "{label}");
            let remote = remote_capability(&keys, &key.0);
            assert_eq!(remote, array(&case["remoteCapability"]), "{label}");
        }
    }
}

#[test]
fn vector_bitfields_are_encoded_and_decoded_as_the_javascript_does() {
    for (file, vectors) in files("bitfield_rle") {
        for case in list(&vectors, "cases") {
            let encoded = bytes(&case["encoded"]);
            let label = label(&file, case);
            assert_eq!(rle::encode(&bytes(&case["bitfield"])), encoded, "{label}");
            let mut decoded = rle::decode(&encoded, 1 << 20).unwrap();
            assert_eq!(decoded, bytes(&case["decodedAlign1"]), "{label}");
            decoded.resize(decoded.len().next_multiple_of(4), 0);
            assert_eq!(decoded, bytes(&case["decodedAlign4"]), "{label}");
        }
        for case in list(&vectors, "malformed") {
            let result = rle::decode(&bytes(&case["encoded"]), 1 << 20);
            assert!(result.is_err(), "{}", label(&file, case));
        }
    }
}

#[test]
fn vector_announcements_of_feeds_with_holes_are_encoded_as_the_javascript_does() {
    for (file, vectors) in files("bitfield_rle") {
        for case in list(&vectors, "haves") {
            let number = |name: &str| usize::try_from(case[name].as_u64().unwrap()).unwrap();
            let (start, end) = (number("wantStart"), number("wantStart") + number("wantLength"));
            let length = number("length");
            let holes: Vec<u64> =
                list(case, "holes").iter().map(|hole| hole.as_u64().unwrap()).collect();
            let mut bits = vec![0; length.min(end).saturating_sub(start).div_ceil(8)];
            for block in (start..length.min(end)).filter(|&b| !holes.contains(&(b as u64))) {
                bits[(block - start) / 8] |= 0x80 >> (block % 8);
            }
            assert_eq!(rle::encode(&bits), bytes(&case["haveBitfield"]), "{}", label(&file, case));
        }
    }
}

#[test]
fn vector_transcripts_decrypt_with_their_keys() {
    for (file, vectors) in files("noise_").into_iter().chain(files("mux_")) {
        let handshake = &vectors["noise"]["handshakeFrames"];
        for (side, messages) in [("I", &["msg1_I", "msg3_I"][..]), ("R", &["msg2_R"])] {
            let mut stream = bytes(&vectors["rawBytes"][side]);
            let handshake: Vec<u8> =
                messages.iter().flat_map(|name| bytes(&handshake[*name])).collect();
            assert!(stream.starts_with(&handshake), "{file} {side}");
            stream.drain(..handshake.len());
            let secrets = &vectors["noise"][side];
            if vectors["config"]["encrypted"] == Value::Bool(true) {
                Keystream::new(&array(&secrets["tx"]), &array(&secrets["localNonce"]))
                    .apply(&mut stream);
            }
            let plaintext: Vec<u8> = list(&vectors, "frames")
                .iter()
                .filter(|frame| frame["from"] == side)
                .flat_map(|frame| bytes(&frame["plaintext"]))
                .collect();
            assert_eq!(stream, plaintext, "{file} {side}");

            let mut frames = Vec::new();
            read_frames(&mut stream, &mut frames).unwrap();
            assert!(stream.is_empty(), "{file} {side}");
            check_capabilities(&file, &vectors, side, &frames);
        }
    }
}

/// The `Open` for the key that both sides know from the start proves it.
fn check_capabilities(file: &str, vectors: &Value, side: &str, frames: &[(u32, u8, Vec<u8>)]) {
    let setup = &vectors["setup"];
    let Some(key) = setup["rootKey"].as_str().or_else(|| setup["channelKey"].as_str()) else {
        return;
    };
    let key = FeedKey::from_hex(key).unwrap();
    let secrets = &vectors["noise"][side];
    let keys = SplitKeys { tx: array(&secrets["tx"]), rx: array(&secrets["rx"]) };
    let open = [&[0x0a, 32][..], &key.discovery_key().0, &[0x12, 32], &capability(&keys, &key.0)];
    assert!(frames.iter().any(|(_, kind, body)| *kind == 0 && *body == open.concat()), "{file}");
}

/// Takes whole frames from the front of `stream`.
fn read_frames(
    stream: &mut Vec<u8>,
    frames: &mut Vec<(u32, u8, Vec<u8>)>,
) -> Result<(), PeerError> {
    while let Some(head) = frame::read_head(stream, &LIMITS)? {
        match head {
            Head::Keepalive { len } => {
                stream.drain(..len);
            }
            Head::Frame(header) => {
                if stream.len() < header.len + header.body_len {
                    return Ok(());
                }
                let rest = stream.split_off(header.len + header.body_len);
                frames.push((header.channel, header.kind, stream.split_off(header.len)));
                *stream = rest;
            }
        }
    }
    Ok(())
}
