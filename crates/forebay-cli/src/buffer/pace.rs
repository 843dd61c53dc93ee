//! A limit on bytes per second.
//!
//! Invariant: a pause is not made up for. A receiver that was down does not get, when it is
//! back, all at once what it would have got meanwhile.

use crate::args::sizes::size_or_zero;
use crate::stop::Stop;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes per second, such as `5MiB/s`; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate(u64);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = text.trim();
        let bytes = bytes.strip_suffix("/s").unwrap_or(bytes);
        match size_or_zero(bytes)? {
            0 => Err("nothing would ever be taken; write it as 5MiB/s".to_owned()),
            bytes => Ok(Self(bytes)),
        }
    }
}

/// Limits the bytes a second that all threads together take.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Option<Rate>,
    /// When the next bytes are due.
    next: Mutex<Instant>,
}

impl Pace {
    /// Begins now. Without a rate everything is due at once.
    pub(crate) fn new(rate: Option<Rate>) -> Self {
        Self {
            rate,
            next: Mutex::new(Instant::now()),
        }
    }

    /// At most this many bytes are to be taken at a time, so that they go out evenly: what a
    /// quarter of a second allows, and not more than `max`.
    pub(crate) fn portion(&self, max: u64) -> u64 {
        let Some(rate) = self.rate else { return max };
        (rate.0 / 4).clamp(1, max)
    }

    /// How long until the next bytes are due; zero if they are.
    pub(crate) fn due_in(&self) -> Duration {
        if self.rate.is_none() {
            return Duration::ZERO;
        }
        let next = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
        next.saturating_duration_since(Instant::now())
    }

    /// Notes that so many bytes are taken.
    pub(crate) fn take(&self, bytes: u64) {
        let Some(rate) = self.rate else { return };
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = after(*next, Instant::now(), bytes, rate);
    }

    /// Takes so many bytes, and waits until the next ones are due or the stop is set.
    pub(crate) fn take_and_wait(&self, bytes: u64, stop: &Stop) {
        self.take(bytes);
        loop {
            let due_in = self.due_in();
            if due_in.is_zero() || stop.is_set() {
                return;
            }
            stop.wait(due_in);
        }
    }
}

/// When bytes are due after `bytes` that are taken now and were due at `next`.
fn after(next: Instant, now: Instant, bytes: u64, rate: Rate) -> Instant {
    next.max(now) + Duration::from_secs_f64(bytes as f64 / rate.0 as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_size_for_each_second() {
        assert_eq!("5MiB/s".parse(), Ok(Rate(5 << 20)));
        assert_eq!("100k".parse(), Ok(Rate(100 << 10)));
        assert!("0".parse::<Rate>().is_err());
        assert!("5MiB/m".parse::<Rate>().is_err());
    }

    #[test]
    fn bytes_are_due_when_those_before_them_were_within_the_rate() {
        let rate = Rate(1000);
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
    fn what_is_over_the_rate_is_early() {
        let begun = Instant::now();
        let next = after(begun, begun, 5000, Rate(1000));
        let elapsed = |seconds| begun + Duration::from_secs(seconds);
        let early = next.saturating_duration_since(elapsed(3));
        assert_eq!(early, Duration::from_secs(2));
        assert!(next.saturating_duration_since(elapsed(5)).is_zero());
    }

    #[test]
    fn without_a_rate_everything_is_due() {
        let pace = Pace::new(None);
        pace.take(u64::MAX);
        assert_eq!(pace.due_in(), Duration::ZERO);
        assert_eq!(pace.portion(4096), 4096);
        let slow = Pace::new(Some(Rate(100)));
        assert_eq!(slow.portion(4096), 25);
        slow.take(u64::from(u32::MAX));
        assert!(!slow.due_in().is_zero());
    }
}
