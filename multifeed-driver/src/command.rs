//! The future of a command given to the node.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use multifeed_core::{CommandId, NodeError, Outcome};
use multifeed_proto::Now;

use crate::shared::Handle;

/// Waits for the answer to a command. Dropped, it lets the command take its course, or takes it back
/// if the node can.
#[derive(Debug)]
pub(crate) struct Command {
    handle: Handle,
    /// `None` once it is over.
    id: Option<CommandId>,
    /// It was not ready at once, so its task has let others run.
    waited: bool,
}

impl Command {
    /// Gives a command; `give` must be exactly one verb of the node.
    pub(crate) fn give(
        handle: &Handle,
        give: impl FnOnce(&mut multifeed_core::Node, Now) -> CommandId,
    ) -> Self {
        let id = handle.shared().with(|state, now| state.give(now, give));
        Self { handle: handle.clone(), id, waited: false }
    }
}

impl Future for Command {
    type Output = Result<Outcome, NodeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(id) = self.id else { return Poll::Ready(Err(NodeError::Closed)) };
        let waited = std::mem::replace(&mut self.waited, true);
        let result = self.handle.shared().peek(|state| {
            if waited || state.may_answer_at_once() {
                state.poll_command(id, cx.waker())
            } else {
                state.wakes.push(cx.waker().clone());
                Poll::Pending
            }
        });
        if result.is_ready() {
            self.id = None;
        }
        result
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.handle.shared().with_unless_poisoned(|state, now| state.forget_command(now, id));
        }
    }
}
