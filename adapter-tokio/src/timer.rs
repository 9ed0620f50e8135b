//! tokio's clock.

use std::time::Duration;

use multifeed_driver::{Now, Sleep, Timer};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

/// The clock of the runtime it was made in, also when that is paused for tests.
#[derive(Debug)]
pub struct TokioTimer {
    runtime: Handle,
    origin: Instant,
}

impl TokioTimer {
    /// The clock of this runtime, from zero.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new() -> Self {
        Self { runtime: Handle::current(), origin: Instant::now() }
    }
}

impl Default for TokioTimer {
    fn default() -> Self {
        Self::new()
    }
}

impl Timer for TokioTimer {
    fn now(&self) -> Now {
        Now(self.origin.elapsed())
    }

    fn sleep_until(&self, at: Now) -> Sleep {
        // Handles may be polled by another runtime.
        let _entered = self.runtime.enter();
        let at = self.origin.checked_add(at.0).unwrap_or_else(|| self.origin + FAR);
        Box::pin(sleep_until(at))
    }
}

/// Later than any process lives: what cannot be expressed is not reached either.
const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);
