//! Frames and message bodies.

use alloc::vec::Vec;

use bytes::Bytes;

use super::{Input, Reached};
use crate::messages::codec;
use crate::wire::frame::{self, Head, Limits};
use crate::{Config, PeerError};

/// A stream of frames: what stands at its front is read the same however much of it has come, and is what
/// is written for it.
///
/// The first byte chooses the limits.
pub fn frames(data: &[u8], reached: &mut Reached) {
    let mut input = Input::new(data);
    let limits = match input.below(3) {
        0 => Limits::from(&Config::default()),
        1 => Limits { max_body: 64, max_channel: 20 },
        _ => Limits { max_body: 0, max_channel: 0 },
    };
    let mut rest = input.rest();
    loop {
        let head = frame::read_head(rest, &limits);
        reached.peer(&head);
        check_prefixes(rest, &limits, &head);
        let len = match head {
            Err(_) | Ok(None) => return,
            Ok(Some(Head::Keepalive { len })) => len,
            Ok(Some(Head::Frame(header))) => {
                check_written(&header, &limits);
                header.len + header.body_len
            }
        };
        assert!(len > 0, "nothing was read");
        let Some(after) = rest.get(len..) else { return };
        rest = after;
    }
}

/// A part of the bytes gives nothing yet, or what the whole gives.
fn check_prefixes(bytes: &[u8], limits: &Limits, whole: &Result<Option<Head>, PeerError>) {
    for cut in 0..bytes.len().min(2 * frame::MAX_VARINT) {
        let part = frame::read_head(&bytes[..cut], limits);
        assert!(part == Ok(None) || part == *whole, "{cut} bytes give {part:?}, all {whole:?}");
    }
}

fn check_written(header: &frame::Header, limits: &Limits) {
    assert!(header.body_len <= limits.max_body, "{header:?}");
    assert!(header.channel <= limits.max_channel || header.channel == frame::CLOSED_CHANNEL);
    let mut written = Vec::new();
    frame::write_header(header.channel, header.kind, header.body_len, &mut written);
    assert!(written.len() <= header.len, "the shortest form is longer than what came");
    let again = Head::Frame(frame::Header { len: written.len(), ..*header });
    assert_eq!(frame::read_head(&written, limits), Ok(Some(again)));
}

/// The body of one message: what is read is what its encoding says, and that has one form only.
///
/// The first byte is the type.
pub fn messages(data: &[u8], reached: &mut Reached) {
    let mut input = Input::new(data);
    let kind = input.byte() & 15;
    let body = Bytes::copy_from_slice(input.rest());
    let decoded = codec::decode(kind, body);
    reached.peer(&decoded);
    let Ok(Some(message)) = decoded else { return };
    assert_eq!(codec::kind(&message), kind);
    let mut encoded = Vec::new();
    codec::encode(&message, &mut encoded);
    let again = codec::decode(kind, encoded.clone().into());
    assert_eq!(again.as_ref(), Ok(&Some(message)), "what is written does not say the same");
    let mut canonical = Vec::new();
    if let Ok(Some(again)) = again {
        codec::encode(&again, &mut canonical);
    }
    assert_eq!(encoded, canonical, "there are two forms of it");
    reached.note(NAMES[usize::from(kind)]);
}

/// What a good body of each type is noted as.
const NAMES: [&str; 16] = [
    "open",
    "options",
    "status",
    "have",
    "unhave",
    "want",
    "unwant",
    "request",
    "cancel",
    "data",
    "close",
    "",
    "",
    "",
    "",
    "extension",
];
