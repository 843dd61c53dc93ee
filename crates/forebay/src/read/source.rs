//! Where items come from: the next stretch of a data file, or of memory, to scan.
//!
//! Invariant: no stretch reaches past the end of what is visible, and each begins where the one
//! before it ended.

use std::ops::Range;
use std::sync::Arc;

use super::losses::PendingDamage;
use super::patience::PatientFile;
use super::{Advance, Batch, LostReason, Reader};
use crate::config::ReaderSees;
use crate::error::{Error, ErrorKind, Result};
use crate::format::file_id;
use crate::scan::{Check, Damage, ScanOptions, Scanner};
use crate::state::log::{Place, Span};
use crate::state::stream::Position;
use crate::storage::{Access, File, uninterrupted};
use crate::sync::wake::lock;

/// A stretch of a data file, or of memory, that is being scanned.
pub(super) struct Source {
    pub(super) scanner: Scanner,
    /// The stream offset of the scanner's offset 0.
    pub(super) base: u64,
    pub(super) file: Option<(Span, Arc<dyn File>)>,
    /// The same file as the scanner reads it.
    pub(super) patient: Option<Arc<PatientFile>>,
    /// How far the scanner may go, in its own offsets.
    pub(super) to: u64,
    /// Counts the reader's sources: this and a chunk's own number identify the chunk.
    pub(super) number: u64,
}

impl Source {
    /// Tells the batch that its next records lie in the current chunk.
    #[inline]
    pub(super) fn show_chunk(&self, batch: &mut Batch) {
        let (chunk, sequence) = self.scanner.chunk();
        batch.show_chunk((self.number, sequence), chunk);
    }
}

impl Reader {
    pub(super) fn visible(&self, log: &crate::state::log::Log) -> Position {
        match self.shared.limits.reader_sees {
            ReaderSees::Written => log.written,
            ReaderSees::Synced => log.synced,
        }
    }

    /// Finds the next stretch to scan. Returns `Some` if there is none.
    pub(super) fn open_source(&mut self) -> Result<Option<Advance>> {
        let (place, visible) = {
            let mut log = lock(&self.shared.log);
            log.reader_at = Some(self.at);
            if self.at < log.oldest_offset() {
                drop(log);
                self.step_over_deleted();
                return Ok(None);
            }
            let visible = self.visible(&log);
            if self.at >= visible.offset {
                let ended = log.ended && visible.offset == log.written.offset;
                let failed = log.failed.clone().filter(|_| !log.ended);
                drop(log);
                let advance = self.at_the_end(visible, ended, failed)?;
                if !matches!(advance, Advance::Lost(_)) {
                    self.source = None;
                }
                return Ok(Some(advance));
            }
            (log.at(self.at, visible.offset), visible)
        };
        self.id_limit = visible.next_id;
        if lock(&self.shared.acks).is_full() {
            return Err(Error::new(
                ErrorKind::TooFarAhead,
                "too many records are acknowledged out of order; acknowledge the oldest ones, or \
                 rewind to have them delivered again",
            ));
        }
        match place {
            Some(Place::Memory(frames)) => {
                self.source_count += 1;
                let to = self.at + frames.len() as u64;
                let scanner = Scanner::over_memory(frames, self.at);
                self.source = Some(Source {
                    scanner,
                    base: 0,
                    file: None,
                    patient: None,
                    to,
                    number: self.source_count,
                });
            }
            Some(Place::File { span, visible_len }) => self.open_file(span, visible_len)?,
            // The spans cover everything below the visible end.
            None => self.at = visible.offset,
        }
        Ok(None)
    }

    /// Closes the data file, or gives the memory back, if everything visible there is read. The
    /// file may be deleted while the reader waits, and its space is free only once it is closed.
    #[inline]
    pub(super) fn let_go_of_source(&mut self) {
        if let Some(source) = &self.source
            && source.scanner.offset() >= source.to
            && self.stash.is_none()
        {
            self.let_go_unless_there_is_more();
        }
    }

    #[cold]
    fn let_go_unless_there_is_more(&mut self) {
        let Some(source) = &self.source else {
            return;
        };
        if let Some((span, _)) = &source.file {
            let log = lock(&self.shared.log);
            let visible = self.visible(&log).offset;
            let has_more = self.at < visible
                && matches!(log.at(self.at, visible), Some(Place::File { span: now, .. })
                    if now.file_id == span.file_id && now.base == span.base);
            if has_more {
                return;
            }
        }
        self.source = None;
    }

    /// Steps over a data file that is deleted: acknowledgements of records delivered before a
    /// rewind have covered everything in it.
    pub(super) fn step_over_deleted(&mut self) {
        let done = lock(&self.shared.acks).done();
        self.source = None;
        self.damage = None;
        self.at = done.offset;
        self.tail = done;
        self.last_id = done.next_id - 1;
    }

    /// Whether bytes that look damaged may not be: they are still in memory, or no sync covers them
    /// and they may be written again. Reading then goes on at the same place, from memory or once
    /// the file is synced.
    pub(super) fn is_unsettled(&mut self, damage: &Damage) -> Result<bool> {
        let Some(source) = self.source.as_ref().filter(|source| source.file.is_some()) else {
            return Ok(false);
        };
        let begin = source.base + damage.offset;
        let end = source.base + source.to.min(damage.offset + damage.len);
        let (is_in_memory, is_synced) = {
            let log = lock(&self.shared.log);
            let place = log.at(begin, end);
            let is_in_memory = matches!(place, Some(Place::Memory(_)));
            (is_in_memory, log.synced.offset >= end)
        };
        if !is_in_memory && is_synced {
            return Ok(false);
        }
        if !is_in_memory {
            self.shared.wait_synced(end, None)?;
        }
        self.source = None;
        self.at = begin;
        Ok(true)
    }

    pub(super) fn open_file(&mut self, span: Span, visible_len: u64) -> Result<()> {
        let mut handle = None;
        if let Some(source) = &mut self.source
            && let Some((old, file)) = &source.file
            && old.file_id == span.file_id
            && old.base == span.base
        {
            if source.base + source.scanner.offset() == self.at && visible_len > source.to {
                source.scanner.extend(visible_len);
                source.to = visible_len;
                return Ok(());
            }
            handle = Some(Arc::clone(file));
        }
        let file = match handle {
            Some(file) => file,
            None => {
                let path = self.path(&span);
                match uninterrupted(|| self.shared.storage.open(&path, Access::Read)) {
                    Ok(file) => Arc::from(file),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                        self.not_found(&span);
                        return Ok(());
                    }
                    Err(e) => return Err(Error::io("open", &path, e)),
                }
            }
        };
        let patient = Arc::new(PatientFile::new(Arc::clone(&file)));
        let read: Arc<dyn File> = patient.clone();
        let scanner = self.scanner(&read, self.at - span.base..visible_len);
        let scanner = scanner.behind(self.tail.next_id.saturating_sub(1), 0);
        self.source_count += 1;
        self.source = Some(Source {
            scanner,
            base: span.base,
            file: Some((span, file)),
            patient: Some(patient),
            to: visible_len,
            number: self.source_count,
        });
        Ok(())
    }

    pub(super) fn scanner(&self, file: &Arc<dyn File>, part: Range<u64>) -> Scanner {
        let options = ScanOptions {
            // The file may grow while it is scanned, so the end of the part bounds every frame.
            max_frame_len: u64::MAX,
            check: Check::Checksums,
        };
        let pool = self.shared.pool.clone();
        // Everything visible was written: all ids before the limit.
        Scanner::over_file(Arc::clone(file), part.start, part.end, options, pool)
            .written_to(self.id_limit)
    }

    /// A data file that was in the log a moment ago is not there.
    fn not_found(&mut self, span: &Span) {
        if lock(&self.shared.acks).done().offset > self.at {
            self.step_over_deleted();
        } else {
            self.step_over_missing(span);
        }
    }

    /// Steps over a data file that was deleted from outside while the buffer is open.
    fn step_over_missing(&mut self, span: &Span) {
        let file = file_id::file_name(span.file_id);
        tracing::warn!(file, "a data file is missing");
        self.damage.get_or_insert(PendingDamage {
            reason: LostReason::MissingFile,
            file,
            offset: self.at - span.base,
            spans: Vec::new(),
        });
        self.at = span.end();
        self.source = None;
    }

    /// Everything visible is read. Ids that are missing up to here are lost; bytes without events
    /// up to here are acknowledged.
    pub(super) fn at_the_end(
        &mut self,
        visible: Position,
        ended: bool,
        failed: Option<Error>,
    ) -> Result<Advance> {
        let to = Position {
            next_id: visible.next_id,
            offset: self.at,
        };
        if to.next_id > self.tail.next_id
            && let Some(loss) = self.lose(to, LostReason::Gap)?
        {
            self.last_id = to.next_id - 1;
            return Ok(Advance::Lost(loss));
        }
        if self.at > self.tail.offset {
            self.forgive();
            self.tail.offset = self.at;
            self.shared.skip(self.tail);
        }
        match failed {
            _ if ended => Ok(Advance::End),
            Some(error) => Err(error),
            None => Ok(Advance::Empty),
        }
    }
}
