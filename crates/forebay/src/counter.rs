//! The buffer's event counter: how many events a record holds.
//!
//! The count is not stored: it is computed from metadata and payload, and the next record's id is
//! this record's id plus the count. Invariant: the result is at least 1 and at most the payload's
//! length (an empty payload counts 1), whatever the function returns.

use std::fmt;
use std::sync::Arc;

/// How many events a record holds, from its metadata and payload.
///
/// The default counts every record as one event.
#[derive(Clone, Default)]
pub struct EventCounter(Option<Arc<CountFn>>);

type CountFn = dyn Fn(u32, &[u8]) -> u64 + Send + Sync;

impl EventCounter {
    /// Every record is one event.
    pub const fn one() -> Self {
        Self(None)
    }

    /// Counts with a function of metadata and payload. It must be pure: the same record must give
    /// the same count whenever and wherever it is read.
    ///
    /// ```
    /// let lines = forebay::EventCounter::new(|_metadata, payload| {
    ///     payload.split(|b| *b == b'\n').count() as u64
    /// });
    /// assert_eq!(lines.count(0, b"a\nb"), 2);
    /// ```
    pub fn new(count: impl Fn(u32, &[u8]) -> u64 + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(count)))
    }

    /// The events of a record that is on disk: never 0, never more than the
    /// payload has bytes (an empty payload counts 1).
    #[inline]
    pub fn count(&self, metadata: u32, payload: &[u8]) -> u64 {
        match &self.0 {
            None => 1,
            Some(count) => count(metadata, payload).clamp(1, (payload.len() as u64).max(1)),
        }
    }

    /// The function's own result. An append refuses a record if this is 0, or more than its
    /// payload has bytes.
    #[inline]
    pub(crate) fn count_unbounded(&self, metadata: u32, payload: &[u8]) -> u64 {
        self.0.as_ref().map_or(1, |count| count(metadata, payload))
    }
}

impl fmt::Debug for EventCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "EventCounter::new(..)"
        } else {
            "EventCounter::one()"
        })
    }
}
