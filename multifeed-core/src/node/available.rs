//! Commands that are only waited for while a peer has what they want.
//!
//! A peer counts once it has said what it has: both sides have the feed open, and every question of this
//! side (`Want`) for what it may have is answered. Until all peers of a feed count, nothing is given up.
//!
//! Source: `hypercore@9.12.0/index.js`, `_ifAvailable`, `_ifAvailableGet`. There it is looked once, when all
//! peers have answered; here again whenever one of them says something else or leaves.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use multifeed_proto::session::Peer;
use multifeed_proto::{ChannelId, Now};

use super::select::Wish;
use super::{CommandId, ConnectionId, FeedId, Node, NodeError, Pending, ReadJob};

/// Commands that end when no peer has what they wait for.
pub(super) type Hopeful = BTreeSet<CommandId>;

impl Node {
    /// As [`Node::wait`], but fails with [`NodeError::NotAvailable`] as soon as all peers of the feed have said
    /// what they have, and none has the block; at once, if the feed has no peers.
    pub fn wait_if_available(&mut self, now: Now, feed: FeedId, index: u64) -> CommandId {
        let command = self.command(now);
        self.hopeful.insert(command);
        self.command_on(feed, Pending::Read(ReadJob::wait(command, feed, index)));
        command
    }

    /// As [`Node::update`], but fails with [`NodeError::NotAvailable`] as soon as all peers of the feed have said
    /// what they have, and no log of theirs is that long; at once, if the feed has no peers.
    pub fn update_if_available(
        &mut self,
        now: Now,
        feed: FeedId,
        length: Option<u64>,
    ) -> CommandId {
        let command = self.command(now);
        self.hopeful.insert(command);
        self.command_on(feed, Pending::Update(command, length));
        command
    }

    /// What the peers of a feed have may have changed, or who waits for it.
    pub(super) fn offers_changed(&mut self, feed: FeedId) {
        if !self.hopeful.is_empty() {
            self.unsure.insert(feed);
        }
    }

    /// Ends the commands that wait for what no peer has.
    pub(super) fn end_hopeless(&mut self) {
        while let Some(feed) = self.unsure.pop_first() {
            if !self.peers_have_told(feed) {
                continue;
            }
            for command in self.hopeless(feed) {
                let feed = self.feeds[feed.0 as usize].short_key();
                self.end_wait(command, NodeError::NotAvailable { feed });
            }
        }
    }

    /// Whether all peers of a feed have said what they have.
    fn peers_have_told(&self, feed: FeedId) -> bool {
        let mut channels = self.feeds[feed.0 as usize].channels.iter();
        channels.all(|(connection, channel)| {
            self.source(*connection, *channel).is_none_or(|(asked_to, peer)| {
                // What is asked beyond that is whether the peer wants something, which may take it long.
                let mut open = peer.wants_without_answer().filter(|want| want.start < asked_to);
                asked_to > 0 && asked_to >= peer.remote_length() && open.next().is_none()
            })
        })
    }

    /// The commands that wait for something that no peer has. One whose feed is not open yet, or whose block
    /// is being read, does not wait for peers.
    fn hopeless(&self, feed: FeedId) -> Vec<CommandId> {
        let entry = &self.feeds[feed.0 as usize];
        let channels = entry.channels.iter();
        let peers: Vec<&Peer> = channels
            .filter_map(|(connection, channel)| self.source(*connection, *channel))
            .map(|(_, peer)| peer)
            .collect();
        let waits = entry.wishes.waits().filter(|(command, _)| self.hopeful.contains(command));
        let hopeless = waits.filter(|(_, wish)| match wish {
            Wish::Length(length) => !peers.iter().any(|peer| peer.remote_length() >= *length),
            Wish::Block(index) => !peers.iter().any(|peer| peer.remote().contains(*index)),
        });
        hopeless.map(|(command, _)| command).collect()
    }

    /// The peer of a channel on which blocks may come, or of one that the peer has not opened yet, and how far
    /// it was asked what it has.
    fn source(&self, connection: ConnectionId, channel: ChannelId) -> Option<(u64, &Peer)> {
        let link = self.links.get(&connection)?;
        let state = link.channels.get(&channel)?;
        let peer = link.connection.peer(channel)?;
        let off = !state.ours.downloading || (state.open && !peer.status().uploading);
        (!off).then_some((if state.open { state.wanted_to } else { 0 }, peer))
    }
}
