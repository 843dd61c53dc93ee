//! Clocks, samples and medians.

use hdrhistogram::Histogram;
use std::time::{Duration, Instant};

/// A clock for wall time and for the process's processor time (user and system).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    begun: Instant,
    cpu_begun: Option<Duration>,
}

impl Clock {
    /// Starts now.
    pub(crate) fn start() -> Self {
        Self {
            cpu_begun: cpu_time(),
            begun: Instant::now(),
        }
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        // A clock too coarse to see the work must not divide by zero.
        self.begun.elapsed().as_secs_f64().max(1e-9)
    }

    /// The measurement of `records` records, from the start until now.
    pub(crate) fn measured(&self, records: u64) -> Measured {
        let seconds = self.seconds();
        let cpu = self
            .cpu_begun
            .and_then(|begun| Some(cpu_time()?.saturating_sub(begun).as_secs_f64()));
        Measured {
            records,
            seconds,
            cpu_seconds: cpu,
            ..Measured::default()
        }
    }
}

/// The processor time of this process, if the system tells it.
#[cfg(unix)]
pub(crate) fn cpu_time() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Some(Duration::new(
        u64::try_from(time.tv_sec).ok()?,
        u32::try_from(time.tv_nsec).ok()?,
    ))
}

/// The processor time of this process, if the system tells it.
#[cfg(not(unix))]
pub(crate) fn cpu_time() -> Option<Duration> {
    None
}

/// The result of one measurement.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measured {
    /// Records that were appended, read or both.
    pub(crate) records: u64,
    /// How long that took.
    pub(crate) seconds: f64,
    /// How long it took until all records were synced.
    pub(crate) synced_seconds: Option<f64>,
    /// The processor time it took, of all threads.
    pub(crate) cpu_seconds: Option<f64>,
    /// The times of single operations.
    pub(crate) quantiles: Option<Quantiles>,
    /// Memory in addition to what the process had before.
    pub(crate) memory_bytes: Option<u64>,
}

/// The times within which half, 99 % and 99.9 % of the operations finished, in µs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Quantiles {
    /// The quantiles of one operation.
    pub(crate) fn of_one(time: Duration) -> Self {
        let us = time.as_secs_f64() * 1e6;
        Self {
            p50: us,
            p99: us,
            p999: us,
        }
    }
}

/// Times of single operations, from 100 ns to a minute, to three digits.
#[derive(Debug, Clone)]
pub(crate) struct Times(Histogram<u64>);

impl Times {
    pub(crate) fn new() -> Self {
        #[expect(clippy::expect_used, reason = "the bounds are constants")]
        let histogram = Histogram::new_with_bounds(100, 60_000_000_000, 3)
            .expect("the bounds of the histogram are valid");
        Self(histogram)
    }

    pub(crate) fn note(&mut self, time: Duration) {
        self.0
            .saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        // Both have the same bounds.
        let _ = self.0.add(&other.0);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    pub(crate) fn quantiles(&self) -> Quantiles {
        let us = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        Quantiles {
            p50: us(0.5),
            p99: us(0.99),
            p999: us(0.999),
        }
    }
}

/// The median; of an even number of values, the mean of the two in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        len if len % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0]), Some(3.0));
        assert_eq!(median([9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([9.0, 1.0, 2.0, 4.0]), Some(3.0));
    }

    #[test]
    fn quantiles_are_in_microseconds() {
        let mut times = Times::new();
        for us in 1..=1000 {
            times.note(Duration::from_micros(us));
        }
        let mut all = Times::new();
        all.merge(&times);
        let quantiles = all.quantiles();
        assert_eq!(all.count(), 1000);
        assert!((499.0..502.0).contains(&quantiles.p50), "{quantiles:?}");
        assert!((989.0..992.0).contains(&quantiles.p99), "{quantiles:?}");
    }
}
