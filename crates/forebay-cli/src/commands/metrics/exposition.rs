//! The figures of buffers as Prometheus text.
//!
//! Invariants:
//! - A value that has a name in the library's metrics means the same here.
//! - A value that is not known is left out; it is never 0 instead.

use crate::buffer::looks::{Look, NoLook};
use crate::buffer::rates::Meter;
use forebay::Severity;
use metrics::{
    Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge, with_local_recorder,
};
use metrics_exporter_prometheus::PrometheusBuilder;
use std::path::Path;

/// A value: its name, its unit, and what it means.
type Metric = (&'static str, Unit, &'static str);

#[rustfmt::skip]
const COUNTERS: [Metric; 4] = [
    ("buffer_received_events_total", Unit::Count, "Events that were appended since the buffer was made"),
    ("buffer_sent_events_total", Unit::Count, "Events that were acknowledged by the consumer, or lost before it, since the buffer was made"),
    ("buffer_received_bytes_total", Unit::Bytes, "Bytes of the records that were appended since this exporter looks"),
    ("buffer_sent_bytes_total", Unit::Bytes, "Bytes of the records that were acknowledged since this exporter looks"),
];

#[rustfmt::skip]
const GAUGES: [Metric; 16] = [
    ("buffer_up", Unit::Count, "1 if the buffer could be looked at, 0 if not"),
    ("buffer_search_errors", Unit::Count, "1 if a directory could not be searched for buffers, 0 if all could"),
    ("buffer_size_events", Unit::Count, "Unread events"),
    ("buffer_size_bytes", Unit::Bytes, "Bytes of the unread records"),
    ("buffer_disk_bytes", Unit::Bytes, "Bytes that the data files occupy, preallocated zeros included"),
    ("buffer_max_size_bytes", Unit::Bytes, "The most that the buffer may occupy, as --max-size says"),
    ("buffer_fill_ratio", Unit::Count, "buffer_disk_bytes / buffer_max_size_bytes"),
    ("buffer_free_bytes", Unit::Bytes, "Bytes free on the file system"),
    ("buffer_oldest_unread_age_seconds", Unit::Seconds, "How long ago the data file of the oldest unread record was changed, 0 without one"),
    ("buffer_seconds_since_progress", Unit::Seconds, "How long nothing was acknowledged although events are unread, as far as this exporter has seen; 0 if nothing is unread"),
    ("buffer_seconds_to_full", Unit::Seconds, "How long until buffer_max_size_bytes is reached at the rate of the last five minutes; +Inf if the buffer does not grow"),
    ("buffer_held", Unit::Count, "1 if a process has the buffer open, 0 if not"),
    ("buffer_holder_info", Unit::Count, "1; the labels name the process that has the buffer open"),
    ("buffer_orphaned", Unit::Count, "1 if events are unread and no process has the buffer open, 0 if not"),
    ("buffer_findings", Unit::Count, "What opening would find in the ledger and at the ends of the data, by severity"),
    ("buffer_findings_lost_events", Unit::Count, "Events that these findings lost"),
];

/// What the looks before and the command line tell of a buffer.
pub(super) struct Known<'a> {
    pub(super) meter: Option<&'a Meter>,
    pub(super) max_size: Option<u64>,
}

/// The text for one look at all buffers.
pub(super) fn text<'a>(
    looks: &[Look],
    has_search_errors: bool,
    known: impl Fn(&Path) -> Known<'a>,
) -> String {
    // One for each text, so that a buffer that is gone leaves no values behind.
    let recorder = PrometheusBuilder::new().build_recorder();
    with_local_recorder(&recorder, || {
        describe();
        gauge!("buffer_search_errors").set(number(has_search_errors));
        for look in looks {
            record(look, &known(&look.directory));
        }
    });
    sorted(&recorder.handle().render())
}

/// The same text in order of names and labels; the recorder has no order of its own.
fn sorted(text: &str) -> String {
    let mut metrics: Vec<String> = text
        .split("\n\n")
        .filter(|metric| !metric.trim().is_empty())
        .map(|metric| {
            let (mut values, head): (Vec<_>, Vec<_>) =
                metric.lines().partition(|line| !line.starts_with('#'));
            values.sort_unstable();
            let text = [head, values].concat().join("\n") + "\n";
            // The format's own spelling, which the recorder does not use.
            text.replace(" inf\n", " +Inf\n")
        })
        .collect();
    metrics.sort_unstable();
    metrics.join("\n")
}

fn describe() {
    for (name, unit, description) in COUNTERS {
        describe_counter!(name, unit, description);
    }
    for (name, unit, description) in GAUGES {
        describe_gauge!(name, unit, description);
    }
}

fn record(look: &Look, known: &Known<'_>) {
    let id = look.directory.to_string_lossy().into_owned();
    let count = |name| -> Counter { counter!(name, "buffer_id" => id.clone()) };
    let set = |name, value: f64| {
        let gauge: Gauge = gauge!(name, "buffer_id" => id.clone());
        gauge.set(value);
    };
    let inspection = match &look.inspection {
        Ok(inspection) => inspection,
        Err(NoLook::Repair(_) | NoLook::Error(_) | NoLook::Gone) => {
            set("buffer_up", 0.0);
            return;
        }
    };
    set("buffer_up", 1.0);
    count("buffer_received_events_total").absolute(inspection.next_record_id.saturating_sub(1));
    count("buffer_sent_events_total").absolute(inspection.last_acknowledged_id);
    set("buffer_size_events", inspection.unread.events as f64);
    set("buffer_size_bytes", inspection.unread.bytes as f64);
    set("buffer_disk_bytes", inspection.disk_bytes() as f64);
    if let Some(max_size) = known.max_size {
        set("buffer_max_size_bytes", max_size as f64);
        set(
            "buffer_fill_ratio",
            inspection.disk_bytes() as f64 / max_size as f64,
        );
    }
    if let Some(free) = inspection.free_bytes {
        set("buffer_free_bytes", free as f64);
    }
    let age = inspection.oldest_unread_age_seconds;
    set("buffer_oldest_unread_age_seconds", age.unwrap_or(0.0));
    set("buffer_held", number(inspection.locked));
    set("buffer_orphaned", number(inspection.is_orphaned()));
    if let Some(holder) = &look.holder {
        let pid = holder.pid.map_or_else(String::new, |pid| pid.to_string());
        let program = holder.program.clone().unwrap_or_default();
        gauge!("buffer_holder_info", "buffer_id" => id.clone(), "pid" => pid, "program" => program)
            .set(1.0);
    }
    for severity in [Severity::Normal, Severity::Damage] {
        let findings = &inspection.recovery.findings;
        let found = findings.iter().filter(|found| found.severity == severity);
        gauge!("buffer_findings", "buffer_id" => id.clone(), "severity" => severity.as_str())
            .set(found.count() as f64);
    }
    let lost = inspection.recovery.events_lost;
    set("buffer_findings_lost_events", lost as f64);
    if let Some(meter) = known.meter.filter(|meter| meter.rates().is_some()) {
        let (bytes_in, bytes_out) = meter.bytes_in_and_out();
        count("buffer_received_bytes_total").absolute(bytes_in);
        count("buffer_sent_bytes_total").absolute(bytes_out);
        set(
            "buffer_seconds_since_progress",
            meter.since_progress().unwrap_or_default().as_secs_f64(),
        );
        if let Some(max_size) = known.max_size {
            let time = meter.time_to_full(max_size);
            let seconds = time.map_or(f64::INFINITY, |time| time.as_secs_f64());
            set("buffer_seconds_to_full", seconds);
        }
    }
}

fn number(is: bool) -> f64 {
    f64::from(u8::from(is))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What embeds the library and what looks from outside can be watched with the same rules.
    #[test]
    fn the_names_are_those_of_the_library_where_it_has_the_value() {
        let of_library = forebay::telemetry::COUNTERS
            .iter()
            .chain(&forebay::telemetry::GAUGES);
        let of_library: BTreeSet<_> = of_library.map(|metric| metric.name).collect();
        let ours: BTreeSet<_> = COUNTERS.iter().chain(&GAUGES).map(|m| m.0).collect();
        let shared: Vec<_> = ours.intersection(&of_library).copied().collect();
        assert_eq!(
            shared,
            [
                "buffer_disk_bytes",
                "buffer_max_size_bytes",
                "buffer_oldest_unread_age_seconds",
                "buffer_received_bytes_total",
                "buffer_received_events_total",
                "buffer_sent_bytes_total",
                "buffer_sent_events_total",
                "buffer_size_bytes",
                "buffer_size_events",
            ]
        );
        // Those that no look from outside can tell.
        let missing: Vec<_> = of_library.difference(&ours).copied().collect();
        assert!(missing.contains(&"buffer_discarded_events_total"));
        assert_eq!(missing.len(), of_library.len() - shared.len());
    }
}
