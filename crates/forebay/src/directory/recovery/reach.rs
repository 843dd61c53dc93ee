//! Finds the place where the acknowledged records end and reading begins.
//!
//! Invariants:
//! - Every record before that place is acknowledged, if a reader would believe it. The ledger's
//!   reader file id does not prove that, and neither does a single first or last record of a
//!   file, because each of them may be wrong or misplaced.
//! - The place may be too early. That costs only time, because the reader skips the records
//!   whose ids are acknowledged.
//! - If only some events of a record are acknowledged, the place is before that record, and all
//!   of it is delivered again.

use std::sync::Arc;

use crate::directory::survey::SurveyedFile;
use crate::directory::survey::walk::{Step, WalkStart};
use crate::error::Result;
use crate::scan::{Check, Found, Scanned};
use crate::storage::File;

use super::believed::{End, believe};
use super::look::{AcknowledgedEnd, Last, Look};

impl Look<'_> {
    /// Where the acknowledged records end.
    pub(super) fn acknowledged_end(&self, ends: &[End]) -> Result<AcknowledgedEnd> {
        let believed = believe(self.survey, ends);
        let files = &self.survey.files;
        let Some(last_id) = believed.last_id else {
            // Nothing tells what was acknowledged, so every record there is unread.
            return Ok(AcknowledgedEnd {
                at: (0, 0),
                last_id: self.first_id(believed.next_id)?.saturating_sub(1),
            });
        };
        if let Some(last) = files.last()
            && last_id > 0
            && last_id.saturating_add(1) == believed.next_id
        {
            return Ok(AcknowledgedEnd {
                at: (files.len() - 1, last.len),
                last_id,
            });
        }
        // The first record of the first file is the next one to read, so there is no need to
        // search. If that record is misplaced, reading begins too early.
        if let Some(first) = files.first()
            && first.first_id == Some(last_id.saturating_add(1))
        {
            return Ok(AcknowledgedEnd {
                at: (0, 0),
                last_id,
            });
        }
        let begins_before = |file: &SurveyedFile| file.first_id.is_some_and(|id| id <= last_id);
        let mut index = files.iter().rposition(begins_before).unwrap_or(0);
        for before in (0..index).rev() {
            if !self.ends_by(before, last_id)? {
                index = before;
            }
        }
        let Some(file) = files.get(index) else {
            return Ok(AcknowledgedEnd {
                at: (0, 0),
                last_id,
            });
        };
        match self.last_acknowledged(file, last_id)? {
            Some(last) if last.next_id() > last_id => self.behind(index, &last, last_id),
            last => self.before_gap(index, last.as_ref(), last_id),
        }
    }

    /// The place after `last`, or the beginning of the file without it, if the events up to
    /// `last_id` are not all there. `last_id` is lowered if a record further on is
    /// acknowledged only in part.
    fn before_gap(
        &self,
        index: usize,
        last: Option<&Last>,
        last_id: u64,
    ) -> Result<AcknowledgedEnd> {
        let at = (index, last.map_or(0, |last| last.end));
        let before = last.map_or(0, |last| last.id);
        let mut walk = self.walk(WalkStart {
            at,
            last_id: before,
            next_id: before,
            limit: u64::MAX,
            written_to: self.survey.ledger.written_to(),
            cut: None,
        });
        while let Some((index, step)) = walk.next()? {
            let Step::Record(found) = step else {
                continue;
            };
            if found.id > last_id {
                break;
            }
            let events = self.counter.count(found.metadata, walk.payload(&found));
            let inside = Last::of(&found, events);
            if inside.next_id() > last_id.saturating_add(1) {
                let acknowledged_end = self.behind(index, &inside, last_id)?;
                return Ok(AcknowledgedEnd {
                    at,
                    ..acknowledged_end
                });
            }
        }
        Ok(AcknowledgedEnd { at, last_id })
    }

    /// The id of the first record there is, or 1.
    fn first_id(&self, limit: u64) -> Result<u64> {
        let mut walk = self.walk(WalkStart {
            at: (0, 0),
            last_id: 0,
            next_id: 0,
            limit,
            written_to: self.survey.ledger.written_to(),
            cut: None,
        });
        while let Some((_, step)) = walk.next()? {
            if let Step::Record(found) = step {
                return Ok(found.id);
            }
        }
        Ok(1)
    }

    /// Whether no record of a file has an event with an id above `last_id`.
    fn ends_by(&self, index: usize, last_id: u64) -> Result<bool> {
        let file = &self.survey.files[index];
        let Some(open) = self.open(file)? else {
            return Ok(true);
        };
        if let Some(last) = self.vouched_last(file, &*open)? {
            return Ok(last.next_id() <= last_id.saturating_add(1));
        }
        let end = self.walk_to_end(index)?;
        Ok(end.next_id.is_none_or(|id| id <= last_id.saturating_add(1)))
    }

    /// The last record of a file whose id is at most `last_id`.
    fn last_acknowledged(&self, file: &SurveyedFile, last_id: u64) -> Result<Option<Last>> {
        let Some(open) = self.open(file)? else {
            return Ok(None);
        };
        if let Some(last) = self.vouched_last(file, &*open)?
            && last.next_id() == last_id.saturating_add(1)
        {
            return Ok(Some(last));
        }
        if let Some(found) = self.walk_to(file, &open, last_id)? {
            let last = self.check(file, &open, &found)?;
            if last.is_some() {
                return Ok(last);
            }
        }
        self.check_to(file, open, last_id)
    }

    /// The last record whose id is at most `last_id`, found by the lengths alone; `None` if
    /// there is none, or if the checksum of the record after it does not hold, because its
    /// id may then be wrong.
    fn walk_to(
        &self,
        file: &SurveyedFile,
        open: &Arc<dyn File>,
        last_id: u64,
    ) -> Result<Option<Found>> {
        let mut scanner = self.scanner(file, open.clone(), 0, Check::Structure);
        let mut last: Option<Found> = None;
        while let Some(item) = self.step(file, &mut scanner)? {
            match item {
                // A repeat further on does not count.
                Scanned::Record(found) if last.as_ref().is_some_and(|last| found.id <= last.id) => {
                }
                Scanned::Record(found) if found.id <= last_id => last = Some(found),
                Scanned::Record(found) => {
                    let checked = self.check(file, open, &found)?;
                    return Ok(checked.and(last));
                }
                Scanned::Damage(_) => {}
            }
        }
        Ok(last)
    }

    /// The last record whose id is at most `last_id`, with all checksums computed.
    fn check_to(
        &self,
        file: &SurveyedFile,
        open: Arc<dyn File>,
        last_id: u64,
    ) -> Result<Option<Last>> {
        let mut scanner = self.scanner(file, open, 0, Check::Checksums);
        let mut last: Option<Last> = None;
        while let Some(item) = self.step(file, &mut scanner)? {
            match item {
                Scanned::Record(found) if last.as_ref().is_some_and(|last| found.id <= last.id) => {
                }
                Scanned::Record(found) if found.id <= last_id => {
                    last = Some(self.last(&scanner, &found));
                }
                Scanned::Record(_) => break,
                Scanned::Damage(_) => {}
            }
        }
        Ok(last)
    }

    /// The place after the last acknowledged record, or before it if only some of its
    /// events are acknowledged.
    fn behind(&self, index: usize, last: &Last, last_id: u64) -> Result<AcknowledgedEnd> {
        if last.next_id() <= last_id.saturating_add(1)
            || self.follows(index, last, last_id.saturating_add(1))?
        {
            return Ok(AcknowledgedEnd {
                at: (index, last.end),
                last_id,
            });
        }
        Ok(AcknowledgedEnd {
            at: (index, last.offset),
            last_id: last.id.saturating_sub(1),
        })
    }

    /// Whether the record after `last` has the id `id`: then `last` holds fewer
    /// events than the counter says, and is acknowledged as a whole.
    fn follows(&self, index: usize, last: &Last, id: u64) -> Result<bool> {
        let mut walk = self.walk(WalkStart {
            at: (index, last.end),
            last_id: last.id,
            next_id: last.id,
            limit: u64::MAX,
            written_to: self.survey.ledger.written_to(),
            cut: None,
        });
        while let Some((_, step)) = walk.next()? {
            match step {
                Step::File | Step::Gone | Step::Unread(_) => {}
                Step::Record(found) => return Ok(found.id == id),
                Step::Damage(_) => return Ok(false),
            }
        }
        Ok(false)
    }
}
