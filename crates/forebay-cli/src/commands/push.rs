//! `forebay push`: records from standard input into a buffer.
//!
//! Invariants: the exit status is 0 only when everything is synced; whatever
//! else happens, accepted records are synced before the end, or reported as not
//! synced. While the buffer or its disk is full, the buffer is closed, so that another
//! process can empty it; records that a full disk did not take are taken back, and
//! appended again afterwards.

use crate::args::{BufferOptions, FramingOptions, FullPolicy, LimitOptions};
use crate::buffer::durability::{
    Ledger, STUCK, is_out_of_descriptors, no_space, refused, sync, waiting_for_space,
};
use crate::buffer::metadata::MetadataOptions;
use crate::buffer::opening::{self, Waiting};
use crate::buffer::watch::{SPACE_RETRY, SpaceWatch};
use crate::failure::{Failure, Outcome, Result, no_descriptor};
use crate::io::standard::{Stream, require};
use crate::output::live::{Flow, Live};
use crate::output::{bytes, count, is_watched, note};
use crate::producer::reports::Reports;
use crate::producer::{Producer, Step, StoredAs};
use crate::stop::Stop;
use forebay::format::file_id::LEDGER_FILE_NAME;
use forebay::{Config, ErrorKind, Writer};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// How often a full buffer's directory is checked.
const FULL_INTERVAL: Duration = Duration::from_millis(100);
/// The message about waiting for space is repeated only if the buffer was not found full
/// for this long.
const NOTE_INTERVAL: Duration = Duration::from_secs(60);
/// How long a sync may make no progress before a full buffer is closed; closing
/// writes the rest, as far as there is space.
const RELEASE_PATIENCE: Duration = Duration::from_millis(200);
/// When this many more bytes are kept, the ledger is read to learn what is written by now.
const KEPT_STEP: usize = 1 << 20;
/// How long this program may take to end after a signal: it syncs what is in memory.
const SHUTDOWN_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  seq 1 1000 | forebay push spool
      one record a line, into a buffer that is created if there is none
  find / -print0 | forebay push spool --delimiter nul
      records that may contain newlines
  producer | forebay push spool --max-size 10GiB --when-full drop-newest
      never slow the producer down; the exit status is 1 if records were dropped

The exit status is
  0        when every record is synced, that is, survives a power cut
  1        when --when-full drop-newest dropped records
  2        on errors; records that were accepted before stay in the buffer
  128 + n  after signal n (SIGINT, SIGTERM or SIGHUP), which ends the reading;
           what was read is synced")]
pub(crate) struct Args {
    #[command(flatten)]
    buffer: BufferOptions,

    #[command(flatten)]
    framing: FramingOptions,

    #[command(flatten)]
    metadata: MetadataOptions,

    #[command(flatten)]
    limits: LimitOptions,

    /// After each sync, print how many records are synced so far
    ///
    /// One number a line on standard output, counted from the beginning of this
    /// run, at most once per flush interval. That many records survive a power cut.
    #[arg(long)]
    report_synced: bool,

    /// Show no progress and no summary on a terminal
    #[arg(short, long, help_heading = None::<&str>)]
    quiet: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    require(Stream::Input)?;
    if args.report_synced {
        require(Stream::Output)?;
    }
    let stop = Stop::on_signals().map_err(|error| Failure::io("catch signals", &error))?;
    stop.limit_shutdown(SHUTDOWN_MAX)?;
    let mut push = Push::new(args, stop)?;
    let begun = Instant::now();
    let end = push.work();
    push.finish(end, begun.elapsed())
}

struct Push<'a> {
    args: &'a Args,
    config: Config,
    stop: Stop,
    producer: Producer,
    /// `None` while a full buffer is closed.
    writer: Option<Writer>,
    /// The ledger of the buffer that the writer appends to.
    ledger: Ledger,
    /// Records of this run that are known to be synced.
    synced: u64,
    /// The id of the first unwritten record when the ledger was last read, and since when
    /// that is the first one; `None` if all were written.
    unwritten: Option<(u64, Instant)>,
    /// The ledger is read again when more bytes than this are kept.
    kept_limit: usize,
    live: Live,
    reports: Option<Reports>,
    /// How many records were accepted when the buffer was last found full.
    full_at: Option<u64>,
    /// When the buffer was last found full.
    full_seen: Option<Instant>,
}

/// The progress before the first record was stored.
const FLOW: Flow = Flow {
    came: Some(0),
    taken: None,
    waiting: None,
    halt: None,
};

/// Why the work ended.
enum End {
    Input,
    Stop,
    /// The input, a full buffer or a report ended the work.
    Failed(Failure),
    /// An append failed for good: closing the buffer would report the same again.
    Broken(Failure),
}

impl<'a> Push<'a> {
    fn new(args: &'a Args, stop: Stop) -> Result<Self> {
        let framing = args.framing.framing()?;
        let config = args.buffer.config_with(&args.limits);
        let BufferOptions { wait, verbose, .. } = args.buffer;
        let waiting = Waiting {
            for_lock: wait,
            for_space: args.limits.space_to_wait_for(args.buffer.directory()),
        };
        let mut metadata = args.metadata.before_opening(args.buffer.directory())?;
        let writer = opening::open_to_write(&config, waiting, verbose, &stop)?;
        if writer.is_some() {
            metadata = args.metadata.once_open(args.buffer.directory())?;
        }
        let max_len = writer.as_ref().map_or(0, Writer::max_record_size);
        let keeps = args.limits.when_full == FullPolicy::Block;
        let stored_as = StoredAs {
            metadata,
            counter: args.buffer.counting.counter(),
        };
        let limits = &args.limits;
        let producer = Producer::new(framing, max_len, stored_as, limits, keeps, stop.clone());
        Ok(Self {
            producer,
            writer,
            ledger: Ledger::of(args.buffer.directory()),
            synced: 0,
            unwritten: None,
            kept_limit: KEPT_STEP,
            // Input that is typed on the terminal is progress enough.
            live: Live::new(args.quiet || std::io::stdin().is_terminal(), FLOW),
            reports: args
                .report_synced
                .then(|| Reports::on_stdout(args.limits.flush_interval(), stop.clone())),
            full_at: None,
            full_seen: None,
            args,
            config,
            stop,
        })
    }

    /// Reads and appends until the input ends, or something ends it.
    fn work(&mut self) -> End {
        loop {
            let Some(writer) = &self.writer else {
                return End::Stop;
            };
            let waited = match self.producer.step(writer, self.read_limit()) {
                Ok(Step::Going) => match self.note_progress() {
                    Ok(true) => Ok(()),
                    Ok(false) => self.make_way(false),
                    Err(failure) => Err(failure),
                },
                Ok(Step::End) if !self.blocks() => return End::Input,
                Ok(Step::End) => match self.release(STUCK) {
                    Ok(()) if !self.producer.has_taken_back() => return End::Input,
                    Ok(()) => self.wait_for_space(true),
                    Err(failure) => Err(failure),
                },
                Ok(Step::Stopped) => return End::Stop,
                Ok(Step::Full(error)) if !self.blocks() => {
                    return End::Failed(refused(&error, self.args.buffer.directory()));
                }
                Ok(Step::Full(_)) if self.stop.is_set() => return End::Stop,
                Ok(Step::Full(_)) => self.make_way(true),
                Ok(Step::Failed(failure)) => Err(failure),
                Err(failure) => return End::Broken(failure),
            };
            if let Err(failure) = waited {
                return End::Failed(failure);
            }
        }
    }

    /// Whether to wait while the buffer is full.
    fn blocks(&self) -> bool {
        self.args.limits.when_full == FullPolicy::Block
    }

    /// How long to wait for input. While accepted records are kept this is limited: they
    /// must not stay in memory for ever because the disk is full and no input comes.
    fn read_limit(&self) -> Option<Duration> {
        let reports = self.reports.as_ref().map(Reports::interval);
        let space = self.producer.has_kept().then_some(SPACE_RETRY);
        [reports, space, self.live.due_in()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Shows and reports the progress. False if no accepted record was written for
    /// [`SPACE_RETRY`], although some are waiting.
    fn note_progress(&mut self) -> Result<bool> {
        let accepted = self.producer.accepted();
        let Some(writer) = &self.writer else {
            return Ok(true);
        };
        self.live.show(|| {
            let unread = writer.usage().unread;
            Flow {
                came: Some(accepted),
                waiting: Some((unread.events, unread.bytes)),
                ..FLOW
            }
        });
        let is_due = self
            .unwritten
            .is_none_or(|(_, at)| at.elapsed() >= SPACE_RETRY);
        if self.producer.kept_bytes() > self.kept_limit || (is_due && self.producer.has_kept()) {
            let unwritten = self.ledger.first_unwritten(writer);
            self.producer.note_written(unwritten);
            self.kept_limit = self.producer.kept_bytes() + KEPT_STEP;
            let seen = self.unwritten.take();
            if self.producer.has_kept() {
                let since = match seen {
                    Some((id, _)) if id == unwritten && is_due => return Ok(false),
                    Some((id, at)) if id == unwritten => at,
                    _ => Instant::now(),
                };
                self.unwritten = Some((unwritten, since));
            }
        }
        if let Some(reports) = &mut self.reports {
            reports.report_when_due(writer, accepted)?;
        }
        Ok(true)
    }

    /// Closes a buffer that takes nothing more, so that another process can take
    /// records out, and waits for that. `is_full`: the buffer itself reported it.
    fn make_way(&mut self, is_full: bool) -> Result<()> {
        self.release(RELEASE_PATIENCE)?;
        // If neither holds, the disk was only slow, and closing has written everything.
        self.wait_for_space(is_full || self.producer.has_taken_back())
    }

    /// Closes the buffer, so that another process can open it. Records that it accepted
    /// and a full disk did not take are taken back. The sync before the close is given
    /// up when it makes no progress for `patience`.
    fn release(&mut self, patience: Duration) -> Result<()> {
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        let flushed = sync(&writer, || Some(patience), || ());
        let usage = writer.usage();
        let unsynced = usage.next_record_id - 1 - usage.last_synced_id;
        self.synced = self.producer.accepted().saturating_sub(unsynced);
        // Closing may write more than this says: those records are then stored twice,
        // which is better than not at all.
        let unwritten = self.ledger.first_unwritten(&writer);
        let is_out_of_descriptors = is_out_of_descriptors(self.args.buffer.directory());
        let closed = writer.close();
        flushed?;
        match closed {
            // The files were deleted while they were open: what was synced is gone.
            Ok(()) if !self.args.buffer.directory().join(LEDGER_FILE_NAME).exists() => {
                self.synced = 0;
                return Err(Failure::new(format!(
                    "{} was removed while it was open, and the records went with it",
                    self.args.buffer.directory().display()
                )));
            }
            Ok(()) => {
                self.synced = self.producer.accepted();
                self.producer.note_written(usage.next_record_id);
            }
            Err(error) if error.kind() == ErrorKind::DiskFull => {
                self.producer.take_back(unwritten, usage.next_record_id);
                // Waiting does not help: only this process can close its files.
                if is_out_of_descriptors {
                    return Err(no_descriptor(self.args.buffer.directory()));
                }
            }
            Err(error) => return Err(error.into()),
        }
        match &mut self.reports {
            Some(reports) => reports.report(self.synced),
            None => Ok(()),
        }
    }

    /// Opens the closed buffer again, once it may have space and no other process has
    /// it open.
    fn wait_for_space(&mut self, is_full: bool) -> Result<()> {
        let directory = self.args.buffer.directory();
        let accepted = self.producer.accepted();
        let is_news = is_full && self.full_at.replace(accepted) != Some(accepted);
        let seen = match is_full {
            true => self.full_seen.replace(Instant::now()),
            false => self.full_seen,
        };
        if is_news && seen.is_none_or(|at| at.elapsed() >= NOTE_INTERVAL) {
            self.live.note(match self.producer.has_taken_back() {
                true => waiting_for_space(directory),
                false => format!(
                    "{} is full; waiting until records are taken out, as with `forebay pull`",
                    directory.display()
                ),
            });
        }
        let mut space = SpaceWatch::new(directory, is_full);
        while !self.stop.is_set() {
            if space.may_be_there() {
                match self.config.clone().open() {
                    Ok((writer, _reader)) => {
                        self.unwritten = None;
                        self.ledger = Ledger::of(directory);
                        self.writer = Some(writer);
                        break;
                    }
                    Err(error) if error.kind() == ErrorKind::Locked => {}
                    // There is not even enough space to open it.
                    Err(error) if error.kind() == ErrorKind::DiskFull => {
                        space = SpaceWatch::new(directory, true);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            self.live.show(|| Flow {
                came: Some(accepted),
                halt: Some(if is_full {
                    "full"
                } else {
                    "opening the buffer"
                }),
                ..FLOW
            });
            self.stop.wait(FULL_INTERVAL);
        }
        Ok(())
    }

    /// Syncs, and reports what became of the records.
    fn finish(mut self, end: End, elapsed: Duration) -> Result<Outcome> {
        self.live.clear();
        let released = self.release(STUCK);
        let (accepted, dropped) = (self.producer.accepted(), self.producer.dropped());
        if dropped > 0 {
            note(format!(
                "dropped {}: the buffer, or the disk, was full",
                count(dropped, "record")
            ));
        }
        let mut stored = format!("{} stored and synced", count(self.synced, "record"));
        if self.synced < accepted {
            let unsure = count(accepted - self.synced, "more record");
            stored.push_str(&format!(", {unsure} perhaps not synced"));
        }
        let left_over = self.producer.left_over();
        // The disk did not take what the buffer had accepted.
        let is_short = left_over.is_some() || self.synced < accepted;
        if let (End::Input, Ok(()), true) = (&end, &released, is_short) {
            let left_over = left_over.map_or(String::new(), |text| format!(", {text}"));
            let directory = self.args.buffer.directory();
            return Err(no_space(directory).but(format!("{stored}{left_over}")));
        }
        if let Some(left_over) = left_over {
            note(left_over);
        }
        if let Err(failure) = released {
            return Err(match end {
                End::Failed(first) => first.but(failure.message).but(stored),
                End::Broken(first) => first.but(stored),
                End::Input | End::Stop => failure.but(stored),
            });
        }
        match end {
            End::Failed(failure) | End::Broken(failure) => {
                Err(failure.but(format!("before it, {stored}")))
            }
            End::Input | End::Stop => {
                let is_told = is_watched() || matches!(end, End::Stop);
                if self.args.buffer.verbose || (is_told && !self.args.quiet) {
                    note(format!(
                        "{stored} ({}) in {}, in {:.2} s",
                        bytes(self.producer.payload_bytes()),
                        self.args.buffer.directory().display(),
                        elapsed.as_secs_f64()
                    ));
                }
                Ok(match (end, self.stop.signal()) {
                    (End::Stop, Some(signal)) => Outcome::Stopped(signal),
                    _ => Outcome::Fine.with_findings(dropped > 0),
                })
            }
        }
    }
}
