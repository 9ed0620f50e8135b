//! A connection between two hosts: latency, bandwidth, socket buffers, chunks of any size, its end.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use multifeed_core::ConnectionId;

use super::blocks::Held;
use super::policy::Shares;
use super::rng::Rng;

/// How a wire behaves, the same in both directions.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Microseconds.
    pub latency: u64,
    /// Bytes in a millisecond.
    pub rate: u64,
    /// Bytes that fit into the socket buffers on the way.
    pub room: usize,
    /// The first bytes are read by 1 to 3, so many of them.
    pub dribble: u64,
    /// Largest read after them is `2^chunk_bits` bytes.
    pub chunk_bits: u32,
}

/// One side of a wire.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub host: usize,
    pub connection: ConnectionId,
    /// The host's connection is over, or the host is.
    pub over: bool,
}

/// One direction.
#[derive(Default)]
pub struct Flow {
    /// Bytes on their way with the moment of arrival; none: the end of the stream.
    pub packets: VecDeque<(u64, Vec<u8>)>,
    /// Bytes that arrived.
    pub unread: VecDeque<u8>,
    pub on_the_way: usize,
    free_at: u64,
    pub sent: u64,
    pub received: u64,
    pub ended: bool,
    pub end_arrived: bool,
    pub end_told: bool,
    /// A read is planned.
    pub reading: bool,
    /// The wire is cut when so many bytes were received.
    pub cut_after: Option<u64>,
    /// What the sender had when it had sent so many bytes.
    told: VecDeque<(u64, Held)>,
    heard: Option<Held>,
}

pub struct Wire {
    pub edge: usize,
    pub ends: [End; 2],
    /// What each end allowed.
    pub shares: [Shares; 2],
    /// What each end sends.
    pub flow: [Flow; 2],
    pub profile: Profile,
    /// Nothing gets through any more.
    pub cut: bool,
}

impl Profile {
    pub fn draw(rng: &mut Rng) -> Self {
        let latency = rng.magnitude(17);
        Self {
            latency,
            rate: if rng.chance(15) { rng.within(10..300) } else { rng.within(500..100_000) },
            room: rng.magnitude(20).max(10 * latency / 1000 + 64) as usize,
            dribble: if rng.chance(25) { rng.magnitude(13) } else { 0 },
            chunk_bits: rng.within(6..17) as u32,
        }
    }
}

impl Wire {
    pub fn new(edge: usize, ends: [End; 2], shares: [Shares; 2], profile: Profile) -> Self {
        Self { edge, ends, shares, flow: Default::default(), profile, cut: false }
    }

    /// Both hosts are done with it.
    pub fn is_over(&self) -> bool {
        self.ends.iter().all(|end| end.over)
    }

    /// Bytes that one end may write.
    pub fn room(&self, from: usize) -> usize {
        self.profile.room.saturating_sub(self.flow[from].on_the_way)
    }

    /// Puts bytes on the way; when they arrive.
    pub fn send(&mut self, from: usize, now: u64, bytes: &[u8]) -> u64 {
        let flow = &mut self.flow[from];
        flow.free_at = flow.free_at.max(now) + bytes.len() as u64 * 1000 / self.profile.rate;
        let at = flow.free_at + self.profile.latency;
        flow.on_the_way += bytes.len();
        flow.sent += bytes.len() as u64;
        flow.packets.push_back((at, bytes.to_vec()));
        at
    }

    /// Ends what one end sends; when the other learns of it.
    pub fn end(&mut self, from: usize, now: u64) -> Option<u64> {
        let flow = &mut self.flow[from];
        if std::mem::replace(&mut flow.ended, true) {
            return None;
        }
        let at = flow.free_at.max(now) + self.profile.latency;
        flow.packets.push_back((at, Vec::new()));
        Some(at)
    }

    /// Takes what has arrived out of the packets.
    pub fn arrive(&mut self, from: usize, now: u64) {
        let flow = &mut self.flow[from];
        while flow.packets.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, bytes)) = flow.packets.pop_front() else { return };
            flow.end_arrived |= bytes.is_empty();
            flow.unread.extend(bytes);
        }
    }

    /// The next chunk to read.
    pub fn read(&mut self, from: usize, rng: &mut Rng) -> Vec<u8> {
        let flow = &mut self.flow[from];
        let most = if flow.received < self.profile.dribble {
            rng.within(1..4)
        } else {
            rng.magnitude(self.profile.chunk_bits)
        };
        let mut count = flow.unread.len().min(most as usize);
        if let Some(limit) = flow.cut_after {
            count = count.min(limit.saturating_sub(flow.received) as usize);
        }
        flow.received += count as u64;
        flow.on_the_way -= count;
        flow.unread.drain(..count).collect()
    }

    /// Whether the bytes after which it is to be cut were read.
    pub fn is_due(&self, from: usize) -> bool {
        let flow = &self.flow[from];
        flow.cut_after.is_some_and(|limit| flow.received >= limit)
    }

    /// One end has this, and says so, as far as it shares it, in what it has sent and `queued` bytes more at the latest.
    pub fn tell(&mut self, from: usize, queued: usize, held: &Held) {
        let (flow, shares) = (&mut self.flow[from], &self.shares[from]);
        let shown = if shares.is_all() {
            held.clone()
        } else {
            let shown = held.iter().enumerate();
            shown.map(|(at, blocks)| blocks.clone().filter(|_| shares.has(at))).collect()
        };
        flow.told.push_back((flow.sent + queued as u64, shown));
    }

    /// One end gives blocks up: the other may know that before it has read all that it was told till now.
    pub fn take_back(&mut self, from: usize, writer: usize, blocks: &Range<u64>) {
        let flow = &mut self.flow[from];
        for held in flow.told.iter_mut().map(|(_, held)| held).chain(&mut flow.heard) {
            if let Some(there) = &mut Rc::make_mut(held)[writer] {
                Rc::make_mut(there).remove(blocks.clone());
            }
        }
    }

    /// What the other end had as far as `to` was told.
    pub fn heard(&mut self, to: usize) -> Option<&Held> {
        let flow = &mut self.flow[1 - to];
        while flow.told.front().is_some_and(|(at, _)| *at <= flow.received) {
            flow.heard = flow.told.pop_front().map(|(_, held)| held);
        }
        flow.heard.as_ref()
    }
}
