//! Counts the events of records by the steps of their ids (`--count-events ids`).
//!
//! The format does not store the count, but an id steps by it: if the next record follows
//! directly and is whole, the step is the count that the writing program used. Invariants:
//! - Equal payloads count the same, as with every event counter: the smallest step that
//!   was seen after one of them.
//! - A record before damage counts one event, because its step is not known.
//! - A record never counts more events than its payload has bytes; a larger step is a
//!   loss.

use crate::args::counting::ReadCountingOptions;
use crate::failure::Result;
use forebay::format::file_id;
use forebay::format::record::frame_len;
use forebay::{EventCounter, InspectOptions, RecordsOptions, StoredRecord};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

/// The event counter that was chosen, for the buffer in `directory`.
///
/// # Errors
///
/// The buffer cannot be read.
pub(crate) fn counter(options: ReadCountingOptions, directory: &Path) -> Result<EventCounter> {
    options.counter().map_or_else(|| by_steps(directory), Ok)
}

fn by_steps(directory: &Path) -> Result<EventCounter> {
    let mut counts = HashMap::new();
    each_step(directory, |key, step| {
        if step > 1 {
            let count = counts.entry(key).or_insert(step);
            *count = step.min(*count);
        }
    })?;
    // The same payload may also come before a step of 1, which the first pass passed over.
    if !counts.is_empty() {
        each_step(directory, |key, step| {
            if let Some(count) = counts.get_mut(&key) {
                *count = step.min(*count);
            }
        })?;
    }
    counts.retain(|_, count| *count > 1);
    Ok(EventCounter::new(move |metadata, payload| {
        counts.get(&key(metadata, payload)).copied().unwrap_or(1)
    }))
}

/// Calls `note` with key and step of every record that the next one, or the end of the
/// data, follows directly.
fn each_step(directory: &Path, mut note: impl FnMut(u64, u64)) -> Result<()> {
    let options = RecordsOptions::default().all(true);
    let mut before: Option<StoredRecord> = None;
    let mut note = |record: &StoredRecord, next_id: u64| {
        let step = next_id.saturating_sub(record.id);
        if (1..=record.payload.len() as u64).contains(&step) {
            note(key(record.metadata, &record.payload), step);
        }
    };
    let mut records = options.records(directory)?;
    let mut spans_before = 0;
    while let Some(record) = records.next() {
        let record = record?;
        spans_before = records.lost().spans;
        if let Some(before) = before.filter(|before| follows_directly(&record, before)) {
            note(&before, record.id);
        }
        before = Some(record);
    }
    let ends_well = records.lost().spans == spans_before;
    let options = InspectOptions::default().count_records(false);
    let ledger = options.inspect(directory)?.ledger;
    if let (Some(last), Some(next_id), true) = (before, ledger.writer_next_record_id, ends_well) {
        note(&last, next_id);
    }
    Ok(())
}

/// Whether nothing lies between a record and the one before it.
fn follows_directly(record: &StoredRecord, before: &StoredRecord) -> bool {
    if record.file_id == before.file_id {
        record.offset == before.offset + frame_len(before.payload.len()) as u64
    } else {
        record.offset == 0 && record.file_id == file_id::next(before.file_id)
    }
}

fn key(metadata: u32, payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (metadata, payload).hash(&mut hasher);
    hasher.finish()
}
