//! `forebay doctor`: what a support engineer would check, and what to do about it.
//!
//! Invariants: nothing of a buffer is written, and no lock is taken; every answer that is a
//! problem says what to do.

mod data;
mod surroundings;
mod system;

use crate::args::counting::ReadCountingOptions;
use crate::args::max_sizes::MaxSizeOptions;
use crate::buffer::holder::Holder;
use crate::buffer::looks::{Found, Look, NoLook};
use crate::buffer::losses::Steps;
use crate::buffer::rates::Meter;
use crate::buffer::{steps, verdict};
use crate::failure::{Outcome, Result};
use crate::io::standard::{Stream, require};
use crate::output::live::{Counter, Progress};
use crate::output::{colours, count, note, print, quoted};
use clap::ValueHint;
use forebay::{Inspection, Verification, VerifyOptions};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A buffer that a process has open is looked at twice, at least this far apart.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay doctor spool
  forebay doctor /var/lib/vector --max-size 1GiB
  forebay doctor spool --json | jq -r '.checks[] | select(.verdict == \"problem\").command'

Checks every buffer in and below the directories:
  state        an interrupted repair
  findings     every byte, as `forebay verify` does
  holder       whether a process has the buffer open and is alive; open files
  progress     whether that process takes events, and how long until the buffer
               is full at the present rate
  space        the free space and the files of the file system, against the
               maximum size
  permissions  owners and modes, and a file system that is read-only
  file system  one that syncs weakly or not at all
  syncs        how long a sync takes: a device that syncs suspiciously fast loses
               data in a power cut, whatever it reports
  clock        times that lie in the future, or in the far past
  leftovers    what quarantine and repairs have kept

The command under an answer does what the answer says, or shows what it would do
(`forebay repair` without --apply). Nothing in a buffer is changed. To measure
syncs, 128 KiB at most are written to a file without a name in the buffer's
directory, which is gone at once; --quick leaves that out.

The exit status is
  0  when there is no problem; notes are no problems
  1  when there is one
  2  on errors, such as no buffer")]
pub(crate) struct Args {
    /// Directories; buffers are looked for in and below them
    #[arg(value_name = "DIR", required = true, value_hint = ValueHint::DirPath)]
    paths: Vec<PathBuf>,

    /// Neither check every byte nor measure syncs
    #[arg(long)]
    quick: bool,

    #[command(flatten)]
    max_size: MaxSizeOptions,

    #[command(flatten)]
    counting: ReadCountingOptions,

    /// Print a JSON object for each buffer, on a line of its own
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    require(Stream::Output)?;
    let counter = Counter::of_buffers();
    let found = Found::below(&args.paths, |buffers| counter.found(buffers));
    counter.clear();
    found.report(&args.paths)?;
    let mut has_errors = !found.errors.is_empty();
    let mut has_problems = false;
    let mut sync_times = SyncTimes::new();
    for (index, directory) in found.buffers.iter().enumerate() {
        counter.done(index as u64, found.buffers.len() as u64);
        let Some(answers) =
            examine(args, directory, &counter, &mut sync_times).unwrap_or_else(|failure| {
                counter.clear();
                note(failure.message);
                has_errors = true;
                None
            })
        else {
            continue;
        };
        counter.clear();
        has_problems |= problems(&answers) > 0;
        print(&match args.json {
            true => json(directory, &answers) + "\n",
            false => text(directory, &answers),
        })?;
    }
    Ok(match has_errors {
        true => Outcome::Errors,
        false => Outcome::Fine.with_findings(has_problems),
    })
}

/// How long a sync takes, measured once for each file system that is mounted at a path; `None`
/// where it cannot be measured.
type SyncTimes = BTreeMap<PathBuf, Option<Duration>>;

/// How an answer is meant. In order of weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Ok,
    /// Worth knowing; nothing has to be done.
    Note,
    Problem,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Problem => "problem",
        }
    }
}

/// What one check says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    check: &'static str,
    verdict: Verdict,
    /// In plain words.
    says: String,
    /// A command for the shell.
    command: Option<String>,
}

impl Answer {
    fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Ok,
            says: says.into(),
            command: None,
        }
    }

    fn note(check: &'static str, says: impl Into<String>, command: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Note,
            command: Some(command.into()),
            ..Self::ok(check, says)
        }
    }

    fn problem(check: &'static str, says: impl Into<String>, command: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Problem,
            ..Self::note(check, says, command)
        }
    }
}

/// All that is known of a buffer when the checks are made.
#[derive(Debug)]
struct Patient {
    directory: PathBuf,
    inspection: Inspection,
    holder: Option<Holder>,
    counting: ReadCountingOptions,
    /// Without `--quick`.
    verification: Option<Verification>,
    /// Whether the verification finds nothing wrong once events are counted by the ids.
    ids_explain_all: bool,
    /// With two looks, if a process has the buffer open.
    meter: Meter,
    max_size: Option<u64>,
}

impl Patient {
    /// The directory as a word of a shell command.
    fn quoted(&self) -> String {
        quoted(&self.directory)
    }

    /// `, once vector (12) has ended`, for commands that need the buffer for themselves.
    fn once_closed(&self) -> String {
        match &self.holder {
            Some(holder) => format!(", once {holder} has closed the buffer"),
            None => String::new(),
        }
    }
}

/// The answers about one buffer; `None` if it was deleted since it was found.
///
/// # Errors
///
/// It cannot be looked at, and that is no question of permissions.
fn examine(
    args: &Args,
    directory: &Path,
    counter: &Counter,
    sync_times: &mut SyncTimes,
) -> Result<Option<Vec<Answer>>> {
    let failure = match examine_all(args, directory, counter, sync_times) {
        Ok(answers) => return Ok(answers),
        Err(failure) => failure,
    };
    let Some(closed) = surroundings::unreadable(directory) else {
        return Err(failure);
    };
    let mut answers = vec![closed];
    let mount = system::Mount::of(directory);
    answers.extend(surroundings::file_system(directory, mount.as_ref()));
    if !args.quick {
        answers.extend(surroundings::syncs(directory, mount.as_ref(), sync_times));
    }
    answers.extend(surroundings::leftovers(directory, true));
    Ok(Some(answers))
}

/// The answers about one buffer that can be read.
///
/// # Errors
///
/// It cannot be looked at.
fn examine_all(
    args: &Args,
    directory: &Path,
    counter: &Counter,
    sync_times: &mut SyncTimes,
) -> Result<Option<Vec<Answer>>> {
    let mut meter = Meter::over(Duration::MAX);
    let begun = Instant::now();
    let mut look = Look::at(directory, args.counting);
    if let Ok(inspection) = &look.inspection {
        meter.take(begun, inspection);
    }
    let verification = match (&look.inspection, args.quick) {
        (Ok(_), false) => {
            counter.clear();
            Some(verify(args.counting, directory)?)
        }
        _ => None,
    };
    if look.holder.is_some() {
        std::thread::sleep(BETWEEN_LOOKS.saturating_sub(begun.elapsed()));
        look = Look::at(directory, args.counting);
        if let Ok(inspection) = &look.inspection {
            meter.take(Instant::now(), inspection);
        }
    }
    let inspection = match look.inspection {
        Ok(inspection) => inspection,
        Err(NoLook::Gone) => return Ok(None),
        Err(NoLook::Error(says)) => return Err(crate::failure::Failure::new(says)),
        Err(NoLook::Repair(_)) => return Ok(Some(vec![data::unfinished_repair(directory)])),
    };
    let ids_explain_all = match &verification {
        Some(checked)
            if verdict::may_count_events(Steps::of(directory), args.counting, checked) =>
        {
            verify(ReadCountingOptions::by_ids(), directory)?.is_clean()
        }
        _ => false,
    };
    let patient = Patient {
        directory: directory.to_owned(),
        counting: args.counting,
        ids_explain_all,
        holder: look.holder,
        inspection,
        verification,
        meter,
        max_size: args.max_size.of(directory),
    };
    let mut answers = data::findings(&patient);
    answers.extend(data::holder(&patient));
    answers.extend(data::progress(&patient));
    answers.extend(surroundings::space(&patient));
    answers.extend(surroundings::permissions(&patient));
    let mount = system::Mount::of(directory);
    answers.extend(surroundings::file_system(directory, mount.as_ref()));
    if !args.quick {
        answers.extend(surroundings::syncs(directory, mount.as_ref(), sync_times));
    }
    answers.extend(surroundings::clock(&patient));
    let is_locked = patient.inspection.locked;
    answers.extend(surroundings::leftovers(directory, is_locked));
    Ok(Some(answers))
}

fn verify(counting: ReadCountingOptions, directory: &Path) -> Result<Verification> {
    let counter = steps::counter(counting, directory)?;
    let progress = Progress::over_bytes();
    let verified = VerifyOptions::new()
        .event_counter(counter)
        .on_progress(|done, total| progress.bytes(done, total))
        .verify(directory);
    progress.clear();
    Ok(verified?)
}

fn problems(answers: &[Answer]) -> usize {
    let is_problem = |answer: &&Answer| answer.verdict == Verdict::Problem;
    answers.iter().filter(is_problem).count()
}

/// What programs rely on: keys may be added, not renamed.
#[derive(Debug, Serialize)]
struct Report<'a> {
    directory: &'a str,
    problems: usize,
    checks: Vec<Check<'a>>,
}

#[derive(Debug, Serialize)]
struct Check<'a> {
    check: &'static str,
    verdict: &'static str,
    says: &'a str,
    command: Option<&'a str>,
}

fn json(directory: &Path, answers: &[Answer]) -> String {
    let checks = answers.iter().map(|answer| Check {
        check: answer.check,
        verdict: answer.verdict.as_str(),
        says: &answer.says,
        command: answer.command.as_deref(),
    });
    crate::output::json(&Report {
        directory: &directory.to_string_lossy(),
        problems: problems(answers),
        checks: checks.collect(),
    })
}

/// The answers, the heaviest first.
fn text(directory: &Path, answers: &[Answer]) -> String {
    let heading = match problems(answers) {
        0 => "no problem".to_owned(),
        some => count(some as u64, "problem"),
    };
    let mut text = format!("{}: {heading}\n", directory.display());
    let mut answers: Vec<_> = answers.iter().collect();
    answers.sort_by_key(|answer| std::cmp::Reverse(answer.verdict));
    for answer in answers {
        let (verdict, colour) = match answer.verdict {
            Verdict::Problem => ("PROBLEM", "\x1b[31m"),
            Verdict::Note => ("note", "\x1b[33m"),
            Verdict::Ok => ("ok", ""),
        };
        let (colour, reset) = match colours() && !colour.is_empty() {
            true => (colour, "\x1b[0m"),
            false => ("", ""),
        };
        let mut begin = format!("  {colour}{verdict:<7}{reset}  {:<12} ", answer.check);
        for line in wrapped(&answer.says) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{begin}{line}");
            begin = " ".repeat(INDENT);
        }
        if let Some(command) = &answer.command {
            let _ = writeln!(text, "{begin}$ {command}");
        }
    }
    text.push('\n');
    text
}

/// Where the text of an answer begins, and how long its lines are at most.
const INDENT: usize = 24;
const LINE_LEN: usize = 56;

/// The words of a text in lines.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= LINE_LEN {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_wrapped_between_words() {
        let word = "x".repeat(50);
        assert_eq!(wrapped("a b"), ["a b"]);
        assert_eq!(wrapped(&format!("{word} {word}")), [word.as_str(), &word]);
        let long = "y".repeat(LINE_LEN + 1);
        assert_eq!(wrapped(&format!("a {long} b")), ["a", &long, "b"]);
    }
}
