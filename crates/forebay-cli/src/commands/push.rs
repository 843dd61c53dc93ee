//! `forebay push`: records from standard input into a buffer.
//!
//! Invariants: the exit status is 0 only when everything is synced; whatever
//! else happens, what was accepted is synced before the end, or it is said that
//! it is not. A buffer that is full is let go of while waiting, so that somebody
//! can empty it.

use crate::durability::{PATIENCE, STUCK, abandon, sync, waiting_for_space};
use crate::failure::{Failure, Outcome, Result};
use crate::opening;
use crate::options::{BufferOptions, FramingOptions, FullPolicy, LimitOptions};
use crate::output::{Progress, bytes, count, is_watched, note};
use crate::producer::{Producer, Step};
use crate::reports::Reports;
use crate::standard::{Stream, require};
use crate::stop::Stop;
use crate::watch::Watch;
use forebay::{Config, ErrorKind, Writer};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// How often a full buffer's directory is looked at.
const FULL_INTERVAL: Duration = Duration::from_millis(100);
/// When a full buffer is tried again although nothing in it has changed: the
/// file system may have got space.
const FULL_RETRY: Duration = Duration::from_secs(2);
/// How long the end may take after a signal: a sync of what is in memory.
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

The exit status is 0 when every record is synced, that is, survives a power cut;
1 when --when-full drop-newest dropped records; 2 on errors (what was accepted
before stays in the buffer); 128 and the signal's number after SIGINT, SIGTERM or
SIGHUP, which end the reading and sync what was read.")]
pub(crate) struct Args {
    #[command(flatten)]
    buffer: BufferOptions,

    #[command(flatten)]
    framing: FramingOptions,

    #[command(flatten)]
    limits: LimitOptions,

    /// After each sync, print how many records are synced so far
    ///
    /// One number a line on standard output, counted from the beginning of this
    /// run, at most once per flush interval: a promise to whoever reads it that
    /// these records survive a power cut.
    #[arg(long)]
    report_synced: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    require(Stream::Input)?;
    if args.report_synced {
        require(Stream::Output)?;
    }
    let stop = Stop::on_signals().map_err(|error| Failure::io("catch signals", &error))?;
    stop.limit_shutdown(SHUTDOWN_MAX);
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
    /// `None` while a full buffer is let go of.
    writer: Option<Writer>,
    progress: Progress,
    reports: Option<Reports>,
    /// How many records were accepted when the buffer was last found full.
    full_at: Option<u64>,
}

/// Why the work ended.
enum End {
    Input,
    Stop,
    Failed(Failure),
}

impl<'a> Push<'a> {
    fn new(args: &'a Args, stop: Stop) -> Result<Self> {
        let framing = args.framing.framing()?;
        let config = args.buffer.config_with(&args.limits);
        let opened = opening::open(&config, args.buffer.wait, args.buffer.verbose, &stop)?;
        let writer = opened.map(|(writer, _reader)| writer);
        let max_len = writer.as_ref().map_or(0, Writer::max_record_size);
        let producer = Producer::new(framing, max_len, args.limits.when_full, stop.clone());
        Ok(Self {
            producer,
            writer,
            progress: Progress::counting(std::io::stdin().is_terminal()),
            reports: args
                .report_synced
                .then(|| Reports::on_stdout(args.limits.flush_interval(), stop.clone())),
            full_at: None,
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
            let limit = self.reports.as_ref().map(Reports::interval);
            match self.producer.step(writer, limit) {
                Ok(Step::Going) => {
                    let (records, bytes) =
                        (self.producer.accepted(), self.producer.payload_bytes());
                    self.progress.records(records, bytes);
                }
                Ok(Step::End) => return End::Input,
                Ok(Step::Stopped) => return End::Stop,
                Ok(Step::Failed(failure)) | Err(failure) => return End::Failed(failure),
                Ok(Step::Full(error)) => {
                    if self.args.limits.when_full == FullPolicy::Reject {
                        return End::Failed(error.into());
                    }
                    if self.stop.is_set() {
                        return End::Stop;
                    }
                    if let Err(failure) = self.wait_for_space() {
                        return End::Failed(failure);
                    }
                    continue;
                }
            }
            let accepted = self.producer.accepted();
            if let Some(reports) = &mut self.reports
                && let Err(failure) = reports.report_when_due(writer, accepted)
            {
                return End::Failed(failure);
            }
        }
    }

    /// Lets go of the buffer until something in it has changed, so that another
    /// process can take records out.
    fn wait_for_space(&mut self) -> Result<()> {
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        let accepted = self.producer.accepted();
        let directory = self.args.buffer.directory();
        let is_news = self.full_at.replace(accepted) != Some(accepted);
        if !sync(&writer, || Some(STUCK), || ())? {
            // What is in memory has no place on the disk: it cannot be let go of.
            self.writer = Some(writer);
            if is_news {
                self.progress.note(waiting_for_space(directory));
            }
            return Ok(());
        }
        if let Some(reports) = &mut self.reports {
            reports.report(accepted)?;
        }
        writer.close()?;
        if is_news {
            self.progress.note(format!(
                "{} is full; waiting until records are taken out, as with `forebay pull`",
                directory.display()
            ));
        }
        let mut watch = Watch::new(directory);
        let tried = Instant::now();
        let mut due = false;
        while !self.stop.is_set() {
            std::thread::sleep(FULL_INTERVAL);
            due |= watch.has_changed() || tried.elapsed() >= FULL_RETRY;
            if !due {
                continue;
            }
            match forebay::open(self.config.clone()) {
                Ok((writer, _reader)) => {
                    self.writer = Some(writer);
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Locked => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Syncs, and says what became of the records.
    fn finish(mut self, end: End, elapsed: Duration) -> Result<Outcome> {
        self.progress.clear();
        let (accepted, dropped) = (self.producer.accepted(), self.producer.dropped());
        let synced = self.sync();
        if dropped > 0 {
            note(format!(
                "dropped {}: the buffer was full",
                count(dropped, "record")
            ));
        }
        if let Some(left_over) = self.producer.left_over()
            && !matches!(end, End::Input)
        {
            note(left_over);
        }
        let stored = format!("{} stored and synced", count(accepted, "record"));
        match (end, synced) {
            (End::Failed(failure), Ok(())) => Err(failure.but(format!("before it, {stored}"))),
            (End::Failed(failure), Err(unsynced)) => Err(failure.but(unsynced.message)),
            (_, Err(unsynced)) => Err(unsynced),
            (end, Ok(())) => {
                if self.args.buffer.verbose || is_watched() {
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

    fn sync(&mut self) -> Result<()> {
        let accepted = self.producer.accepted();
        if let Some(writer) = self.writer.take() {
            let waits = self.args.limits.when_full == FullPolicy::Block;
            let patience = || (!waits || self.stop.is_set()).then_some(PATIENCE);
            let stuck = || note(waiting_for_space(self.args.buffer.directory()));
            if !sync(&writer, patience, stuck)? {
                return Err(abandon(writer, accepted, self.args.buffer.directory()));
            }
            writer.close()?;
        }
        match &mut self.reports {
            Some(reports) => reports.report(accepted),
            None => Ok(()),
        }
    }
}
