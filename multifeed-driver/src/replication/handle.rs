//! A connection as other tasks see it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use multifeed_core::{ConnectionId, Counters, Fetch, NodeError, Question, QuestionId, SyncState};
use multifeed_proto::FeedKey;

use crate::error::Error;
use crate::multifeed::Multifeed;
use crate::shared::Shared;

/// A connection as other tasks see it. Does not keep the store open.
#[derive(Clone)]
pub struct ReplicationHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) id: Option<ConnectionId>,
    /// Counts when the connection is gone.
    pub(super) last: Arc<Mutex<Counters>>,
}

impl ReplicationHandle {
    /// The number of the connection; `None` if the store was closed when it was made.
    #[must_use]
    pub const fn id(&self) -> Option<ConnectionId> {
        self.id
    }

    /// Counts of the connection so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let counters = self.id.and_then(|id| self.shared.peek(|state| state.counters(id)));
        counters.unwrap_or_else(|| *self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the two ends have what they want of each other, and what is missing.
    #[must_use]
    pub fn sync_state(&self) -> SyncState {
        let state = self.id.map(|id| self.shared.peek(|state| state.node.sync_state(id)));
        state.unwrap_or(SyncState::Closed)
    }

    /// As [`Replication::sync_state_of`](super::Replication::sync_state_of).
    #[must_use]
    pub fn sync_state_of(&self, multifeed: &Multifeed) -> SyncState {
        let id = self.id.filter(|_| multifeed.is_of(&self.shared));
        let look =
            |id| self.shared.peek(|state| state.node.multifeed_sync_state(id, multifeed.id()));
        id.map_or(SyncState::Closed, look)
    }

    /// As [`Replication::attach`](super::Replication::attach).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn attach(&self, multifeed: &Multifeed) -> Result<(), Error> {
        let id = self.id.ok_or(NodeError::UnknownConnection)?;
        if !multifeed.is_of(&self.shared) {
            return Err(NodeError::UnknownMultifeed.into());
        }
        Ok(self.shared.with(|state, now| state.node.attach(now, id, multifeed.id()))?)
    }

    /// Lets the peer in, where [`Peers::Ask`](crate::Peers::Ask) says that this is asked, after
    /// [`ReplicationEvent::Connected`](super::ReplicationEvent::Connected). To refuse it, [`abort`](Self::abort).
    ///
    /// # Errors
    ///
    /// If the connection is over.
    pub fn admit(&self) -> Result<(), Error> {
        let id = self.id.ok_or(NodeError::UnknownConnection)?;
        Ok(self.shared.with(|state, now| state.node.admit(now, id))?)
    }

    /// The questions of the connection that are not answered, the oldest first.
    #[must_use]
    pub fn questions(&self) -> Vec<Question> {
        let Some(id) = self.id else { return Vec::new() };
        self.shared.peek(|state| state.node.questions(id).cloned().collect())
    }

    /// Answers a question: the feeds that are allowed, and how much of each is fetched. All others that
    /// it named are refused.
    ///
    /// # Errors
    ///
    /// If it was answered before, or its connection or multifeed is over.
    pub fn answer(&self, question: QuestionId, allowed: &[(FeedKey, Fetch)]) -> Result<(), Error> {
        Ok(self.shared.with(|state, now| state.node.answer(now, question, allowed))?)
    }

    /// Allows feeds on the connection that were refused before, or changes how much of them is fetched.
    /// Lasts as long as the connection.
    ///
    /// # Errors
    ///
    /// If the connection is over, or the two do not share the multifeed yet.
    pub fn allow(&self, multifeed: &Multifeed, feeds: &[(FeedKey, Fetch)]) -> Result<(), Error> {
        let id = self.id.ok_or(NodeError::UnknownConnection)?;
        if !multifeed.is_of(&self.shared) {
            return Err(NodeError::UnknownMultifeed.into());
        }
        Ok(self.shared.with(|state, now| state.node.allow(now, id, multifeed.id(), feeds))?)
    }

    /// Begins to end the connection in order, while its [`Replication`](super::Replication) is polled.
    pub fn disconnect(&self) {
        if let Some(id) = self.id {
            self.shared.with(|state, now| state.node.disconnect(now, id));
        }
    }

    /// Gives the connection up at once.
    pub fn abort(&self) {
        let Some(id) = self.id else { return };
        self.shared.with(|state, now| {
            if let Some(link) = state.links.get_mut(&id) {
                link.aborted |= link.ending.is_none();
            }
            state.node.abort(now, id);
        });
    }
}

impl fmt::Debug for ReplicationHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicationHandle").field("id", &self.id).finish_non_exhaustive()
    }
}
