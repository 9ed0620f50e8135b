//! What is told of the blocks that moved, and when.

use std::collections::VecDeque;
use std::time::Duration;

use multifeed_core::{ConnectionId, Counters};
use multifeed_proto::Now;

use super::ReplicationEvent;
use crate::shared::State;

/// Time between two tellings of progress.
const PROGRESS: Duration = Duration::from_millis(100);

/// What was said of the blocks that moved.
#[derive(Debug, Default)]
pub(super) struct Progress {
    told: Counters,
    told_at: Now,
}

impl Progress {
    /// Takes the events of a connection, with the counts before them if those have changed.
    pub(super) fn look(
        &mut self,
        state: &mut State,
        id: ConnectionId,
        now: Now,
        events: &mut VecDeque<ReplicationEvent>,
    ) {
        let Some(link) = state.links.get(&id) else { return };
        let news = link.has_events() || link.ending.is_some();
        if news || now >= self.told_at.after(PROGRESS) {
            let counters = state.counters(id).unwrap_or_default();
            if moved(&counters) != moved(&self.told) {
                events.push_back(ReplicationEvent::Progress(counters));
                self.told = counters;
            }
            self.told_at = now;
        }
        if let Some(link) = state.links.get_mut(&id) {
            link.take_events(events);
        }
    }
}

/// What makes progress worth telling.
const fn moved(counters: &Counters) -> (u64, u64, u64, u64) {
    (counters.blocks_received, counters.blocks_sent, counters.missing, counters.feeds)
}
