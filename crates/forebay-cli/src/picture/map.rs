//! The file map: what lies where in the data files, as bars.
//!
//! Invariants:
//! - A bar is [`BAR`] units wide. A finding is drawn with a least width, so that one damaged byte
//!   in a terabyte is seen; findings that would overlap become one.
//! - The number of rows is bounded, and every finding in a data file is in a row.

use super::facts::{Facts, FileFacts};
use super::words;
use crate::output::{bytes, count};
use forebay::format::file_id::{file_name, parse_file_name};
use forebay::{Finding, FindingKind, Severity};
use indicatif::HumanCount;

/// The width of a bar, in units of the picture.
const BAR: f64 = 1000.0;
/// The least width of a finding in the bar of all files, which is as wide as the page.
const TICK: f64 = 4.0;
/// The same in the bar of one file, which is a third as wide.
const ROW_TICK: f64 = 12.0;
/// Up to this many files have a row each; of more, those without findings share rows.
const ROWS_EACH: usize = 64;
/// At most this many rows.
const ROWS_MAX: usize = 400;
/// Up to this many boundaries between files are drawn in the bar of all files.
const BOUNDARIES_MAX: usize = 256;

/// A part of a bar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Span {
    /// What it is, as the style sheet names it.
    pub(crate) class: &'static str,
    pub(crate) x: f64,
    pub(crate) width: f64,
    pub(crate) title: String,
}

/// All files end to end.
#[derive(Debug)]
pub(crate) struct Overview {
    pub(crate) spans: Vec<Span>,
    /// Where one file ends and the next begins.
    pub(crate) boundaries: Vec<f64>,
    /// Where the first unread record is, in percent.
    pub(crate) reader: f64,
    pub(crate) total: String,
}

/// A data file, or several without findings.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// What is special about it.
    pub(crate) note: String,
    pub(crate) is_missing: bool,
    pub(crate) spans: Vec<Span>,
    pub(crate) size: String,
    pub(crate) records: String,
    pub(crate) events: String,
    pub(crate) ids: String,
    pub(crate) changed: String,
    pub(crate) findings: String,
    /// None of the findings is damage.
    pub(crate) is_normal: bool,
}

/// The bar of all files; `None` if there is no byte.
pub(crate) fn overview(facts: &Facts) -> Option<Overview> {
    let total: u64 = facts.files.iter().map(|file| file.report.bytes).sum();
    if total == 0 {
        return None;
    }
    let scale = BAR / total as f64;
    let live = facts.files.iter().filter(|file| !file.report.is_stale);
    let live: u64 = live.map(|file| file.report.bytes).sum();
    // At the end of the last file, where nothing is written yet.
    let spare = |file: &FileFacts| file.report.bytes.saturating_sub(file.report.data_bytes);
    let spare: u64 = facts.files.iter().map(spare).sum();
    let acknowledged: u64 = facts.files.iter().map(|f| f.acknowledged_bytes).sum();
    let x = |offset: u64| offset as f64 * scale;
    let mut spans = Vec::new();
    split(&mut spans, acknowledged, live.saturating_sub(spare), x);
    let title = format!("{} that other files hold too", bytes(total - live));
    part(&mut spans, "stale", x(live), x(total), title);
    let mut boundaries = Vec::new();
    let mut base = 0;
    for file in &facts.files {
        for finding in of_file(facts, file) {
            push_tick(&mut spans, tick(finding, TICK, |offset| x(base + offset)));
        }
        base += file.report.bytes;
        boundaries.push(x(base));
    }
    boundaries.pop();
    if boundaries.len() > BOUNDARIES_MAX {
        boundaries.clear();
    }
    Some(Overview {
        spans,
        boundaries,
        reader: x(acknowledged) * 100.0 / BAR,
        total: bytes(total),
    })
}

/// The rows of the map, and how many more there would be.
pub(crate) fn rows(facts: &Facts) -> (Vec<Row>, usize) {
    let longest = facts.files.iter().map(|file| file.report.bytes).max();
    let longest = longest.unwrap_or(0).max(1);
    let ledger = &facts.inspection.ledger;
    let mut missing: Vec<&Finding> = facts
        .verification
        .findings
        .iter()
        .filter(|finding| finding.kind == FindingKind::MissingFile)
        .collect();
    let mut rows = Vec::new();
    let mut plain: Vec<&FileFacts> = Vec::new();
    for (index, file) in facts.files.iter().enumerate() {
        // A missing file comes before the first file with a later id, if ids have not wrapped.
        let is_before = |finding: &&Finding| {
            let id = finding
                .file
                .as_deref()
                .and_then(|name| parse_file_name(name.as_ref()));
            !file.report.is_stale && id.is_some_and(|id| id < file.report.file_id)
        };
        let before: Vec<_> = missing
            .extract_if(.., |finding| is_before(finding))
            .collect();
        let is_end = index == 0 || index + 1 == facts.files.len();
        let file_id = Some(file.report.file_id);
        let is_position = file_id == ledger.reader_file_id || file_id == ledger.writer_file_id;
        let is_plain = facts.files.len() > ROWS_EACH
            && !is_end
            && !is_position
            && before.is_empty()
            && of_file(facts, file).next().is_none();
        if is_plain {
            plain.push(file);
            continue;
        }
        flush(&mut rows, &mut plain, facts, longest);
        rows.extend(before.into_iter().map(missing_row));
        rows.push(row(file, facts, longest));
    }
    flush(&mut rows, &mut plain, facts, longest);
    rows.extend(missing.into_iter().map(missing_row));
    let more = rows.len().saturating_sub(ROWS_MAX);
    rows.truncate(ROWS_MAX);
    (rows, more)
}

/// Adds the rows of consecutive files without findings.
fn flush(rows: &mut Vec<Row>, plain: &mut Vec<&FileFacts>, facts: &Facts, longest: u64) {
    match plain.as_slice() {
        [] => {}
        [one] => rows.push(row(one, facts, longest)),
        [first, .., last] => {
            let sum = |of: fn(&FileFacts) -> u64| plain.iter().map(|file| of(file)).sum::<u64>();
            let (len, acknowledged) = (sum(|f| f.report.bytes), sum(|f| f.acknowledged_bytes));
            let data = sum(|f| f.report.data_bytes);
            let scale = BAR / len.max(1) as f64;
            let mut spans = Vec::new();
            split(&mut spans, acknowledged, data, |offset| {
                offset as f64 * scale
            });
            rows.push(Row {
                name: format!(
                    "{} … {}",
                    file_name(first.report.file_id),
                    file_name(last.report.file_id)
                ),
                note: count(plain.len() as u64, "file"),
                is_missing: false,
                spans,
                size: bytes(len),
                records: HumanCount(sum(|f| f.records)).to_string(),
                events: HumanCount(sum(|f| f.events)).to_string(),
                ids: ids(first.report.first_record_id, last.last_id),
                changed: words::maybe_time(last.report.modified),
                findings: String::new(),
                is_normal: true,
            });
        }
    }
    plain.clear();
}

fn row(file: &FileFacts, facts: &Facts, longest: u64) -> Row {
    let scale = BAR / longest as f64;
    let x = |offset: u64| offset.min(file.report.bytes) as f64 * scale;
    let mut spans = contents(file, x);
    for finding in of_file(facts, file) {
        push_tick(&mut spans, tick(finding, ROW_TICK, x));
    }
    let ledger = &facts.inspection.ledger;
    let file_id = Some(file.report.file_id);
    let notes = [
        (file.report.is_stale, "repeats others, not read"),
        (file_id == ledger.reader_file_id, "reader"),
        (file_id == ledger.writer_file_id, "writer"),
    ];
    let notes: Vec<_> = notes
        .iter()
        .filter_map(|(holds, note)| holds.then_some(*note))
        .collect();
    let findings = of_file(facts, file).count() as u64;
    Row {
        name: file_name(file.report.file_id),
        note: notes.join(", "),
        is_missing: false,
        spans,
        size: bytes(file.report.bytes),
        records: HumanCount(file.records).to_string(),
        events: HumanCount(file.events).to_string(),
        ids: ids(file.report.first_record_id, file.last_id),
        changed: words::maybe_time(file.report.modified),
        findings: match findings {
            0 => String::new(),
            many => count(many, "finding"),
        },
        is_normal: of_file(facts, file).all(|finding| finding.severity == Severity::Normal),
    }
}

fn missing_row(finding: &Finding) -> Row {
    Row {
        name: finding.file.clone().unwrap_or_default(),
        note: "missing".to_owned(),
        is_missing: true,
        findings: format!("{} lost", count(finding.events_lost, "event")),
        ..Row::default()
    }
}

fn ids(first: Option<u64>, last: Option<u64>) -> String {
    let known = |id: Option<u64>| id.map_or("?".to_owned(), |id| HumanCount(id).to_string());
    match (first, last) {
        (None, None) => String::new(),
        _ => format!("{} – {}", known(first), known(last)),
    }
}

/// The findings in a data file that is there.
fn of_file<'f>(facts: &'f Facts, file: &FileFacts) -> impl Iterator<Item = &'f Finding> + use<'f> {
    let name = file_name(file.report.file_id);
    let findings = facts.verification.findings.iter();
    findings.filter(move |finding| {
        finding.kind != FindingKind::MissingFile && finding.file.as_deref() == Some(name.as_str())
    })
}

/// What a data file holds, where findings say nothing else.
fn contents(file: &FileFacts, x: impl Fn(u64) -> f64) -> Vec<Span> {
    let mut spans = Vec::new();
    if file.report.is_stale {
        let title = format!("{} that other files hold too", bytes(file.report.bytes));
        part(&mut spans, "stale", x(0), x(file.report.bytes), title);
    } else {
        split(
            &mut spans,
            file.acknowledged_bytes,
            file.report.data_bytes,
            x,
        );
    }
    spans
}

/// Bytes that are acknowledged, and bytes after them that are not.
fn split(spans: &mut Vec<Span>, acknowledged: u64, len: u64, x: impl Fn(u64) -> f64) {
    let title = format!("{} acknowledged", bytes(acknowledged));
    part(spans, "acknowledged", x(0), x(acknowledged), title);
    let title = format!("{} unread", bytes(len.saturating_sub(acknowledged)));
    part(spans, "unread", x(acknowledged), x(len), title);
}

fn part(spans: &mut Vec<Span>, class: &'static str, from: f64, to: f64, title: String) {
    if to > from {
        spans.push(Span {
            class,
            x: from,
            width: to - from,
            title,
        });
    }
}

fn tick(finding: &Finding, least: f64, x: impl Fn(u64) -> f64) -> Span {
    let (from, to) = (
        x(finding.offset),
        x(finding.offset.saturating_add(finding.length)),
    );
    let width = (to - from).max(least);
    Span {
        class: match (finding.kind, finding.severity) {
            (FindingKind::StaleFile, _) => "stale",
            (_, Severity::Damage) => "damage",
            _ => "normal",
        },
        // The end of a bar is no reason to be cut off.
        x: from.min(BAR - width).max(0.0),
        width,
        title: format!(
            "{} in {} from offset {}, {}",
            finding.kind,
            finding.file.as_deref().unwrap_or("?"),
            finding.offset,
            bytes(finding.length)
        ),
    }
}

/// Adds a finding, or makes the one before longer if they would overlap.
fn push_tick(spans: &mut Vec<Span>, tick: Span) {
    match spans.last_mut() {
        Some(last) if last.class == tick.class && tick.x <= last.x + last.width => {
            last.width = (tick.x + tick.width - last.x).max(last.width);
            last.title = "several findings, see the list".to_owned();
        }
        _ => spans.push(tick),
    }
}
