//! Counters that are not positions.
//!
//! Invariant: they only grow.

use std::time::Duration;

use crate::state::acks::Count;
use crate::state::lost::LostReason;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Counters that are not positions.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    pub writes: AtomicU64,
    pub syncs: AtomicU64,
    pub sync_nanos: AtomicU64,
    pub failed_files: AtomicU64,
    pub mended: AtomicU64,
    pub undecodable: AtomicU64,
    /// Undecodable records up to this id are counted.
    undecodable_until: AtomicU64,
    /// Stored by the reader only.
    pub delivered_events: AtomicU64,
    pub delivered_bytes: AtomicU64,
    /// Changed under the acknowledgements' lock only.
    pub lost: [Meter; LostReason::ALL.len()],
}

/// Events and bytes that only grow.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    events: AtomicU64,
    bytes: AtomicU64,
}

impl Meter {
    pub(crate) fn add(&self, count: Count) {
        self.events.fetch_add(count.events, Ordering::Relaxed);
        self.bytes.fetch_add(count.bytes, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Count {
        Count {
            events: self.events.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

impl Meters {
    pub(crate) fn note_sync(&self, time: Duration) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.sync_nanos
            .fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Counts a record that cannot be decoded, unless it is one that comes again. For the reader
    /// only.
    pub(crate) fn note_undecodable(&self, id: u64) {
        if self.undecodable_until.fetch_max(id, Ordering::Relaxed) < id {
            self.undecodable.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// For the reader only.
    pub(crate) fn note_delivered(&self, count: Count) {
        let add = |meter: &AtomicU64, n| {
            meter.store(meter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
        };
        add(&self.delivered_events, count.events);
        add(&self.delivered_bytes, count.bytes);
    }
}
