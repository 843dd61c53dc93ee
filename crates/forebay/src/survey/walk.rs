//! One pass over the records of a surveyed buffer, in order.
//!
//! Invariants:
//! - Memory is bounded: one scanner at a time.
//! - A file that is gone is a step of its own; what follows is still walked.
//! - A record is the next one or a repeat, judged by its id alone.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::data_file::{Check, Damage, Found, ScanOptions, Scanned, Scanner};
use crate::pool::Pool;
use crate::storage::Storage;
use crate::{Error, Result};

use super::{Survey, SurveyedFile, open_data_file, pool_for};

/// What a walk meets.
#[derive(Debug)]
pub(crate) enum Step {
    /// A data file begins.
    File,
    /// A data file was deleted since the survey.
    Gone,
    /// A record.
    Record(Found),
    /// Bytes that are no record.
    Damage(Damage),
}

/// A pass over data files.
#[derive(Debug)]
pub(crate) struct Walk {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    files: Vec<SurveyedFile>,
    /// The file that is walked, or comes next.
    index: usize,
    /// Where to begin in the file that comes next.
    from: u64,
    scanner: Option<Scanner>,
    options: ScanOptions,
    pool: Pool,
}

impl Walk {
    /// A walk over the files of a survey, from `offset` in the file `index` on.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        survey: &Survey,
        (index, offset): (usize, u64),
        max_frame_len: u64,
        check: Check,
    ) -> Self {
        Self {
            storage,
            dir: survey.dir.clone(),
            files: survey.files.clone(),
            index,
            from: offset,
            scanner: None,
            options: ScanOptions {
                max_frame_len,
                check,
            },
            pool: pool_for(&survey.files),
        }
    }

    /// The next step, with the index of its file; `None` at the end.
    ///
    /// # Errors
    /// Those of the storage.
    pub(crate) fn next(&mut self) -> Result<Option<(usize, Step)>> {
        loop {
            let Some(file) = self.files.get(self.index) else {
                return Ok(None);
            };
            let Some(scanner) = &mut self.scanner else {
                let path = self.dir.join(file.name());
                let Some(open) = open_data_file(&*self.storage, &path)? else {
                    self.index += 1;
                    self.from = 0;
                    return Ok(Some((self.index - 1, Step::Gone)));
                };
                let options = ScanOptions { ..self.options };
                self.scanner = Some(Scanner::over_file(
                    open,
                    self.from.min(file.len),
                    file.len,
                    options,
                    self.pool.clone(),
                ));
                self.from = 0;
                return Ok(Some((self.index, Step::File)));
            };
            let item = scanner.next().map_err(|e| {
                let path = self.dir.join(file.name());
                Error::io("read", &path, e)
            })?;
            let step = match item {
                Some(Scanned::Record(found)) => Step::Record(found),
                Some(Scanned::Damage(damage)) => Step::Damage(damage),
                None => {
                    self.scanner = None;
                    self.index += 1;
                    continue;
                }
            };
            return Ok(Some((self.index, step)));
        }
    }

    /// The payload of the record just met.
    pub(crate) fn payload(&self, found: &Found) -> &[u8] {
        self.scanner
            .as_ref()
            .map_or(&[], |scanner| scanner.payload(found))
    }

    /// The payload of the record just met, shared.
    pub(crate) fn slice(&self, found: &Found) -> Bytes {
        self.scanner
            .as_ref()
            .map_or_else(Bytes::new, |scanner| scanner.slice(found))
    }
}

/// What a record's id says, behind those that went before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It follows, behind `gap` events that are not there.
    Next { gap: u64 },
    /// A record with this or a higher id went before.
    Repeat,
}

/// Follows the ids of a buffer's records. Pure.
#[derive(Debug, Clone)]
pub(crate) struct IdTrack {
    /// The highest record id so far.
    highest: Option<u64>,
    /// The first event that is not accounted for: neither acknowledged nor there
    /// nor known to be lost. `None` as long as nothing says where ids begin.
    expected: Option<u64>,
}

impl IdTrack {
    /// Begins behind `acknowledged_id`, or with the first record where that is
    /// not known.
    pub(crate) fn new(acknowledged_id: Option<u64>) -> Self {
        Self {
            highest: None,
            expected: acknowledged_id.map(|id| id.saturating_add(1)),
        }
    }

    /// Begins behind `acknowledged_id`; records up to there are repeats.
    pub(crate) fn behind(acknowledged_id: u64) -> Self {
        Self {
            highest: Some(acknowledged_id),
            ..Self::new(Some(acknowledged_id))
        }
    }

    /// Takes note of a record.
    pub(crate) fn place(&mut self, id: u64, events: u64) -> Place {
        if self.highest.is_some_and(|highest| id <= highest) {
            return Place::Repeat;
        }
        self.highest = Some(id);
        let expected = self.expected.unwrap_or(id);
        self.expected = Some(expected.max(id.saturating_add(events)));
        Place::Next {
            gap: id.saturating_sub(expected),
        }
    }

    /// Events up to `id` are accounted for: acknowledged, or not asked for.
    pub(crate) fn skip_to(&mut self, id: u64) {
        let behind = id.saturating_add(1);
        self.expected = Some(self.expected.map_or(behind, |e| e.max(behind)));
    }

    /// The first event that is not accounted for, where that is known.
    pub(crate) fn expected(&self) -> Option<u64> {
        self.expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_follow_leave_no_gap() {
        let mut ids = IdTrack::new(Some(4));
        assert_eq!(ids.place(5, 1), Place::Next { gap: 0 });
        assert_eq!(ids.place(6, 3), Place::Next { gap: 0 });
        assert_eq!(ids.place(10, 1), Place::Next { gap: 1 });
        assert_eq!(ids.expected(), Some(11));
    }

    #[test]
    fn acknowledged_records_leave_no_gap() {
        let mut ids = IdTrack::new(Some(40));
        assert_eq!(ids.place(3, 1), Place::Next { gap: 0 });
        assert_eq!(ids.place(20, 1), Place::Next { gap: 0 });
        assert_eq!(ids.place(43, 1), Place::Next { gap: 2 });
    }

    #[test]
    fn without_a_ledger_ids_begin_with_the_first_record() {
        let mut ids = IdTrack::new(None);
        assert_eq!(ids.expected(), None);
        assert_eq!(ids.place(500, 1), Place::Next { gap: 0 });
        assert_eq!(ids.place(502, 1), Place::Next { gap: 1 });
    }

    #[test]
    fn ids_that_do_not_rise_are_repeats() {
        let mut ids = IdTrack::new(None);
        ids.place(7, 5);
        assert_eq!(ids.place(7, 5), Place::Repeat);
        assert_eq!(ids.place(3, 1), Place::Repeat);
        assert_eq!(ids.expected(), Some(12));
    }

    #[test]
    fn a_record_inside_what_the_counter_said_is_still_a_record() {
        let mut ids = IdTrack::new(None);
        ids.place(1, 10);
        assert_eq!(ids.place(2, 10), Place::Next { gap: 0 });
        assert_eq!(ids.expected(), Some(12));
    }

    #[test]
    fn the_highest_ids_do_not_overflow() {
        let mut ids = IdTrack::new(Some(u64::MAX));
        assert_eq!(ids.place(u64::MAX, u64::MAX), Place::Next { gap: 0 });
        ids.skip_to(u64::MAX);
        assert_eq!(ids.expected(), Some(u64::MAX));
    }
}
