//! Run-length encoded bitfields, as they travel in `Have` messages.
//!
//! Bit `i` of a field is `0x80 >> (i % 8)` of byte `i / 8`. The encoding is a sequence of runs of
//! bytes, each begun by a varint `v`: odd `v` stands for `v >> 2` bytes of `00`, or of `ff` if the
//! bit of value 2 is set; even `v` for the `v / 2` bytes that follow.
//!
//! Source: `bitfield-rle@2.2.1/index.js`.

use alloc::vec::Vec;

use crate::PeerError;
use crate::wire::varint;

/// One run of an encoded bitfield.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run<'a> {
    /// `len` bytes that are all `ff` (`bit` set) or all `00`. Nothing bounds `len`.
    Fill {
        /// Value of every bit.
        bit: bool,
        /// Number of bytes.
        len: u64,
    },
    /// Bytes as they are.
    Literal(&'a [u8]),
}

/// Why bytes are not an encoded bitfield that we accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RleError {
    /// A varint or a literal run goes on past the end.
    #[error("a run of the bitfield does not end")]
    Truncated,
    /// The bitfield is longer than allowed.
    #[error("bitfield of more than {max} bytes")]
    TooLong {
        /// Greatest number of bytes allowed.
        max: usize,
    },
}

/// The runs of an encoded bitfield, in order. See [`runs`].
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    rest: &'a [u8],
}

/// Goes through `encoded` run by run without decoding it; no memory is used.
///
/// An item is [`RleError::Truncated`] where the encoding is malformed, and the last one then.
#[must_use]
pub fn runs(encoded: &[u8]) -> Runs<'_> {
    Runs { rest: encoded }
}

/// Decodes a bitfield of at most `max` bytes. The JavaScript pads the result with zero bytes to a
/// multiple of 4; this does not.
///
/// # Errors
///
/// [`RleError`]; memory is never used for more than `max` bytes.
pub fn decode(encoded: &[u8], max: usize) -> Result<Vec<u8>, RleError> {
    let mut bits = Vec::new();
    for run in runs(encoded) {
        let run = run?;
        let end = usize::try_from(run.len())
            .ok()
            .and_then(|len| bits.len().checked_add(len))
            .filter(|&end| end <= max)
            .ok_or(RleError::TooLong { max })?;
        match run {
            Run::Fill { bit, .. } => bits.resize(end, if bit { 0xff } else { 0x00 }),
            Run::Literal(bytes) => bits.extend_from_slice(bytes),
        }
    }
    Ok(bits)
}

/// Encodes `bits`, byte for byte as the JavaScript does. Zero bytes at the end are left out.
#[must_use]
pub fn encode(bits: &[u8]) -> Vec<u8> {
    let end = bits.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let mut encoder = Encoder { bits: &bits[..end], done: 0, out: Vec::new() };
    let mut value = 0x00;
    let mut run = 0;
    for (i, &byte) in encoder.bits.iter().enumerate() {
        if byte == value {
            run += 1;
            continue;
        }
        encoder.offer_run(i, run, value);
        run = 0;
        if byte == 0x00 || byte == 0xff {
            value = byte;
            run = 1;
        }
    }
    encoder.offer_run(end, run, value);
    encoder.write_literal(end);
    encoder.out
}

impl Run<'_> {
    /// Bytes of the bitfield that this run stands for.
    #[must_use]
    pub const fn len(&self) -> u64 {
        match self {
            Self::Fill { len, .. } => *len,
            Self::Literal(bytes) => bytes.len() as u64,
        }
    }

    /// Whether this run stands for nothing, which is legal.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<RleError> for PeerError {
    fn from(_: RleError) -> Self {
        Self::Bitfield
    }
}

impl<'a> Iterator for Runs<'a> {
    type Item = Result<Run<'a>, RleError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let run = take_run(&mut self.rest);
        if run.is_none() {
            self.rest = &[];
        }
        Some(run.ok_or(RleError::Truncated))
    }
}

fn take_run<'a>(rest: &mut &'a [u8]) -> Option<Run<'a>> {
    let (head, head_len) = varint::read(rest, varint::MAX_LEN).ok()??;
    let after = &rest[head_len..];
    if head & 1 == 1 {
        *rest = after;
        return Some(Run::Fill { bit: head & 2 == 2, len: head >> 2 });
    }
    let (bytes, after) = after.split_at_checked(usize::try_from(head / 2).ok()?)?;
    *rest = after;
    Some(Run::Literal(bytes))
}

struct Encoder<'a> {
    bits: &'a [u8],
    // Bytes of `bits` that are encoded.
    done: usize,
    out: Vec<u8>,
}

impl Encoder<'_> {
    /// Writes the `run` bytes of `value` before `end` as a fill, and the literal before them, if that
    /// is shorter than one literal of all.
    fn offer_run(&mut self, end: usize, run: usize, value: u8) {
        if run == 0 {
            return;
        }
        let fill = (run as u64) << 2 | u64::from(value & 2) | 1;
        let cost = literal_cost(end - run - self.done) + varint::encoded_len(fill);
        if cost >= literal_cost(end - self.done) {
            return;
        }
        self.write_literal(end - run);
        varint::write(fill, &mut self.out);
        self.done = end;
    }

    /// Writes what is not encoded before `end` as a literal.
    fn write_literal(&mut self, end: usize) {
        let bytes = &self.bits[self.done..end];
        if bytes.is_empty() {
            return;
        }
        varint::write(2 * bytes.len() as u64, &mut self.out);
        self.out.extend_from_slice(bytes);
        self.done = end;
    }
}

fn literal_cost(len: usize) -> usize {
    if len == 0 { 0 } else { varint::encoded_len(2 * len as u64) + len }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn a_bomb_is_refused_before_memory_is_used() {
        let mut bomb = Vec::new();
        varint::write(u64::MAX, &mut bomb);
        assert_eq!(decode(&bomb, 131_072), Err(RleError::TooLong { max: 131_072 }));
        // Every run is small, the sum is not.
        let mut fill = Vec::new();
        varint::write(100_000 << 2 | 3, &mut fill);
        assert!(decode(&fill, 131_072).is_ok());
        assert!(decode(&fill.repeat(2), 131_072).is_err());
    }

    #[test]
    fn a_field_of_exactly_the_limit_is_accepted() {
        let bits = vec![0xff; 131_072];
        assert_eq!(decode(&encode(&bits), 131_072), Ok(bits.clone()));
        assert_eq!(decode(&encode(&bits), 131_071), Err(RleError::TooLong { max: 131_071 }));
    }

    #[test]
    fn a_literal_past_the_end_is_refused() {
        assert_eq!(decode(&[0x08, 0xaa, 0xbb], 100), Err(RleError::Truncated));
        assert_eq!(decode(&[0x04, 0xaa], 100), Err(RleError::Truncated));
        assert_eq!(decode(&[0x80], 100), Err(RleError::Truncated));
        assert_eq!(decode(&[0xfe; 9], 100), Err(RleError::Truncated));
    }

    #[test]
    fn after_a_malformed_run_there_is_nothing() {
        let mut runs = runs(&[0x07, 0x04, 0xaa]);
        assert_eq!(runs.next(), Some(Ok(Run::Fill { bit: true, len: 1 })));
        assert_eq!(runs.next(), Some(Err(RleError::Truncated)));
        assert_eq!(runs.next(), None);
    }

    #[test]
    fn nothing_is_encoded_as_nothing() {
        assert!(encode(&[]).is_empty());
        assert!(encode(&[0; 100]).is_empty());
        assert_eq!(decode(&[], 0), Ok(vec![]));
    }
}
