//! Closing: what happens when handles are closed or dropped.
//!
//! Invariants:
//! - The last handle to go closes the buffer. The lock is released after the last write.
//! - No thread waits for its own end. A forked child touches nothing.

use std::sync::Arc;
use std::time::Duration;

use super::{Shared, Step};
use crate::config::Io;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::os::process_id;
use crate::sync::atomic::Ordering;
use crate::sync::thread;
use crate::sync::wake::{Bell, lock};
use crate::sync::{Instant, Mutex, deadline_after};

/// How far closing on a thread of its own has got.
enum Attempt {
    Waited,
    /// The caller's time was up, and it has returned.
    Left,
    Done(Result<()>),
}

impl Shared {
    /// A writer is closed. The last handle closes the buffer, and waits for that for at most
    /// `timeout`, if one is given.
    pub(crate) fn writer_gone(self: &Arc<Self>, timeout: Option<Duration>) -> Result<()> {
        let (writers, reader) = {
            let mut intake = lock(&self.intake);
            intake.writers -= 1;
            (intake.writers, intake.reader)
        };
        if writers == 0 && reader {
            // The stream ends once everything is written.
            self.poke();
        }
        self.shut_if(writers == 0 && !reader, timeout)
    }

    /// The same when the reader is closed.
    pub(crate) fn reader_gone(self: &Arc<Self>, timeout: Option<Duration>) -> Result<()> {
        let writers = {
            let mut intake = lock(&self.intake);
            intake.reader = false;
            intake.writers
        };
        // Writers that wait for space look again: the reader makes none any more.
        self.space.ring();
        self.shut_if(writers == 0, timeout)
    }

    fn shut_if(self: &Arc<Self>, is_last: bool, timeout: Option<Duration>) -> Result<()> {
        match timeout {
            _ if !is_last => Ok(()),
            // With `Io::Caller` no other thread does the work, and the buffer's own thread cannot
            // wait for its own end.
            Some(timeout) if self.limits.io == Io::Thread && !self.is_own_thread() => {
                self.shut_within(timeout)
            }
            _ => self.shut(),
        }
    }

    /// Whether this runs on the buffer's own thread, as a waker does.
    fn is_own_thread(&self) -> bool {
        let own = lock(&self.thread);
        own.as_ref()
            .is_some_and(|own| own.thread().id() == thread::current().id())
    }

    /// [`shut`](Self::shut) on a thread of its own, which goes on when the time is up.
    fn shut_within(self: &Arc<Self>, timeout: Duration) -> Result<()> {
        let attempt = Arc::new((Mutex::new(Attempt::Waited), Bell::default()));
        let (shared, for_thread) = (Arc::clone(self), Arc::clone(&attempt));
        let closing = thread::Builder::new()
            .name("forebay-close".to_owned())
            .spawn(move || {
                let result = shared.shut();
                let (state, bell) = &*for_thread;
                let mut state = lock(state);
                if let (Attempt::Left, Err(error)) = (&*state, &result) {
                    tracing::error!(error = %format_args!("{error:#}"), "closing the buffer failed");
                }
                *state = Attempt::Done(result);
                drop(state);
                bell.ring();
            });
        if closing.is_err() {
            return self.shut();
        }
        let (state, bell) = &*attempt;
        let deadline = deadline_after(timeout);
        loop {
            let mut state = lock(state);
            if let Attempt::Done(result) = &*state {
                return result.clone();
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                *state = Attempt::Left;
                break;
            }
            bell.wait(state, 0, deadline);
        }
        Err(Error::with_path(
            ErrorKind::TimedOut,
            &self.dir,
            format!(
                "the buffer in {} is not closed within the time limit; closing goes on, and its \
                 lock is free once that is done",
                self.dir.display()
            ),
        ))
    }

    /// Writes and syncs everything, then releases the lock.
    fn shut(&self) -> Result<()> {
        if process_id() != self.process {
            // This is a forked child. The buffer is the parent's, which writes the same records to
            // the same files.
            return Ok(());
        }
        // Acknowledgements given before this are synced; later ones have no effect.
        lock(&self.acks).close();
        lock(&self.intake).closing = true;
        self.poke();
        match self.limits.io {
            Io::Thread => {
                let own = lock(&self.thread).take();
                if let Some(own) = own {
                    if own.thread().id() == thread::current().id() {
                        // A waker dropped the last handle on this thread, which cannot wait for
                        // itself.
                        self.closes_itself.store(true, Ordering::SeqCst);
                        return Ok(());
                    }
                    let _ = own.join();
                }
            }
            Io::Caller => {
                let side = lock(&self.side).take();
                if let Some(mut side) = side {
                    while self.step_of(&mut *side) == Some(Step::Progress) {}
                    side.end(self);
                }
            }
        }
        self.end_closing()
    }

    /// For the write side's thread, after its last step: finishes closing if the thread does that
    /// itself.
    pub(crate) fn thread_has_ended(&self) {
        if self.closes_itself.load(Ordering::SeqCst)
            && let Err(error) = self.end_closing()
        {
            tracing::error!(error = %format_args!("{error:#}"), "closing the buffer failed");
        }
    }

    fn end_closing(&self) -> Result<()> {
        let result = self.closed_cleanly();
        if let Err(error) = &result {
            self.publish_failed(error.clone());
        }
        let held = lock(&self.lock).take();
        drop(held);
        result
    }

    /// Whether the buffer is open: its lock is held.
    pub(crate) fn is_open(&self) -> bool {
        lock(&self.lock).is_some()
    }

    fn closed_cleanly(&self) -> Result<()> {
        let (accepted, no_space) = {
            let intake = lock(&self.intake);
            (intake.accepted(), intake.no_space.clone())
        };
        let log = lock(&self.log);
        if let Some(error) = &log.failed {
            return Err(error.clone());
        }
        if log.synced.offset == accepted.offset && !self.ledger.is_dirty() {
            return Ok(());
        }
        let events = accepted.next_id - log.synced.next_id;
        let kind = match no_space {
            Some(_) => ErrorKind::DiskFull,
            None => ErrorKind::Io,
        };
        let why = no_space.unwrap_or_else(|| "they could not be synced".to_owned());
        Err(Error::with_path(
            kind,
            &self.dir,
            format!(
                "closing the buffer in {}: {} not durable: {why}",
                self.dir.display(),
                match events {
                    0 => "the last acknowledgements are".to_owned(),
                    1 => "the last event accepted is".to_owned(),
                    _ => format!("the last {events} events accepted are"),
                }
            ),
        ))
    }
}
