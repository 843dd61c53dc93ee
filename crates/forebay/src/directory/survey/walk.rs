//! One pass over the records of a surveyed buffer, in order.
//!
//! Invariants:
//! - Memory is bounded: one scanner at a time.
//! - A file that is gone is a step of its own; the walk goes on with the files after it.
//! - A record that jumps forward in ids is believed by the rule of the reader: if it is part
//!   of the heaviest chain of the records from there on. Otherwise it is damage.
//! - Any other record is the next one or a repeat; only its id decides.
//! - A walk over the unread records begins where the reader begins, and knows what the reader
//!   knows: the same file lengths, the same next id. What lies before that place is judged
//!   apart from it ([`Walk::with_acknowledged`]), because the reader does not look there.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::counter::EventCounter;
use crate::error::{Error, Result};
use crate::scan::sequence::{FOLLOWING_LEN, LookAhead, Sequence};
use crate::scan::{Check, Damage, Found, ScanOptions, Scanned, Scanner};
use crate::storage::{File, Storage};
use crate::sync::pool::Pool;

use super::{Survey, SurveyedFile, open_data_file, pool_for};

/// One thing that a walk meets.
#[derive(Debug)]
pub(crate) enum Step {
    /// A data file begins.
    File,
    /// A data file was deleted since the survey.
    Gone,
    /// A record.
    Record(Found),
    /// Bytes that are not a record, or a misplaced record.
    Damage(Damage),
    /// The acknowledged records end; the unread ones begin, after this id.
    Unread(u64),
}

/// Where a walk begins, and which ids it expects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WalkStart {
    /// The index of the file, and the offset of a frame boundary in it.
    pub(crate) at: (usize, u64),
    /// A record with this id or a lower one is a repeat.
    pub(crate) last_id: u64,
    /// The id that is expected next; a record with a higher one jumps forward.
    pub(crate) next_id: u64,
    /// No record has this id or a higher one.
    pub(crate) limit: u64,
    /// The records before this id were written.
    pub(crate) written_to: u64,
    /// What opening cuts off the last file. It is the last step of the walk.
    pub(crate) cut: Option<Damage>,
}

/// A pass over data files.
#[derive(Debug)]
pub(crate) struct Walk {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    files: Vec<SurveyedFile>,
    counter: EventCounter,
    /// The ids so far, the index of the current file, and the offset at which the walk
    /// began or begins in it.
    from: WalkStart,
    /// Where the unread records begin, while the walk is before that place.
    unread: Option<WalkStart>,
    /// The index of the last file that was a step.
    last_step: Option<usize>,
    /// The scanner over the current file.
    scanner: Option<Scanner>,
    /// The events of the record just met, at most as many as the ids allow, and the events
    /// that the counter counts.
    events: u64,
    counted: u64,
    /// Which records of the current file are known to be in their place.
    sequence: Sequence,
    max_frame_len: u64,
    pool: Pool,
}

impl Walk {
    /// A walk over the files of a survey.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        survey: &Survey,
        from: WalkStart,
        counter: &EventCounter,
        max_frame_len: u64,
    ) -> Self {
        Self {
            storage,
            dir: survey.dir.clone(),
            files: survey.files.clone(),
            counter: counter.clone(),
            from,
            unread: None,
            last_step: None,
            scanner: None,
            events: 0,
            counted: 0,
            sequence: Sequence::default(),
            max_frame_len,
            pool: pool_for(&survey.files),
        }
    }

    /// The same walk with the acknowledged records before it, from the file with this index on.
    /// They are judged by themselves: no record there is unread, and no damage there extends to
    /// the unread records.
    pub(crate) fn with_acknowledged(mut self, index: usize) -> Self {
        let unread = self.from;
        self.from = WalkStart {
            at: (index, 0),
            last_id: 0,
            limit: unread.next_id,
            ..unread
        };
        self.unread = Some(unread);
        self
    }

    /// The next step, with the index of its file; `None` at the end.
    ///
    /// # Errors
    /// Those of the storage.
    pub(crate) fn next(&mut self) -> Result<Option<(usize, Step)>> {
        loop {
            let (index, offset) = self.from.at;
            let at = self.scanner.as_ref().map_or(offset, Scanner::offset);
            if let Some(unread) = self.unread.filter(|unread| unread.at <= (index, at)) {
                self.unread = None;
                self.from = unread;
                self.scanner = None;
                return Ok(Some((unread.at.0, Step::Unread(unread.last_id))));
            }
            let Some(file) = self.files.get(index) else {
                return Ok(None);
            };
            let Some(scanner) = &mut self.scanner else {
                let path = self.dir.join(file.name());
                let Some(open) = open_data_file(&*self.storage, &path)? else {
                    self.from.at = (index + 1, 0);
                    return Ok(Some((index, Step::Gone)));
                };
                let scanner = self.scan(open, offset, self.len_to_read(index));
                self.scanner = Some(scanner.behind(self.from.next_id.saturating_sub(1), 0));
                self.sequence = Sequence::default();
                if self.last_step.replace(index) == Some(index) {
                    continue;
                }
                return Ok(Some((index, Step::File)));
            };
            let item = scanner.next().map_err(|e| {
                let path = self.dir.join(file.name());
                Error::read(&path, at, e)
            })?;
            let step = match item {
                Some(Scanned::Record(found)) => self.judge(index, found)?,
                Some(Scanned::Damage(damage)) => Step::Damage(damage),
                None => {
                    self.scanner = None;
                    self.from.at = (index + 1, 0);
                    match self.from.cut.filter(|_| index + 1 == self.files.len()) {
                        Some(cut) => Step::Damage(cut),
                        None => continue,
                    }
                }
            };
            return Ok(Some((index, self.up_to_unread(index, step))));
        }
    }

    /// A step before the unread records ends where they begin.
    fn up_to_unread(&self, index: usize, step: Step) -> Step {
        let unread = self.unread.filter(|unread| unread.at.0 == index);
        let Some((_, end)) = unread.map(|unread| unread.at) else {
            return step;
        };
        let damage = match &step {
            Step::Record(found) if found.offset + found.frame_len > end => found.misplaced(),
            Step::Damage(damage) if damage.offset + damage.len > end => *damage,
            _ => return step,
        };
        let len = end.saturating_sub(damage.offset);
        Step::Damage(Damage { len, ..damage })
    }

    /// How many bytes of a file opening leaves there.
    fn len_to_read(&self, index: usize) -> u64 {
        let len = self.files.get(index).map_or(0, |file| file.len);
        match self.from.cut {
            Some(cut) if index + 1 == self.files.len() => len.min(cut.offset),
            _ => len,
        }
    }

    /// Makes a step of a record: damage if it is misplaced.
    fn judge(&mut self, index: usize, found: Found) -> Result<Step> {
        self.counted = self.counter.count(found.metadata, self.payload(&found));
        let events = match self.counted {
            0..=1 => self.counted,
            counted => match self.id_behind(index, &found)? {
                Some(id) if id > found.id => counted.min(id - found.id),
                _ => counted,
            },
        };
        self.events = events;
        if found.id >= self.from.limit
            || (found.id > self.from.next_id && !self.believes(index, &found)?)
        {
            return Ok(Step::Damage(found.misplaced()));
        }
        if found.id > self.from.last_id {
            self.from.last_id = found.id;
            self.from.next_id = found.id.saturating_add(events).min(self.from.limit);
        }
        Ok(Step::Record(found))
    }

    /// The events of the record just met: at most as many as there are ids up to the next
    /// record's.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// Whether the counter counts more events in the record just met than [`events`](Self::events).
    pub(crate) fn overlaps(&self) -> bool {
        self.counted > self.events
    }

    /// The id of the record after this one, in its file or in the files after it.
    fn id_behind(&self, index: usize, found: &Found) -> Result<Option<u64>> {
        let next = self.scanner.as_ref().and_then(|at| at.id_behind(found));
        if next.is_some() {
            return Ok(next);
        }
        let ahead = LookAhead::behind(found.id, self.from.limit).of_one_record();
        let ahead = self.look_ahead(ahead, index, found.offset + found.frame_len)?;
        Ok(ahead.into_runs().first().map(|run| run.first_id))
    }

    /// Whether a record that jumps forward is in the heaviest chain of the records from it on.
    fn believes(&mut self, index: usize, found: &Found) -> Result<bool> {
        if let Some(believed) = self.sequence.believes(found.offset) {
            return Ok(believed);
        }
        let ahead = LookAhead::behind(self.from.last_id, self.from.limit);
        self.sequence = self.look_ahead(ahead, index, found.offset)?.decide();
        // The look ahead began with this record.
        Ok(self.sequence.believes(found.offset).unwrap_or(true))
    }

    /// Takes the records from this place on, as many as the look ahead needs.
    fn look_ahead(&self, mut ahead: LookAhead, index: usize, mut from: u64) -> Result<LookAhead> {
        let (mut following_len, mut len_before) = (0, 0);
        for index in index..self.files.len() {
            let (path, len) = (
                self.dir.join(self.files[index].name()),
                self.len_to_read(index),
            );
            if let Some(open) = open_data_file(&*self.storage, &path)? {
                let scanner = self.scan(open, from, len);
                let mut scanner = scanner.behind(self.from.last_id, len_before);
                let goes_on = ahead.scan(&mut scanner, |metadata, payload| {
                    self.counter.count(metadata, payload)
                });
                if !goes_on.map_err(|e| Error::io("read", &path, e))? {
                    break;
                }
                following_len += if ahead.is_in_this_file() { 0 } else { len };
            }
            if following_len >= FOLLOWING_LEN {
                break;
            }
            ahead.next_file();
            len_before += len;
            from = 0;
        }
        Ok(ahead)
    }

    fn scan(&self, open: Arc<dyn File>, from: u64, len: u64) -> Scanner {
        let options = ScanOptions {
            max_frame_len: self.max_frame_len,
            check: Check::Checksums,
        };
        Scanner::over_file(open, from.min(len), len, options, self.pool.clone())
            .written_to(self.from.written_to)
    }

    /// The payload of the record just met.
    pub(crate) fn payload(&self, found: &Found) -> &[u8] {
        self.scanner
            .as_ref()
            .map_or(&[], |scanner| scanner.payload(found))
    }

    /// The payload of the record just met, shared instead of borrowed.
    pub(crate) fn slice(&self, found: &Found) -> Bytes {
        self.scanner
            .as_ref()
            .map_or_else(Bytes::new, |scanner| scanner.slice(found))
    }
}

/// What a record's id says, given the ids before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The record is the next one, after `gap` missing events.
    Next { gap: u64 },
    /// A record with this or a higher id came before.
    Repeat,
}

/// Follows the ids of a buffer's records. Pure.
#[derive(Debug, Clone)]
pub(crate) struct IdTrack {
    /// The highest record id so far.
    highest: Option<u64>,
    /// The first event that is not accounted for: neither acknowledged, nor there,
    /// nor known to be lost. `None` until something says where ids begin.
    expected: Option<u64>,
}

impl IdTrack {
    /// Begins after `acknowledged_id`, or with the first record if that is `None`.
    pub(crate) fn new(acknowledged_id: Option<u64>) -> Self {
        Self {
            highest: None,
            expected: acknowledged_id.map(|id| id.saturating_add(1)),
        }
    }

    /// Begins after `acknowledged_id`; records up to that id are repeats.
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

    /// Takes note that the unread events begin after `id`.
    pub(crate) fn unread_after(&mut self, id: u64) {
        self.expected = Some(id.saturating_add(1));
    }

    /// Counts the events up to `id` as accounted for: acknowledged, or not asked for.
    pub(crate) fn skip_to(&mut self, id: u64) {
        let behind = id.saturating_add(1);
        self.expected = Some(self.expected.map_or(behind, |e| e.max(behind)));
    }

    /// The first event that is not accounted for, if that is known.
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
