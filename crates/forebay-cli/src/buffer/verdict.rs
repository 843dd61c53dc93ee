//! What a verification says of a buffer, in words.

use crate::args::counting::ReadCountingOptions;
use crate::buffer::losses::Steps;
use crate::output::count;
use forebay::format::file_id::LEDGER_FILE_NAME;
use forebay::{Finding, FindingKind, Severity, Verification};
use std::path::Path;

/// What a verification says in the end, in one sentence or two.
pub(crate) fn conclusion(
    directory: &Path,
    counting: ReadCountingOptions,
    verification: &Verification,
) -> String {
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
    if may_count_events(Steps::of(directory), counting, verification) {
        return format!(
            "{lost}, or none: no byte is damaged, and where ids step further than one event, the \
             next record follows directly. A program that counts several events a record leaves \
             just that. If such a program fills this buffer, verify it with --count-events ids: \
             nothing is lost then"
        );
    }
    if damage(verification).next().is_none() {
        return format!(
            "no damage, only what a crash leaves behind; {lost}, as a power cut takes events that \
             were not synced. Opening the buffer tidies it up"
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
/// records may hold several events each. `steps` are of the buffer as it was when it was verified.
pub(crate) fn may_count_events(
    mut steps: Steps,
    counting: ReadCountingOptions,
    verification: &Verification,
) -> bool {
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
    if counting.is_chosen() || !steps.is_possible() {
        return false;
    }
    let steps = [FindingKind::IdGap, FindingKind::LedgerAhead];
    let is_gap = |finding: &Finding| finding.kind == FindingKind::IdGap;
    // A step only after the last of several records is what a power cut leaves.
    let has_gap = damage(verification).any(is_gap) || verification.records == 1;
    let is_step = |finding: &Finding| steps.contains(&finding.kind);
    verification.events_lost > 0 && has_gap && damage(verification).all(is_step)
}
