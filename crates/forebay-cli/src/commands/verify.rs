//! `forebay verify`: checks every byte of a buffer without opening it.
//!
//! Invariant: nothing is written, and no lock is taken.

use crate::args::counting::ReadCountingOptions;
use crate::buffer::findings::{self, JsonFinding};
use crate::buffer::losses::Steps;
use crate::buffer::{steps, verdict};
use crate::failure::{Outcome, Result};
use crate::io::standard::{Stream, require};
use crate::output::live::Progress;
use crate::output::{bytes, count, print};
use clap::ValueHint;
use forebay::{Verification, VerifyOptions};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay verify spool
  forebay verify spool --json | jq '.findings[] | select(.severity == \"damage\")'

Each finding is one damaged span, with its file, offset, length and the events
that the record ids prove lost there. Its severity is
  normal  for what a crash leaves behind, and opening the buffer mends; events
          that were not synced before a power cut may be lost with it
  damage  for everything else

If the program that fills the buffer counts several events a record, say so with
--count-events: that count is not stored, and with another one the ids seem to
step over lost events.

Works while another process has the buffer open, and never writes to it.

The exit status is
  0  when there is no damage and nothing is lost
  1  when there is damage or a loss
  2  on errors")]
pub(crate) struct Args {
    /// The buffer's directory
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: PathBuf,

    #[command(flatten)]
    counting: ReadCountingOptions,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    require(Stream::Output)?;
    let options =
        VerifyOptions::default().event_counter(steps::counter(args.counting, &args.directory)?);
    let progress = Progress::over_bytes();
    let verified = options
        .on_progress(|done, total| {
            progress.bytes(done, total);
        })
        .verify(&args.directory);
    progress.clear();
    let verification = verified?;
    let text = match args.json {
        true => json(args, &verification) + "\n",
        false => text(args, &verification),
    };
    print(&text)?;
    Ok(Outcome::Fine.with_findings(!verification.is_clean()))
}

/// What programs rely on: keys may be added, not renamed.
#[derive(Debug, Serialize)]
struct Report<'a> {
    records: u64,
    events: u64,
    bytes: u64,
    findings: Vec<JsonFinding<'a>>,
    findings_omitted: u64,
    events_lost: u64,
    may_count_events: bool,
}

fn json(args: &Args, verification: &Verification) -> String {
    crate::output::json(&Report {
        records: verification.records,
        events: verification.events,
        bytes: verification.bytes,
        findings: verification.findings.iter().map(JsonFinding::of).collect(),
        findings_omitted: verification.findings_omitted,
        events_lost: verification.events_lost,
        may_count_events: verdict::may_count_events(
            Steps::of(&args.directory),
            args.counting,
            verification,
        ),
    })
}

fn text(args: &Args, verification: &Verification) -> String {
    let mut text = format!(
        "{}: {} with {}, {} checked\n",
        args.directory.display(),
        count(verification.records, "record"),
        count(verification.events, "event"),
        bytes(verification.bytes),
    );
    if !verification.findings.is_empty() {
        text.push('\n');
        findings::table(&mut text, &verification.findings);
        text.push('\n');
    }
    if verification.findings_omitted > 0 {
        text.push_str(&format!(
            "{} not listed\n",
            count(verification.findings_omitted, "more finding")
        ));
    }
    text.push_str(&verdict::conclusion(
        &args.directory,
        args.counting,
        verification,
    ));
    text.push('\n');
    text
}
