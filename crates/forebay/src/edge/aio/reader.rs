//! The async reader: items as futures and as a stream.
//!
//! Invariants:
//! - A read from disk runs on a blocking thread, which owns the reader meanwhile. Items that it
//!   brings are kept for the next call.
//! - They are handed out by the rules of the blocking reader ([`Reader::hand_out`]). Until then they
//!   are unread: nothing is acknowledged or counted for them, however the reader ends.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::tokio::task::{JoinHandle, spawn_blocking};

use super::{blocking, drop_elsewhere, gone, ledger_synced};
use crate::directory::findings::Recovery;
use crate::error::{Error, ErrorKind, Result};
use crate::read::ahead::{Ahead, AheadItems};
use crate::read::delivery::{Batch, Item};
use crate::read::stopper::Stopper;
use crate::read::{Reader, TryRecv};
use crate::state::meters::Meters;
use crate::state::shared::Shared;
use crate::sync::atomic::Ordering;
use crate::sync::wake::lock;
use crate::usage::{Monitor, Usage};
#[cfg(doc)]
use crate::write::writer::Writer;

/// At most this many records are read ahead from disk at a time.
const READ_RECORDS: usize = 8192;
/// At most this many payload bytes are read ahead from disk at a time.
const READ_BYTES: u64 = 1 << 20;

/// A [`Reader`] whose waits are futures; also a [`Stream`](futures_core::Stream)
/// of items.
///
/// Dropping it within a runtime closes it on another thread. To open the buffer again, await
/// [`close`](Self::close) instead.
pub struct AsyncReader {
    shared: Arc<Shared>,
    state: State,
    /// Items that were read from disk and not yet handed out; none unless the reader is here.
    ahead: Option<Box<AheadItems>>,
    waits: Option<u64>,
}

/// The result of a read, or the panic of user code in it.
type Read = std::result::Result<Result<TryRecv<Ahead>>, Box<dyn Any + Send>>;

enum State {
    Here(Box<Reader>),
    /// A read on a blocking thread.
    Reading(JoinHandle<(Box<Reader>, Read)>),
    Gone,
}

impl AsyncReader {
    /// Makes a reader async. If its buffer is open with [`Io::Caller`](crate::Io::Caller), every
    /// call that might have to wait fails with [`ErrorKind::InvalidConfig`].
    pub fn new(reader: Reader) -> Self {
        Self {
            shared: Arc::clone(reader.shared()),
            state: State::Here(Box::new(reader)),
            ahead: None,
            waits: None,
        }
    }

    /// The next item; `None` once all writers are closed and everything is
    /// read, or the reader was [stopped](Self::stopper). Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`Reader::recv`].
    pub async fn recv(&mut self) -> Result<Option<Item>> {
        poll_fn(|cx| self.poll_waiting(cx, Self::poll_item)).await
    }

    /// [`recv`](Self::recv) that waits for at most `timeout`.
    ///
    /// # Errors
    /// As [`Reader::recv`].
    pub async fn recv_timeout(&mut self, timeout: Duration) -> Result<TryRecv<Item>> {
        or_empty(::tokio::time::timeout(timeout, self.recv()).await)
    }

    /// The next item, if there is one now. Waits while the item is read from the disk, but not for
    /// an append. Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`Reader::recv`].
    pub async fn try_recv(&mut self) -> Result<TryRecv<Item>> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    /// Up to `max_records` records with payloads of `max_bytes` bytes together (but at least one
    /// record); waits until there is something. `None` as for [`recv`](Self::recv). Dropping the
    /// future loses nothing: the next call returns what it has read.
    ///
    /// # Errors
    /// As [`Reader::recv_batch`].
    pub async fn recv_batch(
        &mut self,
        max_records: usize,
        max_bytes: u64,
    ) -> Result<Option<Batch>> {
        let limits = (max_records, max_bytes);
        poll_fn(|cx| self.poll_waiting(cx, |reader, cx| reader.poll_batch(cx, limits))).await
    }

    /// [`recv_batch`](Self::recv_batch) that waits for at most `timeout`.
    ///
    /// # Errors
    /// As [`Reader::recv_batch`].
    pub async fn recv_batch_timeout(
        &mut self,
        max_records: usize,
        max_bytes: u64,
        timeout: Duration,
    ) -> Result<TryRecv<Batch>> {
        let batch = self.recv_batch(max_records, max_bytes);
        or_empty(::tokio::time::timeout(timeout, batch).await)
    }

    /// [`recv_batch`](Self::recv_batch) of what is there now; see [`try_recv`](Self::try_recv).
    ///
    /// # Errors
    /// As [`Reader::recv_batch`].
    pub async fn try_recv_batch(
        &mut self,
        max_records: usize,
        max_bytes: u64,
    ) -> Result<TryRecv<Batch>> {
        poll_fn(|cx| self.poll_batch(cx, (max_records, max_bytes))).await
    }

    pub(crate) fn meters(&self) -> &Meters {
        &self.shared.meters
    }

    /// A handle that ends a waiting [`recv`](Self::recv) from elsewhere; see [`Reader::stopper`].
    pub fn stopper(&self) -> Stopper {
        Stopper::new(&self.shared)
    }

    /// Whether a [`Stopper`] has stopped this reader.
    pub fn is_stopped(&self) -> bool {
        self.shared.reader_stopped.load(Ordering::SeqCst)
    }

    /// A handle that only reads figures; see [`Reader::monitor`].
    pub fn monitor(&self) -> Monitor {
        Monitor::new(&self.shared)
    }

    /// What went through the buffer, and what is in it.
    pub fn usage(&self) -> Usage {
        crate::usage::snapshot(&self.shared)
    }

    /// What opening the buffer found and did.
    pub fn recovery(&self) -> &Recovery {
        &self.shared.recovery
    }

    /// Goes back: everything that is not acknowledged is delivered again.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if the runtime is shutting down.
    pub async fn rewind(&mut self) -> Result<()> {
        let mut reader = self.take_reader().await?;
        reader.rewind();
        self.state = State::Here(reader);
        Ok(())
    }

    /// Waits until every acknowledgement given before is synced.
    ///
    /// # Errors
    /// As [`Reader::sync_acks`].
    pub async fn sync_acks(&mut self) -> Result<()> {
        ledger_synced(&self.shared).await
    }

    /// Closes the reader; see [`Reader::close`].
    ///
    /// # Errors
    /// As [`Reader::close`].
    pub async fn close(mut self) -> Result<()> {
        let reader = self.take_reader().await?;
        blocking(move || reader.close()).await
    }

    /// [`close`](Self::close) that waits for at most `timeout`; see [`Writer::close_timeout`].
    ///
    /// # Errors
    /// As [`Writer::close_timeout`].
    pub async fn close_timeout(mut self, timeout: Duration) -> Result<()> {
        let reader = self.take_reader().await?;
        blocking(move || reader.close_timeout(timeout)).await
    }

    /// The blocking reader, once a background read has ended. It goes on after the last item that
    /// was delivered; items that were read ahead and not delivered come next.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if the runtime is shutting down.
    pub async fn into_inner(mut self) -> Result<Reader> {
        Ok(*self.take_reader().await?)
    }

    /// Takes the reader, which goes on after the last item that was handed out.
    async fn take_reader(&mut self) -> Result<Box<Reader>> {
        poll_fn(|cx| {
            // An error or a panic of that read comes again with the next read.
            if let Some(Ok(Ok(TryRecv::Ready(ahead)))) = ready!(self.poll_background(cx))? {
                self.ahead = Some(Box::new(ahead.into()));
            }
            self.unregister();
            match std::mem::replace(&mut self.state, State::Gone) {
                State::Here(mut reader) => {
                    if let Some(ahead) = self.ahead.take() {
                        reader.take_back(&ahead);
                    }
                    Poll::Ready(Ok(reader))
                }
                State::Reading(_) | State::Gone => Poll::Ready(Err(self.cut_off())),
            }
        })
        .await
    }

    /// Polls until there is something; registers for more data if there is nothing.
    fn poll_waiting<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<Result<TryRecv<T>>>,
    ) -> Poll<Result<Option<T>>> {
        loop {
            match ready!(poll(self, cx))? {
                TryRecv::Ready(found) => return Poll::Ready(Ok(Some(found))),
                TryRecv::End => return Poll::Ready(Ok(None)),
                TryRecv::Empty if self.wait_for_data(cx) => {}
                TryRecv::Empty => return Poll::Pending,
            }
        }
    }

    /// The next item; pending only while it is read from the disk.
    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Result<TryRecv<Item>>> {
        self.shared.check_async()?;
        loop {
            if self.is_stopped() {
                return Poll::Ready(Ok(TryRecv::End));
            }
            if let (State::Here(reader), Some(ahead)) = (&self.state, &mut self.ahead) {
                if let Some(item) = reader.hand_out_next(ahead) {
                    return Poll::Ready(Ok(TryRecv::Ready(item)));
                }
                self.ahead = None;
            }
            match &mut self.state {
                State::Reading(_) => match ready!(self.poll_read(cx))? {
                    TryRecv::Ready(ahead) => self.ahead = Some(Box::new(ahead.into())),
                    TryRecv::Empty => {}
                    TryRecv::End => return Poll::Ready(Ok(TryRecv::End)),
                },
                State::Here(reader) if reader.would_read_disk() => {
                    self.read_elsewhere((READ_RECORDS, READ_BYTES));
                }
                State::Here(reader) => return Poll::Ready(reader.try_recv()),
                State::Gone => return Poll::Ready(Err(self.cut_off())),
            }
        }
    }

    /// The next batch; pending only while it is read from the disk.
    fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        limits: (usize, u64),
    ) -> Poll<Result<TryRecv<Batch>>> {
        self.shared.check_async()?;
        loop {
            if self.is_stopped() {
                return Poll::Ready(Ok(TryRecv::End));
            }
            match &mut self.state {
                // A read that a dropped future began may have had other limits.
                State::Reading(_) => match ready!(self.poll_read(cx))? {
                    TryRecv::Ready(ahead) if fits(ahead.records(), limits) => {
                        if let State::Here(reader) = &self.state
                            && let Some(batch) = reader.hand_out(ahead)
                        {
                            return Poll::Ready(Ok(TryRecv::Ready(batch)));
                        }
                    }
                    TryRecv::Ready(ahead) => self.ahead = Some(Box::new(ahead.into())),
                    TryRecv::Empty => {}
                    TryRecv::End => return Poll::Ready(Ok(TryRecv::End)),
                },
                State::Here(reader) => {
                    if let Some(ahead) = self.ahead.take() {
                        reader.take_back(&ahead);
                    }
                    if !reader.would_read_disk() {
                        return Poll::Ready(reader.try_recv_batch(limits.0, limits.1));
                    }
                    self.read_elsewhere(limits);
                }
                State::Gone => return Poll::Ready(Err(self.cut_off())),
            }
        }
    }

    fn cut_off(&self) -> Error {
        let dir = &self.shared.dir;
        Error::with_path(
            ErrorKind::Closed,
            dir,
            format!(
                "the tokio runtime was shut down while it read from the buffer in {}, which closed \
                 the reader; close the writers and open the buffer again to read on: what was not \
                 acknowledged is still there",
                dir.display()
            ),
        )
    }

    fn read_elsewhere(&mut self, (max_records, max_bytes): (usize, u64)) {
        if let State::Here(mut reader) = std::mem::replace(&mut self.state, State::Gone) {
            self.state = State::Reading(spawn_blocking(move || {
                let read = AssertUnwindSafe(|| reader.read_ahead(max_records, max_bytes));
                // The reader can be used after a panic: its next call reads the same again.
                let batch = catch_unwind(read);
                (reader, batch)
            }));
        }
    }

    /// Polls the background read.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<TryRecv<Ahead>>> {
        match ready!(self.poll_background(cx))? {
            Some(read) => Poll::Ready(read.unwrap_or_else(|panic| resume_unwind(panic))),
            None => Poll::Ready(Ok(TryRecv::Empty)),
        }
    }

    /// Gets the reader back from the background read, if there is one, with the result of that
    /// read.
    fn poll_background(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Read>>> {
        let State::Reading(task) = &mut self.state else {
            return Poll::Ready(Ok(None));
        };
        match ready!(Pin::new(task).poll(cx)) {
            Ok((reader, batch)) => {
                self.state = State::Here(reader);
                Poll::Ready(Ok(Some(batch)))
            }
            Err(e) => {
                self.state = State::Gone;
                Poll::Ready(Err(gone(&e)))
            }
        }
    }

    /// Registers for more data. True if there is some already.
    fn wait_for_data(&mut self, cx: &mut Context<'_>) -> bool {
        let State::Here(reader) = &self.state else {
            return true;
        };
        let shared = reader.shared();
        shared.reader_waits.store(true, Ordering::SeqCst);
        let waker = cx.waker().clone();
        let (there, replaced) = {
            let log = lock(&shared.log);
            match reader.has_more(&log) {
                true => (true, None),
                false => (false, shared.data.register(&mut self.waits, 0, waker)),
            }
        };
        drop(replaced);
        if there {
            shared.reader_waits.store(false, Ordering::SeqCst);
        } else {
            shared.poke();
        }
        there
    }

    fn unregister(&mut self) {
        if let State::Here(reader) = &self.state {
            let shared = reader.shared();
            shared.data.unregister(&mut self.waits);
            shared.reader_waits.store(false, Ordering::SeqCst);
        }
    }
}

fn fits(batch: &Batch, (max_records, max_bytes): (usize, u64)) -> bool {
    let is_one = batch.len() <= 1;
    is_one || (batch.len() <= max_records && batch.payload_bytes() <= max_bytes)
}

fn or_empty<T, E>(found: std::result::Result<Result<Option<T>>, E>) -> Result<TryRecv<T>> {
    match found {
        Ok(found) => Ok(found?.map_or(TryRecv::End, TryRecv::Ready)),
        Err(_) => Ok(TryRecv::Empty),
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
            .field("ahead", &self.ahead.as_ref().map_or(0, |ahead| ahead.len()))
            .finish_non_exhaustive()
    }
}

impl futures_core::Stream for AsyncReader {
    type Item = Result<Item>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_waiting(cx, Self::poll_item)
            .map(Result::transpose)
    }
}
