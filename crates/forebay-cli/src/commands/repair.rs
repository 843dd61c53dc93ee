//! `forebay repair`: replaces a damaged buffer by a clean one of all that checks out.
//!
//! Invariant: without `--apply` nothing is changed.

use crate::args::counting::ReadCountingOptions;
use crate::buffer::findings::{self, JsonFinding, JsonIds};
use crate::buffer::losses::{MAY_COUNT_EVENTS, Steps};
use crate::buffer::opening::is_interrupted;
use crate::buffer::{steps, verdict};
use crate::failure::{Failure, Outcome, Result};
use crate::io::standard::{Stream, require};
use crate::output::live::Progress;
use crate::output::{self, bytes, count, note, print, quoted};
use clap::ValueHint;
use forebay::{ErrorKind, FileAction, FilePlan, Repair, RepairOptions, RepairPlan};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// At most this many data files are listed, except with `--json`.
const ROWS_MAX: usize = 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay repair spool
      what is damaged, what will be kept, what is lost; changes nothing
  forebay repair spool --apply
      repairs it
  forebay repair spool --apply --keep-original /mnt/other/spool.damaged
      repairs it, and puts the original files there

Data files with damage are written anew with every record that still checks out,
under its id and in its order; what is acknowledged is left out. Files without
damage stay. The new files are synced and read back before they take the place of
the old ones, which are kept in repair/ in the buffer's directory, with a report.
When this command is killed, or the power cut, the next command that opens the
buffer finds it as it was, or finishes the repair.

The ids of lost records stay missing. `verify` knows from then on that they were
reported. With --renumber the ids of all records follow one another; they differ
then from those under which records were delivered before, and `forebay copy`
takes again what it took before.

The buffer must not be open in another process, Forebay's or Vector's.

The exit status is
  0        when the buffer was repaired, or needs no repair
  1        without --apply, when it needs one
  2        on errors
  128 + n  after signal n, which ends the command at once; the buffer is as it was,
           or the next command that opens it finishes the repair")]
pub(crate) struct Args {
    /// The buffer's directory
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: PathBuf,

    #[command(flatten)]
    counting: ReadCountingOptions,

    /// Repair the buffer, instead of only saying what would be done
    #[arg(long)]
    apply: bool,

    /// Where the original files go: a new or empty directory
    /// [default: repair/N in the buffer's directory]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "in_place")]
    keep_original: Option<PathBuf>,

    /// Repair one file after the other, and keep only the damaged bytes of the
    /// original, in quarantine/: for a disk without space for a second copy
    #[arg(long)]
    in_place: bool,

    /// Give all records new ids, without gaps
    #[arg(long)]
    renumber: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    require(Stream::Output)?;
    let progress = Progress::over_bytes();
    let counter = steps::counter(args.counting, &args.directory)?;
    let options = || {
        let options = RepairOptions::new()
            .event_counter(counter.clone())
            .in_place(args.in_place)
            .renumber(args.renumber)
            .on_progress(|done, total| progress.bytes(done, total));
        match &args.keep_original {
            Some(dir) => options.keep_original(dir),
            None => options,
        }
    };
    let finishes = args.apply && is_interrupted(&args.directory);
    let plan = match args.apply && !args.renumber {
        true => None,
        false if finishes => None,
        false => Some(options().plan(&args.directory)),
    };
    let steps = Steps::of(&args.directory);
    let may_count = |plan: &RepairPlan| {
        verdict::may_count_events(steps.clone(), args.counting, &plan.verification)
    };
    // Without gaps between them, the ids of the events would overlap.
    let is_refused = args.apply
        && plan
            .as_ref()
            .is_some_and(|plan| plan.as_ref().is_ok_and(may_count));
    let repair = match plan {
        _ if is_refused => {
            progress.clear();
            return Err(Failure::new(format!(
                "{} is not renumbered: no byte is damaged, and its records may hold several events \
                 each, whose ids would then overlap; nothing was changed: see `forebay verify`, and \
                 say with --count-events how many events a record holds",
                args.directory.display()
            )));
        }
        Some(plan) if !args.apply => plan.map(Repair::of_plan),
        _ => options().repair(&args.directory),
    };
    progress.clear();
    let repair = repair.map_err(|error| match error.kind() {
        ErrorKind::DiskFull if !args.in_place => Failure::from(error).but("see --in-place"),
        ErrorKind::DiskFull => Failure::from(error).but(format!(
            "or take what is intact to another disk, with `forebay move {} TO`",
            quoted(&args.directory)
        )),
        ErrorKind::Locked if !args.apply && is_interrupted(&args.directory) => Failure::from(error)
            .but(format!(
                "`forebay repair {} --apply` finishes it as well, and then repairs what is damaged",
                quoted(&args.directory)
            )),
        ErrorKind::InvalidConfig => Failure::new(format!("{error:#}")),
        _ => Failure::from(error),
    })?;
    let may_count_events = may_count(&repair.plan);
    let text = match args.json {
        true => json(args, &repair, finishes, may_count_events) + "\n",
        false if finishes => {
            let dir = args.directory.display();
            format!("{dir}: finished a repair or a move to it that was interrupted\n")
                + &text(args, &repair)
        }
        false => text(args, &repair),
    };
    print(&text)?;
    if may_count_events {
        note(MAY_COUNT_EVENTS);
    }
    Ok(Outcome::Fine.with_findings(!args.apply && repair.plan.is_needed()))
}

/// What programs rely on: keys may be added, not renamed.
#[derive(Debug, Serialize)]
struct Report<'a> {
    needed: bool,
    applied: bool,
    finished_interrupted: bool,
    original: Option<&'a Path>,
    findings: Vec<JsonFinding<'a>>,
    findings_omitted: u64,
    events_lost: u64,
    may_count_events: bool,
    records: u64,
    events: u64,
    missing: Vec<JsonIds>,
    files: Vec<File<'a>>,
    bytes_needed: u64,
    bytes_free: Option<u64>,
}

#[derive(Debug, Serialize)]
struct File<'a> {
    name: &'a str,
    action: &'static str,
    new_name: Option<&'a str>,
    bytes: u64,
    records: u64,
    kept_bytes: u64,
}

fn json(
    args: &Args,
    repair: &Repair,
    finished_interrupted: bool,
    may_count_events: bool,
) -> String {
    let plan = &repair.plan;
    output::json(&Report {
        needed: plan.is_needed(),
        applied: args.apply && plan.is_needed(),
        finished_interrupted,
        original: repair.original.as_deref(),
        findings: plan
            .verification
            .findings
            .iter()
            .map(JsonFinding::of)
            .collect(),
        findings_omitted: plan.verification.findings_omitted,
        events_lost: plan.verification.events_lost,
        may_count_events,
        records: plan.records,
        events: plan.events,
        missing: plan.missing.iter().map(JsonIds::of).collect(),
        files: plan
            .files
            .iter()
            .map(|file| File {
                name: &file.name,
                action: file.action.as_str(),
                new_name: file.new_name.as_deref(),
                bytes: file.bytes,
                records: file.records,
                kept_bytes: file.kept_bytes,
            })
            .collect(),
        bytes_needed: plan.bytes_needed,
        bytes_free: plan.bytes_free,
    })
}

fn text(args: &Args, repair: &Repair) -> String {
    let (plan, dir) = (&repair.plan, args.directory.display());
    if !plan.is_needed() {
        return match plan.verification.findings.is_empty() {
            true => format!("{dir}: no damage; there is nothing to repair\n"),
            false => format!(
                "{dir}: no damage, only what a crash or an earlier repair leaves behind; there is \
                 nothing to repair\n"
            ),
        };
    }
    let mut text = format!(
        "{dir}: {}\n\n",
        count(plan.verification.findings.len() as u64, "finding")
    );
    findings::table(&mut text, &plan.verification.findings);
    text.push('\n');
    files(&mut text, plan);
    let kept = format!(
        "{} with {}",
        count(plan.records, "record"),
        count(plan.events, "event")
    );
    let kept_is = if args.apply { "kept" } else { "to keep" };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{kept_is}: {kept}");
    let lost: u64 = plan.missing.iter().map(|ids| ids.end - ids.start).sum();
    let ids = match plan.missing.is_empty() {
        true => String::new(),
        false => format!(", {}", findings::id_ranges(&plan.missing)),
    };
    let _ = writeln!(text, "lost: {}{ids}", count(lost, "event"));
    match &repair.original {
        Some(original) if args.in_place => {
            let _ = writeln!(
                text,
                "repaired; the damaged bytes are in quarantine/, the report is in {}",
                original.display()
            );
        }
        Some(original) => {
            let _ = writeln!(
                text,
                "repaired; the original files and report.json are in {}",
                original.display()
            );
        }
        None => {
            let free = plan
                .bytes_free
                .map(|free| format!(", {} are free", bytes(free)));
            let _ = writeln!(
                text,
                "space: {} needed{}\nnothing was changed; --apply does it",
                bytes(plan.bytes_needed),
                free.unwrap_or_default()
            );
        }
    }
    text
}

/// What happens to the data files: a line for each that is written anew or goes, and one for
/// all that get another id, and for all that stay.
fn files(text: &mut String, plan: &RepairPlan) {
    let with = |action| plan.files.iter().filter(move |file| file.action == action);
    let changed = || {
        let is_changed =
            |file: &&FilePlan| matches!(file.action, FileAction::Rewrite | FileAction::Remove);
        plan.files.iter().filter(is_changed)
    };
    // Writing to a string cannot fail.
    for file in changed().take(ROWS_MAX) {
        let what = match &file.new_name {
            Some(new) => {
                let name = match *new == file.name {
                    true => String::new(),
                    false => format!(" as {new}"),
                };
                format!(
                    "is written anew{name}, with {}",
                    count(file.records, "record")
                )
            }
            None => "holds nothing that is still to be delivered, and goes".to_owned(),
        };
        let _ = writeln!(text, "{} {what}", file.name);
    }
    let more = changed().count().saturating_sub(ROWS_MAX) as u64;
    if more > 0 {
        let _ = writeln!(text, "and {}", count(more, "more file"));
    }
    let renamed = with(FileAction::Rename).count() as u64;
    if let Some((first, new)) =
        with(FileAction::Rename).find_map(|file| Some((&file.name, file.new_name.as_ref()?)))
    {
        let rest = if renamed == 1 { "" } else { ", and so on" };
        let _ = writeln!(
            text,
            "{} without damage: {first} becomes {new}{rest}, so that their ids follow one another",
            count(renamed, "file")
        );
    }
    let kept = with(FileAction::Keep).count() as u64;
    if kept > 0 {
        let stay = if kept == 1 {
            "stays as it is"
        } else {
            "stay as they are"
        };
        let _ = writeln!(text, "{} {stay}", count(kept, "file"));
    }
    text.push('\n');
}
