//! Bytes that arrived and were not consumed yet.

use alloc::vec::Vec;
use core::mem;

use bytes::Bytes;

/// A buffer that grows with what arrives, never with what is announced. Every operation costs time
/// in proportion to the bytes pushed since the last one, however they were cut.
pub(crate) struct Inbox {
    buffer: Vec<u8>,
    // Bytes of `buffer` that are consumed.
    start: usize,
    // An empty buffer above this many bytes is given back.
    kept: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { buffer: Vec::new(), start: 0, kept: KEPT_CAPACITY }
    }
}

impl Inbox {
    /// Appends `bytes` and returns where they are, to be deciphered in place.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> &mut [u8] {
        // Moves no more bytes than were consumed since the last move.
        if self.start > 0 && self.start >= self.buffer.len() - self.start {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let before = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        &mut self.buffer[before..]
    }

    /// What was not consumed.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// What was not consumed, to be deciphered in place.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..]
    }

    /// Keeps an empty buffer of so many bytes.
    pub(crate) fn keep(&mut self, bytes: usize) {
        self.kept = bytes;
    }

    pub(crate) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Drops `len` bytes from the front. No more than there are.
    pub(crate) fn consume(&mut self, len: usize) {
        self.start += len;
        debug_assert!(self.start <= self.buffer.len(), "consumed more than there is");
        if self.start >= self.buffer.len() {
            self.start = 0;
            self.buffer.clear();
            if self.buffer.capacity() > self.kept {
                self.buffer = Vec::new();
            }
        }
    }

    /// Takes the frame at the front, `head` bytes before a body of `body` bytes, and returns the
    /// body. All of it must have arrived.
    ///
    /// The result keeps at most twice its size in memory: a small body is copied out, one that
    /// fills most of the buffer leaves with it.
    pub(crate) fn take(&mut self, head: usize, body: usize) -> Bytes {
        let from = self.start + head;
        let end = from + body;
        if body < LARGE_BODY || body < self.buffer.capacity() / 2 {
            let copy = Bytes::copy_from_slice(&self.buffer[from..end]);
            self.consume(head + body);
            return copy;
        }
        let rest = self.buffer[end..].to_vec();
        let mut taken = mem::replace(&mut self.buffer, rest);
        self.start = 0;
        taken.truncate(end);
        Bytes::from(taken).slice(from..)
    }
}

/// Bytes of an empty buffer that are kept unless said otherwise.
pub(crate) const KEPT_CAPACITY: usize = 256 * 1024;

/// Bodies from this many bytes on are worth not copying.
const LARGE_BODY: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_out_whole_and_the_rest_stays() {
        for body in [0, 1, 100, LARGE_BODY - 1, LARGE_BODY, LARGE_BODY + 1, 4 * LARGE_BODY] {
            let mut inbox = Inbox::default();
            inbox.push(&[9; 5]);
            inbox.consume(3);
            inbox.push(&alloc::vec![7; body]);
            inbox.push(&[1, 2, 3]);
            assert_eq!(inbox.take(2, body), alloc::vec![7; body], "{body}");
            assert_eq!(inbox.bytes(), [1, 2, 3], "{body}");
        }
    }

    #[test]
    fn a_large_buffer_is_given_back_when_empty() {
        let mut inbox = Inbox::default();
        inbox.push(&alloc::vec![0; 2 * KEPT_CAPACITY]);
        inbox.consume(2 * KEPT_CAPACITY);
        assert_eq!(inbox.buffer.capacity(), 0);
    }
}
