//! The async reader: items as futures and as a stream.
//!
//! Invariant: a read from disk runs on a blocking thread, which has the reader
//! meanwhile; what it brings is kept for the next call.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ::tokio::task::{JoinHandle, spawn_blocking};

use super::{blocking, drop_elsewhere, gone, ledger_synced};
use crate::directory::findings::Recovery;
use crate::error::{Error, ErrorKind, Result};
use crate::read::delivery::{Batch, Item};
use crate::read::{Reader, TryBatch};
use crate::state::shared::Shared;
use crate::sync::wake::lock;
use crate::usage::Usage;

/// Records to read ahead from disk at a time.
const READ_RECORDS: usize = 8192;
/// Payload bytes to read ahead from disk at a time.
const READ_BYTES: usize = 1 << 20;

/// A [`Reader`] whose waits are futures; also a [`Stream`](futures_core::Stream)
/// of items.
pub struct AsyncReader {
    shared: Arc<Shared>,
    state: State,
    /// Read from disk, not yet given out.
    ahead: VecDeque<Item>,
    waits: Option<u64>,
}

fn payload_len(item: &Item) -> usize {
    match item {
        Item::Record(delivery) => delivery.payload().len(),
        Item::Lost(_) => 0,
    }
}

/// What came of a read, or the panic of user code in it.
type Read = std::result::Result<Result<TryBatch>, Box<dyn Any + Send>>;

enum State {
    Here(Box<Reader>),
    /// A read on a blocking thread.
    Reading(JoinHandle<(Box<Reader>, Read)>),
    Gone,
}

impl AsyncReader {
    /// Makes a reader async. If its buffer is open with [`Io::Caller`](crate::Io::Caller),
    /// every call that could have to wait fails with [`ErrorKind::InvalidConfig`].
    pub fn new(reader: Reader) -> Self {
        Self {
            shared: Arc::clone(reader.shared()),
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

    /// Up to `records_max` records that are there, of `bytes_max` payload bytes
    /// in all, but at least one; `None` at the end. Losses come as items, in
    /// order.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub async fn next_batch(
        &mut self,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Option<Vec<Item>>> {
        let Some(first) = self.next().await? else {
            return Ok(None);
        };
        let mut bytes = payload_len(&first);
        let mut items = vec![first];
        while items.len() < records_max {
            let polled = poll_fn(|cx| Poll::Ready(self.poll_item(cx))).await;
            // An error or the end comes again with the next call.
            let Poll::Ready(Ok(Some(item))) = polled else {
                break;
            };
            bytes = bytes.saturating_add(payload_len(&item));
            if bytes > bytes_max {
                self.ahead.push_front(item);
                break;
            }
            items.push(item);
        }
        Ok(Some(items))
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
        self.ahead.clear();
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

    /// The reader below, once a read in the background is through. It goes on behind the
    /// last item that was given out; what was read ahead and not given out comes next.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if the runtime is shutting down.
    pub async fn into_inner(mut self) -> Result<Reader> {
        let mut reader = self.take_reader().await?;
        reader.take_back(self.ahead.drain(..));
        Ok(*reader)
    }

    /// Takes the reader; a batch that was on its way goes to `ahead`.
    async fn take_reader(&mut self) -> Result<Box<Reader>> {
        poll_fn(|cx| {
            // An error or a panic that the read met comes again with the next read.
            if let Some(Ok(Ok(TryBatch::Batch(batch)))) = ready!(self.poll_background(cx))? {
                self.keep(batch);
            }
            self.unregister();
            match std::mem::replace(&mut self.state, State::Gone) {
                State::Here(reader) => Poll::Ready(Ok(reader)),
                State::Reading(_) | State::Gone => Poll::Ready(Err(self.cut_off())),
            }
        })
        .await
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Item>>> {
        self.shared.check_async()?;
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
                    crate::read::TryNext::Item(item) => return Poll::Ready(Ok(Some(item))),
                    crate::read::TryNext::End => return Poll::Ready(Ok(None)),
                    crate::read::TryNext::Empty => {
                        if !self.wait_for_data(cx) {
                            return Poll::Pending;
                        }
                    }
                },
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

    fn read_elsewhere(&mut self) {
        if let State::Here(mut reader) = std::mem::replace(&mut self.state, State::Gone) {
            self.state = State::Reading(spawn_blocking(move || {
                let read = AssertUnwindSafe(|| reader.try_next_batch(READ_RECORDS, READ_BYTES));
                // The reader outlives a panic: its next call reads the same again.
                let batch = catch_unwind(read);
                (reader, batch)
            }));
        }
    }

    /// Awaits the read in the background; false at the end of the stream.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        let Some(batch) = ready!(self.poll_background(cx))? else {
            return Poll::Ready(Ok(true));
        };
        match batch.unwrap_or_else(|panic| resume_unwind(panic))? {
            TryBatch::Batch(batch) => self.keep(batch),
            TryBatch::Empty => {}
            TryBatch::End => return Poll::Ready(Ok(false)),
        }
        Poll::Ready(Ok(true))
    }

    /// Gets the reader back from the read in the background, if there is one, and what that
    /// came to.
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

    /// Keeps what was read for the next calls.
    fn keep(&mut self, batch: Batch) {
        let lost: Vec<_> = batch.lost().to_vec();
        let mut lost = lost.into_iter().peekable();
        for delivery in batch.into_deliveries() {
            while let Some(lost) = lost.next_if(|l| l.first_id < delivery.id()) {
                self.ahead.push_back(Item::Lost(lost));
            }
            self.ahead.push_back(Item::Record(delivery));
        }
        self.ahead.extend(lost.map(Item::Lost));
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
