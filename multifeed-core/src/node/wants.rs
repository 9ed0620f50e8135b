//! Which blocks each side has: asked for by `Want`, told by `Have`.

use core::time::Duration;

use bytes::Bytes;
use multifeed_proto::messages::Span;
use multifeed_proto::{ChannelId, rle};

use super::download::next_block;
use super::missing::first_missing;
use super::{ConnectionId, Node};

/// Blocks in one `Want`, as the JavaScript sends and expects them.
const WANT_BLOCKS: u64 = 1 << 20;
/// Wants that may be unanswered, as in hypercore 9.
const MAX_WANTS: usize = 16;

impl Node {
    /// Asks the peer which blocks it has, as far as it says that its log reaches.
    pub(super) fn send_wants(&mut self, id: ConnectionId, channel: ChannelId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(state) = link.channels.get_mut(&channel).filter(|state| state.open) else {
            return;
        };
        while let Some(peer) = link.connection.peer(channel) {
            let due = state.wanted_to == 0 || state.wanted_to < peer.remote_length();
            if !due || peer.unanswered_wants() >= MAX_WANTS || !peer.status().uploading {
                break;
            }
            let span = Span { start: state.wanted_to, length: WANT_BLOCKS };
            if link.connection.want(channel, span).is_err() {
                break;
            }
            state.wanted_to += WANT_BLOCKS;
        }
    }

    pub(super) fn wanted(&mut self, id: ConnectionId, channel: ChannelId, span: Span) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(state) = link.channels.get_mut(&channel) else { return };
        // An answer costs more than the question. More than a peer may have unanswered, or the same
        // twice, is more than it needs.
        if state.remote_wants.len() < MAX_WANTS && !state.remote_wants.contains(&span) {
            state.remote_wants.push(span);
        }
        link.asking.insert(channel);
        self.touch_channel(id, channel);
    }

    /// Answers wants of the peer while the outbox has room, each after the requests for what the peer
    /// announced before it, and one beyond the end of the log that is shorter than those of the JavaScript not
    /// before all that is wanted is stored, whoever sends it: so a peer knows by the answer what is not wanted
    /// of it. JavaScript peers ask beyond the end when they wait for a block there.
    pub(super) fn answer_wants(&mut self, id: ConnectionId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let leaving = link.leave_by.is_some() || self.closing.is_some();
        let mut later = core::mem::take(&mut link.asking);
        while let Some(channel) = later.pop_first() {
            let Some(link) = self.links.get_mut(&id) else { return };
            let full = link.connection.buffered() >= self.config.max_outbox_bytes;
            if link.credit.is_spent() {
                link.asking.insert(channel);
                link.asking.append(&mut later);
                return;
            }
            let Some(state) = link.channels.get_mut(&channel) else { continue };
            // A feed that is being opened answers then.
            let entry = &self.feeds[state.feed.0 as usize];
            let Some(feed) = entry.feed() else { continue };
            let mut steps = 0;
            let to_request = state.queued
                && !leaving
                && state.quitting.is_none()
                && link.connection.peer(channel).is_some_and(|peer| {
                    let (wishes, reserved) = (&entry.wishes, &entry.reserved);
                    next_block(feed, wishes, reserved, state, peer, &mut steps).is_some()
                });
            if full || to_request {
                link.asking.insert(channel);
                self.spend(id, steps);
                continue;
            }
            let wants = core::mem::take(&mut state.remote_wants);
            let fetches_until = self.fetches_until(id, channel, &mut steps);
            self.spend(id, steps);
            let answered_below = fetches_until.map_or(u64::MAX, |end| end.max(1));
            for span in wants {
                if span.start < answered_below || span.length == WANT_BLOCKS {
                    self.answer_want(id, channel, span);
                } else if let Some(link) = self.links.get_mut(&id) {
                    link.asking.insert(channel);
                    if let Some(state) = link.channels.get_mut(&channel) {
                        state.remote_wants.push(span);
                    }
                }
            }
        }
    }

    /// Where the log ends, as far as either side knows, if not all blocks of it that the peer has and that
    /// are wanted are stored here.
    fn fetches_until(&self, id: ConnectionId, channel: ChannelId, steps: &mut u64) -> Option<u64> {
        let (feed, state, peer) = self.parts(self.links.get(&id)?, channel)?;
        let wishes = &self.feeds[state.feed.0 as usize].wishes;
        let missing = peer.status().uploading
            && state.ours.downloading
            && first_missing(feed, wishes, state, peer, steps).0 > 0;
        let mut unstored = feed.unstored.iter();
        let fetches = missing || unstored.any(|run| peer.remote().run_in(run).is_some());
        fetches.then(|| feed.length().max(peer.remote_length()))
    }

    /// Tells which blocks of a range are stored here; the first time, also where the log ends.
    fn answer_want(&mut self, id: ConnectionId, channel: ChannelId, span: Span) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(state) = link.channels.get_mut(&channel) else { return };
        let Some(feed) = self.feeds[state.feed.0 as usize].feed() else { return };
        let last = feed.length().saturating_sub(1);
        if !core::mem::replace(&mut state.told_last, true) && feed.has(last) {
            let _ = link.connection.have(channel, Span { start: last, length: 1 });
        }
        let length = if span.length == 0 { feed.length() } else { span.length };
        let length = length.min(feed.length().saturating_sub(span.start)).min(WANT_BLOCKS);
        let mut bits = feed.bits.want_bytes(span.start, length);
        for range in feed.unstored.iter() {
            for block in range.start.max(span.start)..range.end.min(span.start + length) {
                let at = block - span.start;
                if let Some(byte) = bits.get_mut((at / 8) as usize) {
                    *byte &= !(0x80 >> (at % 8));
                }
            }
        }
        let _ = link.connection.have_bitfield(channel, span, Bytes::from(rle::encode(&bits)));
    }

    pub(super) fn remote_has(&mut self, id: ConnectionId, channel: ChannelId, span: Span) {
        if let Some(link) = self.links.get_mut(&id) {
            let (mut news, mut flaps) = (link.in_flight == 0, false);
            if let Some(state) = link.channels.get_mut(&channel) {
                let known = link.connection.peer(channel).map_or(0, |peer| peer.remote().count());
                state.has_own |= known > state.moved.blocks_sent;
                // What a peer announces moves nothing while it does not send what it announced before.
                news &= state.refused.is_empty();
                flaps = state.announced(span.start..span.start.saturating_add(span.length));
            }
            let rest = if flaps && !link.resumed.contains_key(&channel) {
                link.flapped()
            } else {
                Duration::ZERO
            };
            if !rest.is_zero() {
                link.resumed.insert(channel, self.now.after(rest));
                link.tick_at.get_or_insert(self.now);
            } else if news {
                link.progress(self.awake);
            }
            link.want(channel);
            if link.channels.get(&channel).is_some_and(|state| state.has_own) {
                link.to_compare.insert(channel);
            }
        }
        self.send_wants(id, channel);
        self.touch_channel(id, channel);
    }
}
