//! The write side: in an open buffer it alone creates, writes, syncs and deletes data files.
//!
//! [`WriteSide::step`] does the most urgent thing of the list in `most_urgent`. Each part
//! owns its state: the [`appender`], the [`files`], the [`sync_queue`], the
//! [`ledger_sync`], the [`deletion`], the [`failure`] policy, the [`synced_mark`].
//!
//! Invariants:
//! - A data file is rolled over before it would exceed its size; a few complete ones may wait for
//!   their sync while the next is written.
//! - The ledger's next id is stored before records with smaller ids become visible.
//! - After a failed write or sync of a file, its bytes that no sync covers are written again and
//!   synced before any further record is written. Acknowledged files are deleted meanwhile.
//! - No lock is held during I/O.

mod appender;
mod background_sync;
mod commit_window;
mod deletion;
mod failure;
mod files;
mod ledger_sync;
mod open_file;
mod preallocate;
mod sync_queue;
mod sync_rate;
pub(crate) mod synced_mark;
mod syncing;
#[cfg(test)]
mod testing;
mod write_again;
mod writing;

use std::path::PathBuf;
use std::sync::Arc;

use self::appender::{Appender, Readiness};
use self::deletion::Deletion;
use self::failure::{FailurePolicy, Trouble};
use self::files::Files;
use self::ledger_sync::LedgerSync;
use self::preallocate::Preallocation;
use self::sync_queue::SyncQueue;
use self::synced_mark::SyncedMark;
use crate::config::{Io, ReaderSees};
use crate::state::intake::{Intake, Sleep};
use crate::state::log::Span;
use crate::state::shared::{Drive, Shared, Step};
use crate::state::stream::Position;
use crate::storage::File;
use crate::sync::Instant;
use crate::sync::wake::lock;

/// Everything that one buffer has open or pending on its data files. Driven by one thread at a
/// time.
#[derive(Debug)]
pub(crate) struct WriteSide {
    appender: Appender,
    files: Files,
    sync_queue: SyncQueue,
    preallocation: Preallocation,
    ledger_sync: LedgerSync,
    deletion: Deletion,
    failure: FailurePolicy,
    synced_mark: SyncedMark,
}

impl WriteSide {
    /// `current` is the file to append to, with its path and its span of the log,
    /// which ends at `end`.
    pub(crate) fn new(
        current: Option<(Arc<dyn File>, PathBuf, Span)>,
        end: Position,
        next_file_id: u16,
    ) -> Self {
        Self {
            appender: Appender::default(),
            files: Files::new(current, end, next_file_id),
            sync_queue: SyncQueue::default(),
            preallocation: Preallocation::default(),
            ledger_sync: LedgerSync::default(),
            deletion: Deletion::default(),
            failure: FailurePolicy::default(),
            synced_mark: SyncedMark::default(),
        }
    }

    /// From now on background syncs run on threads of their own, which report to `shared`.
    pub(crate) fn use_threads(&mut self, shared: Arc<Shared>) {
        self.sync_queue.use_threads(shared);
    }

    /// Does the most urgent thing.
    pub(crate) fn step(&mut self, shared: &Shared) -> Step {
        if self.failure.is_poisoned() {
            return Step::Idle(None);
        }
        let looks_again = match self.most_urgent(shared) {
            Ok(looks_again) => looks_again,
            Err(trouble) => self.failure.note(shared, trouble) || self.sync_ledger(shared),
        };
        if looks_again {
            Step::Progress
        } else {
            Step::Idle(self.due_at(shared))
        }
    }

    /// Everything that there may be to do, the most urgent first. Each line returns true if the
    /// list is to be looked at again from its top, usually because the line did something, and
    /// false if the next line may go on.
    fn most_urgent(&mut self, shared: &Shared) -> Result<bool, Trouble> {
        Ok(self.delete_acknowledged(shared)? // deletion/mod.rs
            || self.take_background_outcome(shared)? // syncing.rs
            || self.write_failed_again(shared)? // write_again.rs
            || self.begin_background_sync(shared)? // syncing.rs
            || self.write_next(shared)? // writing.rs
            || self.sync_if_due(shared)? // syncing.rs
            || self.ledger_sync.sync_if_due(shared)? // ledger_sync.rs
            || self.end_if_done(shared)?) // below
    }

    /// Syncs the ledger if that is due, after trouble that ended the list before that line: a
    /// caller that waits for the ledger's sync must not wait for disk space. Returns whether it
    /// did anything.
    #[cold]
    fn sync_ledger(&mut self, shared: &Shared) -> bool {
        if self.failure.is_poisoned() {
            return false;
        }
        match self.ledger_sync.sync_if_due(shared) {
            Ok(synced) => synced,
            Err(trouble) => self.failure.note(shared, trouble),
        }
    }

    /// Once the last writer is closed and everything is written, lets the reader see the end.
    ///
    /// True: it sees the end from now on, or everything was synced because the reader sees only
    /// what is synced; then the next step lets it see the end. False: it is not over, or the reader
    /// sees the end already.
    fn end_if_done(&mut self, shared: &Shared) -> Result<bool, Trouble> {
        let is_over = {
            let intake = lock(&shared.intake);
            intake.writers == 0 && intake.open_len() == 0 && !intake.has_ready()
        };
        if !is_over || !self.appender.is_idle() {
            return Ok(false);
        }
        if shared.limits.reader_sees == ReaderSees::Synced && self.sync_queue.is_dirty(&self.files)
        {
            self.sync_all(shared)?;
            return Ok(true);
        }
        Ok(shared.publish_end())
    }

    // ---- sleeping and closing ----

    /// When something is due next, unless a request comes before.
    fn due_at(&self, shared: &Shared) -> Option<Instant> {
        if shared.limits.io == Io::Caller {
            return None;
        }
        let data = self.sync_queue.due_at(shared, &self.files);
        let retry = self.failure.retry_at(data);
        let ledger = self.ledger_sync.due_at(shared);
        [retry, ledger].into_iter().flatten().min()
    }

    /// How the write side's thread is to sleep after it has found nothing to do but what is `due`;
    /// `None` if the intake shows something to do.
    pub(crate) fn how_to_sleep(
        &mut self,
        shared: &Shared,
        intake: &Intake,
        due: Option<Instant>,
        has_worked: bool,
    ) -> Option<(Sleep, Option<Instant>)> {
        if intake.is_roused() {
            return None;
        }
        if self.failure.is_poisoned() || self.failure.pauses_writing(shared, intake.closing) {
            return Some((Sleep::Idle, due));
        }
        let at = match self.appender.readiness(shared, intake) {
            Readiness::Now => return None,
            Readiness::At(at) => at,
            // After work it wakes once more by itself, so that the next record need not wake it.
            Readiness::Never if has_worked => self.appender.linger(),
            Readiness::Never => return Some((Sleep::Idle, due)),
        };
        let until = due.map_or(at, |due| due.min(at));
        Some((Sleep::Lingering, Some(until)))
    }

    /// Whether a closing buffer has nothing more to wait for: everything is written
    /// and synced, or cannot be.
    pub(crate) fn has_closed(&self, shared: &Shared) -> bool {
        let gave_up = self.failure.gave_up();
        let is_written = self.appender.is_idle() || gave_up;
        let is_synced =
            !self.sync_queue.is_dirty(&self.files) || (gave_up && self.files.has_failed());
        self.failure.is_poisoned() || (is_written && is_synced && !shared.ledger.is_dirty())
    }

    /// After the last step of a closing buffer: removes the synced mark if everything is synced.
    pub(crate) fn remove_mark(&mut self, shared: &Shared) {
        if !self.failure.is_poisoned() && !self.sync_queue.is_dirty(&self.files) {
            self.synced_mark.remove(shared);
        }
    }
}

impl Drive for WriteSide {
    fn step(&mut self, shared: &Shared) -> Step {
        Self::step(self, shared)
    }

    fn end(&mut self, shared: &Shared) {
        self.remove_mark(shared);
    }
}
