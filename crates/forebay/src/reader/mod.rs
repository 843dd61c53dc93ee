//! The reader: records in order, damage as items, acknowledgements from any
//! thread.
//!
//! Invariants:
//! - Ids rise from item to item; an id is delivered once between rewinds.
//! - `tail` is where the last delivered item ends. A record's stretch begins
//!   there, so the stretches of all items lie end to end and cover every byte.
//! - The reader never looks beyond what is visible, and takes no lock per
//!   record.

mod expected;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::acks::{Count, Stretch};
use crate::config::ReaderSees;
use crate::data_file::{Check, Damage, DamageKind, Found, ScanOptions, Scanned, Scanner};
use crate::error::{Error, ErrorKind, Result};
use crate::findings::Recovery;
use crate::format::file_id;
use crate::log::{Place, Position, Span};
use crate::meters::Meters;
use crate::quarantine::OnCorruption;
use crate::shared::Shared;
use crate::storage::{Access, File, uninterrupted};
use crate::sync::Instant;
use crate::sync::atomic::Ordering;
use crate::usage::{self, Usage};
use crate::wake::lock;

pub use crate::delivery::{Ack, Batch, Delivery, Item, Record};
pub use crate::lost::{Lost, LostReason};

/// Reads a buffer. There is one per open buffer.
///
/// What was delivered stays in the buffer until it is acknowledged; what is not
/// acknowledged is delivered again after reopening, or after
/// [`rewind`](Self::rewind).
pub struct Reader {
    shared: Arc<Shared>,
    open: bool,
    source: Option<Source>,
    source_count: u64,
    /// The stream offset of the next item.
    at: u64,
    /// Where the last item ends, and the id expected next.
    tail: Position,
    /// No id up to this one is delivered (again).
    last_id: u64,
    /// A record found behind a gap; the gap is delivered first.
    stash: Option<Found>,
    damage: Option<PendingDamage>,
    /// Before this offset, records may already be acknowledged.
    filter_until: u64,
    /// The next id at the end of what is visible: records before that end with
    /// this id or a higher one are out of place.
    id_limit: u64,
    /// Damage that the configuration refuses to step over.
    refused: Option<Error>,
    /// The records of the last batch: the next one may have as many.
    batch_len: usize,
}

/// Where items come from.
struct Source {
    scanner: Scanner,
    /// The stream offset of the scanner's offset 0.
    base: u64,
    file: Option<(Span, Arc<dyn File>)>,
    /// How far the scanner may go, in its own offsets.
    to: u64,
    /// Counts the reader's sources: a chunk is known by this and its number.
    number: u64,
}

impl Source {
    /// Makes the chunk at hand the one that the batch's next records lie in.
    #[inline]
    fn show_chunk(&self, batch: &mut Batch) {
        let (chunk, sequence) = self.scanner.chunk();
        batch.show_chunk((self.number, sequence), chunk);
    }
}

/// Damage seen since the last record; what it took is known at the next one.
struct PendingDamage {
    reason: LostReason,
    file: String,
    offset: u64,
    /// What to keep, once it is known what it cost.
    spans: Vec<(Arc<dyn File>, String, Damage)>,
}

/// More spans without a record between them are kept without a word on what
/// they cost.
const PENDING_SPANS_MAX: usize = 256;

/// What [`Reader::advance`] came to.
enum Advance {
    /// A record, valid until the next call.
    Record {
        found: Found,
        events: u64,
        stretch: Stretch,
    },
    Lost(Lost),
    /// Nothing more now.
    Empty,
    End,
}

/// What [`Reader::try_next`] found.
#[derive(Debug)]
pub enum TryNext {
    /// An item.
    Item(Item),
    /// Nothing now; there may be more later.
    Empty,
    /// Nothing any more: all writers are closed and everything is read.
    End,
}

/// What [`Reader::try_next_batch`] found.
#[derive(Debug)]
pub enum TryBatch {
    /// At least one record or loss.
    Batch(Batch),
    /// Nothing now; there may be more later.
    Empty,
    /// Nothing any more: all writers are closed and everything is read.
    End,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, done: Position) -> Self {
        Self {
            shared,
            open: true,
            source: None,
            source_count: 0,
            at: done.offset,
            tail: done,
            last_id: done.next_id - 1,
            stash: None,
            damage: None,
            filter_until: 0,
            id_limit: done.next_id,
            refused: None,
            batch_len: 0,
        }
    }

    /// The next item; waits until there is one. `None` once all writers are
    /// closed and everything is read.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if a data file cannot be read; [`ErrorKind::Corrupt`]
    /// if damage is met and [`OnCorruption::Refuse`] is set;
    /// [`ErrorKind::Poisoned`] if everything is read and nothing can be written
    /// any more; [`ErrorKind::Full`] if so many records are acknowledged out of
    /// order that no more can be kept track of.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use forebay::Item;
    /// let (writer, mut reader) = forebay::open(forebay::Config::new(dir.path()))?;
    /// writer.append(b"hello")?;
    /// drop(writer);
    /// while let Some(item) = reader.next()? {
    ///     match item {
    ///         Item::Record(delivery) => {
    ///             println!("{}: {:?}", delivery.id(), delivery.payload());
    ///             delivery.ack();
    ///         }
    ///         Item::Lost(lost) => eprintln!("{lost}"),
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[expect(
        clippy::should_implement_trait,
        reason = "an item may be an error, and may wait"
    )]
    pub fn next(&mut self) -> Result<Option<Item>> {
        match self.next_until(None)? {
            TryNext::Item(item) => Ok(Some(item)),
            TryNext::Empty | TryNext::End => Ok(None),
        }
    }

    /// [`next`](Self::next), but waits for so long at most.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<TryNext> {
        self.next_until(Some(Instant::now() + timeout))
    }

    /// The next item, if there is one now. Reads the disk if it has to.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn try_next(&mut self) -> Result<TryNext> {
        Ok(match self.advance()? {
            Advance::Record {
                found,
                events,
                stretch,
            } => {
                let count = Count {
                    events,
                    bytes: found.frame_len,
                };
                self.shared.meters.note_delivered(count);
                let payload = self.slice(&found);
                let ack = Ack::new(&self.shared, stretch);
                TryNext::Item(Item::Record(Delivery::new(&found, events, payload, ack)))
            }
            Advance::Lost(lost) => TryNext::Item(Item::Lost(lost)),
            Advance::Empty => TryNext::Empty,
            Advance::End => TryNext::End,
        })
    }

    /// Up to `records_max` records with payloads of `bytes_max` bytes together
    /// (but at least one record); waits until there is something. `None` as
    /// for [`next`](Self::next).
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn next_batch(&mut self, records_max: usize, bytes_max: usize) -> Result<Option<Batch>> {
        loop {
            match self.try_next_batch(records_max, bytes_max)? {
                TryBatch::Batch(batch) => return Ok(Some(batch)),
                TryBatch::End => return Ok(None),
                TryBatch::Empty => {
                    self.wait_for_data(None)?;
                }
            }
        }
    }

    /// [`next_batch`](Self::next_batch) without waiting.
    ///
    /// # Errors
    /// As [`next`](Self::next). What was read before the error is returned
    /// first, the error by the next call.
    pub fn try_next_batch(&mut self, records_max: usize, bytes_max: usize) -> Result<TryBatch> {
        let records_max = records_max.max(1);
        let mut batch = Batch::new(&self.shared, self.batch_len.min(records_max));
        let mut room = bytes_max;
        while batch.len() < records_max {
            if !self.push_expected(&mut batch, records_max, &mut room) {
                break;
            }
            if batch.len() == records_max {
                break;
            }
            match self.advance_with_care() {
                Ok(Advance::Record {
                    found,
                    events,
                    stretch,
                }) => {
                    let len = found.payload.len();
                    if len > room && !batch.is_empty() {
                        self.put_back(found, stretch);
                        break;
                    }
                    room = room.saturating_sub(len);
                    if let Some(source) = &self.source {
                        source.show_chunk(&mut batch);
                    }
                    let begin = found.payload.start;
                    batch.push(
                        stretch,
                        found.id,
                        found.metadata,
                        events,
                        begin..begin + len,
                    );
                }
                Ok(Advance::Lost(lost)) => batch.push_lost(lost),
                Ok(Advance::Empty) if batch.is_empty() => return Ok(TryBatch::Empty),
                Ok(Advance::End) if batch.is_empty() => return Ok(TryBatch::End),
                Ok(Advance::Empty | Advance::End) => break,
                Err(error) if batch.is_empty() => return Err(error),
                Err(error) => {
                    self.refused = Some(error);
                    break;
                }
            }
        }
        self.batch_len = batch.len();
        self.shared.meters.note_delivered(batch.count());
        Ok(TryBatch::Batch(batch))
    }

    /// Goes back: everything that is not acknowledged is delivered again.
    pub fn rewind(&mut self) {
        let done = lock(&self.shared.acks).done();
        self.filter_until = self.filter_until.max(self.at);
        self.source = None;
        self.stash = None;
        self.damage = None;
        self.at = done.offset;
        self.tail = done;
        self.last_id = done.next_id - 1;
    }

    /// Waits until every acknowledgement given before is synced: what it
    /// covers (as a contiguous prefix) is never delivered again, whatever
    /// happens.
    ///
    /// # Errors
    /// [`ErrorKind::Poisoned`] if that failed.
    pub fn sync_acks(&self) -> Result<()> {
        self.shared.wait_ledger_synced()
    }

    /// What went through the buffer, and what is in it.
    pub fn usage(&self) -> Usage {
        usage::snapshot(&self.shared)
    }

    /// What opening the buffer found and did.
    pub fn recovery(&self) -> &Recovery {
        &self.shared.recovery
    }

    /// Closes the reader. The last handle of a buffer to go closes the buffer:
    /// everything is written and synced and the lock is free when this returns.
    ///
    /// # Errors
    /// When this closes the buffer and not everything could be made durable.
    pub fn close(mut self) -> Result<()> {
        self.open = false;
        self.source = None;
        self.shared.reader_gone()
    }

    pub(crate) fn meters(&self) -> &Meters {
        &self.shared.meters
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether there is more to try for, or it is known that there never will.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_more(&self, log: &crate::log::Log) -> bool {
        self.visible(log).offset > self.at || log.ended || log.failed.is_some()
    }

    /// Whether the next item has to come from a data file.
    #[cfg(feature = "tokio")]
    pub(crate) fn would_read_disk(&self) -> bool {
        match &self.source {
            Some(source) if source.scanner.offset() < source.to => source.file.is_some(),
            _ => {
                let log = lock(&self.shared.log);
                let visible = self.visible(&log);
                self.at < visible.offset
                    && matches!(log.at(self.at, visible.offset), Some(Place::File { .. }))
            }
        }
    }

    // ---- one item ----

    fn next_until(&mut self, deadline: Option<Instant>) -> Result<TryNext> {
        loop {
            match self.try_next()? {
                TryNext::Empty => {
                    if !self.wait_for_data(deadline)? {
                        return Ok(TryNext::Empty);
                    }
                }
                other => return Ok(other),
            }
        }
    }

    fn slice(&self, found: &Found) -> Bytes {
        self.source
            .as_ref()
            .map_or_else(Bytes::new, |source| source.scanner.slice(found))
    }

    #[inline]
    fn advance(&mut self) -> Result<Advance> {
        match self.next_expected() {
            Some((found, events, stretch)) => Ok(Advance::Record {
                found,
                events,
                stretch,
            }),
            None => self.advance_with_care(),
        }
    }

    #[cold]
    fn advance_with_care(&mut self) -> Result<Advance> {
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
                Some(Scanned::Damage(damage)) => self.note_damage(&damage)?,
                None => {
                    if let Some(advance) = self.open_source()? {
                        return Ok(advance);
                    }
                }
            }
        }
    }

    /// A valid record: deliver it, or first what is lost before it, or skip it.
    #[inline]
    fn arrive(&mut self, found: Found) -> Result<Option<Advance>> {
        let base = self.source.as_ref().map_or(0, |source| source.base);
        let begin = base + found.offset;
        let end = begin + found.frame_len;
        if found.id <= self.last_id {
            self.at = end;
            tracing::debug!(
                id = found.id,
                "a record that was delivered before is stepped over"
            );
            return Ok(None);
        }
        if found.id >= self.id_limit {
            let out_of_place = Damage {
                offset: found.offset,
                len: found.frame_len,
                kind: DamageKind::BadRecord,
                claimed_id: None,
            };
            return self.note_damage(&out_of_place).map(|()| None);
        }
        if found.id > self.tail.next_id {
            let to = Position {
                next_id: found.id,
                offset: begin,
            };
            if let Some(lost) = self.lose(to, LostReason::Gap) {
                self.stash = Some(found);
                return Ok(Some(Advance::Lost(lost)));
            }
        }
        if self.damage.is_some() {
            self.forgive();
        }
        let payload = self
            .source
            .as_ref()
            .map_or(&[][..], |s| s.scanner.payload(&found));
        let events = self.shared.limits.counter.count(found.metadata, payload);
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
        if found.mended.is_some() {
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
    fn put_back(&mut self, found: Found, stretch: Stretch) {
        self.at = stretch.to.offset - found.frame_len;
        self.tail = stretch.from;
        self.last_id = found.id - 1;
        self.stash = Some(found);
    }

    /// The ids between the tail and `to` are not there. Acknowledges the gap,
    /// and reports it unless that was done before a rewind.
    fn lose(&mut self, to: Position, reason: LostReason) -> Option<Lost> {
        let stretch = Stretch {
            from: self.tail,
            to,
        };
        let first_id = self.tail.next_id;
        self.tail = to;
        let damage = self.damage.take();
        let reason = damage.as_ref().map_or(reason, |d| d.reason);
        let newly = self.shared.acknowledge_lost(stretch, reason);
        if let Some(damage) = &damage {
            self.keep(&damage.spans, newly.events);
        }
        if newly.events == 0 {
            return None;
        }
        let (file, offset) = match damage {
            Some(damage) => (Some(damage.file), damage.offset),
            None => match self.source.as_ref().and_then(|s| s.file.as_ref()) {
                Some((span, _)) => (
                    Some(file_id::file_name(span.file_id)),
                    to.offset - span.base,
                ),
                None => (None, 0),
            },
        };
        let lost = Lost {
            first_id,
            events: newly.events,
            bytes: newly.bytes,
            reason,
            file,
            offset,
        };
        tracing::warn!(%lost, "events are lost");
        Some(lost)
    }

    fn note_damage(&mut self, damage: &Damage) -> Result<()> {
        let Some(source) = &self.source else {
            return Ok(());
        };
        self.at = source.base + damage.offset + damage.len;
        let Some((span, file)) = &source.file else {
            return Ok(());
        };
        let name = file_id::file_name(span.file_id);
        if self.shared.limits.on_corruption == OnCorruption::Refuse {
            let path = self.shared.dir.join(&name);
            let error = Error::with_path(
                ErrorKind::Corrupt,
                &path,
                format!(
                    "{} is damaged: {} bytes at offset {} ({}); verify the buffer, or open it \
                     with another on_corruption",
                    path.display(),
                    damage.len,
                    damage.offset,
                    damage.kind.as_str(),
                ),
            );
            self.refused = Some(error.clone());
            return Err(error);
        }
        let pending = self.damage.get_or_insert_with(|| PendingDamage {
            reason: LostReason::Damaged,
            file: name.clone(),
            offset: damage.offset,
            spans: Vec::new(),
        });
        pending.spans.push((Arc::clone(file), name, *damage));
        if pending.spans.len() >= PENDING_SPANS_MAX {
            let spans = std::mem::take(&mut pending.spans);
            self.keep(&spans, 0);
        }
        Ok(())
    }

    /// Keeps damaged spans; the first one's report says what they cost.
    fn keep(&self, spans: &[(Arc<dyn File>, String, Damage)], mut events_lost: u64) {
        for (file, name, damage) in spans {
            let Damage {
                offset, len, kind, ..
            } = *damage;
            let quarantine = &self.shared.quarantine;
            quarantine.keep_span(&**file, name, offset, len, kind.as_str(), events_lost);
            events_lost = 0;
        }
    }

    /// Damage that cost no event.
    fn forgive(&mut self) {
        if let Some(damage) = self.damage.take() {
            self.keep(&damage.spans, 0);
        }
    }

    fn read_error(&self, e: std::io::Error) -> Error {
        let path = match self.source.as_ref().and_then(|s| s.file.as_ref()) {
            Some((span, _)) => self.path(span),
            None => self.shared.dir.clone(),
        };
        Error::io("read", &path, e)
    }

    fn path(&self, span: &Span) -> PathBuf {
        self.shared.dir.join(file_id::file_name(span.file_id))
    }

    // ---- where items come from ----

    fn visible(&self, log: &crate::log::Log) -> Position {
        match self.shared.limits.reader_sees {
            ReaderSees::Written => log.written,
            ReaderSees::Synced => log.synced,
        }
    }

    /// Finds the next stretch to scan. `Some` when there is none.
    fn open_source(&mut self) -> Result<Option<Advance>> {
        let (place, visible) = {
            let mut log = lock(&self.shared.log);
            log.reader_at = Some(self.at);
            if self.at < log.head() {
                drop(log);
                self.step_over_deleted();
                return Ok(None);
            }
            let visible = self.visible(&log);
            if self.at >= visible.offset {
                let ended = log.ended && visible.offset == log.written.offset;
                let failed = log.failed.clone().filter(|_| !log.ended);
                drop(log);
                return self.at_the_end(visible, ended, failed).map(Some);
            }
            (log.at(self.at, visible.offset), visible)
        };
        self.id_limit = visible.next_id;
        if lock(&self.shared.acks).is_full() {
            return Err(Error::new(
                ErrorKind::Full,
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

    /// Acknowledgements of what was delivered before a rewind have let go of
    /// the data file here: everything in it is acknowledged.
    fn step_over_deleted(&mut self) {
        let done = lock(&self.shared.acks).done();
        self.source = None;
        self.damage = None;
        self.at = done.offset;
        self.tail = done;
        self.last_id = done.next_id - 1;
    }

    fn open_file(&mut self, span: Span, visible_len: u64) -> Result<()> {
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
                        self.step_over_missing(&span);
                        return Ok(());
                    }
                    Err(e) => return Err(Error::io("open", &path, e)),
                }
            }
        };
        let options = ScanOptions {
            // The file may grow under the scanner; its end bounds every frame.
            max_frame_len: u64::MAX,
            check: Check::Checksums,
        };
        let (from, pool) = (self.at - span.base, self.shared.pool.clone());
        let scanner = Scanner::over_file(Arc::clone(&file), from, visible_len, options, pool);
        self.source_count += 1;
        self.source = Some(Source {
            scanner,
            base: span.base,
            file: Some((span, file)),
            to: visible_len,
            number: self.source_count,
        });
        Ok(())
    }

    /// Somebody deleted a data file under an open buffer.
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

    /// Everything visible is read: what is known to be missing up to here is
    /// lost, what lies here without events is done with.
    fn at_the_end(
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
            && let Some(lost) = self.lose(to, LostReason::Gap)
        {
            self.last_id = to.next_id - 1;
            return Ok(Advance::Lost(lost));
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

    /// Waits until more is visible than was read; false at the deadline.
    fn wait_for_data(&mut self, deadline: Option<Instant>) -> Result<bool> {
        let shared = Arc::clone(&self.shared);
        shared.reader_waits.store(true, Ordering::SeqCst);
        shared.poke();
        let result = self.wait_until_visible(&shared, deadline);
        shared.reader_waits.store(false, Ordering::SeqCst);
        result
    }

    fn wait_until_visible(&self, shared: &Shared, deadline: Option<Instant>) -> Result<bool> {
        loop {
            let log = lock(&shared.log);
            if self.visible(&log).offset > self.at || log.ended || log.failed.is_some() {
                return Ok(true);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
            match shared.wait(log, &shared.data, 0, deadline) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::TimedOut && deadline.is_some() => {
                    return Ok(false);
                }
                Err(e) => return Err(e),
            };
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.open {
            self.source = None;
            if let Err(error) = self.shared.reader_gone() {
                tracing::error!(%error, "closing the buffer failed");
            }
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("next_id", &self.tail.next_id)
            .field("buffer", &self.shared)
            .finish_non_exhaustive()
    }
}
