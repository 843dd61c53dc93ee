//! Writes the batch that was taken from the intake, and rolls over to the next data file.
//!
//! Invariants:
//! - Nothing is written while a file has failed: its unsynced bytes are written again first
//!   (`write_again.rs`).
//! - The synced mark is placed before the first byte that no sync covers.
//! - Records are published, and may be read, only once their whole frames are written.

use super::WriteSide;
use super::failure::{Trouble, above_floor, floor_reached, is_no_descriptor, is_no_space};
use super::open_file::OpenFile;
use crate::config::{Io, ReaderSees};
use crate::state::shared::Shared;
use crate::sync::atomic::Ordering;
use crate::sync::wake::lock;

impl WriteSide {
    /// Writes the next batch, if it is time.
    ///
    /// True: something was written, a file failed when that was tried, or the write waits for the
    /// writers of the last group commit; the step's list begins anew. False: nothing may be
    /// written now, or nothing is due.
    pub(super) fn write_next(&mut self, shared: &Shared) -> Result<bool, Trouble> {
        if self.failure.waits_for_space(shared) || self.files.has_failed() {
            return Ok(false);
        }
        if self.can_sync(shared) && self.sync_queue.is_overdue(shared) {
            // A requested sync has let writes go first for long enough.
            return Ok(false);
        }
        if self.sync_queue.waits_for_writers(shared) {
            // The wait itself lets other threads run, so the next step looks again at once.
            return Ok(true);
        }
        if !self.appender.take(shared) {
            return Ok(false);
        }
        self.write(shared)?;
        Ok(true)
    }

    /// Writes as many of the frames that were taken as fit into the current data file. If not even
    /// the first one fits, it rolls over before that. The rest stays with the appender.
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
                // There was no roll: the failed file is written again before anything else is
                // written.
                return Ok(());
            }
        }
    }

    /// Writes and publishes the first `all` bytes, which are whole frames. On a full disk it writes
    /// and publishes only the frames that fit, because a reader that acknowledges them may make
    /// space for the rest.
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
            // The whole frames that were written before the error are published.
            let whole = frames.boundary(current.partial() as u64);
            if whole <= current.partial() {
                to = whole;
                break;
            }
            // A disk may refuse a write as a whole although its first half would fit.
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

    /// Rolls over to a new file after everything is synced that must be synced before that. If a
    /// file fails meanwhile, it does not roll, and [`Files::has_failed`] is true afterwards.
    ///
    /// [`Files::has_failed`]: super::files::Files::has_failed
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
            self.sync_oldest(shared)?;
            if self.files.has_failed() {
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

    /// Cuts the preallocated zeros of the current file. True: there were zeros, and a sync has to
    /// make the cut durable. False: there were none, or the cut failed and so did the file.
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
}
