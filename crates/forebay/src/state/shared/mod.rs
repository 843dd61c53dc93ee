//! What the handles and the write side of one open buffer share, and how they wait for each other.
//!
//! Invariants:
//! - Lock order: intake, log, acks. None of the three is held while waiting for another thread, or
//!   during I/O.
//! - After the buffer is closed, nothing stores to the ledger any more.
//! - This module knows neither the writer, nor the reader, nor the write side.

mod closing;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(feature = "tokio")]
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Io, Limits, ReaderSees};
use crate::directory::findings::Recovery;
use crate::directory::quarantine::Quarantine;
use crate::error::{Error, ErrorKind, Result};
use crate::state::acks::{Acks, Count, Stretch};
use crate::state::intake::Intake;
use crate::state::ledger::Ledger;
use crate::state::log::Log;
use crate::state::lost::LostReason;
use crate::state::meters::Meters;
use crate::state::stream::{Frames, Position};
use crate::storage::os::process_id;
use crate::storage::{Lock, Storage};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::pool::Pool;
use crate::sync::thread::JoinHandle;
use crate::sync::wake::{Bell, Woken, lock};
use crate::sync::{Instant, Mutex, MutexGuard};

/// What a step of the write side did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something; call again.
    Progress,
    /// Nothing: there is nothing to do before this time, unless a request comes.
    Idle(Option<Instant>),
}

/// The write side, as the calling threads drive it with [`Io::Caller`].
pub(crate) trait Drive: Send {
    /// Does the most urgent thing.
    fn step(&mut self, shared: &Shared) -> Step;
    /// To be called after the last step of a closing buffer.
    fn end(&mut self, shared: &Shared);
}

/// What writer, reader and write side of one open buffer share.
pub(crate) struct Shared {
    pub limits: Limits,
    pub dir: PathBuf,
    pub storage: Arc<dyn Storage>,
    pub pool: Pool,
    pub intake: Mutex<Intake>,
    /// Wakes the write side's thread; its condition is guarded by `intake`.
    pub work: Bell,
    /// Rung when there may be room; its condition is guarded by `intake`.
    pub space: Bell,
    pub log: Mutex<Log>,
    /// Wakes the reader; its condition is guarded by `log`.
    pub data: Bell,
    /// Wake callers that wait for a stream offset to be written, or synced; guarded by `log`.
    pub written: Bell,
    pub synced: Bell,
    /// Wakes callers that wait for their ticket to be answered; guarded by `log`.
    pub ledger_synced: Bell,
    pub acks: Mutex<Acks>,
    pub ledger: Ledger,
    /// Where the oldest data file ends, if it may be deleted once everything before that is
    /// acknowledged; `u64::MAX` if it may not.
    pub head_end: AtomicU64,
    pub reader_waits: AtomicBool,
    /// The reader was stopped: it reports the end of the stream.
    pub reader_stopped: AtomicBool,
    pub meters: Meters,
    pub quarantine: Quarantine,
    pub recovery: Recovery,
    /// Where acknowledgements stood at open.
    pub opened_at: Position,
    /// What was unread at open.
    pub backlog: Count,
    /// With [`Io::Caller`], the write side, and how many of its steps made progress.
    pub side: Mutex<Option<Box<dyn Drive>>>,
    pub progress: AtomicU64,
    /// With [`Io::Thread`], the thread of the write side.
    pub thread: Mutex<Option<JoinHandle<()>>>,
    /// The last handle was dropped on the write side's own thread, by a waker. A thread cannot
    /// join itself, so the drop returns at once, and the thread finishes closing the buffer after
    /// its last step.
    pub closes_itself: AtomicBool,
    pub lock: Mutex<Option<Box<dyn Lock>>>,
    /// The process that opened the buffer. A forked child has copies of the handles, but not the
    /// thread, and must not touch the files.
    pub process: u32,
}

impl Shared {
    // ---- waiting ----

    /// Waits for a ring of `bell`, or, with [`Io::Caller`], does a step of the
    /// write side. `None` at the deadline, or when nothing is left to do.
    pub(crate) fn wait<T>(
        &self,
        guard: MutexGuard<'_, T>,
        bell: &Bell,
        threshold: u64,
        deadline: Option<Instant>,
    ) -> Option<Woken> {
        match self.limits.io {
            Io::Caller => {
                let before = self.progress.load(Ordering::SeqCst);
                drop(guard);
                self.step_as_caller(before).then_some(Woken::Look)
            }
            Io::Thread => deadline
                .is_none_or(|deadline| Instant::now() < deadline)
                .then(|| bell.wait(guard, threshold, deadline)),
        }
    }

    /// The error of a wait for something that is not done yet.
    #[cold]
    pub(crate) fn timed_out(&self, what: &str) -> Error {
        let message = match self.limits.io {
            Io::Thread => format!(
                "the buffer in {} has not {what} within the time limit; it goes on, and may \
                 still do so",
                self.dir.display()
            ),
            Io::Caller => format!(
                "the buffer in {} has not {what}, and with Io::Caller this call can do no more \
                 for it now; if the disk is full, free some space and call again",
                self.dir.display()
            ),
        };
        Error::with_path(ErrorKind::TimedOut, &self.dir, message)
    }

    /// With [`Io::Caller`], does a step of the write side, unless `progress` is no longer `before`.
    /// False if nothing is left to do.
    fn step_as_caller(&self, before: u64) -> bool {
        if process_id() != self.process {
            // This is a forked child. The files are its parent's.
            return false;
        }
        let mut side = lock(&self.side);
        if self.progress.load(Ordering::SeqCst) != before {
            // Another caller may have done what this one waits for.
            return true;
        }
        let Some(driven) = side.as_mut() else {
            return false;
        };
        lock(&self.intake).note_look();
        match self.step_of(&mut **driven) {
            Some(Step::Progress) => {
                self.progress.fetch_add(1, Ordering::SeqCst);
                return true;
            }
            Some(Step::Idle(_)) => {}
            None => {
                *side = None;
                return true;
            }
        }
        // Another caller may have asked for something after the step looked.
        lock(&self.intake).is_roused()
    }

    /// A step of the write side; `None` if it panicked (a storage or a waker, which are not this
    /// crate's code). The buffer is poisoned then.
    fn step_of(&self, side: &mut dyn Drive) -> Option<Step> {
        let step = catch_unwind(AssertUnwindSafe(|| side.step(self)));
        step.inspect_err(|_| self.publish_panic()).ok()
    }

    /// The write side panicked: poisons the buffer and wakes every waiting caller.
    pub(crate) fn publish_panic(&self) {
        let cause = std::io::Error::other("a storage or a waker panicked");
        let error = Error::io("drive the writes of", &self.dir, cause).poisoned();
        lock(&self.intake).failed = Some(error.clone());
        self.space.ring();
        self.publish_failed(error);
    }

    pub(crate) fn wait_written(&self, end: u64, deadline: Option<Instant>) -> Result<()> {
        if lock(&self.log).written.offset >= end {
            return Ok(());
        }
        self.want_written(end);
        let what = "written these records";
        self.wait_log(what, &self.written, end, deadline, |log| {
            log.written.offset >= end
        })
    }

    pub(crate) fn wait_synced(&self, end: u64, deadline: Option<Instant>) -> Result<()> {
        if self.is_synced(end) {
            return Ok(());
        }
        self.want_synced(end);
        self.await_synced(end, deadline)
    }

    /// Waits for a sync that was requested before.
    pub(crate) fn await_synced(&self, end: u64, deadline: Option<Instant>) -> Result<()> {
        let what = "synced these records";
        self.wait_log(what, &self.synced, end, deadline, |log| {
            log.synced.offset >= end
        })
    }

    /// Waits until `done`; `bell` is then rung up to `threshold`.
    fn wait_log(
        &self,
        what: &str,
        bell: &Bell,
        threshold: u64,
        deadline: Option<Instant>,
        done: impl Fn(&Log) -> bool,
    ) -> Result<()> {
        loop {
            let log = lock(&self.log);
            if done(&log) {
                return Ok(());
            }
            if let Some(error) = &log.failed {
                return Err(error.clone());
            }
            match self.wait(log, bell, threshold, deadline) {
                Some(Woken::Reached) => return Ok(()),
                Some(Woken::Look) => {}
                None => return Err(self.timed_out(what)),
            }
        }
    }

    pub(crate) fn is_synced(&self, end: u64) -> bool {
        lock(&self.log).synced.offset >= end
    }

    /// Ready if `done`; otherwise registers the task, under the log's lock, so that no ring is
    /// missed. The waker that `register` replaces is dropped after the lock is released.
    #[cfg(feature = "tokio")]
    pub(crate) fn poll_log(
        &self,
        done: impl FnOnce(&Log) -> bool,
        register: impl FnOnce() -> Option<std::task::Waker>,
    ) -> std::task::Poll<Result<()>> {
        let log = lock(&self.log);
        if done(&log) {
            return std::task::Poll::Ready(Ok(()));
        }
        if let Some(error) = &log.failed {
            return std::task::Poll::Ready(Err(error.clone()));
        }
        let replaced = register();
        drop(log);
        drop(replaced);
        std::task::Poll::Pending
    }

    /// Fails if async handles cannot work on this buffer.
    #[cfg(feature = "tokio")]
    pub(crate) fn check_async(&self) -> Result<()> {
        check_async(self.limits.io, &self.dir)
    }

    /// Asks the write side to write everything before `end`.
    pub(crate) fn want_written(&self, end: u64) {
        let mut intake = lock(&self.intake);
        intake.want_written = intake.want_written.max(end);
        self.wake_write_side(intake);
    }

    /// Asks the write side to make everything before `end` durable.
    pub(crate) fn want_synced(&self, end: u64) {
        let mut intake = lock(&self.intake);
        intake.want_synced = intake.want_synced.max(end);
        self.wake_write_side(intake);
    }

    /// Waits until a sync of the ledger that begins after this call is done.
    pub(crate) fn wait_ledger_synced(&self) -> Result<()> {
        self.wait_ledger_synced_until(None)
    }

    pub(crate) fn wait_ledger_synced_until(&self, deadline: Option<Instant>) -> Result<()> {
        let ticket = self.want_ledger_synced();
        let what = "synced the acknowledgements";
        self.wait_log(what, &self.ledger_synced, ticket, deadline, |log| {
            log.ledger_ticket >= ticket
        })
    }

    /// Asks for a sync of the ledger. Returns the ticket: the request is answered once
    /// `Log::ledger_ticket` has reached it.
    pub(crate) fn want_ledger_synced(&self) -> u64 {
        let mut intake = lock(&self.intake);
        intake.ledger_tickets += 1;
        let ticket = intake.ledger_tickets;
        self.wake_write_side(intake);
        ticket
    }

    /// Ends the reader's waits permanently.
    pub(crate) fn stop_reader(&self) {
        self.reader_stopped.store(true, Ordering::SeqCst);
        // A reader that looked before this store did so under this lock, so it is on the bell's
        // list by now.
        drop(lock(&self.log));
        self.data.ring();
    }

    /// Makes the write side look at everything again.
    pub(crate) fn poke(&self) {
        self.wake_write_side(lock(&self.intake));
    }

    pub(crate) fn wake_write_side(&self, mut intake: MutexGuard<'_, Intake>) {
        let is_asleep = intake.rouse();
        drop(intake);
        if is_asleep {
            self.work.ring();
        }
    }

    // ---- what the write side reports ----

    pub(crate) fn publish_written(&self, frames: Frames) {
        let written = {
            let mut log = lock(&self.log);
            log.append(frames);
            log.written
        };
        if self.limits.reader_sees == ReaderSees::Written {
            self.data.ring();
        }
        self.written.ring_up_to(written.offset);
    }

    /// Notes that everything before `end` is synced, or durably acknowledged.
    pub(crate) fn publish_synced(&self, end: Position) {
        {
            let mut log = lock(&self.log);
            debug_assert!(log.synced <= end && end <= log.written);
            log.synced = end;
        }
        if self.limits.reader_sees == ReaderSees::Synced {
            self.data.ring();
        }
        self.synced.ring_up_to(end.offset);
    }

    pub(crate) fn publish_ledger_synced(&self, ticket: u64) {
        lock(&self.log).ledger_ticket = ticket;
        self.ledger_synced.ring_up_to(ticket);
    }

    /// Notes that nothing will be written any more. Returns whether that was not known before.
    pub(crate) fn publish_end(&self) -> bool {
        let news = !std::mem::replace(&mut lock(&self.log).ended, true);
        if news {
            self.data.ring();
        }
        news
    }

    pub(crate) fn publish_failed(&self, error: Error) {
        lock(&self.log).failed.get_or_insert(error);
        self.data.ring();
        self.written.ring();
        self.synced.ring();
        self.ledger_synced.ring();
    }

    /// For the write side, whenever the oldest file or the current one changed.
    pub(crate) fn set_head_end(&self, log: &Log, current_id: Option<u16>) {
        let end = match log.spans.front() {
            Some(span) if Some(span.file_id) != current_id => span.end(),
            _ => u64::MAX,
        };
        self.head_end.store(end, Ordering::Release);
    }

    // ---- acknowledgements ----

    pub(crate) fn acknowledge(&self, stretch: Stretch) {
        let mut acks = lock(&self.acks);
        let (advanced, _) = acks.acknowledge(stretch);
        if advanced {
            self.note_done(acks);
        }
    }

    /// Acknowledges lost events, which no consumer can acknowledge. Returns how many of them were
    /// not acknowledged before.
    pub(crate) fn acknowledge_lost(&self, stretch: Stretch, reason: LostReason) -> Count {
        let mut acks = lock(&self.acks);
        let (advanced, newly) = acks.acknowledge(stretch);
        self.meters.lost[reason as usize].add(newly);
        if advanced {
            self.note_done(acks);
        }
        newly
    }

    /// Acknowledges bytes that hold no event, up to this position.
    pub(crate) fn skip(&self, to: Position) {
        let mut acks = lock(&self.acks);
        if acks.skip(to.next_id, to.offset) {
            self.note_done(acks);
        }
    }

    /// Stores the acknowledged position in the ledger and wakes the write side
    /// if that gives it something to do.
    #[inline]
    fn note_done(&self, acks: MutexGuard<'_, Acks>) {
        let done = acks.done();
        let was_clean = self.ledger.set_reader_last_record_id(done.next_id - 1);
        drop(acks);
        if was_clean || done.offset >= self.head_end.load(Ordering::Acquire) {
            self.poke();
        }
    }
}

/// Refuses [`Io::Caller`]: async handles need a thread that does the work.
#[cfg(feature = "tokio")]
pub(crate) fn check_async(io: Io, dir: &Path) -> Result<()> {
    match io {
        Io::Thread => Ok(()),
        Io::Caller => Err(Error::with_path(
            ErrorKind::InvalidConfig,
            dir,
            format!(
                "io is Io::Caller for the buffer in {}, which leaves its work to calls that \
                 wait; futures do not wait, so an async handle would wait for ever; open \
                 it with Io::Thread, or use Writer and Reader",
                dir.display()
            ),
        )),
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("dir", &self.dir)
            .field("ledger", &self.ledger.state())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
