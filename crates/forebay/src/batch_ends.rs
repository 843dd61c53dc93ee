//! Where in a data file full batches end.
//!
//! Invariants:
//! - The ends of one buffer are a batch's length from one another: a write between
//!   two of them is of whole pages that lie well for the page cache.
//! - The only buffer of a process has them at multiples of that length. Others are
//!   shifted, so that buffers that are filled alike are not full all at once: their
//!   threads would take the processors from the producers for as long as it takes
//!   to write a batch each, and then wait for as long as it takes to fill them.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many different shifts there are: a page cache loses little by pages that lie
/// in sixteenths of a megabyte, and sixteen are enough to keep two cores busy.
const SHIFTS: u32 = 16;

/// Buffers of this process that are open and have a thread. Outside of what the
/// models see: it decides nothing but speed.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// See the head of this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchEnds {
    len: usize,
    /// Of each end, towards the beginning of the file.
    shift: usize,
}

impl BatchEnds {
    /// Those of the buffer that is open as the `nth`, from 0.
    pub(crate) fn new(len: usize, nth: usize) -> Self {
        // Halves first, then quarters: the fewer there are, the farther apart.
        let share = (nth as u32 % SHIFTS).reverse_bits() >> (u32::BITS - SHIFTS.ilog2());
        Self {
            len,
            shift: len / SHIFTS as usize * share as usize,
        }
    }

    /// From a place in the file to the next end behind it.
    pub(crate) fn room(self, at: u64) -> usize {
        self.len - self.behind(at)
    }

    /// From the last end at or before a place in the file to that place; the file's
    /// beginning may come in between.
    pub(crate) fn behind(self, at: u64) -> usize {
        ((at % self.len as u64) as usize + self.shift) % self.len
    }
}

/// Counts an open buffer for as long as it lives.
#[derive(Debug)]
pub(crate) struct Among(());

impl Among {
    /// Counts one more; and how many there were before.
    pub(crate) fn count() -> (Self, usize) {
        (Self(()), OPEN.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for Among {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_only_buffer_has_them_at_multiples_of_the_length() {
        let ends = BatchEnds::new(1000, 0);
        for (at, room) in [(0, 1000), (1, 999), (999, 1), (1000, 1000), (2500, 500)] {
            assert_eq!(ends.room(at), room, "{at}");
        }
    }

    #[test]
    fn what_is_behind_one_and_before_the_next_is_a_length() {
        for len in [8, 100, 4096] {
            for nth in 0..40 {
                let ends = BatchEnds::new(len, nth);
                let mut last_end = None;
                for at in 0..3 * len as u64 {
                    assert!((1..=len).contains(&ends.room(at)));
                    assert_eq!(ends.behind(at) + ends.room(at), len);
                    if ends.behind(at) == 0 {
                        let before = last_end.replace(at);
                        assert!(before.is_none_or(|before| at - before == len as u64));
                    }
                }
                assert!(last_end.is_some());
            }
        }
    }

    #[test]
    fn the_fewer_buffers_there_are_the_farther_apart_they_are() {
        let len = 16 << 10;
        for (count, distance) in [(2, len / 2), (4, len / 4), (8, len / 8), (16, len / 16)] {
            let firsts: BTreeSet<_> = (0..count)
                .map(|nth| BatchEnds::new(len, nth).room(0))
                .collect();
            assert_eq!(firsts.len(), count);
            let apart = firsts.iter().zip(firsts.iter().skip(1));
            assert!(apart.into_iter().all(|(a, b)| b - a == distance));
        }
        assert_eq!(BatchEnds::new(len, 16), BatchEnds::new(len, 0));
    }
}
