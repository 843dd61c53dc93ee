//! What a look at a buffer's directory finds: one vocabulary for opening and
//! verifying.
//!
//! Invariants:
//! - A finding loses the events that the record ids prove lost there; the same
//!   event is never counted by two findings.
//! - What a crash leaves behind is [`Severity::Normal`], the rest is damage.

use std::fmt;

use crate::scan::DamageKind;

/// What was found. [`as_str`](Self::as_str) is the name that programs rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FindingKind {
    /// A data file ends inside a record.
    TornTail,
    /// A data file ends in zeros that are no record.
    ZeroTail,
    /// A length that cannot be: nothing is lost where the rest of the record
    /// says what it was.
    BadLength,
    /// Bytes that are no record, or a record with a damaged field that the
    /// checksum does not cover.
    BadRecord,
    /// A record whose checksum does not match.
    Checksum,
    /// Record ids step further than the record before holds events, and nothing
    /// found there explains it.
    IdGap,
    /// Records that begin among the events which the record before is said to hold: the
    /// event counter counts more than the one the buffer was written with.
    IdOverlap,
    /// A data file that should be there is not.
    MissingFile,
    /// Records whose ids were already covered by others: a whole data file, or
    /// a run inside one.
    StaleFile,
    /// There is no ledger.
    LedgerMissing,
    /// The ledger has the wrong length, or says what cannot be.
    LedgerDamaged,
    /// There are records behind the one that the ledger calls the last.
    LedgerBehind,
    /// The ledger's next record id is beyond the records that are there.
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

/// Whether a crash leaves such damage at the end of the last data file, so that
/// opening cuts it off.
pub(crate) fn is_tail(kind: DamageKind) -> bool {
    matches!(kind, DamageKind::TornTail | DamageKind::ZeroTail)
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Severity {
    /// What a crash leaves behind.
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

/// One thing that was found, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// Whether a crash leaves such a thing behind.
    pub severity: Severity,
    /// The name of the file in the buffer's directory, where it is one file's.
    pub file: Option<String>,
    /// Where in the file it begins, in bytes; 0 where the whole file is meant.
    pub offset: u64,
    /// How many bytes of the file it covers; 0 for what is not there.
    pub length: u64,
    /// The events that the record ids prove lost there.
    pub events_lost: u64,
}

/// What opening a buffer found and mended.
///
/// Opening looks at the ledger and at the ends of the data that a crash can
/// have touched; damage further inside is met, and counted, by the reader.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// The findings, in the order of the data.
    pub findings: Vec<Finding>,
    /// The events lost by the findings together.
    pub events_lost: u64,
}

impl Recovery {
    /// Whether anything was found that a crash does not leave behind.
    pub fn is_damaged(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.severity == Severity::Damage)
    }
}
