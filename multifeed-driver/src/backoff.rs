//! How long to wait before something that failed is tried again.

use std::time::Duration;

/// Waits that double from failure to failure up to a limit, each of a random length between half of
/// that and all of it, so that many who lost the same peer do not come back at once.
///
/// A value without a clock: the caller waits, and brings the randomness.
///
/// ```
/// # use std::time::Duration;
/// # use multifeed_driver::Backoff;
/// let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
/// assert_eq!(backoff.failed(u32::MAX), Duration::from_secs(1));
/// assert_eq!(backoff.failed(0), Duration::from_secs(1)); // half of two
/// backoff.succeeded();
/// assert_eq!(backoff.failed(0), Duration::from_millis(500));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits of at most `first` after the first failure, and never of more than `max`.
    #[must_use]
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, failures: 0 }
    }

    /// Counts a failure; how long to wait now. `random` is any number, evenly drawn.
    pub fn failed(&mut self, random: u32) -> Duration {
        let doubled = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let whole = self.first.saturating_mul(doubled).min(self.max);
        self.failures = self.failures.saturating_add(1);
        let half = whole / 2;
        half.saturating_add(half.mul_f64(f64::from(random) / f64::from(u32::MAX)))
    }

    /// Something went well: the next wait is a short one again.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Failures since something went well.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_stay_there_for_ever() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let waits: Vec<u64> = (0..100).map(|_| backoff.failed(u32::MAX).as_secs()).collect();
        assert_eq!(waits[..7], [1, 2, 4, 8, 16, 32, 60]);
        assert!(waits[7..].iter().all(|wait| *wait == 60));
        assert_eq!(backoff.failures(), 100);
    }

    #[test]
    fn a_wait_lies_between_half_and_all_of_its_length() {
        for random in [0, 1, u32::MAX / 2, u32::MAX - 1, u32::MAX] {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
            for whole in [1, 2, 4, 5, 5] {
                let wait = backoff.failed(random);
                assert!(
                    wait >= Duration::from_millis(whole * 500)
                        && wait <= Duration::from_secs(whole)
                );
            }
        }
    }

    #[test]
    fn a_success_makes_the_next_wait_short() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        for _ in 0..10 {
            backoff.failed(7);
        }
        backoff.succeeded();
        assert_eq!(backoff.failed(u32::MAX), Duration::from_secs(1));
    }

    #[test]
    fn no_length_overflows() {
        let mut backoff = Backoff::new(Duration::MAX, Duration::MAX);
        for _ in 0..40 {
            assert!(backoff.failed(u32::MAX) <= Duration::MAX);
        }
    }
}
