//! Syncs data files, and reports what that makes durable.
//!
//! Invariants:
//! - A failed file is written again (`write_again.rs`) before it is synced, because a sync of it
//!   would prove nothing.
//! - Nothing is reported as synced before the sync that covers it has succeeded.

use super::WriteSide;
use super::failure::{Trouble, is_no_descriptor, trouble};
use super::open_file::{NotSynced, Outcome};
use super::sync_queue::Due;
use super::write_again::write_again;
use crate::state::shared::Shared;
use crate::sync::wake::lock;

impl WriteSide {
    /// Notes the outcome of a background sync that has ended. True: there was one. False: none
    /// runs, or it is still running.
    pub(super) fn take_background_outcome(&mut self, shared: &Shared) -> Result<bool, Trouble> {
        let Some(outcome) = self.sync_queue.background().outcome(false) else {
            return Ok(false);
        };
        self.note_outcome(shared, outcome)?;
        Ok(true)
    }

    /// Begins a background sync if one is due.
    ///
    /// True: no thread could be started, so the sync was done here. False: none is due, or a thread
    /// has begun it; then the step goes on with what comes after it in the list.
    pub(super) fn begin_background_sync(&mut self, shared: &Shared) -> Result<bool, Trouble> {
        if self.failure.waits_for_entry(shared)
            || !self.sync_queue.is_due_in_background(shared, &self.files)
        {
            return Ok(false);
        }
        let Some(sync) = self.files.begin_sync() else {
            return Ok(false);
        };
        if self.sync_queue.background().begin(sync.clone()) {
            return Ok(false);
        }
        self.note_outcome(shared, sync.run(shared))?;
        Ok(true)
    }

    /// Whether a sync has something to do, and may be tried now.
    pub(super) fn can_sync(&self, shared: &Shared) -> bool {
        self.sync_queue.is_dirty(&self.files)
            && !self.files.has_failed()
            && !self.failure.waits_for_entry(shared)
    }

    /// Syncs everything in the foreground if that is due.
    ///
    /// True: everything was synced, or a file has just failed and is to be written again, which the
    /// next step does. False: no sync is due, or it has to wait for space or for the directory.
    pub(super) fn sync_if_due(&mut self, shared: &Shared) -> Result<bool, Trouble> {
        let is_stuck = self.failure.lacks_space();
        let due = self.sync_queue.is_due_now(shared, is_stuck);
        let Some(due) = due else {
            return Ok(false);
        };
        if due == Due::Closing {
            // A closed buffer holds nothing but records, unless there is no space to cut zeros:
            // then the next opening cuts them.
            match self.cut_zeros(shared) {
                Err(Trouble::NoSpace(_)) => {}
                cut => drop(cut?),
            }
        }
        if !self.can_sync(shared) {
            // If cutting the zeros has failed just now, the next step writes that file again.
            return Ok(self.files.has_failed() && !self.failure.waits_for_space(shared));
        }
        if due == Due::Awaited {
            self.preallocation.before_sync(shared, &mut self.files);
        }
        self.sync_all(shared)?;
        Ok(true)
    }

    /// Syncs everything, and reports what that makes durable.
    pub(super) fn sync_all(&mut self, shared: &Shared) -> Result<(), Trouble> {
        while self.sync_queue.is_dirty(&self.files) {
            self.sync_oldest(shared)?;
        }
        Ok(())
    }

    /// Syncs the oldest file with a change that no sync covers, after writing it again if it has
    /// failed. If a background sync runs, waits for that one instead. A sync that fails is no error
    /// here unless it is final; [`Files::has_failed`] is true afterwards.
    ///
    /// [`Files::has_failed`]: super::files::Files::has_failed
    pub(super) fn sync_oldest(&mut self, shared: &Shared) -> Result<(), Trouble> {
        if let Some(outcome) = self.sync_queue.background().outcome(true) {
            return self.note_outcome(shared, outcome);
        }
        if let Some(file) = self.files.oldest_dirty()
            && file.failure().is_some()
        {
            write_again(shared, file)?;
            if self
                .files
                .current()
                .is_none_or(|current| current.zeros_left() == 0)
            {
                lock(&shared.log).zeros_ahead = 0;
            }
        }
        if let Some(sync) = self.files.begin_sync() {
            self.note_outcome(shared, sync.run(shared))?;
        }
        Ok(())
    }

    /// Notes how a sync ended: what it made durable, or which file has failed.
    fn note_outcome(&mut self, shared: &Shared, outcome: Outcome) -> Result<(), Trouble> {
        let covered = outcome.covered;
        shared.meters.note_sync(outcome.took);
        match outcome.result {
            Ok(()) => {
                let is_current = self.files.current_id() == Some(covered.file_id);
                // If the file is not open any more, it was deleted meanwhile.
                if let Some(bytes) = self.files.note_synced(&covered) {
                    self.failure.entry_came_back(shared);
                    self.sync_queue
                        .note_synced(shared, &outcome, bytes, is_current);
                    self.synced_mark.advance(covered.file_id, covered.len);
                    shared.publish_synced(covered.end);
                }
                Ok(())
            }
            Err(NotSynced::Entry(e)) => {
                if let Some(file) = self.files.file_mut(covered.file_id) {
                    file.take_back(&covered);
                }
                if is_no_descriptor(&e) && self.synced_mark.let_go() {
                    return Ok(());
                }
                match trouble("sync the directory", &shared.dir, e) {
                    Trouble::NoSpace(e) => Err(Trouble::NoEntry(e)),
                    trouble => Err(trouble),
                }
            }
            Err(NotSynced::File(e)) => self.note_failed(shared, covered.file_id, "sync", e),
        }
    }
}
