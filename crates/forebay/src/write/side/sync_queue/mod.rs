//! When data files are synced: by the flush interval, because many complete files wait, and on
//! request.
//!
//! Invariants:
//! - Files are synced oldest first, so the part that is reported as synced never has a hole.
//! - One sync answers all requests for what it covers.
//! - A sync that the flush interval makes due runs in the background, because no caller waits for
//!   it. A requested sync lets writes that can be done at once go first, because their writers may
//!   share it, but for at most [`REQUEST_DELAY_MAX`].

use std::time::Duration;

use super::background_sync::BackgroundSync;
use super::commit_window::CommitWindow;
use super::files::Files;
use super::open_file::{OpenFile, Outcome};
use super::sync_rate::SyncRate;
use crate::config::{Io, ReaderSees, SyncPolicy, UNSYNCED_FILES_MAX};
use crate::state::shared::Shared;
use crate::sync::Instant;
use crate::sync::atomic::Ordering;
use crate::sync::wake::lock;

/// A requested sync lets writes go first for at most this time.
const REQUEST_DELAY_MAX: Duration = Duration::from_millis(5);
/// At most this many complete files wait for a sync. Two more may hold unsynced bytes: the current
/// file, and the file that is created when it is full.
const COMPLETE_MAX: usize = UNSYNCED_FILES_MAX - 2;
/// With this many complete files, the oldest is synced whether it is due or not:
/// otherwise a roll would soon have to wait for it.
const BEGIN_AT: usize = COMPLETE_MAX - 1;

/// A sync that callers wait for.
#[derive(Debug, Clone, Copy)]
struct SyncRequest {
    /// Everything before this stream offset is to be synced.
    end: u64,
    /// When the write side noticed the request.
    since: Instant,
}

/// Decides when data files are synced. Changed only by the thread that drives the write side.
#[derive(Debug, Default)]
pub(super) struct SyncQueue {
    request: Option<SyncRequest>,
    window: CommitWindow,
    rate: SyncRate,
    background: BackgroundSync,
}

impl SyncQueue {
    /// From now on background syncs run on threads, which wake the write side of `shared` when they
    /// are done.
    pub(super) fn use_threads(&mut self, shared: std::sync::Arc<Shared>) {
        self.background.report_to(shared);
    }

    pub(super) fn background(&mut self) -> &mut BackgroundSync {
        &mut self.background
    }

    /// Whether anything was changed that no sync covers yet.
    pub(super) fn is_dirty(&self, files: &Files) -> bool {
        files.dirty_since().is_some() || self.background.is_running()
    }

    // ---- on request ----

    /// Notes what callers wait for. Returns whether a sync of what is written answers the request,
    /// or, while `is_stuck` (nothing more can be written), a part of it.
    fn is_requested(&mut self, shared: &Shared, is_stuck: bool) -> bool {
        let end = lock(&shared.intake).want_synced;
        let (written, synced) = {
            let log = lock(&shared.log);
            (log.written.offset, log.synced.offset)
        };
        if end > synced && self.request.is_none() {
            let since = Instant::now();
            self.request = Some(SyncRequest { end, since });
        }
        let is_answered = |request: SyncRequest| written >= request.end;
        self.request.is_some_and(is_answered) || (is_stuck && end > synced && written > synced)
    }

    /// Whether a request has let writes go first for long enough.
    pub(super) fn is_overdue(&mut self, shared: &Shared) -> bool {
        let waits_for_long = |request: SyncRequest| request.since.elapsed() >= REQUEST_DELAY_MAX;
        self.is_requested(shared, false) && self.request.is_some_and(waits_for_long)
    }

    /// Whether, and why, everything is to be synced now, in the foreground. `is_stuck`: nothing
    /// more can be written for now.
    pub(super) fn is_due_now(&mut self, shared: &Shared, is_stuck: bool) -> Option<Due> {
        if lock(&shared.intake).closing {
            return Some(Due::Closing);
        }
        // Under `Never` nothing else syncs, and a reader of synced records would wait for ever.
        let is_read = shared.limits.sync == SyncPolicy::Never
            && shared.limits.reader_sees == ReaderSees::Synced
            && shared.reader_waits.load(Ordering::Acquire);
        let by_policy = shared.limits.sync == SyncPolicy::Always;
        if self.is_requested(shared, is_stuck) || by_policy {
            Some(Due::Awaited)
        } else {
            is_read.then_some(Due::Unasked)
        }
    }

    /// Whether the next group commit waits for the writers of the last one.
    pub(super) fn waits_for_writers(&mut self, shared: &Shared) -> bool {
        shared.limits.io == Io::Thread && self.window.waits(shared.synced.waiting())
    }

    // ---- in the background ----

    /// When the flush interval makes a background sync due.
    pub(super) fn due_at(&self, shared: &Shared, files: &Files) -> Option<Instant> {
        if self.background.is_running() || shared.limits.sync != SyncPolicy::Interval {
            return None;
        }
        Some(files.dirty_since()? + shared.limits.flush_interval)
    }

    /// Whether a sync in the background is to begin now.
    pub(super) fn is_due_in_background(&self, shared: &Shared, files: &Files) -> bool {
        if !self.background.is_ready() {
            return false;
        }
        let has_come = |at: Instant| Instant::now() >= at;
        self.is_pressing(shared, files) || self.due_at(shared, files).is_some_and(has_come)
    }

    fn is_pressing(&self, shared: &Shared, files: &Files) -> bool {
        let mut complete = files.complete();
        let Some(another) = complete.next().map(OpenFile::unsynced) else {
            return false;
        };
        1 + complete.count() >= BEGIN_AT || self.is_full_for(shared, files, another)
    }

    /// Whether a further complete file with `unsynced` bytes cannot be left for later: too many
    /// files wait, or more bytes than the device syncs within the flush interval.
    pub(super) fn is_full_for(&self, shared: &Shared, files: &Files, unsynced: u64) -> bool {
        let (mut count, mut bytes) = (0, 0);
        for file in files.complete() {
            count += 1;
            bytes += file.unsynced();
        }
        let interval = shared.limits.flush_interval;
        let too_much = self.rate.is_too_slow_for(bytes + unsynced, interval);
        unsynced > 0 && count > 0 && (count >= COMPLETE_MAX || too_much)
    }

    // ---- what came of a sync ----

    /// Notes a successful sync that made `bytes` durable, of the current file if `is_current`.
    pub(super) fn note_synced(
        &mut self,
        shared: &Shared,
        outcome: &Outcome,
        bytes: u64,
        is_current: bool,
    ) {
        // With `Io::Caller` nothing depends on time.
        if shared.limits.io == Io::Thread {
            if is_current {
                let waiting = shared.synced.waiting();
                self.window = CommitWindow::after(waiting, outcome.took);
            }
            self.rate.learn(bytes, outcome.took);
        }
        let end = outcome.covered.end.offset;
        self.request = self.request.filter(|request| request.end > end);
    }
}

/// Why everything is synced in the foreground.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The buffer closes.
    Closing,
    /// A caller waits for it, or [`SyncPolicy::Always`] asks for it.
    Awaited,
    /// A reader of synced records waits.
    Unasked,
}

#[cfg(test)]
mod tests;
