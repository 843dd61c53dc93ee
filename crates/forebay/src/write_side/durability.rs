//! Syncing: data files and the ledger, when it is due or asked for.
//!
//! Invariant: one sync answers everybody who asked before it began.

use std::time::Duration;

use super::files::{NotSynced, OpenFile, Outcome};
use super::{Trouble, WriteSide, entry_trouble};
use crate::config::{Io, ReaderSees, SyncPolicy};
use crate::error::Error;
use crate::format::file_id;
use crate::shared::Shared;
use crate::sync::atomic::Ordering;
use crate::sync::{Instant, thread};
use crate::wake::lock;

/// A sync that is due for its time is prepared so long before, so that nobody
/// waits for long behind it: the system begins to put on stable storage what has
/// come, if it is so much.
const PREPARED_BEFORE: Duration = Duration::from_millis(30);
const PREPARED_MIN: u64 = 64 << 10;
/// With nothing else to do the system is asked to begin with so many bytes.
const WRITEBACK_LEN: u64 = 4 << 20;

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
}

impl WriteSide {
    pub(super) fn sync_if_due(&mut self, shared: &Shared) -> Option<Result<(), Trouble>> {
        let written = lock(&shared.log).written.offset;
        let (want, closing) = {
            let intake = lock(&shared.intake);
            (intake.want_synced, intake.closing)
        };
        if !self.is_dirty() || self.has_given_up() {
            return None;
        }
        let synced = lock(&shared.log).synced.offset;
        if want > synced {
            self.sync_target.get_or_insert(want);
        }
        let asked = self.sync_target.is_some_and(|target| written >= target);
        let by_time = shared.limits.sync == SyncPolicy::Interval && shared.limits.io == Io::Thread;
        let interval = shared.limits.flush_interval;
        let due = by_time
            && self
                .dirty_since
                .is_some_and(|since| self.is_due(since, interval));
        let batch = shared.limits.sync == SyncPolicy::EveryBatch;
        // A reader of synced records must not wait where nothing else syncs.
        let read = shared.limits.sync == SyncPolicy::Never
            && shared.limits.reader_sees == ReaderSees::Synced
            && shared.reader_waits.load(Ordering::Acquire);
        if !(asked || due || batch || closing || read) {
            return None;
        }
        if (asked || batch) && !closing {
            self.write_zeros_ahead(shared);
        }
        Some(self.sync(shared))
    }

    /// Whether a sync that is due for its time is due; prepares it before that.
    fn is_due(&mut self, since: Instant, interval: Duration) -> bool {
        let passed = since.elapsed();
        if passed >= self.next_look_after(interval)
            && passed < interval
            && let Some(current) = &mut self.current
        {
            current.begin_writeback();
        }
        passed >= interval
    }

    /// How long after the first byte to sync there is something to do for it.
    pub(super) fn next_look_after(&self, interval: Duration) -> Duration {
        let is_worth_preparing = |current: &OpenFile| current.not_begun() >= PREPARED_MIN;
        match self.current.as_ref().is_some_and(is_worth_preparing) {
            true => interval - PREPARED_BEFORE.min(interval / 4),
            false => interval,
        }
    }

    /// Whether there are bytes in the files that no sync vouches for.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty_since.is_some() || !self.rolled.is_empty()
    }

    /// With nothing else to do: the system is asked to begin to put on stable
    /// storage what has come, so that a sync finds little to do. A file that has
    /// not been written to for long may be full, or read and deleted, before it is
    /// worth it.
    pub(super) fn begin_writeback_if_worth(&mut self, shared: &Shared) {
        let age_min = shared.limits.flush_interval / 4;
        if let Some(current) = &mut self.current
            && current.not_begun() >= WRITEBACK_LEN
            && shared.limits.io == Io::Thread
            && self
                .dirty_since
                .is_some_and(|since| since.elapsed() >= age_min)
        {
            current.begin_writeback();
        }
    }

    /// Syncs the rolled files and the current one, and reports what that makes
    /// durable.
    pub(super) fn sync(&mut self, shared: &Shared) -> Result<(), Trouble> {
        while !self.rolled.is_empty() {
            self.sync_oldest(shared)?;
        }
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let Outcome { result, took } = current.to_sync().run(shared);
        shared.meters.note_sync(took);
        match result {
            Ok(()) => current.note_synced(),
            Err(NotSynced::File(e)) => return self.give_up(shared, "sync", e),
            Err(NotSynced::Entry(e)) => return Err(entry_trouble(shared, e)),
        }
        self.dirty_since = None;
        self.sync_target = None;
        self.company = Company {
            expected: shared.synced.waiting(),
            until: Instant::now() + took / COMPANY_SHARE,
            looks: COMPANY_LOOKS,
        };
        let end = lock(&shared.log).written;
        shared.publish_synced(end);
        Ok(())
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
