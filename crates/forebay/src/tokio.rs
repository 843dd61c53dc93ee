//! The async edge (feature `tokio`): the same operations as futures.
//!
//! Invariants:
//! - Nothing here blocks a runtime's worker on the disk or on a full buffer.
//!   The intake's lock, held for the time of copying a record, is all an append
//!   takes; reads from disk run on the runtime's blocking threads.
//! - A future does its work in one poll or not at all. Dropping one that is
//!   pending loses and duplicates nothing:
//!   - [`AsyncWriter::append`]: the record is not accepted before the poll that
//!     accepts it. Under [`SyncPolicy::EveryBatch`](crate::SyncPolicy) the
//!     future then waits for the sync; dropped while waiting, the record is
//!     accepted and stays so.
//!   - [`AsyncReader::next`]: what a read in the background brings is kept for
//!     the next call.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use ::tokio::task::{JoinHandle, spawn_blocking};
use bytes::Bytes;

use crate::buffer::open;
use crate::config::{Config, SyncPolicy, WhenFull};
use crate::delivery::Item;
use crate::error::{Error, ErrorKind, Result};
use crate::reader::{Reader, TryBatch};
use crate::shared::Shared;
use crate::usage::Usage;
use crate::wake::{Bell, lock};
use crate::writer::{Attempt, Receipt, Writer};

/// Records to read ahead from disk at a time.
const READ_RECORDS: usize = 8192;
/// Payload bytes to read ahead from disk at a time.
const READ_BYTES: usize = 1 << 20;

/// Opens a buffer for async use, on a blocking thread.
///
/// # Errors
/// As [`crate::open`].
///
/// # Panics
/// Outside a tokio runtime.
pub async fn open_async(config: Config) -> Result<(AsyncWriter, AsyncReader)> {
    let (writer, reader) = blocking(move || open(config)).await?;
    Ok((AsyncWriter::new(writer), AsyncReader::new(reader)))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|e| Err(gone(&e)))
}

fn gone(e: &::tokio::task::JoinError) -> Error {
    Error::new(
        ErrorKind::Closed,
        format!("the runtime is shutting down: {e}"),
    )
}

/// A registration on a bell that ends with the future that holds it.
struct Registration<'a> {
    bell: &'a Bell,
    key: Option<u64>,
}

impl<'a> Registration<'a> {
    fn new(bell: &'a Bell) -> Self {
        Self { bell, key: None }
    }

    fn renew(&mut self, threshold: u64, waker: &Waker) {
        self.bell.register(&mut self.key, threshold, waker);
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.bell.unregister(&mut self.key);
    }
}

// ---- writer ----

/// A [`Writer`] whose waits are futures.
#[derive(Clone)]
pub struct AsyncWriter {
    /// `None` only while being closed or dropped.
    writer: Option<Writer>,
}

impl AsyncWriter {
    /// Makes a writer async.
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
    /// Dropped while pending, the future has accepted nothing, or (under
    /// [`SyncPolicy::EveryBatch`], while it waits for the sync) the record
    /// stays accepted.
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
        let shared = self.shared();
        let events = shared.check_record(metadata, payload)?;
        let mut waits = None;
        let append = poll_fn(|cx| poll_append(shared, metadata, payload, events, &mut waits, cx));
        let receipt = match shared.limits.when_full {
            WhenFull::BlockFor(time) => ::tokio::time::timeout(time, append)
                .await
                .unwrap_or_else(|_| Err(shared.still_full_error()))?,
            _ => append.await?,
        };
        if shared.limits.sync == SyncPolicy::EveryBatch && receipt.accepted() {
            receipt.synced().await?;
        }
        Ok(receipt)
    }

    /// Everything before this call is synced, records and acknowledgements.
    ///
    /// # Errors
    /// As [`Writer::flush`].
    pub async fn flush(&self) -> Result<()> {
        let shared = self.shared();
        let end = lock(&shared.intake).accepted().offset;
        synced(shared, end).await?;
        ledger_synced(shared).await
    }

    /// What went through the buffer, and what is in it.
    pub fn usage(&self) -> Usage {
        crate::usage::snapshot(self.shared())
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

fn drop_elsewhere<T: Send + 'static>(handle: T) {
    match ::tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(move || drop(handle))),
        Err(_) => drop(handle),
    }
}

fn poll_append<'w>(
    shared: &'w Arc<Shared>,
    metadata: u32,
    payload: &[u8],
    events: u64,
    waits: &mut Option<Registration<'w>>,
    cx: &mut Context<'_>,
) -> Poll<Result<Receipt<'w>>> {
    let mut intake = lock(&shared.intake);
    Poll::Ready(
        match shared.try_append(&mut intake, metadata, payload, events) {
            Ok(Attempt::Accepted(id, end)) => {
                shared.notify_write_side(intake);
                Ok(Receipt::from_parts(shared, id, end, true))
            }
            Ok(Attempt::Dropped) => Ok(Receipt::from_parts(
                shared,
                intake.accepted().next_id,
                0,
                false,
            )),
            Ok(Attempt::NoRoom(why)) => {
                if shared.waits_in_vain(&intake, why) {
                    return Poll::Ready(Err(shared.full_error(why)));
                }
                let waits = waits.get_or_insert_with(|| Registration::new(&shared.space));
                waits.renew(0, cx.waker());
                drop(intake);
                shared.poke();
                return Poll::Pending;
            }
            Err(error) => Err(error),
        },
    )
}

async fn synced(shared: &Arc<Shared>, end: u64) -> Result<()> {
    if shared.is_synced(end) {
        return Ok(());
    }
    shared.want_synced(end);
    let mut registration = Registration::new(&shared.synced);
    poll_fn(|cx| {
        shared.poll_log(
            |log| log.synced.offset >= end,
            || registration.renew(end, cx.waker()),
        )
    })
    .await
}

/// Everything acknowledged before this call becomes durable.
async fn ledger_synced(shared: &Arc<Shared>) -> Result<()> {
    let ticket = shared.want_ledger_synced();
    let mut registration = Registration::new(&shared.ledger_synced);
    poll_fn(|cx| {
        shared.poll_log(
            |log| log.ledger_ticket >= ticket,
            || registration.renew(ticket, cx.waker()),
        )
    })
    .await
}

impl<'w> Receipt<'w> {
    /// [`wait_synced`](Self::wait_synced) as a future.
    ///
    /// # Errors
    /// As [`wait_synced`](Self::wait_synced).
    pub fn synced(self) -> impl Future<Output = Result<()>> + Send + 'w {
        let shared = self.shared();
        synced(shared, self.end())
    }
}

impl fmt::Debug for AsyncWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncWriter").field(&self.writer).finish()
    }
}

/// Appends what is sent; [`flush`](AsyncWriter::flush) on flush and close.
///
/// Under [`SyncPolicy::EveryBatch`] a sink does not wait for each record's
/// sync; flush does.
#[derive(Debug)]
pub struct RecordSink {
    writer: AsyncWriter,
    held: Option<Bytes>,
    waiting: Option<Flush>,
}

struct Flush(Pin<Box<dyn Future<Output = Result<()>> + Send>>);

impl fmt::Debug for Flush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flush")
    }
}

impl AsyncWriter {
    /// A sink of payloads.
    pub fn into_sink(self) -> RecordSink {
        RecordSink {
            writer: self,
            held: None,
            waiting: None,
        }
    }
}

impl RecordSink {
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.waiting.is_none() {
            let Some(payload) = self.held.take() else {
                return Poll::Ready(Ok(()));
            };
            let shared = self.writer.shared();
            let events = shared.check_record(0, &payload)?;
            let attempt = {
                let mut intake = lock(&shared.intake);
                let attempt = shared.try_append(&mut intake, 0, &payload, events)?;
                shared.notify_write_side(intake);
                attempt
            };
            if let Attempt::NoRoom(_) = attempt {
                let writer = self.writer.clone();
                self.waiting = Some(Flush(Box::pin(async move {
                    writer.append(&payload).await.map(drop)
                })));
            } else {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_waiting(cx)
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(Flush(future)) = &mut self.waiting else {
            return Poll::Ready(Ok(()));
        };
        let result = ready!(future.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(result)
    }
}

impl futures_sink::Sink<Bytes> for RecordSink {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_held(cx))?;
        Poll::Ready(Ok(()))
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
        let writer = self.writer.clone();
        let flush = Flush(Box::pin(async move { writer.flush().await }));
        self.waiting = Some(flush);
        self.poll_waiting(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_flush(cx)
    }
}

// ---- reader ----

/// A [`Reader`] whose waits are futures; also a [`Stream`](futures_core::Stream)
/// of items.
pub struct AsyncReader {
    state: State,
    /// Read from disk, not yet given out.
    ahead: VecDeque<Item>,
    waits: Option<u64>,
}

enum State {
    Here(Box<Reader>),
    Reading(JoinHandle<(Box<Reader>, Result<TryBatch>)>),
    Gone,
}

impl AsyncReader {
    /// Makes a reader async.
    pub fn new(reader: Reader) -> Self {
        Self {
            state: State::Here(Box::new(reader)),
            ahead: VecDeque::new(),
            waits: None,
        }
    }

    /// The next item; `None` once all writers are closed and everything is
    /// read. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub async fn next(&mut self) -> Result<Option<Item>> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    /// Up to `records_max` records that are there, at least one; `None` at the
    /// end. Losses come as items, in order.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub async fn next_batch(&mut self, records_max: usize) -> Result<Option<Vec<Item>>> {
        let Some(first) = self.next().await? else {
            return Ok(None);
        };
        let mut items = vec![first];
        while items.len() < records_max {
            let polled = poll_fn(|cx| Poll::Ready(self.poll_item(cx))).await;
            match polled {
                Poll::Ready(Ok(Some(item))) => items.push(item),
                // An error or the end comes again with the next call.
                Poll::Ready(Ok(None) | Err(_)) | Poll::Pending => break,
            }
        }
        Ok(Some(items))
    }

    /// Goes back: everything that is not acknowledged is delivered again.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if the runtime is shutting down.
    pub async fn rewind(&mut self) -> Result<()> {
        let mut reader = self.take_reader().await?;
        reader.rewind();
        self.ahead.clear();
        self.state = State::Here(reader);
        Ok(())
    }

    /// Waits until every acknowledgement given before is synced.
    ///
    /// # Errors
    /// As [`Reader::sync_acks`].
    pub async fn sync_acks(&mut self) -> Result<()> {
        let reader = self.take_reader().await?;
        let shared = Arc::clone(reader.shared());
        self.state = State::Here(reader);
        ledger_synced(&shared).await
    }

    /// Closes the reader; see [`Reader::close`].
    ///
    /// # Errors
    /// As [`Reader::close`].
    pub async fn close(mut self) -> Result<()> {
        let reader = self.take_reader().await?;
        blocking(move || reader.close()).await
    }

    /// The reader below, once a read in the background is through. What was
    /// read ahead and not given out is delivered by it again.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if the runtime is shutting down.
    pub async fn into_inner(mut self) -> Result<Reader> {
        let mut reader = self.take_reader().await?;
        if !self.ahead.is_empty() {
            reader.rewind();
        }
        Ok(*reader)
    }

    /// Takes the reader; a batch that was on its way goes to `ahead`.
    async fn take_reader(&mut self) -> Result<Box<Reader>> {
        poll_fn(|cx| {
            if let State::Reading(_) = self.state {
                // An error that the read met comes again with the next read.
                if let Err(error) = ready!(self.poll_read(cx))
                    && error.kind() == ErrorKind::Closed
                {
                    return Poll::Ready(Err(error));
                }
            }
            self.unregister();
            match std::mem::replace(&mut self.state, State::Gone) {
                State::Here(reader) => Poll::Ready(Ok(reader)),
                State::Reading(_) | State::Gone => Poll::Ready(Err(Error::new(
                    ErrorKind::Closed,
                    "the reader went with its runtime",
                ))),
            }
        })
        .await
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Item>>> {
        loop {
            if let Some(item) = self.ahead.pop_front() {
                return Poll::Ready(Ok(Some(item)));
            }
            match &mut self.state {
                State::Reading(_) => {
                    if !ready!(self.poll_read(cx))? {
                        return Poll::Ready(Ok(None));
                    }
                }
                State::Here(reader) if reader.would_read_disk() => self.read_elsewhere(),
                State::Here(reader) => match reader.try_next()? {
                    crate::TryNext::Item(item) => return Poll::Ready(Ok(Some(item))),
                    crate::TryNext::End => return Poll::Ready(Ok(None)),
                    crate::TryNext::Empty => {
                        if !self.wait_for_data(cx) {
                            return Poll::Pending;
                        }
                    }
                },
                State::Gone => {
                    return Poll::Ready(Err(Error::new(
                        ErrorKind::Closed,
                        "the reader went with its runtime",
                    )));
                }
            }
        }
    }

    fn read_elsewhere(&mut self) {
        if let State::Here(mut reader) = std::mem::replace(&mut self.state, State::Gone) {
            self.state = State::Reading(spawn_blocking(move || {
                let batch = reader.try_next_batch(READ_RECORDS, READ_BYTES);
                (reader, batch)
            }));
        }
    }

    /// Awaits the read in the background; false at the end of the stream.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        let State::Reading(task) = &mut self.state else {
            return Poll::Ready(Ok(true));
        };
        let joined = ready!(Pin::new(task).poll(cx));
        let (reader, batch) = match joined {
            Ok(done) => done,
            Err(e) => {
                self.state = State::Gone;
                return Poll::Ready(Err(gone(&e)));
            }
        };
        self.state = State::Here(reader);
        match batch? {
            TryBatch::Batch(batch) => {
                let lost: Vec<_> = batch.lost().to_vec();
                let mut lost = lost.into_iter().peekable();
                for delivery in batch.into_deliveries() {
                    while let Some(lost) = lost.next_if(|l| l.first_id < delivery.id()) {
                        self.ahead.push_back(Item::Lost(lost));
                    }
                    self.ahead.push_back(Item::Record(delivery));
                }
                self.ahead.extend(lost.map(Item::Lost));
                Poll::Ready(Ok(true))
            }
            TryBatch::Empty => Poll::Ready(Ok(true)),
            TryBatch::End => Poll::Ready(Ok(false)),
        }
    }

    /// Registers for more data; true if there is some after all.
    fn wait_for_data(&mut self, cx: &mut Context<'_>) -> bool {
        let State::Here(reader) = &self.state else {
            return true;
        };
        let shared = reader.shared();
        shared
            .reader_waits
            .store(true, crate::sync::atomic::Ordering::SeqCst);
        let there = {
            let log = lock(&shared.log);
            let there = reader.has_more(&log);
            if !there {
                shared.data.register(&mut self.waits, 0, cx.waker());
            }
            there
        };
        if there {
            shared
                .reader_waits
                .store(false, crate::sync::atomic::Ordering::SeqCst);
        } else {
            shared.poke();
        }
        there
    }

    fn unregister(&mut self) {
        if let State::Here(reader) = &self.state {
            let shared = reader.shared();
            shared.data.unregister(&mut self.waits);
            shared
                .reader_waits
                .store(false, crate::sync::atomic::Ordering::SeqCst);
        }
    }
}

impl Drop for AsyncReader {
    fn drop(&mut self) {
        self.unregister();
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Here(reader) => drop_elsewhere(reader),
            // The task drops the reader when it ends.
            State::Reading(_) | State::Gone => {}
        }
    }
}

impl fmt::Debug for AsyncReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncReader")
            .field("ahead", &self.ahead.len())
            .finish_non_exhaustive()
    }
}

impl futures_core::Stream for AsyncReader {
    type Item = Result<Item>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx).map(Result::transpose)
    }
}
