//! `forebay mend`: opens a buffer and closes it again, which mends what a crash leaves.

use crate::args::BufferOptions;
use crate::args::counting::ReadCountingOptions;
use crate::buffer::findings::{self, JsonFinding};
use crate::buffer::opening::{self, is_interrupted, require_buffer};
use crate::buffer::steps;
use crate::failure::{Failure, Outcome, Result};
use crate::io::standard::{Stream, require};
use crate::output::{json, print};
use crate::stop::Stop;
use forebay::Recovery;
use serde::Serialize;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay mend spool
      before another program opens the buffer that a crash has left

Opens the buffer and closes it again: cuts off torn records and zeros that a
crash left at the end, settles the ledger, deletes data files in which everything
is acknowledged. No record is taken out. Damage further inside stays; `forebay
repair` removes it.

A Vector of version 0.57 or before may lose records that it appends after zeros
at the end of a data file, so mend a buffer before such a version opens it.

The exit status is
  0  when opening found nothing, or only what a crash leaves behind
  1  when it found damage or a loss; `forebay verify` reads everything
  2  on errors")]
pub(crate) struct Args {
    #[command(flatten)]
    buffer: BufferOptions<ReadCountingOptions>,

    /// Print one JSON object
    #[arg(long, help_heading = None::<&str>)]
    json: bool,
}

/// What programs rely on: keys may be added, not renamed.
#[derive(Debug, Serialize)]
struct Report<'a> {
    finished_interrupted: bool,
    findings: Vec<JsonFinding<'a>>,
    events_lost: u64,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    require(Stream::Output)?;
    let directory = args.buffer.directory();
    require_buffer(directory)?;
    let stop = Stop::on_signals().map_err(|error| Failure::io("catch signals", &error))?;
    let config = args
        .buffer
        .config(steps::counter(args.buffer.counting, directory)?);
    let was_interrupted = is_interrupted(directory);
    let opened = opening::open(&config, args.buffer.wait.into(), args.buffer.verbose, &stop)?;
    let Some((writer, reader)) = opened else {
        return Ok(stop.signal().map_or(Outcome::Fine, Outcome::Stopped));
    };
    let recovery = writer.recovery().clone();
    drop(writer);
    reader.close()?;
    print(&match args.json {
        true => {
            let findings = recovery.findings.iter().map(JsonFinding::of).collect();
            let events_lost = recovery.events_lost;
            json(&Report {
                finished_interrupted: was_interrupted,
                findings,
                events_lost,
            }) + "\n"
        }
        false => format!(
            "{}: {}",
            directory.display(),
            text(&recovery, was_interrupted)
        ),
    })?;
    Ok(Outcome::Fine.with_findings(recovery.is_damaged() || recovery.events_lost > 0))
}

fn text(recovery: &Recovery, was_interrupted: bool) -> String {
    let mut text = match (was_interrupted, recovery.findings.is_empty()) {
        (true, _) => "finished a repair or a move to it that was interrupted\n".to_owned(),
        (false, true) => return "nothing to mend\n".to_owned(),
        (false, false) => String::new(),
    };
    if recovery.findings.is_empty() {
        return text;
    }
    text += match recovery.is_damaged() {
        true => "what can be mended is; `forebay repair` removes the damage\n\n",
        false => "mended\n\n",
    };
    findings::table(&mut text, &recovery.findings);
    text
}
