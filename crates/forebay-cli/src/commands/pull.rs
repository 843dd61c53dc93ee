//! `forebay pull`: records from a buffer to standard output.
//!
//! Invariants: a record is acknowledged once all of its bytes were handed to the
//! operating system, and not before; whatever ends the command, exactly what was not
//! handed over stays in the buffer. With `--follow`, the buffer is closed while it is empty, so
//! that another process can fill it.

use crate::args::counting::ReadCountingOptions;
use crate::args::sizes::{self, Time};
use crate::args::{BufferOptions, FramingOptions};
use crate::buffer::losses::Losses;
use crate::buffer::opening::{self, require_buffer};
use crate::buffer::patience::patiently;
use crate::buffer::steps;
use crate::buffer::watch::Watch;
use crate::failure::{Failure, Outcome, Result};
use crate::io::framing::Framing;
use crate::io::outgoing::Outgoing;
use crate::io::sink::{FINISH_MAX, Sink, Written};
use crate::io::standard::{Stream, require};
use crate::output::live::{Flow, Live};
use crate::output::{bytes, count, is_watched, note};
use crate::stop::Stop;
use forebay::{Batch, Delivery, Reader, TryRecv, Usage};
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

/// At most this many records and payload bytes are taken from the buffer at a time.
const BATCH_RECORDS: usize = 16 << 10;
const BATCH_BYTES: u64 = 256 << 10;
/// How often an empty buffer is checked for changes, with `--follow`.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);
/// How long this program may take to end after a signal.
const SHUTDOWN_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay pull spool > records.txt
      everything that is in the buffer, which is empty afterwards
  forebay pull spool --max 100 | process
      the next hundred records
  forebay pull spool --no-ack | head
      a look at what comes next, without consuming it (see also `forebay cat`)
  forebay pull spool --framing length > records.bin
      records that may contain newlines, each after its length

A record is acknowledged, and leaves the buffer, once all of it was handed to
the operating system. If the next program of a pipeline dies before it has read
a record from the pipe, that record is lost. `forebay pipe` does not have this
gap.

The exit status is
  0        when everything was delivered; a closed pipe is no error
  1        when records were lost to damage (each loss is reported on standard
           error)
  2        on errors
  128 + n  after signal n (SIGINT, SIGTERM or SIGHUP), before which the record on
           its way is finished; a second signal cuts it, and it stays")]
pub(crate) struct Args {
    #[command(flatten)]
    buffer: BufferOptions<ReadCountingOptions>,

    #[command(flatten)]
    framing: FramingOptions,

    /// End after N records
    #[arg(long, value_name = "N", value_parser = sizes::number, allow_hyphen_values = true,
        help_heading = None::<&str>)]
    max: Option<u64>,

    /// When the buffer is empty, wait for more records
    ///
    /// Only one process at a time can have a buffer open. While this one waits,
    /// it closes the buffer, so that `forebay push` can fill it (with --wait, in
    /// case both try to open it). To fill and empty a buffer at the same time,
    /// use `forebay pipe`.
    #[arg(long, help_heading = None::<&str>)]
    follow: bool,

    /// Show no progress and no summary on a terminal
    #[arg(short, long, help_heading = None::<&str>)]
    quiet: bool,

    /// Leave the records in the buffer: the next command gets them again
    #[arg(long, conflicts_with = "follow", help_heading = None::<&str>)]
    no_ack: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    require(Stream::Output)?;
    let framing = args.framing.framing()?;
    require_buffer(args.buffer.directory())?;
    let stop = Stop::on_signals().map_err(|error| Failure::io("catch signals", &error))?;
    stop.limit_shutdown(SHUTDOWN_MAX)?;
    let sink = Sink::stdout(stop.clone());
    // Records that are printed on the terminal are progress enough.
    let is_shown = !args.quiet && !io::stdout().is_terminal();
    let mut pull = Pull {
        args,
        framing,
        live: Live::new(!is_shown, FLOW),
        sink,
        stop,
        losses: Losses::default(),
        left: args.max.unwrap_or(u64::MAX),
        records: 0,
        payload_bytes: 0,
    };
    let begun = Instant::now();
    let end = pull.work();
    pull.live.clear();
    let end = end?;
    if args.buffer.verbose || (is_shown && is_watched()) {
        note(format!(
            "{} ({}) delivered, in {:.2} s",
            count(pull.records, "record"),
            bytes(pull.payload_bytes),
            begun.elapsed().as_secs_f64()
        ));
    }
    let lost = pull.losses.report(&|text| note(text));
    Ok(match (end, pull.stop.signal()) {
        (End::Stopped, Some(signal)) => Outcome::Stopped(signal),
        _ => Outcome::Fine.with_findings(lost),
    })
}

/// The progress before the first delivery.
const FLOW: Flow = Flow {
    came: None,
    taken: Some(0),
    waiting: None,
    halt: None,
};

/// Why no more records are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Empty,
    Enough,
    Closed,
    Stopped,
}

struct Pull<'a> {
    args: &'a Args,
    framing: Framing,
    stop: Stop,
    sink: Sink,
    live: Live,
    losses: Losses,
    /// Records that may still be delivered.
    left: u64,
    records: u64,
    payload_bytes: u64,
}

impl Pull<'_> {
    fn work(&mut self) -> Result<End> {
        let wait = match self.args.follow {
            true => Time(Duration::MAX),
            false => self.args.buffer.wait,
        };
        loop {
            let buffer = &self.args.buffer;
            let config = buffer.config(steps::counter(buffer.counting, buffer.directory())?);
            let opened = opening::open(&config, wait.into(), self.args.buffer.verbose, &self.stop)?;
            let Some((writer, mut reader)) = opened else {
                return Ok(End::Stopped);
            };
            self.losses.look(buffer.directory(), &reader.usage());
            if buffer.counting.is_by_ids() {
                self.losses.are_no_counts();
            }
            // Without a writer the reader reports the end when the buffer is empty.
            drop(writer);
            let end = self.drain(&mut reader);
            reader.close()?;
            let end = end?;
            if !self.args.follow || end != End::Empty {
                return Ok(end);
            }
            if let Some(end) = self.wait_for_more() {
                return Ok(end);
            }
        }
    }

    /// Delivers until there is nothing left, or enough was delivered.
    fn drain(&mut self, reader: &mut Reader) -> Result<End> {
        let mut outgoing = Outgoing::default();
        while self.left > 0 {
            if self.stop.is_set() {
                return Ok(End::Stopped);
            }
            let records_max = usize::try_from(self.left).unwrap_or(usize::MAX);
            let records_max = records_max.min(BATCH_RECORDS);
            let batch = match patiently(|| reader.try_recv_batch(records_max, BATCH_BYTES))? {
                TryRecv::Ready(batch) => batch,
                TryRecv::Empty | TryRecv::End => return Ok(End::Empty),
            };
            self.losses.note(batch.lost(), &|text| self.live.note(text));
            outgoing.clear();
            for record in batch.records() {
                outgoing
                    .push(record.payload, self.framing)
                    .map_err(|error| {
                        Failure::new(format!("record {} cannot be written: {error}", record.id))
                    })?;
            }
            let written = self.sink.write_records(&mut outgoing);
            self.note_handed_over(batch, &outgoing, written.as_ref().ok());
            match written? {
                Written::All => {}
                Written::Closed => return Ok(End::Closed),
                Written::Stopped => return Ok(End::Stopped),
            }
            let records = self.records;
            self.live.show(|| Flow {
                taken: Some(records),
                waiting: Some(not_delivered(&reader.usage())),
                ..FLOW
            });
        }
        Ok(End::Enough)
    }

    /// Counts and acknowledges the records of a batch that were handed over in full.
    fn note_handed_over(&mut self, batch: Batch, outgoing: &Outgoing, written: Option<&Written>) {
        let records = outgoing.sent_records();
        let payload_bytes = batch
            .records()
            .take(records)
            .map(|r| r.payload.len() as u64);
        self.left -= records as u64;
        self.records += records as u64;
        self.payload_bytes += payload_bytes.sum::<u64>();
        if let Some(Written::Stopped) = written
            && outgoing.is_inside_record()
            && let Some(record) = batch.records().nth(records)
        {
            let why = match self.stop.is_asked_again() {
                true => "a second signal came".to_owned(),
                false => format!("it was not read within {} s", FINISH_MAX.as_secs()),
            };
            self.live.note(format!(
                "record {} was written in part and stays in the buffer: {why}",
                record.id
            ));
        }
        if self.args.no_ack {
            return;
        }
        match records == batch.len() {
            true => batch.ack(),
            false => batch
                .into_deliveries()
                .take(records)
                .for_each(Delivery::ack),
        }
    }

    /// Waits until another process has changed the closed buffer, or returns why not.
    fn wait_for_more(&mut self) -> Option<End> {
        let mut watch = Watch::new(self.args.buffer.directory());
        loop {
            self.stop.wait(FOLLOW_INTERVAL);
            if self.stop.is_set() {
                return Some(End::Stopped);
            }
            if self.sink.is_closed() {
                return Some(End::Closed);
            }
            if watch.has_changed() {
                return None;
            }
            let records = self.records;
            self.live.show(|| Flow {
                taken: Some(records),
                halt: Some("waiting for more"),
                ..FLOW
            });
        }
    }
}

/// Events that are not delivered yet, and their bytes. With --no-ack, delivered events
/// still count as unread and are subtracted.
fn not_delivered(usage: &Usage) -> (u64, u64) {
    let rest = |unread: u64, delivered: u64, acknowledged: u64| {
        unread.saturating_sub(delivered.saturating_sub(acknowledged))
    };
    let (unread, out, acknowledged) = (usage.unread, usage.delivered, usage.acknowledged);
    (
        rest(unread.events, out.events, acknowledged.events),
        rest(unread.bytes, out.bytes, acknowledged.bytes),
    )
}
