//! Usage through the `metrics` facade (feature `metrics`).
//!
//! Invariant: this module uses the public API only. Counters are set to the values of the snapshot,
//! so reporting twice counts nothing twice.

use ::metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::state::acks::Count;
use crate::usage::{BufferState, Usage};

/// A value that [`report`] sets: its name, unit and description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// The name.
    pub name: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// What it means, in one sentence.
    pub description: &'static str,
}

const fn metric(name: &'static str, unit: Unit, description: &'static str) -> Metric {
    Metric {
        name,
        unit,
        description,
    }
}

/// The counters that [`report`] sets: totals since the buffer was opened, 0 at first.
#[rustfmt::skip]
pub const COUNTERS: [Metric; 16] = [
    metric("buffer_received_events_total", Unit::Count, "Events appended since the buffer was opened, dropped ones included"),
    metric("buffer_received_bytes_total", Unit::Bytes, "Bytes of the records appended since the buffer was opened, dropped ones included"),
    metric("buffer_delivered_events_total", Unit::Count, "Events handed to the consumer; a redelivery counts again"),
    metric("buffer_delivered_bytes_total", Unit::Bytes, "Bytes of the records handed to the consumer"),
    metric("buffer_sent_events_total", Unit::Count, "Events acknowledged by the consumer"),
    metric("buffer_sent_bytes_total", Unit::Bytes, "Bytes of the records acknowledged by the consumer"),
    metric("buffer_discarded_events_total", Unit::Count, "Events dropped because there was no room, by reason"),
    metric("buffer_discarded_bytes_total", Unit::Bytes, "Bytes of the records dropped because there was no room, by reason"),
    metric("buffer_lost_events_total", Unit::Count, "Events lost to damage or a power cut, as far as the reader has read, by reason"),
    metric("buffer_lost_bytes_total", Unit::Bytes, "Bytes that lost events leave behind, by reason"),
    metric("buffer_mended_records_total", Unit::Count, "Records whose redundant fields were damaged and put right"),
    metric("buffer_undecodable_records_total", Unit::Count, "Records that the typed layer could not decode"),
    metric("buffer_writes_total", Unit::Count, "Writes to data files"),
    metric("buffer_syncs_total", Unit::Count, "Syncs of data files"),
    metric("buffer_sync_microseconds_total", Unit::Microseconds, "Time that the syncs of data files took together"),
    metric("buffer_failed_files_total", Unit::Count, "Writes and syncs of data files that failed and were done again"),
];

/// The gauges that [`report`] sets.
#[rustfmt::skip]
pub const GAUGES: [Metric; 7] = [
    metric("buffer_size_events", Unit::Count, "Unread events"),
    metric("buffer_size_bytes", Unit::Bytes, "Bytes of the unread records"),
    metric("buffer_disk_bytes", Unit::Bytes, "Bytes that the data files occupy, preallocated zeros included"),
    metric("buffer_max_size_bytes", Unit::Bytes, "The most that the buffer may occupy"),
    metric("buffer_unsynced_events", Unit::Count, "Accepted events that a power cut would take"),
    metric("buffer_oldest_unread_age_seconds", Unit::Seconds, "How long the oldest unread record has been in the buffer, 0 without one"),
    metric("buffer_state", Unit::Count, "1 for the state that the buffer is in, 0 for the others, by state"),
];

/// Reports a snapshot to the recorder installed in this process.
///
/// Call it as often as values are collected. `buffer` becomes the label `buffer_id` of every value.
/// *Sent* events were acknowledged, *discarded* events were dropped by policy, *lost* events were
/// taken by damage or a power cut. Events that are in the buffer when it is opened are part of the
/// gauges; they enter a counter only when they are delivered.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let (writer, _reader) = forebay::Config::new(dir.path()).open()?;
/// forebay::telemetry::report("orders", &writer.usage());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn report(buffer: &str, usage: &Usage) {
    describe();
    let count = |name: &'static str, value: u64| {
        counter!(name, "buffer_id" => buffer.to_owned()).absolute(value);
    };
    let count_by = |name: &'static str, reason: &'static str, value: u64| {
        counter!(name, "buffer_id" => buffer.to_owned(), "reason" => reason).absolute(value);
    };
    let set = |name: &'static str, value: f64| {
        gauge!(name, "buffer_id" => buffer.to_owned()).set(value);
    };
    let appended = Count {
        events: usage.received.events - usage.backlog.events,
        bytes: usage.received.bytes - usage.backlog.bytes,
    };
    count("buffer_received_events_total", appended.events);
    count("buffer_received_bytes_total", appended.bytes);
    count("buffer_delivered_events_total", usage.delivered.events);
    count("buffer_delivered_bytes_total", usage.delivered.bytes);
    count("buffer_sent_events_total", usage.acknowledged.events);
    count("buffer_sent_bytes_total", usage.acknowledged.bytes);
    for (reason, dropped) in &usage.dropped_by_reason {
        count_by(
            "buffer_discarded_events_total",
            reason.as_str(),
            dropped.events,
        );
        count_by(
            "buffer_discarded_bytes_total",
            reason.as_str(),
            dropped.bytes,
        );
    }
    for (reason, lost) in &usage.lost_by_reason {
        count_by("buffer_lost_events_total", reason.as_str(), lost.events);
        count_by("buffer_lost_bytes_total", reason.as_str(), lost.bytes);
    }
    count("buffer_mended_records_total", usage.mended_records);
    count(
        "buffer_undecodable_records_total",
        usage.undecodable_records,
    );
    count("buffer_writes_total", usage.writes);
    count("buffer_syncs_total", usage.syncs);
    let sync_time = usage.sync_time.as_micros().try_into().unwrap_or(u64::MAX);
    count("buffer_sync_microseconds_total", sync_time);
    count("buffer_failed_files_total", usage.failed_files);

    set("buffer_size_events", usage.unread.events as f64);
    set("buffer_size_bytes", usage.unread.bytes as f64);
    set("buffer_disk_bytes", usage.disk_bytes as f64);
    set("buffer_max_size_bytes", usage.max_bytes as f64);
    let unsynced = usage.next_record_id - 1 - usage.last_synced_id;
    set("buffer_unsynced_events", unsynced as f64);
    let age = usage.oldest_unread_age.unwrap_or_default();
    set("buffer_oldest_unread_age_seconds", age.as_secs_f64());
    for state in BufferState::ALL {
        let value = f64::from(u8::from(state == usage.state));
        gauge!("buffer_state", "buffer_id" => buffer.to_owned(), "state" => state.as_str())
            .set(value);
    }
}

/// Describes the values to the recorder, every time, because it may have been installed since the
/// last report.
fn describe() {
    for metric in COUNTERS {
        describe_counter!(metric.name, metric.unit, metric.description);
    }
    for metric in GAUGES {
        describe_gauge!(metric.name, metric.unit, metric.description);
    }
}
