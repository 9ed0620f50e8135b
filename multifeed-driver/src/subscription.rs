//! The blocks of a feed as a stream.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use multifeed_core::Outcome;
use multifeed_proto::Contents;

use crate::command::Command;
use crate::error::Error;
use crate::feed::Feed;

/// The stream of [`Feed::subscribe`]: blocks in order, each as soon as it is here.
///
/// Waits without a limit of time while the store is open; ends at the end of its range, or after the
/// first error. Reads ahead by at most 64 blocks or 1 MiB.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Subscription {
    feed: Feed,
    /// Blocks that were not read yet.
    range: Range<u64>,
    ready: VecDeque<Contents>,
    command: Option<Command>,
    failed: bool,
}

impl Subscription {
    pub(crate) const fn new(feed: Feed, range: Range<u64>) -> Self {
        Self { feed, range, ready: VecDeque::new(), command: None, failed: false }
    }

    /// The next block; `None` after the end of the range or an error.
    ///
    /// Dropping this future loses no block.
    ///
    /// # Errors
    ///
    /// As [`Feed::try_get`].
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        poll_fn(|cx| self.poll_block(cx)).await
    }

    /// Index of the block that comes next.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.range.start - self.ready.len() as u64
    }

    fn poll_block(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            if let Some(block) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(block.0)));
            }
            if self.failed || self.range.is_empty() {
                return Poll::Ready(None);
            }
            let start = self.range.start;
            let count = (self.range.end - start).min(READ_BLOCKS);
            let command = self.command.get_or_insert_with(|| {
                self.feed.command(|node, now, id| node.read(now, id, start, count, READ_BYTES))
            });
            let result = ready!(Pin::new(command).poll(cx));
            self.command = None;
            match result {
                Ok(Outcome::Blocks(blocks)) if blocks.is_empty() => {
                    self.command =
                        Some(self.feed.command(|node, now, id| node.wait(now, id, start)));
                }
                Ok(Outcome::Blocks(blocks)) => {
                    self.range.start += blocks.len() as u64;
                    self.ready.extend(blocks.into_iter().map(Contents));
                }
                Ok(Outcome::Block(block)) => {
                    self.range.start += 1;
                    self.ready.push_back(block.into());
                }
                Ok(_) => unreachable!("a read is answered with `Blocks`, a wait with `Block`"),
                Err(error) => {
                    self.failed = true;
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
    }
}

impl Stream for Subscription {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_block(cx)
    }
}

/// Blocks read at once.
const READ_BLOCKS: u64 = 64;

/// Bytes read at once.
const READ_BYTES: usize = 1024 * 1024;
