//! Usage through the `metrics` facade (feature `metrics`), under the names the
//! field uses.
//!
//! Invariant: it uses the public API only; counters are set to what the
//! snapshot says, so reporting twice counts nothing twice.

use ::metrics::{counter, gauge};

use crate::usage::Usage;

/// The counters that [`report`] sets: totals since the buffer was opened.
pub const COUNTERS: [&str; 8] = [
    "buffer_received_events_total",
    "buffer_received_bytes_total",
    "buffer_sent_events_total",
    "buffer_sent_bytes_total",
    "buffer_discarded_events_total",
    "buffer_discarded_bytes_total",
    "buffer_lost_events_total",
    "buffer_lost_bytes_total",
];

/// The gauges that [`report`] sets.
pub const GAUGES: [&str; 3] = [
    "buffer_size_events",
    "buffer_size_bytes",
    "buffer_max_size_bytes",
];

/// Reports a snapshot to the recorder installed in this process.
///
/// Call it as often as values are collected. `buffer` becomes the label
/// `buffer_id` of every value. *Sent* is what was acknowledged, *discarded*
/// what a policy dropped; what damage took is *lost*.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let (writer, _reader) = forebay::Config::new(dir.path()).open()?;
/// forebay::metrics::report("orders", &writer.usage());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn report(buffer: &str, usage: &Usage) {
    let totals = [
        usage.received,
        usage.acknowledged,
        usage.dropped,
        usage.lost,
    ];
    let values = totals.iter().flat_map(|count| [count.events, count.bytes]);
    for (name, value) in COUNTERS.into_iter().zip(values) {
        counter!(name, "buffer_id" => buffer.to_owned()).absolute(value);
    }
    let sizes = [usage.unread.events, usage.unread.bytes, usage.max_bytes];
    for (name, value) in GAUGES.into_iter().zip(sizes) {
        gauge!(name, "buffer_id" => buffer.to_owned()).set(value as f64);
    }
}
