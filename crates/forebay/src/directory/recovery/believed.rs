//! Decides from the ledger and the ends of the data files which record ids to believe. Pure.

use crate::directory::findings::{Finding, FindingKind, Severity};
use crate::directory::survey::{LedgerStatus, Survey};
use crate::format::file_id::LEDGER_FILE_NAME;
use crate::format::ledger::LedgerState;
use crate::scan::Damage;

/// A ledger whose next record id exceeds that of the data by more than this is not
/// believed: no buffer can have lost so many events.
const MAX_AHEAD: u64 = 1 << 48;

/// How a data file ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// The id after the events of its last record; `None` without records.
    pub(super) next_id: Option<u64>,
    /// Where its last record ends; 0 without records.
    pub(super) records_end: u64,
    /// Damage that extends to the end of the file.
    pub(super) tail: Option<Damage>,
    /// That damage contains a whole frame that is not acknowledged. Before the damage is cut
    /// off, it is copied to the quarantine (best effort).
    pub(super) holds_unread: bool,
    /// The id after the highest id of a whole frame in that damage that could be a record
    /// of this file; 0 without any. The record is not believed, but its id may have been
    /// given out, so it is not given out again.
    pub(super) tail_next_id: u64,
}

/// The ids to believe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Believed {
    /// The ledger's state, unless it is missing, damaged or cannot be true.
    pub(super) ledger: Option<LedgerState>,
    /// The last acknowledged id, if the ledger is believed.
    pub(super) last_id: Option<u64>,
    /// The id after the events of the last record that is there.
    pub(super) data_next_id: Option<u64>,
    /// The id after all ids that were given out, according to the ledger, the records and the
    /// frames in a tail that is cut off.
    pub(super) next_id: u64,
}

/// Weighs the ledger against the ends of the data.
pub(super) fn believe(survey: &Survey, ends: &[End]) -> Believed {
    let data_next_id = ends.iter().filter_map(|end| end.next_id).max();
    let ledger = survey.ledger.state().filter(|ledger| {
        data_next_id.is_none_or(|data_next_id| {
            ledger.writer_next_record_id <= data_next_id.saturating_add(MAX_AHEAD)
        })
    });
    // If the records extend past the reader's last id, the ledger's next id was only not updated
    // in time.
    let ledger = ledger.or_else(|| {
        let ahead = survey.ledger.reader_ahead()?;
        let data_next_id = data_next_id.filter(|next_id| *next_id > ahead.reader_last_record_id)?;
        Some(LedgerState {
            writer_next_record_id: data_next_id,
            ..ahead
        })
    });
    let ledger_next_id = ledger.map_or(1, |ledger| ledger.writer_next_record_id);
    let tail_next_id = ends.iter().map(|end| end.tail_next_id).max().unwrap_or(0);
    Believed {
        ledger,
        last_id: ledger.and(survey.acknowledged_id),
        data_next_id,
        next_id: ledger_next_id
            .max(data_next_id.unwrap_or(1))
            .max(tail_next_id),
    }
}

/// The finding about the ledger itself, if any.
pub(super) fn ledger_finding(survey: &Survey, believed: &Believed) -> Option<Finding> {
    let has_data = survey.files.iter().any(|file| file.len > 0);
    let (kind, severity, length) = match (&survey.ledger, believed.ledger) {
        // The process was killed while it made the buffer.
        (LedgerStatus::Missing | LedgerStatus::Damaged { is_blank: true, .. }, _) if !has_data => {
            return None;
        }
        (LedgerStatus::Missing, _) => (FindingKind::LedgerMissing, Severity::Damage, 0),
        (LedgerStatus::Damaged { .. }, Some(_)) => (FindingKind::LedgerBehind, Severity::Normal, 0),
        (LedgerStatus::Damaged { len, .. }, None) => {
            (FindingKind::LedgerDamaged, Severity::Damage, *len)
        }
        (LedgerStatus::Ok(_), None) => (FindingKind::LedgerDamaged, Severity::Damage, 24),
        (LedgerStatus::Ok(_), Some(ledger)) => {
            let behind = believed
                .data_next_id
                .is_some_and(|data_next_id| data_next_id > ledger.writer_next_record_id);
            if !behind {
                return None;
            }
            (FindingKind::LedgerBehind, Severity::Normal, 0)
        }
    };
    Some(Finding {
        kind,
        severity,
        file: Some(LEDGER_FILE_NAME.to_owned()),
        offset: 0,
        length,
        events_lost: 0,
    })
}
