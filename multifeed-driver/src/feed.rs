//! One feed, as the application holds it.

use std::future::Future;
use std::ops::{Bound, Range, RangeBounds};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use multifeed_core::{ConnectionId, FeedId, FeedInfo, MultifeedId, Outcome, PeerInfo};
use multifeed_proto::{FeedKey, Now};

use crate::command::Command;
use crate::error::Error;
use crate::get::Get;
use crate::shared::Handle;
use crate::subscription::Subscription;

/// One feed of a store: a log of blocks by one writer.
///
/// Cheap to clone, and makes no difference to the store until it is used: feeds are opened when
/// first needed.
#[derive(Clone, Debug)]
pub struct Feed {
    handle: Handle,
    id: FeedId,
    key: FeedKey,
    /// The multifeed that it was found in.
    multifeed: Option<MultifeedId>,
}

/// The future of [`Feed::download`]: ready when all blocks of its range are here. Dropped, it asks
/// for no more; what came or was asked for stays.
///
/// Fails as [`Feed::try_get`].
#[derive(Debug)]
#[must_use = "a download ends when it is dropped"]
pub struct Download(Command);

impl Future for Download {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|result| {
            result?;
            Ok(())
        })
    }
}

impl Feed {
    pub(crate) const fn new(
        handle: Handle,
        id: FeedId,
        key: FeedKey,
        multifeed: Option<MultifeedId>,
    ) -> Self {
        Self { handle, id, key, multifeed }
    }

    /// Appends a block; gives its index when it is as durable as the store's options say.
    ///
    /// Dropped early, the block may still be appended.
    ///
    /// # Errors
    ///
    /// If the feed is not writable here, the block is too large, the storage failed (then the block
    /// is not in the log), or the store is closed.
    pub async fn append(&self, block: impl Into<Vec<u8>>) -> Result<u64, Error> {
        Ok(self.append_all(vec![Bytes::from(block.into())]).await?.start)
    }

    /// Appends blocks under one signature: all of them, or none. Gives their indices.
    ///
    /// Dropped early, the blocks may still be appended.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub async fn append_batch<B: Into<Vec<u8>>>(
        &self,
        blocks: impl IntoIterator<Item = B>,
    ) -> Result<Range<u64>, Error> {
        self.append_all(blocks.into_iter().map(|block| Bytes::from(block.into())).collect()).await
    }

    async fn append_all(&self, blocks: Vec<Bytes>) -> Result<Range<u64>, Error> {
        let outcome = self.command(|node, now, id| node.append(now, id, blocks)).await?;
        let Outcome::Appended { start, length } = outcome else {
            unreachable!("an append is answered with `Appended`");
        };
        Ok(start..start + length)
    }

    /// The block at `index`, asked of peers before anything else; waits until it is here, at most as long as
    /// [`Options::get_timeout`](crate::Options::get_timeout) or [`Get::timeout`] says.
    pub fn get(&self, index: u64) -> Get {
        Get::new(self.clone(), index, self.handle.shared().get_timeout)
    }

    /// The block at `index` if it is here.
    ///
    /// Dropping this future changes nothing.
    ///
    /// # Errors
    ///
    /// If the storage failed, the feed is damaged, or the store is closed.
    pub async fn try_get(&self, index: u64) -> Result<Option<Bytes>, Error> {
        Ok(self.read(index, 1, usize::MAX).await?.into_iter().next())
    }

    /// Whether the block at `index` is here. Neither reads it nor asks peers for it.
    ///
    /// Dropping this future changes nothing.
    ///
    /// # Errors
    ///
    /// As [`try_get`](Self::try_get).
    pub async fn has(&self, index: u64) -> Result<bool, Error> {
        // No range of indices ends behind the greatest one, and no block is there.
        Ok(index < u64::MAX && self.has_all(index..=index).await?)
    }

    /// Whether all blocks of `range` are here: `true` for an empty range, `false` for one that reaches over
    /// the end of the log. An open range ends where the log does, as far as it is proven here.
    ///
    /// Dropping this future changes nothing.
    ///
    /// # Errors
    ///
    /// As [`try_get`](Self::try_get).
    pub async fn has_all(&self, range: impl RangeBounds<u64>) -> Result<bool, Error> {
        let mut blocks = indices(&range);
        if range.end_bound() == Bound::Unbounded {
            blocks.end = self.load().await?.length;
        }
        let outcome = self.command(|node, now, id| node.has(now, id, blocks)).await?;
        let Outcome::Has(all) = outcome else {
            unreachable!("a question for blocks is answered with `Has`");
        };
        Ok(all)
    }

    /// The last block of the log as far as it is proven here, waited for as by [`get`](Self::get); `None`: the
    /// log is empty. What peers have beyond that is not asked for: [`update`](Self::update) does that.
    ///
    /// Dropping this future changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`], or as [`try_get`](Self::try_get).
    pub async fn head(&self) -> Result<Option<Bytes>, Error> {
        match self.load().await?.length.checked_sub(1) {
            Some(last) => Ok(Some(self.get(last).await?)),
            None => Ok(None),
        }
    }

    /// Up to `count` blocks from `index` on: as many as are here without a gap and together have at
    /// most `max_bytes` bytes, but at least one if that at `index` is here.
    ///
    /// Dropping this future changes nothing.
    ///
    /// # Errors
    ///
    /// As [`try_get`](Self::try_get).
    pub async fn read(
        &self,
        index: u64,
        count: u64,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, Error> {
        let outcome =
            self.command(|node, now, id| node.read(now, id, index, count, max_bytes)).await?;
        let Outcome::Blocks(blocks) = outcome else {
            unreachable!("a read is answered with `Blocks`");
        };
        Ok(blocks)
    }

    /// The blocks of `range` in order, each as soon as it is here. `..` and `5..` never end: they go on
    /// with what is appended later.
    pub fn subscribe(&self, range: impl RangeBounds<u64>) -> Subscription {
        Subscription::new(self.clone(), indices(&range))
    }

    /// Fetches the blocks of `range`, as peers have them, until all are here or the [`Download`] is
    /// dropped. Of use in a [sparse](Self::set_sparse) feed, and for blocks that were
    /// [cleared](Self::clear).
    ///
    /// It begins at once. An open range never ends: it goes on with what is appended later.
    pub fn download(&self, range: impl RangeBounds<u64>) -> Download {
        Download(self.command(|node, now, id| node.download(now, id, indices(&range))))
    }

    /// Has only those blocks fetched that somebody asks for (`true`), or all of them. Not remembered in
    /// the store: what holds after opening is said by [`Options::sparse`](crate::Options::sparse).
    pub fn set_sparse(&self, sparse: bool) {
        self.handle.shared().with(|state, now| state.node.set_sparse(now, self.id, sparse));
    }

    /// Says whether blocks of this feed are sent to peers and fetched from them, on each connection as far
    /// as its [`ReplicationOptions`](crate::ReplicationOptions) allow. Both at each
    /// opening of the store, which does not remember it.
    pub fn set_transfer(&self, upload: bool, download: bool) {
        self.handle
            .shared()
            .with(|state, now| state.node.set_transfer(now, self.id, upload, download));
    }

    /// Registers the name of an extension, 1 to 256 bytes, on this feed: a way for messages of the
    /// application to peers that replicate it. Theirs come as
    /// [`Event::Extension`](crate::Event::Extension).
    ///
    /// # Errors
    ///
    /// If the name has another length, or this feed has 256 already.
    pub fn register_extension(&self, name: &str) -> Result<(), Error> {
        let register = self
            .handle
            .shared()
            .with(|state, now| state.node.register_extension(now, self.id, name));
        Ok(register?)
    }

    /// Sends a message of an extension to the peer of one connection or, with `None`, to all that
    /// replicate this feed; gives the number of connections that it went out on. Nothing tells whether
    /// it arrives or is understood. It is left out where too much waits for a peer that does not read.
    ///
    /// # Errors
    ///
    /// If the name is not registered, or the message is larger than 8 MiB.
    pub fn send_extension(
        &self,
        to: Option<ConnectionId>,
        name: &str,
        payload: impl Into<Bytes>,
    ) -> Result<usize, Error> {
        let payload = payload.into();
        let send = self
            .handle
            .shared()
            .with(|state, now| state.node.send_extension(now, self.id, to, name, &payload));
        Ok(send?)
    }

    /// Waits until the log is known to have `length` blocks or, with `None`, one more than now; gives the
    /// length. Asks peers for the proof of it, not for the blocks.
    ///
    /// Dropping this future changes nothing.
    ///
    /// # Errors
    ///
    /// As [`try_get`](Self::try_get).
    pub async fn update(&self, length: Option<u64>) -> Result<u64, Error> {
        updated(self.command(|node, now, id| node.update(now, id, length))).await
    }

    /// As [`update`](Self::update), but fails with [`NodeError::NotAvailable`](multifeed_core::NodeError::NotAvailable)
    /// as soon as all peers of the feed have said what they have, and no log of theirs is that long; at once,
    /// if the feed has no peers.
    ///
    /// Dropping this future changes nothing.
    ///
    /// # Errors
    ///
    /// That one, or as [`try_get`](Self::try_get).
    pub async fn update_if_available(&self, length: Option<u64>) -> Result<u64, Error> {
        updated(self.command(|node, now, id| node.update_if_available(now, id, length))).await
    }

    /// The block with the byte `offset` of the log, counted from 0, and how many bytes of the block come
    /// before it. For the offset that is the log's size in bytes: the block after the last, and 0.
    ///
    /// Asks peers for hashes where the tree is not known here, not for blocks; waits if the log is not
    /// known to be that long.
    ///
    /// Dropping this future changes nothing.
    ///
    /// # Errors
    ///
    /// As [`try_get`](Self::try_get).
    pub async fn seek(&self, offset: u64) -> Result<(u64, u64), Error> {
        let outcome = self.command(|node, now, id| node.seek(now, id, offset)).await?;
        let Outcome::Sought { block, offset } = outcome else {
            unreachable!("a seek is answered with `Sought`");
        };
        Ok((block, offset))
    }

    /// Gives the blocks of `range` up: their space is freed where the system can, their place in the log
    /// stays proven, and peers are told. Gives nothing back for blocks that are not here.
    ///
    /// They are not fetched again unless somebody asks for them, with [`get`](Self::get) or
    /// [`download`](Self::download); the store remembers that.
    ///
    /// Dropped early, the blocks are given up all the same.
    ///
    /// # Errors
    ///
    /// As [`try_get`](Self::try_get).
    pub async fn clear(&self, range: impl RangeBounds<u64>) -> Result<(), Error> {
        self.command(|node, now, id| node.clear(now, id, indices(&range))).await?;
        Ok(())
    }

    /// Opens the feed, so that its [`FeedInfo`] is complete.
    ///
    /// Dropped early, the feed is opened all the same.
    ///
    /// # Errors
    ///
    /// As [`try_get`](Self::try_get).
    pub async fn load(&self) -> Result<FeedInfo, Error> {
        self.command(|node, now, id| node.load(now, id)).await?;
        Ok(self.info())
    }

    /// What is known of the feed; complete once it was [loaded](Self::load) or used. Of a store that is
    /// closed: what was known then.
    #[must_use]
    pub fn info(&self) -> FeedInfo {
        let info = self.handle.shared().peek(|state| match self.multifeed {
            Some(multifeed) => state.node.feed_in(multifeed, self.id),
            None => state.node.feed(self.id),
        });
        info.expect("feeds are never removed from a node")
    }

    /// Who replicates the feed, and how far each is.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.handle.shared().peek(|state| state.node.peers(self.id).collect())
    }

    /// The public key.
    #[must_use]
    pub const fn key(&self) -> FeedKey {
        self.key
    }

    /// The name in its multifeed, a local writer's or a number; that of a feed by name.
    #[must_use]
    pub fn name(&self) -> String {
        self.info().name
    }

    /// Blocks in the log as far as it is proven; 0 before the feed is [loaded](Self::load).
    #[must_use]
    pub fn len(&self) -> u64 {
        self.info().length
    }

    /// Whether [`len`](Self::len) is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether blocks can be appended here; `false` before the feed is [loaded](Self::load).
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.info().writable
    }

    pub(crate) fn command(
        &self,
        give: impl FnOnce(&mut multifeed_core::Node, Now, FeedId) -> multifeed_core::CommandId,
    ) -> Command {
        Command::give(&self.handle, |node, now| give(node, now, self.id))
    }

    pub(crate) const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// First digits of the key, for errors.
    pub(crate) fn short_key(&self) -> String {
        self.key.to_hex().chars().take(8).collect()
    }
}

/// The length that an update gives.
async fn updated(update: Command) -> Result<u64, Error> {
    let Outcome::Updated { length } = update.await? else {
        unreachable!("an update is answered with `Updated`");
    };
    Ok(length)
}

/// The indices in `range`, the last one excluded.
fn indices(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl PartialEq for Feed {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && std::sync::Arc::ptr_eq(self.handle.shared(), other.handle.shared())
    }
}

impl Eq for Feed {}
