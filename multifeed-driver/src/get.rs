//! Waiting for one block.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use multifeed_core::Outcome;

use crate::command::Command;
use crate::error::Error;
use crate::feed::Feed;
use crate::traits::Sleep;

/// The future of [`Feed::get`]: a block, as soon as it is here.
///
/// The time that it waits at most begins with the first poll. Dropping it changes nothing.
///
/// Fails with [`Error::Timeout`], or as [`Feed::try_get`].
#[must_use = "futures do nothing unless polled"]
pub struct Get {
    feed: Feed,
    index: u64,
    timeout: Option<Duration>,
    if_available: bool,
    command: Option<Command>,
    sleep: Option<Sleep>,
}

impl Get {
    pub(crate) const fn new(feed: Feed, index: u64, timeout: Option<Duration>) -> Self {
        Self { feed, index, timeout, if_available: false, command: None, sleep: None }
    }

    /// Waits for this long at most.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Waits only while a peer has the block: fails with
    /// [`NodeError::NotAvailable`](multifeed_core::NodeError::NotAvailable) as soon as all peers of the feed have
    /// said what they have, and none has it; at once, if the feed has no peers.
    pub fn if_available(self) -> Self {
        Self { if_available: true, ..self }
    }

    /// Waits for as long as the store is open.
    pub fn without_timeout(self) -> Self {
        Self { timeout: None, ..self }
    }
}

impl Future for Get {
    type Output = Result<Bytes, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let command = this.command.get_or_insert_with(|| {
            if let Some(timeout) = this.timeout {
                let timer = &this.feed.handle().shared().timer;
                this.sleep = Some(timer.sleep_until(timer.now().after(timeout)));
            }
            this.feed.command(|node, now, id| {
                if this.if_available {
                    node.wait_if_available(now, id, this.index)
                } else {
                    node.wait(now, id, this.index)
                }
            })
        });
        if let Poll::Ready(result) = Pin::new(command).poll(cx) {
            let Outcome::Block(block) = result? else {
                unreachable!("a wait is answered with `Block`");
            };
            return Poll::Ready(Ok(block));
        }
        let (Some(sleep), Some(waited)) = (&mut this.sleep, this.timeout) else {
            return Poll::Pending;
        };
        ready!(sleep.as_mut().poll(cx));
        let feed = this.feed.short_key();
        Poll::Ready(Err(Error::Timeout { feed, index: this.index, waited }))
    }
}

impl fmt::Debug for Get {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { feed, index, timeout, .. } = self;
        f.debug_struct("Get")
            .field("feed", feed)
            .field("index", index)
            .field("timeout", timeout)
            .finish_non_exhaustive()
    }
}
