//! Blocks that a peer announced and did not send: given up, so that others can be asked, and asked for
//! again later, for a peer that was slow or had trouble with its disk may send them yet.

use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use multifeed_proto::{ChannelId, Now};

use super::link::Channel;
use super::{ConnectionId, Node};
use crate::ranges::Ranges;

/// Blocks that are asked for again at once: a hypercore 9 that cleared blocks never answers.
const RETRIED: usize = 16;
/// How often the time until that is doubled, as long as none of them comes.
const MAX_DOUBLINGS: u32 = 4;

/// The blocks of one channel that its peer did not send.
#[derive(Debug, Default)]
pub(super) struct Refused {
    blocks: Ranges,
    /// When some of them are asked for again.
    again_at: Option<Now>,
    /// Those that were, the last time.
    retried: Ranges,
    /// Where the next ones begin.
    from: u64,
    doublings: u32,
}

impl Refused {
    /// How many ranges the blocks are kept as.
    pub(super) fn ranges(&self) -> usize {
        self.blocks.ranges() + self.retried.ranges()
    }

    pub(super) fn contains(&self, block: u64) -> bool {
        self.blocks.contains(block)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The first block from `block` on that is not refused.
    pub(super) fn next_gap(&self, block: u64) -> u64 {
        self.blocks.next_gap(block)
    }

    pub(super) fn count_in(&self, range: Range<u64>) -> u64 {
        self.blocks.count_in(range)
    }

    /// A block is not asked for any more until `after`, or longer if that was in vain before.
    pub(super) fn add(&mut self, block: u64, now: Now, after: Duration) {
        self.blocks.insert(block..block + 1);
        let wait = after.saturating_mul(1 << self.doublings);
        self.again_at.get_or_insert_with(|| now.after(wait));
    }

    /// The peer announced blocks once more.
    pub(super) fn announced(&mut self, blocks: Range<u64>) {
        self.blocks.remove(blocks);
    }

    /// A block came. If it had been refused before, so may the others: whether they are worth a question.
    pub(super) fn came(&mut self, block: u64) -> bool {
        let again = self.retried.contains(block);
        if again {
            *self = Self::default();
        }
        again
    }

    /// Takes some blocks out, if it is time, to be asked for again.
    fn retry(&mut self, now: Now, after: Duration) -> Option<&Ranges> {
        self.again_at.take_if(|at| *at <= now)?;
        self.doublings = (self.doublings + 1).min(MAX_DOUBLINGS);
        self.retried = Ranges::default();
        for _ in 0..RETRIED {
            let next = self.blocks.next_in(self.from).or_else(|| self.blocks.next_in(0));
            let Some(block) = next else { break };
            self.from = block + 1;
            self.blocks.remove(block..block + 1);
            self.retried.insert(block..block + 1);
        }
        if !self.blocks.is_empty() {
            self.again_at = Some(now.after(after.saturating_mul(1 << self.doublings)));
        }
        Some(&self.retried)
    }
}

impl Node {
    /// Asks again for blocks that were refused a while ago.
    pub(super) fn retry_refused(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        let after = link.patience.request_timeout;
        // What is refused and wanted keeps a channel from being in sync.
        for channel in link.unsynced.iter().copied().collect::<Vec<_>>() {
            let Some(state) = link.channels.get_mut(&channel) else { continue };
            let Some(retried) = state.refused.retry(now, after) else { continue };
            for blocks in retried.iter() {
                state.orphaned.remove(blocks);
            }
            state.rewind(0);
            link.want(channel);
            link.unjudged.insert(channel);
        }
    }

    /// Gives up requests that saw no answer for too long; the blocks are not asked of this peer for a while.
    ///
    /// All that are old enough when no block moves at all, else those that others overtook by that much: a
    /// peer that cleared a block gives no answer. Who is not answered asks for less at a time.
    pub(super) fn give_up_silent(&mut self, id: ConnectionId) {
        self.give_up_hashes(id);
        let (now, awake) = (self.now, self.awake);
        let Some(link) = self.links.get(&id) else { return };
        let timeout = link.patience.request_timeout;
        // What is not read cannot come.
        let silent = link.reading && link.pulse.answers.still(awake) >= timeout;
        let mut given_up = Vec::new();
        for channel in &link.active {
            let Some(state) = link.channels.get(channel) else { continue };
            // What our own disk holds up has come.
            if state.loading.is_some() {
                continue;
            }
            let late = state.flights.iter().filter(|(block, flight)| {
                let overtaken = link.answered_to.since(flight.asked_at) >= timeout;
                let old = silent && awake.since(flight.asked_at) >= timeout;
                (overtaken || old) && !state.has_answer(**block)
            });
            let blocks: Vec<u64> = late.map(|(block, _)| *block).collect();
            if !blocks.is_empty() {
                given_up.push((*channel, blocks));
            }
        }
        if let Some(link) = self.links.get_mut(&id).filter(|_| !given_up.is_empty()) {
            link.narrow();
        }
        for (channel, blocks) in given_up {
            let Some(state) = self.channel_mut(id, channel) else { continue };
            for block in &blocks {
                // What came from elsewhere is not missed.
                if state.flights.get(block).is_some_and(|flight| !flight.here) {
                    state.refused.add(*block, now, timeout);
                }
            }
            self.forget_requests(id, channel, &blocks);
            self.touch_channel(id, channel);
        }
    }

    /// Gives up some of the requests on a channel, so that the blocks can be asked of others.
    pub(super) fn forget_requests(&mut self, id: ConnectionId, channel: ChannelId, blocks: &[u64]) {
        for block in blocks {
            if let Some(link) = self.links.get_mut(&id) {
                let _ = link.connection.forget_request(channel, *block, false);
                if let Some(state) = link.channels.get_mut(&channel) {
                    state.gave_up = true;
                }
            }
            self.end_flight(id, channel, *block);
        }
        if let (Some(feed), false) = (self.feed_of(id, channel), blocks.is_empty()) {
            self.rewind_others(feed);
        }
    }
}

impl Channel {
    /// The peer has blocks; whether some are among those that it took back when it was asked for them.
    pub(super) fn announced(&mut self, blocks: Range<u64>) -> bool {
        self.rewind(blocks.start);
        self.refused.announced(blocks.clone());
        self.lost.next_in(blocks.start).is_some_and(|block| block < blocks.end)
    }

    /// Whether the answer to a request came and waits to be verified.
    pub(super) fn has_answer(&self, block: u64) -> bool {
        self.flights.get(&block).is_some_and(|flight| flight.answered)
    }
}
