//! `forebay metrics`: the figures of buffers as Prometheus text, from outside the processes that
//! have them open.
//!
//! Invariants: nothing is written to a buffer, and no lock is taken; a reader of `--output` sees
//! a whole text, the old or the new one.

mod exposition;
mod serving;

use crate::args::counting::ReadCountingOptions;
use crate::args::file;
use crate::args::max_sizes::MaxSizeOptions;
use crate::args::sizes::Time;
use crate::buffer::looks::{Found, Look, NoLook};
use crate::buffer::rates::Meter;
use crate::failure::{Failure, Outcome, Result};
use crate::io::replace::Target;
use crate::io::standard::{Stream, require};
use crate::output::{note, print};
use crate::stop::Stop;
use clap::ValueHint;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Rates, such as for the time until a buffer is full, are those of this time.
const WINDOW: Duration = Duration::from_secs(5 * 60);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay metrics /var/lib/vector --listen 127.0.0.1:9598
  forebay metrics spool --max-size 1GiB --output /var/lib/node_exporter/forebay.prom
  forebay metrics spool --every 15s --output /var/lib/node_exporter/forebay.prom
  forebay metrics spool | grep buffer_size_events

Buffers are looked for in and below the directories, each time anew. Works while
other processes, Vector's too, have them open, and never writes to one.

One look does not tell the values that need several: bytes in and out, the time
since the last progress, the time until a buffer is full. They are there with
--listen and with --every, from the second look on.

docs/monitoring.md lists all values; alert rules and a dashboard are in ops/. As
JSON, `forebay ls --json` gives what one look tells.

The exit status is
  0        when all buffers could be looked at, whatever state they are in
  2        on errors, such as a directory that cannot be listed, or no buffer
  128 + n  after signal n, which ends --listen and --every")]
pub(crate) struct Args {
    /// Directories; buffers are looked for in and below them
    #[arg(value_name = "DIR", required = true, value_hint = ValueHint::DirPath)]
    paths: Vec<PathBuf>,

    /// The file to write; `-` is standard output [default: -]
    ///
    /// The file is replaced as a whole, as the textfile collector of Prometheus'
    /// node exporter needs it; its name must end in .prom there.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// Go on, and write the file again each time this has passed, such as 15s
    #[arg(
        long,
        value_name = "DURATION",
        requires = "output",
        allow_hyphen_values = true
    )]
    every: Option<Time>,

    /// Serve the text over HTTP at /metrics, until stopped; looks when asked
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with_all = ["output", "every"])]
    listen: Option<SocketAddr>,

    #[command(flatten)]
    max_size: MaxSizeOptions,

    #[command(flatten)]
    counting: ReadCountingOptions,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let mut watch = Watch::over(args);
    if let Some(address) = args.listen {
        return serving::run(address, watch);
    }
    match (file(&args.output), args.every) {
        (Some(file), Some(Time(every))) => again_and_again(&mut watch, file, every),
        (None, Some(_)) => Err(Failure::new(
            "--every rewrites a file; give one to --output, not standard output",
        )),
        (file, None) => once(&mut watch, file),
    }
}

fn once(watch: &mut Watch, file: Option<&Path>) -> Result<Outcome> {
    if file.is_none() {
        require(Stream::Output)?;
    }
    let text = watch.text();
    if watch.meters.is_empty() && watch.problems.is_empty() {
        return Err(watch.no_buffer());
    }
    match file {
        None => print(&text)?,
        Some(file) => Target::new(file)?.write(text.as_bytes())?,
    }
    Ok(match watch.problems.is_empty() {
        true => Outcome::Fine,
        false => Outcome::Errors,
    })
}

/// Writes the file until a signal ends it.
fn again_and_again(watch: &mut Watch, file: &Path, every: Duration) -> Result<Outcome> {
    if every.is_zero() {
        return Err(Failure::new("--every 0s is no time; write it as 15s or 1m"));
    }
    let stop = Stop::on_signals().map_err(|error| Failure::io("catch signals", &error))?;
    // The first time, a file that cannot be written is a mistake; later, it may pass.
    let mut text = watch.text();
    let target = Target::new(file)?;
    target.write(text.as_bytes())?;
    let mut is_failing = false;
    loop {
        stop.wait(every);
        if stop.is_set() {
            return Ok(stop.signal().map_or(Outcome::Fine, Outcome::Stopped));
        }
        text = watch.text();
        let written = target.write(text.as_bytes());
        if let Err(failure) = &written
            && !is_failing
        {
            note(&failure.message);
        }
        is_failing = written.is_err();
    }
}

/// What is known of the buffers below paths, from one look to the next.
#[derive(Debug)]
struct Watch {
    paths: Vec<PathBuf>,
    max_size: MaxSizeOptions,
    counting: ReadCountingOptions,
    meters: BTreeMap<PathBuf, Meter>,
    /// What could not be looked at the last time, in words. They are printed once.
    problems: BTreeSet<String>,
}

impl Watch {
    fn over(args: &Args) -> Self {
        Self {
            paths: args.paths.clone(),
            max_size: args.max_size.clone(),
            counting: args.counting,
            meters: BTreeMap::new(),
            problems: BTreeSet::new(),
        }
    }

    /// Looks at all buffers, and returns their figures.
    fn text(&mut self) -> String {
        let found = Found::below(&self.paths, |_| {});
        let mut problems: BTreeSet<String> = found.errors.into_iter().collect();
        let has_errors = !problems.is_empty();
        let mut looks = Vec::new();
        for directory in &found.buffers {
            let look = Look::at(directory, self.counting);
            match &look.inspection {
                Ok(inspection) => {
                    let meter = self.meters.entry(directory.clone());
                    let meter = meter.or_insert_with(|| Meter::over(WINDOW));
                    meter.take(Instant::now(), inspection);
                }
                Err(NoLook::Gone) => continue,
                Err(NoLook::Repair(says) | NoLook::Error(says)) => {
                    problems.insert(says.clone());
                }
            }
            looks.push(look);
        }
        let is_there = |directory: &Path| looks.iter().any(|look| look.directory == directory);
        self.meters.retain(|directory, _| is_there(directory));
        problems.difference(&self.problems).for_each(note);
        self.problems = problems;
        exposition::text(&looks, has_errors, |directory| exposition::Known {
            meter: self.meters.get(directory),
            max_size: self.max_size.of(directory),
        })
    }

    fn no_buffer(&self) -> Failure {
        let paths: Vec<_> = self.paths.iter().map(|p| p.display().to_string()).collect();
        Failure::new(format!(
            "there is no buffer in or below {}; check the path",
            paths.join(", ")
        ))
    }
}
