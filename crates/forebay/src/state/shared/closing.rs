//! Closing: what happens when handles go.
//!
//! Invariants:
//! - The last handle to go closes the buffer; the lock is let go of after the last write.
//! - Nobody waits for the thread that it runs on, and a forked process touches nothing.

use super::{Shared, Step};
use crate::config::Io;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::os::process_id;
use crate::sync::atomic::Ordering;
use crate::sync::thread;
use crate::sync::wake::lock;

impl Shared {
    pub(crate) fn writer_gone(&self) -> Result<()> {
        let last = {
            let mut intake = lock(&self.intake);
            intake.writers -= 1;
            intake.writers == 0 && !intake.reader
        };
        if last {
            self.shut()
        } else {
            self.poke_if_over()
        }
    }

    pub(crate) fn reader_gone(&self) -> Result<()> {
        let last = {
            let mut intake = lock(&self.intake);
            intake.reader = false;
            intake.writers == 0
        };
        // Whoever waits for the reader to make space waits in vain now.
        self.space.ring();
        if last { self.shut() } else { Ok(()) }
    }

    fn poke_if_over(&self) -> Result<()> {
        if lock(&self.intake).writers == 0 {
            self.poke();
        }
        Ok(())
    }

    /// Writes and syncs everything, then lets go of the lock.
    fn shut(&self) -> Result<()> {
        if process_id() != self.process {
            // The buffer is the parent's, who writes the same records to the same files.
            return Ok(());
        }
        // What was acknowledged before counts and is synced; nothing comes after.
        lock(&self.acks).close();
        lock(&self.intake).closing = true;
        self.poke();
        match self.limits.io {
            Io::Thread => {
                let own = lock(&self.thread).take();
                if let Some(own) = own {
                    if own.thread().id() == thread::current().id() {
                        // A waker had the last handle. The thread cannot wait for itself.
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

    /// For the write side's thread, when it has ended.
    pub(crate) fn thread_has_ended(&self) {
        if self.closes_itself.load(Ordering::SeqCst)
            && let Err(error) = self.end_closing()
        {
            tracing::error!(%error, "closing the buffer failed");
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
        let why = no_space.unwrap_or_else(|| "they could not be synced".to_owned());
        Err(Error::with_path(
            ErrorKind::Full,
            &self.dir,
            format!(
                "closing the buffer in {}: the last {events} events accepted are not durable: {why}",
                self.dir.display()
            ),
        ))
    }
}
