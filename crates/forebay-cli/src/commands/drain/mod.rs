//! `forebay drain`: empties buffers that nobody feeds any more, into a program or into another
//! buffer.
//!
//! Invariants: a record leaves its buffer once it is taken, and not before, so an interrupted
//! drain goes on where it was; a buffer that cannot be drained keeps none of the others from
//! being drained, unless the program cannot be started; status 0 means that all are empty.

mod into_buffer;
mod into_program;
mod report;

use self::report::{Drained, State};
use crate::args::counting::ReadCountingOptions;
use crate::args::sizes::Time;
use crate::args::{CorruptionPolicy, FramingOptions};
use crate::buffer::opening::require_buffer;
use crate::buffer::opening::unread_bytes;
use crate::buffer::pace::Rate;
use crate::consumer::acks::AckStream;
use crate::consumer::dead_letters::is_same;
use crate::consumer::options::ProgramOptions;
use crate::failure::{Failure, Outcome, Result, no_thread};
use crate::io::standard::{Stream, require};
use crate::output::live::{Live, Total};
use crate::output::{count, is_watched, print};
use crate::stop::Stop;
use clap::ValueHint;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long this command may take to end after a signal, in addition to `--grace`.
const SHUTDOWN_MAX: Duration = Duration::from_secs(30);

/// The examples, with which the text after the options begins in `-h` and `--help`.
macro_rules! examples {
    () => {
        "\
Examples:
  forebay drain old -- ./send
      gives all records in old to the program, and leaves old empty
  forebay drain volumes/*/spool --to spool
      moves the records of all these buffers to the end of spool
  forebay drain volumes/*/spool --parallel 4 --rate 5MiB/s -- ssh logs 'cat >> app.log'
      four buffers at a time, each into an ssh of its own, 5 MiB/s in all
  forebay drain old --framing length -- vector --config drain.yaml
      gives a buffer of Vector's to a running Vector, which reads frames from
      its standard input (docs/drain-into-vector.md)"
    };
}

#[derive(Debug, clap::Args)]
#[command(
    override_usage = "forebay drain [OPTIONS] <DIR>... -- <CMD>...\n       \
                      forebay drain [OPTIONS] <DIR>... --to <DIR>",
    after_help = concat!(examples!(), "

Each buffer is emptied into a CMD of its own, or all are into one other buffer.
What was not taken stays, and the next run goes on with it. The exit status is 0
only when all buffers are empty. `--help` says when a record is taken."),
    after_long_help = concat!(examples!(), "

Into CMD:
  Each buffer gets a start of CMD of its own, and with --parallel so many run at
  a time. CMD gets the records on its standard input, as with `forebay pipe`,
  and then the end of its input. An empty buffer starts no CMD.

When a record is taken, and leaves its buffer:
  without --ack
      once CMD has read its last byte and, after that, another 64 KiB
      (--redeliver), or has ended with status 0. Unlike with `pipe`, no other
      status takes the last records.
  with --ack
      once CMD has written a line for it

When CMD ends:
  with status 0 after everything was taken
      The buffer is empty, and the next one follows.
  with status 0 before that
      It wants no more: the rest stays in the buffer.
  by a signal, or with another status
      It has failed, and is started again with what it had not taken, after
      --restart-delay, which doubles up to 30 s; --max-restarts limits that.
      --max-attempts with --dead-letters sets a record aside on which CMD fails.
      `forebay pipe --help` explains this.

Into another buffer:
  --to moves the records as `forebay move` does, one buffer after the other.
  They are acknowledged once they are synced there, a data file at a time. The
  other buffer remembers what it was given, so that nothing comes twice after a
  kill or a power cut. They get new ids there.

When a buffer cannot be drained:
  A buffer that another process has open, a directory without a buffer and a CMD
  that fails are reported, and the other buffers are drained all the same. Only
  if CMD cannot be started at all, nothing more is tried.

On SIGINT, SIGTERM and SIGHUP:
  Each CMD sees the end of its input and has the time --grace to end; with --to,
  what was taken so far is synced. The rest stays for the next run.

The exit status is
  0        when all buffers are empty and everything was taken
  1        when records were lost to damage, set aside, or left by a CMD that
           ended with status 0
  2        on errors
  126      when CMD cannot be executed
  127      when CMD cannot be found
  128 + n  after signal n")
)]
pub(crate) struct Args {
    /// The directories of the buffers
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath, required = true, num_args = 1..)]
    directories: Vec<PathBuf>,

    /// Move the records to the end of the buffer in this directory, instead of giving
    /// them to a program; it is made if it is missing
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with_all = [
        "command", "parallel", "framing", "delimiter", "redeliver", "ack", "max_attempts",
        "dead_letters", "max_restarts", "restart_delay", "grace",
    ])]
    to: Option<PathBuf>,

    /// How many buffers are drained at a time, each into a CMD of its own
    #[arg(long, value_name = "N", default_value = "1", value_parser = parallel,
        allow_hyphen_values = true)]
    parallel: NonZeroUsize,

    /// Take at most so many bytes of payload per second, such as 5MiB/s, from all
    /// buffers together
    ///
    /// What a CMD that has failed gets again counts again.
    #[arg(long, value_name = "RATE", allow_hyphen_values = true)]
    rate: Option<Rate>,

    #[command(flatten)]
    counting: ReadCountingOptions,

    /// How long to wait for a buffer that another process has open
    ///
    /// Without it, a buffer in use is an error at once.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "0s",
        allow_hyphen_values = true
    )]
    wait: Time,

    /// What to do with damaged bytes in the buffers
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = CorruptionPolicy::Quarantine)]
    on_corruption: CorruptionPolicy,

    /// Print a JSON object for each buffer, on a line of its own
    ///
    /// The standard output of CMD then goes to standard error.
    #[arg(long)]
    json: bool,

    /// Show no progress and no summary on a terminal
    #[arg(short, long)]
    quiet: bool,

    /// Print more messages on standard error
    #[arg(short, long)]
    verbose: bool,

    #[command(flatten)]
    framing: FramingOptions,

    #[command(flatten)]
    program: ProgramOptions,

    /// The program and its arguments
    #[arg(value_name = "CMD", help_heading = "Program", required_unless_present = "to",
        last = true, num_args = 1.., value_hint = ValueHint::CommandWithArguments)]
    command: Vec<OsString>,
}

fn parallel(text: &str) -> Result<NonZeroUsize, String> {
    let number = crate::args::sizes::number(text)?;
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    NonZeroUsize::new(number).ok_or_else(|| "at least 1".to_owned())
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    if args.json || args.program.ack != Some(AckStream::Stdout) {
        require(Stream::Output)?;
    }
    args.program.check()?;
    refuse_repetition(args)?;
    // First, because a file that is opened earlier could get descriptor 3.
    let acks = args.program.acks()?;
    let stop = Stop::on_signals().map_err(|error| Failure::io("catch signals", &error))?;
    let bytes: Vec<u64> = args
        .directories
        .iter()
        .map(|dir| unread_bytes(dir))
        .collect();
    let total = Total::new(args.quiet, bytes.iter().sum(), bytes.len());
    let drain = Drain {
        args,
        stop,
        total,
        bytes,
    };
    let drained = match &args.to {
        Some(to) => drain.all(|directory, live| into_buffer::drain(&drain, directory, to, live)),
        None => {
            let limit = args.program.grace.0.saturating_add(SHUTDOWN_MAX);
            drain.stop.limit_shutdown(limit)?;
            let directories = &args.directories;
            let dead_letters = args
                .program
                .dead_letters(directories, args.wait, &drain.stop)?;
            let program = into_program::Program::new(args, acks, dead_letters)?;
            drain.all(|directory, live| program.drain(&drain, directory, live))
        }
    };
    drain.total.clear();
    conclude(&drain, drained?)
}

/// Refuses directories that are given twice, and a buffer that would be drained into itself.
fn refuse_repetition(args: &Args) -> Result<()> {
    for (index, directory) in args.directories.iter().enumerate() {
        let before = &args.directories[..index];
        if before.iter().any(|other| is_same(other, directory)) {
            return Err(Failure::new(format!(
                "{} is given twice; give each buffer once",
                directory.display()
            )));
        }
        if args.to.as_ref().is_some_and(|to| is_same(to, directory)) {
            return Err(Failure::new(format!(
                "{} cannot be drained into itself; give another directory with --to",
                directory.display()
            )));
        }
    }
    Ok(())
}

/// What the threads share.
struct Drain<'a> {
    args: &'a Args,
    stop: Stop,
    total: Total,
    /// The bytes that waited in each buffer, about.
    bytes: Vec<u64>,
}

impl Drain<'_> {
    /// Drains all buffers, and returns what became of each, in no order.
    fn all(&self, one: impl Fn(&Path, Live) -> Result<Drained> + Sync) -> Result<Vec<Drained>> {
        let next = AtomicUsize::new(0);
        let directories = &self.args.directories;
        let work = || {
            let mut drained = Vec::new();
            while let index = next.fetch_add(1, Ordering::Relaxed)
                && let Some(directory) = directories.get(index)
            {
                drained.push(self.one(index, directory, &one)?);
            }
            Ok::<_, Failure>(drained)
        };
        let threads = self.args.parallel.get().min(directories.len());
        std::thread::scope(|scope| {
            let mut workers = Vec::new();
            for _ in 0..threads {
                match std::thread::Builder::new().spawn_scoped(scope, work) {
                    Ok(worker) => workers.push(worker),
                    Err(error) => {
                        self.stop.ask();
                        return Err(no_thread(&error));
                    }
                }
            }
            let mut all = Vec::new();
            for worker in workers {
                match worker.join() {
                    Ok(drained) => all.extend(drained?),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok(all)
        })
    }

    /// Drains a buffer and reports what became of it.
    fn one(
        &self,
        index: usize,
        directory: &Path,
        one: impl Fn(&Path, Live) -> Result<Drained>,
    ) -> Result<Drained> {
        let live = Live::part(&self.total, self.label(directory), self.bytes[index]);
        let drained = match self.stop.is_set() {
            true => Ok(Drained::new(directory, State::Stopped)),
            false => require_buffer(directory).and_then(|()| one(directory, live)),
        };
        let drained =
            drained.unwrap_or_else(|failure| Drained::new(directory, State::Failed(failure)));
        if drained.is_fatal() {
            self.stop.ask();
        }
        self.total.count_done();
        let note = |text: &str| self.total.note(text);
        if let State::Failed(failure) = &drained.state
            && directories_are_several(self.args)
            && !drained.is_fatal()
        {
            note(&format!("{}{}", self.label(directory), failure.message));
        }
        if self.args.verbose || (is_watched() && !self.args.quiet) {
            note(&drained.text());
        }
        if self.args.json {
            print(&(drained.json() + "\n"))?;
        }
        Ok(drained)
    }

    /// What stands before messages about a buffer, so that it is clear which one they are
    /// about.
    fn label(&self, directory: &Path) -> String {
        match directories_are_several(self.args) {
            true => format!("{}: ", directory.display()),
            false => String::new(),
        }
    }
}

fn directories_are_several(args: &Args) -> bool {
    args.directories.len() > 1
}

/// The outcome of the command.
fn conclude(drain: &Drain<'_>, drained: Vec<Drained>) -> Result<Outcome> {
    if let Some(signal) = drain.stop.signal() {
        return Ok(Outcome::Stopped(signal));
    }
    let all = drained.len();
    let any_findings = drained.iter().any(Drained::has_findings);
    let (mut failures, mut names) = (Vec::new(), Vec::new());
    for one in drained {
        let is_fatal = one.is_fatal();
        let State::Failed(failure) = one.state else {
            continue;
        };
        if is_fatal || all == 1 {
            return Err(failure);
        }
        names.push(one.directory.display().to_string());
        failures.push(failure);
    }
    match failures.is_empty() {
        true => Ok(Outcome::Fine.with_findings(any_findings)),
        false => Err(Failure::new(format!(
            "{} of {} not drained: {}; what is in them stays for the next run",
            failures.len(),
            count(all as u64, "buffer"),
            names.join(", ")
        ))),
    }
}
