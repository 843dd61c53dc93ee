//! Words of the page: times, commands, and what a finding means.

use forebay::FindingKind;
use jiff::Timestamp;
use std::time::SystemTime;

/// A time in UTC, to the second; `?` if it is out of range.
pub(crate) fn time(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or("?".to_owned(), |time| {
        time.strftime("%Y-%m-%d %H:%M:%S").to_string()
    })
}

/// The same for a time that may be unknown.
pub(crate) fn maybe_time(at: Option<SystemTime>) -> String {
    at.map_or_else(String::new, time)
}

/// What a finding means, in one sentence.
pub(crate) fn meaning(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::TornTail => "The file ends inside a record.",
        FindingKind::ZeroTail => "The file ends in zeros that are not a record.",
        FindingKind::BadLength => "The length of a record is impossible.",
        FindingKind::BadRecord => "These bytes are not a record.",
        FindingKind::Checksum => "The bytes of a record do not match its checksum.",
        FindingKind::IdGap => "The ids step over events that no record here holds.",
        FindingKind::IdOverlap => {
            "Ids overlap: the writing program counts fewer events a record (--count-events)."
        }
        FindingKind::MissingFile => "A data file is missing.",
        FindingKind::StaleFile => "These records are there a second time, and are not read.",
        FindingKind::LedgerMissing => "There is no ledger; opening rebuilds it.",
        FindingKind::LedgerDamaged => "The ledger is unusable; opening rebuilds it.",
        FindingKind::LedgerBehind => "There are records that the ledger does not count.",
        FindingKind::LedgerAhead => "The ledger counts records that are not there.",
        _ => "",
    }
}
