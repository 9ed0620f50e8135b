//! Bytes that wait to be written to the transport.

use alloc::vec::Vec;

use crate::wire::cipher::StreamCipher;

/// A queue of bytes that is appended to in clear, ciphered in bulk when it is looked at, and written
/// in parts of any size.
pub(crate) struct Outbox {
    buffer: Vec<u8>,
    // Bytes of `buffer` that were transmitted.
    start: usize,
    // Bytes of `buffer` in their final form; never below `start`.
    sealed: usize,
    // An empty buffer above this many bytes is given back.
    kept: usize,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { buffer: Vec::new(), start: 0, sealed: 0, kept: KEPT_CAPACITY }
    }
}

impl Outbox {
    /// Where to append what shall be sent.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        // Moves no more bytes than were transmitted since the last move.
        if self.start > 0 && self.start >= self.buffer.len() - self.start {
            self.buffer.drain(..self.start);
            self.sealed -= self.start;
            self.start = 0;
        }
        &mut self.buffer
    }

    /// Brings everything into its final form; `None` leaves it in clear.
    pub(crate) fn seal(&mut self, cipher: Option<&mut (dyn StreamCipher + 'static)>) {
        if let Some(cipher) = cipher {
            cipher.apply(&mut self.buffer[self.sealed..]);
        }
        self.sealed = self.buffer.len();
    }

    /// What can be written.
    pub(crate) fn sealed(&self) -> &[u8] {
        &self.buffer[self.start..self.sealed]
    }

    /// Drops `len` bytes that were written, of those that can be.
    pub(crate) fn transmitted(&mut self, len: usize) {
        debug_assert!(len <= self.sealed - self.start, "transmitted more than there is");
        self.start = self.sealed.min(self.start.saturating_add(len));
        if self.start == self.buffer.len() {
            self.start = 0;
            self.sealed = 0;
            self.buffer.clear();
            if self.buffer.capacity() > self.kept {
                self.buffer = Vec::new();
            }
        }
    }

    /// Keeps an empty buffer of so many bytes.
    pub(crate) fn keep(&mut self, bytes: usize) {
        self.kept = bytes;
    }

    pub(crate) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len() - self.start
    }
}

/// Bytes of an empty buffer that are kept unless said otherwise.
pub(crate) const KEPT_CAPACITY: usize = 256 * 1024;
