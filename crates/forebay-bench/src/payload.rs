//! Numbered payloads, and the check that all of them come back.
//!
//! The first eight bytes are the record's number: its producer, and how many records that
//! producer appended before. The rest is incompressible and known. Invariant: a record
//! that is missing, doubled, out of the order of its producer or cut is noticed at once,
//! a changed one when it is compared.

use super::failure::{Failure, Result};

/// The shortest payload: a number, and a time for the measurement of latency.
pub const LEN_MIN: u64 = 16;
/// The longest payload that is measured.
pub const LEN_MAX: u64 = 4 << 20;
/// If not all records are compared in full, one in this many is; a power of two.
const SAMPLE: u64 = 64;
/// The lower bits of a record's number hold the count, the others the producer.
const PRODUCER_SHIFT: u32 = 40;

/// A payload without a number; each seed gives a different one.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
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

/// The payload that a [`Checker::new`] expects, before it is numbered.
pub(crate) fn template(len: usize) -> Vec<u8> {
    pattern(len, 0)
}

/// Puts a number into a payload.
#[inline]
pub fn stamp(payload: &mut [u8], number: u64) {
    payload[..8].copy_from_slice(&number.to_le_bytes());
}

/// The number of the record that a producer appends after `count` others.
#[inline]
pub fn numbered(producer: u32, count: u64) -> u64 {
    u64::from(producer) << PRODUCER_SHIFT | count
}

/// How many records a payload's producer appended before it.
#[inline]
pub fn count(payload: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*payload.first_chunk()?) & ((1 << PRODUCER_SHIFT) - 1))
}

/// Checks that records come back as they were appended: all of them, complete, in the
/// order of their producer.
#[derive(Debug)]
pub struct Checker {
    /// Payloads without numbers, which records have in turns by their count.
    patterns: Vec<Vec<u8>>,
    /// A record is compared in full if these bits of its count are 0.
    skipped: u64,
    /// The next count of each producer.
    next: Vec<u64>,
    taken: u64,
}

impl Checker {
    /// A checker of one producer whose payloads are [`pattern`] 0; one in 64 is compared
    /// in full.
    pub fn new(payload_len: usize) -> Self {
        Self {
            skipped: SAMPLE - 1,
            ..Self::thorough(payload_len, 1, 1)
        }
    }

    /// A checker of `producers` producers whose payloads are the first `patterns` patterns
    /// in turns; all are compared in full.
    ///
    /// # Panics
    ///
    /// The number of patterns is no power of two.
    pub fn thorough(payload_len: usize, producers: u32, patterns: u64) -> Self {
        assert!(patterns.is_power_of_two(), "{patterns} patterns");
        Self {
            patterns: (0..patterns)
                .map(|seed| pattern(payload_len, seed))
                .collect(),
            skipped: 0,
            next: vec![0; producers as usize],
            taken: 0,
        }
    }

    /// Checks the next record.
    ///
    /// # Errors
    ///
    /// It is not the next record of its producer, or it was changed.
    #[inline]
    pub fn check(&mut self, payload: &[u8]) -> Result<()> {
        let Some(number) = payload.first_chunk().copied().map(u64::from_le_bytes) else {
            return Err(wrong(self.taken));
        };
        let count = number & ((1 << PRODUCER_SHIFT) - 1);
        let next = match self.next.get_mut((number >> PRODUCER_SHIFT) as usize) {
            Some(next) if *next == count => next,
            _ => return Err(wrong(self.taken)),
        };
        // A power of two: no division for each record.
        let pattern = &self.patterns[count as usize & (self.patterns.len() - 1)];
        let is_compared = count & self.skipped == 0;
        if payload.len() != pattern.len() || (is_compared && payload[8..] != pattern[8..]) {
            return Err(wrong(self.taken));
        }
        *next += 1;
        self.taken += 1;
        Ok(())
    }

    /// How many records were checked.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Checks the number of records.
    ///
    /// # Errors
    ///
    /// Some are missing.
    pub fn finish(&self, records: u64) -> Result<()> {
        match self.taken == records {
            true => Ok(()),
            false => Err(Failure::new(format!(
                "{records} records were appended and {} came back; the measurement is void",
                self.taken
            ))),
        }
    }
}

#[cold]
fn wrong(place: u64) -> Failure {
    Failure::new(format!(
        "the record at place {place} did not come back as it was appended; the measurement is \
         void"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(len: usize, seed: u64, number: u64) -> Vec<u8> {
        let mut payload = pattern(len, seed);
        stamp(&mut payload, number);
        payload
    }

    #[test]
    fn records_in_order_pass() {
        let mut checker = Checker::new(20);
        for n in 0..200 {
            checker.check(&payload(20, 0, n)).unwrap();
        }
        checker.finish(200).unwrap();
        assert!(checker.finish(201).is_err());
    }

    #[test]
    fn a_gap_a_cut_and_a_changed_sample_are_noticed() {
        let mut checker = Checker::new(20);
        assert!(checker.check(&payload(20, 0, 1)).is_err());
        assert!(checker.check(&payload(20, 0, 0)[..19]).is_err());
        assert!(checker.check(&[]).is_err());
        let mut changed = payload(20, 0, 0);
        changed[19] ^= 1;
        assert!(checker.check(&changed).is_err());
        checker.check(&payload(20, 0, 0)).unwrap();
    }

    #[test]
    fn producers_are_in_order_each_for_itself() {
        let mut checker = Checker::thorough(20, 2, 1);
        checker.check(&payload(20, 0, numbered(1, 0))).unwrap();
        checker.check(&payload(20, 0, numbered(0, 0))).unwrap();
        checker.check(&payload(20, 0, numbered(0, 1))).unwrap();
        assert!(checker.check(&payload(20, 0, numbered(1, 2))).is_err());
        assert!(checker.check(&payload(20, 0, numbered(2, 0))).is_err());
        assert_eq!(count(&payload(20, 0, numbered(1, 2))), Some(2));
    }

    #[test]
    fn a_thorough_checker_compares_every_record() {
        let mut checker = Checker::thorough(20, 1, 4);
        for n in 0..9 {
            let mut changed = payload(20, n % 4, n);
            changed[8] ^= 1;
            assert!(checker.check(&changed).is_err(), "{n}");
            checker.check(&payload(20, n % 4, n)).unwrap();
        }
    }
}
