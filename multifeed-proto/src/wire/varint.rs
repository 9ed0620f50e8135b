//! Variable-length integers: 7 bits a byte, least significant group first, high bit = more follow.
//!
//! Source: npm `varint@5`. JavaScript is exact up to 2^53 - 1 only; the bound of 64 bits is ours,
//! and messages are held to [`MAX_SAFE_INTEGER`].

use alloc::vec::Vec;

/// Greatest integer that a JavaScript peer reads without rounding.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// A varint that goes on for more bytes than allowed, or holds more than 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a varint does not end")]
pub struct Endless;

/// Reads a varint from the front of `input`, of `max` bytes at most (more than 10 are never read).
///
/// Returns the value and its length in bytes, or `None` while `input` ends too early. Padded forms
/// such as `82 00` for 2 are accepted, as the JavaScript does. Nothing is copied or allocated.
///
/// # Errors
///
/// [`Endless`] as soon as the byte at `max` shows it.
pub fn read(input: &[u8], max: usize) -> Result<Option<(u64, usize)>, Endless> {
    let mut value = 0;
    for (i, &byte) in input.iter().enumerate().take(max.min(MAX_LEN)) {
        // The tenth byte has room for the topmost bit only.
        if i == MAX_LEN - 1 && byte > 1 {
            return Err(Endless);
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Ok(Some((value, i + 1)));
        }
    }
    if input.len() >= max.min(MAX_LEN) { Err(Endless) } else { Ok(None) }
}

/// Appends the shortest form of `value`.
pub fn write(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that [`write()`] appends for `value`, 1 to 10.
#[must_use]
pub const fn encoded_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Bytes of the longest varint, a 64-bit integer.
pub const MAX_LEN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_read_back() {
        for bits in 0..64 {
            for value in [(1_u64 << bits) - 1, 1 << bits, u64::MAX >> bits] {
                let mut out = Vec::new();
                write(value, &mut out);
                assert_eq!(out.len(), encoded_len(value), "{value}");
                assert_eq!(read(&out, MAX_LEN), Ok(Some((value, out.len()))), "{value}");
                for cut in 0..out.len() {
                    assert_eq!(read(&out[..cut], MAX_LEN), Ok(None), "{value}");
                }
            }
        }
    }

    #[test]
    fn padding_is_accepted_up_to_the_limit() {
        assert_eq!(read(&[0x82, 0x00], 8), Ok(Some((2, 2))));
        assert_eq!(read(&[0x82, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], 8), Ok(Some((2, 8))));
        assert_eq!(read(&[0x80; 7], 8), Ok(None));
        assert_eq!(read(&[0x80; 8], 8), Err(Endless));
    }

    #[test]
    fn more_than_64_bits_are_refused() {
        let mut bytes = [0xff; 10];
        bytes[9] = 1;
        assert_eq!(read(&bytes, MAX_LEN), Ok(Some((u64::MAX, 10))));
        bytes[9] = 2;
        assert_eq!(read(&bytes, MAX_LEN), Err(Endless));
        assert_eq!(read(&[0xff; 11], usize::MAX), Err(Endless));
    }
}
