//! Syncing: data files and the ledger, when it is due or asked for.
//!
//! Invariant: one sync answers everybody who asked before it began.

use std::time::Duration;

use super::{Current, Trouble, WriteSide};
use crate::config::{Io, ReaderSees, SyncPolicy};
use crate::error::Error;
use crate::format::file_id;
use crate::shared::Shared;
use crate::storage::uninterrupted;
use crate::sync::atomic::Ordering;
use crate::sync::{Instant, thread};
use crate::wake::lock;

/// A sync that is due for its time is prepared so long before, so that nobody
/// waits for long behind it: the system begins to put on stable storage what has
/// come, if it is so much.
const PREPARED_BEFORE: Duration = Duration::from_millis(30);
const PREPARED_MIN: u64 = 64 << 10;

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
        let since = self.dirty_since?;
        let synced = lock(&shared.log).synced.offset;
        if want > synced {
            self.sync_target.get_or_insert(want);
        }
        let asked = self.sync_target.is_some_and(|target| written >= target);
        let by_time = shared.limits.sync == SyncPolicy::Interval && shared.limits.io == Io::Thread;
        let due = by_time && self.is_due(since, shared.limits.flush_interval);
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
        let is_worth_preparing = |current: &Current| current.not_begun() >= PREPARED_MIN;
        match self.current.as_ref().is_some_and(is_worth_preparing) {
            true => interval - PREPARED_BEFORE.min(interval / 4),
            false => interval,
        }
    }

    /// Syncs the current file and reports what that makes durable.
    pub(super) fn sync(&mut self, shared: &Shared) -> Result<(), Trouble> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        let start = Instant::now();
        let result = uninterrupted(|| current.file.sync());
        let took = start.elapsed();
        shared.meters.note_sync(took);
        if let Err(e) = result {
            return self.give_up(shared, "sync", e);
        }
        current.synced_len = current.len;
        self.dirty_since = None;
        self.sync_target = None;
        self.company = Company {
            expected: shared.synced.waiting(),
            until: Instant::now() + took / COMPANY_SHARE,
            looks: COMPANY_LOOKS,
        };
        shared.publish_synced();
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
