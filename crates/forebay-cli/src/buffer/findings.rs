//! Findings for people, as a table, and for programs, as JSON.

use crate::output::{colours, count};
use forebay::{Finding, Severity};
use serde::Serialize;
use std::fmt::Write as _;
use std::ops::Range;

/// What programs rely on: keys may be added, not renamed.
#[derive(Debug, Serialize)]
pub(crate) struct JsonFinding<'a> {
    kind: &'static str,
    severity: &'static str,
    file: Option<&'a str>,
    offset: u64,
    length: u64,
    events_lost: u64,
}

impl<'a> JsonFinding<'a> {
    pub(crate) fn of(finding: &'a Finding) -> Self {
        Self {
            kind: finding.kind.as_str(),
            severity: finding.severity.as_str(),
            file: finding.file.as_deref(),
            offset: finding.offset,
            length: finding.length,
            events_lost: finding.events_lost,
        }
    }
}

/// Adds the findings to a text, a line each; damage is coloured where that is allowed.
pub(crate) fn table(text: &mut String, findings: &[Finding]) {
    let rows: Vec<[String; 6]> = findings
        .iter()
        .map(|finding| {
            [
                finding.kind.as_str().to_owned(),
                finding.severity.as_str().to_owned(),
                finding.file.clone().unwrap_or_else(|| "-".to_owned()),
                finding.offset.to_string(),
                finding.length.to_string(),
                finding.events_lost.to_string(),
            ]
        })
        .collect();
    let names = [
        "KIND",
        "SEVERITY",
        "FILE",
        "OFFSET",
        "LENGTH",
        "EVENTS LOST",
    ];
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].len());
        cells.chain([names[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut line = |cells: [&str; 6], colour: &str| {
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            // Writing to a string cannot fail.
            let _ = match column {
                0..=2 => write!(line, "{cell:<width$}  "),
                _ => write!(line, "{cell:>width$}  "),
            };
        }
        let reset = if colour.is_empty() { "" } else { "\x1b[0m" };
        let _ = writeln!(text, "{colour}{}{reset}", line.trim_end());
    };
    let coloured = colours();
    line(names, if coloured { "\x1b[1m" } else { "" });
    for (row, finding) in rows.iter().zip(findings) {
        let colour = match finding.severity {
            Severity::Damage if coloured => "\x1b[31m",
            _ => "",
        };
        line(row.each_ref().map(String::as_str), colour);
    }
}

/// At most this many ranges of ids are listed.
const RANGES_MAX: usize = 20;

/// Ids that are missing, for programs: keys may be added, not renamed.
#[derive(Debug, Serialize)]
pub(crate) struct JsonIds {
    first_id: u64,
    last_id: u64,
}

impl JsonIds {
    pub(crate) fn of(ids: &Range<u64>) -> Self {
        Self {
            first_id: ids.start,
            last_id: ids.end - 1,
        }
    }
}

/// Ranges of ids in words: `ids 4 to 9, 12`.
pub(crate) fn id_ranges(ranges: &[Range<u64>]) -> String {
    let listed = ranges.iter().take(RANGES_MAX);
    let mut listed: Vec<String> = listed
        .map(|ids| match ids.end - ids.start {
            1 => ids.start.to_string(),
            _ => format!("{} to {}", ids.start, ids.end - 1),
        })
        .collect();
    let more = ranges.len().saturating_sub(RANGES_MAX) as u64;
    if more > 0 {
        listed.push(count(more, "more range"));
    }
    let word = match ranges {
        [ids] if ids.end - ids.start == 1 => "id",
        _ => "ids",
    };
    format!("{word} {}", listed.join(", "))
}
