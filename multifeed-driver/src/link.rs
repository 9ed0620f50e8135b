//! What the node and the task that moves the bytes of a connection leave for each other.

use std::collections::VecDeque;
use std::task::Waker;

use multifeed_core::Counters;
use multifeed_proto::PeerError;

use crate::replication::ReplicationEvent;

/// The shared side of a [`Replication`](crate::Replication).
#[derive(Debug, Default)]
pub(crate) struct LinkState {
    /// The task that moves its bytes.
    pub(crate) waker: Option<Waker>,
    /// The last counts looked at; the final ones once it is over.
    pub(crate) counters: Counters,
    pub(crate) ending: Option<Ending>,
    pub(crate) aborted: bool,
    /// What the node had for the peer when the connection ended.
    pub(crate) unsent: Vec<u8>,
    events: VecDeque<ReplicationEvent>,
    missed: u64,
}

/// How a connection ended.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// In order, or given up on this side.
    Order,
    /// By the fault of the peer.
    Peer(PeerError),
    /// Because the store is gone.
    Store,
}

impl LinkState {
    /// Keeps an event; drops the oldest if too many were not taken.
    pub(crate) fn push(&mut self, event: ReplicationEvent) {
        if self.events.len() >= EVENTS {
            self.events.pop_front();
            self.missed += 1;
        }
        self.events.push_back(event);
    }

    /// Whether there is an event to take.
    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Moves all events to `taken`.
    pub(crate) fn take_events(&mut self, taken: &mut VecDeque<ReplicationEvent>) {
        if self.missed > 0 {
            let missed = std::mem::take(&mut self.missed);
            taken.push_back(ReplicationEvent::Lagged { missed });
        }
        taken.append(&mut self.events);
    }

    /// The connection is over; the first reason counts.
    pub(crate) fn end(&mut self, ending: Ending, wakes: &mut Vec<Waker>) {
        self.ending.get_or_insert(ending);
        wakes.extend(self.waker.take());
    }
}

/// Events kept for a connection that is not polled.
const EVENTS: usize = 256;
