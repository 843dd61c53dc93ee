//! Syncing: data files and the ledger, when it is due or asked for.
//!
//! Invariants:
//! - Files are synced oldest first, and what is reported synced never has a hole.
//! - One sync answers everybody who asked before it began.
//! - A sync that is due for its time happens aside: nobody waits for it. One that
//!   somebody waits for comes after what can be written at once, because more may
//!   share it, but not for long.

use std::time::Duration;

use super::files::{Covered, FileSync, NotSynced, Outcome};
use super::{Trouble, WriteSide, entry_trouble};
use crate::config::{Io, ReaderSees, SyncPolicy};
use crate::error::Error;
use crate::format::file_id;
use crate::shared::Shared;
use crate::sync::atomic::Ordering;
use crate::sync::{Instant, thread};
use crate::wake::lock;

/// Whoever waits for a sync waits so long behind writes, at most.
const BEHIND_WRITES_MAX: Duration = Duration::from_millis(5);

/// How fast the device is, as the last sync has shown.
#[derive(Debug, Default)]
pub(super) struct Pace {
    bytes_per_s: Option<f64>,
}

impl Pace {
    /// Less than this says nothing.
    const TELLING_LEN: u64 = 1 << 20;
    /// A shorter sync is mostly the time that any takes: the device may be faster.
    const TELLING_TIME: Duration = Duration::from_millis(20);

    /// Takes note of a sync. Without a thread nothing depends on time.
    pub(super) fn note(&mut self, shared: &Shared, bytes: u64, took: Duration) {
        if shared.limits.io == Io::Thread {
            self.learn(bytes, took);
        }
    }

    fn learn(&mut self, bytes: u64, took: Duration) {
        let pace = bytes as f64 / took.as_secs_f64();
        let is_faster = self.bytes_per_s.is_some_and(|known| pace > known);
        if bytes >= Self::TELLING_LEN && (took >= Self::TELLING_TIME || is_faster) {
            self.bytes_per_s = Some(pace);
        }
    }

    /// Whether it is known that so many bytes take longer.
    pub(super) fn is_too_slow_for(&self, bytes: u64, time: Duration) -> bool {
        self.bytes_per_s
            .is_some_and(|pace| bytes as f64 > pace * time.as_secs_f64())
    }
}

/// What somebody waits for to be synced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    end: u64,
    since: Instant,
}

/// Those who wait for a sync, when they are many, come back for the next one. It
/// begins when all are back, but not later than this part of the time a sync
/// takes: two syncs of half of them each would take longer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Company {
    /// How many waited when the last sync ended.
    expected: usize,
    /// Until when the next sync waits for as many, and how often at most it
    /// looks for them.
    until: Instant,
    looks: u32,
}

const COMPANY_SHARE: u32 = 2;
/// Between two looks others may run, so these are enough for any sync.
const COMPANY_LOOKS: u32 = 500;

impl Company {
    pub(super) fn none() -> Self {
        Self {
            expected: 0,
            until: Instant::now(),
            looks: 0,
        }
    }

    /// Of those who wait when a sync has ended that took so long.
    fn of(waiting: usize, took: Duration) -> Self {
        Self {
            expected: waiting,
            until: Instant::now() + took / COMPANY_SHARE,
            looks: COMPANY_LOOKS,
        }
    }
}

impl WriteSide {
    /// Takes note of what somebody waits for; whether all of that is written.
    fn is_wanted(&mut self, shared: &Shared) -> bool {
        let want = lock(&shared.intake).want_synced;
        let (written, synced) = {
            let log = lock(&shared.log);
            (log.written.offset, log.synced.offset)
        };
        if want > synced && self.wanted.is_none() {
            let since = Instant::now();
            self.wanted = Some(Wanted { end: want, since });
        }
        self.wanted.is_some_and(|wanted| written >= wanted.end)
    }

    /// Whether a sync has waited behind writes for long enough.
    pub(super) fn must_sync_now(&mut self, shared: &Shared) -> bool {
        let waits_for_long = |wanted: Wanted| wanted.since.elapsed() >= BEHIND_WRITES_MAX;
        self.can_sync(shared) && self.is_wanted(shared) && self.wanted.is_some_and(waits_for_long)
    }

    fn can_sync(&self, shared: &Shared) -> bool {
        self.is_dirty() && !self.has_given_up() && !self.waits_for_entry(shared)
    }

    /// When the sync of the current file is due for its time.
    fn current_is_due_at(&self, shared: &Shared) -> Option<Instant> {
        let by_time = shared.limits.sync == SyncPolicy::Interval;
        let since = self.dirty_since.filter(|_| by_time)?;
        Some(since + shared.limits.flush_interval)
    }

    /// When a sync aside has to begin for its time.
    pub(super) fn sync_aside_at(&self, shared: &Shared) -> Option<Instant> {
        if self.aside.is_running() {
            return None;
        }
        match self.rolled.is_empty() {
            true => self.current_is_due_at(shared),
            false => self.rolled.is_due_at(shared),
        }
    }

    /// Takes note of a sync aside that is done, begins the next that is due.
    pub(super) fn tend_aside(&mut self, shared: &Shared) -> Option<Result<(), Trouble>> {
        if let Some(outcome) = self.aside.outcome(false) {
            return Some(self.note_outcome(shared, outcome));
        }
        if !self.aside.is_ready() || self.waits_for_entry(shared) {
            return None;
        }
        let has_come = |at: Instant| Instant::now() >= at;
        if !self.rolled.is_pressing(shared, &self.pace)
            && !self.sync_aside_at(shared).is_some_and(has_come)
        {
            return None;
        }
        let sync = self.next_sync(shared)?;
        if self.aside.begin(sync.clone()) {
            return None;
        }
        // There is no thread to be had.
        Some(self.note_outcome(shared, sync.run(shared)))
    }

    pub(super) fn sync_if_due(&mut self, shared: &Shared) -> Option<Result<(), Trouble>> {
        if !self.can_sync(shared) {
            return None;
        }
        let closing = lock(&shared.intake).closing;
        let asked = self.is_wanted(shared);
        let batch = shared.limits.sync == SyncPolicy::EveryBatch;
        // A reader of synced records must not wait where nothing else syncs.
        let read = shared.limits.sync == SyncPolicy::Never
            && shared.limits.reader_sees == ReaderSees::Synced
            && shared.reader_waits.load(Ordering::Acquire);
        if !(asked || batch || closing || read) {
            return None;
        }
        if (asked || batch) && !closing {
            self.write_zeros_ahead(shared);
        }
        Some(self.sync(shared))
    }

    /// Whether anything in the files was changed that no sync vouches for yet.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty_since.is_some() || !self.rolled.is_empty() || self.aside.is_running()
    }

    /// Syncs everything, and reports what that makes durable.
    pub(super) fn sync(&mut self, shared: &Shared) -> Result<(), Trouble> {
        while self.is_dirty() {
            self.sync_oldest(shared)?;
        }
        Ok(())
    }

    /// Syncs the oldest file that is not synced; waits for a sync aside if there
    /// is one. If it fails, that file and those behind it are given up.
    pub(super) fn sync_oldest(&mut self, shared: &Shared) -> Result<(), Trouble> {
        let done = self.aside.outcome(true);
        let outcome = done.or_else(|| Some(self.next_sync(shared)?.run(shared)));
        outcome.map_or(Ok(()), |outcome| self.note_outcome(shared, outcome))
    }

    /// The sync of the oldest file that is not synced, which is to follow: from now
    /// on only what is changed later makes the current one dirty.
    fn next_sync(&mut self, shared: &Shared) -> Option<FileSync> {
        self.rolled.to_sync().or_else(|| {
            let current = self.current.as_ref()?;
            let since = self.dirty_since.take()?;
            Some(current.to_sync(lock(&shared.log).written, since))
        })
    }

    fn note_outcome(&mut self, shared: &Shared, outcome: Outcome) -> Result<(), Trouble> {
        let Outcome {
            covered,
            result,
            took,
        } = outcome;
        shared.meters.note_sync(took);
        let is_current = self.current_id() == Some(covered.file_id);
        match result {
            Ok(()) => {
                let of_rolled = self.rolled.note_synced(&covered);
                let synced = of_rolled.or_else(|| self.note_current_synced(&covered));
                // If it was neither, it was deleted or given up meanwhile.
                if let Some(bytes) = synced {
                    if is_current {
                        self.company = Company::of(shared.synced.waiting(), took);
                    }
                    self.pace.note(shared, bytes, took);
                    self.entry_retry = None;
                    self.wanted = self.wanted.filter(|wanted| wanted.end > covered.end.offset);
                    shared.publish_synced(covered.end);
                }
                Ok(())
            }
            Err(NotSynced::Entry(e)) => {
                if is_current {
                    self.dirty_since = Some(covered.since);
                }
                Err(entry_trouble(shared, e))
            }
            Err(NotSynced::File(e)) if self.rolled.oldest_is(covered.file_id) => {
                self.give_up_rolled(shared, e);
                Ok(())
            }
            Err(NotSynced::File(e)) if is_current => self.give_up(shared, "sync", e),
            Err(NotSynced::File(_)) => Ok(()),
        }
    }

    fn note_current_synced(&mut self, covered: &Covered) -> Option<u64> {
        let current = self.current.as_mut();
        let current = current.filter(|file| file.file_id == covered.file_id)?;
        Some(current.note_synced(covered.len))
    }

    /// Whether a sync waits for others who waited for the last one, and who are
    /// likely to be back in a moment; lets them run.
    pub(super) fn waits_for_company(&mut self, shared: &Shared) -> bool {
        let waiting = shared.synced.waiting();
        let company = &mut self.company;
        if waiting == 0
            || waiting >= company.expected
            || company.looks == 0
            || shared.limits.io == Io::Caller
            || Instant::now() >= company.until
        {
            return false;
        }
        company.looks -= 1;
        thread::yield_now();
        true
    }

    pub(super) fn sync_ledger_if_due(&mut self, shared: &Shared) -> Option<Result<(), Trouble>> {
        let (ticket, closing) = {
            let intake = lock(&shared.intake);
            (intake.ledger_tickets, intake.closing)
        };
        let wanted = ticket > self.ledger_ticket;
        if !shared.ledger.is_dirty() && !wanted {
            self.ledger_dirty_since = None;
            return None;
        }
        if wanted && !shared.ledger.has_unsynced_acks() {
            self.ledger_ticket = ticket;
            shared.publish_ledger_synced(ticket);
            return Some(Ok(()));
        }
        let since = *self.ledger_dirty_since.get_or_insert_with(Instant::now);
        let due = shared.limits.sync != SyncPolicy::Never
            && shared.limits.io == Io::Thread
            && since.elapsed() >= shared.limits.flush_interval;
        (wanted || closing || due).then(|| {
            self.ledger_dirty_since = None;
            self.ledger_ticket = ticket;
            self.sync_ledger(shared)?;
            shared.publish_ledger_synced(ticket);
            Ok(())
        })
    }

    pub(super) fn sync_ledger(&mut self, shared: &Shared) -> Result<(), Trouble> {
        shared.ledger.sync().map_err(|e| {
            Trouble::Failed(Error::io(
                "sync",
                &shared.dir.join(file_id::LEDGER_FILE_NAME),
                e,
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_sync_does_not_make_a_device_slow() {
        const MIB: u64 = 1 << 20;
        let second = Duration::from_secs(1);
        let millis = Duration::from_millis;
        let mut pace = Pace::default();
        assert!(!pace.is_too_slow_for(1 << 40, second));
        // Once it did: a flush of little, and every roll waited for a sync.
        pace.learn(4 * MIB, millis(15));
        assert!(!pace.is_too_slow_for(1 << 40, second));
        pace.learn(128 * MIB, millis(128));
        assert!(
            !pace.is_too_slow_for(900 * MIB, second) && pace.is_too_slow_for(1100 * MIB, second)
        );
        pace.learn(4 * MIB, millis(15));
        assert!(!pace.is_too_slow_for(900 * MIB, second));
        pace.learn(32 * MIB, millis(16));
        assert!(!pace.is_too_slow_for(1900 * MIB, second));
        // Little takes long on a slow device, and that tells.
        pace.learn(4 * MIB, millis(40));
        assert!(pace.is_too_slow_for(110 * MIB, second));
        pace.learn(MIB / 2, millis(1));
        assert!(pace.is_too_slow_for(110 * MIB, second));
    }
}
