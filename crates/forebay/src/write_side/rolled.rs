//! Data files that were left before they were synced, so that writing goes on in
//! the next one.
//!
//! Invariants:
//! - They are synced oldest first, each whole, and what is reported synced grows
//!   file by file: it never has a hole.
//! - Only the oldest may be synced in part.
//! - They are few, and hold no more than what the device has shown to take within
//!   one flush interval. At the bound, a roll waits for the oldest.
//! - A file of which everything is acknowledged goes without a sync.

use std::collections::VecDeque;
use std::time::Duration;

use super::durability::Pace;
use super::files::{Covered, FileSync, OpenFile};
use super::{Trouble, WriteSide};
use crate::config::{SyncPolicy, UNSYNCED_FILES_MAX};
use crate::shared::Shared;
use crate::stream::Position;
use crate::sync::Instant;
use crate::wake::lock;

/// So many wait for their sync at most. Besides them, the current file is not
/// synced, and one that others are moved to.
const ROLLED_MAX: usize = UNSYNCED_FILES_MAX - 2;
/// When so many wait, the oldest is synced whether it is due or not.
const BEGIN_AT: usize = 7;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Rolled {
    files: VecDeque<RolledFile>,
}

#[derive(Debug)]
struct RolledFile {
    file: OpenFile,
    end: Position,
    /// When the first change to it was made that no sync vouches for, nor one that
    /// had begun when it was left.
    since: Instant,
}

impl Rolled {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether a file with `unsynced` bytes is one too many.
    fn is_full_for(&self, unsynced: u64, pace: &Pace, interval: Duration) -> bool {
        let bytes: u64 = self.files.iter().map(|f| f.file.unsynced()).sum();
        let too_many = self.files.len() >= ROLLED_MAX;
        let too_much = pace.is_too_slow_for(bytes + unsynced, interval);
        unsynced > 0 && !self.files.is_empty() && (too_many || too_much)
    }

    /// Whether the oldest file is to be synced now, due or not: else a roll would
    /// soon have to wait for it.
    pub(super) fn is_pressing(&self, shared: &Shared, pace: &Pace) -> bool {
        let interval = shared.limits.flush_interval;
        self.files.front().is_some_and(|oldest| {
            let another = oldest.file.unsynced();
            self.files.len() >= BEGIN_AT || self.is_full_for(another, pace, interval)
        })
    }

    /// When the sync of the oldest file is due for its time, if another file
    /// does not make it due before.
    pub(super) fn is_due_at(&self, shared: &Shared) -> Option<Instant> {
        let by_time = shared.limits.sync == SyncPolicy::Interval;
        let oldest = self.files.front().filter(|_| by_time)?;
        Some(oldest.since + shared.limits.flush_interval)
    }

    /// What is to be done to make the oldest file durable.
    pub(super) fn to_sync(&self) -> Option<FileSync> {
        let oldest = self.files.front()?;
        Some(oldest.file.to_sync(oldest.end, oldest.since))
    }

    /// Whether the oldest is the file with this id.
    pub(super) fn oldest_is(&self, file_id: u16) -> bool {
        let oldest = self.files.front();
        oldest.is_some_and(|oldest| oldest.file.file_id == file_id)
    }

    /// A sync went well. If it was one of the oldest file, that is done with, unless
    /// it was written to after the sync began. How many bytes are synced now, if it
    /// was.
    pub(super) fn note_synced(&mut self, covered: &Covered) -> Option<u64> {
        if !self.oldest_is(covered.file_id) {
            return None;
        }
        let oldest = self.files.front_mut()?;
        let bytes = oldest.file.note_synced(covered.len);
        if oldest.file.unsynced() == 0 {
            self.files.pop_front();
        }
        Some(bytes)
    }

    /// The files that are not synced, for those who give them up.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = OpenFile> {
        std::mem::take(&mut self.files)
            .into_iter()
            .map(|rolled| rolled.file)
    }

    /// Everything in a file is acknowledged, durably: its sync matters no more.
    /// Where the file ends, if it was not synced.
    pub(super) fn forget(&mut self, file_id: u16) -> Option<Position> {
        self.oldest_is(file_id)
            .then(|| self.files.pop_front())
            .flatten()
            .map(|forgotten| forgotten.end)
    }
}

impl WriteSide {
    /// Leaves the current file, to be synced as one of the rolled.
    pub(super) fn leave_current(&mut self, shared: &Shared) {
        let since = self.dirty_since.take();
        let Some(file) = self.current.take() else {
            return;
        };
        let aside = self.aside.covered();
        let aside = aside.filter(|covered| covered.file_id == file.file_id);
        if let Some(since) = since.or(aside.map(|covered| covered.since)) {
            let end = lock(&shared.log).written;
            debug_assert_eq!(end.offset, file.base + file.len);
            self.rolled.files.push_back(RolledFile { file, end, since });
        }
    }

    /// Waits until the current file may be left unsynced.
    pub(super) fn wait_for_rolled(&mut self, shared: &Shared) -> Result<(), Trouble> {
        let unsynced = self.current.as_ref().map_or(0, OpenFile::unsynced);
        let interval = shared.limits.flush_interval;
        while self.rolled.is_full_for(unsynced, &self.pace, interval) {
            self.sync_oldest(shared)?;
        }
        Ok(())
    }
}
