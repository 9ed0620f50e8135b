//! What the application wants: commands, which are answered by [`Outcome`], and connections.

use alloc::vec::Vec;
use core::ops::Range;

use bytes::Bytes;
use multifeed_proto::{Now, Role, RootKey};

use super::entry::Pending;
use super::read::ReadJob;
use super::{
    CommandId, ConnectOptions, ConnectionId, FeedId, MultifeedId, Node, NodeError, StoreOptions,
};
#[allow(unused_imports, reason = "the documentation names them")]
use super::{Event, FeedInfo, Layout, NodeConfig, Outcome};
use crate::crypto::SecretKey;

impl Node {
    /// Opens the store, making what does not exist: the first command.
    ///
    /// Answered with [`Outcome::Opened`]. A second call fails with [`NodeError::Closed`].
    pub fn open(&mut self, now: Now, options: StoreOptions) -> CommandId {
        let command = self.command(now);
        self.open_store(command, options);
        command
    }

    /// Reads which feeds the multifeed of `root` has in this store, none if it is new here. Answered
    /// with [`Outcome::Joined`]; the same root key always gives the same number.
    ///
    /// A store in [`Layout::Numbered`] holds one multifeed, and does not know of which root key.
    pub fn join(&mut self, now: Now, root: RootKey) -> CommandId {
        let command = self.command(now);
        self.start_join(command, root);
        command
    }

    /// The local writer of this name in a multifeed, made if there is none; without a name, a new one
    /// that is called by the number of feeds. Answered with [`Outcome::Feed`].
    ///
    /// The same name in the same multifeed always is the same feed. In [`Layout::Corestore`] its key pair is
    /// derived from the name, unless `secret` is given; in [`Layout::Numbered`] it is drawn at random.
    ///
    /// Where this differs from the JavaScript: `hypermultifeed@1.1.0` gives the same feed for all
    /// writers without a name, and a name or key pair that is taken by another feed is an error here.
    pub fn writer(
        &mut self,
        now: Now,
        multifeed: MultifeedId,
        name: Option<&str>,
        secret: Option<SecretKey>,
    ) -> CommandId {
        let command = self.command(now);
        self.make_writer(command, multifeed, name, secret);
        command
    }

    /// The feed that corestore knows by this name, made if there is none: a log of this store that is in
    /// no multifeed and is not replicated. Answered with [`Outcome::Feed`]. Only in [`Layout::Corestore`].
    pub fn named(&mut self, now: Now, name: &str) -> CommandId {
        let command = self.command(now);
        self.open_named(command, name);
        command
    }

    /// Opens a feed, so that its [`FeedInfo`] is complete. Answered with [`Outcome::Feed`].
    pub fn load(&mut self, now: Now, feed: FeedId) -> CommandId {
        let command = self.command(now);
        self.command_on(feed, Pending::Load(command));
        command
    }

    /// Appends blocks to a local writer, under one signature. Answered with [`Outcome::Appended`] when they
    /// are as durable as [`NodeConfig::durability`] says. After an error none of them is in the log, but for one
    /// of the storage: then they may be, as after a crash, which shows when the feed is loaded again.
    pub fn append(&mut self, now: Now, feed: FeedId, blocks: Vec<Bytes>) -> CommandId {
        let command = self.command(now);
        if let Err(error) = self.check_writable() {
            self.complete(command, Err(error));
            return command;
        }
        let max = self.config.max_block;
        match blocks.iter().find(|block| block.len() > max) {
            Some(block) => {
                self.complete(command, Err(NodeError::BlockTooLarge { len: block.len(), max }))
            }
            None => self.command_on(feed, Pending::Append(command, blocks)),
        }
        command
    }

    /// Up to `count` blocks from `index` on, as many as are held without a gap and together have at most
    /// `max_bytes` bytes, but at least one if it is held. Answered with [`Outcome::Blocks`].
    ///
    /// One call gives at most 65,536 blocks and 16 MiB, or one longer block alone: read on behind what came.
    pub fn read(
        &mut self,
        now: Now,
        feed: FeedId,
        index: u64,
        count: u64,
        max_bytes: usize,
    ) -> CommandId {
        let command = self.command(now);
        self.command_on(
            feed,
            Pending::Read(ReadJob::blocks(command, feed, index, count, max_bytes)),
        );
        command
    }

    /// Whether all blocks of a range are held and stored; none is read or asked of peers. Answered with
    /// [`Outcome::Has`]: `true` for an empty range, `false` for one that reaches over the end of the log.
    pub fn has(&mut self, now: Now, feed: FeedId, blocks: Range<u64>) -> CommandId {
        let command = self.command(now);
        self.command_on(feed, Pending::Has(command, blocks));
        command
    }

    /// The block at `index` as soon as it is held; a sparse feed asks peers for it, before anything else.
    /// Answered with [`Outcome::Block`].
    pub fn wait(&mut self, now: Now, feed: FeedId, index: u64) -> CommandId {
        let command = self.command(now);
        self.command_on(feed, Pending::Read(ReadJob::wait(command, feed, index)));
        command
    }

    /// Takes a [`Node::wait`], [`Node::download`], [`Node::update`] or [`Node::seek`] back: it is answered with
    /// [`NodeError::Cancelled`] unless it is answered already. Other commands take their course.
    pub fn cancel(&mut self, now: Now, command: CommandId) {
        self.advance(now);
        self.end_wait(command, NodeError::Cancelled);
    }

    /// A new connection, which carries all multifeeds; its bytes are to be moved from here on.
    ///
    /// Gives no connection if the store is not open.
    pub fn connect(&mut self, now: Now, role: Role) -> Option<ConnectionId> {
        self.connect_with(now, role, ConnectOptions::default())
    }

    /// As [`Node::connect`], with other options than the defaults. Gives no connection also if one of
    /// the multifeeds is not joined.
    pub fn connect_with(
        &mut self,
        now: Now,
        role: Role,
        options: impl Into<ConnectOptions>,
    ) -> Option<ConnectionId> {
        self.advance(now);
        self.start_link(role, options.into())
    }

    /// Lets a connection carry one more multifeed from here on. If it does already, nothing happens.
    ///
    /// # Errors
    ///
    /// [`NodeError::UnknownConnection`], [`NodeError::UnknownMultifeed`], [`NodeError::RootKeyInUse`] or
    /// [`NodeError::OneMultifeed`].
    pub fn attach(
        &mut self,
        now: Now,
        connection: ConnectionId,
        multifeed: MultifeedId,
    ) -> Result<(), NodeError> {
        self.advance(now);
        self.attach_root(connection, multifeed)
    }

    /// Ends a connection in order: what the peer asked for is sent, its acknowledgements are waited for,
    /// the sending side is closed. Ends in [`Event::Closed`].
    pub fn disconnect(&mut self, now: Now, connection: ConnectionId) {
        self.advance(now);
        self.leave(connection);
    }

    /// Ends a connection at once.
    pub fn abort(&mut self, now: Now, connection: ConnectionId) {
        self.advance(now);
        if let Some(link) = self.links.get_mut(&connection) {
            link.connection.close(None);
            self.pump_link(connection);
            self.touched.insert(connection);
        }
    }

    /// Ends all connections and waits for all writes. Answered with [`Outcome::Closed`], the last output.
    pub fn close(&mut self, now: Now) -> CommandId {
        let command = self.command(now);
        self.start_close(command);
        command
    }
}
