//! `forebay pipe`: standard input, through a buffer, into a program.
//!
//! Invariants: one thread reads and one feeds the program, and records pass between
//! them through the buffer only, so neither waits for the other while the buffer has
//! room and records; the program is started before anything is read.

mod acks;
mod backoff;
mod child;
mod dead_letters;
mod flight;
mod pump;
mod suspects;

use self::acks::{AckStream, Acks};
use self::backoff::Backoff;
use self::dead_letters::DeadLetters;
use self::pump::{End, Plan, Pump};
use crate::args::sizes::{self, Size, Time};
use crate::args::{BufferOptions, FramingOptions, FullPolicy, LimitOptions};
use crate::buffer::durability::{PATIENCE, abandon, refused, sync, waiting_for_space};
use crate::buffer::metadata::MetadataOptions;
use crate::buffer::opening::{self, Waiting};
use crate::failure::{Failure, Outcome, Result, no_thread};
use crate::io::standard::{Stream, require};
use crate::output::{bytes, count, note};
use crate::producer::reports::Reports;
use crate::producer::{Producer, Step, StoredAs};
use crate::stop::Stop;
use clap::ValueHint;
use forebay::Writer;
use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The most that `--redeliver` allows, because records in that range are held in memory.
const REDELIVER_MAX: u64 = 64 << 20;
/// How long this command may take to end after a signal, in addition to `--grace`.
const SHUTDOWN_MAX: Duration = Duration::from_secs(30);

/// The examples, with which the text after the options begins in `-h` and `--help`.
macro_rules! examples {
    () => {
        "\
Examples:
  seq 1 1000000 | forebay pipe spool -- wc -l
      prints 1000000; records that an earlier run left in the buffer would come
      first, and count as well
  tail -F app.log | forebay pipe spool --redeliver 8MiB -- ssh logs 'cat >> app.log'
      a connection that breaks is made again, and gets what was not taken: that
      includes the last 8 MiB that ssh had read, which may not have arrived
  forebay pipe spool --ack --max-attempts 5 --dead-letters spool.dead -- ./send
      send writes a line to descriptor 3 for each record that it has sent; a
      record on which it fails five times goes to spool.dead, and send gets the
      next one"
    };
}

#[derive(Debug, clap::Args)]
#[command(
    override_usage = "forebay pipe [OPTIONS] <DIR> -- <CMD>...",
    after_help = concat!(examples!(), "

Standard input goes into the buffer and from there to CMD, each at its own
speed. Records that CMD had not taken when it died are delivered again. `--help`
says what counts as taken, when CMD is restarted, and what the exit status is."),
    after_long_help = concat!(examples!(), "

How records flow:
  Standard input goes into the buffer DIR, and the records in the buffer go to
  the standard input of CMD, each at its own speed. What an earlier run left in
  the buffer comes first. CMD's standard output and standard error are those of
  this command. Lines up to 4096 bytes are handed to CMD whole: it does not see
  half of one even if this command is killed.

When a record is taken, and leaves the buffer:
  without --ack
      once CMD has read its last byte and, after that,
      - has read another 64 KiB (--redeliver), which is what a program may hold
        in a buffer of its own when it dies, or
      - has ended with status 0, or
      - has ended with another status (not by a signal) after it had read
        everything up to the end of its input
  with --ack
      once CMD has written a line for it, and for no other reason. Each line
      takes the next record, in order; its text does not matter. The lines come
      from descriptor 3 of CMD, or with --ack=stdout from its standard output.
      More lines than CMD has read records are an error.

What is delivered again:
  Everything that was not taken stays in the buffer, so each record is delivered
  at least once, in order.
  without --ack
      the last --redeliver bytes that CMD had read before it died come again,
      and somewhat more when this command is killed, or the machine. When the
      buffer is full although CMD has read all that is in it, --redeliver counts
      as less, so that the input is not held up for ever. Outside Unix the
      system cannot say what CMD has read; there, written counts as read.
  with --ack
      what was acknowledged does not come again

When CMD ends:
  by a signal, or with another status than 0 before it has taken everything
      It has failed, and is started again after --restart-delay, which doubles
      from failure to failure up to 30 s and starts afresh when something was
      acknowledged (--ack) or taken in a run of a second or more, or when a
      record that CMD got alone has passed. --max-restarts limits the restarts
      in a row, which are counted afresh then, too.
  with status 0 before its input does
      It wants no more: reading stops, and the rest stays in the buffer.

When CMD fails on a record:
  If CMD fails and has taken nothing, a message names the records that it may
  have failed on. With --max-attempts N and --dead-letters,
  - each of them is given to a start of CMD of its own;
  - when CMD has failed N times on one, that record is stored in another buffer,
    as a JSON object with its id, the attempts and how CMD ended, and CMD gets
    what follows;
  - only status 0 (or an acknowledgement) takes the last records of the input.

On SIGINT, SIGTERM and SIGHUP:
  Reading stops, what was read is synced, CMD's standard input is closed, CMD
  has the time --grace to end, and the rest stays in the buffer for the next
  run.

The exit status is
  CMD's    once the input has ended and everything was taken
  0        when CMD wanted no more
  1        instead of 0 when records were lost to damage, dropped, set aside, or
           read and not acknowledged by a CMD that ended with 0
  2        on errors
  126      when CMD cannot be executed
  127      when CMD cannot be found
  128 + n  after signal n")
)]
pub(crate) struct Args {
    #[command(flatten)]
    buffer: BufferOptions,

    #[command(flatten)]
    framing: FramingOptions,

    #[command(flatten)]
    metadata: MetadataOptions,

    #[command(flatten)]
    limits: LimitOptions,

    /// How much CMD may have read but not processed when it dies; at most 64MiB
    ///
    /// A record that CMD has read stays in the buffer until CMD has read this
    /// much more. 0 suits programs that do not read ahead; programs that send
    /// what they read over a network may need several MiB.
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = redeliver,
        allow_hyphen_values = true,
        help_heading = "Program")]
    redeliver: u64,

    /// CMD writes a line for each record that it has finished, to descriptor 3 or to
    /// standard output
    ///
    /// Nothing but such a line takes a record, whatever --redeliver says, and what
    /// was acknowledged does not come again.
    #[arg(long, value_name = "STREAM", value_enum, num_args = 0..=1, require_equals = true,
        default_missing_value = "fd3", help_heading = "Program")]
    ack: Option<AckStream>,

    /// Set a record aside when CMD has failed on it N times [default: never]
    ///
    /// Needs --dead-letters. CMD gets the records that it may have failed on one by
    /// one, each with a start of its own.
    #[arg(long, value_name = "N", value_parser = attempts, allow_hyphen_values = true,
        requires = "dead_letters", help_heading = "Program")]
    max_attempts: Option<NonZeroU64>,

    /// The buffer for records that are set aside; made if there is none
    #[arg(long, value_name = "DIR", requires = "max_attempts", value_hint = ValueHint::DirPath,
        help_heading = "Program")]
    dead_letters: Option<PathBuf>,

    /// The most the --dead-letters buffer may occupy on disk [default: 1GiB]
    #[arg(
        long,
        value_name = "SIZE",
        allow_hyphen_values = true,
        requires = "dead_letters",
        help_heading = "Program"
    )]
    dead_letters_max_size: Option<Size>,

    /// Give up after N restarts in a row [default: never]
    #[arg(long, value_name = "N", value_parser = sizes::number, allow_hyphen_values = true,
        help_heading = "Program")]
    max_restarts: Option<u64>,

    /// How long to wait before the first restart of CMD; it doubles up to 30s
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "100ms",
        allow_hyphen_values = true,
        help_heading = "Program"
    )]
    restart_delay: Time,

    /// How long CMD may take to end after a signal, before it is killed
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "10s",
        allow_hyphen_values = true,
        help_heading = "Program"
    )]
    grace: Time,

    /// After each sync, say on standard error how many records are synced
    ///
    /// A line `synced N`, counted from the beginning of this run, at most once
    /// per flush interval.
    #[arg(long, help_heading = "Limits and durability")]
    report_synced: bool,

    /// Show no progress on a terminal
    #[arg(short, long, help_heading = None::<&str>)]
    quiet: bool,

    /// The program and its arguments
    #[arg(value_name = "CMD", help_heading = "Program", required = true, last = true, num_args = 1..,
        value_hint = ValueHint::CommandWithArguments)]
    command: Vec<OsString>,
}

fn redeliver(text: &str) -> Result<u64, String> {
    match sizes::size_or_zero(text)? {
        size if size > REDELIVER_MAX => Err("at most 64MiB; it is held in memory".to_owned()),
        size => Ok(size),
    }
}

fn attempts(text: &str) -> Result<NonZeroU64, String> {
    NonZeroU64::new(sizes::number(text)?).ok_or_else(|| "at least 1".to_owned())
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    require(Stream::Input)?;
    if args.ack != Some(AckStream::Stdout) {
        // The program writes to this command's standard output.
        require(Stream::Output)?;
    }
    if args.max_attempts.is_some() && args.ack.is_none() && args.redeliver == 0 {
        return Err(Failure::new(
            "with --redeliver 0 a record is gone once it is read, before CMD can fail on it; \
             leave --redeliver out, or use --ack, with --max-attempts",
        ));
    }
    // First, because a file that is opened earlier could get descriptor 3.
    let acks = args.ack.map(Acks::new).transpose()?;
    let framing = args.framing.framing()?;
    let stop = Stop::on_signals().map_err(|error| Failure::io("catch signals", &error))?;
    stop.limit_shutdown(args.grace.0.saturating_add(SHUTDOWN_MAX))?;
    let config = args.buffer.config_with(&args.limits);
    let waiting = Waiting {
        for_lock: args.buffer.wait,
        for_space: args.limits.space_to_wait_for(args.buffer.directory()),
    };
    args.metadata.before_opening(args.buffer.directory())?;
    let opened = opening::open(&config, waiting, args.buffer.verbose, &stop)?;
    let Some((writer, reader)) = opened else {
        return Ok(Outcome::Stopped(stop.signal().unwrap_or_default()));
    };
    let stored_as = StoredAs {
        metadata: args.metadata.once_open(args.buffer.directory())?,
        counter: args.buffer.counting.counter(),
    };
    let mut dead_letters = None;
    if let Some(directory) = &args.dead_letters {
        let max_size = args.dead_letters_max_size.map(|Size(bytes)| bytes);
        let main = args.buffer.directory();
        dead_letters = DeadLetters::new(directory, max_size, main, args.buffer.wait, &stop)?;
        if dead_letters.is_none() {
            return Ok(Outcome::Stopped(stop.signal().unwrap_or_default()));
        }
    }
    let plan = Plan {
        directory: args.buffer.directory(),
        command: &args.command,
        framing,
        margin: args.redeliver,
        grace: args.grace.0,
        max_attempts: args.max_attempts,
        quiet: args.quiet,
    };
    let buffer_full = AtomicBool::new(false);
    let mut pump = Pump::new(plan, reader, acks, dead_letters, stop.clone(), &buffer_full)?;
    let child = pump.start()?;
    let backoff = Backoff::new(args.restart_delay.0, args.max_restarts);
    let max_len = writer.max_record_size();
    let limits = &args.limits;
    let producer = Producer::new(framing, max_len, stored_as, limits, false, stop.clone());

    let (pumped, produced) = std::thread::scope(|scope| {
        let production = std::thread::Builder::new()
            .spawn_scoped(scope, || {
                produce(args, producer, writer, &stop, &buffer_full)
            })
            // No input was read, and the program sees the end of its own.
            .map_err(|error| no_thread(&error))?;
        let pumped = pump.run(child, backoff);
        if !matches!(pumped, Ok(End::Drained(_))) {
            stop.ask();
        }
        Ok::<_, Failure>((pumped, production.join()))
    })?;
    let produced = match produced {
        Ok(produced) => produced,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    let name = pump.name();
    let set_aside = pump.set_aside_count();
    let closed = pump.close().map(|lost| lost || set_aside > 0);
    conclude(args, &stop, &name, pumped, produced, closed)
}

/// What became of the input.
struct Produced {
    producer: Producer,
    /// The error that ended the reading, if one did.
    failure: Option<Failure>,
    synced: Result<()>,
}

/// Reads and appends until the input ends, the stop is set or something fails; then syncs.
fn produce(
    args: &Args,
    mut producer: Producer,
    writer: Writer,
    stop: &Stop,
    buffer_full: &AtomicBool,
) -> Produced {
    let mut reports = args
        .report_synced
        .then(|| Reports::on_stderr(args.limits.flush_interval()));
    let limit = reports.as_ref().map(Reports::interval);
    let failure = loop {
        let dropped = producer.dropped();
        let step = producer.step(&writer, limit);
        let is_full = matches!(step, Ok(Step::Full(_))) || producer.dropped() > dropped;
        buffer_full.store(is_full, Ordering::Relaxed);
        match step {
            Ok(Step::Going) => {}
            Ok(Step::Full(error)) if args.limits.when_full == FullPolicy::Reject => {
                break Some(refused(&error, args.buffer.directory()));
            }
            // The program is slow: check the stop, and try again.
            Ok(Step::Full(_)) if !stop.is_set() => {}
            Ok(Step::Full(_) | Step::End | Step::Stopped) => break None,
            Ok(Step::Failed(failure)) | Err(failure) => break Some(failure),
        }
        if let Some(reports) = &mut reports
            && let Err(failure) = reports.report_when_due(&writer, producer.accepted())
        {
            break Some(failure);
        }
    };
    let synced = finish(args, &producer, writer, reports, stop, buffer_full);
    Produced {
        producer,
        failure,
        synced,
    }
}

/// Syncs and closes the writer. It waits for space on a full disk, because the program may
/// take records and so free some; after a stop it does not wait for long.
fn finish(
    args: &Args,
    producer: &Producer,
    writer: Writer,
    reports: Option<Reports>,
    stop: &Stop,
    buffer_full: &AtomicBool,
) -> Result<()> {
    let directory = args.buffer.directory();
    let stuck = || {
        note(waiting_for_space(directory));
        buffer_full.store(true, Ordering::Relaxed);
    };
    if !sync(&writer, || stop.is_set().then_some(PATIENCE), stuck)? {
        return Err(abandon(writer, producer.accepted(), directory));
    }
    if let Some(mut reports) = reports {
        reports.report(producer.accepted())?;
    }
    Ok(writer.close()?)
}

/// Reports what became of the input and of the program, and returns the outcome.
/// `findings`: whether records were lost or set aside, which was reported.
fn conclude(
    args: &Args,
    stop: &Stop,
    name: &str,
    pumped: Result<End>,
    produced: Produced,
    findings: Result<bool>,
) -> Result<Outcome> {
    let directory = args.buffer.directory().display();
    let producer = &produced.producer;
    let (accepted, dropped) = (producer.accepted(), producer.dropped());
    if args.buffer.verbose {
        note(format!(
            "{} ({}) went into {directory}",
            count(accepted, "record"),
            bytes(producer.payload_bytes())
        ));
    }
    if dropped > 0 {
        note(format!(
            "dropped {}: the buffer was full",
            count(dropped, "record")
        ));
    }
    if let Some(left_over) = producer.left_over() {
        note(left_over);
    }
    let end = pumped?;
    produced.synced?;
    let findings = findings?;
    if let Some(failure) = produced.failure {
        return Err(failure.but(format!(
            "before it, {} stored and synced",
            count(accepted, "record")
        )));
    }
    let outcome = match end {
        End::Drained(status) => Outcome::Program(status),
        End::Stopped => Outcome::Stopped(stop.signal().unwrap_or_default()),
        End::Enough => {
            note(format!(
                "{name} ended before its input did; what it did not read stays in {directory}"
            ));
            Outcome::Fine
        }
        End::Unacknowledged(records) => {
            let what = match records {
                None => "could acknowledge nothing more".to_owned(),
                Some(records) => format!(
                    "had not acknowledged {} that it had read, from record {} on",
                    count(records.count, "record"),
                    records.first
                ),
            };
            note(format!(
                "{name} ended with status 0 and {what}; what it has not acknowledged stays in \
                 {directory} for the next run"
            ));
            Outcome::Findings
        }
        End::Failed(how) => {
            return Err(Failure {
                message: format!(
                    "{name} {how}, {}; what it has not taken stays in {directory} for the next run",
                    match args.max_restarts {
                        Some(0) | None => "and is not to be restarted".to_owned(),
                        Some(max) => format!("after {} in a row", count(max, "restart")),
                    }
                ),
                status: how.status(),
            });
        }
    };
    Ok(outcome.with_findings(findings || dropped > 0))
}
