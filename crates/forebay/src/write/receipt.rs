//! What an append gives back: which id the record got, and how to wait until it is written or
//! synced.
//!
//! Invariant: a receipt keeps no buffer open, and dropping one changes nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::state::shared::Shared;
use crate::sync::deadline_after;
use crate::write::append::Appending;

/// An append's promise: which id the record got, and how to wait until it is
/// written or synced.
///
/// Dropping a receipt changes nothing: the record is accepted.
#[derive(Clone, Copy)]
pub struct Receipt<'w> {
    shared: &'w Arc<Shared>,
    id: Option<u64>,
    /// The stream offset where the record ends; 0 if it was dropped.
    end: u64,
}

impl<'w> Receipt<'w> {
    pub(crate) fn accepted_at(shared: &'w Arc<Shared>, id: u64, end: u64) -> Self {
        Self {
            shared,
            id: Some(id),
            end,
        }
    }

    pub(crate) fn dropped(shared: &'w Arc<Shared>) -> Self {
        Self {
            shared,
            id: None,
            end: 0,
        }
    }

    /// The record's id; `None` if [`WhenFull::DropNewest`](crate::WhenFull::DropNewest)
    /// dropped the record.
    pub fn id(&self) -> Option<u64> {
        self.id
    }

    /// Whether the record was accepted; false only if
    /// [`WhenFull::DropNewest`](crate::WhenFull::DropNewest) dropped it.
    pub fn accepted(&self) -> bool {
        self.id.is_some()
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

    /// [`wait_synced`](Self::wait_synced), for at most `timeout`.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if it is not synced by then (it may still become
    /// so); [`ErrorKind::Poisoned`] as above.
    pub fn wait_synced_timeout(&self, timeout: Duration) -> Result<()> {
        self.shared.wait_synced(self.end, deadline_after(timeout))
    }

    /// The same receipt without the borrow of the writer, to keep, to send to another thread or
    /// to move into a task. It does not keep the buffer open.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let (writer, reader) = forebay::Config::new(dir.path()).open()?;
    /// let receipt = writer.append(b"hello")?.detach();
    /// let upstream = std::thread::spawn(move || {
    ///     receipt.wait_synced()?;
    ///     // Acknowledge upstream here: the record survives a power cut.
    ///     Ok::<_, forebay::Error>(receipt.id())
    /// });
    /// assert_eq!(upstream.join().unwrap()?, Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn detach(self) -> DetachedReceipt {
        DetachedReceipt {
            shared: Arc::clone(self.shared),
            id: self.id,
            end: self.end,
        }
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn shared(&self) -> &'w Arc<Shared> {
        self.shared
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn end(&self) -> u64 {
        self.end
    }
}

impl fmt::Debug for Receipt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").field("id", &self.id).finish()
    }
}

/// A [`Receipt`] that borrows nothing, from [`Receipt::detach`].
///
/// It does not keep the buffer open. Closing a buffer syncs it, so waiting on the receipt of a
/// closed buffer returns at once, with an error if closing could not sync the record.
#[derive(Clone)]
pub struct DetachedReceipt {
    shared: Arc<Shared>,
    id: Option<u64>,
    end: u64,
}

impl DetachedReceipt {
    pub(crate) fn as_receipt(&self) -> Receipt<'_> {
        Receipt {
            shared: &self.shared,
            id: self.id,
            end: self.end,
        }
    }

    /// As [`Receipt::id`].
    pub fn id(&self) -> Option<u64> {
        self.id
    }

    /// As [`Receipt::accepted`].
    pub fn accepted(&self) -> bool {
        self.id.is_some()
    }

    /// As [`Receipt::wait_written`].
    ///
    /// # Errors
    /// As [`Receipt::wait_written`].
    pub fn wait_written(&self) -> Result<()> {
        self.as_receipt().wait_written()
    }

    /// As [`Receipt::wait_synced`].
    ///
    /// # Errors
    /// As [`Receipt::wait_synced`].
    pub fn wait_synced(&self) -> Result<()> {
        self.as_receipt().wait_synced()
    }

    /// As [`Receipt::wait_synced_timeout`].
    ///
    /// # Errors
    /// As [`Receipt::wait_synced_timeout`].
    pub fn wait_synced_timeout(&self, timeout: Duration) -> Result<()> {
        self.as_receipt().wait_synced_timeout(timeout)
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn parts(&self) -> (Arc<Shared>, u64) {
        (Arc::clone(&self.shared), self.end)
    }
}

impl fmt::Debug for DetachedReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetachedReceipt")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What became of a batch's records.
#[derive(Debug, Clone, Copy)]
pub struct Appended<'w> {
    accepted: usize,
    dropped: usize,
    last: Receipt<'w>,
}

/// What became of a batch so far; `None` stands for a batch that was refused as a whole.
pub(crate) fn outcome<'w>(shared: &'w Arc<Shared>, batch: Option<&Appending<'_>>) -> Appended<'w> {
    let last = batch.and_then(Appending::last);
    Appended {
        accepted: batch.map_or(0, Appending::accepted),
        dropped: batch.map_or(0, Appending::dropped),
        last: last.map_or(Receipt::dropped(shared), |(id, end)| {
            Receipt::accepted_at(shared, id, end)
        }),
    }
}

impl<'w> Appended<'w> {
    /// The error of a batch of which this much was accepted and dropped.
    pub(crate) fn failed(&self, error: Error) -> BatchError {
        BatchError {
            error,
            accepted: self.accepted,
            dropped: self.dropped,
            last: self.last.detach(),
        }
    }

    /// How many records were accepted.
    pub fn accepted(&self) -> usize {
        self.accepted
    }

    /// How many records [`WhenFull::DropNewest`](crate::WhenFull::DropNewest) dropped.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// The receipt of the last accepted record: once it is synced, so are all records before it.
    /// Its id is `None` if none was accepted.
    pub fn receipt(&self) -> Receipt<'w> {
        self.last
    }
}

/// Why the rest of a batch was not accepted, and what became of the records before it.
///
/// Converts to [`Error`], so `?` works in functions that return one.
#[derive(Debug, Clone)]
pub struct BatchError {
    error: Error,
    accepted: usize,
    dropped: usize,
    last: DetachedReceipt,
}

impl BatchError {
    /// Why the next record was not accepted, or, with [`ErrorKind::TimedOut`] and
    /// [`SyncPolicy::Always`](crate::SyncPolicy::Always), why the accepted records are not synced.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The kind of [`error`](Self::error).
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    /// How many records were accepted: the first ones that were not dropped. They stay accepted.
    pub fn accepted(&self) -> usize {
        self.accepted
    }

    /// How many records [`WhenFull::DropNewest`](crate::WhenFull::DropNewest) dropped.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// The receipt of the last record that was accepted. Its id is `None` if none was.
    pub fn receipt(&self) -> &DetachedReceipt {
        &self.last
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Error::from(self.clone()), f)
    }
}

impl std::error::Error for BatchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}

impl From<BatchError> for Error {
    fn from(batch: BatchError) -> Self {
        match (batch.accepted, batch.dropped) {
            (0, 0) => batch.error,
            (accepted, 0) => batch
                .error
                .noting(&format!(" (accepted of the batch: {accepted})")),
            (accepted, dropped) => batch.error.noting(&format!(
                " (accepted of the batch: {accepted}, dropped: {dropped})"
            )),
        }
    }
}

impl From<BatchError> for std::io::Error {
    fn from(batch: BatchError) -> Self {
        Error::from(batch).into()
    }
}
