//! Where the acknowledged records end.
//!
//! Invariants:
//! - The place is that of record ids: neither the ledger's reader file id nor a
//!   first id that was not checked leads past an unread record.
//! - A record whose events are acknowledged in part is before the place behind
//!   which reading begins: it is delivered again.

use std::sync::Arc;

use crate::Result;
use crate::data_file::{Check, Found, Scanned};
use crate::storage::File;
use crate::survey::SurveyedFile;

use super::look::{End, Last, Look, Reached};
use super::plan::believe;

impl Look<'_> {
    /// Where the acknowledged records end.
    pub(super) fn reach(&self, ends: &[End]) -> Result<Reached> {
        let believed = believe(self.survey, ends);
        let files = &self.survey.files;
        let Some(last_id) = believed.last_id else {
            // Nothing tells what was acknowledged: everything there is unread.
            let first_id = files.iter().find_map(|file| file.first_id);
            return Ok(Reached {
                at: (0, 0),
                last_id: first_id.unwrap_or(1).saturating_sub(1),
            });
        };
        if let Some(last) = files.last()
            && last_id > 0
            && last_id.saturating_add(1) == believed.next_id
        {
            return Ok(Reached {
                at: (files.len() - 1, last.len),
                last_id,
            });
        }
        // A first id can be wrong when it was not checked: the file before the
        // one it points at is looked at when that holds nothing acknowledged.
        for (index, file) in files.iter().enumerate().rev() {
            if file.first_id.is_none_or(|first_id| first_id > last_id) {
                continue;
            }
            if let Some(last) = self.last_acknowledged(file, last_id)? {
                return self.behind(index, &last, last_id);
            }
        }
        Ok(Reached {
            at: (0, 0),
            last_id,
        })
    }

    /// The last record of a file up to `last_id`.
    fn last_acknowledged(&self, file: &SurveyedFile, last_id: u64) -> Result<Option<Last>> {
        let Some(open) = self.open(file)? else {
            return Ok(None);
        };
        if let Some(last) = self.last_frame(file, &*open)?
            && last.can_hold(last_id)
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

    /// The last record up to `last_id` by the lengths alone; `None` when there
    /// is none, or when a record shows that the ids cannot be believed.
    fn walk_to(
        &self,
        file: &SurveyedFile,
        open: &Arc<dyn File>,
        last_id: u64,
    ) -> Result<Option<Found>> {
        let mut scanner = self.scanner(file, open.clone(), 0, Check::Structure);
        let mut last = None;
        while let Some(item) = self.step(file, &mut scanner)? {
            match item {
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

    /// The last record up to `last_id` by the checksums.
    fn check_to(
        &self,
        file: &SurveyedFile,
        open: Arc<dyn File>,
        last_id: u64,
    ) -> Result<Option<Last>> {
        let mut scanner = self.scanner(file, open, 0, Check::Checksums);
        let mut last = None;
        while let Some(item) = self.step(file, &mut scanner)? {
            match item {
                Scanned::Record(found) if found.id <= last_id => {
                    last = Some(self.last(&scanner, &found));
                }
                Scanned::Record(_) => break,
                Scanned::Damage(_) => {}
            }
        }
        Ok(last)
    }

    /// The place behind the last acknowledged record, or before it when only
    /// some of its events are acknowledged.
    fn behind(&self, index: usize, last: &Last, last_id: u64) -> Result<Reached> {
        if last.next_id() <= last_id.saturating_add(1)
            || self.follows(index, last, last_id.saturating_add(1))?
        {
            return Ok(Reached {
                at: (index, last.end),
                last_id,
            });
        }
        Ok(Reached {
            at: (index, last.offset),
            last_id: last.id.saturating_sub(1),
        })
    }

    /// Whether the record behind `last` has the id `id`: then `last` holds fewer
    /// events than the counter says, and is acknowledged as a whole.
    fn follows(&self, index: usize, last: &Last, id: u64) -> Result<bool> {
        let files = &self.survey.files;
        if last.end == files[index].len {
            let next = files[index + 1..].iter().find_map(|file| file.first_id);
            return Ok(next == Some(id));
        }
        let file = &files[index];
        let Some(open) = self.open(file)? else {
            return Ok(false);
        };
        let mut scanner = self.scanner(file, open, last.end, Check::Checksums);
        let next = self.step(file, &mut scanner)?;
        Ok(matches!(next, Some(Scanned::Record(found)) if found.id == id))
    }
}
