//! Writing the batch that was taken from the intake, and what happens when a write fails.

use super::WriteSide;
use super::failure::{Trouble, above_floor, floor_reached, is_no_descriptor, is_no_space};
use super::open_file::OpenFile;
use crate::config::{Io, ReaderSees};
use crate::error::Error;
use crate::state::shared::Shared;
use crate::sync::atomic::Ordering;
use crate::sync::wake::lock;

impl WriteSide {
    /// Writes the next batch, if it is time. Returns whether it did anything.
    pub(super) fn write_next(&mut self, shared: &Shared) -> Result<bool, Trouble> {
        if self.failure.waits_for_space(shared) || self.files.has_failed() {
            return Ok(false);
        }
        if self.can_sync(shared) && self.sync_queue.is_overdue(shared) {
            return Ok(false);
        }
        if self.sync_queue.waits_for_writers(shared) {
            return Ok(true);
        }
        if !self.appender.take(shared) {
            return Ok(false);
        }
        self.write(shared)?;
        Ok(true)
    }

    /// Writes as much of what was taken as fits into one data file.
    fn write(&mut self, shared: &Shared) -> Result<(), Trouble> {
        let file_size = shared.limits.data_file_size;
        loop {
            let Some(frames) = self.appender.taken() else {
                return Ok(());
            };
            if let Some(current) = self.files.current() {
                let room = file_size.saturating_sub(current.len());
                let fits = frames.boundary(room);
                if fits as u64 <= room || current.len() == 0 {
                    return self.write_part(shared, fits);
                }
            }
            self.roll(shared)?;
            if self.files.has_failed() {
                // The failed file is written again first.
                return Ok(());
            }
        }
    }

    /// Writes and publishes the first `all` bytes, which are whole frames. On a full disk it writes
    /// the frames that fit: acknowledging them may make space for the rest.
    fn write_part(&mut self, shared: &Shared, all: usize) -> Result<(), Trouble> {
        let (Some(current), Some(frames)) = (self.files.current_mut(), self.appender.taken())
        else {
            return Ok(());
        };
        let mut to = all;
        let room = above_floor(shared)?.saturating_add(current.partial() as u64);
        if to as u64 > room {
            to = frames.boundary(room);
            if to as u64 > room {
                return Err(floor_reached(shared));
            }
        }
        self.synced_mark
            .place(shared, current.file_id(), current.synced_len())?;
        while let Err(e) = current.write(frames, to) {
            if !is_no_space(&e) {
                return self.fail_current(shared, "write to", e);
            }
            let whole = frames.boundary(current.partial() as u64);
            if whole <= current.partial() {
                to = whole;
                break;
            }
            // A disk may refuse a write as a whole of which a part would fit.
            let half = frames.boundary(to as u64 / 2);
            if half >= to {
                return Err(Trouble::NoSpace(e));
            }
            to = half;
        }
        let Some(written) = self.appender.note_written(to) else {
            return Ok(());
        };
        current.publish(written.end);
        if to == all {
            self.failure.space_came_back(shared);
        }
        shared.ledger.set_next_record_id(written.end.next_id);
        shared.meters.writes.fetch_add(1, Ordering::Relaxed);
        shared.publish_written(written);
        Ok(())
    }

    /// Rolls over to a new file, once everything that must be synced first is.
    pub(super) fn roll(&mut self, shared: &Shared) -> Result<(), Trouble> {
        // A power cut must not leave zeros in the middle of the stream, so their cut is synced
        // first. With `Io::Caller` no thread syncs, and a reader of synced records would wait in
        // vain.
        let is_alone =
            shared.limits.io == Io::Caller && shared.limits.reader_sees == ReaderSees::Synced;
        if self.cut_zeros(shared)? || (is_alone && self.sync_queue.is_dirty(&self.files)) {
            self.sync_all(shared)?;
        }
        if self.files.has_failed() {
            return Ok(());
        }
        let unsynced = self.files.current().map_or(0, OpenFile::unsynced);
        while self.sync_queue.is_full_for(shared, &self.files, unsynced) {
            if self.sync_oldest(shared)? {
                return Ok(());
            }
        }
        match self.files.roll(shared) {
            Err(Trouble::NoSpace(e)) if is_no_descriptor(&e) => {
                // Files that wait for their sync hold descriptors, and a sync of the directory
                // needs one of its own.
                self.synced_mark.let_go();
                self.sync_all(shared)?;
                match self.files.has_failed() {
                    true => Ok(()),
                    false => self.files.roll(shared),
                }
            }
            rolled => rolled,
        }
    }

    /// Cuts the preallocated zeros of the current file; a sync makes that durable. Returns whether
    /// there were any.
    pub(super) fn cut_zeros(&mut self, shared: &Shared) -> Result<bool, Trouble> {
        let Some(current) = self.files.current_mut() else {
            return Ok(false);
        };
        let were_there = match current.cut_zeros() {
            Ok(were_there) => were_there,
            Err(e) if is_no_space(&e) => return Err(Trouble::NoSpace(e)),
            Err(e) => {
                self.fail_current(shared, "cut", e)?;
                false
            }
        };
        let zeros_left = self.files.current().map_or(0, OpenFile::zeros_left);
        lock(&shared.log).zeros_ahead = zeros_left;
        Ok(were_there)
    }

    /// Notes a failure of the current file: it cannot be trusted after its synced length.
    fn fail_current(
        &mut self,
        shared: &Shared,
        what: &str,
        e: std::io::Error,
    ) -> Result<(), Trouble> {
        match self.files.current_id() {
            Some(file_id) => self.note_failed(shared, file_id, what, e),
            None => Ok(()),
        }
    }

    /// Notes a failure of this file: the bytes that no sync covers cannot be trusted. A second
    /// failure without progress in between is final.
    pub(super) fn note_failed(
        &mut self,
        shared: &Shared,
        file_id: u16,
        what: &str,
        e: std::io::Error,
    ) -> Result<(), Trouble> {
        let Some(file) = self.files.file_mut(file_id) else {
            return Ok(());
        };
        let error = Error::io(what, file.path(), e);
        let is_known = file.failure().is_some();
        if !file.fail(error.clone()) {
            return Err(Trouble::Failed(error));
        }
        if is_known {
            return Ok(());
        }
        let synced_len = file.synced_len();
        shared.meters.failed_files.fetch_add(1, Ordering::Relaxed);
        tracing::error!(error = %format_args!("{error:#}"), synced_len,
            "the unsynced bytes of the data file are written again");
        Ok(())
    }
}
