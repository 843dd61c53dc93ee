//! The async writer: appends, flushes and a sink as futures.
//!
//! Invariant: the intake's lock is never held over an await.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;

use super::{Registration, blocking, drop_elsewhere, durable, ledger_synced, synced, within};
use crate::config::{SyncPolicy, WhenFull};
use crate::directory::findings::Recovery;
use crate::error::{Error, Result};
use crate::state::shared::Shared;
use crate::sync::Instant;
use crate::sync::wake::lock;
use crate::usage::{Monitor, Usage};
use crate::write::append::{Appending, Attempt, Checked, Put, Waits};
use crate::write::receipt::{Appended, BatchError, Receipt, outcome};
use crate::write::writer::Writer;

/// A [`Writer`] whose waits are futures.
///
/// Dropping it within a runtime closes it on another thread. To open the buffer again, await
/// [`close`](Self::close) instead.
#[derive(Clone)]
pub struct AsyncWriter {
    /// `None` only while being closed or dropped.
    writer: Option<Writer>,
}

impl AsyncWriter {
    /// Makes a writer async. If its buffer is open with [`Io::Caller`](crate::Io::Caller), every
    /// call that might have to wait fails with
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig).
    pub fn new(writer: Writer) -> Self {
        Self {
            writer: Some(writer),
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        #[expect(
            clippy::expect_used,
            reason = "taken only by close and drop, which consume self"
        )]
        self.writer
            .as_ref()
            .expect("the writer is there until close or drop")
            .shared()
    }

    /// Appends a record with metadata 0. Ready at once when there is room.
    ///
    /// If the future is dropped while it is pending, nothing is accepted, or (under
    /// [`SyncPolicy::Always`], while it waits for the sync) the record stays accepted.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub async fn append(&self, payload: &[u8]) -> Result<Receipt<'_>> {
        self.append_with(0, payload).await
    }

    /// [`append`](Self::append) with metadata.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub async fn append_with(&self, metadata: u32, payload: &[u8]) -> Result<Receipt<'_>> {
        let when_full = self.shared().limits.when_full;
        self.append_one(metadata, payload, Waits::by(when_full))
            .await
    }

    /// [`append`](Self::append) that does not wait for room; as [`Writer::try_append`], but while a
    /// disk hangs it waits until the disk goes on: give [`append_timeout`](Self::append_timeout) a
    /// time instead if that may happen.
    ///
    /// # Errors
    /// As [`Writer::try_append`].
    pub async fn try_append(&self, payload: &[u8]) -> Result<Receipt<'_>> {
        self.try_append_with(0, payload).await
    }

    /// [`try_append`](Self::try_append) with metadata.
    ///
    /// # Errors
    /// As [`Writer::try_append`].
    pub async fn try_append_with(&self, metadata: u32, payload: &[u8]) -> Result<Receipt<'_>> {
        self.append_one(metadata, payload, Waits::by(WhenFull::Reject))
            .await
    }

    /// [`append`](Self::append) that waits for room for at most `timeout`; as
    /// [`Writer::append_timeout`].
    ///
    /// # Errors
    /// As [`Writer::append_timeout`].
    pub async fn append_timeout(&self, payload: &[u8], timeout: Duration) -> Result<Receipt<'_>> {
        self.append_timeout_with(0, payload, timeout).await
    }

    /// [`append_timeout`](Self::append_timeout) with metadata.
    ///
    /// # Errors
    /// As [`Writer::append_timeout`].
    pub async fn append_timeout_with(
        &self,
        metadata: u32,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<Receipt<'_>> {
        self.append_one(metadata, payload, Waits::at_most(timeout))
            .await
    }

    async fn append_one(&self, metadata: u32, payload: &[u8], waits: Waits) -> Result<Receipt<'_>> {
        let record = self.shared().check_record(metadata, payload)?;
        let appended = self.append_all(Ok([record]), waits).await;
        // A batch of one record has no records before it to report.
        appended
            .map(|appended| appended.receipt())
            .map_err(|batch| batch.error().clone())
    }

    /// Appends records with metadata 0, in order, under one lock as long as there is room.
    ///
    /// If the future is dropped while it waits for room, the first records may be accepted, and
    /// stay so. If it is dropped while it waits for the sync, all are accepted.
    ///
    /// # Errors
    /// As [`Writer::append_batch`].
    pub async fn append_batch<P: AsRef<[u8]> + Sync>(
        &self,
        payloads: &[P],
    ) -> Result<Appended<'_>, BatchError> {
        let records = payloads.iter().map(|payload| (0, payload.as_ref()));
        let records = self.shared().check_batch(records);
        self.append_all(records, Waits::by(self.shared().limits.when_full))
            .await
    }

    /// [`append_batch`](Self::append_batch) with metadata.
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch).
    pub async fn append_batch_with<P: AsRef<[u8]> + Sync>(
        &self,
        records: &[(u32, P)],
    ) -> Result<Appended<'_>, BatchError> {
        let records = records.iter().map(|(metadata, p)| (*metadata, p.as_ref()));
        let records = self.shared().check_batch(records);
        self.append_all(records, Waits::by(self.shared().limits.when_full))
            .await
    }

    async fn append_all<'p>(
        &self,
        records: Result<impl AsRef<[Checked<'p>]>>,
        waits: Waits,
    ) -> Result<Appended<'_>, BatchError> {
        let when_full = waits.when_full();
        let shared = self.shared();
        let records = shared.check_async().and(records);
        let records = records.map_err(|error| outcome(shared, None).failed(error))?;
        let waits_for_sync = shared.limits.sync == SyncPolicy::Always;
        let begun = waits_for_sync.then(Instant::now);
        let mut batch = Appending::new(shared, records.as_ref(), when_full);
        let put = {
            let mut waits = Registration::new(&shared.space);
            let put = poll_fn(|cx| poll_put(shared, &mut batch, &mut waits, cx));
            match when_full {
                WhenFull::BlockFor(time) => ::tokio::time::timeout(time, put).await.ok(),
                _ => Some(put.await),
            }
        };
        let put = put.unwrap_or_else(|| {
            // The time is up.
            let intake = lock(&shared.intake);
            Err(shared.refusal(&intake, intake.why_waiting()))
        });
        let appended = outcome(shared, Some(&batch));
        put.map_err(|error| appended.failed(error))?;
        if let Some(begun) = begun {
            durable(shared, batch.end(), begun, waits)
                .await
                .map_err(|error| appended.failed(error))?;
        }
        Ok(appended)
    }

    /// The error of a batch that was refused as a whole.
    pub(super) fn refused_batch(&self, error: Error) -> BatchError {
        outcome(self.shared(), None).failed(error)
    }

    /// Waits until everything before this call is synced: records and acknowledgements.
    ///
    /// # Errors
    /// As [`Writer::flush`].
    pub async fn flush(&self) -> Result<()> {
        let shared = self.shared();
        let end = lock(&shared.intake).accepted().offset;
        synced(shared, end).await?;
        ledger_synced(shared).await
    }

    /// [`flush`](Self::flush), for at most `timeout`.
    ///
    /// # Errors
    /// As [`Writer::flush_timeout`].
    pub async fn flush_timeout(&self, timeout: Duration) -> Result<()> {
        let what = "synced what was appended and acknowledged";
        within(self.shared(), timeout, what, self.flush()).await
    }

    /// The largest payload that can be appended, in bytes; see [`Writer::max_record_size`].
    pub fn max_record_size(&self) -> u64 {
        self.shared().limits.max_record_len as u64
    }

    /// A handle that only reads figures; see [`Writer::monitor`].
    pub fn monitor(&self) -> Monitor {
        Monitor::new(self.shared())
    }

    /// What went through the buffer, and what is in it.
    pub fn usage(&self) -> Usage {
        crate::usage::snapshot(self.shared())
    }

    /// What opening the buffer found and did.
    pub fn recovery(&self) -> &Recovery {
        &self.shared().recovery
    }

    /// Closes this writer; see [`Writer::close`].
    ///
    /// # Errors
    /// As [`Writer::close`].
    pub async fn close(mut self) -> Result<()> {
        match self.writer.take() {
            Some(writer) => blocking(move || writer.close()).await,
            None => Ok(()),
        }
    }

    /// [`close`](Self::close) that waits for at most `timeout`; see [`Writer::close_timeout`].
    ///
    /// # Errors
    /// As [`Writer::close_timeout`].
    pub async fn close_timeout(mut self, timeout: Duration) -> Result<()> {
        match self.writer.take() {
            Some(writer) => blocking(move || writer.close_timeout(timeout)).await,
            None => Ok(()),
        }
    }
}

impl Drop for AsyncWriter {
    /// The last handle closes the buffer, on a blocking thread of the runtime
    /// if there is one.
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            drop_elsewhere(writer);
        }
    }
}

/// Puts in as many records as there is room for. Ready once all are in, or with an error. Whatever
/// it returns, the write side is notified of the accepted records.
fn poll_put(
    shared: &Shared,
    batch: &mut Appending<'_>,
    waits: &mut Registration<'_>,
    cx: &Context<'_>,
) -> Poll<Result<()>> {
    let mut waker = None;
    loop {
        let mut intake = lock(&shared.intake);
        let put = batch.put(&mut intake);
        match (put, waker.take()) {
            (Ok(Put::NoRoom(_)), None) => {
                drop(intake);
                waker = Some(cx.waker().clone());
            }
            (Ok(Put::NoRoom(_)), Some(waker)) => {
                let replaced = waits.renew(0, waker);
                drop(intake);
                drop(replaced);
                shared.poke();
                return Poll::Pending;
            }
            (put, _) => {
                shared.notify_write_side_of(intake, batch.end());
                return Poll::Ready(put.map(drop));
            }
        }
    }
}

impl fmt::Debug for AsyncWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncWriter").field(&self.writer).finish()
    }
}

/// Appends each payload that is sent to it. Flushing and closing the sink do a
/// [`flush`](AsyncWriter::flush).
///
/// Under [`SyncPolicy::Always`] a sink does not wait for the sync of each record; its flush does.
#[derive(Debug)]
pub struct RecordSink {
    writer: AsyncWriter,
    /// The payload that was sent and is not appended yet.
    held: Option<Bytes>,
    /// The append of a payload that found no room.
    appending: Option<Wait>,
    flushing: Option<Wait>,
    /// Something was appended after the current flush began.
    needs_another_flush: bool,
}

/// What a sink waits for.
struct Wait(Pin<Box<dyn Future<Output = Result<()>> + Send>>);

impl Wait {
    fn on(future: impl Future<Output = Result<()>> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }

    /// Polls what is waited for, if anything is. Removes it once it is ready.
    fn poll(waiting: &mut Option<Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(Self(future)) = waiting else {
            return Poll::Ready(Ok(()));
        };
        let result = ready!(future.as_mut().poll(cx));
        *waiting = None;
        Poll::Ready(result)
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wait")
    }
}

impl AsyncWriter {
    /// A sink of payloads.
    pub fn into_sink(self) -> RecordSink {
        RecordSink {
            writer: self,
            held: None,
            appending: None,
            flushing: None,
            needs_another_flush: false,
        }
    }
}

impl RecordSink {
    /// Appends the payload that was sent last.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if let Some(payload) = self.held.take() {
            self.needs_another_flush = true;
            if !self.append_now(&payload)? {
                let writer = self.writer.clone();
                let append = async move { writer.append(&payload).await.map(drop) };
                self.appending = Some(Wait::on(append));
            }
        }
        Wait::poll(&mut self.appending, cx)
    }

    /// Appends a record if there is room now.
    fn append_now(&self, payload: &[u8]) -> Result<bool> {
        let shared = self.writer.shared();
        shared.check_async()?;
        let record = shared.check_record(0, payload)?;
        let mut intake = lock(&shared.intake);
        match shared.accept(&mut intake, &record, || shared.limits.when_full)? {
            Attempt::Accepted(..) | Attempt::Dropped => {
                shared.notify_write_side(intake);
                Ok(true)
            }
            Attempt::Refused(why) => Err(shared.refusal(&intake, why)),
            Attempt::NoRoom(_) => Ok(false),
        }
    }
}

impl futures_sink::Sink<Bytes> for RecordSink {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_held(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, payload: Bytes) -> Result<()> {
        assert!(
            self.held.is_none(),
            "a sink must be ready before the next item is sent"
        );
        self.held = Some(payload);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_held(cx))?;
        loop {
            // A flush that has begun is waited for. Beginning another one with each poll would put
            // off the end for as long as others write. One more is needed only for what was sent
            // meanwhile.
            if self.flushing.is_none() {
                let writer = self.writer.clone();
                self.needs_another_flush = false;
                self.flushing = Some(Wait::on(async move { writer.flush().await }));
            }
            ready!(Wait::poll(&mut self.flushing, cx))?;
            if !self.needs_another_flush {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_flush(cx)
    }
}
