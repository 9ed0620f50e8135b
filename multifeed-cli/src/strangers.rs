//! What `serve` says of connections whose other side proved nothing: a little of each, and how many there were.
//!
//! A port that the world can reach is knocked at all day. Each such visit is worth a line, a flood of them is not.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use multifeed_tokio::Listener;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::output::{Output, plural};

/// Which of the strangers are told of one by one, and how many were not.
#[derive(Debug)]
pub(crate) struct Strangers {
    output: Output,
    telling: Mutex<Telling>,
}

#[derive(Debug)]
struct Telling {
    /// Lines that may be printed now.
    lines: u32,
    /// When that number was counted up last.
    counted_at: Instant,
    untold: u64,
}

impl Strangers {
    pub(crate) fn new(output: Output) -> Self {
        let telling = Telling { lines: BURST, counted_at: Instant::now(), untold: 0 };
        Self { output, telling: Mutex::new(telling) }
    }

    /// Whether one more may be told of; else it is counted.
    pub(crate) fn may_tell(&self) -> bool {
        let mut telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        telling.may_tell(Instant::now())
    }

    /// Says now and then how many were turned away without a line of their own.
    pub(crate) async fn tell_now_and_then(&self, listener: &Listener) {
        let mut told = 0;
        loop {
            sleep(EVERY).await;
            let untold = self.telling.lock().unwrap_or_else(PoisonError::into_inner).untold;
            let sum = untold + listener.turned_away();
            let new = sum - std::mem::replace(&mut told, sum);
            if new > 0 {
                self.output.say(
                    || json!({ "event": "strangers", "turned_away": new }),
                    || {
                        let connections = plural(new, "connection");
                        format!("{connections} turned away that said nothing, or did not prove the root key")
                    },
                );
            }
        }
    }
}

impl Telling {
    fn may_tell(&mut self, now: Instant) -> bool {
        let earned = now.duration_since(self.counted_at).as_secs();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(BURST);
            self.lines = self.lines.saturating_add(earned).min(BURST);
            self.counted_at = now;
        }
        if self.lines == 0 {
            self.untold += 1;
            return false;
        }
        self.lines -= 1;
        true
    }
}

/// Lets the process open as many files and sockets as it is allowed to: each connection is one.
pub(crate) fn raise_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
            // It goes on with what there is.
            tracing::debug!(%error, ?current, "the limit of open files stays");
        }
    }
}

/// Strangers in a row that are told of one by one; one more each second.
const BURST: u32 = 20;

/// Time between two counts of the others.
const EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_some_are_told() {
        let start = Instant::now();
        let mut telling = Telling { lines: BURST, counted_at: start, untold: 0 };
        let told = (0..1_000).filter(|_| telling.may_tell(start)).count();
        assert_eq!((told, telling.untold), (20, 980));
        let later = start + Duration::from_secs(3);
        assert_eq!((0..1_000).filter(|_| telling.may_tell(later)).count(), 3);
        let much_later = start + Duration::from_secs(86_400);
        assert_eq!((0..1_000).filter(|_| telling.may_tell(much_later)).count(), 20);
    }
}
