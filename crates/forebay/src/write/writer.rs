//! The writer: appends from any number of threads, and waits for durability.
//!
//! Invariant: an append that returns an error has accepted nothing, except for
//! [`append_batch`](Writer::append_batch) and, under [`SyncPolicy::Always`], a sync that failed or
//! is pending, as the documentation says.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{SyncPolicy, WhenFull};
use crate::directory::findings::Recovery;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::{Error, Result};
use crate::state::intake::Intake;
use crate::state::shared::Shared;
use crate::sync::wake::lock;
use crate::sync::{MutexGuard, deadline_after};
use crate::usage::{self, Monitor, Usage};
use crate::write::append::{Appending, Attempt, Checked, Waits};
use crate::write::receipt::{Appended, BatchError, Receipt, outcome};

/// Appends records to a buffer. Clone it for every producer; all clones write
/// to the same stream.
///
/// When the last clone is dropped or closed, the reader reads what is there and then sees the end.
///
/// After a `fork`, a child process must not append: the thread that writes is its parent's. It may
/// drop the writer, which touches nothing, and open other buffers.
pub struct Writer {
    shared: Arc<Shared>,
    open: bool,
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
    /// The payload is copied into the open batch. [`WhenFull`](crate::WhenFull) decides what
    /// happens when there is no room. Once the reader is closed nothing makes room any more: an
    /// append to a full buffer then fails with [`ErrorKind::ReaderGone`], unless the policy drops
    /// the record.
    ///
    /// Under [`SyncPolicy::Always`] this returns when the record is synced. If the disk turns out
    /// to be full after the record was accepted, the wait for its sync ends as
    /// [`WhenFull`](crate::WhenFull) says, with [`ErrorKind::TimedOut`]: the record stays accepted,
    /// and is written and synced once there is space ([`flush`](Self::flush) waits for that). While
    /// the disk is known to be full, records are refused before they are accepted.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecord`] if the payload is longer than the maximum or counts no events;
    /// [`ErrorKind::Full`] and [`ErrorKind::DiskFull`] by policy; [`ErrorKind::ReaderGone`];
    /// [`ErrorKind::Poisoned`], and so for every later append. After any of these nothing was
    /// accepted, except that a failed sync under `Always` leaves open whether the record survives.
    /// [`ErrorKind::TimedOut`] under `Always` as above: the record is accepted, do not append it
    /// again.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let (writer, reader) = forebay::Config::new(dir.path()).open()?;
    /// let receipt = writer.append(b"hello")?;
    /// assert_eq!(receipt.id(), Some(1));
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
        self.append_one(metadata, payload, || {
            Waits::by(self.shared.limits.when_full)
        })
    }

    /// [`append`](Self::append) that does not wait for room, whatever
    /// [`WhenFull`](crate::WhenFull) says. While all memory for batches waits to be written, it
    /// waits for moments, or for 5 s if the disk hangs; as long as it hangs, later calls do not wait.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] or [`ErrorKind::DiskFull`] if there is no room now; otherwise as
    /// [`append`](Self::append).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use forebay::{Config, ErrorKind};
    /// let (writer, _reader) = Config::new(dir.path()).max_size(4096).open()?;
    /// let full = loop {
    ///     if let Err(error) = writer.try_append(&[0; 100]) {
    ///         break error;
    ///     }
    /// };
    /// assert_eq!(full.kind(), ErrorKind::Full);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_append(&self, payload: &[u8]) -> Result<Receipt<'_>> {
        self.try_append_with(0, payload)
    }

    /// [`try_append`](Self::try_append) with metadata.
    ///
    /// # Errors
    /// As [`try_append`](Self::try_append).
    pub fn try_append_with(&self, metadata: u32, payload: &[u8]) -> Result<Receipt<'_>> {
        self.append_one(metadata, payload, || Waits::by(WhenFull::Reject))
    }

    /// [`append`](Self::append) that waits for at most `timeout`: for room, whatever
    /// [`WhenFull`](crate::WhenFull) says, and under [`SyncPolicy::Always`] for the sync.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] or [`ErrorKind::DiskFull`] if there is no room in time;
    /// [`ErrorKind::TimedOut`] if the record is accepted and not synced in time; otherwise as
    /// [`append`](Self::append).
    pub fn append_timeout(&self, payload: &[u8], timeout: Duration) -> Result<Receipt<'_>> {
        self.append_timeout_with(0, payload, timeout)
    }

    /// [`append_timeout`](Self::append_timeout) with metadata.
    ///
    /// # Errors
    /// As [`append_timeout`](Self::append_timeout).
    pub fn append_timeout_with(
        &self,
        metadata: u32,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<Receipt<'_>> {
        let waits = Waits::at_most(timeout);
        self.append_one(metadata, payload, || waits)
    }

    /// Appends a record; asks how it may wait only when it must.
    #[inline]
    fn append_one(
        &self,
        metadata: u32,
        payload: &[u8],
        waits: impl Fn() -> Waits,
    ) -> Result<Receipt<'_>> {
        let shared = &*self.shared;
        let record = shared.check_record(metadata, payload)?;
        let mut intake = lock(&shared.intake);
        match shared.accept(&mut intake, &record, || waits().when_full())? {
            Attempt::Accepted(id, end) => self.accepted(intake, (id, end), waits),
            attempt => self.append_without_room(intake, &record, attempt, waits()),
        }
    }

    /// What becomes of a record for which there was no room at first.
    #[cold]
    fn append_without_room<'a>(
        &'a self,
        mut intake: MutexGuard<'a, Intake>,
        record: &Checked<'_>,
        mut attempt: Attempt,
        mut waits: Waits,
    ) -> Result<Receipt<'a>> {
        let shared = &*self.shared;
        loop {
            match attempt {
                Attempt::Accepted(id, end) => return self.accepted(intake, (id, end), || waits),
                Attempt::Dropped => return Ok(Receipt::dropped(&self.shared)),
                Attempt::Refused(why) => return Err(shared.refusal(&intake, why)),
                Attempt::NoRoom(why) => intake = shared.wait_for_room(intake, why, &mut waits)?,
            }
            attempt = shared.accept(&mut intake, record, || waits.when_full())?;
        }
    }

    #[inline]
    fn accepted(
        &self,
        intake: MutexGuard<'_, Intake>,
        (id, end): (u64, u64),
        waits: impl FnOnce() -> Waits,
    ) -> Result<Receipt<'_>> {
        self.shared.notify_write_side_of(intake, end);
        self.wait_as_policy_says(end, waits)?;
        Ok(Receipt::accepted_at(&self.shared, id, end))
    }

    /// Appends records with metadata 0, in order, under one lock.
    ///
    /// When they all fit, they are accepted together, and no other append takes their room.
    /// Otherwise, if the policy allows waiting, they are accepted one after another as room
    /// appears; under [`WhenFull::Reject`](crate::WhenFull::Reject) none is, and under
    /// [`WhenFull::DropNewest`](crate::WhenFull::DropNewest) those that do not fit are dropped.
    ///
    /// # Errors
    /// As [`append`](Self::append), with what became of the records before the error. Every record
    /// is checked before any is accepted. If a wait for room ends in an error, or the disk becomes
    /// full in the middle, the records before that stay accepted: [`BatchError::accepted`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let (writer, _reader) = forebay::Config::new(dir.path()).open()?;
    /// let appended = writer.append_batch(&["one", "two", "three"])?;
    /// assert_eq!((appended.accepted(), appended.dropped()), (3, 0));
    /// appended.receipt().wait_synced()?; // all three survive a power cut
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn append_batch<P: AsRef<[u8]>>(&self, payloads: &[P]) -> Result<Appended<'_>, BatchError> {
        let records = payloads.iter().map(|payload| (0, payload.as_ref()));
        self.append_all(self.shared.check_batch(records))
    }

    /// [`append_batch`](Self::append_batch) with metadata.
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch).
    pub fn append_batch_with<P: AsRef<[u8]>>(
        &self,
        records: &[(u32, P)],
    ) -> Result<Appended<'_>, BatchError> {
        let records = records.iter().map(|(metadata, p)| (*metadata, p.as_ref()));
        self.append_all(self.shared.check_batch(records))
    }

    /// The error of a batch that was refused as a whole.
    pub(crate) fn refused_batch(&self, error: Error) -> BatchError {
        outcome(&self.shared, None).failed(error)
    }

    fn append_all(&self, records: Result<Vec<Checked<'_>>>) -> Result<Appended<'_>, BatchError> {
        let shared = &*self.shared;
        let records = records.map_err(|error| self.refused_batch(error))?;
        let when_full = shared.limits.when_full;
        let mut batch = Appending::new(shared, &records, when_full);
        let mut waits = Waits::by(when_full);
        let (intake, result) = match shared.put_all(&mut batch, &mut waits) {
            Ok(intake) => (intake, Ok(())),
            // The records that were accepted before the error are written, synced and delivered.
            Err(error) => (lock(&shared.intake), Err(error)),
        };
        shared.notify_write_side_of(intake, batch.end());
        let appended = outcome(&self.shared, Some(&batch));
        result
            .and_then(|()| self.wait_as_policy_says(batch.end(), || waits))
            .map_err(|error| appended.failed(error))?;
        Ok(appended)
    }

    /// Under [`SyncPolicy::Always`], waits for the sync of what was accepted up to `end`.
    #[inline]
    fn wait_as_policy_says(&self, end: u64, waits: impl FnOnce() -> Waits) -> Result<()> {
        match self.shared.limits.sync {
            SyncPolicy::Always => self.shared.wait_durable(end, waits()),
            SyncPolicy::Interval | SyncPolicy::Never => Ok(()),
        }
    }

    /// Waits until everything before this call is synced: every record appended and every
    /// acknowledgement given, by any thread.
    ///
    /// # Errors
    /// [`ErrorKind::Poisoned`] if a sync failed and could not be repaired.
    pub fn flush(&self) -> Result<()> {
        let end = lock(&self.shared.intake).accepted().offset;
        self.shared.wait_synced(end, None)?;
        self.shared.wait_ledger_synced()
    }

    /// [`flush`](Self::flush), for at most `timeout`.
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
    pub fn max_record_size(&self) -> u64 {
        self.shared.limits.max_record_len as u64
    }

    /// What went through the buffer, and what is in it.
    pub fn usage(&self) -> Usage {
        usage::snapshot(&self.shared)
    }

    /// What opening the buffer found and did.
    pub fn recovery(&self) -> &Recovery {
        &self.shared.recovery
    }

    /// A handle that only reads figures: it keeps neither the buffer nor the stream open.
    pub fn monitor(&self) -> Monitor {
        Monitor::new(&self.shared)
    }

    /// Closes this writer. The last handle of a buffer to go closes the buffer:
    /// everything is written and synced and the lock is free when this returns.
    ///
    /// # Errors
    /// When this closes the buffer and not everything could be made durable.
    pub fn close(mut self) -> Result<()> {
        self.open = false;
        self.shared.writer_gone(None)
    }

    /// [`close`](Self::close) that waits for at most `timeout`.
    ///
    /// With [`Io::Caller`](crate::Io::Caller) no other thread does the work, so this call does all
    /// of it and ignores the time limit.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if the buffer is not closed by then: closing goes on by itself, and
    /// the lock is held until it is done. Otherwise as [`close`](Self::close).
    pub fn close_timeout(mut self, timeout: Duration) -> Result<()> {
        self.open = false;
        self.shared.writer_gone(Some(timeout))
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
            && let Err(error) = self.shared.writer_gone(None)
        {
            tracing::error!(error = %format_args!("{error:#}"), "closing the buffer failed");
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
