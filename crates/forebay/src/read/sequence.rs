//! Whether a record that jumps forward in ids belongs where it stands.
//!
//! Invariant: only such a record costs anything. The records after it are looked at, once per
//! stretch of a data file, up to the end of what is visible.

use std::sync::Arc;

use super::Reader;
use crate::error::{Error, Result};
use crate::scan::Found;
use crate::scan::sequence::{FOLLOWING_LEN, LookAhead, Sequence};
use crate::state::log::Span;
use crate::storage::{Access, File, uninterrupted};
use crate::sync::wake::lock;

/// What was decided about the records of one data file.
#[derive(Debug, Default)]
pub(super) struct Decided {
    /// The stream offset at which the file begins.
    base: u64,
    sequence: Sequence,
}

impl Reader {
    /// Whether an intact record does not belong where it stands.
    pub(super) fn is_misplaced(&mut self, found: &Found) -> Result<bool> {
        Ok(found.id >= self.id_limit || (found.id > self.tail.next_id && !self.belongs(found)?))
    }

    /// Whether a record after a gap belongs there. A record in memory does: this process wrote it.
    fn belongs(&mut self, found: &Found) -> Result<bool> {
        let Some(source) = &self.source else {
            return Ok(true);
        };
        let Some((span, file)) = &source.file else {
            return Ok(true);
        };
        if self.decided.base == source.base
            && let Some(believed) = self.decided.sequence.believes(found.offset)
        {
            return Ok(believed);
        }
        let mut ahead = LookAhead::behind(self.last_id, self.id_limit);
        if self.look_at(&mut ahead, span, (file, 0), found.offset..source.to)? {
            self.look_behind(&mut ahead, span)?;
        }
        self.decided = Decided {
            base: source.base,
            sequence: ahead.decide(),
        };
        // The part that was looked at begins with this record.
        let believed = self.decided.sequence.believes(found.offset);
        Ok(believed.unwrap_or(true))
    }

    /// How many events a record holds, if the counter says `events`: at most the number of ids up
    /// to the next record's id. Reads nothing if the counter says one.
    pub(super) fn bounded_events(&self, found: &Found, events: u64) -> Result<u64> {
        let Some(source) = self.source.as_ref().filter(|_| events > 1) else {
            return Ok(events);
        };
        let Some((span, file)) = &source.file else {
            return Ok(events);
        };
        let next_id = match source.scanner.id_behind(found) {
            Some(id) => Some(id),
            None => {
                let mut ahead = LookAhead::behind(found.id, self.id_limit).of_one_record();
                let behind = found.offset + found.frame_len..source.to;
                if self.look_at(&mut ahead, span, (file, 0), behind)? {
                    self.look_behind(&mut ahead, span)?;
                }
                ahead.into_runs().first().map(|run| run.first_id)
            }
        };
        let ids = next_id.and_then(|id| id.checked_sub(found.id));
        Ok(ids
            .filter(|ids| *ids > 0)
            .map_or(events, |ids| events.min(ids)))
    }

    /// Takes the records of the files after the `first`. A missing file was acknowledged, or the
    /// reader reports it when it gets there.
    fn look_behind(&self, ahead: &mut LookAhead, first: &Span) -> Result<()> {
        let following: Vec<(Span, u64)> = {
            let log = lock(&self.shared.log);
            let visible = self.visible(&log).offset;
            let mut len = 0;
            let behind = log.spans.iter().skip_while(|at| at.base < first.end());
            behind
                .take_while(|at| at.base < visible)
                .take_while(|at| {
                    let is_near = len < FOLLOWING_LEN;
                    len += at.len;
                    is_near
                })
                .map(|at| (*at, at.end().min(visible) - at.base))
                .collect()
        };
        for (span, visible_len) in following {
            let path = self.path(&span);
            let file = match uninterrupted(|| self.shared.storage.open(&path, Access::Read)) {
                Ok(file) => Arc::from(file),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::io("open", &path, e)),
            };
            ahead.next_file();
            let len_before = span.base - first.base;
            if !self.look_at(ahead, &span, (&file, len_before), 0..visible_len)? {
                break;
            }
        }
        Ok(())
    }

    /// Takes the records of a part of a data file. False when enough is seen.
    fn look_at(
        &self,
        ahead: &mut LookAhead,
        span: &Span,
        (file, len_before): (&Arc<dyn File>, u64),
        part: std::ops::Range<u64>,
    ) -> Result<bool> {
        let mut scanner = self.scanner(file, part).behind(self.last_id, len_before);
        let counter = &self.shared.limits.event_counter;
        ahead
            .scan(&mut scanner, |metadata, payload| {
                counter.count(metadata, payload)
            })
            .map_err(|e| Error::io("read", &self.path(span), e))
    }
}
