//! The results, as JSON and as text.
//!
//! Invariants: keys of the JSON may be added, not renamed; a figure that was
//! not measured is absent, never zero.

use super::figures::{bandwidth, bytes, digits, length, metric, time};
use super::machine::Machine;
use super::measure::{Measured, median};
use super::plan::{Case, Samples, Work};
use super::raw::{Floor, Raw};
use super::standing::Idle;
use serde::Serialize;
use std::fmt::Write as _;

/// All results of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub(crate) version: &'static str,
    pub(crate) machine: Machine,
    pub(crate) size_bytes: u64,
    pub(crate) rounds: u32,
    pub(crate) raw: Raw,
    pub(crate) results: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) idle: Option<Idle>,
}

/// The medians of one case.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Row {
    pub(crate) work: Work,
    pub(crate) payload_bytes: usize,
    /// How many producers append at the same time; 0 if none does.
    pub(crate) producers: u32,
    pub(crate) records_per_s: Option<f64>,
    /// Payload bytes per second.
    pub(crate) bytes_per_s: Option<f64>,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) p999_us: Option<f64>,
    /// Records per second with a sync of everything at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) synced_records_per_s: Option<f64>,
    /// Processor time of all threads, user and system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_ns_per_record: Option<f64>,
    /// Time of encoding, the checksum and two copies in the processor's cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) floor_ns_per_record: Option<f64>,
    /// The same with copies that go through memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_floor_ns_per_record: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory_bytes: Option<u64>,
}

impl Report {
    /// The medians of all samples.
    pub(crate) fn new(machine: Machine, size: u64, rounds: u32, samples: &Samples) -> Self {
        let results = samples
            .cases
            .iter()
            .map(|(case, measured)| Row::new(*case, measured, samples.floor(case.payload_len)))
            .collect();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            machine,
            size_bytes: size,
            rounds,
            raw: Raw::medians(&samples.raw),
            results,
            idle: Idle::medians(&samples.idle),
        }
    }

    /// The row of a case, if it was measured.
    pub(crate) fn row(&self, work: Work, payload_len: usize, producers: u32) -> Option<&Row> {
        self.results.iter().find(|row| {
            row.work == work && row.payload_bytes == payload_len && row.producers == producers
        })
    }

    /// The rows of one work, in order of payload and producers.
    pub(crate) fn rows(&self, work: Work) -> impl Iterator<Item = &Row> {
        self.results.iter().filter(move |row| row.work == work)
    }

    /// The payload lengths measured, shortest first.
    pub(crate) fn payloads(&self) -> Vec<usize> {
        let mut lens: Vec<_> = self.results.iter().map(|row| row.payload_bytes).collect();
        lens.sort_unstable();
        lens.dedup();
        lens
    }
}

impl Row {
    fn new(case: Case, samples: &[Measured], floor: Option<Floor>) -> Self {
        let of =
            |value: &dyn Fn(&Measured) -> Option<f64>| median(samples.iter().filter_map(value));
        let rated = !matches!(case.work, Work::Open | Work::Memory);
        let has_floor = matches!(case.work, Work::Append | Work::ReadAck | Work::Concurrent);
        let floor = floor.filter(|_| has_floor);
        let rate = of(&|m| rated.then(|| m.records as f64 / m.seconds));
        Self {
            work: case.work,
            payload_bytes: case.payload_len,
            producers: case.producers,
            records_per_s: rate,
            bytes_per_s: rate.map(|rate| rate * case.payload_len as f64),
            p50_us: of(&|m| Some(m.quantiles?.p50)),
            p99_us: of(&|m| Some(m.quantiles?.p99)),
            p999_us: of(&|m| Some(m.quantiles?.p999)),
            synced_records_per_s: of(&|m| Some(m.records as f64 / m.synced_seconds?)),
            cpu_ns_per_record: of(&|m| Some(m.cpu_seconds? * 1e9 / m.records as f64)),
            floor_ns_per_record: floor.map(|floor| floor.in_cache * 1e9),
            memory_floor_ns_per_record: floor.map(|floor| floor.through_memory * 1e9),
            memory_bytes: of(&|m| m.memory_bytes.map(|bytes| bytes as f64)).map(|b| b as u64),
        }
    }
}

/// Rows of cells below a heading; the first column is aligned to the left, the others to
/// the right.
struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(head: impl IntoIterator<Item = String>) -> Self {
        Self {
            rows: vec![head.into_iter().collect()],
        }
    }

    fn row(&mut self, name: &str, cells: impl IntoIterator<Item = Option<String>>) {
        let cells: Vec<_> = cells.into_iter().collect();
        if cells.iter().all(Option::is_none) {
            return;
        }
        let mut row = vec![name.to_owned()];
        row.extend(cells.into_iter().map(Option::unwrap_or_default));
        self.rows.push(row);
    }

    /// Appends the table to `text`, unless there is nothing below the heading.
    fn write(&self, text: &mut String) {
        if self.rows.len() < 2 {
            return;
        }
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        text.push('\n');
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = width(column);
                // Writing to a string cannot fail.
                let _ = match column {
                    0 => write!(line, "{cell:<width$}", width = width.max(34)),
                    _ => write!(line, "  {cell:>width$}", width = width.max(10)),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
}

/// The report as tables.
pub fn text(report: &Report) -> String {
    let mut text = format!(
        "forebay {} on {}\n{} a measurement, medians of {} round{}\n",
        report.version,
        report.machine.line(),
        bytes(report.size_bytes),
        report.rounds,
        if report.rounds == 1 { "" } else { "s" },
    );
    raw_table(&report.raw).write(&mut text);
    throughput_table(report, "records per second", |row| {
        row.records_per_s.map(metric)
    })
    .write(&mut text);
    throughput_table(report, "payload bytes per second", |row| {
        row.bytes_per_s.map(bandwidth)
    })
    .write(&mut text);
    cpu_table(report).write(&mut text);
    times_table(report).write(&mut text);
    standing_table(report).write(&mut text);
    text
}

fn raw_table(raw: &Raw) -> Table {
    let mut table = Table::new(["raw limits".to_owned(), String::new()]);
    for (name, value) in [
        ("write, 1 MiB blocks", raw.write_1m_bytes_per_s),
        ("write, 256 KiB blocks", raw.write_256k_bytes_per_s),
        (
            "write, fdatasync at the end",
            raw.write_fdatasync_bytes_per_s,
        ),
        ("write, fdatasync each 128 MiB", raw.write_files_bytes_per_s),
        ("read, 1 MiB blocks", raw.read_bytes_per_s),
        ("CRC-32", raw.crc32_bytes_per_s),
        ("memcpy", raw.memcpy_bytes_per_s),
    ] {
        table.row(name, [Some(bandwidth(value))]);
    }
    let syncs = format!("{}/s", metric(raw.fdatasync_per_s));
    table.row("append of 4 KiB, each with fdatasync", [Some(syncs)]);
    table.row(
        "thread to thread to thread, p50",
        [Some(time(raw.hand_over_p50_us))],
    );
    table.row("  p99", [Some(time(raw.hand_over_p99_us))]);
    table
}

const THROUGHPUT: [(Work, u32, &str); 9] = [
    (Work::Append, 1, "append"),
    (Work::AppendBatch, 1, "append, batches"),
    (Work::ReadAck, 0, "read + acknowledge, batches"),
    (Work::ReadAckSingle, 0, "read + acknowledge, single"),
    (Work::ReadAckRecent, 1, "read + acknowledge, keeping up"),
    (Work::Concurrent, 1, "both at once, two threads"),
    (Work::ConcurrentTokio, 1, "both at once, tokio, single"),
    (Work::AppendAlone, 1, "no I/O thread: append, batches"),
    (Work::ReadAckAlone, 0, "  read + acknowledge, batches"),
];

/// Pairs of works whose processor times are added: a record on its way in and out. The
/// number is the producers in the row of the second work.
const BOTH_WAYS: [(&str, Work, (Work, u32)); 4] = [
    (
        "append, then read + acknowledge",
        Work::Append,
        (Work::ReadAck, 0),
    ),
    (
        "  appended in batches",
        Work::AppendBatch,
        (Work::ReadAck, 0),
    ),
    (
        "  and without an I/O thread",
        Work::AppendAlone,
        (Work::ReadAckAlone, 0),
    ),
    (
        "batches appended, read keeping up",
        Work::AppendBatch,
        (Work::ReadAckRecent, 1),
    ),
];

fn throughput_table(report: &Report, head: &str, cell: impl Fn(&Row) -> Option<String>) -> Table {
    let lens = report.payloads();
    let heads = lens.iter().map(|len| length(*len));
    let mut table = Table::new(std::iter::once(head.to_owned()).chain(heads));
    for (work, producers, name) in THROUGHPUT {
        let row = |len: &usize| report.row(work, *len, producers).and_then(&cell);
        table.row(name, lens.iter().map(row));
        if work == Work::Append || work == Work::AppendBatch {
            let synced = |len: &usize| {
                let row = report.row(work, *len, producers)?;
                let rate = row.synced_records_per_s?;
                cell(&Row {
                    records_per_s: Some(rate),
                    bytes_per_s: Some(rate * *len as f64),
                    ..*row
                })
            };
            table.row("  and all synced at the end", lens.iter().map(synced));
        }
    }
    table
}

fn cpu_table(report: &Report) -> Table {
    let lens = report.payloads();
    let heads = lens.iter().map(|len| length(*len));
    let head = "processor time per record".to_owned();
    let mut table = Table::new(std::iter::once(head).chain(heads));
    let cpu = |work, producers, len: usize| report.row(work, len, producers)?.cpu_ns_per_record;
    let nanos = |ns: f64| match ns < 999.5 {
        true => format!("{} ns", digits(ns)),
        false => time(ns / 1e3),
    };
    for (work, producers, name) in THROUGHPUT {
        table.row(
            name,
            lens.iter().map(|len| cpu(work, producers, *len).map(nanos)),
        );
    }
    for (name, append, (read, producers)) in BOTH_WAYS {
        let sum = |len: &usize| Some(cpu(append, 1, *len)? + cpu(read, producers, *len)?);
        table.row(name, lens.iter().map(|len| sum(len).map(nanos)));
    }
    let append = |len: usize| report.row(Work::Append, len, 1);
    let in_cache = |len: &usize| append(*len)?.floor_ns_per_record.map(nanos);
    let through_memory = |len: &usize| append(*len)?.memory_floor_ns_per_record.map(nanos);
    table.row(
        "encode, CRC-32, two copies in cache",
        lens.iter().map(in_cache),
    );
    table.row("  and through memory", lens.iter().map(through_memory));
    table
}

fn times_table(report: &Report) -> Table {
    let heads = ["waiting", "payload", "a second", "p50", "p99", "p99.9"];
    let mut table = Table::new(heads.map(str::to_owned));
    let mut row = |name: &str, row: &Row| {
        table.row(
            name,
            [
                Some(length(row.payload_bytes)),
                row.records_per_s.map(metric),
                row.p50_us.map(time),
                row.p99_us.map(time),
                row.p999_us.map(time),
            ],
        );
    };
    for synced in report.rows(Work::AppendSynced) {
        let name = match synced.producers {
            1 => "synced append, 1 producer".to_owned(),
            n if n < 64 => format!("synced append, {n} threads"),
            n => format!("synced append, {n} tasks"),
        };
        row(&name, synced);
    }
    for latency in report.rows(Work::Latency) {
        row("append to delivery", latency);
    }
    table
}

fn standing_table(report: &Report) -> Table {
    let mut table = Table::new(["standing".to_owned(), String::new()]);
    let backlog = bytes(report.size_bytes);
    for row in report.rows(Work::Open) {
        let name = format!("open, {backlog} unread ({})", length(row.payload_bytes));
        table.row(&name, [row.p50_us.map(time)]);
    }
    for row in report.rows(Work::Memory) {
        let memory = row.memory_bytes.map(bytes);
        table.row(&format!("memory, {backlog} unread"), [memory]);
    }
    let in_turns = [
        (Work::ManyBuffers, "append to 64 buffers in turns"),
        (Work::OneBuffer, "append to one the same way"),
    ];
    for (work, name) in in_turns {
        for row in report.rows(work) {
            let total = row.records_per_s.map(|rate| format!("{}/s", metric(rate)));
            let name = format!("{name} ({})", length(row.payload_bytes));
            table.row(&name, [total]);
        }
    }
    if let Some(idle) = &report.idle {
        let name = format!("{} idle buffers, processor time", idle.buffers);
        let cpu = idle.cpu_us_per_s.map(|us| format!("{}/s", time(us)));
        table.row(&name, [cpu]);
        let name = format!("{} idle buffers, threads", idle.buffers);
        table.row(&name, [idle.threads.map(|n| n.to_string())]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_was_not_measured_is_absent() {
        let case = Case {
            work: Work::Open,
            payload_len: 64,
            producers: 0,
        };
        let row = Row::new(case, &[Measured::default()], None);
        assert_eq!((row.records_per_s, row.p50_us), (None, None));
        let mut table = Table::new(["a".to_owned(), "b".to_owned()]);
        table.row("c", [None]);
        let mut text = String::new();
        table.write(&mut text);
        assert_eq!(text, "");
    }
}
