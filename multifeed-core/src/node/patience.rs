//! How long a peer may take, measured in bytes: what moves slowly moves, what does not is told from it.
//!
//! Two clocks of a connection. `answers`: how long its requests have gone without an answer; only the block
//! at hand puts that off. `moved`: how long nothing has moved that brings the two nearer to being in sync,
//! in either direction. Both are brought up by something whole, or by bytes, each of which is worth its
//! time at the least rate: so a peer that stays below it falls behind, however busily it sends, and no
//! burst is worth more than the moment at which it came.
//!
//! They run with the time for which the node was awake: a process that was suspended, or a machine that is
//! overloaded, is no fault of a peer.

use core::ops::Range;
use core::time::Duration;

use multifeed_proto::{ChannelId, Now};

use super::link::Link;
use super::sync::TICK;
use super::{ConnectionId, Node, WaitingFor};

/// How long peers are waited for, and at what rate blocks must move to count as moving.
///
/// A block is one message: what came of one that is given up is lost, and it begins anew. So the least rate says
/// how slow a link may be. JavaScript peers have times of their own, which cannot be changed from here: they
/// end a stream on which a feed that they ask for brings no whole block for 20 seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A request is given up, and the block asked of others, when for this long neither its answer nor one before it
    /// moves at the least rate. 20 seconds by default.
    pub request_timeout: Duration,
    /// Time without progress after which [`Event::Stalled`](crate::Event::Stalled) names what is missing. 15 seconds by
    /// default.
    pub stall_timeout: Duration,
    /// Bytes a second, at least which a block must move, averaged over these times. For a peer that takes
    /// blocks without saying that it stored them, the second time becomes longer by as much as they take at this
    /// rate, since it cannot be seen how far they came. 1,024 by default; 0: any byte will do.
    pub least_rate: u32,
    /// A block that was asked for so long ago is asked of a second peer as well, where one has nothing else to
    /// do or answers faster. [`Duration::MAX`]: never. 5 seconds by default.
    pub second_request_after: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(15),
            least_rate: 1024,
            second_request_after: Duration::from_secs(5),
        }
    }
}

/// Time that the node may not have been called for, though it asked to be, and that counts all the same.
const LATE: Duration = Duration::from_secs(2);
/// Bytes of other messages that count as movement between two things that bring the peers nearer: lists of
/// feeds, bits of long logs.
const OTHER_BYTES: usize = 1024 * 1024;

/// A peer may take back so often what it was asked for, and is asked again at once: it may have trouble with
/// its disk.
const FREE_FLAPS: u32 = 3;
/// After so many a flapping peer is asked every 2 seconds.
const MAX_FLAPS: u32 = FREE_FLAPS + 3;

/// A clock that bytes bring up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace(Now);

impl Pace {
    pub(super) const fn new(now: Now) -> Self {
        Self(now)
    }

    /// Something whole moved.
    pub(super) fn whole(&mut self, now: Now) {
        self.0 = self.0.max(now);
    }

    /// So many bytes of it moved.
    pub(super) fn bytes(&mut self, now: Now, count: usize, least_rate: u32) {
        self.0 = self.0.after(time_of(count, least_rate)).min(now);
    }

    /// For how long nothing has.
    pub(super) fn still(&self, now: Now) -> Duration {
        now.since(self.0)
    }
}

/// What bytes take at the least rate.
pub(super) fn time_of(bytes: usize, least_rate: u32) -> Duration {
    if least_rate == 0 {
        return Duration::MAX;
    }
    let (bytes, rate) = (bytes as u64, u64::from(least_rate));
    let nanos = (bytes % rate) * 1_000_000_000 / rate;
    Duration::from_secs(bytes / rate).saturating_add(Duration::from_nanos(nanos))
}

/// What moves on one connection.
#[derive(Debug)]
pub(super) struct Pulse {
    /// What is asked of the peer.
    pub(super) answers: Pace,
    /// All that brings the two nearer to being in sync.
    pub(super) moved: Pace,
    /// What waits to be sent.
    pub(super) taken: Pace,
    /// Bytes that count although they are of no block, until something whole moves.
    other: usize,
    /// Bytes of the message on its way that were counted, and whether it looked like an answer.
    arrived: usize,
    answers_block: Option<(ChannelId, u64)>,
    /// What looked like an answer was none: such bytes count no more.
    lied: bool,
    /// Bytes received when something whole moved.
    received: u64,
    /// Bytes that wait in the outbox for the first time and are of blocks that the peer had not been sent.
    fresh: usize,
    /// Bytes of blocks sent that the peer has not acknowledged, and how many blocks.
    pub(super) owed: (usize, u64),
}

impl Pulse {
    pub(super) const fn new(now: Now) -> Self {
        Self {
            answers: Pace::new(now),
            moved: Pace::new(now),
            taken: Pace::new(now),
            other: OTHER_BYTES,
            arrived: 0,
            answers_block: None,
            lied: false,
            received: 0,
            fresh: 0,
            owed: (0, 0),
        }
    }
}

impl Link {
    /// Blocks of a channel that were sent are not waited for any more; how many there were.
    pub(super) fn settle(&mut self, channel: ChannelId, blocks: Range<u64>) -> u64 {
        let Some(state) = self.channels.get_mut(&channel) else { return 0 };
        let sent = state.unacked.count_in(blocks.clone());
        state.unacked.remove(blocks);
        self.settled(sent);
        sent
    }

    /// A request was answered.
    pub(super) fn answered(&mut self, asked_at: Now, awake: Now) {
        self.answered_to = self.answered_to.max(asked_at);
        let took = awake.since(asked_at);
        self.usual = Some(self.usual.map_or(took, |usual| (usual.saturating_mul(3) + took) / 4));
        self.flaps = 0;
    }

    /// The peer takes back what it was asked for: how long until it is asked again, should it offer that
    /// anew. The longer, the more often it does.
    pub(super) fn flapped(&mut self) -> Duration {
        self.flaps = (self.flaps + 1).min(MAX_FLAPS);
        match self.flaps.checked_sub(FREE_FLAPS) {
            None | Some(0) => Duration::ZERO,
            Some(more) => TICK.saturating_mul(1 << (more - 1)),
        }
    }

    /// Something moved that brings the two nearer to being in sync.
    pub(super) fn progress(&mut self, awake: Now) {
        self.pulse.moved.whole(awake);
        self.pulse.other = OTHER_BYTES;
        self.pulse.received = self.connection.received_bytes();
        self.stall_told = false;
    }

    /// For how long nothing has moved, beyond what the blocks may take that the peer has not acknowledged.
    pub(super) fn still(&self, awake: Now) -> Duration {
        let (owed, _) = self.pulse.owed;
        let taken = owed.saturating_sub(self.connection.buffered());
        let allowed = match self.patience.least_rate {
            0 => Duration::ZERO,
            rate => time_of(taken, rate),
        };
        self.pulse.moved.still(awake).saturating_sub(allowed)
    }

    /// Bytes came. Those of a block that was asked for and is on its way put off the end of the requests.
    fn bytes_came(&mut self, awake: Now, count: usize) {
        let rate = self.patience.least_rate;
        let arriving = self.connection.arriving();
        let place = arriving.and_then(|arriving| arriving.channel.zip(arriving.block));
        let asked = place.filter(|(channel, block)| {
            let state = self.channels.get(channel);
            !self.pulse.lied && state.is_some_and(|state| state.flights.contains_key(block))
        });
        let received = arriving.map_or(0, |arriving| arriving.received);
        if asked.is_some() {
            let before = if self.pulse.answers_block == asked { self.pulse.arrived } else { 0 };
            let fresh = received.saturating_sub(before).min(count);
            self.pulse.answers.bytes(awake, fresh, rate);
            self.pulse.moved.bytes(awake, fresh, rate);
        } else {
            let other = count.min(self.pulse.other);
            self.pulse.other -= other;
            self.pulse.moved.bytes(awake, other, rate);
        }
        self.pulse.answers_block = asked;
        self.pulse.arrived = received;
    }

    /// A message is complete: if it was to be an answer that did not come with it, what looks like one is
    /// not believed any more.
    fn message_came(&mut self) {
        let Some((channel, block)) = self.pulse.answers_block.take() else { return };
        self.pulse.arrived = 0;
        let state = self.channels.get(&channel);
        let open = state.is_some_and(|state| {
            state.flights.contains_key(&block)
                && !state.has_answer(block)
                && state.loading.is_none()
        });
        self.pulse.lied |= open;
    }

    /// Bytes were taken from the outbox.
    pub(super) fn bytes_went(&mut self, awake: Now, count: usize) {
        self.pulse.taken.bytes(awake, count, self.patience.least_rate);
        let fresh = count.min(self.pulse.fresh);
        self.pulse.fresh -= fresh;
        let other = (count - fresh).min(self.pulse.other);
        self.pulse.other -= other;
        self.pulse.moved.bytes(awake, fresh + other, self.patience.least_rate);
    }

    /// A block goes to the peer, perhaps one that it gave back before: that moves nothing.
    pub(super) fn owes(&mut self, awake: Now, bytes: u64, again: bool) {
        let bytes = if again { 0 } else { usize::try_from(bytes).unwrap_or(usize::MAX) };
        self.pulse.fresh = self.pulse.fresh.saturating_add(bytes);
        let (owed, blocks) = self.pulse.owed;
        self.pulse.owed = (owed.saturating_add(bytes), blocks + 1);
        if !again {
            self.progress(awake);
        }
    }

    /// So many blocks are not waited for any more: stored, or given back. Blocks are taken to be of a size.
    pub(super) fn settled(&mut self, blocks: u64) {
        let (owed, all) = self.pulse.owed;
        let left = all.saturating_sub(blocks);
        let part = (owed as u128 * u128::from(left)).checked_div(u128::from(all)).unwrap_or(0);
        self.pulse.owed = (usize::try_from(part).unwrap_or(usize::MAX), left);
    }

    /// What a stalled connection waits for, told from what the peer did meanwhile.
    pub(super) fn blame(&self, waiting: WaitingFor, awake: Now) -> WaitingFor {
        let received = self.connection.received_bytes().saturating_sub(self.pulse.received);
        let waits = self.connection.buffered() as u64 > KEEPALIVES;
        let taken = self.pulse.taken.still(awake) < self.patience.stall_timeout;
        let least_rate = self.patience.least_rate;
        #[allow(clippy::wildcard_enum_match_arm, reason = "the others say enough")]
        match waiting {
            WaitingFor::Blocks { feed, missing } | WaitingFor::Refused { feed, missing }
                if received > KEEPALIVES && self.patience.least_rate > 0 =>
            {
                WaitingFor::Slow { feed, missing, least_rate }
            }
            _ if waits && !taken => WaitingFor::Room { bytes: self.connection.buffered() },
            waiting => waiting,
        }
    }
}

/// Bytes that a peer sends that has nothing to say, with some room.
const KEEPALIVES: u64 = 64;

impl Node {
    /// Takes the time. What passed while nobody called, though the node asked for it, is not held against
    /// peers.
    pub(super) fn advance(&mut self, now: Now) {
        let passed = now.since(self.now);
        self.now = self.now.max(now);
        self.awake = self.awake.after(passed.min(LATE));
    }

    /// Bytes came that complete no message.
    pub(super) fn bytes_came(&mut self, id: ConnectionId, count: usize) {
        let awake = self.awake;
        if let Some(link) = self.links.get_mut(&id) {
            link.bytes_came(awake, count);
        }
    }

    /// Messages are complete, and perhaps the first part of the next is here.
    pub(super) fn message_came(&mut self, id: ConnectionId, count: usize) {
        let awake = self.awake;
        if let Some(link) = self.links.get_mut(&id) {
            link.message_came();
            link.bytes_came(awake, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: u64) -> Now {
        Now(Duration::from_secs(n))
    }

    #[test]
    fn a_peer_at_the_least_rate_is_never_late_and_one_below_it_is_some_time() {
        for (bytes, still) in [(1024, 0), (2048, 0), (512, 50), (0, 100)] {
            let mut pace = Pace::new(second(0));
            for at in 1..=100 {
                pace.bytes(second(at), bytes, 1024);
            }
            assert_eq!(pace.still(second(100)), Duration::from_secs(still), "{bytes}");
        }
    }

    #[test]
    fn a_burst_is_worth_no_more_than_its_moment() {
        let mut pace = Pace::new(second(0));
        pace.bytes(second(1), usize::MAX, 1024);
        assert_eq!(pace.still(second(21)), Duration::from_secs(20));
    }

    #[test]
    fn without_a_least_rate_any_byte_will_do() {
        let mut pace = Pace::new(second(0));
        pace.bytes(second(30), 1, 0);
        assert_eq!(pace.still(second(30)), Duration::ZERO);
    }
}
