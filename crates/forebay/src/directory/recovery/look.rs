//! The reads that opening needs after the survey: the ends of the newest data files here,
//! the place of the last acknowledged record in [`super::reach`].
//!
//! Invariants:
//! - Nothing is written.
//! - A file is not walked if its last frames show where it ends: more than a page of them
//!   follow one another, and they lead exactly to the id that the ledger, or the
//!   first record of the next file, says comes next. One frame alone proves nothing: it
//!   can be an old one.
//! - Otherwise the file is walked as by a reader, so that a misplaced record does not
//!   influence the ids.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::counter::EventCounter;
use crate::directory::findings::{Finding, is_tail};
use crate::directory::install;
use crate::directory::survey::walk::{Step, Walk, WalkStart};
use crate::directory::survey::{LedgerStatus, Survey, SurveyedFile, open_data_file, pool_for};
use crate::error::{Error, Result};
use crate::format::ledger::LedgerState;
use crate::format::record::{ALIGN, FRAME_OVERHEAD, Frame, ROOT_LEN, Root};
use crate::scan::{
    Check, Damage, DamageKind, Found, ScanOptions, Scanned, Scanner, each_frame, is_device_error,
};
use crate::storage::{File, Storage, read_full};
use crate::sync::pool::Pool;

use super::believed::{Believed, End, believe, ledger_finding};

/// The ends of at most this many files with records are read, newest first. Older versions
/// moved records after a failed sync, so the last file may repeat records of the file before
/// it, which may hold further ones.
const ENDS_WITH_RECORDS: usize = 2;

/// At least this many bytes of frames that follow one another are believed: more than one
/// page, because a page may be misplaced.
const VOUCHED_LEN: u64 = 4096 + 1;

/// The facts from which the plan is made.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) survey: Survey,
    /// How the newest files end, the newest first; includes at least the last
    /// file, if there is one.
    pub(super) ends: Vec<End>,
    pub(super) acknowledged_end: AcknowledgedEnd,
    /// The ids that repairs have reported missing, in order; no range touches the next one. Not
    /// read if nothing is missing at the end, because there may be many.
    reported: Vec<Range<u64>>,
}

impl Facts {
    /// These facts, with all ids that repairs have reported missing.
    ///
    /// # Errors
    /// Those of the storage.
    pub(crate) fn with_reported(self, storage: &dyn Storage) -> Result<Self> {
        let reported = install::missing(storage, &self.survey.dir)?;
        Ok(Self { reported, ..self })
    }

    /// The ids after the last event that is in the data or acknowledged, up to the next one.
    pub(super) fn missing_at_the_end(&self, believed: &Believed) -> Range<u64> {
        let data_end = believed.data_next_id.unwrap_or(0);
        let acknowledged_end = self.acknowledged_end.last_id.saturating_add(1);
        data_end.max(acknowledged_end)..believed.next_id
    }

    /// Whether repairs have reported all these ids missing.
    pub(crate) fn is_reported(&self, ids: Range<u64>) -> bool {
        let at = self
            .reported
            .partition_point(|range| range.start <= ids.start);
        at > 0 && self.reported[at - 1].end >= ids.end
    }

    /// How the last data file ends; `None` if there is no data file. It is the first of `ends`,
    /// which begin with the newest file.
    pub(super) fn last_end(&self) -> Option<&End> {
        self.ends.first()
    }

    /// The ledger's state, unless it is missing, damaged or cannot be true.
    pub(crate) fn believed_ledger(&self) -> Option<LedgerState> {
        believe(&self.survey, &self.ends).ledger
    }

    /// The finding about the ledger itself, if any.
    pub(crate) fn ledger_finding(&self) -> Option<Finding> {
        ledger_finding(&self.survey, &believe(&self.survey, &self.ends))
    }
}

/// Where the acknowledged records end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AcknowledgedEnd {
    /// The index of the file, and the offset of the frame boundary in it.
    pub(super) at: (usize, u64),
    /// Events up to this id are acknowledged; the events after it are delivered.
    pub(super) last_id: u64,
}

/// The last record of a file, or the last acknowledged one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    pub(super) offset: u64,
    pub(super) end: u64,
    pub(super) id: u64,
    events: u64,
}

impl Last {
    pub(super) fn of(found: &Found, events: u64) -> Self {
        Self {
            offset: found.offset,
            end: found.offset + found.frame_len,
            id: found.id,
            events,
        }
    }

    pub(super) fn next_id(&self) -> u64 {
        self.id.saturating_add(self.events)
    }
}

/// Reads what a plan needs to know besides the survey.
///
/// # Errors
/// Those of the storage.
pub(crate) fn look(
    storage: &Arc<dyn Storage>,
    survey: Survey,
    counter: &EventCounter,
    max_frame_len: u64,
) -> Result<Facts> {
    let look = Look {
        storage,
        survey: &survey,
        counter,
        max_frame_len,
        pool: pool_for(&survey.files),
    };
    let ends = look.ends()?;
    let acknowledged_end = look.acknowledged_end(&ends)?;
    let facts = Facts {
        survey,
        ends,
        acknowledged_end,
        reported: Vec::new(),
    };
    let believed = believe(&facts.survey, &facts.ends);
    match facts.missing_at_the_end(&believed).is_empty() {
        true => Ok(facts),
        false => facts.with_reported(&**storage),
    }
}

/// A data file with its last bytes in memory, so that its last short frames cost one read.
struct FileEnd<'f> {
    file: &'f dyn File,
    /// Where the bytes begin.
    from: u64,
    bytes: Vec<u8>,
}

impl<'f> FileEnd<'f> {
    /// Twice [`VOUCHED_LEN`], so that a frame which begins before the last `VOUCHED_LEN` bytes
    /// and ends in them is in memory too, unless it is long.
    const LEN: u64 = 2 * VOUCHED_LEN;

    fn read(file: &'f dyn File, len: u64) -> io::Result<Self> {
        let from = len.saturating_sub(Self::LEN);
        let mut bytes = vec![0; (len - from) as usize];
        let read = read_full(file, &mut bytes, from)?;
        bytes.truncate(read);
        Ok(Self { file, from, bytes })
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let held = offset.checked_sub(self.from).and_then(|at| {
            let at = at as usize;
            self.bytes.get(at..at + buf.len())
        });
        match held {
            Some(held) => {
                buf.copy_from_slice(held);
                Ok(held.len())
            }
            None => read_full(self.file, buf, offset),
        }
    }
}

pub(super) struct Look<'a> {
    storage: &'a Arc<dyn Storage>,
    pub(super) survey: &'a Survey,
    pub(super) counter: &'a EventCounter,
    max_frame_len: u64,
    pool: Pool,
}

impl Look<'_> {
    fn ends(&self) -> Result<Vec<End>> {
        let ledger_next = match &self.survey.ledger {
            LedgerStatus::Ok(state) => Some(state.writer_next_record_id),
            LedgerStatus::Missing | LedgerStatus::Damaged { .. } => None,
        };
        let mut ends = Vec::new();
        let mut with_records = 0;
        let mut following_id = None;
        for (index, file) in self.survey.files.iter().enumerate().rev() {
            let end = self.end(index, [ledger_next, following_id])?;
            following_id = file.first_id;
            with_records += usize::from(end.next_id.is_some());
            ends.push(end);
            if with_records == ENDS_WITH_RECORDS {
                break;
            }
        }
        Ok(ends)
    }

    /// How a file ends. `next_ids` are the ids after its last record according to the ledger
    /// and to the file after it.
    fn end(&self, index: usize, next_ids: [Option<u64>; 2]) -> Result<End> {
        let file = &self.survey.files[index];
        let none = End {
            next_id: None,
            records_end: 0,
            tail: None,
            holds_unread: false,
            tail_next_id: 0,
        };
        if file.len == 0 {
            return Ok(none);
        }
        let Some(open) = self.open(file)? else {
            return Ok(none);
        };
        if let Some(last) = self.vouched_last(file, &*open)?
            && next_ids.contains(&Some(last.next_id()))
        {
            return Ok(End {
                next_id: Some(last.next_id()),
                records_end: file.len,
                tail: None,
                holds_unread: false,
                tail_next_id: 0,
            });
        }
        let mut end = self.walk_to_end(index)?;
        if let Some(tail) = end.tail {
            // It may be pages that could not be read. If they can be read now, the file is walked
            // again; otherwise the tail is not cut.
            let readable = self.is_readable(file, &*open, tail.offset)?;
            if readable {
                end = self.walk_to_end(index)?;
            }
            if is_tail(tail.kind) {
                if let Some(again) = &mut end.tail
                    && (!readable || again.offset < tail.offset)
                {
                    again.kind = DamageKind::BadRecord;
                }
                self.look_into_tail(file, &open, &tail, &mut end)?;
            }
        }
        Ok(end)
    }

    /// Takes note of whole frames in the tail of a file, even if no frame leads to them. Most
    /// likely they are parts of the payload of a torn record.
    fn look_into_tail(
        &self,
        file: &SurveyedFile,
        open: &Arc<dyn File>,
        tail: &Damage,
        end: &mut End,
    ) -> Result<()> {
        let acknowledged = self.survey.acknowledged_id.unwrap_or(0);
        let after_last = end.next_id.unwrap_or(0).max(acknowledged.saturating_add(1));
        // An event takes at least one byte.
        let possible = after_last..after_last.saturating_add(file.len - tail.offset);
        let take = |offset: u64, id: u64| {
            end.holds_unread |= id > acknowledged;
            if offset < tail.offset + FRAME_OVERHEAD as u64 {
                // There is no room for a frame before this one, so this one and those after it
                // are parts of one payload.
                end.tail_next_id = 0;
            } else if possible.contains(&id) {
                end.tail_next_id = end.tail_next_id.max(id.saturating_add(1));
            }
        };
        each_frame(open, tail.offset..file.len, &self.pool, take)
            .map_err(|e| Error::read(&self.survey.path(file), tail.offset, e))
    }

    /// Whether the device can read a file from `from` to its end.
    fn is_readable(&self, file: &SurveyedFile, open: &dyn File, from: u64) -> Result<bool> {
        let mut buffer = self.pool.take();
        let mut at = from;
        while at < file.len {
            match read_full(open, &mut buffer, at) {
                Ok(0) => break,
                Ok(read) => at += read as u64,
                Err(e) if is_device_error(&e) => return Ok(false),
                Err(e) => return Err(Error::read(&self.survey.path(file), at, e)),
            }
        }
        Ok(true)
    }

    /// The last frame of a file, if the frames in its last [`VOUCHED_LEN`] bytes, or in all of
    /// it, follow one another in place and in id up to its end.
    pub(super) fn vouched_last(
        &self,
        file: &SurveyedFile,
        open: &dyn File,
    ) -> Result<Option<Last>> {
        let device_error = |e| match is_device_error(&e) {
            true => Ok(None),
            false => Err(Error::io("read", &self.survey.path(file), e)),
        };
        let end = match FileEnd::read(open, file.len) {
            Err(e) => return device_error(e),
            Ok(end) => end,
        };
        let mut last = None;
        let mut first: Option<Last> = None;
        loop {
            let at = first.as_ref().map_or(file.len, |first| first.offset);
            if at == 0 || file.len - at >= VOUCHED_LEN {
                return Ok(last);
            }
            let frame = match self.read_last_frame(at, &end) {
                Err(e) => return device_error(e),
                Ok(frame) => frame,
            };
            let follows = |frame: &&Last| {
                let next = first.as_ref();
                next.is_none_or(|next| frame.id < next.id && next.id <= frame.next_id())
            };
            let Some(frame) = frame.as_ref().filter(follows).copied() else {
                return Ok(None);
            };
            last = last.or(Some(frame));
            first = Some(frame);
        }
    }

    /// The frame that ends at `len`, if it passes every check.
    fn read_last_frame(&self, len: u64, file_end: &FileEnd<'_>) -> io::Result<Option<Last>> {
        let mut root = [0; ROOT_LEN];
        let Some(root_at) = len.checked_sub(ROOT_LEN as u64) else {
            return Ok(None);
        };
        if file_end.read_at(&mut root, root_at)? < ROOT_LEN {
            return Ok(None);
        }
        let longest = len.min(self.max_frame_len);
        let frame_len = Root::from_bytes(&root).frame_len();
        let Some(frame_len) = frame_len.filter(|frame_len| *frame_len <= longest) else {
            return Ok(None);
        };
        if !len.is_multiple_of(ALIGN as u64) {
            return Ok(None);
        }
        let mut bytes = self.pool.take_len(frame_len as usize);
        let bytes = &mut bytes[..frame_len as usize];
        let read = file_end.read_at(bytes, len - frame_len)?;
        let frame = Frame::first(&bytes[..read], frame_len);
        let frame = frame.filter(|frame| frame.len as u64 == frame_len && frame.is_intact());
        Ok(frame.map(|Frame { root, payload, .. }| Last {
            offset: len - frame_len,
            end: len,
            id: root.id,
            events: self.counter.count(root.metadata, payload),
        }))
    }

    /// How a file ends, found by a walk over all of it.
    pub(super) fn walk_to_end(&self, index: usize) -> Result<End> {
        // Records with ids of the file before are a displaced page here, however many bytes
        // they have. Records that continue that file are in their place, however few bytes.
        let before = self.last_before(index)?;
        let last_id = before.map_or(0, |(last_id, _)| last_id);
        let from = WalkStart {
            at: (index, 0),
            last_id,
            next_id: before.map_or(0, |(_, next_id)| next_id),
            limit: u64::MAX,
            written_to: self.survey.ledger.written_to(),
            cut: None,
        };
        let mut walk = self.walk(from);
        let mut end = End {
            next_id: None,
            records_end: 0,
            tail: None,
            holds_unread: false,
            tail_next_id: 0,
        };
        let mut highest_id = last_id;
        while let Some((at, step)) = walk.next()? {
            match step {
                _ if at != index => break,
                Step::File | Step::Gone | Step::Unread(_) => {}
                Step::Record(found) => {
                    let events = self.counter.count(found.metadata, walk.payload(&found));
                    let next_id = found.id.saturating_add(events);
                    // A repeat does not move `records_end`: after a repeat, as after damage,
                    // the writer begins a new file.
                    if found.id > highest_id {
                        highest_id = found.id;
                        end.records_end = found.offset + found.frame_len;
                    }
                    end.next_id = end.next_id.max(Some(next_id));
                    end.tail = None;
                }
                Step::Damage(damage) => end.tail = Some(damage),
            }
        }
        Ok(end)
    }

    /// The id of the last record before a file, and the id after its events, if the end of the
    /// file before tells them. Otherwise the first id of the file before, and 0.
    fn last_before(&self, index: usize) -> Result<Option<(u64, u64)>> {
        let files = &self.survey.files;
        let Some(first_id) = files[index].first_id else {
            return Ok(None);
        };
        let before = files[..index]
            .iter()
            .rev()
            .find(|file| file.first_id.is_some());
        let Some((file, before_id)) = before.and_then(|file| Some((file, file.first_id?))) else {
            return Ok(None);
        };
        if before_id >= first_id {
            return Ok(None);
        }
        if let Some(open) = self.open(file)?
            && let Some(last) = self.vouched_last(file, &*open)?
            && last.id < first_id
        {
            return Ok(Some((last.id, last.next_id())));
        }
        Ok(Some((before_id, 0)))
    }

    pub(super) fn walk(&self, from: WalkStart) -> Walk {
        let (storage, survey) = (self.storage.clone(), self.survey);
        Walk::new(storage, survey, from, self.counter, self.max_frame_len)
    }

    /// A record found by its lengths, if its checksum holds.
    pub(super) fn check(
        &self,
        file: &SurveyedFile,
        open: &Arc<dyn File>,
        found: &Found,
    ) -> Result<Option<Last>> {
        let mut scanner = self.scanner(file, open.clone(), found.offset, Check::Checksums);
        let item = self.step(file, &mut scanner)?;
        let Some(Scanned::Record(checked)) = item else {
            return Ok(None);
        };
        if checked.offset != found.offset || checked.id != found.id {
            return Ok(None);
        }
        Ok(Some(self.last(&scanner, &checked)))
    }

    pub(super) fn last(&self, scanner: &Scanner, found: &Found) -> Last {
        let payload = scanner.payload(found);
        Last::of(found, self.counter.count(found.metadata, payload))
    }

    pub(super) fn open(&self, file: &SurveyedFile) -> Result<Option<Arc<dyn File>>> {
        open_data_file(&**self.storage, &self.survey.path(file))
    }

    pub(super) fn scanner(
        &self,
        file: &SurveyedFile,
        open: Arc<dyn File>,
        from: u64,
        check: Check,
    ) -> Scanner {
        let options = ScanOptions {
            max_frame_len: self.max_frame_len,
            check,
        };
        Scanner::over_file(open, from, file.len, options, self.pool.clone())
    }

    pub(super) fn step(
        &self,
        file: &SurveyedFile,
        scanner: &mut Scanner,
    ) -> Result<Option<Scanned>> {
        let at = scanner.offset();
        scanner
            .next()
            .map_err(|e| Error::read(&self.survey.path(file), at, e))
    }
}
