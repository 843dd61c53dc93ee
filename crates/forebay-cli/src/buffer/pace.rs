//! A limit on bytes per second.

use crate::args::sizes::size_or_zero;
use crate::stop::Stop;
use std::str::FromStr;
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

impl Rate {
    /// Bytes per second.
    pub(crate) fn bytes(self) -> u64 {
        self.0
    }
}

/// Slows a loop down to a rate.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Option<Rate>,
    begun: Instant,
}

impl Pace {
    /// Begins now. Without a rate it never waits.
    pub(crate) fn new(rate: Option<Rate>) -> Self {
        Self {
            rate,
            begun: Instant::now(),
        }
    }

    /// Waits until so many bytes since the beginning are within the rate, or the stop is set.
    pub(crate) fn keep(&self, bytes: u64, stop: &Stop) {
        while let Some(early) = self.early(bytes, self.begun.elapsed())
            && !stop.is_set()
        {
            stop.wait(early);
        }
    }

    /// By how much so many bytes are too early.
    fn early(&self, bytes: u64, elapsed: Duration) -> Option<Duration> {
        let rate = self.rate?;
        let due = Duration::from_secs_f64(bytes as f64 / rate.0 as f64);
        due.checked_sub(elapsed).filter(|early| !early.is_zero())
    }
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
    fn what_is_over_the_rate_is_early() {
        let pace = Pace::new(Some(Rate(1000)));
        let early = pace.early(5000, Duration::from_secs(3));
        assert_eq!(early, Some(Duration::from_secs(2)));
        assert_eq!(pace.early(5000, Duration::from_secs(5)), None);
        assert_eq!(Pace::new(None).early(u64::MAX, Duration::ZERO), None);
    }
}
