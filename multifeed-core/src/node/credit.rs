//! Work that a peer has us do, against what it is worth.
//!
//! Looking for what one side has and the other lacks costs time in proportion to what the peer announced, and
//! a packet of five bytes can be the reason to look again. So each connection has credit: it grows with the bytes
//! that come and with time, and is spent by the page. A peer without credit waits until the next tick;
//! meanwhile it counts as not in sync. Small logs, and logs without many gaps, never cost any.

use multifeed_proto::ChannelId;

use super::sync::TICK;
use super::{ConnectionId, Node};

/// Pages that a connection begins with, and the most that it can have.
const MOST: i64 = 65_536;
/// Pages that each tick brings.
const PER_TICK: i64 = 4096;
/// Bytes from the peer that bring a page.
const BYTES: usize = 8;
/// Pages that are free each time.
const FREE: u64 = 8;

/// What a connection may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Credit {
    pages: i64,
    /// Bytes that were not counted yet.
    bytes: usize,
}

impl Default for Credit {
    fn default() -> Self {
        Self { pages: MOST, bytes: 0 }
    }
}

impl Credit {
    pub(super) fn bytes_came(&mut self, bytes: usize) {
        let bytes = self.bytes.saturating_add(bytes);
        self.bytes = bytes % BYTES;
        self.add(i64::try_from(bytes / BYTES).unwrap_or(MOST));
    }

    pub(super) fn ticked(&mut self) {
        self.add(PER_TICK);
    }

    /// Whether nothing more is done for the peer for now.
    pub(super) fn is_spent(&self) -> bool {
        self.pages < 0
    }

    fn add(&mut self, pages: i64) {
        self.pages = self.pages.saturating_add(pages).min(MOST);
    }

    fn spend(&mut self, steps: u64) {
        let pages = i64::try_from(steps.saturating_sub(FREE)).unwrap_or(i64::MAX);
        self.pages = self.pages.saturating_sub(pages);
    }
}

impl Node {
    /// Takes work from the credit of a connection. Where none is left, a tick brings more.
    pub(super) fn spend(&mut self, id: ConnectionId, steps: u64) {
        let at = self.now.after(TICK);
        let Some(link) = self.links.get_mut(&id) else { return };
        link.counters.steps = link.counters.steps.saturating_add(steps);
        link.credit.spend(steps);
        if link.credit.is_spent() {
            link.tick_at.get_or_insert(at);
        }
    }

    /// The same for the work of choosing what to ask for: a long log must not hold up its own download.
    pub(super) fn spend_asking(&mut self, id: ConnectionId, steps: u64) {
        let at = self.now.after(TICK);
        let Some(link) = self.links.get_mut(&id) else { return };
        link.counters.steps = link.counters.steps.saturating_add(steps);
        link.asking_credit.spend(steps);
        if link.asking_credit.is_spent() {
            link.tick_at.get_or_insert(at);
        }
    }

    /// Forgets blocks that were sent and that the peer has announced since.
    pub(super) fn settle_unacked(&mut self, id: ConnectionId, channel: ChannelId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(peer) = link.connection.peer(channel) else { return };
        let Some(state) = link.channels.get_mut(&channel) else { return };
        while let Some(run) = state.unacked.first() {
            if !peer.remote().contains_all(run.clone()) {
                break;
            }
            state.unacked.remove(run);
        }
    }
}
