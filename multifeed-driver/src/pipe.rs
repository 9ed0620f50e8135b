//! The bytes between a stream and the node.

use std::io;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::traits::ByteStream;

/// A stream with what was read and not handed over, and what was handed over and not written.
#[derive(Debug)]
pub(crate) struct Pipe<S> {
    stream: S,
    input: Vec<u8>,
    /// Bytes at the front of `input` that were not handed over yet.
    received: usize,
    remote_end: RemoteEnd,
    output: Vec<u8>,
    /// Bytes at the front of `output` that were written.
    written: usize,
    /// Written bytes that were not told yet.
    untold: usize,
    unflushed: bool,
    local_end: bool,
    failed: Option<Arc<io::Error>>,
}

/// What happened on a stream since it was last asked.
pub(crate) struct News<'a> {
    /// Bytes written.
    pub(crate) written: usize,
    /// Bytes read.
    pub(crate) received: &'a [u8],
    /// The peer closed its sending side: told once, and never beside bytes.
    pub(crate) ended: bool,
}

/// The end of what the peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RemoteEnd {
    Open,
    Found,
    Told,
}

impl<S: ByteStream> Pipe<S> {
    pub(crate) const fn new(stream: S) -> Self {
        Self {
            stream,
            input: Vec::new(),
            received: 0,
            remote_end: RemoteEnd::Open,
            output: Vec::new(),
            written: 0,
            untold: 0,
            unflushed: false,
            local_end: false,
            failed: None,
        }
    }

    /// Writes and flushes as much as the stream takes; the number of bytes.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> usize {
        let mut moved = 0;
        while !self.is_drained() {
            match self.stream.poll_write(cx, &self.output[self.written..]) {
                Poll::Pending => return moved,
                Poll::Ready(Ok(0)) => self.fail(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    let count = count.min(self.output.len() - self.written);
                    self.written += count;
                    self.untold += count;
                    self.unflushed = true;
                    moved += count;
                }
                Poll::Ready(Err(error)) => self.fail(error),
            }
        }
        if self.unflushed && self.failed.is_none() {
            match self.stream.poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => self.fail(error),
            }
        }
        moved
    }

    /// Reads what is there, once; 1 for the end of the stream, which is news too.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> usize {
        if self.remote_end != RemoteEnd::Open || self.received > 0 {
            return 0;
        }
        self.input.resize(INPUT_BYTES, 0);
        match self.stream.poll_read(cx, &mut self.input) {
            Poll::Pending => 0,
            Poll::Ready(Ok(0)) => {
                self.remote_end = RemoteEnd::Found;
                1
            }
            Poll::Ready(Ok(count)) => {
                self.received = count.min(INPUT_BYTES);
                self.received
            }
            // A peer that is done may drop its socket when ours is half closed.
            Poll::Ready(Err(_)) if self.local_end => {
                self.remote_end = RemoteEnd::Found;
                1
            }
            Poll::Ready(Err(error)) => {
                self.remote_end = RemoteEnd::Told;
                self.fail(error);
                0
            }
        }
    }

    /// Closes the sending side; the caller has checked that all is written.
    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_>) {
        if self.local_end || self.failed.is_some() {
            return;
        }
        // That it fails means that the peer is gone, which the reading side will tell.
        self.local_end = self.stream.poll_close(cx).is_ready();
    }

    /// Whether all bytes given to [`fill`](Self::fill) were written, or cannot be.
    pub(crate) fn is_drained(&self) -> bool {
        self.written == self.output.len()
    }

    /// Takes a prefix of `bytes` to write, after all before are written; the number of bytes that are left.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> usize {
        if self.failed.is_some() || !self.is_drained() {
            return bytes.len();
        }
        let taken = bytes.len().min(OUTPUT_BYTES);
        self.output.clear();
        self.output.extend_from_slice(&bytes[..taken]);
        self.written = 0;
        bytes.len() - taken
    }

    /// Takes `unsent`, all that the node still had when the connection ended: from here on nobody is
    /// told of what was written or read.
    pub(crate) fn take_last(&mut self, unsent: Vec<u8>) {
        if self.failed.is_none() {
            self.written = mem::take(&mut self.untold).min(unsent.len());
            self.output = unsent;
        }
    }

    /// Writes what is left, closes the sending side, and reads to the end of what the peer sends:
    /// a socket dropped with bytes unread takes back what was sent last. The number of bytes moved.
    pub(crate) fn poll_last(&mut self, cx: &mut Context<'_>) -> usize {
        let mut moved = self.poll_write(cx);
        if self.is_drained() {
            self.poll_close(cx);
        }
        moved += self.poll_read(cx);
        self.received = 0;
        moved
    }

    /// Whether neither side has anything more to say.
    pub(crate) fn is_over(&self) -> bool {
        let ended = self.local_end && self.remote_end != RemoteEnd::Open;
        ended || self.failed.is_some()
    }

    /// Whether the peer closed its sending side.
    pub(crate) fn has_remote_end(&self) -> bool {
        self.remote_end != RemoteEnd::Open
    }

    /// What happened since the last call.
    pub(crate) fn take_news(&mut self) -> News<'_> {
        let ended = self.remote_end == RemoteEnd::Found && self.received == 0;
        if ended {
            self.remote_end = RemoteEnd::Told;
        }
        News {
            written: mem::take(&mut self.untold),
            received: &self.input[..mem::take(&mut self.received)],
            ended,
        }
    }

    /// Why the stream failed, if it did. What was read before is still handed over.
    pub(crate) const fn failed(&self) -> Option<&Arc<io::Error>> {
        self.failed.as_ref()
    }

    fn fail(&mut self, error: io::Error) {
        self.failed.get_or_insert_with(|| Arc::new(error));
        self.output.clear();
        self.written = 0;
        self.untold = 0;
    }
}

/// Bytes read at once.
const INPUT_BYTES: usize = 0x1_0000;

/// Bytes taken from the node at once.
const OUTPUT_BYTES: usize = 0x1_0000;
