//! Time as an argument: the machines never read a clock.

use core::time::Duration;

/// A point on the driver's monotonic clock: time since an origin the driver picked.
///
/// Not wall-clock time, never sent to a peer. The driver must never let it go backwards;
/// a smaller value than the last one is read as the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now(pub Duration);

impl Now {
    /// The moment `span` after this one; stays at the far end instead of overflowing.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
