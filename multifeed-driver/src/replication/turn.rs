//! Moving bytes between the stream and the node, to the end of both.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use multifeed_core::ConnectionId;
use multifeed_proto::PeerError;

use super::progress::Progress;
use super::{Replication, ReplicationEvent};
use crate::error::ReplicationError;
use crate::link::Ending;
use crate::pipe::Pipe;
use crate::shared::Shared;
use crate::traits::{ByteStream, Sleep};

/// Bytes that one turn moves at most.
const TURN_BYTES: usize = 0x10_0000;

/// Exchanges with the node in one turn at most.
const EXCHANGES: usize = 32;

/// Time for the peer to take what was queued before the end, and to end its side.
const FAREWELL: Duration = Duration::from_secs(2);

/// The end of the stream, after that of the connection.
pub(super) struct Farewell {
    result: Result<(), ReplicationError>,
    /// When the peer is waited for no more.
    deadline: Sleep,
}

/// What the node wants of the stream.
struct View {
    reads: bool,
    /// All is written, and the sending side is to be closed.
    closes: bool,
    ending: Option<Ending>,
    aborted: bool,
    unsent: Vec<u8>,
}

impl<S: ByteStream> Replication<S> {
    /// Moves bytes until no more can be moved, or other tasks should have their turn. Ready when the
    /// connection is over; then there is a result.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.farewell.is_some() {
            return self.poll_farewell(cx);
        }
        let mut budget = TURN_BYTES;
        while let (Some(id), Some(pipe)) = (self.handle.id, &mut self.pipe) {
            let (shared, events) = (&self.handle.shared, &mut self.events);
            let view = exchange(shared, id, pipe, &mut self.progress, events, cx.waker());
            let mut moved = pipe.poll_write(cx);
            if view.closes {
                pipe.poll_close(cx);
            }
            if let Some(ending) = view.ending {
                self.finish(ending, view.aborted, view.unsent);
                return self.poll_farewell(cx);
            }
            if view.reads {
                moved += pipe.poll_read(cx);
            }
            if moved == 0 {
                if pipe.failed().is_none() {
                    return Poll::Pending;
                }
                if self.gave_up {
                    self.finish(Ending::Order, false, Vec::new());
                    return self.poll_farewell(cx);
                }
                // All that had come before the failure is with the node.
                self.gave_up = true;
                self.handle.shared.with(|state, now| state.node.handle_cut(now, id));
            }
            budget = budget.saturating_sub(moved.max(TURN_BYTES / EXCHANGES));
            if budget == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// The connection is over. The stream is, too, unless there may be something left that the peer
    /// should hear.
    fn finish(&mut self, ending: Ending, aborted: bool, unsent: Vec<u8>) {
        let Some(mut pipe) = self.pipe.take() else { return };
        let listens = match &ending {
            Ending::Peer(error) => error.peer_may_listen(),
            // The peer has said all that it had to say, and reads.
            Ending::Order => !aborted && pipe.has_remote_end(),
            Ending::Store => false,
        };
        let failed = pipe.failed().cloned();
        let broken = failed.is_some();
        let failed = failed.map_or(Ok(()), |error| Err(ReplicationError::Stream(error)));
        let result = match ending {
            // Who leaves like this often cuts the stream; that says less.
            Ending::Peer(error @ PeerError::Left { .. }) => Err(error.into()),
            Ending::Peer(error) if !self.gave_up => Err(error.into()),
            Ending::Store => Err(ReplicationError::StoreClosed),
            Ending::Order if aborted => Err(ReplicationError::Aborted),
            Ending::Order | Ending::Peer(_) => failed,
        };
        if broken || !listens {
            self.result = Some(result);
            return;
        }
        pipe.take_last(unsent);
        self.pipe = Some(pipe);
        let timer = &self.handle.shared.timer;
        let deadline = timer.sleep_until(timer.now().after(FAREWELL));
        self.farewell = Some(Farewell { result, deadline });
    }

    /// Ends the stream in order, as far as the peer does its part in time. Ready when it is over.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut budget = TURN_BYTES;
        while let (Some(farewell), Some(pipe)) = (&mut self.farewell, &mut self.pipe) {
            let moved = pipe.poll_last(cx);
            if pipe.is_over() || farewell.deadline.as_mut().poll(cx).is_ready() {
                break;
            }
            if moved == 0 {
                return Poll::Pending;
            }
            budget = budget.saturating_sub(moved.max(TURN_BYTES / EXCHANGES));
            if budget == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        self.pipe = None;
        if let Some(farewell) = self.farewell.take() {
            self.result = Some(farewell.result);
        }
        Poll::Ready(())
    }
}

/// Gives the node what came from the stream, and the stream what comes from the node.
fn exchange<S: ByteStream>(
    shared: &Shared,
    id: ConnectionId,
    pipe: &mut Pipe<S>,
    progress: &mut Progress,
    events: &mut VecDeque<ReplicationEvent>,
    waker: &Waker,
) -> View {
    let mut turn = shared.turn();
    let now = turn.now;
    let state = turn.state();
    if let Some(link) = state.links.get_mut(&id) {
        // What this turn brings is looked at below; it need not wake this task.
        state.retired.extend(link.waker.take());
    }
    let news = pipe.take_news();
    if news.written > 0 {
        state.node.transmitted(now, id, news.written);
    }
    if !news.received.is_empty() {
        state.node.handle_bytes(now, id, news.received);
    }
    if news.ended {
        state.node.handle_eof(now, id);
    }
    turn.pump();

    let state = turn.state();
    progress.look(state, id, now, events);
    let left = pipe.fill(state.node.transmit(id));
    let reads = state.node.wants_read(id);
    let Some(link) = state.links.get_mut(&id) else {
        let ending = Some(Ending::Store);
        return View { reads: false, closes: false, ending, aborted: false, unsent: Vec::new() };
    };
    state.retired.extend(link.waker.replace(waker.clone()));
    let closes = link.ending.is_none() && left == 0 && pipe.is_drained();
    let closes = closes && state.node.is_shut_down(id);
    let (ending, unsent) = (link.ending.clone(), std::mem::take(&mut link.unsent));
    View { reads, closes, ending, aborted: link.aborted, unsent }
}
