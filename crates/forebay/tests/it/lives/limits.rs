//! The limits that a life opens its buffer with.

use std::sync::Arc;

use forebay::storage::Storage;
use forebay::{Config, EventCounter, Io, Reader, ReaderSees, SyncPolicy, WhenFull, Writer};

use super::panics::Fuse;
use crate::support::Rng;
use crate::workload::{Check, DIR, must};

/// The limits of one life.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) max_size: u64,
    pub(super) data_file_size: u64,
    batch_size: u64,
    pub(super) sync: SyncPolicy,
    pub(super) sees: ReaderSees,
    pub(super) when_full: WhenFull,
    min_free_space: u64,
    /// Whether records hold several events; the same in every life.
    counts_events: bool,
    /// When the event counter panics.
    pub(super) fuse: Fuse,
}

impl Limits {
    pub(super) fn draw(rng: &mut Rng, counts_events: bool) -> Self {
        // Mostly small, so that checking a stop takes microseconds.
        let (max_size, data_file_size) = match rng.below(16) {
            0 => (4 << 10, 256 << rng.below(3)),
            1..4 => (16 << 10, 1 << 10 << rng.below(3)),
            4..12 => (64 << 10, 4 << 10 << rng.below(3)),
            12..15 => (256 << 10, 16 << 10 << rng.below(3)),
            _ => (1 << 20, 64 << 10 << rng.below(3)),
        };
        Self {
            max_size,
            data_file_size,
            batch_size: 4 << 10 << rng.below(3),
            sync: match rng.below(5) {
                0 => SyncPolicy::Always,
                1 => SyncPolicy::Never,
                _ => SyncPolicy::Interval,
            },
            sees: match rng.below(4) {
                0 => ReaderSees::Synced,
                _ => ReaderSees::Written,
            },
            when_full: match rng.below(4) {
                0 => WhenFull::DropNewest,
                1 => WhenFull::Block,
                _ => WhenFull::Reject,
            },
            min_free_space: if rng.below(8) == 0 { 4096 } else { 0 },
            counts_events,
            fuse: Fuse::default(),
        }
    }

    pub(super) fn config(&self) -> Config {
        Config::new(DIR)
            .max_size(self.max_size)
            .data_file_size(self.data_file_size)
            .batch_size(self.batch_size)
            .sync(self.sync)
            .reader_sees(self.sees)
            .when_full(self.when_full)
            .min_free_space(self.min_free_space)
            .event_counter(self.counter())
            .io(Io::Caller)
    }

    pub(super) fn open(&self, storage: &Arc<dyn Storage>) -> Check<(Writer, Reader)> {
        // A check reads everything that is there, synced or not. An opening may fail because
        // the kernel reports a failed write-back of an earlier process, once for each file.
        let config = self.config().reader_sees(ReaderSees::Written);
        let mut opened = config.clone().storage(Arc::clone(storage)).open();
        for _ in 0..16 {
            if opened.is_err() {
                opened = config.clone().storage(Arc::clone(storage)).open();
            }
        }
        must("open", opened)
    }

    pub(super) fn counter(&self) -> EventCounter {
        let (fuse, counts_events) = (self.fuse.clone(), self.counts_events);
        EventCounter::new(move |metadata, _| {
            fuse.burn();
            events(metadata, counts_events)
        })
    }

    pub(super) fn events(&self, metadata: u32) -> u64 {
        events(metadata, self.counts_events)
    }
}

fn events(metadata: u32, counts_events: bool) -> u64 {
    match counts_events {
        true => u64::from(metadata % 4) + 1,
        false => 1,
    }
}
