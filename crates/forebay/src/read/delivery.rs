//! What the reader gives out: records with their acknowledgements, batches of
//! them, and losses.
//!
//! Invariant: everything here is independent of the reader that made it: it may be sent to other
//! threads, kept, and acknowledged in any order, or not at all.

use std::fmt;
use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;
use std::vec;

use bytes::Bytes;

use crate::format::record;
use crate::scan::Found;
use crate::state::acks::{Count, Stretch};
use crate::state::lost::Lost;
use crate::state::shared::Shared;
use crate::state::stream::Position;

/// What a reader meets. There will be no other items: match both, so that no loss is overlooked.
#[derive(Debug)]
pub enum Item {
    /// A record.
    Record(Delivery),
    /// Events that were accepted and are not there any more.
    Lost(Lost),
}

/// Acknowledges one record. Use it from any thread, in any order. Dropping it leaves the record
/// unacknowledged.
///
/// Once the buffer is closed, acknowledging has no effect. A child process that was forked since
/// must not acknowledge; see [`Reader`](crate::Reader).
#[must_use = "a record that is not acknowledged is delivered again"]
pub struct Ack {
    shared: Arc<Shared>,
    stretch: Stretch,
}

impl Ack {
    pub(crate) fn new(shared: &Arc<Shared>, stretch: Stretch) -> Self {
        Self {
            shared: Arc::clone(shared),
            stretch,
        }
    }

    /// Acknowledges.
    pub fn ack(self) {
        self.shared.acknowledge(self.stretch);
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stretch { from, to } = self.stretch;
        write!(f, "Ack({}..{})", from.next_id, to.next_id)
    }
}

/// A record that the consumer acknowledges once it is done with it.
///
/// The payload is a slice of a larger block of memory, which stays allocated as long as the slice
/// does: copy small payloads that are kept for long.
#[derive(Debug)]
pub struct Delivery {
    id: u64,
    metadata: u32,
    events: u64,
    payload: Bytes,
    ack: Ack,
}

impl Delivery {
    pub(crate) fn new(found: &Found, events: u64, payload: Bytes, ack: Ack) -> Self {
        Self {
            id: found.id,
            metadata: found.metadata,
            events,
            payload,
            ack,
        }
    }

    /// The record's id: that of its first event.
    ///
    /// After a crash a record may be delivered again with the same id. To recognise that, read with
    /// [`ReaderSees::Synced`](crate::ReaderSees::Synced): if a power cut takes records before they
    /// were synced, their ids are given to other events.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The number that was stored with the record.
    pub fn metadata(&self) -> u32 {
        self.metadata
    }

    /// How many events the record holds.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The payload.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The record's stretch: it includes bytes before the record that no other record covers.
    #[cfg(feature = "tokio")]
    pub(crate) fn stretch(&self) -> Stretch {
        self.ack.stretch
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn count(&self) -> Count {
        count(self.events, self.payload.len())
    }

    /// Acknowledges the record.
    pub fn ack(self) {
        self.ack.ack();
    }

    /// The payload, and the acknowledgement to give later.
    pub fn split(self) -> (Bytes, Ack) {
        (self.payload, self.ack)
    }
}

/// A record of a [`Batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record<'b> {
    /// The record's id: that of its first event.
    pub id: u64,
    /// The number that was stored with the record.
    pub metadata: u32,
    /// How many events the record holds.
    pub events: u64,
    /// The payload.
    pub payload: &'b [u8],
}

/// Consecutive records, acknowledged together or one by one.
#[must_use = "records that are not acknowledged are delivered again"]
pub struct Batch {
    shared: Arc<Shared>,
    chunks: Vec<Bytes>,
    /// The reader's source and the chunk in it that was shown last.
    last_chunk: Option<(u64, u64)>,
    entries: Vec<Entry>,
    lost: Vec<Lost>,
    count: Count,
    payload_bytes: u64,
}

/// A record of a batch. There are many, so it is small: a chunk is shorter than 4 GiB, and a record
/// holds at most as many events as its payload has bytes, or 1.
struct Entry {
    /// The offset where the record's stretch begins; the stretch's first id is the record's.
    from: u64,
    /// The offset where it ends.
    to: u64,
    id: u64,
    events: u32,
    metadata: u32,
    chunk: u32,
    begin: u32,
    len: u32,
}

impl Entry {
    fn stretch(&self) -> Stretch {
        Stretch {
            from: Position {
                next_id: self.id,
                offset: self.from,
            },
            to: Position {
                next_id: self.id + u64::from(self.events),
                offset: self.to,
            },
        }
    }

    fn payload(&self) -> Range<usize> {
        self.begin as usize..self.begin as usize + self.len as usize
    }

    fn delivery(&self, shared: &Arc<Shared>, chunks: &[Bytes]) -> Delivery {
        Delivery {
            id: self.id,
            metadata: self.metadata,
            events: u64::from(self.events),
            payload: chunks[self.chunk as usize].slice(self.payload()),
            ack: Ack::new(shared, self.stretch()),
        }
    }
}

impl Batch {
    /// An empty batch with room for `records`; it grows if there are more.
    pub(crate) fn new(shared: &Arc<Shared>, records: usize) -> Self {
        Self {
            shared: Arc::clone(shared),
            chunks: Vec::new(),
            last_chunk: None,
            entries: Vec::with_capacity(records),
            lost: Vec::new(),
            count: Count::default(),
            payload_bytes: 0,
        }
    }

    /// Notes the memory that the next records lie in, and the number that identifies it.
    #[inline]
    pub(crate) fn show_chunk(&mut self, number: (u64, u64), chunk: &Bytes) {
        if self.last_chunk != Some(number) {
            self.last_chunk = Some(number);
            self.chunks.push(chunk.clone());
        }
    }

    /// Adds a record of the chunk that was shown last; `payload` is its place in that chunk.
    #[inline]
    pub(crate) fn push(
        &mut self,
        stretch: Stretch,
        id: u64,
        metadata: u32,
        events: u64,
        payload: Range<usize>,
    ) {
        debug_assert_eq!(stretch.from.next_id, id, "what is lost was reported");
        self.payload_bytes += payload.len() as u64;
        self.count.add(count(events, payload.len()));
        self.entries.push(Entry {
            from: stretch.from.offset,
            to: stretch.to.offset,
            id,
            events: events as u32,
            metadata,
            chunk: (self.chunks.len() - 1) as u32,
            begin: payload.start as u32,
            len: payload.len() as u32,
        });
    }

    /// Keeps the records whose ids, from the first to the one after the last, `is_kept` approves.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(u64, u64) -> bool) {
        self.count = Count::default();
        self.payload_bytes = 0;
        self.entries.retain(|entry| {
            let events = u64::from(entry.events);
            let is_kept = is_kept(entry.id, entry.id + events);
            if is_kept {
                self.count.add(count(events, entry.len as usize));
                self.payload_bytes += u64::from(entry.len);
            }
            is_kept
        });
    }

    pub(crate) fn set_lost(&mut self, lost: Vec<Lost>) {
        self.lost = lost;
    }

    /// Where its first record begins.
    pub(crate) fn begin(&self) -> Option<Position> {
        self.entries.first().map(|entry| entry.stretch().from)
    }

    pub(crate) fn count(&self) -> Count {
        self.count
    }

    /// The records in the batch.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no records in the batch. It may hold [losses](Self::lost) all the same.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether there are neither records nor losses in it.
    pub(crate) fn holds_nothing(&self) -> bool {
        self.entries.is_empty() && self.lost.is_empty()
    }

    /// The events of its records.
    pub fn events(&self) -> u64 {
        self.count.events
    }

    /// The bytes of its records' payloads.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// The records, in order.
    pub fn records(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        self.entries.iter().map(|entry| Record {
            id: entry.id,
            metadata: entry.metadata,
            events: u64::from(entry.events),
            payload: self.payload(entry),
        })
    }

    fn payload(&self, entry: &Entry) -> &[u8] {
        &self.chunks[entry.chunk as usize][entry.payload()]
    }

    /// The losses found before, between and after its records; their ids say where.
    pub fn lost(&self) -> &[Lost] {
        &self.lost
    }

    /// Acknowledges all of its records.
    pub fn ack(self) {
        if let (Some(first), Some(last)) = (self.entries.first(), self.entries.last()) {
            let stretch = Stretch {
                from: first.stretch().from,
                to: last.stretch().to,
            };
            self.shared.acknowledge(stretch);
        }
    }

    /// The records as deliveries, to acknowledge one by one. Losses are left out: look at
    /// [`lost`](Self::lost) first, or iterate over the batch.
    pub fn into_deliveries(self) -> impl ExactSizeIterator<Item = Delivery> {
        let Self {
            shared,
            chunks,
            entries,
            ..
        } = self;
        entries
            .into_iter()
            .map(move |entry| entry.delivery(&shared, &chunks))
    }
}

/// The records to acknowledge one by one, and the losses, in order.
impl IntoIterator for Batch {
    type Item = Item;
    type IntoIter = BatchItems;

    fn into_iter(self) -> BatchItems {
        BatchItems {
            shared: self.shared,
            chunks: self.chunks,
            entries: self.entries.into_iter(),
            lost: self.lost.into_iter().peekable(),
        }
    }
}

/// The items of a [`Batch`].
pub struct BatchItems {
    shared: Arc<Shared>,
    chunks: Vec<Bytes>,
    entries: vec::IntoIter<Entry>,
    lost: Peekable<vec::IntoIter<Lost>>,
}

#[cfg(feature = "tokio")]
impl BatchItems {
    /// How many records are left.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Where the next record begins.
    pub(crate) fn begin(&self) -> Option<Position> {
        self.entries
            .as_slice()
            .first()
            .map(|entry| entry.stretch().from)
    }

    /// The next record, whatever losses lie before it.
    pub(crate) fn next_record(&mut self) -> Option<Delivery> {
        let entry = self.entries.next()?;
        Some(entry.delivery(&self.shared, &self.chunks))
    }
}

impl Iterator for BatchItems {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        let next_id = self.entries.as_slice().first().map(|entry| entry.id);
        let is_before = |lost: &Lost| next_id.is_none_or(|id| lost.first_id < id);
        if let Some(lost) = self.lost.next_if(is_before) {
            return Some(Item::Lost(lost));
        }
        let entry = self.entries.next()?;
        Some(Item::Record(entry.delivery(&self.shared, &self.chunks)))
    }
}

/// A record's events and bytes.
fn count(events: u64, payload_len: usize) -> Count {
    Count {
        events,
        bytes: record::frame_len(payload_len) as u64,
    }
}

impl fmt::Debug for BatchItems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchItems").finish_non_exhaustive()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("records", &self.len())
            .field("payload_bytes", &self.payload_bytes)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}
