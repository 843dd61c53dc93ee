//! How long a group commit waits for the writers of the last one to return.
//!
//! Invariant: at most half of the time that a sync takes, because that is what one sync for all
//! writers saves: two syncs of half of the writers each would take longer.

use std::time::Duration;

use crate::sync::{Instant, thread};

/// The window is at most 1/`SHARE` of the time that the last sync took.
const SHARE: u32 = 2;
/// It closes after at most this many looks. Other threads may run between two looks, so these are
/// enough for any sync.
const LOOKS_MAX: u32 = 500;

/// The time in which the next group commit waits for writers to return.
#[derive(Debug, Default)]
pub(super) struct CommitWindow {
    /// How many writers waited when the last sync ended.
    expected: usize,
    closes: Option<Instant>,
    looks_left: u32,
}

impl CommitWindow {
    /// The window after a sync that `took` this long, when `waiting` writers waited.
    pub(super) fn after(waiting: usize, took: Duration) -> Self {
        Self {
            expected: waiting,
            closes: Some(Instant::now() + took / SHARE),
            looks_left: LOOKS_MAX,
        }
    }

    /// Whether to wait longer, because fewer writers (`waiting`) are back than the last sync had.
    /// Lets other threads run if so.
    pub(super) fn waits(&mut self, waiting: usize) -> bool {
        if waiting == 0
            || waiting >= self.expected
            || self.looks_left == 0
            || self.closes.is_none_or(|closes| Instant::now() >= closes)
        {
            return false;
        }
        self.looks_left -= 1;
        thread::yield_now();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_the_writers_of_the_last_sync_for_a_limited_time() {
        let hour = Duration::from_secs(3600);
        let mut window = CommitWindow::after(3, hour);
        assert!(!window.waits(0), "nobody asks");
        assert!(!window.waits(3), "all are back");
        assert!(window.waits(2));
        let looks = (0..10 * LOOKS_MAX).filter(|_| window.waits(2)).count();
        assert_eq!(looks as u32, LOOKS_MAX - 1);
        assert!(!CommitWindow::default().waits(1));
        assert!(!CommitWindow::after(3, Duration::ZERO).waits(1));
    }
}
