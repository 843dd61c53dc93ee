//! The reader: records in order, damage as items, acknowledgements from any
//! thread.
//!
//! Invariants:
//! - Ids rise from item to item; an id is delivered once between rewinds.
//! - `tail` is where the last delivered item ends. A record's stretch begins
//!   there, so the stretches of all items lie end to end and cover every byte.
//! - The reader never looks beyond what is visible, and takes no lock per
//!   record.
//! - Event counters and tracing subscribers are somebody else's code and may panic, with a
//!   caller that catches it. The next call then begins where the unfinished one began, so
//!   nothing is skipped; a loss is kept until it was handed out.
//! - A data file is open only while there is more to read from it: one that was deleted would
//!   keep its space.

mod advance;
pub(crate) mod delivery;
mod expected;
mod losses;
mod patience;
mod sequence;
mod source;
mod unfinished;
mod waiting;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::losses::PendingDamage;
use self::patience::Patience;
use self::sequence::Decided;
use self::source::Source;
use self::unfinished::Mark;

use crate::directory::findings::Recovery;
use crate::error::{Error, Result};
use crate::scan::Found;
use crate::state::acks::{Count, Stretch};
use crate::state::meters::Meters;
use crate::state::shared::Shared;
use crate::state::stream::Position;
use crate::sync::deadline_after;
use crate::sync::wake::lock;
use crate::usage::{self, Usage};

use self::delivery::{Ack, Batch, Delivery, Item};
use crate::state::lost::{Lost, LostReason};

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
    /// What is known of records that jump forward in ids.
    decided: Decided,
    patience: Patience,
    /// Before this offset, records may already be acknowledged.
    filter_until: u64,
    /// The next id at the end of what is visible: records before that end with
    /// this id or a higher one are out of place.
    id_limit: u64,
    /// Damage that the configuration refuses to step over.
    refused: Option<Error>,
    /// The records of the last batch: the next one may have as many.
    batch_len: usize,
    /// Where the call under way began; there still when a call begins if user code (an event
    /// counter, a tracing subscriber) panicked in the one before.
    unfinished: Option<Mark>,
    /// Losses that are acknowledged and may not have reached the caller, in order.
    losses: VecDeque<Lost>,
    /// How many of them, the first ones, the call under way hands out.
    losses_given: usize,
    /// Mended records up to this id are counted and told of.
    mended_until: u64,
}

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
            decided: Decided::default(),
            patience: Patience::default(),
            filter_until: 0,
            id_limit: done.next_id,
            refused: None,
            batch_len: 0,
            unfinished: None,
            losses: VecDeque::new(),
            losses_given: 0,
            mended_until: 0,
        }
    }

    /// The next item; waits until there is one. `None` once all writers are
    /// closed and everything is read.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if a data file cannot be read: a later call tries again, and after
    /// eight such errors at the same place takes what cannot be read for damage, if other
    /// parts of the file can be; [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt)
    /// if damage is met and [`OnCorruption::Refuse`](crate::OnCorruption::Refuse) is set;
    /// [`ErrorKind::Poisoned`](crate::ErrorKind::Poisoned) if everything is read and nothing can be written
    /// any more; [`ErrorKind::Full`](crate::ErrorKind::Full) if so many records are acknowledged out of
    /// order that no more can be kept track of; [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) with
    /// [`Io::Caller`](crate::Io::Caller) if everything is read: nobody writes while this waits.
    ///
    /// # Panics
    /// If the event counter or a tracing subscriber panics. Nothing is lost by that: the next
    /// call reads the same items again.
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
            TryNext::Empty => Err(self.nothing_to_read()),
            TryNext::End => Ok(None),
        }
    }

    /// [`next`](Self::next), but waits for so long at most.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<TryNext> {
        self.next_until(deadline_after(timeout))
    }

    /// The next item, if there is one now. Reads the disk if it has to; with
    /// [`Io::Caller`](crate::Io::Caller) it first writes what was appended.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn try_next(&mut self) -> Result<TryNext> {
        loop {
            match self.try_next_visible()? {
                TryNext::Empty if self.drive() => {}
                next => return Ok(next),
            }
        }
    }

    fn try_next_visible(&mut self) -> Result<TryNext> {
        let next = match self.advance()? {
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
        };
        self.let_go_of_source();
        Ok(next)
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
                TryBatch::Empty if self.wait_for_data(None) => {}
                TryBatch::Empty => return Err(self.nothing_to_read()),
            }
        }
    }

    /// [`next_batch`](Self::next_batch) without waiting.
    ///
    /// # Errors
    /// As [`next`](Self::next). What was read before the error is returned
    /// first, the error by the next call.
    pub fn try_next_batch(&mut self, records_max: usize, bytes_max: usize) -> Result<TryBatch> {
        loop {
            self.begin();
            let batch = self.fill_batch(records_max, bytes_max);
            self.finish();
            match batch? {
                TryBatch::Empty if self.drive() => {}
                batch => return Ok(batch),
            }
        }
    }

    fn fill_batch(&mut self, records_max: usize, bytes_max: usize) -> Result<TryBatch> {
        let records_max = records_max.max(1);
        let mut batch = Batch::new(&self.shared, self.batch_len.min(records_max));
        let mut room = bytes_max;
        while batch.len() < records_max {
            if !self.push_expected(&mut batch, records_max, &mut room) {
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
        self.let_go_of_source();
        Ok(TryBatch::Batch(batch))
    }

    /// Goes back: everything that is not acknowledged is delivered again.
    pub fn rewind(&mut self) {
        let done = lock(&self.shared.acks).done();
        self.filter_until = self.filter_until.max(self.at);
        self.go_to(Mark::at(done));
    }

    /// Waits until every acknowledgement given before is synced: what it
    /// covers (as a contiguous prefix) is never delivered again, whatever
    /// happens.
    ///
    /// # Errors
    /// [`ErrorKind::Poisoned`](crate::ErrorKind::Poisoned) if that failed.
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
    pub(crate) fn has_more(&self, log: &crate::state::log::Log) -> bool {
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
                    && matches!(
                        log.at(self.at, visible.offset),
                        Some(crate::state::log::Place::File { .. })
                    )
            }
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
