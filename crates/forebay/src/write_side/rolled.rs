//! Data files that were left before they were synced, so that writing goes on in
//! the next one meanwhile.
//!
//! Invariants:
//! - They are synced oldest first, each whole, and what is reported synced grows
//!   file by file: it never has a hole.
//! - Only the oldest may be synced in part.
//! - They are few, and hold no more than what the device has shown to take within
//!   one flush interval. At the bound, a roll waits for the oldest.
//! - A file of which everything is acknowledged goes without a sync.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::durability::Pace;
use super::files::{FileSync, NotSynced, OpenFile, Outcome};
use super::{Trouble, WriteSide, entry_trouble};
use crate::config::{SyncPolicy, UNSYNCED_FILES_MAX};
use crate::shared::Shared;
use crate::stream::Position;
use crate::sync::{Instant, Mutex, thread};
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
    /// The sync that another thread does.
    aside: Option<Aside>,
    /// What the threads aside report to; without it there are none.
    shared: Option<Arc<Shared>>,
}

#[derive(Debug)]
struct RolledFile {
    file: OpenFile,
    end: Position,
    /// When its first byte that no sync vouches for was written.
    since: Instant,
}

/// One sync on a thread that ends with it.
#[derive(Debug)]
struct Aside {
    sync: FileSync,
    thread: thread::JoinHandle<()>,
    outcome: Arc<Mutex<Option<Outcome>>>,
}

impl Aside {
    fn begin(file: &OpenFile, shared: &Arc<Shared>) -> Option<Self> {
        let (sync, outcome) = (file.to_sync(), Arc::new(Mutex::new(None)));
        let (for_thread, report) = (sync.clone(), Arc::clone(&outcome));
        let shared = Arc::clone(shared);
        let thread = thread::Builder::new()
            .name("forebay-sync".to_owned())
            .spawn(move || {
                let done = for_thread.run(&shared);
                // The last handle of a deleted file frees its space.
                drop(for_thread);
                *lock(&report) = Some(done);
                shared.poke();
            });
        Some(Self {
            sync,
            thread: thread.ok()?,
            outcome,
        })
    }

    fn is_done(&self) -> bool {
        lock(&self.outcome).is_some()
    }

    fn wait(self) -> Outcome {
        let _ = self.thread.join();
        let outcome = lock(&self.outcome).take();
        outcome.unwrap_or_else(|| Outcome {
            result: Err(NotSynced::File(io::Error::other(
                "the thread that synced it ended early",
            ))),
            took: Duration::ZERO,
        })
    }
}

impl Drop for Rolled {
    fn drop(&mut self) {
        if let Some(aside) = self.aside.take() {
            // Who closes or poisons the buffer does not ask what came of it.
            let _ = aside.thread.join();
        }
    }
}

impl Rolled {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// From now on files are synced on threads of their own.
    pub(super) fn sync_aside(&mut self, shared: Arc<Shared>) {
        self.shared = Some(shared);
    }

    /// Whether a file with `unsynced` bytes is one too many.
    fn is_full_for(&self, unsynced: u64, pace: &Pace, interval: Duration) -> bool {
        let bytes: u64 = self.files.iter().map(|f| f.file.unsynced()).sum();
        let too_many = self.files.len() >= ROLLED_MAX;
        let too_much = pace.is_too_slow_for(bytes + unsynced, interval);
        unsynced > 0 && !self.files.is_empty() && (too_many || too_much)
    }

    /// Begins the sync of the oldest file if it is time for it. False if there is
    /// no thread to be had for that.
    fn begin(&mut self, shared: &Shared, pace: &Pace) -> bool {
        let (Some(oldest), None, Some(for_thread)) =
            (self.files.front(), &self.aside, &self.shared)
        else {
            return true;
        };
        let another = oldest.file.unsynced();
        let is_time = self.files.len() >= BEGIN_AT
            || self.is_full_for(another, pace, shared.limits.flush_interval)
            || due_at(oldest, shared).is_some_and(has_come);
        if is_time {
            self.aside = Aside::begin(&oldest.file, for_thread);
        }
        !is_time || self.aside.is_some()
    }

    /// When the sync of the oldest file is due for its time, if another file
    /// does not make it due before.
    pub(super) fn wake_at(&self, shared: &Shared) -> Option<Instant> {
        match self.aside {
            None => self.files.front().and_then(|oldest| due_at(oldest, shared)),
            Some(_) => None,
        }
    }

    /// What came of a sync aside that is done, or after `wait`ing for it. If its
    /// file is not the oldest any more, because it was deleted, only what became
    /// of the directory counts.
    fn outcome(&mut self, wait: bool) -> Option<Outcome> {
        let aside = self.aside.take_if(|aside| wait || aside.is_done())?;
        let is_oldest = |oldest: &RolledFile| aside.sync.is_of(&oldest.file);
        let is_oldest = self.files.front().is_some_and(is_oldest);
        let outcome = aside.wait();
        (is_oldest || matches!(outcome.result, Err(NotSynced::Entry(_)))).then_some(outcome)
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
        let is_oldest = |oldest: &RolledFile| oldest.file.file_id == file_id;
        self.files
            .front()
            .is_some_and(is_oldest)
            .then(|| self.files.pop_front())
            .flatten()
            .map(|forgotten| forgotten.end)
    }
}

fn due_at(file: &RolledFile, shared: &Shared) -> Option<Instant> {
    let by_time = shared.limits.sync == SyncPolicy::Interval;
    by_time.then(|| file.since + shared.limits.flush_interval)
}

fn has_come(time: Instant) -> bool {
    Instant::now() >= time
}

impl WriteSide {
    /// Leaves the current file, to be synced as one of the rolled.
    pub(super) fn leave_current(&mut self, shared: &Shared) {
        let since = self.dirty_since.take();
        let Some(file) = self.current.take() else {
            return;
        };
        if let Some(since) = since {
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

    /// Takes note of a sync aside that is done, begins the next.
    pub(super) fn tend_rolled(&mut self, shared: &Shared) -> Option<Result<(), Trouble>> {
        let outcome = self.rolled.outcome(false);
        if outcome.is_some() {
            return outcome.map(|outcome| self.oldest_is_synced(shared, outcome));
        }
        if self.waits_for_entry(shared) || self.rolled.begin(shared, &self.pace) {
            return None;
        }
        Some(self.sync_oldest(shared))
    }

    /// Syncs the oldest file. If it fails, all leave the rolled.
    pub(super) fn sync_oldest(&mut self, shared: &Shared) -> Result<(), Trouble> {
        let outcome = match self.rolled.outcome(true) {
            Some(outcome) => outcome,
            None => match self.rolled.files.front() {
                Some(oldest) => oldest.file.to_sync().run(shared),
                None => return Ok(()),
            },
        };
        self.oldest_is_synced(shared, outcome)
    }

    fn oldest_is_synced(&mut self, shared: &Shared, outcome: Outcome) -> Result<(), Trouble> {
        shared.meters.note_sync(outcome.took);
        match outcome.result {
            Ok(()) => {}
            Err(NotSynced::File(e)) => {
                self.give_up_rolled(shared, e);
                return Ok(());
            }
            Err(NotSynced::Entry(e)) => return Err(entry_trouble(shared, e)),
        }
        if let Some(RolledFile { file, end, .. }) = self.rolled.files.pop_front() {
            self.pace.note(shared, file.unsynced(), outcome.took);
            self.entry_retry = None;
            shared.publish_synced(end);
        }
        Ok(())
    }
}
