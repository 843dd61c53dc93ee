//! `forebay import`: a buffer of what `forebay export` wrote.
//!
//! Invariant: the buffer is there as a whole or not at all, and importing again after a kill
//! has the same result.

use crate::args::file;
use crate::args::sizes::Size;
use crate::failure::{Failure, Outcome, Result};
use crate::io::archive::{Feed, Header, Next, Reader};
use crate::io::standard::{Stream, require};
use crate::output::live::{Flow, Live, Progress};
use crate::output::{self, count, note, print};
use crate::stop::Stop;
use clap::ValueHint;
use forebay::{ErrorKind, Import, ImportOptions, Imported};
use serde::Serialize;
use std::ops::Range;
use std::path::PathBuf;

/// At most this many missing ranges of ids are listed, except with `--json`.
const RANGES_MAX: usize = 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay import spool --input spool.ndjson
      the buffer that was exported, in a new directory
  ssh other forebay export spool --format binary | forebay import spool
      from another machine

Reads either format of `forebay export`. Each record gets the id, the metadata
and the place that it had; ids that are missing stay so, and `verify` knows that
they were reported. What was acknowledged is so again. DIR is new, empty, or a
buffer without unread events that has not given out these ids.

Nothing is there before everything is read, checked and synced. When this command
is killed, or the power cut, import again: if the buffer is there by then, and is
the same, that is a success.

The exit status is
  0        when the buffer is there
  2        on errors; no record was added
  128 + n  after signal n (SIGINT, SIGTERM or SIGHUP); no record was added")]
pub(crate) struct Args {
    /// The directory of the new buffer
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: PathBuf,

    /// The file to read; `-` is standard input [default: -]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    input: Option<PathBuf>,

    /// The most one data file may hold [default: 128MiB]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    data_file_size: Option<Size>,

    /// Print one JSON object about what was imported
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let input = file(&args.input);
    if input.is_none() {
        require(Stream::Input)?;
    }
    require(Stream::Output)?;
    let stop = Stop::on_signals().map_err(|error| Failure::io("catch signals", &error))?;
    let feed = match input {
        None => Feed::standard(stop.clone()),
        Some(path) => Feed::file(path, stop.clone())?,
    };
    let stopped = || {
        note("stopped; nothing was imported");
        Ok(Outcome::Stopped(stop.signal().unwrap_or_default()))
    };
    let (header, reader) = match Reader::open(feed)? {
        Next::Item(opened) => opened,
        Next::Stopped | Next::End => return stopped(),
    };
    if header.decoded {
        return Err(Failure::new(
            "the export was made with --decode, which leaves the payloads out; nothing was \
             imported: export without --decode",
        ));
    }
    let mut options = ImportOptions::new();
    if let Some(Size(bytes)) = args.data_file_size {
        options = options.data_file_size(bytes);
    }
    let mut import = options
        .begin(&args.directory, header.acknowledged_id)
        .map_err(refused)?;
    let Some(unchecked) = push_all(&mut import, reader)? else {
        return stopped();
    };
    let imported = import.finish(header.next_record_id).map_err(refused)?;
    print(&match args.json {
        true => json(&header, &imported, unchecked) + "\n",
        false => text(args, &header, &imported, unchecked),
    })?;
    Ok(Outcome::Fine)
}

/// An error of the library; its parameters are not options here.
fn refused(error: forebay::Error) -> Failure {
    match error.kind() {
        ErrorKind::InvalidConfig => Failure::new(format!("{error:#}")),
        _ => Failure::from(error),
    }
}

/// A record that cannot be added: where it is in the export, and what to do.
fn wrong_record(error: &forebay::Error, place: &str, is_out_of_order: bool) -> Failure {
    let failure = Failure::new(format!("{place}: {error:#}; nothing was imported"));
    match is_out_of_order {
        true => failure.but("put the records in the order of their ids, or export again"),
        false => failure,
    }
}

/// Adds all records of an export, and says how many came without a checksum; `None` if the stop was
/// set.
fn push_all(import: &mut Import, mut reader: Reader) -> Result<Option<u64>> {
    let progress = Progress::over_bytes();
    let mut live = Live::new(
        reader.progress().1.is_some(),
        Flow {
            came: Some(0),
            ..Flow::default()
        },
    );
    let (mut records, mut shown) = (0_u64, 0);
    let mut last_id = 0;
    loop {
        match reader.next()? {
            Next::Item(entry) => {
                let (id, events) = (entry.id, entry.events);
                let pushed = import.push(id, entry.metadata, events, entry.payload);
                pushed.map_err(|error| match error.kind() {
                    ErrorKind::InvalidRecord => {
                        wrong_record(&error, &reader.place(), id <= last_id)
                    }
                    _ => refused(error),
                })?;
                last_id = id;
            }
            Next::End => break,
            Next::Stopped => return Ok(None),
        }
        records += 1;
        match reader.progress() {
            (done, Some(total)) if done - shown >= 1 << 20 => {
                shown = done;
                progress.bytes(done, total);
            }
            (_, Some(_)) => {}
            (_, None) => live.show(|| Flow {
                came: Some(records),
                ..Flow::default()
            }),
        }
    }
    progress.clear();
    live.clear();
    Ok(Some(reader.unchecked()))
}

/// What programs rely on: keys may be added, not renamed.
#[derive(Debug, Serialize)]
struct Report {
    records: u64,
    events: u64,
    acknowledged_id: u64,
    next_record_id: u64,
    missing: Vec<Missing>,
    unchecked: u64,
    was_there: bool,
}

#[derive(Debug, Serialize)]
struct Missing {
    first_id: u64,
    last_id: u64,
}

fn json(header: &Header, imported: &Imported, unchecked: u64) -> String {
    output::json(&Report {
        records: imported.records,
        events: imported.events,
        acknowledged_id: header.acknowledged_id,
        next_record_id: header.next_record_id,
        missing: imported
            .missing
            .iter()
            .map(|ids| Missing {
                first_id: ids.start,
                last_id: ids.end - 1,
            })
            .collect(),
        unchecked,
        was_there: imported.was_there,
    })
}

fn text(args: &Args, header: &Header, imported: &Imported, unchecked: u64) -> String {
    let what = match imported.was_there {
        true => "was there already, with the same records:",
        false => "holds",
    };
    let unchecked = match unchecked {
        0 => String::new(),
        _ => format!(
            "; {} without a checksum, as in an edited line",
            count(unchecked, "record")
        ),
    };
    format!(
        "{} {what} {} with {}; the next record gets the id {}{}{unchecked}\n",
        args.directory.display(),
        count(imported.records, "record"),
        count(imported.events, "event"),
        header.next_record_id,
        missing(&imported.missing),
    )
}

/// The missing ids: `; missing are the ids 4 to 9 and 12`.
fn missing(missing: &[Range<u64>]) -> String {
    if missing.is_empty() {
        return String::new();
    }
    let mut ranges: Vec<String> = missing
        .iter()
        .take(RANGES_MAX)
        .map(|ids| match ids.end - ids.start {
            1 => ids.start.to_string(),
            _ => format!("{} to {}", ids.start, ids.end - 1),
        })
        .collect();
    let more = missing.len().saturating_sub(RANGES_MAX) as u64;
    if more > 0 {
        ranges.push(count(more, "more range"));
    }
    format!("; missing, as in the original: {}", ranges.join(", "))
}
