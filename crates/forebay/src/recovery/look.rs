//! The reads that opening needs beyond the survey: the ends of the newest data
//! files here, the place of the last acknowledged record in [`super::reach`].
//!
//! Invariants:
//! - Nothing is written.
//! - An end or a place is believed by a checksum. The walk to it compares
//!   lengths only, so that a file of 128 MiB is walked at the speed of reading.
//! - A file that ends where the ledger says the writer stopped, or with the
//!   record before the next file's first, is not walked.

use std::sync::Arc;

use crate::data_file::{
    Check, Damage, DamageKind, Found, ScanOptions, Scanned, Scanner, is_device_error,
};
use crate::findings::{Finding, is_tail};
use crate::format::ledger::LedgerState;
use crate::format::record::{ALIGN, DELIMITER_LEN, FRAME_OVERHEAD, ROOT_LEN, Root};
use crate::pool::Pool;
use crate::storage::{File, Storage, read_full};
use crate::survey::{LedgerStatus, Survey, SurveyedFile, open_data_file, pool_for};
use crate::{Error, EventCounter, Result};

use super::plan::{believe, ledger_finding};

/// The newest files with records whose ends are looked at: the last one may
/// repeat records that an earlier one holds more of, when that was given up
/// after a failed sync.
const ENDS_WITH_RECORDS: usize = 2;

/// What the plan is made from.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) survey: Survey,
    /// How the newest files end, the newest first; at least that of the last
    /// file, if there is one.
    pub(super) ends: Vec<End>,
    pub(super) reached: Reached,
}

impl Facts {
    /// The ledger's state, unless it is missing, damaged or cannot be true.
    pub(crate) fn believed_ledger(&self) -> Option<LedgerState> {
        believe(&self.survey, &self.ends).ledger
    }

    /// Where the acknowledged records end, and the last id there.
    pub(crate) fn acknowledged(&self) -> ((usize, u64), u64) {
        (self.reached.at, self.reached.last_id)
    }

    /// What there is to say of the ledger.
    pub(crate) fn ledger_finding(&self) -> Option<Finding> {
        ledger_finding(&self.survey, &believe(&self.survey, &self.ends))
    }
}

/// How a data file ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// The id behind the events of its last record; `None` without records.
    pub(super) next_id: Option<u64>,
    /// Where its last record ends; 0 without records.
    pub(super) records_end: u64,
    /// Damage that reaches to the end of the file.
    pub(super) tail: Option<Damage>,
}

/// Where the acknowledged records end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    /// The index of the file, and the offset of the frame boundary in it.
    pub(super) at: (usize, u64),
    /// The last acknowledged id there.
    pub(super) last_id: u64,
}

/// One record at the end of what was looked for.
pub(super) struct Last {
    pub(super) offset: u64,
    pub(super) end: u64,
    pub(super) id: u64,
    payload_len: u64,
    events: u64,
}

impl Last {
    /// Whether `id` is one that the record's events can have, whatever the
    /// counter says.
    pub(super) fn can_hold(&self, id: u64) -> bool {
        id >= self.id && id - self.id < self.payload_len.max(1)
    }

    pub(super) fn next_id(&self) -> u64 {
        self.id.saturating_add(self.events)
    }
}

/// Looks at the boundary files.
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
        storage: &**storage,
        survey: &survey,
        counter,
        max_frame_len,
        pool: pool_for(&survey.files),
    };
    let ends = look.ends()?;
    let reached = look.reach(&ends)?;
    Ok(Facts {
        survey,
        ends,
        reached,
    })
}

pub(super) struct Look<'a> {
    storage: &'a dyn Storage,
    pub(super) survey: &'a Survey,
    counter: &'a EventCounter,
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
        for file in self.survey.files.iter().rev() {
            let end = self.end(file, [ledger_next, following_id])?;
            following_id = file.first_id;
            with_records += usize::from(end.next_id.is_some());
            ends.push(end);
            if with_records == ENDS_WITH_RECORDS {
                break;
            }
        }
        Ok(ends)
    }

    /// How a file ends. A frame at its very end is the last record if one of
    /// `next_ids` follows it: what the ledger, or the file behind it, says.
    fn end(&self, file: &SurveyedFile, next_ids: [Option<u64>; 2]) -> Result<End> {
        let none = End {
            next_id: None,
            records_end: 0,
            tail: None,
        };
        if file.len == 0 {
            return Ok(none);
        }
        let Some(open) = self.open(file)? else {
            return Ok(none);
        };
        if let Some(last) = self.last_frame(file, &*open)?
            && next_ids
                .into_iter()
                .flatten()
                .any(|next_id| next_id > last.id && last.can_hold(next_id - 1))
        {
            return Ok(End {
                next_id: Some(last.next_id()),
                records_end: last.end,
                tail: None,
            });
        }
        let mut end = self.scan_to_end(file, &open)?;
        if let Some(tail) = end.tail.filter(|tail| is_tail(tail.kind)) {
            // Zeros may be pages that could not be read. What can be read now
            // is looked at once more; what cannot is not cut.
            let readable = self.is_readable(file, &*open, tail.offset)?;
            if readable {
                end = self.scan_to_end(file, &open)?;
            }
            if let Some(again) = &mut end.tail
                && (!readable || again.offset < tail.offset)
            {
                again.kind = DamageKind::BadRecord;
            }
        }
        Ok(end)
    }

    fn scan_to_end(&self, file: &SurveyedFile, open: &Arc<dyn File>) -> Result<End> {
        match self.walk_to_end(file, open)? {
            Some(end) => Ok(end),
            None => self.check_to_end(file, open.clone()),
        }
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
                Err(e) => return Err(Error::io("read", &self.survey.path(file), e)),
            }
        }
        Ok(true)
    }

    /// The frame that ends where the file ends, if it is right in every respect.
    pub(super) fn last_frame(&self, file: &SurveyedFile, open: &dyn File) -> Result<Option<Last>> {
        match self.read_last_frame(file.len, open) {
            Err(e) if is_device_error(&e) => Ok(None),
            result => result.map_err(|e| Error::io("read", &self.survey.path(file), e)),
        }
    }

    fn read_last_frame(&self, len: u64, open: &dyn File) -> std::io::Result<Option<Last>> {
        let mut root = [0; ROOT_LEN];
        let Some(root_at) = len.checked_sub(ROOT_LEN as u64) else {
            return Ok(None);
        };
        if read_full(open, &mut root, root_at)? < ROOT_LEN {
            return Ok(None);
        }
        let root = Root::from_bytes(&root);
        let Some(padded) = root.agreed_len() else {
            return Ok(None);
        };
        let frame_len = u64::from(padded) + FRAME_OVERHEAD as u64;
        if frame_len > len.min(self.max_frame_len) || !len.is_multiple_of(ALIGN as u64) {
            return Ok(None);
        }
        // Below 2^32, and no longer than the file.
        let head_len = DELIMITER_LEN + root.len as usize;
        let mut head = self.pool.take_len(head_len);
        if read_full(open, &mut head[..head_len], len - frame_len)? < head_len {
            return Ok(None);
        }
        let (delimiter, payload) = head[..head_len].split_at(DELIMITER_LEN);
        if delimiter != (frame_len - DELIMITER_LEN as u64).to_be_bytes()
            || !root.has_possible_id()
            || !root.matches(payload)
        {
            return Ok(None);
        }
        Ok(Some(Last {
            offset: len - frame_len,
            end: len,
            id: root.id,
            payload_len: u64::from(root.len),
            events: self.counter.count(root.metadata, payload),
        }))
    }

    /// The end by the lengths alone; `None` when the last record is not what
    /// its lengths promise, or not the highest.
    fn walk_to_end(&self, file: &SurveyedFile, open: &Arc<dyn File>) -> Result<Option<End>> {
        let mut scanner = self.scanner(file, open.clone(), 0, Check::Structure);
        let mut last: Option<Found> = None;
        let mut highest_id = 0;
        let mut tail = None;
        while let Some(item) = self.step(file, &mut scanner)? {
            match item {
                Scanned::Record(found) => {
                    highest_id = found.id.max(highest_id);
                    last = Some(found);
                    tail = None;
                }
                Scanned::Damage(damage) => tail = Some(damage),
            }
        }
        let Some(last) = last else {
            return Ok(Some(End {
                next_id: None,
                records_end: 0,
                tail,
            }));
        };
        let checked = self.check(file, open, &last)?;
        Ok(checked
            .filter(|last| last.id == highest_id)
            .map(|last| End {
                next_id: Some(last.next_id()),
                records_end: last.end,
                tail,
            }))
    }

    /// The end by the checksums of all records.
    fn check_to_end(&self, file: &SurveyedFile, open: Arc<dyn File>) -> Result<End> {
        let mut scanner = self.scanner(file, open, 0, Check::Checksums);
        let mut end = End {
            next_id: None,
            records_end: 0,
            tail: None,
        };
        while let Some(item) = self.step(file, &mut scanner)? {
            match item {
                Scanned::Record(found) => {
                    let next_id = self.last(&scanner, &found).next_id();
                    end.next_id = end.next_id.max(Some(next_id));
                    end.records_end = found.offset + found.frame_len;
                    end.tail = None;
                }
                Scanned::Damage(damage) => end.tail = Some(damage),
            }
        }
        Ok(end)
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
        Last {
            offset: found.offset,
            end: found.offset + found.frame_len,
            id: found.id,
            payload_len: payload.len() as u64,
            events: self.counter.count(found.metadata, payload),
        }
    }

    pub(super) fn open(&self, file: &SurveyedFile) -> Result<Option<Arc<dyn File>>> {
        open_data_file(self.storage, &self.survey.path(file))
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
        scanner
            .next()
            .map_err(|e| Error::io("read", &self.survey.path(file), e))
    }
}
