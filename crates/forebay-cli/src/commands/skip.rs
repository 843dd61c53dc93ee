//! `forebay skip`: past records that hold a buffer up, deliberately.
//!
//! Invariant: nothing is skipped that was not named, and nothing is discarded without `--discard`
//! and a yes.

use crate::args::counting::ReadCountingOptions;
use crate::args::sizes::{Size, Time, number};
use crate::buffer::letters::{self, Failed};
use crate::buffer::losses::Losses;
use crate::buffer::opening::{finish_interrupted, require_buffer, unread_bytes};
use crate::buffer::steps;
use crate::buffer::transfer_progress::TransferProgress;
use crate::failure::{Failure, Outcome, Result};
use crate::io::standard::{Stream, require};
use crate::output::{self, bytes, count, note, print};
use crate::stop::Stop;
use clap::ValueHint;
use forebay::format::file_id::file_name;
use forebay::format::record::frame_len;
use forebay::{ErrorKind, EventCounter, InspectOptions, RecordsOptions, Transfer, TransferOptions};
use serde::Serialize;
use std::cell::RefCell;
use std::io::{IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Progress of the search is shown after each of so many records.
const SEARCH_SHOWN_EVERY: u64 = 4096;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay skip spool --id 4711 --to spool.dead
      sets record 4711 aside, if it is the next one
  forebay skip spool --max 100 --discard
      throws the next 100 records away, after a question
  forebay skip spool --older-than 3d --to spool.dead

Records are skipped from the next unread one on: a buffer remembers only up to
where everything was acknowledged. With --to they go to a buffer of dead letters,
each in an envelope that says where it comes from and why; `forebay redrive` sends
them again. They are acknowledged only after they are synced there, and a kill or a
power cut loses none of them.

Records carry no time. --older-than goes by the data files, of up to 128 MiB:
a file is skipped when it was last written to before that time.

The buffer must not be open in another process, Forebay's or Vector's.

The exit status is
  0        when the records were skipped
  1        when records were lost before them, which was reported
  2        on errors, and when the answer was no
  128 + n  after signal n; what was skipped so far is")]
pub(crate) struct Args {
    /// The buffer's directory
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: PathBuf,

    #[command(flatten)]
    which: Which,

    #[command(flatten)]
    whereto: Whereto,

    #[command(flatten)]
    counting: ReadCountingOptions,

    /// Why, as it is noted in the dead letters
    #[arg(long, value_name = "TEXT", conflicts_with = "discard")]
    reason: Option<String>,

    /// The most that the dead letters may occupy on disk [default: no limit]
    #[arg(long, value_name = "SIZE", conflicts_with = "discard")]
    dead_letters_max_size: Option<Size>,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Skip the next record, if this is its id
    #[arg(long, value_name = "ID", value_parser = number)]
    id: Option<u64>,

    /// Skip so many records
    #[arg(long, value_name = "N", value_parser = number)]
    max: Option<u64>,

    /// Skip the records with ids below this one
    #[arg(long, value_name = "ID", value_parser = number)]
    before: Option<u64>,

    /// Skip the data files that were last written to so long ago
    #[arg(long, value_name = "DURATION")]
    older_than: Option<Time>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Whereto {
    /// Put them into the buffer of dead letters here
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    to: Option<PathBuf>,

    /// Throw them away
    #[arg(long)]
    discard: bool,
}

/// The records to skip.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Selected {
    records: u64,
    bytes: u64,
    first_id: u64,
    /// The id of the last one.
    last_id: u64,
    /// The id after all events, if all of them are to be skipped.
    end_id: Option<u64>,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    require(Stream::Output)?;
    let directory = &args.directory;
    require_buffer(directory)?;
    if let Some(to) = &args.whereto.to {
        letters::require_place(to)?;
    }
    let counter = steps::counter(args.counting, directory)?;
    finish_interrupted(directory)?;
    let search = TransferProgress::over(unread_bytes(directory));
    let selected = select(args, &counter, &search);
    search.clear();
    let selected = selected?;
    if selected.records > 0 && !args.yes {
        confirm(args, &selected)?;
    }
    let stop = Stop::on_signals().map_err(|error| Failure::io("catch signals", &error))?;
    let frames_len = selected.records.saturating_mul(frame_len(0) as u64);
    let progress = TransferProgress::over(selected.bytes.saturating_add(frames_len));
    let losses = RefCell::new(Losses::before_opening(directory));
    let mut options = TransferOptions::new()
        .event_counter(counter)
        .on_lost(|lost| {
            let lost = std::slice::from_ref(lost);
            losses.borrow_mut().note(lost, &|text| progress.note(text));
        })
        .max_records(match selected.end_id {
            Some(_) => u64::MAX,
            None => selected.records,
        })
        .before(match selected.end_id {
            Some(end_id) => end_id,
            None => selected.last_id.saturating_add(1),
        })
        .on_progress(|transfer| {
            progress.show(transfer);
            match stop.is_set() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
    let transfer = match &args.whereto.to {
        None => options.discard_records(directory).map_err(Failure::from),
        Some(to) => {
            if let Some(Size(bytes)) = args.dead_letters_max_size {
                options = options.max_size(bytes);
            }
            let reason = args.reason.as_deref().unwrap_or("skipped");
            let options = options.event_counter_of_target(EventCounter::one()).change(
                |id, metadata, payload| {
                    let record = (id, metadata, &payload[..]);
                    let letter = letters::letter(record, Failed::default(), Some(reason));
                    Ok((0, letter.into()))
                },
            );
            let moved = options.move_records(directory, to);
            moved.map_err(|error| match error.kind() {
                ErrorKind::Full => {
                    Failure::new(format!("{error:#}")).but("see --dead-letters-max-size")
                }
                ErrorKind::InvalidConfig => Failure::new(format!("{error:#}")),
                _ => Failure::from(error),
            })
        }
    };
    progress.clear();
    losses.into_inner().report(&|text| note(text));
    let transfer = transfer?;
    print(&match args.json {
        true => json(args, &transfer) + "\n",
        false => text(args, &transfer),
    })?;
    let outcome = stop.signal().map_or(Outcome::Fine, Outcome::Stopped);
    Ok(outcome.with_findings(transfer.events_lost > 0))
}

/// The records that the options name.
fn select(args: &Args, counter: &EventCounter, progress: &TransferProgress) -> Result<Selected> {
    let directory = &args.directory;
    let (mut max, mut before) = (args.which.max.unwrap_or(u64::MAX), u64::MAX);
    if args.which.id.is_some() {
        max = 1;
    }
    if let Some(id) = args.which.before {
        before = id;
    }
    if let Some(Time(age)) = args.which.older_than {
        let since = SystemTime::now().checked_sub(age);
        before = since.map_or(Ok(0), |since| first_id_since(directory, since))?;
    }
    let options = RecordsOptions::new().event_counter(counter.clone());
    let end_id = InspectOptions::new()
        .event_counter(counter.clone())
        .count_records(false)
        .inspect(directory)?
        .next_record_id;
    let mut selected = Selected::default();
    let mut records = options.records(directory)?;
    loop {
        let Some(record) = records.next().transpose()? else {
            // What is lost after the last record would be unread for ever.
            let is_all = args.which.id.is_none() && before >= end_id;
            selected.end_id = is_all.then_some(end_id);
            break;
        };
        if let Some(id) = args.which.id
            && record.id != id
        {
            return Err(is_not_next(directory, id, record.id));
        }
        if selected.records >= max || record.id >= before {
            break;
        }
        if selected.records == 0 {
            selected.first_id = record.id;
        }
        selected.records += 1;
        selected.bytes += record.payload.len() as u64;
        selected.last_id = record.id;
        if selected.records.is_multiple_of(SEARCH_SHOWN_EVERY) {
            progress.show_records(selected.records, selected.bytes);
        }
        if selected.records == max {
            break;
        }
    }
    match args.which.id {
        Some(id) if selected.records == 0 => Err(Failure::new(format!(
            "record {id} is not unread: {} is empty; nothing was skipped",
            directory.display()
        ))),
        _ => Ok(selected),
    }
}

fn is_not_next(directory: &Path, id: u64, next: u64) -> Failure {
    let directory = directory.display();
    let why = match id < next {
        true => {
            format!("it was acknowledged, or is lost: the next record of {directory} is {next}")
        }
        false => format!(
            "records before it are unread, from {next} on; skip all of them with --before {}, or \
             take them out first",
            id.saturating_add(1)
        ),
    };
    Failure::new(format!("record {id} cannot be skipped: {why}"))
}

/// The id of the first record of the first data file that was written to since then, or the next
/// id if there is none.
fn first_id_since(directory: &Path, since: SystemTime) -> Result<u64> {
    let inspection = InspectOptions::new()
        .count_records(false)
        .inspect(directory)?;
    for file in inspection.files.iter().filter(|file| !file.is_stale) {
        let path = directory.join(file_name(file.file_id));
        let modified = path.metadata().and_then(|metadata| metadata.modified());
        let modified = modified
            .map_err(|error| Failure::io(&format!("look at {}", path.display()), &error))?;
        if modified >= since {
            return file.first_record_id.ok_or_else(|| {
                Failure::new(format!(
                    "the ids of {} are not known, so nothing tells which records are older; use \
                     --before, or `forebay repair` first",
                    path.display()
                ))
            });
        }
    }
    Ok(u64::MAX)
}

/// Asks before anything is skipped.
fn confirm(args: &Args, selected: &Selected) -> Result<()> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::new(format!(
            "{} would be skipped; nothing was changed; without a terminal to ask on, say --yes",
            named(selected)
        )));
    }
    let what = match &args.whereto.to {
        Some(to) => format!("set aside in {}", to.display()),
        None => "thrown away".to_owned(),
    };
    let are = if selected.records == 1 { "is" } else { "are" };
    let ask = |error: &std::io::Error| Failure::io("ask", error);
    let mut terminal = std::io::stderr();
    // The question is short, so that a terminal of 80 columns does not break it.
    write!(
        terminal,
        "{} of {} {are} {what}.\nGo on? [y/N] ",
        named(selected),
        args.directory.display()
    )
    .and_then(|()| terminal.flush())
    .map_err(|error| ask(&error))?;
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|error| ask(&error))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new("nothing was skipped")),
    }
}

/// The records in words.
fn named(selected: &Selected) -> String {
    let ids = match selected.records {
        1 => format!("id {}", selected.first_id),
        _ => format!("ids {} to {}", selected.first_id, selected.last_id),
    };
    format!(
        "{} ({ids}, {})",
        count(selected.records, "record"),
        bytes(selected.bytes)
    )
}

/// What programs rely on: keys may be added, not renamed.
#[derive(Debug, Serialize)]
struct Report<'a> {
    records: u64,
    events: u64,
    bytes: u64,
    to: Option<&'a Path>,
    events_lost: u64,
}

fn json(args: &Args, transfer: &Transfer) -> String {
    output::json(&Report {
        records: transfer.records,
        events: transfer.events,
        bytes: transfer.bytes,
        to: args.whereto.to.as_deref(),
        events_lost: transfer.events_lost,
    })
}

fn text(args: &Args, transfer: &Transfer) -> String {
    let directory = args.directory.display();
    let did = match &args.whereto.to {
        Some(to) => format!("set aside in {}", to.display()),
        None => "thrown away".to_owned(),
    };
    let mut text = format!(
        "{} with {} ({}) of {directory} {did}\n",
        count(transfer.records, "record"),
        count(transfer.events, "event"),
        bytes(transfer.bytes),
    );
    if args.which.older_than.is_some() {
        text += "this goes by the times of the data files: records carry no time\n";
    }
    if transfer.events_lost > 0 {
        text += &format!(
            "{} among them or before them\n",
            count(transfer.events_lost, "lost event")
        );
    }
    if transfer.is_complete {
        text += &format!("{directory} is empty\n");
    }
    text
}
