//! Waiting for more to read, and with `Io::Caller` doing the write side's work.
//!
//! Invariant: the write side knows that the reader waits, so that it does not keep a batch open for
//! more records.

use super::{Reader, TryRecv};
use crate::config::Io;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Instant;
use crate::sync::atomic::Ordering;
use crate::sync::wake::lock;

impl Reader {
    /// What `attempt` finds, waiting for more until the deadline.
    pub(super) fn wait_for<T>(
        &mut self,
        deadline: Option<Instant>,
        mut attempt: impl FnMut(&mut Self) -> Result<TryRecv<T>>,
    ) -> Result<TryRecv<T>> {
        loop {
            match attempt(self)? {
                TryRecv::Empty if self.wait_for_data(deadline) => {}
                found => return Ok(found),
            }
        }
    }

    /// What a wait without a deadline found.
    ///
    /// # Errors
    /// It found nothing, because with [`Io::Caller`] nothing is left to wait for.
    pub(super) fn or_nobody_writes<T>(&self, found: TryRecv<T>) -> Result<Option<T>> {
        match found {
            TryRecv::Ready(found) => Ok(Some(found)),
            TryRecv::End => Ok(None),
            TryRecv::Empty => Err(self.nothing_to_read()),
        }
    }

    /// With [`Io::Caller`], does what the write side has to do until there is more to
    /// read. False if there is nothing.
    pub(super) fn drive(&self) -> bool {
        self.shared.limits.io == Io::Caller && self.wait_for_data(None)
    }

    /// Waits until more is visible than was read. False at the deadline, and with
    /// [`Io::Caller`] when nothing is left to do.
    pub(super) fn wait_for_data(&self, deadline: Option<Instant>) -> bool {
        self.shared.reader_waits.store(true, Ordering::SeqCst);
        self.shared.poke();
        let is_visible = self.wait_until_visible(deadline);
        self.shared.reader_waits.store(false, Ordering::SeqCst);
        is_visible
    }

    fn wait_until_visible(&self, deadline: Option<Instant>) -> bool {
        let shared = &*self.shared;
        loop {
            let log = lock(&shared.log);
            let is_over = log.ended || log.failed.is_some() || self.is_stopped();
            if self.visible(&log).offset > self.at || is_over {
                return true;
            }
            if shared.wait(log, &shared.data, 0, deadline).is_none() {
                return false;
            }
        }
    }

    fn nothing_to_read(&self) -> Error {
        let dir = &self.shared.dir;
        Error::with_path(
            ErrorKind::TimedOut,
            dir,
            format!(
                "everything in the buffer in {} is read, and with Io::Caller no thread writes \
                 while this call waits; append first, or close the writers to end the stream",
                dir.display()
            ),
        )
    }
}
