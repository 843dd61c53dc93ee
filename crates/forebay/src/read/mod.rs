//! The reader: records in order, damage as items, acknowledgements from any
//! thread.
//!
//! Invariants:
//! - Ids rise from item to item; an id is delivered once between rewinds.
//! - `tail` is where the last delivered item ends. A record's stretch begins
//!   there, so the stretches of all items lie end to end and cover every byte.
//! - The reader never reads past the end of what is visible, and takes no lock per record.
//! - Event counters and tracing subscribers are not this crate's code. They may panic, and the
//!   caller may catch that. The next call then begins where the unfinished one began, so nothing is
//!   skipped.
//! - Reading acknowledges no loss and counts no delivery. Handing out does, so what was read and not
//!   handed out is found again, in this life or in the next.
//! - A data file is open only while there is more to read from it: a deleted file that is open
//!   keeps its space.

mod advance;
pub(crate) mod ahead;
pub(crate) mod delivery;
mod expected;
mod losses;
mod patience;
mod sequence;
mod source;
pub(crate) mod stopper;
mod unfinished;
mod waiting;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::ahead::{Ahead, FoundLoss};
use self::losses::PendingDamage;
use self::patience::Patience;
use self::sequence::Decided;
use self::source::Source;
use self::stopper::Stopper;
use self::unfinished::ReadPosition;

use crate::directory::findings::Recovery;
use crate::error::{Error, Result};
use crate::scan::Found;
use crate::state::acks::{Count, Stretch};
use crate::state::meters::Meters;
use crate::state::shared::Shared;
use crate::state::stream::Position;
use crate::sync::atomic::Ordering;
use crate::sync::deadline_after;
use crate::sync::wake::lock;
use crate::usage::{self, Monitor, Usage};

use self::delivery::{Ack, Batch, Delivery, Item};
use crate::state::lost::LostReason;

/// Reads a buffer. There is one per open buffer.
///
/// What was delivered stays in the buffer until it is acknowledged; what is not
/// acknowledged is delivered again after reopening, or after
/// [`rewind`](Self::rewind).
///
/// After a `fork`, a child process must not use the reader, nor acknowledge what it delivered: the
/// child shares the parent's ledger, and an acknowledgement there would count in the parent's
/// buffer. The child may drop the handles, which touches nothing, and open other buffers.
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
    /// A record found after a gap; the gap is delivered first.
    stash: Option<Found>,
    damage: Option<PendingDamage>,
    /// Which records that jump forward in ids belong where they stand.
    decided: Decided,
    patience: Patience,
    /// Before this offset, records may already be acknowledged.
    filter_until: u64,
    /// The next id at the end of what is visible: records before that end with this id or a larger
    /// one are out of place.
    id_limit: u64,
    /// Damage that the configuration refuses to step over.
    refused: Option<Error>,
    /// The records of the last batch: the next one may have as many.
    batch_len: usize,
    /// Where the current call began. It is still set when the next call begins if user code (an
    /// event counter, a tracing subscriber) panicked in the call before.
    unfinished: Option<ReadPosition>,
    /// Mended records up to this id are counted and logged.
    mended_until: u64,
    /// Losses up to this id are logged.
    logged_until: u64,
}

/// What [`Reader::advance`] found.
enum Advance {
    /// A record, valid until the next call.
    Record {
        found: Found,
        events: u64,
        stretch: Stretch,
    },
    Lost(FoundLoss),
    /// Nothing more now.
    Empty,
    End,
}

/// What a call that does not wait, or not for ever, found. There will be no other outcomes.
#[derive(Debug)]
pub enum TryRecv<T> {
    /// An item, or a batch of them.
    Ready(T),
    /// Nothing now; there may be more later.
    Empty,
    /// Nothing any more: all writers are closed and everything is read, or the reader was
    /// [stopped](Reader::stopper).
    End,
}

impl<T> TryRecv<T> {
    /// Applies `change` to what was found.
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> TryRecv<U> {
        match self {
            Self::Ready(found) => TryRecv::Ready(change(found)),
            Self::Empty => TryRecv::Empty,
            Self::End => TryRecv::End,
        }
    }

    /// What was found, if anything.
    pub fn ready(self) -> Option<T> {
        match self {
            Self::Ready(found) => Some(found),
            Self::Empty | Self::End => None,
        }
    }
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
            mended_until: 0,
            logged_until: 0,
        }
    }

    /// The next item; waits until there is one. `None` once all writers are
    /// closed and everything is read, or the reader was [stopped](Self::stopper).
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if a data file cannot be read: a later call tries
    /// again. After eight such errors at the same place, the bytes that cannot be read are taken
    /// for damage, if other parts of the file can be read;
    /// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if damage is met and
    /// [`OnCorruption::Refuse`](crate::OnCorruption::Refuse) is set;
    /// [`ErrorKind::Poisoned`](crate::ErrorKind::Poisoned) if everything is read and nothing can be
    /// written any more; [`ErrorKind::TooFarAhead`](crate::ErrorKind::TooFarAhead) if so many
    /// records are acknowledged out of order that no more can be kept track of;
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) with [`Io::Caller`](crate::Io::Caller)
    /// if everything is read: no thread writes while this call waits.
    ///
    /// # Panics
    /// If the event counter or a tracing subscriber panics. Nothing is lost by that: the next
    /// call reads the same items again.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use forebay::Item;
    /// let (writer, mut reader) = forebay::Config::new(dir.path()).open()?;
    /// writer.append(b"hello")?;
    /// drop(writer);
    /// while let Some(item) = reader.recv()? {
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
    pub fn recv(&mut self) -> Result<Option<Item>> {
        if let Some(delivery) = self.recv_expected() {
            return Ok(Some(Item::Record(delivery)));
        }
        self.wait_for(None, Self::try_recv)
            .and_then(|found| self.or_nobody_writes(found))
    }

    /// [`recv`](Self::recv) that waits for at most `timeout`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<TryRecv<Item>> {
        self.wait_for(deadline_after(timeout), Self::try_recv)
    }

    /// The next item, if there is one now. Reads the disk if it has to; with
    /// [`Io::Caller`](crate::Io::Caller) it first writes what was appended.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<TryRecv<Item>> {
        if let Some(delivery) = self.recv_expected() {
            return Ok(TryRecv::Ready(Item::Record(delivery)));
        }
        loop {
            if self.is_stopped() {
                return Ok(TryRecv::End);
            }
            match self.try_recv_visible()? {
                TryRecv::Empty if self.drive() => {}
                found => return Ok(found),
            }
        }
    }

    /// The next record, if it is read already and nothing else has to be done for it.
    #[inline]
    fn recv_expected(&mut self) -> Option<Delivery> {
        if self.is_stopped() {
            return None;
        }
        let (found, events, stretch) = self.next_expected()?;
        Some(self.deliver(&found, events, stretch))
    }

    fn try_recv_visible(&mut self) -> Result<TryRecv<Item>> {
        loop {
            let next = match self.advance()? {
                Advance::Record {
                    found,
                    events,
                    stretch,
                } => {
                    let delivery = self.deliver(&found, events, stretch);
                    return Ok(TryRecv::Ready(Item::Record(delivery)));
                }
                Advance::Lost(loss) => match self.hand_out_loss(loss) {
                    Some(lost) => TryRecv::Ready(Item::Lost(lost)),
                    None => continue,
                },
                Advance::Empty => TryRecv::Empty,
                Advance::End => TryRecv::End,
            };
            self.let_go_of_source();
            return Ok(next);
        }
    }

    /// The delivery of a record that was just read.
    #[inline(always)]
    fn deliver(&mut self, found: &Found, events: u64, stretch: Stretch) -> Delivery {
        self.shared.meters.note_delivered(Count {
            events,
            bytes: found.frame_len,
        });
        let payload = self.slice(found);
        let ack = Ack::new(&self.shared, stretch);
        self.let_go_of_source();
        Delivery::new(found, events, payload, ack)
    }

    /// Up to `max_records` records with payloads of `max_bytes` bytes together
    /// (but at least one record); waits until there is something. `None` as
    /// for [`recv`](Self::recv).
    ///
    /// # Errors
    /// As [`recv`](Self::recv). Records that were read before an error are returned first, and the
    /// error by the next call.
    pub fn recv_batch(&mut self, max_records: usize, max_bytes: u64) -> Result<Option<Batch>> {
        self.wait_for(None, |reader| reader.try_recv_batch(max_records, max_bytes))
            .and_then(|found| self.or_nobody_writes(found))
    }

    /// [`recv_batch`](Self::recv_batch) that waits for at most `timeout` for the first record.
    ///
    /// # Errors
    /// As [`recv_batch`](Self::recv_batch).
    pub fn recv_batch_timeout(
        &mut self,
        max_records: usize,
        max_bytes: u64,
        timeout: Duration,
    ) -> Result<TryRecv<Batch>> {
        self.wait_for(deadline_after(timeout), |reader| {
            reader.try_recv_batch(max_records, max_bytes)
        })
    }

    /// [`recv_batch`](Self::recv_batch) without waiting.
    ///
    /// # Errors
    /// As [`recv_batch`](Self::recv_batch).
    pub fn try_recv_batch(&mut self, max_records: usize, max_bytes: u64) -> Result<TryRecv<Batch>> {
        loop {
            match self.read_ahead(max_records, max_bytes)? {
                TryRecv::Ready(ahead) => {
                    if let Some(batch) = self.hand_out(ahead) {
                        return Ok(TryRecv::Ready(batch));
                    }
                }
                TryRecv::Empty if self.drive() => {}
                TryRecv::Empty => return Ok(TryRecv::Empty),
                TryRecv::End => return Ok(TryRecv::End),
            }
        }
    }

    /// Reads what [`try_recv_batch`](Self::try_recv_batch) hands out.
    pub(crate) fn read_ahead(
        &mut self,
        max_records: usize,
        max_bytes: u64,
    ) -> Result<TryRecv<Ahead>> {
        if self.is_stopped() {
            return Ok(TryRecv::End);
        }
        self.begin();
        let found = self.fill_batch(max_records, max_bytes);
        self.finish();
        found
    }

    fn fill_batch(&mut self, max_records: usize, max_bytes: u64) -> Result<TryRecv<Ahead>> {
        let max_records = max_records.max(1);
        let mut batch = Batch::new(&self.shared, self.batch_len.min(max_records));
        let mut losses = Vec::new();
        let mut room = max_bytes;
        while batch.len() < max_records {
            if !self.push_expected(&mut batch, max_records, &mut room) {
                break;
            }
            let holds_nothing = batch.is_empty() && losses.is_empty();
            match self.advance_with_care() {
                Ok(Advance::Record {
                    found,
                    events,
                    stretch,
                }) => {
                    let len = found.payload.len();
                    if len as u64 > room && !holds_nothing {
                        self.put_back(found, stretch);
                        break;
                    }
                    room = room.saturating_sub(len as u64);
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
                Ok(Advance::Lost(loss)) => losses.push(loss),
                Ok(Advance::Empty) if holds_nothing => return Ok(TryRecv::Empty),
                Ok(Advance::End) if holds_nothing => return Ok(TryRecv::End),
                Ok(Advance::Empty | Advance::End) => break,
                Err(error) if holds_nothing => return Err(error),
                Err(error) => {
                    self.refused = Some(error);
                    break;
                }
            }
        }
        self.batch_len = batch.len();
        self.let_go_of_source();
        Ok(TryRecv::Ready(Ahead::new(batch, losses)))
    }

    /// Goes back: everything that is not acknowledged is delivered again.
    pub fn rewind(&mut self) {
        let done = lock(&self.shared.acks).done();
        self.filter_until = self.filter_until.max(self.at);
        self.go_to(ReadPosition::at(done));
    }

    /// Waits until every acknowledgement given before is synced: the contiguous prefix of
    /// acknowledged records is then never delivered again, whatever happens.
    ///
    /// # Errors
    /// [`ErrorKind::Poisoned`](crate::ErrorKind::Poisoned) if the sync failed.
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

    /// A handle that only reads figures: it does not keep the buffer open.
    pub fn monitor(&self) -> Monitor {
        Monitor::new(&self.shared)
    }

    /// A handle that ends a waiting [`recv`](Self::recv) from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper::new(&self.shared)
    }

    /// Whether a [`Stopper`] has stopped this reader.
    pub fn is_stopped(&self) -> bool {
        self.shared.reader_stopped.load(Ordering::SeqCst)
    }

    /// Closes the reader. The last handle of a buffer to go closes the buffer:
    /// everything is written and synced and the lock is free when this returns.
    ///
    /// # Errors
    /// When this closes the buffer and not everything could be made durable.
    pub fn close(mut self) -> Result<()> {
        self.open = false;
        self.source = None;
        self.shared.reader_gone(None)
    }

    /// [`close`](Self::close) that waits for at most `timeout`; see
    /// [`Writer::close_timeout`](crate::Writer::close_timeout).
    ///
    /// # Errors
    /// As [`Writer::close_timeout`](crate::Writer::close_timeout).
    pub fn close_timeout(mut self, timeout: Duration) -> Result<()> {
        self.open = false;
        self.source = None;
        self.shared.reader_gone(Some(timeout))
    }

    pub(crate) fn meters(&self) -> &Meters {
        &self.shared.meters
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether a call would find something: more records, the end, or a failure.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_more(&self, log: &crate::state::log::Log) -> bool {
        self.visible(log).offset > self.at || log.ended || log.failed.is_some() || self.is_stopped()
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

/// Waits for each item, and ends where [`recv`](Reader::recv) says `None`. After an error the
/// next call tries again.
impl Iterator for Reader {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        self.recv().transpose()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.open {
            self.source = None;
            if let Err(error) = self.shared.reader_gone(None) {
                tracing::error!(error = %format_args!("{error:#}"), "closing the buffer failed");
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
