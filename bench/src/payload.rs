//! Numbered payloads, and the check that all of them come back.
//!
//! A payload is its number and one of 64 incompressible patterns, chosen by the number.
//! Invariants: a record that is missing, doubled, out of order, cut or changed anywhere is
//! noticed at once; making and checking payloads costs every peer the same.

use crate::peer::Result;
use forebay_bench::payload::{Checker, numbered, pattern, stamp};
use std::time::{Duration, Instant};

/// Different patterns.
const PATTERNS: u64 = 64;
/// Payloads held for batches, a multiple of [`PATTERNS`].
const HELD: u64 = 1024;
/// Records appended together.
pub(crate) const BATCH: u64 = 1_000;
/// Records between two checks of the clock.
const LOOK: u64 = 256;

fn held(len: usize, count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|n| pattern(len, n % PATTERNS)).collect()
}

/// Payloads to append, made beforehand except for their numbers.
pub(crate) struct Payloads {
    held: Vec<Vec<u8>>,
    producer: u32,
}

impl Payloads {
    /// Payloads of a producer that appends one by one.
    pub(crate) fn single(len: usize, producer: u32) -> Self {
        Self {
            held: held(len, PATTERNS),
            producer,
        }
    }

    /// Payloads of the only producer, which may append in batches.
    pub(crate) fn batched(len: usize) -> Self {
        Self {
            held: held(len, HELD),
            producer: 0,
        }
    }

    /// The producer's payload with this number.
    #[inline]
    pub(crate) fn one(&mut self, number: u64) -> &[u8] {
        // Only these few are used, so that they stay in the cache.
        let payload = &mut self.held[(number % PATTERNS) as usize];
        stamp(payload, numbered(self.producer, number));
        payload
    }

    /// The producer's next `count` payloads from number `first` on, [`BATCH`] at most.
    pub(crate) fn batch(&mut self, first: u64, count: u64) -> Vec<&[u8]> {
        for number in first..first + count {
            let payload = &mut self.held[(number % HELD) as usize];
            stamp(payload, numbered(self.producer, number));
        }
        (first..first + count)
            .map(|number| &self.held[(number % HELD) as usize][..])
            .collect()
    }
}

/// Checks that records come back as they were appended, until a time limit.
pub(crate) struct Check {
    checker: Checker,
    expected: u64,
    begun: Instant,
    limit: Duration,
    enough: bool,
}

impl Check {
    pub(crate) fn new(len: usize, producers: u32, expected: u64, limit: Duration) -> Self {
        Self {
            checker: Checker::thorough(len, producers, PATTERNS),
            expected,
            begun: Instant::now(),
            limit,
            enough: false,
        }
    }

    /// Starts the time limit.
    pub(crate) fn start(&mut self) {
        self.begun = Instant::now();
    }

    /// Checks a record.
    ///
    /// # Errors
    ///
    /// It is not the next record of its producer, or it was changed; or the time
    /// is over, which [`Check::finish`] takes for success.
    #[inline]
    pub(crate) fn take(&mut self, payload: &[u8]) -> Result<()> {
        self.checker.check(payload)?;
        if self.taken().is_multiple_of(LOOK) && self.begun.elapsed() > self.limit {
            self.enough = true;
            return Err("enough was read".into());
        }
        Ok(())
    }

    /// Whether all records have come.
    pub(crate) fn is_complete(&self) -> bool {
        self.taken() >= self.expected
    }

    /// How many records were checked.
    pub(crate) fn taken(&self) -> u64 {
        self.checker.taken()
    }

    /// Judges a reading that returned `read`, and returns how many records there were.
    ///
    /// # Errors
    ///
    /// As `read`, unless it ended because the time was over; or some records
    /// did not come back.
    pub(crate) fn finish(&self, read: Result<()>) -> Result<u64> {
        if !self.enough {
            read?;
            self.checker.finish(self.expected)?;
        }
        Ok(self.taken())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: u64) -> Check {
        Check::new(20, 2, expected, Duration::from_secs(3600))
    }

    #[test]
    fn what_comes_back_in_order_passes() {
        let mut payloads = Payloads::batched(20);
        let mut check = check(3_000);
        for first in [0, 1_000] {
            for payload in payloads.batch(first, BATCH) {
                check.take(payload).unwrap();
            }
        }
        for number in 2_000..3_000 {
            check.take(payloads.one(number)).unwrap();
        }
        assert!(check.is_complete());
        assert_eq!(check.finish(Ok(())).unwrap(), 3_000);
    }

    #[test]
    fn producers_are_in_order_each_for_itself() {
        let mut check = check(4);
        let (mut a, mut b) = (Payloads::single(20, 0), Payloads::single(20, 1));
        check.take(b.one(0)).unwrap();
        check.take(a.one(0)).unwrap();
        check.take(a.one(1)).unwrap();
        assert!(check.take(b.one(2)).is_err());
        assert!(check.take(Payloads::single(20, 2).one(0)).is_err());
    }

    #[test]
    fn what_is_missing_cut_or_changed_is_noticed() {
        let mut payloads = Payloads::batched(20);
        let payload = payloads.one(0).to_vec();
        let mut changed = payload.clone();
        changed[19] ^= 1;
        let mut check = check(2);
        assert!(check.take(&payload[..19]).is_err());
        assert!(check.take(&payload[..7]).is_err());
        let mut check = self::check(2);
        assert!(check.take(&changed).is_err());
        let mut check = self::check(2);
        check.take(&payload).unwrap();
        assert!(check.finish(Ok(())).is_err());
    }

    #[test]
    fn the_time_being_over_is_no_failure() {
        let mut payloads = Payloads::batched(20);
        let mut check = Check::new(20, 1, 1_000, Duration::ZERO);
        let mut read = Ok(());
        for number in 0..1_000 {
            read = check.take(payloads.one(number));
            if read.is_err() {
                break;
            }
        }
        assert_eq!(check.finish(read).unwrap(), LOOK);
    }
}
