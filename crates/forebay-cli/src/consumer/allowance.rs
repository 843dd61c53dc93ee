//! How much programs may get now, when bytes a second are limited.
//!
//! Invariant: a pause is not made up for. A receiver that was down does not get, when it is
//! back, all at once what it would have got meanwhile.

use crate::buffer::pace::Rate;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Limits the bytes a second that all threads together give to programs.
#[derive(Debug)]
pub(crate) struct Allowance {
    rate: Option<Rate>,
    /// When the next bytes are due.
    next: Mutex<Instant>,
}

impl Allowance {
    /// Begins now. Without a rate everything is due at once.
    pub(crate) fn new(rate: Option<Rate>) -> Self {
        Self {
            rate,
            next: Mutex::new(Instant::now()),
        }
    }

    /// At most this many bytes are to be taken at a time, so that they go out evenly: what a
    /// quarter of a second allows, and not more than `max`.
    pub(crate) fn portion(&self, max: usize) -> usize {
        let Some(rate) = self.rate else { return max };
        usize::try_from(rate.bytes() / 4)
            .unwrap_or(max)
            .clamp(1, max)
    }

    /// How long until the next bytes are due; zero if they are.
    pub(crate) fn due_in(&self) -> Duration {
        if self.rate.is_none() {
            return Duration::ZERO;
        }
        let next = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
        next.saturating_duration_since(Instant::now())
    }

    /// Notes that so many bytes are given to a program.
    pub(crate) fn take(&self, bytes: u64) {
        let Some(rate) = self.rate else { return };
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = after(*next, Instant::now(), bytes, rate);
    }
}

/// When bytes are due after `bytes` that are given now and were due at `next`.
fn after(next: Instant, now: Instant, bytes: u64, rate: Rate) -> Instant {
    next.max(now) + Duration::from_secs_f64(bytes as f64 / rate.bytes() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_due_when_those_before_them_were_within_the_rate() {
        let rate = "1000/s".parse().unwrap();
        let begun = Instant::now();
        let next = after(begun, begun, 500, rate);
        assert_eq!(next - begun, Duration::from_millis(500));
        // Two threads, one right after the other.
        let next = after(next, begun, 1500, rate);
        assert_eq!(next - begun, Duration::from_secs(2));
        // A pause of an hour is not made up for.
        let later = begun + Duration::from_secs(3600);
        assert_eq!(
            after(next, later, 1000, rate) - later,
            Duration::from_secs(1)
        );
    }

    #[test]
    fn without_a_rate_everything_is_due() {
        let allowance = Allowance::new(None);
        allowance.take(u64::MAX);
        assert_eq!(allowance.due_in(), Duration::ZERO);
        assert_eq!(allowance.portion(4096), 4096);
        let slow = Allowance::new(Some("100/s".parse().unwrap()));
        assert_eq!(slow.portion(4096), 25);
        slow.take(u64::from(u32::MAX));
        assert!(!slow.due_in().is_zero());
    }
}
