//! `forebay bench`: measures this machine, and the buffer on it.
//!
//! Invariant: nothing but the scratch directory and the plot is written.

use crate::args::sizes::Size;
use crate::failure::{Failure, Outcome, Result};
use crate::io::standard::{Stream, require};
use crate::output;
use crate::stop::Stop;
use clap::{ValueEnum as _, ValueHint};
use forebay_bench::payload::{LEN_MAX, LEN_MIN};
use forebay_bench::plan::{Plan, Work};
use forebay_bench::report::text;
use forebay_bench::rounds::{self, Progress};
use forebay_bench::scratch::Scratch;
use forebay_bench::standing::{self, Backlog};
use forebay_bench::{failure, plot, stop};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Bytes a measurement writes.
const SIZE: u64 = 1 << 30;
const QUICK_SIZE: u64 = 24 << 20;
const ROUNDS: u32 = 5;
/// How long a measurement takes that is bound by time and not by size.
const TIME: Duration = Duration::from_secs(1);
const QUICK_TIME: Duration = Duration::from_millis(50);
/// How long this program may take to end after a signal.
const SHUTDOWN_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay bench --quick
      a first impression, in seconds
  forebay bench --dir /var/spool --plot bench.svg
      the file system of /var/spool, in full (minutes), with a picture
  forebay bench --work append,read_ack --payload 256 --json
      a few figures, for a program

Measure on the file system that the buffer will be on, and while nothing else
runs. Every figure is the median of several rounds; raw files and the buffer are
measured in turns. Records are checked when they are read back; a wrong one ends
the run.

`append` and `append_batch` stop the clock when everything is written; a second
figure includes a sync of everything at the end. `read_ack` reads what was
written before, out of the page cache.

The exit status is
  0        when everything was measured
  2        on errors
  128 + n  after signal n (SIGINT, SIGTERM or SIGHUP)")]
pub(crate) struct Args {
    /// A directory on the file system to measure
    ///
    /// It is made if it is missing; a directory inside it is filled and removed
    /// again [default: the system's directory for temporary files]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,

    /// Bytes that each measurement writes [default: 1GiB; with --quick 24MiB]
    #[arg(long, value_name = "SIZE")]
    size: Option<Size>,

    /// Rounds that the medians are taken of [default: 5; with --quick 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,

    /// Do one round of small measurements, which takes a few seconds
    #[arg(long)]
    quick: bool,

    /// Payload lengths, such as 64,4KiB [default: 64 B to 64 KiB in five steps,
    /// and 256 B where one is enough]
    #[arg(long, value_name = "SIZES", value_delimiter = ',', value_parser = payload_len)]
    payload: Vec<usize>,

    /// What to measure [default: all]
    #[arg(long, value_name = "WORKS", value_delimiter = ',', value_enum)]
    work: Vec<Work>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Draw the figures into an SVG file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    plot: Option<PathBuf>,

    /// The part of the measurement of memory that runs in its own process
    #[arg(long, hide = true, value_name = "DIR")]
    hold_backlog: Option<PathBuf>,
}

fn payload_len(text: &str) -> Result<usize, String> {
    let Size(len) = text.parse()?;
    match (LEN_MIN..=LEN_MAX).contains(&len) {
        true => Ok(len as usize),
        false => Err(format!(
            "payloads are measured from {LEN_MIN} bytes to {} MiB",
            LEN_MAX >> 20
        )),
    }
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    require(Stream::Output)?;
    let stop = Stop::on_signals().map_err(|error| Failure::io("catch signals", &error))?;
    stop.limit_shutdown(SHUTDOWN_MAX)?;
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let (size, time, rounds) = match args.quick {
        true => (QUICK_SIZE, QUICK_TIME, 1),
        false => (SIZE, TIME, ROUNDS),
    };
    let size = args.size.map_or(size, |size| size.0);
    let asked = stop.clone();
    let scratch = Scratch::new(&parent, size, time, stop::Stop::new(move || asked.is_set()))?;
    let done = match &args.hold_backlog {
        Some(dir) => hold_backlog(args, &scratch, dir),
        None => measure(args, &scratch, args.rounds.unwrap_or(rounds)),
    };
    match stop.signal() {
        Some(signal) => Ok(Outcome::Stopped(signal)),
        None => done,
    }
}

impl From<failure::Failure> for Failure {
    fn from(failure: failure::Failure) -> Self {
        Self::new(failure.to_string())
    }
}

/// The command that runs this program again, for [`hold_backlog`].
fn holder(backlog: &Backlog<'_>) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["bench", "--size", &backlog.size.to_string()])
        .args(["--payload", &backlog.payload_len.to_string()])
        .arg("--hold-backlog")
        .arg(backlog.dir);
    Ok(command)
}

fn hold_backlog(args: &Args, scratch: &Scratch, dir: &Path) -> Result<Outcome> {
    let len = args.payload.first().copied().unwrap_or(LEN_MIN as usize);
    if let Some(bytes) = standing::hold_backlog(scratch, dir, len)? {
        output::print(&format!("{bytes}\n"))?;
    }
    Ok(Outcome::Fine)
}

fn measure(args: &Args, scratch: &Scratch, rounds: u32) -> Result<Outcome> {
    let plan = Plan {
        works: match args.work.is_empty() {
            true => Work::value_variants().to_vec(),
            false => args.work.clone(),
        },
        payloads: Some(args.payload.clone()).filter(|lens| !lens.is_empty()),
        holder,
    };
    let bar = progress_bar();
    let measured = rounds::measure(&plan, scratch, rounds, |Progress { done, total, step }| {
        bar.set_length(total);
        bar.set_position(done);
        bar.set_message(step.to_owned());
    });
    bar.finish_and_clear();
    let report = measured?;
    if let Some(path) = &args.plot {
        std::fs::write(path, plot::svg(&report))
            .map_err(|error| Failure::io(&format!("write {}", path.display()), &error))?;
    }
    output::print(&match args.json {
        true => output::json(&report) + "\n",
        false => text(&report),
    })?;
    Ok(Outcome::Fine)
}

fn progress_bar() -> ProgressBar {
    if !output::is_watched() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    // With a bad template the bar keeps its default style.
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos} of {len}  {msg}") {
        bar.set_style(style);
    }
    bar
}
