//! Commands whose answers somebody waits for.

use std::mem;
use std::task::{Poll, Waker};

use multifeed_core::{CommandId, Node, NodeError, Outcome};
use multifeed_proto::Now;

use super::{Stage, State};

/// Commands answered at once until a task must let others run: with the largest batches that are
/// executed where they are asked for, 8 MiB.
const COMMANDS_AT_ONCE: usize = 32;

/// A command without an answer, or an answer that was not taken yet.
pub(super) enum Waiting {
    Pending(Option<Waker>),
    Done(Result<Outcome, NodeError>),
}

impl State {
    /// Gives the node a command whose answer will be waited for; `None` if nobody runs what the node
    /// asks for any more.
    pub(crate) fn give(
        &mut self,
        now: Now,
        give: impl FnOnce(&mut Node, Now) -> CommandId,
    ) -> Option<CommandId> {
        if matches!(self.stage, Stage::Flushed(_) | Stage::Ended(_)) {
            return None;
        }
        let id = give(&mut self.node, now);
        self.commands.insert(id, Waiting::Pending(None));
        Some(id)
    }

    /// Whether a command may be answered the first time it is polled. Every so often it may not: a
    /// loop of commands that never wait would keep its thread to itself.
    ///
    /// Counted over all tasks: while one does not let go of a thread, only those of other threads
    /// count too.
    pub(crate) const fn may_answer_at_once(&mut self) -> bool {
        self.at_once = (self.at_once + 1) % COMMANDS_AT_ONCE;
        self.at_once != 0
    }

    pub(crate) fn poll_command(
        &mut self,
        id: CommandId,
        waker: &Waker,
    ) -> Poll<Result<Outcome, NodeError>> {
        match self.commands.remove(&id) {
            Some(Waiting::Done(result)) => Poll::Ready(result),
            Some(Waiting::Pending(before)) => {
                self.retired.extend(before);
                self.commands.insert(id, Waiting::Pending(Some(waker.clone())));
                Poll::Pending
            }
            None => Poll::Ready(Err(NodeError::Closed)),
        }
    }

    pub(crate) fn forget_command(&mut self, now: Now, id: CommandId) {
        if let Some(Waiting::Pending(waker)) = self.commands.remove(&id) {
            self.retired.extend(waker);
            self.node.cancel(now, id);
        }
    }

    pub(super) fn completed(&mut self, id: CommandId, result: Result<Outcome, NodeError>) {
        if matches!(self.stage, Stage::Closing(close) if close == id) {
            self.stage = Stage::Flushed(result.map(|_| ()));
            self.fail_commands();
            return;
        }
        // An answer that nobody waits for is dropped.
        if let Some(waiting) = self.commands.get_mut(&id) {
            if let Waiting::Pending(waker) = mem::replace(waiting, Waiting::Done(result)) {
                self.wakes.extend(waker);
            }
        }
    }

    pub(super) fn fail_commands(&mut self) {
        for waiting in self.commands.values_mut() {
            if let Waiting::Pending(waker) = waiting {
                self.wakes.extend(waker.take());
                *waiting = Waiting::Done(Err(NodeError::Closed));
            }
        }
    }
}
