//! `forebay inspect`: describes a buffer without opening it.
//!
//! Invariant: nothing is written, and no lock is taken.

use crate::args::counting::ReadCountingOptions;
use crate::args::file;
use crate::buffer::{steps, verdict};
use crate::failure::{Failure, Outcome, Result};
use crate::io::replace::Target;
use crate::io::standard::{Stream, require};
use crate::output::{bytes, count, note, print};
use crate::picture::{self, Facts};
use clap::ValueHint;
use forebay::format::file_id::file_name;
use forebay::{InspectOptions, Inspection, LedgerCondition};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// At most this many data files are listed, except with `--json`.
const FILES_MAX: usize = 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay inspect spool
  forebay inspect spool --json | jq .unread.events
  watch forebay inspect spool --quick
  forebay inspect spool --html incident.html
      one page with everything, to attach to an incident; it holds no payload

Works while another process has the buffer open, and never writes to it. To look
for damage, use `forebay verify`, or --html, which checks every byte as well.

The exit status is
  0  when the buffer was described, even if it is damaged
  2  on errors, such as no buffer")]
pub(crate) struct Args {
    /// The buffer's directory
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: PathBuf,

    #[command(flatten)]
    counting: ReadCountingOptions,

    /// Do not count the unread records; counting reads all of them
    #[arg(long)]
    quick: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Check every byte as well, and write a page for a browser to FILE: a map of
    /// the data files with damage and positions, sizes of records, events over
    /// time, findings; `-` is standard output
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath,
          conflicts_with_all = ["json", "quick"])]
    html: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    require(Stream::Output)?;
    if args.html.is_some() {
        return html(args);
    }
    let options = InspectOptions::default()
        .event_counter(steps::counter(args.counting, &args.directory)?)
        .count_records(!args.quick);
    let inspection = options.inspect(&args.directory)?;
    let text = match args.json {
        true => json(&inspection, args.quick) + "\n",
        false => text(&inspection, args.quick),
    };
    print(&text)?;
    Ok(Outcome::Fine)
}

/// Writes the page, and says what it says and where it is: on standard error if the page is on
/// standard output.
fn html(args: &Args) -> Result<Outcome> {
    let directory = &args.directory;
    let target = match file(&args.html) {
        Some(path) => Some((path, Target::new(path)?)),
        None => None,
    };
    let facts = Facts::collect(directory, args.counting)?;
    let page = picture::page(&facts, args.counting)
        .map_err(|error| Failure::new(format!("cannot make the page: {error}")))?;
    let conclusion = verdict::conclusion(directory, args.counting, &facts.verification);
    let conclusion = format!("{}: {conclusion}", directory.display());
    match target {
        Some((path, target)) => {
            target.write(page.as_bytes())?;
            print(&format!(
                "{conclusion}\nthe page is in {}\n",
                path.display()
            ))?;
        }
        None => {
            print(&page)?;
            note(conclusion);
        }
    }
    Ok(Outcome::Fine)
}

/// What programs rely on: keys may be added, not renamed.
#[derive(Debug, Serialize)]
struct Report<'a> {
    directory: &'a str,
    locked: bool,
    lock_holder_pid: Option<u32>,
    ledger: Ledger<'a>,
    files: Vec<File>,
    unread: Unread,
    oldest_unread_age_seconds: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Ledger<'a> {
    status: &'static str,
    damage: Option<&'a str>,
    writer_next_record_id: Option<u64>,
    writer_file_id: Option<u16>,
    reader_file_id: Option<u16>,
    reader_last_record_id: Option<u64>,
}

#[derive(Debug, Serialize)]
struct File {
    file_id: u16,
    bytes: u64,
    first_record_id: Option<u64>,
    stale: bool,
}

#[derive(Debug, Serialize)]
struct Unread {
    records: Option<u64>,
    events: u64,
    bytes: u64,
}

fn json(inspection: &Inspection, quick: bool) -> String {
    let ledger = &inspection.ledger;
    let report = Report {
        directory: &inspection.directory.to_string_lossy(),
        locked: inspection.locked,
        lock_holder_pid: inspection.lock_holder_pid,
        ledger: Ledger {
            status: ledger.status.as_str(),
            damage: ledger.damage.as_deref(),
            writer_next_record_id: ledger.writer_next_record_id,
            writer_file_id: ledger.writer_file_id,
            reader_file_id: ledger.reader_file_id,
            reader_last_record_id: ledger.reader_last_record_id,
        },
        files: inspection
            .files
            .iter()
            .map(|file| File {
                file_id: file.file_id,
                bytes: file.bytes,
                first_record_id: file.first_record_id,
                stale: file.is_stale,
            })
            .collect(),
        unread: Unread {
            records: (!quick).then_some(inspection.unread.records),
            events: inspection.unread.events,
            bytes: inspection.unread.bytes,
        },
        oldest_unread_age_seconds: inspection.oldest_unread_age_seconds,
    };
    crate::output::json(&report)
}

fn text(inspection: &Inspection, quick: bool) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<9}{value}");
    };
    line("buffer", &inspection.directory.to_string_lossy());
    line("state", &state(inspection));
    line("unread", &unread(inspection, quick));
    let (first, more) = ledger(inspection);
    line("ledger", &first);
    if let Some(more) = more {
        line("", &more);
    }
    let total = inspection.files.iter().map(|file| file.bytes).sum();
    let files = inspection.files.len() as u64;
    line(
        "files",
        &format!("{}, {}", count(files, "data file"), bytes(total)),
    );
    for file in inspection.files.iter().take(FILES_MAX) {
        let name = file_name(file.file_id);
        let first = match file.first_record_id {
            _ if file.is_stale => "repeats others".to_owned(),
            Some(id) => format!("from record {id}"),
            None => String::new(),
        };
        let size = bytes(file.bytes);
        line("", format!("{name:<22} {size:>12}  {first}").trim_end());
    }
    if let Some(hidden) = inspection.files.len().checked_sub(FILES_MAX + 1) {
        line("", &format!("and {} more (--json lists all)", hidden + 1));
    }
    text
}

fn state(inspection: &Inspection) -> String {
    match (inspection.locked, inspection.lock_holder_pid) {
        (true, Some(pid)) => format!("open in process {pid}"),
        (true, None) => "open in another process".to_owned(),
        (false, _) => "not open".to_owned(),
    }
}

fn unread(inspection: &Inspection, quick: bool) -> String {
    let unread = &inspection.unread;
    if unread.events == 0 {
        return "nothing".to_owned();
    }
    let mut text = String::new();
    if !quick {
        text = format!("{} with ", count(unread.records, "record"));
    }
    text.push_str(&count(unread.events, "event"));
    text.push_str(&format!(", {}", bytes(unread.bytes)));
    if let Some(age) = inspection.oldest_unread_age_seconds {
        let age = Duration::try_from_secs_f64(age.floor()).unwrap_or_default();
        match age.is_zero() {
            true => text.push_str("; the oldest for less than a second"),
            false => text.push_str(&format!(
                "; the oldest for {}",
                humantime::format_duration(age)
            )),
        }
    }
    text
}

fn ledger(inspection: &Inspection) -> (String, Option<String>) {
    let ledger = &inspection.ledger;
    let rebuilt = "opening the buffer rebuilds it from the data files".to_owned();
    let first = match ledger.status {
        LedgerCondition::Missing => return ("missing".to_owned(), Some(rebuilt)),
        LedgerCondition::Damaged => {
            let why = ledger.damage.as_deref().unwrap_or("damaged");
            return (format!("damaged: {why}"), Some(rebuilt));
        }
        _ => "ok".to_owned(),
    };
    let number = |value: Option<u64>| value.map_or_else(|| "?".to_owned(), |n| n.to_string());
    let more = format!(
        "next record {}, acknowledged up to {}, writing file {}, reading file {}",
        number(ledger.writer_next_record_id),
        number(ledger.reader_last_record_id),
        number(ledger.writer_file_id.map(u64::from)),
        number(ledger.reader_file_id.map(u64::from)),
    );
    (first, Some(more))
}
