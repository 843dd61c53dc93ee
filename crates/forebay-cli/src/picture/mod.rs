//! The page of `inspect --html`: a buffer as a picture, to attach to an incident.
//!
//! Invariants:
//! - One file that loads nothing and runs no script. Its markup is in `templates/page.html`,
//!   which escapes whatever it is given.
//! - Its length is bounded: long lists are cut, and say so.
//! - It holds no payload.

mod charts;
mod facts;
mod map;
mod words;

pub(crate) use self::facts::Facts;

use self::charts::{Sizes, Times, age};
use self::map::{Overview, Row};
use crate::args::counting::ReadCountingOptions;
use crate::buffer::verdict;
use crate::output::{bytes, count, quoted};
use askama::Template;
use forebay::format::file_id::file_name;
use forebay::{Finding, LedgerCondition, Severity};
use indicatif::HumanCount;
use std::path::Path;

/// At most this many findings are listed.
const FINDINGS_MAX: usize = 1000;
/// At most this many values of metadata are named.
const METADATA_SHOWN: usize = 5;

#[derive(Template)]
#[template(path = "page.html")]
struct Page {
    directory: String,
    verdict: Verdict,
    steps: Vec<Step>,
    made: String,
    tiles: Vec<Tile>,
    file_count: String,
    overview: Option<Overview>,
    rows: Vec<Row>,
    rows_more: usize,
    findings: Vec<FindingRow>,
    findings_more: u64,
    sizes: Option<Sizes>,
    times: Option<Times>,
    positions: Vec<(&'static str, String)>,
    settings: Vec<(&'static str, String)>,
}

struct Verdict {
    class: &'static str,
    title: &'static str,
    conclusion: String,
}

/// A command that helps.
struct Step {
    command: String,
    does: &'static str,
}

/// A figure in large type.
struct Tile {
    class: &'static str,
    label: &'static str,
    value: String,
    detail: String,
}

struct FindingRow {
    kind: &'static str,
    severity: &'static str,
    file: String,
    offset: String,
    length: String,
    lost: String,
    meaning: &'static str,
}

/// The page about a buffer. `counting` is how the events of its records were counted.
///
/// # Errors
///
/// None that the template allows: writing to a string does not fail.
pub(crate) fn page(facts: &Facts, counting: ReadCountingOptions) -> askama::Result<String> {
    let directory = &facts.inspection.directory;
    let listed = &facts.verification.findings;
    let (rows, rows_more) = map::rows(facts);
    let page = Page {
        directory: directory.to_string_lossy().into_owned(),
        verdict: of(facts, counting),
        steps: steps(facts),
        made: made(facts),
        tiles: tiles(facts),
        file_count: count(facts.files.len() as u64, "data file"),
        overview: map::overview(facts),
        rows,
        rows_more,
        findings: listed.iter().take(FINDINGS_MAX).map(finding_row).collect(),
        findings_more: listed.len().saturating_sub(FINDINGS_MAX) as u64
            + facts.verification.findings_omitted,
        sizes: charts::sizes(&facts.contents),
        times: charts::times(&facts.files),
        positions: positions(facts),
        settings: settings(facts, directory, counting),
    };
    Ok(page.render()? + "\n")
}

fn of(facts: &Facts, counting: ReadCountingOptions) -> Verdict {
    let verification = &facts.verification;
    let (class, title) = match verification.is_clean() {
        false => ("damage", "Damaged"),
        true if verification.findings.is_empty() => ("good", "No damage"),
        true => ("normal", "No damage"),
    };
    let conclusion = verdict::conclusion(&facts.inspection.directory, counting, verification);
    // The title says the beginning already.
    let prefix = title.to_lowercase();
    let rest = conclusion.strip_prefix(&prefix).unwrap_or(&conclusion);
    Verdict {
        class,
        title,
        conclusion: capitalised(rest.trim_start_matches([';', ',', ' '])),
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

fn steps(facts: &Facts) -> Vec<Step> {
    let directory = quoted(&facts.inspection.directory);
    let step = |command: &str, does| Step {
        command: format!("forebay {command} {directory}"),
        does,
    };
    if !facts.verification.is_clean() {
        let repair = match facts.inspection.locked {
            true => "says what a repair keeps and loses, once the process that has it open ended",
            false => "says what a repair keeps and loses, and changes nothing",
        };
        return vec![
            step("verify", "lists the findings; with --json for programs"),
            step("repair", repair),
        ];
    }
    match facts.verification.findings.is_empty() || facts.inspection.locked {
        true => Vec::new(),
        false => vec![step("mend", "tidies up what a crash left")],
    }
}

fn made(facts: &Facts) -> String {
    let mut made = format!(
        "Looked at {} UTC with forebay {}.",
        words::time(facts.looked_at),
        env!("CARGO_PKG_VERSION")
    );
    if facts.inspection.locked {
        made.push_str(
            " The buffer was open meanwhile, so the figures are from slightly different moments.",
        );
    }
    made
}

fn tiles(facts: &Facts) -> Vec<Tile> {
    let inspection = &facts.inspection;
    let unread = &inspection.unread;
    let tile = |label, value, detail| Tile {
        class: "",
        label,
        value,
        detail,
    };
    let (oldest, file_time) = match inspection.oldest_unread_age_seconds {
        Some(seconds) => (age(seconds), "by the time of its file".to_owned()),
        None => ("none".to_owned(), String::new()),
    };
    let (state, holder) = match (inspection.locked, inspection.lock_holder_pid) {
        (true, Some(pid)) => ("open", holder(pid)),
        (true, None) => ("open", "in another process".to_owned()),
        (false, _) => ("not open", "no process holds its lock".to_owned()),
    };
    let lost = facts.verification.events_lost;
    vec![
        tile(
            "unread events",
            HumanCount(unread.events).to_string(),
            count(unread.records, "record"),
        ),
        tile("unread bytes", bytes(unread.bytes), String::new()),
        tile("oldest unread", oldest, file_time),
        tile(
            "on disk",
            bytes(inspection.disk_bytes()),
            count(inspection.files.len() as u64, "data file"),
        ),
        Tile {
            class: if lost > 0 { "damage" } else { "" },
            label: "events lost",
            value: HumanCount(lost).to_string(),
            detail: "as the record ids prove".to_owned(),
        },
        tile("state", state.to_owned(), holder),
    ]
}

/// The process that has the buffer open, with its name where the system tells it.
fn holder(pid: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    match name.trim() {
        "" => format!("in process {pid}"),
        name => format!("in process {pid} ({name})"),
    }
}

fn finding_row(finding: &Finding) -> FindingRow {
    FindingRow {
        kind: finding.kind.as_str(),
        severity: match finding.severity {
            Severity::Damage => "damage",
            _ => "normal",
        },
        file: finding.file.clone().unwrap_or_default(),
        offset: HumanCount(finding.offset).to_string(),
        length: HumanCount(finding.length).to_string(),
        lost: HumanCount(finding.events_lost).to_string(),
        meaning: words::meaning(finding.kind),
    }
}

fn positions(facts: &Facts) -> Vec<(&'static str, String)> {
    let ledger = &facts.inspection.ledger;
    let id = |id: Option<u64>| id.map_or("unknown".to_owned(), |id| HumanCount(id).to_string());
    let file = |id: Option<u16>| id.map_or("unknown".to_owned(), file_name);
    let status = match (ledger.status, &ledger.damage) {
        (LedgerCondition::Ok, _) => "ok".to_owned(),
        (_, Some(why)) => format!("damaged: {why}"),
        (status, None) => status.as_str().to_owned(),
    };
    vec![
        ("ledger", status),
        ("last acknowledged event", id(ledger.reader_last_record_id)),
        ("reading in", file(ledger.reader_file_id)),
        ("next event gets id", id(ledger.writer_next_record_id)),
        ("writing to", file(ledger.writer_file_id)),
        (
            "records there",
            format!(
                "{} with {}",
                count(facts.verification.records, "record"),
                count(facts.verification.events, "event")
            ),
        ),
    ]
}

fn settings(
    facts: &Facts,
    directory: &Path,
    counting: ReadCountingOptions,
) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("directory", directory.to_string_lossy().into_owned()),
        ("--count-events", counting.name()),
        ("metadata", metadata(facts)),
    ];
    if let Ok(absolute) = directory.canonicalize()
        && absolute != directory
    {
        settings.insert(
            1,
            ("absolute path", absolute.to_string_lossy().into_owned()),
        );
    }
    let longest = facts.files.iter().map(|file| file.report.bytes).max();
    if let Some(longest) = longest {
        settings.push(("longest data file", bytes(longest)));
    }
    if let Some(free) = facts.inspection.free_bytes {
        settings.push(("free on its file system", bytes(free)));
    }
    for beside in &facts.beside {
        let held = format!("{}, {}", count(beside.files, "file"), bytes(beside.bytes));
        settings.push((beside.name, held));
    }
    let system = format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH);
    settings.push(("looked at on", system));
    settings
}

/// Which metadata the records carry, the most frequent first.
fn metadata(facts: &Facts) -> String {
    let mut values: Vec<_> = facts.contents.metadata.iter().collect();
    values.sort_by_key(|(_, records)| std::cmp::Reverse(**records));
    let mut parts: Vec<String> = values
        .iter()
        .take(METADATA_SHOWN)
        .map(|(value, records)| format!("{value} ({})", count(**records, "record")))
        .collect();
    let rest: u64 = values.iter().skip(METADATA_SHOWN).map(|(_, n)| **n).sum();
    let rest = rest + facts.contents.other_metadata;
    if rest > 0 {
        parts.push(format!("others ({})", count(rest, "record")));
    }
    match parts.is_empty() {
        true => "no record".to_owned(),
        false => parts.join(", "),
    }
}
