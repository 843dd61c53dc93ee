//! The findings that both opening and verifying report.
//!
//! Invariants:
//! - A finding counts the events that the record ids prove lost there; no event is counted
//!   by two findings.
//! - What a crash leaves is [`Severity::Normal`]; everything else is damage.

use std::fmt;

use crate::scan::DamageKind;

/// What was found. [`as_str`](Self::as_str) is the name that programs rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FindingKind {
    /// A data file ends inside a record.
    TornTail,
    /// A data file ends in zeros that are not a record.
    ZeroTail,
    /// An impossible length. Nothing is lost if the rest of the record tells the right
    /// length.
    BadLength,
    /// Bytes that are not a record, or a record with a damaged field that the
    /// checksum does not cover.
    BadRecord,
    /// A record whose checksum does not match.
    Checksum,
    /// The step to the next record id is larger than the event count of the record
    /// before, and no damage found there explains it.
    IdGap,
    /// A record whose id is among the events that the record before is said to hold: the
    /// event counter counts more events than the one the buffer was written with.
    IdOverlap,
    /// A data file that should be there is missing.
    MissingFile,
    /// Records whose ids other records covered before: a whole data file, or
    /// a run inside one.
    StaleFile,
    /// There is no ledger.
    LedgerMissing,
    /// The ledger cannot be read, has the wrong length, or holds impossible values.
    LedgerDamaged,
    /// There are records after the last one that the ledger counts.
    LedgerBehind,
    /// The ledger's next record id is higher than the id after the last record that is there.
    LedgerAhead,
}

impl FindingKind {
    /// The name, in `snake_case`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TornTail => "torn_tail",
            Self::ZeroTail => "zero_tail",
            Self::BadLength => "bad_length",
            Self::BadRecord => "bad_record",
            Self::Checksum => "checksum",
            Self::IdGap => "id_gap",
            Self::IdOverlap => "id_overlap",
            Self::MissingFile => "missing_file",
            Self::StaleFile => "stale_file",
            Self::LedgerMissing => "ledger_missing",
            Self::LedgerDamaged => "ledger_damaged",
            Self::LedgerBehind => "ledger_behind",
            Self::LedgerAhead => "ledger_ahead",
        }
    }
}

impl From<DamageKind> for FindingKind {
    fn from(kind: DamageKind) -> Self {
        match kind {
            DamageKind::TornTail => Self::TornTail,
            DamageKind::ZeroTail => Self::ZeroTail,
            DamageKind::BadLength => Self::BadLength,
            DamageKind::BadRecord => Self::BadRecord,
            DamageKind::Checksum => Self::Checksum,
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether damage of this kind is what a crash leaves at the end of the last data file.
/// Opening cuts such a tail off.
pub(crate) fn is_tail(kind: DamageKind) -> bool {
    matches!(kind, DamageKind::TornTail | DamageKind::ZeroTail)
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Severity {
    /// What a crash leaves.
    Normal,
    /// Anything else that fails a check.
    Damage,
}

impl Severity {
    /// The name, in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Damage => "damage",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One finding, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What was found.
    pub kind: FindingKind,
    /// Whether a crash leaves such a finding.
    pub severity: Severity,
    /// The name of the file in the buffer's directory, if the finding is about one file.
    pub file: Option<String>,
    /// Where in the file it begins, in bytes; 0 if it is about the whole file.
    pub offset: u64,
    /// How many bytes of the file it covers; 0 if the bytes or the file are missing.
    pub length: u64,
    /// The events that the record ids prove lost there.
    pub events_lost: u64,
}

impl Finding {
    /// This loss, which a repair has reported already.
    pub(crate) fn reported(self) -> Self {
        Self {
            severity: Severity::Normal,
            ..self
        }
    }
}

/// What opening a buffer found and mended.
///
/// Opening looks at the ledger and at the ends of the data that a crash can
/// have touched; the reader finds, and counts, damage further inside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// The findings, in the order of the data.
    pub findings: Vec<Finding>,
    /// The events that all findings together lost, without those that a repair has reported.
    pub events_lost: u64,
}

impl Recovery {
    /// Whether anything was found that a crash does not leave.
    pub fn is_damaged(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.severity == Severity::Damage)
    }
}
