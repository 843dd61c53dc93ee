//! Finds the record that a program fails on; pure.
//!
//! A program reads ahead, so after a failure every record that it had read and not
//! taken is suspected. Each of them is then given to a start of its own, until one has
//! used up its attempts or all have passed. Invariant: only a failed start that had
//! read one record and no other is an attempt of that record.

use std::fmt;
use std::num::NonZeroU64;

/// Consecutive records that a program had read and not taken: the ids of the first and
/// the last one, and their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Suspected {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) count: u64,
}

impl Suspected {
    pub(crate) fn one(id: u64) -> Self {
        Self {
            first: id,
            last: id,
            count: 1,
        }
    }

    /// Adds the next record.
    pub(crate) fn add(&mut self, id: u64) {
        self.last = id;
        self.count += 1;
    }
}

impl fmt::Display for Suspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => write!(f, "record {}", self.first),
            _ => write!(f, "one of the records {} to {}", self.first, self.last),
        }
    }
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The program gets everything again.
    Again,
    /// It gets the first suspected record alone.
    Alone,
    /// The record has used up its attempts.
    SetAside { id: u64, attempts: u64 },
}

/// The records that a program may have failed on.
#[derive(Debug)]
pub(crate) struct Suspects {
    attempts_max: Option<NonZeroU64>,
    /// The first suspected record, and the attempts on it.
    first: u64,
    attempts: u64,
    /// The last record that a start gets alone; `None` when a start gets everything.
    alone_until: Option<u64>,
}

impl Suspects {
    /// No suspects yet. Suspects are given to starts alone only if there is a maximum of
    /// attempts.
    pub(crate) fn new(attempts_max: Option<NonZeroU64>) -> Self {
        Self {
            attempts_max,
            first: 0,
            attempts: 0,
            alone_until: None,
        }
    }

    /// Whether the next start gets one record alone.
    pub(crate) fn is_alone_next(&self) -> bool {
        self.alone_until.is_some()
    }

    /// A start has failed that took nothing, and had read these records.
    pub(crate) fn failed(&mut self, suspected: Suspected) -> Next {
        let Some(attempts_max) = self.attempts_max else {
            return Next::Again;
        };
        if self.first != suspected.first {
            self.first = suspected.first;
            self.attempts = 0;
        }
        if suspected.count == 1 {
            self.attempts += 1;
        }
        if self.attempts >= attempts_max.get() {
            let next = Next::SetAside {
                id: self.first,
                attempts: self.attempts,
            };
            // The other records are no longer suspected.
            *self = Self::new(self.attempts_max);
            return next;
        }
        self.alone_until = self.alone_until.max(Some(suspected.last));
        Next::Alone
    }

    /// A start that had this record alone has taken it.
    pub(crate) fn passed(&mut self, id: u64) {
        if self.alone_until.is_some_and(|last| last <= id) {
            self.alone_until = None;
        }
    }

    /// The failed attempts on the first suspected record.
    pub(crate) fn attempts(&self) -> u64 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspects(max: u64) -> Suspects {
        Suspects::new(NonZeroU64::new(max))
    }

    fn range(first: u64, last: u64) -> Suspected {
        Suspected {
            first,
            last,
            count: last - first + 1,
        }
    }

    #[test]
    fn without_a_maximum_nothing_is_given_alone() {
        let mut suspects = suspects(0);
        for _ in 0..10 {
            assert_eq!(suspects.failed(range(5, 5)), Next::Again);
            assert!(!suspects.is_alone_next());
        }
    }

    #[test]
    fn records_pass_one_after_the_other_until_one_does_not() {
        let mut suspects = suspects(2);
        assert_eq!(suspects.failed(range(5, 8)), Next::Alone);
        for id in [5, 6] {
            assert!(suspects.is_alone_next());
            suspects.passed(id);
        }
        assert_eq!(suspects.failed(range(7, 7)), Next::Alone);
        let next = suspects.failed(range(7, 7));
        assert_eq!(next, Next::SetAside { id: 7, attempts: 2 });
        assert!(!suspects.is_alone_next());
    }

    #[test]
    fn when_all_have_passed_nothing_is_suspected_any_more() {
        let mut suspects = suspects(1);
        assert_eq!(suspects.failed(range(5, 6)), Next::Alone);
        suspects.passed(5);
        assert!(suspects.is_alone_next());
        suspects.passed(6);
        assert!(!suspects.is_alone_next());
    }

    #[test]
    fn only_a_start_that_had_no_other_record_is_an_attempt() {
        let mut suspects = suspects(2);
        // Nobody knows which of them it was.
        assert_eq!(suspects.failed(range(5, 6)), Next::Alone);
        assert_eq!(suspects.failed(range(5, 5)), Next::Alone);
        let next = suspects.failed(range(5, 5));
        assert_eq!(next, Next::SetAside { id: 5, attempts: 2 });
        // It was given everything, and had read this one only.
        assert_eq!(suspects.failed(range(6, 6)), Next::Alone);
        let next = suspects.failed(range(6, 6));
        assert_eq!(next, Next::SetAside { id: 6, attempts: 2 });
    }

    #[test]
    fn attempts_belong_to_one_record() {
        let mut suspects = suspects(2);
        assert_eq!(suspects.failed(range(5, 5)), Next::Alone);
        suspects.passed(5);
        assert_eq!(suspects.failed(range(6, 6)), Next::Alone);
        let next = suspects.failed(range(6, 6));
        assert_eq!(next, Next::SetAside { id: 6, attempts: 2 });
    }
}
