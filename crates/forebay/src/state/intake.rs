//! What producers share: the open batch, ids, and the limit on size.
//!
//! Invariants:
//! - Everything here is under the intake's lock, which is never held during
//!   I/O and only for the time of encoding one call's records.
//! - `accepted` counts every record that an append has accepted; it only grows.
//! - What is accepted fits: `accepted - oldest_offset + extra + reserved <= max_size - 32`. So
//!   writing it later never exceeds the limit.
//! - Memory: one open batch and at most [`READY_BATCHES_MAX`] full ones.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::LEDGER_ALLOWANCE;
use crate::error::Error;
use crate::format::record::{self, ChecksumCache};
use crate::state::acks::Count;
use crate::state::lost::DropReason;
use crate::state::stream::{Frames, Position};
use crate::sync::Instant;
use crate::sync::pool::{Buffer, Pool};

/// At most this many full batches wait for the write side. Once the open batch is full as well,
/// appends wait.
pub(crate) const READY_BATCHES_MAX: usize = 2;

/// A frame's address in memory and its offset in the data file are equal modulo this many bytes (a
/// power of two): copying into the page cache is 5% faster then.
const ALIGN: usize = 64;

/// Frames of consecutive records while they are being encoded, in a buffer that still changes.
/// Once the write side has taken it, it becomes [`Frames`].
#[derive(Debug)]
pub(crate) struct Batch {
    buffer: Buffer,
    /// Where in the buffer the frames begin and end.
    from: usize,
    to: usize,
    pub begin: Position,
    pub end: Position,
}

impl Batch {
    pub(crate) fn len(&self) -> usize {
        self.to - self.from
    }

    /// Whether a frame fits. [`ALIGN`] bytes stay free, so that this does not depend on the address
    /// of the memory.
    #[inline]
    fn fits(&self, frame_len: usize) -> bool {
        self.len() + frame_len + ALIGN <= self.buffer.len()
    }

    /// To be called without the lock of the intake, because a short batch is copied.
    pub(crate) fn into_frames(self) -> Frames {
        let buffer_len = self.buffer.len();
        let bytes = self.buffer.freeze(self.to).slice(self.from..);
        Frames::new(bytes, buffer_len, self.end)
    }
}

/// How the write side's thread sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// Not at all; it looks at the intake before it falls asleep.
    Awake,
    /// For at most the time that the open batch may wait for more records. An append wakes it
    /// only if a batch is full or the reader waits, so that several records are written with
    /// one call. [`Intake::rouse`] ends this sleep too.
    Lingering,
    /// Until a record is appended, or it is roused.
    Idle,
}

/// Why a record cannot be taken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// The buffer has reached its maximum size.
    Full,
    /// The disk has no space, or less than the floor.
    DiskFull,
    /// All batches wait to be written, which takes moments unless the disk hangs.
    Busy,
}

/// A disk that has taken no batch for this long counts as hanging.
const STALL: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Intake {
    pool: Pool,
    stream_bytes_max: u64,
    open: Option<Batch>,
    ready: VecDeque<Batch>,
    /// Since when an append has found all batches waiting, and none was taken.
    busy_since: Option<Instant>,
    accepted: Position,
    /// Part of the checksum of the last record, of which the next one can use most.
    checksum_cache: ChecksumCache,
    /// The stream offset of the oldest byte on disk.
    oldest_offset: u64,
    /// The stream offset at which the current data file begins; set by the write side. A batch that
    /// was begun before it changes keeps its alignment.
    pub file_base: u64,
    /// Bytes on disk that are no part of the stream.
    extra: u64,
    /// Bytes that are kept free for batches that were found to fit and wait for a free batch
    /// buffer.
    pub reserved: u64,
    /// Why nothing can be written for now: space, or another resource that may come back, is
    /// missing.
    pub no_space: Option<String>,
    /// How many `Writer`s are open.
    pub writers: usize,
    /// Whether the `Reader` is open.
    pub reader: bool,
    /// The last handle is closed, so the buffer closes.
    pub closing: bool,
    pub failed: Option<Error>,
    /// How the write side's thread sleeps.
    asleep: Sleep,
    /// The write side must look at everything once more before it sleeps.
    is_roused: bool,
    /// The highest stream offsets that a caller waits for to be written, and to be synced.
    pub want_written: u64,
    pub want_synced: u64,
    /// How many requests for a sync of the ledger were made; each waits for its own number.
    pub ledger_tickets: u64,
    pub dropped: [Count; DropReason::ALL.len()],
}

impl Intake {
    pub(crate) fn new(pool: Pool, max_size: u64, end: Position) -> Self {
        Self {
            pool,
            stream_bytes_max: max_size - LEDGER_ALLOWANCE,
            open: None,
            ready: VecDeque::new(),
            busy_since: None,
            accepted: end,
            checksum_cache: ChecksumCache::new(end.next_id, 0),
            oldest_offset: 0,
            file_base: 0,
            extra: 0,
            reserved: 0,
            no_space: None,
            writers: 1,
            reader: true,
            closing: false,
            failed: None,
            asleep: Sleep::Awake,
            is_roused: false,
            want_written: 0,
            want_synced: 0,
            ledger_tickets: 0,
            dropped: Default::default(),
        }
    }

    pub(crate) fn accepted(&self) -> Position {
        self.accepted
    }

    /// For the write side, after it deleted files or failed to delete one.
    pub(crate) fn set_disk(&mut self, oldest_offset: u64, extra: u64) {
        self.oldest_offset = oldest_offset;
        self.extra = extra;
    }

    // ---- waking the write side ----

    /// Asks the write side to look at everything once more before it sleeps. Returns whether its
    /// thread sleeps: then the caller has to ring `Shared::work`, otherwise the thread sleeps on.
    /// The thread counts as awake from here on, so only one of several callers rings.
    #[must_use]
    pub(crate) fn rouse(&mut self) -> bool {
        self.is_roused = true;
        std::mem::replace(&mut self.asleep, Sleep::Awake) != Sleep::Awake
    }

    /// Whether the write side has been roused since it last began to look.
    pub(crate) fn is_roused(&self) -> bool {
        self.is_roused
    }

    pub(crate) fn asleep(&self) -> Sleep {
        self.asleep
    }

    /// For the code that drives the write side, before it looks at everything: the thread is
    /// awake, and this look answers each [`rouse`](Self::rouse) up to now.
    pub(crate) fn note_look(&mut self) {
        self.is_roused = false;
        self.asleep = Sleep::Awake;
    }

    /// For the write side's thread, which has found nothing to do.
    pub(crate) fn fall_asleep(&mut self, sleep: Sleep) {
        self.asleep = sleep;
    }

    /// For the write side: why nothing can be written for now; `None` if it can.
    pub(crate) fn set_no_space(&mut self, why: Option<String>) {
        self.no_space = why;
    }

    pub(crate) fn extra(&self) -> u64 {
        self.extra
    }

    /// Whether `len` more bytes of frames are within the limit.
    #[inline]
    pub(crate) fn fits(&self, len: u64) -> bool {
        let on_disk = self.accepted.offset - self.oldest_offset + self.extra;
        self.no_space.is_none() && on_disk + self.reserved + len <= self.stream_bytes_max
    }

    /// What is missing when something does not fit.
    pub(crate) fn lack(&self) -> NoRoom {
        if self.no_space.is_some() {
            NoRoom::DiskFull
        } else {
            NoRoom::Full
        }
    }

    /// Why an append that waits for room does so.
    #[cfg(feature = "tokio")]
    pub(crate) fn why_waiting(&self) -> NoRoom {
        match self.busy_since {
            Some(_) => NoRoom::Busy,
            None => self.lack(),
        }
    }

    /// When the disk will have taken no batch for so long that it counts as hanging.
    pub(crate) fn stalls_at(&self) -> Option<Instant> {
        self.busy_since.map(|since| since + STALL)
    }

    /// Whether the disk hangs.
    pub(crate) fn is_stalled(&self) -> bool {
        self.busy_since
            .is_some_and(|since| since.elapsed() >= STALL)
    }

    /// Makes sure that a frame is within the limit and that a batch can hold it.
    #[inline]
    pub(crate) fn make_room(&mut self, frame_len: usize) -> Result<(), NoRoom> {
        if !self.fits(frame_len as u64) {
            return Err(self.lack());
        }
        self.make_batch(frame_len)
    }

    #[inline]
    fn make_batch(&mut self, frame_len: usize) -> Result<(), NoRoom> {
        match &self.open {
            Some(batch) if batch.fits(frame_len) => Ok(()),
            _ => self.replace_batch(frame_len),
        }
    }

    #[cold]
    fn replace_batch(&mut self, frame_len: usize) -> Result<(), NoRoom> {
        if self.open.is_some() {
            if self.ready.len() >= READY_BATCHES_MAX {
                self.busy_since.get_or_insert_with(Instant::now);
                return Err(NoRoom::Busy);
            }
            self.ready.extend(self.open.take());
        }
        let buffer = self.pool.take_len(frame_len + ALIGN);
        let (begin, end) = (self.accepted, self.accepted);
        let in_file = begin.offset.wrapping_sub(self.file_base);
        let in_memory = buffer.as_ptr() as usize;
        let from = (in_file as usize).wrapping_sub(in_memory) % ALIGN;
        self.open = Some(Batch {
            buffer,
            from,
            to: from,
            begin,
            end,
        });
        Ok(())
    }

    /// Encodes a record after all others, once [`make_room`](Self::make_room) has made room for its
    /// frame. Returns its id.
    #[inline]
    pub(crate) fn put(&mut self, metadata: u32, payload: &[u8], events: u64) -> u64 {
        let len = record::frame_len(payload.len());
        let id = self.accepted.next_id;
        if let Some(batch) = &mut self.open {
            let frame = &mut batch.buffer[batch.to..batch.to + len];
            record::encode_next(&mut self.checksum_cache, frame, id, metadata, payload);
            batch.to += len;
            self.accepted = Position {
                next_id: id + events,
                offset: self.accepted.offset + len as u64,
            };
            batch.end = self.accepted;
        }
        id
    }

    /// The oldest batch: a full one, or else the open one.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        self.busy_since = None;
        self.ready.pop_front().or_else(|| self.take_open())
    }

    fn take_open(&mut self) -> Option<Batch> {
        if self.open_len() > 0 {
            self.open.take()
        } else {
            None
        }
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The bytes in the open batch.
    pub(crate) fn open_len(&self) -> usize {
        self.open.as_ref().map_or(0, Batch::len)
    }

    /// The stream offset of the oldest byte that the write side has not taken yet.
    pub(crate) fn begin(&self) -> u64 {
        let first = self.ready.front().or(self.open.as_ref());
        first.map_or(self.accepted.offset, |batch| batch.begin.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_lie_in_memory_as_they_will_in_the_file() {
        let pool = Pool::new(1024, 4);
        let end = Position {
            next_id: 1,
            offset: 8 * 1001,
        };
        let mut intake = Intake::new(pool, 1 << 20, end);
        intake.file_base = 8 * 3;
        for len in [100, 8, 900, 1024, 2000, 1] {
            let at = intake.accepted();
            let frame_len = record::frame_len(len);
            intake.make_room(frame_len).unwrap();
            intake.put(0, &vec![7; len], 1);
            let batch = intake.take().unwrap();
            assert_eq!((batch.begin, batch.len()), (at, frame_len));
            let in_file = (at.offset - intake.file_base) as usize;
            assert_eq!(
                (batch.buffer.as_ptr() as usize + batch.from) % ALIGN,
                in_file % ALIGN
            );
            assert_eq!(batch.into_frames().len(), frame_len);
        }
    }
}
