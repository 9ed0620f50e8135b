//! Run-length encoded bitfields, against a decoder that is slow and plain.

use alloc::vec::Vec;

use super::{Input, Reached};
use crate::messages::{Have, Status};
use crate::rle::{self, RleError};
use crate::session::Peer;

/// Longest field that is decoded here, in bytes.
const MAX: usize = 1 << 16;

/// The bytes as an encoding, and as a field to be encoded.
pub fn rle(data: &[u8], reached: &mut Reached) {
    let mut input = Input::new(data);
    let max = [MAX, 1024, 8, 0][input.below(4)];
    let start = 8192 * u64::from(input.byte() % 3);
    let bytes = input.rest();
    let decoded = rle::decode(bytes, max);
    assert_eq!(decoded, plain(bytes, max), "decoded otherwise than by the plain decoder");
    match &decoded {
        Ok(bits) => {
            reached.note("decoded");
            let encoded = rle::encode(bits);
            let mut trimmed = bits.clone();
            trimmed.truncate(bits.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
            assert_eq!(rle::decode(&encoded, max), Ok(trimmed));
            check_have(start, bytes, bits);
        }
        Err(RleError::Truncated) => reached.note("truncated"),
        Err(RleError::TooLong { .. }) => reached.note("too long"),
    }
    let encoded = rle::encode(bytes);
    assert!(encoded.len() <= bytes.len() + 10, "longer than one literal run of all");
    let mut again = rle::decode(&encoded, bytes.len()).expect("what is encoded is well formed");
    again.resize(bytes.len(), 0);
    assert_eq!(again, bytes);
}

/// What a peer is held to have after such a message is what the bits say.
fn check_have(start: u64, encoded: &[u8], bits: &[u8]) {
    let mut peer = Peer::new(Status { uploading: true, downloading: true });
    let bitfield = Some(encoded.to_vec().into());
    let said = peer.have(&Have { start, length: 3, bitfield, ack: false });
    assert!(said.is_ok(), "{said:?} of a field that can be decoded");
    let count: u64 = bits.iter().map(|byte| u64::from(byte.count_ones())).sum();
    assert_eq!(peer.remote().count(), count);
    for at in (0..bits.len() * 8).step_by(1 + bits.len() / 64) {
        let set = bits[at / 8] & (0x80 >> (at % 8)) != 0;
        assert_eq!(peer.remote().contains(start + at as u64), set, "block {at}");
    }
}

fn plain(encoded: &[u8], max: usize) -> Result<Vec<u8>, RleError> {
    let mut bits = Vec::new();
    let mut at = 0;
    while at < encoded.len() {
        let mut head: u128 = 0;
        let mut shift = 0;
        loop {
            let byte = *encoded.get(at).ok_or(RleError::Truncated)?;
            at += 1;
            head |= u128::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
            if shift >= 70 {
                return Err(RleError::Truncated);
            }
        }
        if head >= 1 << 64 {
            return Err(RleError::Truncated);
        }
        let (fill, len) = if head & 1 == 1 { (true, head >> 2) } else { (false, head >> 1) };
        if !fill && ((encoded.len() - at) as u128) < len {
            return Err(RleError::Truncated);
        }
        if bits.len() as u128 + len > max as u128 {
            return Err(RleError::TooLong { max });
        }
        for _ in 0..len {
            if fill {
                bits.push(if head & 2 == 2 { 0xff } else { 0 });
            } else {
                bits.push(encoded[at]);
                at += 1;
            }
        }
    }
    Ok(bits)
}
