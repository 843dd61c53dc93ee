//! `forebay ls`: every buffer below paths, a row each.
//!
//! Invariant: nothing is written, and no lock is taken.

use crate::args::counting::ReadCountingOptions;
use crate::args::max_sizes::MaxSizeOptions;
use crate::args::sizes::Time;
use crate::buffer::findings::JsonFinding;
use crate::buffer::looks::{Found, Look, NoLook};
use crate::buffer::steps;
use crate::failure::{Outcome, Result};
use crate::io::standard::{Stream, require};
use crate::output::live::{Counter, Progress};
use crate::output::{age, bytes, colours, note, print};
use clap::ValueHint;
use forebay::{Finding, Inspection, Severity, Verification, VerifyOptions};
use indicatif::HumanCount;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay ls /var/lib/vector
  forebay ls /var/lib/vector --orphaned --older-than 3d
  forebay ls /data --damaged --json | jq -r .directory
  forebay ls . --max-size 1GiB --max-size ./orders=4GiB

The state of a buffer is
  open    a process has it open, which HELD BY names
  ORPHAN  no process has it open, and events wait in it
  empty   no process has it open, and nothing waits in it
  repair  files are being replaced, by a repair or a move, or that was interrupted
  error   it cannot be looked at; standard error says why

FINDINGS says what opening would find in the ledger and at the ends of the data.
To have every byte checked, use --verify, or --damaged. What a crash leaves behind,
and opening mends without loss, is `normal`. OLDEST is the age of the oldest unread
event, by the time of the last change of its data file.

Works while other processes have buffers open, and never writes to one.

The exit status is
  0  when all listed buffers are without damage
  1  when one is damaged, or has lost events
  2  on errors, such as a directory that cannot be listed, or no buffer at all")]
pub(crate) struct Args {
    /// Directories; buffers are looked for in and below them
    #[arg(value_name = "PATH", required = true, value_hint = ValueHint::DirPath)]
    paths: Vec<PathBuf>,

    /// List only buffers in which events wait although no process has them open
    #[arg(long)]
    orphaned: bool,

    /// List only buffers whose oldest unread event is older, such as 3d
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    older_than: Option<Time>,

    /// List only damaged buffers; checks every byte of all of them
    #[arg(long)]
    damaged: bool,

    /// Check every byte, instead of the ledger and the ends of the data
    #[arg(long)]
    verify: bool,

    #[command(flatten)]
    max_size: MaxSizeOptions,

    #[command(flatten)]
    counting: ReadCountingOptions,

    /// Print a JSON object for each buffer, on a line of its own
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    require(Stream::Output)?;
    let counter = Counter::of_buffers();
    let found = Found::below(&args.paths, |buffers| counter.found(buffers));
    counter.clear();
    found.report(&args.paths)?;
    let mut has_errors = !found.errors.is_empty();
    let mut rows = Vec::new();
    for (index, directory) in found.buffers.iter().enumerate() {
        counter.done(index as u64, found.buffers.len() as u64);
        let row = Row::of(args, Look::at(directory, args.counting), &counter);
        match (&row.error, row.state) {
            // It was deleted since it was found.
            (None, State::Error) => continue,
            (Some(error), State::Error) => {
                counter.clear();
                note(error);
                has_errors = true;
            }
            _ => {}
        }
        if row.is_wanted(args) {
            rows.push(row);
        }
    }
    counter.clear();
    let text = match args.json {
        true => rows.iter().map(|row| row.json() + "\n").collect(),
        false => table(&rows),
    };
    print(&text)?;
    let is_damaged = rows.iter().any(Row::is_damaged);
    Ok(match has_errors {
        true => Outcome::Errors,
        false => Outcome::Fine.with_findings(is_damaged),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Orphaned,
    Empty,
    Repair,
    Error,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Orphaned => "orphaned",
            Self::Empty => "empty",
            Self::Repair => "repair",
            Self::Error => "error",
        }
    }

    /// As a row shows it: an orphan has to stand out without colours, too.
    fn shown(self) -> &'static str {
        match self {
            Self::Orphaned => "ORPHAN",
            other => other.as_str(),
        }
    }
}

/// What is known of a buffer.
#[derive(Debug)]
struct Row {
    look: Look,
    state: State,
    /// The check of every byte, if that was asked for.
    verification: Option<Verification>,
    max_size: Option<u64>,
    error: Option<String>,
}

impl Row {
    fn of(args: &Args, look: Look, counter: &Counter) -> Self {
        let (mut state, mut error) = match &look.inspection {
            Ok(inspection) if inspection.locked => (State::Open, None),
            Ok(inspection) if inspection.is_orphaned() => (State::Orphaned, None),
            Ok(_) => (State::Empty, None),
            Err(NoLook::Repair(says)) => (State::Repair, Some(says.clone())),
            Err(NoLook::Error(says)) => (State::Error, Some(says.clone())),
            Err(NoLook::Gone) => (State::Error, None),
        };
        let mut verification = None;
        if (args.verify || args.damaged) && look.inspection.is_ok() {
            counter.clear();
            match verify(args, &look) {
                Ok(checked) => verification = Some(checked),
                Err(failure) => (state, error) = (State::Error, Some(failure.message)),
            }
        }
        Self {
            max_size: args.max_size.of(&look.directory),
            look,
            state,
            verification,
            error,
        }
    }

    fn inspection(&self) -> Option<&Inspection> {
        self.look.inspection.as_ref().ok()
    }

    fn findings(&self) -> &[Finding] {
        match (&self.verification, self.inspection()) {
            (Some(verification), _) => &verification.findings,
            (None, Some(inspection)) => &inspection.recovery.findings,
            (None, None) => &[],
        }
    }

    fn events_lost(&self) -> u64 {
        match (&self.verification, self.inspection()) {
            (Some(verification), _) => verification.events_lost,
            (None, Some(inspection)) => inspection.recovery.events_lost,
            (None, None) => 0,
        }
    }

    fn is_damaged(&self) -> bool {
        self.state == State::Repair || self.events_lost() > 0 || self.damage().next().is_some()
    }

    fn damage(&self) -> impl Iterator<Item = &Finding> {
        let findings = self.findings().iter();
        findings.filter(|finding| finding.severity == Severity::Damage)
    }

    fn age(&self) -> Option<f64> {
        self.inspection()?.oldest_unread_age_seconds
    }

    fn fill(&self) -> Option<f64> {
        Some(self.inspection()?.disk_bytes() as f64 / self.max_size? as f64)
    }

    /// Whether it passes the options that choose buffers.
    fn is_wanted(&self, args: &Args) -> bool {
        let is_older = |Time(limit)| self.age().is_some_and(|age| age > limit.as_secs_f64());
        (!args.orphaned || self.state == State::Orphaned)
            && args.older_than.is_none_or(is_older)
            && (!args.damaged || self.is_damaged())
    }

    fn json(&self) -> String {
        let inspection = self.inspection();
        let holder = self.look.holder.as_ref();
        crate::output::json(&Report {
            directory: &self.look.directory.to_string_lossy(),
            state: self.state.as_str(),
            lock_holder_pid: holder.and_then(|holder| holder.pid),
            lock_holder_program: holder.and_then(|holder| holder.program.as_deref()),
            unread: Unread {
                events: inspection.map(|i| i.unread.events),
                bytes: inspection.map(|i| i.unread.bytes),
            },
            disk_bytes: inspection.map(Inspection::disk_bytes),
            max_size_bytes: self.max_size,
            fill_ratio: self.fill(),
            oldest_unread_age_seconds: self.age(),
            next_record_id: inspection.map(|i| i.next_record_id),
            last_acknowledged_id: inspection.map(|i| i.last_acknowledged_id),
            free_bytes: inspection.and_then(|i| i.free_bytes),
            verified: self.verification.is_some(),
            damaged: inspection.is_some().then(|| self.is_damaged()),
            events_lost: inspection.is_some().then(|| self.events_lost()),
            findings: self.findings().iter().map(JsonFinding::of).collect(),
            error: self.error.as_deref(),
        })
    }

    fn cells(&self) -> [String; COLUMNS] {
        let none = || "-".to_owned();
        let inspection = self.inspection();
        let holder = self.look.holder.as_ref();
        [
            self.state.shown().to_owned(),
            holder.map_or_else(none, ToString::to_string),
            inspection.map_or_else(none, |i| HumanCount(i.unread.events).to_string()),
            inspection.map_or_else(none, |i| bytes(i.unread.bytes)),
            inspection.map_or_else(none, |i| bytes(i.disk_bytes())),
            self.fill()
                .map_or_else(none, |fill| format!("{:.0} %", fill * 100.0)),
            self.age().map_or_else(none, age),
            self.at_a_glance(),
            self.look.directory.display().to_string(),
        ]
    }

    /// The findings in a few words: kinds of damage, and what is lost.
    fn at_a_glance(&self) -> String {
        const KINDS: usize = 2;
        if self.inspection().is_none() {
            return "?".to_owned();
        }
        let mut kinds: Vec<&str> = self.damage().map(|finding| finding.kind.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let mut text = match (kinds.len(), self.findings().len()) {
            (0, 0) => "-".to_owned(),
            (0, _) => "normal".to_owned(),
            (1..=KINDS, _) => kinds.join(", "),
            (more, _) => format!("{} and {} more", kinds[..KINDS].join(", "), more - KINDS),
        };
        if self.events_lost() > 0 {
            // Writing to a string cannot fail.
            let _ = write!(text, "; {} lost", HumanCount(self.events_lost()));
        }
        text
    }
}

fn verify(args: &Args, look: &Look) -> Result<Verification> {
    let counter = steps::counter(args.counting, &look.directory)?;
    let progress = Progress::over_bytes();
    let verified = VerifyOptions::new()
        .event_counter(counter)
        .on_progress(|done, total| progress.bytes(done, total))
        .verify(&look.directory);
    progress.clear();
    Ok(verified?)
}

/// What programs rely on: keys may be added, not renamed.
#[derive(Debug, Serialize)]
struct Report<'a> {
    directory: &'a str,
    state: &'static str,
    lock_holder_pid: Option<u32>,
    lock_holder_program: Option<&'a str>,
    unread: Unread,
    disk_bytes: Option<u64>,
    max_size_bytes: Option<u64>,
    fill_ratio: Option<f64>,
    oldest_unread_age_seconds: Option<f64>,
    next_record_id: Option<u64>,
    last_acknowledged_id: Option<u64>,
    free_bytes: Option<u64>,
    verified: bool,
    damaged: Option<bool>,
    events_lost: Option<u64>,
    findings: Vec<JsonFinding<'a>>,
    error: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Unread {
    events: Option<u64>,
    bytes: Option<u64>,
}

const COLUMNS: usize = 9;
const NAMES: [&str; COLUMNS] = [
    "STATE", "HELD BY", "UNREAD", "BYTES", "ON DISK", "FILL", "OLDEST", "FINDINGS", "BUFFER",
];
const FILL: usize = 5;

/// The rows below their names; nothing without rows. `FILL` is left out where no maximum size is
/// known.
fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    if rows.is_empty() {
        return text;
    }
    let cells: Vec<_> = rows.iter().map(Row::cells).collect();
    let has_fill = rows.iter().any(|row| row.fill().is_some());
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
        let cells = cells.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0).max(NAMES[column].len())
    });
    let coloured = colours();
    let mut line = |cells: [&str; COLUMNS], colour: &str| {
        let mut line = String::new();
        for (column, (cell, width)) in cells.into_iter().zip(widths).enumerate() {
            // Writing to a string cannot fail.
            let _ = match column {
                FILL if !has_fill => continue,
                2..=6 => write!(line, "{cell:>width$}  "),
                _ => write!(line, "{cell:<width$}  "),
            };
        }
        let reset = if colour.is_empty() { "" } else { "\x1b[0m" };
        let _ = writeln!(text, "{colour}{}{reset}", line.trim_end());
    };
    line(NAMES, if coloured { "\x1b[1m" } else { "" });
    for (row, cells) in rows.iter().zip(&cells) {
        let colour = match row.state {
            _ if !coloured => "",
            State::Error | State::Repair => "\x1b[31m",
            _ if row.is_damaged() => "\x1b[31m",
            State::Orphaned => "\x1b[33m",
            _ => "",
        };
        line(cells.each_ref().map(String::as_str), colour);
    }
    text
}
