//! How long to wait before a program that failed is started again; pure.

use std::time::Duration;

/// The longest delay.
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(30);
/// A shorter run in which a program only read does not count as a recovery.
pub(crate) const STEADY: Duration = Duration::from_secs(1);

/// What a program had taken when it failed, and how that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It took nothing.
    None,
    /// It took records by reading on. A program that reads ahead and dies at once does that
    /// as well.
    Read,
    /// It acknowledged records itself, which it does once it has finished them.
    Acknowledged,
}

/// Delays that double from failure to failure without progress. A program that makes
/// progress is still started no sooner than after the first delay.
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

    /// The delay before the next start, after a failed run that lasted `ran`; `None` to
    /// give up.
    pub(crate) fn after(&mut self, ran: Duration, progress: Progress) -> Option<Duration> {
        match progress {
            Progress::Acknowledged => self.succeeded(),
            Progress::Read if ran >= STEADY => self.succeeded(),
            Progress::Read | Progress::None => {}
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
            .map(|_| backoff.after(SHORT, Progress::Read).unwrap().as_millis())
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
        let mut after = |ran, progress| {
            let delay = backoff.after(ran, progress);
            delay.map(|delay| delay.as_millis())
        };
        assert_eq!(after(SHORT, Progress::None), Some(100));
        assert_eq!(after(STEADY, Progress::None), Some(200));
        assert_eq!(after(STEADY, Progress::Read), Some(100));
        assert_eq!(after(SHORT, Progress::Read), Some(200));
        assert_eq!(after(SHORT, Progress::Read), None);
    }

    /// Regression: the delay doubled, and restarts in a row were counted, although records
    /// were acknowledged between the failures.
    #[test]
    fn an_acknowledgement_starts_afresh_however_short_the_run() {
        let first = Duration::from_millis(100);
        let mut backoff = Backoff::new(first, Some(2));
        for _ in 0..10 {
            // A run that acknowledges and dies, and one that fails on the next record.
            assert_eq!(backoff.after(SHORT, Progress::Acknowledged), Some(first));
            assert_eq!(backoff.after(SHORT, Progress::None), Some(2 * first));
        }
        assert_eq!(backoff.after(SHORT, Progress::None), None);
    }

    #[test]
    fn no_restarts_are_no_restarts() {
        assert_eq!(
            Backoff::new(SHORT, Some(0)).after(STEADY, Progress::Read),
            None
        );
    }
}
