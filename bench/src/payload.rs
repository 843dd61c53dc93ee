//! Payloads that tell which they are, and the check that all come back.
//!
//! The first eight bytes are the record's number, the rest one of 64
//! incompressible stretches, chosen by the number. Invariants: a record that is
//! missing, doubled, out of order, cut or changed anywhere is noticed at once;
//! making and checking payloads costs every peer the same.

use crate::peer::Result;
use std::time::{Duration, Instant};

/// The shortest payload: its number and something to check.
pub(crate) const LEN_MIN: usize = 16;
/// Different stretches.
const PATTERNS: u64 = 64;
/// Payloads held for batches, a multiple of [`PATTERNS`].
const HELD: u64 = 1024;
/// Records appended together.
pub(crate) const BATCH: u64 = 1_000;
/// A payload's number is the producer's, shifted by this, and a count.
const PRODUCER_SHIFT: u32 = 40;
/// The clock is looked at once in so many records.
const LOOK: u64 = 256;

/// A stretch of bytes that does not compress.
fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn held(len: usize, count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|n| pattern(len, n % PATTERNS)).collect()
}

/// Payloads to append, made beforehand but for their numbers.
pub(crate) struct Payloads {
    held: Vec<Vec<u8>>,
    /// The producer's number, in place.
    producer: u64,
}

impl Payloads {
    /// Of a producer that appends one by one.
    pub(crate) fn single(len: usize, producer: u64) -> Self {
        Self {
            held: held(len, PATTERNS),
            producer: producer << PRODUCER_SHIFT,
        }
    }

    /// Of the only producer, which may append in batches.
    pub(crate) fn batched(len: usize) -> Self {
        Self {
            held: held(len, HELD),
            producer: 0,
        }
    }

    /// The producer's payload of this number.
    #[inline]
    pub(crate) fn one(&mut self, number: u64) -> &[u8] {
        // Few of them, so that they stay in the cache.
        let payload = &mut self.held[(number % PATTERNS) as usize];
        payload[..8].copy_from_slice(&(self.producer | number).to_le_bytes());
        payload
    }

    /// The producer's payloads from this number on, [`BATCH`] at most.
    pub(crate) fn batch(&mut self, first: u64, count: u64) -> Vec<&[u8]> {
        for number in first..first + count {
            let payload = &mut self.held[(number % HELD) as usize];
            payload[..8].copy_from_slice(&(self.producer | number).to_le_bytes());
        }
        (first..first + count)
            .map(|number| &self.held[(number % HELD) as usize][..])
            .collect()
    }
}

/// The number of a payload, without the producer's.
pub(crate) fn number(payload: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(*payload.first_chunk()?);
    Some(number & ((1 << PRODUCER_SHIFT) - 1))
}

/// Sees that records come back as they went in: all of them, complete, in the
/// order of their producer.
pub(crate) struct Check {
    patterns: Vec<Vec<u8>>,
    /// By producer, the number that comes next.
    next: Vec<u64>,
    taken: u64,
    expected: u64,
    begun: Instant,
    limit: Duration,
    enough: bool,
}

impl Check {
    pub(crate) fn new(len: usize, producers: usize, expected: u64, limit: Duration) -> Self {
        Self {
            patterns: (0..PATTERNS).map(|seed| pattern(len, seed)).collect(),
            next: vec![0; producers],
            taken: 0,
            expected,
            begun: Instant::now(),
            limit,
            enough: false,
        }
    }

    /// The time begins now.
    pub(crate) fn start(&mut self) {
        self.begun = Instant::now();
    }

    /// Checks a record.
    ///
    /// # Errors
    ///
    /// It is not the one that comes next of its producer, or not as it was; or
    /// the time is over, which [`Check::finish`] takes for success.
    #[inline]
    pub(crate) fn take(&mut self, payload: &[u8]) -> Result<()> {
        let Some(number) = payload.first_chunk().copied().map(u64::from_le_bytes) else {
            return Err(wrong(self.taken, "is shorter than its number"));
        };
        let producer = (number >> PRODUCER_SHIFT) as usize;
        let count = number & ((1 << PRODUCER_SHIFT) - 1);
        match self.next.get_mut(producer) {
            Some(next) if *next == count => *next += 1,
            _ => return Err(wrong(self.taken, "is not the one that comes next")),
        }
        if payload[8..] != self.patterns[(count % PATTERNS) as usize][8..] {
            return Err(wrong(self.taken, "is not as it was appended"));
        }
        self.taken += 1;
        if self.taken.is_multiple_of(LOOK) && self.begun.elapsed() > self.limit {
            self.enough = true;
            return Err("enough was read".into());
        }
        Ok(())
    }

    /// Whether all have come.
    pub(crate) fn is_complete(&self) -> bool {
        self.taken >= self.expected
    }

    /// How many there have been.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Judges the reading that came to `read`, and returns how many there were.
    ///
    /// # Errors
    ///
    /// As `read`, unless it ended because the time was over; or some records
    /// did not come back.
    pub(crate) fn finish(&self, read: Result<()>) -> Result<u64> {
        if !self.enough {
            read?;
            if self.taken != self.expected {
                let message = format!(
                    "{} records were appended and {} came back",
                    self.expected, self.taken
                );
                return Err(message.into());
            }
        }
        Ok(self.taken)
    }
}

#[cold]
fn wrong(place: u64, what: &str) -> Box<dyn std::error::Error + Send + Sync> {
    format!("what came back at place {place} {what}").into()
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
