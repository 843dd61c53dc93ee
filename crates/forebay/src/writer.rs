//! The writer: appends from any number of threads, and waits for durability.
//!
//! Invariant: an append has either accepted all of its records when it returns
//! `Ok`, or none when it returns an error, except for
//! [`append_batch`](Writer::append_batch) as its documentation says.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::acks::Count;
use crate::config::{SyncPolicy, WhenFull};
use crate::error::{Error, ErrorKind, Result};
use crate::findings::Recovery;
use crate::format::record;
use crate::intake::{Intake, NoRoom, Sleep};
use crate::shared::Shared;
use crate::sync::atomic::Ordering;
use crate::sync::{Instant, MutexGuard, deadline_after};
use crate::usage::{self, Usage};
use crate::wake::lock;

/// Appends records to a buffer. Clone it for every producer; all clones write
/// to the same stream.
///
/// When the last clone is dropped or closed, the reader drains what is there
/// and then sees the end.
pub struct Writer {
    shared: Arc<Shared>,
    open: bool,
}

/// An append's promise: which id the record got, and how to wait until it is
/// written or synced.
///
/// Dropping a receipt changes nothing: the record is accepted.
#[derive(Clone, Copy)]
pub struct Receipt<'w> {
    shared: &'w Arc<Shared>,
    id: u64,
    /// The stream offset behind the record; 0 if it was dropped.
    end: u64,
    accepted: bool,
}

/// What an attempt to append found.
pub(crate) enum Attempt {
    /// Accepted: id and end offset of the last record.
    Accepted(u64, u64),
    /// Dropped by policy.
    Dropped,
    /// No room now.
    NoRoom(NoRoom),
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, open: true }
    }

    #[cfg_attr(
        not(feature = "tokio"),
        expect(dead_code, reason = "for the async edge")
    )]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Appends a record with metadata 0.
    ///
    /// The payload is copied into the open batch; what happens when there is no
    /// room is [`WhenFull`]'s (nobody waits for a reader that is gone: a full
    /// buffer is an error then). Under [`SyncPolicy::EveryBatch`] this returns
    /// when the record is synced.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecord`] if the payload is longer than the maximum or
    /// counts no events; [`ErrorKind::Full`] by policy; [`ErrorKind::Poisoned`]
    /// and [`ErrorKind::Closed`] for good. After any of them nothing was
    /// accepted, except that a failed sync under `EveryBatch` leaves open
    /// whether the record survives.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let (writer, reader) = forebay::open(forebay::Config::new(dir.path()))?;
    /// let receipt = writer.append(b"hello")?;
    /// assert_eq!(receipt.id(), 1);
    /// receipt.wait_synced()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn append(&self, payload: &[u8]) -> Result<Receipt<'_>> {
        self.append_with(0, payload)
    }

    /// [`append`](Self::append) with metadata: a number stored with the record
    /// that says what its payload is.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    #[inline]
    pub fn append_with(&self, metadata: u32, payload: &[u8]) -> Result<Receipt<'_>> {
        let shared = &*self.shared;
        let events = shared.check_record(metadata, payload)?;
        let mut intake = lock(&shared.intake);
        let mut deadline = None;
        loop {
            match shared.try_append(&mut intake, metadata, payload, events)? {
                Attempt::Accepted(id, end) => {
                    shared.notify_write_side_of(intake, end);
                    return self.accepted(id, end);
                }
                Attempt::Dropped => return Ok(self.dropped(&intake)),
                Attempt::NoRoom(why) => {
                    intake = shared.wait_for_room(intake, why, &mut deadline)?;
                }
            }
        }
    }

    /// Appends records with metadata 0, in order, under one lock.
    ///
    /// The receipt is the last record's. When they fit together, they are
    /// accepted together. Otherwise, while waiting for room is allowed, they
    /// are accepted one after another as room appears; under
    /// [`WhenFull::Reject`] none is, and under [`WhenFull::DropNewest`] those
    /// that do not fit are dropped.
    ///
    /// # Errors
    /// As [`append`](Self::append). Every record is checked before any is
    /// accepted. If a wait for room ends in an error, the records before it
    /// stay accepted; the error says how many.
    pub fn append_batch<P: AsRef<[u8]>>(&self, payloads: &[P]) -> Result<Receipt<'_>> {
        self.append_all(payloads.len(), |i| (0, payloads[i].as_ref()))
    }

    /// [`append_batch`](Self::append_batch) with metadata.
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch).
    pub fn append_batch_with<P: AsRef<[u8]>>(&self, records: &[(u32, P)]) -> Result<Receipt<'_>> {
        self.append_all(records.len(), |i| (records[i].0, records[i].1.as_ref()))
    }

    fn append_all<'p>(
        &self,
        count: usize,
        record: impl Fn(usize) -> (u32, &'p [u8]),
    ) -> Result<Receipt<'_>> {
        let shared = &*self.shared;
        let len = shared.check_batch(count, &record)?;
        let mut intake = lock(&shared.intake);
        shared.check_open(&intake)?;
        shared.check_fits(&intake, len)?;
        let mut last = self.dropped(&intake);
        let mut deadline = None;
        let mut done = 0;
        while done < count {
            let (metadata, payload) = record(done);
            let events = shared.limits.counter.count_unbounded(metadata, payload);
            let attempt = shared.try_append(&mut intake, metadata, payload, events);
            match attempt.map_err(|e| e.after(done))? {
                Attempt::Accepted(id, end) => {
                    last = Receipt {
                        shared: &self.shared,
                        id,
                        end,
                        accepted: true,
                    };
                    done += 1;
                }
                Attempt::Dropped => done += 1,
                Attempt::NoRoom(why) => {
                    intake = shared
                        .wait_for_room(intake, why, &mut deadline)
                        .map_err(|e| e.after(done))?;
                }
            }
        }
        shared.notify_write_side_of(intake, last.end);
        if last.accepted {
            self.accepted(last.id, last.end)
        } else {
            Ok(last)
        }
    }

    #[inline]
    fn accepted(&self, id: u64, end: u64) -> Result<Receipt<'_>> {
        let receipt = Receipt {
            shared: &self.shared,
            id,
            end,
            accepted: true,
        };
        if self.shared.limits.sync == SyncPolicy::EveryBatch {
            self.shared.await_synced(end, None)?;
        }
        Ok(receipt)
    }

    fn dropped(&self, intake: &Intake) -> Receipt<'_> {
        let id = intake.accepted().next_id;
        Receipt {
            shared: &self.shared,
            id,
            end: 0,
            accepted: false,
        }
    }

    /// Waits until everything before this call is synced: every record
    /// appended and every acknowledgement given, by whomever.
    ///
    /// # Errors
    /// [`ErrorKind::Poisoned`] if a sync failed and could not be made good.
    pub fn flush(&self) -> Result<()> {
        let end = lock(&self.shared.intake).accepted().offset;
        self.shared.wait_synced(end, None)?;
        self.shared.wait_ledger_synced()
    }

    /// [`flush`](Self::flush) for so long at most.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if not everything is synced by then (it may still
    /// become so); [`ErrorKind::Poisoned`] as above.
    pub fn flush_timeout(&self, timeout: Duration) -> Result<()> {
        let deadline = deadline_after(timeout);
        let end = lock(&self.shared.intake).accepted().offset;
        self.shared.wait_synced(end, deadline)?;
        self.shared.wait_ledger_synced_until(deadline)
    }

    /// The largest payload that can be appended, in bytes: what was configured,
    /// or what follows from the data file size.
    pub fn max_record_size(&self) -> usize {
        self.shared.limits.max_record_len
    }

    /// What went through the buffer, and what is in it.
    pub fn usage(&self) -> Usage {
        usage::snapshot(&self.shared)
    }

    /// What opening the buffer found and did.
    pub fn recovery(&self) -> &Recovery {
        &self.shared.recovery
    }

    /// Closes this writer. The last handle of a buffer to go closes the buffer:
    /// everything is written and synced and the lock is free when this returns.
    ///
    /// # Errors
    /// When this closes the buffer and not everything could be made durable.
    pub fn close(mut self) -> Result<()> {
        self.open = false;
        self.shared.writer_gone()
    }
}

impl Clone for Writer {
    fn clone(&self) -> Self {
        lock(&self.shared.intake).writers += 1;
        Self::new(Arc::clone(&self.shared))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.open
            && let Err(error) = self.shared.writer_gone()
        {
            tracing::error!(%error, "closing the buffer failed");
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("buffer", &self.shared)
            .finish()
    }
}

impl<'w> Receipt<'w> {
    /// The record's id. For a dropped record, the id the next one gets.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether the record was accepted; false only if
    /// [`WhenFull::DropNewest`] dropped it.
    pub fn accepted(&self) -> bool {
        self.accepted
    }

    /// Waits until the record (and every one before it) is written: it
    /// survives if this process is killed. At once for a dropped record.
    ///
    /// # Errors
    /// [`ErrorKind::Poisoned`] if it could not be written.
    pub fn wait_written(&self) -> Result<()> {
        self.shared.wait_written(self.end, None)
    }

    /// Waits until the record (and every one before it) is synced: it survives
    /// a power cut. At once for a dropped record.
    ///
    /// # Errors
    /// [`ErrorKind::Poisoned`] if it could not be synced.
    pub fn wait_synced(&self) -> Result<()> {
        self.shared.wait_synced(self.end, None)
    }

    /// [`wait_synced`](Self::wait_synced) for so long at most.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if it is not synced by then (it may still become
    /// so); [`ErrorKind::Poisoned`] as above.
    pub fn wait_synced_timeout(&self, timeout: Duration) -> Result<()> {
        self.shared.wait_synced(self.end, deadline_after(timeout))
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn shared(&self) -> &'w Arc<Shared> {
        self.shared
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn from_parts(shared: &'w Arc<Shared>, id: u64, end: u64, accepted: bool) -> Self {
        Self {
            shared,
            id,
            end,
            accepted,
        }
    }
}

impl fmt::Debug for Receipt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt")
            .field("id", &self.id)
            .field("accepted", &self.accepted)
            .finish()
    }
}

impl Shared {
    /// Refuses what could never be appended; returns the events it counts.
    #[inline]
    pub(crate) fn check_record(&self, metadata: u32, payload: &[u8]) -> Result<u64> {
        let len_max = self.limits.max_record_len;
        if payload.len() > len_max {
            return Err(Error::new(
                ErrorKind::InvalidRecord,
                format!(
                    "the record has {} bytes; max_record_size is {len_max} bytes",
                    payload.len()
                ),
            ));
        }
        let events = self.limits.counter.count_unbounded(metadata, payload);
        if events == 0 || (events > 1 && events > payload.len() as u64) {
            return Err(Error::new(
                ErrorKind::InvalidRecord,
                format!(
                    "the record of {} bytes counts {events} events; a record counts at least \
                     one, and no more than its payload has bytes",
                    payload.len()
                ),
            ));
        }
        Ok(events)
    }

    /// The bytes that a batch takes on disk.
    ///
    /// # Errors
    /// One of the records is invalid.
    pub(crate) fn check_batch<'p>(
        &self,
        count: usize,
        record: &impl Fn(usize) -> (u32, &'p [u8]),
    ) -> Result<u64> {
        let mut len = 0;
        for i in 0..count {
            let (metadata, payload) = record(i);
            self.check_record(metadata, payload)?;
            len += record::frame_len(payload.len()) as u64;
        }
        Ok(len)
    }

    /// Under [`WhenFull::Reject`], refuses what does not fit together, before
    /// anything is accepted.
    pub(crate) fn check_fits(&self, intake: &Intake, len: u64) -> Result<()> {
        if self.limits.when_full != WhenFull::Reject || intake.fits(len) {
            return Ok(());
        }
        Err(self.full_error(if intake.disk_full {
            NoRoom::DiskFull
        } else {
            NoRoom::Full
        }))
    }

    pub(crate) fn check_open(&self, intake: &Intake) -> Result<()> {
        match &intake.failed {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Accepts the record if there is room, drops it if the policy says so.
    #[inline]
    pub(crate) fn try_append(
        &self,
        intake: &mut Intake,
        metadata: u32,
        payload: &[u8],
        events: u64,
    ) -> Result<Attempt> {
        self.check_open(intake)?;
        let frame_len = record::frame_len(payload.len());
        match intake.make_room(frame_len) {
            Ok(()) => {
                let id = intake.put(metadata, payload, events);
                Ok(Attempt::Accepted(id, intake.accepted().offset))
            }
            Err(NoRoom::Full | NoRoom::DiskFull)
                if self.limits.when_full == WhenFull::DropNewest =>
            {
                intake.dropped.add(Count {
                    events,
                    bytes: frame_len as u64,
                });
                Ok(Attempt::Dropped)
            }
            Err(why @ (NoRoom::Full | NoRoom::DiskFull))
                if self.limits.when_full == WhenFull::Reject =>
            {
                Err(self.full_error(why))
            }
            Err(why) => Ok(Attempt::NoRoom(why)),
        }
    }

    /// Lets go of the intake, into which records up to `end` were put, and wakes
    /// the write side if it must act now.
    #[inline]
    pub(crate) fn notify_write_side_of(&self, mut intake: MutexGuard<'_, Intake>, end: u64) {
        if self.limits.sync == SyncPolicy::EveryBatch {
            intake.want_synced = intake.want_synced.max(end);
            self.wake_write_side(intake);
        } else {
            self.notify_write_side(intake);
        }
    }

    /// Lets go of the intake and wakes the write side if it must act now.
    #[inline]
    pub(crate) fn notify_write_side(&self, mut intake: MutexGuard<'_, Intake>) {
        let wake = match intake.asleep {
            Sleep::Awake => false,
            Sleep::Idle => true,
            Sleep::Lingering => intake.has_ready() || self.reader_waits.load(Ordering::SeqCst),
        };
        if wake {
            intake.asleep = Sleep::Awake;
            intake.poked = true;
            drop(intake);
            self.work.ring();
        }
    }

    fn wait_for_room<'a>(
        &'a self,
        mut intake: MutexGuard<'a, Intake>,
        why: NoRoom,
        deadline: &mut Option<Instant>,
    ) -> Result<MutexGuard<'a, Intake>> {
        if let (WhenFull::BlockFor(time), NoRoom::Full | NoRoom::DiskFull, None) =
            (self.limits.when_full, why, &deadline)
        {
            *deadline = deadline_after(time);
        }
        // First of all, for what was accepted of a batch.
        if intake.asleep != Sleep::Awake {
            intake.asleep = Sleep::Awake;
            intake.poked = true;
            self.work.ring();
        }
        if self.waits_in_vain(&intake, why) {
            return Err(self.full_error(why));
        }
        match self.wait(intake, &self.space, 0, *deadline) {
            Some(_) => Ok(lock(&self.intake)),
            None => Err(self.full_error(why)),
        }
    }

    /// Whether nobody is left who could make the room that is missing.
    pub(crate) fn waits_in_vain(&self, intake: &Intake, why: NoRoom) -> bool {
        why == NoRoom::Full && !intake.reader
    }

    /// The error of a wait for space that ran out of time.
    #[cfg(feature = "tokio")]
    pub(crate) fn still_full_error(&self) -> Error {
        let disk_full = lock(&self.intake).disk_full;
        self.full_error(if disk_full {
            NoRoom::DiskFull
        } else {
            NoRoom::Full
        })
    }

    #[cold]
    pub(crate) fn full_error(&self, why: NoRoom) -> Error {
        let message = match why {
            NoRoom::DiskFull => format!(
                "the file system of {} has no space left (or less than min_free_space); nothing \
                 was accepted; free some space, or acknowledge more",
                self.dir.display()
            ),
            NoRoom::Full | NoRoom::Busy => format!(
                "the buffer in {} is full (max_size is {} bytes); nothing was accepted; \
                 acknowledge more, or raise max_size",
                self.dir.display(),
                self.limits.max_size
            ),
        };
        Error::with_path(ErrorKind::Full, &self.dir, message)
    }
}
