//! Syncing: data files and the ledger, when it is due or asked for.
//!
//! Invariants:
//! - One sync answers everybody who asked before it began.
//! - Writing comes first, because more may share the next sync, but not for long
//!   once somebody waits or the time has come.

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

/// A sync that is due for its time is prepared, so that nobody waits for long
/// behind it: the system begins to put on stable storage what has come, if it is
/// so much, so long before at least.
const PREPARED_MIN: u64 = 64 << 10;
const PREPARED_BEFORE: Duration = Duration::from_millis(30);
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
    /// Until something is known: a slow disk.
    const AT_FIRST: f64 = 200e6;

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

    /// How long so many bytes take, but no longer than `longest`.
    fn time_for(&self, bytes: u64, longest: Duration) -> Duration {
        let pace = self.bytes_per_s.unwrap_or(Self::AT_FIRST);
        let seconds = (bytes as f64 / pace).min(longest.as_secs_f64());
        Duration::try_from_secs_f64(seconds).unwrap_or(longest)
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
        self.can_sync(shared)
            && (self.is_due(shared)
                || (self.is_wanted(shared) && self.wanted.is_some_and(waits_for_long)))
    }

    fn can_sync(&self, shared: &Shared) -> bool {
        self.is_dirty() && !self.has_given_up() && !self.waits_for_entry(shared)
    }

    fn is_due(&self, shared: &Shared) -> bool {
        let interval = shared.limits.flush_interval;
        shared.limits.sync == SyncPolicy::Interval
            && shared.limits.io == Io::Thread
            && self
                .dirty_since
                .is_some_and(|since| since.elapsed() >= interval)
    }

    pub(super) fn sync_if_due(&mut self, shared: &Shared) -> Option<Result<(), Trouble>> {
        if !self.can_sync(shared) {
            return None;
        }
        let closing = lock(&shared.intake).closing;
        let asked = self.is_wanted(shared);
        let due = self.is_due(shared);
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

    /// With nothing else to do: the system is asked to begin to put on stable
    /// storage what has come, as late as the device allows; what is rolled or
    /// deleted before need not be begun.
    pub(super) fn prepare_sync(&mut self, shared: &Shared) {
        let interval = shared.limits.flush_interval;
        let look_after = self.next_look_after(interval);
        if let Some(current) = &mut self.current
            && shared.limits.sync == SyncPolicy::Interval
            && shared.limits.io == Io::Thread
            && look_after < interval
            && self
                .dirty_since
                .is_some_and(|since| since.elapsed() >= look_after)
        {
            current.begin_writeback();
        }
    }

    /// How long after the first byte to sync there is something to do for it.
    pub(super) fn next_look_after(&self, interval: Duration) -> Duration {
        let not_begun = self.current.as_ref().map_or(0, OpenFile::not_begun);
        if not_begun < PREPARED_MIN {
            return interval;
        }
        // What comes meanwhile takes its time too.
        let ahead = 2 * self.pace.time_for(not_begun, interval);
        let ahead = ahead.max(PREPARED_BEFORE);
        interval - ahead.min(interval * 3 / 4)
    }

    /// Whether there are bytes in the files that no sync vouches for.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty_since.is_some() || !self.rolled.is_empty()
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
            Ok(()) => {
                self.pace.note(shared, current.unsynced(), took);
                current.note_synced();
                self.entry_retry = None;
            }
            Err(NotSynced::File(e)) => return self.give_up(shared, "sync", e),
            Err(NotSynced::Entry(e)) => return Err(entry_trouble(shared, e)),
        }
        self.dirty_since = None;
        self.wanted = None;
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
