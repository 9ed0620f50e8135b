//! The timers of a connection: a fixed table.

use core::time::Duration;

use crate::Now;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The Noise handshake must be over.
    Handshake,
    /// The first message of it must be there.
    FirstMessage,
    /// Something must have arrived.
    Idle,
    /// After our own end of the stream: the remote's must have come.
    Linger,
    /// Something must be sent.
    Keepalive,
}

/// When each timer is due, if it runs.
#[derive(Debug, Default)]
pub(super) struct Timers([Option<Now>; ALL.len()]);

impl Timers {
    /// Lets a timer run from `now` on; a `span` of zero stops it.
    pub(super) fn start(&mut self, timer: Timer, now: Now, span: Duration) {
        let due = now.after(span);
        self.0[timer as usize] = (!span.is_zero() && due.0 < Duration::MAX).then_some(due);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(super) fn stop_all(&mut self) {
        *self = Self::default();
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Now> {
        self.0.iter().flatten().min().copied()
    }

    /// A timer that is due.
    pub(super) fn expired(&self, now: Now) -> Option<Timer> {
        ALL.into_iter().find(|timer| self.0[*timer as usize].is_some_and(|due| due <= now))
    }
}

const ALL: [Timer; 5] =
    [Timer::Handshake, Timer::FirstMessage, Timer::Idle, Timer::Linger, Timer::Keepalive];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_due_at_its_moment_and_not_before() {
        let mut timers = Timers::default();
        timers.start(Timer::Idle, Now::default(), Duration::from_secs(2));
        timers.start(Timer::Keepalive, Now::default(), Duration::from_secs(1));
        let second = |n| Now(Duration::from_secs(n));
        assert_eq!(timers.next(), Some(second(1)));
        assert_eq!(timers.expired(Now(Duration::from_millis(999))), None);
        assert_eq!(timers.expired(second(1)), Some(Timer::Keepalive));
        assert_eq!(timers.expired(second(2)), Some(Timer::Idle));
        timers.stop(Timer::Idle);
        assert_eq!(timers.expired(second(2)), Some(Timer::Keepalive));
        timers.stop_all();
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_span_of_zero_or_without_end_never_comes() {
        let mut timers = Timers::default();
        timers.start(Timer::Idle, Now::default(), Duration::ZERO);
        timers.start(Timer::Keepalive, Now(Duration::from_secs(1)), Duration::MAX);
        assert_eq!(timers.next(), None);
    }
}
