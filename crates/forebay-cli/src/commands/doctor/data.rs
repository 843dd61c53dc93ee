//! Checks of what is in the buffer, and of the process that has it open.

use super::{Answer, Patient, system};
use crate::args::counting::ReadCountingOptions;
use crate::buffer::holder::Condition;
use crate::output::{age, bytes, count, quoted};
use forebay::{Finding, FindingKind, Severity};
use indicatif::HumanCount;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A process that has used more of its descriptors is close to failing.
const DESCRIPTORS_USED_MAX: f64 = 0.9;

/// A buffer that is full sooner is a problem.
const SOON_SECONDS: f64 = 3600.0;

const FINDINGS: &str = "findings";

/// How the command of a repair is meant.
const PLAN: &str = "This shows what it would do; --apply does it";

pub(super) fn unfinished_repair(directory: &Path) -> Answer {
    Answer::problem(
        "state",
        "a repair of the buffer is going on, or was interrupted; if no process repairs it, \
         opening it finishes the repair",
        format!("forebay mend {}", quoted(directory)),
    )
}

/// One answer for each kind of finding.
pub(super) fn findings(patient: &Patient) -> Vec<Answer> {
    let (findings, omitted) = match &patient.verification {
        Some(checked) => (&checked.findings, checked.findings_omitted),
        None => (&patient.inspection.recovery.findings, 0),
    };
    if findings.is_empty() {
        return vec![Answer::ok(
            FINDINGS,
            match &patient.verification {
                Some(checked) => format!(
                    "no damage; {} with {} checked",
                    count(checked.records, "record"),
                    count(checked.events, "event")
                ),
                None => "no damage in the ledger and at the ends of the data".to_owned(),
            },
        )];
    }
    let has_overlap = findings.iter().any(|f| f.kind == FindingKind::IdOverlap);
    let ids_decide = patient.ids_explain_all || (has_overlap && !patient.counting.is_by_ids());
    let (steps, others): (Vec<_>, Vec<_>) = findings.iter().partition(|f| ids_decide && is_step(f));
    let mut answers = Vec::new();
    if !steps.is_empty() {
        answers.push(of_steps(patient, has_overlap, &steps));
    }
    let mut by_kind: BTreeMap<(FindingKind, Severity), Vec<&Finding>> = BTreeMap::new();
    for finding in others {
        let key = (finding.kind, finding.severity);
        by_kind.entry(key).or_default().push(finding);
    }
    answers.extend(
        by_kind
            .into_iter()
            .map(|((kind, severity), findings)| of_kind(patient, kind, severity, &findings)),
    );
    if omitted > 0 {
        answers.push(Answer::problem(
            FINDINGS,
            format!("there are {}. {PLAN}", count(omitted, "more finding")),
            format!(
                "forebay repair {}{}",
                patient.quoted(),
                patient.counting.suffix()
            ),
        ));
    }
    answers
}

/// Whether a finding depends on how events are counted, and on nothing else.
fn is_step(finding: &Finding) -> bool {
    finding.severity == Severity::Damage
        && matches!(
            finding.kind,
            FindingKind::IdGap | FindingKind::IdOverlap | FindingKind::LedgerAhead
        )
}

/// The answer where another way to count may explain all steps of the ids.
fn of_steps(patient: &Patient, has_overlap: bool, steps: &[&Finding]) -> Answer {
    let dir = patient.quoted();
    let lost: u64 = steps.iter().map(|finding| finding.events_lost).sum();
    let lost = count(lost, "event");
    let places = count(steps.len() as u64, "place");
    let files = files(steps);
    let says = match has_overlap {
        true => format!(
            "records in {files} hold fewer events than are counted here: the program that fills \
             the buffer counts in another way. Count as that program does, as by the ids"
        ),
        false => format!(
            "ids step over {lost} at {places} in {files}, and no byte is damaged. If the program \
             that fills the buffer counts several events a record, nothing is lost: give \
             --count-events ids to all commands that read the buffer. If it counts one a record, \
             they are lost: `forebay repair {dir} --apply` accepts that"
        ),
    };
    Answer::problem(
        FINDINGS,
        says,
        format!(
            "forebay doctor {dir}{}",
            ReadCountingOptions::by_ids().suffix()
        ),
    )
}

fn of_kind(
    patient: &Patient,
    kind: FindingKind,
    severity: Severity,
    findings: &[&Finding],
) -> Answer {
    let dir = patient.quoted();
    let lost: u64 = findings.iter().map(|finding| finding.events_lost).sum();
    let places = count(findings.len() as u64, "place");
    let files = files(findings);
    let is_tail = matches!(kind, FindingKind::TornTail | FindingKind::ZeroTail);
    let is_normal = severity == Severity::Normal;
    if is_normal && lost > 0 && !is_tail {
        return Answer::ok(
            FINDINGS,
            format!(
                "{} lost at {places} in {files}, as an earlier repair has reported; nothing is to \
                 be done",
                count(lost, "event")
            ),
        );
    }
    if is_normal && kind == FindingKind::MissingFile {
        return Answer::ok(
            FINDINGS,
            format!("{files} is not made yet; it is made for the next record"),
        );
    }
    // What opening does with each kind if it loses nothing, and a repair otherwise.
    let (what, opening, repair) = match kind {
        FindingKind::TornTail => (
            match is_normal {
                true => format!("{files} ends inside a record, as a crash leaves it"),
                false => format!("{files} ends inside a record: something has cut it off"),
            },
            "cuts that off",
            "cuts that off and accepts the loss",
        ),
        FindingKind::ZeroTail => (
            format!("{files} ends in zeros, as a crash leaves it"),
            "cuts them off",
            "cuts them off and accepts the loss",
        ),
        FindingKind::BadLength | FindingKind::BadRecord | FindingKind::Checksum => (
            format!(
                "stored bytes have changed at {places} in {files}: the disk, its controller or \
                 the memory is faulty, or something else has written there. Readers step over it"
            ),
            "cuts that off",
            "leaves it out, and keeps the original",
        ),
        FindingKind::IdGap => (
            format!("ids are missing at {places} in {files}: records are gone"),
            "changes nothing",
            "accepts the loss",
        ),
        FindingKind::IdOverlap => (
            format!("ids are there several times at {places} in {files}"),
            "changes nothing",
            "leaves them out, and keeps the original",
        ),
        FindingKind::MissingFile => (
            format!("{files} is missing: something has deleted it. Put it back if there is a copy"),
            "makes it",
            "accepts the loss",
        ),
        FindingKind::StaleFile => (
            format!(
                "{files} repeats records that other files have, as an old copy would. Readers \
                 skip them"
            ),
            "sets the file aside",
            "leaves them out, and keeps the original",
        ),
        FindingKind::LedgerMissing | FindingKind::LedgerDamaged => (
            format!(
                "the ledger, {files}, is {}: which events were acknowledged is not known, so they \
                 come again",
                match kind {
                    FindingKind::LedgerMissing => "missing",
                    _ => "damaged",
                }
            ),
            "makes a new one from the data",
            "makes a new one from the data",
        ),
        FindingKind::LedgerBehind => (
            "the ledger is older than the data, as a crash leaves it".to_owned(),
            "brings it up to date",
            "brings it up to date",
        ),
        FindingKind::LedgerAhead => (
            "the ledger counts events that are not in the data: a power cut took them, or the \
             files were cut or come from an older copy"
                .to_owned(),
            "changes nothing",
            "accepts the loss",
        ),
        // A later version of the library may find more.
        _ => (
            format!("{kind} at {places} in {files}"),
            "mends it",
            "mends it",
        ),
    };
    let lost_text = match lost {
        0 => String::new(),
        lost => format!("; {} lost", count(lost, "event")),
    };
    let counting = patient.counting.suffix();
    let is_ledger = matches!(
        kind,
        FindingKind::LedgerMissing | FindingKind::LedgerDamaged
    );
    let may_be_count = patient.verification.is_none()
        && !patient.counting.is_by_ids()
        && findings.iter().all(|finding| is_step(finding));
    let (cure, command) = if may_be_count {
        (
            "Or the program that fills the buffer counts several events a record: without \
             --quick, this command tells"
                .to_owned(),
            format!("forebay doctor {dir}{counting}"),
        )
    } else if lost == 0 && (is_normal || is_ledger) {
        (
            format!("Opening the buffer {opening}{}", patient.once_closed()),
            format!("forebay mend {dir}{counting}"),
        )
    } else {
        (
            format!("A repair {repair}{}. {PLAN}", patient.once_closed()),
            format!("forebay repair {dir}{counting}"),
        )
    };
    let says = format!("{what}{lost_text}. {cure}");
    match severity == Severity::Damage || (is_tail && lost > 0) {
        true => Answer::problem(FINDINGS, says, command),
        false => Answer::note(FINDINGS, says, command),
    }
}

/// `buffer-data-3.dat`, `buffer-data-3.dat and 2 more files`.
fn files(findings: &[&Finding]) -> String {
    let names: BTreeSet<&str> = findings
        .iter()
        .filter_map(|finding| finding.file.as_deref())
        .collect();
    match (names.first(), names.len()) {
        (None, _) => "the data".to_owned(),
        (Some(first), 1) => (*first).to_owned(),
        (Some(first), all) => format!("{first} and {}", count(all as u64 - 1, "more file")),
    }
}

/// The process that has the buffer open, or an orphan.
pub(super) fn holder(patient: &Patient) -> Vec<Answer> {
    const CHECK: &str = "holder";
    let dir = patient.quoted();
    let unread = &patient.inspection.unread;
    let counting = patient.counting.suffix();
    let Some(holder) = &patient.holder else {
        if unread.events == 0 {
            return vec![Answer::ok(CHECK, "no process has the buffer open")];
        }
        let oldest = patient
            .inspection
            .oldest_unread_age_seconds
            .map_or_else(String::new, |seconds| {
                format!(", the oldest for {}", age(seconds))
            });
        return vec![Answer::problem(
            CHECK,
            format!(
                "no process has the buffer open, and {} {} in it{oldest}. Start the program that \
                 reads it; or, if it has none any more, take them out",
                count(unread.events, "event"),
                if unread.events == 1 { "waits" } else { "wait" }
            ),
            format!("forebay pull {dir} --framing length{counting} > records"),
        )];
    };
    let pid = holder.pid.unwrap_or(0);
    let mut answers = Vec::new();
    match holder.condition() {
        Some(Condition::Stopped) => answers.push(Answer::problem(
            CHECK,
            format!("{holder} has the buffer open, and is stopped by a signal or a debugger"),
            format!("kill -CONT {pid}"),
        )),
        Some(Condition::Ended) => answers.push(Answer::problem(
            CHECK,
            format!(
                "{holder} has the buffer open, has ended, and waits to be reaped by its parent"
            ),
            format!("ps -o pid,ppid,stat,cmd -p {pid}"),
        )),
        Some(Condition::WaitsForDevice) => answers.push(Answer::note(
            CHECK,
            format!(
                "{holder} has the buffer open, and waits for a device; if that lasts, the device \
                 is slow or failing"
            ),
            format!("ps -o pid,stat,wchan,cmd -p {pid}"),
        )),
        Some(Condition::Alive) => answers.push(Answer::ok(
            CHECK,
            format!("{holder} has the buffer open, and is alive"),
        )),
        None => answers.push(Answer::ok(
            CHECK,
            format!(
                "{holder} has the buffer open; this process cannot see it, because it is in \
                 another container"
            ),
        )),
    }
    if let Some((open, limit)) = holder.pid.and_then(system::descriptors)
        && open as f64 > limit as f64 * DESCRIPTORS_USED_MAX
    {
        answers.push(Answer::problem(
            CHECK,
            format!(
                "{holder} has {} of at most {} files open: it may soon be unable to open data \
                 files",
                HumanCount(open),
                HumanCount(limit)
            ),
            format!("prlimit --pid {pid} --nofile={}", limit.saturating_mul(4)),
        ));
    }
    answers
}

/// What moves, from two looks at a buffer that is open.
pub(super) fn progress(patient: &Patient) -> Vec<Answer> {
    const CHECK: &str = "progress";
    let Some(rates) = patient.meter.rates() else {
        return Vec::new();
    };
    let dir = patient.quoted();
    let mut answers = Vec::new();
    let unread = &patient.inspection.unread;
    let empty = patient.meter.time_to_empty();
    let empty = empty.map(|time| format!(", none in {} at this rate", age(time.as_secs_f64())));
    let moves = format!(
        "{} events/s in, {} events/s out, {} waiting{}",
        HumanCount(rates.events_in as u64),
        HumanCount(rates.events_out as u64),
        HumanCount(unread.events),
        empty.unwrap_or_default()
    );
    if unread.events > 0 && rates.events_out <= 0.0 {
        answers.push(Answer::note(
            CHECK,
            format!(
                "{moves}: nothing was acknowledged while this command looked. If that lasts, the \
                 reader is stuck or its destination is down; this is the record it is at"
            ),
            format!("forebay cat {dir} --max 1"),
        ));
    } else {
        answers.push(Answer::ok(CHECK, moves));
    }
    let growth = rates.bytes_in - rates.bytes_out;
    let free = patient.inspection.free_bytes;
    let disk_full = free
        .filter(|_| growth > 0.0)
        .map(|free| free as f64 / growth);
    let buffer_full = patient
        .max_size
        .and_then(|max_size| patient.meter.time_to_full(max_size))
        .map(|time| time.as_secs_f64());
    for (what, seconds) in [("buffer", buffer_full), ("file system", disk_full)] {
        if let Some(seconds) = seconds.filter(|seconds| *seconds < SOON_SECONDS) {
            answers.push(Answer::problem(
                CHECK,
                format!(
                    "the {what} is full in {} at this rate ({}/s more than is read). Get the \
                     reader to read faster, or give it more room",
                    age(seconds),
                    bytes(growth as u64)
                ),
                format!("df -h {dir}"),
            ));
        }
    }
    answers
}
