//! The write side: the one owner of everything that changes data files. What to
//! do next and writing are here; rolling, syncing, deleting and what follows a
//! failure beside it.
//!
//! Invariants:
//! - A data file is rolled before it would exceed its size; a few rolled ones may
//!   wait for their sync while the next is written.
//! - The ledger's next id is stored before records below it become visible.
//! - A data file is deleted only when a synced ledger says that everything in
//!   it is acknowledged.
//! - After a failed write or sync a file is given up at its synced length: what
//!   follows is written to new files and synced there before anything is reported
//!   synced again. If that fails, the buffer is poisoned.
//! - No lock is held during I/O.

mod aside;
mod deletion;
mod durability;
mod files;
mod given_up;
mod rolled;
mod unwritten;
mod zeros;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::aside::Aside;
use self::deletion::Freeing;
use self::durability::{Company, Pace, Wanted};
use self::files::OpenFile;
use self::rolled::Rolled;
use self::unwritten::Unwritten;

use crate::config::{Io, ReaderSees, SyncPolicy};
use crate::error::Error;
use crate::intake::{Batch, Intake};
use crate::log::Span;
use crate::shared::{Drive, Shared, Step};
use crate::storage::{File, uninterrupted};
use crate::sync::Instant;
use crate::sync::atomic::Ordering;
use crate::wake::lock;

/// How long the open batch may wait for company when nobody waits for it: what a
/// killed process loses of it, but also how often it writes at most.
const LINGER: Duration = Duration::from_millis(20);
/// The pause before a full disk is tried again: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Why a write could not be done.
enum Trouble {
    /// Space, or another thing that comes back, is missing.
    NoSpace(io::Error),
    /// The directory could not be synced for want of such a thing.
    NoEntry(io::Error),
    /// The file cannot be trusted any more.
    Failed(Error),
}

/// See the head of this file. Driven by one thread at a time.
#[derive(Debug)]
pub(crate) struct WriteSide {
    /// The file being appended to.
    current: Option<OpenFile>,
    /// Those before it that are not synced.
    rolled: Rolled,
    /// The sync of the oldest of these that another thread does.
    aside: Aside,
    /// A file that failed and those behind it, whose unsynced bytes must go to
    /// new ones. While there are any, there is no current file.
    given_up: VecDeque<OpenFile>,
    /// The current file follows one that was given up, and nothing was written
    /// to it since: if that fails too, the buffer is poisoned.
    is_second_file: bool,
    next_file_id: u16,
    unwritten: Option<Unwritten>,
    retry: Option<(Instant, Duration)>,
    /// The same for a sync of the directory; writing goes on meanwhile.
    entry_retry: Option<(Instant, Duration)>,
    linger_until: Option<Instant>,
    /// When the current file was changed first since the last sync of it began.
    dirty_since: Option<Instant>,
    ledger_dirty_since: Option<Instant>,
    /// What somebody waits for, when that was noticed.
    wanted: Option<Wanted>,
    pace: Pace,
    /// Small syncs, one after the other, that somebody waited for.
    small_syncs: u32,
    company: Company,
    /// The last wait for the ledger that was answered.
    ledger_ticket: u64,
    /// Bytes on disk that are no part of the stream, by the file they are in.
    extra: BTreeMap<u16, u64>,
    freeing: Freeing,
    poisoned: bool,
}

impl WriteSide {
    /// `current` is the file to append to, its path and length; its base
    /// follows from the log's last span.
    pub(crate) fn new(current: Option<(Arc<dyn File>, PathBuf, Span)>, next_file_id: u16) -> Self {
        let current = current.map(|(file, path, span)| OpenFile::new(file, path, span));
        Self {
            current,
            rolled: Rolled::default(),
            aside: Aside::default(),
            given_up: VecDeque::new(),
            is_second_file: false,
            next_file_id,
            unwritten: None,
            retry: None,
            entry_retry: None,
            linger_until: None,
            dirty_since: None,
            ledger_dirty_since: None,
            wanted: None,
            pace: Pace::default(),
            small_syncs: 0,
            company: Company::none(),
            ledger_ticket: 0,
            extra: BTreeMap::new(),
            freeing: Freeing::default(),
            poisoned: false,
        }
    }

    /// Lets threads of their own sync what is due. They report to `shared`.
    pub(crate) fn sync_aside(&mut self, shared: Arc<Shared>) {
        self.aside.report_to(shared);
    }

    /// Does the most urgent thing.
    pub(crate) fn step(&mut self, shared: &Shared) -> Step {
        if self.poisoned {
            return Step::Idle(None);
        }
        let done = self.delete_acknowledged(shared);
        let done = done.or_else(|| self.tend_aside(shared));
        let done = done.or_else(|| {
            if self.waits_for_space(shared) || self.must_sync_now(shared) {
                None
            } else if self.waits_for_company(shared) {
                Some(Ok(()))
            } else {
                self.write_something(shared)
            }
        });
        if done.is_none() {
            self.cut_zeros_if_closing(shared);
        }
        let done = done.or_else(|| self.sync_if_due(shared));
        let done = done.or_else(|| self.sync_ledger_if_due(shared));
        let done = done.or_else(|| self.end_if_done(shared));
        match done {
            Some(Ok(())) => Step::Progress,
            Some(Err(Trouble::NoSpace(error))) => self.wait_for_space(shared, &error),
            Some(Err(Trouble::NoEntry(error))) => self.wait_for_entry(shared, error),
            Some(Err(Trouble::Failed(error))) => {
                self.poison(shared, &error);
                Step::Progress
            }
            None => Step::Idle(self.wake_at(shared)),
        }
    }

    /// Whether everything is written and synced.
    pub(crate) fn is_clean(&self, shared: &Shared) -> bool {
        self.poisoned
            || (self.unwritten.is_none()
                && !self.has_given_up()
                && !self.is_dirty()
                && !shared.ledger.is_dirty())
    }

    /// When a thread that has nothing to do must look again.
    fn wake_at(&self, shared: &Shared) -> Option<Instant> {
        if shared.limits.io == Io::Caller {
            return None;
        }
        let data = self.sync_aside_at(shared);
        let ledger = self
            .ledger_dirty_since
            .filter(|_| shared.limits.sync != SyncPolicy::Never)
            .map(|since| since + shared.limits.flush_interval);
        let retry = self.retry.map(|(at, _)| at);
        let entry = self.entry_retry.map(|(at, _)| at);
        let not_before = |at: Instant| entry.map_or(at, |entry| at.max(entry));
        let data = data.map(not_before);
        // Where that time has passed, the step has just tried again.
        let entry = entry.filter(|at| *at > Instant::now());
        // The open batch is taken when nothing else is on its way.
        let linger = self.linger_until.filter(|_| self.takes_more());
        [data, entry, ledger, retry, linger]
            .into_iter()
            .flatten()
            .min()
    }

    /// Once the last writer has gone and everything is written, the reader may
    /// see the end.
    fn end_if_done(&mut self, shared: &Shared) -> Option<Result<(), Trouble>> {
        let over = {
            let intake = lock(&shared.intake);
            intake.writers == 0 && intake.open_len() == 0 && !intake.has_ready()
        };
        if !over || !self.is_idle() {
            return None;
        }
        let sees_all = shared.limits.reader_sees == ReaderSees::Written;
        if !sees_all && self.is_dirty() {
            return Some(self.sync(shared));
        }
        shared.publish_end().then_some(Ok(()))
    }

    /// Whether nothing that was taken from the intake is on its way.
    fn is_idle(&self) -> bool {
        self.unwritten.is_none() && !self.has_given_up()
    }

    /// Whether a batch can be taken from the intake.
    pub(crate) fn takes_more(&self) -> bool {
        self.unwritten.as_ref().is_none_or(|rest| rest.waits) && !self.has_given_up()
    }

    /// Whether somebody needs the first byte that is not published.
    pub(crate) fn is_needed(&self, shared: &Shared, intake: &Intake) -> bool {
        let unwritten = self.unwritten.as_ref();
        let begin = unwritten.map_or_else(|| intake.begin(), Unwritten::begin);
        intake.want_written.max(intake.want_synced) > begin
            || intake.writers == 0
            || shared.reader_waits.load(Ordering::SeqCst)
    }

    /// Whether there is something that waits for company.
    pub(crate) fn holds_something(&self, intake: &Intake) -> bool {
        self.unwritten.is_some() || intake.open_len() > 0
    }

    /// Until when what waits for company does; the wait begins if it has not.
    pub(crate) fn linger(&mut self) -> Instant {
        let until = &mut self.linger_until;
        *until.get_or_insert_with(|| Instant::now() + LINGER)
    }

    // ---- writing ----

    fn waits_for_space(&self, shared: &Shared) -> bool {
        shared.limits.io == Io::Thread
            && self.retry.is_some_and(|(at, _)| Instant::now() < at)
            && !lock(&shared.intake).closing
    }

    fn write_something(&mut self, shared: &Shared) -> Option<Result<(), Trouble>> {
        if self.has_given_up() {
            return Some(self.write_given_up_again(shared));
        }
        if self.takes_more() && !self.take(shared) {
            return None;
        }
        self.unwritten.is_some().then(|| self.write(shared))
    }

    /// Takes the oldest batch, if it is full or somebody needs it. False if there
    /// is nothing to write.
    fn take(&mut self, shared: &Shared) -> bool {
        let (batch, needed) = {
            let mut intake = lock(&shared.intake);
            let needed = self.is_needed(shared, &intake)
                || intake.closing
                || shared.limits.io == Io::Caller
                || self
                    .linger_until
                    .is_some_and(|until| Instant::now() >= until);
            let batch = intake.take(needed);
            if batch.is_some() {
                shared.space.ring();
            }
            if batch.is_some() || needed {
                self.linger_until = None;
            } else if self.holds_something(&intake) {
                self.linger();
            }
            (batch.map(Batch::into_frames), needed)
        };
        match (&mut self.unwritten, batch) {
            (Some(rest), Some(batch)) => {
                rest.push(batch);
                rest.waits = false;
                true
            }
            (Some(rest), None) => {
                rest.waits = !needed;
                needed
            }
            (None, Some(batch)) => {
                self.unwritten = Some(Unwritten::new(batch));
                true
            }
            (None, None) => false,
        }
    }

    /// Writes as much of what was taken as fits into one data file.
    fn write(&mut self, shared: &Shared) -> Result<(), Trouble> {
        let file_size = shared.limits.data_file_size;
        loop {
            let Some(unwritten) = &self.unwritten else {
                return Ok(());
            };
            let room = self
                .current
                .as_ref()
                .map_or(0, |c| file_size.saturating_sub(c.len));
            let fits = unwritten.boundary(room);
            let is_empty = self.current.as_ref().is_some_and(|c| c.len == 0);
            if self.current.is_some() && (fits as u64 <= room || is_empty) {
                return self.write_part(shared, fits);
            }
            self.roll(shared)?;
            if self.has_given_up() {
                return Ok(());
            }
        }
    }

    /// Where to stop writing before the end: where a full batch ends in the file,
    /// if the last frame crosses that.
    fn good_end(&self, shared: &Shared, all: usize) -> Option<usize> {
        let (Some(current), Some(unwritten)) = (&self.current, &self.unwritten) else {
            return None;
        };
        let end = current.len + all as u64;
        let good = all.checked_sub(shared.batch_ends.behind(end))?;
        let last = unwritten.last_frame();
        (all == unwritten.len() && 0 < last && last < good && good < all).then_some(good)
    }

    /// Writes and publishes the first `all` bytes, whole frames; on a full disk,
    /// those of them that it takes: who reads them may make space for the rest.
    fn write_part(&mut self, shared: &Shared, all: usize) -> Result<(), Trouble> {
        let good_end = self.good_end(shared, all);
        let (Some(current), Some(unwritten)) = (&mut self.current, &mut self.unwritten) else {
            return Ok(());
        };
        let aim = good_end.unwrap_or(all);
        let mut to = aim;
        let room = above_floor(shared)?.saturating_add(current.begun as u64);
        if to as u64 > room {
            to = unwritten.boundary(room);
            if to as u64 > room {
                return Err(floor_reached(shared));
            }
        }
        while current.begun < to {
            let bytes = unwritten.slices(current.begun, to);
            let at = current.written_len();
            match uninterrupted(|| current.file.write_vectored_at(&bytes, at)) {
                Ok(0) => {
                    let error = io::Error::from(io::ErrorKind::WriteZero);
                    return self.give_up(shared, "write to", error);
                }
                Ok(n) => current.begun += n,
                Err(e) if is_no_space(&e) => {
                    to = unwritten.boundary(current.begun as u64);
                    if to > current.begun {
                        return Err(Trouble::NoSpace(e));
                    }
                }
                Err(e) => return self.give_up(shared, "write to", e),
            }
        }
        let has_good_end = Some(to) == good_end;
        let whole = if has_good_end {
            unwritten.last_frame()
        } else {
            to
        };
        let written = unwritten.take(whole);
        unwritten.waits = has_good_end;
        current.begun -= whole;
        current.len += whole as u64;
        self.is_second_file = false;
        if unwritten.is_empty() {
            self.unwritten = None;
        }
        self.dirty_since.get_or_insert_with(Instant::now);
        if to == aim {
            self.space_came_back(shared);
        }
        if let Some(last) = written.last() {
            shared.ledger.set_next_record_id(last.end.next_id);
        }
        self.ledger_dirty_since.get_or_insert_with(Instant::now);
        shared.meters.writes.fetch_add(1, Ordering::Relaxed);
        shared.publish_written(written);
        Ok(())
    }

    // ---- what is on disk ----

    /// So many bytes of a file are on disk and no part of the stream.
    fn note_extra(&mut self, shared: &Shared, file_id: u16, bytes: u64) {
        *self.extra.entry(file_id).or_default() += bytes;
        let head = lock(&shared.log).head();
        lock(&shared.intake).set_disk(head, self.extra_bytes());
    }

    fn extra_bytes(&self) -> u64 {
        self.extra.values().sum()
    }

    // ---- trouble ----

    fn poison(&mut self, shared: &Shared, cause: &Error) {
        self.poisoned = true;
        let error = cause.poisoned();
        tracing::error!(%error, "the buffer accepts nothing more until it is opened again");
        lock(&shared.intake).failed = Some(error.clone());
        shared.space.ring();
        shared.publish_failed(error);
    }

    fn wait_for_entry(&mut self, shared: &Shared, error: io::Error) -> Step {
        if lock(&shared.intake).closing {
            // Nobody would wait for it.
            let error = Error::io("sync the directory", &shared.dir, error);
            self.poison(shared, &error);
            return Step::Progress;
        }
        if self.entry_retry.is_none() {
            tracing::warn!(%error, dir = %shared.dir.display(),
                "a new data file cannot be made durable yet");
        }
        let pause = longer(self.entry_retry);
        self.entry_retry = Some((Instant::now() + pause, pause));
        Step::Idle(self.wake_at(shared))
    }

    /// Whether the directory is not to be synced again yet.
    fn waits_for_entry(&self, shared: &Shared) -> bool {
        let is_ahead = |(at, _)| Instant::now() < at;
        shared.limits.io == Io::Thread && self.entry_retry.is_some_and(is_ahead)
    }

    fn wait_for_space(&mut self, shared: &Shared, error: &io::Error) -> Step {
        let pause = longer(self.retry);
        let is_news = self.retry.is_none();
        if is_news {
            tracing::warn!(%error, dir = %shared.dir.display(),
                "no space to write; appends follow the when-full policy until it returns");
            lock(&shared.intake).disk_full = true;
            shared.space.ring();
        }
        self.retry = Some((Instant::now() + pause, pause));
        if is_news {
            // On a full disk there may be something else to do.
            return Step::Progress;
        }
        Step::Idle(self.wake_at(shared))
    }

    fn space_came_back(&mut self, shared: &Shared) {
        if self.retry.take().is_some() {
            tracing::info!(dir = %shared.dir.display(), "there is space to write again");
            lock(&shared.intake).disk_full = false;
            shared.space.ring();
        }
    }
}

impl Drive for WriteSide {
    fn step(&mut self, shared: &Shared) -> Step {
        Self::step(self, shared)
    }
}

/// How much may be written before the free-space floor is reached.
fn above_floor(shared: &Shared) -> Result<u64, Trouble> {
    match shared.limits.min_free_bytes {
        0 => Ok(u64::MAX),
        floor => match shared.storage.free_bytes(&shared.dir) {
            Ok(Some(free)) if free <= floor => Err(floor_reached(shared)),
            Ok(Some(free)) => Ok(free - floor),
            // Where nobody can say, the write itself tells.
            Ok(None) | Err(_) => Ok(u64::MAX),
        },
    }
}

fn floor_reached(shared: &Shared) -> Trouble {
    Trouble::NoSpace(io::Error::other(format!(
        "the file system would have less than the floor of {} bytes free",
        shared.limits.min_free_bytes
    )))
}

/// The pause before another try, after one of that length.
fn longer(retry: Option<(Instant, Duration)>) -> Duration {
    retry.map_or(RETRY.0, |(_, pause)| (pause * 2).min(RETRY.1))
}

fn entry_trouble(shared: &Shared, e: io::Error) -> Trouble {
    match trouble("sync the directory", &shared.dir, e) {
        Trouble::NoSpace(e) => Trouble::NoEntry(e),
        trouble => trouble,
    }
}

fn trouble(what: &str, path: &std::path::Path, e: io::Error) -> Trouble {
    if is_no_space(&e) {
        Trouble::NoSpace(e)
    } else {
        Trouble::Failed(Error::io(what, path, e))
    }
}

/// Whether an error says that something is used up that may come back: disk
/// space, a quota, file descriptors, memory.
fn is_no_space(e: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::OutOfMemory
            | io::ErrorKind::WouldBlock
    ) || (cfg!(unix) && matches!(e.raw_os_error(), Some(ENFILE | EMFILE)))
}
