//! `forebay export`: the records of a buffer, and what is needed to make it again.
//!
//! Invariants: nothing is written to the buffer, and no lock is taken; a file that is named
//! gets its name only once the export is complete and synced.

use crate::args::counting::ReadCountingOptions;
use crate::args::file;
use crate::buffer::losses::stepped_over;
use crate::buffer::steps;
use crate::failure::{Failure, Outcome, Result};
use crate::io::archive::{Entry, Format, Header, Totals, Writer};
use crate::io::replace;
use crate::io::sink::{Sink, Written};
use crate::io::standard::{Stream, require};
use crate::output::live::Progress;
use crate::output::{self, bytes, count, is_watched, note, print};
use crate::stop::Stop;
use crate::vector::{self, Shown};
use clap::{ValueEnum, ValueHint};
use forebay::{Export, ExportOptions};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

/// Bytes collected before they are written.
const WRITE_LEN: usize = 256 << 10;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay export spool --output spool.ndjson
      the unread records as lines of JSON
  forebay export spool --format binary | zstd > spool.zst
      shorter; `zstd -d < spool.zst | forebay import other` makes the same buffer
  forebay export spool --scope all --salvage --output all.ndjson
      also what is acknowledged and still on disk, and what damage hides

An export holds records with their ids, metadata and event counts, and at its end
how many they are, so that `forebay import` notices one that is cut off or
damaged. `import` makes the same buffer of it, ids and gaps included.

Works while another process has the buffer open, and never writes to it.

The exit status is
  0        when everything was exported; a closed pipe is no error
  1        when events are missing from what was to be exported
  2        on errors
  128 + n  after signal n (SIGINT, SIGTERM or SIGHUP); the export is cut off, and
           with --output not there")]
pub(crate) struct Args {
    /// The buffer's directory
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: PathBuf,

    #[command(flatten)]
    counting: ReadCountingOptions,

    /// The file to write; `-` is standard output [default: -]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// How the records are written
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Ndjson)]
    format: Format,

    /// Which records
    #[arg(long, value_name = "SCOPE", value_enum, default_value_t = Scope::Live)]
    scope: Scope,

    /// Also search damaged places, and quarantine/ in the buffer's directory, for
    /// records that check out and are missing otherwise
    #[arg(long)]
    salvage: bool,

    /// Write the events of records that Vector wrote in place of their payloads
    ///
    /// Such an export is for reading; it cannot be imported.
    #[arg(long)]
    decode: bool,

    /// Print one JSON object about what was exported
    #[arg(long, requires = "output")]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scope {
    /// Those that are not acknowledged
    Live,
    /// Also acknowledged ones whose data files are still there
    All,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    if args.decode && args.format == Format::Binary {
        return Err(Failure::new(
            "--decode is for --format ndjson; the binary format holds payloads as they are",
        ));
    }
    let output = file(&args.output);
    if output.is_none() && args.json {
        return Err(Failure::new(
            "--json and the export cannot both go to standard output; give a file to --output",
        ));
    }
    if output.is_none() || args.json {
        require(Stream::Output)?;
    }
    let stop = Stop::on_signals().map_err(|error| Failure::io("catch signals", &error))?;
    let export = ExportOptions::new()
        .event_counter(steps::counter(args.counting, &args.directory)?)
        .all(args.scope == Scope::All)
        .salvage(args.salvage)
        .export(&args.directory)?;
    let mut to = match output {
        None => Target::Standard(Sink::stdout(stop.clone())),
        Some(path) => Target::create(path)?,
    };
    let done = copy(args, export, &mut to, &stop)?;
    if done.written == Written::All {
        to.finish()?;
    }
    report(args, &done)?;
    Ok(match (done.written, stop.signal()) {
        (Written::Stopped, Some(signal)) => Outcome::Stopped(signal),
        _ => Outcome::Fine.with_findings(done.events_lost > 0),
    })
}

/// What became of an export.
struct Done {
    written: Written,
    totals: Totals,
    header: Header,
    undecoded: u64,
    events_lost: u64,
    events_salvaged: u64,
    spans: u64,
    spans_len: u64,
    bytes: u64,
}

fn copy(args: &Args, mut export: Export, to: &mut Target, stop: &Stop) -> Result<Done> {
    // A line of progress would break into what is printed on the same terminal.
    let is_hidden = matches!(to, Target::Standard(_)) && std::io::stdout().is_terminal();
    let progress = (!is_hidden).then(Progress::over_bytes);
    let header = Header {
        all: args.scope == Scope::All,
        salvage: args.salvage,
        decoded: args.decode,
        acknowledged_id: export.acknowledged_id(),
        next_record_id: export.next_record_id(),
    };
    let mut out = Vec::new();
    let mut writer = Writer::new(args.format, &header, &mut out);
    let (mut undecoded, mut total) = (0, 0);
    let mut written = Written::All;
    let shown = Shown::default();
    while let Some(record) = export.next() {
        let record = record?;
        let decoded = match args.decode {
            true => vector::decode_events(record.metadata, &record.payload, &shown),
            false => None,
        };
        undecoded += u64::from(args.decode && decoded.is_none());
        writer.record(&Entry::of(&record), decoded, &mut out);
        if out.len() >= WRITE_LEN {
            total += out.len() as u64;
            written = to.write(&mut out, stop)?;
            if written != Written::All {
                break;
            }
            if let Some(progress) = &progress {
                let (done, total) = export.progress();
                progress.bytes(done, total);
            }
        }
    }
    let mut totals = Totals::default();
    if written == Written::All {
        totals = writer.end(&mut out);
        total += out.len() as u64;
        written = to.write(&mut out, stop)?;
    }
    if let Some(progress) = progress {
        progress.clear();
    }
    Ok(Done {
        written,
        totals,
        header,
        undecoded,
        events_lost: export.lost().events,
        events_salvaged: export.events_salvaged(),
        spans: export.lost().spans,
        spans_len: export.lost().bytes,
        bytes: total,
    })
}

/// What programs rely on: keys may be added, not renamed.
#[derive(Debug, Serialize)]
struct Report<'a> {
    output: Option<&'a Path>,
    complete: bool,
    records: u64,
    events: u64,
    events_salvaged: u64,
    events_lost: u64,
    bytes: u64,
    acknowledged_id: u64,
    next_record_id: u64,
}

fn report(args: &Args, done: &Done) -> Result<()> {
    if done.undecoded > 0 {
        note(format!(
            "{} not decoded: no events of Vector",
            count(done.undecoded, "record")
        ));
    }
    if done.spans > 0 {
        note(stepped_over(done.spans, done.spans_len, done.events_lost));
    } else if done.events_lost > 0 {
        note(format!(
            "{} missing; `forebay verify` tells where",
            count(done.events_lost, "event")
        ));
    }
    if args.json {
        return print(
            &(output::json(&Report {
                output: file(&args.output),
                complete: done.written == Written::All,
                records: done.totals.records,
                events: done.totals.events,
                events_salvaged: done.events_salvaged,
                events_lost: done.events_lost,
                // Of an incomplete export there is no file.
                bytes: match done.written == Written::All || file(&args.output).is_none() {
                    true => done.bytes,
                    false => 0,
                },
                acknowledged_id: done.header.acknowledged_id,
                next_record_id: done.header.next_record_id,
            }) + "\n"),
        );
    }
    if let Some(path) = file(&args.output)
        && done.written == Written::All
        && is_watched()
    {
        let salvaged = match done.events_salvaged {
            0 => String::new(),
            events => format!(", {} of them salvaged", count(events, "event")),
        };
        note(format!(
            "{} with {}{salvaged} exported to {} ({})",
            count(done.totals.records, "record"),
            count(done.totals.events, "event"),
            path.display(),
            bytes(done.bytes)
        ));
    }
    Ok(())
}

/// Where an export goes.
enum Target {
    Standard(Sink),
    File {
        file: File,
        /// The name that it has until it is complete; `None` if it is no regular file.
        partial: Option<PathBuf>,
        path: PathBuf,
    },
}

impl Target {
    fn create(path: &Path) -> Result<Self> {
        let target = replace::Target::new(path)?;
        let (file, partial) = target
            .begin()
            .map_err(|failure| failure.but("give another --output"))?;
        Ok(Self::File {
            file,
            partial,
            path: target.path().to_owned(),
        })
    }

    /// Writes and empties `bytes`.
    fn write(&mut self, bytes: &mut Vec<u8>, stop: &Stop) -> Result<Written> {
        let written = match self {
            Self::Standard(sink) => sink.write(bytes)?,
            Self::File { .. } if stop.is_set() => Written::Stopped,
            Self::File { file, path, .. } => {
                file.write_all(bytes).map_err(|error| {
                    Failure::io(&format!("write to {}", path.display()), &error)
                })?;
                Written::All
            }
        };
        bytes.clear();
        Ok(written)
    }

    /// Gives a complete file its name.
    fn finish(&mut self) -> Result<()> {
        let Self::File {
            file,
            partial,
            path,
        } = self
        else {
            return Ok(());
        };
        let Some(from) = partial.take() else {
            return Ok(());
        };
        let synced = file.sync_all();
        synced
            .and_then(|()| fs::rename(&from, &*path))
            .map_err(|error| {
                // What is there is of no use.
                let _ = fs::remove_file(&from);
                Failure::io(&format!("finish {}", path.display()), &error)
            })
    }
}

/// An incomplete file goes.
impl Drop for Target {
    fn drop(&mut self) {
        if let Self::File {
            partial: Some(partial),
            ..
        } = self
        {
            let _ = fs::remove_file(partial);
        }
    }
}
