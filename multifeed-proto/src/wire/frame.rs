//! Frames: a varint length, a varint header of channel and type, and the body.
//!
//! ```text
//! frame = varint L, varint H, body      L = len(H) + len(body) > 0
//! H     = channel * 16 + type
//! L = 0 : keepalive, no header and no body
//! ```
//!
//! Source: `simple-message-channels@1.2.1/index.js`. Stricter than it in two places: a varint has
//! 8 bytes at most wherever the stream was cut, and channel numbers have a limit instead of turning
//! negative at 2^27.

use alloc::vec::Vec;

use crate::wire::varint;
use crate::{Config, PeerError};

/// What stands at the front of a stream of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// A frame with no header and no body.
    Keepalive {
        /// Bytes that it takes up.
        len: usize,
    },
    /// A frame; its body may not have arrived.
    Frame(Header),
}

/// The part of a frame before its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The sender's channel number; 0 is the stream itself.
    pub channel: u32,
    /// Message type, 0 to 15.
    pub kind: u8,
    /// Bytes before the body.
    pub len: usize,
    /// Bytes of the body.
    pub body_len: usize,
}

/// What a frame may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest body, in bytes.
    pub max_body: usize,
    /// Highest channel number.
    pub max_channel: u32,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Self { max_body: config.max_frame_body, max_channel: config.max_channel }
    }
}

/// Reads what stands at the front of `input`, or `None` while it ends inside the varints.
///
/// Nothing is copied or allocated; the body length of the result is within the limits.
///
/// # Errors
///
/// [`PeerError::Varint`], [`PeerError::FrameLength`] and [`PeerError::ChannelLimit`], each as soon
/// as the two varints show it.
pub fn read_head(input: &[u8], limits: &Limits) -> Result<Option<Head>, PeerError> {
    let Some((len, len_bytes)) = read_varint(input)? else { return Ok(None) };
    if len == 0 {
        return Ok(Some(Head::Keepalive { len: len_bytes }));
    }
    let Some((header, header_bytes)) = read_varint(&input[len_bytes..])? else { return Ok(None) };

    // Both numbers are below 2^56.
    let body = i128::from(len) - header_bytes as i128;
    let body_len = usize::try_from(body)
        .ok()
        .filter(|&body_len| body_len <= limits.max_body)
        .ok_or(PeerError::FrameLength { len: body, max: limits.max_body })?;
    let channel = u32::try_from(header >> 4)
        .ok()
        .filter(|&channel| channel <= limits.max_channel || channel == CLOSED_CHANNEL)
        .ok_or(PeerError::ChannelLimit { channel: header >> 4, max: limits.max_channel })?;

    Ok(Some(Head::Frame(Header {
        channel,
        kind: (header & 15) as u8,
        len: len_bytes + header_bytes,
        body_len,
    })))
}

/// Appends what comes before a body of `body_len` bytes. `kind` is 0 to 15.
pub fn write_header(channel: u32, kind: u8, body_len: usize, out: &mut Vec<u8>) {
    debug_assert!(kind < 16, "a type has four bits");
    let header = u64::from(channel) << 4 | u64::from(kind & 15);
    varint::write((varint::encoded_len(header) + body_len) as u64, out);
    varint::write(header, out);
}

/// Appends a keepalive.
pub fn write_keepalive(out: &mut Vec<u8>) {
    out.push(0);
}

fn read_varint(input: &[u8]) -> Result<Option<(u64, usize)>, PeerError> {
    varint::read(input, MAX_VARINT).map_err(|varint::Endless| PeerError::Varint)
}

/// What the JavaScript sends on a channel after it closed it: its number is -1 then, and the header is
/// cut to 32 bits. It means to say nothing that anybody could hear.
pub const CLOSED_CHANNEL: u32 = u32::MAX >> 4;

/// Bytes of a length or header, padding included: 56 bits, the most that JavaScript adds up exactly.
pub const MAX_VARINT: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { max_body: 8 * 1024 * 1024, max_channel: (1 << 27) - 1 };

    #[test]
    fn a_header_is_read_back() {
        for (channel, kind, body_len) in
            [(0, 0, 0), (1, 15, 1), (8, 9, 127), (1 << 20, 3, 65_536), (LIMITS.max_channel, 15, 9)]
        {
            let mut out = Vec::new();
            write_header(channel, kind, body_len, &mut out);
            let header = Header { channel, kind, len: out.len(), body_len };
            assert_eq!(read_head(&out, &LIMITS), Ok(Some(Head::Frame(header))));
            for cut in 0..out.len() {
                assert_eq!(read_head(&out[..cut], &LIMITS), Ok(None));
            }
        }
    }

    #[test]
    fn a_keepalive_needs_no_header() {
        assert_eq!(read_head(&[0, 9], &LIMITS), Ok(Some(Head::Keepalive { len: 1 })));
        assert_eq!(read_head(&[0x80, 0, 9], &LIMITS), Ok(Some(Head::Keepalive { len: 2 })));
    }

    #[test]
    fn a_frame_shorter_than_its_header_is_refused() {
        let error = PeerError::FrameLength { len: -1, max: LIMITS.max_body };
        assert_eq!(read_head(&[0x01, 0x90, 0x01], &LIMITS), Err(error));
    }

    #[test]
    fn a_body_above_the_limit_is_refused_by_its_header_alone() {
        let mut out = Vec::new();
        write_header(1, 15, LIMITS.max_body, &mut out);
        assert!(read_head(&out, &LIMITS).is_ok());
        out.clear();
        write_header(1, 15, LIMITS.max_body + 1, &mut out);
        let error = PeerError::FrameLength { len: 8 * 1024 * 1024 + 1, max: LIMITS.max_body };
        assert_eq!(read_head(&out, &LIMITS), Err(error));
    }

    #[test]
    fn a_varint_of_more_than_8_bytes_is_refused() {
        assert_eq!(read_head(&[0x80; 7], &LIMITS), Ok(None));
        assert_eq!(read_head(&[0x80; 8], &LIMITS), Err(PeerError::Varint));
        let mut endless_header = [0x80; 9];
        endless_header[0] = 9;
        assert_eq!(read_head(&endless_header, &LIMITS), Err(PeerError::Varint));
    }

    #[test]
    fn a_frame_on_a_channel_that_the_javascript_closed_passes() {
        let mut out = Vec::new();
        write_header(CLOSED_CHANNEL, 15, 3, &mut out);
        let header = Header { channel: CLOSED_CHANNEL, kind: 15, len: out.len(), body_len: 3 };
        assert_eq!(read_head(&out, &LIMITS), Ok(Some(Head::Frame(header))));
    }

    #[test]
    fn a_channel_above_the_limit_is_refused() {
        let mut out = Vec::new();
        write_header(LIMITS.max_channel + 1, 0, 0, &mut out);
        let error = PeerError::ChannelLimit { channel: 1 << 27, max: LIMITS.max_channel };
        assert_eq!(read_head(&out, &LIMITS), Err(error));
        let widest = [8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        let error = PeerError::ChannelLimit { channel: (1 << 52) - 1, max: LIMITS.max_channel };
        assert_eq!(read_head(&widest, &LIMITS), Err(error));
    }
}
