//! `forebay move`, `copy` and `redrive`: records from one buffer to another.
//!
//! Invariant: what is reported as taken is synced in the other buffer.

use crate::args::counting::ReadCountingOptions;
use crate::args::sizes::{Size, number};
use crate::buffer::losses::Losses;
use crate::buffer::metadata::{metadata_of_vector, refuse_for_vector};
use crate::buffer::opening::{require_buffer, unread_bytes};
use crate::buffer::pace::{Pace, Rate};
use crate::buffer::transfer_progress::TransferProgress;
use crate::buffer::{letters, steps};
use crate::failure::{Failure, Outcome, Result};
use crate::io::standard::{Stream, require};
use crate::output::{self, bytes, count, note, print};
use crate::stop::Stop;
use clap::ValueHint;
use forebay::{ErrorKind, EventCounter, Transfer, TransferOptions};
use serde::Serialize;
use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// How a transfer deals with the buffer that records come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Move,
    Copy,
    Redrive,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay move old spool
      appends what is unread in old to spool, and empties old
  forebay move spool /mnt/other/spool --rate 20MiB/s
      moves a buffer to another disk, without using all of it
  forebay move spool part --max 100000
      splits a buffer

A record is acknowledged in FROM only after it is synced in TO. TO remembers what
it was given: when this command is killed, or the power cut, begin again, and
nothing is lost and nothing comes twice. Records get new ids in TO, after those
that are there; metadata and order stay.

Neither buffer may be open in another process, Forebay's or Vector's. A buffer of
Vector's takes only records with its metadata: it would not open with others.

The exit status is
  0        when the records were moved
  1        when records of FROM are lost, which was reported
  2        on errors
  128 + n  after signal n; what was taken so far is moved")]
pub(crate) struct MoveArgs {
    #[command(flatten)]
    counting: ReadCountingOptions,

    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay copy spool /backup/spool
      copies what is unread, also while another process has spool open
  forebay copy spool sample --max 1000

TO remembers what it was given: a second copy takes only what came since, and
after a kill or a power cut the copy goes on where it was. Records get new ids in
TO, after those that are there; metadata and order stay. FROM is not changed, but
for a small file, `identity`, that says which buffer it is.

TO must not be open in another process.

The exit status is
  0        when the records were copied
  1        when records of FROM are lost, which was reported
  2        on errors
  128 + n  after signal n; what was taken so far is copied")]
pub(crate) struct CopyArgs {
    #[command(flatten)]
    counting: ReadCountingOptions,

    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay redrive spool.dead spool
      sends all dead letters back to where they came from
  forebay redrive spool.dead spool --max 1

Moves records out of a buffer of dead letters, which `pipe --dead-letters` and
`skip --to` fill, to the end of TO. Each leaves its envelope, so TO gets what the
record was before, with its metadata, and `pipe` tries it as often as a new one.
A record that is no dead letter ends the command; it and those after it stay.

The exit status is
  0        when the records were moved
  1        when records of FROM are lost, which was reported
  2        on errors
  128 + n  after signal n; what was taken so far is moved")]
pub(crate) struct RedriveArgs {
    #[command(flatten)]
    counting: crate::args::counting::CountingOptions,

    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// The directory of the buffer that records come from
    #[arg(value_name = "FROM", value_hint = ValueHint::DirPath)]
    from: PathBuf,

    /// The directory of the buffer that they go to; it is made if it is missing
    #[arg(value_name = "TO", value_hint = ValueHint::DirPath)]
    to: PathBuf,

    /// Take at most this many records
    #[arg(long, value_name = "N", value_parser = number)]
    max: Option<u64>,

    /// Take only records with ids below this one
    #[arg(long, value_name = "ID", value_parser = number)]
    before: Option<u64>,

    /// Take at most so many bytes of payload per second, such as 5MiB/s
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,

    /// The most that TO may occupy on disk; then the command ends with an error
    /// [default: no limit]
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Size>,

    /// The most one data file of TO may hold; so much is synced and acknowledged at
    /// a time [default: 128MiB]
    #[arg(long, value_name = "SIZE")]
    data_file_size: Option<Size>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run_move(args: &MoveArgs) -> Result<Outcome> {
    let counter = steps::counter(args.counting, &args.common.from);
    run(
        Kind::Move,
        &args.common,
        counter,
        args.counting.counter_to_write(),
    )
}

pub(crate) fn run_copy(args: &CopyArgs) -> Result<Outcome> {
    let counter = steps::counter(args.counting, &args.common.from);
    run(
        Kind::Copy,
        &args.common,
        counter,
        args.counting.counter_to_write(),
    )
}

pub(crate) fn run_redrive(args: &RedriveArgs) -> Result<Outcome> {
    let of_target = args.counting.counter();
    let counter = Ok(EventCounter::one());
    run(Kind::Redrive, &args.common, counter, of_target)
}

fn run(
    kind: Kind,
    args: &Common,
    counter: Result<EventCounter>,
    of_target: EventCounter,
) -> Result<Outcome> {
    require(Stream::Output)?;
    require_buffer(&args.from)?;
    let stop = Stop::on_signals().map_err(|error| Failure::io("catch signals", &error))?;
    let counter = counter?;
    let progress = TransferProgress::over(unread_bytes(&args.from));
    let (pace, mut paced) = (Pace::new(args.rate), 0);
    let of_vector = metadata_of_vector(&args.to);
    let options = TransferOptions::new()
        .event_counter(counter)
        .event_counter_of_target(of_target)
        .max_records(args.max.unwrap_or(u64::MAX))
        .before(args.before.unwrap_or(u64::MAX))
        .change(|_, metadata, payload| {
            let (metadata, payload) = match kind {
                Kind::Move | Kind::Copy => (metadata, payload.clone()),
                Kind::Redrive => {
                    let (metadata, payload) = letters::open(payload)?;
                    (metadata, payload.into())
                }
            };
            refuse_for_vector(of_vector, metadata, &args.to)?;
            Ok((metadata, payload))
        });
    let losses = RefCell::new(Losses::before_opening(&args.from));
    let options = options.on_lost(|lost| {
        let lost = std::slice::from_ref(lost);
        losses.borrow_mut().note(lost, &|text| progress.note(text));
    });
    let mut options = options.on_progress(|transfer| {
        progress.show(transfer);
        pace.take_and_wait(transfer.bytes - paced, &stop);
        paced = transfer.bytes;
        match stop.is_set() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    if let Some(Size(bytes)) = args.max_size {
        options = options.max_size(bytes);
    }
    if let Some(Size(bytes)) = args.data_file_size {
        options = options.data_file_size(bytes);
    }
    let transfer = match kind {
        Kind::Copy => options.copy_records(&args.from, &args.to),
        Kind::Move | Kind::Redrive => options.move_records(&args.from, &args.to),
    };
    progress.clear();
    losses.into_inner().report(&|text| note(text));
    let transfer = transfer.map_err(|error| match error.kind() {
        ErrorKind::InvalidConfig => Failure::new(format!("{error:#}")),
        _ => Failure::from(error),
    })?;
    print(&match args.json {
        true => json(&transfer) + "\n",
        false => text(kind, args, &transfer),
    })?;
    let outcome = stop.signal().map_or(Outcome::Fine, Outcome::Stopped);
    Ok(outcome.with_findings(transfer.events_lost > 0))
}

/// What programs rely on: keys may be added, not renamed.
#[derive(Debug, Serialize)]
struct Report {
    records: u64,
    events: u64,
    bytes: u64,
    taken_before: u64,
    events_lost: u64,
    complete: bool,
}

fn json(transfer: &Transfer) -> String {
    output::json(&Report {
        records: transfer.records,
        events: transfer.events,
        bytes: transfer.bytes,
        taken_before: transfer.taken_before,
        events_lost: transfer.events_lost,
        complete: transfer.is_complete,
    })
}

fn text(kind: Kind, args: &Common, transfer: &Transfer) -> String {
    let (from, to) = (args.from.display(), args.to.display());
    let did = match kind {
        Kind::Move | Kind::Redrive => "moved",
        Kind::Copy => "copied",
    };
    let mut text = format!(
        "{did} {} with {} ({}) from {from} to {to}\n",
        count(transfer.records, "record"),
        count(transfer.events, "event"),
        bytes(transfer.bytes),
    );
    if transfer.taken_before > 0 {
        text += &format!(
            "{} had been taken before\n",
            count(transfer.taken_before, "record")
        );
    }
    if transfer.events_lost > 0 {
        let lost = count(transfer.events_lost, "lost event");
        text += &match kind {
            Kind::Copy => {
                format!("{lost} of {from} could not be read; `forebay verify {from}` says more\n")
            }
            Kind::Move | Kind::Redrive => format!("{lost} of {from} could not be read\n"),
        };
    }
    text += &match (transfer.is_complete, kind) {
        (true, Kind::Copy) => format!("{to} has everything that was unread in {from}\n"),
        (true, _) => format!("{from} is empty\n"),
        (false, _) => format!("{from} may have more\n"),
    };
    text
}
