//! `forebay verify`: checks every byte of a buffer without opening it.
//!
//! Invariant: nothing is written, and no lock is taken.

use crate::args::counting::ReadCountingOptions;
use crate::buffer::findings::{self, JsonFinding};
use crate::buffer::losses::Steps;
use crate::buffer::steps;
use crate::failure::{Outcome, Result};
use crate::io::standard::{Stream, require};
use crate::live::Progress;
use crate::output::{bytes, count, print};
use clap::ValueHint;
use forebay::format::file_id::LEDGER_FILE_NAME;
use forebay::{Finding, FindingKind, Severity, Verification, VerifyOptions};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay verify spool
  forebay verify spool --json | jq '.findings[] | select(.severity == \"damage\")'

Each finding is one damaged span, with its file, offset, length and the events
that the record ids prove lost there. Its severity is
  normal  for what a crash leaves behind, and opening the buffer mends without
          loss
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
        may_count_events: may_count_events(args, verification),
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
    text.push_str(&conclusion(args, verification));
    text.push('\n');
    text
}

fn conclusion(args: &Args, verification: &Verification) -> String {
    // Only the ledger tells how many records there were after the last one that is there.
    let is_unusable = |finding: &Finding| {
        matches!(
            finding.kind,
            FindingKind::LedgerMissing | FindingKind::LedgerDamaged
        )
    };
    let is_end_known = !verification.findings.iter().any(is_unusable);
    let lost = match verification.events_lost {
        0 if is_end_known => "nothing is lost".to_owned(),
        0 => "no loss is proved, but without a usable ledger, records that are missing at the \
              end leave no trace"
            .to_owned(),
        lost if is_end_known => format!("{} lost", count(lost, "event")),
        lost => format!("at least {} lost", count(lost, "event")),
    };
    if verification.is_clean() {
        let reported: u64 = verification.findings.iter().map(|f| f.events_lost).sum();
        return match verification.findings.is_empty() {
            true => format!("no damage; {lost}"),
            false if reported > 0 => format!(
                "no damage; nothing is lost but {} that a repair has reported",
                count(reported, "event")
            ),
            false => format!(
                "no damage, only what a crash leaves behind; {lost}. Opening the buffer tidies it up"
            ),
        };
    }
    if may_count_events(args, verification) {
        return format!(
            "{lost}, or none: no byte is damaged, and where ids step further than one event, the \
             next record follows directly. A program that counts several events a record leaves \
             just that. If such a program fills this buffer, verify it with --count-events ids: \
             nothing is lost then"
        );
    }
    let is_ledger = |finding: &Finding| finding.file.as_deref() == Some(LEDGER_FILE_NAME);
    if verification.events_lost == 0 && damage(verification).all(is_ledger) {
        return format!("damaged; {lost}. Opening the buffer mends the ledger from the data files");
    }
    if verification.events_lost == 0 {
        return format!("damaged; {lost}. Opening the buffer steps over the damage");
    }
    let leaves_bytes =
        |finding: &Finding| finding.length > 0 && finding.events_lost > 0 && !is_ledger(finding);
    let kept = match damage(verification).any(leaves_bytes) {
        true => ", and keeps the damaged bytes in quarantine/",
        false => "",
    };
    format!(
        "damaged; {lost}. Opening the buffer steps over the damage and delivers all other \
         records{kept}"
    )
}

fn damage(verification: &Verification) -> impl Iterator<Item = &Finding> {
    let findings = verification.findings.iter();
    findings.filter(|finding| finding.severity == Severity::Damage)
}

/// Whether nothing is wrong but steps in the ids after whole records. Then the buffer's
/// records may hold several events each.
fn may_count_events(args: &Args, verification: &Verification) -> bool {
    let mut steps = Steps::of(&args.directory);
    let gaps = verification
        .findings
        .iter()
        .filter(|finding| finding.kind == FindingKind::IdGap);
    for gap in gaps {
        match (gap.severity, &gap.file) {
            (Severity::Damage, Some(file)) => {
                steps.before_record(file, gap.offset, gap.events_lost);
            }
            // A repair has reported it.
            _ => steps.are_losses(),
        }
    }
    if args.counting.is_by_ids() || !steps.is_possible() {
        return false;
    }
    let steps = [FindingKind::IdGap, FindingKind::LedgerAhead];
    let is_gap = |finding: &Finding| finding.kind == FindingKind::IdGap;
    // A step only after the last of several records is what a power cut leaves.
    let has_gap = damage(verification).any(is_gap) || verification.records == 1;
    let is_step = |finding: &Finding| steps.contains(&finding.kind);
    verification.events_lost > 0 && has_gap && damage(verification).all(is_step)
}
