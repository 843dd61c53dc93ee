//! What a workload does most, and the limits it opens buffers with.

use forebay::{Config, EventCounter, Io, ReaderSees, SyncPolicy, WhenFull};

use super::DIR;
use crate::support::Rng;

/// The smallest batch size that is allowed.
pub(super) const BATCH_SIZE: u64 = 4 << 10;

/// What a workload does most, and with which limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emphasis {
    /// Some of everything.
    Even,
    /// Waits for durability.
    Durable,
    /// Reading, acknowledging out of order, rewinding.
    Reading,
    /// Readers see only what is synced.
    SeesSynced,
    /// Closing and opening again with other limits.
    Reopening,
    /// So many bytes at a time that batches are full.
    Bulk,
}

/// The limits a buffer is opened with, from a seed.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(super) max_size: u64,
    pub(super) data_file_size: u64,
    pub(super) sync: SyncPolicy,
    pub(super) sees: ReaderSees,
    pub(super) counts_events: bool,
}

impl Limits {
    pub(super) fn draw(rng: &mut Rng, emphasis: Emphasis, counts_events: bool) -> Self {
        Self {
            max_size: match emphasis {
                Emphasis::Bulk => [32 << 10, 48 << 10][rng.below(2) as usize],
                _ => [4 << 10, 6 << 10, 16 << 10][rng.below(3) as usize],
            },
            data_file_size: match emphasis {
                Emphasis::Bulk => [6 << 10, 9 << 10, 14 << 10][rng.below(3) as usize],
                _ => [256, 400, 1 << 10][rng.below(3) as usize],
            },
            sync: match rng.below(4) {
                0 => SyncPolicy::Always,
                1 => SyncPolicy::Never,
                _ => SyncPolicy::Interval,
            },
            sees: match emphasis {
                Emphasis::SeesSynced => ReaderSees::Synced,
                _ => ReaderSees::Written,
            },
            counts_events,
        }
    }

    /// Small files, and a sync only if it is asked for.
    pub(crate) fn for_faults() -> Self {
        Self {
            max_size: 64 << 10,
            data_file_size: 1 << 10,
            sync: SyncPolicy::Interval,
            sees: ReaderSees::Written,
            counts_events: false,
        }
    }

    pub(crate) fn max_size(&self) -> u64 {
        self.max_size
    }

    /// The configuration, in which every call does its own I/O.
    pub(crate) fn config(&self) -> Config {
        Config::new(DIR)
            .max_size(self.max_size)
            .data_file_size(self.data_file_size)
            .batch_size(BATCH_SIZE)
            .sync(self.sync)
            .reader_sees(self.sees)
            .when_full(WhenFull::Reject)
            .event_counter(self.counter())
            .io(Io::Caller)
    }

    pub(super) fn counter(&self) -> EventCounter {
        match self.counts_events {
            true => EventCounter::new(|metadata, _| u64::from(metadata % 4) + 1),
            false => EventCounter::one(),
        }
    }

    pub(crate) fn sees_synced_only(&self) -> bool {
        self.sees == ReaderSees::Synced
    }

    /// How many events the buffer counts in a record.
    pub(crate) fn events(&self, metadata: u32, payload: &[u8]) -> u64 {
        self.counter().count(metadata, payload)
    }
}
