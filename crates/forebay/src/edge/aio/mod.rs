//! The operations of a buffer as futures (feature `tokio`).
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! use forebay::{Config, Item};
//! let (writer, mut reader) = Config::new(dir.path()).open_async().await?;
//! let receipt = writer.append(b"an event").await?.detach();
//! receipt.synced().await?; // survives a power cut: acknowledge upstream now
//! if let Some(Item::Record(delivery)) = reader.recv().await? {
//!     assert_eq!(&delivery.payload()[..], b"an event");
//!     delivery.ack();
//! }
//! writer.close().await?;
//! reader.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Runtime
//! Nothing here blocks a runtime's worker on the disk or on a full buffer: reads from disk and
//! closing run on the runtime's blocking threads, and the buffer's own thread writes.
//!
//! # Closing
//! Once [`AsyncWriter::close`] or [`AsyncReader::close`] of the last handle is done, the buffer can
//! be opened again. Dropping the last handle within a runtime closes the buffer on another thread:
//! until that is done, opening it fails with [`ErrorKind::Locked`], and an error of closing is only
//! logged.
//!
//! # Dropping a future
//! A future that is dropped while it is pending loses and duplicates nothing:
//! - [`AsyncWriter::append`]: nothing is accepted, or (under
//!   [`SyncPolicy::Always`](crate::SyncPolicy), while it waits for the sync) the record is accepted
//!   and stays so.
//! - [`AsyncWriter::append_batch`]: the same for each record. If it is dropped while it waits for
//!   room, the first records may be accepted, and stay so.
//! - [`AsyncReader::recv`] and [`AsyncReader::recv_batch`]: items that a background read brings are
//!   kept for the next call. If there is none because the reader is closed, dropped or stopped, they
//!   stay in the buffer, losses included.

// Invariants:
// - An append takes only the intake's lock, for the time of copying a record.
// - A future does each step of its work in one poll or not at all.

mod reader;
mod receipt;
mod typed;
mod writer;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ::tokio::task::spawn_blocking;

pub use self::reader::AsyncReader;
pub use self::typed::{AsyncTypedReader, AsyncTypedWriter};
pub use self::writer::{AsyncWriter, RecordSink};
use crate::config::{Config, WhenFull};
use crate::error::{Error, ErrorKind, Result};
use crate::state::shared::{Shared, check_async};
use crate::sync::Instant;
use crate::sync::wake::Bell;
use crate::write::append::Waits;

impl Config {
    /// [`open`](Self::open) for async use, on a blocking thread.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`ErrorKind::InvalidConfig`] with
    /// [`Io::Caller`](crate::Io::Caller): futures leave the work to the buffer's thread.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn open_async(self) -> Result<(AsyncWriter, AsyncReader)> {
        check_async(self.limits()?.io, self.directory())?;
        let (writer, reader) = blocking(move || self.open()).await?;
        Ok((AsyncWriter::new(writer), AsyncReader::new(reader)))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|e| Err(gone(&e)))
}

fn gone(e: &::tokio::task::JoinError) -> Error {
    Error::new(
        ErrorKind::Closed,
        format!("the tokio runtime is shutting down, so the call was not carried out: {e}"),
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

    /// Registers a task under the mutex of the condition; see [`Bell::register`].
    #[must_use = "to be dropped outside of locks"]
    fn renew(&mut self, threshold: u64, waker: Waker) -> Option<Waker> {
        self.bell.register(&mut self.key, threshold, waker)
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.bell.unregister(&mut self.key);
    }
}

fn drop_elsewhere<T: Send + 'static>(handle: T) {
    match ::tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(move || drop(handle))),
        Err(_) => drop(handle),
    }
}

async fn synced(shared: &Arc<Shared>, end: u64) -> Result<()> {
    shared.check_async()?;
    if shared.is_synced(end) {
        return Ok(());
    }
    shared.want_synced(end);
    await_synced(shared, end).await
}

/// Waits for a sync that was requested before.
async fn await_synced(shared: &Arc<Shared>, end: u64) -> Result<()> {
    let mut registration = Registration::new(&shared.synced);
    poll_fn(|cx| poll_synced(shared, end, &mut registration, cx)).await
}

fn poll_synced(
    shared: &Shared,
    end: u64,
    registration: &mut Registration<'_>,
    cx: &Context<'_>,
) -> Poll<Result<()>> {
    let waker = cx.waker().clone();
    shared.poll_log(
        |log| log.synced.offset >= end,
        || registration.renew(end, waker),
    )
}

/// [`Shared::wait_durable`] as a future, for an append that began at `begun`.
async fn durable(shared: &Arc<Shared>, end: u64, begun: Instant, waits: Waits) -> Result<()> {
    match waits.when_full() {
        WhenFull::Block => return await_synced(shared, end).await,
        WhenFull::BlockFor(time) => {
            let left = time.saturating_sub(begun.elapsed());
            if let Ok(done) = ::tokio::time::timeout(left, await_synced(shared, end)).await {
                return done;
            }
            if waits.limits_sync() {
                return Err(shared.sync_pending(shared.is_stuck(end)));
            }
        }
        WhenFull::Reject | WhenFull::DropNewest => {}
    }
    // This bell is also rung when nothing can be synced for now.
    let mut on_sync = Registration::new(&shared.synced);
    poll_fn(|cx| {
        let done = poll_synced(shared, end, &mut on_sync, cx);
        if done.is_pending() && shared.is_stuck(end) {
            return Poll::Ready(Err(shared.sync_pending(true)));
        }
        done
    })
    .await
}

/// Waits until everything before `end` is written.
async fn written(shared: &Arc<Shared>, end: u64) -> Result<()> {
    shared.check_async()?;
    shared.want_written(end);
    let mut registration = Registration::new(&shared.written);
    poll_fn(|cx| {
        let waker = cx.waker().clone();
        shared.poll_log(
            |log| log.written.offset >= end,
            || registration.renew(end, waker),
        )
    })
    .await
}

/// The result of `work` if it ends within the time; otherwise an error that names, in `what`, the
/// thing that did not happen.
async fn within(
    shared: &Arc<Shared>,
    timeout: Duration,
    what: &str,
    work: impl Future<Output = Result<()>>,
) -> Result<()> {
    ::tokio::time::timeout(timeout, work)
        .await
        .unwrap_or_else(|_| Err(shared.timed_out(what)))
}

/// Makes all acknowledgements given before this call durable.
async fn ledger_synced(shared: &Arc<Shared>) -> Result<()> {
    shared.check_async()?;
    let ticket = shared.want_ledger_synced();
    let mut registration = Registration::new(&shared.ledger_synced);
    poll_fn(|cx| {
        let waker = cx.waker().clone();
        shared.poll_log(
            |log| log.ledger_ticket >= ticket,
            || registration.renew(ticket, waker),
        )
    })
    .await
}
