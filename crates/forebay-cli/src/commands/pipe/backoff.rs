//! How long to wait before a program that failed is started again; pure.

use std::time::Duration;

/// The longest delay.
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(30);
/// A shorter run does not count as a recovery.
pub(crate) const STEADY: Duration = Duration::from_secs(1);

/// Delays that double from failure to failure.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    next: Duration,
    left: Option<u64>,
    restarts_max: Option<u64>,
}

impl Backoff {
    /// Begins with a delay of `first`, and gives up after `restarts_max` restarts
    /// in a row.
    pub(crate) fn new(first: Duration, restarts_max: Option<u64>) -> Self {
        Self {
            first,
            next: first.min(DELAY_MAX),
            left: restarts_max,
            restarts_max,
        }
    }

    /// Begins afresh: the program has done what it was started for.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::new(self.first, self.restarts_max);
    }

    /// The delay before the next start, after a failed run that lasted `ran`; `took` says
    /// whether it took something. `None` to give up.
    pub(crate) fn after(&mut self, ran: Duration, took: bool) -> Option<Duration> {
        if took && ran >= STEADY {
            self.succeeded();
        }
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        let delay = self.next;
        self.next = (delay * 2).min(DELAY_MAX);
        Some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    #[test]
    fn delays_double_up_to_a_maximum() {
        let mut backoff = Backoff::new(Duration::from_millis(100), None);
        let delays: Vec<u128> = (0..12)
            .map(|_| backoff.after(SHORT, true).unwrap().as_millis())
            .collect();
        assert_eq!(
            delays,
            [
                100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000, 30000
            ]
        );
    }

    #[test]
    fn a_steady_run_that_took_something_starts_afresh() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Some(2));
        assert!(backoff.after(SHORT, false).is_some());
        assert_eq!(backoff.after(STEADY, false).unwrap().as_millis(), 200);
        assert_eq!(backoff.after(STEADY, true).unwrap().as_millis(), 100);
        assert!(backoff.after(SHORT, true).is_some());
        assert_eq!(backoff.after(SHORT, true), None);
    }

    #[test]
    fn no_restarts_are_no_restarts() {
        assert_eq!(Backoff::new(SHORT, Some(0)).after(STEADY, true), None);
    }
}
