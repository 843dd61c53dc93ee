//! `forebay salvage`: a new buffer of everything that checks out in what is left of others.
//!
//! Invariant: the sources are only read.

use crate::args::counting::CountingOptions;
use crate::args::sizes::Size;
use crate::buffer::findings::{self, JsonIds};
use crate::failure::{Failure, Outcome, Result};
use crate::io::standard::{Stream, require};
use crate::output::live::Progress;
use crate::output::{self, bytes, count, print};
use clap::ValueHint;
use forebay::{ErrorKind, Salvage, SalvageOptions};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// At most this many files and conflicts are listed, except with `--json`.
const ROWS_MAX: usize = 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay salvage /mnt/dead-disk/spool
      what checks out there, and what does not; writes nothing
  forebay salvage /mnt/dead-disk/spool --to spool
  forebay salvage buffer-data-3.dat spool/quarantine --to rest

A SOURCE is the directory of a buffer in any state (its data files and its
quarantine), a directory with pieces, or a single file. Sources are only read, so a
disk that is mounted read-only will do. A buffer that is open elsewhere is refused;
so is one in which a repair or a move was interrupted: `forebay mend` finishes it, or
give its data files and the directories in its repair/ as sources of their own.

Every record whose checksum holds goes to the new buffer: in the order of the ids,
each once, with its id and its metadata. Records inside a damaged part are searched
for as well. What a ledger says is acknowledged is left out. A kill or a power cut
leaves no new buffer, or all of it.

Two records may have the same id and different contents: ids were given out again
after a power cut, or the sources are different buffers. Then --renumber keeps both
under new ids. To put different buffers together, `forebay move` is the better way.

The exit status is
  0        when everything in the sources checked out
  1        when something did not, or ids are missing, or records repeat others
  2        on errors
  128 + n  after signal n, which ends the command at once; there is no new buffer,
           or all of it, and the command can be given again")]
pub(crate) struct Args {
    /// Where to look: directories of buffers, and single files
    #[arg(value_name = "SOURCE", value_hint = ValueHint::AnyPath, required = true)]
    sources: Vec<PathBuf>,

    /// The new buffer's directory, missing or empty; without it nothing is written
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    to: Option<PathBuf>,

    #[command(flatten)]
    counting: CountingOptions,

    /// Take records as well that a ledger says are acknowledged
    #[arg(long)]
    acknowledged: bool,

    /// Give all records new ids, without gaps
    #[arg(long)]
    renumber: bool,

    /// The most one data file of the new buffer may hold [default: 128MiB]
    #[arg(long, value_name = "SIZE")]
    data_file_size: Option<Size>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    require(Stream::Output)?;
    let progress = Progress::over_bytes();
    let mut options = SalvageOptions::new()
        .event_counter(args.counting.counter())
        .acknowledged(args.acknowledged)
        .renumber(args.renumber)
        .on_progress(|done, total| progress.bytes(done, total));
    if let Some(Size(bytes)) = args.data_file_size {
        options = options.data_file_size(bytes);
    }
    let salvage = match &args.to {
        Some(to) => options.salvage(&args.sources, to),
        None => options.plan(&args.sources),
    };
    progress.clear();
    let salvage = salvage.map_err(|error| match error.kind() {
        ErrorKind::InvalidRecord if !args.renumber => Failure::from(error).but("see --renumber"),
        ErrorKind::InvalidConfig => Failure::new(format!("{error:#}")),
        _ => Failure::from(error),
    })?;
    print(&match args.json {
        true => json(args, &salvage) + "\n",
        false => text(args, &salvage),
    })?;
    let damaged = salvage.files.iter().any(|file| file.damaged_bytes > 0);
    let has_findings = damaged
        || salvage.repeated > 0
        || salvage.conflicts > 0
        || (!args.renumber && !salvage.missing.is_empty());
    Ok(Outcome::Fine.with_findings(has_findings))
}

/// What programs rely on: keys may be added, not renamed.
#[derive(Debug, Serialize)]
struct Report<'a> {
    to: Option<&'a Path>,
    was_there: bool,
    records: u64,
    events: u64,
    bytes: u64,
    repeated: u64,
    conflicts: u64,
    conflicts_listed: Vec<Conflict<'a>>,
    missing: Vec<JsonIds>,
    files: Vec<File<'a>>,
}

#[derive(Debug, Serialize)]
struct Conflict<'a> {
    id: u64,
    file: &'a Path,
    offset: u64,
    other_file: &'a Path,
    other_offset: u64,
}

#[derive(Debug, Serialize)]
struct File<'a> {
    path: &'a Path,
    bytes: u64,
    records: u64,
    acknowledged: u64,
    damaged_bytes: u64,
}

fn json(args: &Args, salvage: &Salvage) -> String {
    let conflicts = salvage.conflicts_listed.iter();
    let files = salvage.files.iter();
    output::json(&Report {
        to: args.to.as_deref(),
        was_there: salvage.was_there,
        records: salvage.records,
        events: salvage.events,
        bytes: salvage.bytes,
        repeated: salvage.repeated,
        conflicts: salvage.conflicts,
        conflicts_listed: conflicts
            .map(|conflict| {
                let [(file, offset), (other_file, other_offset)] = &conflict.places;
                Conflict {
                    id: conflict.id,
                    file,
                    offset: *offset,
                    other_file,
                    other_offset: *other_offset,
                }
            })
            .collect(),
        missing: salvage.missing.iter().map(JsonIds::of).collect(),
        files: files
            .map(|file| File {
                path: &file.path,
                bytes: file.bytes,
                records: file.records,
                acknowledged: file.acknowledged,
                damaged_bytes: file.damaged_bytes,
            })
            .collect(),
    })
}

fn text(args: &Args, salvage: &Salvage) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    for file in salvage.files.iter().take(ROWS_MAX) {
        let _ = write!(
            text,
            "{}: {}",
            file.path.display(),
            count(file.records, "record")
        );
        if file.acknowledged > 0 {
            let _ = write!(text, ", {} acknowledged and left out", file.acknowledged);
        }
        if file.damaged_bytes > 0 {
            let _ = write!(
                text,
                ", {} of {} are no record",
                bytes(file.damaged_bytes),
                bytes(file.bytes)
            );
        }
        text.push('\n');
    }
    more(&mut text, salvage.files.len(), "more file");
    text.push('\n');
    if salvage.repeated > 0 {
        let _ = writeln!(
            text,
            "left out: {} of records that are there already",
            count(salvage.repeated, "duplicate")
        );
    }
    if salvage.conflicts > 0 {
        let what = match args.renumber {
            true => "all are kept",
            false => "--renumber keeps them all",
        };
        let _ = writeln!(
            text,
            "same id, different contents: {}; {what}",
            count(salvage.conflicts, "record")
        );
        for conflict in salvage.conflicts_listed.iter().take(ROWS_MAX) {
            let [(file, offset), (other, other_offset)] = &conflict.places;
            let _ = writeln!(
                text,
                "  id {} in {} at {offset}, and in {} at {other_offset}",
                conflict.id,
                file.display(),
                other.display()
            );
        }
        let more_than = usize::try_from(salvage.conflicts).unwrap_or(usize::MAX);
        more(&mut text, more_than, "more conflict");
    }
    if !salvage.missing.is_empty() && !args.renumber {
        let missing: u64 = salvage.missing.iter().map(|ids| ids.end - ids.start).sum();
        let _ = writeln!(
            text,
            "missing: {}, {}",
            count(missing, "event"),
            findings::id_ranges(&salvage.missing)
        );
    }
    let found = format!(
        "{} with {} ({})",
        count(salvage.records, "record"),
        count(salvage.events, "event"),
        bytes(salvage.bytes)
    );
    let _ = match &args.to {
        Some(to) if salvage.was_there => {
            writeln!(text, "{} holds them already: {found}", to.display())
        }
        Some(to) => writeln!(text, "salvaged {found} to {}", to.display()),
        None => writeln!(
            text,
            "to salvage: {found}\nnothing was written; --to does it"
        ),
    };
    text
}

fn more(text: &mut String, all: usize, one: &str) {
    let more = all.saturating_sub(ROWS_MAX) as u64;
    if more > 0 {
        let _ = writeln!(text, "and {}", count(more, one));
    }
}
