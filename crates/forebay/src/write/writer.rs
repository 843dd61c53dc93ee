//! The writer: appends from any number of threads, and waits for durability.
//!
//! Invariant: an append has either accepted all of its records when it returns
//! `Ok`, or none when it returns an error, except for
//! [`append_batch`](Writer::append_batch) and a full disk under
//! [`SyncPolicy::EveryBatch`], as the documentation says.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::SyncPolicy;
use crate::directory::findings::Recovery;
use crate::error::Result;
use crate::state::intake::Intake;
use crate::state::shared::Shared;
use crate::sync::wake::lock;
use crate::sync::{Instant, deadline_after};
use crate::usage::{self, Usage};
use crate::write::append::{Appending, Attempt, Checked};

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
    /// room is [`WhenFull`](crate::WhenFull)'s. Nobody waits for a reader that is gone: when the
    /// buffer is full then, appends fail with [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    ///
    /// Under [`SyncPolicy::EveryBatch`] this returns when the record is synced. If the disk
    /// turns out to be full after the record was accepted, the wait for its sync ends as
    /// [`WhenFull`](crate::WhenFull) says, with [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut): the record stays accepted, and is
    /// written and synced once there is space ([`flush`](Self::flush) waits for that). While
    /// the disk is known to be full, records are refused before they are accepted.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRecord`](crate::ErrorKind::InvalidRecord) if the payload is longer than the maximum or
    /// counts no events; [`ErrorKind::Full`](crate::ErrorKind::Full) by policy; [`ErrorKind::Poisoned`](crate::ErrorKind::Poisoned)
    /// and [`ErrorKind::Closed`](crate::ErrorKind::Closed) for good. After any of these nothing was
    /// accepted, except that a failed sync under `EveryBatch` leaves open
    /// whether the record survives. [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) under `EveryBatch` as above: the
    /// record is accepted, do not append it again.
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
        let record = shared.check_record(metadata, payload)?;
        let mut intake = lock(&shared.intake);
        let mut deadline = None;
        loop {
            match shared.try_append(&mut intake, &record)? {
                Attempt::Accepted(id, end) => {
                    shared.notify_write_side_of(intake, end);
                    return self.accepted(id, end, deadline);
                }
                Attempt::Dropped => return Ok(self.dropped(&intake)),
                Attempt::Refused(why) => return Err(shared.refusal(&intake, why, 0)),
                Attempt::NoRoom(why) => {
                    intake = shared.wait_for_room(intake, why, &mut deadline, 0)?;
                }
            }
        }
    }

    /// Appends records with metadata 0, in order, under one lock.
    ///
    /// The receipt is the last record's. When they fit together, they are
    /// accepted together, and no other append takes their room. Otherwise, while waiting for room is allowed, they
    /// are accepted one after another as room appears; under
    /// [`WhenFull::Reject`](crate::WhenFull::Reject) none is, and under [`WhenFull::DropNewest`](crate::WhenFull::DropNewest) those
    /// that do not fit are dropped.
    ///
    /// # Errors
    /// As [`append`](Self::append). Every record is checked before any is
    /// accepted. If a wait for room ends in an error, or the disk becomes full in the middle,
    /// the records before it stay accepted; the error says how many.
    pub fn append_batch<P: AsRef<[u8]>>(&self, payloads: &[P]) -> Result<Receipt<'_>> {
        let records = payloads.iter().map(|payload| (0, payload.as_ref()));
        self.append_checked(&self.shared.check_batch(records)?)
    }

    /// [`append_batch`](Self::append_batch) with metadata.
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch).
    pub fn append_batch_with<P: AsRef<[u8]>>(&self, records: &[(u32, P)]) -> Result<Receipt<'_>> {
        let records = records.iter().map(|(metadata, p)| (*metadata, p.as_ref()));
        self.append_checked(&self.shared.check_batch(records)?)
    }

    fn append_checked(&self, records: &[Checked<'_>]) -> Result<Receipt<'_>> {
        let shared = &*self.shared;
        let mut batch = Appending::new(shared, records);
        let mut deadline = None;
        let (intake, error) = match shared.put_all(&mut batch, &mut deadline) {
            Ok(intake) => (intake, None),
            // What was accepted before it is written, synced and delivered all the same.
            Err(error) => (lock(&shared.intake), Some(error)),
        };
        let dropped = self.dropped(&intake);
        shared.notify_write_side_of(intake, batch.end());
        if let Some(error) = error {
            return Err(error);
        }
        match batch.last() {
            Some((id, end)) => self.accepted(id, end, deadline),
            None => Ok(dropped),
        }
    }

    #[inline]
    fn accepted(&self, id: u64, end: u64, deadline: Option<Instant>) -> Result<Receipt<'_>> {
        let receipt = Receipt {
            shared: &self.shared,
            id,
            end,
            accepted: true,
        };
        if self.shared.limits.sync == SyncPolicy::EveryBatch {
            self.shared.wait_durable(end, deadline)?;
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
    /// [`ErrorKind::Poisoned`](crate::ErrorKind::Poisoned) if a sync failed and could not be made good.
    pub fn flush(&self) -> Result<()> {
        let end = lock(&self.shared.intake).accepted().offset;
        self.shared.wait_synced(end, None)?;
        self.shared.wait_ledger_synced()
    }

    /// [`flush`](Self::flush) for so long at most.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) if not everything is synced by then (it may still
    /// become so); [`ErrorKind::Poisoned`](crate::ErrorKind::Poisoned) as above.
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
    /// [`WhenFull::DropNewest`](crate::WhenFull::DropNewest) dropped it.
    pub fn accepted(&self) -> bool {
        self.accepted
    }

    /// Waits until the record (and every one before it) is written: it
    /// survives if this process is killed. At once for a dropped record.
    ///
    /// # Errors
    /// [`ErrorKind::Poisoned`](crate::ErrorKind::Poisoned) if it could not be written.
    pub fn wait_written(&self) -> Result<()> {
        self.shared.wait_written(self.end, None)
    }

    /// Waits until the record (and every one before it) is synced: it survives
    /// a power cut. At once for a dropped record.
    ///
    /// # Errors
    /// [`ErrorKind::Poisoned`](crate::ErrorKind::Poisoned) if it could not be synced.
    pub fn wait_synced(&self) -> Result<()> {
        self.shared.wait_synced(self.end, None)
    }

    /// [`wait_synced`](Self::wait_synced) for so long at most.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut) if it is not synced by then (it may still become
    /// so); [`ErrorKind::Poisoned`](crate::ErrorKind::Poisoned) as above.
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
