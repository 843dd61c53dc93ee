//! `forebay pipe`: standard input, through a buffer, into a program.
//!
//! Invariants: one thread reads and one feeds the program, and records pass between
//! them through the buffer only, so neither waits for the other while the buffer has
//! room and records; the program is started before anything is read.

use crate::args::{BufferOptions, FramingOptions, FullPolicy, LimitOptions};
use crate::buffer::durability::{PATIENCE, abandon, refused, sync, waiting_for_space};
use crate::buffer::metadata::MetadataOptions;
use crate::buffer::opening::{self, Waiting};
use crate::buffer::pace::Pace;
use crate::consumer::acks::AckStream;
use crate::consumer::child::Output;
use crate::consumer::options::ProgramOptions;
use crate::consumer::pump::{End, Plan, Pump};
use crate::failure::{Failure, Outcome, Result, no_thread};
use crate::io::standard::{Stream, require};
use crate::output::live::{Flow, Live};
use crate::output::{bytes, count, note};
use crate::producer::reports::Reports;
use crate::producer::{Producer, Step, StoredAs};
use crate::stop::Stop;
use clap::ValueHint;
use forebay::Writer;
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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

    #[command(flatten)]
    program: ProgramOptions,

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

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    require(Stream::Input)?;
    if args.program.ack != Some(AckStream::Stdout) {
        // The program writes to this command's standard output.
        require(Stream::Output)?;
    }
    args.program.check()?;
    // First, because a file that is opened earlier could get descriptor 3.
    let acks = args.program.acks()?;
    let framing = args.framing.framing()?;
    let stop = Stop::on_signals().map_err(|error| Failure::io("catch signals", &error))?;
    stop.limit_shutdown(args.program.grace.0.saturating_add(SHUTDOWN_MAX))?;
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
    let mains = [args.buffer.directory().to_owned()];
    let wait = args.buffer.wait;
    let dead_letters = args.program.dead_letters(&mains, wait, &stop)?;
    if stop.is_set() {
        return Ok(Outcome::Stopped(stop.signal().unwrap_or_default()));
    }
    let pace = Pace::new(None);
    let plan = Plan {
        directory: args.buffer.directory(),
        command: &args.command,
        framing,
        margin: args.program.redeliver,
        grace: args.program.grace.0,
        output: Output::Stdout,
        is_strict: args.program.max_attempts.is_some(),
        pace: &pace,
        max_attempts: args.program.max_attempts,
    };
    let buffer_full = AtomicBool::new(false);
    let usage = reader.usage();
    let display = Live::new(args.quiet, Flow::of(&usage, usage.unread.events));
    let mut pump = Pump::new(
        plan,
        reader,
        acks,
        dead_letters,
        display,
        stop.clone(),
        &buffer_full,
    )?;
    let child = pump.start()?;
    let backoff = args.program.backoff();
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
    let closed = pump
        .close()
        .map(|closed| closed.has_losses || set_aside > 0);
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
            "dropped {}: the buffer, or the disk, was full",
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
    let message = || end.message(name, args.buffer.directory(), args.program.max_restarts);
    let outcome = match end {
        End::Drained(status) => Outcome::Program(status),
        End::Stopped => Outcome::Stopped(stop.signal().unwrap_or_default()),
        End::Enough => {
            note(message());
            Outcome::Fine
        }
        End::Unacknowledged(_) => {
            note(message());
            Outcome::Findings
        }
        End::Failed(how) => {
            return Err(Failure {
                message: message(),
                status: how.status(),
            });
        }
    };
    Ok(outcome.with_findings(findings || dropped > 0))
}
