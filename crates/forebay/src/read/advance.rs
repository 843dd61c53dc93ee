//! From the scanner's items to the reader's: a record to deliver, a loss before it, or an offset to
//! go on from.

use std::path::PathBuf;

use bytes::Bytes;

use super::{Advance, Reader};
use crate::error::{Error, ErrorKind, Result};
use crate::format::file_id;
use crate::scan::{Found, Scanned};
use crate::state::acks::Stretch;
use crate::state::log::Span;
use crate::state::lost::LostReason;
use crate::state::stream::Position;
use crate::sync::atomic::Ordering;
use crate::sync::wake::lock;

impl Reader {
    pub(super) fn slice(&self, found: &Found) -> Bytes {
        self.source
            .as_ref()
            .map_or_else(Bytes::new, |source| source.scanner.slice(found))
    }

    /// [`advance_with_care`](Self::advance_with_care) as a call of its own.
    pub(super) fn advance(&mut self) -> Result<Advance> {
        self.begin();
        let advance = self.advance_with_care();
        self.finish();
        advance
    }

    #[cold]
    pub(super) fn advance_with_care(&mut self) -> Result<Advance> {
        if let Some(error) = &self.refused {
            let error = error.clone();
            if error.kind() != ErrorKind::Corrupt {
                self.refused = None;
            }
            return Err(error);
        }
        loop {
            let scanned = match (self.stash.take(), &mut self.source) {
                (Some(found), _) => Some(Scanned::Record(found)),
                (None, Some(source)) => {
                    let scanned = source.scanner.next();
                    let gives_up = scanned.is_err() && self.patience.is_over(self.at);
                    if let Some(file) = &source.patient {
                        file.set_gives_up(gives_up);
                    }
                    scanned.map_err(|e| self.read_error(e))?
                }
                (None, None) => None,
            };
            match scanned {
                Some(Scanned::Record(found)) => {
                    if let Some(advance) = self.arrive(found)? {
                        return Ok(advance);
                    }
                }
                Some(Scanned::Damage(damage)) if self.is_unsettled(&damage)? => {}
                Some(Scanned::Damage(damage)) => self.note_damage(&damage)?,
                None => {
                    if let Some(advance) = self.open_source()? {
                        return Ok(advance);
                    }
                }
            }
        }
    }

    /// Handles a valid record: delivers it, or first a loss before it, or skips it.
    #[inline]
    fn arrive(&mut self, found: Found) -> Result<Option<Advance>> {
        let base = self.source.as_ref().map_or(0, |source| source.base);
        let begin = base + found.offset;
        let end = begin + found.frame_len;
        if found.id <= self.last_id {
            self.at = end;
            tracing::debug!(
                id = found.id,
                "a record that was delivered before is skipped"
            );
            return Ok(None);
        }
        let is_misplaced = match self.is_misplaced(&found) {
            Ok(is_misplaced) => is_misplaced,
            Err(error) => {
                self.stash = Some(found);
                return Err(error);
            }
        };
        if is_misplaced {
            return self.note_damage(&found.misplaced()).map(|()| None);
        }
        if found.id > self.tail.next_id {
            let to = Position {
                next_id: found.id,
                offset: begin,
            };
            if let Some(loss) = self.lose(to, LostReason::Gap)? {
                self.stash = Some(found);
                return Ok(Some(Advance::Lost(loss)));
            }
        }
        if self.damage.is_some() {
            self.forgive();
        }
        let payload = self
            .source
            .as_ref()
            .map_or(&[][..], |s| s.scanner.payload(&found));
        let events = self
            .shared
            .limits
            .event_counter
            .count(found.metadata, payload);
        let events = match self.bounded_events(&found, events) {
            Ok(events) => events,
            Err(error) => {
                self.stash = Some(found);
                return Err(error);
            }
        };
        let to = Position {
            next_id: (found.id + events).min(self.id_limit),
            offset: end,
        };
        let stretch = Stretch {
            from: self.tail.min_id(found.id),
            to,
        };
        self.at = end;
        self.tail = to;
        self.last_id = found.id;
        if found.mended.is_some() && found.id > self.mended_until {
            // The record may be read again: after a rewind, or because a batch had no room for it.
            self.mended_until = found.id;
            self.shared.meters.mended.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                id = found.id,
                "a record's redundant field was damaged; nothing is lost"
            );
        }
        if begin < self.filter_until && lock(&self.shared.acks).holds(found.id, to.next_id) {
            return Ok(None);
        }
        Ok(Some(Advance::Record {
            found,
            events,
            stretch,
        }))
    }

    /// Undoes the delivery of the record that [`advance`](Self::advance) has
    /// just returned.
    pub(super) fn put_back(&mut self, found: Found, stretch: Stretch) {
        self.at = stretch.to.offset - found.frame_len;
        self.tail = stretch.from;
        self.last_id = found.id - 1;
        self.stash = Some(found);
    }

    fn read_error(&self, e: std::io::Error) -> Error {
        if let Some(source) = &self.source
            && let Some((span, _)) = &source.file
        {
            return Error::read(&self.path(span), source.scanner.offset(), e);
        }
        Error::io("read", &self.shared.dir, e)
    }

    pub(super) fn path(&self, span: &Span) -> PathBuf {
        self.shared.dir.join(file_id::file_name(span.file_id))
    }
}
