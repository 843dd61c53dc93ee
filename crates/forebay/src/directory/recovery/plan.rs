//! Decides what opening does: a pure function of what was found.
//!
//! Invariants:
//! - Where ledger and data files disagree, the data files are believed. The ledger moves the
//!   next record id forward, says what was acknowledged, and names the writer's file: a new
//!   file takes its id from there if there is no data file or their order is not certain, and
//!   a finding says so if that file is missing.
//! - Only a torn or a zero tail of the last data file is cut, and no data file is deleted.
//! - No id is given out twice: ledger, records and the frames in a tail that is cut off tell
//!   which ids were given out.

use std::collections::BTreeSet;

use crate::directory::findings::{Finding, FindingKind, Recovery, Severity, is_tail};
use crate::directory::survey::LedgerStatus;
use crate::directory::survey::walk::WalkStart;
use crate::format::file_id::{FILE_ID_COUNT, LEDGER_FILE_NAME, file_name, next};
use crate::format::ledger::LedgerState;
use crate::scan::{Damage, DamageKind};

use super::believed::{Believed, believe, ledger_finding};
use super::look::Facts;
use super::{DataFile, Recovered};

/// What opening will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The state of the buffer afterwards, if every stale file can be moved to the
    /// quarantine. Stale files are not among its files.
    pub(crate) recovered: Recovered,
    /// What to cut off the last file. Its length in `recovered` is the one after the cut.
    pub(crate) cut: Option<Cut>,
    /// Files to move to the quarantine: id, and the index of the file that has their records.
    pub(crate) stale: Vec<(u16, usize)>,
    /// File ids whose names belong to something that is not a file.
    pub(crate) blocked: Vec<u16>,
    pub(crate) ledger: LedgerPlan,
    /// There is no data file, and there never was a record: make the first data file, which
    /// is the only one in `recovered`.
    pub(crate) is_new: bool,
}

/// A tail to cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) kind: DamageKind,
    /// The events that the ids prove lost with it.
    pub(crate) events_lost: u64,
    /// It contains a whole frame that is not acknowledged.
    pub(crate) holds_unread: bool,
}

/// What opening does with the ledger's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LedgerPlan {
    Keep,
    Create,
    /// Move the old one to the quarantine, unless it is blank, and write a new one.
    Replace {
        is_blank: bool,
    },
}

impl Facts {
    /// The start of a walk over the unread records. It is the reader's own start, because both
    /// come from this plan.
    pub(crate) fn unread(&self) -> WalkStart {
        let Plan { recovered, cut, .. } = plan(self);
        WalkStart {
            at: recovered.acknowledged,
            last_id: recovered.last_id,
            next_id: recovered.last_id.saturating_add(1),
            limit: recovered.next_id,
            // All ids below the next one were given out to records that were written.
            written_to: recovered.next_id,
            cut: cut.map(|cut| Damage {
                offset: cut.offset,
                len: cut.len,
                kind: cut.kind,
                claimed_id: None,
            }),
        }
    }
}

/// Decides what opening does.
pub(crate) fn plan(facts: &Facts) -> Plan {
    let survey = &facts.survey;
    let believed = believe(survey, &facts.ends);
    let tail = facts.last_end().and_then(|end| end.tail.as_ref());
    let mut files: Vec<DataFile> = survey
        .files
        .iter()
        .map(|file| DataFile {
            file_id: file.file_id,
            len: file.len,
            modified: file.modified,
        })
        .collect();
    let (report, lost_at_tail) = findings(facts, &believed);
    let cut = tail.filter(|tail| is_tail(tail.kind)).map(|tail| Cut {
        offset: tail.offset,
        len: tail.len,
        kind: tail.kind,
        events_lost: lost_at_tail,
        holds_unread: facts.last_end().is_some_and(|end| end.holds_unread),
    });
    let mut writer = None;
    if let Some(last) = files.last_mut() {
        last.len = cut.map_or(last.len, |cut| cut.offset);
        // After other damage a new file begins, so that the place of the next record does not
        // depend on how the damage is read. A new file also begins if the order of the files is
        // not certain, because the newest records may be in this file by mistake.
        let records_end = facts.last_end().map_or(0, |end| end.records_end);
        writer = (last.len == records_end && survey.order_is_certain)
            .then_some((last.file_id, last.len));
    }
    let mut next_file_id = match (files.last(), believed.ledger) {
        (Some(_), Some(ledger)) if !survey.order_is_certain => next(ledger.writer_file_id),
        (Some(last), _) => next(last.file_id),
        (None, Some(ledger)) => ledger.writer_file_id,
        (None, None) => 0,
    };
    next_file_id = free_id(next_file_id, &files, &survey.blocked);
    let is_new = survey.files.is_empty()
        && believed
            .ledger
            .is_none_or(|ledger| ledger == LedgerState::INITIAL);
    if is_new {
        writer = Some((next_file_id, 0));
        files.push(DataFile {
            file_id: next_file_id,
            len: 0,
            modified: None,
        });
        next_file_id = free_id(next(next_file_id), &files, &survey.blocked);
    }
    let (index, offset) = facts.acknowledged_end.at;
    let acknowledged_offset = files.get(index).map_or(0, |file| offset.min(file.len));
    Plan {
        recovered: Recovered {
            last_id: facts.acknowledged_end.last_id,
            acknowledged: (index, acknowledged_offset),
            next_id: believed
                .next_id
                .max(facts.acknowledged_end.last_id.saturating_add(1)),
            writer,
            next_file_id,
            files,
            report,
        },
        cut,
        stale: survey
            .stale
            .iter()
            .map(|(file, live)| (file.file_id, *live))
            .collect(),
        blocked: survey.blocked.clone(),
        ledger: match (&survey.ledger, believed.ledger) {
            (LedgerStatus::Missing, _) => LedgerPlan::Create,
            (_, Some(_)) => LedgerPlan::Keep,
            (LedgerStatus::Damaged { is_blank, .. }, None) => LedgerPlan::Replace {
                is_blank: *is_blank,
            },
            (LedgerStatus::Ok(_), None) => LedgerPlan::Replace { is_blank: false },
        },
        is_new,
    }
}

/// The first file id from `id` on that is neither in `files` nor in `blocked`. If every id is
/// taken, it is `id`: the writer waits until a file is deleted.
pub(super) fn free_id(mut id: u16, files: &[DataFile], blocked: &[u16]) -> u16 {
    let ids = files.iter().map(|file| file.file_id);
    let taken: BTreeSet<u16> = ids.chain(blocked.iter().copied()).collect();
    for _ in 0..FILE_ID_COUNT {
        if !taken.contains(&id) {
            break;
        }
        id = next(id);
    }
    id
}

/// The report, and how many of the lost events belong to the last file's tail.
fn findings(facts: &Facts, believed: &Believed) -> (Recovery, u64) {
    let survey = &facts.survey;
    let mut report = Recovery::default();
    let mut add = |finding: Finding| {
        report.events_lost = report.events_lost.saturating_add(finding.events_lost);
        report.findings.push(finding);
    };
    if let Some(finding) = ledger_finding(survey, believed) {
        add(finding);
    }
    for (file, _) in &survey.stale {
        add(Finding {
            kind: FindingKind::StaleFile,
            severity: Severity::Damage,
            file: Some(file.name()),
            offset: 0,
            length: file.len,
            events_lost: 0,
        });
    }
    let missing = facts.missing_at_the_end(believed);
    let (ids_end, lost) = (missing.start, missing.end.saturating_sub(missing.start));
    let last = survey.files.last();
    let end = last.map(|file| (survey.files.len() - 1, file.len));
    let tail = facts.last_end().and_then(|end| end.tail.as_ref());
    // Damage that is not cut off is reported at each opening until the reader has passed it.
    let tail = tail.filter(|tail| is_tail(tail.kind) || end != Some(facts.acknowledged_end.at));
    let mut lost_at_tail = 0;
    if let (Some(tail), Some(file)) = (tail, last) {
        lost_at_tail = lost;
        add(Finding {
            kind: tail.kind.into(),
            severity: if is_tail(tail.kind) {
                Severity::Normal
            } else {
                Severity::Damage
            },
            file: Some(file.name()),
            offset: tail.offset,
            length: tail.len,
            events_lost: lost,
        });
    } else if let Some(ledger) = believed.ledger {
        let finding = end_finding(&ledger, ids_end, |file_id| {
            survey.files.iter().any(|file| file.file_id == file_id)
        });
        let is_reported = lost > 0 && facts.is_reported(missing);
        match finding {
            // The loss is known, and stays until more is appended.
            Some(finding) if is_reported && finding.kind == FindingKind::LedgerAhead => {
                report.findings.push(finding.reported());
            }
            Some(finding) => add(finding),
            None => {}
        }
    }
    (report, lost_at_tail)
}

/// What the ledger says there is after the end of the data, although no damage is there: the
/// file to which the writer last appended, or events up to the ledger's next id. `None` if
/// neither is missing.
///
/// `ids_end` is the id after the last event that is in the data or acknowledged. `file_exists`
/// tells whether there is a data file with an id.
pub(crate) fn end_finding(
    ledger: &LedgerState,
    ids_end: u64,
    file_exists: impl Fn(u16) -> bool,
) -> Option<Finding> {
    // A ledger in its first state says nothing: the process may have been killed before it made
    // the first data file.
    if *ledger == LedgerState::INITIAL {
        return None;
    }
    // The ledger is older than the data, which `ledger_finding` reports.
    if ledger.writer_next_record_id < ids_end {
        return None;
    }
    let lost = ledger.writer_next_record_id - ids_end;
    let writer_file = ledger.writer_file_id;
    let (kind, severity, file) = if !file_exists(writer_file) {
        // If nothing is lost, the missing file held no record yet.
        let severity = if lost == 0 {
            Severity::Normal
        } else {
            Severity::Damage
        };
        (FindingKind::MissingFile, severity, file_name(writer_file))
    } else if lost > 0 {
        let file = LEDGER_FILE_NAME.to_owned();
        (FindingKind::LedgerAhead, Severity::Damage, file)
    } else {
        return None;
    };
    Some(Finding {
        kind,
        severity,
        file: Some(file),
        offset: 0,
        length: 0,
        events_lost: lost,
    })
}
