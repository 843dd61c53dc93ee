//! Syncing data files, and what happens to a file whose sync fails.

use super::WriteSide;
use super::failure::{Trouble, is_no_descriptor, trouble};
use super::open_file::{NotSynced, Outcome};
use super::sync_queue::Due;
use super::write_again::write_again;
use crate::state::shared::Shared;
use crate::sync::wake::lock;

impl WriteSide {
    /// Notes the outcome of a background sync that is done. Returns whether there was one.
    pub(super) fn take_background_outcome(&mut self, shared: &Shared) -> Result<bool, Trouble> {
        let Some(outcome) = self.sync_queue.background().outcome(false) else {
            return Ok(false);
        };
        self.note_outcome(shared, outcome)?;
        Ok(true)
    }

    /// Begins a background sync if one is due. Returns whether it was done at once, because no
    /// thread could be started, so that everything is looked at again.
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
        // No thread could be started.
        self.note_outcome(shared, sync.run(shared))?;
        Ok(true)
    }

    /// If a file has failed, syncs everything, which writes that file again first. Returns whether
    /// one had.
    pub(super) fn mend_failed(&mut self, shared: &Shared) -> Result<bool, Trouble> {
        if !self.files.has_failed() || self.failure.waits_for_space(shared) {
            return Ok(false);
        }
        self.sync_all(shared)?;
        self.failure.space_came_back(shared);
        Ok(true)
    }

    pub(super) fn can_sync(&self, shared: &Shared) -> bool {
        self.sync_queue.is_dirty(&self.files)
            && !self.files.has_failed()
            && !self.failure.waits_for_entry(shared)
    }

    /// Syncs everything in the foreground if that is due. Returns whether it did, or whether a
    /// failed file is to be written again.
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
            // A file that has just failed is written again first.
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

    /// Syncs the oldest file with a change that no sync covers, or waits for the background sync. A
    /// failed file is written again first. Returns whether a file has failed.
    pub(super) fn sync_oldest(&mut self, shared: &Shared) -> Result<bool, Trouble> {
        if let Some(outcome) = self.sync_queue.background().outcome(true) {
            self.note_outcome(shared, outcome)?;
            return Ok(self.files.has_failed());
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
        Ok(self.files.has_failed())
    }

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
