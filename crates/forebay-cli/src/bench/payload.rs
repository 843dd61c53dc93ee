//! Payloads that tell which they are.
//!
//! The first eight bytes are the record's number, the rest is the same
//! incompressible stretch in all payloads of a length. Invariant: a record that
//! is missing, doubled, out of order or cut is noticed at once, a changed one
//! when it is sampled.

use crate::failure::{Failure, Result};

/// The shortest payload: a number, and a time for the measurement of latency.
pub(crate) const LEN_MIN: u64 = 16;
/// The longest payload that is measured.
pub(crate) const LEN_MAX: u64 = 4 << 20;
/// One in so many records is compared in full.
const SAMPLE: u64 = 64;

/// A payload without a number.
pub(crate) fn template(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
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

/// Numbers a payload.
#[inline]
pub(crate) fn stamp(payload: &mut [u8], number: u64) {
    payload[..8].copy_from_slice(&number.to_le_bytes());
}

/// The number of a payload.
#[inline]
pub(crate) fn number(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().copied().map(u64::from_le_bytes)
}

/// Sees that records come back as they went in: numbered from 0, complete.
#[derive(Debug)]
pub(crate) struct Checker {
    template: Vec<u8>,
    next: u64,
}

impl Checker {
    pub(crate) fn new(payload_len: usize) -> Self {
        Self {
            template: template(payload_len),
            next: 0,
        }
    }

    /// Checks the next record.
    ///
    /// # Errors
    ///
    /// It is not the one that was written there.
    #[inline]
    pub(crate) fn check(&mut self, payload: &[u8]) -> Result<()> {
        let expected = self.next;
        if number(payload) != Some(expected) || payload.len() != self.template.len() {
            return Err(wrong(expected));
        }
        if expected.is_multiple_of(SAMPLE) && payload[8..] != self.template[8..] {
            return Err(wrong(expected));
        }
        self.next += 1;
        Ok(())
    }

    /// Checks the number of records.
    ///
    /// # Errors
    ///
    /// Some are missing.
    pub(crate) fn finish(&self, records: u64) -> Result<()> {
        match self.next == records {
            true => Ok(()),
            false => Err(Failure::new(format!(
                "{records} records were appended and {} came back; the measurement is void",
                self.next
            ))),
        }
    }
}

#[cold]
fn wrong(number: u64) -> Failure {
    Failure::new(format!(
        "record {number} did not come back as it was appended; the measurement is void"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(len: usize, number: u64) -> Vec<u8> {
        let mut payload = template(len);
        stamp(&mut payload, number);
        payload
    }

    #[test]
    fn records_in_order_pass() {
        let mut checker = Checker::new(20);
        for n in 0..200 {
            checker.check(&numbered(20, n)).unwrap();
        }
        checker.finish(200).unwrap();
        assert!(checker.finish(201).is_err());
    }

    #[test]
    fn a_gap_a_cut_and_a_changed_sample_are_noticed() {
        let mut checker = Checker::new(20);
        assert!(checker.check(&numbered(20, 1)).is_err());
        assert!(checker.check(&numbered(20, 0)[..19]).is_err());
        assert!(checker.check(&[]).is_err());
        let mut changed = numbered(20, 0);
        changed[19] ^= 1;
        assert!(checker.check(&changed).is_err());
        checker.check(&numbered(20, 0)).unwrap();
    }
}
